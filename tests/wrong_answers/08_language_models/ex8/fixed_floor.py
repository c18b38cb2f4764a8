"""A floor of 0.001, whatever is asked.

verdict: rejected
found: in sight
says: You use a floor of your own
"""

import torch


def best_account(answers, accounts, floor):
    mixed = 0.999 * accounts + 0.001 / answers.shape[-1]
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
