"""One module string out of several small JavaScript files.

A component of the book is one string: anywidget stores it in the notebook, and the page runs it
from there. To write it as several files (shared parts, pure mathematics, drawing), this module
joins them at import: each file that a component imports by a relative path is put in front of it
once, without its `export` keywords. Nothing is renamed or minified, so that the string a reader
finds in the notebook is the code in the repository.
"""

import re
from pathlib import Path

_IMPORT = re.compile(
    r"""^import\s*\{(?P<names>[^}]*)\}\s*from\s*["']\./(?P<file>[\w-]+\.mjs)["'];?[ \t]*\n""",
    re.MULTILINE,
)
_ANY_IMPORT = re.compile(r"^\s*import\b.*$|\bimport\s*\(", re.MULTILINE)
_EXPORT = re.compile(r"^export\s+(?=(?:async\s+)?function\b|const\b|let\b|class\b)", re.MULTILINE)
_EXPORTED_NAME = re.compile(
    r"^export\s+(?:(?:async\s+)?function\*?|const|let|class)\s+([A-Za-z_$][\w$]*)", re.MULTILINE
)
_TOP_LEVEL_NAME = re.compile(
    r"^(?:export\s+)?(?:(?:async\s+)?function\*?|const|let|class)\s+([A-Za-z_$][\w$]*)",
    re.MULTILINE,
)


def bundle(entry: Path) -> str:
    """Join `entry` and the files it imports (`import { a, b } from "./file.mjs";`) to one module.

    Only this form of import is understood, and only named exports at the start of a line. The
    files' top-level names must differ, since they end in one scope.

    Raises:
        FileNotFoundError: a file that is imported does not exist.
        ValueError: an import of another form, a name that the imported file does not export,
            two files that declare one name, or files that import each other in a circle.
    """
    entry = Path(entry)
    order: list[Path] = []
    _visit(entry, order, ())
    declared: dict[str, str] = {}
    pieces = []
    for path in order:
        text = path.read_text(encoding="utf-8")
        body = _IMPORT.sub("", text)
        for name in _TOP_LEVEL_NAME.findall(body):
            if name in declared:
                raise ValueError(
                    f"{path.name} and {declared[name]} both declare `{name}` at the top level; "
                    "joined files share one scope, so rename one of them"
                )
            declared[name] = path.name
        if path != entry:
            body = _EXPORT.sub("", body)
            if re.search(r"^export\b", body, re.MULTILINE):
                raise ValueError(
                    f"{path.name} exports something other than a named function, const, let or "
                    "class; write `export function name` or `export const name`"
                )
        pieces.append(f"// ---- {path.name} ----\n{body.strip()}\n")
    return "\n".join(pieces)


def _visit(path: Path, order: list[Path], above: tuple[Path, ...]) -> None:
    if path in above:
        circle = " -> ".join(each.name for each in (*above, path))
        raise ValueError(f"files import each other in a circle: {circle}")
    if path in order:
        return
    text = path.read_text(encoding="utf-8")
    for match in _IMPORT.finditer(text):
        needed = path.with_name(match["file"])
        if not needed.exists():
            raise FileNotFoundError(f"{path.name} imports {needed.name}, which does not exist")
        exported = set(_EXPORTED_NAME.findall(needed.read_text(encoding="utf-8")))
        for name in filter(None, (part.strip() for part in match["names"].split(","))):
            if name not in exported:
                raise ValueError(
                    f"{path.name} imports `{name}` from {needed.name}, which does not export it "
                    "(renaming with `as` is not understood)"
                )
        _visit(needed, order, (*above, path))
    other = _ANY_IMPORT.search(_IMPORT.sub("", text))
    if other:
        raise ValueError(
            f"{path.name}: `{other.group().strip()}` cannot be joined; "
            'write `import { name } from "./file.mjs";`'
        )
    order.append(path)
