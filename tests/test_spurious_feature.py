"""The task with a cue: what each mode ties together, and what no mode changes."""

import pytest
import torch

from icl_lessons.runtime import seeded
from icl_lessons.tasks.spurious_feature import MODES, SpuriousFeature


def draw(mode, batch=4000, n=6, **fields):
    task = SpuriousFeature(d=3, mode=mode, n_query=2, **fields)
    return task, task.sample(batch, n, generator=seeded(1), dtype=torch.float64)


def slope(s, y):
    """Of the cue on the target, over all contexts."""
    return ((s * y).mean() / (y * y).mean()).item()


@pytest.mark.parametrize("mode", MODES)
def test_targets_depend_on_core_inputs_alone(mode):
    _, batch = draw(mode)
    assert batch.xs.shape == (4000, 6, 4) and batch.x_query.shape == (4000, 2, 4)
    assert torch.allclose(batch.ys, batch.xs @ batch.weights.mT, atol=1e-14)
    assert torch.allclose(batch.y_query, batch.x_query @ batch.weights.mT, atol=1e-14)
    assert torch.allclose(batch.weights[..., :3].norm(dim=-1), torch.ones(1).double())
    assert (batch.weights[..., 3] == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_modes_differ_in_the_cue_alone(mode):
    _, one = draw("corr")
    _, other = draw(mode)
    assert torch.equal(one.ys, other.ys) and torch.equal(one.y_query, other.y_query)
    assert torch.equal(one.xs[..., :3], other.xs[..., :3])


@pytest.mark.parametrize(
    ("mode", "context", "query"),
    [
        ("corr", 1, 1),
        ("anti", -1, -1),
        ("dec", 0, 0),
        ("queryflip", 1, -1),
        ("querydec", 1, 0),
        ("mixed", 0.3, 0.3),
    ],
)
def test_the_cue_follows_as_the_mode_says(mode, context, query):
    task, batch = draw(mode, cue_scale=0.5, noise_std=0.7, share=0.3)
    assert slope(batch.xs[..., 3:], batch.ys) == pytest.approx(0.5 * context, abs=0.02)
    assert slope(batch.x_query[..., 3:], batch.y_query) == pytest.approx(0.5 * query, abs=0.03)
    everywhere = torch.cat([batch.xs, batch.x_query], 1)[..., 3]
    assert everywhere.var().item() == pytest.approx(task.cue_variance, rel=0.03)
    assert batch.ys.var().item() == pytest.approx(task.target_variance, rel=0.03)


def test_a_mixture_holds_whole_contexts_of_either_kind():
    _, batch = draw("mixed", cue_noise=0.0, share=0.25)
    equal = (batch.xs[..., 3:] == batch.ys).squeeze(-1)
    assert torch.equal(equal.all(1), equal.any(1))
    assert equal.all(1).double().mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"d": 0}, "d:"),
        ({"d": 2, "mode": "flip"}, "mode"),
        ({"d": 2, "cue_scale": 0.0}, "cue_scale"),
        ({"d": 2, "cue_noise": -1.0}, "cue_noise"),
        ({"d": 2, "share": 1.5}, "share"),
        ({"d": 2, "n_query": 0}, "n_query"),
    ],
)
@pytest.mark.usefixtures("as_readers_run_it")
def test_bad_settings_are_named(fields, names):
    with pytest.raises(ValueError, match=names):
        SpuriousFeature(**fields)


def test_empty_contexts_are_refused():
    with pytest.raises(ValueError, match="n_context"):
        SpuriousFeature(d=2).sample(3, 0, generator=seeded(0))
