"""The decoder as a learner: what it may see, what it must not, and what it refuses."""

import dataclasses
import itertools

import pytest
import torch
from torch.testing import assert_close

from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import seeded

BATCH, N, D, M, QUERIES = 3, 6, 4, 2, 5
SHAPES = [
    dict(layout=layout, attention=attention, **rest)
    for (layout, attention), rest in itertools.product(
        [("pair", "softmax"), ("pair", "linear"), ("interleaved", "softmax")],
        [dict(), dict(mlp_ratio=0, layer_norm=None), dict(positions="learned", activation="gelu")],
    )
] + [dict(layout="interleaved", attention="linear", positions="learned", activation="relu")]


def make(layers: int = 2, **changes) -> Transformer:
    config = TransformerConfig(d=D, m=M, width=8, heads=2, layers=layers, max_context=N, **changes)
    return Transformer(config, generator=seeded(3)).double()


def context(n: int = N):
    generator = seeded(5)
    draw = dict(generator=generator, dtype=torch.float64)
    xs, ys = torch.randn(BATCH, n, D, **draw), torch.randn(BATCH, n, M, **draw)
    return xs, ys, torch.randn(BATCH, QUERIES, D, **draw)


@pytest.mark.parametrize("changes", SHAPES, ids=lambda c: "-".join(map(str, c.values())))
def test_a_prefix_prediction_is_the_learner_on_that_prefix(changes):
    model, (xs, ys, _) = make(**changes), context()
    together = model.predict_prefixes(xs, ys)
    assert together.shape == (BATCH, N, M)
    for i in range(1, N):
        alone = model(xs[:, :i], ys[:, :i], xs[:, i : i + 1])
        assert_close(together[:, i], alone[:, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("changes", SHAPES, ids=lambda c: "-".join(map(str, c.values())))
def test_no_prediction_sees_its_own_target_or_a_later_one(changes):
    model, (xs, ys, _) = make(**changes), context()
    before = model.predict_prefixes(xs, ys)
    for i in range(N):
        changed = ys.clone()
        changed[:, i] += 1
        after = model.predict_prefixes(xs, changed)
        assert torch.equal(after[:, : i + 1], before[:, : i + 1])
        if i + 1 < N:
            assert (after[:, i + 1 :] - before[:, i + 1 :]).abs().amax() > 1e-6


@pytest.mark.parametrize("layout", ["pair", "interleaved"])
def test_a_later_input_is_not_seen_either(layout):
    model, (xs, ys, _) = make(layout=layout), context()
    changed = xs.clone()
    changed[:, 3] += 1
    before, after = model.predict_prefixes(xs, ys), model.predict_prefixes(changed, ys)
    assert torch.equal(after[:, :3], before[:, :3])
    assert (after[:, 3] - before[:, 3]).abs().max() > 1e-6


@pytest.mark.parametrize("changes", SHAPES, ids=lambda c: "-".join(map(str, c.values())))
def test_queries_do_not_see_one_another(changes):
    model, (xs, ys, x_query) = make(**changes), context()
    together = model(xs, ys, x_query)
    assert together.shape == (BATCH, QUERIES, M)
    one_by_one = [model(xs, ys, x_query[:, q : q + 1]) for q in range(QUERIES)]
    assert_close(together, torch.cat(one_by_one, 1), rtol=1e-10, atol=1e-12)


def test_one_pair_layer_forgets_the_order_of_the_examples_and_two_do_not():
    xs, ys, x_query = context()
    order = torch.tensor([2, 0, 5, 1, 4, 3])
    shuffled = (xs[:, order], ys[:, order], x_query)
    assert_close(make(layers=1)(*shuffled), make(layers=1)(xs, ys, x_query))
    # Example i reads only the examples up to itself, so from the second layer order shows.
    difference = make(layers=2)(*shuffled) - make(layers=2)(xs, ys, x_query)
    assert difference.abs().max() > 1e-6


def test_positions_make_order_visible():
    xs, ys, x_query = context()
    model = make(layers=1, positions="learned", init_std=0.5)
    backwards = model(xs.flip(1), ys.flip(1), x_query)
    assert (backwards - model(xs, ys, x_query)).abs().max() > 1e-6


def test_the_same_generator_gives_the_same_start_whatever_torch_drew_before():
    config = TransformerConfig(d=D)
    torch.manual_seed(1)
    first = Transformer(config, generator=seeded(4))
    torch.manual_seed(2)
    second, other = (Transformer(config, generator=seeded(s)) for s in (4, 5))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not torch.equal(first.read_in.weight, other.read_in.weight)


@pytest.mark.usefixtures("as_readers_run_it")
@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (dict(width=10, heads=3), "heads"),
        (dict(d=0), "d"),
        (dict(m=-1), "m"),
        (dict(layers=0), "layers"),
        (dict(attention="cosine"), "attention"),
        (dict(activation="tanh"), "activation"),
        (dict(layer_norm="post"), "layer_norm"),
        (dict(positions="sinusoidal"), "positions"),
        (dict(layout="joint"), "layout"),
        (dict(mlp_ratio=0.001), "mlp_ratio"),
        (dict(init_std=0.0), "init_std"),
        (dict(layout="interleaved", layers=1), "positions"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_by_name(changes, names):
    with pytest.raises(ValueError, match=f"^{names}:"):
        TransformerConfig(**{"d": D, **changes})


@pytest.mark.usefixtures("as_readers_run_it")
def test_a_context_of_the_wrong_size_is_refused_by_name():
    model, (xs, ys, x_query) = make(positions="learned"), context()
    with pytest.raises(ValueError, match="^xs: 3 coordinates; this model was made for 4"):
        model(xs[..., :3], ys, x_query[..., :3])
    with pytest.raises(ValueError, match="^ys: 1 coordinates"):
        model(xs, ys[..., :1], x_query)
    with pytest.raises(ValueError, match="max_context = 6"):
        model(*(torch.cat([t, t], 1) for t in (xs, ys)), x_query)
    with pytest.raises(ValueError, match="^xs: .*N = 0"):
        model(xs[:, :0], ys[:, :0], x_query)
    with pytest.raises(ValueError, match="NaN"):
        model(xs * torch.nan, ys, x_query)


def test_the_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransformerConfig(d=D).width = 3
