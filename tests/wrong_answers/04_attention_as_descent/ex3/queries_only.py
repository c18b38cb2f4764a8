"""The context keeps its targets.

verdict: rejected
found: in sight
says: Only your queries move
"""


def preconditioned_layer(tokens, preconditioner, n_context):
    d = preconditioner.shape[0]
    xs, ys = tokens[:, :n_context, :d], tokens[:, :n_context, d:]
    out = tokens.clone()
    scores = tokens[:, n_context:, :d] @ preconditioner.mT @ xs.mT
    out[:, n_context:, d:] -= scores @ ys / n_context
    return out
