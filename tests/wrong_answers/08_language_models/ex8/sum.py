"""A sum over queries.

verdict: rejected
found: in sight
says: You sum over queries
"""

import torch


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.sum(-1)
    return far.argsort().tolist(), far
