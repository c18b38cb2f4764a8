"""Task vectors by block: whose query is answered, what overrides what, and what is claimed."""

import json
import warnings

import numpy as np
import pytest
import torch

import icl_lessons.language_models.claims.task_vectors  # noqa: F401
from icl_lessons.declare import CLAIMS, result_of
from icl_lessons.language_models.experiments.task_vectors import (
    PAIRS,
    WAYS,
    TaskVectorsConfig,
    task_vectors_by_block,
)
from icl_lessons.language_models.figures import task_vectors as figures
from icl_lessons.language_models.subjects import course_prompts, course_subject
from icl_lessons.language_models.task_vectors import held_apart, whose_query_is_answered
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, one_thread, seeded

VERDICTS = {
    "own-state": "holds",
    "query-forgotten": "holds",
    "adding-is-replacing": "holds",
    "replacing-recovers": "does not hold",
    "read-later": "holds in part",
    "adding-recovers": "holds",
    "which-task-not-which-mapping": "holds in part",
    "overriding": "holds",
    "random-labels": "holds",
}


@pytest.fixture(scope="module")
def lesson():
    return result_of("task_vectors", Scale.LESSON)


def test_dummies_are_none_of_the_tested_queries():
    prompts = course_prompts("mood", 4, 120, 0)
    dummies, asked = held_apart(prompts, 20)
    shown = {tuple(row) for row in dummies.query_tokens.tolist()}
    assert len(dummies.answer) == 20 and not shown & {tuple(r) for r in asked.query_tokens.tolist()}
    assert asked.tokens.shape == (len(asked.answer), 5 * 4 + 4) and 90 <= len(asked.answer) <= 100
    assert torch.equal(asked.tokens[:, -3:], asked.query_tokens[:, -3:])
    with pytest.raises(ValueError, match="leave no query"):
        held_apart(prompts, 120)


def test_after_the_last_block_the_donors_query_is_answered_and_never_before_attention_reads_it():
    """Blocks that write nothing leave the last token with its own embedding alone."""
    with one_thread():
        model, prompts = course_subject(1).model, course_prompts("topic", 8, 60, 1)
        last = whose_query_is_answered(model, prompts.tokens, prompts.answer, 2)
    assert last.own < 0.05 and last.donor > 0.95
    deaf = SequenceTransformer(SequenceTransformerConfig(vocabulary=9, width=8, layers=2, heads=2))
    with torch.no_grad():
        deaf.blocks[0].attention.write.weight.zero_()
    tokens = torch.randint(9, (12, 5), generator=seeded(0))
    tokens[:, -1] = 3  # as every prompt ends in the same separator
    answer = deaf(tokens)[:, -1].argmax(-1)
    if (answer == answer[0]).all():
        answer[0] = (answer[0] + 1) % 9
    swapped = whose_query_is_answered(deaf, tokens, answer, 0)
    differ = answer != answer.roll(1)
    truth = (deaf(tokens)[:, -1].argmax(-1) == answer)[differ].double().mean().item()
    assert swapped.own == truth


def test_queries_with_one_answer_tell_nothing():
    model, prompts = course_subject(0).model, course_prompts("mood", 2, 5, 0)
    with pytest.raises(ValueError, match="answer: all queries have the same"):
        whose_query_is_answered(model, prompts.tokens, torch.full((5,), 45), 0)


def test_the_record(lesson):
    assert lesson.patched.shape == (8, 2, 3, 3, 3) and lesson.injected.shape == (6, 2, 3, 2, 3)
    assert lesson.pairs == PAIRS and lesson.ways == WAYS
    assert np.isfinite(lesson.patched).all() and "topic contrary" in lesson.summary()
    # the block is chosen on the first set and tested on the others
    way = lesson.ways.index("add")
    assert (lesson.best("add") <= lesson.patched[:, way, :, 1:].mean(2).max(1) + 1e-9).all()
    # after the last block one label answers every query, so no more than the commonest is right
    assert lesson.patched[:, 0, 2].max() < 0.7
    with pytest.raises(ValueError, match="tasks: got 'weather'"):
        lesson.rows("weather")


def test_the_figures(lesson):
    fig = figures.task_vectors_by_block(lesson)
    assert [ax.get_title("left") for ax in fig.axes[:4]] == list(lesson.tasks[:4])
    _, ax = figures.plt.subplots()
    figures.draw_injected(ax, lesson)
    assert len(ax.get_lines()) == len(PAIRS)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_claims(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence = CLAIMS[f"hendel2023-{name}"].check(Scale.LESSON)
    assert evidence.verdict == VERDICTS[name] and type(evidence.measured) is float


def test_the_same_study_on_a_pretrained_model(tiny_reviews):
    small = {"n": 2, "dummies": 3, "n_queries": 6, "sets": 2, "seeds": (0,)}
    result = task_vectors_by_block(TaskVectorsConfig(**tiny_reviews, **small))
    assert result.tasks == ("sst2",) and result.pairs == ()
    assert result.patched.shape == (1, 2, 2, 2, 1) and result.injected.shape == (0, 2, 2, 2, 1)
    figures.task_vectors_by_block(result)


@pytest.fixture
def tiny_reviews(tmp_path, tokenizer_of):
    """A folder with a random GPT-2 and one with reviews, as settings of an experiment."""
    transformers = pytest.importorskip("transformers")
    reviews = [
        {"text": f"{how} film number {i}", "label": label}
        for i in range(5)
        for label, how in enumerate(("a dull", "a warm and funny"))
    ]
    (tmp_path / "sst2.jsonl").write_text("\n".join(map(json.dumps, reviews)))
    tokenizer = tokenizer_of(
        [f"Review: {r['text']}\nSentiment: {w}\n\n" for r in reviews
         for w in ("positive", "negative")]
    )  # fmt: skip
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return {"model": str(tmp_path / "model"), "data": str(tmp_path), "tasks": ("sst2",)}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tasks": ("weather",)}, "tasks: got 'weather'"),
        ({"pairs": (("topic", "weather"),)}, "pairs: got 'weather'"),
        ({"sets": 1}, "sets"),
        ({"dummies": 0}, "dummies"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        TaskVectorsConfig(**changes)
