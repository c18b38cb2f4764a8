"""Trained models of sequences: what they are held against, how they are read, what is claimed."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons import declare
from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.mesa_optimization.claims import sequence_blocks, trained_sequences
from icl_lessons.mesa_optimization.experiments.few_shot_sequences import (
    FewShotSequencesConfig,
    FewShotTuning,
    few_shot_sequences,
)
from icl_lessons.mesa_optimization.experiments.interpolated_weights import (
    InterpolatedWeightsConfig,
    interpolated_weights,
)
from icl_lessons.mesa_optimization.experiments.sequence_depth import (
    PairsModel,
    SequenceDepthConfig,
    SequenceDepthTraining,
    sequence_depth,
)
from icl_lessons.mesa_optimization.experiments.sequence_hybrids import (
    RawModel,
    SequenceHybridsConfig,
    SequenceHybridsTraining,
    sequence_hybrids,
)
from icl_lessons.mesa_optimization.experiments.sequence_probes import (
    SequenceProbesConfig,
    sequence_probes,
)
from icl_lessons.mesa_optimization.sequence_construction import (
    next_step_descent,
    next_step_least_squares,
    overlapping_prompt,
)
from icl_lessons.mesa_optimization.trained_sequences import (
    SeparatedPrompts,
    TunedSolver,
    best_regularization,
    best_step_size,
    block_shares,
    compressed,
    constructed_products,
    first_attention,
    from_second,
    layer_from,
    mixed,
    next_state_loss,
    position_losses,
    products_of,
    prompt_loss,
    without_small_blocks,
)
from icl_lessons.models.state_sequence import StateTransformer, StateTransformerConfig
from icl_lessons.runtime import seeded
from icl_lessons.tasks.dynamics import FewShotPrompts, Sequences
from icl_lessons.zoo import stored_recipe

EXPERIMENTS = {
    "sequence_depth": (sequence_depth, SequenceDepthConfig()),
    "sequence_hybrids": (sequence_hybrids, SequenceHybridsConfig()),
    "sequence_probes": (sequence_probes, SequenceProbesConfig()),
    "interpolated_weights": (interpolated_weights, InterpolatedWeightsConfig()),
    "few_shot_sequences": (few_shot_sequences, FewShotSequencesConfig()),
}


def states_of(seed, batch=3, length=8, d=3):
    return torch.randn(batch, length, d, generator=seeded(seed), dtype=torch.float64)


def pairs_model(seed, d=3, copies=1, **changes):
    options = {"tokens": "pairs", "blocks": ("linear",), "copies": copies, "init_std": 0.5}
    shape = StateTransformerConfig(d=d, max_length=8, **(options | changes))
    return StateTransformer(shape, generator=seeded(seed)).double()


def raw_model(seed=0, **changes):
    options = {"blocks": ("softmax", "softmax"), "width": 8, "heads": 2, "max_length": 11}
    shape = StateTransformerConfig(d=3, **(options | changes))
    return StateTransformer(shape, generator=seeded(seed)).double()


# --- losses and references ----------------------------------------------------------------------


def test_losses_leave_out_what_has_no_target():
    states = states_of(0)
    said = 0.5 * states  # the model "half the current state", one prediction at a time
    expected = [
        np.mean([0.5 * np.sum((said[b, t] - states[b, t + 1]).numpy() ** 2) for b in range(3)])
        for t in range(7)
    ]
    losses = position_losses(lambda seen: 0.5 * seen, states)
    assert np.abs(losses.numpy() - expected).max() < 1e-13
    whole = next_state_loss(lambda seen: 0.5 * seen, Sequences(states, states[:, :3]))
    assert whole.item() == pytest.approx(np.mean(expected), abs=1e-13)
    assert from_second(losses).item() == pytest.approx(np.mean(expected[1:]), abs=1e-13)


def test_no_other_step_predicts_better_than_the_best():
    states = states_of(1, batch=20)
    best = best_step_size(states)

    def loss(size):
        said = next_step_descent(states[:, :-1], size)[1]
        return (said - states[:, 1:]).square().sum().item()

    assert all(loss(best) < loss(other) for other in (0.5 * best, 0.99 * best, 1.01 * best))


def test_the_regularization_chosen_predicts_best_once_a_transition_was_seen():
    states, candidates = states_of(2, batch=20), (0.01, 1.0, 30.0)
    losses = [
        position_losses(lambda seen, c=c: next_step_least_squares(seen, c), states)[1:].mean()
        for c in candidates
    ]
    expected = candidates[int(torch.stack(losses).argmin())]
    assert best_regularization(states, candidates) == expected
    assert best_regularization(states, candidates[::-1]) == expected


@given(seed=st.integers(0, 2**31), d=st.integers(1, 4), length=st.integers(1, 7))
@settings(max_examples=6, deadline=None)
def test_a_solver_without_steps_is_one_step_and_with_many_it_is_least_squares(seed, d, length):
    states = 0.5 * states_of(seed, 2, length, d)
    one = TunedSolver(0, clamp=1e9).double()
    with torch.no_grad():
        one.log_read_out.fill_(np.log(0.3))
        assert_close(one(states), next_step_descent(states, 0.3)[1], rtol=0, atol=1e-12)
        largest = max(torch.linalg.eigvalsh(s.mT @ s).max().item() for s in states) + 0.5
        many = TunedSolver(1, clamp=1e9).double()
        many.steps = 1500
        many.log_step_size.fill_(np.log(1 / largest))
        many.log_penalty.fill_(np.log(0.5))
        many.log_read_out.zero_()
        error = (many(states) - next_step_least_squares(states, 2.0)).abs().max()
    assert error < 1e-9 or largest > 25  # too wide a spectrum for so many steps


def test_own_steps_equal_a_shared_one_where_they_agree_and_a_clamp_limits():
    states = states_of(2)
    shared, own = TunedSolver(3).double(), TunedSolver(3, shared=False).double()
    assert own.log_step_size.shape == (3,) and shared.log_step_size.shape == (1,)
    with torch.no_grad():
        assert (shared(states) - own(states)).abs().max() > 1e-6
        own.log_step_size.copy_(shared.log_step_size.expand(3))
        assert_close(shared(states), own(states), rtol=0, atol=0)
        assert TunedSolver(3, clamp=0.01).double()(40 * states).abs().max() <= 0.01
    with pytest.raises(ValueError, match="steps: got -1"):
        TunedSolver(-1)


# --- reading a layer ----------------------------------------------------------------------------


@given(seed=st.integers(0, 2**31), d=st.integers(1, 4), copies=st.integers(1, 2))
@settings(max_examples=12, deadline=None)
def test_a_layer_is_its_products_at_any_scale(seed, d, copies):
    model, states = pairs_model(seed % 1000, d, copies), states_of(seed, 2, 6, d)
    products = products_of(model)
    assert products.key_query.shape == (2 + copies, 2 + copies, d, d)
    assert products.key_query[-1, 1].diagonal().mean().item() == pytest.approx(1)
    again = layer_from(products, max_length=8, clamp=10.0)
    assert_close(again(states), model(states).detach(), rtol=1e-9, atol=1e-9)
    same = products_of(again)
    assert_close(same.projection_value, products.projection_value, rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 2**31), d=st.integers(1, 4), size=st.floats(0.0, 0.5))
@settings(max_examples=8, deadline=None)
def test_the_constructed_products_take_one_step(seed, d, size):
    states = states_of(seed, 2, 6, d)
    construction = constructed_products(d, size, torch.float64)
    for products in (
        construction,
        compressed(construction),
        without_small_blocks(construction),
        mixed(construction, construction, 0.3),
    ):
        model = layer_from(products, max_length=8, clamp=None)
        assert_close(model(states), next_step_descent(states, size)[1], rtol=0, atol=1e-11)


def test_compression_keeps_identities_and_nothing_else():
    products = products_of(pairs_model(5))
    for before, after in zip(products, compressed(products), strict=True):
        for row, column in np.ndindex(3, 3):
            mean = before[row, column].diagonal().mean()
            assert_close(after[row, column], mean * torch.eye(3).double(), rtol=0, atol=1e-15)
    kept = without_small_blocks(products)
    assert torch.equal(kept.key_query[2, 1], products.key_query[2, 1])
    assert kept.key_query.count_nonzero() == kept.projection_value.count_nonzero() == 9
    first, second = block_shares(products)
    assert first.sum().item() == pytest.approx(1) and second.sum().item() == pytest.approx(1)
    assert [share.max().item() for share in block_shares(kept)] == pytest.approx([1, 1])
    ends = mixed(products, kept, 0.0), mixed(products, kept, 1.0)
    assert torch.equal(ends[0].key_query, products.key_query)
    assert torch.equal(ends[1].projection_value, kept.projection_value)


def test_a_model_of_another_kind_is_named():
    with pytest.raises(ValueError, match="model: use one whose layers are linear attention"):
        products_of(raw_model())
    with pytest.raises(ValueError, match="model: use one whose layers are linear attention"):
        products_of(pairs_model(0, heads=2))
    with pytest.raises(ValueError, match="model: use one whose layers are linear attention"):
        products_of(pairs_model(0, blocks=("mesa",)))


def test_the_first_attention_is_what_the_block_uses():
    model, states = raw_model(layer_norm=None, mlp_ratio=0), states_of(3, length=6)
    with torch.no_grad():
        weights, x = first_attention(model, states), model.embed(states)
        assert_close(weights.sum(-1), torch.ones(3, 2, 6).double())
        assert weights.triu(1).abs().max() == 0
        block = model.blocks[0].attention
        values = block.query_key_value(x).unflatten(-1, (3, 2, 4))[:, :, 2]
        mixed_values = torch.einsum("bhij,bjhk->bihk", weights, values).flatten(2)
        after = x + block.write(mixed_values)
        assert_close(after, model.streams(states)[1], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="model: use one on raw tokens whose first block"):
        first_attention(pairs_model(0), states)


# --- separators ---------------------------------------------------------------------------------


def test_a_separator_that_looks_like_a_state_is_that_state():
    """Then the prompt is one that the model could have been given as it is."""
    model = raw_model()
    prompt = FewShotPrompts(d=3).sample(4, 4, generator=seeded(4), dtype=torch.float64).states
    state = states_of(5)[0, 0]
    made = SeparatedPrompts(model).double()
    assert made.most_pairs == 4
    with torch.no_grad():
        made.separators.copy_(model.read_in(state)[None])
        whole = overlapping_prompt(prompt[:, 0::2], prompt[:, 1::2], state)
        expected = model(whole[:, :-1])[:, 0::3]
        assert_close(made(prompt), expected, rtol=0, atol=1e-13)
        front = SeparatedPrompts(model, prefix=True).double()
        front.separators.copy_(model.read_in(state).expand(2, -1))
        shorter = torch.cat([state.expand(4, 1, 3), whole[:, : 3 * front.most_pairs - 1]], 1)
        expected = model(shorter)[:, 1::3]
        got = front(prompt[:, : 2 * front.most_pairs])
        assert_close(got, expected, rtol=0, atol=1e-13)


def test_only_the_separators_are_tuned():
    model = raw_model()
    made = SeparatedPrompts(model, prefix=True, generator=seeded(1)).double()
    assert [name for name, p in made.named_parameters() if p.requires_grad] == ["separators"]
    assert all(p.requires_grad for p in model.parameters())  # the caller's own is left alone
    batch = FewShotPrompts(d=3).sample(5, 3, generator=seeded(2), dtype=torch.float64)
    prompt_loss(made, batch).backward()
    assert made.separators.grad.abs().sum(1).min() > 0
    with pytest.raises(ValueError, match="prompt: 5 states; use pairs"):
        made(batch.states[:, :5])
    with pytest.raises(ValueError, match="prompt: 12 states; use pairs, at most 3"):
        made(torch.cat([batch.states, batch.states], 1))
    with pytest.raises(ValueError, match="model: use one that was made for raw tokens"):
        SeparatedPrompts(pairs_model(0))


# --- experiments --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sequence_depth", "sequence_hybrids", "few_shot_separators"])
def test_stored_weights_measure_what_they_did_and_are_small(name):
    recipe = stored_recipe(name)
    recipe.verify()
    assert recipe.path.stat().st_size < 400_000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_figure_is_drawn_from_the_result_alone(name):
    run, config = EXPERIMENTS[name]
    result = run(config)
    fig = declare.EXPERIMENTS[name].figure(result)
    assert fig.axes and all(ax.get_title(loc="left") for ax in fig.axes)
    plt.close(fig)
    assert result.summary()
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray):
            assert np.isfinite(value).all(), field.name


def test_what_the_stored_models_show():
    result = sequence_depth(SequenceDepthConfig())
    means = [result.mean(name).mean() for name in ("1 layer", "2 layers", "4 layers")]
    floor = result.mean("least_squares")
    assert result.mean("zero") > means[0] > means[1] > means[2] > floor > result.noise_floor
    assert result.zero[0] == pytest.approx(result.descent[0])  # nothing is known at first
    hybrids = sequence_hybrids(SequenceHybridsConfig())
    assert (hybrids.mean("softmax, mesa") < hybrids.mean("softmax, softmax")).all()
    assert hybrids.after(5, "least_squares") == hybrids.least_squares[4]


SMALL = {
    "batch_size": 4,
    "length": 8,
    "seeds": (0, 1),
}
SMALL_PAIRS = SequenceDepthTraining(
    models=(
        PairsModel(name="1 layer", blocks=("linear",), copies=1, steps=2),
        PairsModel(name="2 layers", blocks=("linear",) * 2, steps=2),
    ),
    solver_steps=(0, 2),
    solver_updates=2,
    **SMALL,
)
SMALL_RAW = SequenceHybridsTraining(
    models=(
        RawModel(name="softmax, linear", blocks=("softmax", "linear"), steps=2),
        RawModel(name="softmax, mesa", blocks=("softmax", "mesa"), steps=2),
    ),
    width=8,
    heads=2,
    **SMALL,
)


def test_other_settings_are_trained_now():
    seeds = {"seeds": (0, 1)}
    depth = sequence_depth(SequenceDepthConfig(training=SMALL_PAIRS, n_validation=32, **seeds))
    assert depth.losses.shape == (2, 2, 7) and depth.shared.shape == (2, 7)
    assert not np.allclose(depth.losses[0, 0], depth.losses[0, 1])
    hybrids = sequence_hybrids(SequenceHybridsConfig(training=SMALL_RAW, n_validation=32, **seeds))
    assert hybrids.losses.shape == (2, 2, 7)
    weights = InterpolatedWeightsConfig(training=SMALL_PAIRS, n_validation=32, **seeds)
    assert interpolated_weights(weights).between.shape == (2, 11)
    probes = sequence_probes(
        SequenceProbesConfig(
            pairs=SMALL_PAIRS,
            raw=SMALL_RAW,
            positions=(3, 7),
            position=6,
            n_train=60,
            n_test=20,
            **seeds,
        )
    )
    assert probes.target.shape == (2, 3, 2) and probes.looks.shape == (2, 2, 2, 4)
    tuning = FewShotTuning(training=SMALL_RAW, names=("softmax, mesa",), steps=2, batch_size=4)
    shots = few_shot_sequences(FewShotSequencesConfig(tuning=tuning, n_prompts=16, **seeds))
    assert shots.plain.shape == (1, 2, 4) and shots.separator.shape == (1, 2, 3)
    assert shots.beginning.shape == (1, 2, 2)
    assert shots.of("plain", "softmax, mesa").shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SequenceDepthTraining(seeds=()), "seeds: got none"),
        (lambda: SequenceHybridsTraining(width=0), "width: got 0"),
        (lambda: SequenceProbesConfig(positions=(20,)), "positions: 20 of 20 has no next state"),
        (lambda: SequenceProbesConfig(lags=(0, 12)), "lags: 12 states before state 12"),
        (lambda: FewShotTuning(names=("linear",)), "names: no model 'linear'"),
        (lambda: InterpolatedWeightsConfig(seeds=()), "seeds: got none"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


IN_PART = {
    "vonoswald2023b-layers-are-solver-steps",
    "vonoswald2023b-dominant-blocks",
    "vonoswald2023b-binding-everywhere",
    "vonoswald2023b-linear-for-softmax",
    "vonoswald2023b-tuned-separator",
    "vonoswald2023b-tuned-beginning",
    "vonoswald2023b-preconditioning-probe",
}


def test_every_claim_has_the_verdict_that_its_page_prints(stored_verdicts):
    modules = {trained_sequences.__name__, sequence_blocks.__name__}
    own = {i: c for i, c in CLAIMS.items() if c.check.__module__ in modules}
    assert len(own) == 20 and IN_PART <= own.keys()
    for name in own:
        expected = Verdict.IN_PART if name in IN_PART else Verdict.HOLDS
        assert stored_verdicts[name] == expected, name
