"""The context keeps its targets.

verdict: rejected
found: in sight
says: Only your queries move
"""


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    out = tokens.clone()
    xs, ys = tokens[:, :n_context, :d], tokens[:, :n_context, d:]
    queries = tokens[:, n_context:, :d]
    values = xs @ initial_weights.mT - ys
    out[:, n_context:, d:] += step_size / n_context * (queries @ xs.mT) @ values
    return out
