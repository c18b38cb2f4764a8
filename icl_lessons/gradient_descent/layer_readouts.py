"""What every layer of a model would predict, and which step of an algorithm that is most like.

A model's read-out is made for its last layer. Fitting another to the frozen states after each layer
says what could be predicted from there, linearly; the errors of these predictions over the prefixes
of a context are then compared with the errors that the steps of an algorithm make on the same
prefixes [fu2024transformers]. Errors and not predictions: any two predictions of the same targets
point in nearly the same direction, whatever made them.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.gradient_descent.newton import METHODS, Method, residual_factors
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import (
    check_choice,
    check_context,
    check_integer,
    check_number,
    check_tensor,
)

Inputs = Float[Tensor, "batch n d"]
Targets = Float[Tensor, "batch n m"]


# --- states and read-outs -----------------------------------------------------------------------


@torch.no_grad()
def prefix_states(
    model: Transformer, xs: Inputs, ys: Targets
) -> Float[Tensor, "{len(model.blocks)}+1 batch n width"]:
    """The residual stream where ``y_i`` is asked for, before the first block and after each.

    Normalised as the model's read-out would see it, which is frozen with everything else. Position
    ``i`` (from 0) has seen ``i`` examples.
    """
    states: list[Tensor] = []
    n = xs.shape[1]

    def keep(x: Tensor) -> None:
        asked = x[:, n:] if model.config.layout == "pair" else x[:, 0::2]
        states.append(model.norm(asked))

    hooks = [model.blocks[0].register_forward_pre_hook(lambda _, arguments: keep(arguments[0]))]
    hooks += [block.register_forward_hook(lambda _, __, x: keep(x)) for block in model.blocks]
    try:
        model.predict_prefixes(xs, ys)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(states)


class ReadOuts(NamedTuple):
    """An affine map from states to targets for each layer, shared by all positions."""

    weights: Float[Tensor, "layers width m"]
    intercept: Float[Tensor, "layers 1 m"]

    def __call__(
        self, states: Float[Tensor, "layers batch n width"]
    ) -> Float[Tensor, "layers batch n m"]:
        """What each layer predicts."""
        layers, batch, n, _ = states.shape
        flat = states.flatten(1, 2).to(self.weights) @ self.weights + self.intercept
        return flat.reshape(layers, batch, n, -1)


def fit_read_outs(
    states: Float[Tensor, "layers batch n width"], targets: Targets, penalty: float = 1e-6
) -> ReadOuts:
    """Ridge regression of the targets on each layer's states, in float64.

    Args:
        states: at every prefix of a batch of contexts, such as :func:`prefix_states` gives.
        targets: ``y_i``, the true ones: the read-outs learn the task, not an algorithm.
        penalty: on the squared weights, times the number of positions and the states' mean square.
    """
    check_tensor("states", states, "layers batch n width")
    check_tensor("targets", targets, "batch n m")
    check_number("penalty", penalty)
    if states.shape[1:3] != targets.shape[:2]:
        raise ValueError(
            f"targets: {tuple(targets.shape[:2])} positions for states at "
            f"{tuple(states.shape[1:3])}; give one target for each"
        )
    flat, goal = states.flatten(1, 2).double(), targets.flatten(0, 1).double()
    middle, level = flat.mean(1, keepdim=True), goal.mean(0, keepdim=True)
    centred = flat - middle
    gram = centred.mT @ centred
    size = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-300)
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    ridge = gram + (penalty * size)[:, None, None] * identity
    weights = torch.linalg.pinv(ridge, hermitian=True) @ (centred.mT @ (goal - level))
    return ReadOuts(weights, level - middle @ weights)


# --- algorithms at every prefix -----------------------------------------------------------------


class PrefixSpectra(NamedTuple):
    """``S_i = X_i^T X_i`` of every prefix by its eigenvectors, and the data as they see it.

    ``eigenvalues`` has those of the prefix before example ``i``; ``moments`` are ``V^T X^T Y``, and
    ``queries`` are ``V^T x_i``.
    """

    eigenvalues: Float[Tensor, "batch n d"]
    moments: Float[Tensor, "batch n d m"]
    queries: Float[Tensor, "batch n d"]

    def predictions(self, factors: Float[Tensor, "batch n d"]) -> Float[Tensor, "batch n m"]:
        """``x_i^T V diag((1 - factor) / lambda) V^T X^T Y``, ``factor`` being what is left."""
        positive = self.eigenvalues > 1e-12 * self.eigenvalues.amax(-1, keepdim=True)
        inverse = torch.where(positive, (1 - factors) / self.eigenvalues.clamp_min(1e-300), 0.0)
        return ((self.queries * inverse)[..., None] * self.moments).sum(-2)


def prefix_spectra(xs: Inputs, ys: Targets) -> PrefixSpectra:
    """Spectra of all prefixes, in float64; that of the first, which is empty, is zero."""
    check_context(xs, ys)
    xs, ys = xs.double(), ys.double()
    products = xs[..., :, None] * xs[..., None, :]
    sums = products.cumsum(1) - products
    eigenvalues, vectors = torch.linalg.eigh(sums)
    moments = xs[..., :, None] * ys[..., None, :]
    moments = vectors.mT @ (moments.cumsum(1) - moments)
    queries = (vectors.mT @ xs[..., None])[..., 0]
    return PrefixSpectra(eigenvalues.clamp_min(0), moments, queries)


def method_predictions(
    spectra: PrefixSpectra, method: Method, steps: Int[np.ndarray, " counts"]
) -> Float[Tensor, "counts batch n m"]:
    """What an algorithm from zero predicts at each prefix after each number of steps.

    Step sizes are those of :func:`~icl_lessons.gradient_descent.newton.residual_factors`, set by
    the largest eigenvalue of each prefix; Newton-Schulz starts at ``alpha = 1 / |S S^T|_F`` of the
    prefix, as the code of Fu et al. has it.

    Args:
        steps: the numbers of steps to report; thousands of gradient descent cost as much as one.
    """
    check_choice("method", method, METHODS)
    eigenvalues = spectra.eigenvalues.clamp_min(1e-300)
    path = []
    for count in map(int, steps):
        if method == "newton":
            square = (eigenvalues / eigenvalues.amax(-1, keepdim=True)).square()
            factors = (1 - square / square.norm(dim=-1, keepdim=True)) ** (2.0**count)
        else:
            factors = residual_factors(method, eigenvalues, count)
        path.append(spectra.predictions(factors))
    return torch.stack(path)


def induced_filter(
    predictions: Float[Tensor, "layers batch n m"],
    spectra: PrefixSpectra,
    edges: Float[np.ndarray, " edges"],
) -> Float[Tensor, "layers bins"]:
    """The share of least squares that is predicted along directions of each curvature.

    Least squares predicts a sum over the eigenvectors of a prefix's ``S``; here each term has a
    factor that depends on ``lambda / lambda_max``, constant between two edges, and the factors are
    fitted to the predictions. Gradient descent gives ``1 - (1 - lambda / lambda_max)^K``; 1 is all
    of least squares, 0 is nothing.

    Args:
        edges: rising, of ``lambda / lambda_max``; a bin holds its lower edge and not its upper one.

    Raises:
        ValueError: edges that do not rise, or a bin that no direction falls in.
    """
    check_tensor("predictions", predictions, "layers batch n m")
    edges = np.asarray(edges, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges: got {edges}; use two or more numbers that rise")
    eigenvalues = spectra.eigenvalues
    largest = eigenvalues.amax(-1, keepdim=True)
    seen = eigenvalues > 1e-12 * largest
    share = torch.where(seen, eigenvalues / largest.clamp_min(1e-300), -torch.inf)
    inverse = torch.where(seen, 1 / eigenvalues.clamp_min(1e-300), 0.0)
    terms = (spectra.queries * inverse)[..., None] * spectra.moments
    inside = [(share >= low) & (share < high) for low, high in itertools.pairwise(edges)]
    for chosen, low, high in zip(inside, edges, edges[1:], strict=False):
        if not chosen.any():
            raise ValueError(f"edges: no direction has a curvature from {low:g} to {high:g}")
    features = torch.stack([(terms * chosen[..., None]).sum(-2).flatten() for chosen in inside], 1)
    return torch.linalg.lstsq(features, predictions.double().flatten(1).mT).solution.mT


# --- comparison ---------------------------------------------------------------------------------


def error_similarity(
    first: Float[Tensor, "layers batch n m"],
    second: Float[Tensor, "steps batch n m"],
    ys: Targets,
    first_prefix: int = 1,
) -> Float[Tensor, "layers steps"]:
    """SimE: mean over contexts of the cosine between two residual vectors [fu2024transformers].

    A residual vector lists ``y_hat_i - y_i`` over the prefixes of one context.

    Args:
        first, second: predictions at every prefix.
        ys: the targets.
        first_prefix: leave out prefixes of fewer examples; 1 leaves out the empty one, where every
            algorithm says 0.
    """
    check_tensor("first", first, "layers batch n m")
    check_tensor("second", second, "steps batch n m")
    check_tensor("ys", ys, "batch n m")
    check_integer("first_prefix", first_prefix, at_least=0)
    if first_prefix >= ys.shape[1]:
        raise ValueError(f"first_prefix: got {first_prefix}; there are {ys.shape[1]} prefixes")
    one, two = (
        torch.nn.functional.normalize(
            (p.double() - ys.double())[:, :, first_prefix:].flatten(2), dim=-1
        )
        for p in (first, second)
    )
    return torch.einsum("lbk,sbk->ls", one, two) / ys.shape[0]


def prediction_similarity(
    first: Float[Tensor, "layers batch n m"],
    second: Float[Tensor, "steps batch n m"],
    first_prefix: int = 1,
) -> Float[Tensor, "layers steps"]:
    """The same cosine of the predictions themselves: high for whatever predicts well at all."""
    return error_similarity(first, second, torch.zeros_like(first[0]), first_prefix)


class Match(NamedTuple):
    """For each layer, the step most like it and how like it is."""

    step: Int[np.ndarray, " layers"]
    similarity: Float[np.ndarray, " layers"]


def best_matching_steps(
    similarity: Float[Tensor, "layers steps"], steps: Int[np.ndarray, " counts"] | None = None
) -> Match:
    """The step count with the largest similarity, for each layer.

    Args:
        steps: the count that each column stands for; 0, 1, ... if ``None``.
    """
    check_tensor("similarity", similarity, "layers steps")
    best = similarity.max(1)
    counts = np.arange(similarity.shape[1]) if steps is None else np.asarray(steps)
    return Match(counts[best.indices.numpy()], best.values.numpy())
