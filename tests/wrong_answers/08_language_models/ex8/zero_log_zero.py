"""0 log 0.

verdict: rejected
found: hidden
says: not the divergences
"""


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = (answers * answers.log() - answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
