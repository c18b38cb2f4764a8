"""No case for a pull of zero.

verdict: rejected
found: in sight
says: pulls at nothing
"""

import torch


def hijack(learner, xs, ys, x_query, x_added, target, budget):
    longer = torch.cat([xs, x_added], 1)

    def predict(label):
        return learner(longer, torch.cat([ys, label.view(-1, 1, 1)], 1), x_query)[:, 0, 0]

    zero = torch.zeros(len(xs))
    intercept = predict(zero)
    pull = predict(zero + 1) - intercept
    label = ((target - intercept) / pull).clamp(-budget, budget)
    return label, predict(label)
