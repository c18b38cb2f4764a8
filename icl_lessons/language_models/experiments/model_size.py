"""Does the gap between in-context learning and gradient descent close in larger models?

Shen et al. look at four models of the hub on one data set and find that it does not
[shen2024pretrained, figure 23]. Here: smaller brothers of CourseLM, pretrained in the same way, for
the same number of steps, on the same law of documents.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.language_models.course_models import (
    CourseLMTraining,
    checkpoints,
    course_models,
    course_weights,
)
from icl_lessons.language_models.experiments.icl_against_gd import (
    MEASURES,
    ICLAgainstGDConfig,
    Rival,
    cell_measures,
)
from icl_lessons.language_models.figures import model_size as figures
from icl_lessons.language_models.subjects import (
    COURSE,
    Subject,
    course_prompts,
    drawn_course_prompts,
    subject,
)
from icl_lessons.measures.prompting import nats_per_token
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.zoo import State, recipe

Size = tuple[int, int]
TEST_SEED = 2_310_085
RATES = (
    Rival("descent, rate .003", "descent", 0.003),
    Rival("descent, rate .03", "descent", 0.03),
    Rival("Adam, rate .001", "adam", 0.001),
)


def size_name(size: Size) -> str:
    """``"1 layer, width 32"`` for ``(1, 32)``."""
    layers, width = size
    return f"{layers} layer{'s' if layers > 1 else ''}, width {width}"


@dataclass(frozen=True, kw_only=True)
class SmallerModels:
    """What the weights of the smaller models depend on; all else is as for CourseLM.

    Attributes:
        sizes: layers and width of each.
        steps: of training.
        seeds: one model each.
    """

    sizes: tuple[Size, ...] = ((1, 32), (2, 64))
    steps: int = CourseLMTraining().steps
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for layers, width in self.sizes:
            check_integer("sizes", layers, at_least=1)
            check_integer("sizes", width, at_least=1)

    def training(self, size: Size) -> CourseLMTraining:
        """Of the models of one size; only the last weights are kept."""
        layers, width = size
        return CourseLMTraining(
            layers=layers,
            width=width,
            steps=self.steps,
            checkpoints=(self.steps,),
            seeds=self.seeds,
            device=self.device,
        )

    def models(self, state: State) -> dict[Size, list[torch.nn.Module]]:
        """``{size: [a model for each seed]}`` from stored weights."""
        found = {}
        for size in self.sizes:
            start = f"{size_name(size)}/"
            own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            found[size] = checkpoints(own, self.training(size))[self.steps]
        return found


def _losses(state: State, config: SmallerModels) -> dict[str, float]:
    course = CourseLMTraining()
    tokens = course.text.sample(60, course.length, generator=seeded(TEST_SEED)).tokens
    with one_thread():
        return {
            f"loss, {size_name(size)}, seed {seed}": nats_per_token(model, tokens)
            for size, models in config.models(state).items()
            for seed, model in zip(config.seeds, models, strict=True)
        }


@recipe("course_language_models_smaller", config=SmallerModels(), measure=_losses)
def smaller_weights(config: SmallerModels) -> State:
    """``"1 layer, width 32/6000.NAME"``: half precision, a row for each seed."""
    return {
        f"{size_name(size)}/{name}": tensor
        for size in config.sizes
        for name, tensor in course_weights(config.training(size)).items()
    }


ASKED_OF_COURSE = ("topic", "stance", "mood", "kind")


@dataclass(frozen=True, kw_only=True)
class ModelSizeConfig:
    """Settings of :func:`model_size`.

    Attributes:
        model: ``"course"``: the smaller models and CourseLM. Otherwise names or folders of
            pretrained models, with commas between them, the smallest first.
        data: for pretrained models, a folder of files such as ``agnews.jsonl``.
        smaller: the smaller models, which come first.
        tasks, n_demonstrations, rivals, epochs, n_queries, top, seeds: as in
            :class:`~icl_lessons.language_models.experiments.icl_against_gd.ICLAgainstGDConfig`.
    """

    model: str = COURSE
    data: str | None = None
    smaller: SmallerModels = SmallerModels()
    tasks: tuple[str, ...] = ASKED_OF_COURSE
    n_demonstrations: tuple[int, ...] = (1, 4)
    rivals: tuple[Rival, ...] = RATES
    epochs: int = 200
    n_queries: int = 100
    top: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        if self.model != COURSE and self.tasks == ASKED_OF_COURSE:
            object.__setattr__(self, "tasks", ("agnews",))
        self.study(self.model.split(",")[0])  # checks what they share

    def study(self, model: str) -> ICLAgainstGDConfig:
        """What is measured of each model."""
        return ICLAgainstGDConfig(
            model=model,
            data=self.data,
            tasks=self.tasks,
            n_demonstrations=self.n_demonstrations,
            rivals=self.rivals,
            epochs=self.epochs,
            every=self.epochs,
            n_queries=self.n_queries,
            top=self.top,
            seeds=self.seeds,
        )

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the models, the smallest first."""
        if self.model != COURSE:
            return tuple(name.rstrip("/").rsplit("/", 1)[-1] for name in self.model.split(","))
        course = CourseLMTraining()
        sizes = (*self.smaller.sizes, (course.layers, course.width))
        return tuple(size_name(size) for size in sizes)

    def subjects(self) -> list[list[Subject]]:
        """``[models][seeds]``; seeds of CourseLM's kind take the trained models in turn."""
        if self.model != COURSE:
            names = self.model.split(",")
            return [[subject(name, seed, self.data) for seed in self.seeds] for name in names]
        trained = self.smaller.models(smaller_weights(self.smaller))
        of_size = [*trained.values(), course_models()]
        return [
            [
                Subject(
                    models[seed % len(models)],
                    models[0].config.layers,
                    course_prompts,
                    drawn_course_prompts,
                )
                for seed in self.seeds
            ]
            for models in of_size
        ]


@dataclass(frozen=True, kw_only=True)
class ModelSizeResult:
    """In-context learning and descent, for models from small to large.

    Attributes:
        sizes: names of the models; ``parameters`` how many each has.
        tasks, methods, n_demonstrations: along the axes; methods as in
            :class:`~icl_lessons.language_models.experiments.icl_against_gd.ICLAgainstGDResult`.
        accuracy, token_overlap, overlap_cosine: after the last epoch,
            ``[sizes, tasks, methods, numbers, seeds]``.
        loss: nats per token on attribute text, ``[sizes, seeds]``; NaN for pretrained models.
    """

    sizes: tuple[str, ...]
    parameters: tuple[int, ...]
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    n_demonstrations: tuple[int, ...]
    accuracy: Float[np.ndarray, "sizes tasks methods numbers seeds"]
    token_overlap: Float[np.ndarray, "sizes tasks methods numbers seeds"]
    overlap_cosine: Float[np.ndarray, "sizes tasks methods numbers seeds"]
    loss: Float[np.ndarray, "sizes seeds"]

    def of(self, measure: str, method: str) -> Float[np.ndarray, "sizes tasks numbers seeds"]:
        """A measure of one method."""
        check_choice("method", method, self.methods)
        return getattr(self, measure)[:, :, self.methods.index(method)]

    def best(self, measure: str) -> Float[np.ndarray, "sizes tasks numbers seeds"]:
        """Of the rate that has the highest mean over seeds, chosen for each size, task, number."""
        rivals = getattr(self, measure)[:, :, 3:]
        chosen = rivals.mean(-1).argmax(2)[:, :, None, :, None]
        return np.take_along_axis(rivals, chosen, 2)[:, :, 0]

    @property
    def gap(self) -> Float[np.ndarray, "sizes tasks numbers seeds"]:
        """Accuracy in context less that of descent at its best rate."""
        return self.of("accuracy", self.methods[0]) - self.best("accuracy")

    def summary(self) -> str:
        """Means over tasks and seeds in a few lines."""
        lines = [f"for {', '.join(map(str, self.n_demonstrations))} demonstrations"]
        for i, size in enumerate(self.sizes):
            shown = {
                "in context": self.of("accuracy", self.methods[0]),
                "descent": self.best("accuracy"),
                "overlap cosine": self.best("overlap_cosine"),
            }
            row = "; ".join(
                f"{name} " + " ".join(f"{v:.2f}" for v in values[i].mean((0, 2)))
                for name, values in shown.items()
            )
            lines.append(f"  {size:24s}{self.parameters[i]:>12,d} parameters  {row}")
        return "\n".join(lines)


def _measures(config: ModelSizeConfig, who: Subject, task: str, n: int, seed: int) -> torch.Tensor:
    """After the last epoch, ``[methods, measures]``."""
    return cell_measures(config.study(config.model.split(",")[0]), who, task, n, seed)[:, -1]


def _summed(state: State, config: ModelSizeConfig) -> dict[str, float]:
    """Means of the stored figures, and one cell of the smallest model made again."""
    with one_thread():
        who = config.subjects()[0][0]
        again = _measures(config, who, config.tasks[0], config.n_demonstrations[0], config.seeds[0])
    return {
        "mean accuracy": state["measures"][..., 0].mean().item(),
        "mean overlap cosine of the first cell": again[..., 2].mean().item(),
    }


@recipe("model_size", config=ModelSizeConfig(), measure=_summed)
def model_size_measures(config: ModelSizeConfig) -> State:
    """``measures`` ``[sizes, tasks, numbers, seeds, methods, 3]``; ``loss`` ``[sizes, seeds]``;
    ``parameters`` ``[sizes]``."""
    course = CourseLMTraining()
    tokens = course.text.sample(60, course.length, generator=seeded(TEST_SEED)).tokens
    measures, loss, parameters = [], [], []
    with one_thread():
        for of_size in config.subjects():
            measures.append(
                torch.stack(
                    [
                        _measures(config, who, task, n, seed)
                        for task in config.tasks
                        for n in config.n_demonstrations
                        for seed, who in zip(config.seeds, of_size, strict=True)
                    ]
                )
            )
            own = config.model == COURSE
            loss.append([nats_per_token(w.model, tokens) if own else torch.nan for w in of_size])
            parameters.append(sum(p.numel() for p in of_size[0].model.parameters()))
    cells = (len(config.tasks), len(config.n_demonstrations), len(config.seeds))
    return {
        "measures": torch.stack(measures).unflatten(1, cells),
        "loss": torch.tensor(loss),
        "parameters": torch.tensor(parameters),
    }


@experiment(
    "model_size",
    paper="shen2024pretrained",
    chapter="language_models/gradient_descent",
    configs={
        Scale.LESSON: ModelSizeConfig(),
        Scale.PAPER: ModelSizeConfig(
            model="gpt2-xl,EleutherAI/gpt-neo-2.7B,EleutherAI/gpt-j-6b,huggyllama/llama-7b",
            n_demonstrations=(1, 2, 4, 8),
            rivals=tuple(
                Rival(f"descent, rate {rate:g}", "descent", rate)
                for rate in (1e-4, 5e-4, 1e-5, 5e-5)
            ),
            n_queries=200,
        ),
    },
    figure=figures.model_size,
)
def model_size(config: ModelSizeConfig) -> ModelSizeResult:
    """In-context learning against descent in models of several sizes, pretrained alike."""
    state = model_size_measures(config)
    # [sizes, tasks, numbers, seeds, methods, measures] -> measures first, methods after tasks
    values = state["measures"].permute(5, 0, 1, 4, 2, 3).double().numpy()
    return ModelSizeResult(
        sizes=config.sizes,
        parameters=tuple(state["parameters"].tolist()),
        tasks=config.tasks,
        methods=config.study(config.model.split(",")[0]).methods,
        n_demonstrations=config.n_demonstrations,
        loss=state["loss"].double().numpy(),
        **dict(zip(MEASURES, values, strict=True)),
    )
