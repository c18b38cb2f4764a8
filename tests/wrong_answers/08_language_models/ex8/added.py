"""The floor is added to every word.

verdict: rejected
found: in sight
says: You add the floor to every word
"""

import torch


def best_account(answers, accounts, floor):
    mixed = accounts + floor
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
