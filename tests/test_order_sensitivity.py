"""Order sensitivity of in-context learning and of optimisers: methods, study and claims."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import result_of
from icl_lessons.language_models.claims import order_sensitivity as claims
from icl_lessons.language_models.experiments.order_sensitivity import (
    CASES,
    FULL_BATCH,
    OrderSensitivityConfig,
    order_sensitivity_measures,
)
from icl_lessons.language_models.figures import order_sensitivity as figures
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.order import (
    fine_tuned_answers,
    labelled_prompts,
    swap_effect,
    theorem_gap,
)
from icl_lessons.language_models.subjects import subject
from icl_lessons.ledger import run_experiment
from icl_lessons.measures.distributions import order_sensitivity
from icl_lessons.runtime import Scale, seeded

SEEDS = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def lesson():
    return result_of("order_sensitivity", Scale.LESSON)


def case(seed: int, most: int = 5):
    return next(claims.order_cases(1, seed=seed, most=most))


@given(seed=SEEDS, rate=st.floats(1e-3, 0.3), epochs=st.integers(1, 4))
@settings(deadline=None, max_examples=10)
def test_full_batch_descent_has_no_order(seed, rate, epochs):
    model, prompts, order, _ = case(seed)
    full = FineTuning(learning_rate=rate, epochs=epochs)
    given_order = list(range(prompts.n))
    assert theorem_gap(model, prompts, full, given_order, order)[1] < 1e-12


def test_theorem_1_finds_that_context_has_an_order():
    """Most, not each: a model that attends to its query alone has next to none."""
    gaps = []
    for seed in range(20):
        model, prompts, order, _ = case(seed)
        full = FineTuning(learning_rate=0.1, epochs=1)
        gaps.append(theorem_gap(model, prompts, full, list(range(prompts.n)), order))
    assert sum(left > 1e-6 for left, _ in gaps) >= 15
    assert max(right for _, right in gaps) < 1e-12


@given(seed=SEEDS, size=st.integers(1, 5), part=st.sampled_from(["all", "block:0", "value:0"]))
@settings(deadline=None, max_examples=10)
def test_all_orders_at_once_are_each_order_alone(seed, size, part):
    model, prompts, order, _ = case(seed)
    for optimizer, rate in (("descent", 0.05), ("adam", 1e-3)):
        how = FineTuning(
            optimizer=optimizer, learning_rate=rate, epochs=2, batch_size=size, parts=part
        )
        together = fine_tuned_answers(model, prompts, [range(prompts.n), order], how, every=1)
        assert list(together) == [0, 1, 2]
        inputs, labels = prompts.demonstrations(0)
        alone = fine_tune(model, inputs[order], labels[order], how)
        expected = answer_law(alone, prompts.query_tokens)
        assert_close(together[2][1], expected, atol=1e-9, rtol=0)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=10)
def test_the_effect_of_a_swap_leaves_an_error_of_third_order(seed):
    """Losses that are not quadratic: a tenth of the rate leaves a thousandth of the error."""
    g = seeded(seed)
    targets = torch.randn(2, 4, generator=g, dtype=torch.float64)
    losses = [lambda w, t=t: torch.cosh(w - t).log().sum() + (w * t).sin().sum() for t in targets]
    weights = torch.randn(4, generator=g, dtype=torch.float64)

    def error(rate: float) -> float:
        ends = []
        for first, second in (losses, losses[::-1]):
            stepped = weights - rate * torch.func.grad(first)(weights)
            ends.append(stepped - rate * torch.func.grad(second)(stepped))
        return (ends[0] - ends[1] - swap_effect(*losses, weights, rate)).norm().item()

    assert error(1e-4) < 3e-3 * error(1e-3) + 1e-14


def test_labels_are_right_a_quarter_wrong_or_random_and_shared_by_all_queries():
    who = subject("course", 0)
    gold, wrong, random = (
        labelled_prompts(who, "stance", labels, 8, 12, 4)
        for labels in ("gold", "a quarter wrong", "random")
    )
    for prompts in (gold, wrong, random):
        assert len(prompts) == 12 and (prompts.labels == prompts.labels[:1]).all()
        assert torch.equal(prompts.sentences, gold.sentences)
        assert torch.equal(prompts.answer, gold.answer)
    assert (wrong.labels[0] != gold.labels[0]).sum() == 2
    assert not torch.equal(random.labels, gold.labels)
    with pytest.raises(ValueError, match="labels: got 'half'"):
        labelled_prompts(who, "stance", "half", 8, 12, 4)
    with pytest.raises(ValueError, match="share"):
        labelled_prompts(who, "stance", "a quarter wrong", 6, 12, 4)


def test_stochastic_descent_moves_with_the_square_of_its_rate():
    model, prompts, order, _ = case(5)
    moved = []
    for rate in (1e-6, 1e-5):
        once = FineTuning(learning_rate=rate, epochs=1, batch_size=1)
        answers = fine_tuned_answers(model, prompts, [range(prompts.n), order], once)[1]
        moved.append(order_sensitivity(answers).mean().item() / rate**2)
    assert abs(moved[1] / moved[0] - 1) < 0.05


def test_what_was_stored_is_whole(lesson):
    assert lesson.tuned.shape == (2, 8, 3, 9) and lesson.context_accuracy.shape == (2, 3, 10)
    assert np.isfinite(lesson.tuned).all() and (lesson.tuned[..., 0] < 1e-6).all()
    assert (lesson.of(FULL_BATCH) < 1e-5).all() and (lesson.context > 0.005).all()
    assert (lesson.sides[:, 0] > 1e-3).all() and (lesson.sides[:, 1] < 1e-12).all()
    assert lesson.slopes.shape == (3,) and "sides of theorem 1" in lesson.summary()
    order_sensitivity_measures.verify()


def test_the_figure(lesson):
    fig = figures.order_sensitivity(lesson)
    assert len(fig.axes) == len(CASES) + 2
    assert fig.axes[0].get_yscale() == "log" and len(fig.axes[0].lines) >= 9
    plt.close(fig)


@pytest.mark.parametrize(
    "name",
    ["full_batch_has_no_order", "one_batch_is_descent", "averaged_context_has_no_order",
     "swap_is_second_order"],
)  # fmt: skip
def test_identities_hold(name):
    assert getattr(claims, name)(Scale.LESSON).verdict == "holds"


def test_claims_rest_on_what_was_measured(lesson):
    above = claims.context_above_sgd(Scale.LESSON)
    assert above.samples[1] == 3 * lesson.context.size
    rows = [name for name in lesson.learners if name.startswith("SGD")]
    last = np.stack([lesson.of(name)[..., -1] for name in rows])
    assert above.measured == pytest.approx((lesson.context / last).min())
    all_along = claims.context_above_from_the_start(Scale.LESSON)
    assert all_along.measured <= above.measured
    assert claims.order_leaves_accuracy(Scale.LESSON).samples[1] == lesson.context.size


def test_the_same_study_on_a_pretrained_model(tmp_path, tokenizer_of):
    transformers = pytest.importorskip("transformers")
    reviews = [
        {"text": f"{how} film number {i}", "label": label}
        for i in range(5)
        for label, how in enumerate(("a dull", "a warm and funny"))
    ]
    (tmp_path / "sst2.jsonl").write_text("\n".join(map(json.dumps, reviews)))
    texts = [f"Review: {r['text']}\nSentiment: {w}\n\n" for r in reviews
             for w in ("positive", "negative")]  # fmt: skip
    tokenizer = tokenizer_of(texts)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    settings = {
        "model": str(tmp_path / "model"), "data": str(tmp_path),
        "cases": (("sst2", "a quarter wrong"),), "n": 4, "n_orders": 3, "n_queries": 4,
        "epochs": 2, "every": 1, "rates": (), "seeds": (0,),
    }  # fmt: skip
    result = run_experiment("order_sensitivity", changes=settings, device="cpu").result
    assert result.tuned.shape == (1, 8, 1, 3) and result.one_pass.shape == (1, 0)
    assert result.context.item() > 0 and result.of(FULL_BATCH).max() < 1e-5
    assert result.of("Adam, rate .001")[..., -1].item() > 1e-5


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"every": 3}, "does not divide epochs"),
        ({"n_orders": 1}, "n_orders"),
        ({"cases": (("weather", "gold"),)}, "cases: got 'weather'"),
        ({"cases": (("kind", "purple"),)}, "cases: got 'purple'"),
        ({"rates": (0.0,)}, "rates"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        OrderSensitivityConfig(**changes)


def test_a_pretrained_model_is_asked_about_the_four_data_sets():
    cases = OrderSensitivityConfig(model="gpt2").cases
    assert [task for task, _ in cases] == ["agnews", "sst2", "cb", "rte"]
