"""The plateau explorable's Python side: its flow against the package's, traits, the figure."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.estimators.preconditioned_law import preconditioned_population_loss, second_moment
from icl_lessons.explorables import InvalidTrait, PlateauExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.training_plateaus import MOST_STEPS, D, _Model
from icl_lessons.implicit_dynamics.training_plateaus import (
    MergedHeads,
    SeparateHeads,
    gradient_flow,
    plateau_losses,
    shrinkage,
)
from icl_lessons.measures.agreement import relative_error

KINDS = ("merged", "separate")
laws = st.fixed_dictionaries(
    {
        "eigenvalues": st.tuples(*[st.floats(0.05, 1)] * D),
        "examples": st.integers(1, 200),
        "size": st.floats(0.01, 1),
        "heads": st.integers(1, 8),
        "rank": st.integers(1, 4),
        "seed": st.integers(0, 999),
    }
)


def heads_of(kind, model, state):
    """The package's heads from a state of the explorable."""
    values, rest = torch.tensor(state[: model.heads]), torch.tensor(state[model.heads :])
    if kind == "merged":
        return MergedHeads(values, rest.reshape(-1, D, D))
    return SeparateHeads(values, *rest.reshape(2, -1, model.rank, D))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(KINDS), laws)
def test_its_flow_is_that_of_the_packages_heads(kind, law):
    model = _Model(kind, **law)
    heads = heads_of(kind, model, model.start)
    covariance = torch.diag(torch.tensor(law["eigenvalues"], dtype=torch.float64))
    moment = second_moment(covariance, law["examples"])
    product = heads.product
    assert relative_error(torch.tensor(model.product(model.start)), product) < 1e-12
    force = covariance @ covariance - moment @ product @ covariance
    after = heads.step(force, 1.0)
    expected = [getattr(after, name) - part for name, part in vars(heads).items()]
    found = heads_of(kind, model, model.speed(model.start))
    for part, speed in zip(vars(found).values(), expected, strict=True):
        assert (part - speed).abs().max() < 1e-12 * max(1.0, float(speed.abs().max()))
    loss = 2 * preconditioned_population_loss(product, covariance, law["examples"])
    assert model.loss(product.numpy()) == pytest.approx(float(loss), rel=1e-12)


def heights(run):
    """The losses in which the drops of a run end."""
    return [run.losses[end] for _, end in run.drops()]


def moments(run):
    """The times at which the drops of a run are fastest."""
    return run.times[[peak for peak, _ in run.drops()]]


@pytest.mark.parametrize("kind", KINDS)
def test_its_steps_follow_the_packages_small_ones(kind):
    """Euler's steps of two sizes, extrapolated to size 0, at the moments of the adaptive steps."""
    explorer = PlateauExplorer(start=0.3, heads=3, eigenvalues=[0.9, 0.7, 0.5, 0.3])
    law = {"eigenvalues": explorer.eigenvalues, "examples": explorer.examples}
    model = _Model(kind, **law, size=0.3, heads=3, rank=1, seed=0)
    covariance = torch.diag(torch.tensor(explorer.eigenvalues, dtype=torch.float64))
    fine, coarse = (
        gradient_flow(heads_of(kind, model, model.start), covariance, 31, steps=n, step_size=20 / n)
        for n in (2000, 1000)
    )
    losses = 2 * fine.losses[::2] - coarse.losses
    run = explorer.runs()[kind]
    early = run.times <= 20
    expected = np.interp(run.times[early], coarse.times, losses)
    assert losses[0] - losses[-1] > 0.5 and early.sum() > 40
    assert np.abs(run.losses[early] - expected).max() < 5e-4


def test_one_drop_against_four_at_the_heights_of_the_theory():
    explorer = PlateauExplorer()
    levels, runs = explorer.plateau_losses(), explorer.runs()
    law = torch.tensor(explorer.eigenvalues, dtype=torch.float64)
    assert levels == pytest.approx(plateau_losses(law, 31).numpy(), rel=1e-13)
    assert levels == pytest.approx([1, 0.641, 0.377, 0.210, 0.136], abs=5e-4)
    assert len(runs["merged"].drops()) == 1
    assert heights(runs["separate"]) == pytest.approx(levels[1:], rel=5e-3)
    for run in runs.values():
        assert len(run.times) < MOST_STEPS / 2
        fallen = np.trapezoid(run.falls, run.times)  # dL/dt = -2 |d theta/dt|^2
        assert fallen == pytest.approx(run.losses[0] - run.losses[-1], rel=0.01)
    best = (shrinkage(law, 31) / law).numpy()
    assert explorer.product("merged") == pytest.approx(np.diag(best), abs=1e-3)
    two = explorer.product("separate")  # at 1060 tau, on the second plateau
    assert two == pytest.approx(np.diag(best * [1, 1, 0, 0]), abs=1e-2)


def test_a_smaller_start_lengthens_the_plateaus_and_a_large_one_washes_them_out():
    small, usual = (PlateauExplorer(start=start).runs()["separate"] for start in (0.01, 0.05))
    assert moments(small) / moments(usual) == pytest.approx([5, 5, 5, 5], rel=0.1)
    assert heights(small) == pytest.approx(heights(usual), rel=0.01)
    large = PlateauExplorer(start=0.5).runs()
    assert [len(large[kind].drops()) for kind in KINDS] == [1, 1]


def test_equal_variances_rank_two_and_too_few_heads():
    white = PlateauExplorer(eigenvalues=[0.25] * D)
    run = white.runs()["separate"]
    assert heights(run) == pytest.approx(white.plateau_losses()[1:], abs=5e-3)
    between = run.products[run.drops()[0][1]] * (1 - np.eye(D))
    assert np.abs(between).max() > 0.3  # heads take directions of their own
    first, second, third, _ = moments(PlateauExplorer(rank=2).runs()["separate"])
    assert second - first < 0.1 * (third - second)  # one head, then another
    few = PlateauExplorer(heads=2)
    assert few.runs()["separate"].losses[-1] == pytest.approx(few.plateau_losses()[2], abs=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eigenvalues": [0.4, 0.3]}, "eigenvalues must hold 4 numbers, got 2"),
        ({"eigenvalues": [0.4, 0.3, 0.2, 0.01]}, r"eigenvalues\[3\] must be between 0.05 and 1"),
        ({"start": 0}, "start must be between 0.002 and 1"),
        ({"examples": 0}, "examples must be between 1 and 200"),
        ({"heads": 9}, "heads must be between 1 and 8"),
        ({"rank": 1.5}, "rank must be a whole number"),
        ({"time": -1}, "time must be between 0 and"),
        ({"shown": "both"}, "shown must be of separate, merged"),
        ({"time_axis": "square"}, "time_axis must be of log, linear"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        PlateauExplorer(**values)
    explorer = PlateauExplorer()
    before = explorer.get_state()
    for name, value in values.items():
        with pytest.raises(InvalidTrait, match=words):
            setattr(explorer, name, value)
    assert explorer.get_state() == before


def test_the_module_is_one_small_string():
    source = PlateauExplorer()._esm
    assert source == component_source("training_plateaus")
    assert len(source.encode()) < 64_000
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)


def test_readers_without_scripts_get_a_figure_with_its_numbers():
    page = PlateauExplorer().fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    assert "1 drop of the loss, to 0.136" in text
    assert "4 drops, to 0.641, 0.377, 0.210, 0.136. Theory has plateaus at 0.641, 0.377" in text
    assert len(page) < 120_000
    assert page == PlateauExplorer().fallback_html()
    assert page != PlateauExplorer(time_axis="linear").fallback_html()
