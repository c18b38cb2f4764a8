"""Cosines of single examples, averaged.

verdict: rejected
found: in sight
says: average cosines of single examples
"""

import torch


def demix(delta_p, xs):
    inverse = torch.linalg.pinv(xs)
    return inverse.mT @ (inverse @ delta_p)


def detect_objective(delta_p, xs, ys, predictions, candidates):
    seen = demix(delta_p, xs)
    scores = {}
    for name, values in candidates.items():
        part = demix(xs @ (xs.mT @ values(predictions, ys)), xs)
        scores[name] = float(torch.cosine_similarity(seen, part, dim=-1).mean())
    best = max(scores, key=scores.get)
    return (best if scores[best] >= 0.99 else None), scores
