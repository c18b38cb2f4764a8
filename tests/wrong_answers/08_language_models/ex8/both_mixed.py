"""The floor in the answers too.

verdict: rejected
found: in sight
says: into the answers as well
"""

import torch


def best_account(answers, accounts, floor):
    answers = (1 - floor) * answers + floor / answers.shape[-1]
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
