"""What is claimed of the architectures of pretrained language models.

Checked on small models with random weights, which the statements allow: they hold for any weights.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed
from icl_lessons.implicit_dynamics.claims.rank_one_update import GOLDWASER, INNOCENTI, PAGE
from icl_lessons.implicit_dynamics.contextual_blocks import block_output
from icl_lessons.implicit_dynamics.pretrained_block import (
    FourNormBlock,
    in_double_precision,
    language_model_blocks,
    read_out,
    updated_logits,
)
from icl_lessons.implicit_dynamics.random_language_models import random_language_model
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update
from icl_lessons.implicit_dynamics.scale_update import run_rescaled, scale_update
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.runtime import Scale, seeded

MODELS = "random weights, three blocks, prompts of 2 to 12 tokens."
NEEDED = "Not run: it needs transformers, pip install icl_lessons[language-models]."


def _have_transformers() -> bool:
    try:
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def _claim(name: str, says: str, *, paper: str, where: str, kind: str = "identity"):
    """Declare a claim whose check is left open where ``transformers`` is not installed."""

    def declare(check: Callable[[Scale], Evidence]) -> Callable[[Scale], Evidence]:
        def where_possible(scale: Scale) -> Evidence:
            if not _have_transformers():
                return Evidence(measured=math.nan, bound=0.0, unit=RELATIVE_ERROR, note=NEEDED)
            return check(scale)

        return claim(name, paper=paper, where=where, kind=kind, says=says, chapter=PAGE)(
            where_possible
        )

    return declare


def _prompts(count: int, *, seed: int) -> list[Tensor]:
    """Two prompts of one random length at a time."""
    g = seeded(seed)
    lengths = torch.randint(2, 13, (count,), generator=g).tolist()
    return [torch.randint(0, 50, (2, n), generator=g) for n in lengths]


def _whole_model(families: tuple[str, ...], *, seed: int) -> Evidence:
    """Logits of the model, against those of the changed model on the last token alone."""
    worst = 0.0
    for i, family in enumerate(families):
        model = in_double_precision(random_language_model(family, generator=seeded(seed + i)))
        for ids in _prompts(4, seed=seed + 10 + i):
            with torch.no_grad():
                expected = model(ids).logits[:, -1]
            worst = max(worst, relative_error(updated_logits(model, ids), expected))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note=f"Logits against the model's own; {', '.join(families)}: {MODELS}",
    )


@_claim(
    "innocenti2025-gpt-2",
    "A model like GPT-2 needs no prompt: one rank-one update and one bias for each block give its "
    "logits from the last token alone.",
    paper=INNOCENTI,
    where="induction over blocks",
)
def gpt_2(scale: Scale) -> Evidence:
    return _whole_model(("gpt2",), seed=770)


@_claim(
    "goldwaser2025-llama",
    "The same for models like Llama, Qwen and the first Gemma: rotary positions, RMS norms, gated "
    "MLPs; what a bias would take is an added vector.",
    paper=GOLDWASER,
    where="abstract: gating, pre- and post-norm",
)
def llama(scale: Scale) -> Evidence:
    return _whole_model(("llama", "qwen2", "qwen3", "gemma"), seed=771)


@_claim(
    "goldwaser2025-four-norms",
    "The same for models like Gemma 2 and 3, with an added vector.",
    paper=GOLDWASER,
    where="abstract: gating, pre- and post-norm",
)
def four_norms(scale: Scale) -> Evidence:
    return _whole_model(("gemma2", "gemma3_text"), seed=775)


def _rescaled_logits(model: Any, ids: Tensor) -> Tensor:
    """Logits from the last token alone, with changes of scales in place of added vectors."""
    blocks, streams = language_model_blocks(model, ids)
    four_norms: list[FourNormBlock] = [b for b in blocks if isinstance(b, FourNormBlock)]
    with torch.no_grad():
        changes = [
            scale_update(block, stream[:, :-1], stream[:, -1])
            for block, stream in zip(four_norms, streams, strict=False)
        ]
        return read_out(model, run_rescaled(four_norms, changes, streams[0, :, -1]))


@_claim(
    "goldwaser2025-gemma-scales",
    "Without any added vector: in models like Gemma 2 and 3 changes of gate, value and the last "
    "norm's scales are enough.",
    paper=GOLDWASER,
    where="abstract; Gemma",
)
def gemma_scales(scale: Scale) -> Evidence:
    worst = 0.0
    for i, family in enumerate(("gemma2", "gemma3_text")):
        model = in_double_precision(random_language_model(family, generator=seeded(777 + i)))
        for ids in _prompts(4, seed=787 + i):
            with torch.no_grad():
                expected = model(ids).logits[:, -1]
            worst = max(worst, relative_error(_rescaled_logits(model, ids), expected))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note=f"Logits against the model's own; gemma2, gemma3_text: {MODELS}",
    )


@_claim(
    "goldwaser2025-gemma-generation",
    "Changed anew at every token, a model like Gemma 3 goes on as it does with its prompt.",
    paper=GOLDWASER,
    where="experiments: Gemma 3, 1B",
    kind="experiment",
)
def generation(scale: Scale) -> Evidence:
    new, same = 12, []
    for seed in range(3):
        model = random_language_model("gemma3_text", generator=seeded(790 + seed))
        ids = torch.randint(0, 50, (2, 8), generator=seeded(795 + seed))
        for _ in range(new):
            with torch.no_grad():
                following = model(ids).logits[:, -1].argmax(-1)
            same.append(_rescaled_logits(model, ids).argmax(-1) == following)
            ids = torch.cat([ids, following[:, None]], 1)
    agreed = torch.stack(same)
    return Evidence(
        measured=agreed.double().mean().item(),
        bound=1.0,
        comparison="at least",
        unit="share of greedy tokens that agree, float32",
        samples=passed(agreed.numpy()),
        note=f"Three models of three blocks with random weights, two prompts each, {new} tokens. "
        "The paper's model of a billion weights was not run here.",
    )


@_claim(
    "survey-update-beside-attention",
    "Where the MLP stands beside attention, as in Pythia, the update is 0: the whole of the "
    "context is an added vector.",
    paper=INNOCENTI,
    where="not in the paper; about its blocks",
)
def beside_attention(scale: Scale) -> Evidence:
    model = in_double_precision(random_language_model("gpt_neox", generator=seeded(780)))
    worst, after = 0.0, []
    for ids in _prompts(4, seed=781):
        blocks, streams = language_model_blocks(model, ids)
        for block, stream in zip(blocks, streams, strict=False):
            update = implicit_update(block, stream[:, :-1], stream[:, -1])
            alone = block_output(block, stream[:, :0], stream[:, -1])
            whole = block_output(block, stream[:, :-1], stream[:, -1])
            worst = max(
                worst,
                update.weight.abs().max().item(),
                relative_error(alone + update.bias, whole),
            )
        with torch.no_grad():
            after.append(relative_error(updated_logits(model, ids), model(ids).logits[:, -1]))
    return Evidence(
        measured=max(worst, *after),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note=f"The update, the output plus the vector, and the logits; gpt_neox: {MODELS}",
    )


@_claim(
    "survey-update-alone-without-place",
    "Read alone, a token does not depend on its rotary position.",
    paper=INNOCENTI,
    where="not in the paper; about the query alone",
)
def alone_without_place(scale: Scale) -> Evidence:
    worst = 0.0
    for i, family in enumerate(("llama", "qwen3", "gemma3_text")):
        model = in_double_precision(random_language_model(family, generator=seeded(783 + i)))
        blocks, streams = language_model_blocks(model, _prompts(1, seed=786)[0])
        for block, stream in zip(blocks, streams, strict=False):
            here = stream[:, -1]
            there = torch.cat([here[:, :-1], here[:, -1:] + 29], -1)
            outputs = (block_output(block, stream[:, :0], q)[:, :-1] for q in (there, here))
            worst = max(worst, relative_error(*outputs))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note=f"llama, qwen3, gemma3_text: {MODELS} GPT-2 adds positions to the vectors: "
        "there the query must keep its own.",
    )
