"""One fit for each prompt, and their mean.

verdict: rejected
found: in sight
says: You fit each prompt by itself
"""

import torch


def implied_preconditioner(learner, xs, ys, x_query):
    n, d = xs.shape[1:]
    ys = ys.detach().clone().requires_grad_()
    predictions = learner(xs, ys, x_query)
    slopes = torch.stack(
        [
            torch.autograd.grad(p.sum(), ys, retain_graph=True)[0][..., 0]
            for p in predictions.unbind(1)
        ],
        1,
    ).flatten()
    features = torch.einsum("bnd,bqe->bqnde", xs, x_query).reshape(-1, d * d) / n
    parts = zip(features.chunk(len(xs)), slopes.chunk(len(xs)), strict=True)
    each = torch.stack([torch.linalg.pinv(f) @ s for f, s in parts])
    gamma = each.mean(0)
    total = slopes.square().sum()
    if total == 0:
        return gamma.view(d, d), 0.0
    left = (slopes - features @ gamma).square().sum()
    return each.mean(0).view(d, d), float(1 - left / total)
