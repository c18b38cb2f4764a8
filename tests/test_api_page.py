"""The API pages name every module that a chapter can import from."""

import re

import pytest

ROOMS = (
    "tasks",
    "estimators",
    "models",
    "training",
    "measures",
    "figures",
    "gradient_descent",
    "bayesian",
    "mesa_optimization",
    "implicit_dynamics",
    "language_models",
)


def modules(root):
    """Dotted names below `icl_lessons`, of the rooms that the pages document.

    Claims are left out: the page *Every claim* shows them.
    """
    package = root / "icl_lessons"
    for room in ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            if path.name != "__init__.py" and path.parent.name != "claims":
                yield ".".join(path.relative_to(package).with_suffix("").parts)


def pages(root):
    """The text of the API page and of the pages below it."""
    paths = [root / "book/reference/api.md", *sorted((root / "book/reference/api").glob("*.md"))]
    return "\n".join(path.read_text("utf-8") for path in paths)


def test_every_module_has_its_place(root):
    page = pages(root)
    listed = re.findall(r"^\.\. automodule:: icl_lessons\.(\S+)$", page, re.MULTILINE)
    missing = sorted(set(modules(root)) - set(listed))
    assert not missing, f"add to book/reference/api/: {', '.join(missing)}"
    assert len(listed) == len(set(listed)), "a module is listed twice"


def test_every_heading_names_the_module_below_it(root):
    page = pages(root)
    pairs = re.findall(
        r"^###? (\S+)\n\n```\{eval-rst\}\n\.\. automodule:: icl_lessons\.(\S+)$", page, re.M
    )
    assert pairs
    for heading, module in pairs:
        assert heading == module


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_of_this_test_exist(root, room):
    assert (root / "icl_lessons" / room / "__init__.py").exists()
