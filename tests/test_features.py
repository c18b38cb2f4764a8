"""Features in front of attention: exact for any feature map, and the trained network's pieces.

Expected values come from loops in NumPy that share no code with the package.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import EXPERIMENTS
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.experiments.features import (
    SinusoidFeaturesConfig,
    SinusoidTraining,
    sinusoid_features,
    sinusoid_weights,
)
from icl_lessons.gradient_descent.features import (
    FeatureDescent,
    KernelSmoothing,
    SinusoidNetwork,
    TokenMLP,
    best_step_on_sine_and_cosine,
    feature_attention,
    sine_and_cosine,
)
from icl_lessons.gradient_descent.figures import features as figures
from icl_lessons.gradient_descent.one_step import gradient_descent_attention
from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.sinusoids import Sinusoids
from icl_lessons.types import Learner


def random_features(seed, d, features):
    """A feature map that is nothing special, for tensors and for one NumPy vector."""
    rng = np.random.default_rng(seed)
    inner, outer = (
        rng.standard_normal((features + 2, d)),
        rng.standard_normal((features, features + 2)),
    )
    inner_t, outer_t = torch.from_numpy(inner), torch.from_numpy(outer)
    return (
        lambda x: (x @ inner_t.mT).cos() @ outer_t.mT / features,
        lambda x: outer @ np.cos(inner @ x) / features,
    )


def descend_on_features(feature, xs, ys, query, step_size, steps, start):
    weights = start.copy()
    for _ in range(steps):
        gradient = np.zeros_like(weights)
        for x, y in zip(xs, ys, strict=True):
            gradient += np.outer(weights @ feature(x) - y, feature(x)) / len(xs)
        weights = weights - step_size * gradient
    return weights @ feature(query)


@st.composite
def cases(draw_from):
    size = {name: draw_from(st.integers(1, high)) for name, high in SIZES.items()}
    return size | {"seed": draw_from(st.integers(0, 2**31)), "start": draw_from(st.booleans())}


SIZES = {"d": 4, "features": 7, "m": 3, "n": 12, "steps": 4}


def data(case):
    rng = np.random.default_rng(case["seed"])
    xs, ys = (
        rng.standard_normal((case["n"], case["d"])),
        rng.standard_normal((case["n"], case["m"])),
    )
    query = rng.standard_normal(case["d"])
    start = case["start"] * rng.standard_normal((case["m"], case["features"]))
    return xs, ys, query, start


def tensors(xs, ys, query):
    return (
        torch.from_numpy(xs)[None],
        torch.from_numpy(ys)[None],
        torch.from_numpy(query)[None, None],
    )


@given(cases())
@settings(max_examples=25, deadline=None)
def test_features_then_attention_descend_on_features(case):
    feature_map, feature = random_features(case["seed"], case["d"], case["features"])
    xs, ys, query, start = data(case)
    expected = descend_on_features(feature, xs, ys, query, 0.3, case["steps"], start)
    w0 = torch.from_numpy(start)
    construction = feature_attention(
        feature_map, case["features"], case["m"], case["n"], 0.3, w0, case["steps"]
    )
    for learner in (construction, FeatureDescent(feature_map, 0.3, case["steps"], w0)):
        assert isinstance(learner, Learner)
        got = learner(*tensors(xs, ys, query))[0, 0].detach().numpy()
        assert np.abs(got - expected).max() < 1e-11 * max(1, np.abs(expected).max())


@given(cases())
@settings(max_examples=20, deadline=None)
def test_one_step_from_zero_smooths_and_more_steps_do_not(case):
    feature_map, feature = random_features(case["seed"], case["d"], case["features"])
    xs, ys, query, _ = data(case)
    kernel = [feature(x) @ feature(query) for x in xs]
    expected = 0.3 / len(xs) * sum(k * y for k, y in zip(kernel, ys, strict=True))
    got = KernelSmoothing(feature_map, 0.3)(*tensors(xs, ys, query))[0, 0].numpy()
    assert np.abs(got - expected).max() < 1e-12 * max(1, np.abs(expected).max())
    one, two = (FeatureDescent(feature_map, 0.3, k)(*tensors(xs, ys, query)) for k in (1, 2))
    assert_close(one[0, 0], torch.from_numpy(expected), rtol=1e-11, atol=1e-12)
    # Two steps: coefficients (2 - eta/N K) y, with the kernel matrix K of the context.
    gram = np.array([[feature(a) @ feature(b) for b in xs] for a in xs])
    coefficients = 0.3 / len(xs) * (2 * ys - 0.3 / len(xs) * gram @ ys)
    assert_close(two[0, 0].numpy(), np.array(kernel) @ coefficients, rtol=1e-10, atol=1e-12)


@given(cases())
@settings(max_examples=15, deadline=None)
def test_a_residual_mlp_on_tokens_is_such_a_feature_map(case):
    """The block of Proposition 2 written on whole tokens: inputs change, targets pass."""
    xs, ys, query, start = data(case)
    xs, ys, query = tensors(xs, ys, query)
    width, m = case["features"] + case["m"], case["m"]
    if case["d"] > case["features"]:
        return
    pad = torch.nn.functional.pad
    mlp = TokenMLP(width, 9, generator=seeded(case["seed"]), dtype=torch.float64).leave_targets(m)
    w0 = torch.from_numpy(start)

    def feature_map(x):
        return mlp(pad(x, (0, width - case["d"])))[..., : case["features"]]

    attention = gradient_descent_attention(case["features"], m, case["n"], 0.2, w0, case["steps"])
    wide = (0, case["features"] - case["d"])
    tokens = mlp(joint_tokens(pad(xs, wide), ys, pad(query, wide)))
    assert_close(tokens[:, : case["n"], case["features"] :], ys, rtol=0, atol=0)
    features, f_query = tokens[:, : case["n"], :-m], tokens[:, case["n"] :, :-m]
    got = attention(features, ys, f_query)
    expected = FeatureDescent(feature_map, 0.2, case["steps"], w0)(xs, ys, query)
    assert_close(got, expected, rtol=1e-10, atol=1e-11)
    if m == 1:
        assert_close(mlp.features(xs), feature_map(xs), rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m, n: feature_attention(m, 5, 1, n, 0.3 * n, steps=2),  # 1/N forgotten
        lambda m, n: gradient_descent_attention(2, 1, n, 0.3, steps=2),  # no features
        lambda m, n: lambda x, y, q: GradientDescent(0.3, 2)(m(x), y, m(q).roll(1, -1)),
        lambda m, n: KernelSmoothing(m, 0.3),  # one step where two are asked
    ],
)
def test_planted_errors_are_noticed(wrong):
    feature_map, feature = random_features(1, 2, 5)
    case = {"seed": 3, "n": 6, "d": 2, "m": 1, "features": 5, "start": False}
    xs, ys, query, start = data(case)
    expected = descend_on_features(feature, xs, ys, query, 0.3, 2, start)
    got = wrong(feature_map, 6)(*tensors(xs, ys, query))[0, 0].detach().numpy()
    assert np.abs(got - expected).max() > 1e-3


# --- sine curves --------------------------------------------------------------------------------


def test_a_sine_curve_is_linear_in_sine_and_cosine():
    batch = Sinusoids(n_query=3).sample(5, 8, generator=seeded(0), dtype=torch.float64)
    descent = FeatureDescent(sine_and_cosine, 1.0, 3000)
    assert_close(descent(*batch.context), batch.y_query, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("from_mean", [False, True])
@pytest.mark.parametrize("n_context", [1, 4, 10])
def test_the_closed_form_of_the_best_step_on_sine_and_cosine(n_context, from_mean):
    task = Sinusoids(half_range=1.7)
    best = best_step_on_sine_and_cosine(task, n_context, from_mean=from_mean)
    batch = task.sample(200_000, n_context, generator=seeded(1), dtype=torch.float64)
    start = torch.tensor([[0.0, from_mean * 0.3 * 2 / np.pi]], dtype=torch.float64)

    def loss(step_size):
        return mean_squared_error(FeatureDescent(sine_and_cosine, step_size, 1, start), batch)

    assert loss(0.0) == pytest.approx(best.loss_of_zero, rel=0.02)
    low, middle, high = (loss(c * best.step_size) for c in (0.9, 1.0, 1.1))
    assert middle == pytest.approx(best.loss, rel=0.02)
    lowest = 1 + 0.1 * (low - high) / (2 * (low + high - 2 * middle))  # of the parabola
    assert lowest == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="noise_std"):
        best_step_on_sine_and_cosine(Sinusoids(noise_std=0.1), 4)


# --- the trained network's pieces ---------------------------------------------------------------


def network(**options):
    net = SinusoidNetwork(6, 11, 7, generator=seeded(5), dtype=torch.float64, **options)
    net.embedding.data.mul_(5)  # as much bending as a trained network has
    if net.step_size is not None:
        net.step_size.data.fill_(0.8)
    return net


def context(n=7):
    return Sinusoids(n_query=3).sample(4, n, generator=seeded(6), dtype=torch.float64).context


def test_the_fixed_layer_is_a_step_on_features_and_transformed_targets():
    """It predicts a guess from the query alone, plus a step on what the MLP made of (x, y)."""
    net = network(attention="descent")
    xs, ys, x_query = context()
    features, targets = net.features(xs, ys)
    f_query, slot = net.features(x_query, torch.zeros_like(x_query))
    expected = -slot + GradientDescent(0.8)(features, targets, f_query)
    assert_close(net(xs, ys, x_query), expected, rtol=1e-12, atol=1e-12)
    planted = {
        "raw targets": -slot + GradientDescent(0.8)(features, ys, f_query),
        "features of x alone": -slot
        + GradientDescent(0.8)(net.features(xs, 0 * ys)[0], targets, f_query),
        "no guess": GradientDescent(0.8)(features, targets, f_query),
        "sign of the guess": slot + GradientDescent(0.8)(features, targets, f_query),
    }
    for name, wrong in planted.items():
        assert (wrong - expected).abs().max() > 1e-3, name


@pytest.mark.parametrize("options", [{}, {"mlp": False}, {"attention": "descent"}])
def test_the_forward_pass_is_that_of_the_layer_and_of_the_weights_as_arrays(options):
    net = network(**options)
    xs, ys, x_query = context()
    got = net(xs, ys, x_query).detach()
    w = net.weights()

    def token(x, y):
        e = w["embedding"] @ [x, y]
        if "w_in" not in w:
            return e
        h = w["w_in"] @ e + w["b_in"]
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        return e + w["w_out"] @ h + w["b_out"]

    for b in range(len(xs)):
        context_tokens = [token(*p) for p in zip(xs[b, :, 0], ys[b, :, 0], strict=True)]
        for q in range(3):
            e_q = token(x_query[b, q, 0], 0.0)
            update = sum(
                (w["projection_value"] @ e) * (e @ w["key_query"] @ e_q) for e in context_tokens
            )
            assert got[b, q, 0].item() == pytest.approx(-(e_q[-1] + update), rel=1e-10, abs=1e-12)
    if net.layer is not None:
        mask = torch.zeros(10, 10, dtype=torch.bool)
        mask[:, :7] = True
        tokens = net.tokens(*joint_tokens(xs, ys, x_query).split(1, -1))
        assert_close(got, -net.layer(tokens, mask)[:, 7:, -1:].detach(), rtol=1e-10, atol=1e-12)
    else:
        assert w["step_size"].item() == 0.8


def test_without_the_mlp_the_prediction_is_linear_in_the_query():
    xs, ys, x_query = context()
    plain, with_mlp = network(mlp=False), network()
    assert_close(plain(xs, ys, 2 * x_query), 2 * plain(xs, ys, x_query), rtol=1e-12, atol=1e-12)
    bent = with_mlp(xs, ys, 2 * x_query) - 2 * with_mlp(xs, ys, x_query)
    assert bent.abs().max() > 1e-3


def test_wrong_arguments_are_named(as_readers_run_it):
    for change in ({"width": 1}, {"hidden": 0}, {"attention": "softmax"}, {"n_context": 0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            SinusoidNetwork(**change)
    with pytest.raises(ValueError, match="n_features"):
        feature_attention(sine_and_cosine, 0, 1, 4, 0.1)
    with pytest.raises(ValueError, match="step_size"):
        KernelSmoothing(sine_and_cosine, -0.1)
    with pytest.raises(ValueError, match="the context is empty"):
        empty = torch.zeros(2, 0, 1)
        FeatureDescent(sine_and_cosine, 0.1)(empty, empty, torch.zeros(2, 1, 1))


# --- trained ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    config = SinusoidFeaturesConfig()
    assert sinusoid_weights.is_stored(config.training)
    return sinusoid_features(config)


def test_learned_attention_reaches_the_step_on_learned_features(lesson):
    assert len(lesson.transformer_loss) >= 3
    ratio = lesson.transformer_loss / lesson.descent_loss
    assert (ratio < 1.25).all() and (ratio > 0.8).all()
    assert (lesson.descent_loss < 0.1 * lesson.zero_loss).all()
    assert (lesson.attention_loss > 0.9 * lesson.zero_loss).all()
    assert (lesson.sensitivity_correlation > 0.95).all()
    assert (abs(lesson.attention_correlation) < 0.5).all()


def test_the_fixed_layer_finds_sine_cosine_and_the_mean_curve(lesson):
    """Better than the best step from zero weights, and near the best one from the mean task."""
    assert (lesson.descent_loss < 0.8 * lesson.step_loss).all()
    assert (abs(lesson.descent_loss / lesson.prior_step_here - 1) < 0.1).all()
    assert lesson.prior_step_here == pytest.approx(lesson.prior_step_loss, rel=0.1)
    assert (lesson.kernel_similarity > 0.95).all()
    for guess in lesson.guess:
        assert np.corrcoef(guess, lesson.mean_curve)[0, 1] > 0.95


def test_the_stored_networks_are_those_that_were_measured(lesson):
    network, batch = lesson.models["descent"][0], SinusoidTraining().validation()
    assert mean_squared_error(network, batch) == pytest.approx(lesson.descent_loss[0])
    assert network.weights()["step_size"] == pytest.approx(lesson.learned_step_size[0])
    trained_size = list(lesson.context_sizes).index(lesson.n_context)
    assert np.allclose(
        lesson.descent_by_size[:, trained_size], lesson.mean_descent_by_size[:, trained_size]
    )
    few = lesson.curves["descent"][0]
    at = np.abs(lesson.grid[:, None] - lesson.curve_xs[0]).argmin(0)
    assert np.abs(few[at] - lesson.curve_ys[0]).mean() < 0.2


def test_a_tiny_training_runs_and_every_panel_is_drawn():
    training = SinusoidTraining(
        width=4, hidden=5, n_context=3, steps=4, validate_every=2, n_validation=50
    )
    config = SinusoidFeaturesConfig(training=training, context_sizes=(2, 5), seeds=(0, 1))
    result = sinusoid_features(config)
    assert result.transformer_path.shape == result.attention_path.shape == (2, 3)
    assert result.curves["descent"].shape == result.truth.shape == (4, 101)
    amplitude = np.abs(result.truth).max(1)
    assert (amplitude > 0.09).all() and (amplitude < 0.51).all()
    assert "predicting 0" in result.summary()
    figure = figures.sinusoid_features(result)
    assert all(ax.has_data() for ax in figure.axes)
    with pytest.raises(ValueError, match="context_sizes"):
        SinusoidFeaturesConfig(context_sizes=(0,))


def test_the_paper_scale_is_declared():
    paper = EXPERIMENTS["sinusoid_features"].configs[Scale.PAPER].training
    assert (paper.width, paper.hidden, paper.batch_size, paper.steps) == (40, 160, 2048, 20_000)
    assert (paper.learning_rate, paper.descent_learning_rate) == (1e-3, 3e-4)
    assert len(paper.seeds) == 5
