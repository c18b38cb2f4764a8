"""Small probabilities are raised.

verdict: rejected
found: in sight
says: You raise small probabilities
"""

import torch


def best_account(answers, accounts, floor):
    mixed = accounts.clamp_min(floor)
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
