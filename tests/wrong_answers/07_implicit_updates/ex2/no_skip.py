"""What attention adds is normalised, without the stream it is added to.

verdict: rejected
found: in sight
says: you normalise what attention adds
"""


def change_block(attention, norm, w, context, x, kept):
    full = x + attention(context, x)
    rest = x + attention(context[:, kept], x)
    z, z0 = norm(full - x), norm(rest - x)
    base = z0
    left = (z - z0) @ w.mT / base.square().sum(-1, keepdim=True)
    return left[:, :, None] * base[:, None, :], full - rest
