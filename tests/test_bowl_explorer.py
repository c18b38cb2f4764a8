"""The quadratic bowl's Python side: traits, numbers, and the figure without scripts."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.preconditioned import (
    GradientDescentPlusPlus,
    PreconditionedGradientDescent,
)
from icl_lessons.explorables import InvalidTrait, QuadraticBowlExplorer
from icl_lessons.explorables.base import component_source

bowls = st.fixed_dictionaries(
    {
        "conditioning": st.floats(1, 100),
        "angle": st.floats(0, 180),
        "fit_conditioning": st.floats(1, 100),
        "fit_angle": st.floats(0, 180),
        "target": st.tuples(st.floats(-2, 2), st.floats(-1.5, 1.5)),
        "step_size": st.floats(0, 2.5),
        "gamma": st.floats(0, 0.5),
        "own_weights": st.booleans(),
        "layers": st.integers(0, 12),
    }
)


def context(bowl: QuadraticBowlExplorer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two examples whose covariance is the bowl's, their targets, and queries that read weights."""
    inputs = np.linalg.cholesky(2 * bowl.covariance()).T
    xs = torch.tensor(inputs.copy())[None]
    return (
        xs,
        xs @ torch.tensor(bowl.target, dtype=torch.float64)[:, None],
        torch.eye(2)[None].double(),
    )


@settings(max_examples=25, deadline=None)
@given(bowls)
def test_paths_are_those_of_the_estimators(traits):
    bowl = QuadraticBowlExplorer(**traits)
    xs, ys, queries = context(bowl)
    schedule = bowl.schedule()
    sizes, gammas = [s for s, _ in schedule], [g / 2 for _, g in schedule]  # H is N times S
    preconditioner = torch.tensor(bowl.preconditioner()).expand(bowl.layers, 2, 2)
    learners = {
        "descent": GradientDescent(bowl.step_size, bowl.layers),
        "preconditioned": PreconditionedGradientDescent(bowl.step_size, preconditioner),
        "plusplus": GradientDescentPlusPlus(sizes, gammas),
    }
    paths = bowl.paths()
    for name, learner in learners.items():
        expected = learner(xs, ys, queries)[0, :, 0].numpy()
        scale = max(1.0, np.abs(paths[name]).max())
        assert np.abs(paths[name][-1] - expected).max() < 1e-9 * scale, name


@settings(max_examples=25, deadline=None)
@given(bowls)
def test_newton_is_its_closed_form(traits):
    bowl = QuadraticBowlExplorer(**traits)
    s, target = bowl.covariance(), np.array(bowl.target)
    alpha = 1 / np.linalg.norm(s @ s)
    for k, weight in enumerate(bowl.paths()["newton"][1:]):
        rest = np.linalg.matrix_power(np.eye(2) - alpha * s @ s, 2**k)
        assert np.abs(weight - (np.eye(2) - rest) @ target).max() < 1e-11


def test_the_bowl_is_as_its_traits_say():
    bowl = QuadraticBowlExplorer(conditioning=20, angle=40)
    values, vectors = np.linalg.eigh(bowl.covariance())
    assert values == pytest.approx([0.05, 1.0])
    assert abs(vectors[:, 0] @ [np.cos(np.radians(40)), np.sin(np.radians(40))]) == pytest.approx(1)
    bowl.fit_conditioning, bowl.fit_angle, bowl.step_size, bowl.layers = 20, 40, 1.0, 1
    assert bowl.losses()["preconditioned"] == pytest.approx([bowl.losses()["descent"][0], 0.0])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"conditioning": 0.5}, "conditioning must be between 1 and 100"),
        ({"angle": 181}, "angle must be between 0 and 180"),
        ({"gamma": 0.6}, "gamma must be between 0 and 0.5"),
        ({"layers": 13}, "layers must be between 0 and 12"),
        ({"layers": 1.5}, "layers must be a whole number"),
        ({"step_size": float("nan")}, "step_size must be finite"),
        ({"target": [1.0]}, "target must hold two numbers"),
        ({"target": [1.0, 2.0]}, r"target\[1\] must be between -1.5 and 1.5"),
        ({"methods": ["descent", "momentum"]}, "methods must be of descent, preconditioned"),
        ({"method": "momentum"}, "method must be of descent, preconditioned"),
        ({"method": ["descent"]}, "method must be of descent"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        QuadraticBowlExplorer(**values)
    explorer = QuadraticBowlExplorer()
    before = explorer.get_state()
    for name, value in values.items():
        with pytest.raises(InvalidTrait, match=words):
            setattr(explorer, name, value)
    assert explorer.get_state() == before


def test_methods_keep_their_order_and_their_own_list():
    one = QuadraticBowlExplorer(methods=("newton", "descent"))
    assert one.methods == ["descent", "newton"]
    assert QuadraticBowlExplorer().methods == ["descent", "preconditioned", "plusplus", "newton"]


def test_the_module_is_one_small_string():
    source = QuadraticBowlExplorer()._esm
    assert source == component_source("bowl")
    assert len(source.encode()) < 60_000
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)


def test_readers_without_scripts_get_a_figure_with_its_numbers():
    bowl = QuadraticBowlExplorer(layers=4)
    page = bowl.fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    assert f"{bowl.losses()['plusplus'][-1]:.3g} with GD++" in text
    assert "condition number 15" in text
    assert page == QuadraticBowlExplorer(layers=4).fallback_html()
    assert page != QuadraticBowlExplorer(layers=5).fallback_html()
    assert len(page) < 120_000
    assert "no method is chosen" in QuadraticBowlExplorer(methods=[]).fallback_html()
