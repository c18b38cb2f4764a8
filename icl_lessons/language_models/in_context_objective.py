"""The rival of CourseLM: the same architecture, trained on prompts to answer prompts.

What Shen et al. call the in-context learning objective [shen2024pretrained, eq. 2]: draw a task,
write inputs and labels one after another and nothing else, and ask for every label,

.. math:: \\min_\\Theta E_f E_{x_1 \\ldots x_{K+1}} \\frac{1}{K+1} \\sum_{i=0}^{K}
          -\\log M_\\Theta(f(x_{i+1}) \\mid x_1 \\circ f(x_1) \\circ \\ldots \\circ x_{i+1}).

The sentences, label words and tasks are CourseLM's. Two things differ: every text is a prompt, so
that the family of tasks is the one that is tested later; and no token but the labels is predicted,
so that the model is no language model. Constructions and proofs speak of models such as this
(Hypothesis 2), and the question is about models such as CourseLM (Hypothesis 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.attribute_prompts import AttributePrompts, attribute_prompts
from icl_lessons.tasks.attribute_text import (
    ATTRIBUTES,
    BEGIN,
    FIRST_A,
    FIRST_B,
    NAMES,
    SEPARATORS,
    VOCABULARY,
    Draw,
)
from icl_lessons.tasks.drawing import drawing_device
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED = 2_310_086
PAIR = 5  # tokens of a demonstration: noun, predicate, A, label, B
LABEL = 4  # place of the first label, after <begin> noun predicate A


@dataclass(frozen=True)
class PromptsOnly:
    """A corpus of prompts: every text is about one attribute, from the first word to the last.

    Attributes:
        contrary: share of texts whose labels name the next value; canonical otherwise.
        letter: of the one pair of separators that is used, 0 to 4; documents never have this pair.
    """

    contrary: float | int = 0.25
    letter: int = 0

    def __post_init__(self):
        check_number("contrary", self.contrary)
        check_integer("letter", self.letter, at_least=0)
        if self.contrary > 1:
            raise ValueError(f"contrary: got {self.contrary}; use a share, from 0 to 1")
        if self.letter >= SEPARATORS:
            raise ValueError(f"letter: got {self.letter}; use 0 to {SEPARATORS - 1}")

    def sample(
        self,
        batch_size: int,
        n: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        fast: bool = False,
    ) -> Int[Tensor, "batch length"]:
        """Texts ``<begin> (noun predicate A label B) x n``, all labels right.

        Args:
            batch_size: number of texts, each with an attribute and a mapping of its own.
            n: pairs of a sentence and a label in each.
            generator: the only source of chance.
            device: where the texts are wanted; drawn on the CPU and then moved.
            fast: draw there instead.
        """
        check_integer("batch_size", batch_size, at_least=1)
        check_integer("n", n, at_least=1)
        draw = Draw(generator, drawing_device(generator, device, fast))
        values, sentences = draw.sentences((batch_size, n))
        attribute = draw.integer(len(ATTRIBUTES), (batch_size, 1)).expand(-1, n)
        shift = draw.chance(self.contrary, (batch_size, 1)).long()
        value = values.gather(-1, attribute[..., None])[..., 0]
        label = draw.label_of(attribute, value + shift)[..., None]
        a, b = torch.full_like(label, FIRST_A), torch.full_like(label, FIRST_B)
        pairs = torch.cat([sentences, a + self.letter, label, b + self.letter], -1).flatten(1)
        texts = torch.cat([pairs.new_full((batch_size, 1), BEGIN), pairs], 1)
        return texts if device is None else texts.to(device)


def in_context_loss(model: nn.Module, texts: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
    """Mean of ``-log p(label | all before it)`` over every label of every text, in nats.

    No other token is predicted [shen2024pretrained, eq. 2].
    """
    law = model(texts[:, :-1])[:, LABEL - 1 :: PAIR]
    return -law.gather(-1, texts[:, LABEL::PAIR, None]).mean()


@dataclass(frozen=True, kw_only=True)
class InContextTraining:
    """What the weights of the rival depend on; shape and optimiser are CourseLM's.

    Attributes:
        text: the corpus of prompts.
        pairs: sentences with a label in each text.
        batch_size: fresh texts in each step.
        width, layers, heads: of the transformer, with ALiBi positions.
        steps, learning_rate, warmup, weight_decay, clip: of AdamW with ``betas=(0.9, 0.98)`` and a
            cosine schedule.
        seeds: one model each.
        device: where to train.
    """

    text: PromptsOnly = PromptsOnly()
    pairs: int = 12
    batch_size: int = 16
    width: int = 64
    layers: int = 2
    heads: int = 4
    steps: int = 2000
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("pairs", "batch_size", "width", "layers", "heads", "steps"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)

    def build(self, generator: torch.Generator) -> SequenceTransformer:
        """A model before training."""
        shape = SequenceTransformerConfig(
            vocabulary=len(VOCABULARY), width=self.width, layers=self.layers, heads=self.heads
        )
        return SequenceTransformer(shape, generator=generator)


def with_separators(prompts: AttributePrompts, letters: Sequence[int]) -> AttributePrompts:
    """The same prompts with other pairs of separators, none of which documents have.

    Args:
        letters: of both separators of a pair, 0 to 4; the prompts take them in turn.
    """
    if not letters or not set(letters) <= set(range(SEPARATORS)):
        raise ValueError(f"letters: got {letters}; use one or more of 0 to {SEPARATORS - 1}")
    letter = torch.tensor(list(letters)).repeat(len(prompts))[: len(prompts), None]
    return replace(prompts, separators=torch.cat([FIRST_A + letter, FIRST_B + letter], 1))


def _measure(state: State, config: InContextTraining) -> dict[str, float]:
    prompts = [
        with_separators(
            attribute_prompts(name, 8, 60, generator=seeded(TEST_SEED)), [config.text.letter]
        )
        for name in NAMES
    ]
    texts = config.text.sample(60, config.pairs, generator=seeded(TEST_SEED))
    measured = {}
    with one_thread(), torch.no_grad():
        for seed, model in zip(config.seeds, in_context_models(config, state), strict=True):
            measured[f"loss {seed}"] = in_context_loss(model, texts).item()
            right = [accuracy_over_vocabulary(answer_law(model, p.tokens), p.answer)
                     for p in prompts]  # fmt: skip
            measured[f"accuracy {seed}"] = sum(right) / len(right)
    return measured


@recipe("in_context_objective", config=InContextTraining(), measure=_measure)
def in_context_weights(config: InContextTraining) -> State:
    """Weights in half precision, ``[seeds, ...]``."""
    run = train(
        config.build,
        config.text,
        TrainingConfig(
            steps=config.steps,
            batch_size=config.batch_size,
            n_context=config.pairs,
            learning_rate=config.learning_rate,
            optimizer="adamw",
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            schedule="cosine",
            warmup=config.warmup,
            clip=config.clip,
            seeds=config.seeds,
        ),
        loss=in_context_loss,
        progress=False,
        device=config.device,
    )
    return {name: tensor.half() for name, tensor in run.state.items()}


def in_context_models(
    config: InContextTraining | None = None, state: State | None = None
) -> list[SequenceTransformer]:
    """The rivals, one for each seed; stored weights for the default configuration.

    Args:
        state: their weights, if they are at hand.
    """
    config = InContextTraining() if config is None else config
    state = in_context_weights(config) if state is None else state
    full = {name: tensor.float() for name, tensor in state.items()}
    return models_from(config.build(seeded(0)), full)
