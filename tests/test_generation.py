"""More than one generated token without the prompt."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.declare import EXPERIMENTS
from icl_lessons.implicit_dynamics.block_by_block import stack_streams
from icl_lessons.implicit_dynamics.experiments.generation import (
    READERS,
    GenerationConfig,
    GenerationTraining,
    generation_weights,
)
from icl_lessons.implicit_dynamics.generation import (
    Kept,
    OwnUpdates,
    Remade,
    along,
    embedded,
    generate,
    sequence_blocks,
    sequence_streams,
    update_change,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import seeded


def decoder(seed=0, **changes):
    shape = {"vocabulary": 9, "width": 12, "layers": 2, "heads": 3, "init_std": 0.3} | changes
    model = SequenceTransformer(SequenceTransformerConfig(**shape), generator=seeded(seed))
    return model.double().requires_grad_(False)


def prompt_of(n, seed=1, batch=3):
    return torch.randint(9, (batch, n), generator=seeded(seed))


def last_of(model):
    return lambda tokens: model(tokens)[:, -1]


@settings(max_examples=12, deadline=None)
@given(
    positions=st.sampled_from(["alibi", "learned", None]),
    shift=st.booleans(),
    norm=st.sampled_from(["pre", None]),
    layers=st.integers(1, 3),
    n=st.integers(1, 7),
    steps=st.integers(1, 5),
    seed=st.integers(0, 2**20),
)
def test_updates_made_for_their_query_write_as_the_prompt_does(
    positions, shift, norm, layers, n, steps, seed
):
    model = decoder(seed, layers=layers, positions=positions, token_shift=shift, layer_norm=norm)
    prompt = prompt_of(n, seed + 1)
    expected = generate(last_of(model), prompt, steps)
    for way in (Remade(model), OwnUpdates(model, n)):
        got = generate(way, prompt, steps)
        assert relative_error(got.log_probs, expected.log_probs) < 1e-12
        assert torch.equal(got.tokens, expected.tokens)
    for visible in (False, True):  # kept updates are those of the first token
        first = Kept(model, prompt, visible=visible)(prompt)
        assert relative_error(first, expected.log_probs[:, 0]) < 1e-12


@pytest.mark.parametrize("visible", [False, True])
def test_updates_kept_for_later_queries_are_wrong(visible):
    model, prompt = decoder(), prompt_of(7, batch=8)
    text = generate(last_of(model), prompt, 5).tokens
    got = along(Kept(model, prompt, visible=visible), text, 7)
    expected = along(last_of(model), text, 7)
    assert relative_error(got[:, :1], expected[:, :1]) < 1e-12
    assert (got - expected)[:, 1:].abs().amax((0, 2)).min() > 1e-2


@pytest.mark.parametrize("positions", ["alibi", "learned", None])
def test_without_updates_and_prompt_the_model_reads_what_is_left(positions):
    """A query alone keeps its place; asked at another it says something else."""
    model, prompt = decoder(positions=positions), prompt_of(6)
    text = generate(last_of(model), prompt, 4).tokens
    left = Kept(model, prompt, visible=True, updated=False)(text)
    moved = model(text[:, 5:])[:, -1]
    if positions == "learned":
        assert (left - moved).abs().max() > 1e-2
    else:
        assert relative_error(left, moved) < 1e-12
    alone = Kept(model, prompt, updated=False)(text)
    assert relative_error(alone, Remade(model, ())(text)) < 1e-12


def test_streams_and_what_enters_the_first_block():
    for positions, shift in (("alibi", True), ("learned", False), (None, True)):
        model, tokens = decoder(positions=positions, token_shift=shift), prompt_of(6)
        streams = sequence_streams(model, tokens)
        by_block = stack_streams(sequence_blocks(model), embedded(model, tokens))
        assert relative_error(streams, by_block) < 1e-12
        read = model.read_out(model.norm(streams[:, -1])).log_softmax(-1)
        assert relative_error(read, model(tokens)) < 1e-12


def test_generating_appends_the_most_probable_token():
    def next_token(tokens):
        return torch.nn.functional.one_hot((tokens[:, -1] + 1) % 5, 5).double()

    made = generate(next_token, torch.tensor([[3], [0]]), 3)
    assert made.tokens.tolist() == [[3, 4, 0, 1], [0, 1, 2, 3]]
    assert made.log_probs.shape == (2, 3, 5)
    assert torch.equal(along(next_token, made.tokens, 1), made.log_probs)


def test_the_change_of_updates_is_that_of_their_matrices():
    model, tokens = decoder(), prompt_of(6)
    remade = Remade(model)
    one, two = remade.updates(tokens[:, :5]), remade.updates(tokens)
    change = update_change(one, two)
    for layer in range(2):
        a, b = one.updates[layer].weight, two.updates[layer].weight
        moved = (b - a).flatten(1).norm(dim=-1) / a.flatten(1).norm(dim=-1)
        torch.testing.assert_close(change.relative[layer], moved, rtol=1e-8, atol=1e-10)
    assert update_change(one, one).relative.max() < 1e-6
    assert (change.left.abs() <= 1 + 1e-12).all() and change.right.shape == (2, 3)


def test_the_experiment_measures_what_its_fields_say():
    config = GenerationConfig(
        vocabulary=5, cycles=2, length=8, width=8, heads=2, layers=1, steps=2, prompt=6,
        n_prompts=5, generated=6, seeds=(3,),
    )  # fmt: skip
    declared = EXPERIMENTS["generation"]
    result = declared.run(config)
    assert result.agreement.shape == (1, len(READERS), 6) and result.written.shape == (1, 2, 6)
    assert result.residual.max() < 1e-12 and result.own_residual.max() < 1e-12
    assert (result.same == 1).all()
    assert (result.agreement[:, :2, 0] == 1).all() and (result.distance[:, :2, 0] < 1e-12).all()
    assert result.change.shape == (1, 1, 5) and result.cycle == 5
    values = np.arange(6.0)[None, None]
    assert result.later(values).item() == pytest.approx(2.5)
    assert "change after one cycle" in result.summary()
    assert len(declared.figure(result).axes) == 2


def test_every_cycle_goes_through_all_tokens():
    config = GenerationTraining()
    for row in config.successors.tolist():
        seen, token = set(), 0
        for _ in row:
            token = row[token]
            seen.add(token)
        assert seen == set(range(config.vocabulary))
    assert generation_weights.is_stored(config)
    measured = generation_weights.metadata()["measured"].values()
    # Entropy of the next token once the cycle is known, and log 12 for a model that knows nothing.
    share = (1 - config.order) / config.vocabulary
    floor = -(1 - 11 * share) * np.log(1 - 11 * share) - 11 * share * np.log(share)
    assert floor < min(measured) and max(measured) < floor + 0.2


def test_mistakes_are_refused(as_readers_run_it):
    model = decoder()
    with pytest.raises(ValueError, match="steps: got 0"):
        generate(last_of(model), prompt_of(3), 0)
    with pytest.raises(ValueError, match="n_prompt: got 0"):
        OwnUpdates(model, 0)
    with pytest.raises(ValueError, match="block: has no MLP"):
        Remade(decoder(mlp_ratio=0))
    with pytest.raises(ValueError, match="generated: got 12; use an integer of 13 or more"):
        GenerationConfig(generated=12)
    with pytest.raises(ValueError, match="order: got 1.5"):
        GenerationTraining(order=1.5)
