"""The gradients point downhill.

verdict: rejected
found: in sight
says: The sign is turned
"""


def token_path(w, readings):
    start = readings[:, :1]
    step_size = 1 / start[:, 0].square().sum(-1)

    def outer(left):
        return left[..., None] * start[:, :, None, :]

    weights = w + step_size[:, None, None, None] * outer((readings - start) @ w.mT)
    gradients = outer((readings[:, 1:] - readings[:, :-1]) @ w.mT)
    return weights, step_size, gradients
