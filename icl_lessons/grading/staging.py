"""From what was handed in to what can be graded, without touching what was handed in.

A submission may lack cells, carry a test cell twice, be named otherwise or not be a notebook at
all. A repaired copy is graded; what was repaired is said in the audit.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from icl_lessons.grading.audit import Flag, audit

LARGEST = 20 * 2**20
"""Bytes of a notebook that is read at all."""


class NotGradable(Exception):
    """Why a submission gets zero without being run, in a sentence."""


@dataclass(frozen=True)
class Submission:
    """One student's hand-in for one assignment."""

    student: str
    assignment: str
    files: tuple[Path, ...]
    folder: Path

    def fingerprint(self, *others: bytes) -> str:
        """Changes when a file of the submission, or one of ``others``, changes."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(str(path.relative_to(self.folder)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
        for other in others:
            digest.update(other + b"\0")
        return digest.hexdigest()


@dataclass(frozen=True)
class Staged:
    """The copy that will be graded, and what a person should look at."""

    notebook: nbformat.NotebookNode
    flags: list[Flag] = field(default_factory=list)


def find(submitted: Path, assignment: str) -> list[Submission]:
    """Every hand-in below a folder, by student.

    Two layouts: nbgrader's ``STUDENT/ASSIGNMENT/NOTEBOOK.ipynb``, and ``STUDENT.ipynb`` side by
    side, as learning platforms export them.
    """
    found = {}
    for path in sorted(submitted.iterdir()) if submitted.is_dir() else []:
        if path.name.startswith("."):
            continue
        if path.is_dir() and (path / assignment).is_dir():
            folder = path / assignment
            files = tuple(
                p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()
            )
            found[path.name] = Submission(path.name, assignment, files, folder)
        elif path.suffix == ".ipynb" and path.is_file():
            found[path.stem] = Submission(path.stem, assignment, (path,), submitted)
    return [found[name] for name in sorted(found)]


def read(submission: Submission, name: str) -> tuple[nbformat.NotebookNode, list[Flag]]:
    """The submitted notebook ``name``.

    Raises:
        NotGradable: there is none, or several and none of that name, or it is not a notebook.
    """
    notebooks = [p for p in submission.files if p.suffix == ".ipynb"]
    named = [p for p in notebooks if p.stem == name]
    if not notebooks:
        raise NotGradable("No notebook was handed in.")
    if not named and len(notebooks) > 1:
        raise NotGradable(f"Several notebooks were handed in, and none is called {name}.ipynb.")
    path = (named or notebooks)[0]
    renamed = path.stem not in (name, submission.student)
    flags = [Flag("notebook", 0, f"was called {path.name}")] if renamed else []
    if path.stat().st_size > LARGEST:
        raise NotGradable(f"The notebook is larger than {LARGEST // 2**20} MB.")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        what = str(error).split("\n")[0][:200]
        raise NotGradable(f"The file {path.name} is not a readable notebook ({what}).") from error
    return notebook, flags


def repair(
    submitted: nbformat.NotebookNode, released: nbformat.NotebookNode
) -> nbformat.NotebookNode:
    """A copy in which every cell of the release that counts occurs once, in its place."""
    result = copy.deepcopy(submitted)
    given = [c for c in released.cells if c.metadata.get("nbgrader", {}).get("grade_id")]
    ids = [c.metadata.nbgrader.grade_id for c in given]
    seen: set[str] = set()
    cells = []
    for cell in result.cells:
        info = cell.metadata.get("nbgrader", {})
        grade_id = info.get("grade_id")
        if grade_id is not None and (grade_id not in ids or grade_id in seen):
            del cell.metadata["nbgrader"]  # a stranger or a second copy: an ordinary cell
        elif grade_id is not None:
            seen.add(grade_id)
            original = given[ids.index(grade_id)]
            cell.metadata["nbgrader"] = copy.deepcopy(original.metadata.nbgrader)
            if cell.cell_type != original.cell_type:
                replaced = copy.deepcopy(original)
                replaced.source = cell.source
                cell = replaced
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
    result.cells = cells
    for k, grade_id in enumerate(ids):
        if grade_id in seen:
            continue
        place = 0
        for index, cell in enumerate(result.cells):
            if cell.metadata.get("nbgrader", {}).get("grade_id") in ids[:k]:
                place = index + 1
        result.cells.insert(place, copy.deepcopy(given[k]))
    used: set[str] = set()
    for k, cell in enumerate(result.cells):
        if not cell.get("id") or cell["id"] in used:
            cell["id"] = f"cell-{k}"
        used.add(cell["id"])
    result.nbformat, result.nbformat_minor = 4, 5
    result.metadata = copy.deepcopy(released.metadata)
    return result


def stage(
    submission: Submission, released: nbformat.NotebookNode, name: str, folder: Path
) -> Staged:
    """Write the copy that will be graded to ``folder/STUDENT/ASSIGNMENT`` and audit it.

    Raises:
        NotGradable: see :func:`read`.
    """
    notebook, flags = read(submission, name)
    flags += audit(notebook, released)
    repaired = repair(notebook, released)
    target = folder / submission.student / submission.assignment
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in submission.files:
        if path.suffix != ".ipynb":
            copy_to = target / path.relative_to(submission.folder)
            copy_to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy_to)
    nbformat.write(repaired, target / f"{name}.ipynb")
    return Staged(repaired, flags)
