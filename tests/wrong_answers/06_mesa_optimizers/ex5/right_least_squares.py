"""Minimum-norm least squares, context by context.

verdict: accepted
"""

import torch


def demix(delta_p, xs):
    out = []
    for update, x in zip(delta_p, xs, strict=True):
        gram = x @ x.mT
        out.append(torch.linalg.lstsq(gram, update, rcond=1e-10, driver="gelsd").solution)
    return torch.stack(out)


def detect_objective(delta_p, xs, ys, predictions, candidates):
    def seen_of(values):
        vectors, sizes, _ = torch.linalg.svd(xs, full_matrices=False)
        kept = vectors * (sizes > 1e-9)[:, None, :]
        return kept @ (kept.mT @ values)

    own = demix(delta_p, xs).reshape(-1)
    scores = {}
    for name in candidates:
        part = seen_of(candidates[name](predictions, ys)).reshape(-1)
        scores[name] = float(own @ part / (own.norm() * part.norm()))
    ranked = sorted(scores, key=scores.get)
    return (ranked[-1] if scores[ranked[-1]] > 0.99 else None), scores
