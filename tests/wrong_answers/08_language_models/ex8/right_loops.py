"""Word by word.

verdict: accepted
"""

import torch


def best_account(answers, accounts, floor):
    queries, size = answers.shape
    far = []
    for account in accounts:
        total = 0.0
        for q in range(queries):
            for v in range(size):
                p = answers[q, v]
                if p > 0:
                    other = (1 - floor) * account[q, v] + floor / size
                    total += float(p * (p.log() - other.log()))
        far.append(total / queries)
    return sorted(range(len(far)), key=far.__getitem__), torch.tensor(far)
