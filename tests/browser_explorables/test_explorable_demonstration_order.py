"""The order of demonstrations in a real browser: looking up, every way of moving a card, readers."""

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
from test_demonstration_order_explorer import random_sets

from icl_lessons.explorables import DemonstrationOrderExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.demonstration_order import LEARNERS

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-orders"
TRAITS = ("chosen", "order", "query", "model", "rate", "zoom")
SETS = random_sets(4)
ORDERS = [list(order) for order in itertools.permutations(range(4))]


def assert_same(found: dict, python: DemonstrationOrderExplorer) -> None:
    """What is shown is what the Python side looks up, which its own test compares to the table."""
    assert found["orders"] == ORDERS and found["orders"][found["at"]] == python.order
    right = python.shown["queries"][python.query]["right"]
    for name in LEARNERS:
        shown, laws = found["learners"][name], python.laws(name)
        assert np.array(shown["laws"]) == pytest.approx(laws, abs=1e-12)
        assert shown["law"] == pytest.approx(laws[found["at"]], abs=1e-12)
        chances = python.right(name)
        assert shown["chances"] == pytest.approx(chances, abs=1e-12)
        assert (shown["low"], shown["high"]) == pytest.approx((chances.min(), chances.max()))
        assert shown["below"] == (chances < chances[found["at"]]).sum()
        assert shown["correct"] == (laws[:, :-1].max(1) == laws[:, right]).sum()
        sensitivity = python.sensitivity(name)
        assert shown["sensitivity"] == pytest.approx(sensitivity[python.query])
        assert shown["mean"] == pytest.approx(sensitivity.mean())


def assert_agrees_with_python(page) -> dict:
    settle(page)
    found = json.loads(page.locator(ROOT).first.get_attribute("data-solution"))
    model = state(page)
    assert_same(found, DemonstrationOrderExplorer(SETS, **{name: model[name] for name in TRAITS}))
    assert_no_broken_numbers(page)
    return found


# ---------------------------------------------------------------------------- mathematics
LOOK_UP = (
    "\nexport const lookUp = (sets, state) => solveOrders(unpackSets(sets)[state.chosen], state);\n"
)


def cases(count: int) -> list[DemonstrationOrderExplorer]:
    draw = random.Random(1)
    return [
        DemonstrationOrderExplorer(
            SETS, chosen=i % 3, order=draw.choice(ORDERS), query=draw.randrange(3),
            model=draw.randrange(2), rate=draw.randrange(3),
        )
        for i in range(count)
    ]  # fmt: skip


def arguments(one: DemonstrationOrderExplorer) -> list:
    return [SETS, {name: getattr(one, name) for name in TRAITS}]


def test_answers_equal_those_of_python_in_random_states(mount):
    explorers = cases(20)
    source = component_source("demonstration_order_math") + LOOK_UP
    found = call(mount(), source, "lookUp", [arguments(one) for one in explorers])
    for python, one in zip(explorers, found, strict=True):
        assert_same(one, python)


def test_a_broken_look_up_is_noticed(mount):
    page, source = mount(), component_source("demonstration_order_math") + LOOK_UP
    for good, bad in [
        ("256 * bytes", "128 * bytes"),
        ("at * size + Math.min", "at + Math.min"),
        ("chance < chances[at]", "chance <= chances[at]"),
        ("law.slice(0, -1)", "law"),
    ]:
        assert source.count(good) == 1, good
        explorers = cases(6)
        found = call(page, source.replace(good, bad), "lookUp", [arguments(e) for e in explorers])
        with pytest.raises(AssertionError):
            for python, one in zip(explorers, found, strict=True):
                assert_same(one, python)


def test_moving_one_card_keeps_the_others_in_order(mount):
    source = component_source("demonstration_order_math")
    moves = [(order, a, b) for order in ORDERS[::5] for a in range(4) for b in range(4)]
    for (order, a, b), found in zip(moves, call(mount(), source, "moved", moves), strict=True):
        assert found[b] == order[a]
        assert [i for i in found if i != order[a]] == [i for i in order if i != order[a]]


# ---------------------------------------------------------------------------- moving it
def focused(page) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_buttons_and_arrow_keys_move_a_card_and_the_focus_goes_with_it(mount):
    page = mount(DemonstrationOrderExplorer(SETS))
    card = page.locator(".icl-card").first
    assert card.get_by_role("button").first.is_disabled()
    card.get_by_role("button").last.press("Enter")
    assert_agrees_with_python(page)
    assert state(page)["order"] == [1, 0, 2, 3]
    assert focused(page).startswith("noun0 verb0") and "move down to place 3" in focused(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert state(page)["order"] == [1, 2, 3, 0]
    assert focused(page).startswith("noun0 verb0") and "move up to place 3" in focused(page)
    page.keyboard.press("ArrowDown")  # the last place: nothing further
    page.keyboard.press("ArrowUp")
    assert_agrees_with_python(page)
    assert state(page)["order"] == [1, 2, 0, 3]
    words = page.locator(".icl-card").all_inner_texts()
    assert ["noun1" in words[0], "noun2" in words[1], "noun0" in words[2]] == [True] * 3


def test_a_mouse_and_a_finger_drag_a_card(mount):
    page = mount(DemonstrationOrderExplorer(SETS), width=360, has_touch=True)
    first, last = page.locator(".icl-card").first, page.locator(".icl-card").last
    first.scroll_into_view_if_needed()
    a, b = first.locator(".icl-grip").bounding_box(), last.bounding_box()
    x, y = a["x"] + a["width"] / 2, a["y"] + a["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    page.mouse.move(x, b["y"] + 20, steps=12)
    assert page.locator(".icl-held").count() == 1
    page.mouse.up()
    assert page.locator(".icl-caption").get_attribute("aria-busy") is None
    assert_agrees_with_python(page)
    assert state(page)["order"] == [1, 2, 3, 0]
    touch = page.context.new_cdp_session(page)
    down, low = last.locator(".icl-grip").bounding_box(), a["y"] + 10
    steps = [("touchStart", [down["y"] + 10]), ("touchMove", [low + 60]), ("touchMove", [low])]
    for kind, heights in [*steps, ("touchEnd", [])]:
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": down["x"] + 10, "y": at} for at in heights]},
        )
    assert_agrees_with_python(page)
    assert state(page)["order"] == [0, 1, 2, 3]


def test_every_control_moves_what_it_says(mount):
    page = mount(DemonstrationOrderExplorer(SETS))
    page.get_by_role("slider", name="One of 24 orders").press("ArrowRight")
    page.get_by_role("slider", name="Rate of both").press("ArrowRight")
    for label, name in (
        ("Demonstrations of", "chosen"),
        ("Model", "model"),
        ("Query", "query"),
    ):
        page.get_by_label(label, exact=True).select_option("1")
        assert_agrees_with_python(page)
        assert state(page)[name] == 1
    assert (state(page)["order"], state(page)["rate"]) == (ORDERS[1], 2)
    page.get_by_role("button", name="Reverse").click()
    assert_agrees_with_python(page)
    assert state(page)["order"] == ORDERS[1][::-1]
    for name, end in (("Lowest in context", "low"), ("Highest in context", "high")):
        page.get_by_role("button", name=name).click()
        found = assert_agrees_with_python(page)["learners"]["in_context"]
        assert found["chance"] == found[end]
    page.get_by_role("checkbox", name="Each from its lowest").press("Space")
    settle(page)
    assert state(page)["zoom"] is True
    page.locator(".icl-strips").click(position={"x": 12, "y": 40})
    found = assert_agrees_with_python(page)["learners"]["in_context"]
    assert found["chance"] == found["low"]


def test_presets_are_of_these_sets(mount):
    page = mount(DemonstrationOrderExplorer(SETS, query=1))
    captions = {}
    for preset in ("set 0", "set 1", "first 2", "last 2", "large"):
        page.get_by_label("Start from").select_option(preset)
        assert_agrees_with_python(page)
        assert page.get_by_label("Start from").input_value() == preset
        captions[preset] = page.locator(".icl-caption").inner_text()
    assert "Order 2 1 3 4" in captions["first 2"] and "Order 1 3 4 2" in captions["last 2"]
    assert "At rate 0.1 " in captions["large"]
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert (state(page)["query"], state(page)["chosen"]) == (1, 0)


# ---------------------------------------------------------------------------- for every reader
def test_words_and_two_views_on_a_page(mount):
    python = DemonstrationOrderExplorer(SETS, chosen=2)
    page = mount(python, DemonstrationOrderExplorer(SETS))
    words = page.locator(".icl-words").first
    assert f"In-context learning: yes {python.laws('in_context')[0, 0]:.3f}" in words.text_content()
    assert "The label of 2 (rightly" in words.text_content()
    page.get_by_role("button", name="Describe in words").first.press("Enter")
    assert words.bounding_box()["height"] > 50
    assert page.locator(".icl-caption").first.get_attribute("aria-live") == "polite"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1000, False)])
def test_axe_finds_nothing_and_nothing_is_cut_off(mount, root, width, dark):
    page = mount(DemonstrationOrderExplorer(SETS, chosen=2, zoom=dark), width=width, dark=dark)
    assert_accessible(page, root)
    for narrow in (width, 340) if dark else (width, 760):
        page.set_viewport_size({"width": narrow, "height": 900})
        settle(page)
        assert_fits(page, narrow)
