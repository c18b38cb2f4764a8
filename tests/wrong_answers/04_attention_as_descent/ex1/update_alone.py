"""The update without the token.

verdict: rejected
found: in sight
says: return the update alone
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs, ys = tokens[..., :d], tokens[..., d:]
    values = (xs @ initial_weights.mT - ys)[:, :n_context]
    update = step_size / n_context * (xs @ xs[:, :n_context].mT) @ values
    return torch.cat([0 * xs, update], dim=-1)
