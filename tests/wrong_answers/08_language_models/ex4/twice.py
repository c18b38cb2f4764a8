"""Probabilities given to cross_entropy.

verdict: rejected
found: in sight
says: a softmax too many
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at - 1].softmax(-1).log_softmax(-1)
    return -laws[rows, tokens[rows, label_at]].mean()
