"""Nothing is inverted.

verdict: rejected
found: in sight
says: linear attention
"""


def mesa_layer(keys, values, queries, regularization):
    return (queries @ keys.mT).tril() @ values
