"""The order explorable's Python side: answers looked up, traits, the figure without scripts."""

import base64
import copy
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.explorables import DemonstrationOrderExplorer, InvalidTrait
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.demonstration_order import LEARNERS, UNIT, laws_of

# Of each learner, whether its answers vary with the model, the rate and the order.
SHAPES = {
    "in_context": (1, 0, 1),
    "one_by_one": (1, 1, 1),
    "full_batch": (1, 1, 0),
    "filter": (0, 0, 1),
}
WORDS = ("yes", "no", "maybe", "good", "bad")


def random_set(draw: np.random.Generator, labels: int, *, wrong: bool = False) -> dict:
    """A payload for four demonstrations, two models, three rates, three queries."""
    right = draw.integers(labels, size=4)
    said = (right + np.array([0, wrong, 0, 0])) % labels
    learners = {}
    for name, varies in SHAPES.items():
        shape = [n if v else 1 for n, v in zip((2, 3, 24), varies, strict=True)] + [3, labels]
        laws = draw.dirichlet(np.ones(labels + 1), shape[:-1])[..., :labels]
        learners[name] = {
            "shape": shape,
            "laws": base64.b64encode((UNIT * laws).round().astype("<u2").tobytes()).decode(),
            "sensitivity": draw.uniform(size=(*shape[:2], 3)).round(4).tolist(),
        }
    return {
        "name": "one wrong" if wrong else f"{labels} labels",
        "labels": list(WORDS[:labels]),
        "demonstrations": [
            {"text": f"noun{i} verb{i}", "label": int(said[i]), "right": int(right[i])}
            for i in range(4)
        ],
        "queries": [{"text": f"asked{i} verb", "right": i % labels} for i in range(3)],
        "models": ["first model", "second model"],
        "rates": [0.003, 0.03, 0.1],
        "passes": 10,
        "learners": learners,
    }


def random_sets(seed: int = 0) -> list[dict]:
    """Three payloads with different label words; the last has a wrong label."""
    draw = np.random.default_rng(seed)
    return [random_set(draw, 3), random_set(draw, 2), random_set(draw, 3, wrong=True)]


SETS = random_sets()


@settings(max_examples=15, deadline=None)
@given(
    st.permutations(range(4)), st.integers(0, 2), st.integers(0, 2), st.integers(0, 1),
    st.integers(0, 2),
)  # fmt: skip
def test_answers_are_those_of_the_payload(order, chosen, query, model, rate):
    explorer = DemonstrationOrderExplorer(
        SETS, chosen=chosen, order=order, query=query, model=model, rate=rate
    )
    at = list(itertools.permutations(range(4))).index(tuple(order))
    for name in LEARNERS:
        stored = SETS[chosen]["learners"][name]
        laws = np.frombuffer(base64.b64decode(stored["laws"]), "<u2").reshape(stored["shape"])
        places = (model, rate, at, query)
        place = tuple(min(i, n - 1) for i, n in zip(places, laws.shape, strict=False))
        found = explorer.laws(name)[at]
        assert found[:-1] == pytest.approx(laws[place] / UNIT, abs=1e-12)
        assert found.sum() == pytest.approx(1, abs=1e-12)
        right = SETS[chosen]["queries"][query]["right"]
        assert explorer.right(name)[at] == found[right]
        expected = stored["sensitivity"][place[0]][place[1]]
        assert explorer.sensitivity(name).tolist() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"chosen": 3}, "chosen must be below 3"),
        ({"order": [0, 1, 2, 2]}, "order must hold each number from 0 once"),
        ({"order": [True, 0, 2, 3]}, "order must hold each number from 0 once"),
        ({"order": [1, 0]}, "order holds 2 numbers for 4 demonstrations"),
        ({"query": 3}, "query must be below 3"),
        ({"model": 2}, "model must be below 2"),
        ({"rate": 3}, "rate must be below 3"),
        ({"rate": 0.5}, "rate must be a whole number"),
    ],
)
def test_it_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        DemonstrationOrderExplorer(SETS, **values)
    explorer = DemonstrationOrderExplorer(SETS)
    before = explorer.get_state()
    for name, value in values.items():
        with pytest.raises(InvalidTrait, match=words):
            setattr(explorer, name, value)
    assert explorer.get_state() == before


def spoilt(part, value):
    """The sets with one part of the second replaced; `part` is a path of keys."""
    sets = copy.deepcopy(SETS)
    where = sets[1]
    for key in part[:-1]:
        where = where[key]
    where[part[-1]] = value
    return sets


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([], "sets must be a list of 1 to 6"),
        ("table", "sets must be a list of 1 to 6"),
        ([{"name": "x"}], r"sets\[0\] must be the payload of an order table; missing"),
        (spoilt(["models"], ["one"]), r"sets\[1\] has .*'models': 1.* as sets\[0\] has"),
        (spoilt(["rates"], []), r"sets\[1\] has 0 rates"),
        (spoilt(["learners", "filter", "laws"], "%"), r"sets\[1\].filter must have shape, laws"),
        (spoilt(["learners", "filter", "shape"], [24, 1, 1, 3, 2]), r"filter has shape \[24"),
        (spoilt(["learners", "filter", "sensitivity"], [[[1.0]]]), "filter.sensitivity must be"),
        (spoilt(["labels"], ["a", "b", "c"]), "in_context has shape"),
        (spoilt(["queries", 0, "right"], 2), r"sets\[1\].queries must have text, and right"),
        (spoilt(["demonstrations", 0, "label"], None), "demonstrations must have text, and label"),
    ],
)
def test_it_refuses_tables_it_cannot_show(sets, words):
    with pytest.raises(ValueError, match=words):
        DemonstrationOrderExplorer(sets)


def test_probabilities_above_one_are_refused():
    sets = copy.deepcopy(SETS)
    filtered = sets[0]["learners"]["filter"]
    laws = (UNIT * laws_of(filtered)).round().astype("<u2")
    laws[0, 0, 5, 0] = [5000, 4000, 3000]
    filtered["laws"] = base64.b64encode(laws.tobytes()).decode()
    with pytest.raises(ValueError, match=r"sets\[0\].filter has probabilities that sum to more"):
        DemonstrationOrderExplorer(sets)


def test_the_module_is_one_small_string():
    source = DemonstrationOrderExplorer(SETS)._esm
    assert source == component_source("demonstration_order")
    assert len(source.encode()) < 60_000
    assert source.count("export default") == 1
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)


def test_readers_without_scripts_get_a_figure_with_its_numbers():
    explorer = DemonstrationOrderExplorer(SETS, chosen=2, order=[3, 2, 1, 0])
    page = explorer.fallback_html()
    text = re.search(r'alt="([^"]*)"', page)[1]
    for name, words in LEARNERS.items():
        right = explorer.right(name)
        assert f"{words} {right[-1]:.3f} ({right.min():.3f} to {right.max():.3f}" in text
    assert "noun3 verb3" in text.split("noun0")[0]
    again = DemonstrationOrderExplorer(SETS, chosen=2, order=[3, 2, 1, 0])
    assert page == again.fallback_html() and len(page) < 80_000
