"""The weight update in a real browser: its mathematics, every way of moving it, every reader."""

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

from icl_lessons.explorables import WeightUpdateExplorer
from icl_lessons.explorables.base import component_source

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-update"
TRAITS = ("xs", "ys", "query", "skip", "patch_bias", "kept", "seed")


def javascript(python: WeightUpdateExplorer) -> dict:
    return {
        "tokens": python.context().tolist(),
        "query": python.query,
        "skip": python.skip,
        "patchBias": python.patch_bias,
        "kept": np.reshape(python.kept, (-1, 2)).tolist(),
        "seed": python.seed,
    }


def random_explorers(count: int) -> list[WeightUpdateExplorer]:
    draw = random.Random(7)
    found = []
    for i in range(count):
        xs, ys, query, moved = (
            [round(draw.uniform(-2, 2), 2) for _ in range(n)] for n in (i % 13, i % 13, 2, 2)
        )
        one = WeightUpdateExplorer(
            xs=xs, ys=ys, query=query, skip=i % 2 == 1, patch_bias=i % 3 > 0, seed=i
        )
        if i % 4 == 3:
            one.keep()
            one.query = moved
        found.append(one)
    return found


def assert_same(found: dict, python: WeightUpdateExplorer) -> None:
    """What is shown is what the Python side computes, which its own test compares to the package."""
    left, right, bias = python.update()
    size = np.linalg.norm(left) * np.linalg.norm(right)
    scale = max(1.0, size)
    assert np.array(found["delta"]) == pytest.approx(np.outer(left, right), abs=1e-10 * scale)
    assert found["bias"] == pytest.approx(bias, abs=1e-12)
    for name, shown in (("with_context", "withContext"), ("changed",) * 2, ("without",) * 2):
        assert found[shown] == pytest.approx(python.outputs()[name], abs=1e-10 * scale), name
    dense = python.weights()["dense"]
    assert found["singularW"] == pytest.approx(np.linalg.svd(dense, compute_uv=False), abs=1e-12)
    assert found["singular"] == pytest.approx([size, 0, 0, 0], abs=1e-13 * scale)
    assert found["rank"] == (1 if size > 1e-11 else 0)
    if not python.kept and (python.patch_bias or not python.skip):
        assert found["gap"] < 1e-12 * scale
    _, shares = python.attention(python.context(), np.array(python.query))
    assert found["shares"] == pytest.approx(shares, abs=1e-12)


def assert_agrees_with_the_package(page) -> dict:
    settle(page)
    found = json.loads(page.locator(ROOT).first.get_attribute("data-solution"))
    model = state(page)
    assert_same(found, WeightUpdateExplorer(**{name: model[name] for name in TRAITS}))
    assert_no_broken_numbers(page)
    return found


# ---------------------------------------------------------------------------- mathematics
def test_both_roads_equal_the_package_in_random_states(mount):
    explorers = random_explorers(9)
    page, source = mount(), component_source("weight_update_math")
    states = [javascript(one) for one in explorers]
    solutions = call(page, source, "solveUpdate", [[one] for one in states])
    for python, found in zip(explorers, solutions, strict=True):
        assert_same(found, python)
    maps = call(page, source, "errorMap", [[states[7], solutions[7]]])
    python = explorers[7]
    for j, i in [(0, 3), (8, 8), (16, 5)]:
        python.query = [maps[0]["along"][i], maps[0]["along"][j]]
        shown = python.outputs()
        for name, of in (("errors", "changed"), ("alone", "without")):
            expected = np.linalg.norm(shown[of] - shown["with_context"])
            assert maps[0][name][j][i] == pytest.approx(expected, abs=1e-5), name


def test_the_two_roads_share_no_code(mount):
    """Break the update, and the outputs part."""
    page, source = mount(), component_source("weight_update_math")
    cases = [[javascript(WeightUpdateExplorer(skip=skip))] for skip in (False, True)]
    for good, bad in [
        ("value / inner(right, right)", "value / inner(added, added)"),
        ("delta: outer(left, right)", "delta: outer(left, added)"),
        ("a) => plus(row, change[a])", "a) => plus(row, change[0])"),
    ]:
        assert source.count(good) == 1, good
        for found in call(page, source.replace(good, bad), "solveUpdate", cases):
            assert found["gap"] > 1e-2, good


# ---------------------------------------------------------------------------- moving it
def test_tokens_are_dragged_added_and_removed(mount):
    page = mount(WeightUpdateExplorer(), width=360)
    token = page.get_by_role("slider", name="Token 2")
    token.scroll_into_view_if_needed()
    box = token.locator(".icl-example").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    page.mouse.move(x + 20, y - 30, steps=3)
    page.mouse.up()
    moved = assert_agrees_with_the_package(page)
    assert state(page)["xs"][1] > -0.8 and state(page)["ys"][1] > -1.3 and moved["rank"] == 1
    page.get_by_role("button", name="Add token").click()
    more = assert_agrees_with_the_package(page)
    assert len(state(page)["xs"]) == 6 and more["size"] != moved["size"] and more["rank"] == 1
    token.focus()
    x = state(page)["xs"][1]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    settle(page)
    assert state(page)["xs"][1] == pytest.approx(x - 0.11)
    for left in range(5, -1, -1):
        page.keyboard.press("Delete")
        assert len(state(page)["xs"]) == left
    assert (
        assert_agrees_with_the_package(page)["rank"] == 0
        and "rank 0" in page.locator(".icl-caption").inner_text()
    )


def test_a_kept_update_is_right_at_one_query_only(mount):
    page = mount(WeightUpdateExplorer())
    page.get_by_label("Keep this update").check()
    assert assert_agrees_with_the_package(page)["fits"]
    for name in ("The query", "The query, on the map of errors"):
        page.get_by_role("slider", name=name, exact=True).press("ArrowLeft")
        found = assert_agrees_with_the_package(page)
        assert not found["fits"] and found["gap"] > 1e-2
    assert "kept update is wrong here" in page.locator(".icl-caption").inner_text()
    assert page.locator(".icl-changed").count() == 10
    page.get_by_label("Keep this update").uncheck()
    assert assert_agrees_with_the_package(page)["fits"]
    page.get_by_label("Skip connection").check()
    page.get_by_label("Patch the bias too").uncheck()
    found = assert_agrees_with_the_package(page)
    assert found["gap"] == pytest.approx(np.linalg.norm(found["added"]))
    assert "Patch the bias." in page.locator(".icl-caption").inner_text()
    page.get_by_role("button", name="Another random block").click()
    assert_agrees_with_the_package(page)
    assert state(page)["seed"] == 8


def test_every_preset_is_what_the_package_computes(mount):
    page = mount(WeightUpdateExplorer(xs=[], ys=[]))
    captions = {}
    for preset in ["five", "twelve", "one", "kept", "skip", "unpatched"]:
        page.get_by_label("Start from").select_option(preset)
        assert_agrees_with_the_package(page)
        assert page.get_by_label("Start from").input_value() == preset
        captions[preset] = page.locator(".icl-caption").inner_text()
    assert "12 tokens stand as one change of W of rank 1" in captions["twelve"]
    assert "the outputs part by 0.870" in captions["kept"]
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert state(page)["xs"] == []


# ---------------------------------------------------------------------------- for every reader
def test_words_for_those_who_do_not_see_the_plots_and_two_views_on_a_page(mount):
    page = mount(WeightUpdateExplorer(), WeightUpdateExplorer(seed=8))
    words = page.locator(".icl-words").first
    assert f"{WeightUpdateExplorer().outputs()['changed'][2]:.6f}" in words.text_content()
    page.get_by_role("button", name="Describe in words").first.press("Enter")
    assert words.bounding_box()["height"] > 50
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1000, False)])
def test_axe_finds_nothing_and_nothing_is_cut_off(mount, root, width, dark):
    explorer = WeightUpdateExplorer(skip=True)
    explorer.keep()
    explorer.query = [-0.8, 0.5]
    page = mount(explorer, width=width, dark=dark)
    assert_accessible(page, root)
    for narrow in (width, 340) if dark else (width, 760):
        page.set_viewport_size({"width": narrow, "height": 900})
        settle(page)
        assert_fits(page, narrow)
