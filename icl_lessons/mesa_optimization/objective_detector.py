"""Which objective does a layer descend, and does it descend one at all?

The detector sees two learners, before and after a layer, and only calls them. From their
predictions at many inputs it takes the change of the weights, ``dW``, of each context; it then asks
which loss of a family explains ``dW`` as a gradient step,

.. math:: \\Delta W = \\frac{\\eta}{N} \\sum_i c_i\\, v(p_i, y_i)\\, x_i^\\top - \\eta\\lambda W,
          \\qquad v = -\\partial\\ell/\\partial p,

with one step size (and Huber's threshold, ridge's ``lambda``, or one weight for each place in the
context) for all contexts. Each loss is fitted on some contexts and scored on others; Huber's
threshold alone is chosen on all.

The change ``dp`` of the predictions at the context mixes the examples' values through the Gram
matrix, ``dp_j = eta/N sum_i v_i x_i . x_j``; comparing it with ``v`` itself is a trap. With ``N <=
d`` the mixing can be undone (:func:`demixed_values`); a fit of ``dW`` needs no such limit, since
several contexts share the few parameters of a loss.

What cannot be told apart: from predictions of 0 ridge is the squared loss, and the cosine has no
gradient; Huber's loss with every residual inside its threshold is the squared loss, with every
residual outside parallel to the absolute one. Ties go to the simpler loss, and are reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.mesa_optimization.inner_losses import INNER_LOSSES, huber_loss
from icl_lessons.runtime import check_integer, check_number, seeded
from icl_lessons.types import Batch, Learner

# Simplest first: of losses that explain a step equally well, the first is named.
FAMILY = (
    "shrinkage",  # no loss on the data at all: p <- (1 - a) p
    "squared",
    "sign_flipped",
    "absolute",
    "cosine",
    "ridge",
    "huber",
    "importance_weighted",
)
FOLDS, RESAMPLES = 4, 100
NEGLIGIBLE, DECISIVE = 1e-4, 2.0  # a difference and a ratio of unexplained shares


@dataclass(frozen=True)
class Detection:
    """What was found.

    Attributes:
        is_gradient_step: whether the change of the prediction is a gradient step on a loss of the
            family.
        loss: which; ``None`` if it is none.
        step_size: ``eta`` with the sum over examples divided by ``N``; NaN if there is no loss.
        confidence: share of resamplings of the contexts that give the same verdict.
        scores: for each candidate, the share of ``|dW|^2`` that it explains on contexts on which
            it was not fitted (1 minus the unexplained share; not below 0).
        ties: candidates that explain as much as the one named, up to two standard errors.
        parameters: ``delta`` of Huber's loss, ``leak`` of ridge (``lambda``), where named.
        example_weights: ``c``, one for each place in the context, mean 1; ``None`` where the
            contexts are too few to fix them.
        linearity: share of the prediction's change that a linear map of the query explains, on
            queries held out.
        in_span: share of ``|dW|^2`` within the span of the context's inputs; 1 for ``N >= d``.
        curl: antisymmetric share of the matrix that best turns the named loss's values into the
            layer's (:func:`~icl_lessons.mesa_optimization.inner_losses.curl`); 0 for one output.
        reason: of a 'no', in words; empty for a 'yes'.
    """

    is_gradient_step: bool
    loss: str | None
    step_size: float
    confidence: float
    scores: Mapping[str, float]
    ties: tuple[str, ...]
    parameters: Mapping[str, float]
    example_weights: Float[Tensor, " n_context"] | None = field(repr=False)
    linearity: float
    in_span: float
    curl: float
    reason: str


@dataclass(frozen=True)
class WeightChange:
    """The linear model of a learner before a layer, and how the layer changes it.

    Attributes:
        before: ``W``, ``[batch, m, d]``.
        change: ``dW``, ``[batch, m, d]``.
        predictions: at the context's inputs before the layer, ``[batch, n_context, m]``.
        held_out: squared change of the prediction at inputs held out, what a linear map fitted
            elsewhere leaves of it, and all of it.
    """

    before: Float[Tensor, "batch m d"]
    change: Float[Tensor, "batch m d"]
    predictions: Float[Tensor, "batch n m"]
    held_out: Float[Tensor, "batch 2"]

    @property
    def linearity(self) -> float:
        """Share of the change at the inputs held out that is linear in them, 0 or more."""
        return _explained(self.held_out.mean(0)).item()


def _explained(squares: Tensor) -> Tensor:
    left, total = squares.unbind(-1)
    share = 1 - left / total.clamp_min(1e-300)
    return torch.where(total > 0, share.clamp_min(0), 0.0)


def zero_predictor(xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
    """The learner before the first layer: it predicts 0."""
    return ys.new_zeros(*x_query.shape[:2], ys.shape[2])


@torch.no_grad()
def weight_change(before: Learner, after: Learner, batch: Batch) -> WeightChange:
    """Read ``W`` and ``dW`` from predictions at ``6 d`` inputs of the other contexts.

    A linear map is fitted on two thirds of them and held to the rest; then on all. Where there are
    fewer inputs all of them serve, down to ``3 d``.

    Raises:
        ValueError: fewer than ``3 d`` inputs in all contexts together.
    """
    xs, ys = batch.xs, batch.ys
    contexts, n, d = xs.shape
    if contexts * n < 3 * d:
        raise ValueError(
            f"batch: {contexts} contexts of {n} examples; to ask at 3 d = {3 * d} inputs use at "
            f"least {-(-3 * d // n)} contexts"
        )
    wanted = min(6 * d, contexts * n)
    shifts = range(1, -(-wanted // n) + 1)  # of the contexts; the last resort is a context itself
    probes = torch.cat([xs.roll(shift, 0) for shift in shifts], 1)[:, :wanted]
    early = before(xs, ys, probes).double()
    moved = after(xs, ys, probes).double() - early
    x = probes.double()

    seen = wanted * 2 // 3
    fitted = torch.linalg.lstsq(x[:, :seen], moved[:, :seen]).solution
    held_out = moved[:, seen:]
    left = held_out - x[:, seen:] @ fitted
    squares = torch.stack([left.square().sum((1, 2)), held_out.square().sum((1, 2))], 1)
    both = torch.linalg.lstsq(x, torch.cat([early, moved], -1)).solution.mT
    m = ys.shape[2]
    return WeightChange(both[:, :m], both[:, m:], before(xs, ys, xs).double(), squares)


def demixed_values(
    xs: Float[Tensor, "batch n d"], delta_p: Float[Tensor, "batch n m"]
) -> Float[Tensor, "batch n m"]:
    """``eta v_i`` from the change of the predictions at the context, ``N G^{-1} dp``.

    Exact where the ``N`` inputs are independent, which takes ``N <= d``.

    Raises:
        ValueError: more examples than coordinates: the Gram matrix ``G`` has no inverse.
    """
    n, d = xs.shape[1:]
    if n > d:
        raise ValueError(
            f"xs: {n} examples of {d} coordinates; their Gram matrix has no inverse. Use at most "
            "d examples, or fit the change of the weights over several contexts"
        )
    return n * torch.linalg.solve(xs @ xs.mT, delta_p)


# --- candidates ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fit:
    """A candidate's fit: coefficients on all contexts and errors on contexts held out."""

    errors: Tensor  # [batch], squared error over the mean of |dW|^2
    coefficients: Tensor  # [features]
    values: Tensor | None = None  # [batch, n, m], before the step size
    weights: Tensor | None = None  # [n], example weights that are part of the values
    parameters: dict[str, float] = field(default_factory=dict)


def _steps(values: Tensor, xs: Tensor) -> Tensor:
    """``1/N sum_i v_i x_i^T``, flat: ``[..., batch, m d]``."""
    return (values.mT @ xs).flatten(-2) / xs.shape[-2]


def _held_out(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares over contexts, held to the contexts of other folds.

    Args:
        features: ``[..., batch, k, m d]``, of one candidate or several.
        target: ``[batch, m d]``.

    Returns:
        Squared error of each context over the mean of ``|target|^2``, ``[..., batch]``, and the
        coefficients on all contexts, ``[..., k]``.
    """
    gram, cross = features @ features.mT, (features @ target[..., None])[..., 0]
    fold = torch.arange(len(target)) % FOLDS
    other = (fold != torch.arange(FOLDS)[:, None]).to(target)
    others = _solve((other @ gram.flatten(-2)).unflatten(-1, gram.shape[-2:]), other @ cross)
    fitted = (others[..., fold, None, :] @ features)[..., 0, :]
    errors = (target - fitted).square().sum(-1) / target.square().sum(-1).mean()
    return errors, _solve(gram.sum(-3), cross.sum(-2))


def _solve(gram: Tensor, cross: Tensor) -> Tensor:
    """Normal equations, ``[..., k, k]`` and ``[..., k]``; the shortest solution if singular."""
    if gram.shape[-1] == 1:
        return torch.where(gram[..., 0] > 0, cross / gram[..., 0].clamp_min(1e-300), 0.0)
    return (torch.linalg.pinv(gram, hermitian=True) @ cross[..., None])[..., 0]


def _huber_delta(residual: Tensor, xs: Tensor, target: Tensor) -> float:
    """The threshold whose step is most parallel to ``dW``, by three rounds of ever finer grids."""
    levels = torch.linspace(0, 1, 24, dtype=torch.float64)
    grid = residual.abs().flatten().quantile(levels)
    for _ in range(3):
        steps = _steps(residual.clamp(-grid[:, None, None, None], grid[:, None, None, None]), xs)
        along, size = (steps * target).sum((1, 2)), steps.square().sum((1, 2))
        best = int((along / size.sqrt().clamp_min(1e-300)).argmax())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        chosen, grid = grid[best], torch.linspace(0, 1, 24, dtype=torch.float64)
        grid = low + (high - low) * grid
    return float(chosen)


def _candidates(seen: WeightChange, ys: Tensor, keys: Tensor) -> dict[str, _Fit]:
    p = seen.predictions
    target, residual = seen.change.flatten(1), ys - p
    found: dict[str, _Fit] = {}

    plain = {"squared": residual, "absolute": residual.sign()}
    if ys.shape[2] > 1 and min(p.norm(dim=-1).min(), ys.norm(dim=-1).min()) > 0:
        plain["cosine"] = INNER_LOSSES["cosine"].value(p, ys)
    delta = _huber_delta(residual, keys, target)
    if delta > 0:
        plain["huber"] = huber_loss(delta).value(p, ys)
    steps = _steps(torch.stack(list(plain.values())), keys)
    errors, thetas = _held_out(steps[:, :, None], target)
    for i, (name, values) in enumerate(plain.items()):
        parameters = {"delta": delta} if name == "huber" else {}
        if thetas[i] > 0:
            found[name] = _Fit(errors[i], thetas[i], values, parameters=parameters)
        elif name == "squared":
            found["sign_flipped"] = _Fit(errors[i], -thetas[i], -values)

    shrink = -seen.before.flatten(1)
    if shrink.square().sum() > 1e-20 * target.square().sum():
        found["shrinkage"] = _Fit(*_held_out(shrink[:, None], target))
        each, theta = _held_out(torch.stack([steps[0], shrink], 1), target)
        if (theta > 0).all():
            leak = {"leak": (theta[1] / theta[0]).item()}
            found["ridge"] = _Fit(each, theta, residual, parameters=leak)
    if (weighted := _each_example(residual, keys, target)) is not None:
        each, theta = weighted
        if (size := theta.mean()) > 0:
            c = theta / size
            found["importance_weighted"] = _Fit(each, size[None], c[:, None] * residual, c)
    return found


def _each_example(values: Tensor, keys: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """One coefficient for each place in the context, if there are twice as many equations."""
    n = values.shape[1]
    if len(target) * (FOLDS - 1) // FOLDS * target.shape[1] < 2 * n:
        return None
    features = (values[..., None] * keys[:, :, None]).flatten(2) / n
    return _held_out(features, target)


# --- the verdict --------------------------------------------------------------------------------


def detect_objective(
    before: Learner | None,
    after: Learner,
    batch: Batch,
    *,
    preconditioner: Float[Tensor, "d d"] | None = None,
    least_linearity: float | int = 0.5,
    least_score: float | int = 0.9,
    most_curl: float | int = 0.1,
    seed: int = 0,
) -> Detection:
    """Whether the step from ``before`` to ``after`` descends a loss of :data:`FAMILY`, and which.

    Args:
        before: the learner without the layer; ``None`` for the first layer, where it predicts 0.
        after: the learner with it.
        batch: contexts, at least 4; their queries are not used.
        preconditioner: ``Gamma`` of the step, where it is known
            (:func:`~icl_lessons.measures.label_influence.implied_preconditioner`).
        least_linearity: a 'yes' needs this share of the change to be linear in the query.
        least_score: and this share of ``dW`` to be explained on contexts held out.
        most_curl: and no larger antisymmetric share (see :class:`Detection`).
        seed: of the resampling behind ``confidence``.

    Raises:
        ValueError: fewer than 4 contexts, or too few to probe; a threshold out of range.
    """
    for name, value in {
        "least_linearity": least_linearity,
        "least_score": least_score,
        "most_curl": most_curl,
    }.items():
        check_number(name, value)
    check_integer("contexts in batch", len(batch), at_least=FOLDS)
    seen = weight_change(zero_predictor if before is None else before, after, batch)
    target, xs = seen.change.flatten(1), batch.xs.double()
    keys = xs if preconditioner is None else xs @ preconditioner.double()
    if target.square().sum() == 0:
        return _no("the prediction does not change", seen, {}, 1.0)
    found = _candidates(seen, batch.ys.double(), keys)
    names = [name for name in FAMILY if name in found]
    if not names:
        return _no("no candidate has a step of the right sign", seen, {}, 1.0)
    errors = torch.stack([found[name].errors for name in names], 1)  # [batch, candidates]
    scores = {
        name: max(0.0, 1 - error)
        for name, error in zip(names, errors.mean(0).tolist(), strict=True)
    }
    picked, tied = _simplest(errors[None])
    best, ties = names[int(picked[0])], [n for n, t in zip(names, tied[0], strict=True) if t]

    resampled = torch.randint(len(errors), (RESAMPLES, len(errors)), generator=seeded(seed))
    again, _ = _simplest(errors[resampled])
    explained = 1 - errors[resampled].mean(1).gather(1, again[:, None])[:, 0]
    no_data = torch.tensor([name == "shrinkage" for name in names])[again]
    linear = _explained(seen.held_out[resampled].mean(1)) >= least_linearity
    yes_again = linear & (explained >= least_score) & ~no_data
    same_loss = (yes_again & (again == picked[0])).double().mean().item()

    fit = found[best]
    curl = _curl(fit, seen, keys)
    reason = ""
    if seen.linearity < least_linearity:
        reason = "the change is not linear in the query"
    elif scores[best] < least_score:
        reason = "no loss of the family explains the change of the weights"
    elif best == "shrinkage":
        reason = "the prediction shrinks, whatever the data"
    elif curl > most_curl:
        reason = "the values rotate: no loss has them as its gradient"
    if reason:
        turns = reason.startswith("the values")
        certain = 1.0 if turns else 1 - yes_again.double().mean().item()
        return _no(reason, seen, scores, certain, curl)

    weights = fit.weights
    if weights is None:
        data_part = target  # without the leak
        if best == "ridge":
            data_part = target + fit.coefficients[1] * seen.before.flatten(1)
        each = _each_example(fit.values, keys, data_part)
        weights = None if each is None else each[1] / each[1].mean()
    return Detection(
        is_gradient_step=True,
        loss=best,
        step_size=fit.coefficients[0].item(),
        confidence=same_loss,
        scores=scores,
        ties=tuple(name for name in ties if name != best),
        parameters=fit.parameters,
        example_weights=weights,
        linearity=seen.linearity,
        in_span=_in_span(target.unflatten(1, seen.change.shape[1:]), xs),
        curl=curl,
        reason="",
    )


def _simplest(errors: Tensor) -> tuple[Tensor, Tensor]:
    """The first candidate that no other beats; and which candidates tie with the best.

    A candidate ties with the best if it leaves at most twice as much unexplained, and more by no
    more than two standard errors of the difference over contexts (or by a ten-thousandth).

    Args:
        errors: of each context, ``[samples, batch, candidates]``.
    """
    means = errors.mean(1)
    best = means.argmin(1)[:, None, None].expand(-1, errors.shape[1], 1)
    behind = errors - errors.gather(2, best)
    slack = 2 * behind.std(1) / errors.shape[1] ** 0.5
    close = means <= DECISIVE * means.min(1, keepdim=True).values
    tied = (behind.mean(1) <= NEGLIGIBLE) | (close & (behind.mean(1) <= slack))
    return tied.double().argmax(1), tied


def _curl(fit: _Fit, seen: WeightChange, keys: Tensor) -> float:
    """Antisymmetric share of the ``A`` that best explains ``dW = A (1/N sum_i v_i x_i^T)``."""
    m = seen.change.shape[1]
    if fit.values is None or m == 1:
        return 0.0
    steps = _steps(fit.values, keys)
    change = seen.change
    if len(fit.coefficients) == 2:  # ridge: what is left without the leak
        change = change + fit.coefficients[1] * seen.before
    steps, change = (
        t.reshape(len(keys), m, -1).transpose(0, 1).flatten(1) for t in (steps, change)
    )
    turn = torch.linalg.lstsq(steps.mT, change.mT).solution.mT
    return ((turn - turn.mT).norm() / (2 * turn.norm())).item()


def _in_span(change: Tensor, xs: Tensor) -> float:
    basis = torch.linalg.svd(xs, full_matrices=False)[2]  # rows span the inputs
    return ((change @ basis.mT).square().sum() / change.square().sum()).item()


def _no(
    reason: str, seen: WeightChange, scores: dict, confidence: float, curl: float = 0.0
) -> Detection:
    return Detection(
        is_gradient_step=False,
        loss=None,
        step_size=float("nan"),
        confidence=confidence,
        scores=scores,
        ties=(),
        parameters={},
        example_weights=None,
        linearity=seen.linearity,
        in_span=float("nan"),
        curl=curl,
        reason=reason,
    )
