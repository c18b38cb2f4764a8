"""The right result, written into the argument.

verdict: rejected
found: in sight
says: changed its argument `tokens` in place
"""


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs = tokens[..., :d]
    values = (xs @ initial_weights.mT - tokens[..., d:])[:, :n_context]
    tokens[..., d:] += step_size / n_context * (xs @ xs[:, :n_context].mT) @ values
    return tokens
