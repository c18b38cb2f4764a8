"""Language models of Hugging Face behind the course's call: tiny ones, made here, no network."""

import socket

import pytest
import torch
from torch.testing import assert_close

transformers = pytest.importorskip("transformers")

from icl_lessons.language_models.fine_tuning import (  # noqa: E402
    FineTuning,
    fine_tune,
    label_loss,
    parts_of,
)
from icl_lessons.models.pretrained import (  # noqa: E402
    FAMILIES,
    PADDING,
    PretrainedLM,
    load_pretrained,
    padded,
)
from icl_lessons.types import SequenceModel  # noqa: E402

TEXT = [
    "Review: a warm and funny film\nSentiment: positive\n\n",
    "Review: dull from start to end\nSentiment: negative\n\n",
]


@pytest.fixture(scope="module", autouse=True)
def no_network():
    """Any connection is an error."""

    def refuse(*args, **options):
        raise AssertionError("a test asked the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="module")
def tokenizer(tokenizer_of):
    """Byte pairs learned from two reviews."""
    return tokenizer_of(TEXT)


def configuration(family, vocabulary):
    """The smallest model of a family."""
    small = {
        "vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
    }  # fmt: skip
    old = {"vocab_size": vocabulary, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    kinds = {
        "gpt2": (transformers.GPT2Config, old),
        "gptj": (transformers.GPTJConfig, old | {"rotary_dim": 4}),
        "gpt_neo": (
            transformers.GPTNeoConfig,
            {"vocab_size": vocabulary, "hidden_size": 16, "num_layers": 2, "num_heads": 2,
             "max_position_embeddings": 64, "attention_types": [[["global", "local"], 1]]},
        ),
        "opt": (
            transformers.OPTConfig,
            small | {"ffn_dim": 32, "word_embed_proj_dim": 16},
        ),
        "llama": (transformers.LlamaConfig, small),
        "mistral": (transformers.MistralConfig, small | {"num_key_value_heads": 2}),
        "qwen2": (transformers.Qwen2Config, small | {"num_key_value_heads": 2}),
        "qwen3": (transformers.Qwen3Config, small | {"num_key_value_heads": 2, "head_dim": 8}),
        "gemma": (transformers.GemmaConfig, small | {"num_key_value_heads": 2, "head_dim": 8}),
        "gemma2": (transformers.Gemma2Config, small | {"num_key_value_heads": 2, "head_dim": 8}),
    }  # fmt: skip
    kind, settings = kinds[family]
    return kind(**settings)


@pytest.fixture(scope="module")
def make(tokenizer):
    """``make(family)`` gives a tiny model of it with random weights."""

    def build(family="gpt2"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(
                configuration(family, len(tokenizer)), attn_implementation="eager"
            )
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        return PretrainedLM(model, tokenizer)

    return build


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_padding_on_the_left_changes_no_answer(make, family):
    model = make(family)
    assert isinstance(model, SequenceModel) and model.family == family
    prompts = [model.encode(text) for text in (TEXT[0], TEXT[1] + TEXT[0])]
    together = model(padded(prompts))[:, -1]
    assert_close(together.exp().sum(-1), torch.ones(2))
    for row, prompt in zip(together, prompts, strict=True):
        assert_close(row, model(torch.tensor([prompt]))[0, -1], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_value_matrix_of_a_block_is_what_its_attention_averages(make, family):
    model = make(family)
    tokens = torch.tensor([model.encode(TEXT[0])])
    ((name, where),) = parts_of(model, "value:0")
    parameter = dict(model.named_parameters())[name]
    expected = 16 * 48 if family == "gpt2" else 16 * 16
    assert parameter.numel() == expected
    taken = []
    attention = next(m for n, m in model.named_modules() if n.endswith(("0.attn", "0.self_attn")))
    hook = attention.register_forward_hook(lambda m, a, out: taken.append(out[0]))
    with torch.no_grad():
        model(tokens)
        parameter[where if where is not None else ...] = 0
        for other, bias in model.named_parameters():  # what a bias adds is no average
            if ".0." in other and "bias" in other and ("attn" in other):
                bias.zero_()
        model(tokens)
    hook.remove()
    assert taken[0].abs().max() > 0.01 and taken[1].abs().max() == 0


def test_fine_tuning_moves_the_last_third_of_the_fused_matrix(make):
    model = make("gpt2")
    inputs = padded([model.encode(t.rsplit(":", 1)[0] + ":") for t in TEXT])
    labels = torch.tensor([model.encode(" positive")[0], model.encode(" negative")[0]])
    before = {name: p.clone() for name, p in model.named_parameters()}
    settings = FineTuning(epochs=5, learning_rate=0.1, parts="value:1")
    tuned = fine_tune(model, inputs, labels, settings)
    assert label_loss(tuned, inputs, labels) < label_loss(model, inputs, labels)
    for name, parameter in tuned.named_parameters():
        moved = parameter != before[name]
        if name == "model.transformer.h.1.attn.c_attn.weight":
            assert moved[:, 32:].any() and not moved[:, :32].any()
        else:
            assert not moved.any(), name


def test_full_batch_descent_does_not_know_the_order(make):
    model = make("gpt2")
    inputs = padded([model.encode(t.rsplit(":", 1)[0] + ":") for t in TEXT])
    labels = torch.tensor([model.encode(" positive")[0], model.encode(" negative")[0]])
    answers = [
        fine_tune(model, inputs[o], labels[o], FineTuning(epochs=10, learning_rate=0.01))(inputs)
        for o in ([0, 1], [1, 0])
    ]
    assert_close(answers[0][:, -1].exp(), answers[1][:, -1].exp(), atol=1e-5, rtol=0)


def test_the_label_loss_is_the_librarys_own(make):
    model = make("gpt2")
    prompt, label = model.encode("Review: dull\nSentiment:"), model.encode(" negative")[0]
    labels = torch.tensor([[-100] * len(prompt) + [label]])
    theirs = model.model(input_ids=torch.tensor([prompt + [label]]), labels=labels).loss
    ours = label_loss(model, torch.tensor([prompt]), torch.tensor([label]))
    assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_a_model_comes_back_from_its_folder(make, tmp_path):
    model = make("llama")
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = load_pretrained(tmp_path, local_only=True)
    tokens = torch.tensor([again.encode(TEXT[0])])
    assert_close(again(tokens), model(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda m: load_pretrained("no/such-model", local_only=True), "copy the folder"),
        (lambda m: m(torch.tensor([[1, PADDING]])), "pad on the left"),
        (lambda m: m(torch.tensor([[1, PADDING, 2]])), "padding inside a prompt"),
        (lambda m: m.parts("value", 2), "blocks are 0 to 1"),
        (lambda m: padded([[1], []]), "at least one token"),
        (lambda m: m.encode(""), "has no tokens"),
    ],
)
def test_what_cannot_be_is_refused(make, wrong, said):
    with pytest.raises((ValueError, OSError), match=said):
        wrong(make())


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install icl_lessons\[language-models\]"):
        load_pretrained("gpt2")
