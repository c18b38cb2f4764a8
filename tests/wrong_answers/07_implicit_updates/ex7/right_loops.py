"""Head by head, in single precision.

verdict: accepted
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    v, k, q, lam = (p.float() for p in (values, keys, queries, covariance))
    m = torch.zeros_like(lam)
    for i in range(len(v)):
        m = m + v[i] * torch.outer(k[i], q[i])
    square = lam @ lam
    force = square - (square + (square + lam.trace() * lam) / n_context) @ m @ lam
    new = [], [], []
    for i in range(len(v)):
        new[0].append(v[i] + step_size * k[i] @ force @ q[i])
        new[1].append(k[i] + step_size * v[i] * force @ q[i])
        new[2].append(q[i] + step_size * v[i] * force.mT @ k[i])
    return tuple(torch.stack(p) for p in new)
