"""The gradients hold the step size.

verdict: rejected
found: in sight
says: hold the step size already
"""


def token_path(w, readings):
    start = readings[:, :1]
    step_size = 1 / start[:, 0].square().sum(-1)

    def outer(left):
        return left[..., None] * start[:, :, None, :]

    weights = w + step_size[:, None, None, None] * outer((readings - start) @ w.mT)
    gradients = weights[:, :-1] - weights[:, 1:]
    return weights, step_size, gradients
