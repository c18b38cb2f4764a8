"""A softmax over the labels that occur.

verdict: rejected
found: in sight
says: over the label words that occur
"""

import torch


def label_loss(model, tokens, label_at):
    rows = torch.arange(len(tokens))
    told = tokens[rows, label_at]
    words = told.unique()
    scores = model(tokens)[rows, label_at - 1][:, words]
    return torch.nn.functional.cross_entropy(scores, torch.searchsorted(words, told))
