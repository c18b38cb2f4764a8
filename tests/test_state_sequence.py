"""The causal models of states: their tokens, their causality, and the constructions they hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from icl_lessons.models.state_sequence import (
    StateTransformer,
    StateTransformerConfig,
    pair_stream,
    previous_states,
)
from icl_lessons.runtime import seeded

SHAPES = {
    "softmax": {"blocks": ("softmax", "softmax"), "heads": 2, "width": 8},
    "linear": {"blocks": ("linear",), "heads": 2, "width": 8, "mlp_ratio": 0},
    "hybrid": {"blocks": ("softmax", "mesa"), "width": 8, "mesa_head_width": 3},
    "bare": {"blocks": ("softmax",), "width": 8, "positions": None, "layer_norm": None},
    "pairs": {"tokens": "pairs", "blocks": ("linear", "linear"), "copies": 2},
    "pairs with a mesa layer": {"tokens": "pairs", "blocks": ("mesa",)},
}


def model_of(name, d=3, seed=0, **changes) -> StateTransformer:
    config = StateTransformerConfig(d=d, max_length=9, **(SHAPES[name] | changes))
    return StateTransformer(config, generator=seeded(seed)).double()


def states_of(seed, batch=2, length=7, d=3):
    return torch.randn(batch, length, d, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", SHAPES)
@given(seed=st.integers(0, 2**31), t=st.integers(0, 5))
@settings(max_examples=4, deadline=None)
def test_no_prediction_depends_on_a_later_state(name, seed, t):
    model, states = model_of(name, seed=seed % 7), states_of(seed)
    changed = states.clone()
    changed[:, t + 1 :] += 1
    before, after = model(states), model(changed)
    assert before.shape == states.shape
    assert_close(before[:, : t + 1], after[:, : t + 1], rtol=0, atol=1e-13)
    assert (before[:, t + 1 :] - after[:, t + 1 :]).abs().max() > 1e-9


@pytest.mark.parametrize("name", SHAPES)
def test_every_stream_can_be_read_and_the_last_holds_the_prediction(name):
    model, states = model_of(name), states_of(1)
    streams = model.streams(states)
    assert len(streams) == len(model.config.blocks) + 1
    assert all(x.shape == (2, 7, model.config.stream_width) for x in streams)
    assert_close(model.read(streams[-1]), model(states), rtol=0, atol=0)
    assert_close(model.from_stream(model.embed(states))[-1], streams[-1], rtol=0, atol=0)


def test_a_token_holds_nothing_yet_its_state_and_the_one_before():
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]], dtype=torch.float64)
    expected = torch.tensor(
        [[[0, 0, 1, 2, 0, 0], [0, 0, 3, 4, 1, 2], [0, 0, 5, 6, 3, 4]]], dtype=torch.float64
    )
    assert torch.equal(pair_stream(states), expected)
    assert pair_stream(states, copies=3).shape == (1, 3, 10)
    assert torch.equal(pair_stream(states, 3)[..., 6:8], states)
    assert torch.equal(previous_states(states), expected[..., 4:])


@given(seed=st.integers(0, 2**31), d=st.integers(1, 4), length=st.integers(1, 8))
@settings(max_examples=12, deadline=None)
def test_written_weights_make_a_layer_on_pairs_one_step_of_gradient_descent(seed, d, length):
    """Proposition 1 with nothing learnt yet, the sum over pairs taken one by one."""
    step, divisor = 0.3, 9
    config = StateTransformerConfig(
        d=d, tokens="pairs", blocks=("linear",), max_length=divisor, clamp=None
    )
    model = StateTransformer(config).double()
    with torch.no_grad():
        attention = model.blocks[0].attention
        for name in ("w_query", "w_key", "w_value", "projection"):
            getattr(attention, name).zero_()
        now, key = torch.arange(d, 2 * d), torch.arange(2 * d, 3 * d)
        attention.w_query[0, :d, now] = attention.w_key[0, :d, key] = torch.eye(d).double()
        attention.w_value[0, :d, now] = torch.eye(d).double()
        attention.projection[0, :d, :d] = step * torch.eye(d).double()
    states = states_of(seed, 2, length, d)
    got = model(states)
    for b in range(2):
        weights = torch.zeros(d, d, dtype=torch.float64)
        for t in range(length):
            if t > 0:
                weights += step / divisor * torch.outer(states[b, t], states[b, t - 1])
            assert (got[b, t] - weights @ states[b, t]).abs().max() < 1e-12


def test_a_clamp_limits_the_stream_and_none_does_not():
    states = 40 * states_of(2)
    for clamp, limited in ((0.5, True), (None, False)):
        model = model_of("pairs", clamp=clamp, init_std=1.0)
        assert (model.streams(states)[-1].abs().max() <= 0.5) == limited


@pytest.mark.parametrize("name", SHAPES)
def test_a_seed_means_the_same_start_and_every_weight_gets_a_gradient(name):
    first, again, other = (dict(model_of(name, seed=s).named_parameters()) for s in (4, 4, 5))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
    model = model_of(name)
    model(states_of(3)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert isinstance(model, nn.Module)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"d": 0}, "d: got 0"),
        ({"blocks": ()}, "blocks: got none"),
        ({"blocks": ("softmax", "wide")}, "blocks: got 'wide'"),
        ({"tokens": "words"}, "tokens: got 'words'"),
        ({"tokens": "pairs", "blocks": ("softmax",)}, "blocks: layers on pairs are"),
        ({"clamp": 0.0}, "clamp: got 0.0"),
        ({"heads": 3}, "heads: 3 heads do not divide width 32"),
        ({"regularization": 0.0}, "regularization: got 0.0"),
        ({"init_std": -1.0}, "init_std: got -1.0"),
        ({"mlp_ratio": -1}, "mlp_ratio: got -1"),
    ],
)
def test_a_shape_that_cannot_be_built_is_named(as_readers_run_it, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        StateTransformerConfig(**({"d": 3} | options))


def test_states_that_do_not_fit_are_named(as_readers_run_it):
    model = model_of("softmax")
    with pytest.raises(ValueError, match="states: 4 coordinates; this model was made for 3"):
        model(states_of(0, d=4))
    with pytest.raises(ValueError, match="states: 10 of them, but .* max_length = 9"):
        model(states_of(0, length=10))
    with pytest.raises(ValueError, match="copies: got 0"):
        pair_stream(states_of(0), 0)
