"""The one-step explorable in a real browser: its mathematics, and every way of moving it."""

import json
import random

import pytest
import torch
from bare_page import call, put_in, settle, state

from icl_lessons.estimators.descent import context_loss, gradient_descent_path
from icl_lessons.estimators.least_squares import least_squares_weights
from icl_lessons.explorables import OneStepExplorer, Prediction
from icl_lessons.explorables.base import component_source
from icl_lessons.gradient_descent.one_step import gradient_descent_attention

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-one-step"
WIDTHS = [340, 360, 760, 1200]


def column(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)


def reference(xs, ys, x_query, step_size, steps, initial_weight) -> dict:
    """The same numbers from the package: gradient descent on W, attention on tokens."""
    step_size = float(step_size)  # the page writes 20 for 20.0
    start = torch.tensor([[initial_weight]], dtype=torch.float64)
    path = gradient_descent_path(column(xs), column(ys), step_size, steps, start)
    numbers = {
        "weights": path.flatten().tolist(),
        "losses": [context_loss(w, column(xs), column(ys)).item() for w in path],
        "prediction": path[-1].item() * x_query,
        "leastSquares": least_squares_weights(column(xs), column(ys)).item(),
    }
    if steps:
        layers = gradient_descent_attention(1, 1, len(xs), step_size, start, steps)
        tokens = layers.token_path(column(xs), column(ys), column([x_query]))
        numbers["tokens"] = tokens[:, 0].tolist()
        numbers["attentionPrediction"] = layers(column(xs), column(ys), column([x_query])).item()
    return numbers


def shown(page) -> dict:
    """The numbers that the component puts on its root, at full precision."""
    settle(page)
    data = page.locator(ROOT).evaluate("(root) => ({ ...root.dataset })")
    return {
        "weights": json.loads(data["weights"]),
        "losses": json.loads(data["losses"]),
        "tokens": json.loads(data["tokens"]),
        "prediction": float(data["gradientDescentPrediction"]),
        "attentionPrediction": float(data["attentionPrediction"]),
        "leastSquares": float(data["leastSquares"]),
    }


def assert_same(found: dict, expected: dict, tolerance: float = 1e-9) -> None:
    for name, value in expected.items():
        got = torch.tensor(found[name], dtype=torch.float64)
        want = torch.tensor(value, dtype=torch.float64)
        scale = max(1.0, want.abs().max().item())
        assert got.shape == want.shape, name
        assert (got - want).abs().max().item() <= tolerance * scale, name


def arguments(page) -> dict:
    model = state(page)
    names = ("xs", "ys", "x_query", "step_size", "steps", "initial_weight")
    return {name: model[name] for name in names}


def assert_agrees_with_the_package(page) -> None:
    values = arguments(page)
    found, expected = shown(page), reference(**values)
    assert_same(found, expected)
    caption = page.locator(".icl-caption").inner_text()
    if abs(expected["prediction"]) < 1e4:
        assert f"{expected['prediction']:.3f}".replace("-", "−") in caption


def random_cases(count: int) -> list[dict]:
    draw = random.Random(7)
    cases = []
    for i in range(count):
        n = draw.randint(1, 12)
        xs = [round(draw.uniform(-2, 2), 2) for _ in range(n)]
        divergence = 2 / max(sum(x * x for x in xs) / n, 0.1)
        cases.append(
            {
                "xs": xs,
                "ys": [round(draw.uniform(-3, 3), 2) for _ in range(n)],
                "x_query": round(draw.uniform(-2, 2), 2),
                "step_size": divergence * draw.choice([0.0, 0.2, 0.5, 0.9, 1.3, 4.0]),
                "steps": i % 9,
                "initial_weight": draw.choice([0.0, round(draw.uniform(-3, 3), 2)]),
            }
        )
    return cases


# ---------------------------------------------------------------------------- mathematics
def test_the_mathematics_equals_the_package_on_random_and_divergent_cases(mount):
    cases = random_cases(180)
    keys = ("xs", "ys", "xQuery", "stepSize", "steps", "initialWeight")
    inputs = [[dict(zip(keys, case.values(), strict=True))] for case in cases]
    solutions = call(mount(), component_source("one_step_math"), "solve", inputs)
    assert {s["regime"] for s in solutions} >= {"still", "approaches", "overshoots", "diverges"}
    for case, solution in zip(cases, solutions, strict=True):
        assert_same(solution, reference(**case))
        assert solution["relativeDifference"] < 1e-13
        if solution["regime"] == "diverges" and case["steps"] > 1:
            assert solution["losses"][-1] > solution["losses"][0]
        mean_square = sum(x * x for x in case["xs"]) / len(case["xs"])
        assert solution["best"] == pytest.approx(1 / mean_square)
        assert solution["divergence"] == pytest.approx(2 / mean_square)


def test_the_two_roads_share_no_code(mount):
    """Break gradient descent, and attention does not follow; break the layer, and it shows."""
    source = component_source("one_step_math")
    case = [[{"xs": [1.0, -0.5], "ys": [1.0, 0.3], "xQuery": 1.0, "stepSize": 0.5, "steps": 2,
              "initialWeight": -1.0}]]  # fmt: skip
    page = mount()
    assert call(page, source, "solve", case)[0]["difference"] < 1e-15
    for right, wrong in [
        ("(weight * x - ys[i]) * x)) / xs.length", "(weight * x - ys[i]) * x))"),
        ("value: [[0, 0], [initialWeight, -1]]", "value: [[0, 0], [0, -1]]"),
        ("tokens.slice(0, nContext)", "tokens"),
        ("[xQuery, -initialWeight * xQuery]", "[xQuery, 0]"),
    ]:
        assert source.count(right) == 1
        broken = call(page, source.replace(right, wrong), "solve", case)[0]
        assert broken["difference"] > 1e-3, wrong


def test_degenerate_contexts(mount):
    source, base = component_source("one_step_math"), {"xQuery": 1, "steps": 2, "initialWeight": 1}
    cases = [
        [{**base, "xs": [], "ys": [], "stepSize": 0.5}],
        [{**base, "xs": [0, 0], "ys": [1, 2], "stepSize": 5}],
        [{**base, "xs": [2], "ys": [1], "stepSize": 0.25}],
        [{**base, "xs": [2], "ys": [1], "stepSize": 0.5}],
    ]
    empty, flat, best, swings = call(mount(), source, "solve", cases)
    assert empty["weights"] is None and empty["tokens"] is None
    assert empty["regime"] == "no examples"
    assert flat["regime"] == "flat" and flat["divergence"] is None and flat["leastSquares"] is None
    assert flat["weights"] == [1, 1, 1]
    assert best["regime"] == "best" and best["weights"] == [1, 0.5, 0.5]
    assert swings["regime"] == "swings" and swings["weights"] == [1, 0, 1]


# ---------------------------------------------------------------------------- moving it
def test_the_keyboard_moves_the_step_size_and_the_numbers_are_the_packages(mount):
    page = mount(OneStepExplorer())
    assert_agrees_with_the_package(page)
    before = page.locator(".icl-caption").inner_text()
    page.get_by_role("slider", name="Step size").focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    settle(page)
    assert state(page)["step_size"] == pytest.approx(0.57)
    assert page.locator(".icl-caption").inner_text() != before
    assert_agrees_with_the_package(page)
    page.get_by_label("Steps = layers").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.get_by_label("Start w").focus()
    page.keyboard.press("ArrowLeft")
    assert_agrees_with_the_package(page)
    assert (state(page)["steps"], state(page)["initial_weight"]) == (6, -0.05)
    difference = page.locator(".icl-tile-difference .icl-tile-value").inner_html()
    shown_difference = float(page.locator(ROOT).get_attribute("data-difference"))
    mantissa, exponent = f"{shown_difference:.1e}".split("e")
    exponent = exponent.replace("-0", "-").replace("-", "−")
    assert difference == f"{mantissa} × 10<sup>{exponent}</sup>"
    assert page.locator("tbody tr").count() == 7
    assert page.locator("tbody tr").last.locator("td.icl-cell").count() == 7
    assert page.evaluate("window.models[0].saved") > 0


def test_a_mouse_drags_an_example_and_the_query(mount):
    page = mount(OneStepExplorer(steps=2))
    box = page.locator("[data-example='2'] .icl-example").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    page.mouse.move(x + 30, y - 50, steps=4)
    page.mouse.up()
    assert page.locator(".icl-caption").get_attribute("aria-busy") is None
    moved = state(page)
    assert moved["xs"][2] > -0.4 + 0.1 and moved["ys"][2] > -0.1 + 0.2
    assert moved["xs"][:2] == [-1.5, -0.9]
    assert_agrees_with_the_package(page)
    box = page.locator("[data-query] .icl-query").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 5000, box["y"] - 80, steps=3)
    page.mouse.up()
    assert state(page)["x_query"] == -2
    assert_agrees_with_the_package(page)


def test_arrow_keys_move_a_focused_example_and_delete_removes_it(mount):
    page = mount(OneStepExplorer())
    example = page.get_by_role("slider", name="Example 1")
    example.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowUp")
    settle(page)
    assert (state(page)["xs"][0], state(page)["ys"][0]) == (-1.4, -1.39)
    assert example.get_attribute("aria-valuetext") == "x −1.40, y −1.39"
    assert float(example.get_attribute("aria-valuenow")) == -1.39
    assert_agrees_with_the_package(page)
    for _ in range(60):
        page.keyboard.press("ArrowDown")
    assert state(page)["ys"][0] == -3
    page.keyboard.press("Delete")
    settle(page)
    assert state(page)["xs"] == [-0.9, -0.4, 0.6, 1.1, 1.7]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Example 1"
    assert_agrees_with_the_package(page)
    page.get_by_role("slider", name="Query").focus()
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert state(page)["x_query"] == 1.3
    assert_agrees_with_the_package(page)


def test_a_finger_drags_an_example_and_may_scroll_elsewhere(mount):
    page = mount(OneStepExplorer(), width=360, has_touch=True, is_mobile=True)
    page.locator("[data-example='5']").scroll_into_view_if_needed()
    box = page.locator("[data-example='5'] .icl-example").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 9, box["y"] + box["height"] / 2 + 9  # near, not on it
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": px, "y": py} for px, py in points]},
        )

    send("touchStart", (x, y))
    for i in range(1, 5):
        send("touchMove", (x - 10 * i, y + 8 * i))
    send("touchEnd")
    settle(page)
    moved = state(page)
    assert moved["xs"][5] < 1.4 and moved["ys"][5] < 1.6
    assert_agrees_with_the_package(page)
    actions = page.evaluate(
        "[...document.querySelectorAll('.icl-plot')].map((el) => getComputedStyle(el).touchAction)"
    )
    assert set(actions) == {"pan-y"}


def test_presets_marks_adding_removing_and_reset(mount):
    page = mount(OneStepExplorer(step_size=0.4, steps=2))
    first = arguments(page)
    assert page.get_by_label("Start from").input_value() == ""
    page.get_by_label("Start from").select_option("long")
    assert_agrees_with_the_package(page)
    assert page.locator(ROOT).get_attribute("data-diverging") == "true"
    assert "It diverges" in page.locator(".icl-caption").inner_text()
    page.get_by_role("button", name="best").click()
    page.get_by_label("Start from").select_option("best")
    settle(page)
    data = shown(page)
    assert data["weights"][1] == pytest.approx(data["leastSquares"], abs=1e-3)
    page.get_by_role("button", name="a little beyond").click()
    settle(page)
    assert page.locator(ROOT).get_attribute("data-diverging") == "true"
    for _ in range(6):
        page.get_by_role("button", name="Add example").click()
        assert_agrees_with_the_package(page)
    assert page.get_by_role("button", name="Add example").is_disabled()
    assert len({*zip(state(page)["xs"], state(page)["ys"], strict=True)}) == 12
    page.get_by_role("button", name="Remove example 12").click()
    assert_agrees_with_the_package(page)
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert arguments(page) == first
    assert_agrees_with_the_package(page)


@pytest.mark.parametrize("preset", ["noisy", "noiseless", "outlier", "weight", "single"])
def test_every_preset_is_what_the_package_computes(mount, preset):
    page = mount(OneStepExplorer(step_size=0.1))
    page.get_by_label("Start from").select_option(preset)
    assert_agrees_with_the_package(page)
    assert page.get_by_label("Start from").input_value() == preset
    OneStepExplorer(**arguments(page))  # Python accepts what the page sets


def test_examples_can_be_typed(mount):
    page = mount(OneStepExplorer())
    page.get_by_text("Type the examples as numbers").click()
    field = page.get_by_label("example 2, y")
    field.fill("2.25")
    field.press("Tab")
    settle(page)
    assert state(page)["ys"][1] == 2.25
    assert_agrees_with_the_package(page)
    page.get_by_label("query, x").fill("9")
    page.get_by_label("query, x").press("Enter")
    settle(page)
    assert state(page)["x_query"] == 2


def test_the_table_shows_residuals_of_the_chosen_layer(mount):
    page = mount(OneStepExplorer(steps=3, step_size=0.3, initial_weight=-1.0))
    values = arguments(page)
    weights = reference(**values)["weights"]
    page.get_by_label("Numbers after layer").focus()
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert page.locator(ROOT).get_attribute("data-layer") == "2"
    open_cells = page.locator("tbody td.icl-open").all_inner_texts()
    moved = weights[2] - weights[0]
    rows = zip(values["xs"], values["ys"], strict=True)
    expected = [y - moved * x for x, y in rows] + [-weights[2] * values["x_query"]]
    assert [float(text.replace("−", "-")) for text in open_cells] == pytest.approx(
        expected, abs=0.0051
    )


def test_without_examples_it_says_why_there_is_nothing_to_compute(mount):
    page = mount(OneStepExplorer(xs=[0.5], ys=[1.0]))
    page.get_by_role("button", name="Remove example 1").click()
    settle(page)
    assert "N = 0" in page.locator(".icl-caption").inner_text()
    assert page.locator(ROOT).get_attribute("data-weights") is None
    page.get_by_role("button", name="Add example").click()
    assert_agrees_with_the_package(page)


def test_python_may_set_every_trait_while_it_is_shown(mount):
    page = mount(OneStepExplorer())
    page.evaluate(
        """() => { const m = window.models[0]; m.set('xs', [0, 0]); m.set('ys', [1, -1]);
        m.set('step_size', 20); m.set('steps', 8); m.set('initial_weight', 2.5); }"""
    )
    settle(page)
    assert page.locator(ROOT).get_attribute("data-regime") == "flat"
    page.evaluate(
        "() => { const m = window.models[0]; m.set('xs', [2, 2]); m.set('ys', [3, -3]); }"
    )
    assert_agrees_with_the_package(page)
    assert page.locator(ROOT).get_attribute("data-diverging") == "true"


# ---------------------------------------------------------------------------- for every reader
def test_words_for_those_who_do_not_see_the_plots(mount):
    page = mount(OneStepExplorer())
    words = page.locator(".icl-words")
    assert "example 2 at x −0.90, y −1.50" in words.text_content()
    assert words.bounding_box()["height"] <= 1
    toggle = page.get_by_role("button", name="Describe in words")
    toggle.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    assert words.bounding_box()["height"] > 50
    assert page.locator(".icl-caption").get_attribute("aria-live") == "polite"
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, [role=slider], [role=img]')]
        .filter((el) => !(el.labels?.length || el.getAttribute('aria-label') || el.textContent))
        .length"""
    )
    assert unnamed == 0


def test_jupyterlab_is_told_to_leave_the_keys_alone(mount):
    """JupyterLab's notebook takes arrow keys from a focused element without this attribute."""
    page = mount(OneStepExplorer(), Prediction(key="k", question="How many?", low=0, high=1))
    taken = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, summary, [tabindex]')]
        .filter((el) => !el.hasAttribute('data-lm-suppress-shortcuts')).length"""
    )
    assert taken == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_and_targets_are_large_enough(mount, width):
    page = mount(OneStepExplorer(steps=8, step_size=1.75, initial_weight=-2.55), width=width)
    page.get_by_text("Type the examples as numbers").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = page.evaluate(
        """() => [...document.querySelectorAll('.icl-panel')].flatMap((panel) => {
          const right = panel.getBoundingClientRect().right;
          return [...panel.querySelectorAll('*')].filter((el) => !el.closest('clipPath')
            && !el.closest('[clip-path]') && !el.closest('.icl-handle')
            && el.getBoundingClientRect().right > right + 0.5)
            .map((el) => el.outerHTML.slice(0, 80)); })"""
    )
    assert sticking_out == []
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, select, summary, input, .icl-hit')]
        .filter((el) => el.checkVisibility() && (el.getBoundingClientRect().height < 34
          || el.getBoundingClientRect().width < 34)).map((el) => el.outerHTML.slice(0, 80))"""
    )
    assert small == []


def luminance(color: str) -> float:
    parts = [float(part) / 255 for part in color[4:-1].split(",")]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(
    ("script", "dark"),
    [
        ("document.documentElement.dataset.theme = 'dark'", True),
        ("document.body.dataset.jpThemeLight = 'false'", True),
        ("document.documentElement.dataset.theme = 'light'", False),
    ],
)
def test_it_follows_the_pages_mode_with_enough_contrast(mount, script, dark):
    page = mount(OneStepExplorer(), color_scheme="light" if dark else "dark")
    page.evaluate(script)
    ground, ink, quiet, descent = page.evaluate(
        """() => { const at = (q) => getComputedStyle(document.querySelector(q));
        return [at('.icl-one-step').backgroundColor, at('.icl-caption').color,
          at('.icl-note').color, at('.icl-tile-value').color]; }"""
    )
    assert (luminance(ground) < 0.1) is dark
    for color in (ink, quiet, descent):
        light, low = sorted((luminance(color), luminance(ground)), reverse=True)
        assert (light + 0.05) / (low + 0.05) >= 4.5


def test_a_page_without_a_mode_follows_the_reader(mount):
    page = mount(OneStepExplorer(), color_scheme="dark")
    ground = page.evaluate(
        "getComputedStyle(document.querySelector('.icl-one-step')).backgroundColor"
    )
    assert luminance(ground) < 0.1


def test_two_views_share_a_page_and_leave_nothing_behind(mount):
    page = mount(OneStepExplorer(), OneStepExplorer(steps=3))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    put_in(page, OneStepExplorer(steps=2))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0, 0]
