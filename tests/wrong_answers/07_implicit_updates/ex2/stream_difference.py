"""The difference is that of the streams, the rest normalised.

verdict: rejected
found: in sight
says: is that of the streams
"""


def change_block(attention, norm, w, context, x, kept):
    full = x + attention(context, x)
    rest = x + attention(context[:, kept], x)
    z0 = norm(rest)
    base = z0
    left = (full - rest) @ w.mT / base.square().sum(-1, keepdim=True)
    return left[:, :, None] * base[:, None, :], full - rest
