"""The derivative by the query, explained by the mean of y x.

verdict: rejected
found: in sight
says: You differentiate by the query
"""

import torch


def implied_preconditioner(learner, xs, ys, x_query):
    x_query = x_query.detach().clone().requires_grad_()
    (slopes,) = torch.autograd.grad(learner(xs, ys, x_query).sum(), x_query)
    beta = (ys * xs).mean(1, keepdim=True).expand_as(slopes).flatten(0, 1)
    slopes = slopes.flatten(0, 1)
    gamma = torch.linalg.pinv(beta) @ slopes
    left = (slopes - beta @ gamma).square().sum()
    return gamma, float(1 - left / slopes.square().sum())
