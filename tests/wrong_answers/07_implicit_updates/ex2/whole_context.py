"""The update stands for the whole context.

verdict: rejected
found: in sight
says: the change of b'
"""


def change_block(attention, norm, w, context, x, kept):
    full = x + attention(context, x)
    rest = x + attention(context[:, :0], x)
    z, z0 = norm(full), norm(rest)
    base = z0
    left = (z - z0) @ w.mT / base.square().sum(-1, keepdim=True)
    return left[:, :, None] * base[:, None, :], full - rest
