"""Small language models with random weights, of the architectures that pretrained ones have.

What holds for any weights can be seen on these, without a download.
"""

from typing import Any

import torch

from icl_lessons.runtime import check_choice, check_integer, seeded

# Where a family's configuration differs from the names that most of them use.
GROUPED = {"num_key_value_heads": 2, "head_dim": 6}
WINDOWED = {**GROUPED, "sliding_window": 3}
OPTIONS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt_neox": {},
    "llama": GROUPED,
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": GROUPED,
    "gemma": GROUPED,
    "gemma2": WINDOWED,
    "gemma3_text": WINDOWED,
}


def random_language_model(
    family: str,
    *,
    layers: int = 3,
    width: int = 16,
    generator: torch.Generator | None = None,
    **options,
) -> Any:
    """A ``...ForCausalLM`` with normal weights in every part, norms and biases too.

    Args:
        family: its ``model_type``; one of :data:`OPTIONS`. Those of Qwen and Gemma have fewer heads
            for keys than for queries, Gemma 2 and 3 windows of three tokens in every other layer.
        layers, width: its size; 50 tokens in the vocabulary, four heads.
        generator: where the weights come from; a seed of 0 if ``None``.
        options: further fields of the family's configuration.

    Raises:
        ImportError: ``transformers`` is not installed.
    """
    check_choice("family", family, tuple(OPTIONS))
    check_integer("layers", layers, at_least=1)
    check_integer("width", width, at_least=4)
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise ImportError(
            "language models need transformers; pip install icl_lessons[language-models]"
        ) from error
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = AutoConfig.for_model(
        family,
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=64,
        **({"n_inner": 24} if family == "gpt2" else {"intermediate_size": 24}),
        **{**ends, **OPTIONS[family], **options},
    )
    if "sliding_window" in OPTIONS[family]:
        kinds = ("sliding_attention", "full_attention")
        config.layer_types = [kinds[i % 2] for i in range(layers)]
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    generator = seeded(0) if generator is None else generator
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.3, generator=generator)
    return model
