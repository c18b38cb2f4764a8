"""The logarithm of a softmax that rounds to 0.

verdict: rejected
found: hidden
says: not the loss
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at - 1].softmax(-1).log()
    return -laws[rows, tokens[rows, label_at]].mean()
