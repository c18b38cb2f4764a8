"""The gradient's right vector is the current reading.

verdict: rejected
found: in sight
says: The right vector of your gradient is A_i
"""


def token_path(w, readings):
    start = readings[:, :1]
    step_size = 1 / start[:, 0].square().sum(-1)

    def outer(left):
        return left[..., None] * start[:, :, None, :]

    weights = w + step_size[:, None, None, None] * outer((readings - start) @ w.mT)
    gradients = ((readings[:, :-1] - readings[:, 1:]) @ w.mT)[..., None] * readings[:, :-1, None]
    return weights, step_size, gradients
