"""With torch's own divergence, whose arguments are the other way round, in single precision.

verdict: accepted
"""

import torch


def best_account(answers, accounts, floor):
    p, q = answers.float(), accounts.float()
    uniform = torch.full_like(q, 1 / q.shape[-1])
    logs = torch.lerp(q, uniform, floor).log()
    each = torch.nn.functional.kl_div(logs, p.expand_as(logs), reduction="none")
    far = each.sum(-1).mean(-1)
    return far.sort().indices, far
