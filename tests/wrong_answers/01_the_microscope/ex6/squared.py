"""The mean squared difference.

verdict: rejected
found: in sight
says: average the square
"""

import torch


def agreement(learner_a, learner_b, xs, ys, x_query):
    difference = learner_a(xs, ys, x_query) - learner_b(xs, ys, x_query)

    def sensitivity(learner):
        x = x_query.detach().clone().requires_grad_()
        out = learner(xs, ys, x)
        rows = [
            torch.autograd.grad(out[..., k].sum(), x, retain_graph=True)[0]
            for k in range(out.shape[-1])
        ]
        return torch.stack(rows, dim=-2).flatten(-2)

    a, b = sensitivity(learner_a), sensitivity(learner_b)
    cosine = torch.cosine_similarity(a, b, dim=-1).mean().item()
    return difference.square().sum(-1).mean().item(), cosine
