"""The gradient as a matrix, times A, acting on every token; single precision.

verdict: accepted
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    tokens, a = tokens.float(), preconditioner.float()
    d = len(a)
    context = tokens[:, :n_context]
    slope = -torch.einsum("bnm,bnd->bmd", context[..., d:], context[..., :d]) / n_context
    moved = torch.einsum("bmd,bjd->bjm", slope @ a, tokens[..., :d])
    return torch.cat([tokens[..., :d], tokens[..., d:] + moved], dim=-1)
