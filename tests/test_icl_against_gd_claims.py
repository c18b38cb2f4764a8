"""Claims on in-context learning against descent, their figures, and who answers like whom."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from icl_lessons.cli import app
from icl_lessons.declare import Verdict, result_of
from icl_lessons.language_models.claims import icl_against_gd as claims
from icl_lessons.language_models.experiments.answer_likeness import (
    MEASURES,
    AnswerLikenessConfig,
    answers_of,
    pairwise,
)
from icl_lessons.language_models.experiments.icl_against_gd import (
    IN_CONTEXT,
    REORDERED,
    RIVALS,
    ZERO_SHOT,
)
from icl_lessons.language_models.figures import answer_likeness as likeness_figures
from icl_lessons.language_models.figures import icl_against_gd as figures
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.subjects import (
    Subject,
    course_prompts,
    drawn_course_prompts,
    pretrained_subject,
)
from icl_lessons.ledger import run_experiment
from icl_lessons.measures.distributions import overlap_cosine_similarity, token_overlap
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded

LESSON = Scale.LESSON


@pytest.fixture(scope="module")
def study():
    return result_of("icl_against_gd", LESSON)


@pytest.fixture(scope="module")
def alike():
    return result_of("answer_likeness", LESSON)


@pytest.mark.parametrize(
    "check",
    [
        claims.overlap_cosine_by_hand,
        claims.overlap_cosine_symmetric,
        claims.overlap_cosine_forgives_one,
        claims.overlap_cosine_scale,
    ],
)
def test_identities_of_the_measure_hold(check):
    assert check(LESSON).verdict == Verdict.HOLDS


def test_two_tokens_that_differ_halve_the_similarity_and_one_does_not():
    p = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0, 0.0], dtype=torch.float64)
    one = torch.tensor([0.4, 0.3, 0.0, 0.1, 0.2, 0.0], dtype=torch.float64)
    two = torch.tensor([0.4, 0.0, 0.3, 0.0, 0.2, 0.1], dtype=torch.float64)
    for q, divisor in ((one, 1), (two, 2)):
        plain = overlap_cosine_similarity(p, q, 4, "plain")
        assert overlap_cosine_similarity(p, q, 4).item() == pytest.approx(plain.item() / divisor)


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(4, 20), st.integers(0, 2**30))
def test_pairs_are_symmetric_and_each_method_is_like_itself(methods, queries, vocabulary, seed):
    laws = torch.rand(methods, queries, vocabulary, generator=seeded(seed), dtype=torch.float64)
    laws = laws / laws.sum(-1, keepdim=True)
    table = pairwise(laws, 4, 2)
    assert table.shape == (len(MEASURES), methods, methods)
    assert torch.allclose(table, table.mT, atol=1e-12)
    assert torch.allclose(table.diagonal(dim1=1, dim2=2), torch.ones_like(table[:, 0]), atol=1e-12)
    direct = token_overlap(laws[0], laws[1], 2).mean()
    assert torch.allclose(table[MEASURES.index("token overlap of few"), 0, 1], direct)


def test_answers_are_those_of_context_and_of_fine_tuned_models():
    config = SequenceTransformerConfig(vocabulary=66, width=8, layers=2, heads=2, init_std=0.3)
    model = SequenceTransformer(config, generator=seeded(0))
    who = Subject(model, 2, course_prompts, drawn_course_prompts)
    asked = AnswerLikenessConfig(epochs=(2, 4), n_queries=5, n_demonstrations=3)
    laws = answers_of(asked, who, "stance", 0)
    assert laws.shape == (len(asked.methods), 5, 66) and len(asked.methods) == 9
    prompts = course_prompts("stance", 3, 5, 0)
    assert torch.allclose(laws[0], answer_law(model, prompts.tokens))
    assert torch.allclose(laws[1], answer_law(model, prompts.in_order([2, 1, 0]).tokens))
    assert torch.allclose(laws[2], answer_law(model, prompts.query_tokens))
    for early, late in ((3, 4), (5, 6), (7, 8)):  # descent goes on between its two looks
        assert not torch.allclose(laws[early], laws[2]) and not torch.allclose(
            laws[early], laws[late]
        )


def test_two_studies_of_the_same_cells_agree(study, alike):
    place = study.n_demonstrations.index(alike.n_demonstrations)
    late = {rival.name: f"{rival.name}, 200 epochs" for rival in RIVALS[:3]}
    for name, other in ({ZERO_SHOT: ZERO_SHOT} | late).items():
        for measure, ours in (("overlap_cosine", "paper"), ("token_overlap", "token overlap")):
            expected = study.last(measure, name)[:, place]
            assert np.allclose(alike.of(ours, IN_CONTEXT, other), expected, atol=0.02), name


def test_what_the_claims_of_accuracy_measure(study):
    said = claims.one_label(LESSON)
    assert said.verdict == Verdict.HOLDS and said.samples == (12, 12)
    said = claims.few_demonstrations_ahead(LESSON)
    context = study.last("accuracy", IN_CONTEXT)[:, :3].mean((1, 2))
    best = max(RIVALS, key=lambda r: study.last("accuracy", r.name)[0, :3].mean()).name
    gap = context[0] - study.last("accuracy", best)[0, :3].mean()
    assert f"topic {gap:.2f}" in said.note
    cell = np.stack([study.accuracy[:, study.methods.index(r.name), 0].max(-1) for r in RIVALS[:3]])
    worst = (study.last("accuracy", IN_CONTEXT)[:, 0] - cell.max(0)).mean(-1).min()
    assert claims.stopping_early(LESSON).measured == pytest.approx(worst)


def test_what_the_claims_of_distributions_measure(study, alike):
    again = study.last("overlap_cosine", REORDERED).mean(-1)
    over = [study.last("overlap_cosine", r.name).mean(-1) - again for r in RIVALS]
    said = claims.cosine_below_reordered(LESSON)
    assert said.measured == pytest.approx(np.max(over))
    assert said.samples == (int((np.array(over) < 0).sum()), 96)
    assert claims.overlap_below_reordered(LESSON).measured < 0
    itself = alike.of("paper", "descent, rate .03, 100 epochs", "descent, rate .03, 200 epochs")
    assert (itself > 0.9).all()
    assert claims.descents_differ(LESSON).measured > 0.1


def test_figures_have_a_panel_for_each_task(study, alike):
    for fig, panels in (
        (figures.likeness(study), 8),
        (figures.by_epoch(study), 8),
        (figures.by_epoch(study, (4,)), 4),
        (likeness_figures.answer_likeness(alike), 4),
    ):
        assert len(fig.axes) == panels and fig.axes[0].get_title("left") == "topic"
        plt.close(fig)
    with pytest.raises(ValueError, match="n_demonstrations: got"):
        figures.by_epoch(study, (3,))


def test_the_same_on_a_pretrained_model(tiny_model_and_reviews):
    small = {"n_demonstrations": 2, "epochs": (2, 4), "n_queries": 6}
    changes = tiny_model_and_reviews | small
    result = run_experiment("answer_likeness", changes=changes, device="cpu").result
    assert result.likeness.shape == (1, 3, 6, 9, 9) and "descent" in result.summary()


def test_a_missing_file_says_which_there_are(tiny_model_and_reviews):
    who = pretrained_subject(tiny_model_and_reviews["model"], tiny_model_and_reviews["data"])
    with pytest.raises(ValueError, match=r"no agnews.jsonl; .* alone \(--tasks sst2\)"):
        who.prompts("agnews", 1, 1, 0)


def test_the_command_takes_tasks_with_spaces():
    asked = ["run", "answer_likeness", "--model", "gpt2", "--tasks", "sst2 , weather"]
    assert "tasks: got 'weather'" in str(CliRunner().invoke(app, asked).exception)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"epochs": (100, 150)}, "epochs: got"),
        ({"tasks": ("weather",)}, "tasks: got 'weather'"),
        ({"few": 0}, "few"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        AnswerLikenessConfig(**changes)
