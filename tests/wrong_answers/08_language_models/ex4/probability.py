"""One minus the probability.

verdict: rejected
found: in sight
says: You return 1 - p
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at - 1].log_softmax(-1)
    return 1 - laws.exp()[rows, tokens[rows, label_at]].mean()
