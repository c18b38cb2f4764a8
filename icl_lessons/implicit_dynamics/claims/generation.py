"""What is claimed of more than one generated token, each claim with a check."""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, error_size, passed, result_of, words
from icl_lessons.implicit_dynamics.block_by_block import stack_streams
from icl_lessons.implicit_dynamics.experiments.generation import GenerationResult
from icl_lessons.implicit_dynamics.generation import OwnUpdates, Remade, generate
from icl_lessons.implicit_dynamics.scale_update import (
    NormedGatedBlock,
    run_rescaled,
    scale_updates,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded

PAGE = "implicit_dynamics/token_by_token"
DHERIN, GOLDWASER = "dherin2025learning", "goldwaser2025equivalence"
WHERE = "stated limitations, only the first generated token; the measurement is ours"
KEPT, KEPT_VISIBLE, NOTHING, VISIBLE_ONLY = range(4)


def _decoders_error(way: Callable[[SequenceTransformer, int], Callable], *, seed: int) -> Evidence:
    """Log probabilities and tokens that a way writes, against those written with the prompt."""
    g, errors, same = seeded(seed), [], []
    for positions, shift, norm in itertools.product(
        ("alibi", "learned", None), (False, True), ("pre", None)
    ):
        layers, steps, n = (int(torch.randint(1, k, (), generator=g)) for k in (4, 6, 9))
        shape = SequenceTransformerConfig(
            vocabulary=9, width=12, layers=layers, heads=3, positions=positions, token_shift=shift,
            layer_norm=norm, init_std=0.3,
        )  # fmt: skip
        model = SequenceTransformer(shape, generator=g).double().requires_grad_(False)
        prompt = torch.randint(9, (3, n), generator=g)
        expected = generate(lambda tokens, model=model: model(tokens)[:, -1], prompt, steps)
        got = generate(way(model, n), prompt, steps)
        errors.append(relative_error(got.log_probs, expected.log_probs))
        same.append(torch.equal(got.tokens, expected.tokens))
    return Evidence(
        measured=max(errors),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        samples=passed([ok and error <= 1e-12 for ok, error in zip(same, errors, strict=True)]),
        note=f"Log probabilities of {len(errors)} decoders, with ALiBi, learned or no positions, "
        f"with and without token shift and layer norm; the same tokens in {sum(same)} of them.",
    )


@claim(
    "dherin2025-generation-remade",
    paper=DHERIN,
    where="theorem 2.2 at every generated token",
    kind="identity",
    says="A model writes on from the last token alone if its updates are made again for each.",
    chapter=PAGE,
)
def remade(scale: Scale) -> Evidence:
    return _decoders_error(lambda model, n: Remade(model), seed=1611)


@claim(
    "dherin2025-generation-visible",
    paper=DHERIN,
    where="theorem 2.2 with Y the prompt, at every generated token",
    kind="identity",
    says="A prompt can leave the text if each token keeps its own updates, made from the prompt.",
    chapter=PAGE,
)
def own_updates(scale: Scale) -> Evidence:
    return _decoders_error(OwnUpdates, seed=1612)


class GatedDecoder:
    """Random gated blocks without biases, with an embedding and its transpose to read out."""

    def __init__(self, layers: int, generator: torch.Generator):
        how = {"generator": generator, "dtype": torch.float64}
        self.embedding = torch.randn(11, 8, **how)
        self.places = torch.randn(16, 8, **how)
        self.blocks = [
            NormedGatedBlock(8, 12, generator=generator).requires_grad_(False)
            for _ in range(layers)
        ]

    def streams(self, tokens: Tensor) -> Tensor:
        """Tokens as they enter the first block, with learned positions."""
        return self.embedding[tokens] + self.places[: tokens.shape[1]]

    def log_probs(self, stream: Tensor) -> Tensor:
        """Of the next token."""
        return (stream @ self.embedding.mT).log_softmax(-1)

    def with_context(self, tokens: Tensor) -> Tensor:
        """All tokens read."""
        return self.log_probs(stack_streams(self.blocks, self.streams(tokens))[:, -1, -1])

    def without(self, tokens: Tensor) -> Tensor:
        """The last token read by blocks with changed weights and scales."""
        below = self.streams(tokens)
        changes, _ = scale_updates(self.blocks, below[:, :-1], below[:, -1])
        return self.log_probs(run_rescaled(self.blocks, changes, below[:, -1]))


@claim(
    "goldwaser2025-generation",
    paper=GOLDWASER,
    where="the experiment on a 1B Gemma 3, updates made again at every step (secondary source)",
    kind="identity",
    says="So does one of gated blocks without biases, by rank-one updates and changed scales.",
    chapter=PAGE,
)
def gated(scale: Scale) -> Evidence:
    g, errors, same = seeded(1613), [], []
    for layers in (1, 2, 3, 4):
        decoder = GatedDecoder(layers, g)
        prompt = torch.randint(11, (2, 5), generator=g)
        expected, got = (
            generate(way, prompt, 5) for way in (decoder.with_context, decoder.without)
        )
        errors.append(relative_error(got.log_probs, expected.log_probs))
        same.append(torch.equal(got.tokens, expected.tokens))
    return Evidence(
        measured=max(errors),
        bound=1e-10,
        unit=RELATIVE_ERROR,
        samples=passed([ok and error <= 1e-10 for ok, error in zip(same, errors, strict=True)]),
        note=f"Log probabilities of 1 to 4 random blocks; the same tokens in {sum(same)} of 4.",
    )


# --- trained decoders ---------------------------------------------------------------------------


def _experiment(name: str, says: str, *, key: str = "survey", paper: str = DHERIN,
                where: str = WHERE):  # fmt: skip
    return claim(
        f"{key}-{name}", paper=paper, where=where, kind="experiment", says=says, chapter=PAGE
    )


def _result(scale: Scale) -> GenerationResult:
    return result_of("generation", scale)


@_experiment(
    "same-tokens",
    "With updates made again at every step a trained model generates the same text.",
    key="goldwaser2025",
    paper=GOLDWASER,
    where="the experiment on a 1B Gemma 3 (secondary source); here the course's decoder",
)
def same_tokens(scale: Scale) -> Evidence:
    result = _result(scale)
    return Evidence(
        measured=result.same.min(),
        bound=1.0,
        comparison="at least",
        unit="share of generated tokens that are the same, lowest seed",
        reported=1.0,
        samples=passed(result.same >= 1),
        note=f"Largest relative error of a log probability: {error_size(result.residual.max())}. "
        f"{100 * result.right.mean():.1f} % of the tokens are the right ones.",
    )


@_experiment(
    "generation-nothing-shared",
    "From one generated token to the next, the updates have nothing in common.",
)
def nothing_shared(scale: Scale) -> Evidence:
    result = _result(scale)
    change = result.change.mean(-1)
    return Evidence(
        measured=change.min(),
        bound=1.2,
        comparison="at least",
        unit="median |D_next - D| / |D|, mean over steps, smallest of seeds and blocks",
        samples=passed(change >= 1.2),
        note="Unrelated updates of one size differ by 1.41 of it. Mean cosine of left vectors "
        f"{result.left.mean():.2f}, of right vectors {result.right_vector.mean():.2f}. Before "
        f"training, by block: {words(result.untrained_change.mean((0, 2)))}, as texts that "
        "repeat a token keep their query.",
    )


@_experiment(
    "generation-kept-fails",
    "The updates of the first generated token do not serve the ones after it.",
)
def kept_fails(scale: Scale) -> Evidence:
    result = _result(scale)
    agreement = result.later(result.agreement)[:, KEPT]
    written = result.later(result.written)[:, 0]
    return Evidence(
        measured=agreement.max(),
        bound=0.5,
        unit="share of later tokens where the most probable one is the prompt's, highest seed",
        samples=passed(agreement <= 0.5),
        note=f"Seeds: {words(agreement)}, and {words(written)} where it writes by itself; total "
        f"variation {words(result.later(result.distance)[:, KEPT])}. The first token is exact.",
    )


@_experiment(
    "generation-kept-visible",
    "Kept updates stand for the prompt where the text since stays visible.",
)
def kept_visible(scale: Scale) -> Evidence:
    result = _result(scale)
    agreement = result.later(result.agreement)[:, KEPT_VISIBLE]
    written = result.later(result.written)[:, 1]
    return Evidence(
        measured=agreement.min(),
        bound=0.95,
        comparison="at least",
        unit="share of later tokens where the most probable one is the prompt's, lowest seed",
        samples=passed(agreement >= 0.95),
        note=f"Seeds: {words(agreement)}, along the text that the prompt gave; {words(written)} "
        "where it writes by itself, so that its errors become its context.",
    )


def _worse(scale: Scale, kept: int, without: int) -> Evidence:
    result = _result(scale)
    agreement = result.later(result.agreement)
    gained = agreement[:, kept] - agreement[:, without]
    return Evidence(
        measured=gained.max(),
        bound=0.0,
        unit="agreement with kept updates less that without any, highest seed",
        samples=passed(gained <= 0),
        note=f"Kept: {words(agreement[:, kept])}; no update: {words(agreement[:, without])}.",
    )


@_experiment(
    "generation-worse-than-nothing",
    "For a query alone, kept updates are worse than no update.",
)
def worse_alone(scale: Scale) -> Evidence:
    return _worse(scale, KEPT, NOTHING)


@_experiment(
    "generation-worse-than-forgetting",
    "With the text since visible, kept updates are worse than a prompt that is forgotten.",
)
def worse_visible(scale: Scale) -> Evidence:
    return _worse(scale, KEPT_VISIBLE, VISIBLE_ONLY)


@_experiment(
    "generation-same-query",
    "Where the same query comes back, the update of its first time serves again.",
)
def same_query(scale: Scale) -> Evidence:
    result = _result(scale)
    agreement = result.agreement[:, KEPT, result.cycle]
    return Evidence(
        measured=agreement.min(),
        bound=0.9,
        comparison="at least",
        unit="share of prompts where the most probable token is the prompt's, one cycle on",
        samples=passed(agreement >= 0.9),
        note=f"Seeds: {words(agreement)}. The update made there differs from the first by "
        f"{words(np.nanmean(result.returned, 0))} of it, by block: an update belongs to a query.",
    )
