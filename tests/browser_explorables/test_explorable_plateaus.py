"""The plateaus of training in a real browser: their mathematics, their controls, every reader."""

import json
import random

import numpy as np
import pytest
import torch
from bare_page import (
    assert_accessible,
    assert_fits,
    assert_no_broken_numbers,
    call,
    settle,
    state,
)

from icl_lessons.explorables import PlateauExplorer
from icl_lessons.explorables.base import component_source
from icl_lessons.explorables.training_plateaus import KINDS, D
from icl_lessons.implicit_dynamics.training_plateaus import (
    escape_step,
    plateau_losses,
    reduced_losses,
    shrinkage,
)

pytestmark = pytest.mark.needs_chromium

ROOT = ".icl-plateaus"
MATH = "training_plateaus_math"
TRAITS = ("eigenvalues", "start", "examples", "heads", "rank", "seed", "time", "shown", "time_axis")


def javascript(traits: dict) -> dict:
    full = PlateauExplorer(**traits)
    law = {name: getattr(full, name) for name in ("eigenvalues", "examples", "heads", "rank")}
    return {**law, "size": full.start, "seed": full.seed}


def assert_agrees_with_python(page) -> dict:
    settle(page)
    found = json.loads(page.locator(ROOT).get_attribute("data-solution"))
    traits = state(page)
    python = PlateauExplorer(**{name: traits[name] for name in TRAITS})
    assert found["plateaus"] == pytest.approx(python.plateau_losses(), rel=1e-12)
    runs = python.runs()
    assert found["horizon"] == pytest.approx(runs["merged"].times[-1], rel=1e-8)
    for kind, run in runs.items():
        assert found["ends"][kind]["steps"] == len(run.times)
        expected = [(run.times[peak], run.losses[end]) for peak, end in run.drops()]
        drops = [(drop["time"], drop["loss"]) for drop in found["drops"][kind]]
        assert np.array(drops) == pytest.approx(np.array(expected), rel=1e-8)
        product = np.array(found["products"][kind]).reshape(D, D)
        assert product == pytest.approx(python.product(kind), abs=1e-6)
    assert_no_broken_numbers(page)
    return found


# ---------------------------------------------------------------------------- mathematics
def test_every_step_of_training_is_that_of_python(mount):
    draw = random.Random(6)
    cases = [
        {
            "eigenvalues": [round(draw.uniform(0.1, 1), 3) for _ in range(D)],
            "examples": draw.randrange(1, 60),
            "start": round(draw.uniform(0.1, 0.6), 3),
            "heads": 2 + i,
            "rank": 1 + i % 3,
            "seed": draw.randrange(1000),
        }
        for i in range(4)
    ]
    inputs = [[javascript(traits)] for traits in cases]
    for traits, found in zip(
        cases, call(mount(), component_source(MATH), "followBoth", inputs), strict=True
    ):
        for kind, run in PlateauExplorer(**traits).runs().items():
            javascripts = found["runs"][kind]
            assert javascripts["times"] == pytest.approx(run.times, rel=1e-9)
            assert javascripts["losses"] == pytest.approx(run.losses, abs=1e-9)
            assert javascripts["falls"] == pytest.approx(run.falls, rel=1e-5, abs=1e-10)


def test_the_reduced_equations_are_those_of_the_package(mount):
    """The closed form's speed is the package's equation, and so are its start and its loss."""
    page, source = mount(), component_source(MATH)
    law = {"eigenvalues": [0.7, 0.4, 0.2, 0.1], "examples": 20}
    lam = torch.tensor(law["eigenvalues"], dtype=torch.float64)
    rho = shrinkage(lam, 20)
    [halves] = call(page, source, "reducedHalfTimes", [[law, 0.2]])
    times = [0.0, 3.0, 9.0, 20.0, 60.0, 200.0]
    step = 1e-4
    shares = torch.tensor(
        call(
            page,
            source,
            "reducedShares",
            [[law, halves, t + away] for t in times for away in (-step, 0, step)],
        ),
        dtype=torch.float64,
    ).reshape(len(times), 3, D)
    values = (shares * rho / lam) ** (1 / 3)
    assert values[0, 1] == pytest.approx(np.full(D, 0.2), rel=1e-9)
    speed = (values[:, 2] - values[:, 0]) / (2 * step)
    now = values[:, 1]
    expected = escape_step(now, lam.expand_as(now), rho.expand_as(now))
    assert speed.numpy() == pytest.approx(expected.numpy(), abs=1e-8)
    losses = call(page, source, "lossOfShares", [[law, one] for one in shares[:, 1].tolist()])
    assert losses == pytest.approx(reduced_losses(now, lam, 20).numpy(), rel=1e-10)
    levels = call(page, source, "plateauLosses", [[law]])[0]
    assert levels == pytest.approx(plateau_losses(lam, 20).numpy(), rel=1e-12)


# ---------------------------------------------------------------------------- moving it
def test_the_keyboard_moves_every_control(mount):
    page = mount(PlateauExplorer(start=0.2))
    assert_agrees_with_python(page)
    before = page.locator(".icl-caption").inner_text()
    moved = {
        "Examples, N": ("examples", 32),
        "Heads": ("heads", 6),
        "Rank of separate heads": ("rank", 2),
        "Largest over smallest variance": ("eigenvalues", [0.404762, 0.301587, 0.198413, 0.095238]),
    }
    for label, (name, value) in moved.items():
        page.get_by_role("slider", name=label, exact=True).press("ArrowRight")
        settle(page)
        assert state(page)[name] == pytest.approx(value)
    page.get_by_role("slider", name="Size of the start").press("ArrowRight")
    settle(page)
    assert 0.2 < state(page)["start"] < 0.26
    page.get_by_role("button", name="Another random start").click()
    assert state(page)["seed"] == 1
    page.get_by_role("slider", name="Moment").press("Home")
    settle(page)
    assert state(page)["time"] == 0
    page.get_by_label("Time axis").select_option("linear")
    page.get_by_label("Directions of", exact=True).select_option("merged")
    page.get_by_role("slider", name="Moment").press("ArrowRight")
    page.locator("summary").press("Enter")
    page.get_by_role("slider", name="Variance λ₂").press("ArrowRight")
    found = assert_agrees_with_python(page)
    now = state(page)
    assert now["time"] == pytest.approx(0.005 * found["horizon"], rel=0.2)
    assert now["eigenvalues"][1] == pytest.approx(0.35)
    assert (now["time_axis"], now["shown"]) == ("linear", "merged")
    assert page.locator(".icl-caption").inner_text() != before


def test_every_preset_says_what_it_shows(mount):
    page = mount(PlateauExplorer(start=0.3, heads=3))
    said = {
        "stairs": (1, 4, "principal component regression with 2 components"),
        "small": (1, 4, "0.641, 0.377 and 0.210; theory has plateaus at 0.641, 0.377 and 0.210"),
        "large": (1, 1, "the pauses have washed out"),
        "white": (1, 4, "no direction comes first"),
        "steep": (1, 4, "with 3 components"),
        "rank": (1, 4, "between drops of one head pass 28.8 and 343 τ"),
        "few": (1, 3, "the loss stays at 0.210, above the least one, 0.136"),
        "short": (1, 4, "0.911, 0.855 and 0.826"),
    }
    for preset, (merged, separate, words) in said.items():
        page.get_by_label("Start from").select_option(preset)
        settle(page)
        assert page.get_by_label("Start from").input_value() == preset
        found = json.loads(page.locator(ROOT).get_attribute("data-solution"))
        assert [len(found["drops"][kind]) for kind in KINDS] == [merged, separate], preset
        assert words in page.locator(".icl-caption").inner_text(), preset
        assert_no_broken_numbers(page)
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert (state(page)["start"], state(page)["heads"]) == (0.3, 3)


def test_it_plays_and_pauses_and_does_not_move_who_wants_it_still(mount):
    page = mount(PlateauExplorer(start=0.3, time=1.0))
    play = page.get_by_role("button", name="Play")
    play.click()
    page.get_by_role("button", name="Pause").click()
    settle(page)
    assert play.is_visible()
    assert page.locator(".icl-caption").get_attribute("aria-busy") is None
    page.emulate_media(reduced_motion="reduce")
    play.click()
    found = assert_agrees_with_python(page)
    assert state(page)["time"] == pytest.approx(found["horizon"], abs=1e-6)


# ---------------------------------------------------------------------------- for every reader
def test_words_for_those_who_do_not_see_the_plots_and_two_views_on_a_page(mount):
    page = mount(PlateauExplorer(start=0.3), PlateauExplorer(start=0.4))
    words = page.locator(".icl-words").first
    assert "plateaus with 0 to 4 directions: 1.000, 0.641, 0.377, 0.210" in words.text_content()
    page.get_by_role("button", name="Describe in words").first.press("Enter")
    assert words.bounding_box()["height"] > 50
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((el) => el.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1000, False)])
def test_axe_finds_nothing_and_nothing_is_cut_off(mount, root, width, dark):
    page = mount(PlateauExplorer(), width=width, dark=dark)
    page.locator("summary").click()
    settle(page)
    assert_accessible(page, root)
    for values in ({}, {"start": 1.0, "heads": 8}, {"start": 0.002, "shown": "merged"}):
        page.evaluate("(v) => Object.entries(v).forEach((e) => models[0].set(...e))", values)
        for narrow in (width, 340):
            page.set_viewport_size({"width": narrow, "height": 900})
            settle(page)
            assert_fits(page, narrow)
    assert_no_broken_numbers(page)
