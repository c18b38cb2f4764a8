"""Each label is moved by 1.

verdict: rejected
found: in sight
says: change a label by a whole unit
"""

import torch


def implied_preconditioner(learner, xs, ys, x_query):
    n, d = xs.shape[1:]
    base = learner(xs, ys, x_query)
    moved = []
    for i in range(n):
        labels = ys.clone()
        labels[:, i] += 1
        moved.append((learner(xs, labels, x_query) - base)[..., 0])
    slopes = torch.stack(moved, -1).flatten()
    features = torch.einsum("bnd,bqe->bqnde", xs, x_query).reshape(-1, d * d) / n
    gamma = torch.linalg.lstsq(features, slopes[:, None]).solution[:, 0]
    total = slopes.square().sum()
    if total == 0:
        return gamma.view(d, d), 0.0
    left = (slopes - features @ gamma).square().sum()
    return gamma.view(d, d), float(1 - left / total)
