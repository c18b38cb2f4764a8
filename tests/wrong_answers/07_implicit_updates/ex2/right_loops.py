"""One query at a time, the kept tokens gathered by hand, in single precision.

verdict: accepted
"""

import torch


def change_block(attention, norm, w, context, x, kept):
    changes, biases = [], []
    for b in range(len(x)):
        one, tokens = x[b : b + 1], context[b : b + 1]
        stay = tokens[:, torch.tensor(kept, dtype=torch.long)]
        u, u0 = one + attention(tokens, one), one + attention(stay, one)
        z, z0 = norm(u)[0].float(), norm(u0)[0].float()
        changes.append(torch.outer(w.float() @ (z - z0), z0) / z0.dot(z0))
        biases.append((u - u0)[0].float())
    return torch.stack(changes), torch.stack(biases)
