"""How alike two distributions over the next token are, as Shen et al. compare learners.

All functions take probabilities, not their logarithms, over the whole vocabulary: a learner that
never answers with a label word is wrong, not lucky one time in ``m``. The top tokens of a
distribution are ranked by probability, and by their number where probabilities are equal.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icl_lessons.runtime import check_choice, check_integer

Distributions = Float[Tensor, "*places vocabulary"]

VARIANTS = ("paper", "sqrt", "plain", "full")


def accuracy_over_vocabulary(
    probabilities: Float[Tensor, "queries vocabulary"], answers: Int[Tensor, " queries"]
) -> float:
    """Share of queries whose answer is the most probable token [shen2024pretrained, 4.2]."""
    if len(answers) == 0:
        raise ValueError("answers: got none; give at least one query")
    return (probabilities.argmax(-1) == answers).double().mean().item()


def top_tokens(probabilities: Distributions, k: int) -> Bool[Tensor, "*places vocabulary"]:
    """Which tokens are among the ``k`` most probable.

    Raises:
        ValueError: ``k`` below 1 or above the number of tokens.
    """
    check_integer("k", k, at_least=1)
    if k > probabilities.shape[-1]:
        raise ValueError(f"k: got {k}; there are {probabilities.shape[-1]} tokens")
    first = probabilities.argsort(dim=-1, descending=True, stable=True)[..., :k]
    return torch.zeros_like(probabilities, dtype=torch.bool).scatter(-1, first, True)


def _check_pair(p: Tensor, q: Tensor) -> None:
    if p.shape != q.shape:
        raise ValueError(f"q: got shape {tuple(q.shape)}, the other has {tuple(p.shape)}")


def token_overlap(p: Distributions, q: Distributions, k: int = 10) -> Float[Tensor, "*places"]:
    """``|T_p and T_q| / k``: the share of the top ``k`` tokens that both have [shen2024pretrained].

    Two rankings that have nothing to do with each other share ``k / vocabulary`` of theirs on
    average: little for a real vocabulary, much for a small one.
    """
    _check_pair(p, q)
    both = top_tokens(p, k) & top_tokens(q, k)
    return both.sum(-1).to(p.dtype) / k


def overlap_cosine_similarity(
    p: Distributions,
    q: Distributions,
    k: int = 10,
    variant: Literal["paper", "sqrt", "plain", "full"] = "paper",
) -> Float[Tensor, "*places"]:
    """Cosine of two distributions on the tokens that both have among their top ``k``.

    With ``O`` the shared tokens [shen2024pretrained, eq. 6],

    .. math:: \\frac{\\sum_{t \\in O} p_t q_t}
              {\\sqrt{\\sum_{t \\in O} p_t^2} \\sqrt{\\sum_{t \\in O} q_t^2} \\cdot d}

    and 0 where nothing is shared. The paper says of the divisor ``d`` that it stands for zero
    overlap elsewhere and is 1 when all ``k`` are shared; its formula did not survive in the text
    that could be read.

    Args:
        k: tokens looked at.
        variant: ``"paper"``: ``d = max(1, k - |O|)``. ``"sqrt"``: its square root. ``"plain"``: 1.
            ``"full"``: the cosine of the two vectors that are 0 outside their own top ``k``, which
            divides by the lengths of all top ``k`` in place of ``d``.
    """
    _check_pair(p, q)
    check_choice("variant", variant, VARIANTS)
    top_p, top_q = top_tokens(p, k), top_tokens(q, k)
    both = top_p & top_q
    shared = both.sum(-1).to(p.dtype)
    product = (p * q * both).sum(-1)
    if variant == "full":
        return product / ((p * top_p).norm(dim=-1) * (q * top_q).norm(dim=-1))
    lengths = (p * both).norm(dim=-1) * (q * both).norm(dim=-1)
    missing = (k - shared).clamp_min(1)
    divisor = {"paper": missing, "sqrt": missing.sqrt(), "plain": torch.ones_like(missing)}[variant]
    return torch.where(lengths > 0, product / (lengths * divisor).where(lengths > 0, 1), 0)


def order_sensitivity(
    probabilities: Float[Tensor, "orders *queries vocabulary"],
) -> Float[Tensor, "*queries"]:
    """``sum_v std_r p_r(v)``: how far answers move when the demonstrations change their order.

    The standard deviation (unbiased) of every token's probability over the orders, summed over the
    vocabulary [shen2024pretrained, section 4.1; how tokens are aggregated is our reading].

    Raises:
        ValueError: fewer than two orders.
    """
    if probabilities.shape[0] < 2:
        raise ValueError(f"probabilities: {probabilities.shape[0]} order; give two or more")
    return probabilities.std(0).sum(-1)


def divergence(
    reference: Distributions, other: Distributions, floor: float | int = 0.001
) -> Float[Tensor, "*places"]:
    """``KL(reference || other)`` in nats, ``other`` mixed with a little of the uniform law.

    Args:
        floor: share of the uniform law in ``other``, so that what it rules out costs much and not
            infinitely much.
    """
    _check_pair(reference, other)
    if not 0 < floor < 1:
        raise ValueError(f"floor: got {floor}; use a share between 0 and 1")
    mixed = (1 - floor) * other + floor / other.shape[-1]
    return (torch.xlogy(reference, reference) - reference * mixed.log()).sum(-1)
