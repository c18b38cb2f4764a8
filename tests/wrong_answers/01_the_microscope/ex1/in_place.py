"""The right result, written into the argument.

verdict: rejected
found: in sight
says: changed its argument `tokens` in place
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT * mask
    tokens += scores @ (tokens @ w_value.mT) @ projection.mT
    return tokens
