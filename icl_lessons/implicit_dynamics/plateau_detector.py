"""How many times does a loss curve rest on its way down? A count that knows no theory.

A drop is a peak of the speed ``-dL/dt``, a rest the slow stretch between two of them. On a long
enough ruler every curve is flat somewhere, so a rest has to be slow *and* long: the speed falls
below a tenth of either neighbouring drop's, for at least a tenth of the time that training has
taken until then. On an axis of logarithmic time that is a fixed width, whatever the unit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from icl_lessons.runtime import check_number


class Rests(NamedTuple):
    """The rests of one curve and the drops between them.

    Attributes:
        losses: at the slowest moment of every rest: the start, those on the way, the end.
        times: of these moments; 0 for the first, the last moment for the last.
        drops: the fastest moments; one fewer than rests.
    """

    losses: Float[np.ndarray, " rests"]
    times: Float[np.ndarray, " rests"]
    drops: Float[np.ndarray, " drops"]

    @property
    def dwells(self) -> Float[np.ndarray, " drops"]:
        """Time spent at each rest before the last: from the drop before it to the drop after."""
        return np.diff(self.drops, prepend=0.0)


def _turns(speed: Float[np.ndarray, " n"], share: float) -> tuple[list[int], list[int]]:
    """Peaks of the speed and the valleys around them: each a factor ``1 / share`` apart."""
    peaks, valleys, best, rising = [], [0], 0, True
    for i, value in enumerate(speed):
        if rising:
            if value >= speed[best]:
                best = i
            elif value < share * speed[best]:
                peaks.append(best)
                best, rising = i, False
        elif value <= speed[best]:
            best = i
        elif share * value > speed[best]:
            valleys.append(best)
            best, rising = i, True
    if len(valleys) == len(peaks):
        valleys.append(len(speed) - 1)  # the end is the last rest
    return peaks, valleys[: len(peaks)] + [len(speed) - 1]


def find_rests(
    times: Float[np.ndarray, " moments"],
    losses: Float[np.ndarray, " moments"],
    *,
    share: float = 0.1,
    least_time: float = 0.1,
    least_fall: float = 0.005,
) -> Rests:
    """Where a loss curve rests.

    Args:
        times: increasing, from 0.
        losses: a curve without noise.
        share: of the slower of two neighbouring drops' speeds; a rest is slower than that.
        least_time: a rest's length over the time at its end.
        least_fall: a drop's fall over the first loss; less is no drop.

    Raises:
        ValueError: times that do not increase, or another shape than the losses'.
    """
    times, losses = np.asarray(times, dtype=float), np.asarray(losses, dtype=float)
    if (
        times.shape != losses.shape
        or times.ndim != 1
        or len(times) < 3
        or np.any(np.diff(times) <= 0)
    ):
        raise ValueError("times: use three or more increasing numbers, one for each loss")
    for name, value in (("share", share), ("least_time", least_time), ("least_fall", least_fall)):
        check_number(name, value, positive=True)
    middle = (times[1:] + times[:-1]) / 2
    speed = np.maximum(-np.diff(losses) / np.diff(times), 1e-12 * losses[0] / times[-1])
    peaks, valleys = _turns(speed, share)

    def falls(j: int) -> float:
        return losses[valleys[j]] - losses[valleys[j + 1]]

    j = 0
    while j < len(peaks):  # no drop
        if falls(j) < least_fall * losses[0]:
            del peaks[j]
            # Of the two rests around it the slower one stays; the first and the last always do.
            later = j + 1 < len(valleys) - 1 and (
                j == 0 or speed[valleys[j + 1]] > speed[valleys[j]]
            )
            del valleys[j + 1 if later or j == 0 else j]
        else:
            j += 1
    j = 1
    while j < len(peaks):  # no rest
        slow = speed < share * min(speed[peaks[j - 1]], speed[peaks[j]])
        within = np.flatnonzero(slow[peaks[j - 1] : peaks[j]]) + peaks[j - 1]
        long = middle[within[-1]] - middle[within[0]] if len(within) else 0.0
        if long < least_time * middle[peaks[j]]:
            del peaks[j - 1 if speed[peaks[j - 1]] < speed[peaks[j]] else j]
            del valleys[j]
        else:
            j += 1
    at = np.array(valleys)
    at[-1] = len(times) - 1
    return Rests(losses[at], times[at], middle[peaks])
