"""Loops, and the unit vectors sent through the layers, in single precision.

verdict: accepted
"""

import torch


def plus_plus_layer(tokens, d, n_context, step_size, gamma):
    tokens = tokens.float()
    out = tokens.clone()
    for b in range(len(tokens)):
        for j in range(tokens.shape[1]):
            for i in range(n_context):
                score = torch.dot(tokens[b, i, :d], tokens[b, j, :d])
                out[b, j, :d] -= gamma * score * tokens[b, i, :d]
                out[b, j, d:] -= step_size / n_context * score * tokens[b, i, d:]
    return out


def effective_preconditioners(xs, gammas):
    n, d = xs.shape[1:]
    units = torch.eye(d).float().expand(len(xs), d, d)
    tokens, squares = torch.cat([xs.float(), units], dim=1), []
    for gamma in gammas:
        images = tokens[:, n:]
        squares.append(images @ images.mT)
        tokens = plus_plus_layer(tokens, d, n, 0.0, gamma)
    return torch.stack(squares)
