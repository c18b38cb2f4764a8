"""Each block reads blocks that have moved.

verdict: rejected
found: in sight
says: blocks that have moved already
"""

import torch


def layer_causal_step(weights, read_out, x, labels, step_size):
    h, new = x, []
    for w in weights:
        own = w.detach().clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy((h + (h @ own.mT).tanh()) @ read_out.mT, labels)
        (slope,) = torch.autograd.grad(loss, own)
        new.append(w - step_size * slope)
        h = h + (h @ new[-1].mT).tanh()
    return new


def ordinary_step(weights, read_out, x, labels, step_size):
    own, h, total = [w.detach().clone().requires_grad_() for w in weights], x, 0
    for w in own:
        h = h + (h @ w.mT).tanh()
        total = torch.nn.functional.cross_entropy(h @ read_out.mT, labels)
    slopes = torch.autograd.grad(total, own)
    return [w - step_size * slope for w, slope in zip(weights, slopes, strict=True)]
