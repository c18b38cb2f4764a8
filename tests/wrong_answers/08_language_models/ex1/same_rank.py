"""The same token at the same rank.

verdict: rejected
found: in sight
says: the same token at the same rank
"""


def token_overlap(p, q, k):
    masks = []
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[..., :k]
        masks.append(first)
    return (masks[0] == masks[1]).double().mean(-1)
