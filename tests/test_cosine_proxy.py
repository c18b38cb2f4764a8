"""The cosine as a proxy: closed forms, the learned value maps, the experiment."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.mesa_optimization.claims import cosine_proxy as claims  # noqa: F401
from icl_lessons.mesa_optimization.cosine_proxy import (
    LearnedValues,
    UnitVectors,
    agreement_at,
    inner_learner,
    inner_path,
    random_rotations,
    scores,
    turned,
    value_agreement,
    value_alignment,
)
from icl_lessons.mesa_optimization.experiments.cosine_proxy import (
    CosineProxyConfig,
    CosineProxyTraining,
    cosine_proxy,
    cosine_proxy_weights,
)
from icl_lessons.mesa_optimization.figures import cosine_proxy as figures
from icl_lessons.runtime import Scale, seeded

DOUBLE = {"dtype": torch.float64}


@given(st.floats(0.01, 3.1), st.floats(0.05, 20.0), st.floats(0.2, 5.0))
@settings(max_examples=15, deadline=None)
def test_agreement_in_the_plane(angle, scale, length):
    p = torch.tensor([length, 0.0], **DOUBLE)
    y = scale * length * torch.tensor([math.cos(angle), math.sin(angle)], **DOUBLE)
    tangent, residual = torch.tensor([0.0, 1.0], **DOUBLE), y - p
    expected = (tangent @ residual / residual.norm()).item()
    assert value_agreement(p, y).item() == pytest.approx(expected, abs=1e-9)
    assert agreement_at(angle, scale).item() == pytest.approx(expected, abs=1e-9)


def test_tasks_have_the_length_they_say_and_share_their_draws():
    short, long = (
        UnitVectors(d=4, target_scale=s, n_query=3).sample(5, 7, generator=seeded(1), **DOUBLE)
        for s in (1.0, 3.0)
    )
    assert_close(short.ys.norm(dim=-1), torch.ones(5, 7, **DOUBLE))
    assert_close(long.y_query, 3 * short.y_query)
    assert_close(long.xs, short.xs)
    assert_close(short.x_query @ short.weights.mT, short.y_query)
    with pytest.raises(ValueError, match="d: got 1"):
        UnitVectors(d=1)


def test_a_turn_is_orthogonal_and_as_large_as_asked():
    start = random_rotations(200, 4, generator=seeded(2), **DOUBLE)
    moved = turned(start, 0.1, generator=seeded(3))
    assert_close(moved.mT @ moved, torch.eye(4, **DOUBLE).expand(200, -1, -1))
    x = torch.randn(200, 4, 1, generator=seeded(4), **DOUBLE)
    cosine = torch.nn.functional.cosine_similarity(start @ x, moved @ x, dim=1)
    assert cosine.clamp(-1, 1).acos().square().mean().sqrt().item() == pytest.approx(0.1, rel=0.1)


def test_the_cosine_learner_is_blind_to_length_and_the_squared_one_is_not():
    batch = UnitVectors(d=3).sample(4, 6, generator=seeded(5), **DOUBLE)
    start = random_rotations(4, 3, generator=seeded(6), **DOUBLE)
    for name, blind in (("cosine", True), ("squared", False)):
        learner = inner_learner(name, 0.4, 5, start)
        once = learner(*batch.context)
        longer = learner(batch.xs, 3 * batch.ys, batch.x_query)
        assert torch.allclose(once, longer, atol=1e-12) == blind
        path = inner_path(name, 0.4, 5, start, batch)
        assert tuple(path[-1].tolist()) == pytest.approx(scores(once, batch.y_query), abs=1e-6)
        assert path.shape == (6, 2)


def test_each_step_on_the_cosine_lengthens_the_weights_by_pythagoras():
    batch = UnitVectors(d=3).sample(4, 6, generator=seeded(7), **DOUBLE)
    start = 0.7 * random_rotations(4, 3, generator=seeded(8), **DOUBLE)
    after = inner_learner("cosine", 0.4, 1, start)(
        batch.xs, batch.ys, torch.eye(3, **DOUBLE).expand(4, -1, -1)
    ).mT
    step = after - start
    assert (start * step).sum((1, 2)).abs().max() < 1e-12
    assert (after.square().sum((1, 2)) > start.square().sum((1, 2))).all()


def test_learned_values_are_layers_like_any_other():
    model = LearnedValues(2, hidden=4, steps=2).double()
    batch = UnitVectors(d=2).sample(3, 5, generator=seeded(9), **DOUBLE)
    start = random_rotations(3, 2, generator=seeded(10), **DOUBLE)
    w = start
    for _ in range(2):
        v = model.value(batch.xs @ w.mT, batch.ys)
        w = w + torch.einsum("bnm,bnd->bmd", v, batch.xs) / 5
    assert_close(model(*batch.context, start), batch.x_query @ w.mT)


def test_alignment_recognises_the_squared_loss():
    class Squared(LearnedValues):
        def value(self, prediction, target):
            return 0.3 * (target - prediction)

    batch = UnitVectors(d=3).sample(20, 6, generator=seeded(11), **DOUBLE)
    start = random_rotations(20, 3, generator=seeded(12), **DOUBLE)
    found = value_alignment(Squared(3), batch, start)
    assert found["squared"] == pytest.approx(1, abs=1e-9) and found["cosine"] < 0.95
    assert found["radial"] > 0.05


def test_the_experiment_runs_from_stored_weights():
    assert cosine_proxy_weights.is_stored(CosineProxyTraining())
    result = cosine_proxy(CosineProxyConfig(contexts=12, steps=80, scales=(1.0, 3.0)))
    assert (result.agreement[:, 0] > 0.99).all() and (result.agreement[:, 1] < 0.25).all()
    assert (result.final_cosine[1, 0] > 0.999).all()
    assert (result.final_error[1, :, :, 1] > 3).all()
    assert (result.final_error[0] < 0.1).all() and result.detected.all()
    assert (result.trained_squared[1] > result.trained_as_cosine[1]).all()
    assert (result.trained_error[1] > 3 * result.trained_error[0]).all()
    assert "cosine learner" in result.summary()
    assert len(figures.cosine_proxy(result).axes) == 4
    with pytest.raises(ValueError, match="scales"):
        CosineProxyConfig(scales=(2.0,))


@pytest.mark.parametrize(
    "name",
    ["survey-cosine-agreement", "survey-cosine-blind-to-length", "survey-cosine-length-grows"],
)
def test_identities_hold(name):
    assert CLAIMS[name].check(Scale.LESSON).verdict == Verdict.HOLDS
