"""Averaged over queries first.

verdict: rejected
found: in sight
says: You average the probabilities
"""

import torch


def best_account(answers, accounts, floor):
    answers, accounts = answers.mean(0), accounts.mean(1)
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (torch.xlogy(answers, answers) - answers * mixed.log()).sum(-1)
    far = each
    return far.argsort().tolist(), far
