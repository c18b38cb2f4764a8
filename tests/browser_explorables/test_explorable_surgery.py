"""Objective surgery in a real browser: its mathematics, every way of moving it, every reader."""

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

from icl_lessons.explorables import ObjectiveSurgeryExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.objective_surgery import MOST_LAYERS, OBJECTIVES, OUTLIER

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-surgery"
NAMES = {
    "objective": "objective",
    "step_size": "stepSize",
    "layers": "layers",
    "ridge": "ridge",
    "delta": "delta",
    "outlier_weight": "outlierWeight",
    "forgotten": "forgotten",
    "metric": "metric",
    "outlier": "outlier",
    "row": "row",
}
PARTS = {
    "squared": set(),
    "ridge": {"keep"},
    "huber": set(),
    "absolute": set(),
    "cosine": set(),
    "sign_flipped": {"projection"},
    "weighted": {"keyWeights"},
    "forget": {"gamma"},
    "metric": {"gamma"},
}


def javascript(traits: dict) -> dict:
    full = ObjectiveSurgeryExplorer(**traits)
    return {js: getattr(full, name) for name, js in NAMES.items()}


def random_traits(count: int) -> list[dict]:
    draw = random.Random(5)
    return [
        {
            "objective": list(OBJECTIVES)[i % len(OBJECTIVES)],
            "step_size": round(draw.uniform(0.05, 1.5), 3),
            "layers": draw.randrange(MOST_LAYERS + 1),
            "ridge": round(draw.uniform(0.05, 2), 3),
            "delta": round(draw.uniform(0.05, 4), 3),
            "outlier_weight": round(draw.uniform(0, 3), 2),
            "forgotten": draw.choice([1, 2]),
            "metric": round(draw.uniform(0.1, 1), 3),
            "outlier": [round(draw.uniform(-3, 3), 2) for _ in range(2)],
            "row": draw.choice([1, 2]),
        }
        for i in range(count)
    ]


def some(part) -> bool:
    return any(some(one) for one in part) if isinstance(part, list) else part


def assert_same(found: dict, traits: dict) -> None:
    """Both roads, the losses and the layer's parts are the package's."""
    python = ObjectiveSurgeryExplorer(**traits)
    shown, path = python.layers + 1, python.weights()
    scale = max(1.0, np.abs(path).max())
    for road in ("weights", "attention"):
        assert np.abs(np.array(found[road][:shown]) - path).max() < 1e-9 * scale, road
    assert found["difference"] < 1e-10 * scale
    assert found["losses"][:shown] == pytest.approx(python.inner_losses(), rel=1e-8, abs=1e-9)
    assert found["errors"][:shown] == pytest.approx(python.task_errors(), rel=1e-8, abs=1e-9)
    plain = python.unedited().task_errors()
    assert found["plainErrors"][:shown] == pytest.approx(plain, rel=1e-8, abs=1e-9)
    layer, rate = found["layer"], python.step_size / 8
    sign = -1 if python.objective == "sign_flipped" else 1
    assert np.array(layer["gamma"]) == pytest.approx(python.preconditioner(), abs=1e-12)
    assert np.array(layer["projection"]) == pytest.approx(sign * rate * np.eye(2), abs=1e-14)
    kept = (1 - python.step_size * python.leak()) * np.eye(2)
    assert np.array(layer["keep"]) == pytest.approx(kept, abs=1e-14)
    assert layer["keyWeights"] == pytest.approx(python.example_weights())
    xs, ys = python.context()
    assert np.array(found["targets"]) == pytest.approx(ys, abs=1e-13)
    written = sign * np.array(found["values"])
    assert written == pytest.approx(python.values(xs @ path[-1].T), rel=1e-8, abs=1e-8 * scale)


def assert_agrees_with_the_package(page) -> dict:
    settle(page)
    found = json.loads(page.locator(ROOT).get_attribute("data-solution"))
    model = state(page)
    assert_same(found, {name: model[name] for name in NAMES})
    assert_no_broken_numbers(page)
    return found


def change(page, values: dict) -> None:
    page.evaluate("(v) => Object.entries(v).forEach((one) => window.models[0].set(...one))", values)


# ---------------------------------------------------------------------------- mathematics
def test_both_roads_equal_the_package_in_random_states(mount):
    cases = random_traits(18)
    inputs = [[javascript(traits)] for traits in cases]
    solutions = call(mount(), component_source("objective_surgery_math"), "solveSurgery", inputs)
    for traits, found in zip(cases, solutions, strict=True):
        assert_same(found, traits)
        changed = {name for name, part in found["changed"].items() if some(part)}
        assert changed == PARTS[traits["objective"]], traits


def test_the_two_roads_share_no_code(mount):
    """Break a road, and the other does not follow."""
    page, source = mount(), component_source("objective_surgery_math")
    base = {"layers": 6, "ridge": 0.5, "outlier_weight": 0.3, "metric": 0.7, "delta": 0.5}
    cases = [[javascript({**base, "objective": name})] for name in OBJECTIVES]
    every = set(OBJECTIVES)
    for good, bad, broken in [
        ("clip(target - p[a], delta)", "clip(target - p[a], 2 * delta)", {"huber"}),
        ("Math.sign(target - p[a])", "Math.sign(p[a] - target)", {"absolute"}),
        ("(cosine * p[a]) / length) / length", "(cosine * p[a]) / length)", {"cosine"}),
        ("1 - stepSize * ridge : 1", "1 - ridge : 1", {"ridge"}),
        ("keyWeights[i] * dot(", "dot(", {"weighted"}),
        ("(slope[a] * x[b]) / N", "slope[a] * x[b]", every),
        ("w - stepSize * gradient[a][b]", "w + stepSize * gradient[a][b]", every),
    ]:
        assert source.count(good) == 1, good
        found = call(page, source.replace(good, bad), "solveSurgery", cases)
        pairs = zip(OBJECTIVES, found, strict=True)
        assert {name for name, one in pairs if one["difference"] > 1e-3} == broken, good


def test_contours_lie_on_their_levels(mount):
    page, source = mount(), component_source("objective_surgery_math")
    traits = javascript({"objective": "squared"})
    python = ObjectiveSurgeryExplorer(objective="squared")
    last = python.weights()[-1]
    [slice_] = call(
        page, source, "sliceOf", [[traits, last.tolist(), 1, [-1.8, 2.4], [-1.6, 2.2], 36]]
    )
    weights = last.copy()
    weights[1] = slice_["xs"][7], slice_["ys"][30]
    assert slice_["values"][30][7] == pytest.approx(python.inner_loss(weights), abs=1e-12)
    arguments = [slice_[name] for name in ("xs", "ys", "values", "levels")]
    lines = call(page, source, "contourLines", [arguments])[0]
    assert len(lines) == 11 and all(lines)
    for level, segments in zip(slice_["levels"], lines, strict=True):
        for x, y in (point for x1, y1, x2, y2 in segments[::5] for point in ((x1, y1), (x2, y2))):
            weights[1] = x, y
            assert python.inner_loss(weights) == pytest.approx(level, abs=0.01)


# ---------------------------------------------------------------------------- moving it
def test_the_keyboard_moves_every_control(mount):
    page = mount(ObjectiveSurgeryExplorer())
    before = page.locator(".icl-caption").inner_text()
    for label, name, value in [("Step size", "step_size", 0.45), ("Layers", "layers", 13)]:
        page.get_by_role("slider", name=label).press("ArrowRight")
        assert_agrees_with_the_package(page)
        assert state(page)[name] == pytest.approx(value)
    settings = {
        "ridge": ("Leak", "ridge", 0.55),
        "huber": ("Clip at", "delta", 0.55),
        "weighted": ("Outlier's key", "outlier_weight", 0.15),
        "metric": ("From I to", "metric", 0.95),
    }
    for objective in OBJECTIVES:
        page.get_by_label("The edit", exact=True).select_option(objective)
        settle(page)
        visible = {
            key
            for key, (label, *_) in settings.items()
            if page.get_by_role("slider", name=label).is_visible()
        }
        assert visible == {objective} & set(settings)
        if objective in settings:
            label, name, value = settings[objective]
            key = "ArrowLeft" if objective == "metric" else "ArrowRight"
            page.get_by_role("slider", name=label).press(key)
            settle(page)
            assert state(page)[name] == pytest.approx(value)
        assert_agrees_with_the_package(page)
        marked = page.locator(".icl-changed").count()
        assert (marked == 0) == (objective == "squared")
    page.get_by_label("The edit", exact=True).select_option("forget")
    page.get_by_label("The feature to forget").select_option("1")
    page.get_by_label("Weights of").select_option("2")
    assert_agrees_with_the_package(page)
    assert (state(page)["forgotten"], state(page)["row"]) == (1, 2)
    assert page.locator(".icl-caption").inner_text() != before


def test_it_steps_plays_and_goes_back(mount):
    page = mount(ObjectiveSurgeryExplorer(layers=36))
    page.get_by_role("button", name="One layer").click()
    settle(page)
    assert state(page)["layers"] == 37
    play = page.get_by_role("button", name="Play")
    play.click()
    page.get_by_role("button", name="Pause").wait_for()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    play.wait_for()  # it pauses by itself at the end
    assert state(page)["layers"] == MOST_LAYERS
    assert page.locator(".icl-caption").get_attribute("aria-busy") is None
    assert page.get_by_role("button", name="One layer").is_disabled()
    page.get_by_role("button", name="To layer 0").click()
    assert_agrees_with_the_package(page)
    assert "No layer yet" in page.locator(".icl-caption").inner_text()
    page.emulate_media(reduced_motion="reduce")
    play.click()
    settle(page)
    assert state(page)["layers"] == MOST_LAYERS and play.is_visible()


def test_the_outlier_is_dragged_and_moved_by_keys(mount):
    page = mount(ObjectiveSurgeryExplorer(), width=360)
    page.locator(".icl-handle .icl-outlier").scroll_into_view_if_needed()
    box = page.locator(".icl-handle .icl-outlier").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    assert page.locator(".icl-caption").get_attribute("aria-busy") == "true"
    page.mouse.move(x + 60, y + 40, steps=3)
    page.mouse.up()
    moved = state(page)["outlier"]
    assert moved[0] > -2 and moved[1] < 2
    assert_agrees_with_the_package(page)
    handle = page.get_by_role("slider", name="The outlier's target")
    handle.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    settle(page)
    assert state(page)["outlier"] == pytest.approx([moved[0] - 0.1, moved[1] - 0.01])
    for _ in range(40):
        page.keyboard.press("ArrowUp")
    found = assert_agrees_with_the_package(page)
    assert found["targets"][OUTLIER][1] == 3


def test_every_preset_is_what_the_package_computes(mount):
    page = mount(ObjectiveSurgeryExplorer(layers=3, objective="ridge"))
    captions = {}
    for preset in ["huber", "squared", "weighted", "cosine", "flipped", "forget", "metric"]:
        page.get_by_label("Start from").select_option(preset)
        assert_agrees_with_the_package(page)
        assert page.get_by_label("Start from").input_value() == preset
        captions[preset] = page.locator(".icl-caption").inner_text()
    assert "Without the edit the error would be 11.6 times" in captions["huber"]
    assert "risen since layer 3" in captions["squared"]
    assert "The mean cosine is 0.999" in captions["cosine"]
    assert "only risen" in captions["flipped"]
    assert "the first layer is at the bottom" in captions["metric"]
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert (state(page)["layers"], state(page)["objective"]) == (3, "ridge")


# ---------------------------------------------------------------------------- for every reader
def test_words_for_those_who_do_not_see_the_plots_and_two_views_on_a_page(mount):
    page = mount(ObjectiveSurgeryExplorer(layers=2), ObjectiveSurgeryExplorer(layers=4))
    words = page.locator(".icl-words").first
    a, b = ObjectiveSurgeryExplorer(layers=2).weights()[2, 0]
    spoken = f"({a:.2f}, {b:.2f})".replace("-", "−")
    assert f"{spoken}. Without the edit it ends at" in words.text_content()
    page.get_by_role("button", name="Describe in words").first.press("Enter")
    assert words.bounding_box()["height"] > 50
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1000, False)])
def test_axe_finds_nothing_and_nothing_is_cut_off(mount, root, width, dark):
    page = mount(ObjectiveSurgeryExplorer(), width=width, dark=dark)
    for objective in ("huber", "metric"):
        page.get_by_label("The edit", exact=True).select_option(objective)
        settle(page)
        assert_accessible(page, root)
        assert_fits(page, width)
    large = {"objective": "sign_flipped", "layers": 40, "step_size": 1.5}
    change(page, large)
    assert_agrees_with_the_package(page)
    for narrow in (340, 760):
        page.set_viewport_size({"width": narrow, "height": 900})
        settle(page)
        assert_fits(page, narrow)
