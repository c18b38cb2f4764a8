"""Gradient descent on demonstrations: the rival that in-context learning is compared with.

The loss is that of the label alone, given its input: ``-log p(y_i | x_i)`` over the whole
vocabulary, with no gradient from the tokens of the input [shen2024pretrained, section 2.1]. The
fine-tuned model answers without demonstrations. All of a model may move, one block of it, or the
value matrix of one block, the part that the constructions give to the implicit model.

Nothing is drawn at random. Batches are taken in the order of the demonstrations, the same in every
epoch, so that what an order does to an optimiser can be seen; with all demonstrations in one batch
there is no order.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.models.sequence import SequenceTransformer
from icl_lessons.runtime import check_choice, check_integer, check_number

Prompts = Int[Tensor, "n length"]


class Part(NamedTuple):
    """Some of a model's parameters.

    Attributes:
        name: of the parameter.
        where: which of its entries, as an index; all if ``None``.
    """

    name: str
    where: tuple[slice, ...] | None = None


def parts_of(model: nn.Module, which: str) -> list[Part]:
    """The parameters that a name stands for.

    Args:
        model: a course transformer, or a model with a method ``parts(which)`` of its own.
        which: ``"all"``, ``"blocks"`` for everything in all blocks, ``"block:i"`` for everything in
            block ``i`` from 0, ``"value:i"`` for its value matrix, or ``"keys and values"`` for the
            key and value matrices of all blocks.

    Raises:
        ValueError: another name, or a block that is not there.
    """
    kind, _, place = which.partition(":")
    check_choice("parts", kind, ("all", "blocks", "block", "value", "keys and values"))
    if kind == "all":
        return [Part(name) for name, _ in model.named_parameters()]
    if kind == "keys and values":
        layers = range(len(model.blocks))
        return [part for layer in layers for part in _with_keys(*parts_of(model, f"value:{layer}"))]
    if kind == "blocks":
        layers = range(len(model.blocks))
        return [part for layer in layers for part in parts_of(model, f"block:{layer}")]
    if not place.isdigit():
        raise ValueError(f"parts: got {which!r}; name a block, as in '{kind}:0'")
    if not isinstance(model, SequenceTransformer):
        return [Part(*part) for part in model.parts(kind, int(place))]
    if int(place) >= len(model.blocks):
        raise ValueError(f"parts: got {which!r}; blocks are 0 to {len(model.blocks) - 1}")
    if kind == "block":
        return [
            Part(name)
            for name, _ in model.named_parameters()
            if name.startswith(f"blocks.{place}.")
        ]
    width = model.config.width  # queries, keys and values share one matrix, one above the other
    return [Part(f"blocks.{place}.attention.query_key_value.weight", (slice(2 * width, None),))]


def _with_keys(value: Part) -> list[Part]:
    """The key matrix beside a value matrix: of its own, or between queries and values in one."""
    if value.where is None:
        return [Part(value.name.replace("v_proj", "k_proj")), value]
    *rest, last = value.where
    return [Part(value.name, (*rest, slice(last.start // 2, None)))]


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a model is fine-tuned on demonstrations.

    Attributes:
        optimizer: ``"descent"``: plain gradient descent, no momentum, no decay. ``"adam"``.
        learning_rate: of either.
        epochs: passes over the demonstrations.
        batch_size: demonstrations in a step; all of them if ``None``, so that descent is full-batch
            gradient descent. With 1, descent is stochastic gradient descent.
        parts: what may move, as :func:`parts_of` names it.
    """

    optimizer: Literal["descent", "adam"] = "descent"
    learning_rate: float | int = 0.03
    epochs: int = 200
    batch_size: int | None = None
    parts: str = "all"

    def __post_init__(self):
        check_choice("optimizer", self.optimizer, ("descent", "adam"))
        check_number("learning_rate", self.learning_rate)
        check_integer("epochs", self.epochs, at_least=0)
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, at_least=1)


def label_loss(model: nn.Module, inputs: Prompts, labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean of ``-log p(label | input)``, in nats [shen2024pretrained, section 2.1]."""
    return -model(inputs)[:, -1].gather(-1, labels[:, None]).mean()


Loss = Callable[[nn.Module, Prompts, Int[Tensor, " n"]], Float[Tensor, ""]]


def fine_tune(
    model: nn.Module,
    inputs: Prompts,
    labels: Int[Tensor, " n"],
    settings: FineTuning,
    *,
    watch: Callable[[int, nn.Module], None] | None = None,
    every: int = 20,
    loss: Loss = label_loss,
) -> nn.Module:
    """A copy of the model, fine-tuned; the model that is given does not change.

    Args:
        model: a :class:`~icl_lessons.types.SequenceModel` with parameters.
        inputs: demonstrations as queries, up to where the label comes, ``[n, length]``.
        labels: what they say, ``[n]``.
        settings: how.
        watch: called with the epoch and the model as it is then: before the first epoch, after
            every so manyth, and after the last.
        every: epochs between these calls.
        loss: of a model on some inputs and their labels; what descends.

    Raises:
        ValueError: no demonstrations, or numbers of inputs and labels that differ.
    """
    if len(inputs) != len(labels) or len(labels) == 0:
        raise ValueError(f"labels: {len(labels)} for {len(inputs)} inputs; give one for each")
    check_integer("every", every, at_least=1)
    tuned = copy.deepcopy(model).eval()
    parts = parts_of(tuned, settings.parts)
    named = dict(tuned.named_parameters())
    for parameter in named.values():
        parameter.requires_grad_(False)
    moving = [named[part.name].requires_grad_(True) for part in parts]
    kind = torch.optim.SGD if settings.optimizer == "descent" else torch.optim.Adam
    optimizer = kind(moving, lr=float(settings.learning_rate))
    size = settings.batch_size or len(labels)
    for epoch in range(settings.epochs + 1):
        if watch is not None and (epoch % every == 0 or epoch == settings.epochs):
            with torch.no_grad():
                watch(epoch, tuned)
        if epoch == settings.epochs:
            break
        for some, told in zip(inputs.split(size), labels.split(size), strict=True):
            optimizer.zero_grad()
            loss(tuned, some, told).backward()
            _keep_to(parts, moving)
            optimizer.step()
    return tuned.requires_grad_(False)


def _keep_to(parts: list[Part], moving: list[nn.Parameter]) -> None:
    """Take the gradient away from entries that do not belong to a part."""
    for part, parameter in zip(parts, moving, strict=True):
        if part.where is not None and parameter.grad is not None:
            kept = torch.zeros_like(parameter.grad)
            kept[part.where] = parameter.grad[part.where]
            parameter.grad = kept


def answer_law(model: nn.Module, tokens: Prompts) -> Float[Tensor, "n vocabulary"]:
    """Probabilities of the token after each prompt, over the whole vocabulary."""
    with torch.no_grad():
        return model(tokens)[:, -1].exp()
