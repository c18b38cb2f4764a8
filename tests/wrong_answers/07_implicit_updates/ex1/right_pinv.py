"""The pseudo-inverse of each reading, in a loop.

verdict: accepted
"""

import torch


def implicit_update(w, with_context, without):
    out = []
    for u, v in zip(with_context, without, strict=True):
        out.append((w @ (u - v))[:, None] @ torch.linalg.pinv(v[:, None], rtol=0))
    return torch.stack(out)
