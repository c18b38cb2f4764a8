"""The explorables' Python side: how files become one module, what traits accept, the fallbacks."""

import re

import numpy as np
import pytest
import torch

from icl_lessons.explorables import InvalidTrait, OneStepExplorer, Prediction, PredictionReveal
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.bundle import bundle

SIZE_LIMIT = 60_000  # of a component's module: every notebook that shows it stores it once


# ---------------------------------------------------------------------------- the bundler
def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.mjs").write_text(text)
    return folder / "entry.mjs"


def test_bundle_joins_each_imported_file_once_and_before_its_reader(tmp_path):
    entry = write(
        tmp_path,
        parts="export const a = 1;\nexport function b() { return a; }\nconst own = 2;\n",
        middle='import { a } from "./parts.mjs";\nexport const c = a + 1;\n',
        entry='import { b,\n  a } from "./parts.mjs";\nimport { c } from "./middle.mjs";\n'
        "export const d = a + c;\nexport default { d, b };\n",
    )
    text = bundle(entry)
    assert "import" not in text
    assert text.count("const a = 1") == 1
    assert text.index("const a = 1") < text.index("const c = a + 1") < text.index("const d = a + c")
    assert re.findall(r"^export .*$", text, re.MULTILINE) == [
        "export const d = a + c;",
        "export default { d, b };",
    ]


A, USES_A = "export const a = 1;\n", 'import { a } from "./parts.mjs";\n'


@pytest.mark.parametrize(
    ("parts", "entry", "words"),
    [
        (A, 'import { b } from "./parts.mjs";\n', "does not export"),
        (A, 'import { a as b } from "./parts.mjs";\n', "does not export"),
        (A, 'import * as parts from "./parts.mjs";\n', "cannot be joined"),
        (A, 'import x from "https://a.example/x.js";\n', "cannot be joined"),
        ("const p = import('x');\n" + A, USES_A, "cannot be joined"),
        (A, USES_A + "const a = 2;\n", "both declare"),
        (A + "export default a;\n", USES_A, "named"),
        ('import { z } from "./entry.mjs";\n' + A, USES_A + "export const z = 1;\n", "circle"),
    ],
)
def test_bundle_refuses_what_it_would_join_wrongly(tmp_path, parts, entry, words):
    path = write(tmp_path, parts=parts, entry=entry)
    with pytest.raises(ValueError, match=words):
        bundle(path)


def test_bundle_names_a_missing_file(tmp_path):
    path = write(tmp_path, entry='import { a } from "./nowhere.mjs";\n')
    with pytest.raises(FileNotFoundError, match="nowhere.mjs"):
        bundle(path)


@pytest.mark.parametrize(
    "widget",
    [OneStepExplorer(), Prediction(key="k", question="How many?")],
    ids=["one step", "prediction"],
)
def test_the_module_is_small_the_same_every_time_and_needs_nothing_else(widget):
    source = widget._esm
    name = "one_step" if isinstance(widget, OneStepExplorer) else "prediction"
    assert source == component_source(name) == component_source(name)
    assert len(source.encode()) < SIZE_LIMIT
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)
    assert source.count("export default") == 1
    assert "url(" not in widget._css and "@import" not in widget._css


# ---------------------------------------------------------------------------- the one-step traits
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 9}, "steps must be between 0 and 8"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a number"),
        ({"step_size": -0.1}, "step_size must be between 0"),
        ({"step_size": float("nan")}, "step_size must be finite"),
        ({"step_size": "0.1"}, "step_size must be a number"),
        ({"x_query": 3}, "x_query must be between -2 and 2"),
        ({"initial_weight": None}, "initial_weight must be a number"),
        ({"xs": [0.0] * 5 + [2.5]}, r"xs\[5\] must be between -2 and 2"),
        ({"ys": [0.0] * 5 + [float("inf")]}, r"ys\[5\] must be finite"),
        ({"xs": "123456"}, "xs must be a list of numbers"),
        ({"xs": [0.0] * 13, "ys": [0.0] * 13}, "at most 12"),
        ({"xs": [1.0]}, "xs would hold 1 numbers and ys holds 6"),
    ],
)
def test_one_step_refuses_what_it_cannot_show_and_names_the_trait(values, words):
    with pytest.raises(ValueError, match=words):
        OneStepExplorer(**values)
    explorer = OneStepExplorer()
    before = explorer.get_state()
    with pytest.raises(InvalidTrait, match=words):
        with explorer.hold_trait_notifications():
            for name, value in values.items():
                setattr(explorer, name, value)
    assert explorer.get_state() == before


def test_one_step_takes_arrays_and_rounds_them():
    explorer = OneStepExplorer()
    explorer.set_examples(np.array([0.1, 1 / 3]), torch.tensor([0.5, -1.0]))
    assert explorer.xs == [0.1, 0.333333]
    assert explorer.ys == [0.5, -1.0]
    with pytest.raises(ValueError, match="set_examples"):
        explorer.xs = [1.0]
    with pytest.raises(ValueError, match="xs would hold|ys would hold"):
        explorer.set_examples([1.0, 2.0, 0.5], [1.0])
    assert explorer.xs == [0.1, 0.333333]


def test_two_explorers_do_not_share_their_examples():
    one, other = OneStepExplorer(), OneStepExplorer()
    one.set_examples([], [])
    assert one.xs == [] and len(other.xs) == len(other.ys) == 6


def test_weights_are_those_of_gradient_descent_by_hand():
    explorer = OneStepExplorer(step_size=0.5, steps=2, initial_weight=-1.0)
    explorer.set_examples([1.0, -2.0], [0.5, 1.0])
    first = -1.0 - 0.5 / 2 * ((-1.0 - 0.5) * 1.0 + (2.0 - 1.0) * -2.0)
    second = first - 0.5 / 2 * ((first - 0.5) * 1.0 + (-2 * first - 1.0) * -2.0)
    assert explorer.weights() == pytest.approx([-1.0, first, second], abs=1e-14)
    explorer.set_examples([], [])
    with pytest.raises(ValueError, match="N = 0"):
        explorer.weights()


# ---------------------------------------------------------------------------- without scripts
def test_one_step_is_displayed_with_a_figure_for_readers_without_scripts(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing, **_: shown.append(thing))
    explorer = OneStepExplorer(steps=3)
    explorer._ipython_display_()
    view, fallback = shown
    assert view["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert "0x" not in view["text/plain"]
    page = fallback.data
    assert page.startswith("<noscript>") and page.endswith("</noscript>")
    assert f"{explorer.weights()[-1]:.2f}" in re.search(r'alt="([^"]*)"', page)[1]
    assert len(page) < 60_000
    assert explorer.fallback_html() == OneStepExplorer(steps=3).fallback_html()
    assert explorer.fallback_html() != OneStepExplorer(steps=4).fallback_html()


def test_the_figure_without_examples_has_words_too():
    explorer = OneStepExplorer(xs=[], ys=[])
    assert "no examples" in explorer.fallback_html()


# ---------------------------------------------------------------------------- predict, then run
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"key": " "}, "key must be a text"),
        ({"question": ""}, "question must be a text"),
        ({"kind": "guess"}, "kind must be"),
        ({"kind": "choice"}, "choices must be two or more"),
        ({"kind": "choice", "choices": ["a", "a"]}, "choices must be two or more different"),
        ({"kind": "choice", "choices": ["a", ""]}, r"choices\[1\] must be a text"),
        ({"kind": "choice", "choices": ["a", "b"], "low": 0, "high": 1}, "belong to a number"),
        ({"choices": ["a", "b"]}, 'kind="choice"'),
        ({"low": 1.0}, "both or neither"),
        ({"low": 2.0, "high": 1.0}, "low must be below high"),
        ({"low": 0.0, "high": float("inf")}, "high must be a finite number"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low above 0"),
        ({"log": True}, "low above 0"),
    ],
)
def test_prediction_refuses_a_question_that_cannot_be_asked(values, words):
    with pytest.raises(ValueError, match=words):
        Prediction(**{"key": "k", "question": "How many?", **values})


def test_the_question_never_holds_the_answer():
    guess = Prediction(key="k", question="What is the loss?", low=0, high=1, unit="(half)")
    reveal = guess.reveal(0.20623, "One step reaches this.")
    assert isinstance(reveal, PredictionReveal)
    assert reveal.answer == 0.20623 and reveal.explanation == "One step reaches this."
    assert (reveal.key, reveal.low, reveal.high, reveal.unit) == ("k", 0.0, 1.0, "(half)")
    stored = repr({k: v for k, v in guess.get_state().items() if k not in ("_esm", "_css")})
    assert "0.20623" not in stored and "One step" not in stored
    assert "0.20623" not in guess.fallback_html()
    assert "0.206" in reveal.fallback_html()


def test_the_answer_may_be_set_first_and_must_fit():
    number = Prediction(key="k", question="How many?")
    with pytest.raises(ValueError, match="answer is not set"):
        number.reveal_view()
    number.answer, number.explanation = torch.tensor(1 / 3), "A third."
    assert number.reveal_view().answer == 0.333333
    for wrong in (float("nan"), "many", True):
        with pytest.raises(ValueError, match="answer must be a"):
            Prediction(key="k", question="How many?").reveal(wrong)
    choice = Prediction(key="c", question="Which?", kind="choice", choices=["this", "that"])
    assert choice.reveal("that").answer == "that"
    with pytest.raises(ValueError, match="answer must be one of"):
        choice.reveal("neither")


def test_texts_are_escaped_where_no_script_does_it():
    guess = Prediction(key="k", question="Is a < b?", kind="choice", choices=["<b>", "no"])
    assert "a &lt; b" in guess.fallback_html() and "<li>&lt;b&gt;</li>" in guess.fallback_html()
    assert "&lt;b&gt;" in guess.reveal("<b>").fallback_html()
