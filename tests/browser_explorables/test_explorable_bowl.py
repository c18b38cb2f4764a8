"""The quadratic bowl in a real browser: its mathematics, every way of moving it, every reader."""

import json
import random

import numpy as np
import pytest
import torch
from bare_page import call, put_in, settle, state

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.preconditioned import (
    GradientDescentPlusPlus,
    PreconditionedGradientDescent,
)
from icl_lessons.explorables import QuadraticBowlExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.bowl import METHODS

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-bowl-explorer"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
NAMES = {
    "conditioning": "conditioning",
    "angle": "angle",
    "fit_conditioning": "fitConditioning",
    "fit_angle": "fitAngle",
    "target": "target",
    "step_size": "stepSize",
    "gamma": "gamma",
    "own_weights": "ownWeights",
    "layers": "layers",
    "methods": "methods",
}


def traits_of(page) -> dict:
    model = state(page)
    return {name: model[name] for name in (*NAMES, "method")}


def javascript(traits: dict) -> dict:
    return {NAMES[name]: value for name, value in traits.items() if name in NAMES}


def estimators(traits: dict) -> dict[str, np.ndarray]:
    """The last weights of each method by `icl_lessons.estimators`, on examples of this covariance."""
    bowl = QuadraticBowlExplorer(**traits)
    if bowl.layers == 0:
        return {}
    xs = torch.tensor(np.linalg.cholesky(2 * bowl.covariance()).T.copy())[None]
    ys = xs @ torch.tensor(bowl.target, dtype=torch.float64)[:, None]
    sizes, gammas = zip(*bowl.schedule(), strict=True)
    preconditioner = torch.tensor(bowl.preconditioner()).expand(bowl.layers, 2, 2)
    learners = {
        "descent": GradientDescent(bowl.step_size, bowl.layers),
        "preconditioned": PreconditionedGradientDescent(bowl.step_size, preconditioner),
        "plusplus": GradientDescentPlusPlus(sizes, [gamma / 2 for gamma in gammas]),
    }
    queries = torch.eye(2, dtype=torch.float64)[None]
    return {name: learner(xs, ys, queries).flatten().numpy() for name, learner in learners.items()}


def assert_same(found: dict, traits: dict) -> None:
    """Both roads of every method are the package's paths, and the spectra are numpy's."""
    bowl = QuadraticBowlExplorer(**traits)
    paths, losses, last = bowl.paths(), bowl.losses(), estimators(traits)
    s = bowl.covariance()
    for name in METHODS:
        one = found[name]
        roads = [np.array(one["weights"])]
        attention = one["attention"]
        roads.append(np.array(attention["weights"] if isinstance(attention, dict) else attention))
        scale = max(1.0, np.abs(paths[name]).max())
        for road in roads:
            assert road.shape == paths[name].shape == (bowl.layers + 1, 2)
            assert np.abs(road - paths[name]).max() < 1e-10 * scale, name
            if name in last:
                assert np.abs(road[-1] - last[name]).max() < 1e-9 * scale, name
        assert one["losses"] == pytest.approx(losses[name], rel=1e-8, abs=1e-10 * scale)
        assert one["difference"] < 1e-10 * scale
    for got, matrix in [("descent", s), ("preconditioned", bowl.preconditioner() @ s)]:
        expected = np.sort(np.linalg.eigvals(matrix).real)
        assert np.sort(found[got]["spectra"][-1]) == pytest.approx(expected, rel=1e-8)


def shown(page) -> dict:
    settle(page)
    return json.loads(page.locator(ROOT).get_attribute("data-solution"))


def assert_agrees_with_the_package(page) -> None:
    found, traits = shown(page), traits_of(page)
    assert_same(found, traits)
    text = page.locator("main").inner_text()
    assert "NaN" not in text and "Infinity" not in text and "undefined" not in text


def random_traits(count: int) -> list[dict]:
    draw = random.Random(3)
    return [
        {
            "conditioning": round(10 ** draw.uniform(0, 2), 3),
            "angle": round(draw.uniform(0, 180), 2),
            "fit_conditioning": round(10 ** draw.uniform(0, 2), 3),
            "fit_angle": round(draw.uniform(0, 180), 2),
            "target": [round(draw.uniform(-2, 2), 2), round(draw.uniform(-1.5, 1.5), 2)],
            "step_size": round(draw.choice([0.0, draw.uniform(0, 1.9), draw.uniform(2, 2.5)]), 4),
            "gamma": round(draw.choice([0.0, 1 / 3, draw.uniform(0, 0.5)]), 6),
            "own_weights": bool(i % 2),
            "layers": i % 13,
        }
        for i in range(count)
    ]


# ---------------------------------------------------------------------------- mathematics
def test_both_roads_equal_the_package_on_random_bowls(mount):
    cases = random_traits(104)
    inputs = [[javascript(traits)] for traits in cases]
    solutions = call(mount(), component_source("bowl_math"), "solveBowl", inputs)
    for traits, solution in zip(cases, solutions, strict=True):
        assert_same(solution["methods"], traits)


def test_the_two_roads_share_no_code(mount):
    """Break a road, and the other does not follow."""
    source = component_source("bowl_math")
    case = [
        [
            javascript(
                {
                    **random_traits(8)[7],
                    "conditioning": 9,
                    "step_size": 0.7,
                    "gamma": 0.2,
                    "layers": 4,
                }
            )
        ]
    ]
    page = mount()
    right = call(page, source, "solveBowl", case)[0]["methods"]
    assert max(right[name]["difference"] for name in METHODS) < 1e-12
    for good, bad, broken in [
        ("-layer.stepSize / N_EXAMPLES", "-layer.stepSize", set(METHODS) - {"newton"}),
        ("move(times(product(A, A), gradient())", "move(times(A, gradient())", {"plusplus"}),
        ("-layer.gamma / N_EXAMPLES", "layer.gamma / N_EXAMPLES", {"plusplus"}),
        ('["b", "y", share]', '["b", "y", 1]', {"newton"}),
        ("product(product(M, S), M)", "product(M, M)", {"newton"}),
    ]:
        assert source.count(good) == 1, good
        methods = call(page, source.replace(good, bad), "solveBowl", case)[0]["methods"]
        assert {name for name in METHODS if methods[name]["difference"] > 1e-3} == broken, good


def test_the_examples_have_the_bowls_covariance_and_layers_its_spectra(mount):
    source = component_source("bowl_math")
    cases = random_traits(26)
    inputs = [[javascript(traits)] for traits in cases]
    page = mount()
    tokens = call(page, source, "exampleTokens", inputs)
    solutions = call(page, source, "solveBowl", inputs)
    for traits, found, solution in zip(cases, tokens, solutions, strict=True):
        bowl = QuadraticBowlExplorer(**traits)
        xs, ys = np.array(found)[:, :2], np.array(found)[:, 2]
        assert np.abs(xs.T @ xs / 4 - bowl.covariance()).max() < 1e-14
        assert np.abs(xs @ bowl.target - ys).max() < 1e-14
        plusplus = solution["methods"]["plusplus"]
        for inputs_after, spectrum in zip(
            plusplus["attention"]["inputs"], plusplus["spectra"], strict=True
        ):
            after = np.linalg.eigvalsh(np.array(inputs_after).T @ np.array(inputs_after) / 4)
            assert after == pytest.approx(sorted(spectrum), rel=1e-6, abs=1e-12)
        newton = solution["methods"]["newton"]
        for inverse, spectrum in zip(
            newton["attention"]["inverse"], newton["spectra"], strict=True
        ):
            got = np.linalg.eigvals(np.array(inverse) @ bowl.covariance()).real
            assert np.sort(got) == pytest.approx(sorted(spectrum), abs=1e-9)


# ---------------------------------------------------------------------------- moving it
def test_the_keyboard_moves_every_slider(mount):
    page = mount(QuadraticBowlExplorer())
    assert_agrees_with_the_package(page)
    before = page.locator(".icl-caption").inner_text()
    moves = {
        "Condition number": ("conditioning", 15.8),
        "Direction of the valley": ("angle", 31),
        "Layers": ("layers", 7),
        "Step size": ("step_size", 0.81),
        "GD++: γ": ("gamma", 0.34),
    }
    for label, (name, value) in moves.items():
        page.get_by_role("slider", name=label).focus()
        page.keyboard.press("ArrowRight")
        settle(page)
        assert state(page)[name] == pytest.approx(value, rel=0.02), name
        assert_agrees_with_the_package(page)
    page.get_by_label("GD++: own").press("Space")
    assert_agrees_with_the_package(page)
    assert state(page)["own_weights"] is False
    assert page.locator(".icl-caption").inner_text() != before
    assert page.evaluate("window.models[0].saved") > 0


def test_the_lowest_point_is_dragged_and_moved_by_keys(mount):
    page = mount(QuadraticBowlExplorer())
    box = page.locator(".icl-goal").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    page.mouse.move(x - 90, y + 60, steps=4)
    page.mouse.up()
    assert page.locator(".icl-caption").get_attribute("aria-busy") is None
    moved = state(page)["target"]
    assert moved[0] < 0.6 and moved[1] < 1.0
    assert_agrees_with_the_package(page)
    goal = page.get_by_role("slider", name="The lowest point")
    goal.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    settle(page)
    assert state(page)["target"] == pytest.approx([moved[0] + 0.1, moved[1] - 0.01])
    for _ in range(40):
        page.keyboard.press("ArrowUp")
    settle(page)
    assert state(page)["target"][1] == 1.5
    assert goal.get_attribute("aria-valuetext").endswith("1.50")
    assert_agrees_with_the_package(page)


def test_a_finger_drags_the_lowest_point(mount):
    page = mount(QuadraticBowlExplorer(), width=360, has_touch=True, is_mobile=True)
    page.locator(".icl-goal").scroll_into_view_if_needed()
    box = page.locator(".icl-goal").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 8, box["y"] + box["height"] / 2 + 8
    touch = page.context.new_cdp_session(page)
    for kind, points in [
        ("touchStart", [(x, y)]),
        ("touchMove", [(x - 30, y + 20)]),
        ("touchMove", [(x - 60, y + 40)]),
        ("touchEnd", []),
    ]:
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": px, "y": py} for px, py in points]},
        )
    settle(page)
    assert state(page)["target"][0] < 0.8
    assert_agrees_with_the_package(page)


@pytest.mark.parametrize("preset", ["valley", "round", "long", "shifted", "collapse"])
def test_every_preset_is_what_the_package_computes(mount, preset):
    page = mount(QuadraticBowlExplorer(step_size=0.1, layers=2))
    first = traits_of(page)
    page.get_by_label("Start from").select_option(preset)
    assert_agrees_with_the_package(page)
    assert page.get_by_label("Start from").input_value() == preset
    found = shown(page)
    caption = page.locator(".icl-caption").inner_text()
    ends = {name: found[name]["losses"][-1] for name in METHODS}
    start = found["descent"]["losses"][0]
    if preset == "valley":
        assert ends["preconditioned"] < ends["plusplus"] < 0.01 * ends["descent"]
    if preset == "round":
        assert ends["descent"] == pytest.approx(ends["preconditioned"])
    if preset == "long":
        assert ends["descent"] > start and "Gradient descent diverges" in caption
    if preset == "shifted":
        assert ends["preconditioned"] > start > ends["descent"]
        assert "Preconditioned descent diverges" in caption and "does harm" in caption
        assert "preconditioned" in json.loads(page.locator(ROOT).get_attribute("data-outside"))
        assert "Off the plot: preconditioned descent" in page.locator("main").inner_text()
    if preset == "collapse":
        spectra = found["plusplus"]["spectra"]
        assert max(spectra[0]) / min(spectra[0]) == pytest.approx(100)
        assert max(spectra[-1]) / min(spectra[-1]) < 1.01
        assert ends["plusplus"] < 1e-9 < 1e-3 * ends["descent"]
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert traits_of(page) == first


def test_the_preconditioner_is_fitted_again(mount):
    page = mount(QuadraticBowlExplorer(angle=100, conditioning=30, step_size=1.0, layers=1))
    assert "fitted to another covariance" in page.locator(".icl-caption").inner_text()
    fit = page.get_by_role("button", name="Fit P to this covariance")
    fit.click()
    settle(page)
    assert (state(page)["fit_angle"], state(page)["fit_conditioning"]) == (100, 30)
    assert fit.is_disabled()
    assert shown(page)["preconditioned"]["losses"][-1] < 1e-25
    assert "is the identity" in page.locator(".icl-caption").inner_text()


def test_methods_are_switched_and_their_layers_shown(mount):
    page = mount(QuadraticBowlExplorer(layers=4))
    paths = page.locator(".icl-bowl-explorer [aria-label^='Contours'] polyline")
    assert paths.count() == 4
    page.get_by_role("checkbox", name="Newton").uncheck()
    settle(page)
    assert state(page)["methods"] == ["descent", "preconditioned", "plusplus"]
    assert paths.count() == 3
    assert "with Newton" not in page.locator(".icl-caption").inner_text()
    choose, layer = page.get_by_label("The layers of"), page.get_by_label("After layer")
    for method in METHODS:
        choose.select_option(method)
        settle(page)
        found = shown(page)[method]
        row = page.locator(".icl-panel .icl-rows").first.locator("tbody tr").last
        assert row.locator("th").inner_text() == "4"
        first = row.locator("td").first.inner_text()
        if "·" not in first:
            number = float(first.replace("−", "-"))
            assert number == pytest.approx(found["spectra"][4][0], abs=6e-4)
    choose.select_option("preconditioned")
    layer.focus()
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert page.locator(ROOT).get_attribute("data-layer") == "3"
    numbers = page.locator(".icl-pair .icl-matrix").first.locator("td").all_inner_texts()
    shown_matrix = [float(text.replace("−", "-")) for text in numbers if text]
    bowl = QuadraticBowlExplorer()
    expected = np.zeros((3, 3))
    expected[:2, :2] = bowl.preconditioner()
    assert shown_matrix == pytest.approx(expected.flatten(), abs=6e-3)
    for box in page.locator(".icl-methods input").all():
        box.set_checked(False)
    settle(page)
    assert "No method is chosen" in page.locator(".icl-caption").inner_text()


def test_the_edges_of_every_range_show_numbers(mount):
    page = mount(QuadraticBowlExplorer())
    for values in [
        {
            "conditioning": 100,
            "fit_conditioning": 100,
            "angle": 90,
            "fit_angle": 0,
            "layers": 12,
            "step_size": 2.5,
        },
        {"conditioning": 1, "fit_conditioning": 1, "gamma": 0.5, "own_weights": False},
        {"layers": 0},
        {"layers": 12, "target": [0, 0], "gamma": 0, "step_size": 0},
    ]:
        page.evaluate(
            "(values) => Object.entries(values).forEach(([n, v]) => window.models[0].set(n, v))",
            values,
        )
        for method in METHODS:
            page.get_by_label("The layers of").select_option(method)
            assert_agrees_with_the_package(page)


# ---------------------------------------------------------------------------- for every reader
def test_words_for_those_who_do_not_see_the_plots(mount):
    page = mount(QuadraticBowlExplorer(layers=2))
    words = page.locator(".icl-words")
    weights = QuadraticBowlExplorer(layers=2).paths()["descent"][1]
    spoken = ", ".join(f"{value:.2f}".replace("-", "−") for value in weights)
    assert f"Gradient descent visits (0.00, 0.00), ({spoken})" in words.text_content()
    toggle = page.get_by_role("button", name="Describe in words")
    toggle.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    assert page.locator(".icl-caption").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1000, True)])
def test_axe_finds_nothing_and_jupyterlab_leaves_the_keys_alone(mount, root, width, dark):
    page = mount(QuadraticBowlExplorer(), width=width, dark=dark)
    page.add_script_tag(path=str(root / "tests/browser/vendor/axe.min.js"))
    for method in ("plusplus", "newton"):
        page.get_by_label("The layers of").select_option(method)
        settle(page)
        found = page.evaluate(
            """(tags) => axe.run(document.querySelector('main'), {runOnly: tags})
            .then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 120))]))""",
            AXE_RULES,
        )
        assert found == []
    taken = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, summary, [tabindex]')]
        .filter((el) => !el.hasAttribute('data-lm-suppress-shortcuts')).length"""
    )
    assert taken == 0


@pytest.mark.parametrize("width", [340, 360, 760, 1200])
@pytest.mark.parametrize("method", ["plusplus", "newton"])
def test_nothing_is_cut_off_and_targets_are_large_enough(mount, width, method):
    page = mount(
        QuadraticBowlExplorer(
            layers=12, conditioning=100, fit_angle=120, step_size=1.1, method=method
        ),
        width=width,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = page.evaluate(
        """() => [...document.querySelectorAll('.icl-panel, .icl-beside')].flatMap((panel) => {
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
    page = mount(QuadraticBowlExplorer(), QuadraticBowlExplorer(layers=3))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    put_in(page, QuadraticBowlExplorer(layers=2))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0, 0]
