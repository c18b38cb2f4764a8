"""What a page of the book must be, each as a function that returns the problems it found.

A page is a Playwright page that `visit` has opened. Every check has a test, in test_checks.py,
that plants its fault in a page and sees it found.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

AXE = Path(__file__).with_name("vendor") / "axe.min.js"
LOOKS = Path(__file__).with_suffix(".js").read_text()
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@dataclass
class Visit:
    """One page in one browser window, and what it did that it should not have."""

    page: object
    base: str
    left: list[str] = field(default_factory=list)  # requests for another host, all refused
    errors: list[str] = field(default_factory=list)  # console errors, exceptions, missing files


def visit(browser, base: str, path: str, *, width: int = 1280, theme: str = "light") -> Visit:
    """Open a page of the site at `base` with every other host cut off, and wait until it is done.

    Done means: loaded, mathematics typeset, components started, fonts there.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    seen = Visit(page, base)

    def allow_own_files_only(route):
        if route.request.url.startswith(base):
            route.continue_()
        else:
            seen.left.append(route.request.url)
            route.abort()

    context.route(re.compile("^(?!data:|blob:)"), allow_own_files_only)
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("response", lambda r: seen.errors.append(f"{r.status} {r.url}") if r.status >= 400
            else None)  # fmt: skip
    page.goto(base + path, wait_until="load")
    page.evaluate(
        """async () => {
          await window.MathJax?.startup?.promise;
          await window.iclWidgets?.ready;
          await document.fonts.ready;
          await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));
        }"""
    )
    return seen


def _look(seen: Visit, name: str) -> list[str]:
    """Run one function of page_checks.js in the page."""
    return seen.page.evaluate(f"({LOOKS.strip()}).{name}()")


def keeps_to_itself(seen: Visit) -> list[str]:
    """No request leaves for another host, and nothing is written to the console as an error."""
    return [f"asked another host: {url}" for url in seen.left] + [
        f"console: {text}" for text in seen.errors
    ]


def mathematics_is_set(seen: Visit) -> list[str]:
    """Every formula is typeset, none has an error, and no TeX is left in the text."""
    return _look(seen, "mathematics_is_set")


def pictures_are_there(seen: Visit) -> list[str]:
    """Every picture has loaded and says in words what it shows."""
    return _look(seen, "pictures_are_there")


def components_run(seen: Visit) -> list[str]:
    """Every interactive component stands in its place, started and not empty."""
    return _look(seen, "components_run")


def fits_its_width(seen: Visit) -> list[str]:
    """The page does not scroll sideways, and what does so inside it can be reached by keyboard."""
    return _look(seen, "fits_its_width")


def anyone_can_use_it(seen: Visit) -> list[str]:
    """axe finds nothing serious or critical in WCAG 2.2, levels A and AA."""
    seen.page.add_script_tag(path=str(AXE))
    found = seen.page.evaluate(
        """(tags) => axe.run(document, {runOnly: tags, resultTypes: ["violations"]})
             .then((result) => result.violations)""",
        AXE_RULES,
    )
    return [
        f"{violation['id']} ({violation['impact']}): {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"][:4]
    ]


COMPLETE: list[Callable[[Visit], list[str]]] = [
    mathematics_is_set,
    pictures_are_there,
    components_run,
    keeps_to_itself,
]
