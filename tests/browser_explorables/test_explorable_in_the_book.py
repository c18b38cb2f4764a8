"""The components under the book's own host, from state stored as a notebook stores it."""

import json

import numpy as np
import pytest
from bare_page import settle
from test_demonstration_order_explorer import random_sets
from test_explorable_sinusoid import random_weights

from icl_lessons.explorables import (
    ConceptPosteriorExplorer,
    DemonstrationOrderExplorer,
    ObjectiveSurgeryExplorer,
    OneStepExplorer,
    PlateauExplorer,
    PoisonedContextExplorer,
    Prediction,
    QuadraticBowlExplorer,
    SinusoidExplorer,
    TaskDiversityExplorer,
    TokenPathExplorer,
    WeightUpdateExplorer,
)

pytestmark = pytest.mark.needs_chromium

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"


def stored_page(widgets: list, views: list) -> str:
    """A page with the widgets' state once, and a place for each view."""
    state = {
        widget.model_id: {
            "model_name": "AnyModel",
            "model_module": "anywidget",
            "model_module_version": "~0.9.*",
            "state": widget.get_state(),
        }
        for widget in widgets
    }
    places = "".join(
        f'<script type="{VIEW}">{json.dumps({"model_id": widget.model_id})}</script>'
        for widget in views
    )
    stored = json.dumps({"version_major": 2, "version_minor": 0, "state": state})
    return f'{places}<script type="{STATE}">{stored.replace("</", "<" + chr(92) + "/")}</script>'


@pytest.fixture
def book_page(mount, root):
    def open_page(widgets, views):
        page = mount()
        page.evaluate(
            "(text) => { document.querySelector('main').innerHTML = text; }",
            stored_page(widgets, views),
        )
        page.add_script_tag(content=(root / "book/_static/widget_host.js").read_text("utf-8"))
        page.evaluate("() => window.iclWidgets.ready")
        settle(page)
        return page

    return open_page


def test_two_views_of_one_explorer_move_together(book_page):
    explorer = OneStepExplorer(steps=2)
    page = book_page([explorer], [explorer, explorer])
    first, second = page.locator(".icl-one-step").all()
    page.get_by_role("slider", name="Step size").first.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    shown = [one.get_attribute("data-gradient-descent-prediction") for one in (first, second)]
    moved = OneStepExplorer(steps=2, step_size=0.51).weights()[-1] * 1.4
    assert [float(number) for number in shown] == pytest.approx([moved, moved], abs=1e-12)
    page.get_by_role("button", name="Reset").last.click()
    settle(page)
    assert float(first.get_attribute("data-gradient-descent-prediction")) == pytest.approx(
        explorer.weights()[-1] * 1.4, abs=1e-12
    )


def test_two_views_of_one_bowl_move_together(book_page):
    page = book_page([bowl := QuadraticBowlExplorer()], [bowl, bowl])
    page.get_by_role("slider", name="Layers").first.press("ArrowRight")
    settle(page)
    expected = QuadraticBowlExplorer(layers=7).losses()["newton"]
    for view in page.locator(".icl-bowl-explorer").all():
        found = json.loads(view.get_attribute("data-solution"))["newton"]["losses"]
        assert found == pytest.approx(expected, abs=1e-12)
    page.get_by_role("button", name="Reset").last.click()
    settle(page)
    assert page.get_by_role("slider", name="Layers").first.input_value() == "6"


def test_two_views_of_one_sine_move_together(book_page):
    explorer = SinusoidExplorer(random_weights())
    page = book_page([explorer], [explorer, explorer])
    page.get_by_role("checkbox", name="Features").first.press("Space")
    settle(page)
    expected = SinusoidExplorer(random_weights(), features=False).predictions([explorer.x_query])[0]
    for view in page.locator(".icl-sinusoid").all():
        assert float(view.get_attribute("data-prediction")) == pytest.approx(expected, abs=1e-12)
    page.evaluate("() => window.iclWidgets.dispose()")


def test_two_views_of_one_posterior_move_together(book_page):
    explorer = ConceptPosteriorExplorer()
    page = book_page([explorer], [explorer, explorer])
    page.locator(".icl-token", has_text="B3").first.click()
    settle(page)
    explorer.set_tokens([*explorer.tokens, 8])
    for view in page.locator(".icl-concepts").all():
        found = json.loads(view.get_attribute("data-solution"))["posterior"]
        assert found[-1] == pytest.approx(explorer.posterior()[-1], abs=1e-12)
    page.evaluate("() => window.iclWidgets.dispose()")


def test_two_views_of_one_pool_move_together(book_page):
    explorer = TaskDiversityExplorer()
    page = book_page([explorer], [explorer, explorer])
    page.get_by_role("slider", name="Examples").last.press("ArrowRight")
    settle(page)
    explorer.examples = 5
    for view in page.locator(".icl-diversity").all():
        found = json.loads(view.get_attribute("data-solution"))["estimates"]["discrete"]
        assert found == pytest.approx(explorer.estimates()["discrete"][5], abs=1e-10)
    page.evaluate("() => window.iclWidgets.dispose()")


def test_two_views_of_one_surgery_and_of_one_poisoned_context_move_together(book_page):
    surgery, poison = ObjectiveSurgeryExplorer(), PoisonedContextExplorer()
    page = book_page([surgery, poison], [surgery, poison, poison, surgery])
    page.get_by_role("slider", name="Layers").last.press("ArrowRight")
    page.get_by_role("slider", name="Steps K").first.press("ArrowRight")
    settle(page)
    surgery.layers, poison.steps = 13, 11
    for view in page.locator(".icl-surgery").all():
        found = json.loads(view.get_attribute("data-solution"))["attention"]
        assert found[13] == [pytest.approx(row, abs=1e-12) for row in surgery.weights()[13]]
    for view in page.locator(".icl-poison").all():
        found = json.loads(view.get_attribute("data-solution"))["bySum"]
        assert found == pytest.approx(poison.predictions(), abs=1e-10)
    page.evaluate("() => window.iclWidgets.dispose()")


def test_two_views_of_one_order_move_together(book_page):
    explorer = DemonstrationOrderExplorer(random_sets())
    page = book_page([explorer], [explorer, explorer])
    page.get_by_role("button", name="Reverse").last.click()
    settle(page)
    expected = explorer.laws("one_by_one")[-1]
    for view in page.locator(".icl-orders").all():
        found = json.loads(view.get_attribute("data-solution"))["learners"]["one_by_one"]["law"]
        assert found == pytest.approx(expected, abs=1e-12)
    page.evaluate("() => window.iclWidgets.dispose()")


def test_a_question_and_its_answer_on_a_stored_page(book_page):
    guess = Prediction(key="k", question="How many?", low=0, high=10)
    reveal = guess.reveal(7, "Counted.")
    page = book_page([guess, reveal], [guess, reveal])
    ask, answer = page.locator(".icl-prediction").all()
    assert "Counted." not in page.locator("main").inner_text()
    assert answer.get_attribute("data-state") == "waiting"
    page.get_by_label("Your guess", exact=True).fill("8")
    page.get_by_role("button", name="This is my guess").click()
    settle(page)
    for one in (ask, answer):
        assert one.get_attribute("data-state") == "compared"
        assert "You guessed 8, measured: 7." in one.inner_text()
    page.evaluate("() => window.iclWidgets.dispose()")


def test_two_views_of_one_update_of_one_path_and_of_one_training_move_together(book_page):
    update, path, plateaus = WeightUpdateExplorer(), TokenPathExplorer(), PlateauExplorer()
    page = book_page([update, path, plateaus], [update, path, plateaus, plateaus, path, update])
    page.get_by_role("button", name="Remove token").last.click()
    page.get_by_role("slider", name="Slope").first.press("ArrowRight")
    page.get_by_role("slider", name="Examples").last.press("ArrowRight")
    settle(page)
    update.set_tokens(update.xs[:-1], update.ys[:-1])
    path.slope, plateaus.examples = 1.3, 32
    left, right, _ = update.update()
    for view in page.locator(".icl-update").all():
        found = json.loads(view.get_attribute("data-solution"))["delta"]
        assert np.array(found) == pytest.approx(np.outer(left, right), abs=1e-10)
    for view in page.locator(".icl-token-path").all():
        found = json.loads(view.get_attribute("data-solution"))["examples"]
        assert np.array(found) == pytest.approx(path.context(), abs=1e-12)
    for view in page.locator(".icl-plateaus").all():
        found = json.loads(view.get_attribute("data-solution"))["plateaus"]
        assert found == pytest.approx(plateaus.plateau_losses(), rel=1e-12)
    page.evaluate("() => window.iclWidgets.dispose()")
