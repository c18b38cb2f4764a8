"""The recursion on eigenvalues; the layer as one einsum.

verdict: accepted
"""

import torch


def plus_plus_layer(tokens, d, n_context, step_size, gamma):
    scale = torch.full((tokens.shape[-1],), step_size / n_context, dtype=tokens.dtype)
    scale[:d] = gamma
    context = tokens[:, :n_context]
    scores = torch.einsum("bid,bjd->bji", context[..., :d], tokens[..., :d])
    return tokens - torch.einsum("bji,bid,d->bjd", scores, context, scale)


def effective_preconditioners(xs, gammas):
    values, vectors = torch.linalg.eigh(xs.mT @ xs)
    factor, squares = torch.ones_like(values), []
    for gamma in gammas:
        squares.append(vectors @ torch.diag_embed(factor**2) @ vectors.mT)
        factor = factor * (1 - gamma * values * factor**2)
    return torch.stack(squares)
