"""The change of W is made from the stream.

verdict: rejected
found: in sight
says: made from the stream u
"""


def change_block(attention, norm, w, context, x, kept):
    full = x + attention(context, x)
    rest = x + attention(context[:, kept], x)
    z, z0 = full, rest
    base = z0
    left = (z - z0) @ w.mT / base.square().sum(-1, keepdim=True)
    return left[:, :, None] * base[:, None, :], full - rest
