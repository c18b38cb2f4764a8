"""The mesa layer: least squares on every prefix, by three ways of computing it.

The expected values come from a loop over positions in NumPy that solves each regularised problem
afresh; it shares no code with the package.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.least_squares import ridge_prefix_weights
from icl_lessons.models.attention import linear_attention
from icl_lessons.models.mesa_layer import (
    MesaAttention,
    memory_free_mesa_attention,
    mesa_attention,
    recursive_mesa_attention,
    reverse_update,
)

METHODS = (mesa_attention, recursive_mesa_attention, memory_free_mesa_attention)
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)
SIZES = st.tuples(*(st.integers(1, most) for most in (2, 3, 9, 5, 4)))
EXACT = {"rtol": 0, "atol": 1e-10}


def draw(seed, batch, heads, length, width, value_width, *, low=0.3):
    rng = np.random.default_rng(seed)
    shapes = [(batch, heads, length, w) for w in (width, value_width, width)]
    forgetting = rng.uniform(low, 1, (batch, heads, length))
    strength = np.exp(rng.uniform(-2, 2, heads))
    return *(rng.standard_normal(s) for s in shapes), strength, forgetting


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def solve_each_prefix(keys, values, queries, strength, forgetting):
    """Weighted ridge, one position after another; pair t' weighs gamma_{t'+1} ... gamma_t."""
    output = np.zeros_like(values)
    for b, h, t in np.ndindex(keys.shape[:3]):
        k, v, gamma = keys[b, h, : t + 1], values[b, h, : t + 1], forgetting[b, h, : t + 1]
        weight = np.array([np.prod(gamma[i + 1 :]) for i in range(t + 1)])
        left = (k * weight[:, None]).T @ k + np.prod(gamma) / strength[h] * np.eye(k.shape[1])
        phi = np.linalg.solve(left, (k * weight[:, None]).T @ v).T
        output[b, h, t] = phi @ queries[b, h, t]
    return torch.from_numpy(output)


@every_method
@settings(deadline=None, max_examples=8)
@given(sizes=SIZES, seed=st.integers(0, 10**6))
def test_equals_regularised_least_squares_on_every_prefix(method, sizes, seed):
    keys, values, queries, strength, forgetting = draw(seed, *sizes)
    expected = solve_each_prefix(keys, values, queries, strength, np.ones_like(forgetting))
    assert_close(method(*tensors(keys, values, queries, strength)), expected, **EXACT)


@every_method
@settings(deadline=None, max_examples=8)
@given(sizes=SIZES, seed=st.integers(0, 10**6))
def test_forgetting_equals_weighted_ridge(method, sizes, seed):
    arrays = draw(seed, *sizes)
    assert_close(method(*tensors(*arrays)), solve_each_prefix(*arrays), **EXACT)


@every_method
def test_equals_the_ridge_of_the_estimators(method):
    keys, values, queries, *_ = tensors(*draw(0, 3, 1, 8, 4, 2))
    penalty = 0.4  # lambda = 1 / penalty: both objectives are sums over pairs
    weights = ridge_prefix_weights(keys[:, 0], values[:, 0], penalty)[:, 1:]
    expected = torch.einsum("btvk,btk->btv", weights, queries[:, 0])
    assert_close(method(keys, values, queries, 1 / penalty)[:, 0], expected, **EXACT)


@every_method
def test_gamma_of_one_forgets_nothing(method):
    *pairs, strength, forgetting = tensors(*draw(1, 2, 2, 6, 3, 3))
    ones = torch.ones_like(forgetting)
    assert_close(method(*pairs, strength, ones), method(*pairs, strength), **EXACT)
    assert (method(*pairs, strength, forgetting) - method(*pairs, strength)).abs().max() > 1e-2


@every_method
def test_first_position_in_closed_form(method):
    """The textbook slip is to answer before updating, or to start at I / lambda."""
    keys, values, queries, *_ = tensors(*draw(2, 2, 1, 1, 3, 2))
    k, v, q = keys[:, 0, 0], values[:, 0, 0], queries[:, 0, 0]
    expected = v * ((k * q).sum(-1) / (1 / 5 + k.square().sum(-1)))[:, None]
    assert_close(method(keys, values, queries, 5)[:, 0, 0], expected, **EXACT)


@every_method
def test_gradients_pass_gradcheck(method):
    arguments = tensors(*draw(3, 1, 2, 4, 3, 2, low=0.6))
    arguments = [a.requires_grad_() for a in arguments]
    assert torch.autograd.gradcheck(method, arguments)
    assert torch.autograd.gradcheck(method, arguments[:4])


@settings(deadline=None, max_examples=8)
@given(sizes=SIZES, seed=st.integers(0, 10**6))
def test_the_three_ways_have_the_same_gradients(sizes, seed):
    arrays = draw(seed, *sizes)
    upstream = torch.from_numpy(np.random.default_rng(seed + 1).standard_normal(arrays[1].shape))
    found = []
    for method in METHODS:
        arguments = [a.clone().requires_grad_() for a in tensors(*arrays)]
        found.append(torch.autograd.grad(method(*arguments), arguments, upstream))
    for others in zip(*found, strict=True):
        for other in others[1:]:
            error = (other - others[0]).abs().max() / others[0].abs().max().clamp_min(1)
            assert error < 1e-9


def test_nothing_is_kept_for_each_position():
    """What the backward pass of the memory-free form holds does not grow with d^2 * length."""
    sizes = {}
    for method in METHODS:
        *pairs, strength, _ = tensors(*draw(4, 1, 1, 40, 8, 8))
        held = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.setdefault(t.data_ptr(), t), lambda t: t
        ):
            method(*(p.requires_grad_() for p in pairs), strength.requires_grad_())
        sizes[method] = sum(t.numel() for t in held.values())
    assert sizes[memory_free_mesa_attention] < 40 * (3 * 8 + 2) + 4 * 64
    assert sizes[recursive_mesa_attention] > 40 * 64 < sizes[mesa_attention]


@settings(deadline=None, max_examples=8)
@given(sizes=SIZES, seed=st.integers(0, 10**6))
def test_reverse_update_undoes_an_update(sizes, seed):
    keys, *_, strength, gamma = tensors(*draw(seed, *sizes))
    width = keys.shape[-1]
    hessian = (
        torch.eye(width).double() / strength[:, None, None] + 0 * keys[:, :, :1].mT @ keys[:, :, :1]
    )
    path = [hessian]
    for t in range(keys.shape[2]):
        outer = keys[:, :, t, :, None] * keys[:, :, t, None]
        path.append(gamma[:, :, t, None, None] * path[-1] + outer)
    inverse = torch.linalg.inv(path[-1])
    for t in reversed(range(keys.shape[2])):
        inverse = reverse_update(inverse, keys[:, :, t], gamma[:, :, t])
        expected = torch.linalg.inv(path[t])
        assert ((inverse - expected).abs().max() / expected.abs().max().clamp_min(1)) < 1e-7


@every_method
def test_past_pairs_may_be_permuted(method):
    keys, values, queries, strength, _ = tensors(*draw(5, 2, 2, 9, 4, 3))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0)).tolist() + [8]
    before = method(keys, values, queries, strength)
    after = method(keys[:, :, order], values[:, :, order], queries, strength)
    assert_close(after[:, :, -1], before[:, :, -1], rtol=0, atol=1e-12)
    assert (after[:, :, 0] - before[:, :, 0]).abs().max() > 1e-3


@every_method
def test_the_future_changes_nothing(method):
    *arguments, strength, _ = tensors(*draw(6, 2, 2, 7, 3, 3))
    before = method(*arguments, strength)
    changed = [a.clone() for a in arguments]
    for a in changed:
        a[:, :, 4:] += 3
    after = method(*changed, strength)
    assert torch.equal(after[:, :, :4], before[:, :, :4])
    assert not torch.equal(after[:, :, 4:], before[:, :, 4:])


def test_a_strong_prior_gives_linear_attention_times_lambda():
    keys, values, queries, *_ = tensors(*draw(7, 2, 1, 6, 3, 3))
    linear = torch.einsum(
        "bhsv,bhsk,bhtk,ts->bhtv", values, keys, queries, torch.ones(6, 6).tril().double()
    )
    gaps = []
    for strength in (1e-3, 1e-4, 1e-5, 1e-6):
        output = mesa_attention(keys, values, queries, strength)
        gaps.append((output / strength - linear).abs().max().item())
    assert np.allclose(np.diff(np.log10(gaps)), -1, atol=0.05)  # proportional to lambda
    assert gaps[-1] < 1e-3
    assert mesa_attention(keys, values, queries, 1e-6).abs().max() < 1e-3


@pytest.mark.parametrize("method", ["closed form", "recursive", "memory free"])
def test_the_layer_is_its_function(method):
    generator = torch.Generator().manual_seed(1)
    layer = MesaAttention(
        5, 2, 3, regularization=2.0, method=method, init_std=0.5, generator=generator,
        dtype=torch.float64,
    )  # fmt: skip
    tokens = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    keys, values, queries = (
        torch.stack([tokens @ head.mT for head in matrix], 1)
        for matrix in (layer.w_key, layer.w_value, layer.w_query)
    )
    heads = mesa_attention(keys, values, queries, 2.0)
    expected = tokens + sum(heads[:, h] @ layer.projection[h].mT for h in range(2))
    assert_close(layer(tokens), expected, **EXACT)
    written = MesaAttention.from_matrices(
        layer.w_query, layer.w_key, layer.w_value, layer.projection, layer.regularization, method
    )
    assert_close(written(tokens), expected, **EXACT)
    layer(tokens).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in layer.parameters())
    assert layer.log_regularization.grad.shape == (2,)


def test_a_small_lambda_makes_the_layer_linear_attention():
    generator = torch.Generator().manual_seed(2)
    four = [0.5 * torch.randn(1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(4)]
    tokens = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    strength = 1e-8
    layer = MesaAttention.from_matrices(*four[:3], four[3] / strength, strength)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    assert_close(layer(tokens), linear_attention(tokens, *four, mask), rtol=0, atol=1e-5)


def test_the_layer_learns():
    """Its lambda moves too, and the loss of a regression it can represent falls."""
    generator = torch.Generator().manual_seed(3)
    layer = MesaAttention(4, 1, 4, init_std=0.4, generator=generator)
    optimizer = torch.optim.Adam(layer.parameters(), 2e-2)
    losses = []
    for _ in range(60):
        turn = torch.linalg.qr(torch.randn(16, 2, 2, generator=generator)).Q
        states = [torch.randn(16, 2, generator=generator)]
        for _ in range(8):
            states.append((turn @ states[-1][..., None])[..., 0])
        states = torch.stack(states, 1)
        tokens = torch.cat([states[:, 1:-1], states[:, :-2]], -1)
        loss = (layer(tokens)[..., 2:] - tokens[..., 2:] - states[:, 2:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert layer.regularization.item() != pytest.approx(1.0, abs=1e-3)


KEYS = torch.zeros(2, 1, 3, 4).double()


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"keys": torch.zeros(2, 3, 4)}, ValueError, "keys: got shape"),
        ({"values": torch.zeros(2, 1, 4, 4).double()}, ValueError, "values: .* keys has"),
        ({"values": torch.zeros(2, 1, 3, 4)}, TypeError, "values: dtype torch.float32 differs"),
        ({"queries": torch.zeros(2, 1, 3, 5).double()}, ValueError, "queries: "),
        ({"regularization": 0}, ValueError, "regularization: got 0"),
        ({"regularization": torch.ones(3).double()}, ValueError, "regularization: 3 numbers"),
        ({"regularization": -torch.ones(1).double()}, ValueError, "regularization: every lambda"),
        ({"forgetting": torch.zeros(2, 1, 3).double()}, ValueError, "forgetting: every factor"),
        ({"forgetting": torch.ones(2, 1, 4).double()}, ValueError, "forgetting: "),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, change, error, sentence):
    arguments = {"keys": KEYS, "values": KEYS, "queries": KEYS, "regularization": 1.0} | change
    with pytest.raises(error, match=sentence):
        mesa_attention(**arguments)


def test_forgetting_below_what_a_number_can_hold_is_refused(as_readers_run_it):
    keys = torch.randn(1, 1, 200, 2, generator=torch.Generator().manual_seed(0))
    gamma = torch.full((1, 1, 200), 0.5)
    with pytest.raises(ValueError, match="forgetting: its product falls to .* use float64"):
        mesa_attention(keys, keys, keys, 1.0, gamma)
    assert recursive_mesa_attention(keys, keys, keys, 1.0, gamma).isfinite().all()
