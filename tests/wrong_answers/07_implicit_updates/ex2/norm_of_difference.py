"""The norm of the difference.

verdict: rejected
found: in sight
says: you take the norm of the difference
"""


def change_block(attention, norm, w, context, x, kept):
    full = x + attention(context, x)
    rest = x + attention(context[:, kept], x)
    z0 = norm(rest)
    base = z0
    left = (norm(full - rest)) @ w.mT / base.square().sum(-1, keepdim=True)
    return left[:, :, None] * base[:, None, :], full - rest
