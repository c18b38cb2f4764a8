"""A small number inside the logarithm.

verdict: rejected
found: hidden
says: not the loss
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = (model(tokens)[rows, label_at - 1].softmax(-1) + 1e-10).log()
    return -laws[rows, tokens[rows, label_at]].mean()
