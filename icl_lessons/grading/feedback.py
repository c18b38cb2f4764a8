"""Feedback as one HTML file: what each exercise earned, what to look at, and the work itself.

The file needs no other file and fetches nothing: the style is inside, formulas are MathML. Hidden
tests are not in it, neither as source nor in a traceback nor in what an answer printed while they
ran; of a hidden test that fails, its sentence is shown. HTML that a submission brings along is
cleaned or shown as text, because an instructor opens these pages too.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import bleach
import nbformat
from latex2mathml.converter import convert as to_mathml
from nbconvert.exporters import Exporter
from nbconvert.filters import markdown2html_mistune, strip_ansi
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from icl_lessons.grading import hidden

LONGEST_OUTPUT = 4000
"""Characters of one output that feedback shows."""
LONGEST_MESSAGE = 600

TAGS = {
    *bleach.sanitizer.ALLOWED_TAGS,
    *(
        "p",
        "br",
        "hr",
        "pre",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "div",
        "span",
        "del",
        "sub",
        "sup",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
}
ATTRIBUTES = {"a": ["href"], "th": ["align"], "td": ["align"]}
MATH = re.compile(
    r"(?P<code>```.*?```|`[^`]*`)|\$\$(?P<block>.+?)\$\$|(?<!\\)\$(?P<inline>[^$]+?)\$", re.DOTALL
)

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #44505c; --ground: #fbfaf7;
  --panel: #f1efe9; --line: #d9d5cb; --good: #006b52; --bad: #b4450a; --wait: #5a4fb0; }
@media (prefers-color-scheme: dark) { :root { --ink: #f2f2f2; --soft: #b8c2cc; --ground: #15181d;
  --panel: #1f242b; --line: #39414b; --good: #4fd0a8; --bad: #f59a5c; --wait: #b0a8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 52rem; background: var(--ground);
  color: var(--ink); font: 17px/1.55 Georgia, "Times New Roman", serif; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.35rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .94rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
pre, code { font: 14px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre { background: var(--panel); padding: .7rem .9rem; overflow-x: auto; border-radius: 4px;
  margin: .6rem 0; }
code { background: var(--panel); padding: 0 .2em; border-radius: 3px; }
pre code { padding: 0; }
.output { border-left: 3px solid var(--line); background: none; color: var(--soft); }
.verdict { border-left: 5px solid; padding: .5rem .9rem; background: var(--panel);
  margin: .6rem 0 1.4rem; }
.good { border-color: var(--good); } .bad { border-color: var(--bad); }
.wait { border-color: var(--wait); }
.good b { color: var(--good); } .bad b { color: var(--bad); } .wait b { color: var(--wait); }
.label { font-size: .85rem; color: var(--soft); margin: 1rem 0 -.4rem; }
p { overflow-x: auto; overflow-y: hidden; } math[display="block"] { overflow-x: auto; }
.scroll { overflow-x: auto; } a { color: inherit; } details { margin: .4rem 0 .4rem .6rem; }
"""
LIGHT = HtmlFormatter(style="tango").get_style_defs(".highlight")
DARK = HtmlFormatter(style="github-dark").get_style_defs(".highlight")


def formula(tex: str, *, block: bool) -> str:
    """MathML for a formula; its source, as code, where it cannot be converted."""
    tex = re.sub(r"\\(mathbb|mathrm|mathcal) (\w)", r"\\\1{\2}", tex)
    try:
        return to_mathml(tex, display="block" if block else "inline")
    except Exception:
        return f"<code>{html.escape(tex)}</code>"


def markdown(source: str) -> str:
    """Cleaned HTML of a markdown cell: no scripts, no outside pictures, formulas as MathML."""
    formulas: list[str] = []

    def keep(match: re.Match) -> str:
        if match["code"]:
            return match["code"]
        formulas.append(formula(match["block"] or match["inline"], block=bool(match["block"])))
        return f"\ue000{len(formulas) - 1}\ue001"

    text = MATH.sub(keep, source.replace("\ue000", "").replace("\ue001", ""))
    clean = bleach.clean(markdown2html_mistune(text), tags=TAGS, attributes=ATTRIBUTES, strip=True)
    clean = re.sub(r'<a href="#[^"]*">(¶|&#182;|&para;)</a>', "", clean)
    # a link into the repository leads nowhere from a page that was sent to a student
    clean = re.sub(r'<a href="(?!https?://|#)[^"]*">(.*?)</a>', r"\1", clean, flags=re.DOTALL)
    clean = clean.replace("<table>", '<div class="scroll"><table>')
    clean = clean.replace("</table>", "</table></div>")
    return re.sub("\ue000(\\d+)\ue001", lambda m: formulas[int(m[1])], clean)


def python(source: str) -> str:
    """A code cell, highlighted."""
    return highlight(source, PythonLexer(), HtmlFormatter(nowrap=False))


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "\n[... cut here]"


def error_sentence(output: dict) -> str:
    """What an error says, without where: the sentence of a check, or the error's name and text."""
    name, text = output.get("ename", "Error"), strip_ansi(output.get("evalue", "")).strip()
    if name == "CellTimeoutError" or name == "KeyboardInterrupt":
        return "This cell ran for longer than it may and was stopped. Look for an endless loop."
    if name in ("CheckFailed", "AssertionError") and text:
        return text
    if name == "NotImplementedError":
        return "This answer is not written yet."
    stopped = f"{name}: {text.rstrip('.')}" if text else name
    advice = ""
    if "has no attribute 'tolist'" in text:
        advice = " A tensor was expected."
    elif name == "IndexError" or re.search(r"\b(size|shape)", text):
        advice = " Does a size of the checks in sight stand in the answer as a number?"
    return f"Stopped with {stopped}.{advice}"


def outputs_html(cell: dict, secret: list[str]) -> str:
    """The outputs of a cell without hidden tests: text, pictures, and the end of a traceback."""
    parts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            text = output.text
        elif output.output_type == "error":
            text = "\n".join(strip_ansi("\n".join(output.traceback)).split("\n")[-12:])
        else:
            picture = output.get("data", {}).get("image/png")
            if picture and re.fullmatch(r"[A-Za-z0-9+/=\s]+", picture):
                parts.append(
                    f'<img alt="picture of this cell" src="data:image/png;base64,{picture}">'
                )
                continue
            text = output.get("data", {}).get("text/plain", "")
        text = _shorten(hidden.redact(strip_ansi(text), secret), LONGEST_OUTPUT).rstrip()
        if text:
            parts.append(f'<pre class="output">{html.escape(text)}</pre>')
    return "".join(parts)


def label(grade_id: str) -> str:
    """``ex3-hidden`` in words."""
    kinds = {"visible": "checks in sight", "hidden": "hidden tests", "written": "written answer"}
    found = re.fullmatch(r"ex(\d+)-(\w+)", grade_id)
    return f"{found[1]}, {kinds.get(found[2], found[2])}" if found else grade_id


def _points(value: float) -> str:
    return f"{value:g}"


def _test_verdict(cell: dict, info: dict, secret: list[str]) -> tuple[str, str]:
    """``(class, sentence)`` of a test cell."""
    errors = [o for o in cell.get("outputs", []) if o.output_type == "error"]
    score, points = float(info.get("score") or 0), float(info.get("points") or 0)
    if errors:
        sentence = hidden.redact(error_sentence(errors[-1]), secret)
        return "bad", _shorten(sentence, LONGEST_MESSAGE)
    if score >= points:
        return "good", "All tests of this cell pass."
    return "bad", "This cell did not run."


def render(
    notebook: nbformat.NotebookNode,
    *,
    student: str,
    assignment: str,
    score: float,
    max_score: float,
    waiting: frozenset[str] = frozenset(),
    reason: str = "",
) -> str:
    """The feedback page of one graded notebook.

    Args:
        notebook: as autograded, with nbgrader's ``score`` and ``points`` in the cells' metadata.
        student: the student's id.
        assignment: the assignment's name.
        score, max_score: the whole.
        waiting: grade ids of written answers that nobody has read yet.
        reason: why nothing could be graded; empty where it could.
    """
    secret = hidden.secret_lines(c.source for c in notebook.cells if c.cell_type == "code")
    rows, body = [], []
    for cell in notebook.cells:
        info = cell.metadata.get("nbgrader", {})
        grade_id = str(info.get("grade_id", ""))
        graded = bool(info.get("grade")) and not reason
        anchor = f' id="{html.escape(grade_id)}"' if grade_id else ""
        if cell.cell_type == "markdown" and not graded:
            body.append(f"<div{anchor}>{markdown(cell.source)}</div>")
            continue
        if cell.cell_type not in ("code", "markdown"):
            continue
        if not graded:
            source = hidden.split(cell.source)[0]
            if source.strip():
                if info.get("solution"):
                    body.append('<p class="label">Your answer</p>')
                body.append(f"<div{anchor}>{python(source)}{outputs_html(cell, secret)}</div>")
            continue
        points = f"{_points(float(info.get('score') or 0))} of {_points(float(info['points']))}"
        if cell.cell_type == "markdown":
            kind, sentence = "good", "Read and marked."
            if grade_id in waiting:
                kind, sentence, points = "wait", "A person will read this answer.", "not yet read"
            elif not info.get("score"):
                kind, sentence = "bad", "No points for this answer."
            body.append(
                f'<p class="label">Your answer</p><div{anchor}>{markdown(cell.source)}</div>'
            )
        else:
            kind, sentence = _test_verdict(cell, info, secret)
            source = hidden.split(cell.source)[0]
            body.append(f"<div{anchor}>{python(source)}</div>" if source.strip() else "")
        comment = info.get("comment") or ""
        body.append(
            f'<div class="verdict {kind}"><b>{points}</b> · {html.escape(sentence)}'
            + (f"<p>{markdown(comment)}</p>" if comment else "")
            + "</div>"
        )
        rows.append(
            f'<tr><td><a href="#{html.escape(grade_id)}">{html.escape(label(grade_id))}</a></td>'
            f'<td class="number">{points}</td><td>{html.escape(sentence)}</td></tr>'
        )
    waits = " An answer still waits for its reader." if waiting and not reason else ""
    summary = (
        f'<div class="verdict bad"><b>0 of {_points(max_score)}</b> · {html.escape(reason)}</div>'
        if reason
        else f"<p><b>{_points(score)} of {_points(max_score)} points.</b>{waits}</p>"
        '<div class="scroll"><table><thead><tr><th>exercise</th><th class="number">points'
        f"</th><th>what it says</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    title = f"Feedback: {assignment}, {student}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{LIGHT}\n"
        f"@media (prefers-color-scheme: dark) {{ {DARK} }}\n.highlight {{ background: none; }}"
        f"</style></head>\n<body><main><h1>{html.escape(title)}</h1>{summary}<hr>"
        f"{''.join(body)}</main></body></html>\n"
    )


class FeedbackExporter(Exporter):
    """nbgrader's feedback step with :func:`render` (``GenerateFeedback.exporter_class``)."""

    file_extension = ".html"
    output_mimetype = "text/html"

    def _file_extension_default(self):
        return ".html"

    def from_notebook_node(self, nb, resources=None, **options):
        nb, resources = super().from_notebook_node(nb, resources, **options)
        about = resources["nbgrader"]
        page = render(
            nb,
            student=about["student"],
            assignment=about["assignment"],
            score=about["score"],
            max_score=about["max_score"],
            waiting=waiting_answers(about),
        )
        return page, resources


def waiting_answers(about: dict) -> frozenset[str]:
    """Grade ids of a submission's answers that still wait for a person."""
    from nbgrader.api import Gradebook

    with Gradebook(about["db_url"]) as gradebook:
        notebook = gradebook.find_submission_notebook(
            about["notebook"], about["assignment"], about["student"]
        )
        return frozenset(g.name for g in notebook.grades if g.needs_manual_grade)


def write(path: Path, page: str) -> None:
    """Write a page so that it is either the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    half.write_text(page)
    half.replace(path)
