"""A sum.

verdict: rejected
found: in sight
says: You sum over the demonstrations
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at - 1].log_softmax(-1)
    return -laws[rows, tokens[rows, label_at]].sum()
