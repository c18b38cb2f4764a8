"""Sweeps: one function over a grid of settings, on as many workers as there are."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
from tqdm.auto import tqdm

from icl_lessons.runtime import one_thread


@dataclass(frozen=True)
class SweepPoint:
    """One setting of a sweep and what the function returned for it."""

    settings: dict[str, Any]
    value: Any


def _grid(grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(grid, Mapping):
        combinations = itertools.product(*grid.values())
        return [dict(zip(grid, values, strict=True)) for values in combinations]
    return [dict(point) for point in grid]


def _one(function: Callable[..., Any], settings: dict[str, Any]) -> Any:
    with one_thread():
        return function(**settings)


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    backend: str = "loky",
    n_jobs: int = -1,
    progress: bool = True,
) -> list[SweepPoint]:
    """Call ``function(**settings)`` for every point of a grid, in parallel, through joblib.

    Args:
        function: called with the settings as keywords; each worker computes on one thread.
        grid: values for each name, of which every combination is run (the last name varies
            fastest); or a sequence of settings, run as they are.
        backend: joblib's name of who does the work: ``"loky"`` (processes), ``"threading"``,
            ``"sequential"``; ``"dask"`` or ``"ray"`` for a cluster that was started before.
        n_jobs: workers; -1 for one for each core.
        progress: show a progress bar.

    Returns:
        One :class:`SweepPoint` for each point, in the order of the grid whoever finished first.

    Raises:
        ValueError: a backend that joblib does not know, or an empty grid.
    """
    points = _grid(grid)
    if not points:
        raise ValueError("grid: it has no point; give every name at least one value")
    if backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise ValueError("backend: 'ray' needs the package ray, which is not here") from error
        register_ray()
    try:
        parallel = joblib.Parallel(n_jobs=n_jobs, backend=backend, return_as="generator")
    except (ValueError, ImportError) as error:
        raise ValueError(f"backend: {backend!r} cannot be used: {error}") from error
    calls = (joblib.delayed(_one)(function, point) for point in points)
    results = tqdm(parallel(calls), total=len(points), disable=not progress, unit="point")
    return [SweepPoint(point, value) for point, value in zip(points, results, strict=True)]
