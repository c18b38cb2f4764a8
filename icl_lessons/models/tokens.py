"""How a context is laid out as tokens.

Three layouts, because the papers use three. ``joint``: one token holds an input and its target
[vonoswald2023transformers, section 2]. ``pair``: the same with a flag, and a query token for
every prefix, so that one pass gives a prediction after each number of examples. ``interleaved``:
inputs and targets take turns [garg2022what, section 2].
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icl_lessons.runtime import check_context, check_integer


def joint_tokens(
    xs: Float[Tensor, "batch n_context d"],
    ys: Float[Tensor, "batch n_context m"],
    x_query: Float[Tensor, "batch n_query d"],
    query_slot: Float[Tensor, "batch n_query m"] | None = None,
) -> Float[Tensor, "batch n_context+n_query d+m"]:
    """``e_j = (x_j, y_j)`` for the context, then ``(x_q, query_slot)`` for each query.

    Args:
        query_slot: what stands where a query's target would; zeros if ``None``.
    """
    check_context(xs, ys, x_query)
    if query_slot is None:
        query_slot = xs.new_zeros(*x_query.shape[:2], ys.shape[2])
    elif query_slot.shape != (*x_query.shape[:2], ys.shape[2]):
        raise ValueError(
            f"query_slot: got shape {tuple(query_slot.shape)}; use [batch, n_query, m] = "
            f"{(*x_query.shape[:2], ys.shape[2])}"
        )
    return torch.cat([torch.cat([xs, ys], -1), torch.cat([x_query, query_slot], -1)], 1)


def pair_tokens(
    xs: Float[Tensor, "batch n_context d"],
    ys: Float[Tensor, "batch n_context m"],
    x_query: Float[Tensor, "batch n_query d"],
) -> Float[Tensor, "batch n_context+n_query d+m+1"]:
    """``(x_i, y_i, 0)`` for the context, then ``(x_q, 0, 1)`` for the queries.

    The last entry tells a query from an example whose target happens to be 0.
    """
    tokens = joint_tokens(xs, ys, x_query)
    flag = tokens.new_zeros(*tokens.shape[:2], 1)
    flag[:, xs.shape[1] :] = 1
    return torch.cat([tokens, flag], -1)


def prefix_mask(n: int, *, device=None) -> Bool[Tensor, "2*{n} 2*{n}"]:
    """Mask of a pair layout in which query ``i`` asks for ``y_i`` after ``i`` examples (from 0).

    The first ``n`` tokens are examples, the last ``n`` the queries at the same inputs. Example
    ``i`` sees examples up to itself; query ``i`` sees the examples before ``i``, and itself.
    """
    check_integer("n", n, at_least=0)
    mask = torch.zeros(2 * n, 2 * n, dtype=torch.bool, device=device)
    mask[:n, :n] = torch.ones(n, n, dtype=torch.bool, device=device).tril()
    mask[n:, :n] = torch.ones(n, n, dtype=torch.bool, device=device).tril(-1)
    mask[n:, n:] = torch.eye(n, dtype=torch.bool, device=device)
    return mask


def interleaved_tokens(
    xs: Float[Tensor, "batch n d"], ys: Float[Tensor, "batch n m"]
) -> Float[Tensor, "batch 2*n width"]:
    """``x_1, y_1, x_2, y_2, ...``, each padded with zeros to the wider of the two.

    Position ``2 i`` (from 0) holds ``x_i``: a causal model's output there has seen ``i`` examples.
    """
    check_context(xs, ys)
    batch, n, d = xs.shape
    tokens = xs.new_zeros(batch, 2 * n, max(d, ys.shape[2]))
    tokens[:, 0::2, :d] = xs
    tokens[:, 1::2, : ys.shape[2]] = ys
    return tokens
