"""Objective surgery: every edit against the loss it means; trained layers; Transformers."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.mesa_optimization.claims import surgery as claims  # noqa: F401
from icl_lessons.mesa_optimization.experiments.surgery import SurgeryConfig, surgery
from icl_lessons.mesa_optimization.experiments.surgery_models import (
    OneLayer,
    SurgeryTraining,
    surgery_weights,
)
from icl_lessons.mesa_optimization.figures import surgery as figures
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
    curl,
)
from icl_lessons.mesa_optimization.surgery import (
    add_leak,
    blind_comparison,
    blind_read_in,
    clip_values,
    flip_labels,
    flip_sign,
    forget_feature,
    read_trained,
    replace_loss,
    reweight,
    scale_attention_writes,
    scale_step,
    set_metric,
    shrink_after,
)
from icl_lessons.models.attention import SelfAttention
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import Scale, seeded

ETA, LEAK, DELTA = 0.3, 0.7, 0.6
SQUARED = ObjectiveLayer(INNER_LOSSES["squared"].value, ETA)


def half_square(p, y):
    return 0.5 * ((p - y) ** 2).sum(-1)


def huber(p, y):
    r = (p - y).abs()
    return torch.where(r < DELTA, r**2 / 2, DELTA * r - DELTA**2 / 2).sum(-1)


def minus_cosine(p, y):
    return -(p * y).sum(-1) / (p.norm(dim=-1) * y.norm(dim=-1))


def descended(objective, weights, xs, ys, eta=ETA):
    """One step on the mean of ``objective(p, y)`` plus nothing, by automatic differentiation."""
    w = weights.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(w), w)
    return weights - eta * gradient


def mean_of(loss, xs, ys, c=1.0):
    return lambda w: (c * loss(xs @ w.mT, ys)).mean(1).sum()


EDITS = ("scale", "flip", "ridge", "weights", "metric", "clip", "forget", "cosine", "unclip")


@given(
    st.sampled_from(EDITS),
    st.integers(0, 2**31),
    st.tuples(st.integers(1, 5), st.integers(2, 3), st.integers(1, 9), st.integers(1, 3)),
)
@settings(max_examples=30, deadline=None)
def test_every_edit_takes_the_step_of_the_loss_it_means(edit, seed, sizes):
    d, m, n, queries = sizes
    g = seeded(seed)
    xs, ys, x_query, w = (
        torch.randn(2, *shape, generator=g, dtype=torch.float64)
        for shape in ((n, d), (n, m), (queries, d), (m, d))
    )
    c = torch.rand(n, generator=g, dtype=torch.float64)
    gamma = torch.randn(d, d, generator=g, dtype=torch.float64)
    squares = mean_of(half_square, xs, ys)
    if edit == "scale":
        layer, expected = scale_step(SQUARED, 0.4), descended(squares, w, xs, ys, 0.4 * ETA)
    elif edit == "flip":
        layer, expected = flip_sign(SQUARED), descended(lambda v: -squares(v), w, xs, ys)
    elif edit == "ridge":
        layer = add_leak(SQUARED, LEAK)
        expected = descended(lambda v: squares(v) + LEAK / 2 * v.square().sum(), w, xs, ys)
    elif edit == "weights":
        layer = reweight(SQUARED, c)
        expected = descended(mean_of(half_square, xs, ys, c), w, xs, ys)
    elif edit == "metric":
        layer = set_metric(SQUARED, gamma)
        expected = w + (descended(squares, w, xs, ys) - w) @ gamma
    elif edit == "clip":
        layer, expected = clip_values(SQUARED, DELTA), descended(mean_of(huber, xs, ys), w, xs, ys)
    elif edit == "forget":
        w[..., 0] = 0
        layer = forget_feature(SQUARED, 0, d)
        expected = descended(mean_of(half_square, xs[..., 1:], ys), w[..., 1:], xs, ys)
        expected = torch.cat([w[..., :1], expected], -1)
    elif edit == "cosine":
        layer = replace_loss(SQUARED, INNER_LOSSES["cosine"])
        expected = descended(mean_of(minus_cosine, xs, ys), w, xs, ys)
    else:
        layer = replace_loss(clip_values(SQUARED, DELTA), INNER_LOSSES["squared"])
        expected = descended(squares, w, xs, ys)
    got = layer(xs, ys, xs @ w.mT, x_query, x_query @ w.mT)
    assert_close(got[0], xs @ expected.mT, rtol=1e-11, atol=1e-11)
    assert_close(got[1], x_query @ expected.mT, rtol=1e-11, atol=1e-11)
    as_attention = layer.as_attention(xs, ys, xs @ w.mT, x_query, x_query @ w.mT)
    assert_close(as_attention[1], got[1], rtol=1e-11, atol=1e-11)


@given(st.integers(0, 2**31), st.floats(0.0, 2.0))
@settings(max_examples=15, deadline=None)
def test_shrinking_after_the_step_is_another_step(seed, penalty):
    g = seeded(seed)
    xs, ys, w = (
        torch.randn(1, *s, generator=g, dtype=torch.float64) for s in ((6, 3), (6, 2), (2, 3))
    )
    stepped = descended(mean_of(half_square, xs, ys), w, xs, ys)
    late = (1 - ETA * penalty) * stepped
    got = shrink_after(SQUARED, penalty)(xs, ys, xs @ w.mT, xs, xs @ w.mT)[0]
    assert_close(got, xs @ late.mT, rtol=1e-11, atol=1e-11)
    right = add_leak(SQUARED, penalty)(xs, ys, xs @ w.mT, xs, xs @ w.mT)[0]
    assert_close(got - right, ETA * penalty * (xs @ (w - stepped).mT), rtol=1e-9, atol=1e-11)
    if penalty > 0.1:
        assert not torch.allclose(got, right)


def test_edits_leave_the_layer_alone_and_compose():
    twice = scale_step(flip_sign(flip_sign(SQUARED)), 2)
    assert twice.step_size == 2 * ETA and SQUARED.step_size == ETA
    assert add_leak(add_leak(SQUARED, 0.1), 0.2).leak == pytest.approx(0.3)
    c = torch.tensor([1.0, 2.0])
    assert_close(reweight(reweight(SQUARED, c), c).example_weights, c * c)


def test_clipping_keeps_a_loss_only_for_sums_over_coordinates():
    p, y = torch.randn(2, 200, 3, generator=seeded(3), dtype=torch.float64)
    clipped = {
        name: clip_values(ObjectiveLayer(loss.value, 1.0), 0.3).value
        for name, loss in INNER_LOSSES.items()
    }
    assert curl(clipped["squared"], p, y).max() < 1e-12
    assert curl(clipped["huber"], p, y).max() < 1e-12
    assert curl(clipped["cosine"], p, y).mean() > 0.05


def test_bad_edits_say_what_is_wrong():
    for bad, word in (
        (lambda: add_leak(SQUARED, -1.0), "penalty"),
        (lambda: shrink_after(SQUARED, 4.0), "penalty"),
        (lambda: shrink_after(add_leak(SQUARED, 0.1), 0.1), "leaks already"),
        (lambda: clip_values(SQUARED, 0.0), "delta"),
        (lambda: forget_feature(SQUARED, 3, 3), "feature"),
        (lambda: read_trained(SelfAttention(3, heads=2), 2, 5), "one head"),
        (lambda: read_trained(SelfAttention(3, kind="softmax"), 2, 5), "linear"),
        (lambda: read_trained(SelfAttention(3), 3, 5), "d: got 3"),
    ):
        with pytest.raises(ValueError, match=word):
            bad()


# --- trained layers -------------------------------------------------------------------------------


def random_attention(seed, d, m):
    layer = SelfAttention(d + m, init_std=0.5, generator=seeded(seed), dtype=torch.float64)
    return layer.requires_grad_(False)


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 3), st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_a_trained_layer_is_read_without_loss(seed, d, m, n):
    attention, g = random_attention(seed, d, m), seeded(seed + 1)
    xs, ys, x_query = (
        torch.randn(2, *s, generator=g, dtype=torch.float64) for s in ((n, d), (n, m), (3, d))
    )
    w_q, w_k, w_v, p = (matrix[0].numpy() for matrix in attention.matrices)
    expected = np.zeros((2, 3, m))  # token by token, as in a textbook
    for b in range(2):
        for q in range(3):
            e_q = np.concatenate([x_query[b, q].numpy(), np.zeros(m)])
            for i in range(n):
                e_i = np.concatenate([xs[b, i].numpy(), ys[b, i].numpy()])
                expected[b, q] += (p @ w_v @ e_i)[d:] * ((w_k @ e_i) @ (w_q @ e_q))
    layer = read_trained(attention, d, n)
    # Where the mean diagonals are near 0 the normal form is ill conditioned.
    size = max(1.0, abs(layer.step_size), 1 / abs(layer.step_size))
    size *= max(t.abs().max().item() for t in (layer.preconditioner, layer.mix)) ** 2
    got = ObjectiveStack([layer])(xs, ys, x_query).numpy()
    assert np.abs(got - expected).max() < 1e-11 * max(1, np.abs(expected).max()) * size
    fast = OneLayer(attention, d)(xs, ys, x_query).numpy()
    assert np.abs(fast - expected).max() < 1e-11 * max(1, np.abs(expected).max())


def test_the_construction_is_read_as_itself():
    d, m, n = 3, 2, 7
    compare = torch.eye(d + m, dtype=torch.float64)
    compare[d:] = 0
    write = torch.zeros(d + m, d + m, dtype=torch.float64)
    write[d:, d:] = ETA / n * torch.eye(m, dtype=torch.float64)
    eye = torch.eye(d + m, dtype=torch.float64)
    attention = SelfAttention.from_matrices(
        2 * compare[None], eye[None], write[None] / 2, eye[None]
    )
    layer = read_trained(attention, d, n)
    assert layer.step_size == pytest.approx(ETA, abs=1e-12)
    assert_close(layer.preconditioner, eye[:d, :d])
    assert_close(layer.mix, eye[:m, :m])
    assert layer.key_stray.abs().max() == layer.value_stray.abs().max() == 0


def test_edits_of_a_trained_layer_act_on_its_weights():
    d, m, n = 3, 2, 6
    layer, g = read_trained(random_attention(5, d, m), d, n), seeded(6)
    xs, ys, x_query = (
        torch.randn(2, *s, generator=g, dtype=torch.float64) for s in ((n, d), (n, m), (3, d))
    )
    plain = ObjectiveStack([layer])(xs, ys, x_query)
    assert_close(ObjectiveStack([flip_sign(layer)])(xs, ys, x_query), -plain)
    kept = torch.ones(n, dtype=torch.float64)
    kept[2:] = 0  # without examples 2, 3, ...: the mean is still over n
    weighted = ObjectiveStack([reweight(layer, kept)])(xs, ys, x_query)
    assert_close(weighted, ObjectiveStack([layer])(xs[:, :2], ys[:, :2], x_query) * 2 / n)
    blind = ObjectiveStack([forget_feature(layer, 1, d)])
    other, other_query = xs.clone(), x_query.clone()
    other[..., 1], other_query[..., 1] = 5.0, -7.0
    assert_close(blind(other, ys, other_query), blind(xs, ys, x_query))
    assert not torch.allclose(blind(xs, ys, x_query), plain)
    zero = torch.zeros_like(ys), torch.zeros_like(plain)
    assert_close(layer.as_attention(xs, ys, zero[0], x_query, zero[1])[1], plain)


# --- Transformers ---------------------------------------------------------------------------------


@pytest.fixture
def transformer():
    shape = TransformerConfig(d=3, width=16, layers=2, heads=2)
    return Transformer(shape, generator=seeded(1)).requires_grad_(False)


def test_edits_of_a_transformer(transformer):
    g = seeded(2)
    xs, ys, x_query = (torch.randn(4, *s, generator=g) for s in ((6, 3), (6, 1), (2, 3)))
    before = transformer(xs, ys, x_query)
    assert_close(scale_attention_writes(transformer, 1, 1)(xs, ys, x_query), before)
    silent = scale_attention_writes(scale_attention_writes(transformer, 0, 0), 1, 0)
    assert_close(silent(xs, ys, x_query), silent(2 * xs, -ys, x_query))  # no context gets in
    assert_close(flip_labels(transformer)(xs, ys, x_query), transformer(xs, -ys, x_query))
    blind, hidden = blind_read_in(transformer, 2), torch.tensor([0.0, 0.0, 9.0])
    assert_close(blind(xs + hidden, ys, x_query - hidden), blind(xs, ys, x_query))
    assert_close(transformer(xs, ys, x_query), before)  # the model itself is as it was


def test_a_blind_comparison_does_not_see_the_direction(transformer):
    edited = blind_comparison(transformer, 1, 0)
    direction = transformer.read_in.weight[:, 0]
    direction = (direction - direction.mean()) * transformer.blocks[1].norm_attention.weight
    width = transformer.config.width
    seen = edited.blocks[1].attention.query_key_value(direction)
    assert seen[: 2 * width].abs().max() < 1e-6 < seen[2 * width :].abs().max()
    with pytest.raises(ValueError, match="feature"):
        blind_comparison(transformer, 0, 3)
    with pytest.raises(ValueError, match="block"):
        scale_attention_writes(transformer, 2, 0.5)


# --- the experiment -------------------------------------------------------------------------------


def test_the_experiment_runs_from_stored_weights():
    assert surgery_weights.is_stored(SurgeryTraining())
    assert dataclasses.asdict(SurgeryConfig().training) == dataclasses.asdict(SurgeryTraining())
    small = SurgeryConfig(n_test=60, stack=60, cue_prompts=4000, cue_test=2000, n_transformer=60)
    result = surgery(small)
    edits = dict(zip(result.edits, result.after, strict=True))
    assert edits["none"].max() < 0.04 and edits["sign flipped"].max() < 0.04
    assert (result.before[1:] > 4 * result.after[1:]).all()
    start, lowered, raised = result.context_loss.T
    assert (lowered < start).all() and (raised > start).all()
    stacks = dict(zip(result.stack_to, result.stack_difference, strict=True))
    assert (stacks["leak: ridge"] < 0.05).all() and (stacks["no leak: ridge"] > 0.3).all()
    trained, deleted, installed = result.cue_error.mean(2)
    assert trained[2] > 2 and (deleted > 0.7).all() and (installed < 0.3).all()
    one = int(np.flatnonzero(result.factors == 1)[0])
    assert_close(result.slope[:, one], np.ones_like(result.slope[:, one]), rtol=0, atol=1e-5)
    assert (result.slope[:2, result.at(-1.0)] > -0.5).all()  # a block's flip does not reverse it
    assert (result.forget_distance[3] < 0.6 * result.forget_distance[0]).all()
    assert "Transformer" in result.summary() and len(figures.surgery(result).axes) == 4


def test_configurations_say_what_is_wrong():
    with pytest.raises(ValueError, match="factors"):
        SurgeryConfig(factors=(1.0,))
    with pytest.raises(ValueError, match="seeds"):
        SurgeryConfig(seeds=())


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, claim in CLAIMS.items()
        if name.startswith("survey-surgery-") and claim.kind == "identity"
    ],
)
def test_identities_hold(name):
    assert CLAIMS[name].check(Scale.LESSON).verdict == Verdict.HOLDS
