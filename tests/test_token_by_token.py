"""The controls of the token-by-token path: what each field of the result measures."""

import numpy as np
import pytest
import torch

from icl_lessons.declare import EXPERIMENTS
from icl_lessons.implicit_dynamics.experiments.linear_block import LinearBlockTraining
from icl_lessons.implicit_dynamics.experiments.token_controls import (
    COMPARED,
    CONDITIONS,
    TEST_SEED,
    TokenControlsConfig,
)
from icl_lessons.implicit_dynamics.token_path import token_path
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import Scale, seeded
from icl_lessons.zoo import stored_recipe

TINY = TokenControlsConfig(
    n_context=12,
    steps=2,
    width=8,
    heads=2,
    hidden=16,
    n_tasks=40,
    prefixes=(1, 6, 12),
    full_batch_steps=3,
    n_directions=6,
    n_fresh=4,
    n_paths=3,
    n_long=60,
    long_nets=2,
    long_tasks=20,
    seeds=(3,),
)


@pytest.fixture(scope="module")
def tiny():
    return EXPERIMENTS["token_controls"].run(TINY)


def test_what_an_average_does_to_the_steps_of_blocks_hardly_trained(tiny):
    assert tiny.loss.shape == (6, 1, 13) and tiny.increments.shape == (6, 1, 12)
    assert tiny.turns.shape == (6, 1, 11) and tiny.conditions == CONDITIONS
    slopes = {name: tiny.slope(tiny.increments[i])[0] for i, name in enumerate(CONDITIONS)}
    assert -1.5 < slopes["untrained"] < -0.5
    assert slopes["one example repeated"] < slopes["trained"] - 0.4
    assert abs(slopes["linear attention, untrained"]) < 0.6
    assert (tiny.slope(tiny.long_increments) < -0.8).all()
    assert (tiny.slope(tiny.long_repeated) < tiny.slope(tiny.long_increments)).all()
    line = np.array([[1.0 / i for i in range(1, 13)]])
    assert tiny.slope(line) == pytest.approx([-1.0])


def test_the_losses_are_those_of_the_block_with_its_context(tiny):
    model = TINY.training.untrained(3).double().requires_grad_(False)
    batch = TINY.task.sample(40, 12, generator=seeded(TEST_SEED), dtype=torch.float64)
    for i in (0, 5, 12):
        answer = model(batch.xs[:, :i], batch.ys[:, :i], batch.x_query)
        loss = 0.5 * (answer - batch.y_query).square().mean().item()
        assert tiny.loss[tiny.of("untrained"), 0, i] == pytest.approx(loss, rel=1e-9)
    path = token_path(model.block, *model.tokens(*batch.context))
    assert tiny.increments[1, 0] == pytest.approx(path.increments.mean(0).numpy())
    unit = (path.weights[:, 1:] - path.weights[:, :1]).flatten(2)
    unit = unit / unit.norm(dim=-1, keepdim=True)
    turns = (unit[:, 1:] - unit[:, :-1]).norm(dim=-1).mean(0)
    assert tiny.turns[1, 0] == pytest.approx(turns.numpy(), abs=1e-9)


def test_directions_and_paths(tiny):
    assert tiny.cosine.shape == (2, len(COMPARED), 1, 3) and (np.abs(tiny.cosine) <= 1).all()
    last = tiny.cosine[:, COMPARED.index("fine-tuned to the task's gradient")]
    assert (last > 0.2).all()
    assert tiny.ranks[0] == 1 and tiny.ranks[1] > 1
    assert tiny.shares.sum(-1).max() <= 1 + 1e-9 and (tiny.lengths > 0).all()
    assert np.abs(tiny.plane[:, 0]).max() < 1e-12  # both paths begin at W_0
    assert (tiny.full_batch_step <= TINY.full_batch_steps).all()
    # Before the first step nothing is read: the best step is as good as that or better.
    nothing = tiny.full_batch[0][tiny.full_batch_step[0] == 0]
    assert np.unique(nothing).size <= 1 and (tiny.full_batch <= nothing.max(initial=np.inf)).all()


def test_the_figure_and_the_summary_come_from_the_result(tiny):
    assert len(EXPERIMENTS["token_controls"].figure(tiny).axes) == 4
    assert "linear attention, trained" in tiny.summary()


def test_the_stored_blocks_of_linear_attention():
    recipe = stored_recipe("linear_block_regressor")
    configured = EXPERIMENTS["token_controls"].configs[Scale.LESSON]
    assert recipe.is_stored(configured.linear_training)
    assert stored_recipe("block_regressor").is_stored(configured.training)
    assert max(measured for measured, _ in recipe.verify().values()) < 0.15


def test_the_linear_block_starts_with_small_scores():
    config = LinearBlockTraining(width=8, heads=2, hidden=16)
    model = config.build(seeded(0)).requires_grad_(False)
    assert model.block.config.attention == "linear"
    batch = config.task.sample(4, 5, generator=seeded(1))
    context, query = model.tokens(*batch.context)
    whole = model.block.attend(context, query)
    parts = [model.block.attend(context[:, i : i + 1], query) for i in range(5)]
    alone = model.block.attend(context[:, :0], query)
    # A sum: each token adds its own term, whatever else is read.
    assert relative_error(sum(part - alone for part in parts) + alone, whole) < 1e-5


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="prefixes"):
        TokenControlsConfig(prefixes=(31,))
    with pytest.raises(ValueError, match="n_directions"):
        TokenControlsConfig(n_directions=0)
    with pytest.raises(ValueError, match="learning_rate_one"):
        TokenControlsConfig(learning_rate_one=0.0)
