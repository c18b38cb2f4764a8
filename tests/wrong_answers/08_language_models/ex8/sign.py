"""The sign is turned.

verdict: rejected
found: in sight
says: never negative
"""

import torch


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (answers * mixed.log() - torch.xlogy(answers, answers)).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
