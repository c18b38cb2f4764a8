"""Decoder blocks of pretrained language models as contextual blocks.

The theorem asks nothing of a block's weights, so it holds for any decoder of ``transformers``. A
block is cut where those of this course are cut (:mod:`.contextual_blocks`); its norms, attention
and MLP are the model's own modules.

A *token* is its vector and, in one more column, the position that it has in the prompt. Rotary
attention and sliding windows go by that column, so a token keeps its place when others are removed.
A block hands the column on as it is: no update changes it.

=====================================  =========================================================
``gpt2``                               LayerNorms, an MLP with biases; positions are in the
                                       vectors already
``gpt_neox``                           attention and MLP beside each other: the MLP reads the
                                       norm of ``x``, not of ``x + A(C, x)``. A context cannot
                                       change what it is fed: the rank-one update is 0 and the
                                       whole of the context is the added vector
``llama qwen2 qwen3 gemma``            RMS norms and a gated MLP, gate above value
``gemma2 gemma3_text``                 two more norms, after attention and after the MLP; the
                                       added vector may be a change of the last norm's scales
                                       (:mod:`.scale_update`)
=====================================  =========================================================
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.implicit_dynamics.block_by_block import StackUpdate, run_updated
from icl_lessons.implicit_dynamics.contextual_blocks import Context, Query, Reading
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update
from icl_lessons.runtime import check_choice

Tokens = Float[Tensor, "batch length width_plus_1"]
Streams = Float[Tensor, "layers_plus_1 batch length width_plus_1"]


class PretrainedBlock:
    """What all families share: masks and places of the tokens, and where a block is cut.

    Args:
        layer: a decoder layer of a model in evaluation mode.
        rotary: ``(vectors, positions) -> (cos, sin)``, or ``None`` where the vectors carry their
            positions.
    """

    parallel = False  # whether the MLP reads what attention reads

    def __init__(self, layer: nn.Module, rotary: Callable | None = None):
        self.layer, self.rotary = layer, rotary
        self.attention: nn.Module = layer.self_attn
        self.norm_attention: nn.Module = layer.input_layernorm
        self.norm_mlp: nn.Module = layer.post_attention_layernorm

    def attend(self, tokens: Tokens) -> Float[Tensor, "batch length width"]:
        """``A`` at every token; each looks at itself and at those of lower positions."""
        x, positions = tokens[..., :-1], tokens[..., -1].long()
        distance = positions[:, :, None] - positions[:, None, :]
        unseen = distance < 0
        if (window := getattr(self.attention, "sliding_window", None)) is not None:
            unseen = unseen | (distance >= window)
        mask = torch.zeros_like(distance, dtype=x.dtype)
        mask = mask.masked_fill(unseen, torch.finfo(x.dtype).min)[:, None]
        places = {"position_embeddings": self.rotary(x, positions)} if self.rotary else {}
        return self.attention(self.norm_attention(x), attention_mask=mask, **places)[0]

    def read(self, context: Context, query: Query) -> Reading:
        attended = self.attend(torch.cat([context, query[:, None]], 1))[:, -1]
        x, position = query[:, :-1], query[:, -1:]
        stream = x + attended
        fed = self.norm_mlp(x if self.parallel else stream)
        return Reading(fed, torch.cat([stream, position], -1))

    def finish(self, hidden: Float[Tensor, "batch hidden"], residual: Query) -> Query:
        return residual + F.pad(self.mlp_update(hidden), (0, 1))

    @property
    def dense_weight(self) -> Float[Tensor, "hidden width"]:
        raise NotImplementedError

    def mlp_update(self, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch width"]:
        """What the MLP adds to the stream, given what its first matrix puts out."""
        raise NotImplementedError


class GPT2Block(PretrainedBlock):
    """Of GPT-2, whose ``Conv1D`` keeps its matrix transposed."""

    def __init__(self, layer: nn.Module, rotary: Callable | None = None):
        self.layer, self.rotary, self.attention = layer, None, layer.attn
        self.norm_attention, self.norm_mlp = layer.ln_1, layer.ln_2

    @property
    def dense_weight(self) -> Float[Tensor, "hidden width"]:
        return self.layer.mlp.c_fc.weight.mT

    def mlp_update(self, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch width"]:
        mlp = self.layer.mlp
        return mlp.c_proj(mlp.act(hidden + mlp.c_fc.bias))


class NeoXBlock(PretrainedBlock):
    """Of GPT-NeoX and Pythia, with attention and MLP side by side or one after the other."""

    def __init__(self, layer: nn.Module, rotary: Callable | None = None):
        self.layer, self.rotary, self.attention = layer, rotary, layer.attention
        self.norm_attention = layer.input_layernorm
        self.norm_mlp = layer.post_attention_layernorm
        self.parallel = layer.use_parallel_residual

    @property
    def dense_weight(self) -> Float[Tensor, "hidden width"]:
        return self.layer.mlp.dense_h_to_4h.weight

    def mlp_update(self, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch width"]:
        mlp = self.layer.mlp
        return mlp.dense_4h_to_h(mlp.act(hidden + mlp.dense_h_to_4h.bias))


class GatedBlock(PretrainedBlock):
    """Of Llama, Qwen and the first Gemma."""

    @property
    def dense_weight(self) -> Float[Tensor, "hidden width"]:
        """Gate and value matrices, one above the other."""
        return torch.cat([self.layer.mlp.gate_proj.weight, self.layer.mlp.up_proj.weight])

    def mlp_update(self, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch width"]:
        mlp = self.layer.mlp
        gate, value = hidden.chunk(2, -1)
        if mlp.gate_proj.bias is not None:
            gate, value = gate + mlp.gate_proj.bias, value + mlp.up_proj.bias
        return mlp.down_proj(mlp.act_fn(gate) * value)


class FourNormBlock(GatedBlock):
    """Of Gemma 2 and 3; takes rank-one updates and changes of scales too."""

    def __init__(self, layer: nn.Module, rotary: Callable | None = None):
        super().__init__(layer, rotary)
        self.norm_mlp = layer.pre_feedforward_layernorm

    def attend(self, tokens: Tokens) -> Float[Tensor, "batch length width"]:
        return self.layer.post_attention_layernorm(super().attend(tokens))

    @property
    def scales(self) -> list[Float[Tensor, " width"]]:
        """Of the four norms from below; the last has a 0 for the position, which it leaves."""
        layer = self.layer
        norms = (
            layer.input_layernorm,
            layer.post_attention_layernorm,
            layer.pre_feedforward_layernorm,
            layer.post_feedforward_layernorm,
        )
        return [*(_scale(norm) for norm in norms[:3]), F.pad(_scale(norms[3]), (0, 1))]

    def normed_update(self, hidden: Float[Tensor, "batch hidden"]) -> Query:
        """What the MLP adds to the stream before the last norm's scales; 1 for the position."""
        update = self.mlp_update(hidden)
        epsilon = self.layer.post_feedforward_layernorm.eps
        return F.pad(F.rms_norm(update, update.shape[-1:], eps=epsilon), (0, 1), value=1.0)

    def finish(self, hidden: Float[Tensor, "batch hidden"], residual: Query) -> Query:
        return residual + self.scales[3] * self.normed_update(hidden)


# Block, and the names of the layers and of the final norm in the model below the head.
FAMILIES: dict[str, tuple[type[PretrainedBlock], str, str]] = {
    "gpt2": (GPT2Block, "h", "ln_f"),
    "gpt_neox": (NeoXBlock, "layers", "final_layer_norm"),
    "llama": (GatedBlock, "layers", "norm"),
    "qwen2": (GatedBlock, "layers", "norm"),
    "qwen3": (GatedBlock, "layers", "norm"),
    "gemma": (GatedBlock, "layers", "norm"),
    "gemma2": (FourNormBlock, "layers", "norm"),
    "gemma3_text": (FourNormBlock, "layers", "norm"),
}


def _check_model(model: Any) -> tuple[type[PretrainedBlock], nn.ModuleList, nn.Module]:
    """The model's kind of block, its layers and its final norm."""
    check_choice("model.config.model_type", model.config.model_type, tuple(FAMILIES))
    if model.training:
        raise ValueError("model: is in training mode, where dropout is random; call model.eval()")
    if model.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"model: is in {model.dtype}; use float32 or in_double_precision(model)")
    block, layers, norm = FAMILIES[model.config.model_type]
    return block, getattr(model.base_model, layers), getattr(model.base_model, norm)


def language_model_blocks(
    model: Any, input_ids: Int[Tensor, "batch length"]
) -> tuple[list[PretrainedBlock], Streams]:
    """The blocks of a causal language model, and what enters each of them in a prompt.

    Args:
        model: a ``...ForCausalLM`` of one of :data:`FAMILIES`, in evaluation mode.
        input_ids: prompts of one length.

    Returns:
        The blocks from below, and the streams below each block and above the last, from the
        model's own forward pass; the last column is the position. ``streams[l][:, :-1]`` is the
        context of block ``l``, ``streams[l][:, -1]`` its query.

    Raises:
        ValueError: another family, a model in training mode or in half precision.
    """
    block, layers, norm = _check_model(model)
    if input_ids.ndim != 2 or input_ids.shape[1] == 0:
        shape = tuple(input_ids.shape)
        raise ValueError(f"input_ids: got shape {shape}; use [batch, length], a token at least")
    entered: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, options: dict) -> None:
        entered.append(args[0] if args else options["hidden_states"])

    hooks = [m.register_forward_pre_hook(keep, with_kwargs=True) for m in (*layers, norm)]
    try:
        with torch.no_grad():
            model(input_ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    streams = torch.stack(entered)
    places = torch.arange(input_ids.shape[1], device=streams.device, dtype=streams.dtype)
    places = places[:, None].expand(*streams.shape[:-1], 1)
    return (
        [block(layer, _rotary(model, i)) for i, layer in enumerate(layers)],
        torch.cat([streams, places], -1),
    )


def _rotary(model: Any, layer: int) -> Callable | None:
    """The rotary embedding that a layer uses, if the model has one."""
    rotary = getattr(model.base_model, "rotary_emb", None)
    if model.config.model_type == "gemma3_text":  # one for windows, one for the whole prompt
        return functools.partial(rotary, layer_type=model.config.layer_types[layer])
    return rotary


def read_out(model: Any, stream: Query) -> Float[Tensor, "batch vocabulary"]:
    """The logits of a token, from what leaves the last block there."""
    _, _, norm = _check_model(model)
    logits = model.get_output_embeddings()(norm(stream[:, :-1]))
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def prompt_update(blocks: list[PretrainedBlock], streams: Streams) -> StackUpdate:
    """The update of each block that together stand for all of the prompt but its last token.

    The same as :func:`~icl_lessons.implicit_dynamics.block_by_block.stack_update`, which computes
    the streams above every block; here they are given.

    Args:
        blocks, streams: as :func:`language_model_blocks` gives them.
    """
    updates = [
        implicit_update(block, stream[:, :-1], stream[:, -1])
        for block, stream in zip(blocks, streams, strict=False)
    ]
    return StackUpdate(tuple(updates), streams[:, :, -1].transpose(0, 1))


def updated_logits(
    model: Any, input_ids: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch vocabulary"]:
    """Logits of the changed model on the last token alone: those of the model on the prompt.

    One rank-one update and one added vector for each block take the place of the context
    [dherin2025learning; innocenti2025simple, by induction over blocks].
    """
    blocks, streams = language_model_blocks(model, input_ids)
    with torch.no_grad():
        changes = prompt_update(blocks, streams)
        return read_out(model, run_updated(blocks, changes, streams[0, :, -1])[:, -1])


# --- arithmetic ---------------------------------------------------------------------------------


def _scale(norm: nn.Module) -> Float[Tensor, " width"]:
    """What an RMS norm multiplies by: Gemma keeps its weights as differences from 1."""
    return norm.weight + ("Gemma" in type(norm).__name__)


def _normalise(norm: nn.Module, x: Tensor) -> Tensor:
    epsilon = getattr(norm, "variance_epsilon", None) or norm.eps
    return F.rms_norm(x, x.shape[-1:], _scale(norm), epsilon)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **unused,
) -> tuple[Tensor, Tensor]:
    """Softmax attention in the precision of its inputs; ``[batch, heads, length, head_width]``."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
    return (weights @ value).transpose(1, 2), weights


def in_double_precision(model: Any) -> Any:
    """A copy of a language model, in evaluation mode, that computes in float64 throughout.

    ``model.double()`` is not enough: ``transformers`` takes RMS norms and softmax in float32
    whatever the model's type, and an identity can then be seen to seven digits only.

    Raises:
        ImportError: ``transformers`` is not installed.
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import eager_mask
    except ImportError as error:
        raise ImportError(
            "blocks of language models need transformers; pip install icl_lessons[language-models]"
        ) from error
    AttentionInterface.register("full_precision", _attention)
    AttentionMaskInterface.register("full_precision", eager_mask)
    model = copy.deepcopy(model).eval().double().requires_grad_(False)
    model.set_attn_implementation("full_precision")
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = functools.partial(_normalise, module)
    return model
