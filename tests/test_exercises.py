"""The assignments: every planted wrong answer is refused for its own reason, right ones are not."""

import functools
import json
import re
from pathlib import Path

import nbformat
import pytest
import torch

from icl_lessons.grading import trial
from icl_lessons.grading.attention_as_descent import read_outs

ROOT = Path(__file__).resolve().parents[1]
WRONG = ROOT / "tests" / "wrong_answers"
SOURCES = sorted((ROOT / "solutions").glob("*/*.ipynb"))
PLANTED = sorted(WRONG.glob("*/*/*.py"))


@functools.cache
def source_of(assignment: str):
    (path,) = (ROOT / "solutions" / assignment).glob("*.ipynb")
    return nbformat.read(path, 4)


def every_exercise():
    for path in SOURCES:
        for exercise in trial.exercises(nbformat.read(path, 4)):
            yield pytest.param(path.parent.name, exercise, id=f"{path.parent.name}-{exercise}")


EXERCISES = list(every_exercise())


@pytest.mark.parametrize("path", PLANTED, ids=lambda p: "-".join(p.with_suffix("").parts[-3:]))
def test_planted_answer(path):
    planted = trial.read_planted(path)
    outcomes = trial.try_answer(source_of(path.parents[1].name), planted.exercise, planted.code)
    points = sum(o.points for o in outcomes)
    if planted.accepted:
        assert points == sum(o.max_points for o in outcomes), outcomes
        return
    visible, *hidden = outcomes
    if planted.found == "in sight":
        assert planted.says in visible.message, visible
    else:
        assert planted.found == "hidden"
        assert not visible.message, visible
        assert any(planted.says in o.message for o in hidden), hidden
    assert points < sum(o.max_points for o in outcomes)


@pytest.mark.parametrize(("assignment", "exercise"), EXERCISES)
def test_there_are_enough_planted_answers(assignment, exercise):
    planted = [trial.read_planted(p) for p in (WRONG / assignment / exercise).glob("*.py")]
    assert sum(not p.accepted for p in planted) >= 3
    assert sum(p.accepted for p in planted) >= 1
    assert any(p.found == "hidden" for p in planted), "the hidden tests have nothing to catch"


@pytest.mark.parametrize(("assignment", "exercise"), EXERCISES)
def test_solution_gets_everything_and_an_untouched_cell_nothing(assignment, exercise):
    notebook = source_of(assignment)
    assert all(o.points == o.max_points for o in trial.try_answer(notebook, exercise, None))
    (cell,) = (
        c
        for c in notebook.cells
        if c.metadata.get("nbgrader", {}).get("grade_id") == f"{exercise}-answer"
    )
    untouched = trial.try_answer(notebook, exercise, trial.without_solution(cell.source))
    assert all(o.points == 0 for o in untouched)
    assert "is not written yet" in untouched[0].message


@pytest.mark.parametrize(("assignment", "exercise"), EXERCISES)
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("return None", "Is the `return` missing"),
        ("return 'W'", ""),
        ("return 1 / 0", "ZeroDivisionError"),
        ("return xs @ nothing", "NameError"),
    ],
)
def test_what_is_no_answer_gets_a_sentence(assignment, exercise, code, says):
    notebook = source_of(assignment)
    (cell,) = (
        c
        for c in notebook.cells
        if c.metadata.get("nbgrader", {}).get("grade_id") == f"{exercise}-answer"
    )
    answer = trial.without_solution(cell.source).replace(trial.STUB, code)
    outcomes = trial.try_answer(notebook, exercise, answer)
    assert all(o.points == 0 for o in outcomes)
    assert says in outcomes[0].message and outcomes[0].message.endswith((".", "?"))
    assert "\n" not in outcomes[0].message


def graded(notebook):
    return [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.parent.name)
def test_source_notebook_is_in_order(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    ids = [c.id for c in notebook.cells]
    grade_ids = [c.metadata.nbgrader.grade_id for c in notebook.cells if "nbgrader" in c.metadata]
    assert len(set(ids)) == len(ids)
    assert len(set(grade_ids)) == len(grade_ids)
    assert all(re.fullmatch(r"[a-z0-9-]+", i) for i in ids)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            assert not cell.source.rstrip().endswith(";")
    written = [c for c in graded(notebook) if c.cell_type == "markdown"]
    assert len(written) >= 1 and len(trial.exercises(notebook)) >= 5
    assert "Rubric" in written[0].source


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.parent.name)
def test_stated_points_are_the_graded_points(path):
    notebook = nbformat.read(path, 4)
    table = notebook.cells[0].source
    tasks = {c.id.removesuffix("-task"): c.source for c in notebook.cells if c.id[-5:] == "-task"}
    for exercise, text in tasks.items():
        cells = [c for c in graded(notebook) if c.id.startswith(exercise + "-")]
        points = sum(c.metadata.nbgrader.points for c in cells)
        stated = re.search(r"^(\d+) points(?: \((\d+) in sight, (\d+) hidden\))?", text, re.M)
        assert stated and int(stated[1]) == points
        if stated[2]:
            assert [int(stated[2]), int(stated[3])] == [c.metadata.nbgrader.points for c in cells]
        row = re.search(
            rf"^\| {exercise[2:]} \| [^|]+ \| (\d+) \| (\d)/5 \| (\d)/5 \| (\d+) \|", table, re.M
        )
        assert row and int(row[1]) == points
        assert f"difficulty {row[2]}/5 · importance {row[3]}/5 · {row[4]} minutes" in text
        assert "**You will be able to**" in text
        if cells[0].cell_type == "code":
            assert "**Worked example.**" in text and text.count("<details><summary>Hint") >= 3
            assert text.count("<details>") == text.count("</details>")
            assert text.rstrip().endswith("</details>\n</details>\n</details>"), "hints are nested"


def test_numbers_in_hidden_tests_do_not_ask_the_package():
    for path in SOURCES:
        notebook = nbformat.read(path, 4)
        (setup,) = (c.source for c in notebook.cells if c.id == "setup")
        (imported,) = re.findall(r"from icl_lessons\.grading import (\w+) as (\w+)", setup)
        asks = ("icl_lessons", *imported, "allclose", "assert ", "import torch")
        for cell in graded(notebook):
            hidden = re.findall(r"BEGIN HIDDEN TESTS(.*?)### END", cell.source, re.DOTALL)
            for text in hidden:
                for word in asks:
                    assert word not in text, f"{cell.id}: {word}"


def test_instructors_are_told_the_points_and_minutes_that_the_notebooks_state():
    page = (ROOT / "book" / "reference" / "instructors.md").read_text()
    for path in SOURCES:
        notebook = nbformat.read(path, 4)
        cells = graded(notebook)
        points = sum(c.metadata.nbgrader.points for c in cells)
        hidden = sum(c.metadata.nbgrader.points for c in cells if c.id.endswith("-hidden"))
        read = sum(c.metadata.nbgrader.points for c in cells if c.cell_type == "markdown")
        rows = re.findall(r"^\| \d+ \| .*?\| (\d+) \|$", notebook.cells[0].source, re.M)
        first, minutes = notebook.cells[0].source.split("\n")[0], sum(map(int, rows))
        number, title = re.fullmatch(r"# Assignment (\d+): (.+)", first).groups()
        numbers = rf"{points:g} \({hidden:g}, {read:g}\) \| {minutes}"
        row = rf"^\| {number}, \*{title}\* \|.*\| {numbers} \|$"
        assert re.search(row, page, re.IGNORECASE | re.MULTILINE), row
        assert hidden > points / 2, "more than half of the points belong to hidden tests"


def test_the_planted_answers_are_where_exercises_are():
    for path in PLANTED:
        assert path.parent.name in trial.exercises(source_of(path.parents[1].name))


def test_json_ends_with_a_newline():
    for path in SOURCES:
        text = path.read_text()
        assert text.endswith("\n") and json.loads(text)["nbformat"] == 4


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.parent.name)
def test_links_lead_to_files(path):
    exercise = ROOT / "exercises" / path.parent.name
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", cell.source):
                assert (exercise / link).is_file(), link


# the table of assignment 4 ---------------------------------------------------------------------


def test_the_table_without_tokens_is_that_of_layers_on_tokens():
    generator = torch.Generator().manual_seed(0)
    xs, w, query = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((24, 6), (6,), (6,))
    )
    values, vectors = torch.linalg.eigh(xs.mT @ xs / 24)
    numbers = torch.tensor([[0.4, 0.2], [0.7, -0.1], [0.3, 0.3]], dtype=torch.float64)
    x, y = torch.cat([xs, query[None]]), torch.cat([xs @ w, torch.zeros(1, dtype=torch.float64)])
    for missing, (eta, gamma) in zip(read_outs._remaining(values, numbers), numbers, strict=True):
        scores = x @ x[:24].mT / 24
        x, y = x - gamma * scores @ x[:24], y - eta * scores @ y[:24]
        error = (query @ vectors * missing * (w @ vectors)).sum()
        torch.testing.assert_close(query @ w + y[-1], error)


def test_the_table_shows_what_its_rubric_says():
    numbers = read_outs.trained_numbers()
    zero, *rows = read_outs.read_outs(numbers)
    losses = [row.loss for row in rows]
    assert losses == sorted(losses, reverse=True) and losses[0] < zero.loss / 2
    assert all(row.gd_cosine > 0.95 for row in rows[2:])
    assert all(abs(row.gd_cosine - row.newton_cosine) < 0.02 for row in rows)
    assert all(row.same_steps_cosine < 0.85 for row in rows[1:])
    assert rows[-1].gd_steps > 4 * rows[-1].layer > rows[-1].newton_steps
    assert all(row.predictions_cosine > 0.98 for row in rows)
    for near, far in zip(rows, read_outs.read_outs(numbers, 1.25)[1:], strict=True):
        assert far.gd_cosine < near.gd_cosine - 0.1 and far.loss > 3 * near.loss
