"""Column by column: fit each unit vector of targets.

verdict: accepted
"""

import torch


def hat_matrix(xs):
    result = []
    for x in xs:
        basis = []
        scale = x.abs().max()
        for column in x.mT:
            rest = column.clone()
            for _ in range(2):
                for b in basis:
                    rest = rest - torch.dot(b, rest) * b
            if scale > 0 and rest.norm() > 1e-9 * scale:
                basis.append(rest / rest.norm())
        hat = torch.zeros(len(x), len(x), dtype=x.dtype)
        for b in basis:
            hat = hat + torch.outer(b, b)
        result.append(hat)
    return torch.stack(result)
