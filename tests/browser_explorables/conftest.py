"""A Chromium with no network, and a bare page to put components in."""

from collections.abc import Callable, Iterator

import pytest
from bare_page import ADDRESS, PAGE, put_in


@pytest.fixture
def mount(browser) -> Iterator[Callable]:
    """`mount(widget, ...)` opens the bare page with these components and returns the page.

    Every request but the page's own is refused. A refused request, an error in the console and an
    exception on the page each fail the test.
    """
    contexts = []
    problems: list[str] = []

    def open_page(*widgets, width: int = 1000, dark: bool = False, script: str = "", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()

        def answer(route) -> None:
            if route.request.url == ADDRESS:
                route.fulfill(body=PAGE, content_type="text/html")
            elif route.request.url.endswith("/favicon.ico"):
                route.fulfill(status=204)
            else:
                problems.append(f"a request for {route.request.url}")
                route.abort()

        context.route("**/*", answer)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        if script:
            page.add_init_script(script)
        page.goto(ADDRESS)
        if dark:
            page.evaluate("document.documentElement.dataset.theme = 'dark'")
        put_in(page, *widgets)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
