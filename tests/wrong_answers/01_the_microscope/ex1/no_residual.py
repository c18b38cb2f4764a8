"""The update alone, without the token it is added to.

verdict: rejected
found: in sight
says: return the update alone
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT * mask
    return scores @ (tokens @ w_value.mT) @ projection.mT
