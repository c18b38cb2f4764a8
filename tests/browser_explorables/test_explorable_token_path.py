"""The token path in a real browser: its mathematics, every way of moving it, every reader."""

import itertools
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

from icl_lessons.explorables import TokenPathExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.token_path import EXAMPLES

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-token-path"
TRAITS = (
    "weights", "attention", "order", "path", "read", "slope", "query", "shuffle", "seed",
)  # fmt: skip


def traits_of(python: TokenPathExplorer) -> dict:
    return {name: getattr(python, name) for name in TRAITS}


def random_explorers() -> list[TokenPathExplorer]:
    draw = random.Random(3)
    return [
        TokenPathExplorer(
            attention=attention, path=path, order=order, slope=round(draw.uniform(-2, 2), 2),
            query=round(draw.uniform(0.3, 2), 2), seed=draw.randrange(1000), shuffle=i,
        )
        for i, (attention, path, order) in enumerate(
            itertools.product(
                ("softmax", "linear"), ("additive", "factorised"), ("sorted", "shuffled")
            )
        )
    ]  # fmt: skip


def assert_same(found: dict, python: TokenPathExplorer, read: int | None = None) -> None:
    """What is shown is what the Python side computes, which its own test compares to the package."""
    assert np.array(found["examples"]) == pytest.approx(python.context(), abs=1e-12)
    for kind in ("written", "random"):
        expected, shown = python.trace(kind), found[kind]
        weights = expected.weights if read is None else expected.weights[read]
        scale = max(1.0, np.abs(expected.weights).max())
        assert np.abs(np.array(shown["weights"]) - weights).max() < 1e-9 * scale
        assert shown["increments"] == pytest.approx(expected.increments, abs=1e-9 * scale)
        assert shown["slope"] == pytest.approx(expected.slope, abs=1e-6)
        for name, values in (
            ("changed", expected.changed),
            ("withContext", expected.with_context),
        ):
            assert np.abs(np.array(shown[name]) - values).max() < 1e-9 * scale, name
        singular = expected.singular if read is None else expected.singular[read]
        assert np.array(shown["singular"]) == pytest.approx(singular, abs=1e-9 * scale)
        assert shown["difference"] < 1e-12 * scale


def assert_agrees_with_the_package(page) -> dict:
    settle(page)
    found = json.loads(page.locator(ROOT).first.get_attribute("data-solution"))
    model = state(page)
    python = TokenPathExplorer(**{name: model[name] for name in TRAITS})
    assert_same(found, python, python.read)
    assert_no_broken_numbers(page)
    return found


# ---------------------------------------------------------------------------- mathematics
def test_paths_equal_the_package_in_random_states(mount):
    explorers = random_explorers()
    source = component_source("token_path_math")
    solutions = call(mount(), source, "solvePath", [[traits_of(one)] for one in explorers])
    for python, found in zip(explorers, solutions, strict=True):
        assert_same(found, python)


def test_the_roads_share_no_code(mount):
    """Break one, and the others do not follow."""
    page, source = mount(), component_source("token_path_math")
    cases = [[traits_of(TokenPathExplorer(path=path))] for path in ("additive", "factorised")]
    for good, bad in [
        ("const h = 1 / inner(fed[0], fed[0]);", "const h = 2 / inner(fed[0], fed[0]);"),
        ("plus(read, fed[0], -1)", "plus(read, fed[0], 1)"),
        ("1 / inner(rest[i], rest[i])", "1 / inner(rest[0], rest[0])"),
    ]:
        assert source.count(good) == 1, good
        which = 1 if "rest" in good else 0
        found = call(page, source.replace(good, bad), "solvePath", [cases[which]])[0]["written"]
        gap = np.abs(np.array(found["changed"]) - np.array(found["withContext"])).max()
        assert max(gap, found["difference"] or 0) > 1e-2, good


# ---------------------------------------------------------------------------- moving it
def test_the_keyboard_moves_every_control(mount):
    page = mount(TokenPathExplorer())
    for label, name, value in [
        ("Tokens read", "read", 31), ("Slope", "slope", 1.3), ("Query x", "query", 0.85),
    ]:  # fmt: skip
        page.get_by_role("slider", name=label).press("ArrowRight")
        settle(page)
        assert state(page)[name] == pytest.approx(value)
    for label, name, value in [
        ("Weights of the block", "weights", "random"), ("Attention", "attention", "linear"),
        ("Order of the examples", "order", "sorted"), ("Path", "path", "factorised"),
    ]:  # fmt: skip
        page.get_by_label(label, exact=True).select_option(value)
        assert_agrees_with_the_package(page)
        assert state(page)[name] == value
    page.get_by_role("button", name="Shuffle").click()
    settle(page)
    page.get_by_role("button", name="Shuffle again").click()
    page.get_by_role("button", name="Other examples").click()
    assert_agrees_with_the_package(page)
    assert (state(page)["order"], state(page)["shuffle"], state(page)["seed"]) == (
        "shuffled",
        1,
        71,
    )


def test_it_steps_plays_and_goes_back(mount):
    page = mount(TokenPathExplorer(read=97))
    page.get_by_role("button", name="One token").click()
    settle(page)
    assert state(page)["read"] == 98
    play = page.get_by_role("button", name="Play")
    play.click()
    page.get_by_role("button", name="Pause").wait_for()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    play.wait_for()  # it pauses by itself at the end
    assert state(page)["read"] == EXAMPLES
    assert page.locator(".icl-caption").get_attribute("aria-busy") is None
    assert page.get_by_role("button", name="One token").is_disabled()
    page.get_by_role("button", name="To token 0").click()
    assert_agrees_with_the_package(page)
    assert "After 0 tokens" in page.locator(".icl-caption").inner_text()
    page.emulate_media(reduced_motion="reduce")
    play.click()
    settle(page)
    assert state(page)["read"] == EXAMPLES and play.is_visible()


def test_every_preset_is_what_the_package_computes(mount):
    page = mount(TokenPathExplorer(read=3))
    captions = {}
    for preset in ["written", "random", "linear", "sorted", "factorised"]:
        page.get_by_label("Start from").select_option(preset)
        assert_agrees_with_the_package(page)
        assert page.get_by_label("Start from").input_value() == preset
        captions[preset] = page.locator(".icl-caption").inner_text()
    assert "−1.05 here, −0.97 with the random weights" in captions["written"]
    assert "there is no 1/i" in captions["linear"]
    assert "rank two" in captions["factorised"]
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert state(page)["read"] == 3


# ---------------------------------------------------------------------------- for every reader
def test_words_and_two_views_on_a_page(mount):
    page = mount(TokenPathExplorer(), TokenPathExplorer(weights="random"))
    words = page.locator(".icl-words").first
    assert f"100: {TokenPathExplorer().trace().changed[-1]:.3f}" in words.text_content()
    page.get_by_role("button", name="Describe in words").first.press("Enter")
    assert words.bounding_box()["height"] > 50
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1000, False)])
def test_axe_finds_nothing_and_nothing_is_cut_off(mount, root, width, dark):
    page = mount(TokenPathExplorer(path="factorised", read=90), width=width, dark=dark)
    assert_accessible(page, root)
    for narrow in (width, 340) if dark else (width, 760):
        page.set_viewport_size({"width": narrow, "height": 900})
        settle(page)
        assert_fits(page, narrow)
