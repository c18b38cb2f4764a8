"""No minus.

verdict: rejected
found: in sight
says: The sign is turned
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at - 1].log_softmax(-1)
    return laws[rows, tokens[rows, label_at]].mean()
