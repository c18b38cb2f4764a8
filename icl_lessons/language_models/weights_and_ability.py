"""Are trained weights like those of the constructions, and does an ability hang on exact weights?

The construction of gradient descent by attention is sparse: keys and queries copy a block of the
token, values hold the reference model [vonoswald2023transformers, proposition 1]. Trained weights
are not [shen2024pretrained, section 3.2]. But shares of small entries belong to a basis, and two
changes of basis leave a model exactly as it is: scores are unchanged when queries are multiplied by
``c`` and keys by ``1 / c``, or when both are rotated inside a head; what a head writes is unchanged
when its values are rotated and its output rotated back. What no change of basis touches are the
products ``W_K^T W_Q`` and ``W_O W_V`` of each head, and their ranks stand beside the shares here.
"""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.language_models.course_models import (
    CourseLMTraining,
    checkpoints,
    course_weights,
)
from icl_lessons.language_models.in_context_objective import LABEL, PAIR, with_separators
from icl_lessons.measures.prompting import nats_per_token
from icl_lessons.models.sequence import SequenceTransformer
from icl_lessons.runtime import check_choice, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.tasks.attribute_text import NAMES, AttributeText
from icl_lessons.zoo import State, recipe

TEST_SEED = 2_310_087
PROMPT_SEED = 2_310_088
MATRICES = ("query", "key", "value")
PRODUCTS = ("key query", "output value")
KINDS = ("", "contrary", "random labels", "novel", "code")
ABILITIES = tuple(f"{name}{kind}" for kind in ("", " contrary", " random labels") for name in NAMES)
"""An attribute with right labels, with those of the next value, with labels drawn at random."""

Matrix = Float[Tensor, "rows columns"]


# --- matrices of a model --------------------------------------------------------------------------


class Projections(NamedTuple):
    """The four matrices of a block's attention, each ``[outputs, inputs]``, heads one by one."""

    query: Matrix
    key: Matrix
    value: Matrix
    output: Matrix


def projections(model: nn.Module, block: int) -> Projections:
    """``W_Q``, ``W_K``, ``W_V`` and ``W_O`` of one block, from 0.

    Args:
        model: a course transformer or a :class:`~icl_lessons.models.pretrained.PretrainedLM`.

    Raises:
        ValueError: a block that is not there.
    """
    check_integer("block", block, at_least=0)
    if isinstance(model, SequenceTransformer):
        if block >= len(model.blocks):
            raise ValueError(f"block: got {block}; blocks are 0 to {len(model.blocks) - 1}")
        attention = model.blocks[block].attention
        return Projections(*attention.query_key_value.weight.chunk(3), attention.write.weight)
    ((name, where),) = model.parts("value", block)
    named, output = dict(model.named_parameters()), model.attention_output(block).weight
    if where is not None:  # queries, keys and values side by side, inputs first
        return Projections(*named[name].mT.chunk(3), output.mT)
    return Projections(
        *(named[name.replace("v_proj", f"{letter}_proj")] for letter in "qkv"), output
    )


def head_products(
    matrices: Projections, heads: int
) -> tuple[Float[Tensor, "heads width width"], Float[Tensor, "heads width width"]]:
    """``W_K^T W_Q`` and ``W_O W_V`` of each head: what no change of basis inside a head touches.

    Keys and values that several heads share count for each of them.

    Raises:
        ValueError: a number of heads that does not divide the matrices.
    """
    check_integer("heads", heads, at_least=1)
    rows = len(matrices.query)
    if rows % heads or len(matrices.key) % (rows // heads):
        raise ValueError(f"heads: {heads} heads do not divide {rows} rows of queries")
    size = rows // heads
    query = matrices.query.unflatten(0, (heads, size))
    shared = heads * size // len(matrices.key)
    key, value = (
        m.unflatten(0, (-1, size)).repeat_interleave(shared, 0)
        for m in (matrices.key, matrices.value)
    )
    output = matrices.output.unflatten(1, (heads, size)).transpose(0, 1)
    return key.mT @ query, output @ value


# --- changes of basis -----------------------------------------------------------------------------


def rescaled(model: SequenceTransformer, factor: float | int) -> SequenceTransformer:
    """The same function: all queries times ``factor``, all keys divided by it."""
    check_number("factor", factor, positive=True)
    changed, width = copy.deepcopy(model), model.config.width
    with torch.no_grad():
        for block in changed.blocks:
            joint = block.attention.query_key_value.weight
            joint[:width] *= factor
            joint[width : 2 * width] /= factor
    return changed


def rotations(
    count: int, size: int, *, generator: torch.Generator
) -> Float[Tensor, "count size size"]:
    """Orthogonal matrices, drawn uniformly, in float64."""
    normal = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]


def rotated(model: SequenceTransformer, *, generator: torch.Generator) -> SequenceTransformer:
    """The same function in another basis: each head's queries and keys turned alike, and its values
    turned and turned back where it writes.

    Positions as ALiBi add to the scores and leave them free to turn; rotary positions would not.
    """
    changed, (heads, width) = copy.deepcopy(model), (model.config.heads, model.config.width)
    with torch.no_grad():
        for block in changed.blocks:
            joint, write = block.attention.query_key_value.weight, block.attention.write.weight
            turns, others = (
                rotations(heads, width // heads, generator=generator).to(joint) for _ in range(2)
            )
            by_head = joint.view(3, heads, width // heads, width)
            by_head.copy_(torch.stack([turns, turns, others]) @ by_head)
            written = write.unflatten(1, (heads, -1))
            write.copy_(torch.einsum("ohk,hjk->ohj", written, others).flatten(1))
    return changed


def construction(
    reference: Float[Tensor, "n_y n_x"], learning_rate: float | int, n_context: int
) -> Projections:
    """The weights of proposition 1: one step of descent on a linear model by linear attention.

    Tokens are ``(x, y)``. The step starts from ``reference``, ``W_0``, and ``W_O`` is the matrix
    ``P`` of the paper, which holds the number of examples [vonoswald2023transformers].
    """
    check_integer("n_context", n_context, at_least=1)
    n_y, n_x = reference.shape
    identity = torch.eye(n_x + n_y, dtype=reference.dtype)
    read = torch.block_diag(identity[:n_x, :n_x], torch.zeros_like(identity[:n_y, :n_y]))
    value = torch.zeros_like(identity)
    value[n_x:, :n_x], value[n_x:, n_x:] = reference, -identity[:n_y, :n_y]
    return Projections(read, read.clone(), value, learning_rate / n_context * identity)


def sparsity_of_gaussian(std: float | int, threshold: float | int) -> float:
    """Expected share of entries below ``threshold`` in size in a Gaussian matrix."""
    check_number("std", std, positive=True)
    check_number("threshold", threshold, positive=True)
    return math.erf(threshold / (std * math.sqrt(2)))


# --- abilities ------------------------------------------------------------------------------------


class Accuracy(NamedTuple):
    """After 0, 1, ..., n demonstrations: over the whole vocabulary, and of the task's labels."""

    accuracy: Float[Tensor, " numbers"]
    among_labels: Float[Tensor, " numbers"]


def ability(
    model: nn.Module,
    task: str,
    n: int,
    n_prompts: int,
    *,
    generator: torch.Generator,
    letters: Sequence[int] = (),
) -> Accuracy:
    """How often a model is right after every number of demonstrations up to ``n``.

    A causal model gives all of these in one pass: where it is asked for the label of demonstration
    ``i``, it has seen the ``i`` before it. Every prompt has demonstrations of its own.

    Args:
        task: an attribute, with one of :data:`KINDS` behind it, such as ``"mood contrary"``. With
            random labels the demonstrations say any of the task's label words, and right is the one
            that names the value.
        letters: of the separators, as
            :func:`~icl_lessons.language_models.in_context_objective.with_separators` takes them.
    """
    name, _, kind = task.partition(" ")
    check_choice("task: its attribute", name, NAMES)
    check_choice("task: what follows the attribute", kind, KINDS)
    mapping = "canonical" if kind in ("", "random labels") else kind
    prompts = attribute_prompts(name, n, n_prompts, generator=generator, mapping=mapping)
    if letters:
        prompts = with_separators(prompts, letters)
    right = torch.cat([prompts.labels, prompts.answer[:, None]], 1)
    choices = prompts.choices.expand(n_prompts, -1)
    if kind == "random labels":
        drawn = torch.randint(choices.shape[1], prompts.labels.shape, generator=generator)
        prompts = prompts.with_labels(choices.gather(1, drawn))
    with torch.no_grad():
        law = model(prompts.tokens)[:, LABEL - 1 :: PAIR]
    places = choices[:, None].expand(-1, n + 1, -1)
    best = law.gather(-1, places).argmax(-1, keepdim=True)
    allowed = places.gather(-1, best)[..., 0]
    return Accuracy((law.argmax(-1) == right).double().mean(0), (allowed == right).double().mean(0))


# --- a control ------------------------------------------------------------------------------------

INCOHERENT = CourseLMTraining(
    text=AttributeText(canonical=0.0, contrary=0.0, incoherent=0.93),
    steps=1000,
    checkpoints=(1000,),
)
"""CourseLM on a corpus in which no document keeps to one attribute."""


def _losses(state: State, config: CourseLMTraining) -> dict[str, float]:
    tokens = config.text.sample(60, config.length, generator=seeded(TEST_SEED)).tokens
    models = checkpoints(state, config)[config.steps]
    with one_thread():
        return {
            f"loss {seed}": nats_per_token(model, tokens)
            for seed, model in zip(config.seeds, models, strict=True)
        }


@recipe("incoherent_language_models", config=INCOHERENT, measure=_losses)
def incoherent_weights(config: CourseLMTraining) -> State:
    """Weights as :func:`~icl_lessons.language_models.course_models.course_models` has them."""
    return course_weights.train(config)
