"""Every token reads every token.

verdict: rejected
found: in sight
says: looks at every token
"""


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    scores = (tokens @ w_query.mT) @ (tokens @ w_key.mT).mT
    return tokens + scores @ (tokens @ w_value.mT) @ projection.mT
