"""The language-model loss of everything.

verdict: rejected
found: in sight
says: the loss of every token
"""

import torch


def label_loss(model, tokens, label_at):
    logits = model(tokens)[:, :-1]
    return torch.nn.functional.cross_entropy(logits.mT, tokens[:, 1:])
