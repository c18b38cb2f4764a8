"""The sum divided by the number of tokens.

verdict: rejected
found: in sight
says: divided by the number of tokens
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT * mask
    return tokens + scores @ (tokens @ w_value.mT) @ projection.mT / tokens.shape[1]
