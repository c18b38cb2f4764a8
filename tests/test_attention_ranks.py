"""How attention in context and fine-tuning rank tokens: the measure, the record, its claims."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import icl_lessons.language_models.claims.attention_ranks  # noqa: F401
from icl_lessons.declare import CLAIMS, result_of
from icl_lessons.language_models.course_models import course_models
from icl_lessons.language_models.experiments.attention_ranks import (
    ALL,
    AMONG,
    CAUSAL,
    NO_DESCENT,
    ONE_PASS,
    OTHER_LABELS,
    RANKED,
    WITHIN,
    AttentionRanksConfig,
    AttentionRanksResult,
    attention_ranks,
    ranked_places,
)
from icl_lessons.language_models.experiments.update_similarity import (
    MODELS,
    TRAINED,
    UpdateSimilarityConfig,
    similarity_of_updates,
)
from icl_lessons.language_models.figures import attention_ranks as figures
from icl_lessons.language_models.fine_tuning import FineTuning, fine_tune
from icl_lessons.language_models.subjects import course_prompts
from icl_lessons.language_models.update_similarity import (
    KEYS_AND_VALUES,
    attention_queries,
    attention_scores,
    attention_to,
    attention_while_training,
    kendall_rank_correlation,
)
from icl_lessons.runtime import Scale, seeded

VERDICTS = {
    "dai2023-ranks-alike": "does not hold",
    "dai2023-ranks-above-untrained": "holds in part",
    "dai2023-ranks-by-descent": "does not hold",
}
few = settings(deadline=None, max_examples=30)


def counted(first, second):
    """Tau-b by counting pairs one at a time."""
    agree = one = two = 0
    for i, j in itertools.combinations(range(len(first)), 2):
        a = (first[i] > first[j]) - (first[i] < first[j])
        b = (second[i] > second[j]) - (second[i] < second[j])
        agree, one, two = agree + a * b, one + abs(a), two + abs(b)
    return agree / math.sqrt(one * two) if one and two else 0.0


@few
@given(rows=st.integers(1, 9).flatmap(lambda m: st.tuples(
    *[st.lists(st.integers(0, 4), min_size=m, max_size=m)] * 2)))  # fmt: skip
def test_kendalls_tau_counts_pairs(rows):
    first, second = (torch.tensor(row, dtype=torch.float64) for row in rows)
    found = kendall_rank_correlation(first, second)
    assert_close(found.item(), counted(*rows), atol=1e-12, rtol=0)
    assert_close(kendall_rank_correlation(second, first), found)
    assert_close(kendall_rank_correlation(first, -second), -found)
    assert_close(kendall_rank_correlation(first.exp(), second), found)  # ranks alone count


def test_the_same_order_the_opposite_and_one_swap():
    order = torch.arange(4.0)
    assert kendall_rank_correlation(order, order) == 1
    assert kendall_rank_correlation(order, -order) == -1
    swapped = torch.tensor([0.0, 2.0, 1.0, 3.0])
    assert_close(kendall_rank_correlation(order, swapped), torch.tensor(4 / 6))


@pytest.fixture(scope="module")
def cell():
    return course_models()[0], course_prompts("topic", 4, 6, 0)


def test_queries_and_attention_are_the_models_own(cell):
    model, prompts = cell
    length = prompts.tokens.shape[1]
    whole = attention_to(model, prompts.tokens, torch.arange(length))
    heads = torch.full(whole.shape[:2], float(model.config.heads))
    assert_close(whole.sum(-1), heads)
    by_hand = sum(
        attention_scores(model, prompts.tokens, length)[:, h].softmax(-1)
        for h in range(model.config.heads)
    )
    assert_close(whole, by_hand)
    places = torch.tensor([3, 1])
    assert torch.equal(attention_to(model, prompts.tokens, places), whole[..., places])
    queries, tokens = attention_queries(model, prompts.tokens), prompts.tokens
    assert queries.shape[:4] == (3, model.config.heads, len(tokens), length)
    block = model.blocks[0]
    wide = block.attention.query_key_value(block.norm_attention(model.embedding(tokens)))
    own = wide[..., : model.config.width]
    assert_close(queries[0].permute(1, 2, 0, 3).flatten(2), own)


@few
@given(
    heads=st.integers(1, 3), m=st.integers(1, 5), size=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_stand_in_for_attention_is_a_sum_of_products(heads, m, size, seed):
    g = seeded(seed)
    trained_on = torch.randn(2, heads, m, size, generator=g, dtype=torch.float64)
    query = torch.randn(2, heads, 3, size, generator=g, dtype=torch.float64)
    found = attention_while_training(trained_on, query)
    for layer, row, token in np.ndindex(2, 3, m):
        wanted = sum(trained_on[layer, h, token] @ query[layer, h, row] for h in range(heads))
        assert_close(found[layer, row, token], wanted)


def test_places_are_those_of_nouns_predicates_and_separators(cell):
    prompts = cell[1]
    there = prompts.tokens[:, ranked_places(prompts.n)]
    assert torch.equal(there, prompts.demonstration_tokens[:, :, 1:])


# --- the study ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    return result_of("attention_ranks", Scale.LESSON)


def test_one_cell_again_in_another_way(lesson):
    """Fine-tuned anew up to each example instead of once, and pairs counted one at a time."""
    study = UpdateSimilarityConfig()
    task, seed = 1, 0
    rate = study.rates[similarity_of_updates(study).chosen(ONE_PASS)[task, seed]]
    model = course_models()[seed]
    total = study.n_queries + study.validation
    prompts = course_prompts(study.tasks[task], study.n, total, seed)
    inputs, labels = prompts.demonstrations(0)
    seen, tuned = [], model
    settings_ = FineTuning(learning_rate=rate, epochs=1, batch_size=1, parts=KEYS_AND_VALUES)
    for i in range(study.n):
        tuned = fine_tune(model, inputs[:i], labels[:i], settings_) if i else model
        seen.append(attention_queries(tuned, inputs[i : i + 1])[:, :, 0, 1:])
    tuned = fine_tune(model, inputs, labels, settings_)
    some = slice(0, study.n_queries)
    query = attention_queries(tuned, prompts.query_tokens[some])[..., -1, :]
    near = attention_while_training(torch.cat(seen, 2), query)
    shown = attention_to(model, prompts.tokens[some], ranked_places(study.n).flatten())
    for block in range(3):
        taus = [counted(*pair) for pair in zip(shown[block].tolist(), near[block].tolist())]  # noqa: B905
        assert abs(np.mean(taus) - lesson.of()[task, block, seed]) < 2e-3


def test_the_record_and_the_figure(lesson):
    assert lesson.tau.shape == (3, 6, len(RANKED), len(AMONG), 3, 3)
    assert lesson.recency.shape == (3, 6, len(AMONG), 3, 3)
    assert np.isfinite(lesson.tau).all() and abs(lesson.tau).max() <= 1
    assert np.allclose(lesson.mean(), lesson.tau[0, :, 1, 0].mean((0, 1)))
    assert np.allclose(lesson.late(TRAINED, WITHIN), lesson.recency[0, :, 1].mean((0, 1)))
    # queries do not move, and in the first block nothing below them does: the same order
    for way in (ONE_PASS, CAUSAL, OTHER_LABELS):
        for model in MODELS:
            same = lesson.of(model, way)[:, 0] - lesson.of(model, NO_DESCENT)[:, 0]
            assert abs(same).max() < 1e-3
    assert abs(lesson.of()[:, 1:] - lesson.of(TRAINED, NO_DESCENT)[:, 1:]).max() > 0.01
    assert all(name in lesson.summary() for name in (*RANKED, *MODELS, ALL, WITHIN))
    assert len(figures.attention_ranks(lesson).axes) == 2
    with pytest.raises(ValueError, match="way"):
        lesson.of(TRAINED, "descent")


def test_a_small_study_of_its_own():
    study = UpdateSimilarityConfig(
        tasks=("topic",), n=2, rates=(0.1, 0.3), epochs=1, n_queries=3, validation=2, seeds=(0, 1)
    )
    result = attention_ranks(AttentionRanksConfig(similarity=study, seeds=(1,)))
    assert isinstance(result, AttentionRanksResult) and result.tau.shape == (3, 1, 4, 2, 3, 1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"similarity": UpdateSimilarityConfig(n=1)}, "similarity: got n=1"),
        ({"similarity": UpdateSimilarityConfig(model="gpt2")}, "queries are read from"),
        ({"seeds": (7,)}, "seeds: got"),
        ({"seeds": ()}, "seeds: got"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionRanksConfig(**options)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_claims(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence = CLAIMS[name].check(Scale.LESSON)
    assert evidence.verdict == VERDICTS[name] and type(evidence.measured) is float
