"""Three loops over numbers.

verdict: accepted
"""

import torch


def linear_self_attention(tokens, w_query, w_key, w_value, projection, mask):
    result = []
    for context in tokens:
        rows = []
        for j in range(len(context)):
            row = context[j]
            for i in range(len(context)):
                if mask[j, i]:
                    score = torch.dot(w_key @ context[i], w_query @ context[j])
                    row = row + score * (projection @ (w_value @ context[i]))
            rows.append(row)
        result.append(torch.stack(rows))
    return torch.stack(result)
