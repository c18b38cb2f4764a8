"""The inverse of a matrix that has none.

verdict: rejected
found: in sight
says: has no inverse
"""

import torch


def demix(delta_p, xs):
    gram = xs @ xs.mT
    return torch.linalg.inv(gram) @ delta_p


def detect_objective(delta_p, xs, ys, predictions, candidates):
    seen = demix(delta_p, xs)
    scores = {}
    for name, values in candidates.items():
        part = demix(xs @ (xs.mT @ values(predictions, ys)), xs)
        scores[name] = float(torch.cosine_similarity(seen.flatten(), part.flatten(), dim=0))
    best = max(scores, key=scores.get)
    return (best if scores[best] >= 0.99 else None), scores
