"""Function vectors: the heads whose outputs carry a task, and their sum.

Todd et al. look at what every head writes for the last token. They average it over prompts that
demonstrate a task, put that mean into prompts whose labels are corrupted, and see by how much the
right answer gains: the head's *causal indirect effect*. The mean outputs of the few heads with the
largest effect, summed, are the task's *function vector*; added to the residual stream of a query
without demonstrations, it makes the model do the task [todd2024function].

A task vector (:mod:`~icl_lessons.language_models.task_vectors`) is a whole state or a difference of
two; a function vector is a sum of a few heads' outputs. Blocks and heads are counted from 0. All
functions take CourseLM or a :class:`~icl_lessons.models.pretrained.PretrainedLM`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.models.pretrained import PretrainedLM
from icl_lessons.models.sequence import SequenceTransformer
from icl_lessons.runtime import check_integer

Prompts = Int[Tensor, "batch length"]
HeadOutputs = Float[Tensor, "layers heads batch width"]
HeadMeans = Float[Tensor, "layers heads width"]
Effects = Float[Tensor, "layers heads"]
Head = tuple[int, int]
"""A block and a head in it."""


def writers(model: nn.Module) -> list[nn.Module]:
    """For each block the linear map ``W_O`` that writes what its heads have read.

    Its input holds the heads side by side.

    Raises:
        TypeError: a model without heads that this module knows.
    """
    if isinstance(model, SequenceTransformer):
        return [block.attention.write for block in model.blocks]
    if isinstance(model, PretrainedLM):
        return [model.attention_output(block) for block in range(model.layers)]
    raise TypeError(f"model: got {type(model).__name__}; use CourseLM or a PretrainedLM")


def heads_of(model: nn.Module) -> int:
    """Heads in each block."""
    return model.config.heads if isinstance(model, SequenceTransformer) else model.heads


def _written_by_each(
    write: nn.Module, read: Float[Tensor, "batch inputs"], heads: int
) -> Float[Tensor, "heads batch width"]:
    """What each head adds: ``W_O`` on its share of the input alone, without the bias."""
    parts = read.new_zeros(heads, *read.shape)
    size = read.shape[-1] // heads
    for head in range(heads):
        mine = slice(head * size, (head + 1) * size)
        parts[head, :, mine] = read[:, mine]
    return write(parts) - write(torch.zeros_like(parts[:1]))


def _captured(model: nn.Module, tokens: Prompts) -> list[tuple[Tensor, Tensor]]:
    """Input and output of every block's ``W_O`` at the last token."""
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append((args[0][:, -1], output[:, -1]))

    hooks = [write.register_forward_hook(keep) for write in writers(model)]
    try:
        with torch.no_grad():
            model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def head_outputs(model: nn.Module, tokens: Prompts) -> HeadOutputs:
    """What each head writes to the last token: ``a_lj`` in the paper, after ``W_O``.

    Over the heads of a block they sum to :func:`attention_outputs`, less the bias of ``W_O`` where
    it has one.
    """
    heads, captured = heads_of(model), _captured(model, tokens)
    with torch.no_grad():
        return torch.stack(
            [
                _written_by_each(write, read, heads)
                for write, (read, _) in zip(writers(model), captured, strict=True)
            ]
        )


def attention_outputs(model: nn.Module, tokens: Prompts) -> Float[Tensor, "layers batch width"]:
    """What the attention of each block puts out at the last token."""
    return torch.stack([output for _, output in _captured(model, tokens)])


@contextmanager
def _head_replaced(
    model: nn.Module, block: int, head: int, vector: Float[Tensor, "..."]
) -> Iterator[None]:
    write, heads = writers(model)[block], heads_of(model)

    def patch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        own = torch.zeros_like(args[0][:, -1])
        size = own.shape[-1] // heads
        mine = slice(head * size, (head + 1) * size)
        own[:, mine] = args[0][:, -1, mine]
        # Called by its forward: the hook must not call itself.
        written = module.forward(own) - module.forward(torch.zeros_like(own[:1]))
        output = output.clone()
        output[:, -1] += vector - written
        return output

    hook = write.register_forward_hook(patch)
    try:
        yield
    finally:
        hook.remove()


def answers_with_head(
    model: nn.Module,
    tokens: Prompts,
    head: Head,
    vector: Float[Tensor, "*batch width"],
) -> Float[Tensor, "batch vocabulary"]:
    """Answers when one head writes ``vector`` to the last token, whatever it has read.

    Raises:
        ValueError: a block or a head that is not there.
    """
    block, place = head
    for name, value, count in (
        ("block", block, len(writers(model))),
        ("head", place, heads_of(model)),
    ):
        if not 0 <= value < count:
            raise ValueError(f"head: got {name} {value}; use 0 to {count - 1}")
    with _head_replaced(model, block, place, vector):
        return answer_law(model, tokens)


def causal_indirect_effects(
    model: nn.Module,
    corrupted: Prompts,
    answer: Int[Tensor, " batch"],
    means: HeadMeans,
) -> Float[Tensor, "layers heads batch"]:
    """By how much the right answer gains when a head writes its mean [todd2024function, eq. 3].

    Args:
        corrupted: prompts whose demonstrations have corrupted labels.
        answer: the token that is right for each query.
        means: of the head outputs over prompts that demonstrate the task.
    """

    def right(answers: Tensor) -> Tensor:
        return answers.gather(1, answer[:, None])[:, 0]

    before = right(answer_law(model, corrupted))
    layers, heads = means.shape[:2]
    return torch.stack(
        [
            torch.stack(
                [
                    right(answers_with_head(model, corrupted, (block, head), means[block, head]))
                    - before
                    for head in range(heads)
                ]
            )
            for block in range(layers)
        ]
    )


def top_heads(effects: Effects, count: int) -> list[Head]:
    """The heads with the largest average indirect effect, the largest first.

    Raises:
        ValueError: more heads than there are, or none.
    """
    check_integer("count", count, at_least=1)
    if count > effects.numel():
        raise ValueError(f"count: got {count}; there are {effects.numel()} heads")
    order = effects.flatten().argsort(descending=True, stable=True)[:count]
    return [divmod(int(place), effects.shape[1]) for place in order]


def function_vector(means: HeadMeans, heads: Sequence[Head]) -> Float[Tensor, " width"]:
    """The sum of the mean outputs of some heads [todd2024function, eq. 5].

    Add it with :func:`~icl_lessons.language_models.task_vectors.patched_answers` and ``"add"``.
    """
    if not heads:
        return torch.zeros_like(means[0, 0])
    return torch.stack([means[block, head] for block, head in heads]).sum(0)
