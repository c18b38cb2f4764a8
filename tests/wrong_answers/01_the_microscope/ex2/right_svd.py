"""From the singular vectors of non-zero singular values.

verdict: accepted
"""

import torch


def hat_matrix(xs):
    u, s, _ = torch.linalg.svd(xs, full_matrices=False)
    largest = s.amax(-1, keepdim=True)
    u = u * ((s > 1e-10 * largest) & (s > 0))[:, None, :]
    return u @ u.mT
