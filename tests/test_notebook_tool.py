"""tools/notebooks.py: a notebook executed twice gives the same bytes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[1]


def load_tool(name: str):
    """Import a script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load_tool("notebooks")

ESM = "export default { render({ model, el }) { el.textContent = model.get('value'); } }"


def small_notebook():
    return new_notebook(
        cells=[
            new_markdown_cell("# A *small* page\n\nWords."),
            new_code_cell(
                "import anywidget, traitlets\n"
                "class Dial(anywidget.AnyWidget):\n"
                f"    _esm = {ESM!r}\n"
                "    value = traitlets.Int(3).tag(sync=True)\n"
                "unused = Dial(value=99)\n"
                "dial = Dial()"
            ),
            new_markdown_cell("## The dial, {cite:t}`key` $x^2$"),
            new_code_cell("dial"),
            new_code_cell("print('one', flush=True)\nprint('two')\nobject()"),
            new_markdown_cell("More.", id="kept-by-hand"),
        ]
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The small notebook after two independent runs: two paths with one name."""
    paths = []
    for run in ("first", "second"):
        path = tmp_path_factory.mktemp(run) / "small.ipynb"
        nbformat.write(small_notebook(), path)
        assert tool.process(path)
        paths.append(path)
    return paths


def test_two_runs_give_the_same_bytes(executed):
    first, second = executed
    assert first.read_bytes() == second.read_bytes()


def test_a_run_notebook_passes_its_own_check_and_is_not_rewritten(executed):
    assert tool.check(executed[0]) == []
    before = executed[0].stat().st_mtime_ns
    assert tool.process(executed[0], run=False) is False
    assert executed[0].stat().st_mtime_ns == before


def test_cells_are_named_after_their_heading(executed):
    ids = [cell["id"] for cell in json.loads(executed[0].read_text())["cells"]]
    assert ids == [
        "a-small-page",
        "a-small-page-1",
        "the-dial-key-x-2",
        "the-dial-key-x-2-1",
        "the-dial-key-x-2-2",
        "kept-by-hand",
    ]


def test_only_displayed_widgets_are_stored_and_views_point_at_them(executed):
    notebook = json.loads(executed[0].read_text())
    state = notebook["metadata"]["widgets"][tool.WIDGET_STATE]["state"]
    values = [m["state"]["value"] for m in state.values() if "value" in m["state"]]
    assert values == [3]
    (view,) = [o["data"][tool.WIDGET_VIEW]["model_id"]
               for c in notebook["cells"] for o in c.get("outputs", [])
               if tool.WIDGET_VIEW in o.get("data", {})]  # fmt: skip
    assert state[view]["state"]["_esm"] == ESM
    layout = state[view]["state"]["layout"].removeprefix("IPY_MODEL_")
    assert layout in state


def test_outputs_hold_no_counts_timings_or_addresses(executed):
    text = executed[0].read_text()
    notebook = json.loads(text)
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    assert all("execution" not in c["metadata"] for c in code)
    assert "object at 0x0>" in text
    stream = code[2]["outputs"][0]
    assert "".join(stream["text"]) == "one\ntwo\n"
    assert "version" not in notebook["metadata"]["language_info"]


def test_a_failing_cell_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(tool.NotebookError, match="ZeroDivisionError"):
        tool.process(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_shown_mistake_is_allowed_when_it_is_tagged(tmp_path):
    cell = new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]})
    path = tmp_path / "mistake.ipynb"
    nbformat.write(new_notebook(cells=[cell]), path)
    assert tool.process(path)
    assert tool.check(path) == []


def test_standard_error_is_refused(tmp_path):
    path = tmp_path / "noisy.ipynb"
    source = "import sys\nprint('careful', file=sys.stderr)"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    with pytest.raises(tool.NotebookError, match="standard error: careful"):
        tool.process(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda nb: nb["cells"][0].update(id="0a1b2c3d"), "ids say nothing"),
        (lambda nb: nb["cells"][1].update(id=nb["cells"][0]["id"]), "not unique"),
        (lambda nb: nb["cells"][1].update(execution_count=4), "execution counts"),
        (lambda nb: nb["cells"][1]["metadata"].update(execution={"x": "y"}), "timings"),
        (lambda nb: nb["metadata"]["language_info"].update(version="3.11"), "normal form"),
        (lambda nb: nb["metadata"].pop("widgets"), "state is not stored"),
        (lambda nb: [c.update(outputs=[]) for c in nb["cells"] if "outputs" in c], "no outputs"),
    ],
)
def test_check_names_what_is_wrong(executed, tmp_path, change, said):
    notebook = json.loads(executed[0].read_text())
    change(notebook)
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps(notebook))
    assert any(said in line for line in tool.check(path))
    assert tool.main(["--check", str(path)]) == 1


@pytest.mark.parametrize(
    ("cell_id", "meaningful"),
    [
        ("the-construction-2", True),
        ("q1_hat_matrix", True),
        ("deadbeef", False),
        ("0a1b2c3d", False),
        ("123e4567-e89b-12d3-a456-426614174000", False),
        ("W0sZmlsZQ%3D", False),
        ("", False),
    ],
)
def test_meaningful_ids(cell_id, meaningful):
    assert tool.is_meaningful(cell_id) is meaningful


def test_paths_of_this_machine_are_scrubbed():
    text = f"{ROOT}/book/x.py and {Path.home()}/notes and {sys.prefix}/lib/site-packages/torch/a.py"
    assert tool.scrub(text) == "book/x.py and ~/notes and torch/a.py"


def test_headings_in_fenced_blocks_do_not_count():
    assert tool.first_heading("```python\n# a comment\n```\n## Real *one*") == "Real *one*"


def test_stored_errors_are_reported():
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    notebook = new_notebook(cells=[new_code_cell("f()", outputs=[error], id="f")])
    assert tool.complaints(notebook) == ["cell 'f' stores an error: ValueError: no"]
