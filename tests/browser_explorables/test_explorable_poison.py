"""A poisoned context in a real browser: its mathematics, every way of moving it, every reader."""

import json
import random

import numpy as np
import pytest
from bare_page import (
    assert_accessible,
    assert_fits,
    assert_no_broken_numbers,
    call,
    settle,
    state,
)

from icl_lessons.explorables import PoisonedContextExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.poisoned_context import LEARNERS, TARGETS

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-poison"
NAMES = {
    "which": "which",
    "example": "example",
    "query": "query",
    "step_size": "stepSize",
    "steps": "steps",
    "penalty": "penalty",
    "delta": "delta",
    "threshold": "threshold",
    "budget": "budget",
    "learner": "learner",
    "target": "target",
}


def javascript(python: PoisonedContextExplorer) -> dict:
    return {js: getattr(python, name) for name, js in NAMES.items()}


def random_explorers(count: int) -> list[PoisonedContextExplorer]:
    draw = random.Random(7)
    return [
        PoisonedContextExplorer(
            which=1 + i % 6,
            example=[round(draw.uniform(-4, 4), 2), round(draw.uniform(-8, 8), 2)],
            query=round(draw.uniform(-3, 3), 2),
            step_size=round(draw.uniform(0.1, 1.2), 3),
            steps=draw.randrange(2, 31),
            penalty=round(draw.uniform(0.05, 10), 2),
            delta=round(draw.uniform(0.1, 6), 2),
            threshold=round(draw.uniform(0.1, 4), 2),
            budget=round(draw.uniform(0.2, 5), 2),
            learner=LEARNERS[i % 4],
            target=round(draw.uniform(-4, 4), 2),
        )
        for i in range(count)
    ]


def assert_same(found: dict, python: PoisonedContextExplorer) -> None:
    """Both roads, the influences and the verdicts are the package's."""
    after, before = python.predictions(), python.predictions(clean=True)
    moved, broken = python.moved(), python.broken()
    influence, clean = python.influence(), python.influence(clean=True)
    for name in LEARNERS:
        scale = max(1, abs(after[name]))
        for road in ("after", "bySum"):
            assert abs(found[road][name] - after[name]) < 1e-9 * scale, (road, name)
        assert found["before"][name] == pytest.approx(before[name], abs=1e-10)
        assert found["moved"][name] == pytest.approx(moved[name], abs=1e-9 * scale)
        assert found["broken"][name] == broken[name]
        assert found["influence"][name] == pytest.approx(influence[name], rel=1e-8, abs=1e-9)
        assert found["cleanInfluence"][name] == pytest.approx(clean[name], rel=1e-8, abs=1e-9)


def now(page) -> PoisonedContextExplorer:
    model = state(page)
    return PoisonedContextExplorer(**{name: model[name] for name in NAMES})


def assert_agrees_with_the_package(page) -> PoisonedContextExplorer:
    settle(page)
    python = now(page)
    assert_same(json.loads(page.locator(ROOT).get_attribute("data-solution")), python)
    assert_no_broken_numbers(page)
    verdicts = page.locator(".icl-methods tbody td:last-child").all_inner_texts()
    assert ["breaks" in text for text in verdicts] == list(python.broken().values())
    return python


# ---------------------------------------------------------------------------- mathematics
def test_everything_equals_the_package_in_random_states(mount):
    explorers = random_explorers(24)
    page, source = mount(), component_source("poisoned_context_math")
    cases = [[javascript(python)] for python in explorers]
    found = [call(page, source, name, cases) for name in ("solvePoison", "worstExample")]
    hijacks = call(page, source, "hijackExample", cases)
    for python, solution, worst, hijack in zip(explorers, *found, hijacks, strict=True):
        assert_same(solution, python)
        which, example = python.worst()
        assert worst["which"] == which and worst["example"] == pytest.approx(example, abs=1e-12)
        x, y = python.hijack()
        assert hijack["label"] == pytest.approx(y, rel=1e-9, abs=1e-9)
        assert hijack["example"] == pytest.approx([x, np.clip(y, -8, 8)])
        assert hijack["reached"] == (abs(y) <= 8)


def test_the_two_roads_share_no_code(mount):
    page, source = mount(), component_source("poisoned_context_math")
    case = [[javascript(PoisonedContextExplorer(steps=4, penalty=2))]]
    for good, bad, broken in [
        ("(1 - stepSize * mu) ** steps)", "(1 - stepSize * mu) ** (steps + 1))", {"steps"}),
        ("1 / (N * mu + penalty)", "1 / (mu + penalty)", {"ridge"}),
        ("(stepSize / N) * (1 + x * query)", "stepSize * (1 + x * query)", {"one_step"}),
        ("ys.map((y) => clip(y, delta))", "ys", {"clipped"}),
        ("gw += (residual * x) / N;", "gw += residual * x;", {"one_step", "steps", "clipped"}),
    ]:
        assert source.count(good) == 1, good
        [found] = call(page, source.replace(good, bad), "solvePoison", case)
        away = {
            name for name in LEARNERS if abs(found["after"][name] - found["bySum"][name]) > 1e-3
        }
        assert away == broken, good


# ---------------------------------------------------------------------------- moving it
def test_the_keyboard_moves_every_control(mount):
    page = mount(PoisonedContextExplorer())
    before = page.locator(".icl-caption").inner_text()
    for label, name, value in [
        ("Step size", "step_size", 0.85),
        ("Steps K", "steps", 11),
        ("Ridge", "penalty", 1.05),
        ("Clip labels", "delta", 1.1),
        ("Broken if", "threshold", 1.1),
        ("Budget", "budget", 3.1),
        ("Hijack: one step", "target", 3.1),
    ]:
        page.get_by_role("slider", name=label).press("ArrowRight")
        python = assert_agrees_with_the_package(page)
        assert getattr(python, name) == pytest.approx(value), name
    page.get_by_role("slider", name="The query x").press("ArrowLeft")
    assert assert_agrees_with_the_package(page).query == pytest.approx(1.6)
    page.get_by_role("slider", name="Example 6").press("Shift+ArrowUp")
    python = assert_agrees_with_the_package(page)
    assert python.example == pytest.approx([1.4, 5.01])
    page.get_by_role("slider", name="Example 2").press("ArrowDown")
    python = assert_agrees_with_the_package(page)
    assert (python.which, python.example) == (2, [-0.9, pytest.approx(0.8)])
    assert page.locator(".icl-caption").inner_text() != before


def drag(page, which: int, dx: float, dy: float) -> None:
    handle = page.get_by_role("slider", name=f"Example {which}")
    handle.scroll_into_view_if_needed()
    box = handle.locator(".icl-hit").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()


def test_any_example_is_dragged_and_the_last_one_goes_back(mount):
    page = mount(PoisonedContextExplorer(), width=360)
    drag(page, 6, 20, 60)
    python = assert_agrees_with_the_package(page)
    assert python.which == 6 and python.example[0] > 1.4 and python.example[1] < 5
    drag(page, 1, 0, -80)
    python = assert_agrees_with_the_package(page)
    assert python.which == 1 and python.example[1] > 2.5
    back = page.get_by_role("slider", name="Example 6").get_attribute("aria-valuetext")
    assert back == "1.40, −0.90"
    drag(page, 1, -900, -900)
    assert assert_agrees_with_the_package(page).example == [-4, 8]


def test_attacks_are_placed_by_buttons(mount):
    page = mount(PoisonedContextExplorer(which=2, example=[0.0, 0.0]))
    for learner in LEARNERS:
        page.get_by_label("Worst for").select_option(learner)
        page.get_by_role("button", name="Place the worst label").click()
        python = assert_agrees_with_the_package(page)
        which, example = python.worst()
        assert python.learner == learner and python.which == which
        assert python.example == pytest.approx(example)
        assert python.moved()[learner] > 0
    page.get_by_role("button", name="Hijack one step").click()
    python = assert_agrees_with_the_package(page)
    assert python.predictions()["one_step"] == pytest.approx(3, abs=1e-5)
    page.get_by_role("slider", name="Hijack: one step").press("End")
    page.get_by_role("button", name="Hijack one step").click()
    python = assert_agrees_with_the_package(page)
    assert python.example[1] == 8 and python.predictions()["one_step"] < 4
    assert "outside the plot" in page.locator("main").inner_text()
    mend = page.get_by_role("button", name="Put the example back")
    mend.click()
    python = assert_agrees_with_the_package(page)
    assert python.example[1] == TARGETS[python.which - 1] and mend.is_disabled()
    assert set(python.moved().values()) == {0.0}


def test_every_preset_is_what_the_package_computes(mount):
    page = mount(PoisonedContextExplorer(which=3, example=[1.0, 1.0]))
    captions = {}
    for preset in ["label", "clean", "input", "distant", "hijack"]:
        page.get_by_label("Start from").select_option(preset)
        assert_agrees_with_the_package(page)
        assert page.get_by_label("Start from").input_value() == preset
        captions[preset] = page.locator(".icl-caption").inner_text()
    assert "broken: one-step GD, 10-step GD and ridge. Not: clipped" in captions["label"]
    assert "No learner has moved" in captions["clean"]
    assert "Not: ridge and clipped" in captions["input"]
    assert "10-step GD overshoots farther" in captions["input"]
    assert "one-step GD from −0.82 to 3.00" in captions["hijack"]
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert (now(page).which, now(page).example) == (3, [1.0, 1.0])


# ---------------------------------------------------------------------------- for every reader
def test_words_for_those_who_do_not_see_the_plots_and_two_views_on_a_page(mount):
    page = mount(PoisonedContextExplorer(), PoisonedContextExplorer(which=2))
    words = page.locator(".icl-words").first
    a, b = PoisonedContextExplorer().weights()["ridge"]
    assert f"ridge draws the line y = {a:.2f} + {b:.2f} x" in words.text_content()
    page.get_by_role("button", name="Describe in words").first.press("Enter")
    assert words.bounding_box()["height"] > 50
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0]


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1000, True)])
def test_axe_finds_nothing_and_nothing_is_cut_off(mount, root, width, dark):
    page = mount(PoisonedContextExplorer(), width=width, dark=dark)
    assert_accessible(page, root)
    assert_fits(page, width)
    large = {"example": [4, -8], "steps": 30, "step_size": 1.2, "query": -3}
    page.evaluate("(v) => Object.entries(v).forEach((one) => window.models[0].set(...one))", large)
    python = assert_agrees_with_the_package(page)
    assert abs(python.moved()["steps"]) > 1e6
    for narrow in (340, 760):
        page.set_viewport_size({"width": narrow, "height": 900})
        settle(page)
        assert_fits(page, narrow)
