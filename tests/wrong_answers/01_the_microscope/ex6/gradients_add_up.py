""".grad of the first learner is still there for the second.

verdict: rejected
found: in sight
says: adds to `.grad`
"""

import torch


def agreement(learner_a, learner_b, xs, ys, x_query):
    difference = learner_a(xs, ys, x_query) - learner_b(xs, ys, x_query)
    m = ys.shape[2]
    copies = [x_query.detach().clone().requires_grad_() for _ in range(m)]
    slopes = []
    for learner in (learner_a, learner_b):
        for k in range(m):
            learner(xs, ys, copies[k])[..., k].sum().backward()
        slopes.append(torch.cat([c.grad.clone() for c in copies], -1))
    cosine = torch.cosine_similarity(*slopes, dim=-1).mean().item()
    return difference.norm(dim=-1).mean().item(), cosine
