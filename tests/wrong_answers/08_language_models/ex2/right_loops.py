"""One query at a time, with sets.

verdict: accepted
"""

import torch


def overlap_cosine(p, q, k):
    out = []
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        tops = [set(sorted(range(len(law)), key=lambda v: (-law[v], v))[:k]) for law in (a, b)]
        both = tops[0] & tops[1]
        if not both:
            out.append(0.0)
            continue
        above = sum(a[t] * b[t] for t in both)
        below = (sum(a[t] ** 2 for t in both) * sum(b[t] ** 2 for t in both)) ** 0.5
        out.append(above / below / (k - len(both) if len(both) < k else 1))
    return torch.tensor(out)
