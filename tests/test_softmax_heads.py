"""Two softmax heads and one centred step of gradient descent; what one head cannot do.

Expected values come from loops in NumPy that share no code with the package.
"""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.experiments.softmax_heads import (
    KINDS,
    SoftmaxHeadsConfig,
    SoftmaxTraining,
    softmax_heads,
    softmax_weights,
)
from icl_lessons.gradient_descent.figures import softmax_heads as figures
from icl_lessons.gradient_descent.one_step import LinearSelfAttentionLearner
from icl_lessons.gradient_descent.population_loss import best_single_step
from icl_lessons.gradient_descent.softmax_heads import (
    CentredDescent,
    NormalisedAttentionLearner,
    SoftmaxAttentionLearner,
    best_centred_step,
    best_output_scales,
    remainder_coefficient,
    score_matrices,
    softmax_average,
    softmax_layer,
    two_softmax_heads,
)
from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.models.attention import SelfAttention
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task
from icl_lessons.types import Batch, Learner


def draw(seed, n, d, m):
    """A context whose inputs and targets have means other than zero, a query, and ``W_0``."""
    rng = np.random.default_rng(seed)
    shapes = (n, d), (n, m), (d,), (m, d)
    xs, ys, query, start = (rng.standard_normal(shape) for shape in shapes)
    return xs + 0.5, ys + 1.0, query, start


def tensors(xs, ys, query):
    return (
        torch.from_numpy(xs)[None],
        torch.from_numpy(ys)[None],
        torch.from_numpy(query)[None, None],
    )


def two_heads_by_hand(xs, ys, query, start, step_size, eps):
    heads = []
    for sign in (1, -1):
        weights = [np.exp(sign * eps * (x @ query)) for x in xs]
        residuals = [y - start @ x for x, y in zip(xs, ys, strict=True)]
        heads.append(sum(w * r for w, r in zip(weights, residuals, strict=True)) / sum(weights))
    return start @ query + step_size / (2 * eps) * (heads[0] - heads[1])


def centred_step_by_hand(xs, ys, query, start, step_size):
    residuals = ys - xs @ start.T
    covariance = np.zeros((ys.shape[1], xs.shape[1]))
    for x, r in zip(xs, residuals, strict=True):
        covariance += np.outer(r - residuals.mean(0), x - xs.mean(0)) / len(xs)
    return (start + step_size * covariance) @ query


CASES = given(
    st.integers(0, 2**31), st.integers(2, 15), st.integers(1, 5), st.integers(1, 3), st.booleans()
)


@CASES
@settings(max_examples=25, deadline=None)
def test_two_heads_compute_what_is_written_and_approach_the_centred_step(seed, n, d, m, from_zero):
    xs, ys, query, start = draw(seed, n, d, m)
    start = start * (not from_zero)
    w0 = None if from_zero else torch.from_numpy(start)
    context = tensors(xs, ys, query)
    expected = centred_step_by_hand(xs, ys, query, start, 0.7)
    got = CentredDescent(0.7, 1, w0)(*context)[0, 0].numpy()
    assert np.abs(got - expected).max() < 1e-11 * max(1, np.abs(expected).max())
    for eps in (1.5, 1e-3):
        learner = two_softmax_heads(d, m, 0.7, eps, w0)
        assert isinstance(learner, Learner)
        by_hand = two_heads_by_hand(xs, ys, query, start, 0.7, eps)
        assert np.abs(learner(*context)[0, 0].numpy() - by_hand).max() < 1e-9
    # The leading remainder, eta eps^2 / 6 times a fourth cumulant, at the last eps.
    rest = 0.7 * eps**2 / 6 * remainder_coefficient(context[0], ys_less(context, start), context[2])
    size = 1 + np.abs(xs @ query).max() ** 5 * np.abs(ys - xs @ start.T).max()
    error = np.abs(by_hand - expected - rest[0, 0].numpy()).max()
    assert error < 50 * eps**4 * size + 1e-9


def ys_less(context, start):
    return context[1] - context[0] @ torch.from_numpy(start).mT


@pytest.mark.parametrize("from_zero", [True, False])
def test_the_error_falls_with_the_square_of_the_score_scale(from_zero):
    xs, ys, query, start = draw(4, 9, 3, 1)
    w0 = None if from_zero else torch.from_numpy(start)
    context = tensors(xs, ys, query)
    step = CentredDescent(0.7, 1, w0)(*context)
    scales = np.array([0.3, 0.1, 0.03, 0.01])
    errors = [(two_softmax_heads(3, 1, 0.7, e, w0)(*context) - step).abs().max() for e in scales]
    slopes = np.diff(np.log(errors)) / np.diff(np.log(scales))
    assert abs(slopes[-1] - 2) < 0.01 and (abs(slopes - 2) < 0.2).all()


@CASES
@settings(max_examples=20, deadline=None)
def test_layers_of_two_heads_approach_as_many_centred_steps(seed, n, d, m, from_zero):
    xs, ys, query, start = draw(seed, n, d, m)
    w0 = None if from_zero else torch.from_numpy(start)
    size = 0.5 / np.linalg.eigvalsh(np.cov(xs.T, bias=True).reshape(d, d)).max()
    eps = 1e-4 / max(1, np.abs(xs).max() ** 2)
    context = tensors(xs, ys, query)
    got = two_softmax_heads(d, m, float(size), eps, w0, steps=3)(*context)
    expected = CentredDescent(float(size), 3, w0)(*context)
    assert_close(got, expected, rtol=1e-5, atol=1e-5 * (1 + expected.abs().max().item()))


@CASES
@settings(max_examples=15, deadline=None)
def test_the_centred_step_is_the_plain_one_where_a_mean_is_zero(seed, n, d, m, from_zero):
    xs, ys, query, start = draw(seed, n, d, m)
    w0 = None if from_zero else torch.from_numpy(start)
    xs -= xs.mean(0)
    ys -= ys.mean(0)
    context = tensors(xs, ys, query)
    assert_close(
        CentredDescent(0.3, 2, w0)(*context),
        GradientDescent(0.3, 2, w0)(*context),
        rtol=1e-9,
        atol=1e-9,
    )
    context = tensors(xs + 1, ys + 1, query)
    plain, centred = GradientDescent(0.3)(*context), CentredDescent(0.3)(*context)
    # From zero weights they differ by eta y_mean (x_mean . x_q), and both means are 1 here.
    assert_close(plain - centred, torch.full_like(plain, 0.3 * query.sum()), rtol=1e-9, atol=1e-9)


def test_planted_errors_are_noticed():
    """Heads averaged instead of subtracted, one head alone, and 1/N written once more."""
    xs, ys, query, start = draw(7, 6, 3, 2)
    context, w0 = tensors(xs, ys, query), torch.from_numpy(start)
    eps, step = 1e-3, 0.7
    expected = centred_step_by_hand(xs, ys, query, start, step)
    write = step / (2 * eps)
    planted = {
        "averaged": ((eps, -eps), (write, write)),
        "one head": ((eps,), (step / eps,)),
        "same scores": ((eps, eps), (write, -write)),
        "divided by N again": ((eps, -eps), (write / 6, -write / 6)),
    }
    right = SoftmaxAttentionLearner([softmax_layer((eps, -eps), (write, -write), 3, 2, w0)], 3, w0)
    assert np.abs(right(*context)[0, 0].detach().numpy() - expected).max() < 1e-4
    for name, (scores, outputs) in planted.items():
        learner = SoftmaxAttentionLearner([softmax_layer(scores, outputs, 3, 2, w0)], 3, w0)
        assert np.abs(learner(*context)[0, 0].detach().numpy() - expected).max() > 1e-2, name


@pytest.mark.parametrize("n_context", [2, 5, 10])
@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_the_closed_form_of_the_best_centred_step(n_context, law):
    task = LinearRegression(d=4, input_law=law)
    best = best_centred_step(task, n_context)
    batch = task.sample(200_000, n_context, generator=seeded(1))

    def loss(step_size):
        return mean_squared_error(CentredDescent(step_size), batch)

    low, middle, high = (loss(c * best.step_size) for c in (0.8, 1.0, 1.2))
    assert middle == pytest.approx(best.loss, rel=0.02)
    assert 1 + 0.2 * (low - high) / (2 * (low + high - 2 * middle)) == pytest.approx(1, abs=0.02)
    assert best.loss > best_single_step(task, n_context).loss
    with pytest.raises(ValueError, match="n_context"):
        best_centred_step(task, 1)
    with pytest.raises(ValueError, match="noise_std"):
        best_centred_step(LinearRegression(d=2, noise_std=0.1), 4)


@pytest.mark.parametrize("layers, heads", [(1, 1), (1, 3), (2, 1), (3, 2)])
@pytest.mark.parametrize("from_zero", [True, False])
def test_the_short_way_equals_the_token_path(layers, heads, from_zero):
    xs, ys, query, start = draw(3, 6, 4, 2)
    w0 = None if from_zero else torch.from_numpy(start)
    stack = [
        SelfAttention(
            6, heads, 5, "softmax", init_std=0.5, generator=seeded(i), dtype=torch.float64
        )
        for i in range(layers)
    ]
    learner = SoftmaxAttentionLearner(stack, 4, w0)
    xs, ys, query = tensors(xs, ys, query)
    query = torch.cat([query, 2 * query, -query], 1)
    path = learner.token_path(xs, ys, query)
    assert_close(learner(xs, ys, query), -path[-1, :, 6:, 4:], rtol=1e-12, atol=1e-12)


def test_the_best_output_scales_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    averages, targets = rng.standard_normal((50, 2)), rng.standard_normal(50)
    scales, loss = best_output_scales(torch.from_numpy(averages), torch.from_numpy(targets))
    expected = np.linalg.lstsq(averages, targets, rcond=None)[0]
    assert np.abs(scales.numpy() - expected).max() < 1e-12
    assert loss == pytest.approx(0.5 * ((averages @ expected - targets) ** 2).mean())
    scores = torch.tensor([[[0.0, np.log(3.0)]]], dtype=torch.float64)
    average = softmax_average(scores, torch.tensor([[[4.0], [8.0]]], dtype=torch.float64))
    assert average.item() == pytest.approx(7.0)


def test_the_layer_behind_layer_norm():
    xs, ys, query, _ = draw(5, 6, 4, 1)
    layer = SelfAttention(5, init_std=0.5, generator=seeded(2), dtype=torch.float64)
    learner = NormalisedAttentionLearner(LinearSelfAttentionLearner([layer], 4))
    learner.norm.bias.data.normal_(generator=seeded(3))
    gain, offset = learner.norm.weight.detach().numpy(), learner.norm.bias.detach().numpy()

    def normal(token):
        return gain * (token - token.mean()) / np.sqrt(token.var() + 1e-5) + offset

    key_query = layer.key_query()[0].detach().numpy()
    write = layer.projection_value()[0, -1].detach().numpy()
    e_q = normal(np.append(query, 0.0))
    tokens = [normal(np.append(x, y)) for x, y in zip(xs, ys, strict=True)]
    expected = -sum((write @ e) * (e @ key_query @ e_q) for e in tokens)
    got = learner(*tensors(xs, ys, query))
    assert got.item() == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="attention"):
        NormalisedAttentionLearner(LinearSelfAttentionLearner([layer, layer], 4))


def test_wrong_arguments_are_named(as_readers_run_it):
    for change in ({"score_scale": 0.0}, {"step_size": -1.0}, {"steps": 0}, {"d": 0}):
        arguments = {"d": 3, "m": 1, "step_size": 0.5, "score_scale": 0.1} | change
        with pytest.raises(ValueError, match=next(iter(change))):
            two_softmax_heads(**arguments)
    with pytest.raises(ValueError, match="output_scales: 1 for 2"):
        softmax_layer((0.1, -0.1), (1.0,), 2, 1)
    with pytest.raises(ValueError, match="learning_rate"):
        SoftmaxTraining(learning_rate=0.0)


# --- trained ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    config = SoftmaxHeadsConfig()
    assert softmax_weights.is_stored(config.training)
    return softmax_heads(config)


def test_two_heads_nearly_match_one_step_and_one_head_does_not(lesson):
    assert all(len(losses) >= 3 for losses in lesson.losses.values())
    assert (lesson.losses["one_head"] > 1.15 * lesson.losses["two_heads"]).all()
    assert (lesson.losses["one_head"] > 0.99 * lesson.best_one_head.min()).all()
    assert (lesson.losses["two_heads"] < 1.1 * lesson.descent_loss).all()
    assert (lesson.losses["layer_norm"] > 1.1 * lesson.descent_loss).all()
    assert lesson.best_two_heads[0] == pytest.approx(lesson.centred_loss, rel=0.01)


def test_the_heads_are_opposite_and_their_off_diagonals_cancel(lesson):
    assert (lesson.output_scales.prod(1) < 0).all()
    assert (lesson.off_diagonal_of_sum < lesson.off_diagonal.min(1) / 3).all()
    ratio = lesson.first_order_step_size / lesson.best_centred_step_size
    assert (abs(ratio - 1) < 0.2).all()


def test_a_learner_and_its_mirror_image_have_one_loss_on_the_validation_tasks(lesson):
    """Scores of the other sign and outputs of the other sign: chance must not choose between."""
    model = lesson.models["one_head"][0]
    other = SelfAttention.from_matrices(
        -model.layers[0].w_query, *model.layers[0].matrices[1:3], -model.layers[0].projection,
        kind="softmax",
    )  # fmt: skip
    batch = SoftmaxTraining(n_validation=300).validation()
    mirrored = SoftmaxAttentionLearner([other], 10)
    with torch.no_grad():
        # A weight that reads targets breaks the symmetry: take those out of both.
        for layer in (model.layers[0], other):
            layer.w_query[..., -1] = layer.w_key[..., -1] = layer.w_value[..., :-1] = 0
    assert mean_squared_error(mirrored, batch) == pytest.approx(
        mean_squared_error(model, batch), rel=1e-4
    )


def test_a_tiny_training_runs_and_every_panel_is_drawn():
    training = SoftmaxTraining(d=3, n_context=4, steps=4, validate_every=2, n_validation=50)
    config = SoftmaxHeadsConfig(training=training, score_scales=(0.5, 2), seeds=(0, 1))
    result = softmax_heads(config)
    assert set(result.losses) == set(KINDS)
    assert all(path.shape == (2, 3) for path in result.paths.values())
    assert result.products.shape == (2, 2, 3, 3)
    layer = result.models["two_heads"][0].layers[0]
    expected = score_matrices(layer)[1, :3, :3] * layer.projection_value()[1, -1, -1]
    assert np.allclose(result.products[0, 1], expected.numpy())
    assert "one step" in result.summary()
    figure = figures.softmax_heads(result)
    assert all(ax.has_data() for ax in figure.axes)


def test_the_declared_scales():
    from icl_lessons.declare import EXPERIMENTS

    paper = EXPERIMENTS["softmax_heads"].configs[Scale.PAPER]
    assert paper.training.batch_size == 2048 and len(paper.seeds) == 5
    assert dataclasses.replace(paper, seeds=(1,)).seeds == (1,)
    batch = von_oswald_task().sample(3, 10, generator=seeded(0))
    assert isinstance(batch, Batch)
