"""Ranks in place of an order.

verdict: rejected
found: in sight
says: You return the rank of each account
"""

import torch


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().argsort().tolist(), far
