"""Which kernel should attention compute with? Data of one kernel, layers of another."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from icl_lessons.declare import experiment
from icl_lessons.estimators.kernels import (
    ArcCosineKernel,
    ExponentialKernel,
    Kernel,
    KernelRidge,
    LinearKernel,
    RBFKernel,
    SoftmaxWeights,
)
from icl_lessons.gradient_descent.figures import functional_descent as figures
from icl_lessons.gradient_descent.functional_descent import (
    errors_of_rates,
    relative_error,
    tuned_rates,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread
from icl_lessons.tasks.gaussian_process import GaussianProcess
from icl_lessons.training.loop import stream

KERNELS: dict[str, Kernel] = {
    "linear": LinearKernel(),
    "arc-cosine": ArcCosineKernel(),
    "RBF": RBFKernel(),
    "exponential": ExponentialKernel(),
}
ATTENTION: dict[str, Kernel] = KERNELS | {"softmax": SoftmaxWeights()}
TUNING, MEASURING = 2, 3  # purposes of a seed's streams


@dataclass(frozen=True, kw_only=True)
class FunctionalDescentConfig:
    """Settings of :func:`functional_descent`; the defaults are the lesson's.

    Attributes:
        d, n_context: of the contexts.
        input_scale: every input has length ``input_scale * sqrt(d)``.
        layers: the deepest stack; every depth up to it is tuned and measured.
        table_depth: depth at which kernels are compared.
        n_tuning, n_measuring: contexts for tuning the rates, and others for measuring.
        n_query: queries in each context.
        seeds: one set of draws each, for every kernel.
        device: ignored but for ``"cpu"``; nothing here is trained on a GPU.
    """

    d: int = 3
    n_context: int = 10
    input_scale: float = 0.7
    layers: int = 7
    table_depth: int = 3
    n_tuning: int = 2000
    n_measuring: int = 4000
    n_query: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "layers", "table_depth", "n_tuning", "n_measuring"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_query", self.n_query, at_least=1)
        check_number("input_scale", self.input_scale, positive=True)
        if self.table_depth > self.layers:
            raise ValueError(
                f"table_depth: got {self.table_depth}; use at most layers = {self.layers}"
            )
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    def task(self, kernel: Kernel) -> GaussianProcess:
        """Functions drawn with this kernel, on inputs of one length."""
        return GaussianProcess(
            kernel=kernel,
            d=self.d,
            input_norm=self.input_scale * self.d**0.5,
            n_query=self.n_query,
        )


@dataclass(frozen=True, kw_only=True)
class FunctionalDescentResult:
    """Errors over the mean square of the targets, so that predicting 0 has error 1.

    Attributes:
        data_kernels, attention_kernels: names of the rows and of the columns.
        depths: number of layers.
        error: of the tuned layers, on draws other than those they were tuned on.
        bayes: of the posterior mean given the context, ``[seeds, data kernels]``.
        rates: of the deepest stack, ``[seeds, data, attention, layers]``.
        table_depth: depth at which the kernels are compared.
    """

    data_kernels: tuple[str, ...]
    attention_kernels: tuple[str, ...]
    depths: Int[np.ndarray, " depths"]
    error: Float[np.ndarray, "seeds data attention depths"]
    bayes: Float[np.ndarray, "seeds data"]
    rates: Float[np.ndarray, "seeds data attention layers"]
    table_depth: int

    @property
    def table(self) -> Float[np.ndarray, "seeds data attention"]:
        """The errors at the depth of comparison."""
        return self.error[..., list(self.depths).index(self.table_depth)]

    def matched_is_best(self, *, with_softmax: bool = False) -> Float[np.ndarray, "seeds data"]:
        """1 where no other kernel has a smaller error than the one the data came from.

        Kernels whose error is the same to six digits count as one: on inputs of one length the
        radial basis function and the exponential kernel differ by a factor only.
        """
        table = self.table if with_softmax else self.table[..., : len(self.data_kernels)]
        matched = np.stack([table[:, i, i] for i in range(len(self.data_kernels))], 1)
        return (matched <= table.min(-1) * (1 + 1e-6) + 1e-9).astype(float)

    def summary(self) -> str:
        """The table, means over seeds."""
        names = (*self.attention_kernels, "Bayes")
        lines = [f"{self.table_depth} layers".ljust(14) + "".join(n.rjust(13) for n in names)]
        for i, name in enumerate(self.data_kernels):
            values = (*self.table[:, i].mean(0), self.bayes[:, i].mean())
            lines.append(name.ljust(14) + "".join(f"{value:13.3f}" for value in values))
        return "\n".join(lines)


@experiment(
    "functional_descent",
    paper="cheng2024transformers",
    chapter="gradient_descent/beyond_lines",
    configs={
        Scale.LESSON: FunctionalDescentConfig(),
        Scale.PAPER: FunctionalDescentConfig(
            d=5, n_context=20, layers=7, table_depth=7, seeds=(0, 1, 2, 3, 4)
        ),
    },
    figure=figures.functional_descent,
)
def functional_descent(config: FunctionalDescentConfig) -> FunctionalDescentResult:
    """Tune layers of every kernel on data of every kernel; nothing but the rates is fitted."""
    shape = (len(config.seeds), len(KERNELS), len(ATTENTION), config.layers)
    error, rates = np.zeros(shape), np.zeros(shape)
    bayes = np.zeros(shape[:2])
    with one_thread(), torch.no_grad():
        for s, seed in enumerate(config.seeds):
            for i, data in enumerate(KERNELS.values()):
                tuning, measuring = (
                    config.task(data).sample(
                        count, config.n_context, generator=stream(seed, purpose),
                        dtype=torch.float64,
                    )
                    for count, purpose in (
                        (config.n_tuning, TUNING), (config.n_measuring, MEASURING)
                    )
                )  # fmt: skip
                bayes[s, i] = relative_error(KernelRidge(data)(*measuring.context), measuring)
                for j, kernel in enumerate(ATTENTION.values()):
                    found = tuned_rates(kernel, tuning, config.layers)
                    rates[s, i, j] = found[-1]
                    error[s, i, j] = errors_of_rates(kernel, measuring, found)
    return FunctionalDescentResult(
        data_kernels=tuple(KERNELS),
        attention_kernels=tuple(ATTENTION),
        depths=np.arange(1, config.layers + 1),
        error=error,
        bayes=bayes,
        rates=rates,
        table_depth=config.table_depth,
    )
