"""Stacked derivatives and a mask of who comes before whom.

verdict: accepted
"""

import torch


def full_batch_step(theta, gradient, examples, step_size):
    return theta - step_size * torch.stack([gradient(theta, one) for one in examples]).mean(0)


def one_epoch(theta, gradient, examples, step_size, order):
    here = theta.clone()
    for one in [examples[i] for i in order]:
        here -= step_size * gradient(here, one)
    return here


def expected_epoch(theta, gradient, hessian, examples, step_size, order):
    g = torch.stack([gradient(theta, examples[i]) for i in order])
    h = torch.stack([hessian(theta, examples[i]) for i in order])
    earlier = torch.tril(torch.ones(len(order), len(order)), -1)
    return theta - step_size * g.sum(0) + step_size**2 * torch.einsum("irc,ij,jc->r", h, earlier, g)
