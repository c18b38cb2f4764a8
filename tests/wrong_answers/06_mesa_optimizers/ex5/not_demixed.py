"""The update is returned as it is.

verdict: rejected
found: in sight
says: You return the update itself
"""

import torch


def demix(delta_p, xs):
    return delta_p


def detect_objective(delta_p, xs, ys, predictions, candidates):
    seen = demix(delta_p, xs)
    scores = {}
    for name, values in candidates.items():
        part = demix(xs @ (xs.mT @ values(predictions, ys)), xs)
        scores[name] = float(torch.cosine_similarity(seen.flatten(), part.flatten(), dim=0))
    best = max(scores, key=scores.get)
    return (best if scores[best] >= 0.99 else None), scores
