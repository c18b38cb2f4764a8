"""Sample hand-ins: right, partly right, wrong, and each way in which a notebook can misbehave.

They show the whole path at work (``python tools/grade.py grade --sample``) and are what its test
runs on. Each is made from the release, as a student would make it.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import nbformat

from icl_lessons.grading import trial

WRITTEN = (
    "It shows that on these tasks the two agree in direction, on average. That is not yet how "
    "either of them works. I would compare the lengths, scale the inputs, and change one part."
)
VICTIM = "VICTIM"
"""Stands in the intruder's code for the file it tries to delete."""
CHECKS, FIRST = "CHECKS", "FIRST"
"""Stand in such code for the name that a notebook gives its checks, and for a first argument."""

CRASHES = "import sys\n\nsys.exit(0)"
ENDS_KERNEL = "import os\n\nos._exit(0)"
LOOPS = """while True:
        pass"""
BENDS = f"""import ast

import torch
from icl_lessons.grading import checks

torch.allclose = lambda *a, **k: True
torch.equal = lambda *a, **k: True
checks.CheckFailed = type("CheckFailed", (Exception,), {{}})
for name in dir({CHECKS}):
    if name.startswith("check_"):
        setattr({CHECKS}, name, lambda *a: None)


class NoAsserts(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()


get_ipython().ast_transformers.append(NoAsserts())
abs = lambda value: 0.0
"""
INTRUDES = f"""import glob
import os
import socket

report = []
try:
    os.remove({VICTIM!r})
    report.append("deleted the file")
except OSError as error:
    report.append(f"file: {{type(error).__name__}}")
try:
    socket.create_connection(("127.0.0.1", PORT), timeout=2)
    report.append("reached the network")
except OSError as error:
    report.append(f"network: {{type(error).__name__}}")
report.append(f"notebooks here: {{glob.glob('**/*.ipynb', recursive=True)}}")
report.append(f"passwords: {{os.path.exists('/etc/passwd')}}")
print(report)
"""
READS = f"""import sys

    frame = sys._getframe()
    while frame:
        print(frame.f_code.co_filename, frame.f_code.co_name)
        frame = frame.f_back
    print("\\n".join(In))
    return {FIRST}"""


def make(
    release: nbformat.NotebookNode,
    source: nbformat.NotebookNode,
    assignment: str,
    into: Path,
    *,
    name: str,
    planted: Path | None = None,
    victim: Path | None = None,
    port: int = 9,
    students: Collection[str] | None = None,
) -> list[str]:
    """Write the samples to ``into/STUDENT/ASSIGNMENT``, and return the students' names.

    Args:
        release: the notebook students get.
        source: its source, for the right answers.
        assignment: the assignment's name.
        into: a folder of submissions.
        name: the notebook's name, without its ending.
        planted: folder of planted answers, one folder an exercise; without it nobody is wrong.
        victim: a file that the intruder tries to delete.
        port: a port of this machine that the intruder tries to reach.
        students: make only these samples; all if ``None``.
    """
    exercises = trial.exercises(source)
    solution = {
        c.metadata.nbgrader.grade_id: as_written(c.source)
        for c in source.cells
        if c.metadata.get("nbgrader", {}).get("solution") and c.cell_type == "code"
    }
    planted_answers = (
        [trial.read_planted(p) for p in sorted(planted.glob("*/*.py"))] if planted else []
    )

    def one(exercise: str, accepted: bool) -> str:
        for answer in planted_answers:
            if answer.exercise == exercise and answer.accepted == accepted:
                return answer.code.split('"""', 2)[2].strip()  # without the note about it
        return solution[f"{exercise}-answer"]

    def write(student: str, change: Callable[[nbformat.NotebookNode], None]) -> None:
        notebook = copy.deepcopy(release)
        change(notebook)
        path = into / student / assignment / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)

    first, third = exercises[0], exercises[2]
    given = {
        c.metadata.nbgrader.grade_id: c.source for c in release.cells if "nbgrader" in c.metadata
    }
    (checks,) = re.findall(r"^from icl_lessons\.grading import \w+ as (\w+)$", given["setup"], re.M)
    intrusion = INTRUDES.replace(VICTIM, str(victim or into / "no-such-file"))
    intrusion = intrusion.replace("PORT", str(port))

    def written(exercise: str, body: str) -> str:
        """The exercise's cell as it was handed out, with ``body`` in place of each stub."""
        stub = given[f"{exercise}-answer"]
        argument = re.search(r"def \w+\((\w+)", stub)[1]
        return stub.replace(trial.STUB, body.replace(FIRST, argument))

    def fill(notebook, answers: dict[str, str], written: str = "") -> None:
        for cell in notebook.cells:
            info = cell.metadata.get("nbgrader", {})
            grade_id = info.get("grade_id", "")
            if grade_id in answers:
                cell.source = answers[grade_id]
            elif written and info.get("solution") and cell.cell_type == "markdown":
                cell.source = written

    def without_tests(notebook) -> None:
        fill(notebook, solution, WRITTEN)
        gone = {f"{first}-hidden", f"{third}-answer", f"{third}-hidden"}
        notebook.cells = [
            c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") not in gone
        ]

    right_differently = {f"{e}-answer": one(e, True) for e in exercises}
    wrong = {f"{e}-answer": one(e, False) for e in exercises}
    half = {f"{e}-answer": solution[f"{e}-answer"] for e in exercises[: len(exercises) // 2]}
    bent = f"{BENDS.replace(CHECKS, checks)}\n\n{written(first, f'return {FIRST}')}"
    intruding = f"{intrusion}\n\n{written(first, READS)}"
    looping = written(third, LOOPS)
    samples: dict[str, Callable[[nbformat.NotebookNode], None]] = {
        "right": lambda nb: fill(nb, solution, WRITTEN),
        "right-differently": lambda nb: fill(nb, right_differently, WRITTEN),
        "partly-right": lambda nb: fill(nb, half),
        "wrong": lambda nb: fill(nb, wrong, WRITTEN),
        "untouched": lambda nb: None,
        "crashing": lambda nb: fill(nb, solution | {f"{first}-answer": CRASHES}),
        "endless-loop": lambda nb: fill(nb, solution | {f"{third}-answer": looping}),
        "ends-the-kernel": lambda nb: fill(nb, solution | {f"{third}-answer": ENDS_KERNEL}),
        "bends-the-tests": lambda nb: fill(nb, {f"{first}-answer": bent}),
        "intruder": lambda nb: fill(nb, {f"{first}-answer": intruding}),
        "deleted-tests": without_tests,
    }
    wanted = [*samples, "damaged"] if students is None else students
    for student in wanted:
        if student != "damaged":
            write(student, samples[student])
    if "damaged" in wanted:
        path = into / "damaged" / assignment / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"cells": [{"cell_type": "code", "source": "1 +')
    return sorted(p.name for p in into.iterdir())


def course(root: Path, folder: Path, assignment: str, **options) -> list[str]:
    """A course of its own in ``folder``, with one assignment and the sample hand-ins.

    Args:
        root: the repository that it is taken from.
        folder: where to; hand-ins that are there already are made again.
        assignment: the assignment's name.
        options: passed to :func:`make`.
    """
    (source_path,) = (root / "solutions" / assignment).glob("*.ipynb")
    for path in (root / "nbgrader_config.py", source_path):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    victim = folder / "a-file-outside.txt"
    victim.write_text("still here\n")
    return make(
        nbformat.read(root / "exercises" / assignment / source_path.name, 4),
        nbformat.read(source_path, 4),
        assignment,
        folder / "grading" / "submitted",
        name=source_path.stem,
        planted=root / "tests" / "wrong_answers" / assignment,
        victim=victim,
        **options,
    )


def as_written(source: str) -> str:
    """A solution as a student would have written it: without the region's two marks."""
    return "\n".join(line for line in source.split("\n") if "SOLUTION" not in line)
