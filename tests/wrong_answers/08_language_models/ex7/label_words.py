"""A softmax over the labels that occur.

verdict: rejected
found: in sight
says: Your softmax is over the labels that occur
"""

import torch


def layer_causal_step(weights, read_out, x, labels, step_size):
    own, h, total = [w.detach().clone().requires_grad_() for w in weights], x, 0
    words, told = labels.unique(return_inverse=True)
    for w in own:
        h = h.detach()
        h = h + (h @ w.mT).tanh()
        total = total + torch.nn.functional.cross_entropy(h @ read_out[words].mT, told)
    slopes = torch.autograd.grad(total, own)
    return [w - step_size * slope for w, slope in zip(weights, slopes, strict=True)]


def ordinary_step(weights, read_out, x, labels, step_size):
    own, h, total = [w.detach().clone().requires_grad_() for w in weights], x, 0
    for w in own:
        h = h + (h @ w.mT).tanh()
        total = torch.nn.functional.cross_entropy(h @ read_out.mT, labels)
    slopes = torch.autograd.grad(total, own)
    return [w - step_size * slope for w, slope in zip(weights, slopes, strict=True)]
