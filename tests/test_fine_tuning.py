"""Descent on demonstrations: what moves, what does not, and what an order can do."""

import pytest
import torch
from torch.testing import assert_close

from icl_lessons.language_models.fine_tuning import (
    FineTuning,
    answer_law,
    fine_tune,
    label_loss,
    parts_of,
)
from icl_lessons.measures.distributions import order_sensitivity
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts

ORDERS = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]]


@pytest.fixture(scope="module")
def model():
    config = SequenceTransformerConfig(vocabulary=66, width=16, layers=2, heads=2)
    return SequenceTransformer(config, generator=seeded(0)).double()


@pytest.fixture(scope="module")
def shown():
    """Four demonstrations, as inputs and labels, and ten queries."""
    prompts = attribute_prompts("stance", 4, 1, generator=seeded(1))
    queries = attribute_prompts("stance", 0, 10, generator=seeded(2))
    return prompts.demonstration_tokens[0], prompts.labels[0], queries.query_tokens


def after(model, shown, order=None, **settings):
    """The answers after fine-tuning on the demonstrations in an order."""
    inputs, labels, queries = shown
    order = list(range(len(labels))) if order is None else order
    return answer_law(
        fine_tune(model, inputs[order], labels[order], FineTuning(**settings)), queries
    )


def test_full_batch_descent_does_not_know_the_order(model, shown):
    answers = torch.stack([after(model, shown, o, epochs=20) for o in ORDERS])
    assert (answers - answers[0]).abs().max() < 1e-12
    assert (answers[0] - answer_law(model, shown[2])).abs().max() > 1e-2
    single = torch.stack([after(model.float(), shown, order, epochs=20) for order in ORDERS])
    model.double()
    assert (single - single[0]).abs().max() < 1e-5


def test_in_context_the_same_model_does(model):
    prompts = attribute_prompts("stance", 4, 10, generator=seeded(3))
    first, other = (answer_law(model, prompts.in_order(o).tokens) for o in ORDERS[:2])
    assert (first - other).abs().max() > 1e-4


def test_the_effect_of_an_order_on_stochastic_descent_is_quadratic_in_the_step(model, shown):
    scaled = []
    for rate in (1e-6, 1e-5):  # small: embeddings of size 0.02 before a norm bend the loss
        answers = torch.stack([
            after(model, shown, o, epochs=1, batch_size=1, learning_rate=rate) for o in ORDERS
        ])  # fmt: skip
        scaled.append(order_sensitivity(answers).mean().item() / rate**2)
    assert scaled[0] == pytest.approx(scaled[1], rel=0.2) and scaled[0] > 0.1


def test_one_batch_of_all_is_the_full_batch(model, shown):
    assert_close(
        after(model, shown, epochs=5, batch_size=4),
        after(model, shown, epochs=5),
        atol=1e-14,
        rtol=0,
    )


def test_one_step_is_the_gradient_of_the_mean(model, shown):
    inputs, labels, _ = shown
    tuned = fine_tune(model, inputs, labels, FineTuning(epochs=1, learning_rate=0.1))
    copy = fine_tune(model, inputs, labels, FineTuning(epochs=0)).requires_grad_(True)
    loss = sum(label_loss(copy, inputs[i : i + 1], labels[i : i + 1]) for i in range(4)) / 4
    gradients = torch.autograd.grad(loss, list(copy.parameters()))
    for before, moved, gradient in zip(
        model.parameters(), tuned.parameters(), gradients, strict=True
    ):
        assert_close(moved, before - 0.1 * gradient, atol=1e-13, rtol=0)


@pytest.mark.parametrize("parts", ["block:1", "value:0", "value:1"])
@pytest.mark.parametrize("optimizer", ["descent", "adam"])
def test_only_the_chosen_part_moves_and_never_the_model_given(model, shown, parts, optimizer):
    before = {name: p.clone() for name, p in model.named_parameters()}
    settings = FineTuning(optimizer=optimizer, epochs=3, learning_rate=0.01, parts=parts)
    tuned = dict(fine_tune(model, *shown[:2], settings).named_parameters())
    where = {part.name: part.where for part in parts_of(model, parts)}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        moved = tuned[name] != before[name]
        if name not in where:
            assert not moved.any(), name
        elif where[name] is not None:
            chosen = torch.zeros_like(moved)
            chosen[where[name]] = True
            assert moved[chosen].any() and not moved[~chosen].any()
            assert chosen.shape == (48, 16) and chosen[32:].all() and not chosen[:32].any()
    if parts == "block:1":
        assert all(name.startswith("blocks.1.") for name in where)


def test_keys_and_values_move_in_every_block_and_queries_in_none(model, shown):
    settings = FineTuning(epochs=1, batch_size=1, learning_rate=0.1, parts="keys and values")
    tuned = dict(fine_tune(model, *shown[:2], settings).named_parameters())
    for name, parameter in model.named_parameters():
        moved = tuned[name] != parameter
        if name.endswith("query_key_value.weight"):
            assert not moved[:16].any() and moved[16:32].any() and moved[32:].any()
        else:
            assert not moved.any(), name


def test_the_value_matrix_of_a_block_is_what_its_attention_averages(model):
    """Setting it to 0 silences attention in that block and changes nothing below."""
    silent = fine_tune(model, torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, dtype=torch.long),
                       FineTuning(epochs=0))  # fmt: skip
    (part,) = parts_of(silent, "value:1")
    parameter = dict(silent.named_parameters())[part.name]
    with torch.no_grad():
        parameter[part.where] = 0
    x = torch.randn(1, 5, 16, generator=seeded(4), dtype=torch.float64)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    assert not silent.blocks[1].attention(x, mask).any()
    assert silent.blocks[0].attention(x, mask).any()


def test_the_loss_reads_the_label_alone(model, shown):
    inputs, labels, _ = shown
    by_hand = -torch.stack([model(inputs[i : i + 1])[0, -1, labels[i]] for i in range(4)]).mean()
    assert_close(label_loss(model, inputs, labels), by_hand)
    assert label_loss(model, inputs, labels.roll(1)) != by_hand


def test_watching_sees_the_start_and_the_end(model, shown):
    seen = {}

    def watch(epoch, tuned):
        seen[epoch] = label_loss(tuned, *shown[:2]).item()

    settings = FineTuning(epochs=7, learning_rate=0.003)
    tuned = fine_tune(model, *shown[:2], settings, every=3, watch=watch)
    assert list(seen) == [0, 3, 6, 7]
    assert seen[0] == pytest.approx(label_loss(model, *shown[:2]).item())
    assert seen[7] == pytest.approx(label_loss(tuned, *shown[:2]).item())
    assert list(seen.values()) == sorted(seen.values(), reverse=True) and seen[7] < seen[0]


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda m: parts_of(m, "head:0"), "parts"),
        (lambda m: parts_of(m, "value"), "name a block, as in 'value:0'"),
        (lambda m: parts_of(m, "block:2"), "blocks are 0 to 1"),
        (lambda m: FineTuning(batch_size=0), "batch_size"),
        (lambda m: FineTuning(learning_rate=-1), "learning_rate"),
        (
            lambda m: fine_tune(m, torch.zeros(2, 3).long(), torch.zeros(1).long(), FineTuning()),
            "1 for 2 inputs",
        ),
    ],
)
def test_what_cannot_be_is_refused(as_readers_run_it, model, make, said):
    with pytest.raises(ValueError, match=said):
        make(model)
