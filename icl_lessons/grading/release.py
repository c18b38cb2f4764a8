"""``solutions/`` to ``exercises/``: nbgrader's release, checked and brought to one form."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
from nbgrader.apps import NbGraderAPI
from traitlets.config import Config, PyFileConfigLoader

from icl_lessons.grading import hidden
from icl_lessons.grading.preprocessors import SOLUTION_ONLY


class ReleaseError(RuntimeError):
    """A release that may not go out, and why."""


def assignments(root: Path) -> list[str]:
    """Names of the assignments in ``solutions/``, in order."""
    return sorted(p.parent.name for p in (root / "solutions").glob("*/*.ipynb"))


def source_notebook(root: Path, assignment: str) -> Path:
    """The one source notebook of an assignment.

    Raises:
        ValueError: there is no such assignment, or it has several notebooks.
    """
    found = sorted((root / "solutions" / assignment).glob("*.ipynb"))
    if len(found) != 1:
        raise ValueError(
            f"assignment: {assignment!r} has {len(found)} notebooks in solutions/, one is needed; "
            f"there are {', '.join(assignments(root)) or 'no assignments'}"
        )
    return found[0]


def api(root: Path, **folders: str) -> NbGraderAPI:
    """nbgrader with the course's configuration; ``folders`` override those of the course.

    nbgrader starts ``alembic`` by name, so the environment's ``bin`` is put on the path.
    """
    binaries = str(Path(sys.prefix) / "bin")
    if binaries not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = binaries + os.pathsep + os.environ.get("PATH", "")
    config: Config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    for name, value in folders.items():
        config.CourseDirectory[name] = value
    return NbGraderAPI(config=config)


def generate(root: Path, assignment: str, into: Path, database: Path) -> Path:
    """Make the release of one assignment below ``into``; register it in ``database``.

    Raises:
        ReleaseError: nbgrader refused, or the release is not fit for students.
    """
    name = source_notebook(root, assignment).stem
    into.mkdir(parents=True, exist_ok=True)
    database.parent.mkdir(parents=True, exist_ok=True)
    done = api(
        root, release_directory=str(into), db_url=f"sqlite:///{database}"
    ).generate_assignment(assignment, force=True, create=True)
    if not done["success"]:
        raise ReleaseError(f"{assignment}: nbgrader refused.\n{done.get('error') or done['log']}")
    path = into / assignment / f"{name}.ipynb"
    normalise(path)
    verify(path)
    return path


def normalise(path: Path) -> None:
    """One form for what does not matter, so that the same source gives the same bytes."""
    notebook = nbformat.read(path, 4)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("execution", None)
    notebook.nbformat_minor = 5
    nbformat.write(notebook, path)


def verify(path: Path) -> None:
    """Require that nothing of a solution or a hidden test is left in a release.

    Raises:
        ReleaseError: naming the cell.
    """
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        info = cell.metadata.get("nbgrader", {})
        for word in ("BEGIN SOLUTION", hidden.BEGIN, "Rubric"):
            if word in cell.source:
                raise ReleaseError(f"{path.name}, cell {cell.id}: {word!r} is in the release.")
        if SOLUTION_ONLY in cell.metadata.get("tags", []):
            raise ReleaseError(f"{path.name}, cell {cell.id}: an explanation is in the release.")
        if info.get("solution") and cell.cell_type == "code":
            if not re.search(r"^\s*raise NotImplementedError\(\)$", cell.source, re.MULTILINE):
                raise ReleaseError(f"{path.name}, cell {cell.id}: there is nothing left to write.")
    nbformat.validate(notebook)
