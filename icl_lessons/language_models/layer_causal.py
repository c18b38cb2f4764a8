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

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.fine_tuning import FineTuning, Prompts, fine_tune
from icl_lessons.language_models.task_vectors import blocks_of
from icl_lessons.models.pretrained import FAMILIES, PretrainedLM
from icl_lessons.models.sequence import SequenceTransformer

AFTER_BLOCKS = ("ln_f", "norm", "final_layer_norm", "project_out")
"""What the families of Hugging Face call what stands between the last block and the unembedding."""


def _given(module: nn.Module, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Before a block runs: hold its input fixed."""
    if args:
        return (args[0].detach(), *args[1:]), named
    return args, named | {"hidden_states": named["hidden_states"].detach()}


def read_out(
    model: nn.Module, states: Float[Tensor, "*places width"]
) -> Float[Tensor, "*places vocabulary"]:
    """Log probabilities of the next token from states of the residual stream: norm, then unembed.

    Raises:
        TypeError: neither CourseLM nor a :class:`~icl_lessons.models.pretrained.PretrainedLM`.
    """
    if isinstance(model, SequenceTransformer):
        return model.read_out(model.norm(states)).log_softmax(-1)
    if not isinstance(model, PretrainedLM):
        raise TypeError(f"model: got {type(model).__name__}; use CourseLM or a PretrainedLM")
    whole = model.model
    stack = whole.get_submodule(FAMILIES[model.family][0].rpartition(".")[0])
    for name in AFTER_BLOCKS:
        if getattr(stack, name, None) is not None:
            states = getattr(stack, name)(states)
    logits = whole.get_output_embeddings()(states)
    if cap := getattr(whole.config, "final_logit_softcapping", None):
        logits = (logits / cap).tanh() * cap
    return logits.log_softmax(-1)


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
    states: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    hooks = []
    try:
        for block in blocks_of(model):
            hooks += [
                block.register_forward_pre_hook(_given, with_kwargs=True),
                block.register_forward_hook(keep),
            ]
        model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return read_out(model, torch.stack(states))


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
