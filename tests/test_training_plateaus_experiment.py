"""Linear attention's training, run: the detector of rests, whole layers, and what was measured."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.implicit_dynamics.experiments.plateau_ranks import (
    PlateauRanksConfig,
    plateau_ranks,
    plateau_ranks_curves,
)
from icl_lessons.implicit_dynamics.experiments.sampled_plateaus import (
    SampledPlateausConfig,
    sampled_plateaus,
)
from icl_lessons.implicit_dynamics.experiments.softmax_plateaus import (
    SoftmaxPlateausConfig,
    softmax_plateaus,
    softmax_plateaus_curves,
)
from icl_lessons.implicit_dynamics.experiments.training_plateaus import (
    TrainingPlateausConfig,
    training_plateaus,
)
from icl_lessons.implicit_dynamics.figures import sampled_plateaus as sampled_figures
from icl_lessons.implicit_dynamics.figures import training_plateaus as figures
from icl_lessons.implicit_dynamics.plateau_detector import find_rests
from icl_lessons.implicit_dynamics.training_plateaus import (
    MergedHeads,
    SeparateHeads,
    gradient_flow,
    in_random_basis,
    random_heads,
    rising_spectrum,
    stack_heads,
)
from icl_lessons.implicit_dynamics.whole_attention import (
    PromptMoments,
    WholeMergedHeads,
    blocks,
    full_batch_descent,
    whole_heads,
    whole_matrices,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.attention import linear_attention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression

KINDS = st.sampled_from(["merged", "separate"])


# --- the detector -------------------------------------------------------------------------------


def staircase(falls, first=30.0, ratio=3.0, width=0.02, end=3.0):
    """Smooth drops at times a factor ``ratio`` apart, and the times themselves."""
    drops = first * ratio ** np.arange(len(falls))
    times = np.linspace(0, drops[-1] * end, 20_000)
    steps = 1 / (1 + np.exp(-np.clip((times[:, None] / drops - 1) / width, -60, 60)))
    return times, 1 + sum(falls) - steps @ np.array(falls), drops


@settings(max_examples=12, deadline=None)
@given(st.lists(st.floats(0.1, 1.0), min_size=1, max_size=5), st.floats(1e-3, 1e3))
def test_the_detector_counts_steps_in_any_unit(falls, unit):
    times, losses, drops = staircase(falls)
    found = find_rests(times * unit, losses * unit)
    assert len(found.drops) == len(falls)
    assert np.allclose(found.drops, drops * unit, rtol=0.05)
    levels = 1 + sum(falls) - np.concatenate([[0], np.cumsum(falls)])
    assert np.allclose(found.losses, levels * unit, atol=0.02 * unit)
    assert np.allclose(found.dwells.sum(), found.drops[-1])


def test_the_detector_sees_one_drop_where_there_is_no_rest():
    times = np.linspace(0, 10, 500)
    for losses in (np.exp(-times) + 1, 1 / (1 + np.exp(3 * (times - 5)))):
        assert len(find_rests(times, losses).drops) == 1
    # Two drops so close that the rest between them is no tenth of the time, then far enough.
    near, far = (staircase([0.5, 0.5], ratio=ratio, width=0.005) for ratio in (1.08, 1.3))
    assert len(find_rests(*near[:2]).drops) == 1
    assert len(find_rests(*far[:2]).drops) == 2
    # A fall of a thousandth is no drop.
    assert len(find_rests(*staircase([0.5, 0.001])[:2]).drops) == 1
    with pytest.raises(ValueError, match="times: use three or more increasing"):
        find_rests(times[::-1], times)


# --- several layers at once, and whole layers ---------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 4), KINDS, st.integers(1, 3))
def test_layers_trained_together_are_layers_trained_alone(seed, d, kind, rank):
    generator = seeded(seed)
    starts = [random_heads(kind, 3, d, 0.3, generator, rank) for _ in range(2)]
    laws = torch.stack([in_random_basis(rising_spectrum(d), generator) for _ in range(2)])
    options = {"steps": 12, "step_size": 0.3, "keep_every": 5}
    together = gradient_flow(stack_heads(starts), laws, 7, **options)
    for j, (start, law) in enumerate(zip(starts, laws, strict=True)):
        alone = gradient_flow(start, law, 7, **options)
        assert relative_error(together.losses[:, j], alone.losses) < 1e-12
        assert relative_error(together.products[:, j], alone.products) < 1e-12


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 9), KINDS, st.integers(1, 3))
def test_whole_heads_are_attention_and_their_step_is_its_gradient(seed, d, n, kind, rank):
    generator = seeded(seed)
    batch = LinearRegression(d=d).sample(6, n, generator=generator, dtype=torch.float64)
    start = whole_heads(kind, 2, d, 0.7, generator, rank=rank, other_blocks=0.5)
    leaves = {name: p.clone().requires_grad_() for name, p in vars(start).items()}
    free = type(start)(**leaves)
    tokens = joint_tokens(*batch.context)
    seen = linear_attention(tokens, *whole_matrices(free, n))[:, -1, -1]
    loss = (seen - batch.y_query[:, 0, 0]).square().mean()
    prompts = PromptMoments.of(batch, chunk=4)
    assert relative_error(prompts.loss(start.layer), loss.detach()) < 1e-10
    assert relative_error(prompts.square(start.layer), seen.detach().square().mean()) < 1e-10
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    run = full_batch_descent(start, prompts, steps=1, learning_rate=0.05)
    for name, gradient in zip(leaves, gradients, strict=True):
        assert (
            relative_error(getattr(run.heads, name), getattr(start, name) - 0.05 * gradient) < 1e-9
        )


def test_whole_heads_hold_the_theory_s_heads_and_a_mirror_image_of_them():
    d, n = 3, 8
    batch = LinearRegression(d=d).sample(5, n, generator=seeded(0), dtype=torch.float64)
    beta = (batch.ys * batch.xs).mean(1)
    prompts = PromptMoments.of(batch)
    heads = whole_heads("separate", 2, d, 0.5, seeded(1))
    theory = SeparateHeads(heads.values[:, -1], heads.keys[..., :-1], heads.queries)
    product, mirror, inputs, targets = blocks(heads.layer)
    assert relative_error(product, theory.product) < 1e-12
    assert not mirror.any() and not inputs.any() and not targets.any()
    swapped = type(heads)(heads.keys[:, 0], heads.values[:, None], heads.queries)
    assert relative_error(blocks(swapped.layer)[1], theory.product) < 1e-12
    expected = ((beta[:, None] @ theory.product @ batch.x_query.mT)[:, 0, 0]).square().mean()
    for layer in (heads.layer, swapped.layer):
        assert relative_error(prompts.square(layer), expected) < 1e-10
    assert (
        relative_error(PromptMoments.of(batch, divide=False).square(heads.layer), n**2 * expected)
        < 1e-10
    )
    merged = whole_heads("merged", 2, d, 0.5, seeded(1))
    alike = MergedHeads(merged.values[:, -1], merged.key_query[:, :-1])
    assert relative_error(blocks(merged.layer)[0], alike.product) < 1e-12
    assert isinstance(merged, WholeMergedHeads)
    with pytest.raises(ValueError, match="parametrisation: got 'both'"):
        whole_heads("both", 1, 2, 0.1, seeded(0))


# --- the experiments ----------------------------------------------------------------------------

TINY = TrainingPlateausConfig(
    separate_init=0.04,
    sizes=(0.04, 1.0),
    merged_sizes=(1e-4, 1e-2),
    steps=1600,
    merged_steps=400,
    starts=2,
    starts_size=0.1,
    n_test=50,
    noises=(0.0, 8.0),
    seeds=(1,),
)


def test_training_rests_at_the_theory_s_losses_as_regression():
    result = training_plateaus(TINY)
    assert result.levels[0][:2] == (0, 1)
    assert list(result.levels[0]) == sorted(set(result.levels[0]))
    assert np.nanmax(np.abs(result.rest_losses() / result.plateaus - 1)) < 5e-3
    assert [len(rests.drops) for rests in result.merged_rests] == [1]
    # From this start, larger than the lesson's for speed, heads are not quite aligned yet.
    assert np.nanmax(result.regression_gap) < 0.05 < np.nanmin(result.prompt_gap)
    assert result.counts[1, 0] < result.counts[0, 0]
    spread = np.abs(result.reduced_losses - result.losses)
    assert np.median(spread) < 1e-3
    # The closed form without noise is the loss of training itself.
    found = result.rest_losses()[0]
    assert np.allclose(result.noise_losses[0, :, 0], found, equal_nan=True)
    assert np.allclose(result.task_losses[0, :, 0], found, equal_nan=True)
    assert (np.nan_to_num(result.noise_losses[1] - result.noise_losses[0], nan=1)[1:] > 0).all()
    assert "|v| at the end" in result.summary()
    plt.close(figures.training_plateaus(result))


def test_whole_layers_on_prompts():
    config = SampledPlateausConfig(prompts=300, n_test=200, steps=(1400, 900), seeds=(0,))
    result = sampled_plateaus(config)
    assert result.drops()[0, 0, 0] == 1
    assert result.drops()[1, 0, 0] >= 1
    assert result.trained_loss[0, 0, 0] < 0.3 < 0.8 < result.losses[0][0, 0, 0]
    assert (result.shares[:, 0, :, 1:] < 0.1).all()
    assert "theory" in result.summary()
    plt.close(sampled_figures.sampled_plateaus(result))


def test_higher_rank_rests_less_often():
    config = PlateauRanksConfig()
    assert plateau_ranks_curves.is_stored(config)
    result = plateau_ranks(config)
    counts = [result.drops()[result.smallest(rank)].mean() for rank in (1, 2, 4)]
    assert counts[0] > 7 and counts[1:] == [4.0, 2.0]
    # Rank 4 rests where four and where eight directions are learned.
    for rests in result.rests[result.smallest(4)]:
        assert np.allclose(rests.losses, result.plateaus[[0, 4, 8]], rtol=5e-3)
    with pytest.raises(ValueError, match="rank: got 3"):
        result.smallest(3)
    plt.close(figures.plateau_ranks(result))


def test_the_stored_curves_are_what_the_recipe_makes():
    config = PlateauRanksConfig()
    quick = replace(config, runs=((4, 1e-2, 2400.0),), moments=301, step_size=4.0)
    again, stored = plateau_ranks_curves(quick), plateau_ranks_curves(config)
    run = [run[:2] for run in config.runs].index((4, 1e-2))
    for j in range(len(config.seeds)):
        at = again["times"][0].numpy()
        expected = np.interp(at, stored["times"][run].numpy(), stored["losses"][run, j].numpy())
        assert np.abs(again["losses"][0, j].numpy() - expected).max() < 0.02


def test_softmax_attention_rests_too():
    config = SoftmaxPlateausConfig()
    assert softmax_plateaus_curves.is_stored(config)
    result = softmax_plateaus(config)
    merged, separate = result.drops()
    assert (merged == 1).all() and (separate >= 3).all()
    quick = softmax_plateaus_curves(replace(config, steps=(20, 20), seeds=(0,)))
    stored = softmax_plateaus_curves(config)
    for kind in ("merged", "separate"):
        assert torch.allclose(quick[kind][0], stored[kind][0, :20], rtol=1e-3)
    assert "separate" in result.summary()
    plt.close(sampled_figures.softmax_plateaus(result))


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="sizes: got"):
        TrainingPlateausConfig(sizes=(0.5,))
    with pytest.raises(ValueError, match="d: got 3"):
        TrainingPlateausConfig(d=3)
    with pytest.raises(ValueError, match="prompts: got 4"):
        SampledPlateausConfig(prompts=4)
    with pytest.raises(ValueError, match="runs: got 0"):
        PlateauRanksConfig(runs=((0, 0.1, 1.0),))
