"""Grading: what checks say, what students never see, what instructors are told, the whole path."""

import copy
import csv
import json
import shutil
import socket
from pathlib import Path

import nbformat
import pytest
import torch

from icl_lessons.grading import checks, hidden, samples, trial

pytest.importorskip("nbgrader")

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output  # noqa: E402

from icl_lessons.grading import (  # noqa: E402
    audit,
    commands,
    feedback,
    preprocessors,
    release,
    sandbox,
    staging,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", params=release.assignments(ROOT))
def assignment(request):
    return request.param


@pytest.fixture(scope="module")
def name(assignment):
    """The notebook's name, without its ending."""
    return release.source_notebook(ROOT, assignment).stem


@pytest.fixture(scope="module")
def source(assignment, name):
    return nbformat.read(ROOT / "solutions" / assignment / f"{name}.ipynb", 4)


@pytest.fixture(scope="module")
def released(assignment, name):
    return nbformat.read(ROOT / "exercises" / assignment / f"{name}.ipynb", 4)


def points_of(notebook, *grade_ids):
    """Points of the test cells whose grade id begins with one of ``grade_ids``; all if none."""
    infos = [c.metadata.get("nbgrader", {}) for c in notebook.cells]
    return sum(
        info["points"]
        for info in infos
        if info.get("grade") and info["grade_id"].startswith(grade_ids or "")
    )


def written_in(notebook):
    """The grade ids of the answers that a person reads."""
    return tuple(
        c.metadata.nbgrader.grade_id
        for c in notebook.cells
        if c.cell_type == "markdown" and c.metadata.get("nbgrader", {}).get("grade")
    )


def name_of_checks(notebook):
    """What the set-up cell calls the checks, in ``from icl_lessons.grading import x as NAME``."""
    (setup,) = (c.source for c in notebook.cells if c.id == "setup")
    return setup.split("from icl_lessons.grading import ")[1].split(" as ")[1].split("\n")[0]


# checks --------------------------------------------------------------------------------------


def test_a_known_mistake_is_named_and_an_unknown_one_located():
    right = torch.tensor([1.0, 2.0])
    twice = checks.Mistake(2 * right, "Twice too long.")
    checks.compare(right + 1e-9, right, what="It", tolerance=1e-8, mistakes=[twice])
    with pytest.raises(checks.CheckFailed, match=r"^Twice too long\.$"):
        checks.compare(2 * right, right, what="It", tolerance=1e-8, mistakes=[twice])
    with pytest.raises(checks.CheckFailed, match=r"index \[1\]: 5 where 2 is right"):
        checks.compare(torch.tensor([1.0, 5.0]), right, what="It", tolerance=1e-8, mistakes=[twice])


def test_a_mistake_that_makes_no_difference_is_not_named():
    right = torch.zeros(2)
    with pytest.raises(checks.CheckFailed) as caught:
        checks.compare(
            torch.ones(2),
            right,
            what="It",
            tolerance=1e-8,
            mistakes=[checks.Mistake(right, "Not this.")],
        )
    assert "Not this" not in str(caught.value)


def test_nan_never_agrees():
    right = torch.zeros(1)
    assert not checks.agree(torch.full((1,), torch.nan), right, 1e-3)
    with pytest.raises(checks.CheckFailed, match="NaN"):
        checks.tensor(torch.full((1,), torch.nan), (1,), what="it", axes="[n]")


def test_an_endless_loop_becomes_a_sentence():
    def forever():
        while True:
            try:
                pass
            except Exception:  # an answer that swallows exceptions does not swallow the alarm
                continue

    with pytest.raises(checks.CheckFailed, match="still running after 0.2 seconds"):
        checks.call(forever, seconds=0.2)


def test_the_verdict_is_printed_without_a_traceback():
    (line,) = checks.CheckFailed("Look at P.")._render_traceback_()
    assert line.endswith("Look at P.")


# hidden tests --------------------------------------------------------------------------------

CELL = """check(answer)
### BEGIN HIDDEN TESTS
secret = [float(n) for n in range(7)]
if answer(secret) != "a value nobody should read":
    raise AssertionError("Other sizes do not come out.")
### END HIDDEN TESTS
done = True"""


def test_hidden_regions_are_taken_out():
    shown, lines = hidden.split(CELL)
    assert shown == "check(answer)\ndone = True" and len(lines) == 3
    assert hidden.split("a\n### BEGIN HIDDEN TESTS\nb")[0] == "a"
    secret = hidden.secret_lines([CELL])
    for leak in (CELL, repr(CELL), json.dumps(CELL), "> " + CELL.split("\n")[2]):
        assert not any(line in hidden.redact(leak, secret) for line in lines if len(line) > 20)


def graded_cell(source, outputs, score, **info):
    cell = new_code_cell(source, outputs=outputs)
    cell.metadata["nbgrader"] = {
        "grade": True,
        "solution": False,
        "grade_id": "ex1-hidden",
        "points": 3,
        "score": score,
        **info,
    }
    return cell


def page_of(*cells, **options):
    options = {"student": "a", "assignment": "b", "score": 1.0, "max_score": 3.0} | options
    return feedback.render(new_notebook(cells=list(cells)), **options)


def test_feedback_shows_the_sentence_and_nothing_else_of_a_hidden_test():
    trace = [f"Traceback\n----> 4     {line}" for line in CELL.split("\n")]
    error = new_output(
        "error", ename="AssertionError", evalue="Other sizes do not come out.", traceback=trace
    )
    told = new_output("stream", name="stdout", text=CELL)
    elsewhere = new_code_cell("print(x)", outputs=[new_output("stream", text=repr(CELL))])
    page = page_of(graded_cell(CELL, [told, error], 0), elsewhere)
    assert "Other sizes do not come out." in page
    for word in ("BEGIN HIDDEN", "nobody should read", "float(n)"):
        assert word not in page


def test_feedback_fetches_nothing_and_runs_nothing():
    nasty = (
        '<script src="https://example.org/x.js"></script>\n\n<img src="https://example.org/a.png">'
        '\n\n[a](javascript:alert(1)) <a href="../../x" onclick="b()">c</a>\n\n$$\\frac{1}{N}$$'
    )
    picture = new_output("display_data", data={"text/html": "<script>alert(1)</script>"})
    page = page_of(new_markdown_cell(nasty), new_code_cell("1", outputs=[picture]))
    body = page.split("<body>")[1]
    for word in ("<script", "src=", 'href="javascript', "onclick", "example.org/a.png", "../../x"):
        assert word not in body
    assert (
        "<mfrac>" in body
        and 'display="block"' in body
        and "url(" not in page
        and "@import" not in page
    )


def test_feedback_says_why_nothing_was_graded():
    page = page_of(graded_cell(CELL, [], 0), reason="The kernel died.", score=0.0)
    assert "The kernel died." in page and "nobody should read" not in page


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("NotImplementedError", "", "This answer is not written yet."),
        ("IndexError", "index 6 is out of bounds", "a size of the checks in sight"),
        ("RuntimeError", "The size of tensor a (2) must match", "a size of the checks in sight"),
        ("AttributeError", "'list' object has no attribute 'tolist'", "A tensor was expected."),
        ("ZeroDivisionError", "division by zero", "Stopped with ZeroDivisionError: division by "),
        ("CheckFailed", "Look at P.", "Look at P."),
    ],
)
def test_what_stopped_a_test_becomes_a_sentence(name, text, said):
    error = new_output("error", ename=name, evalue=text, traceback=[])
    sentence = feedback.error_sentence(error)
    assert said in sentence and sentence.endswith((".", "?"))
    assert sentence in page_of(graded_cell("f()", [error], 0)).replace("&#x27;", "'")


def test_a_timeout_is_said_in_words():
    error = new_output("error", ename="CellTimeoutError", evalue="", traceback=["x"])
    assert "endless loop" in page_of(graded_cell("f()", [error], 0))


def test_a_warning_costs_nothing_and_a_displayed_number_earns_nothing():
    warned = graded_cell("f()", [new_output("stream", name="stderr", text="deprecated")], None)
    shown = graded_cell(
        "f()",
        [
            new_output("execute_result", data={"text/plain": "3"}),
            new_output("error", ename="AssertionError", evalue="", traceback=[]),
        ],
        None,
    )
    from nbgrader.utils import determine_grade

    for cell, before, after in ((warned, 0, 3), (shown, 3, 0)):
        assert determine_grade(cell)[0] == before
        preprocessors.ScoreErrorsOnly().preprocess_cell(cell, {}, 0)
        assert determine_grade(cell)[0] == after


# audit and staging ---------------------------------------------------------------------------


def with_answer(released, grade_id, code):
    notebook = copy.deepcopy(released)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id:
            cell.source = code
    return notebook


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("torch.allclose = lambda *a: True", "assigns to `torch.allclose`"),
        ("torch.Tensor.tolist = f", "assigns to `torch.Tensor.tolist`"),
        ("import math\nmath.pi = 3", "assigns to `math.pi`"),
        ("setattr(torch, 'equal', f)", "`setattr`"),
        ("get_ipython().ast_transformers.append(T())", "ast_transformers"),
        ("import os\nos._exit(0)", "ends the kernel"),
        ("from os import _exit\n_exit(0)", "ends the kernel"),
        ("import sys\nsys.settrace(f)", "follows every line"),
        ("import builtins\nbuiltins.abs = f", "assigns to `builtins.abs`"),
        ("abs = lambda x: 0", "gives `abs` another meaning"),
        ("def zip(*a):\n    return []", "gives `zip` another meaning"),
        ("CHECKS = None", "gives `CHECKS` another meaning"),
        ("import math as CHECKS", "gives `CHECKS` another meaning"),
        ("import inspect", "source of its caller"),
        ("print(In[-1])", "source of executed cells"),
        ("!curl example.org", "a magic or shell command"),
        ("def f(:", "is not valid Python"),
    ],
)
def test_the_audit_flags(released, code, what):
    code, what = (text.replace("CHECKS", name_of_checks(released)) for text in (code, what))
    flags = audit.audit(with_answer(released, "ex1-answer", code), released)
    assert any(what in str(flag) and str(flag).startswith("ex1-answer") for flag in flags), flags


def test_the_audit_says_nothing_about_honest_work(assignment, released):
    for path in sorted((ROOT / "tests" / "wrong_answers" / assignment).glob("*/*.py")):
        grade_id = f"{path.parent.name}-answer"
        assert audit.audit(with_answer(released, grade_id, path.read_text()), released) == []


def test_the_audit_sees_missing_changed_and_late_cells(released):
    notebook = with_answer(released, "ex2-visible", "pass")
    notebook.cells = [c for c in notebook.cells if c.id != "ex3-hidden"]
    notebook.cells.append(new_code_cell("x = 1"))
    told = "; ".join(map(str, audit.audit(notebook, released)))
    assert "ex3-hidden is missing" in told and "ex2-visible was changed" in told
    assert "was added after the last test" in told


def test_repair_puts_back_what_is_missing_in_its_place(released):
    notebook = copy.deepcopy(released)
    kept = [c for c in notebook.cells if not c.id.startswith(("setup", "ex1-", "ex4-hidden"))]
    notebook.cells = [new_code_cell("helper = 1"), *kept, copy.deepcopy(kept[5])]
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader"):
            cell.metadata.nbgrader["points"] = 100
    repaired = staging.repair(notebook, released)

    def grade_ids(nb):
        found = (c.metadata.get("nbgrader", {}).get("grade_id") for c in nb.cells)
        return [grade_id for grade_id in found if grade_id]

    assert grade_ids(repaired) == grade_ids(released)
    assert points_of(repaired) == points_of(released) < 100
    assert any(c.source == "helper = 1" for c in repaired.cells)
    assert len({c.id for c in repaired.cells}) == len(repaired.cells)
    assert notebook.cells[0].source == "helper = 1", "the submission itself is not changed"


def test_hand_ins_are_found_in_both_layouts(tmp_path, assignment, name, released):
    (tmp_path / "ada" / assignment).mkdir(parents=True)
    nbformat.write(released, tmp_path / "ada" / assignment / "renamed.ipynb")
    nbformat.write(released, tmp_path / "bob.ipynb")
    (tmp_path / "carl" / assignment).mkdir(parents=True)
    found = staging.find(tmp_path, assignment)
    assert [s.student for s in found] == ["ada", "bob", "carl"]
    assert "was called renamed.ipynb" in str(staging.read(found[0], name)[1][0])
    assert staging.read(found[1], name)[1] == []
    with pytest.raises(staging.NotGradable, match="No notebook"):
        staging.read(found[2], name)


def test_the_table_of_grades_keeps_other_assignments_and_starts_no_formula(tmp_path):
    path = tmp_path / "grades.csv"

    def row(student, assignment):
        return commands.Row(student, assignment, "graded", 1.0, 2.0, {"ex1": 1.0}, 0.0, ["x:1 y"])

    commands.write_grades(path, [row("=cmd()", "01"), row("bob", "01")])
    commands.write_grades(path, [row("bob", "02")])
    commands.write_grades(path, [row("bob", "01")])
    rows = list(csv.DictReader(path.open()))
    assert [(r["assignment"], r["student"]) for r in rows] == [("01", "bob"), ("02", "bob")]
    commands.write_grades(path, [row("=cmd()", "01")])
    assert list(csv.DictReader(path.open()))[0]["student"] == "'=cmd()"


def test_without_bubblewrap_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(sandbox.SandboxUnavailable, match="apt-get install bubblewrap"):
        sandbox.check_available()


def test_an_unknown_assignment_is_named():
    with pytest.raises(ValueError, match="there are 01_the_microscope"):
        release.source_notebook(ROOT, "02_nothing")


# the whole path ------------------------------------------------------------------------------


def test_exercises_are_what_the_solutions_release(tmp_path, assignment, name):
    fresh = release.generate(ROOT, assignment, tmp_path / "out", tmp_path / "gradebook.db")
    committed = ROOT / "exercises" / assignment / f"{name}.ipynb"
    assert fresh.read_text() == committed.read_text(), "run `make release` and commit exercises/"


def test_the_release_has_no_answer_in_it(source, released):
    text = "\n".join(c.source for c in released.cells)
    for word in ("SOLUTION", "HIDDEN TESTS", "Rubric", "Why this is right", "pinv(xs)"):
        assert word not in text
    assert len(released.cells) < len(source.cells)
    for cell in released.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def expected_scores(assignment, source):
    """What each sample hand-in is worth before a person has read its written answers."""
    exercises = trial.exercises(source)
    everything = points_of(source, *(f"{e}-" for e in exercises))
    first, third = exercises[0], exercises[2]
    wrong = 0.0
    for exercise in exercises:
        paths = sorted((ROOT / "tests/wrong_answers" / assignment / exercise).glob("*.py"))
        planted = next(p for p in map(trial.read_planted, paths) if not p.accepted)
        wrong += sum(o.points for o in trial.try_answer(source, exercise, planted.code))
    assert 0 <= wrong < everything / 2
    return {
        "right": everything,
        "right-differently": everything,
        "partly-right": points_of(source, *(f"{e}-" for e in exercises[: len(exercises) // 2])),
        "wrong": wrong,
        "untouched": 0,
        "crashing": everything - points_of(source, f"{first}-"),
        "endless-loop": everything - points_of(source, f"{third}-"),
        "ends-the-kernel": 0,
        "bends-the-tests": 0,
        "intruder": 0,
        "deleted-tests": everything - points_of(source, f"{third}-"),
        "damaged": 0,
    }


def test_the_expected_scores_of_the_first_assignment_are_these():
    name = "01_the_microscope"
    scores = expected_scores(name, nbformat.read(release.source_notebook(ROOT, name), 4))
    assert {student: score for student, score in scores.items() if score} == {
        "right": 31,
        "right-differently": 31,
        "partly-right": 15,
        "wrong": 4,
        "crashing": 26,
        "endless-loop": 26,
        "deleted-tests": 26,
    }


# Ways to break the machine are the same for every assignment, and test_exercises.py runs every
# planted answer: the first assignment shows them all, the others these.
EVERYWHERE = ("right", "partly-right", "untouched", "intruder")


@pytest.mark.needs_bubblewrap
@pytest.mark.timeout(1800)  # a dozen kernels; a minute or two on a machine with nothing else to do
def test_the_whole_path_on_sample_hand_ins(tmp_path, assignment, name, source, monkeypatch):
    """Audit, sandbox, scores, feedback and table; then again, with a mark that a person gave."""
    monkeypatch.setenv("ICL_LESSONS_CELL_TIMEOUT", "20")
    course, scores = tmp_path / "course", expected_scores(assignment, source)
    everything = assignment == "01_the_microscope"
    if not everything:
        scores = {who: score for who, score in scores.items() if who in EVERYWHERE}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        made = samples.course(ROOT, course, assignment, port=port, students=scores)
        assert made == sorted(scores)
        before = {p: p.read_bytes() for p in (course / "grading/submitted").rglob("*.ipynb")}
        rows = commands.grade(course, assignment, say=lambda text: None)
        with pytest.raises(TimeoutError):
            server.accept()  # nobody came

    assert {row.student: row.score for row in rows} == scores
    assert {p: p.read_bytes() for p in before} == before, "hand-ins are not touched"
    assert (course / "a-file-outside.txt").read_text() == "still here\n"

    table = {r["student"]: r for r in csv.DictReader((course / "grading/grades.csv").open())}
    assert set(table) == set(scores)
    waiting = points_of(source, *written_in(source))
    assert float(table["right"]["waiting"]) == waiting > 0 and table["right"]["flags"] == ""
    assert float(table["untouched"]["waiting"]) == 0
    assert "lines of a hidden test" in table["intruder"]["flags"]
    if everything:
        assert "torch.allclose" in table["bends-the-tests"]["flags"]
        assert table["damaged"]["status"] == table["ends-the-kernel"]["status"] == "not graded"
        assert "not a readable notebook" in table["damaged"]["reason"]
        assert "kernel died" in table["ends-the-kernel"]["reason"]
        assert "ex1-hidden is missing" in table["deleted-tests"]["flags"]

    secret = hidden.secret_lines(c.source for c in source.cells if c.cell_type == "code")
    assert len(secret) > 100
    pages = {who: course / f"grading/feedback/{who}/{assignment}/{name}.html" for who in made}
    for page in pages.values():
        text = page.read_text()
        assert not any(line in text for line in secret)
        assert "HIDDEN TESTS" not in text and "<script" not in text and 'src="http' not in text
    intruder = pages["intruder"].read_text()
    for said in ("file: FileNotFoundError", "network: ", "notebooks here: []", "passwords: False"):
        assert said in intruder.replace("&#x27;", "'")
    assert "reached the network" not in intruder.split('class="output"')[1]
    if everything:
        assert "endless loop" in pages["endless-loop"].read_text()

    # a person reads a written answer; the second run keeps the mark and runs nothing again
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course}/grading/gradebook.db") as gradebook:
        grade = gradebook.find_grade(written_in(source)[0], name, assignment, "right")
        grade.manual_score, grade.needs_manual_grade = 3.5, False
        comment = gradebook.find_comment(written_in(source)[0], name, assignment, "right")
        comment.manual_comment = "A good counterexample."
        gradebook.db.commit()
    shutil.rmtree(course / "grading/submitted/partly-right")
    said: list[str] = []
    again = {row.student: row for row in commands.grade(course, assignment, say=said.append)}
    assert again["right"].score == scores["right"] + 3.5 and again["right"].waiting == 0
    assert all("as before" in line for line in said[1:])
    assert "A good counterexample." in pages["right"].read_text()
