"""Try an answer on one exercise of a source notebook, in this process, in milliseconds.

For whoever writes exercises: the cells of a notebook in ``solutions/`` are run as plain Python,
with one answer put in the place of the solution, and each test cell, hidden tests included, says
whether it would give its points. Students' work is never run this way; that is what the sandbox
is for.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import torch

STUB = "raise NotImplementedError()"


@dataclass(frozen=True)
class CellOutcome:
    """What a test cell did with an answer."""

    grade_id: str
    points: float
    max_points: float
    message: str
    """The error's sentence; empty where the cell passed."""


@dataclass(frozen=True)
class Planted:
    """An answer kept under ``tests/wrong_answers``: its code, and what the grader has to do.

    The file's docstring says what is wrong, then ``verdict: accepted`` or ``verdict: rejected``;
    a rejected one also has ``found: in sight`` or ``found: hidden`` (which cell has to refuse it
    first) and ``says:``, words that the refusal has to contain.
    """

    exercise: str
    name: str
    code: str
    accepted: bool
    found: str
    says: str


def exercises(notebook: nbformat.NotebookNode) -> list[str]:
    """The names of the auto-graded exercises, ``["ex1", "ex2", ...]``, in order."""
    ids = [c.metadata.get("nbgrader", {}).get("grade_id", "") for c in notebook.cells]
    return [i.removesuffix("-answer") for i in ids if i.endswith("-answer")]


def read_planted(path: Path) -> Planted:
    """Read one planted answer; its exercise is the name of the folder it stands in."""
    text = path.read_text()

    def field(name: str, default: str = "") -> str:
        found = re.search(rf"^{name}: (.+)$", text, flags=re.MULTILINE)
        return found.group(1).strip() if found else default

    verdict = field("verdict")
    if verdict not in ("accepted", "rejected"):
        raise ValueError(f"{path}: its docstring needs `verdict: accepted` or `verdict: rejected`")
    return Planted(
        path.parent.name, path.stem, text, verdict == "accepted", field("found"), field("says")
    )


def without_solution(source: str) -> str:
    """The cell as students get it: the solution replaced by the stub."""
    return re.sub(
        r"### BEGIN SOLUTION.*?### END SOLUTION", STUB, source, flags=re.DOTALL | re.MULTILINE
    )


def try_answer(
    notebook: nbformat.NotebookNode, exercise: str, answer: str | None
) -> list[CellOutcome]:
    """Run the set-up, then one exercise with ``answer`` in place of its solution.

    Args:
        notebook: a source notebook, hidden tests and solutions included.
        exercise: for example ``"ex3"``.
        answer: the code to put into the answer cell; ``None`` keeps the solution.

    Returns:
        One outcome for each test cell of the exercise, in order.

    Raises:
        ValueError: the notebook has no such exercise.
    """
    if exercise not in exercises(notebook):
        raise ValueError(f"exercise: no {exercise!r} here; there are {exercises(notebook)}")
    names: dict = {"__name__": "__main__"}
    outcomes = []
    dtype = torch.get_default_dtype()
    try:
        for cell in notebook.cells:
            info = cell.metadata.get("nbgrader", {})
            grade_id = info.get("grade_id", "")
            if cell.cell_type != "code":
                continue
            if grade_id != "setup" and not grade_id.startswith(exercise + "-"):
                continue
            source = cell.source
            if grade_id == f"{exercise}-answer" and answer is not None:
                source = answer
            message = ""
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    exec(compile(source, grade_id, "exec"), names)
                except Exception as error:
                    message = str(error) or type(error).__name__
            if info.get("grade"):
                points = float(info["points"])
                outcomes.append(CellOutcome(grade_id, 0.0 if message else points, points, message))
    finally:
        torch.set_default_dtype(dtype)
    return outcomes
