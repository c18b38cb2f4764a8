"""Layer-causal descent: gradient descent that knows no more than a forward pass does.

In a forward pass what a block does to its input can depend on the blocks below alone. The gradient
of a block depends on all blocks above, so that no forward pass could take it on the way up: Deutch
et al. call this *layer causality*, and give a descent that respects it [deutch2024incontext]. Every
block is followed at once by the model's own read-out, which is frozen, as if there were no blocks
above; the input of every block is taken as given, so that no gradient goes down either. The loss is
the sum of these early predictions' losses,

.. math:: L = \\sum_l -\\log p\\big(y \\mid U(B_l(\\mathrm{sg}(h_{l-1})))\\big),

with ``sg`` for what is held fixed, and each block descends its own term alone.

Read in accounts of the paper: the early read-out after every layer, the fixed inputs, the sum of
losses, the comparison with ordinary descent. There the loss of every token of a demonstration
counts, keys and values are what moves, and the read-out follows attention. Here, so that ordinary
descent (:mod:`~icl_lessons.language_models.fine_tuning`) differs in layer causality and in nothing
else, it is the loss of the label alone, all of a block moves unless ``settings.parts`` says less,
and the read-out follows the whole block.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.fine_tuning import FineTuning, Prompts, fine_tune
from icl_lessons.language_models.task_vectors import blocks_of


def _given(module: nn.Module, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Before a block runs: hold its input fixed."""
    if args:
        return (args[0].detach(), *args[1:]), named
    return args, named | {"hidden_states": named["hidden_states"].detach()}


@contextmanager
def _early_exits(model: nn.Module) -> Iterator[None]:
    """Let the read-out follow every block: their outputs stand one below another in the batch."""
    blocks, outputs = blocks_of(model), []

    def keep(module: nn.Module, args: tuple, output: Any) -> Any:
        outputs.append(output[0] if isinstance(output, tuple) else output)
        if module is not blocks[-1]:
            return output
        every = torch.cat(outputs)
        return (every, *output[1:]) if isinstance(output, tuple) else every

    hooks = [block.register_forward_pre_hook(_given, with_kwargs=True) for block in blocks]
    hooks += [block.register_forward_hook(keep) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def early_predictions(
    model: nn.Module, tokens: Prompts
) -> Float[Tensor, "layers batch length vocabulary"]:
    """Log probabilities of the next token as the read-out finds them after every block.

    The last row is the model's own prediction. The gradient of each row reaches the parameters of
    its own block and of the read-out, no others.

    Args:
        model: CourseLM, or a :class:`~icl_lessons.models.pretrained.PretrainedLM`.
        tokens: prompts, ``[batch, length]``.
    """
    with _early_exits(model):
        rows = model(tokens)
    return rows.unflatten(0, (len(blocks_of(model)), len(tokens)))


def layer_causal_loss(
    model: nn.Module, inputs: Prompts, labels: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Sum over blocks of the mean ``-log p(label | input)`` read out after the block, in nats.

    It is the sum of :func:`~icl_lessons.language_models.fine_tuning.label_loss` of the models that
    end after each block.
    """
    last = early_predictions(model, inputs)[:, :, -1]  # [layers, n, vocabulary]
    return -last.gather(-1, labels[None, :, None].expand(len(last), -1, 1)).mean(1).sum()


def layer_causal_fine_tune(
    model: nn.Module,
    inputs: Prompts,
    labels: Int[Tensor, " n"],
    settings: FineTuning,
    *,
    watch: Callable[[int, nn.Module], None] | None = None,
    every: int = 20,
) -> nn.Module:
    """A copy of the model whose every block descended its own early loss.

    Args: those of :func:`~icl_lessons.language_models.fine_tuning.fine_tune`. With
        ``settings.parts = "all"`` all blocks move; embeddings and read-out never do.

    Raises:
        ValueError: as there.
    """
    settings = replace(settings, parts="blocks") if settings.parts == "all" else settings
    return fine_tune(
        model, inputs, labels, settings, watch=watch, every=every, loss=layer_causal_loss
    )
