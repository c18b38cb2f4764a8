"""Differences of stacked answers, as a list, in single precision.

verdict: accepted
"""

import torch


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    def told(order):
        shown = list(map(demonstrations.__getitem__, order))
        after = model(algorithm(weights, shown), [], query)
        return torch.stack([model(weights, shown, query), after]).float()

    return list((told(first) - told(second)).unbind())
