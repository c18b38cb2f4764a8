"""Updates used for queries they were not made for, and their pictures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from icl_lessons.declare import EXPERIMENTS
from icl_lessons.implicit_dynamics.contextual_blocks import AttentionBlock, AttentionBlockConfig
from icl_lessons.implicit_dynamics.experiments.query_swap import QuerySwapConfig, query_swap
from icl_lessons.implicit_dynamics.experiments.token_by_token import block_regressor_weights
from icl_lessons.implicit_dynamics.figures.rank_one_update import weight_and_update
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update
from icl_lessons.runtime import Scale, seeded


@pytest.fixture(scope="module")
def result():
    return query_swap(QuerySwapConfig(n_tasks=20, n_fresh=5, n_fitted=(1, 2, 3, 8)))


def test_it_trains_nothing():
    config = EXPERIMENTS["query_swap"].configs[Scale.LESSON]
    assert block_regressor_weights.is_stored(config.training)


def test_the_error_grows_from_the_query_of_the_update(result):
    assert result.swapped.shape == (3, len(result.distances))
    assert result.swapped[:, 0].max() < 1e-12 < 0.5 < result.unchanged.min()
    assert (np.diff(result.swapped, axis=1) > 0).all()


def test_one_change_serves_as_many_queries_as_an_input_has_coordinates(result):
    assert (result.rank == [[1, 2, 2, 2]] * 3).all()
    assert result.own[:, :2].max() < 1e-10 < 1e-3 < result.own[:, 2:].min()
    assert (result.fresh[:, 0] > 3 * result.fresh[:, 3]).all()
    assert "fitted to 8" in result.summary()


def test_figures(result):
    config = EXPERIMENTS["query_swap"]
    fig = config.figure(result)
    assert [ax.get_title(loc="left") for ax in fig.axes] == [
        "One query's update",
        "One change for several",
    ]
    plt.close(fig)
    block = AttentionBlock(AttentionBlockConfig(width=5, hidden=9)).requires_grad_(False)
    tokens = torch.randn(1, 4, 5, generator=seeded(0), dtype=torch.float64)
    update = implicit_update(block, tokens[:, :-1], tokens[:, -1])
    fig = weight_and_update(block.dense_weight, update.left[0], update.right[0])
    shown = fig.axes[2].lines[0].get_ydata()
    assert shown[0] == 1 and max(shown[1:]) < 1e-12  # rank one
    plt.close(fig)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="n_fitted: got 0"):
        QuerySwapConfig(n_fitted=(0,))
    with pytest.raises(ValueError, match="distances: got -1"):
        QuerySwapConfig(distances=(-1,))
