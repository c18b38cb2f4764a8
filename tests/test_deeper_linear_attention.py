"""The experiment on stacks of linear attention, its stored weights, and the claims on it."""

import dataclasses
import json

import numpy as np
import pytest
from torch.testing import assert_close

from icl_lessons import declare
from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.gradient_descent.claims import curvature as claims
from icl_lessons.gradient_descent.experiments.curvature import (
    DeeperLinearAttentionConfig,
    damped_descent_losses,
    deeper_linear_attention,
)
from icl_lessons.gradient_descent.experiments.curvature_stacks import (
    Stack,
    StackTraining,
    stack_models,
    trained_stacks,
)
from icl_lessons.gradient_descent.spectra import eigenvalue_bank, loss_of
from icl_lessons.ledger import run_experiment
from icl_lessons.runtime import Scale
from icl_lessons.tasks.regression import von_oswald_task

TINY = DeeperLinearAttentionConfig(
    d=4,
    n_context=6,
    stacks=(
        Stack(1, True, 6, 3e-3),
        Stack(2, True, 6, 3e-3),
        Stack(2, False, 6, 3e-3, token_clip=10.0),
    ),
    batch_size=16,
    seeds=(4, 5),
    n_validation=64,
    measurements=3,
    depths=(1, 2),
    bank_contexts=50,
    reach=1.3,
    input_scales=(1.0, 1.5),
    repetitions=3,
    n_repeat=32,
)


@pytest.fixture(scope="module")
def lesson():
    declared = declare.EXPERIMENTS["deeper_linear_attention"]
    return declared.run(declared.configs[Scale.LESSON])


def test_the_lessons_weights_are_stored_with_their_recipe():
    assert trained_stacks.is_stored(DeeperLinearAttentionConfig().training)
    assert trained_stacks.path.stat().st_size < 1_000_000
    trained_stacks.verify()


def test_shared_layers_reach_plus_plus_and_leave_descent_behind(lesson):
    i = lesson.index(2, shared=True)
    assert len(lesson.loss[i]) >= 3
    assert (lesson.loss[i] < 1.03 * lesson.plus_plus_loss[i]).all()
    assert (lesson.loss[i] < 0.8 * lesson.descent_loss[i]).all()
    assert (lesson.cosine_plus_plus[i] > lesson.cosine_descent[i]).all()
    assert (abs(lesson.gamma_read / 0.179 - 1) < 0.2).all()


def test_one_layer_is_one_step_and_depth_helps(lesson):
    one, two, three = (lesson.loss[lesson.index(k, shared=False)] for k in (1, 2, 3))
    assert (abs(one / lesson.descent_loss[0] - 1) < 0.02).all()
    assert two.max() < lesson.loss[lesson.index(2, shared=True)].min()
    assert three.mean() < 0.9 * two.mean()
    assert_close(lesson.loss_curve[:, :, -1], lesson.loss, rtol=1e-4, atol=1e-6)


def test_the_sampled_losses_of_the_textbook_methods_are_the_banks(lesson):
    for i, layers in enumerate(lesson.layers):
        at = lesson.depths.index(layers)
        best = lesson.plus_plus_shared if lesson.shared[i] else lesson.plus_plus_separate
        assert lesson.descent_loss[i] == pytest.approx(lesson.descent_shared[at].loss, rel=0.06)
        assert lesson.plus_plus_loss[i] == pytest.approx(best[at].loss, rel=0.06)


def test_repetition_diverges_undamped_and_converges_damped(lesson):
    lost = dict(zip(lesson.dampings, lesson.damped_lost, strict=True))
    assert (lost[1.0] > 0.01).all() and (lost[0.75] < 0.001).all()
    median = lesson.damped_median[lesson.dampings.index(0.75)]
    assert (median[:, -1] < 0.2 * median[:, 1]).all()
    exact = lesson.damped_exact[:, -1]
    assert exact[0] > 10 * lesson.zero_loss and exact[-1] < 0.2 * lesson.zero_loss


def test_every_claim_has_the_verdict_that_the_book_discusses(lesson):
    own = [c for c in CLAIMS.values() if c.check.__module__ == claims.__name__]
    assert len(own) >= 14 and all(c.chapter == "gradient_descent/deeper" for c in own)
    expected = VERDICTS
    for record in own:
        evidence = record.check(Scale.LESSON)
        assert evidence.verdict == expected.get(record.id, Verdict.HOLDS), record.id
        if record.kind == "identity":
            assert evidence.bound <= declare.IDENTITY_BOUND


VERDICTS = {
    "vonoswald2023-deeper-extrapolation": Verdict.IN_PART,
    "vonoswald2023-three-separate-layers": Verdict.FAILS,
    "vonoswald2023-damped-repetition": Verdict.IN_PART,
    "vonoswald2023-k-trained-layers": Verdict.FAILS,
}


def test_damped_descent_is_a_power_of_one_step():
    bank = eigenvalue_bank(von_oswald_task(4), 6, 50)
    got = damped_descent_losses(bank, 0.3, 4)
    assert got[0] == pytest.approx(bank.loss_of_zero)
    assert got[3] == pytest.approx(loss_of(bank, [6 * 0.3] * 3))


def test_a_small_run_trains_is_written_and_drawn(tmp_path, monkeypatch):
    declared = declare.EXPERIMENTS["deeper_linear_attention"]
    monkeypatch.setitem(
        declare.EXPERIMENTS,
        "deeper_linear_attention",
        dataclasses.replace(declared, configs={scale: TINY for scale in Scale}),
    )
    run_experiment("deeper_linear_attention", device="cpu", out=tmp_path)
    written = json.loads((tmp_path / "deeper_linear_attention.lesson.json").read_text())["result"]
    assert np.array(written["loss"]).shape == (3, 2)
    assert np.array(written["damped_loss"]).shape == (3, 2, 4)
    assert "bank" not in written and "models" not in written
    assert (tmp_path / "deeper_linear_attention.lesson.svg").stat().st_size > 10_000


def test_the_tensors_of_a_recipe_make_the_models_again():
    result = deeper_linear_attention(TINY)
    state = trained_stacks(TINY.training)
    for stack, row in zip(TINY.stacks, result.models, strict=True):
        batch = TINY.validation()
        for model, again in zip(row, stack_models(state, TINY.training, stack), strict=True):
            assert_close(model(*batch.context), again(*batch.context), rtol=0, atol=0)
        assert again.clip == stack.token_clip
    assert "3 layers" not in result.summary() and "2 layers, separate" in result.summary()
    with pytest.raises(ValueError, match="layers: no stack of 3"):
        result.index(3, shared=True)


@pytest.mark.parametrize("bad", [{"d": 0}, {"half_range": -1.0}, {"seeds": ()}, {"stacks": ()}])
def test_a_wrong_setting_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        StackTraining(**bad)
    with pytest.raises(ValueError, match="layers: got 0"):
        Stack(0, True, 5, 1e-3)
