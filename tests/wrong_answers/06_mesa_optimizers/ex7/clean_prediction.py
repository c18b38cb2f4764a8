"""The intercept is the prediction without the added example.

verdict: rejected
found: in sight
says: WITHOUT the added example
"""

import torch


def hijack(learner, xs, ys, x_query, x_added, target, budget):
    longer = torch.cat([xs, x_added], 1)

    def predict(label):
        return learner(longer, torch.cat([ys, label.view(-1, 1, 1)], 1), x_query)[:, 0, 0]

    zero = torch.zeros(len(xs))
    intercept = predict(zero)
    pull = predict(zero + 1) - intercept
    useless = pull.abs() < 1e-9
    intercept = learner(xs, ys, x_query)[:, 0, 0]
    wanted = (target - intercept) / pull.masked_fill(useless, 1.0)
    label = wanted.clamp(-budget, budget).masked_fill(useless, 0.0)
    return label, predict(label)
