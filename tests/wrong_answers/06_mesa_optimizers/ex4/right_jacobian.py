"""The whole Jacobian at once, and normal equations.

verdict: accepted
"""

import torch


def implied_preconditioner(learner, xs, ys, x_query):
    n, d = xs.shape[1:]
    jacobian = torch.autograd.functional.jacobian(lambda y: learner(xs, y, x_query).sum(0), ys)
    slopes = jacobian[:, 0, :, :, 0]  # [q, batch, N]
    features = torch.einsum("bnd,bqe->qbnde", xs, x_query).flatten(3) / n
    gram = torch.einsum("qbni,qbnj->ij", features, features)
    gamma = torch.linalg.solve(gram, torch.einsum("qbni,qbn->i", features, slopes))
    total = (slopes**2).sum()
    left = ((slopes - features @ gamma) ** 2).sum()
    return gamma.reshape(d, d), torch.where(total > 0, 1 - left / total.clamp_min(1e-30), 0.0)
