"""A bare page that hosts a component as JupyterLab and the book do, for the browser tests.

The host is a second, tiny implementation of the anywidget front-end module contract (`render` is
handed a `model` with `get`, `set`, `save_changes`, `on` and `off`, and an element), so that the
components are not tested against their own host only.
"""

import json
import shutil
from collections.abc import Callable, Iterator

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ADDRESS = "http://book.test/"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Components</title>
<style>body{margin:0;padding:10px;background:#fbfaf7} html[data-theme=dark] body{background:#15181d}
</style></head><body><main></main></body></html>"""
HOST = """async ({ states, styles }) => {
  window.models = []; window.cleanups = [];
  const modules = new Map();
  for (const text of new Set(styles)) {
    const style = document.createElement('style'); style.textContent = text; document.head.append(style);
  }
  for (const state of states) {
    const listeners = [];
    const model = {
      state, saved: 0,
      get: (name) => state[name],
      set: (name, value) => {
        if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
        state[name] = value;
        for (const [event, call] of [...listeners]) if (event === 'change:' + name) call();
      },
      save_changes: () => { model.saved += 1; },
      on: (event, call) => { listeners.push([event, call]); },
      off: (event, call) => {
        for (let i = listeners.length - 1; i >= 0; i -= 1) {
          if (listeners[i][0] === event && listeners[i][1] === call) listeners.splice(i, 1);
        }
      },
      listeners,
    };
    const url = URL.createObjectURL(new Blob([state._esm], { type: 'text/javascript' }));
    const module = await import(url);
    const el = document.createElement('div');
    document.querySelector('main').append(el);
    window.models.push(model);
    window.cleanups.push(await module.default.render({ model, el }));
  }
}"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_chromium: drives a real Chromium")


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """A Chromium without a network; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def mount(chromium) -> Iterator[Callable]:
    """`mount(widget, ...)` opens the bare page with the components in it and returns the page.

    Every request but the page's own is refused and fails the test, as does an error in the console.
    """
    contexts = []
    problems: list[str] = []

    def open_page(*widgets, width: int = 1000, dark: bool = False, script: str = "", **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
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


def put_in(page, *widgets) -> None:
    """Add components to a page that is already open."""
    states = [json.loads(json.dumps(widget.get_state())) for widget in map(_with_source, widgets)]
    page.evaluate(HOST, {"states": states, "styles": [state["_css"] for state in states]})
    settle(page)


def _with_source(widget):
    assert widget.has_trait("_esm") and widget.has_trait("_css")
    return widget


def settle(page) -> None:
    """Wait until what was asked for has been drawn: two frames."""
    page.evaluate("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
