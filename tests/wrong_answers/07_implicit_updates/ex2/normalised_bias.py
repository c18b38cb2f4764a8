"""The change of the bias is normalised.

verdict: rejected
found: in sight
says: is that of the NORMALISED stream
"""


def change_block(attention, norm, w, context, x, kept):
    full = x + attention(context, x)
    rest = x + attention(context[:, kept], x)
    z, z0 = norm(full), norm(rest)
    base = z0
    left = (z - z0) @ w.mT / base.square().sum(-1, keepdim=True)
    return left[:, :, None] * base[:, None, :], z - z0
