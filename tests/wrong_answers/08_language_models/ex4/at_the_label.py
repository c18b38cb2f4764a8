"""Read at the label's own place.

verdict: rejected
found: in sight
says: You read what the model says AT the label
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    laws = model(tokens)[rows, label_at].log_softmax(-1)
    return -laws[rows, tokens[rows, label_at]].mean()
