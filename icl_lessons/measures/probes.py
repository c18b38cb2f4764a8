"""Linear probes: what can be read from a residual stream by a linear map, layer by layer.

A probe that reads a quantity well says that it is there to be read, not that the model uses it.
Every probe is ridge regression in closed form, fitted on some sequences and measured on others.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_integer, check_number, check_tensor

Features = Float[Tensor, "batch width"]
Targets = Float[Tensor, "batch m"]


def ridge_readout(
    features: Features, targets: Targets, penalty: float | int = 1e-4
) -> tuple[Float[Tensor, "m width"], Float[Tensor, " m"]]:
    """Weights and intercept that minimise ``mean |W f + b - target|^2 + penalty s |W|^2``.

    ``s`` is the mean variance of a feature, so that ``penalty`` has no unit; the intercept is not
    penalised. Solved in float64.

    Args:
        features: ``[batch, width]``, at least one row.
        targets: ``[batch, m]``.
        penalty: 0 or more; at 0 the solution of smallest norm.
    """
    check_tensor("features", features, "batch width")
    check_tensor("targets", targets, "batch m")
    check_number("penalty", penalty)
    if len(features) != len(targets) or len(features) == 0:
        raise ValueError(
            f"targets: {len(targets)} rows for {len(features)} rows of features; give one for each"
        )
    f, y = features.double(), targets.double()
    f_mean, y_mean = f.mean(0), y.mean(0)
    f, y = f - f_mean, y - y_mean
    covariance = f.mT @ f / len(f)
    scale = penalty * covariance.diagonal().mean()
    identity = torch.eye(f.shape[1], dtype=f.dtype, device=f.device)
    weights = (torch.linalg.pinv(covariance + scale * identity, hermitian=True) @ (f.mT @ y)).mT
    weights = weights / len(f)
    return weights, y_mean - weights @ f_mean


def normalized_error(predicted: Targets, targets: Targets) -> float:
    """``E |predicted - target|^2 / E |target - mean|^2``: 0 is exact, 1 is no better than the mean.

    Raises:
        ValueError: targets that do not vary, against which no error can be measured.
    """
    if predicted.shape != targets.shape:
        raise ValueError(
            f"predicted: got shape {tuple(predicted.shape)}; targets has {tuple(targets.shape)}"
        )
    variation = (targets - targets.mean(0)).square().sum(1).mean()
    if variation == 0:
        raise ValueError("targets: all rows are the same, so there is nothing to be read")
    return ((predicted - targets).square().sum(1).mean() / variation).item()


def probe_error(
    features: Features, targets: Targets, n_train: int, penalty: float | int = 1e-4
) -> float:
    """Normalised error of a ridge readout on the rows after the first ``n_train``.

    Args:
        features: ``[batch, width]``; a row must not share its sequence with another.
        targets: ``[batch, m]``, what to read.
        n_train: rows that the readout is fitted on; the others are held out.
        penalty: as in :func:`ridge_readout`.
    """
    check_integer("n_train", n_train, at_least=2)
    if n_train > len(features) - 2:
        raise ValueError(
            f"n_train: got {n_train} of {len(features)} rows; leave at least two to measure on"
        )
    weights, intercept = ridge_readout(features[:n_train], targets[:n_train], penalty)
    predicted = features[n_train:].double() @ weights.mT + intercept
    return normalized_error(predicted, targets[n_train:].double())


def probe_errors(
    streams: Sequence[Float[Tensor, "batch length width"]],
    targets: Float[Tensor, "batch length m"],
    n_train: int,
    *,
    positions: Sequence[int],
    penalty: float | int = 1e-4,
) -> Float[Tensor, "layers positions"]:
    """:func:`probe_error` of every layer's stream at each of some positions, each probe its own.

    Args:
        streams: one for each layer, such as ``StateTransformer.streams`` gives.
        targets: what to read at each position, ``[batch, length, m]``.
        n_train: sequences to fit on, the first of the batch.
        positions: from 0.
        penalty: as in :func:`ridge_readout`.
    """
    for x in streams:
        check_tensor("streams", x, "batch length width")
        if x.shape[:2] != targets.shape[:2]:
            raise ValueError(
                f"streams: one of shape {tuple(x.shape)}; targets has {tuple(targets.shape)}"
            )
    for t in positions:
        if not 0 <= t < targets.shape[1]:
            raise ValueError(f"positions: got {t}; the sequences have 0 to {targets.shape[1] - 1}")
    table = [
        [probe_error(x[:, t], targets[:, t], n_train, penalty) for t in positions] for x in streams
    ]
    return torch.tensor(table, dtype=torch.float64)
