"""Read-outs of layers: on stacks whose layers are known algorithms, they find just those."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import gradient_descent_path
from icl_lessons.estimators.least_squares import ridge_prefix_predictions
from icl_lessons.estimators.newton import iterative_newton_path
from icl_lessons.gradient_descent.layer_readouts import (
    best_matching_steps,
    error_similarity,
    fit_read_outs,
    induced_filter,
    method_predictions,
    prediction_similarity,
    prefix_spectra,
    prefix_states,
)
from icl_lessons.gradient_descent.newton import METHODS, residual_factors
from icl_lessons.gradient_descent.one_step import gradient_descent_attention
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression

D, N = 3, 9  # prefixes of 0 to N - 1 examples
STEPS = {
    "newton": np.array([0, 2, 5, 7, 10]),
    "gradient_descent": np.array([1, 3, 8, 20, 60]),
    "gd_plus_plus": np.array([1, 2, 3, 4, 5]),
}
COUNTS = {"newton": np.arange(16), "gradient_descent": np.arange(100), "gd_plus_plus": np.arange(9)}


def contexts(seed, batch=400, d=D, n=N, m=1):
    task = LinearRegression(d=d, m=m)
    drawn = task.sample(batch, n, generator=seeded(seed), dtype=torch.float64)
    return drawn.xs, drawn.ys


# --- algorithms at every prefix -----------------------------------------------------------------


@given(seed=st.integers(0, 10_000), d=st.integers(1, 5), n=st.integers(2, 8), m=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_predictions_at_prefixes_are_those_of_the_estimators(seed, d, n, m):
    xs, ys = contexts(seed, 2, d, n, m)
    spectra = prefix_spectra(xs, ys)
    newton = method_predictions(spectra, "newton", np.arange(5))
    descent = method_predictions(spectra, "gradient_descent", np.arange(5))
    exact = spectra.predictions(torch.zeros_like(spectra.eigenvalues))
    assert newton[:, :, 0].abs().max() == descent[:, :, 0].abs().max() == 0  # no example yet
    for i in range(1, n):
        query, seen = xs[:, i : i + 1], (xs[:, :i], ys[:, :i])
        own = query @ iterative_newton_path(*seen, 4).mT
        assert_close(newton[:, :, i], own[:, :, 0], atol=1e-9, rtol=1e-9)
        for b in range(2):
            size = i / torch.linalg.matrix_norm(xs[b, :i], 2).square().item()
            path = gradient_descent_path(xs[b : b + 1, :i], ys[b : b + 1, :i], size, 4)
            assert_close(descent[:, b, i], (query[b] @ path[:, 0].mT)[:, 0], atol=1e-9, rtol=1e-9)
    assert_close(exact, ridge_prefix_predictions(xs, ys, 1e-10), atol=1e-4, rtol=1e-4)


def test_gd_plus_plus_at_a_prefix_takes_that_prefixs_own_step_sizes():
    xs, ys = contexts(3, 5)
    spectra = prefix_spectra(xs, ys)
    got = method_predictions(spectra, "gd_plus_plus", np.array([3]))[0]
    i = 7
    S = xs[:, :i].mT @ xs[:, :i]
    values, vectors = torch.linalg.eigh(S)
    gain = (1 - residual_factors("gd_plus_plus", values, 3)) / values
    weights = vectors @ torch.diag_embed(gain) @ vectors.mT @ xs[:, :i].mT @ ys[:, :i]
    assert_close(got[:, i], (xs[:, i : i + 1] @ weights)[:, 0], atol=1e-9, rtol=1e-9)


# --- calibration: stacks whose layers are known -------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_are_steps_of_an_algorithm_are_matched_to_exactly_those(method):
    xs, ys = contexts(11)
    spectra = prefix_spectra(xs, ys)
    layers = method_predictions(spectra, method, STEPS[method])
    for name, counts in COUNTS.items():
        steps = method_predictions(spectra, name, counts)
        match = best_matching_steps(error_similarity(layers, steps, ys), counts)
        if name == method:
            assert (match.step == STEPS[method]).all()
            assert_close(match.similarity, np.ones(5), atol=1e-9, rtol=0)
        elif {name, method} == {"newton", "gradient_descent"}:
            assert (match.similarity[1:] < 0.999).all()  # and yet hardly less than 1:
            assert (match.similarity > 0.98).all()


@pytest.mark.parametrize("method", METHODS)
def test_fitted_read_outs_find_a_hidden_algorithm_to_within_their_shrinkage(method):
    """The state holds the steps' predictions in a random direction, among noise."""
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=seeded(0), dtype=torch.float64)).Q

    def states(xs, ys, seed):
        steps = method_predictions(prefix_spectra(xs, ys), method, STEPS[method])
        shape = (*steps.shape[:3], 5)
        noise = torch.randn(shape, generator=seeded(seed), dtype=torch.float64)
        return torch.cat([steps, noise], -1) @ rotation, steps

    fit_xs, fit_ys = contexts(12, 3000)
    xs, ys = contexts(13, 1000)
    read_outs = fit_read_outs(states(fit_xs, fit_ys, 1)[0], fit_ys)
    hidden, steps = states(xs, ys, 2)
    predicted = read_outs(hidden)
    spectra, counts = prefix_spectra(xs, ys), COUNTS[method]
    match = best_matching_steps(
        error_similarity(predicted, method_predictions(spectra, method, counts), ys), counts
    )
    # Steps that shrink towards 0 are scaled up by the fit, and so look a little further on.
    off = match.step - STEPS[method]
    allowed = np.ceil(0.15 * STEPS[method]) + 1 if method == "gradient_descent" else 1
    assert (off >= 0).all() and (off <= allowed).all()
    assert (match.similarity > 0.9).all() and match.similarity[-1] > 0.99
    assert (np.diff(match.step) > 0).all()
    scale = (predicted * steps).sum((1, 2, 3)) / steps.square().sum((1, 2, 3))
    assert (scale > 1).all() and (scale.diff() < 0).all()


def test_the_construction_of_gradient_descent_is_read_out_as_gradient_descent():
    """Layers of linear attention that were written down, one prefix at a time."""
    xs, ys = contexts(14, 300)
    size, count = 0.05, 6
    layers = torch.zeros(count + 1, *ys.shape, dtype=torch.float64)
    steps = torch.zeros(12, *ys.shape, dtype=torch.float64)
    for i in range(1, N):
        context = xs[:, :i], ys[:, :i], xs[:, i : i + 1]
        learner = gradient_descent_attention(D, 1, i, size * i, steps=count)
        path = learner.token_path(*context)  # [layers+1, batch, i+1, D+1]
        layers[:, :, i] = -path[:, :, -1, D:]
        weights = gradient_descent_path(*context[:2], size * i, 11)
        steps[:, :, i] = torch.einsum("kbmd,bd->kbm", weights, xs[:, i])
    match = best_matching_steps(error_similarity(layers, steps, ys))
    assert (match.step == np.arange(count + 1)).all()
    newton = method_predictions(prefix_spectra(xs, ys), "newton", COUNTS["newton"])
    assert best_matching_steps(error_similarity(layers, newton, ys)).step[-1] < count


# --- the measures -------------------------------------------------------------------------------


def test_predictions_in_place_of_errors_inflate_the_similarity():
    """Planted error: two algorithms that have nothing to do with one another."""
    xs, ys = contexts(15, 1000)
    exact = prefix_spectra(xs, ys).predictions(torch.zeros(1000, N, D, dtype=torch.float64))
    noise = torch.randn(2, *ys.shape, generator=seeded(1), dtype=torch.float64)
    first, second = exact + 0.3 * noise[0], exact + 0.3 * noise[1]
    late = D + 1
    honest = error_similarity(first[None], second[None], ys, late).item()
    inflated = prediction_similarity(first[None], second[None], late).item()
    assert abs(honest) < 0.05 and inflated > 0.85


def test_saying_almost_nothing_is_already_similar_and_no_prefix_means_no_measure():
    xs, ys = contexts(16)
    steps = method_predictions(prefix_spectra(xs, ys), "newton", np.arange(3))
    zero = torch.zeros_like(steps[:1])
    assert error_similarity(zero, steps, ys)[0, 0] > 0.7
    with pytest.raises(ValueError, match="first_prefix"):
        error_similarity(steps, steps, ys, N)


def test_the_filter_of_a_known_filter_is_that_filter():
    xs, ys = contexts(17, 4000)
    spectra = prefix_spectra(xs, ys)
    share = spectra.eigenvalues / spectra.eigenvalues.amax(-1, keepdim=True).clamp_min(1e-300)
    edges, planted = np.array([1e-6, 0.1, 0.5, 1.01]), torch.tensor([0.2, 0.9, 1.1]).double()
    left = 1 - planted[(share >= 0.1).long() + (share >= 0.5).long()]
    got = induced_filter(spectra.predictions(left)[None], spectra, edges)
    assert_close(got[0], planted, atol=0.02, rtol=0)
    descent = method_predictions(spectra, "gradient_descent", np.array([4]))
    narrow = np.array([1e-6, 0.3, 0.32, 0.5, 0.52, 0.9, 0.92, 1.01])
    smooth = induced_filter(descent, spectra, narrow)[0, 1:-1:2]
    middle = torch.tensor([0.31, 0.51, 0.91], dtype=torch.float64)
    assert_close(smooth, 1 - (1 - middle) ** 4, atol=0.05, rtol=0)
    for bad in (np.array([0.5, 0.1]), np.array([2.0, 3.0])):
        with pytest.raises(ValueError, match="edges"):
            induced_filter(descent, spectra, bad)


@pytest.mark.parametrize("layout", ["pair", "interleaved"])
def test_the_last_state_with_the_models_own_read_out_is_the_models_prediction(layout):
    config = TransformerConfig(
        d=D, width=16, layers=3, heads=2, layout=layout, positions="learned", max_context=N
    )
    model = Transformer(config, generator=seeded(2)).eval()
    xs, ys = (tensor.float() for tensor in contexts(18, 20))
    states = prefix_states(model, xs, ys)
    assert states.shape == (4, 20, N, 16)
    assert_close(model.read_out(states[-1]), model.predict_prefixes(xs, ys))
    changed = ys.clone()
    changed[:, -1] += 5  # the last target is asked for and never shown
    assert_close(prefix_states(model, xs, changed), states)
    assert not model.blocks[0]._forward_hooks and not model.blocks[0]._forward_pre_hooks


def test_read_outs_fit_what_is_affine_and_refuse_what_does_not_fit_together(as_readers_run_it):
    states = torch.randn(2, 50, 4, 6, generator=seeded(3), dtype=torch.float64)
    weights = torch.randn(2, 6, 2, generator=seeded(4), dtype=torch.float64)
    targets = states[0] @ weights[0] + 3.0
    read_outs = fit_read_outs(states, targets, 1e-12)
    assert_close(read_outs(states)[0], targets, atol=1e-8, rtol=1e-8)
    assert_close(read_outs.weights[0], weights[0], atol=1e-8, rtol=1e-8)
    with pytest.raises(ValueError, match="targets"):
        fit_read_outs(states, targets[:, :-1])
    with pytest.raises(ValueError, match="penalty"):
        fit_read_outs(states, targets, -1.0)
