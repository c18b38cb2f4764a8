"""Weights act from the left, as on columns.

verdict: rejected
found: in sight
says: Two shapes do not fit
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query) @ (tokens @ w_key).mT * mask
    return tokens + scores @ (tokens @ w_value) @ projection
