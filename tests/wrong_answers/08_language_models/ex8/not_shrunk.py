"""Added without shrinking the rest.

verdict: rejected
found: in sight
says: without shrinking the rest
"""

import torch


def best_account(answers, accounts, floor):
    mixed = accounts + floor / answers.shape[-1]
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
