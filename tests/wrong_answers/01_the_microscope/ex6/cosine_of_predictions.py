"""The cosine of the predictions.

verdict: rejected
found: in sight
says: cosine of the two predictions
"""

import torch


def agreement(learner_a, learner_b, xs, ys, x_query):
    difference = learner_a(xs, ys, x_query) - learner_b(xs, ys, x_query)

    def sensitivity(learner):
        x = x_query.detach().clone().requires_grad_()
        out = learner(xs, ys, x)
        return out.detach()

    a, b = sensitivity(learner_a), sensitivity(learner_b)
    cosine = torch.cosine_similarity(a, b, dim=-1).mean().item()
    return difference.norm(dim=-1).mean().item(), cosine
