"""The weight update explorable's Python side: numbers, traits, and the figure without scripts."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.explorables import InvalidTrait, WeightUpdateExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.weight_update import HIDDEN, WIDTH
from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    block_output,
)
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update, updated_output

coordinate = st.floats(-2, 2)
states = st.fixed_dictionaries(
    {
        "tokens": st.lists(st.tuples(coordinate, coordinate), max_size=12),
        "query": st.tuples(coordinate, coordinate),
        "moved": st.tuples(coordinate, coordinate),
        "skip": st.booleans(),
        "seed": st.integers(0, 999),
    }
)


def explorer_of(traits: dict) -> WeightUpdateExplorer:
    tokens = np.reshape(traits["tokens"], (-1, 2))
    return WeightUpdateExplorer(
        xs=tokens[:, 0], ys=tokens[:, 1],
        **{name: traits[name] for name in ("query", "skip", "seed")},
    )  # fmt: skip


def package_block(explorer: WeightUpdateExplorer) -> AttentionBlock:
    """The same weights in the package's block."""
    config = AttentionBlockConfig(
        width=WIDTH, hidden=HIDDEN, heads=1, head_width=WIDTH, reads="attention",
        skip=explorer.skip,
    )  # fmt: skip
    block = AttentionBlock(config)
    names = {"dense": "read_in", "dense_bias": "read_in_bias"}
    with torch.no_grad():
        for name, values in explorer.weights().items():
            if name != "read_in":
                part = getattr(block, names.get(name, name))
                part.copy_(torch.tensor(values).reshape(part.shape))
    return block


def embedded(explorer: WeightUpdateExplorer, points) -> torch.Tensor:
    points = torch.tensor(np.reshape(points, (-1, 2)))
    read_in = torch.tensor(explorer.weights()["read_in"])
    return torch.nn.functional.pad(points, (0, 1), value=1.0) @ read_in.T


@settings(max_examples=15, deadline=None)
@given(states)
def test_update_and_outputs_are_the_packages_kept_or_not(traits):
    explorer = explorer_of(traits)
    block = package_block(explorer)
    context = embedded(explorer, explorer.context())[None]
    query = embedded(explorer, explorer.query)
    update = implicit_update(block, context, query)
    left, right, bias = explorer.update()
    scale = max(1.0, update.size.item())
    assert np.outer(left, right) == pytest.approx(update.weight[0].detach().numpy(), abs=1e-11)
    assert bias == pytest.approx(update.bias[0].detach().numpy(), abs=1e-11)
    found = explorer.outputs()
    assert found["changed"] == pytest.approx(found["with_context"], abs=1e-12 * scale)
    explorer.keep()
    explorer.query = traits["moved"]
    found, query = explorer.outputs(), embedded(explorer, explorer.query)
    nothing = context[:, :0]
    for name, expected in {
        "with_context": block_output(block, context, query),
        "changed": updated_output(block, update, nothing, query),
        "without": block_output(block, nothing, query),
    }.items():
        assert found[name] == pytest.approx(expected[0].detach().numpy(), abs=1e-10 * scale), name


def test_what_the_chapter_says_of_it():
    explorer = WeightUpdateExplorer()

    def gap() -> float:
        shown = explorer.outputs()
        return float(np.linalg.norm(shown["changed"] - shown["with_context"]))

    assert gap() < 1e-14
    before = np.outer(*explorer.update()[:2])
    explorer.set_tokens(explorer.xs[:-1], explorer.ys[:-1])
    after = np.outer(*explorer.update()[:2])
    assert np.linalg.norm(after - before) == pytest.approx(0.123, abs=5e-4) and gap() < 1e-14
    explorer.keep()
    explorer.query = [-0.8, 0.5]
    assert gap() > 0.5
    explorer.kept, explorer.skip, explorer.patch_bias = [], True, False
    alone, whole = (
        explorer.attention(points, np.array(explorer.query))[0]
        for points in (explorer.context()[:0], explorer.context())
    )
    assert gap() == pytest.approx(np.linalg.norm(whole - alone))
    explorer.patch_bias = True
    assert gap() < 1e-14
    explorer.set_tokens([], [])
    assert not np.outer(*explorer.update()[:2]).any()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"xs": [0.0]}, "xs would hold 1 numbers and ys holds 5"),
        ({"xs": [0.0] * 13, "ys": [0.0] * 13}, "xs holds 13 numbers; the plot shows at most 12"),
        ({"query": [0.0, 2.5]}, r"query\[1\] must be between -2 and 2"),
        ({"kept": [0.0, 0.0, 1.0]}, "kept holds 3 numbers; it is empty, or the query"),
        ({"seed": -1}, "seed must be between 0 and 999"),
        ({"skip": "yes"}, "skip"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError if "skip" not in values else Exception, match=words):
        WeightUpdateExplorer(**values)
    explorer = WeightUpdateExplorer()
    before = explorer.get_state()
    if "ys" in values:
        with pytest.raises(InvalidTrait, match=words):
            explorer.set_tokens(values["xs"], values["ys"])
    assert explorer.get_state() == before


def test_the_module_is_one_small_string():
    source = WeightUpdateExplorer()._esm
    assert source == component_source("weight_update")
    assert len(source.encode()) < 64_000
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)


def test_readers_without_scripts_get_a_figure_with_its_numbers():
    explorer = WeightUpdateExplorer()
    page = explorer.fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    left, right, _ = explorer.update()
    size = np.linalg.norm(left) * np.linalg.norm(right)
    assert f"with singular value {size:.3g}" in text and "less than 1e-12" in text
    assert len(page) < 120_000 and page == WeightUpdateExplorer().fallback_html()
    explorer.keep()
    explorer.query = [-0.8, 0.5]
    assert "With a kept update" in explorer.fallback_html()
    assert "0 context tokens" in WeightUpdateExplorer(xs=[], ys=[]).fallback_html()
