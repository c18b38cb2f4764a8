"""The sine explorable's Python side: weights, traits, numbers, and the figure without scripts."""

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.explorables import InvalidTrait, SinusoidExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.sinusoid import stored_weights
from icl_lessons.gradient_descent.features import SinusoidNetwork


def random_weights(seed: int = 0, width: int = 6, hidden: int = 9) -> dict:
    draw = np.random.default_rng(seed)
    return {
        "embedding": draw.normal(size=(width, 2)),
        "w_in": draw.normal(size=(hidden, width)) / width**0.5,
        "b_in": draw.normal(size=hidden),
        "w_out": draw.normal(size=(width, hidden)) / hidden**0.5,
        "b_out": draw.normal(size=width),
        "step_size": 0.05,
    }


def column(values) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)[None, :, None]


cases = st.fixed_dictionaries(
    {
        "xs": st.lists(st.floats(-5, 5), min_size=1, max_size=20),
        "amplitude": st.floats(0, 1),
        "phase": st.floats(0, 6.28),
        "features": st.booleans(),
        "steps": st.integers(0, 8),
        "step_scale": st.floats(0, 1),
        "gelu": st.sampled_from(["tanh", "erf"]),
    }
)


@settings(max_examples=25, deadline=None)
@given(cases, st.integers(0, 1000))
def test_predictions_are_gradient_descent_on_the_tokens(traits, seed):
    explorer = SinusoidExplorer(random_weights(seed), **traits)
    explorer.offsets = np.random.default_rng(seed).normal(size=len(explorer.xs)).clip(-2, 2)
    queries = np.linspace(-5, 5, 7)
    context = explorer.tokens(explorer.xs, explorer.true_curve(explorer.xs) + explorer.offsets)
    asked = explorer.tokens(queries, np.zeros(7))
    learner = GradientDescent(explorer.own_step_size(), explorer.steps)
    found = learner(
        torch.tensor(context[None, :, :-1]),
        column(context[:, -1]),
        torch.tensor(asked[None, :, :-1]),
    )
    expected = found[0, :, 0].numpy() - asked[:, -1]
    scale = max(1.0, np.abs(expected).max())
    assert np.abs(explorer.predictions(queries) - expected).max() < 1e-10 * scale


def test_a_network_and_its_explorer_predict_the_same():
    network = SinusoidNetwork(8, 12, 10, attention="descent", dtype=torch.float64)
    with torch.no_grad():
        network.mlp.b_in.normal_(generator=torch.Generator().manual_seed(1))
    explorer = SinusoidExplorer(network.weights(), amplitude=0.3, phase=2.0)
    queries = np.linspace(-4, 4, 9)
    ys = explorer.true_curve(explorer.xs)
    expected = network(column(explorer.xs), column(ys), column(queries)).detach().flatten()
    # The weights were rounded to five digits.
    assert explorer.predictions(queries) == pytest.approx(expected.numpy(), rel=2e-3, abs=2e-3)
    learned = SinusoidNetwork(8, 12, 10, attention="learned")
    with pytest.raises(ValueError, match=r"missing: \['step_size'\] \(of a network whose"):
        SinusoidExplorer(learned.weights())


def test_without_features_a_step_is_the_best_line():
    explorer = SinusoidExplorer(random_weights(), features=False, amplitude=1.0)
    xs, ys = np.array(explorer.xs), explorer.true_curve(explorer.xs)
    slope = xs @ ys / (xs @ xs)
    assert explorer.predictions([1.0, -3.0]) == pytest.approx([slope, -3 * slope], abs=1e-12)
    explorer.set_examples([0.0])
    assert explorer.own_step_size() == 0 and explorer.predictions([2.0]) == [0.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w_in": None}, r"missing: \['w_in'\]"),
        ({"embedding": np.zeros((6, 3))}, r"weights\['embedding'\] must have shape \[width, 2\]"),
        ({"w_in": np.zeros((9, 5))}, r"weights\['w_in'\] must have shape \[hidden, 6\]"),
        ({"b_in": np.zeros(8)}, r"weights\['b_in'\] must have shape \[9\], got \(8,\)"),
        ({"w_out": np.zeros((9, 6))}, r"weights\['w_out'\] must have shape \[6, 9\]"),
        ({"b_out": np.zeros((6, 1))}, r"weights\['b_out'\] must have shape \[6\]"),
        ({"step_size": [0.1, 0.2]}, r"weights\['step_size'\] must have shape \[\]"),
        ({"b_in": np.full(9, np.nan)}, r"weights\['b_in'\] must be finite"),
        ({"w_in": [[1.0], [1.0, 2.0]]}, r"weights\['w_in'\] must hold numbers in even rows"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, words):
    weights = {k: v for k, v in {**random_weights(), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=words):
        SinusoidExplorer(weights)
    with pytest.raises(ValueError, match="weights must be a mapping"):
        stored_weights([1.0])


def test_weights_may_be_tensors_and_are_stored_small():
    weights = random_weights()
    tensors = {k: torch.tensor(v, dtype=torch.float32) for k, v in weights.items()}
    tensors |= {"step_size": torch.tensor([0.05]), "key_query": torch.zeros(6, 6)}
    stored = stored_weights(tensors)
    assert set(stored) == set(weights)
    assert stored["step_size"] == 0.05
    for name, value in weights.items():
        assert np.array(stored[name]) == pytest.approx(np.array(value), rel=1e-4)
    full = SinusoidExplorer(random_weights(width=20, hidden=80))
    assert len(json.dumps(full.get_state()["weights"])) < 40_000
    assert len(full._esm.encode()) < 60_000


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"amplitude": 1.5}, "amplitude must be between 0 and 1"),
        ({"phase": -1}, "phase must be between 0 and 6.28"),
        ({"steps": 9}, "steps must be between 0 and 8"),
        ({"step_scale": 4}, "step_scale must be between 0 and 3"),
        ({"x_query": 6}, "x_query must be between -5 and 5"),
        ({"xs": []}, "must hold at least one number"),
        ({"xs": [1.0], "offsets": [0.0, 0.0]}, "would hold"),
        ({"offsets": [0.0]}, "offsets would hold 1 numbers and xs holds 10"),
        ({"gelu": "relu"}, "gelu must be one of"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        SinusoidExplorer(random_weights(), **values)
    explorer = SinusoidExplorer(random_weights())
    before = explorer.get_state()
    with pytest.raises(InvalidTrait, match=words):
        with explorer.hold_trait_notifications():
            for name, value in values.items():
                setattr(explorer, name, value)
    assert explorer.get_state() == before


def test_the_module_is_one_small_string():
    source = SinusoidExplorer(random_weights())._esm
    assert source == component_source("sinusoid")
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)


def test_readers_without_scripts_get_a_figure_with_its_numbers():
    explorer = SinusoidExplorer(random_weights(), features=False, xs=[1.0])
    page = explorer.fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    assert f"{explorer.error():.2g}" in text and "from 1 example of 0.40 sin" in text
    assert len(page) < 60_000
    again = SinusoidExplorer(random_weights(), features=False, xs=[1.0])
    assert page == again.fallback_html()
    again.features = True
    assert page != again.fallback_html()
