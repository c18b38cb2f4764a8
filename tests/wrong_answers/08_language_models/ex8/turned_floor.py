"""The other direction, the floor in the answers.

verdict: rejected
found: in sight
says: with the floor in the answers
"""

import torch


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * answers + floor / answers.shape[-1]
    each = (torch.xlogy(accounts, accounts) - accounts * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
