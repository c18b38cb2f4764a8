"""The tokens to keep are taken out.

verdict: rejected
found: in sight
says: the change of b'
"""


def change_block(attention, norm, w, context, x, kept):
    others = [i for i in range(context.shape[1]) if i not in kept]
    full = x + attention(context, x)
    rest = x + attention(context[:, others], x)
    z, z0 = norm(full), norm(rest)
    left = (z - z0) @ w.mT / z0.square().sum(-1, keepdim=True)
    return left[:, :, None] * z0[:, None, :], full - rest
