"""Read a submission for what could bend its tests, and say so to a person.

A flag is not a score and not an accusation: many have innocent reasons. It says where to look. The
reading is of the source alone (``ast``); nothing is executed.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

import nbformat

SUSPICIOUS_NAMES = {
    "get_ipython": "reaches into the kernel",
    "__builtins__": "reaches into the built-in names",
    "__import__": "imports by name",
    "globals": "reaches into the notebook's names",
    "setattr": "sets attributes by name",
    "exec": "executes text",
    "eval": "executes text",
    "open": "opens a file",
    "In": "reads the source of executed cells",
    "_ih": "reads the source of executed cells",
}
SUSPICIOUS_MODULES = {
    "builtins": "reaches into the built-in names",
    "inspect": "can read the source of its caller",
    "gc": "can find every object",
    "ctypes": "can change memory",
    "subprocess": "starts programs",
    "socket": "opens connections",
    "urllib": "opens connections",
    "requests": "opens connections",
    "sqlite3": "opens databases",
    "signal": "changes how the kernel is interrupted",
    "atexit": "runs code at the end",
    "importlib": "changes or reloads modules",
    "IPython": "reaches into the kernel",
}
SUSPICIOUS_ATTRIBUTES = {
    "ast_transformers": "changes code before it runs",
    "input_transformers_post": "changes code before it runs",
    "_exit": "ends the kernel at once",
    "settrace": "follows every line that runs",
    "setprofile": "follows every call",
    "_getframe": "reads its caller",
    "f_back": "reads its caller",
    "modules": "reaches into loaded modules",
    "__dict__": "sets attributes by name",
    "__code__": "changes a function from outside",
    "system": "starts programs",
    "displayhook": "changes what a cell shows",
    "excepthook": "changes how errors are shown",
}
GUARDED = frozenset(n for n in dir(builtins) if not n.startswith("_"))


@dataclass(frozen=True)
class Flag:
    """One thing for a person to look at."""

    cell: str
    """The cell's grade id, or its number counted from 1."""
    line: int
    """Line in the cell; 0 where the whole cell is meant."""
    what: str

    def __str__(self) -> str:
        return f"{self.cell}:{self.line} {self.what}" if self.line else f"{self.cell} {self.what}"


def audit(submitted: nbformat.NotebookNode, released: nbformat.NotebookNode) -> list[Flag]:
    """Flags for one submitted notebook, compared with the release it began from."""
    flags: list[Flag] = []
    given = {_grade_id(c): c for c in released.cells if _grade_id(c)}
    have = [_grade_id(c) for c in submitted.cells if _grade_id(c)]
    for grade_id, cell in given.items():
        if grade_id not in have:
            flags.append(Flag(grade_id, 0, "is missing from the submission (it was put back)"))
        if have.count(grade_id) > 1:
            flags.append(Flag(grade_id, 0, "occurs more than once"))
        if not _locked(cell):
            continue
        for other in submitted.cells:
            if _grade_id(other) == grade_id and other.source.strip() != cell.source.strip():
                flags.append(Flag(grade_id, 0, "was changed (the original was put back)"))
    tests = [i for i, c in enumerate(submitted.cells) if _grade_id(c) and _is_grade(c)]
    imported = set(_imported(released))
    imported |= set(_imported(submitted))
    guarded = GUARDED | set(_imported(released, "icl_lessons.grading"))
    for number, cell in enumerate(submitted.cells, start=1):
        grade_id = _grade_id(cell)
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if grade_id in given and _locked(given[grade_id]):
            continue
        name = grade_id or f"cell {number}"
        if tests and number - 1 > tests[-1]:
            flags.append(Flag(name, 0, "was added after the last test"))
        flags += _read_cell(name, cell.source, imported, guarded)
    return flags


def _grade_id(cell) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "") or ""


def _is_grade(cell) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


def _locked(cell) -> bool:
    info = cell.metadata.get("nbgrader", {})
    return bool(not info.get("solution") and (info.get("grade") or info.get("locked")))


def _parse(source: str) -> tuple[ast.Module | None, list[int]]:
    """The cell's syntax tree, with lines of magics and shell commands blanked and listed."""
    lines, magics = source.split("\n"), []
    for k, line in enumerate(lines):
        if line.lstrip()[:1] in ("%", "!"):
            indent = line[: len(line) - len(line.lstrip())]
            lines[k] = indent + "pass"
            magics.append(k + 1)
    try:
        return ast.parse("\n".join(lines)), magics
    except (SyntaxError, ValueError, RecursionError):
        return None, magics


def _imported(notebook, package: str = "") -> list[str]:
    """The names that a notebook imports: all of them, or those it takes from one package."""
    names = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tree, _ = _parse(cell.source)
        for node in ast.walk(tree) if tree else ():
            if _is_import(node) and (not package or getattr(node, "module", "") == package):
                names += [(a.asname or a.name).split(".")[0] for a in node.names]
    return names


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _read_cell(name: str, source: str, imported: set[str], guarded: frozenset[str]) -> list[Flag]:
    tree, magics = _parse(source)
    flags = [Flag(name, line, "a magic or shell command") for line in magics]
    if tree is None:
        return [*flags, Flag(name, 0, "is not valid Python, so it could not be read")]
    top_level = set(map(id, tree.body))
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(
            node.ctx, (ast.Store, ast.Del)
        ):
            if _root(node) in imported:
                flags.append(Flag(name, line, f"assigns to `{ast.unparse(node)}`"))
        if isinstance(node, ast.Attribute) and node.attr in SUSPICIOUS_ATTRIBUTES:
            why = SUSPICIOUS_ATTRIBUTES[node.attr]
            flags.append(Flag(name, line, f"`{ast.unparse(node)}` {why}"))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in SUSPICIOUS_NAMES:
                flags.append(Flag(name, line, f"`{node.id}` {SUSPICIOUS_NAMES[node.id]}"))
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
            )
            for module in modules:
                if (why := SUSPICIOUS_MODULES.get(module.split(".")[0])) is not None:
                    flags.append(Flag(name, line, f"`{module}` {why}"))
            for alias in node.names:
                if (why := SUSPICIOUS_ATTRIBUTES.get(alias.name)) is not None:
                    flags.append(Flag(name, line, f"`{alias.name}` {why}"))
        if id(node) in top_level:
            for rebound in _bound_names(node):
                if rebound in guarded or (rebound in imported and not _is_import(node)):
                    flags.append(Flag(name, line, f"gives `{rebound}` another meaning"))
    return sorted(set(flags), key=lambda f: (f.line, f.what))


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _bound_names(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if _is_import(node):
        return [(a.asname or a.name).split(".")[0] for a in node.names]
    return [
        n.id
        for n in ast.walk(node)
        if isinstance(n, ast.Name) and isinstance(n.ctx, (ast.Store, ast.Del))
    ]
