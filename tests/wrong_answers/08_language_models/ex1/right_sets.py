"""With sets and a sort by two keys.

verdict: accepted
"""

import torch


def token_overlap(p, q, k):
    out = []
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        tops = [set(sorted(range(len(law)), key=lambda v: (-law[v], v))[:k]) for law in (a, b)]
        out.append(len(tops[0] & tops[1]) / k)
    return torch.tensor(out)
