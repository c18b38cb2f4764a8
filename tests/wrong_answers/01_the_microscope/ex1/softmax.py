"""A softmax over the tokens that may be read.

verdict: rejected
found: in sight
says: softmax
"""

import torch


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT
    scores = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return tokens + scores @ (tokens @ w_value.mT) @ projection.mT
