"""Central differences; the numbers as tensors.

verdict: accepted
"""

import torch


def agreement(learner_a, learner_b, xs, ys, x_query):
    def slopes(learner):
        columns = []
        for k in range(x_query.shape[-1]):
            h = torch.zeros_like(x_query)
            h[..., k] = 1e-5
            up, down = learner(xs, ys, x_query + h), learner(xs, ys, x_query - h)
            columns.append((up - down) / 2e-5)
        return torch.cat(columns, -1)

    a, b = slopes(learner_a), slopes(learner_b)
    cosine = (a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1)
    gap = learner_a(xs, ys, x_query) - learner_b(xs, ys, x_query)
    return gap.square().sum(-1).sqrt().mean(), cosine.mean()
