"""The floors of the package: a module imports what stands below it, never beside or above it."""

from __future__ import annotations

import ast
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from lock import canonical, requirements

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "icl_lessons"

# Every room (a module or a folder of the package) and the floor it stands on.
FLOORS = {
    0: {"runtime", "types", "declare"},
    1: {"models", "estimators", "tasks"},
    2: {"training", "measures", "figures", "explorables", "grading", "zoo"},
    3: {
        "bayesian",
        "gradient_descent",
        "mesa_optimization",
        "implicit_dynamics",
        "language_models",
        "development",
        "synthesis",
    },
    4: {"ledger"},
    5: {"cli"},
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

# The only imports between rooms of one floor.
BESIDE = {("synthesis", room) for room in FLOORS[3]} | {
    (a, b) for a in FLOORS[0] for b in FLOORS[0]
}


def room_of(path: Path, package: Path = PACKAGE) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def imported_modules(source: str, module: str, is_package: bool) -> set[str]:
    """Dotted names that a module imports, at its top or inside a function.

    What only a type checker sees (under `if TYPE_CHECKING`) does not count, nor does what a module
    can do without (in a `try` that expects an ImportError).
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Try) and any(
            h.type is not None and "ImportError" in ast.unparse(h.type) for h in node.handlers
        ):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base]).rstrip(".")
            # `from icl_lessons import figures` names the room in the alias.
            found.update(f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def own_imports(path: Path) -> set[str]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    return imported_modules(path.read_text(encoding="utf-8"), module, is_package)


def violation(room: str, target: str) -> str | None:
    """Why one room may not import another, or None."""
    if room == target or (room, target) in BESIDE or FLOOR[target] < FLOOR[room]:
        return None
    where = "beside" if FLOOR[target] == FLOOR[room] else "above"
    return (
        f"{room} (floor {FLOOR[room]}) imports {target} (floor {FLOOR[target]}), which is {where}"
    )


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_is_on_the_plan():
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms <= set(FLOOR), f"give these a floor: {sorted(rooms - set(FLOOR))}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_below_it(path):
    room = room_of(path)
    targets = {
        name.split(".")[1]
        for name in own_imports(path)
        if name.startswith("icl_lessons.") and name.split(".")[1] in FLOOR
    }
    if room == "__init__":
        assert not targets, "importing the package must not import its rooms"
        return
    found = [v for target in sorted(targets) if (v := violation(room, target))]
    assert not found, "; ".join(found)


@pytest.mark.parametrize(
    ("room", "target", "says"),
    [
        ("training", "models", None),
        ("synthesis", "bayesian", None),
        ("bayesian", "gradient_descent", "beside"),
        ("measures", "training", "beside"),
        ("models", "training", "above"),
        ("runtime", "tasks", "above"),
        ("ledger", "cli", "above"),
    ],
)
def test_the_rule_itself(room, target, says):
    found = violation(room, target)
    assert found is None if says is None else says in found


def test_imports_are_found_wherever_they_stand():
    source = (
        "import icl_lessons.cli\n"
        "from icl_lessons import ledger\n"
        "from ..models.attention import causal_mask\n"
        "from . import run\n"
        "if TYPE_CHECKING:\n    import icl_lessons.never\n"
        "try:\n    import perhaps\nexcept ImportError:\n    pass\n"
        "def f():\n    from icl_lessons.tasks.regression import LinearRegression\n"
    )
    assert imported_modules(source, "icl_lessons.training.loop", False) == {
        "icl_lessons.cli",
        "icl_lessons.ledger",
        "icl_lessons.models.attention.causal_mask",
        "icl_lessons.training.run",
        "icl_lessons.tasks.regression.LinearRegression",
    }


@cache
def distributions() -> dict[str, list[str]]:
    """Importable name -> distributions that bring it, in this environment."""
    return dict(packages_distributions())


# Rooms that may also use the packages of an extra.
EXTRA_OF = {"grading": "grading", "language_models": "language-models"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_a_module_imports_is_declared(path):
    """A package that is imported stands in pyproject.toml, and is not there by accident."""
    groups = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    lines = [*groups["runtime"], *groups.get(EXTRA_OF.get(room_of(path), ""), [])]
    declared = {requirement_name(line) for line in lines}
    outside = {name.split(".")[0] for name in own_imports(path)}
    outside -= {"icl_lessons", "__future__", ""} | set(sys.stdlib_module_names)
    known = distributions()
    missing = [
        name
        for name in sorted(outside)
        if not declared & {canonical(d) for d in known.get(name, [name])}
    ]
    assert not missing, f"declare in pyproject.toml: {', '.join(missing)}"


def requirement_name(line: str) -> str:
    """The canonical name in a requirement such as `torch>=2.6`."""
    return canonical(line.split(";")[0].split("[")[0].strip(" ").rstrip("0123456789.,<>=!~ "))


def test_requirement_names():
    assert requirement_name("jupyter-book>=1.0.4,<2") == "jupyter-book"
    assert requirement_name("torch") == "torch"
