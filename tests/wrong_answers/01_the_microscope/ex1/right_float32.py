"""The same in single precision.

verdict: accepted
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    tokens, w_query, w_key = tokens.float(), w_query.float(), w_key.float()
    w_value, projection = w_value.float(), projection.float()
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT * mask
    return tokens + scores @ (tokens @ w_value.mT) @ projection.mT
