"""One bad example in the context: how far it moves a learner, and what the worst one is.

Gradient descent from zero weights and ridge regression predict a sum over the labels of the
context,

.. math:: f(x_q) = \\sum_i a_i\\, y_i,

with *influences* :math:`a_i` that depend on inputs and query alone. A label that changes by
:math:`\\delta` moves the prediction by exactly :math:`a_i \\delta`, so the worst change within a
budget, the change that reaches any target, and the number of labels whose signs have to be turned
before the answer turns are all written down rather than searched for. Learners
that are not linear in labels, such as trained transformers, are for
:func:`~icl_lessons.mesa_optimization.gradient_attack.gradient_attack`; attacks on those are the
subject of Anwar et al. [anwar2024adversarial].

Everything here is about regression on toy contexts. An attack on a prompt of a language model is
another matter, and nothing here measures one.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.estimators.least_squares import pseudo_inverse, ridge_weights
from icl_lessons.runtime import (
    check_choice,
    check_context,
    check_integer,
    check_number,
    check_tensor,
)
from icl_lessons.types import Learner

Inputs = Float[Tensor, "batch n_context d"]
Targets = Float[Tensor, "batch n_context m"]
Queries = Float[Tensor, "batch n_query d"]
Labels = Targets  # with m = 1, as check_single makes sure
Query = Queries  # one of each context
Numbers = Float[Tensor, " batch"]
Influence = Float[Tensor, "batch n_query n_context"]
# A context into which an example was put: as many examples as before, or one more.
Poisoned = tuple[Float[Tensor, "batch n_poisoned d"], Float[Tensor, "batch n_poisoned m"]]
Norm = Literal["l2", "linf", "one"]


def check_single(xs: Tensor, ys: Tensor, x_query: Tensor) -> None:
    """Raise unless an attack has its one number: one query a context, targets of one coordinate."""
    check_context(xs, ys, x_query)
    if ys.shape[2] != 1:
        raise ValueError(f"ys: targets of {ys.shape[2]} coordinates; an attack is on one, m = 1")
    if x_query.shape[1] != 1:
        raise ValueError(f"x_query: {x_query.shape[1]} queries; an attack is on one")


# --- influence ----------------------------------------------------------------------------------


def descent_filter(
    curvature: Float[Tensor, "*any"], step_size: float | int, steps: int
) -> Float[Tensor, "*any"]:
    """``(1 - (1 - eta mu)^K) / mu``, and ``eta K`` where the curvature ``mu`` is 0.

    What ``K`` steps from zero make of a direction of curvature ``mu``: it tends to ``1 / mu``.
    """
    check_number("step_size", step_size)
    check_integer("steps", steps, at_least=0)
    mu = curvature.clamp_min(0)
    small = step_size * mu < 0.5  # where 1 - (1 - eta mu)^K would lose its digits
    gentle = -torch.expm1(steps * torch.log1p(-(step_size * mu).clamp_max(0.5)))
    covered = torch.where(small, gentle, 1 - (1 - step_size * mu) ** steps)
    return torch.where(mu > 0, covered / mu.where(mu > 0, 1.0), step_size * steps)


def descent_influence(
    xs: Inputs, x_query: Queries, step_size: float | int, steps: int = 1
) -> Influence:
    """``a_i`` of ``K`` steps of gradient descent from zero weights, from the spectrum of ``S``.

    With ``S = 1/N sum_i x_i x_i^T = Q diag(mu) Q^T``,

    ``a_i = 1/N x_i^T Q diag((1 - (1 - eta mu)^K) / mu) Q^T x_q``,

    which for one step is ``eta/N x_i^T x_q``.

    Args:
        xs: ``[batch, n_context, d]``.
        x_query: ``[batch, n_query, d]``.
        step_size: ``eta``, on the loss ``1/(2N) sum_i |W x_i - y_i|^2``.
        steps: ``K``.

    Returns:
        ``[batch, n_query, n_context]``, in targets' unit for each unit of a label.
    """
    _check_inputs(xs, x_query)
    n = xs.shape[1]
    curvature, basis = torch.linalg.eigh(xs.mT @ xs / n)
    filtered = basis * descent_filter(curvature, step_size, steps)[:, None]
    return x_query @ filtered @ basis.mT @ xs.mT / n


def ridge_influence(xs: Inputs, x_query: Queries, penalty: float | int) -> Influence:
    """``a = X (X^T X + lambda I)^{-1} x_q``; at ``lambda = 0`` least squares of smallest norm."""
    _check_inputs(xs, x_query)
    check_number("penalty", penalty)
    if penalty == 0:
        return x_query @ pseudo_inverse(xs)
    return x_query @ torch.linalg.solve(_penalised(xs, penalty), xs.mT)


def leverage(xs: Inputs, penalty: float | int) -> Float[Tensor, "batch n_context"]:
    """``h_i = x_i^T A^{-1} x_i`` with ``A = X^T X + lambda I``: a label's effect on its fit."""
    return ridge_influence(xs, xs, penalty).diagonal(dim1=1, dim2=2)


def leave_one_out(
    xs: Inputs, ys: Targets, penalty: float | int
) -> Float[Tensor, "batch n_context m d"]:
    """Ridge weights without each example in turn, by the Sherman-Morrison formula.

    ``W_{-i} = W - (y_i - W x_i) (A^{-1} x_i)^T / (1 - h_i)``: one solve serves all ``N``.

    Raises:
        ValueError: a penalty of 0, where leaving an example out may leave ``A`` singular.
    """
    check_number("penalty", penalty, positive=True)
    weights = ridge_weights(xs, ys, penalty)
    gain = torch.linalg.solve(_penalised(xs, penalty), xs.mT).mT
    own = (xs * gain).sum(-1, keepdim=True)
    residual = (ys - xs @ weights.mT) / (1 - own)
    return weights[:, None] - residual[..., None] * gain[:, :, None]


# --- the worst change within a budget -----------------------------------------------------------


class LabelChange(NamedTuple):
    """A change of labels, and how far it moves the prediction: upwards; negate it for downwards."""

    change: Float[Tensor, "batch n_query n_context"]
    shift: Float[Tensor, "batch n_query"]


def worst_label_change(influence: Influence, budget: float | int, norm: Norm = "l2") -> LabelChange:
    """The change of labels within a budget that moves a linear learner furthest: exact.

    Args:
        influence: ``a_i``, for each query by itself.
        budget: ``B``, in the labels' unit.
        norm: what the budget is on. ``"l2"``: the Euclidean length of all changes; shift
            ``B |a|_2``. ``"linf"``: each change by itself; shift ``B sum_i |a_i|``. ``"one"``: one
            label alone; shift ``B max_i |a_i|``.
    """
    check_tensor("influence", influence, "batch n_query n_context")
    check_number("budget", budget)
    check_choice("norm", norm, ("l2", "linf", "one"))
    if norm == "l2":
        size = influence.norm(dim=-1, keepdim=True)
        change = influence / size.where(size > 0, 1.0)
    elif norm == "linf":
        change = influence.sign()
    else:
        largest = influence.abs().argmax(-1, keepdim=True)
        at = torch.zeros_like(influence).scatter(-1, largest, 1.0)
        change = at * influence.sign()
    change = budget * change
    return LabelChange(change, (influence * change).sum(-1))


class PoisonedExample(NamedTuple):
    """One example that an attack puts into a context, and how far that moves the prediction."""

    x: Float[Tensor, "batch d"]
    y: Numbers
    shift: Numbers


def worst_added_to_descent(
    xs: Inputs,
    ys: Labels,
    x_query: Query,
    step_size: float | int,
    *,
    input_budget: float | int,
    label_budget: float | int,
) -> PoisonedExample:
    """The added pair with ``|x| <= R`` and ``|y| <= B`` that moves one step furthest: exact.

    ``f' = (N f + eta y x^T x_q) / (N + 1)``, so ``x`` lies along the query and the shift is at most
    ``(|f| + eta B R |x_q|) / (N + 1)``. It grows without limit with either budget.
    """
    check_single(xs, ys, x_query)
    check_number("input_budget", input_budget)
    check_number("label_budget", label_budget)
    clean = (descent_influence(xs, x_query, step_size) @ ys)[:, 0, 0]
    direction, length = _direction(x_query)
    away = _away(clean)  # from clean's side: the mean over one example more pulls there anyway
    y = label_budget * away
    shift = (step_size * y * input_budget * length - clean) / (xs.shape[1] + 1)
    return PoisonedExample(input_budget * direction, y, shift)


def worst_replaced_in_descent(
    xs: Inputs,
    ys: Labels,
    x_query: Query,
    step_size: float | int,
    *,
    input_budget: float | int,
    label_budget: float | int,
) -> tuple[PoisonedExample, Int[Tensor, " batch"]]:
    """The same for a pair that takes the place of another, and which one it should replace.

    The shift is ``max_i |a_i y_i| + eta/N B R |x_q|``, with the example of largest contribution
    replaced by one of the opposite sign.
    """
    check_single(xs, ys, x_query)
    check_number("input_budget", input_budget)
    check_number("label_budget", label_budget)
    parts = descent_influence(xs, x_query, step_size)[:, 0] * ys[..., 0]
    index = parts.abs().argmax(1)
    removed = parts.gather(1, index[:, None])[:, 0]
    direction, length = _direction(x_query)
    y = label_budget * _away(removed)
    shift = step_size * y * input_budget * length / xs.shape[1] - removed
    return PoisonedExample(input_budget * direction, y, shift), index


def worst_added_to_ridge(
    xs: Inputs, ys: Labels, x_query: Query, penalty: float | int, *, label_budget: float | int
) -> PoisonedExample:
    """The added pair with ``|y| <= B`` and *any* input that moves ridge furthest: exact and finite.

    With ``u = A^{-1/2} x`` the shift of ridge, ``(x_q^T A^{-1} x)(y - w x) / (1 + x^T A^{-1} x)``,
    is a quotient of two quadratic forms in ``(1, u)``. The numerator's matrix is the symmetric part
    of an outer product, so its largest and its smallest eigenvalue are

    ``(-f +- sqrt(h_q (B^2 + w^T A w))) / 2``, with ``h_q = x_q^T A^{-1} x_q``.

    So a converged learner has a worst example, however large inputs may be; one step has none.
    """
    check_single(xs, ys, x_query)
    check_number("penalty", penalty, positive=True)
    check_number("label_budget", label_budget, positive=True)
    a = _penalised(xs, penalty)
    weights = ridge_weights(xs, ys, penalty)[:, 0]
    solved = torch.linalg.solve(a, x_query[:, 0, :, None])[..., 0]  # A^{-1} x_q
    clean = (weights * x_query[:, 0]).sum(-1)
    width = (solved * x_query[:, 0]).sum(-1).sqrt()  # sqrt(h_q)
    side = _away(clean)
    y = label_budget * side
    # The eigenvector is b/|b| +- c/|c| with b = (0, A^{-1/2} x_q) and c = (y, -A^{1/2} w). Its
    # other entries over its first are u = A^{-1/2} x, and x itself needs no root of A.
    length = (y.square() + torch.einsum("bi,bij,bj->b", weights, a, weights)).sqrt()
    top = y / length
    x_part = side[:, None] * (x_query[:, 0] / width[:, None])
    x_part = x_part - torch.einsum("bij,bj->bi", a, weights) / length[:, None]
    return PoisonedExample(x_part / top[:, None], y, (-clean + side * width * length) / 2)


# --- attacks ------------------------------------------------------------------------------------


def with_example(
    xs: Inputs,
    ys: Targets,
    x: Float[Tensor, "batch d"],
    y: Float[Tensor, "batch m"],
    replace: int | None = None,
) -> Poisoned:
    """The context with one pair more at its end, or in the place of example ``replace``.

    Raises:
        ValueError: an index that the context does not have.
    """
    check_context(xs, ys)
    for name, value, like in (("x", x, xs), ("y", y, ys)):
        if value.shape != (len(like), like.shape[2]):
            raise ValueError(
                f"{name}: got shape {tuple(value.shape)}; use one for each context, "
                f"{tuple(like[:, 0].shape)}"
            )
    x, y = x[:, None], y[:, None]
    if replace is None:
        return torch.cat([xs, x], 1), torch.cat([ys, y], 1)
    if not isinstance(replace, int) or not -xs.shape[1] <= replace < xs.shape[1]:
        raise ValueError(f"replace: got {replace!r}; use an index of one of {xs.shape[1]} examples")
    at = torch.arange(xs.shape[1], device=xs.device)[:, None] == replace % xs.shape[1]
    return torch.where(at, x, xs), torch.where(at, y, ys)


def hijack(
    learner: Learner,
    xs: Inputs,
    ys: Labels,
    x_query: Query,
    target: Float[Tensor, " targets"],
    x: Float[Tensor, "pairs d"] | None = None,
    replace: int | None = None,
) -> Poisoned:
    """A context with one pair ``(x, y)`` whose label makes the prediction the target.

    A learner that is linear in labels is a straight line in ``y``, so two of its values give the
    label: exact for it, whatever else it does, and a guess for any other learner. For one step,
    with a pair added, this is ``y = ((N + 1) T / eta - sum_i y_i x_i^T x_q) / (x^T x_q)``: the mean
    runs over ``N + 1`` examples now.

    Args:
        target: ``T`` for each context.
        x: the input of the pair; the query's own if ``None``.
        replace: the example it takes the place of; ``None`` adds it.

    Raises:
        ValueError: an input at which the label has no influence on the query.
    """
    check_single(xs, ys, x_query)
    x = x_query[:, 0] if x is None else x
    check_tensor("target", target, "batch")
    if target.shape != xs.shape[:1]:
        raise ValueError(f"target: got shape {tuple(target.shape)}; use one for each context")

    def at(label: Numbers) -> Poisoned:
        return with_example(xs, ys, x, label[:, None], replace)

    zero = torch.zeros_like(target)
    low, high = (learner(*at(label), x_query)[:, 0, 0] for label in (zero, zero + 1))
    if ((high - low).abs() <= torch.finfo(xs.dtype).eps * (1 + low.abs())).any():
        raise ValueError("x: a label at this input has no influence on the query; use another")
    return at((target - low) / (high - low))


def scaling_attack(
    xs: Inputs,
    ys: Labels,
    x_query: Query,
    scale: float | int,
    label: float | int,
    replace: int | None = None,
) -> Poisoned:
    """The context with the pair ``(c x_q / |x_q|, y)``: the query's direction, of any length.

    Args:
        scale: ``c``.
        label: ``y``, the same at every scale.
        replace: the example it takes the place of; ``None`` adds it.
    """
    check_single(xs, ys, x_query)
    check_number("scale", scale)
    y = torch.full_like(ys[:, 0], label)
    return with_example(xs, ys, scale * _direction(x_query)[0], y, replace)


def scaled_ridge_prediction(
    xs: Inputs,
    ys: Labels,
    x_query: Query,
    penalty: float | int,
    scale: float | int,
    label: float | int,
) -> Numbers:
    """What ridge says after :func:`scaling_attack` with an added pair: closed form.

    ``(f + r h_q y) / (1 + r^2 h_q)`` with ``r = c / |x_q|``: it rises, and returns to 0 as
    ``y |x_q| / c``, since a pair of large input fixes the weights along the query by itself.
    """
    check_single(xs, ys, x_query)
    check_number("penalty", penalty, positive=True)
    weights = ridge_weights(xs, ys, penalty)[:, 0]
    clean = (weights * x_query[:, 0]).sum(-1)
    solved = torch.linalg.solve(_penalised(xs, penalty), x_query.mT)[..., 0]
    h, ratio = (solved * x_query[:, 0]).sum(-1), scale / x_query[:, 0].norm(dim=-1)
    return (clean + ratio * h * label) / (1 + ratio.square() * h)


class ParityFlip(NamedTuple):
    """What turning the signs of labels does to a learner that is linear in them.

    Attributes:
        order: examples, those that hold the answer up most first, ``[batch, n_context]``.
        path: the prediction after 0, 1, ..., ``n_context`` of them were turned.
        needed: the smallest number of turned labels after which the sign of the prediction has
            turned: no set of fewer does it.
    """

    order: Int[Tensor, "batch n_context"]
    path: Float[Tensor, "batch n_context+1"]
    needed: Int[Tensor, " batch"]


def parity_flip(influence: Float[Tensor, "batch n_context"], ys: Labels) -> ParityFlip:
    """How many labels have to change sign before the learner follows the flipped rule: exact.

    The rule of a context is ``w``, the flipped rule ``-w``; a *flipped* example has ``-y_i`` for
    ``y_i``. The learner follows the flipped rule at a query when its prediction has the other sign
    than without flips. The prompt ``2 + 2 = 4, 3 + 3 = 6, 4 + 4 = 7`` asks in words what a flipped
    minority does; for a learner ``f = sum_i a_i y_i`` it is arithmetic: flipping a set ``F`` leaves
    ``f - 2 sum_F a_i y_i``, so the largest contributions in the direction of ``f`` go first, and
    the answer turns when they make up more than half of it. All flipped give exactly ``-f``.

    Args:
        influence: ``a_i`` for one query of each context.
        ys: the clean labels.
    """
    check_tensor("influence", influence, "batch n_context")
    check_tensor("ys", ys, "batch n_context one")
    if ys.shape != (*influence.shape, 1):
        raise ValueError(
            f"ys: got shape {tuple(ys.shape)}; influence has {tuple(influence.shape)}, one number "
            "for each label"
        )
    parts = influence * ys[..., 0]
    clean = parts.sum(1, keepdim=True)
    sign = -_away(clean)
    order = (parts * sign).argsort(dim=1, descending=True, stable=True)
    turned = parts.gather(1, order).cumsum(1)
    path = torch.cat([clean, clean - 2 * turned], 1)
    return ParityFlip(order, path, ((path * sign) < 0).to(torch.int64).argmax(1))


# --- inside -------------------------------------------------------------------------------------


def _penalised(xs: Inputs, penalty: float | int) -> Float[Tensor, "batch d d"]:
    return xs.mT @ xs + penalty * torch.eye(xs.shape[2], dtype=xs.dtype, device=xs.device)


def _direction(x_query: Query) -> tuple[Float[Tensor, "batch d"], Numbers]:
    length = x_query[:, 0].norm(dim=-1)
    if (length == 0).any():
        raise ValueError("x_query: a query of length 0 has no direction, and every learner says 0")
    return x_query[:, 0] / length[:, None], length


def _away(value: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """-1 for positive numbers and 1 for others, in their dtype."""
    return 1.0 - 2.0 * (value > 0).to(value)


def _check_inputs(xs: Tensor, x_query: Tensor) -> None:
    check_context(xs, xs[..., :1], x_query)
