"""The poisoned-context explorable in Python: numbers, traits, and the figure without scripts."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import Ridge
from icl_lessons.explorables import InvalidTrait, PoisonedContextExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.poisoned_context import INPUTS, LEARNERS, TARGETS
from icl_lessons.mesa_optimization import poisoned_contexts

places = st.tuples(st.floats(-3, 3), st.floats(-8, 8))
states = st.fixed_dictionaries(
    {
        "which": st.integers(1, 6),
        "example": places,
        "query": st.floats(-3, 3),
        "step_size": st.floats(0.1, 1.2),
        "steps": st.integers(2, 15),
        "penalty": st.floats(0.05, 10),
        "delta": st.floats(0.1, 6),
        "budget": st.floats(0.2, 5),
        "target": st.floats(-4, 4),
        "learner": st.sampled_from(LEARNERS),
    }
)


def tensors(explorer, clean=False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    xs, ys = (torch.tensor(part)[None] for part in explorer.context(clean))
    query = torch.tensor([[[1.0, explorer.query]]], dtype=torch.float64)
    return xs, ys[..., None], query


def learners(explorer) -> dict:
    """The same learners from the package."""
    one = GradientDescent(explorer.step_size, 1)
    return {
        "one_step": one,
        "steps": GradientDescent(explorer.step_size, explorer.steps),
        "ridge": Ridge(explorer.penalty),
        "clipped": lambda xs, ys, xq: one(xs, ys.clamp(-explorer.delta, explorer.delta), xq),
    }


@settings(max_examples=25, deadline=None)
@given(states)
def test_predictions_and_influences_are_the_packages(traits):
    explorer = PoisonedContextExplorer(**traits)
    xs, ys, query = tensors(explorer)
    found = explorer.predictions()
    for name, learner in learners(explorer).items():
        expected = learner(xs, ys, query).item()
        assert found[name] == pytest.approx(expected, abs=1e-8 * max(1, abs(expected))), name
    influence = explorer.influence()
    step = poisoned_contexts.descent_influence
    for name, expected in {
        "one_step": step(xs, query, explorer.step_size, 1),
        "steps": step(xs, query, explorer.step_size, explorer.steps),
        "ridge": poisoned_contexts.ridge_influence(xs, query, explorer.penalty),
    }.items():
        assert influence[name] == pytest.approx(expected[0, 0].numpy(), rel=1e-7, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(states)
def test_a_label_moves_a_linear_learner_by_its_influence(traits):
    explorer = PoisonedContextExplorer(**traits)
    i = explorer.which - 1
    explorer.example = [INPUTS[i], explorer.example[1]]
    change = explorer.example[1] - TARGETS[i]
    moved, influence = explorer.moved(), explorer.influence()
    for name in ("one_step", "steps", "ridge"):
        assert moved[name] == pytest.approx(influence[name][i] * change, rel=1e-8, abs=1e-9), name
    bound = 2 * explorer.delta * abs(influence["one_step"][i])
    assert abs(moved["clipped"]) <= bound + 1e-12


@settings(max_examples=25, deadline=None)
@given(states)
def test_the_worst_label_is_the_worst(traits):
    explorer = PoisonedContextExplorer(**traits)
    which, example = explorer.worst()
    xs, ys, query = tensors(explorer, clean=True)
    learner = learners(explorer)[explorer.learner]
    shifts = {}
    for i in range(6):
        for change in (explorer.budget, -explorer.budget):
            other = ys.clone()
            other[0, i, 0] += change
            shifts[i, change] = (learner(xs, other, query) - learner(xs, ys, query)).item()
    placed = ys.clone()
    assert example[0] == INPUTS[which - 1]
    placed[0, which - 1, 0] = example[1]
    assert abs(example[1] - TARGETS[which - 1]) == pytest.approx(explorer.budget)
    got = (learner(xs, placed, query) - learner(xs, ys, query)).item()
    assert got == pytest.approx(max(shifts.values()), rel=1e-9, abs=1e-10)
    if explorer.learner != "clipped":
        influence = torch.tensor(explorer.influence(clean=True)[explorer.learner])[None, None]
        expected = poisoned_contexts.worst_label_change(influence, explorer.budget, "one")
        assert got == pytest.approx(expected.shift.item(), rel=1e-8, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(states)
def test_the_hijack_is_the_packages_and_arrives(traits):
    explorer = PoisonedContextExplorer(**traits)
    found = explorer.hijack()
    xs, ys, query = tensors(explorer, clean=True)
    learner = learners(explorer)["one_step"]
    target = torch.tensor([explorer.target], dtype=torch.float64)
    at = explorer.which - 1
    new_xs, new_ys = poisoned_contexts.hijack(learner, xs, ys, query, target, replace=at)
    assert found == pytest.approx(
        [new_xs[0, at, 1].item(), new_ys[0, at, 0].item()], rel=1e-7, abs=1e-7
    )
    if abs(found[1]) <= 8:
        explorer.example = found
        assert explorer.predictions()["one_step"] == pytest.approx(explorer.target, abs=1e-5)


def test_what_the_chapter_says_of_each_state():
    assert [PoisonedContextExplorer().broken()[name] for name in LEARNERS] == [True] * 3 + [False]
    far = PoisonedContextExplorer(example=[4.0, -2.0])
    assert [far.broken()[name] for name in LEARNERS] == [True, True, False, False]
    assert abs(far.moved()["steps"]) > 100
    clean = PoisonedContextExplorer(example=[1.4, -0.9])
    assert not any(clean.broken().values()) and set(clean.moved().values()) == {0.0}
    hijacked = PoisonedContextExplorer()
    hijacked.example = hijacked.hijack()
    assert hijacked.predictions()["one_step"] == pytest.approx(3, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"which": 7}, "which must be between 1 and 6"),
        ({"example": [4.5, 0.0]}, r"example\[0\] must be between -4 and 4"),
        ({"example": [0.0, 9.0]}, r"example\[1\] must be between -8 and 8"),
        ({"example": [0.0]}, "example must hold two numbers"),
        ({"query": 3.1}, "query must be between -3 and 3"),
        ({"steps": 1}, "steps must be between 2 and 30"),
        ({"penalty": 0}, "penalty must be between 0.05 and 10"),
        ({"delta": float("nan")}, "delta must be finite"),
        ({"learner": "lasso"}, "learner must be of one_step, steps, ridge, clipped"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        PoisonedContextExplorer(**values)
    explorer = PoisonedContextExplorer()
    before = explorer.get_state()
    for name, value in values.items():
        with pytest.raises(InvalidTrait, match=words):
            setattr(explorer, name, value)
    assert explorer.get_state() == before


def test_the_module_is_one_small_string():
    source = PoisonedContextExplorer()._esm
    assert source == component_source("poisoned_context")
    assert len(source.encode()) < 60_000
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)


def test_readers_without_scripts_get_a_figure_with_its_numbers():
    explorer = PoisonedContextExplorer()
    page = explorer.fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    assert f"{explorer.moved()['ridge']:.3g} for ridge" in text
    assert text.endswith("10-step gradient descent, ridge.")
    assert page == PoisonedContextExplorer().fallback_html() and len(page) < 60_000
    assert page != PoisonedContextExplorer(query=-1.0).fallback_html()
    assert np.isfinite(list(PoisonedContextExplorer(example=[4, 8]).moved().values())).all()
