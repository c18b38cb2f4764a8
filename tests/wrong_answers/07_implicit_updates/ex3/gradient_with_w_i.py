"""The weights are right, the gradients use W_i.

verdict: rejected
found: in sight
says: You compute the gradient with W_i
"""

import torch


def token_path(w, readings):
    start = readings[:, :1]
    step_size = 1 / start[:, 0].square().sum(-1)

    def outer(left):
        return left[..., None] * start[:, :, None, :]

    weights = w + step_size[:, None, None, None] * outer((readings - start) @ w.mT)
    gradients = outer(torch.einsum("bnhd,bnd->bnh", weights[:, :-1], -readings.diff(dim=1)))
    return weights, step_size, gradients
