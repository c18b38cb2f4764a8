"""No floor.

verdict: rejected
found: in sight
says: mix the floor in before
"""

import torch


def best_account(answers, accounts, floor):
    mixed = accounts
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
