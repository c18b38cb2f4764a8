"""Constructed layers on sequences, against loops over transitions that share no code with them."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, EXPERIMENTS, Verdict
from icl_lessons.estimators.least_squares import ridge_weights
from icl_lessons.ledger import run_claim
from icl_lessons.mesa_optimization.claims import mesa_layer, preconditioned_sequence
from icl_lessons.mesa_optimization.claims import overlapping_pairs as overlapping
from icl_lessons.mesa_optimization.claims import sequence_construction as construction
from icl_lessons.mesa_optimization.experiments.overlapping_pairs import (
    OverlappingPairsConfig,
    overlapping_pairs_curve,
)
from icl_lessons.mesa_optimization.experiments.sequence_construction import (
    METHODS,
    SequenceConstructionsConfig,
    sequence_constructions,
)
from icl_lessons.mesa_optimization.preconditioned_sequence import (
    BEFORE,
    QUERY,
    STATE,
    largest_step_size,
    one_step_attention,
    preconditioned_attention,
    preconditioned_queries,
    preconditioning_systems,
    preconditioning_weights,
    printed_recursion,
    read_out_weights,
)
from icl_lessons.mesa_optimization.sequence_construction import (
    binding_layer,
    mesa_gradient,
    next_step_descent,
    next_step_least_squares,
    next_step_tokens,
    one_step_weights,
    online_predictions,
    overlapping_pairs,
    overlapping_prompt,
    positioned_states,
    previous_states,
    stacked_tokens,
    stacked_weights,
    window_transition,
    windows,
)
from icl_lessons.models.attention import causal_mask, linear_attention, softmax_attention
from icl_lessons.runtime import Scale

EXACT = {"rtol": 0, "atol": 1e-10}
SIZES = st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(1, 5), st.integers(0, 10**6))
some_sizes = settings(deadline=None, max_examples=10)


def draw(batch, length, d, seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((batch, length, d))), torch.from_numpy(
        rng.standard_normal((d, d))
    )


def gradient(phi, states):
    """Of the sum over the transitions of one sequence, written as in the paper."""
    return sum(
        (np.outer(phi @ s - after, s) for s, after in zip(states, states[1:], strict=False)),
        np.zeros_like(phi),
    )


def descended(states, step_size, steps, start):
    """Each prefix descends by itself; its predictions at its last state."""
    said = np.zeros(states.shape)
    for b, t in np.ndindex(states.shape[:2]):
        prefix, phi = states[b, : t + 1].numpy(), start.numpy()
        for _ in range(steps):
            phi = phi - step_size * gradient(phi, prefix)
        said[b, t] = phi @ prefix[-1]
    return torch.from_numpy(said)


@some_sizes
@given(SIZES, st.floats(0.0, 0.3))
def test_one_layer_is_one_step_at_every_position(sizes, step_size):
    states, start = draw(*sizes)
    d = states.shape[2]
    tokens = next_step_tokens(states, start)
    weights = one_step_weights(d, step_size, start)
    after = linear_attention(tokens, *weights, causal_mask(states.shape[1]))
    assert_close(after[..., :d], descended(states, step_size, 1, start), **EXACT)
    assert torch.equal(after[..., d:], tokens[..., d:])
    bound = one_step_attention(d, states.shape[1] + 2, step_size, start)  # places to spare
    assert_close(bound(states), after[..., :d], **EXACT)


@some_sizes
@given(SIZES, st.integers(0, 4))
def test_next_step_descent_is_descent_on_every_prefix(sizes, steps):
    states, start = draw(*sizes)
    path = next_step_descent(states, 0.03, steps, start)
    for k in range(steps + 1):
        assert_close(path[k], descended(states, 0.03, k, start), **EXACT)
    at = start.expand(*states.shape[:2], -1, -1)
    last = gradient(start.numpy(), states[0].numpy())
    assert_close(mesa_gradient(at, states)[0, -1], torch.from_numpy(last), **EXACT)


def test_the_block_of_the_initial_weights_is_needed():
    """Left out, or with the current state as key, the layer takes another step or copies."""
    states, start = draw(2, 8, 3, 0)
    expected = descended(states, 0.1, 1, start)
    query, key, value, project = one_step_weights(3, 0.1, start)
    tokens, mask = next_step_tokens(states, start), causal_mask(8)
    without = value.clone()
    without[..., 6:] = 0
    for four in ((query, key, without, project), (query, query, value, project)):
        assert (linear_attention(tokens, *four, mask)[..., :3] - expected).abs().max() > 1e-2
    zero = next_step_tokens(states), one_step_weights(3, 0.1)
    after = linear_attention(zero[0], *zero[1], mask)[..., :3]
    assert_close(after, descended(states, 0.1, 1, 0 * start), **EXACT)


@some_sizes
@given(SIZES, st.integers(1, 4))
def test_the_same_layer_again_is_a_longer_step(sizes, times):
    states, start = draw(*sizes)
    tokens, weights = next_step_tokens(states, start), one_step_weights(sizes[2], 0.05, start)
    for _ in range(times):
        tokens = linear_attention(tokens, *weights, causal_mask(states.shape[1]))
    expected = descended(states, 0.05 * times, 1, start)
    assert_close(tokens[..., : sizes[2]], expected, **EXACT)


@some_sizes
@given(SIZES, st.integers(1, 4))
def test_a_stack_that_sees_all_descends_and_a_causal_one_does_not(sizes, times):
    states, start = draw(*sizes)
    d, length = states.shape[2], states.shape[1]
    whole = causal = stacked_tokens(states)
    for _ in range(times):
        whole = linear_attention(whole, *stacked_weights(d, 0.05))
        causal = linear_attention(causal, *stacked_weights(d, 0.05), causal_mask(length))
    expected = descended(states, 0.05, times, 0 * start)
    assert_close(whole[:, -1, :d], expected[:, -1], **EXACT)
    if times == 1:
        assert_close(causal[..., :d], expected, **EXACT)
    elif length > 3:  # with fewer transitions there is hardly a past to be corrected by
        assert (causal[..., :d] - expected).abs().max() > 1e-6


def test_two_causal_layers_are_far_from_two_steps():
    states, _ = draw(4, 12, 4, 1)
    tokens = stacked_tokens(states)
    for _ in range(2):
        tokens = linear_attention(tokens, *stacked_weights(4, 0.05), causal_mask(12))
    assert (tokens[..., :4] - next_step_descent(states, 0.05, 2)[-1]).abs().max() > 1e-3


@some_sizes
@given(SIZES)
def test_a_causal_stack_tends_to_an_online_pass(sizes):
    states, _ = draw(*sizes)
    states = states / states.norm(dim=-1, keepdim=True)
    d, length = states.shape[2], states.shape[1]
    tokens = stacked_tokens(states)
    for _ in range(length - 1):
        tokens = linear_attention(tokens, *stacked_weights(d, 1.0), causal_mask(length))
    said = np.zeros(states.shape)
    for b in range(len(states)):
        phi = np.zeros((d, d))
        for t in range(1, length):
            past, now = states[b, t - 1].numpy(), states[b, t].numpy()
            phi = phi + np.outer(now - phi @ past, past)
            said[b, t] = phi @ now
    assert_close(tokens[..., :d], torch.from_numpy(said), **EXACT)
    assert_close(online_predictions(states), torch.from_numpy(said), **EXACT)


def test_an_online_pass_fits_the_last_transition():
    states, _ = draw(3, 6, 3, 2)
    assert online_predictions(states)[:, 0].abs().max() == 0
    repeated = torch.cat([states, states[:, -1:]], 1)  # so the last state is said to stay
    assert_close(online_predictions(repeated)[:, -1], states[:, -1], **EXACT)
    assert online_predictions(states.float() * 0).isfinite().all()


@pytest.mark.parametrize("kind", ["linear", "softmax"])
def test_the_binding_layer_copies_the_state_before(kind):
    states, _ = draw(3, 7, 2, 3)
    beginning = kind == "softmax"
    layer = binding_layer(2, 10, kind=kind, sharpness=40.0)
    tokens = positioned_states(states, 10, 6, {1: torch.eye(2).double()}, beginning=beginning)
    attend = softmax_attention if beginning else linear_attention
    after = attend(tokens, *layer.matrices, causal_mask(7 + beginning))[:, int(beginning) :]
    assert_close(after[..., 4:6], previous_states(states), **EXACT)
    others = [i for i in range(16) if i not in (4, 5)]
    assert torch.equal(after[..., others], tokens[:, int(beginning) :, others])
    if kind == "softmax":  # without a token in front the first state would be its own past
        bare = tokens[:, 1:]
        assert_close(layer(bare, causal_mask(7))[:, 0, 4:6], states[:, 0], **EXACT)


@some_sizes
@given(SIZES, st.floats(0.3, 4.0))
def test_a_preconditioned_step_is_ridge_on_every_prefix(sizes, strength):
    states, _ = draw(*sizes)
    got, queries = (
        next_step_least_squares(states, strength),
        preconditioned_queries(states, strength),
    )
    for t in range(states.shape[1]):
        past = states[:, :t]
        system = past.mT @ past + torch.eye(sizes[2]).double() / strength
        solved = torch.linalg.solve(system, states[:, t, :, None])[..., 0]
        assert_close(queries[:, t], solved, **EXACT)
        if t:
            phi = ridge_weights(states[:, :t], states[:, 1 : t + 1], 1 / strength)
            assert_close(got[:, t], (phi @ states[:, t, :, None])[..., 0], **EXACT)
    assert got[:, 0].abs().max() == 0


@some_sizes
@given(SIZES, st.integers(0, 4), st.sampled_from(["richardson", "chebyshev"]))
def test_layers_precondition_the_query(sizes, steps, method):
    states, _ = draw(*sizes)
    d, length, strength = states.shape[2], states.shape[1], 2.0
    systems = preconditioning_systems(states, strength)
    size = largest_step_size(states, strength) / 2
    if method == "richardson":
        model = preconditioned_attention(d, length, steps, strength, step_size=size, read_out=0.7)
        query, path = states, [states]
        for _ in range(steps):
            query = query + size * (states - (systems @ query[..., None])[..., 0])
            path.append(query)
    else:
        low, high = 1 / strength, 1 / size
        model = preconditioned_attention(
            d, length, steps, strength, spectrum=(low, high), read_out=0.7
        )
        # The textbook scheme, with theta, delta and the two kinds of first step.
        theta, delta = (high + low) / 2, (high - low) / 2
        query = torch.zeros_like(states)
        path, residual, a = [query], states, 1 / theta
        direction = residual
        for k in range(steps):
            if k:
                beta = 0.5 * (delta * a) ** 2 if k == 1 else (delta * a / 2) ** 2
                a = 1 / (theta - beta / a)
                direction = residual + beta * direction
            query = query + a * direction
            residual = states - (systems @ query[..., None])[..., 0]
            path.append(query)
    assert_close(model.slot_path(states, QUERY)[1:-1], torch.stack(path), **EXACT)
    products = torch.einsum("bti,btj->btij", states, previous_states(states)).cumsum(1)
    assert_close(model(states), 0.7 * (products @ path[-1][..., None])[..., 0], **EXACT)
    tokens = model.token_path(states)
    for slot, expected in ((STATE, states), (BEFORE, previous_states(states))):
        assert_close(tokens[-1, ..., slot * d : (slot + 1) * d], expected, **EXACT)


def test_the_matrices_have_the_blocks_of_proposition_2():
    """Products of the first head, as printed: -alpha from the past into the query, and I."""
    asks, answers, values, project = preconditioning_weights(2, 5, 0.3, 4.0)
    width = 4 * 2 + 5
    expected = torch.zeros(2, width, width).double()
    identity = torch.eye(2).double()
    expected[0, 2:4, 6:8] = -0.3 * identity
    expected[1, 2:4, 4:6] = 0.3 * identity
    expected[1, 2:4, 2:4] = -0.3 / 4 * identity
    assert_close(project @ values, expected, **EXACT)
    scores = torch.zeros(width, width).double()
    scores[6:8, 2:4] = torch.eye(2)
    assert_close((answers.mT @ asks)[0], scores, **EXACT)
    asks, answers, value, project = read_out_weights(2, 5)
    assert_close((answers.mT @ asks)[0], scores, **EXACT)
    last = torch.zeros(width, width).double()
    last[0:2, 4:6] = torch.eye(2)
    assert_close((project @ value)[0], last, **EXACT)


def test_enough_layers_are_least_squares_also_with_a_softmax_in_front():
    states, _ = draw(3, 8, 3, 4)
    high = 2 / largest_step_size(states, 2.0)
    expected = next_step_least_squares(states, 2.0)
    for copy in ("linear", "softmax"):
        model = preconditioned_attention(
            3, 8, 60, 2.0, spectrum=(0.5, high), copy=copy, sharpness=45.0
        )
        assert_close(model(states), expected, rtol=0, atol=1e-8)


def test_the_error_falls_below_the_limit_and_grows_above():
    states, _ = draw(1, 10, 3, 5)
    answer = preconditioned_queries(states, 2.0)
    limit = largest_step_size(states, 2.0)
    errors = {}
    for factor in (0.5, 0.9, 1.1):
        model = preconditioned_attention(3, 10, 40, 2.0, step_size=factor * limit)
        path = model.slot_path(states, QUERY)[1:-1]
        errors[factor] = (path - answer).norm(dim=-1)[:, 0, -1]
    for factor in (0.5, 0.9):
        assert (errors[factor].diff() < 1e-12).all()
    assert errors[1.1][-1] > 10 * errors[1.1].min()


def test_the_future_changes_nothing():
    states, start = draw(2, 9, 3, 6)
    changed = states.clone()
    changed[:, 5:] += 2
    for model in (
        one_step_attention(3, 9, 0.1, start),
        one_step_attention(3, 9, 0.1, start, copy="softmax"),
        preconditioned_attention(3, 9, 4, 2.0, step_size=0.05),
        preconditioned_attention(3, 9, 4, 2.0, spectrum=(0.5, 40.0)),
    ):
        assert torch.equal(model(states)[:, :5], model(changed)[:, :5])
        assert not torch.equal(model(states)[:, 5:], model(changed)[:, 5:])


def test_the_printed_recursion_leaves_out_the_source():
    A = torch.diag(torch.tensor([0.2, 0.9]).double())
    b = torch.ones(2).double()
    path = printed_recursion(A, b, 30)
    powers = torch.stack([(2 - A.diagonal()) ** k for k in range(31)])
    assert_close(path, powers, rtol=1e-12, atol=0)
    assert (path[-1] - b / A.diagonal()).abs().min() > 1


@some_sizes
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 10**6))
def test_windows_of_states_seen_in_part_follow_linearly(d, extra, seed):
    rng = np.random.default_rng(seed)
    hidden = d + extra
    size = -(-hidden // d)
    transition = torch.from_numpy(np.linalg.qr(rng.standard_normal((2, hidden, hidden)))[0])
    readout = torch.from_numpy(rng.standard_normal((2, d, hidden)))
    inner = [torch.from_numpy(rng.standard_normal((2, hidden)))]
    for _ in range(size + 3):
        inner.append((transition @ inner[-1][..., None])[..., 0])
    states = torch.stack(inner, 1) @ readout.mT
    z = windows(states, size)
    assert_close(z[:, 1], states[:, 1 : size + 1].flatten(1))
    phi = window_transition(readout, transition, size)
    seen = torch.cat([readout @ torch.linalg.matrix_power(transition, k) for k in range(size)], -2)
    condition = torch.linalg.cond(seen).max().item()
    assert (z[:, :-1] @ phi.mT - z[:, 1:]).abs().max() < 1e-12 * condition**2


def test_prompts_and_their_pairs():
    xs, _ = draw(2, 3, 4, 7)
    ys = xs + 1
    prompt = overlapping_prompt(xs, ys)
    inputs, targets = overlapping_pairs(prompt)
    assert prompt.shape == (2, 6, 4) and inputs.shape == (2, 5, 4)
    assert torch.equal(inputs[:, ::2], xs) and torch.equal(targets[:, ::2], ys)
    assert torch.equal(inputs[:, 1::2], ys[:, :-1]) and torch.equal(targets[:, 1::2], xs[:, 1:])
    separated = overlapping_prompt(xs, ys, torch.full((4,), 5.0).double())
    assert separated.shape == (2, 9, 4) and (separated[:, 2::3] == 5).all()


# --- experiments, claims, errors ----------------------------------------------------------------


def test_the_experiment_on_solvers():
    config = SequenceConstructionsConfig(
        length=8, layers=50, depth_length=10, depths=(0, 2, 8), n_step_sizes=5, n_sequences=16,
        n_depth_sequences=64,
    )  # fmt: skip
    result = sequence_constructions(config)
    assert result.loss.shape == (len(METHODS), 3, 3)
    assert list(result.shown) == [1, 2, 5, 10, 50]
    assert result.by_position.shape == (3, 5, 8)
    assert (result.chebyshev[:, -1] < result.richardson[:, -1]).all()
    # With no step taken the first two predict 0, and the last two take the one best step.
    assert_close(result.loss[0, :, 0], result.zero_loss)
    assert_close(result.loss[2, :, 0], result.loss[3, :, 0])
    assert (result.least_squares_loss < result.one_step_loss).all()
    assert "least squares" in result.summary()
    figure = EXPERIMENTS["sequence_constructions"].figure(result)
    assert len(figure.axes) == 3
    plt.close(figure)


def test_the_experiment_on_prompts():
    result = overlapping_pairs_curve(
        OverlappingPairsConfig(d=6, pairs=16, dimensions=(4, 6), n_prompts=200)
    )
    ascent = result.overlapping.mean(0)
    assert 3 <= ascent.argmax() + 1 <= 8 and ascent.max() > 2 * ascent[0]
    assert (abs(result.peak - [3, 4]) <= 1).all()
    assert (np.diff(result.proper.mean(0)) < 1e-6).all()
    assert (result.separated.max(1) < result.overlapping.max(1)).all()
    assert "overlapping" in result.summary()
    figure = EXPERIMENTS["overlapping_pairs"].figure(result)
    assert len(figure.axes) == 2
    plt.close(figure)


def test_paper_scales_are_the_papers():
    paper = EXPERIMENTS["sequence_constructions"].configs[Scale.PAPER]
    assert (paper.d, paper.length, len(paper.seeds)) == (10, 50, 5)
    for config in (*EXPERIMENTS["overlapping_pairs"].configs.values(), paper):
        assert len(config.seeds) >= 3
        with pytest.raises(ValueError, match="seeds: got none"):
            dataclasses.replace(config, seeds=())


OWN = {m.__name__ for m in (mesa_layer, overlapping, preconditioned_sequence, construction)}
IDENTITIES = [
    name
    for name, claim in CLAIMS.items()
    if claim.kind == "identity" and claim.check.__module__ in OWN
]


def test_there_are_enough_identities():
    assert len(IDENTITIES) >= 10


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_hold(name):
    assert run_claim(CLAIMS[name], Scale.LESSON).verdict == Verdict.HOLDS


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda s: next_step_tokens(s, torch.zeros(2, 2).double()), ValueError, "initial_weights"),
        (lambda s: next_step_descent(s, -1.0), ValueError, "step_size: got -1"),
        (lambda s: one_step_weights(3, 0.1, torch.zeros(3, 3)), ValueError, "initial_weights: use"),
        (lambda s: windows(s, 9), ValueError, "size: a window of 9"),
        (lambda s: overlapping_prompt(s, s[:, 1:]), ValueError, "ys: got shape"),
        (lambda s: one_step_attention(3, 4, 0.1)(s), ValueError, "states: 5 tokens; there are"),
        (lambda s: one_step_attention(2, 5, 0.1)(s), ValueError, "states: 3 coordinates"),
        (lambda s: preconditioned_attention(3, 5, 2, 1.0), ValueError, "step_size, spectrum: give"),
        (lambda s: preconditioned_queries(s, 0.0), ValueError, "regularization: got 0"),
        (lambda s: binding_layer(3, 5, kind="hard"), ValueError, "kind: got 'hard'"),
        (lambda s: binding_layer(3, 5, write=3), ValueError, "write: got 3; a token has the slots"),
        (lambda s: binding_layer(3, 5, write=1), ValueError, "write: got 1, the slot that is read"),
        (lambda s: overlapping_prompt(s, s, s[0, 0, :2]), ValueError, "separator: got shape"),
        (lambda s: mesa_gradient(s[0, :3], s), ValueError, "weights: got shape"),
        (lambda s: next_step_tokens(s, "0"), TypeError, "initial_weights: got str"),
        (lambda s: window_transition(s[0], s[0, :3, :2], 2), ValueError, "transition: got shape"),
        (lambda s: one_step_attention(3, 5, 0.1).slot_path(s, 9), ValueError, "slot: got 9"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(as_readers_run_it, call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(torch.ones(1, 5, 3, dtype=torch.float64))
