"""Sequences of states, each made by a dynamical system of its own, and few-shot prompts like them.

The three families of von Oswald et al. [vonoswald2023uncovering, section 2]. A hidden state moves
and is seen through a readout:

.. math:: h_{t+1} = W^* f^*(h_t) + \\epsilon_t, \\qquad s_t = C^* h_t + \\delta_t,
          \\qquad h_1 \\sim \\mathcal N(0, I),

with a random orthogonal :math:`W^*` for every sequence. ``linear``: :math:`f^*` and :math:`C^*` are
the identity, so that :math:`s_{t+1} = W^* s_t + \\epsilon_t`. ``partially_observed``: fewer
coordinates are seen than there are. ``nonlinear``: :math:`f^*(h) = B\\,\\mathrm{GELU}(A h)`.
"""

from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_choice, check_integer, check_number
from icl_lessons.tasks.drawing import drawing_device

FAMILIES = ("linear", "partially_observed", "nonlinear")
Family = Literal["linear", "partially_observed", "nonlinear"]


@dataclass(frozen=True)
class Sequences:
    """Sequences of observed states and the system that made each.

    Attributes:
        states: what is seen, ``[batch, length, d]``.
        transition: ``W*`` of each sequence, ``[batch, hidden, hidden]``.
        readout: ``C*``, ``[batch, d, hidden]``; ``None`` where the whole state is seen.
    """

    states: Float[Tensor, "batch length d"]
    transition: Float[Tensor, "batch hidden hidden"]
    readout: Float[Tensor, "batch d hidden"] | None = None

    def to(self, *args, **kwargs) -> "Sequences":
        """The same sequences on another device or in another dtype (arguments of ``Tensor.to``)."""
        moved = {
            f.name: value if (value := getattr(self, f.name)) is None else value.to(*args, **kwargs)
            for f in fields(self)
        }
        return Sequences(**moved)

    def __len__(self) -> int:
        return self.states.shape[0]


def random_orthogonal(
    batch_size: int, n: int, *, generator: torch.Generator, device=None, dtype=torch.float32
) -> Float[Tensor, "batch n n"]:
    """Orthogonal matrices, uniform over the whole group (reflections included).

    The factor Q of a normal matrix whose R has a positive diagonal; without fixing the signs some
    matrices would be more likely than others.
    """
    check_integer("batch_size", batch_size, at_least=1)
    check_integer("n", n, at_least=1)
    normal = torch.randn(batch_size, n, n, generator=generator, device=device, dtype=dtype)
    q, r = torch.linalg.qr(normal)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn()[:, None, :]


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """Sequences ``s_1, ..., s_T``, each of its own dynamical system.

    Attributes:
        d: coordinates that are seen.
        hidden: coordinates of the hidden state; ``d`` if ``None``. More than ``d`` in the
            partially observed family, and only there.
        family: ``"linear"``, ``"partially_observed"`` or ``"nonlinear"``.
        noise_std: standard deviation of the normal noise on every coordinate of every move.
        observation_noise_std: the same on what is seen, in the partially observed family.
        readout_std: of the entries of ``C*`` there; the paper prints a variance of 1/2.
        spread: in the nonlinear family ``A`` and ``B`` are this number times random orthogonal
            matrices. The paper draws normal entries of spread 1.1, and we do not know how it
            scales them: at such entries over ``sqrt(hidden)`` one sequence in a hundred grows
            without bound, so we take orthogonal matrices: a move then multiplies the size of a
            state by at most ``spread**2``, and most sequences shrink towards the noise.
    """

    d: int
    hidden: int | None = None
    family: Family = "linear"
    noise_std: float | int = 0.1
    observation_noise_std: float | int = 0.0
    readout_std: float | int = 0.5**0.5
    spread: float | int = 1.1

    def __post_init__(self):
        check_integer("d", self.d, at_least=1)
        check_choice("family", self.family, FAMILIES)
        for name in ("noise_std", "observation_noise_std"):
            check_number(name, getattr(self, name))
        for name in ("readout_std", "spread"):
            check_number(name, getattr(self, name), positive=True)
        if self.hidden is not None:
            check_integer("hidden", self.hidden, at_least=1)
        partial = self.family == "partially_observed"
        if partial and self.size <= self.d:
            raise ValueError(
                f"hidden: got {self.hidden}; a state that is seen in part has more than "
                f"d = {self.d} coordinates"
            )
        if not partial and self.size != self.d:
            raise ValueError(
                f"hidden: got {self.hidden}; in the family {self.family!r} the whole state is "
                f"seen, so use None or d = {self.d}"
            )
        if not partial and self.observation_noise_std:
            raise ValueError(
                "observation_noise_std: for the family 'partially_observed' only; the others are "
                "seen as they are"
            )

    @property
    def size(self) -> int:
        """Coordinates of the hidden state."""
        return self.d if self.hidden is None else self.hidden

    @property
    def noise_floor(self) -> float:
        """``1/2 E |s_{t+1} - E[s_{t+1}|h_t]|^2``, which no predictor of a linear family beats.

        Only where the whole state is seen; readouts differ from sequence to sequence.
        """
        if self.family == "partially_observed":
            raise ValueError("family: no single floor where the readouts differ")
        return 0.5 * self.d * self.noise_std**2

    def sample(
        self,
        batch_size: int,
        n_context: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = False,
    ) -> Sequences:
        """Draw ``batch_size`` sequences of ``n_context`` states.

        Args:
            batch_size: number of sequences, each with its own system.
            n_context: states in each, ``T``.
            generator: the only source of chance.
            device: where the batch is wanted. Numbers are drawn on the CPU and then moved, so that
                a seed means the same data on every device.
            dtype: of the batch.
            fast: draw on ``generator``'s own device instead; another draw of the same law.

        Raises:
            ValueError: a size below 1, or ``fast`` with a generator of another device.
        """
        check_integer("batch_size", batch_size, at_least=1)
        check_integer("n_context", n_context, at_least=1)
        drawn_on = drawing_device(generator, device, fast)
        how = {"generator": generator, "device": drawn_on, "dtype": dtype}

        transition = random_orthogonal(batch_size, self.size, **how)
        state = torch.randn(batch_size, self.size, **how)
        noise = self.noise_std * torch.randn(n_context - 1, batch_size, self.size, **how)
        if self.family == "nonlinear":
            inner, outer = (
                self.spread * random_orthogonal(batch_size, self.size, **how) for _ in range(2)
            )
        path = [state]
        for shock in noise:
            if self.family == "nonlinear":
                state = _times(outer, F.gelu(_times(inner, state)))
            state = _times(transition, state) + shock
            path.append(state)
        states, readout = torch.stack(path, 1), None
        if self.family == "partially_observed":
            readout = self.readout_std * torch.randn(batch_size, self.d, self.size, **how)
            states = states @ readout.mT
            states = states + self.observation_noise_std * torch.randn(states.shape, **how)
        return Sequences(states, transition, readout).to("cpu" if device is None else device)


@dataclass(frozen=True, kw_only=True)
class FewShotPrompts:
    """Prompts ``x_1, y_1, x_2, y_2, ...`` with ``y = W* x``, in the tokens of :class:`Dynamics`.

    Inputs are standard normal, ``W*`` is orthogonal and new in every prompt: a model of next states
    meets pairs ``(x_i, y_i)`` that its task explains, and pairs ``(y_i, x_{i+1})`` that nothing
    explains [vonoswald2023uncovering, section on few-shot learning].

    Attributes:
        d: coordinates of an input and of a target.
        noise_std: standard deviation of the normal noise on every target.
    """

    d: int
    noise_std: float | int = 0.0

    def __post_init__(self):
        check_integer("d", self.d, at_least=1)
        check_number("noise_std", self.noise_std)

    def sample(
        self,
        batch_size: int,
        n_context: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = False,
    ) -> Sequences:
        """Draw prompts of ``n_context`` pairs, so of ``2 n_context`` states.

        Position ``2 i`` (from 0) holds an input; what a causal model says there is its prediction
        of that input's target, made from ``i`` pairs. Arguments as in :meth:`Dynamics.sample`.
        """
        check_integer("batch_size", batch_size, at_least=1)
        check_integer("n_context", n_context, at_least=1)
        drawn_on = drawing_device(generator, device, fast)
        how = {"generator": generator, "device": drawn_on, "dtype": dtype}
        transition = random_orthogonal(batch_size, self.d, **how)
        xs = torch.randn(batch_size, n_context, self.d, **how)
        ys = xs @ transition.mT
        if self.noise_std > 0:
            ys = ys + self.noise_std * torch.randn(ys.shape, **how)
        states = torch.stack([xs, ys], 2).flatten(1, 2)
        return Sequences(states, transition).to("cpu" if device is None else device)


def _times(
    matrices: Float[Tensor, "batch n k"], vectors: Float[Tensor, "batch k"]
) -> Float[Tensor, "batch n"]:
    return (matrices @ vectors[..., None])[..., 0]
