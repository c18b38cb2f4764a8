"""Scores divided by the square root of the head width.

verdict: rejected
found: in sight
says: square root of the head width
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT * mask
    scores = scores / w_key.shape[0] ** 0.5
    return tokens + scores @ (tokens @ w_value.mT) @ projection.mT
