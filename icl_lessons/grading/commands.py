"""The instructor's two commands: ``release`` and ``grade``.

``grade`` takes every hand-in, or says why not, and a hand-in is never lost: what cannot be run
gets a row with zero points and the reason. It can be stopped and started again; what was graded
and has not changed is not run a second time, while scores, comments and feedback are always read
anew, so that marks a person gave are in them.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry

from icl_lessons.grading import feedback, hidden, release, sandbox, staging

Say = Callable[[str], None]

KERNEL_DIED = (
    "The kernel died while the notebook ran (out of memory, or the notebook ended it), so nothing "
    "could be graded. Restart the kernel, run all cells, and hand in again."
)


@dataclass(frozen=True)
class Row:
    """One student's line in the table of grades."""

    student: str
    assignment: str
    status: str
    """``graded`` or ``not graded``."""
    score: float
    max_score: float
    exercises: dict[str, float]
    waiting: float
    """Points that wait for a person."""
    flags: list[str] = field(default_factory=list)
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Folders:
    """Where things lie. ``grading/`` is ignored by git; only ``exercises/`` is committed."""

    root: Path

    @property
    def grading(self) -> Path:
        return self.root / "grading"

    @property
    def submitted(self) -> Path:
        return self.grading / "submitted"

    @property
    def autograded(self) -> Path:
        return self.grading / "autograded"

    @property
    def feedback(self) -> Path:
        return self.grading / "feedback"

    @property
    def database(self) -> Path:
        return self.grading / "gradebook.db"

    @property
    def work(self) -> Path:
        return self.grading / "work"

    def state(self, assignment: str, student: str) -> Path:
        return self.work / "state" / assignment / f"{student}.json"


def make_release(root: Path, assignment: str | None = None, say: Say = print) -> list[Path]:
    """Make ``exercises/`` from ``solutions/``; each file is replaced whole or not at all."""
    made = []
    for name in [assignment] if assignment else release.assignments(root):
        with tempfile.TemporaryDirectory() as folder:
            fresh = release.generate(root, name, Path(folder) / "out", Path(folder) / "g.db")
            target = root / "exercises" / name
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(fresh.parent.rglob("*")):
                if path.is_file():
                    place = target / path.relative_to(fresh.parent)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    changed = not place.exists() or place.read_bytes() != path.read_bytes()
                    _replace(place, path.read_bytes())
                    say(f"{place.relative_to(root)}: {'written' if changed else 'unchanged'}")
                    made.append(place)
    return made


def grade(
    root: Path,
    assignment: str,
    *,
    submitted: Path | None = None,
    sandboxed: bool = True,
    again: bool = False,
    say: Say = print,
) -> list[Row]:
    """Audit, run, score and give feedback on every hand-in of one assignment.

    Args:
        root: the repository.
        assignment: its folder's name in ``solutions/``.
        submitted: where the hand-ins are; ``grading/submitted`` if ``None``.
        sandboxed: run them in bubblewrap. Without it a submission can do whatever you can.
        again: run also what was graded before and has not changed.

    Returns:
        One row a hand-in, by student. The same is written to ``grading/grades.csv``, the feedback
        to ``grading/feedback/STUDENT/ASSIGNMENT/``.

    Raises:
        SandboxUnavailable: ``sandboxed`` and there is no working bubblewrap.
        ValueError: no such assignment.
    """
    folders = Folders(root)
    source_path = release.source_notebook(root, assignment)
    name = source_path.stem
    if sandboxed:
        sandbox.check_available()
    os.environ["ICL_LESSONS_SANDBOX"] = "on" if sandboxed else "off"
    hand_ins = staging.find(submitted or folders.submitted, assignment)
    if not hand_ins:
        say(f"{assignment}: nothing handed in below {submitted or folders.submitted}")
        return []
    say(f"{assignment}: {len(hand_ins)} hand-ins, a few seconds each")
    released_path = release.generate(root, assignment, folders.work / "release", folders.database)
    released = nbformat.read(released_path, 4)
    source = nbformat.read(source_path, 4)
    staged_folder = folders.work / "submitted"
    nbgrader = release.api(root, submitted_directory=str(staged_folder))
    judged_by = [source_path.read_bytes(), *_checking_code()]
    rows = []
    for count, hand_in in enumerate(hand_ins, start=1):
        mark = hand_in.fingerprint(*judged_by)
        state_path = folders.state(assignment, hand_in.student)
        state = _read_state(state_path)
        graded_path = folders.autograded / hand_in.student / assignment / f"{name}.ipynb"
        fresh = state.get("mark") == mark and (state.get("reason") or graded_path.exists())
        if fresh and not again:
            done = "as before"
        else:
            state = _run(hand_in, released, name, staged_folder, nbgrader) | {"mark": mark}
            _replace(state_path, json.dumps(state, indent=1).encode())
            done = f"{state['seconds']:.1f} s"
        row = _row(folders, hand_in, name, source, state)
        _write_feedback(folders, nbgrader, hand_in, name, source, row)
        rows.append(row)
        say(f"  {count}/{len(hand_ins)} {hand_in.student}: {_in_words(row)} ({done})")
    write_grades(folders.grading / "grades.csv", rows)
    return rows


def _run(hand_in, released, name, staged_folder, nbgrader) -> dict:
    """Stage and autograde one hand-in; never raises for what the hand-in does."""
    started = time.monotonic()
    flags: list[str] = []
    reason = ""
    try:
        staged = staging.stage(hand_in, released, name, staged_folder)
        flags = [str(flag) for flag in staged.flags]
        with quiet():
            done = nbgrader.autograde(hand_in.assignment, hand_in.student, force=True, create=True)
        if not done["success"]:
            reason = _why(done)
    except staging.NotGradable as why:
        reason = str(why)
    return {"reason": reason, "flags": flags, "seconds": time.monotonic() - started}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that nbgrader's own use of its database gives on every hand-in."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object of type <Submitted")
        yield


def _why(done: dict) -> str:
    text = f"{done.get('log', '')}\n{done.get('error', '')}"
    if "Kernel died" in text or "DeadKernelError" in text:
        return KERNEL_DIED
    if "UnresponsiveKernelError" in text or "unresponsive" in text:
        return "The notebook could not be interrupted and was given up."
    lines = [line for line in text.split("\n") if re.match(r"\w*(Error|Exception)\b", line)]
    return "The notebook could not be graded" + (f": {lines[-1][:300]}" if lines else ".")


def _row(folders: Folders, hand_in, name: str, source, state: dict) -> Row:
    """Scores from the gradebook, marks by hand included; zeros where nothing could be graded."""
    maximum: dict[str, float] = {}
    for cell in source.cells:
        info = cell.metadata.get("nbgrader", {})
        if info.get("grade"):
            exercise = info["grade_id"].split("-")[0]
            maximum[exercise] = maximum.get(exercise, 0.0) + float(info["points"])
    earned, waiting = dict.fromkeys(maximum, 0.0), 0.0
    flags = list(state["flags"])
    if not state["reason"]:
        with Gradebook(f"sqlite:///{folders.database}") as gradebook:
            try:
                graded = gradebook.find_submission_notebook(
                    name, hand_in.assignment, hand_in.student
                )
                for item in graded.grades:
                    earned[item.name.split("-")[0]] += item.score or 0.0
                    waiting += item.max_score if item.needs_manual_grade else 0.0
            except MissingEntry:
                state = state | {"reason": "The gradebook has no entry; run `grade` again."}
        path = folders.autograded / hand_in.student / hand_in.assignment / f"{name}.ipynb"
        if path.exists() and _printed_hidden_tests(nbformat.read(path, 4), source):
            flags.append("an output holds lines of a hidden test")
    return Row(
        student=hand_in.student,
        assignment=hand_in.assignment,
        status="not graded" if state["reason"] else "graded",
        score=sum(earned.values()),
        max_score=sum(maximum.values()),
        exercises=earned,
        waiting=waiting,
        flags=flags,
        reason=state["reason"],
        seconds=state["seconds"],
    )


def _printed_hidden_tests(graded, source) -> bool:
    secret = hidden.secret_lines(c.source for c in source.cells if c.cell_type == "code")
    texts = []
    for cell in graded.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", "") + output.get("evalue", ""))
            texts.append(output.get("data", {}).get("text/plain", ""))
    return any(hidden.redact(text, secret) != text for text in texts)


def _write_feedback(folders, nbgrader, hand_in, name, source, row: Row) -> None:
    place = folders.feedback / hand_in.student / hand_in.assignment / f"{name}.html"
    if not row.reason:
        with quiet():
            done = nbgrader.generate_feedback(hand_in.assignment, hand_in.student, force=True)
        if done["success"] and place.exists():
            return
    try:
        notebook, _ = staging.read(hand_in, name)
    except staging.NotGradable:
        notebook = nbformat.v4.new_notebook()
    feedback.write(
        place,
        feedback.render(
            notebook,
            student=hand_in.student,
            assignment=hand_in.assignment,
            score=row.score,
            max_score=row.max_score,
            reason=row.reason or "The feedback could not be made; ask your instructor.",
        ),
    )


def write_grades(path: Path, rows: Iterable[Row]) -> None:
    """Write the table of grades, one line a hand-in; lines of other assignments stay."""
    rows = list(rows)
    names = list(dict.fromkeys(e for row in rows for e in row.exercises))
    lines = []
    for row in rows:
        line = {k: v for k, v in asdict(row).items() if k not in ("exercises", "flags")}
        line |= {"score": f"{row.score:g}", "max_score": f"{row.max_score:g}"}
        line |= {"waiting": f"{row.waiting:g}", "seconds": f"{row.seconds:.1f}"}
        line |= {e: f"{points:g}" for e, points in row.exercises.items()}
        line["flags"] = "; ".join(row.flags)
        lines.append({k: _plain(v) for k, v in line.items()})
    if path.exists():
        with path.open(newline="") as file:
            others = list(csv.DictReader(file))
        mine = {row.assignment for row in rows}
        lines = [line for line in others if line.get("assignment") not in mine] + lines
    first = ["student", "assignment", "status", "score", "max_score", "waiting"]
    last = ["flags", "reason", "seconds"]
    given = [k for line in lines for k in line if k not in first + last]
    columns = [*first, *sorted(set(given) | set(names)), *last]
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    with half.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(sorted(lines, key=lambda line: (line["assignment"], line["student"])))
    half.replace(path)


def _plain(value: object) -> str:
    """Text that a spreadsheet does not take for a formula."""
    text = str(value).replace("\n", " ")
    return "'" + text if text[:1] in ("=", "+", "@") else text


def _in_words(row: Row) -> str:
    if row.reason:
        return f"0 of {row.max_score:g}, not graded: {row.reason[:60].rstrip()} ..."
    waits = f", {row.waiting:g} wait for a person" if row.waiting else ""
    flags = f", {len(row.flags)} flag{'s' * (len(row.flags) > 1)}" if row.flags else ""
    return f"{row.score:g} of {row.max_score:g}{waits}{flags}"


def table(rows: Iterable[Row]) -> str:
    """The rows as plain tables for the terminal, one an assignment."""
    rows = list(rows)
    names = dict.fromkeys(row.assignment for row in rows)
    return "\n\n".join(
        f"{name}\n{_table([row for row in rows if row.assignment == name])}" for name in names
    )


def _table(rows: list[Row]) -> str:
    exercises = list(rows[0].exercises)
    lines = [["student", "score", *exercises, "waiting", "flags", "status"]]
    for row in rows:
        points = [f"{row.exercises.get(e, 0):g}" for e in exercises]
        lines.append(
            [row.student, f"{row.score:g}/{row.max_score:g}", *points]
            + [f"{row.waiting:g}", str(len(row.flags)), row.status]
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _checking_code() -> list[bytes]:
    """What a score depends on beside the submission and the source: the checks' own code."""
    here = Path(__file__).parent
    paths = [here / "checks.py", here / "sums.py", *here.glob("*/*.py")]
    return [path.read_bytes() for path in sorted(paths)]


def _read_state(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".half")
    half.write_bytes(content)
    half.replace(path)


def forget(root: Path) -> None:
    """Remove what grading made, so that the next run starts from nothing; hand-ins stay."""
    folders = Folders(root)
    for folder in (folders.autograded, folders.feedback, folders.work):
        shutil.rmtree(folder, ignore_errors=True)
    for path in (folders.database, folders.grading / "grades.csv"):
        path.unlink(missing_ok=True)
