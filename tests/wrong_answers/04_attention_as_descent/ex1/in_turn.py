"""Tokens written one after another, each reading those already written.

verdict: rejected
found: in sight
says: before you have read it for the others
"""


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    out = tokens.clone()
    for j in range(tokens.shape[1]):
        context = out[:, :n_context]
        errors = context[..., :d] @ initial_weights.mT - context[..., d:]
        scores = context[..., :d] @ tokens[:, j, :d, None]
        out[:, j, d:] = out[:, j, d:] + step_size / n_context * (scores * errors).sum(1)
    return out
