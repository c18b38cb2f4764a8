"""Logits taken for log-probabilities.

verdict: rejected
found: in sight
says: You take the logit itself
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at - 1]
    return -laws[rows, tokens[rows, label_at]].mean()
