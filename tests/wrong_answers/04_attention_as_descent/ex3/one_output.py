"""Only the last column is taken for y.

verdict: rejected
found: in sight
says: a token is not right yet
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    xs, y = tokens[..., :-1], tokens[..., -1:]
    d = preconditioner.shape[0]
    scores = xs[..., :d] @ preconditioner.mT @ xs[:, :n_context, :d].mT
    return torch.cat([xs, y - scores @ y[:, :n_context] / n_context], dim=-1)
