"""Every page of the book in a real browser, with the network cut off."""

from pathlib import Path

import page_checks
import pytest
from site_build import toc_pages

PAGES = [f"{name}.html" for name in toc_pages(Path(__file__).resolve().parents[2])]
ALL = [*PAGES, "search.html", "genindex.html"]
# Docstrings set by one program in one style: what depends on theme and width shows on any of them.
GENERATED = [path for path in PAGES if path.startswith("reference/api/")]
LOOKED_AT = [path for path in ALL if path not in GENERATED[1:]]

pytestmark = pytest.mark.needs_chromium


@pytest.mark.parametrize("path", ALL)
def test_the_page_is_complete_without_a_network(open_page, path):
    seen = open_page(path)
    problems = [problem for check in page_checks.COMPLETE for problem in check(seen)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", LOOKED_AT)
def test_the_page_is_accessible(open_page, path, theme):
    seen = open_page(path, theme=theme)
    assert seen.page.evaluate("document.documentElement.dataset.theme") == theme
    problems = page_checks.anyone_can_use_it(seen)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("path", LOOKED_AT)
def test_the_page_fits_its_width(open_page, path, width):
    problems = page_checks.fits_its_width(open_page(path, width=width))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", GENERATED[1:])
def test_a_page_of_docstrings_fits_a_phone(open_page, path):
    problems = page_checks.fits_its_width(open_page(path, width=360))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", PAGES)
def test_mathematics_is_there_where_the_source_has_it(open_page, root, path):
    stem = (root / "book" / path).with_suffix("")
    source = (
        stem.with_suffix(".md") if stem.with_suffix(".md").exists() else stem.with_suffix(".ipynb")
    )
    page = open_page(path).page
    formulas = page.locator("article mjx-container").count()
    if "$" in source.read_text() and "frac" in source.read_text():
        assert formulas > 0
    assert formulas == page.locator("article .math").count()


def test_search_finds_a_word(open_page):
    page = open_page("search.html?q=gradient+descent").page
    page.wait_for_selector("#search-results .search-summary:has-text('found')")
    titles = page.locator("#search-results li a").all_inner_texts()
    assert any("step" in title or "hypotheses" in title for title in titles), titles
    page.wait_for_selector("#search-results li p.context")
    excerpts = " ".join(page.locator("#search-results li p.context").all_inner_texts())
    assert ".ipynb" not in excerpts and ".pdf" not in excerpts


def test_search_says_when_it_finds_nothing(open_page):
    page = open_page("search.html?q=zyzzyva").page
    page.wait_for_selector("#search-results .search-summary:has-text('did not match')")
    assert page.locator("#search-results li").count() == 0


def test_the_search_field_opens_by_keyboard_and_leads_to_results(open_page):
    page = open_page(PAGES[0]).page
    page.keyboard.press("Control+k")
    page.keyboard.type("attention")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=attention")
    page.wait_for_selector("#search-results li a")


def test_the_keyboard_can_skip_to_the_text_and_sees_where_it_is(open_page):
    page = open_page(PAGES[0]).page
    page.keyboard.press("Tab")
    focused = """(() => {
      const el = document.activeElement, style = getComputedStyle(el);
      return [el.textContent.trim(), el.getAttribute("href"),
              style.outlineStyle, parseFloat(style.outlineWidth)];
    })()"""
    text, target, style, thickness = page.evaluate(focused)
    assert text == "Skip to main content" and target == "#main-content"
    assert style == "solid" and thickness >= 2
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")


@pytest.mark.parametrize(
    "theme, ground", [("light", "rgb(251, 250, 247)"), ("dark", "rgb(21, 24, 29)")]
)
def test_the_page_wears_its_own_ground_and_fonts(open_page, theme, ground):
    page = open_page(PAGES[0], theme=theme).page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    states = page.evaluate(
        "[...document.fonts].map((f) => [f.family.replaceAll('\"', ''), f.status])"
    )
    assert ["Source Serif 4", "loaded"] in states and ["Source Sans 3", "loaded"] in states
    assert not [family for family, state in states if state == "error"]


def test_the_measure_is_comfortable_and_the_type_is_large_enough(open_page):
    page = open_page(PAGES[0], width=1440).page
    width, size = page.evaluate(
        """() => {
          const all = [...document.querySelectorAll("article section > p")];
          const p = all.sort((a, b) => b.textContent.length - a.textContent.length)[0];
          const style = getComputedStyle(p);
          const pen = document.createElement("canvas").getContext("2d");
          pen.font = style.fontSize + " " + style.fontFamily;
          const letter = pen.measureText(p.textContent).width / p.textContent.length;
          return [p.clientWidth / letter, parseFloat(style.fontSize)];
        }"""
    )
    assert 65 <= width <= 78, f"{width:.0f} letters in a line"
    assert 17 <= size <= 19


def test_a_picture_has_no_panel_behind_it_in_the_dark(open_page):
    page = open_page(PAGES[0], theme="dark").page
    styles = page.evaluate(
        """() => {
          document.querySelector("article section").insertAdjacentHTML("beforeend",
            `<div class="cell_output"><img id="bare" alt="x"><img id="l" class="only-light" alt="x">
             <figure><img id="d" class="only-dark" alt="x"><figcaption id="c">w</figcaption></figure>
             <div class="output text_html" id="h">html</div></div>`);
          const style = (id) => getComputedStyle(document.getElementById(id));
          return [style("bare").backgroundColor, style("bare").filter, style("h").backgroundColor,
                  style("l").display, style("d").display !== "none", style("c").display !== "none"];
        }"""
    )
    assert styles == ["rgba(0, 0, 0, 0)", "none", "rgba(0, 0, 0, 0)", "none", True, True]


def test_a_printed_page_is_the_text_alone(open_page):
    page = open_page(PAGES[0]).page
    page.emulate_media(media="print")
    for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-area"):
        assert not page.locator(part).first.is_visible(), part
    assert len(page.locator("h1:visible").all_inner_texts()) == 1
    assert page.locator("article p").first.is_visible()


def test_a_page_read_in_the_dark_is_printed_on_white(open_page):
    page = open_page(PAGES[0], theme="dark").page
    theme = "document.documentElement.dataset.theme"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(theme) == "light"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(theme) == "dark"
