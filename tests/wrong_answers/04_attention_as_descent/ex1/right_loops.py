"""Loops over tokens, in single precision.

verdict: accepted
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    tokens, weights = tokens.float(), initial_weights.float()
    d = weights.shape[-1]
    result = []
    for context, w in zip(tokens, weights, strict=True):
        rows = []
        for e_j in context:
            change = torch.zeros(len(w))
            for e_i in context[:n_context]:
                error = w @ e_i[:d] - e_i[d:]
                change = change + error * torch.dot(e_i[:d], e_j[:d])
            rows.append(torch.cat([e_j[:d], e_j[d:] + step_size / n_context * change]))
        result.append(torch.stack(rows))
    return torch.stack(result)
