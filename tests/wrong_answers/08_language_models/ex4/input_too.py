"""All tokens up to the label.

verdict: rejected
found: in sight
says: the tokens of the input as well
"""

import torch


def label_loss(model, tokens, label_at):
    logits = model(tokens)[:, :-1]
    each = torch.nn.functional.cross_entropy(logits.mT, tokens[:, 1:], reduction="none")
    return each[torch.arange(1, tokens.shape[1]) <= label_at[:, None]].mean()
