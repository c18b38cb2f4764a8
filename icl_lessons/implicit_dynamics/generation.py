"""More than one generated token: updates that are made again, kept, or kept by their own token.

The updates of :mod:`icl_lessons.implicit_dynamics.block_by_block` stand for a context at one query.
A model that generates asks with another query at every step. Three ways lead on:

* :class:`Remade`: all tokens but the last are replaced by one update for each block, made again at
  every step. Exact, and as costly as reading the context each time.
* :class:`OwnUpdates`: the prompt alone is replaced. Generated tokens stay visible and each keeps
  the updates that were made when it was the query. Exact as well, by the theorem with ``Y`` the
  prompt: the tokens that are left have, in every block, the streams that they had in the whole.
* :class:`Kept`: the updates of the first step serve for all later tokens, as weights that had
  learned the prompt would. Exact for the first token only: nothing says that it should work for
  another query, and what it gives has to be measured.

Every token keeps its place: learned positions and the shift from the token before are added before
the first block, and what ALiBi adds to scores depends on distances alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.implicit_dynamics.block_by_block import (
    StackUpdate,
    Streams,
    run_visible,
    updates_at,
)
from icl_lessons.implicit_dynamics.contextual_blocks import (
    Context,
    Query,
    TransformerBlock,
)
from icl_lessons.models.sequence import SequenceTransformer, alibi_bias
from icl_lessons.models.transformer import Block
from icl_lessons.runtime import check_integer

Tokens = Int[Tensor, "batch length"]
LogProbs = Float[Tensor, "batch vocabulary"]


class SequenceBlock(TransformerBlock):
    """A block of the course's decoder on tokens, seen as a contextual block.

    Args:
        block: with an MLP; dropout is left out.
        alibi: whether its scores fall with distance.
    """

    def __init__(self, block: Block, *, alibi: bool):
        super().__init__(block)
        self.alibi = alibi

    def mask(self, tokens: Context) -> Tensor:
        """Which of the tokens each may look at, and what is added to the scores."""
        if not self.alibi:
            return super().mask(tokens)
        heads = self.block.attention.heads
        return alibi_bias(tokens.shape[1], heads, device=tokens.device, dtype=tokens.dtype)


def sequence_blocks(model: SequenceTransformer) -> list[SequenceBlock]:
    """The blocks of a decoder on tokens, from below."""
    return [SequenceBlock(b, alibi=model.config.positions == "alibi") for b in model.blocks]


def embedded(model: SequenceTransformer, tokens: Tokens) -> Float[Tensor, "batch length width"]:
    """Tokens as they enter the first block, with their positions and their shift."""
    x = model.embedding(tokens)
    if model.shift is not None:
        x = x + torch.cat([torch.zeros_like(x[:, :1]), model.shift(x[:, :-1])], 1)
    if model.config.positions == "learned":
        x = x + model.positions[: tokens.shape[1]]
    return x


def sequence_streams(model: SequenceTransformer, tokens: Tokens) -> Streams:
    """The streams of a decoder that reads all tokens, in one pass.

    The same as :func:`~icl_lessons.implicit_dynamics.block_by_block.stack_streams` of its blocks.
    """
    streams = [embedded(model, tokens)]
    for block in sequence_blocks(model):
        streams.append(block.block(streams[-1], block.mask(streams[-1])))
    return torch.stack(streams, 1)


def read_out(model: SequenceTransformer, stream: Query) -> LogProbs:
    """Log probabilities of the next token, from what leaves the last block."""
    return model.read_out(model.norm(stream)).log_softmax(-1)


class Generated(NamedTuple):
    """What a model wrote.

    Attributes:
        tokens: prompt and generated tokens, ``[batch, n_prompt + steps]``.
        log_probs: that each generated token was the largest of, ``[batch, steps, vocabulary]``.
    """

    tokens: Int[Tensor, "batch length"]
    log_probs: Float[Tensor, "batch steps vocabulary"]


def generate(next_token: Callable[[Tokens], LogProbs], prompt: Tokens, steps: int) -> Generated:
    """Continue a prompt with the most probable token, again and again.

    Args:
        next_token: log probabilities of the next token after all tokens so far; a decoder's is
            ``lambda tokens: model(tokens)[:, -1]``.
        prompt: one token or more for each sequence.
        steps: tokens to generate.
    """
    check_integer("steps", steps, at_least=1)
    tokens, log_probs = prompt, []
    for _ in range(steps):
        log_probs.append(next_token(tokens))
        tokens = torch.cat([tokens, log_probs[-1].argmax(-1, keepdim=True)], 1)
    return Generated(tokens, torch.stack(log_probs, 1))


def along(
    next_token: Callable[[Tokens], LogProbs], tokens: Tokens, n_prompt: int
) -> Float[Tensor, "batch steps vocabulary"]:
    """What is predicted at each step of a text that is given: after ``n_prompt`` tokens, one more.

    The last prediction is that of the last token of ``tokens``.
    """
    lengths = range(n_prompt, tokens.shape[1])
    return torch.stack([next_token(tokens[:, :length]) for length in lengths], 1)


class Remade:
    """The next token from the last one alone, with updates made anew for it in every block.

    Args:
        model: a decoder on tokens.
        removed: positions that the updates stand for; all before the last token if ``None``. With
            none of them (``()``) the updates are 0: the last token without anything before it.
    """

    def __init__(self, model: SequenceTransformer, removed: tuple[int, ...] | None = None):
        self.model, self.blocks, self.removed = model, sequence_blocks(model), removed

    def updates(self, tokens: Tokens) -> StackUpdate:
        """The updates for the last token."""
        streams = sequence_streams(self.model, tokens)
        return updates_at(self.blocks, streams, tokens.shape[1] - 1, self.removed)

    def __call__(self, tokens: Tokens) -> LogProbs:
        last = embedded(self.model, tokens)[:, -1:]
        streams = run_visible(self.blocks, [self.updates(tokens)], last)
        return read_out(self.model, streams[:, -1, -1])


class OwnUpdates:
    """The next token with the prompt replaced by updates, one set for each token that is left.

    What is left is the prompt's last token, the first query, and what was generated.

    Args:
        model: a decoder on tokens.
        n_prompt: tokens in the prompt.
    """

    def __init__(self, model: SequenceTransformer, n_prompt: int):
        check_integer("n_prompt", n_prompt, at_least=1)
        self.model, self.blocks, self.first = model, sequence_blocks(model), n_prompt - 1

    def __call__(self, tokens: Tokens) -> LogProbs:
        streams = sequence_streams(self.model, tokens)
        # By causality these are the updates that each token had when it was the query.
        changes = [
            updates_at(self.blocks, streams, place, range(self.first))
            for place in range(self.first, tokens.shape[1])
        ]
        left = run_visible(self.blocks, changes, streams[:, 0, self.first :])
        return read_out(self.model, left[:, -1, -1])


class Kept:
    """The next token with the updates of the first step, whatever the query.

    Args:
        model: a decoder on tokens.
        prompt: what the updates stand for, for its last token as the query.
        visible: whether what came since stays visible: the prompt's last token, and what was
            generated. Otherwise every query is alone.
        updated: ``False`` for no update: the same tokens and nothing in the prompt's place.
    """

    def __init__(
        self,
        model: SequenceTransformer,
        prompt: Tokens,
        *,
        visible: bool = False,
        updated: bool = True,
    ):
        self.model, self.blocks, self.visible = model, sequence_blocks(model), visible
        self.first = prompt.shape[1] - 1
        self.changes = Remade(model, None if updated else ()).updates(prompt)

    def __call__(self, tokens: Tokens) -> LogProbs:
        below = embedded(self.model, tokens)[:, self.first if self.visible else -1 :]
        streams = run_visible(self.blocks, [self.changes] * below.shape[1], below)
        return read_out(self.model, streams[:, -1, -1])


class UpdateChange(NamedTuple):
    """How far the updates of one block move from one generated token to the next.

    Attributes:
        relative: ``|Delta_{t+1} - Delta_t|_F / |Delta_t|_F``.
        left, right: cosines of the two left and of the two right vectors.
    """

    relative: Float[Tensor, "layers batch"]
    left: Float[Tensor, "layers batch"]
    right: Float[Tensor, "layers batch"]


def update_change(before: StackUpdate, after: StackUpdate) -> UpdateChange:
    """Compare the updates of two queries, block by block.

    Two independent updates of the same size differ by ``sqrt(2)`` of it: a relative change near
    1.4 says that nothing is shared.
    """
    changes = []
    for one, two in zip(before.updates, after.updates, strict=True):
        left = torch.cosine_similarity(one.left, two.left, dim=-1)
        right = torch.cosine_similarity(one.right, two.right, dim=-1)
        ratio = two.size / one.size
        relative = (1 + ratio.square() - 2 * ratio * left * right).clamp_min(0).sqrt()
        changes.append((relative, left, right))
    return UpdateChange(*(torch.stack(column) for column in zip(*changes, strict=True)))
