"""Take hidden tests out of a notebook again, source and traces, before a student sees it."""

from __future__ import annotations

from collections.abc import Iterable

BEGIN, END = "BEGIN HIDDEN TESTS", "END HIDDEN TESTS"
REPLACED = "[a line of a hidden test]"
SHORTEST = 16
"""Shorter lines of a hidden test are too common to tell from a student's own."""


def has_hidden(source: str) -> bool:
    """Whether a cell's source holds a region of hidden tests."""
    return BEGIN in source


def split(source: str) -> tuple[str, list[str]]:
    """A cell's source without its hidden regions, and the lines that were in them.

    A region that is never closed hides everything to the end of the cell.
    """
    shown, hidden, inside = [], [], False
    for line in source.split("\n"):
        if BEGIN in line:
            inside = True
        elif END in line and inside:
            inside = False
        else:
            (hidden if inside else shown).append(line)
    return "\n".join(shown).rstrip(), hidden


def secret_lines(sources: Iterable[str]) -> list[str]:
    """The lines that occur in hidden regions and nowhere in sight, longest first."""
    shown_text, hidden = "", set()
    for source in sources:
        shown, lines = split(source)
        shown_text += shown + "\n"
        hidden.update(line.strip() for line in lines)
    hidden.update({BEGIN, END} if hidden else ())
    secret = [line for line in hidden if len(line) >= SHORTEST and line not in shown_text]
    return sorted(secret, key=lambda line: (-len(line), line))


def redact(text: str, secret: Iterable[str]) -> str:
    """``text`` with every secret line replaced, also where it was printed as a ``repr``."""
    for line in secret:
        for form in {line, repr(line)[1:-1], line.replace('"', '\\"'), line.replace("'", "\\'")}:
            text = text.replace(form, REPLACED)
    return text
