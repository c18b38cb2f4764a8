"""The asking token is multiplied by W_K and the asked one by W_Q.

verdict: rejected
found: in sight
says: Query and key have changed places
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_key.mT) @ (tokens @ w_query.mT).mT * mask
    return tokens + scores @ (tokens @ w_value.mT) @ projection.mT
