"""The command line: what it prints, what it writes, and how it answers a mistake."""

import json
import subprocess
import sys
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pytest
from typer.testing import CliRunner

from icl_lessons.cli import app, main
from icl_lessons.declare import CLAIMS, EXPERIMENTS, Evidence, claim, experiment
from icl_lessons.ledger import collect_claims
from icl_lessons.runtime import Scale


@dataclass(frozen=True, kw_only=True)
class EchoConfig:
    words: int
    seeds: tuple[int, ...] = (0,)
    device: str = "cpu"


@dataclass(frozen=True)
class EchoResult:
    said: tuple[str, ...]

    def summary(self):
        return f"It said {', '.join(self.said)}."


@pytest.fixture
def course():
    """A course with one experiment and two claims, in place of the real one."""
    collect_claims()
    claims, experiments = dict(CLAIMS), dict(EXPERIMENTS)
    CLAIMS.clear()
    EXPERIMENTS.clear()

    @experiment(
        "echo",
        paper="narcissus2020",
        chapter="room/echo",
        configs={Scale.LESSON: EchoConfig(words=2), Scale.PAPER: EchoConfig(words=4)},
        figure=lambda result: plt.figure(figsize=(1, 1)),
    )
    def echo(config):
        """Says the same word again."""
        return EchoResult(("hello",) * config.words)

    @claim(
        "narcissus2020-echo",
        paper="narcissus2020",
        where="Theorem 1",
        kind="identity",
        says="What is said comes back.",
        chapter="room/echo",
    )
    def comes_back(scale):
        return Evidence(measured=2e-16, bound=1e-12, unit="relative error")

    @claim(
        "other2021-echo",
        paper="other2021",
        where="Figure 2",
        kind="experiment",
        says="It comes back twice.",
        chapter="room/echo",
    )
    def comes_back_twice(scale):
        size = {Scale.LESSON: 1.234567, Scale.PAPER: 2.5}[scale]
        return Evidence(
            measured=size, bound=2.0, comparison="at least", unit="echoes", reported=2.1
        )

    yield
    for kept, saved in ((CLAIMS, claims), (EXPERIMENTS, experiments)):
        kept.clear()
        kept.update(saved)


def call(*arguments):
    return CliRunner().invoke(app, arguments)


def test_experiments_are_listed_with_what_they_do(course):
    result = call("experiments")
    assert result.exit_code == 0
    assert "echo: Says the same word again." in result.output
    assert "paper narcissus2020, chapter room/echo" in result.output


def test_a_run_prints_its_summary_and_names_the_files_it_wrote(course, tmp_path):
    out = tmp_path / "results"
    result = call("run", "echo", "--scale", "paper", "--device", "cpu", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "echo at scale paper took" in result.output and "on cpu (" in result.output
    assert "It said hello, hello, hello, hello." in result.output
    for suffix in ("json", "svg"):
        assert f"{out}/echo.paper.{suffix}" in result.output
        assert (out / f"echo.paper.{suffix}").exists()
    assert json.loads((out / "echo.paper.json").read_text())["config"]["words"] == 4


def test_the_lesson_s_scale_and_folder_are_the_defaults(course, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("run", "echo").exit_code == 0
    assert json.loads((tmp_path / "results/echo.lesson.json").read_text())["config"]["words"] == 2


def test_claims_are_printed_with_figure_bound_and_verdict(course):
    result = call("claims")
    assert result.exit_code == 0
    first, says, measured = result.output.splitlines()[:3]
    assert first.split()[0] == "holds" and "narcissus2020-echo (identity," in first
    assert says.strip() == "What is said comes back."
    assert "at most 1.0e-12" in measured and "[relative error]" in measured
    assert "paper reports" not in measured
    assert "does not hold    other2021-echo" in result.output
    assert "measured 1.23, at least 2, paper reports 2.1 [echoes]" in result.output


def test_claims_as_json_can_be_read_by_a_program(course):
    result = call("claims", "--json")
    assert result.exit_code == 0
    records = json.loads(result.stdout)
    assert [record["id"] for record in records] == ["narcissus2020-echo", "other2021-echo"]
    assert records[1]["measured"] == 1.234567 and records[1]["verdict"] == "does not hold"
    assert records[0]["reported"] is None and records[0]["scale"] == "lesson"


@pytest.mark.parametrize(
    "arguments, ids",
    [
        (("--paper", "other2021"), ["other2021-echo"]),
        (("--kind", "identity"), ["narcissus2020-echo"]),
        (("--kind", "dispute"), []),
    ],
)
def test_claims_are_chosen_by_paper_and_kind(course, arguments, ids):
    result = call("claims", "--json", *arguments)
    assert [record["id"] for record in json.loads(result.stdout)] == ids


def test_the_scale_of_claims_is_passed_on(course):
    records = json.loads(call("claims", "--json", "--scale", "paper").stdout)
    assert {record["scale"] for record in records} == {"paper"}
    assert records[1]["measured"] == 2.5 and records[1]["verdict"] == "holds"


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("run", "ecko"), "icl-lessons: name: got 'ecko'; use one of 'echo'"),
        (("run", "echo", "--device", "toaster"), "icl-lessons: device: 'toaster' is not a device"),
        (("run", "echo", "--out", "{file}"), "icl-lessons: out: cannot write to"),
        (("claims", "--paper", "nobody"), "icl-lessons: paper: got 'nobody'; use one of 'narc"),
        (("claims", "--kind", "rumour"), "icl-lessons: kind: got 'rumour'; use one of 'identity'"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(
    course, tmp_path, monkeypatch, capsys, arguments, sentence
):
    (tmp_path / "file").write_text("not a folder")
    arguments = [word.format(file=tmp_path / "file") for word in arguments]
    monkeypatch.setattr(sys, "argv", ["icl-lessons", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) == 1 and printed.out == ""


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("claims", "--scale", "huge"), "huge"),
        (("run",), "Missing argument"),
        (("fly",), "fly"),
    ],
)
def test_an_unknown_option_or_command_is_a_usage_error(course, arguments, word):
    result = call(*arguments)
    assert result.exit_code == 2 and word in result.output
    assert not isinstance(result.exception, ValueError)


def test_without_a_command_the_help_is_shown(course):
    result = call()
    assert "Usage" in result.output
    for command in ("run", "experiments", "claims"):
        assert command in result.output


def test_the_installed_program_answers_a_mistake_without_a_traceback(tmp_path):
    """The real course in a process of its own, in an empty folder that stays empty."""
    done = subprocess.run(
        [sys.executable, "-m", "icl_lessons.cli", "run", "no_such_experiment"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "icl-lessons: name: got 'no_such_experiment'; use one of" in done.stderr
    assert "one_layer_one_step" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
