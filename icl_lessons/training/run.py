"""What training returns: the weights of every seed and the history of their losses."""

import copy
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.training.config import TrainingConfig


@dataclass(frozen=True)
class History:
    """Losses over the run, each measured after so many updates.

    Attributes:
        steps: updates made before each logged loss.
        loss: training loss then, one column for each seed.
        validation_steps: updates made before each validation.
        validation: its value, one column for each seed; no rows without a validation.
    """

    steps: Int[np.ndarray, " logged"]
    loss: Float[np.ndarray, "logged seeds"]
    validation_steps: Int[np.ndarray, " validated"]
    validation: Float[np.ndarray, "validated seeds"]

    def steps_to(self, target: float) -> Float[np.ndarray, " seeds"]:
        """Updates until each seed's loss first was at or below ``target``; NaN where it never was.

        The loss is the validation, where there is one, and otherwise the training loss.
        """
        validated = len(self.validation_steps) > 0
        steps = self.validation_steps if validated else self.steps
        reached = (self.validation if validated else self.loss) <= target
        return np.where(reached.any(0), steps[reached.argmax(0)].astype(float), np.nan)


@dataclass(frozen=True)
class TrainingRun:
    """A finished run.

    Attributes:
        config: as given to ``train``.
        history: losses over the run.
        state: the weights by name, ``[seeds, ...]``, on the CPU.
        steps: updates made: ``config.steps``, or fewer if the run stopped early.
        stopped: why it ended: ``"steps"``, ``"target_loss"`` or ``"patience"``.
        seconds: wall time of training; ``cpu_seconds``: of this process's processors.
        provenance: versions, device and date.
    """

    config: TrainingConfig
    history: History
    state: dict[str, Tensor] = field(repr=False)
    steps: int
    stopped: str
    seconds: float
    cpu_seconds: float
    provenance: dict[str, str] = field(repr=False)
    template: nn.Module = field(repr=False)

    def model(self, index: int = 0) -> nn.Module:
        """The trained model of ``config.seeds[index]``: a plain module of its own, on the CPU."""
        seeds = len(self.config.seeds)
        if not -seeds <= index < seeds:
            raise ValueError(f"index: got {index}; the run has {seeds} seeds, from index 0")
        model = copy.deepcopy(self.template)
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, value in own.items():
            value.data.copy_(self.state[name][index])
        return model.eval()

    def models(self) -> list[nn.Module]:
        """The models of all seeds, in order."""
        return [self.model(index) for index in range(len(self.config.seeds))]
