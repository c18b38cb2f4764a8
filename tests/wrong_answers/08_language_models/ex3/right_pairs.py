"""From the squared differences of all pairs of orders, in single precision.

verdict: accepted
"""


def order_sensitivity(probabilities):
    c = probabilities.float()
    n = len(c)
    squares = (c[:, None] - c[None]).square().sum((0, 1)) / (2 * n * (n - 1))
    return squares.sqrt().flatten().sum() / c.shape[1]
