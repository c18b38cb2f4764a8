"""The cross-entropy.

verdict: rejected
found: in sight
says: the answers' own entropy
"""


def best_account(answers, accounts, floor):
    mixed = (1 - floor) * accounts + floor / answers.shape[-1]
    each = -(answers * mixed.log()).sum(-1)
    far = each.mean(-1)
    return far.argsort().tolist(), far
