"""*Predict, then run* in a real browser: nothing is told before the reader commits."""

import pytest
from bare_page import call, put_in, settle, state

from icl_lessons.explorables import Prediction
from icl_lessons.explorables.base import component_source

pytestmark = pytest.mark.needs_chromium

ASK = ".icl-prediction[data-role='ask']"
REVEAL = ".icl-prediction[data-role='reveal']"
NO_STORAGE = """Object.defineProperty(window, 'localStorage',
  { get() { throw new DOMException('no storage', 'SecurityError'); } });"""


def number(key="loss", **values) -> Prediction:
    options = {"low": 0.01, "high": 1.0, "log": True, "unit": "(half squared error)", **values}
    return Prediction(key=key, question="What loss does one step reach?", **options)


def choice(key="which") -> Prediction:
    answers = ["One step", "Least squares", "Neither"]
    return Prediction(key=key, question="Which is nearer?", kind="choice", choices=answers)


def pair(guess, answer, explanation="Because."):
    return guess, guess.reveal(answer, explanation)


def state_of(page, which) -> str:
    settle(page)
    return page.locator(which).get_attribute("data-state")


def test_the_answer_waits_for_the_guess_and_then_both_places_show_it(mount):
    page = mount(*pair(number(), 0.20623))
    assert (state_of(page, ASK), state_of(page, REVEAL)) == ("asking", "waiting")
    assert "0.206" not in page.locator("main").inner_text()
    assert page.locator("[data-answer]").count() == 0
    page.get_by_label("Your guess", exact=True).fill("0.3")
    page.get_by_role("button", name="This is my guess").click()
    for which in (ASK, REVEAL):
        assert state_of(page, which) == "compared"
        text = page.locator(which).inner_text()
        assert "You guessed 0.3, measured: 0.206\u00a0(half squared error)." in text
        assert "1.5 times too high" in text and "Because." in text
    assert page.locator(REVEAL).get_attribute("data-answer") == "0.20623"
    assert state(page, 0)["guess"] == 0.3


def test_a_choice_by_keyboard(mount):
    page = mount(*pair(choice(), "Neither"))
    page.get_by_role("button", name="This is my guess").press("Enter")
    assert page.get_by_role("alert").inner_text() == "Choose one of them first."
    page.get_by_label("One step").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert state_of(page, REVEAL) == "compared"
    text = page.locator(REVEAL).inner_text()
    assert "You guessed Least squares, measured: Neither. It went another way" in text
    page.locator(ASK).get_by_role("button", name="Guess again").click()
    assert (state_of(page, ASK), state_of(page, REVEAL)) == ("asking", "waiting")
    page.get_by_label("Neither").check()
    page.get_by_role("button", name="This is my guess").click()
    settle(page)
    assert "It went as you predicted." in page.locator(REVEAL).inner_text()


def test_the_slider_and_the_number_are_one_guess(mount):
    page = mount(number())
    page.get_by_role("button", name="This is my guess").click()
    assert "move the slider first" in page.get_by_role("alert").inner_text()
    slider = page.get_by_label("Your guess, as a slider")
    assert slider.get_attribute("aria-valuetext") == "not chosen yet"
    slider.focus()
    page.keyboard.press("End")
    field = page.get_by_label("Your guess", exact=True)
    assert field.input_value() == "1"
    page.keyboard.press("Home")
    assert field.input_value() == "0.01"
    field.fill("0.1")
    assert float(slider.input_value()) == pytest.approx(0.5)
    page.get_by_role("button", name="This is my guess").click()
    assert state_of(page, ASK) == "committed"
    assert "You guessed 0.1" in page.locator(ASK).inner_text()


def test_a_number_beyond_the_slider_may_be_typed(mount):
    page = mount(*pair(number(low=0, high=1, log=False), 0.5))
    page.get_by_label("Your guess", exact=True).fill("-3")
    page.get_by_role("button", name="This is my guess").click()
    assert state_of(page, REVEAL) == "compared"
    assert "3.5 too low" in page.locator(REVEAL).inner_text()


def test_show_me_anyway_and_the_invitation(mount):
    page = mount(*pair(number(), 0.20623))
    page.get_by_role("button", name="Go back and guess").click()
    assert page.evaluate("document.activeElement.type") == "number"
    page.get_by_role("button", name="Show me anyway").click()
    assert (state_of(page, ASK), state_of(page, REVEAL)) == ("shown", "shown")
    assert "You did not guess. Measured: 0.206" in page.locator(REVEAL).inner_text()
    page.locator(ASK).get_by_role("button", name="Guess again").click()
    assert state_of(page, ASK) == "asking"
    assert "0.206" not in page.locator(ASK).inner_text()


def test_the_guess_is_remembered_in_this_browser_and_only_under_its_key(mount):
    page = mount(*pair(number(), 0.2), *pair(choice(), "Neither"))
    page.get_by_label("Your guess", exact=True).fill("0.4")
    page.get_by_role("button", name="This is my guess").first.click()
    settle(page)
    page.reload()
    put_in(page, *pair(number(), 0.2), *pair(choice(), "Neither"))
    states = page.locator(".icl-prediction").evaluate_all(
        "(all) => all.map((e) => e.dataset.state)"
    )
    assert states == ["compared", "compared", "asking", "waiting"]
    assert state(page, 0)["guess"] == 0.4


@pytest.mark.parametrize("stored", ["not json", '"text"', "null", '{"a": 1}'])
def test_a_spoiled_memory_is_ignored(mount, stored):
    script = f"localStorage.setItem('icl-lessons:prediction:loss', {stored!r})"
    page = mount(*pair(number(), 0.2), script=script)
    assert (state_of(page, ASK), state_of(page, REVEAL)) == ("asking", "waiting")


def test_it_works_where_nothing_can_be_stored(mount):
    page = mount(*pair(number(), 0.2), script=NO_STORAGE)
    page.get_by_label("Your guess", exact=True).fill("0.2")
    page.get_by_role("button", name="This is my guess").click()
    assert state_of(page, REVEAL) == "compared"
    assert "You guessed it exactly." in page.locator(REVEAL).inner_text()


def test_in_a_notebook_the_answer_comes_later_or_changes(mount):
    guess = choice()
    page = mount(guess)
    page.get_by_label("Neither").check()
    page.get_by_role("button", name="This is my guess").click()
    assert state_of(page, ASK) == "committed"
    put_in(page, guess.reveal("Neither"))
    assert state_of(page, ASK) == state_of(page, REVEAL) == "compared"
    page.evaluate("window.models[1].set('answer', 'One step')")
    settle(page)
    assert page.locator(ASK).get_attribute("data-answer") == "One step"


@pytest.mark.parametrize(
    ("guess", "answer", "options", "words"),
    [
        (0.3, 0.2, {}, "50\u00a0% too high."),
        (0.1, 0.2, {}, "50\u00a0% too low."),
        (0.2001, 0.2, {}, "within 1\u00a0%"),
        (3, 0.2, {}, "Your guess is 2.8 too high."),
        (0.3, 0, {}, "Your guess is 0.3 too high."),
        (0.1, 0.2, {"log": True}, "2 times too low."),
        (0.202, 0.2, {"log": True}, "within 5\u00a0%"),
        (-1, 0.2, {"log": True, "signed": True}, "1.2 too low."),
        (-2, 1, {"signed": True}, "Your guess is 3 too low."),
        (5, -0.3, {"unit": "%"}, "5.3 percentage points too high."),
        (2, 2, {}, "exactly"),
    ],
)
def test_a_guess_is_compared_in_words(mount, guess, answer, options, words):
    source = component_source("prediction")
    [text] = call(mount(), source, "compareNumbers", [[guess, answer, options]])
    assert words in text


def test_text_is_text(mount):
    guess = Prediction(key="k", question="<img src=x> & co?", kind="choice", choices=["<b>a", "c"])
    page = mount(*pair(guess, "<b>a", "<script>x</script>"))
    page.get_by_label("<b>a").check()
    page.get_by_role("button", name="This is my guess").click()
    settle(page)
    assert page.locator("main img, main b, main script").count() == 0
    assert "<script>x</script>" in page.locator(REVEAL).inner_text()


@pytest.mark.parametrize("width", [320, 360, 900])
def test_nothing_is_cut_off_and_targets_are_large_enough(mount, width):
    page = mount(number(), choice(), number().reveal(0.2), width=width, dark=width == 360)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """() => [...document.querySelectorAll(
          'button, .icl-choices label, input:not([type=radio])')].filter(
          (el) => el.getBoundingClientRect().height < 43).map((el) => el.outerHTML)"""
    )
    assert small == []


def test_nothing_is_left_behind(mount):
    page = mount(*pair(number(), 0.2))
    page.evaluate("window.cleanups.forEach((done) => done())")
    assert page.evaluate("window.models.map((m) => m.listeners.length)") == [0, 0]
