"""The mask read as mask[i, j].

verdict: rejected
found: in sight
says: mask acts transposed
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT * mask.mT
    return tokens + scores @ (tokens @ w_value.mT) @ projection.mT
