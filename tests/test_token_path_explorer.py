"""The token path explorable's Python side: numbers, traits, and the figure without scripts."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.explorables import InvalidTrait, TokenPathExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    block_output,
)
from icl_lessons.implicit_dynamics.token_path import factorised_path, token_path

states = st.fixed_dictionaries(
    {
        "weights": st.sampled_from(["written", "random"]),
        "attention": st.sampled_from(["softmax", "linear"]),
        "order": st.sampled_from(["drawn", "sorted", "shuffled"]),
        "slope": st.floats(-2, 2),
        "query": st.floats(0.3, 2),
        "shuffle": st.integers(0, 999),
        "seed": st.integers(0, 999),
    }
)


def package_block(explorer: TokenPathExplorer) -> AttentionBlock:
    """The same weights in the package's block."""
    config = AttentionBlockConfig(
        width=2, hidden=4, heads=1, head_width=2, attention=explorer.attention,
        reads="attention", skip=False,
    )  # fmt: skip
    block = AttentionBlock(config)
    names = {"dense": "read_in", "dense_bias": "read_in_bias"}
    with torch.no_grad():
        for name, values in explorer.block().items():
            part = getattr(block, names.get(name, name))
            part.copy_(torch.tensor(values).reshape(part.shape))
    return block


@settings(max_examples=10, deadline=None)
@given(states)
def test_both_paths_are_the_packages(traits):
    explorer = TokenPathExplorer(**traits)
    block = package_block(explorer)
    context = torch.tensor(explorer.context())[None]
    query = torch.tensor([[explorer.query, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        additive = token_path(block, context, query)
        paths = {"additive": additive.weights, "factorised": factorised_path(block, context, query)}
        steps = additive.increments[0].numpy()
        end = block_output(block, context, query)[0, 1].item()
    for path, expected in paths.items():
        explorer.path = path
        found = explorer.trace()
        scale = max(1.0, expected.abs().max().item())
        assert np.abs(found.weights - expected[0].numpy()).max() < 1e-9 * scale, path
        assert np.abs(found.changed - found.with_context).max() < 1e-9 * scale, path
        assert found.changed[-1] == pytest.approx(end, abs=1e-9 * scale), path
        if path == "additive":
            assert found.increments == pytest.approx(steps, abs=1e-9 * scale)


def test_what_the_chapter_says_of_it():
    explorer = TokenPathExplorer()
    found = {kind: explorer.trace(kind) for kind in ("written", "random")}
    assert all(-1.15 < one.slope < -0.8 for one in found.values())
    away = {kind: abs(one.changed[-1] - explorer.answer()) for kind, one in found.items()}
    assert away["written"] < 0.1 < 0.5 < away["random"]
    assert found["written"].singular[-1, 0] > 1 and (found["written"].singular[:, 1] < 1e-13).all()
    explorer.order = "shuffled"
    shuffled = explorer.trace()
    assert shuffled.weights[-1] == pytest.approx(found["written"].weights[-1], abs=1e-13)
    assert np.abs(shuffled.weights - found["written"].weights).max() > 0.1
    explorer.order, explorer.attention = "drawn", "linear"
    assert explorer.trace().slope > -0.5
    explorer.attention, explorer.path = "softmax", "factorised"
    factorised = explorer.trace()
    assert factorised.singular[-1, 1] > 0.01 and factorised.slope > 0
    assert factorised.changed[-1] == pytest.approx(found["written"].changed[-1], abs=1e-13)
    assert np.abs(factorised.weights[-1] - found["written"].weights[-1]).max() > 0.01


def test_over_many_draws_written_weights_come_near_and_random_ones_do_not():
    away: dict[str, list[float]] = {"written": [], "random": []}
    slopes: dict[str, list[float]] = {"written": [], "random": []}
    for seed in range(12):
        explorer = TokenPathExplorer(seed=seed)
        for kind in away:
            found = explorer.trace(kind)
            away[kind].append(found.changed[-1] - explorer.answer())
            slopes[kind].append(found.slope)
    rms = {kind: float(np.sqrt(np.mean(np.square(each)))) for kind, each in away.items()}
    assert rms["written"] < 0.3 < 0.8 < rms["random"]
    assert all(-1.15 < np.median(each) < -0.8 for each in slopes.values())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"weights": "trained"}, "weights must be of written, random"),
        ({"attention": ["softmax"]}, "attention must be of softmax, linear"),
        ({"order": "best"}, "order must be of drawn, sorted, shuffled"),
        ({"read": 101}, "read must be between 0 and 100"),
        ({"read": 2.5}, "read must be a whole number"),
        ({"query": 0.0}, "query must be between 0.3 and 2"),
        ({"slope": float("nan")}, "slope must be finite"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        TokenPathExplorer(**values)
    explorer = TokenPathExplorer()
    before = explorer.get_state()
    for name, value in values.items():
        with pytest.raises(InvalidTrait, match=words):
            setattr(explorer, name, value)
    assert explorer.get_state() == before


def test_the_module_is_one_small_string():
    source = TokenPathExplorer()._esm
    assert source == component_source("token_path")
    assert len(source.encode()) < 64_000
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)


def test_readers_without_scripts_get_a_figure_with_its_numbers():
    explorer = TokenPathExplorer()
    page = explorer.fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    for kind in ("written", "random"):
        found = explorer.trace(kind)
        assert f"to {found.changed[-1]:.3g} and the increments" in text
        assert f"power {found.slope:.2g}" in text
    assert len(page) < 160_000 and page == TokenPathExplorer().fallback_html()
