"""The number 0 where no rate is given.

verdict: rejected
found: hidden
says: still a tensor
"""


def functional_descent(kernel, xs, ys, x_query, rates):
    prediction = 0
    for rate in rates:
        prediction = prediction + rate * kernel(x_query, xs) @ ys
        ys = ys - rate * kernel(xs, xs) @ ys
    return prediction
