"""Layers for every loss: against textbook loops in NumPy and automatic differentiation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
    cosine_loss,
    curl,
    gradient_step,
    huber_loss,
    huber_units,
    recovered_loss,
    weighted,
)
from icl_lessons.types import Learner

SIZES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "d": st.integers(1, 7),
        "m": st.integers(2, 4),
        "n": st.integers(1, 20),
        "loss": st.sampled_from([*INNER_LOSSES, "small huber"]),
        "step_size": st.floats(-1.0, 1.0),
        "leak": st.floats(0.0, 2.0),
        "metric": st.booleans(),
        "weights": st.sampled_from(["none", "shared", "each"]),
        "layers": st.integers(1, 3),
    }
)


def loss_named(name):
    return huber_loss(0.2) if name == "small huber" else INNER_LOSSES[name]


def draw(seed, d, m, n):
    rng = np.random.default_rng(seed)
    shapes = (3, n, d), (3, n, m), (3, 2, d), (3, m, d), (d, d), (3, n)
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes]


def value_by_hand(name, p, y):
    """Minus the gradient of the loss of one prediction, as a textbook writes it."""
    r = y - p
    if name == "squared":
        return r
    if name == "sign_flipped":
        return -r
    if name == "absolute":
        return np.sign(r)
    if name == "huber":
        return np.clip(r, -1, 1)
    if name == "small huber":
        return np.clip(r, -0.2, 0.2)
    p_unit, y_unit = p / np.linalg.norm(p), y / np.linalg.norm(y)
    return (y_unit - (p_unit @ y_unit) * p_unit) / np.linalg.norm(p)


@given(SIZES)
@settings(max_examples=15, deadline=None)
def test_a_layer_is_the_textbook_step_example_by_example(case):
    xs, ys, x_query, start, metric, c = draw(*(case[k] for k in ("seed", "d", "m", "n")))
    gamma = metric if case["metric"] else None
    weights = {"none": None, "shared": c[0], "each": c}[case["weights"]]
    layer = ObjectiveLayer(
        loss_named(case["loss"]).value, case["step_size"], gamma, case["leak"], weights
    )
    got = ObjectiveStack((layer,), start)(xs, ys, x_query)
    for b in range(3):
        step = np.zeros((case["m"], case["d"]))
        for i in range(case["n"]):
            x = xs[b, i].numpy()
            value = value_by_hand(case["loss"], start[b].numpy() @ x, ys[b, i].numpy())
            scale = {"none": 1.0, "shared": c[0, i].item(), "each": c[b, i].item()}
            step += scale[case["weights"]] * np.outer(value, x) / case["n"]
        if gamma is not None:
            step = step @ gamma.numpy()
        kept = 1 - case["step_size"] * case["leak"]
        after = kept * start[b].numpy() + case["step_size"] * step
        expected = x_query[b].numpy() @ after.T
        assert np.abs(got[b].numpy() - expected).max() <= 1e-12 * max(1, np.abs(expected).max())


@given(SIZES)
@settings(max_examples=15, deadline=None)
def test_layers_in_a_row_are_steps_by_automatic_differentiation(case):
    xs, ys, x_query, start, metric, c = draw(*(case[k] for k in ("seed", "d", "m", "n")))
    loss, size = loss_named(case["loss"]), 0.3 * case["step_size"]
    changes = {"leak": case["leak"], "example_weights": c.abs()}
    changes["preconditioner"] = metric if case["metric"] else None
    stack = ObjectiveStack((ObjectiveLayer(loss.value, size, **changes),) * case["layers"], start)
    for k in range(case["layers"] + 1):
        expected = x_query @ start.mT
        assert_close(stack.after(k)(xs, ys, x_query), expected, rtol=1e-9, atol=1e-9)
        start = gradient_step(loss, start, xs, ys, size, **changes)


@given(SIZES)
@settings(max_examples=15, deadline=None)
def test_the_layer_is_linear_attention(case):
    xs, ys, x_query, start, metric, c = draw(*(case[k] for k in ("seed", "d", "m", "n")))
    layer = ObjectiveLayer(
        loss_named(case["loss"]).value,
        case["step_size"],
        metric if case["metric"] else None,
        case["leak"],
        None if case["weights"] == "none" else c,
    )
    tokens = xs, ys, xs @ start.mT, x_query, x_query @ start.mT
    for one, two in zip(layer.as_attention(*tokens), layer(*tokens), strict=True):
        assert_close(one, two, rtol=1e-11, atol=1e-11)


def test_on_the_squared_loss_the_stack_is_gradient_descent():
    xs, ys, x_query, start, *_ = draw(0, 4, 2, 9)
    stack = ObjectiveStack((ObjectiveLayer(INNER_LOSSES["squared"].value, 0.4),) * 5, start)
    assert isinstance(stack, Learner)
    expected = GradientDescent(0.4, 5, start)(xs, ys, x_query)
    assert_close(stack(xs, ys, x_query), expected, rtol=1e-12, atol=1e-12)


def test_shrinking_after_the_step_is_not_ridge():
    xs, ys, x_query, start, *_ = draw(1, 3, 2, 8)
    size, leak = 0.5, 0.8
    ridge = ObjectiveStack(
        (ObjectiveLayer(INNER_LOSSES["squared"].value, size, None, leak),), start
    )
    plain = ObjectiveStack((ObjectiveLayer(INNER_LOSSES["squared"].value, size),), start)
    after = (1 - size * leak) * plain(xs, ys, x_query)
    assert (ridge(xs, ys, x_query) - after).abs().max() > 1e-2


def test_example_weights_and_the_weighted_loss_are_the_same_layer():
    xs, ys, x_query, start, _, c = draw(2, 4, 2, 6)
    by_layer = ObjectiveLayer(INNER_LOSSES["absolute"].value, 0.3, example_weights=c)
    by_value = ObjectiveLayer(weighted(INNER_LOSSES["absolute"], c).value, 0.3)
    one, two = (ObjectiveStack((layer,), start)(xs, ys, x_query) for layer in (by_layer, by_value))
    assert_close(one, two)


@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
def test_two_relus_for_each_coordinate_clip(delta):
    p, y = 3 * torch.randn(2, 200, 3, generator=torch.manual_seed(3), dtype=torch.float64)
    network = huber_units(3, delta)
    assert network[0].out_features == 6
    assert_close(network(torch.cat([p, y], -1)), (y - p).clamp(-delta, delta), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [*INNER_LOSSES, "small huber"])
def test_values_are_minus_the_gradient_and_have_no_curl(name):
    p, y = torch.randn(2, 100, 3, generator=torch.manual_seed(4), dtype=torch.float64)
    at = p.clone().requires_grad_()
    loss = loss_named(name)
    (gradient,) = torch.autograd.grad(loss.loss(at, y).sum(), at)
    assert_close(loss.value(p, y), -gradient, rtol=1e-12, atol=1e-12)
    assert curl(loss.value, p, y).max() < 1e-10


@pytest.mark.parametrize("degrees", [10, 60, 90, 150])
def test_turned_residuals_have_the_curl_of_their_angle(degrees):
    angle = np.deg2rad(degrees)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    p, y, through = torch.randn(3, 50, 2, generator=torch.manual_seed(5), dtype=torch.float64)

    def value(p, y):
        return (y - p) @ turn.mT

    assert_close(curl(value, p, y), torch.full((50,), abs(np.sin(angle)), dtype=p.dtype))
    gap = recovered_loss(value, p, y) - recovered_loss(value, p, y, through=through)
    assert gap.abs().mean() > 0.1


def test_the_recovered_loss_is_the_loss():
    p, y, through = torch.randn(3, 100, 3, generator=torch.manual_seed(6), dtype=torch.float64)
    squared = INNER_LOSSES["squared"]
    for way in (None, through):
        got = recovered_loss(squared.value, p, y, through=way, nodes=4)
        assert_close(got, squared.loss(p, y), rtol=1e-12, atol=1e-12)
    huber = huber_loss(0.5)
    got = recovered_loss(huber.value, p, y, nodes=200)
    assert_close(got, huber.loss(p, y), rtol=1e-3, atol=1e-3)


SQUARED = INNER_LOSSES["squared"]


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda *_: ObjectiveLayer(SQUARED, 0.1), TypeError, "value: got InnerLoss"),
        (lambda *_: ObjectiveLayer(SQUARED.value, "0.1"), TypeError, "step_size: got '0.1'"),
        (
            lambda *_: ObjectiveLayer(SQUARED.value, 0.1, torch.ones(2, 3)),
            ValueError,
            "preconditioner: got shape",
        ),
        (
            lambda xs, ys: ObjectiveLayer(SQUARED.value, 0.1, torch.eye(7)).weight_step(xs, ys, ys),
            ValueError,
            "preconditioner: made for 7 coordinates; xs has 3",
        ),
        (
            lambda xs, ys: ObjectiveLayer(SQUARED.value, 0.1).weight_step(xs, ys, ys[:, 1:]),
            ValueError,
            "p_context: got shape",
        ),
        (lambda *_: ObjectiveStack(SQUARED), TypeError, "layers: got InnerLoss"),
        (lambda *_: weighted("squared", torch.ones(3)), TypeError, "loss: got 'squared'; use an"),
        (
            lambda xs, ys: gradient_step(SQUARED, torch.ones(2, 2, 2), xs, ys, 0.1),
            ValueError,
            "weights: got shape",
        ),
        (lambda xs, ys: curl(SQUARED.value, ys[0], ys[0, 1:]), ValueError, "target: got shape"),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, make, error, sentence):
    xs, ys, *_ = draw(7, 3, 2, 5)
    with pytest.raises(error, match=sentence):
        make(xs, ys)


def test_bad_input_is_named():
    xs, ys, x_query, *_ = draw(7, 3, 2, 5)
    with pytest.raises(ValueError, match="prediction: a vector of length 0"):
        ObjectiveStack((ObjectiveLayer(cosine_loss().value, 0.1),))(xs, ys, x_query)
    with pytest.raises(ValueError, match="delta"):
        huber_loss(0.0)
    with pytest.raises(ValueError, match="example_weights"):
        layer = ObjectiveLayer(INNER_LOSSES["squared"].value, 0.1, example_weights=torch.ones(4))
        ObjectiveStack((layer,))(xs, ys, x_query)
    with pytest.raises(ValueError, match="k: got 2"):
        ObjectiveStack((ObjectiveLayer(INNER_LOSSES["squared"].value, 0.1),)).after(2)
