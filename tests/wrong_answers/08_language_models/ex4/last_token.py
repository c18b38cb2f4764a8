"""The last token of each row.

verdict: rejected
found: in sight
says: You count the last token
"""

import torch


def label_loss(model, tokens, label_at):
    return torch.nn.functional.cross_entropy(model(tokens)[:, -2], tokens[:, -1])
