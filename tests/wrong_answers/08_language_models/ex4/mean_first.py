"""The logarithm of the mean.

verdict: rejected
found: in sight
says: the logarithm after that
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at - 1].log_softmax(-1)
    return -laws.exp()[rows, tokens[rows, label_at]].mean().log()
