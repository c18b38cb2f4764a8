"""The skip is forgotten.

verdict: rejected
found: in sight
says: The skip carries u around the MLP
"""

import torch


def change_block(attention, norm, w, context, x, kept):
    full = x + attention(context, x)
    rest = x + attention(context[:, kept], x)
    z, z0 = norm(full), norm(rest)
    base = z0
    left = (z - z0) @ w.mT / base.square().sum(-1, keepdim=True)
    return left[:, :, None] * base[:, None, :], torch.zeros_like(x)
