"""The line through the two ends of the budget.

verdict: accepted
"""

import torch


def hijack(learner, xs, ys, x_query, x_added, target, budget):
    longer = torch.cat([xs, x_added], 1)

    def predict(label):
        added = torch.full_like(ys[:, :1], label)
        return learner(longer, torch.cat([ys, added], 1), x_query)[:, 0, 0]

    low, high = predict(-1.0), predict(1.0)
    pull, middle = (high - low) / 2, (high + low) / 2
    label = torch.where(pull.abs() < 1e-9, 0.0, (target - middle) / pull)
    label = label.clamp(-budget, budget)
    return label, middle + pull * label
