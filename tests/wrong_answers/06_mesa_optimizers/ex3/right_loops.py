"""Loops over contexts and queries, in single precision, with a list of pairs.

verdict: accepted
"""

import torch


def next_token_predictions(xs, ys, regularization):
    out = torch.zeros(ys.shape, dtype=torch.float32)
    d = xs.shape[-1]
    for b, (inputs, targets) in enumerate(zip(xs.float(), ys.float(), strict=True)):
        gram, cross = torch.eye(d).float() / regularization, torch.zeros(d, d).float()
        seen = []
        for k, (x, y) in enumerate(zip(inputs, targets, strict=True)):
            if seen:
                gram = gram + torch.outer(seen[-1], seen[-1])
                cross = cross + torch.outer(x, seen[-1])
            out[b, k] = cross @ torch.linalg.solve(gram, x)
            gram, cross = gram + torch.outer(x, x), cross + torch.outer(y, x)
            seen.append(y)
    return out


def error_curve(predictions, ys):
    curve = [
        float(((p - y) ** 2).mean() / 2)
        for p, y in zip(predictions.mT.unbind(-1), ys.mT.unbind(-1), strict=True)
    ]
    return torch.tensor(curve), 1 + max(range(len(curve)), key=curve.__getitem__)
