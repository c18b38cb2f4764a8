"""Task vectors: one state, taken from a prompt with demonstrations, in place of the demonstrations.

Hendel et al. take the state of the last token after some block of a prompt with demonstrations and
another query, and put it where the state of a query without demonstrations was: the model then does
the task [hendel2023task]. Such a state erases what the last token has read of its query,
so that in a shallow model this works mostly where the query is read in a later block
(:func:`whose_query_is_answered` finds out when). Adding the *difference* that the demonstrations
make leaves the query alone.

Blocks are counted from 0; "after block ``l``" is what enters block ``l + 1``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.models.sequence import SequenceTransformer
from icl_lessons.runtime import check_choice, check_integer

Prompts = Int[Tensor, "batch length"]
States = Float[Tensor, "layers batch width"]


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of CourseLM, or of a model with a property ``blocks``, from below."""
    if isinstance(model, SequenceTransformer):
        return list(model.blocks)
    if not hasattr(model, "blocks"):
        raise TypeError(f"model: got {type(model).__name__}; use CourseLM or a PretrainedLM")
    return list(model.blocks)


def _stream(output: Any) -> Tensor:
    """The residual stream in what a block puts out: some wrap it in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def last_states(model: nn.Module, tokens: Prompts) -> States:
    """The state of the last token after every block."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: Any) -> None:
        kept.append(_stream(output)[:, -1].detach())

    hooks = [block.register_forward_hook(keep) for block in blocks_of(model)]
    try:
        with torch.no_grad():
            model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(kept)


@contextmanager
def _patched(
    model: nn.Module, block: int, vector: Float[Tensor, "..."], how: str
) -> Iterator[None]:
    blocks = blocks_of(model)
    if not 0 <= block < len(blocks):
        raise ValueError(f"block: got {block}; blocks are 0 to {len(blocks) - 1}")

    def patch(module: nn.Module, args: tuple, output: Any) -> Any:
        stream = _stream(output).clone()
        stream[:, -1] = vector if how == "replace" else stream[:, -1] + vector
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    hook = blocks[block].register_forward_hook(patch)
    try:
        yield
    finally:
        hook.remove()


def patched_answers(
    model: nn.Module,
    tokens: Prompts,
    block: int,
    vector: Float[Tensor, "*batch width"],
    how: Literal["replace", "add"] = "replace",
) -> Float[Tensor, "batch vocabulary"]:
    """Answers when the last token's state after a block is replaced, or added to.

    Args:
        tokens: prompts, usually queries without demonstrations.
        block: after which.
        vector: ``[width]`` for all prompts, or one each.

    Raises:
        ValueError: a block that is not there, or another way than these two.
    """
    check_choice("how", how, ("replace", "add"))
    with _patched(model, block, vector, how):
        return answer_law(model, tokens)


def task_vectors(
    model: nn.Module, prompts: Any, how: Literal["replace", "add"] = "replace"
) -> Float[Tensor, "layers width"]:
    """The vector of a task after every block, averaged over dummy queries.

    Args:
        prompts: demonstrations before some dummy queries; they must be none of those that the
            vector is tested on.
        how: ``"replace"``: the mean state with the demonstrations [hendel2023task]. ``"add"``: the
            mean difference that they make.
    """
    check_choice("how", how, ("replace", "add"))
    states = last_states(model, prompts.tokens)
    if how == "add":
        states = states - last_states(model, prompts.query_tokens)
    return states.mean(1)


class Asked(NamedTuple):
    """Some rows of prompts: with their demonstrations, without, and the right answers."""

    tokens: Prompts
    query_tokens: Prompts
    answer: Int[Tensor, " batch"]


def held_apart(prompts: Any, dummies: int) -> tuple[Asked, Asked]:
    """The first rows, to take vectors from, and those others whose query is none of theirs.

    Raises:
        ValueError: so many dummies that no query is left to test on.
    """
    check_integer("dummies", dummies, at_least=1)
    rows = Asked(prompts.tokens, prompts.query_tokens, prompts.answer)
    alone = rows.query_tokens
    known = (alone[:, None] == alone[None, :dummies]).all(-1).any(1)
    if known.all():
        raise ValueError(f"dummies: {dummies} of {len(alone)} prompts leave no query to test on")
    return Asked(*(part[:dummies] for part in rows)), Asked(*(part[~known] for part in rows))


class Answered(NamedTuple):
    """Whose query the answers fit, as shares of the prompts whose two answers differ.

    Attributes:
        own: that of the prompt: it is read after the swap.
        donor: that of the prompt which the state came from: it had been read before.
    """

    own: float
    donor: float


def whose_query_is_answered(
    model: nn.Module, tokens: Prompts, answer: Int[Tensor, " batch"], block: int
) -> Answered:
    """Give every prompt the last state of its neighbour: is its own query read after that?

    Args:
        tokens: prompts that share their demonstrations.
        answer: the token that is right for each query.
        block: after which the states are swapped.

    Raises:
        ValueError: all queries have the same answer.
    """
    other = answer.roll(1)
    differ = other != answer
    if not differ.any():
        raise ValueError("answer: all queries have the same one; a swap would not show")
    states = last_states(model, tokens)[block].roll(1, 0)
    said = patched_answers(model, tokens, block, states).argmax(-1)
    own, donor = ((said == truth)[differ].double().mean().item() for truth in (answer, other))
    return Answered(own, donor)
