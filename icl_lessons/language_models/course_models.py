"""CourseLM: a small causal transformer pretrained on attribute text, with its checkpoints.

Its only loss is that of the next token, on every token. That it answers prompts is a by-product,
which makes it the kind of model that Shen et al. ask about (Hypothesis 1), other than the models of
the constructions, which were trained on prompts or written down (Hypothesis 2)
[shen2024pretrained, section 2]. Three seeds, and for each the weights after several numbers of
steps, in half precision: what emerges when, and what the weights do meanwhile.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from icl_lessons.measures.prompting import nats_per_token
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.attribute_text import AttributeText
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED = 2_310_085


@dataclass(frozen=True, kw_only=True)
class CourseLMTraining:
    """What the weights of CourseLM depend on.

    Attributes:
        text: the law of its documents.
        length, batch_size: tokens in a document, and fresh documents in each step.
        width, layers, heads: of the transformer, with ALiBi positions.
        steps, learning_rate, warmup, weight_decay, clip: of AdamW with ``betas=(0.9, 0.98)`` and a
            cosine schedule.
        checkpoints: numbers of steps after which the weights are kept; the last is ``steps``.
        seeds: one model each.
        device: where to train.
    """

    text: AttributeText = AttributeText()
    length: int = 64
    batch_size: int = 16
    width: int = 64
    layers: int = 3
    heads: int = 4
    steps: int = 6000
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    checkpoints: tuple[int, ...] = (0, 250, 500, 1000, 2000, 4000, 6000)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("batch_size", "width", "layers", "heads", "steps"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("length", self.length, at_least=2)
        check_number("learning_rate", self.learning_rate, positive=True)
        ascending = sorted(set(self.checkpoints))
        if not ascending or tuple(ascending) != self.checkpoints or ascending[-1] != self.steps:
            raise ValueError(
                f"checkpoints: got {self.checkpoints}; use ascending numbers of steps that end "
                f"with steps = {self.steps}"
            )
        check_integer("checkpoints", self.checkpoints[0], at_least=0)

    @property
    def shape(self) -> SequenceTransformerConfig:
        """The shape of the transformer."""
        return SequenceTransformerConfig(
            vocabulary=self.text.vocabulary,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
        )

    def build(self, generator: torch.Generator) -> SequenceTransformer:
        """A model before training."""
        return SequenceTransformer(self.shape, generator=generator)


def _test_documents(config: CourseLMTraining) -> torch.Tensor:
    return config.text.sample(60, config.length, generator=seeded(TEST_SEED)).tokens


def _measure(state: State, config: CourseLMTraining) -> dict[str, float]:
    tokens = _test_documents(config)
    with one_thread():
        return {
            f"loss {seed} after {steps}": nats_per_token(model, tokens)
            for steps, models in checkpoints(state, config).items()
            for seed, model in zip(config.seeds, models, strict=True)
        }


def checkpoints(state: State, config: CourseLMTraining) -> dict[int, list[SequenceTransformer]]:
    """``{steps: [a model for each seed]}`` from stored weights; the last is the trained model."""
    template = config.build(seeded(0))
    full = {name: tensor.float() for name, tensor in state.items()}
    return {steps: models_from(template, full, f"{steps}.") for steps in config.checkpoints}


def _pretrain(config: CourseLMTraining) -> State:
    kept: list[dict[str, torch.Tensor]] = []

    def keep(model: nn.Module) -> float:
        kept.append({k: v.detach().cpu().half() for k, v in model.state_dict().items()})
        return 0.0

    between = math.gcd(*config.checkpoints)
    train(
        config.build,
        config.text,
        TrainingConfig(
            steps=config.steps,
            batch_size=config.batch_size,
            n_context=config.length,
            learning_rate=config.learning_rate,
            optimizer="adamw",
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            schedule="cosine",
            warmup=config.warmup,
            clip=config.clip,
            seeds=config.seeds,
            validate_every=between,
        ),
        loss="next_token",
        validate=keep,
        progress=False,
        device=config.device,
    )
    n = len(config.seeds)
    state: State = {}
    for steps in config.checkpoints:
        rows = kept[steps // between * n : (steps // between + 1) * n]
        for name in rows[0]:
            state[f"{steps}.{name}"] = torch.stack([row[name] for row in rows])
    return state


course_weights = recipe("course_language_models", config=CourseLMTraining(), measure=_measure)(
    _pretrain
)


def course_models(config: CourseLMTraining | None = None) -> list[SequenceTransformer]:
    """The trained models, one for each seed; stored weights for the default configuration."""
    config = CourseLMTraining() if config is None else config
    return checkpoints(course_weights(config), config)[config.steps]
