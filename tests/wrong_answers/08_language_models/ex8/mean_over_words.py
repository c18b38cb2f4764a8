"""A mean over words.

verdict: rejected
found: in sight
says: the mean over words
"""

import torch


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).mean(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
