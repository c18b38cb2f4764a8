"""Linear regression with a cue: one more input that agrees with the target, until it does not.

The task of the course's pages on goal misgeneralisation. A context has its own weights ``w``, and
the target depends on the core inputs alone; beside them stands a cue that may repeat the target::

    w ~ uniform on the unit sphere,  x ~ N(0, I_d),  y = w . x + noise,  z = (x, s)

What ties the cue to the target is the *mode*, and modes differ in nothing else: the same seed draws
the same tasks, core inputs and targets in every mode.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from icl_lessons.runtime import check_choice, check_integer, check_number
from icl_lessons.tasks.drawing import drawing_device
from icl_lessons.types import Batch

Mode = Literal["corr", "anti", "dec", "queryflip", "querydec", "mixed"]
MODES = ("corr", "anti", "dec", "queryflip", "querydec", "mixed")


@dataclass(frozen=True, kw_only=True)
class SpuriousFeature:
    """``y = w . x`` on inputs ``z = (x, s)`` of ``d + 1`` coordinates; the cue ``s`` comes last.

    With ``e`` standard normal, a cue that follows the target is
    ``s = cue_scale * (y + cue_noise * e)``, and a cue that is free is ``cue_scale * std * e``, of
    the same variance and independent of everything.

    Attributes:
        d: core inputs.
        mode: ``"corr"``: the cue follows. ``"anti"``: it follows ``-y``. ``"dec"``: it is free.
            ``"queryflip"``: as ``"corr"``, but the query's cue has the other sign. ``"querydec"``:
            as ``"corr"``, but the query's cue is free. ``"mixed"``: each context is ``"corr"`` with
            probability ``share`` and ``"dec"`` otherwise.
        cue_noise: how far a cue that follows strays, in the unit of the target.
        cue_scale: multiplies every cue.
        noise_std: of the normal noise on every target. A cue that follows repeats the noise too.
        share: of contexts of a mixture whose cue follows.
        n_query: queries for each context.
    """

    d: int
    mode: Mode = "corr"
    cue_noise: float | int = 0.1
    cue_scale: float | int = 1.0
    noise_std: float | int = 0.0
    share: float | int = 0.5
    n_query: int = 1

    def __post_init__(self):
        check_integer("d", self.d, at_least=1)
        check_integer("n_query", self.n_query, at_least=1)
        check_choice("mode", self.mode, MODES)
        check_number("cue_noise", self.cue_noise)
        check_number("cue_scale", self.cue_scale, positive=True)
        check_number("noise_std", self.noise_std)
        check_number("share", self.share)
        if self.share > 1:
            raise ValueError(f"share: got {self.share!r}; use a number from 0 to 1")

    @property
    def target_variance(self) -> float:
        """Variance of a target, its noise included."""
        return 1.0 + self.noise_std**2

    @property
    def cue_variance(self) -> float:
        """Variance of the cue, the same in every mode."""
        return self.cue_scale**2 * (self.target_variance + self.cue_noise**2)

    def sample(
        self,
        batch_size: int,
        n_context: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = False,
    ) -> Batch:
        """Draw ``batch_size`` contexts, each with its own task and queries.

        Args:
            batch_size: number of contexts.
            n_context: examples in each.
            generator: the only source of chance.
            device: where the batch is wanted; the numbers are drawn on the CPU and then moved.
            dtype: of the batch.
            fast: draw on ``generator``'s own device instead.

        Returns:
            Inputs of ``d + 1`` coordinates; ``weights`` has a 0 for the cue.

        Raises:
            ValueError: a size below 1, or ``fast`` with a generator of another device.
        """
        check_integer("batch_size", batch_size, at_least=1)
        check_integer("n_context", n_context, at_least=1)
        how = {
            "generator": generator,
            "device": drawing_device(generator, device, fast),
            "dtype": dtype,
        }
        n = n_context + self.n_query
        weights = torch.randn(batch_size, 1, self.d, **how)
        weights = weights / weights.norm(dim=-1, keepdim=True)
        x = torch.randn(batch_size, n, self.d, **how)
        noise, e = torch.randn(2, batch_size, n, 1, **how)
        follows = torch.rand(batch_size, 1, 1, **how) < self.share
        y = x @ weights.mT + self.noise_std * noise
        s = self._cue(y, e, follows, n_context)
        z = torch.cat([x, s], -1)
        weights = torch.nn.functional.pad(weights, (0, 1))
        batch = Batch(
            z[:, :n_context], y[:, :n_context], z[:, n_context:], y[:, n_context:], weights
        )
        return batch.to("cpu" if device is None else device)

    def _cue(self, y: Tensor, e: Tensor, follows: Tensor, n_context: int) -> Tensor:
        following = self.cue_scale * (y + self.cue_noise * e)
        free = self.cue_variance**0.5 * e
        if self.mode == "anti":
            return self.cue_scale * (self.cue_noise * e - y)
        if self.mode == "dec":
            return free
        if self.mode == "mixed":
            return torch.where(follows, following, free)
        if self.mode == "corr":
            return following
        at_query = -following if self.mode == "queryflip" else free
        return torch.cat([following[:, :n_context], at_query[:, n_context:]], 1)
