"""Causal language models of Hugging Face behind the call that every model of the course answers.

``pip install icl_lessons[language-models]`` brings ``transformers``. A model is loaded by its name
on the hub or from a folder; what is loaded is a :class:`~icl_lessons.types.SequenceModel`, so that
every experiment on CourseLM runs on it by changing one argument.

Prompts of real text have different lengths. They are padded on the left with
:data:`PADDING`, which no vocabulary holds: the mask and the positions follow from it, so that the
answer to a prompt does not depend on what it is padded to.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.runtime import check_choice

PADDING = -1

INSTALL = "install them with: pip install icl_lessons[language-models]"

# For each family: the list of blocks, and below a block the value matrix. "fused" names a matrix
# that holds queries, keys and values side by side (inputs first), of which the last third is meant.
FAMILIES: dict[str, tuple[str, str, bool]] = {
    "gpt2": ("transformer.h", "attn.c_attn.weight", True),
    "gptj": ("transformer.h", "attn.v_proj.weight", False),
    "gpt_neo": ("transformer.h", "attn.attention.v_proj.weight", False),
    "llama": ("model.layers", "self_attn.v_proj.weight", False),
    "mistral": ("model.layers", "self_attn.v_proj.weight", False),
    "qwen2": ("model.layers", "self_attn.v_proj.weight", False),
    "qwen3": ("model.layers", "self_attn.v_proj.weight", False),
    "gemma": ("model.layers", "self_attn.v_proj.weight", False),
    "gemma2": ("model.layers", "self_attn.v_proj.weight", False),
    "opt": ("model.decoder.layers", "self_attn.v_proj.weight", False),
}

# What the matrix that joins the heads is called beside the value matrix; "o_proj" in the others.
OUTPUTS = {"gpt2": "c_proj", "gptj": "out_proj", "gpt_neo": "out_proj", "opt": "out_proj"}


def padded(prompts: Sequence[Sequence[int]]) -> Int[Tensor, "batch length"]:
    """Prompts of different lengths as one tensor, filled with :data:`PADDING` on the left.

    Raises:
        ValueError: no prompts, or one without a token.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("prompts: give at least one, each of at least one token")
    length = max(len(prompt) for prompt in prompts)
    return torch.tensor([[PADDING] * (length - len(p)) + list(p) for p in prompts])


class PretrainedLM(nn.Module):
    """A causal language model as a :class:`~icl_lessons.types.SequenceModel`.

    Args:
        model: a ``...ForCausalLM``. It is put in evaluation mode: dropout would make gradient
            descent random.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any):
        super().__init__()
        self.model, self.tokenizer = model.eval(), tokenizer

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.model.config.vocab_size

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return self.model.config.num_hidden_layers

    @property
    def heads(self) -> int:
        """Attention heads in each block."""
        return self.model.config.num_attention_heads

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder blocks, from below.

        Raises:
            ValueError: a family that the adapter does not know.
        """
        check_choice("model.config.model_type", self.family, tuple(FAMILIES))
        return self.model.get_submodule(FAMILIES[self.family][0])

    @property
    def family(self) -> str:
        """``transformers``' name of the architecture."""
        return self.model.config.model_type

    def forward(
        self, tokens: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Log probabilities of the next token after each; those after padding mean nothing.

        Raises:
            ValueError: a prompt of padding alone, or padding to the right of a token.
        """
        there = tokens != PADDING
        if not there[:, -1].all():
            raise ValueError("tokens: a prompt ends in padding; pad on the left")
        if (there[:, :-1] & ~there[:, 1:]).any():
            raise ValueError("tokens: padding inside a prompt; pad on the left alone")
        logits = self.model(
            input_ids=tokens.clamp_min(0),
            attention_mask=there.long(),
            position_ids=(there.long().cumsum(-1) - 1).clamp_min(0),
            use_cache=False,
        ).logits
        return (
            logits.float().log_softmax(-1) if logits.dtype.itemsize < 4 else logits.log_softmax(-1)
        )

    def parts(self, kind: str, block: int) -> list[tuple[str, tuple[slice, ...] | None]]:
        """Names of the parameters of a block, or of its value matrix, with the entries meant.

        Args:
            kind: ``"block"`` or ``"value"``.
            block: which, from 0.

        Raises:
            ValueError: a block that is not there, or a family whose value matrix is not known.
        """
        check_choice("kind", kind, ("block", "value"))
        check_choice("model.config.model_type", self.family, tuple(FAMILIES))
        if not 0 <= block < self.layers:
            raise ValueError(f"block: got {block}; blocks are 0 to {self.layers - 1}")
        blocks, value, fused = FAMILIES[self.family]
        prefix = f"model.{blocks}.{block}."
        if kind == "block":
            return [(n, None) for n, _ in self.named_parameters() if n.startswith(prefix)]
        width = self.model.config.hidden_size
        return [(prefix + value, (slice(None), slice(2 * width, None)) if fused else None)]

    def attention_output(self, block: int) -> nn.Module:
        """The linear map that joins the heads of a block; they lie side by side in its input.

        Raises:
            ValueError: a block that is not there, or a family that the adapter does not know.
        """
        ((value, _),) = self.parts("value", block)
        attention = value.rsplit(".", 2)[0]
        return self.get_submodule(f"{attention}.{OUTPUTS.get(self.family, 'o_proj')}")

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without special ones added.

        Raises:
            ValueError: a text of no tokens.
        """
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise ValueError(f"text: {text!r} has no tokens")
        return list(tokens)


def load_pretrained(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    local_only: bool = False,
) -> PretrainedLM:
    """A model and its tokenizer, from the hub or from a folder.

    Args:
        name: such as ``"gpt2"``, or a folder that ``save_pretrained`` wrote.
        device: where it is put.
        dtype: of its weights. Gradient descent needs float32: in half precision most of its small
            steps are rounded away.
        local_only: do not ask the hub.

    Raises:
        ImportError: ``transformers`` is not installed.
        OSError: the model cannot be had; the message says what to try.
        ValueError: a family that the adapter does not know.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as problem:
        raise ImportError(f"transformers and tokenizers are needed; {INSTALL}") from problem
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), local_files_only=local_only)
        model = AutoModelForCausalLM.from_pretrained(
            str(name), dtype=dtype, local_files_only=local_only
        )
    except (OSError, ValueError) as problem:
        raise OSError(
            f"name: {str(name)!r} could not be loaded ({str(problem).splitlines()[0]}). Check the "
            "name; without a network, download it once on a machine that has one, copy the folder "
            "that save_pretrained wrote, and give its path"
        ) from problem
    check_choice("name: its family", model.config.model_type, tuple(FAMILIES))
    return PretrainedLM(model.to(device), tokenizer)
