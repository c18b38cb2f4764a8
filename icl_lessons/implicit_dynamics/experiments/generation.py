"""A decoder that writes on without its prompt: updates made at every step, and updates kept.

The documents go round a cycle of all tokens, one of a few known cycles for each document, with a
stray token now and then. To go on a model has to find out which cycle it is, and to look up what
comes after the last token: the first belongs to the prompt, the second to the query.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.implicit_dynamics.figures import generation as figures
from icl_lessons.implicit_dynamics.generation import (
    Kept,
    OwnUpdates,
    Remade,
    along,
    generate,
    update_change,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.hidden_markov import HMMMixture
from icl_lessons.training import TrainingConfig, next_token_loss, train
from icl_lessons.training.loop import START, stream
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED = 2_507_161
WORLD_SEED = 25
READERS = ("kept", "kept, visible", "nothing", "visible only")


@dataclass(frozen=True, kw_only=True)
class GenerationTraining:
    """What the weights of the trained decoders depend on.

    Attributes:
        vocabulary: tokens; a cycle goes through all of them.
        cycles: how many there are, drawn once, the same for every seed.
        order: share of tokens that follow the cycle; the others are uniform.
        length: of a document.
        width, layers, heads: of a decoder with ALiBi.
        steps, batch_size, learning_rate: of Adam on the next token, decaying to 0, clipped at 1.
        seeds: one decoder each.
    """

    vocabulary: int = 12
    cycles: int = 6
    order: float = 0.9
    length: int = 32
    width: int = 32
    layers: int = 2
    heads: int = 4
    steps: int = 500
    batch_size: int = 32
    learning_rate: float = 3e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("vocabulary", "length"):
            check_integer(name, getattr(self, name), at_least=2)
        for name in ("cycles", "width", "layers", "heads", "steps", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        check_number("order", self.order)
        if self.order > 1:
            raise ValueError(f"order: got {self.order}; use a share from 0 to 1")

    def build(self, generator: torch.Generator) -> SequenceTransformer:
        """A decoder before training."""
        shape = SequenceTransformerConfig(
            vocabulary=self.vocabulary, width=self.width, layers=self.layers, heads=self.heads
        )
        return SequenceTransformer(shape, generator=generator)

    @cached_property
    def successors(self) -> Int[Tensor, "cycles vocabulary"]:
        """The token that comes after each, in every cycle."""
        generator = seeded(WORLD_SEED)
        after = torch.empty(self.cycles, self.vocabulary, dtype=torch.long)
        for row in after:
            order = torch.randperm(self.vocabulary, generator=generator)
            row[order] = order.roll(-1)
        return after

    @cached_property
    def task(self) -> HMMMixture:
        """The documents: Markov chains whose hidden states are the tokens."""
        n = self.vocabulary
        following = torch.nn.functional.one_hot(self.successors, n).double()
        return HMMMixture(
            initial=torch.full((self.cycles, n), 1 / n, dtype=torch.float64),
            transition=self.order * following + (1 - self.order) / n,
            emission=torch.arange(n),
            vocabulary=n,
        )


def _measure(state: State, config: GenerationTraining) -> dict[str, float]:
    batch = config.task.sample(512, config.length, generator=seeded(TEST_SEED))
    with torch.no_grad(), one_thread():
        models = models_from(config.build(seeded(0)), state)
        return {
            f"loss {seed}": next_token_loss(model, batch).item()
            for seed, model in zip(config.seeds, models, strict=True)
        }


@recipe("generation", config=GenerationTraining(), measure=_measure)
def generation_weights(config: GenerationTraining) -> State:
    """Trained decoders, one row for each seed."""
    settings = TrainingConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        n_context=config.length,
        learning_rate=config.learning_rate,
        schedule="linear_decay",
        clip=1.0,
        seeds=config.seeds,
    )
    run = train(config.build, config.task, settings, loss="next_token", device=config.device)
    return run.state


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(GenerationTraining):
    """The decoders, and what is measured of them.

    Attributes:
        prompt: tokens of a prompt.
        n_prompts: prompts, the same for every seed.
        generated: tokens written after each; more than ``vocabulary``, so that a token returns.
    """

    prompt: int = 24
    n_prompts: int = 16
    generated: int = 13

    def __post_init__(self):
        super().__post_init__()
        check_integer("prompt", self.prompt, at_least=2)
        check_integer("n_prompts", self.n_prompts, at_least=1)
        check_integer("generated", self.generated, at_least=self.vocabulary + 1)

    @property
    def training(self) -> GenerationTraining:
        """What the weights depend on."""
        names = GenerationTraining.__dataclass_fields__
        return GenerationTraining(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class GenerationResult:
    """What is written with the prompt, and what is left of it without.

    Shares and medians are over prompts; the last axis is the generated token, from the first. The
    second axis of ``agreement``, ``distance`` and ``untrained_agreement`` is :data:`READERS`: the
    first step's updates with the query alone; the same with what came since visible; then both
    without any updates. That of ``written`` is the first two.

    Attributes:
        right: share of tokens written with the prompt that follow its cycle, ``[seeds, steps]``.
        residual, own_residual: largest relative error of the log probabilities with updates made
            at every step, and (first 8 prompts) with the prompt alone replaced, each while it
            writes, ``[seeds]``.
        same: share of tokens that updates made at every step write as the prompt does, ``[seeds]``.
        agreement: share of prompts where the most probable token is the same as with the prompt,
            along the text written with it, ``[seeds, readers, steps]``.
        distance: mean total variation distance of the two distributions there.
        written: share of tokens equal where each way writes by itself, ``[seeds, 2, steps]``.
        untrained_agreement: ``agreement`` of the same decoders before training.
        change, left, right_vector: from one step's updates to the next: median relative change and
            median cosines, ``[seeds, layers, steps - 1]``.
        untrained_change: ``change`` of the same decoders before training.
        returned: median change from the first step's updates to those one cycle later, where the
            query is the same token again, ``[seeds, layers]``; NaN where no text went round.
        relative_size: median of ``|Delta|_F / |W|_F`` at the first step, ``[seeds, layers]``.
        cycle: steps until a query returns.
    """

    right: Float[np.ndarray, "seeds steps"]
    residual: Float[np.ndarray, " seeds"]
    own_residual: Float[np.ndarray, " seeds"]
    same: Float[np.ndarray, " seeds"]
    agreement: Float[np.ndarray, "seeds readers steps"]
    distance: Float[np.ndarray, "seeds readers steps"]
    written: Float[np.ndarray, "seeds two steps"]
    untrained_agreement: Float[np.ndarray, "seeds readers steps"]
    change: Float[np.ndarray, "seeds layers steps_1"]
    left: Float[np.ndarray, "seeds layers steps_1"]
    right_vector: Float[np.ndarray, "seeds layers steps_1"]
    untrained_change: Float[np.ndarray, "seeds layers steps_1"]
    returned: Float[np.ndarray, "seeds layers"]
    relative_size: Float[np.ndarray, "seeds layers"]
    cycle: int
    models: list = field(repr=False, metadata={"stored": False})

    def later(self, values: Float[np.ndarray, "seeds readers steps"]) -> np.ndarray:
        """The mean over generated tokens from the second until the first query returns."""
        return values[..., 1 : self.cycle].mean(-1)

    def summary(self) -> str:
        """The figures in a few lines."""
        rows = [
            ("follows the cycle, with the prompt", f"{self.right.mean(-1)}"),
            ("largest residual", f"{max(self.residual.max(), self.own_residual.max()):.1e}"),
            ("change from step to step", f"{self.change.mean(-1)}"),
            ("change after one cycle", f"{self.returned}"),
        ]
        for i, reader in enumerate(READERS):
            rows.append((f"agreement, {reader}", f"{self.later(self.agreement)[:, i]}"))
        return "\n".join(f"{name:36s}{value}" for name, value in rows)


def _readers(model: SequenceTransformer, prompt: Tensor) -> list[Kept]:
    return [
        Kept(model, prompt, visible=visible, updated=updated)
        for updated in (True, False)
        for visible in (False, True)
    ]


def _compared(model: SequenceTransformer, text: Tensor, n_prompt: int) -> dict[str, Tensor]:
    """The four ways along a text, and how the updates change along it."""
    truth = along(lambda tokens: model(tokens)[:, -1], text, n_prompt)
    said = torch.stack(
        [along(reader, text, n_prompt) for reader in _readers(model, text[:, :n_prompt])]
    )
    remade = Remade(model)
    updates = [remade.updates(text[:, :length]) for length in range(n_prompt, text.shape[1])]
    changes = [update_change(*pair) for pair in zip(updates, updates[1:], strict=False)]
    medians = [torch.stack(column, -1).median(1).values for column in zip(*changes, strict=True)]
    return {
        "agreement": (said.argmax(-1) == truth.argmax(-1)).double().mean(1),
        "distance": 0.5 * (said.exp() - truth.exp()).abs().sum(-1).mean(1),
        "change": medians[0],
        "left": medians[1],
        "right_vector": medians[2],
        "updates": updates,
    }


def _measured(
    config: GenerationConfig, model: SequenceTransformer, untrained: SequenceTransformer
) -> dict[str, Tensor]:
    documents = config.task.sample(config.n_prompts, config.prompt, generator=seeded(TEST_SEED))
    prompt, steps, few = documents.tokens, config.generated, documents.tokens[:8]
    text, log_probs = generate(lambda tokens: model(tokens)[:, -1], prompt, steps)
    last = text[:, config.prompt - 1 : -1]
    new = text[:, config.prompt :]

    remade = generate(Remade(model), prompt, steps)
    own = generate(OwnUpdates(model, config.prompt), few, steps)
    written = [generate(reader, prompt, steps).tokens for reader in _readers(model, prompt)[:2]]
    measured = _compared(model, text, config.prompt)
    updates = measured.pop("updates")
    n = config.vocabulary
    raw_text = generate(lambda tokens: untrained(tokens)[:, -1], prompt, steps).tokens
    raw = _compared(untrained, raw_text, config.prompt)
    returned = update_change(updates[0], updates[n]).relative
    returned[:, last[:, n] != last[:, 0]] = torch.nan
    follows = config.successors[documents.concept[:, None], last] == new
    return measured | {
        "right": follows.double().mean(0),
        "residual": torch.tensor(relative_error(remade.log_probs, log_probs)),
        "own_residual": torch.tensor(relative_error(own.log_probs, log_probs[:8])),
        "same": (remade.tokens == text)[:, config.prompt :].double().mean(),
        "written": torch.stack(
            [(tokens[:, config.prompt :] == new).double().mean(0) for tokens in written]
        ),
        "untrained_agreement": raw["agreement"],
        "untrained_change": raw["change"],
        "returned": returned.nanmedian(1).values,
        "relative_size": torch.stack([u.relative_size.median() for u in updates[0].updates]),
    }


@experiment(
    "generation",
    paper="dherin2025learning",
    chapter="implicit_dynamics/token_by_token",
    configs={
        Scale.LESSON: GenerationConfig(),
        Scale.PAPER: GenerationConfig(
            width=256, layers=6, heads=8, steps=5000, length=128, prompt=96, n_prompts=256
        ),
    },
    figure=figures.generation,
)
def generation(config: GenerationConfig) -> GenerationResult:
    """A decoder writes on without its prompt: exact if the updates are made anew, not if kept."""
    state = generation_weights(config.training)
    measured, models = [], []
    with one_thread():
        for seed, model in zip(
            config.seeds, models_from(config.build(seeded(0)), state), strict=True
        ):
            model = model.double().requires_grad_(False)
            untrained = config.build(stream(seed, START)).double().requires_grad_(False).eval()
            measured.append(_measured(config, model, untrained))
            models.append(model)
    stacked = {name: np.stack([m[name].numpy() for m in measured]) for name in measured[0]}
    return GenerationResult(**stacked, cycle=config.vocabulary, models=models)
