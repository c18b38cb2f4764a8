"""Execute the book's notebooks and bring them to one normal form.

A chapter is committed with its outputs, so a second execution must give the same bytes. This
tool runs a notebook from nothing and then removes everything that differs between two runs or
two machines: random cell identifiers, gaps in execution counts, timings, widget identifiers, memory
addresses and paths.

    python tools/notebooks.py                       execute and normalise book/**/*.ipynb
    python tools/notebooks.py book/x/one.ipynb      the same for the notebooks you name
    python tools/notebooks.py --no-execute PATH     normalise only; outputs are kept
    python tools/notebooks.py --check               change nothing; say what is not in normal form

A notebook is written only when all of its cells ran; a failed run leaves the file as it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# What the kernel is told, so that two machines compute the same digits.
KERNEL_ENVIRONMENT = {
    "ICL_LESSONS_DEVICE": "cpu",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}

# Metadata that editors and runners leave behind and that says nothing about the chapter.
TRANSIENT_CELL_METADATA = (
    "execution",
    "ExecuteTime",
    "collapsed",
    "scrolled",
    "papermill",
    "lines_to_next_cell",
)
TRANSIENT_NOTEBOOK_METADATA = ("papermill", "vscode", "toc", "varInspector", "jupytext")

WORDS = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*\Z")
RANDOM_ID = re.compile(
    r"(?:[0-9a-f]{8}|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\Z"
)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$")
ADDRESS = re.compile(r"\b(at )0x[0-9a-f]{6,}")
SITE_PACKAGES = re.compile(r"(?:/[\w.+~-]+)+/(?:site|dist)-packages/")
KERNEL_FILE = re.compile(r"(?:/[\w.+~-]+)*/ipykernel_\d+/\d+\.py")
HEX_ID = re.compile(r"[0-9a-f]{32}")


class NotebookError(Exception):
    """A notebook that cannot be committed; the message says why and in which cell."""


# ---------------------------------------------------------------------------- cell identifiers


def is_meaningful(cell_id: str) -> bool:
    """Whether a cell identifier was chosen by a person (words joined by hyphens)."""
    return len(cell_id) <= 64 and bool(WORDS.match(cell_id)) and not RANDOM_ID.match(cell_id)


def slug(text: str) -> str:
    """A heading as an identifier: lower-case words joined by hyphens, 48 characters at most."""
    text = re.sub(r"\{[\w:-]+\}", " ", text)  # the role's name in {cite:t}`key`
    words = re.findall(r"[a-z0-9]+", text.lower())
    result = ""
    for word in words:
        if len(result) + len(word) + 1 > 48:
            break
        result = f"{result}-{word}" if result else word
    return result or "cell"


def first_heading(source: str) -> str | None:
    """The text of the first Markdown heading of a cell, outside fenced blocks."""
    fence = ""
    for line in source.splitlines():
        mark = re.match(r"\s*(`{3,}|~{3,}|:{3,})", line)
        if mark and (not fence or line.strip() == fence):
            fence = "" if fence else mark.group(1)
        elif not fence and (match := HEADING.match(line)):
            return match.group(1)
    return None


def name_cells(notebook) -> None:
    """Give every cell a stable, unique identifier; keep the ones that people chose."""
    taken = set()
    unnamed = []
    for cell in notebook.cells:
        cell_id = cell.get("id", "")
        if is_meaningful(cell_id) and cell_id not in taken:
            taken.add(cell_id)
        else:
            unnamed.append(cell)
    unnamed_ids = {id(cell) for cell in unnamed}
    section = "start"
    for cell in notebook.cells:
        heading = first_heading(cell.source) if cell.cell_type == "markdown" else None
        if heading:
            section = slug(heading)
        if id(cell) not in unnamed_ids:
            continue
        candidate, index = section, 0
        while candidate in taken or not is_meaningful(candidate):
            index += 1
            candidate = f"{section}-{index}"
        cell["id"] = candidate
        taken.add(candidate)


# ---------------------------------------------------------------------------- widgets


def displayed_models(notebook) -> list[str]:
    """Identifiers of the widget models that the outputs display, in document order."""
    seen = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            model = output.get("data", {}).get(WIDGET_VIEW, {}).get("model_id")
            if model and model not in seen:
                seen.append(model)
    return seen


def reachable_models(displayed: list[str], state: dict) -> list[str]:
    """The displayed models and all that they refer to, depth first, in a stable order."""
    order: list[str] = []

    def visit(model: str) -> None:
        if model in order or model not in state:
            return
        order.append(model)
        for reference in HEX_ID.findall(json.dumps(state[model], sort_keys=True)):
            visit(reference)

    for model in displayed:
        visit(model)
    return order


def name_widgets(notebook, name: str) -> None:
    """Keep the widget models that the page shows and give them reproducible identifiers."""
    bundle = notebook.metadata.get("widgets", {}).get(WIDGET_STATE)
    if bundle is None:
        notebook.metadata.pop("widgets", None)
        return
    state = bundle.get("state", {})
    order = reachable_models(displayed_models(notebook), state)
    if not order:
        notebook.metadata.pop("widgets", None)
        return
    renamed = {
        old: hashlib.sha256(f"{name}:{index}".encode()).hexdigest()[:32]
        for index, old in enumerate(order)
    }
    pattern = re.compile("|".join(map(re.escape, order)))

    def rename(value):
        return json.loads(pattern.sub(lambda m: renamed[m.group()], json.dumps(value)))

    bundle["state"] = {renamed[old]: rename(state[old]) for old in order}
    notebook.metadata["widgets"] = {WIDGET_STATE: bundle}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"] = [nbformat.from_dict(rename(output)) for output in cell.outputs]


# ---------------------------------------------------------------------------- outputs


def scrub(text: str) -> str:
    """Text without memory addresses and without paths of the machine that ran it."""
    text = ADDRESS.sub(r"\g<1>0x0", text)
    text = KERNEL_FILE.sub("<cell>", text)
    text = SITE_PACKAGES.sub("", text)
    text = text.replace(f"{ROOT}{os.sep}", "").replace(str(ROOT), ".")
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(re.escape(home) + r"(?=/|\b)", "~", text)
    return text


def _joined(value) -> str:
    return "".join(value) if isinstance(value, list) else value


def normalise_outputs(outputs: list) -> list:
    """Outputs without counts, addresses and paths; neighbouring stream pieces become one."""
    result: list = []
    for output in outputs:
        output = nbformat.from_dict(dict(output))
        if "execution_count" in output:
            output["execution_count"] = None
        if output.output_type == "stream":
            output["text"] = scrub(_joined(output.text))
            previous = result[-1] if result else None
            if previous and previous.output_type == "stream" and previous.name == output.name:
                previous["text"] += output.text
                continue
        elif output.output_type == "error":
            output["traceback"] = [scrub(line) for line in output.traceback]
            output["evalue"] = scrub(output.evalue)
        for kind, value in list(output.get("data", {}).items()):
            if kind.startswith("text/"):
                output.data[kind] = scrub(_joined(value))
        result.append(output)
    return result


def normalise(notebook, name: str):
    """Bring a notebook to normal form in place and return it.

    `name` (the file's name without suffix) seeds the widget identifiers.
    """
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    for key in TRANSIENT_NOTEBOOK_METADATA:
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = dict(KERNELSPEC)
    notebook.metadata["language_info"] = json.loads(json.dumps(LANGUAGE_INFO))
    count = 0
    for cell in notebook.cells:
        for key in TRANSIENT_CELL_METADATA:
            cell.metadata.pop(key, None)
        cell["source"] = _joined(cell.source)
        if cell.cell_type == "code":
            # Counted from 1, as in a fresh kernel: nbval takes a cell without a count as never run.
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = normalise_outputs(cell.outputs)
    name_cells(notebook)
    name_widgets(notebook, name)
    return notebook


def complaints(notebook) -> list[str]:
    """Why a notebook may not be committed, whatever its form; empty when it may be.

    Errors are allowed in cells tagged `raises-exception`, which show a mistake on purpose.
    """
    found = []
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    if code and not any(c.outputs for c in code):
        found.append("no outputs are stored; run it")
    for cell in code:
        label = f"cell {cell.get('id', '?')!r}"
        for output in cell.outputs:
            if output.output_type == "error":
                if "raises-exception" not in cell.metadata.get("tags", []):
                    found.append(f"{label} stores an error: {output.ename}: {output.evalue}")
            elif output.output_type == "stream" and output.name == "stderr":
                text = " ".join(_joined(output.text).split())[:160]
                found.append(f"{label} writes to standard error: {text}")
            view = output.get("data", {}).get(WIDGET_VIEW, {}).get("model_id")
            if view and view not in state:
                found.append(f"{label} shows a widget whose state is not stored")
    return found


# ---------------------------------------------------------------------------- files


def execute(notebook, folder: Path, timeout: int):
    """Run all cells of a notebook in a fresh CPU kernel; raise NotebookError at the first failure.

    The state of the widgets is stored as `jupyter nbconvert --execute` stores it.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"], cell["execution_count"] = [], None
    notebook.metadata.pop("widgets", None)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=True,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env={**os.environ, **KERNEL_ENVIRONMENT})
    except CellTimeoutError as error:
        raise NotebookError(f"a cell ran longer than {timeout} s: {error}") from error
    except (CellExecutionError, DeadKernelError) as error:
        raise NotebookError(f"a cell failed:\n{error}") from error
    return notebook


def read(path: Path):
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def text_of(notebook) -> str:
    """The exact file content of a notebook."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def write(path: Path, text: str) -> bool:
    """Write a file atomically if its content changes; True when it did."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def process(path: Path, *, run: bool = True, timeout: int = 300) -> bool:
    """Execute (unless `run` is false), normalise and write one notebook; True if it changed."""
    notebook = read(path)
    if run:
        execute(notebook, path.resolve().parent, timeout)
    normalise(notebook, path.stem)
    if problems := [c for c in complaints(notebook) if run or "no outputs" not in c]:
        raise NotebookError("; ".join(problems))
    nbformat.validate(notebook)
    return write(path, text_of(notebook))


def check(path: Path) -> list[str]:
    """What keeps a notebook from being committed as it is; changes nothing."""
    text = path.read_text(encoding="utf-8")
    try:
        raw = json.loads(text)
        stored = read(path)
        ids = [cell.get("id", "") for cell in raw["cells"]]
    except (ValueError, KeyError) as error:
        return [f"not readable as a notebook ({error})"]
    found = complaints(stored)
    if len(ids) != len(set(ids)):
        found.append("cell ids are not unique")
    if bad := [i for i in ids if not is_meaningful(i)]:
        found.append(f"cell ids say nothing: {', '.join(map(repr, bad[:4]))}")
    code = [cell for cell in raw["cells"] if cell["cell_type"] == "code"]
    counts = [cell.get("execution_count") for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append("execution counts are not those of one run from top to bottom")
    if any("execution" in cell["metadata"] for cell in raw["cells"]):
        found.append("timings are stored")
    if not found and text_of(normalise(read(path), path.stem)) != text:
        found.append("not in normal form")
    return found


def find(paths: list[Path]) -> list[Path]:
    """Notebooks among files and folders; folders are searched, checkpoints left out."""
    result = []
    for path in paths:
        found = sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]
        result += [p for p in found if ".ipynb_checkpoints" not in p.parts]
    return result


def shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _report(path: Path, run: bool, timeout: int) -> tuple[bool, str]:
    start = time.perf_counter()
    try:
        changed = process(path, run=run, timeout=timeout)
    except NotebookError as error:
        return False, f"{shown(path)}: NOT WRITTEN: {error}"
    seconds = time.perf_counter() - start
    return True, f"{shown(path)}: {'written' if changed else 'unchanged'} ({seconds:.1f} s)"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Execute and normalise the book's notebooks.")
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks or folders (default: book)")
    parser.add_argument("--check", action="store_true", help="change nothing, list what is wrong")
    parser.add_argument("--no-execute", action="store_true", help="normalise, keep the outputs")
    parser.add_argument("--timeout", type=int, default=300, help="seconds a cell may take")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks executed at once")
    options = parser.parse_args(arguments)
    paths = find(options.paths or [ROOT / "book"])
    if missing := [p for p in paths if not p.is_file()]:
        print(f"no such notebook: {', '.join(map(str, missing))}", file=sys.stderr)
        return 2
    if options.check:
        failed = 0
        for path in paths:
            for line in check(path):
                failed = 1
                print(f"{shown(path)}: {line}")
        print(f"{len(paths)} notebooks looked at")
        return failed
    print(f"{len(paths)} notebooks, {options.jobs} at a time", flush=True)
    ok = True
    run = not options.no_execute
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as pool:
            futures = [pool.submit(_report, path, run, options.timeout) for path in paths]
            results = (future.result() for future in futures)
            for good, line in results:
                ok &= good
                print(line, flush=True)
    else:
        for path in paths:
            good, line = _report(path, run, options.timeout)
            ok &= good
            print(line, flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
