"""Every place of every label.

verdict: rejected
found: in sight
says: not right yet
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[:, label_at - 1].log_softmax(-1)[:, 0]
    return -laws[rows, tokens[rows, label_at]].mean()
