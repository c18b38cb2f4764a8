"""The sine explorable in a real browser: its mathematics, every way of moving it, every reader."""

import json
import math

import numpy as np
import pytest
import torch
from bare_page import call, put_in, settle, state

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.explorables import SinusoidExplorer
from icl_lessons.explorables.base import component_source

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-sinusoid"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
NAMES = {
    "xs": "xs",
    "offsets": "offsets",
    "amplitude": "amplitude",
    "phase": "phase",
    "features": "features",
    "steps": "steps",
    "step_scale": "stepScale",
    "x_query": "xQuery",
    "weights": "weights",
    "gelu": "gelu",
}
GRID = np.linspace(-5, 5, 201)


def random_weights(seed: int = 0, width: int = 7, hidden: int = 11) -> dict:
    """A network whose step is short enough for a few layers."""
    draw = np.random.default_rng(seed)
    return {
        "embedding": 0.6 * draw.normal(size=(width, 2)),
        "w_in": draw.normal(size=(hidden, width)) / width**0.5,
        "b_in": draw.normal(size=hidden),
        "w_out": draw.normal(size=(width, hidden)) / hidden**0.5,
        "b_out": 0.1 * draw.normal(size=width),
        "step_size": 0.05,
    }


def explorer(seed: int = 0, **values) -> SinusoidExplorer:
    return SinusoidExplorer(random_weights(seed), **values)


def traits_of(page) -> dict:
    model = state(page)
    return {name: model[name] for name in NAMES}


def estimator(python: SinusoidExplorer, x) -> np.ndarray:
    """The predictions by `icl_lessons.estimators` on the tokens' features."""
    context = python.tokens(python.xs, python.true_curve(python.xs) + python.offsets)
    asked = python.tokens(x, np.zeros(len(x)))
    learner = GradientDescent(python.own_step_size(), python.steps)
    found = learner(
        torch.tensor(context[None, :, :-1]),
        torch.tensor(context[None, :, -1:]),
        torch.tensor(asked[None, :, :-1]),
    )
    return found[0, :, 0].numpy() - asked[:, -1]


def close(found, expected) -> bool:
    found, expected = np.array(found), np.array(expected)
    return np.abs(found - expected).max() < 1e-9 * max(1.0, np.abs(expected).max())


def assert_agrees_with_the_package(page) -> None:
    settle(page)
    traits = traits_of(page)
    python = SinusoidExplorer(**traits)
    data = page.locator(ROOT).evaluate("(root) => ({ ...root.dataset })")
    curve = json.loads(data["curve"])
    assert close(curve, python.predictions(GRID)) and close(curve, estimator(python, GRID))
    assert close(float(data["prediction"]), estimator(python, [python.x_query])[0])
    errors = []
    for features in (True, False):
        python.features = features
        errors.append(python.error())
    errors.append(np.square(python.true_curve(GRID)).mean() / 2)
    assert json.loads(data["errors"]) == pytest.approx(errors, rel=1e-8, abs=1e-15)
    python.features = traits["features"]
    tokens = python.tokens(python.xs, python.true_curve(python.xs) + python.offsets)
    query = python.tokens([python.x_query], [0.0])[0]
    assert close(json.loads(data["kernel"]), tokens[:, :-1] @ query[:-1])
    assert float(data["difference"]) < 1e-11 * max(1.0, np.abs(curve).max())
    text = page.locator("main").inner_text()
    assert "NaN" not in text and "Infinity" not in text and "undefined" not in text


# ---------------------------------------------------------------------------- mathematics
def test_erf_and_gelu_are_exact(mount):
    page, source = mount(), component_source("sinusoid_math")
    points = [float(x) for x in np.linspace(-8, 8, 1601)]
    found = call(page, source, "erf", [[x] for x in points])
    assert max(abs(got - math.erf(x)) for got, x in zip(found, points, strict=True)) < 1e-13
    wrapped = source + "\nexport const both = (x) => [gelu.tanh(x), gelu.erf(x)];\n"
    both = np.array(call(page, wrapped, "both", [[x] for x in points]))
    tensor = torch.tensor(points, dtype=torch.float64)
    for column, form in enumerate(("tanh", "none")):
        expected = torch.nn.functional.gelu(tensor, approximate=form).numpy()
        assert np.abs(both[:, column] - expected).max() < 1e-12


def test_both_roads_equal_the_package_on_random_networks(mount):
    draw = np.random.default_rng(5)
    page, source = mount(), component_source("sinusoid_math")
    for seed in range(12):
        count = int(draw.integers(1, 21))
        python = explorer(
            seed,
            xs=draw.uniform(-5, 5, count),
            offsets=draw.normal(size=count).clip(-2, 2),
            amplitude=draw.uniform(0, 1),
            phase=draw.uniform(0, 6.28),
            steps=seed % 9,
            step_scale=draw.uniform(0, 2),
            gelu=("tanh", "erf")[seed % 2],
            x_query=draw.uniform(-5, 5),
        )
        traits = {NAMES[name]: getattr(python, name) for name in NAMES}
        [solution] = call(page, source, "solveSine", [[traits]])
        for name, features in (("network", True), ("line", False)):
            python.features = features
            assert close(solution[name]["curve"], estimator(python, GRID))
            assert close(solution[name]["prediction"], python.predictions([python.x_query])[0])
            assert solution[name]["error"] == pytest.approx(python.error(), rel=1e-8, abs=1e-15)
            assert solution[name]["relativeDifference"] < 1e-11


def test_the_two_roads_share_no_code(mount):
    """Break a road, and the other does not follow."""
    page, source = mount(), component_source("sinusoid_math")
    python = explorer(1, steps=3)
    case = [[{NAMES[name]: getattr(python, name) for name in NAMES}]]
    assert call(page, source, "solveSine", case)[0]["network"]["difference"] < 1e-12
    for right, wrong in [
        ("(residual * value) / features.length", "residual * value"),
        ("inner(weights, f) - targetOf(context[i])", "inner(weights, f)"),
        ("slot - rate * inner(slots, among[j])", "slot"),
        ("predictions: asked.map((slot) => -slot)", "predictions: asked"),
    ]:
        assert source.count(right) == 1, right
        broken = call(page, source.replace(right, wrong), "solveSine", case)[0]
        assert broken["network"]["difference"] > 1e-3, wrong


# ---------------------------------------------------------------------------- moving it
def test_features_are_switched_and_every_slider_moves_by_keyboard(mount):
    page = mount(explorer())
    assert_agrees_with_the_package(page)
    moves = {
        "Amplitude": ("amplitude", 0.41),
        "Phase": ("phase", 0.81),
        "Examples": ("xs", 11),
        "Steps = attention layers": ("steps", 2),
        "Step size": ("step_scale", 1.05),
    }
    switch = page.get_by_role("checkbox", name="Features")
    for label, (name, value) in moves.items():
        page.get_by_role("slider", name=label).focus()
        page.keyboard.press("ArrowRight")
        settle(page)
        found = state(page)[name]
        assert (len(found) if name == "xs" else found) == pytest.approx(value), name
        switch.press("Space")
        assert_agrees_with_the_package(page)
    assert state(page)["features"] is False
    assert "a line through the origin" in page.locator(".icl-caption").inner_text()
    assert page.evaluate("window.models[0].saved") > 0
    examples = page.get_by_role("slider", name="Examples")
    for name, count in (("Home", 1), ("End", 20)):
        examples.press(name)
        assert_agrees_with_the_package(page)
        assert len(state(page)["xs"]) == len(state(page)["offsets"]) == count
        assert page.locator("[data-example]").count() == count


def test_examples_and_the_query_are_dragged(mount):
    page = mount(explorer())
    box = page.locator("[data-example='2'] .icl-example").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = state(page)
    page.mouse.move(x, y)
    page.mouse.down()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    page.mouse.move(x + 25, y - 40, steps=4)
    page.mouse.up()
    moved = state(page)
    assert moved["xs"][2] > before["xs"][2] + 0.3 and moved["offsets"][2] != 0
    assert moved["xs"][:2] == before["xs"][:2]
    assert_agrees_with_the_package(page)
    assert "1 of them moved off it" in page.locator(".icl-caption").inner_text()
    page.get_by_role("button", name="Put the examples back").click()
    settle(page)
    assert set(state(page)["offsets"]) == {0}
    box = page.locator(".icl-query").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 5000, box["y"], steps=3)
    page.mouse.up()
    assert state(page)["x_query"] == -5
    assert_agrees_with_the_package(page)


def test_arrow_keys_move_an_example_and_delete_removes_it(mount):
    page = mount(explorer())
    first = state(page)["xs"][0]
    example = page.get_by_role("slider", name="Example 1", exact=True)
    example.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert state(page)["xs"][0] == pytest.approx(first + 0.1)
    assert state(page)["offsets"][0] == 0  # sideways means along the sine
    page.keyboard.press("ArrowUp")
    settle(page)
    assert state(page)["xs"][0] == pytest.approx(first + 0.1)
    assert state(page)["offsets"][0] == pytest.approx(0.1, abs=0.006)
    assert_agrees_with_the_package(page)
    page.keyboard.press("Delete")
    settle(page)
    assert len(state(page)["xs"]) == 9
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Example 1"
    page.get_by_role("slider", name="Query").press("ArrowRight")
    settle(page)
    assert state(page)["x_query"] == 1.6
    assert_agrees_with_the_package(page)


@pytest.mark.parametrize(
    "preset", ["plain", "off", "few", "side", "outlier", "large", "turned", "steps"]
)
def test_every_preset_is_what_the_package_computes(mount, preset):
    page = mount(explorer(amplitude=0.2, steps=2, xs=[1.0, 2.0]))
    first = traits_of(page)
    page.get_by_label("Start from").select_option(preset)
    assert_agrees_with_the_package(page)
    assert page.get_by_label("Start from").input_value() == preset
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert traits_of(page) == first


def test_extremes_show_numbers(mount):
    page = mount(explorer(step_scale=3, steps=8, amplitude=1))
    assert_agrees_with_the_package(page)
    page.evaluate("window.models[0].set('features', false)")
    settle(page)
    assert page.locator(ROOT).get_attribute("data-grows") == "true"
    assert "steps are too long" in page.locator(".icl-caption").inner_text()
    for values in ({"amplitude": 0}, {"steps": 0}, {"xs": [0], "offsets": [0]}):
        page.evaluate(
            "(values) => Object.entries(values).forEach(([n, v]) => window.models[0].set(n, v))",
            values,
        )
        assert_agrees_with_the_package(page)


def test_python_may_give_another_network(mount):
    page = mount(explorer(0))
    before = page.locator(ROOT).get_attribute("data-curve")
    page.evaluate("(w) => window.models[0].set('weights', w)", explorer(4).weights)
    assert_agrees_with_the_package(page)
    assert page.locator(ROOT).get_attribute("data-curve") != before


# ---------------------------------------------------------------------------- for every reader
def test_words_for_those_who_do_not_see_the_plots(mount):
    page = mount(explorer())
    words = page.locator(".icl-words")
    assert "example 2 at x " in words.text_content()
    assert words.bounding_box()["height"] <= 1
    toggle = page.get_by_role("button", name="Describe in words")
    toggle.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    assert words.bounding_box()["height"] > 50
    assert page.locator(".icl-caption").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1000, False)])
def test_axe_finds_nothing_and_jupyterlab_leaves_the_keys_alone(mount, root, width, dark):
    page = mount(explorer(), width=width, dark=dark)
    page.add_script_tag(path=str(root / "tests/browser/vendor/axe.min.js"))
    for _ in range(2):
        found = page.evaluate(
            """(tags) => axe.run(document.querySelector('main'), {runOnly: tags})
            .then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 120))]))""",
            AXE_RULES,
        )
        assert found == []
        page.get_by_role("checkbox", name="Features").press("Space")
        settle(page)
    taken = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, summary, [tabindex]')]
        .filter((el) => !el.hasAttribute('data-lm-suppress-shortcuts')).length"""
    )
    assert taken == 0


@pytest.mark.parametrize("width", [340, 360, 760, 1200])
def test_nothing_is_cut_off_and_targets_are_large_enough(mount, width):
    page = mount(explorer(steps=8, step_scale=3, amplitude=1), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = page.evaluate(
        """() => [...document.querySelectorAll('.icl-panel, .icl-tiles')].flatMap((panel) => {
          const right = panel.getBoundingClientRect().right;
          return [...panel.querySelectorAll('*')].filter((el) => el.tagName !== 'g' && !el.closest('clipPath')
            && !el.closest('[clip-path]') && !el.closest('.icl-handle')
            && el.getBoundingClientRect().right > right + 0.5)
            .map((el) => el.outerHTML.slice(0, 80)); })"""
    )
    assert sticking_out == []
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, select, .icl-check label, input[type=range], .icl-hit')]
        .filter((el) => el.checkVisibility() && (el.getBoundingClientRect().height < 34
          || el.getBoundingClientRect().width < 34)).map((el) => el.outerHTML.slice(0, 80))"""
    )
    assert small == []


def test_two_views_share_a_page_and_leave_nothing_behind(mount):
    page = mount(explorer(), explorer(1, steps=3))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    put_in(page, explorer(2))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0, 0]
