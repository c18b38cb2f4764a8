"""What a weight matrix looks like, and how far weights have moved.

Shares of small entries depend on the basis: a change of basis inside a head leaves the model as it
is and destroys every zero. Ranks do not, and stand beside them.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_number

Matrix = Float[Tensor, "rows columns"]


def sparsity_ratio(weights: Float[Tensor, "*shape"], threshold: float | int) -> float:
    """Share of the entries that are below ``threshold`` in size [shen2024pretrained, 3.2]."""
    check_number("threshold", threshold, positive=True)
    return (weights.abs() < threshold).double().mean().item()


def sparsity_of_construction(n_x: int, n_y: int, *, zero_start: bool = False) -> dict[str, float]:
    """Shares of zeros in the matrices of von Oswald et al.'s construction, exactly.

    Tokens ``(x, y)`` with ``n_x + n_y`` numbers; keys and queries read ``x`` (an identity block),
    values hold ``W_0`` and ``-I`` [shen2024pretrained, section 3.2].

    Args:
        zero_start: whether ``W_0 = 0``, as for a first step; else all its entries count.
    """
    entries = (n_x + n_y) ** 2
    value = n_y if zero_start else n_x * n_y + n_y
    return {"key": 1 - n_x / entries, "query": 1 - n_x / entries, "value": 1 - value / entries}


def effective_rank(weights: Matrix) -> float:
    """``(sum s_i^2)^2 / sum s_i^4`` of the singular values: ``r`` for ``r`` equal ones.

    Raises:
        ValueError: a matrix of zeros.
    """
    squares = torch.linalg.svdvals(weights.double()).square()
    if not squares.sum() > 0:
        raise ValueError("weights: all are 0; a rank needs something")
    return (squares.sum().square() / squares.square().sum()).item()


def parameter_change(
    first: Iterable[Tensor], second: Iterable[Tensor]
) -> tuple[float, float, float]:
    """How far weights have moved between two checkpoints.

    Returns:
        the mean of ``|w - w'|`` over all entries [shen2024pretrained, appendix B]; the norm of the
        change over that of ``second``; the cosine between the two. The first has no scale.

    Raises:
        ValueError: matrices that do not match.
    """
    a, b = list(first), list(second)
    if [tuple(x.shape) for x in a] != [tuple(x.shape) for x in b] or not a:
        raise ValueError("second: use the same matrices of another checkpoint, at least one")
    one, two = (torch.cat([x.detach().double().flatten() for x in w]) for w in (a, b))
    change, norms = one - two, one.norm() * two.norm()
    return (
        change.abs().mean().item(),
        (change.norm() / two.norm()).item(),
        (one @ two / norms).item(),
    )
