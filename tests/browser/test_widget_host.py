"""book/_static/widget_host.js: anywidget components on a static page, with no kernel."""

import base64
import json
import struct

import pytest

pytestmark = pytest.mark.needs_chromium

COUNTER = """
export default {
  initialize({ model }) {
    globalThis.initialized = (globalThis.initialized ?? 0) + 1;
    return () => { globalThis.put_away = [...(globalThis.put_away ?? []), "model"]; };
  },
  render({ model, el, signal }) {
    const button = document.createElement("button");
    const show = () => { button.textContent = "count " + model.get("count"); };
    button.onclick = () => { model.set("count", model.get("count") + 1); model.save_changes(); };
    model.on("change:count", show);
    show();
    el.append(button);
    return () => {
      globalThis.put_away = [...(globalThis.put_away ?? []), "view " + signal.aborted];
    };
  },
};
"""


def view(model_id):
    kind = "application/vnd.jupyter.widget-view+json"
    return f'<script type="{kind}">{json.dumps({"model_id": model_id})}</script>'


def anywidget(esm, *, css=None, buffers=None, **traits):
    state = {"_esm": esm, "_css": css, "_anywidget_id": "test.Component", **traits}
    return {"model_module": "anywidget", "model_name": "AnyModel", "state": state,
            "buffers": buffers or []}  # fmt: skip


def page_text(models, *views):
    kind = "application/vnd.jupyter.widget-state+json"
    state = json.dumps({"version_major": 2, "version_minor": 0, "state": models})
    state = state.replace("</", "<\\/")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        '<script src="widget_host.js"></script>'
        f'<script type="{kind}">{state}</script></head><body>{"".join(views)}</body></html>'
    )


@pytest.fixture(scope="session")
def script(root):
    return (root / "book/_static/widget_host.js").read_bytes()


@pytest.fixture
def show(open_html, script):
    files = {"widget_host.js": script}
    return lambda models, *views: open_html(page_text(models, *views), files=files)


def test_two_views_share_one_model(show):
    layout = {"model_module": "@jupyter-widgets/base", "model_name": "LayoutModel", "state": {}}
    seen = show({"a": anywidget(COUNTER, count=3), "l": layout}, view("a"), view("a"))
    buttons = seen.page.locator(".icl-widget[data-state=ready] button")
    assert buttons.all_inner_texts() == ["count 3", "count 3"]
    buttons.first.click()
    assert buttons.all_inner_texts() == ["count 4", "count 4"]
    assert seen.page.evaluate("initialized") == 1
    assert seen.page.evaluate("iclWidgets.models().get('a').get('count')") == 4
    assert not seen.errors and not seen.left


def test_two_models_do_not_share(show):
    seen = show(
        {"a": anywidget(COUNTER, count=3), "b": anywidget(COUNTER, count=7)}, view("a"), view("b")
    )
    buttons = seen.page.locator(".icl-widget button")
    buttons.first.click()
    assert buttons.all_inner_texts() == ["count 4", "count 7"]


EVENTS = """
export default { render({ model, el }) {
  const log = [], note = (name) => (...rest) => log.push([name, typeof rest[0]?.get, rest[1]]);
  const first = note("first"), both = note("either");
  model.on("change:a", first);
  model.on("change:a change:b", both);
  model.on("change", () => log.push(["change"]));
  model.set("a", 1); model.set("a", 1);            // the second sets what it is: no event
  model.set("list", [1, { x: 2 }]); model.set("list", [1, { x: 2 }]);
  model.off("change:a", first);
  model.set({ a: 2, b: 5 });                        // several at once: one `change`
  model.off();
  model.set("a", 9);
  model.send({ hello: 1 });
  model.save_changes();
  el.textContent = JSON.stringify(log);
} };
"""  # fmt: skip


def test_events_are_those_of_a_jupyter_model(show):
    seen = show({"a": anywidget(EVENTS, a=0, b=0, list=[])}, view("a"))
    log = json.loads(seen.page.locator(".icl-widget").inner_text())
    assert log == [
        ["first", "function", 1], ["either", "function", 1], ["change"],
        ["change"],
        ["either", "function", 2], ["either", "function", 5], ["change"],
    ]  # fmt: skip


def test_a_set_inside_a_listener_is_seen_by_all_and_a_failing_listener_stops_no_other(show):
    esm = """export default { render({ model, el }) {
      model.on("change:a", () => { model.set("b", model.get("a") * 2); });
      model.on("change:a", () => { throw new Error("a bad listener"); });
      model.on("change:a", () => { el.textContent += "a" + model.get("a"); });
      model.on("change:b", () => { el.textContent += "b" + model.get("b"); });
      model.set("a", 4);
    } };"""
    seen = show({"a": anywidget(esm, a=0, b=0)}, view("a"))
    assert seen.page.locator(".icl-widget").inner_text() == "b8a4"
    assert any("a bad listener" in error or "change:a" in error for error in seen.errors)


def test_styles_are_added_once_for_each_component(show):
    css = ".mark { color: rgb(1, 2, 3) }"
    esm = """export default { render({ el }) { el.innerHTML = '<p class="mark">m</p>'; } };"""
    models = {"a": anywidget(esm, css=css), "b": anywidget(esm, css=css)}
    page = show(models, view("a"), view("b")).page
    color = "getComputedStyle(document.querySelector('.mark')).color"
    assert page.evaluate(color) == "rgb(1, 2, 3)"
    assert page.locator("style[data-widget]").count() == 1


def test_putting_away_calls_both_kinds_of_cleanup(show):
    page = show({"a": anywidget(COUNTER, count=0)}, view("a"), view("a")).page
    page.evaluate("iclWidgets.dispose()")
    assert page.evaluate("put_away") == ["view true", "view true", "model"]


@pytest.mark.parametrize(
    "esm",
    [
        "export default async () => ({ async render({ el }) { el.textContent = 'drawn'; } });",
        "export function render({ el }) { el.textContent = 'drawn'; }",
    ],
)
def test_a_module_may_export_a_function_or_plain_names(show, esm):
    assert (
        show({"a": anywidget(esm)}, view("a")).page.locator(".icl-widget").inner_text() == "drawn"
    )


def test_binary_traits_arrive_as_data_views(show):
    esm = """export default { render({ model, el }) {
      const { deep } = model.get("in");
      el.textContent = model.get("data").getFloat64(8, true) + " " + deep.getUint8(0);
    } };"""

    def stored(path, data):
        return {"encoding": "base64", "path": path, "data": base64.b64encode(data).decode()}

    buffers = [stored(["data"], struct.pack("<dd", 1.5, -2.25)), stored(["in", "deep"], b"\x07")]
    seen = show({"a": anywidget(esm, buffers=buffers, **{"in": {}})}, view("a"))
    assert seen.page.locator(".icl-widget").inner_text() == "-2.25 7"


THROWS = "export default { render() { throw new Error('the axes are missing.') } }"
SLIDER = {"model_module": "@jupyter-widgets/controls", "model_name": "IntSliderModel", "state": {}}


@pytest.mark.parametrize(
    "models, reason",
    [
        ({}, "its stored state is missing from this page"),
        ({"a": anywidget(THROWS)}, "the axes are missing"),
        ({"a": anywidget("export default {{{ syntax")}, "Unexpected token"),
        ({"a": SLIDER}, "it needs a running notebook"),
    ],
)
def test_a_component_that_cannot_start_says_so_and_stops_no_other(show, models, reason):
    models = {**models, "fine": anywidget(COUNTER, count=1)}
    seen = show(models, view("a"), view("fine"))
    said = seen.page.get_by_role("alert").inner_text()
    assert said.startswith("This interactive component could not start: ") and reason in said
    assert said.endswith("The rest of the page does not depend on it.") and ".." not in said
    assert seen.page.locator(".icl-widget[data-state=ready] button").inner_text() == "count 1"
    assert seen.errors


def test_a_page_opened_from_disk_runs_its_components(browser, script, tmp_path):
    (tmp_path / "widget_host.js").write_bytes(script)
    path = tmp_path / "page.html"
    path.write_text(page_text({"a": anywidget(COUNTER, count=5)}, view("a")))
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    page.evaluate("iclWidgets.ready")
    page.locator("button").click()
    assert page.locator("button").inner_text() == "count 6"
    context.close()
