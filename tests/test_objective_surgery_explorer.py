"""The surgery explorable's Python side: numbers, traits, and the figure without scripts."""

import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icl_lessons.explorables import InvalidTrait, ObjectiveSurgeryExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.objective_surgery import (
    INITIAL_WEIGHTS,
    MOST_LAYERS,
    OBJECTIVES,
    OUTLIER,
    TRUE_WEIGHTS,
)
from icl_lessons.mesa_optimization import surgery
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
    gradient_step,
    huber_loss,
)

states = st.fixed_dictionaries(
    {
        "objective": st.sampled_from(sorted(OBJECTIVES)),
        "step_size": st.floats(0, 1.5),
        "layers": st.integers(0, 12),
        "ridge": st.floats(0, 2),
        "delta": st.floats(0.05, 4),
        "outlier_weight": st.floats(0, 3),
        "forgotten": st.integers(1, 2),
        "metric": st.floats(0, 1),
        "outlier": st.tuples(st.floats(0.05, 3) | st.floats(-3, -0.05), st.floats(-3, 3)),
    }
)


def loss_of(explorer):
    """The package's loss of one prediction, chosen by name only."""
    if explorer.objective == "huber":
        return huber_loss(explorer.delta)
    return INNER_LOSSES.get(explorer.objective, INNER_LOSSES["squared"])


def parts_of(explorer) -> dict:
    """Leak, example weights and metric as the package's layers take them."""
    return {
        "preconditioner": torch.tensor(explorer.preconditioner()),
        "leak": explorer.leak(),
        "example_weights": torch.tensor(explorer.example_weights()),
    }


def assume_no_kink(explorer) -> None:
    """Where a residual is rounding, its sign is too, and the absolute loss has no one gradient."""
    xs, ys = explorer.context()
    residuals = ys - np.einsum("kmd,nd->knm", explorer.weights(), xs)
    assume(explorer.objective != "absolute" or np.abs(residuals).min() > 1e-9)


@settings(max_examples=25, deadline=None)
@given(states)
def test_every_layer_is_a_step_by_autograd_on_the_inner_loss(traits):
    explorer = ObjectiveSurgeryExplorer(**traits)
    assume_no_kink(explorer)
    xs, ys = (torch.tensor(part)[None] for part in explorer.context())
    path = explorer.weights()
    assert (path[0] == INITIAL_WEIGHTS).all()
    for before, after in zip(path[:-1], path[1:], strict=True):
        expected = gradient_step(
            loss_of(explorer), torch.tensor(before)[None], xs, ys, explorer.step_size,
            **parts_of(explorer),
        )  # fmt: skip
        assert np.abs(after - expected[0].numpy()).max() < 1e-10 * max(1, np.abs(after).max())


@settings(max_examples=25, deadline=None)
@given(states)
def test_the_path_is_that_of_the_packages_edits(traits):
    explorer = ObjectiveSurgeryExplorer(**traits)
    assume_no_kink(explorer)
    plain = ObjectiveLayer(INNER_LOSSES["squared"].value, explorer.step_size)
    layer = {
        "squared": lambda: plain,
        "ridge": lambda: surgery.add_leak(plain, explorer.ridge),
        "huber": lambda: surgery.clip_values(plain, explorer.delta),
        "absolute": lambda: surgery.replace_loss(plain, INNER_LOSSES["absolute"]),
        "cosine": lambda: surgery.replace_loss(plain, INNER_LOSSES["cosine"]),
        "sign_flipped": lambda: surgery.flip_sign(plain),
        "weighted": lambda: surgery.reweight(plain, torch.tensor(explorer.example_weights())),
        "forget": lambda: surgery.forget_feature(plain, explorer.forgotten - 1, 2),
        "metric": lambda: surgery.set_metric(plain, torch.tensor(explorer.preconditioner())),
    }[explorer.objective]()
    stack = ObjectiveStack([layer] * explorer.layers, torch.tensor(INITIAL_WEIGHTS))
    xs, ys = (torch.tensor(part)[None] for part in explorer.context())
    found = stack(xs, ys, torch.eye(2, dtype=torch.float64)[None])[0].T.numpy()
    expected = explorer.weights()[-1]
    assert np.abs(found - expected).max() < 1e-10 * max(1, np.abs(expected).max())


@settings(max_examples=15, deadline=None)
@given(states)
def test_losses_and_errors_are_what_they_are_called(traits):
    explorer = ObjectiveSurgeryExplorer(**traits)
    xs, ys = (torch.tensor(part) for part in explorer.context())
    for weights, loss, error in zip(
        explorer.weights(), explorer.inner_losses(), explorer.task_errors(), strict=True
    ):
        losses = loss_of(explorer).loss(xs @ torch.tensor(weights).T, ys)
        losses = losses * torch.tensor(explorer.example_weights())
        expected = losses.mean().item() + explorer.leak() / 2 * np.square(weights).sum()
        assert loss == pytest.approx(expected, rel=1e-10, abs=1e-12)
        assert error == pytest.approx(0.5 * np.linalg.norm(weights - TRUE_WEIGHTS) ** 2, rel=1e-10)


def test_what_the_chapter_says_of_each_edit():
    def error(**traits):
        return ObjectiveSurgeryExplorer(**traits).task_errors()[-1]

    clean = {"outlier": [1.41, -1.08]}
    assert error(objective="huber") < 0.1 < 0.8 < error(objective="squared")
    assert error(objective="weighted", outlier_weight=0.0) < 0.02
    cosine = ObjectiveSurgeryExplorer(objective="cosine", step_size=0.6, layers=40, **clean)
    assert cosine.inner_losses()[-1] < -0.99 and cosine.task_errors()[-1] > 0.4
    flipped = ObjectiveSurgeryExplorer(objective="sign_flipped", layers=4, **clean)
    assert (np.diff(flipped.task_errors()) > 0).all() and (
        np.diff(flipped.inner_losses()) < 0
    ).all()
    forget = ObjectiveSurgeryExplorer(objective="forget", forgotten=1).weights()
    assert (forget[:, :, 0] == INITIAL_WEIGHTS[:, 0]).all() and forget[-1, 0, 1] != forget[0, 0, 1]
    metric = ObjectiveSurgeryExplorer(objective="metric", step_size=1.0, layers=1)
    xs, ys = metric.context()
    assert metric.weights()[-1] == pytest.approx(np.linalg.lstsq(xs, ys, rcond=None)[0].T)
    on_the_task = TRUE_WEIGHTS @ ObjectiveSurgeryExplorer().context()[0][OUTLIER]
    assert on_the_task == pytest.approx(clean["outlier"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"objective": "hinge"}, "objective must be of squared, ridge, huber"),
        ({"objective": ["huber"]}, "objective must be of squared"),
        ({"step_size": 1.6}, "step_size must be between 0 and 1.5"),
        ({"layers": MOST_LAYERS + 1}, "layers must be between 0 and 40"),
        ({"layers": 2.5}, "layers must be a whole number"),
        ({"delta": 0}, "delta must be between 0.05 and 4"),
        ({"outlier": [1.0]}, "outlier must hold two numbers, got 1"),
        ({"outlier": [0.0, 3.5]}, r"outlier\[1\] must be between -3 and 3"),
        ({"forgotten": 3}, "forgotten must be between 1 and 2"),
        ({"row": 0}, "row must be between 1 and 2"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        ObjectiveSurgeryExplorer(**values)
    explorer = ObjectiveSurgeryExplorer()
    before = explorer.get_state()
    for name, value in values.items():
        with pytest.raises(InvalidTrait, match=words):
            setattr(explorer, name, value)
    assert explorer.get_state() == before


def test_the_module_is_one_small_string():
    source = ObjectiveSurgeryExplorer()._esm
    assert source == component_source("objective_surgery")
    assert len(source.encode()) < 64_000
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_readers_without_scripts_get_a_figure_with_its_numbers(objective):
    explorer = ObjectiveSurgeryExplorer(objective=objective, layers=3, row=2)
    page = explorer.fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    assert f"to {explorer.task_errors()[-1]:.3g}; without" in text
    assert f"ends at {explorer.unedited().task_errors()[-1]:.3g}." in text
    assert len(page) < 120_000
    if objective == "huber":
        assert page == ObjectiveSurgeryExplorer(layers=3, row=2).fallback_html()
