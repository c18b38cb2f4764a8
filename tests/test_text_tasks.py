"""Prompts of real text: what they say, what of a tokeniser they rely on, what is refused."""

import json

import pytest
import torch

transformers = pytest.importorskip("transformers")

from icl_lessons.language_models.text_tasks import (  # noqa: E402
    HUB,
    TEMPLATES,
    Example,
    Template,
    TextTask,
    hub_examples,
    read_examples,
)
from icl_lessons.models.pretrained import PADDING, PretrainedLM  # noqa: E402
from icl_lessons.runtime import seeded  # noqa: E402
from icl_lessons.tasks.attribute_prompts import AttributePrompts  # noqa: E402

FIELDS = {
    "text": "A plain report on the match and the money in it.",
    "premise": "It rained all day.",
    "hypothesis": "The street is wet.",
}
REVIEWS = [
    Example({"text": f"{how} film number {i}"}, label)
    for i in range(6)
    for label, how in enumerate(("a dull", "a warm and funny"))
]
SST2 = TEMPLATES["lu"]["sst2"]


def every_text():
    """Each template with each of its label words, and the reviews."""
    for templates in TEMPLATES.values():
        for template in templates.values():
            for word in template.label_words:
                shown = template.pattern.format(**{f: FIELDS[f] for f in template.fields})
                yield f"{template.instruction}{shown} {word}{template.after}"
    for review in REVIEWS:
        yield SST2.pattern.format(**review.fields)


@pytest.fixture(scope="module")
def model(tokenizer_of):
    tokenizer = tokenizer_of(every_text())
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=512
    )
    return PretrainedLM(transformers.GPT2LMHeadModel(config), tokenizer)


@pytest.fixture(scope="module")
def reviews(model):
    return TextTask(model, REVIEWS, SST2)


def text_of(model, tokens):
    return model.tokenizer.decode([t for t in tokens.tolist() if t != PADDING])


def test_a_prompt_reads_as_the_template_says(model, reviews):
    prompts = reviews.prompts(2, 3, generator=seeded(0))
    words = SST2.label_words
    for row in range(3):
        text = text_of(model, prompts.tokens[row])
        *shown, query = text.split("\n\n")
        assert len(shown) == 2 and query.endswith("Sentiment:")
        for line, label in zip(shown, prompts.demonstrated[row].tolist(), strict=True):
            assert line.startswith("Review: a ") and line.endswith(f"Sentiment: {words[label]}")
            assert ("warm" in line) == (label == 1)
        right = words[prompts.truth[row]]
        assert ("warm" in query) == (right == "positive")
        assert model.tokenizer.decode([prompts.answer[row]]) == f" {right}"
        assert text_of(model, prompts.query_tokens[row]) == query


def test_a_prompt_is_tokenised_as_a_whole(model, reviews):
    """What follows two line breaks decides how this tokeniser cuts them."""
    prompts = reviews.prompts(3, 4, generator=seeded(1))
    for tokens, text, written in zip(prompts.tokens, prompts.texts, prompts.written, strict=True):
        kept = [t for t in tokens.tolist() if t != PADDING]
        assert kept == model.encode(text) and model.tokenizer.decode(kept) == text
        pieces = [t for piece in written for t in model.encode(piece + " positive\n\n")]
        assert len(kept) != len(pieces)


@pytest.mark.parametrize("author", sorted(TEMPLATES))
@pytest.mark.parametrize("task", sorted(HUB))
def test_every_template_can_be_used(model, author, task):
    template = TEMPLATES[author][task]
    examples = [
        Example({f: FIELDS[f] for f in template.fields}, label)
        for label in range(len(template.label_words))
    ]
    prompts = TextTask(model, examples, template).prompts(1, 2, generator=seeded(0))
    text = text_of(model, prompts.tokens[0])
    assert text.startswith(template.instruction) and set(HUB[task][2]) == set(template.fields)
    words = [model.tokenizer.decode([t]).strip() for t in prompts.choices]
    assert words == list(template.label_words)


def test_demonstrations_can_be_fine_tuned_on(model, reviews):
    prompts = reviews.prompts(3, 2, generator=seeded(2))
    inputs, labels = prompts.demonstrations(1)
    for text, tokens, label in zip(prompts.written[1], inputs, labels, strict=False):
        assert text_of(model, tokens) == text
        assert label in prompts.choices
    assert model(inputs).shape == (3, inputs.shape[1], model.vocabulary)


def test_orders_and_shared_demonstrations(model, reviews):
    prompts = reviews.prompts(3, 2, generator=seeded(3))
    turned = prompts.in_order([2, 0, 1])
    assert turned.written[0] == tuple(prompts.written[0][i] for i in (2, 0, 1, 3))
    assert torch.equal(turned.labels, prompts.labels[:, [2, 0, 1]])
    assert torch.equal(turned.answer, prompts.answer)
    shared = prompts.with_queries_of(reviews.prompts(0, 5, generator=seeded(4)))
    assert len(shared) == 5 and {row[:-1] for row in shared.written} == {prompts.written[0][:-1]}
    assert len(set(shared.written)) > 1


def test_the_interface_is_that_of_attribute_prompts(reviews):
    prompts = reviews.prompts(1, 1, generator=seeded(0))
    for name in ("n", "tokens", "query_tokens", "labels", "answer", "choices", "in_order",
                 "with_queries_of", "demonstrations"):  # fmt: skip
        assert hasattr(prompts, name)
        assert name in AttributePrompts.__dataclass_fields__ or hasattr(AttributePrompts, name)


def test_balanced_demonstrations_show_every_label(reviews):
    for n, counts in ((4, {2}), (5, {2, 3})):
        prompts = reviews.prompts(n, 20, generator=seeded(5), balanced=True)
        shown = torch.stack([(prompts.demonstrated == i).sum(1) for i in (0, 1)], 1)
        assert set(shown.flatten().tolist()) == counts
    free = reviews.prompts(4, 40, generator=seeded(6))
    assert len(set((free.demonstrated == 0).sum(1).tolist())) > 2


def test_no_example_twice_in_a_prompt(reviews):
    prompts = reviews.prompts(8, 20, generator=seeded(7))
    assert all(len(set(row)) == 9 for row in prompts.written)


def test_examples_come_from_a_file(tmp_path):
    lines = [{"text": e.fields["text"], "label": e.label} for e in REVIEWS]
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert read_examples(path) == REVIEWS
    path.write_text('{"text": "a", "label": 0}\n{"text": "b"}\n')
    with pytest.raises(ValueError, match="line 2 of .* is not as"):
        read_examples(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no examples"):
        read_examples(path)


def test_the_hub_without_its_package_or_a_network(monkeypatch):
    import sys
    import types

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="pip install datasets; or give a file"):
        hub_examples("cb")

    def unreachable(*args, **options):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(OSError, match=r"no route to host\); without a network"):
        hub_examples("cb")
    rows = [{"premise": "p", "hypothesis": "h", "label": 2, "idx": 0}]
    monkeypatch.setitem(
        sys.modules, "datasets", types.SimpleNamespace(load_dataset=lambda *a, **k: rows)
    )
    assert hub_examples("cb") == [Example({"premise": "p", "hypothesis": "h"}, 2)]


def test_words_of_several_tokens_are_told(model):
    template = Template("Review: {text}\nSentiment:", ("negative", "stupendous"))
    with pytest.warns(UserWarning, match="several tokens: stupendous; the first"):
        TextTask(model, REVIEWS, template)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda m: Template("Review: {text} ", ("a", "b")), "end without a space"),
        (lambda m: Template("Review", ("a", "b")), "name a field"),
        (lambda m: Template("{text}:", ("a", "a")), "all different"),
        (lambda m: TextTask(m, [Example({"text": "x"}, 2)], SST2), "words for 0 to 1"),
        (lambda m: TextTask(m, [Example({"title": "x"}, 0)], SST2), "no field 'text'"),
        (
            lambda m: TextTask(m, REVIEWS, Template("{text}:", ("zyx", "zyq"))),
            "share a first token",
        ),
        (lambda m: TextTask(m, REVIEWS[:2], SST2).prompts(2, 1, generator=seeded(0)), "give more"),
        (lambda m: hub_examples("mnli"), "task: got 'mnli'"),
    ],
)
def test_what_cannot_be_is_refused(model, make, said):
    with pytest.raises(ValueError, match=said):
        make(model)
