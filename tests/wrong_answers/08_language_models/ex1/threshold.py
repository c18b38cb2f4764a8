"""A threshold lets in all that tie.

verdict: rejected
found: in sight
says: your top set has more than k
"""


def token_overlap(p, q, k):
    masks = []
    for law in (p, q):
        first = law.sort(dim=-1, descending=True).values[..., k - 1 : k]
        masks.append((law >= first).double())
    return (masks[0] * masks[1]).sum(-1) / k
