"""The other direction.

verdict: rejected
found: in sight
says: You take KL(account || answer)
"""

import torch


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (torch.xlogy(mixed, mixed) - mixed * answers.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
