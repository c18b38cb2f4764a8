"""Layouts of tokens, each written out by hand once and read back."""

import pytest
import torch

from icl_lessons.models.attention import SelfAttention
from icl_lessons.models.tokens import (
    interleaved_tokens,
    joint_tokens,
    pair_tokens,
    prefix_mask,
)

BATCH, N, D, M, N_QUERY = 2, 5, 3, 4, 6


def draw(d=D, m=M):
    gen = torch.Generator().manual_seed(0)
    shapes = (BATCH, N, d), (BATCH, N, m), (BATCH, N_QUERY, d), (BATCH, N_QUERY, m)
    return [torch.randn(*shape, generator=gen, dtype=torch.float64) for shape in shapes]


def test_joint_tokens_hold_input_and_target():
    xs, ys, x_query, slot = draw()
    tokens = joint_tokens(xs, ys, x_query, slot)
    assert tokens.shape == (BATCH, N + N_QUERY, D + M)
    for b in range(BATCH):
        for j in range(N):
            assert tokens[b, j].tolist() == xs[b, j].tolist() + ys[b, j].tolist()
        for q in range(N_QUERY):
            assert tokens[b, N + q].tolist() == x_query[b, q].tolist() + slot[b, q].tolist()
    without = joint_tokens(xs, ys, x_query)
    assert torch.equal(without[:, :N], tokens[:, :N])
    assert without[:, N:, D:].abs().max() == 0


def test_pair_tokens_tell_a_query_from_an_example():
    xs, ys, x_query, _ = draw()
    tokens = pair_tokens(xs, ys, x_query)
    assert tokens.shape == (BATCH, N + N_QUERY, D + M + 1)
    assert tokens[0, 2].tolist() == xs[0, 2].tolist() + ys[0, 2].tolist() + [0.0]
    assert tokens[1, N + 4].tolist() == x_query[1, 4].tolist() + [0.0] * M + [1.0]
    assert tokens.dtype == xs.dtype


def test_the_prefix_mask_of_three_examples():
    expected = [
        # examples  queries
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]
    assert prefix_mask(3).int().tolist() == expected
    assert prefix_mask(3).dtype == torch.bool
    assert prefix_mask(0).shape == (0, 0)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("changed", range(N))
def test_under_the_prefix_mask_query_i_knows_the_first_i_examples(layers, changed):
    """Through several layers: information also travels through the examples in between."""
    xs, ys, _, _ = draw()
    gen = torch.Generator().manual_seed(1)
    layer = SelfAttention(D + M + 1, kind="softmax", init_std=0.8, generator=gen).double()

    def predictions(xs, ys, asked):
        tokens = pair_tokens(xs, ys, asked)
        for _ in range(layers):
            tokens = layer(tokens, prefix_mask(N))
        return tokens[:, N:]

    other = ys.clone()
    other[:, changed] += 1.0
    difference = (predictions(xs, other, xs) - predictions(xs, ys, xs)).abs().amax((0, 2))
    assert (difference[: changed + 1] == 0).all()
    assert (difference[changed + 1 :] > 1e-8).all()


@pytest.mark.parametrize("d, m", [(3, 4), (4, 3), (2, 2), (5, 1)])
def test_interleaved_tokens_take_turns_and_are_padded_to_the_wider(d, m):
    xs, ys, _, _ = draw(d, m)
    tokens = interleaved_tokens(xs, ys)
    width = max(d, m)
    assert tokens.shape == (BATCH, 2 * N, width)
    for b in range(BATCH):
        for i in range(N):
            assert tokens[b, 2 * i].tolist() == xs[b, i].tolist() + [0.0] * (width - d)
            assert tokens[b, 2 * i + 1].tolist() == ys[b, i].tolist() + [0.0] * (width - m)


@pytest.mark.parametrize(
    "call, error, sentence",
    [
        (lambda c: joint_tokens(c[0][:, :0], c[1][:, :0], c[2]), ValueError, "xs: the context is"),
        (lambda c: joint_tokens(c[0], c[1][:, :3], c[2]), ValueError, "ys: 3 targets for the 5"),
        (lambda c: joint_tokens(c[0], c[1], c[3]), ValueError, "x_query: inputs of 4 coordinates"),
        (lambda c: joint_tokens(c[0], c[1], c[2], c[2]), ValueError, "query_slot: got shape"),
        (lambda c: pair_tokens(c[0], c[1].float(), c[2]), TypeError, "ys: dtype torch.float32"),
        (lambda c: interleaved_tokens(c[0], c[1][:1]), ValueError, "ys: batch of 1"),
        (lambda c: prefix_mask(-1), ValueError, "n: got -1"),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(draw())
