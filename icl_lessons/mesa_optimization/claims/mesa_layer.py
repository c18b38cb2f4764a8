"""What is claimed of the mesa layer: three ways of computing it, and its limits."""

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed
from icl_lessons.estimators.least_squares import ridge_prefix_weights
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.mesa_layer import (
    memory_free_mesa_attention,
    mesa_attention,
    recursive_mesa_attention,
    reverse_update,
)
from icl_lessons.runtime import Scale, seeded

PAPER, PAGE = "vonoswald2023uncovering", "mesa_optimization/sequence_models"
WHERE = "section on the mesa layer"


def _cases(count: int, *, seed: int):
    """Keys, values, queries, a ``lambda`` for each head and forgetting factors, of random sizes."""
    generator = seeded(seed)
    normal = {"generator": generator, "dtype": torch.float64}
    for _ in range(count):
        heads, length, width, value_width = (
            int(torch.randint(1, most + 1, (), generator=generator)) for most in (3, 14, 6, 6)
        )
        shapes = [(2, heads, length, w) for w in (width, value_width, width)]
        strength = torch.randn(heads, **normal).exp()
        gamma = 0.6 + 0.4 * torch.rand(2, heads, length, **normal)
        yield *(torch.randn(shape, **normal) for shape in shapes), strength, gamma


def weighted_ridge(keys, values, queries, strength, gamma) -> Tensor:
    """Each position's regularised problem solved by itself, with the weights written out."""
    outputs = torch.zeros_like(values)
    identity = torch.eye(keys.shape[-1], dtype=keys.dtype)
    for t in range(keys.shape[2]):
        later = gamma[:, :, : t + 1].flip(-1).cumprod(-1).flip(-1)  # gamma_i ... gamma_t
        weight = torch.cat([later[:, :, 1:], torch.ones_like(later[:, :, :1])], -1)[..., None]
        k, v = keys[:, :, : t + 1], values[:, :, : t + 1]
        prior = (later[:, :, 0] / strength)[..., None, None] * identity
        phi = torch.linalg.solve((weight * k).mT @ k + prior, (weight * k).mT @ v).mT
        outputs[:, :, t] = (phi @ queries[:, :, t, :, None])[..., 0]
    return outputs


@claim(
    "vonoswald2023b-mesa-layer",
    paper=PAPER,
    where=WHERE,
    kind="identity",
    says="At every position the mesa layer answers with regularised least squares on all pairs up "
    "to there.",
    chapter=PAGE,
)
def mesa_layer(scale: Scale) -> Evidence:
    worst = 0.0
    for keys, values, queries, strength, _ in _cases(25, seed=41):
        got = mesa_attention(keys, values, queries, strength)
        for head, regularization in enumerate(strength.tolist()):
            penalty = 1 / regularization  # both objectives are sums over pairs
            weights = ridge_prefix_weights(keys[:, head], values[:, head], penalty)[:, 1:]
            expected = torch.einsum("btvk,btk->btv", weights, queries[:, head])
            worst = max(worst, relative_error(got[:, head], expected))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="25 random sizes, every prefix, a lambda for each head; 1 / lambda is the penalty.",
    )


@claim(
    "vonoswald2023b-mesa-recursion",
    paper=PAPER,
    where=WHERE,
    kind="identity",
    says="Recursive least squares computes the same, with one rank-one update a position.",
    chapter=PAGE,
)
def mesa_recursion(scale: Scale) -> Evidence:
    worst = max(
        relative_error(recursive_mesa_attention(*case[:4]), mesa_attention(*case[:4]))
        for case in _cases(25, seed=42)
    )
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR, note="25 random sizes.")


@claim(
    "vonoswald2023b-forgetting",
    paper=PAPER,
    where=f"{WHERE}, forgetting",
    kind="identity",
    says="With forgetting it solves a weighted problem, in which the prior is forgotten as well.",
    chapter=PAGE,
)
def forgetting(scale: Scale) -> Evidence:
    worst = 0.0
    for case in _cases(20, seed=43):
        expected = weighted_ridge(*case)
        for method in (mesa_attention, recursive_mesa_attention):
            worst = max(worst, relative_error(method(*case), expected))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="20 random sizes, both forms, against each position solved by itself.",
    )


@claim(
    "vonoswald2023b-reverse-update",
    paper=PAPER,
    where="appendix, backward pass",
    kind="identity",
    says="The inverse of one position back follows from the current one and its key.",
    chapter=PAGE,
)
def reverse(scale: Scale) -> Evidence:
    generator, worst = seeded(44), 0.0
    for width in (2, 3, 5):
        keys = torch.randn(3, 1, 12, width, generator=generator, dtype=torch.float64)
        gamma = 0.8 + 0.2 * torch.rand(3, 1, 12, generator=generator, dtype=torch.float64)
        path = [torch.eye(width, dtype=torch.float64).expand(3, 1, -1, -1)]
        for t in range(12):
            outer = keys[:, :, t, :, None] * keys[:, :, t, None]
            path.append(gamma[:, :, t, None, None] * path[-1] + outer)
        inverse = torch.linalg.inv(path[-1])
        for t in reversed(range(12)):
            inverse = reverse_update(inverse, keys[:, :, t], gamma[:, :, t])
            worst = max(worst, relative_error(inverse, torch.linalg.inv(path[t])))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="12 positions back to the prior of weight 1, with forgetting.",
    )


@claim(
    "vonoswald2023b-memory-free-gradients",
    paper=PAPER,
    where="appendix, backward pass",
    kind="identity",
    says="A backward pass that keeps no inverse but the last has the gradients of autograd.",
    chapter=PAGE,
)
def memory_free_gradients(scale: Scale) -> Evidence:
    worst = 0.0
    for case in _cases(12, seed=45):
        found = []
        for method in (mesa_attention, memory_free_mesa_attention):
            arguments = [tensor.clone().requires_grad_() for tensor in case]
            found.append(torch.autograd.grad(method(*arguments).square().sum(), arguments))
        worst = max(worst, *(relative_error(b, a) for a, b in zip(*found, strict=True)))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="Keys, values, queries, lambda and forgetting, 12 random sizes in float64.",
    )


@claim(
    "vonoswald2023b-mesa-in-single-precision",
    paper=PAPER,
    where="appendix, backward pass",
    kind="experiment",
    says="The memory-free backward pass loses digits in float32 over long sequences.",
    chapter=PAGE,
)
def single_precision_backward(scale: Scale) -> Evidence:
    normal = {"generator": seeded(46), "dtype": torch.float64}
    exact = [torch.randn(2, 1, 200, 4, **normal) for _ in range(3)]

    def keys_gradient(method, dtype):
        arguments = [tensor.to(dtype).requires_grad_() for tensor in exact]
        output = method(*arguments, 100.0).square().sum()
        return torch.autograd.grad(output, arguments[0])[0].double()

    truth = keys_gradient(mesa_attention, torch.float64)
    errors = [
        ((keys_gradient(method, torch.float32) - truth).abs().max() / truth.abs().max()).item()
        for method in (memory_free_mesa_attention, mesa_attention)
    ]
    return Evidence(
        measured=errors[0],
        bound=1e-3,
        comparison="at least",
        unit="largest error of the keys' gradient over its size, 200 positions, lambda 100",
        samples=passed([errors[0] >= 10 * errors[1]]),
        note="The closed form in float32 has less than a tenth of that.",
    )


@claim(
    "vonoswald2023b-linear-attention-limit",
    paper=PAPER,
    where=f"{WHERE}, relation to linear attention",
    kind="experiment",
    says="With a prior that grows stronger the layer becomes linear attention, times lambda.",
    chapter=PAGE,
)
def linear_attention_limit(scale: Scale) -> Evidence:
    keys, values, queries, *_ = next(_cases(1, seed=47))
    scores = torch.einsum("bhsk,bhtk->bhts", keys, queries).tril()
    linear = scores @ values
    strengths = np.array([1e-3, 1e-4, 1e-5, 1e-6])
    outputs = [mesa_attention(keys, values, queries, float(s)) for s in strengths]
    pairs = zip(outputs, strengths, strict=True)
    gaps = [relative_error(o / s, linear) for o, s in pairs]
    slope = np.polyfit(np.log(strengths), np.log(gaps), 1)[0]
    return Evidence(
        measured=float(slope - 1),
        bound=0.02,
        comparison="within",
        unit="slope of log gap against log lambda, less 1",
        note=f"After division by lambda the gap is {gaps[0]:.1e} at 1e-3 and {gaps[-1]:.1e} at "
        f"1e-6. Without it the output itself vanishes: {outputs[-1].abs().max():.0e}.",
    )


@claim(
    "vonoswald2023b-order-of-pairs",
    paper=PAPER,
    where=WHERE,
    kind="identity",
    says="The order of the pairs before does not matter to the current answer.",
    chapter=PAGE,
)
def order_of_pairs(scale: Scale) -> Evidence:
    generator, errors = seeded(48), []
    for keys, values, queries, strength, _ in _cases(20, seed=48):
        order = torch.randperm(keys.shape[2] - 1, generator=generator).tolist()
        order = [*order, keys.shape[2] - 1]
        before = mesa_attention(keys, values, queries, strength)[:, :, -1]
        after = mesa_attention(keys[:, :, order], values[:, :, order], queries, strength)[:, :, -1]
        errors.append(relative_error(after, before))
    return Evidence(
        measured=max(errors),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        samples=passed([error <= 1e-12 for error in errors]),
        note="20 random sizes without forgetting; with it the order matters.",
    )
