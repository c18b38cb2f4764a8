"""The trainable layer of multi-head softmax attention, its pattern, and what debiasing costs."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.declare import EXPERIMENTS, result_of
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.preconditioned_law import (
    optimal_preconditioner,
    preconditioned_population_loss,
)
from icl_lessons.implicit_dynamics.debiased_descent import DebiasedDescent, SoftmaxHeads
from icl_lessons.implicit_dynamics.experiments.multi_head_softmax import MultiHeadSoftmaxConfig
from icl_lessons.implicit_dynamics.experiments.multi_head_softmax_models import (
    HeadsTraining,
    heads_weights,
    trained_layers,
)
from icl_lessons.implicit_dynamics.figures import multi_head_softmax as figures
from icl_lessons.implicit_dynamics.multi_head_softmax import (
    MultiHeadLayer,
    best_step,
    contrasts,
    heads_predictions,
    read_pattern,
)
from icl_lessons.measures.agreement import relative_error, squared_error
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression


def contexts(seed, d=3, n=8, batch=4, n_query=2):
    task = LinearRegression(d=d, n_query=n_query, noise_std=0.3)
    return task.sample(batch, n, generator=seeded(seed), dtype=torch.float64)


def normal(seed, *shape):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def by_hand(layer, xs, ys, x_query):
    """The formula with loops over contexts, queries and heads."""
    answer = torch.zeros(*x_query.shape[:2], 1, dtype=xs.dtype)
    for b in range(len(xs)):
        tokens = torch.cat([xs[b], ys[b]], -1)
        for q in range(x_query.shape[1]):
            for matrix, read in zip(layer.key_query, layer.read_out, strict=True):
                scores = tokens @ matrix @ x_query[b, q]
                if layer.attention == "softmax":
                    weights = scores.exp() / scores.exp().sum()
                else:
                    weights = scores / len(tokens)
                answer[b, q] += weights @ tokens @ read
    return answer


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**20),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 9),
    st.sampled_from(["softmax", "linear"]),
)
def test_the_layer_is_its_formula(seed, heads, d, n, attention):
    layer = MultiHeadLayer(
        d, heads, attention, start_size=0.7, generator=seeded(seed), dtype=torch.float64
    )
    batch = contexts(seed, d, n)
    with torch.no_grad():
        assert relative_error(layer(*batch.context), by_hand(layer, *batch.context)) < 1e-12


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9))
def test_a_layer_that_holds_the_pattern_is_the_pattern(seed, heads, d, n):
    learner = SoftmaxHeads(normal(seed, heads), normal(seed + 1, heads))
    layer = MultiHeadLayer.from_pattern(learner, d)
    batch = contexts(seed, d, n)
    assert relative_error(layer(*batch.context), learner(*batch.context)) < 1e-12
    pattern = layer.pattern
    assert torch.equal(layer.heads_alone.mu, learner.mu)
    assert (pattern.omega - learner.omega).abs().max() < 1e-14
    assert pattern.stray.max() < 1e-14 and (pattern.label_share - 1).abs().max() < 1e-14


def test_what_does_not_belong_to_the_pattern_is_measured():
    layer = MultiHeadLayer.from_pattern(SoftmaxHeads(torch.ones(1), torch.ones(1)), 4)
    layer.key_query[0, 0, 1] = 2.0  # |W|^2 = 4 + 4, the half of it beside the diagonal
    layer.read_out[0, 0] = 1.0
    assert layer.pattern.stray.item() == pytest.approx(0.5**0.5)
    assert layer.pattern.label_share.item() == pytest.approx(0.5**0.5)
    layer.key_query[0, 4, 0] = 2.0  # and the target as a key
    assert layer.pattern.stray.item() == pytest.approx((8 / 12) ** 0.5)


def test_many_layers_at_once_are_each_of_them():
    layers = [MultiHeadLayer(3, 2, generator=seeded(i), dtype=torch.float64) for i in range(3)]
    batches = [contexts(i) for i in range(3)]
    key_query = torch.stack([layer.key_query for layer in layers])
    read_out = torch.stack([layer.read_out for layer in layers])
    examples = torch.stack([torch.cat([b.xs, b.ys], -1) for b in batches])
    together = heads_predictions(
        key_query, read_out, examples, torch.stack([b.x_query for b in batches])
    )
    patterns = read_pattern(key_query, read_out)
    for i, (layer, batch) in enumerate(zip(layers, batches, strict=True)):
        assert relative_error(together[i], layer(*batch.context)[..., 0]) < 1e-14
        assert torch.equal(patterns.omega[i], layer.pattern.omega)


@pytest.mark.parametrize("heads", [2, 4])
def test_the_opposite_start_has_both_signs_and_the_random_rest(heads):
    options = {"start_size": 0.1, "dtype": torch.float64}
    layer = MultiHeadLayer(3, heads, start="opposite", generator=seeded(1), **options)
    drawn = MultiHeadLayer(3, heads, generator=seeded(1), **options)
    signs = 0.1 * torch.tensor([1.0, -1.0] * (heads // 2), dtype=torch.float64)
    assert torch.allclose(layer.pattern.omega, signs) and torch.equal(layer.pattern.mu, signs)
    assert torch.equal(layer.key_query[:, 0, 1], drawn.key_query[:, 0, 1])
    assert not torch.allclose(drawn.pattern.omega, signs)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(2, 12))
def test_a_debiased_step_is_a_plain_one_on_one_example_fewer(seed, d, n):
    xs, ys, x_query = contexts(seed, d, n).context
    plain = GradientDescent(0.9 * (n - 1) / n)(contrasts(xs), contrasts(ys), x_query)
    assert relative_error(plain, DebiasedDescent(0.9)(xs, ys, x_query)) < 1e-12


def test_contrasts_are_orthonormal_and_see_no_mean():
    rows = contrasts(torch.eye(6, dtype=torch.float64)[None])[0]
    assert torch.allclose(rows @ rows.T, torch.eye(5, dtype=torch.float64), atol=1e-14)
    assert rows.sum(1).abs().max() < 1e-14


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 12), st.integers(2, 80), st.floats(0, 3))
def test_the_best_plain_step_is_that_of_the_law_of_contexts(d, n, noise):
    law = (torch.eye(d, dtype=torch.float64), n, noise, 1 / d)
    best = best_step(d, n, noise)
    matrix = optimal_preconditioner(*law)
    assert relative_error(best.step_size * torch.eye(d, dtype=torch.float64), matrix) < 1e-12
    exact = 2 * preconditioned_population_loss(matrix, *law) + noise
    assert exact.item() == pytest.approx(best.loss, rel=1e-12)


def test_the_best_debiased_step_against_samples():
    task = LinearRegression(d=3, noise_std=0.5, task_scale=3**-0.5, n_query=4)
    batch = task.sample(40_000, 6, generator=seeded(3), dtype=torch.float64)
    best = best_step(3, 6, 0.25, debiased=True)
    target = batch.x_query @ batch.weights.mT

    def loss(step):
        answer = DebiasedDescent(step)(*batch.context)
        return (answer - target).square().mean().item() + 0.25

    assert loss(best.step_size) == pytest.approx(best.loss, rel=0.01)
    assert loss(best.step_size) < min(loss(0.9 * best.step_size), loss(1.1 * best.step_size))


def test_mistakes_are_refused(as_readers_run_it):
    with pytest.raises(ValueError, match="start: got 'zero'"):
        MultiHeadLayer(3, 2, start="zero")
    with pytest.raises(ValueError, match="attention: got 'cosine'"):
        MultiHeadLayer(3, 2, "cosine")
    with pytest.raises(ValueError, match="n_context: got 1"):
        best_step(3, 1, debiased=True)
    with pytest.raises(ValueError, match="n: got 1"):
        contrasts(torch.ones(2, 1, 3))


# --- the experiment -----------------------------------------------------------------------------


TINY = HeadsTraining(
    d=2,
    n_context=6,
    variances=(0.5, 1.5),
    stages=((1e-2, 6), (1e-3, 4)),
    batch_size=8,
    n_starts=3,
    start_steps=5,
    start_batch=8,
    keep_every=4,
    seeds=(0, 1),
)


def test_a_seed_gives_the_same_layer_whatever_is_trained_beside_it():
    state = heads_weights(TINY)
    other = heads_weights(replace(TINY, seeds=(1, 5)))
    for design in TINY.designs:
        for name in ("key_query", "read_out"):
            both = (state, 1), (other, 0)
            mine, theirs = (weights[f"{design.name}.{name}"][row] for weights, row in both)
            assert torch.allclose(mine, theirs, atol=1e-6)
    # Steps 0, 4, 8 and the end; the random starts of two heads are those of the first program.
    assert state["2 heads.omega"].shape == (4, 2, 2)
    assert torch.equal(state["2 heads.omega"][0], state["starts.2 heads.omega"][0, :2])


def test_the_kept_pattern_is_that_of_the_weights():
    state = heads_weights(TINY)
    for design in TINY.designs:
        for i, layer in enumerate(trained_layers(state, TINY, design)):
            assert torch.equal(layer.pattern.omega, state[f"{design.name}.omega"][-1, i])
            assert torch.equal(layer.pattern.mu, state[f"{design.name}.mu"][-1, i])


@pytest.fixture(scope="module")
def result():
    return result_of("multi_head_softmax", "lesson")


def test_losses_are_those_of_the_layers(result):
    config = EXPERIMENTS["multi_head_softmax"].configs[Scale.LESSON]
    batch = replace(config.task, n_query=20).sample(4000, 40, generator=seeded(11))
    for name in ("1 head", "4 heads", "linear attention"):
        loss = squared_error(result.layers[name][0], batch)
        assert loss == pytest.approx(result.loss[result.designs.index(name), 1, 0], rel=0.04)
    assert result.plain[1] < result.loss[-1, 1].min() < 1.01 * result.plain[1]
    assert np.allclose(result.undivided[1], result.loss[-1, 1])
    assert (result.undivided[-1] > 5 * result.loss[-1, -1]).all()


def test_the_pattern_that_training_finds(result):
    four = result.row(4)
    assert result.opposed[four].all() and (result.sum_of_outputs[four] < 0.1).all()
    assert not result.opposed[result.row(1)].any()
    assert (result.from_pattern[four] < result.from_debiased[four]).all()
    stuck, end = result.one_sign[0], result.start_loss[0, -1]
    assert end[stuck].min() > 1.2 * np.median(end[~stuck])


def test_a_constant_on_the_labels_is_seen_by_those_that_are_not_debiased(result):
    rise = result.label_loss[:, -1] - result.label_loss[:, 0]
    shift = result.label_shifts[-1]
    best = best_step(5, 40, 0.1)
    expected = (best.step_size * shift) ** 2 * 5 / 40  # E (eta c mean(x).x_q)^2
    assert rise[result.shifted.index("best plain step")] == pytest.approx(expected, rel=0.1)
    assert abs(rise[result.shifted.index("best debiased step")]).max() < 1e-5


def test_figures_and_summary(result):
    fig = EXPERIMENTS["multi_head_softmax"].figure(result)
    assert len(fig.axes) == 6 and all(ax.get_title(loc="left") for ax in fig.axes)
    _, ax = plt.subplots()
    figures.draw_key_query(ax, result)
    plt.close("all")
    assert "best debiased step" in result.summary()


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="heads: got"):
        MultiHeadSoftmaxConfig(heads=(2, 4))
    with pytest.raises(ValueError, match="variances: got 5"):
        MultiHeadSoftmaxConfig(d=3)
    with pytest.raises(ValueError, match="lengths: got"):
        MultiHeadSoftmaxConfig(lengths=(20, 80))
    with pytest.raises(ValueError, match="label_shifts: got"):
        MultiHeadSoftmaxConfig(label_shifts=(1.0,))
