"""Labels of demonstrations: what is changed and what is not, exact counts, and what was found."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.declare import CLAIMS, result_of
from icl_lessons.language_models.claims import flipped_labels  # noqa: F401
from icl_lessons.language_models.demonstration_labels import (
    CONDITIONS,
    accuracy_among_labels,
    answers_to,
    both_accuracies,
    conditioned,
    flipped,
    label_effect_ratio,
    label_numbers,
    next_labels,
    partly_correct,
    random_labels,
    sensitivity_to_labels,
    shifted,
    some_of,
    switching_share,
)
from icl_lessons.language_models.experiments.demonstration_labels import (
    DemonstrationLabelsConfig,
    demonstration_labels,
)
from icl_lessons.language_models.figures import demonstration_labels as figures
from icl_lessons.language_models.subjects import subject
from icl_lessons.language_models.text_tasks import TEMPLATES, Example, TextTask
from icl_lessons.language_models.text_templates import STRANGE_INPUTS, SYMBOLS
from icl_lessons.models.pretrained import PADDING, PretrainedLM
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.tasks.attribute_text import FIRST_CODE, FIRST_FILLER, NAMES, words

SOME = settings(max_examples=12, deadline=None)
tasks, sizes, chances = st.sampled_from(NAMES), st.integers(0, 9), st.integers(0, 10_000)


def drawn(task, n, seed, batch=7):
    return attribute_prompts(task, n, batch, generator=seeded(seed))


@pytest.fixture(scope="module")
def lesson():
    return result_of("demonstration_labels", Scale.LESSON)


# --- counts --------------------------------------------------------------------------------------


@SOME
@given(tasks, st.integers(1, 9), chances, st.data())
def test_a_share_of_labels_is_flipped_exactly(task, n, seed, data):
    gold = drawn(task, n, seed)
    count = data.draw(st.integers(0, n))
    turned = flipped(gold, count / n, generator=seeded(seed))
    moved = (label_numbers(turned) - label_numbers(gold)) % gold.choices.shape[-1]
    assert ((moved != 0).sum(1) == count).all() and moved.max() <= 1
    assert torch.equal(turned.answer, gold.answer)
    kept = partly_correct(gold, count / n, generator=seeded(seed))
    assert ((kept.labels == gold.labels).sum(1) == count).all()
    assert torch.equal(kept.answer, gold.answer)


@SOME
@given(tasks, sizes, chances)
def test_no_flips_is_gold_to_the_bit_and_all_flips_the_contrary_mapping(task, n, seed):
    gold = drawn(task, n, seed)
    if n:
        assert torch.equal(flipped(gold, 0, generator=seeded(1)).tokens, gold.tokens)
        assert torch.equal(partly_correct(gold, 1.0, generator=seeded(1)).tokens, gold.tokens)
        everything = flipped(gold, 1, generator=seeded(1))
        contrary = attribute_prompts(
            task, n, 7, generator=seeded(seed), mapping="contrary"
        )  # the same sentences: the mapping draws nothing
        assert torch.equal(everything.tokens, contrary.tokens)
        assert torch.equal(shifted(gold, 1).tokens, contrary.tokens)
        assert torch.equal(shifted(gold, 1).answer, contrary.answer)
        assert torch.equal(next_labels(gold), contrary.answer)
    m = gold.choices.shape[-1]
    assert torch.equal(shifted(gold, m).tokens, gold.tokens)


def test_one_random_label_in_m_is_right():
    for task, m in zip(NAMES, (4, 3, 2, 2), strict=True):
        gold = drawn(task, 8, 3, batch=2000)
        changed = random_labels(gold, generator=seeded(4))
        right = (changed.labels == gold.labels).double().mean().item()
        assert abs(right - 1 / m) < 3 * (1 / m * (1 - 1 / m) / 16_000) ** 0.5
        assert torch.equal(changed.sentences, gold.sentences)
        assert torch.equal(changed.answer, gold.answer)


def test_a_share_that_is_no_whole_number_is_refused():
    with pytest.raises(ValueError, match="share: 0.3 of 8"):
        some_of(2, 8, 0.3, generator=seeded(0))
    with pytest.raises(ValueError, match="share: 1.5"):
        some_of(2, 8, 1.5, generator=seeded(0))


# --- conditions on attribute text ----------------------------------------------------------------


@SOME
@given(tasks, st.integers(1, 9), chances)
def test_what_a_condition_leaves_alone(task, n, seed):
    gold = drawn(task, n, seed)
    for condition in CONDITIONS:
        if condition == "novel" and gold.choices.shape[-1] < 3:
            with pytest.raises(ValueError, match="needs three"):
                conditioned(gold, condition, generator=seeded(1))
            continue
        changed = conditioned(gold, condition, generator=seeded(1))
        assert torch.equal(changed.query_tokens, gold.query_tokens)
        assert torch.equal(changed.tokens[:, -3:], gold.tokens[:, -3:])
        if condition not in ("contrary", "novel", "abstract"):
            assert torch.equal(changed.answer, gold.answer)
    assert torch.equal(conditioned(gold, "none", generator=seeded(1)).tokens, gold.query_tokens)


@SOME
@given(tasks, st.integers(1, 9), chances)
def test_symbols_are_one_to_one_and_drawn_in_each_prompt(task, n, seed):
    gold = drawn(task, n, seed, batch=30)
    abstract = conditioned(gold, "abstract", generator=seeded(seed))
    assert (abstract.choices >= FIRST_CODE).all()
    assert all(len(set(row)) == len(row) for row in abstract.choices.tolist())
    assert len({tuple(row) for row in abstract.choices.tolist()}) > 1
    assert torch.equal(label_numbers(abstract), label_numbers(gold))
    outside = conditioned(gold, "labels outside", generator=seeded(seed))
    assert torch.equal(outside.tokens, abstract.tokens)
    assert torch.equal(outside.answer, gold.answer)
    with pytest.raises(ValueError, match="no label of the task"):
        label_numbers(outside)
    with pytest.raises(ValueError, match="none of them"):
        outside.with_symbols(generator=seeded(0))


def test_layouts_and_strange_inputs_as_they_read():
    gold = drawn("mood", 2, 5, batch=1)
    noun, predicate = words(gold.sentences[0, 0]).split()
    a, b = words(gold.separators[0]).split()
    label = words(gold.labels[0]).split()[0]
    starts = {
        "gold": f"{noun} {predicate} {a} {label} {b}",
        "labels only": f"{label} {b}",
        "inputs only": f"{noun} {predicate} {b}",
        "no format": f"{noun} {predicate} {label}",
    }
    for condition, text in starts.items():
        changed = conditioned(gold, condition, generator=seeded(0))
        assert words(changed.tokens[0]).startswith(f"<begin> {text} ")
        assert changed.to("cpu").layout == changed.layout
        assert changed.with_queries_of(gold).layout == changed.layout
    strange = conditioned(gold, "strange inputs", generator=seeded(0))
    assert (strange.sentences[:, :-1] >= FIRST_FILLER).all()
    assert torch.equal(strange.labels, gold.labels)
    with pytest.raises(ValueError, match="layout: got 'upside down'"):
        gold.with_layout("upside down")
    with pytest.raises(ValueError, match="condition: got 'loud'"):
        conditioned(gold, "loud", generator=seeded(0))


def test_labels_of_another_shape_are_refused():
    gold = drawn("mood", 2, 5)
    with pytest.raises(ValueError, match="labels: got shape"):
        gold.with_labels(gold.labels[:, :1])
    with pytest.raises((ValueError, TypeError)):  # types are checked first, where they are checked
        gold.with_labels(gold.labels, gold.answer[:2])


# --- conditions on real text ---------------------------------------------------------------------

REVIEWS = [
    Example({"text": f"{how} film number {i}"}, label)
    for i in range(6)
    for label, how in enumerate(("a dull", "a warm and funny"))
]
SST2 = TEMPLATES["lu"]["sst2"]


def review_texts():
    words = (*SST2.label_words, *SYMBOLS)
    return [f"{SST2.pattern.format(**e.fields)} {w}\n\n" for e in REVIEWS for w in words]


@pytest.fixture(scope="module")
def reviews(tokenizer_of):
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizer_of([*review_texts(), *STRANGE_INPUTS])
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=512
    )
    model = PretrainedLM(transformers.GPT2LMHeadModel(config), tokenizer)
    return model, TextTask(model, REVIEWS, SST2)


def text_of(model, tokens):
    return model.tokenizer.decode([t for t in tokens.tolist() if t != PADDING])


def test_every_condition_on_real_text_as_it_reads(reviews):
    model, task = reviews
    gold = task.prompts(2, 4, generator=seeded(0))
    query = gold.written[0][-1]
    review = gold.written[0][0].removeprefix("Review: ").removesuffix("\nSentiment:")
    said = SST2.label_words[gold.demonstrated[0, 0]]
    starts = {
        "none": query,
        "gold": f"Review: {review}\nSentiment: {said}\n\nReview: ",
        "labels only": f" {said}\n\n ",
        "inputs only": f"{review}\n\n",
        "no format": f"{review} {said} ",
    }
    for condition, text in starts.items():
        changed = conditioned(gold, condition, generator=seeded(0))
        read = text_of(model, changed.tokens[0])
        assert read.startswith(text) and read.endswith(query)
        assert torch.equal(changed.answer, gold.answer)
    contrary = conditioned(gold, "contrary", generator=seeded(0))
    assert torch.equal(contrary.demonstrated, 1 - gold.demonstrated)
    assert (contrary.answer != gold.answer).all()
    strange = text_of(model, conditioned(gold, "strange inputs", generator=seeded(0)).tokens[0])
    assert review not in strange and sum(text in strange for text in STRANGE_INPUTS) >= 1
    assert strange.endswith(query)


def test_symbols_on_real_text(reviews):
    model, task = reviews
    gold = task.prompts(3, 20, generator=seeded(1))
    abstract = conditioned(gold, "abstract", generator=seeded(2))
    outside = conditioned(gold, "labels outside", generator=seeded(2))
    assert torch.equal(abstract.tokens, outside.tokens)
    assert torch.equal(outside.answer, gold.answer)
    assert torch.equal(label_numbers(abstract), label_numbers(gold))
    assert len(set(abstract.names)) > 1
    for row in range(20):
        named = abstract.names[row]
        assert model.tokenizer.decode([abstract.answer[row]]) == f" {named[gold.truth[row]]}"
        said = named[gold.demonstrated[row, 0]]
        assert f"Sentiment: {said}\n\n" in text_of(model, abstract.tokens[row])
    one = abstract.with_queries_of(task.prompts(0, 5, generator=seeded(3)))
    assert set(one.names) == {abstract.names[0]} and one.choices.shape == (5, 2)
    back = abstract.with_labels(abstract.labels.flip(1))
    assert torch.equal(back.labels, abstract.labels.flip(1))
    with pytest.raises(ValueError, match="labels: a token that is no label word"):
        gold.with_labels(abstract.labels)


def test_shares_on_real_text_are_exact(reviews):
    _, task = reviews
    gold = task.prompts(4, 10, generator=seeded(4))
    turned = flipped(gold, 0.5, generator=seeded(5))
    assert ((turned.demonstrated != gold.demonstrated).sum(1) == 2).all()
    assert torch.equal(flipped(gold, 0.0, generator=seeded(5)).tokens, gold.tokens)


# --- measures ------------------------------------------------------------------------------------


def test_measures_on_answers_by_hand():
    gold = drawn("stance", 1, 0, batch=2)
    answers = torch.full((2, 66), 0.001, dtype=torch.float64)
    answers[:, FIRST_CODE] = 0.5  # no label at all
    answers[0, gold.answer[0]] = 0.3
    answers[1, next_labels(gold)[1]] = 0.3
    assert both_accuracies(answers, gold) == (0.0, 0.5)
    assert accuracy_among_labels(answers, gold) == 0.5


@SOME
@given(st.floats(-1, 1), st.floats(0, 1))
def test_sensitivity_is_the_slope_of_a_line(slope, start):
    shares = [0.0, 0.25, 0.5, 1.0]
    got = sensitivity_to_labels(shares, [start + slope * s for s in shares])
    assert got == pytest.approx(slope, abs=1e-12)


def test_effect_ratio_and_switching_share():
    assert label_effect_ratio(0.9, 0.7, 0.5) == pytest.approx(0.5)
    assert np.isnan(label_effect_ratio(0.5, 0.4, 0.5))
    shares = [0.0, 0.5, 1.0]
    assert switching_share(shares, [1, 0.6, 0.0], [0, 0.4, 1.0]) == pytest.approx(0.5 + 0.5 / 6)
    assert np.isnan(switching_share(shares, [1, 1, 1], [0, 0, 0]))
    with pytest.raises(ValueError, match="shares"):
        sensitivity_to_labels([0.5, 0.5], [1, 1])


# --- the study -----------------------------------------------------------------------------------


def test_stored_figures_are_those_of_the_model(lesson):
    who = subject("course", 1)
    prompts = who.drawn("kind", 12, 200, 1).in_order(range(8))
    answers = answers_to(who.model, prompts, at_once=64)
    assert both_accuracies(answers, prompts)[0] == pytest.approx(
        lesson.of("gold")[1, NAMES.index("kind")], abs=1e-6
    )


def test_conditions_that_are_the_same_agree(lesson):
    last = lesson.n_demonstrations.index(lesson.n_labels)
    gold = lesson.of("gold")
    assert np.array_equal(lesson.turned[:, :, -1, 0, 0], gold)
    assert np.array_equal(lesson.correct[:, :, -1], gold)
    assert np.array_equal(lesson.by_scale("gold")[..., -1], gold)
    assert np.array_equal(lesson.turned[:, :, -1, -1, 1], lesson.of("contrary"))
    assert np.array_equal(lesson.filter_turned[:, :, 0, 0], lesson.filter[:, :, 0, last])
    none = lesson.accuracy[:, :, CONDITIONS.index("none")]
    assert (none == none[..., :1]).all()  # whatever the number
    for name in ("random", "labels only", "no format"):
        assert np.array_equal(lesson.of(name, 0), none[..., 0])


def test_the_record_and_the_figure(lesson):
    assert lesson.accuracy.shape == (3, 4, 11, 6) and lesson.turned.shape == (3, 4, 7, 9, 2)
    assert "slope on labels" in lesson.summary()
    fig = figures.demonstration_labels(lesson)
    assert len(fig.axes) == 12 and fig.axes[1].get_title("left") == "stance"


def test_the_same_study_on_a_pretrained_model(tmp_path, tokenizer_of):
    transformers = pytest.importorskip("transformers")
    lines = [{"text": e.fields["text"], "label": e.label} for e in REVIEWS]
    (tmp_path / "sst2.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tokenizer = tokenizer_of([*review_texts(), *STRANGE_INPUTS])
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=256
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    settings = {"model": str(tmp_path / "model"), "data": str(tmp_path), "tasks": ("sst2",)}
    small = {"n_demonstrations": (0, 2), "n_labels": 2, "shares": (0.0, 1.0), "n_prompts": 6,
             "seeds": (0,)}  # fmt: skip
    result = demonstration_labels(DemonstrationLabelsConfig(**settings, **small))
    assert result.accuracy.shape == (1, 1, 11, 2) and result.scale == (settings["model"],)
    assert np.isnan(result.filter).all() and np.isnan(result.of("novel")).all()
    assert np.isfinite(result.of("abstract")).all()
    figures.demonstration_labels(result)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tasks": ("weather",)}, "tasks: got 'weather'"),
        ({"n_demonstrations": (1, 2)}, "ascending numbers from 0"),
        ({"n_labels": 5}, "n_labels: 5 is not among"),
        ({"n_prompts": 0}, "n_prompts"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        DemonstrationLabelsConfig(**changes)


def test_a_pretrained_model_is_asked_about_the_four_data_sets():
    config = DemonstrationLabelsConfig(model="a", larger=("b",))
    assert config.tasks == ("agnews", "sst2", "cb", "rte") and config.scale == ("a", "b")


def test_counts_of_flips_are_those_the_claims_find():
    verdicts = {}
    for name, declared in CLAIMS.items():
        if declared.check.__module__.endswith(("demonstration_labels", "flipped_labels")):
            verdicts[name] = declared.check(Scale.LESSON).verdict
    assert verdicts["wei2023-exact-flips"] == verdicts["wei2023-odds-of-flips"] == "holds"
    assert verdicts["min2022-hurt-where-mapping-is-followed"] == "holds"
    assert verdicts["pan2023-symbols-are-learned"] == "does not hold"
    assert len(verdicts) == 27
