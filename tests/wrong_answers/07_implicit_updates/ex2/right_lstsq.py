"""The least-norm solution of the one equation, and the difference of attentions.

verdict: accepted
"""

import torch


def change_block(attention, norm, w, context, x, kept):
    stay = torch.zeros(context.shape[1], dtype=torch.bool)
    stay[kept] = True
    before, after = attention(context, x), attention(context[:, stay], x)
    z, z0 = norm(x + before), norm(x + after)
    wanted = (z - z0) @ w.mT
    solved = torch.linalg.pinv(z0[:, None]) @ wanted[:, None]
    return solved.mT, before - after
