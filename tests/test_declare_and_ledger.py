"""Declaring and running: verdicts are computed, records are whole, mistakes are told early."""

import dataclasses
import html
import json
import os
import re
import stat
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from icl_lessons import ledger
from icl_lessons.declare import CLAIMS, EXPERIMENTS, KINDS, Evidence, Verdict, claim, experiment
from icl_lessons.ledger import (
    claims_json,
    claims_table_html,
    collect_claims,
    collect_experiments,
    measured_figure,
    number,
    run_claim,
    run_claims,
    run_experiment,
    stored_result,
    write_whole,
)
from icl_lessons.runtime import Scale

FIELDS = (
    "id, paper, where, kind, says, chapter, scale, "
    "measured, bound, reported, unit, verdict, seconds"
).split(", ")


@pytest.fixture
def registry():
    """Empty registries for one test; what the rooms declared comes back afterwards."""
    collect_claims()  # import the rooms now, so that none of them declares itself in between
    claims, experiments = dict(CLAIMS), dict(EXPERIMENTS)
    CLAIMS.clear()
    EXPERIMENTS.clear()
    yield
    for kept, saved in ((CLAIMS, claims), (EXPERIMENTS, experiments)):
        kept.clear()
        kept.update(saved)


def declare_claim(evidence, id="author2020-theorem-1", **changes):
    described = {
        "paper": "author2020",
        "where": "Theorem 1",
        "kind": "experiment",
        "says": "Water is wet.",
        "chapter": "room/page",
    }

    @claim(id, **(described | changes))
    def check(scale):
        return evidence(scale) if callable(evidence) else evidence

    return check


def measured(value, bound=1.0, **changes):
    return Evidence(measured=value, bound=bound, unit="1/2 E squared error", **changes)


# --- verdicts -----------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "evidence, verdict",
    [
        ((0.9, "at most", 1.0, None), Verdict.HOLDS),
        ((1.0, "at most", 1.0, None), Verdict.HOLDS),
        ((1.1, "at most", 1.0, None), Verdict.FAILS),
        ((1.1, "at most", 1.0, 1.2), Verdict.IN_PART),
        ((1.3, "at most", 1.0, 1.2), Verdict.FAILS),
        ((-5.0, "at most", 1.0, None), Verdict.HOLDS),
        ((1.1, "at least", 1.0, None), Verdict.HOLDS),
        ((0.9, "at least", 1.0, None), Verdict.FAILS),
        ((0.9, "at least", 1.0, 0.8), Verdict.IN_PART),
        ((0.7, "at least", 1.0, 0.8), Verdict.FAILS),
        ((-0.9, "within", 1.0, None), Verdict.HOLDS),
        ((-1.1, "within", 1.0, None), Verdict.FAILS),
        ((-1.1, "within", 1.0, 1.2), Verdict.IN_PART),
        ((NAN, "at most", 1.0, 2.0), Verdict.OPEN),
        ((INF, "at least", 1.0, None), Verdict.OPEN),
        ((-INF, "at most", 1.0, None), Verdict.OPEN),
    ],
)
def test_the_verdict_follows_from_figure_and_bound(evidence, verdict):
    value, comparison, bound, partial = evidence
    got = measured(value, bound, comparison=comparison, partial_bound=partial)
    assert got.verdict == verdict


@pytest.mark.parametrize(
    "samples, value, verdict",
    [
        ((3, 3), 0.5, Verdict.HOLDS),
        ((2, 3), 0.5, Verdict.IN_PART),
        ((1, 3), 5.0, Verdict.IN_PART),
        ((0, 3), 0.5, Verdict.FAILS),
        ((0, 3), NAN, Verdict.OPEN),
        ((3, 3), 5.0, Verdict.FAILS),
    ],
)
def test_a_claim_over_seeds_holds_in_part_when_some_of_them_pass(samples, value, verdict):
    assert measured(value, samples=samples).verdict == verdict


def test_the_four_verdicts_are_the_course_s_words():
    words = {Verdict.HOLDS, Verdict.IN_PART, Verdict.FAILS, Verdict.OPEN}
    assert words == {"holds", "holds in part", "does not hold", "not settled here"}


def test_a_verdict_cannot_be_written():
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        measured(2.0).verdict = Verdict.HOLDS
    with pytest.raises(TypeError):
        Evidence(measured=2.0, bound=1.0, unit="", verdict=Verdict.HOLDS)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"comparison": "equal to"}, "comparison: got 'equal to'; use one of 'at most'"),
        ({"samples": (4, 3)}, r"samples: got \(4, 3\); use \(passed, total\)"),
        ({"samples": (0, 0)}, "samples: got .*total above 0"),
        ({"samples": (-1, 3)}, "samples: got"),
        ({"bound": NAN}, "bound: got NaN"),
    ],
)
def test_evidence_that_cannot_be_says_why(as_readers_run_it, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Evidence(**({"measured": 0.5, "bound": 1.0, "unit": ""} | change))


# --- declaring ----------------------------------------------------------------------------------


def test_a_claim_is_collected_and_stays_a_function(registry):
    evidence = measured(0.5)
    check = declare_claim(evidence)
    assert check(Scale.LESSON) is evidence
    collected = collect_claims()
    assert list(collected) == ["author2020-theorem-1"]
    assert collected["author2020-theorem-1"].check.__wrapped__ is check
    collected.clear()
    assert collect_claims()  # a copy was given out


def test_a_claim_cannot_be_declared_twice_or_as_another_kind(registry, as_readers_run_it):
    declare_claim(measured(0.5))
    with pytest.raises(ValueError, match="id: the claim 'author2020-theorem-1' is declared alr"):
        declare_claim(measured(0.5))
    with pytest.raises(ValueError, match="kind: got 'rumour'; use one of 'identity', 'experiment'"):
        declare_claim(measured(0.5), id="other", kind="rumour")
    assert len(CLAIMS) == 1


@dataclass(frozen=True, kw_only=True)
class FallConfig:
    drops: int
    seeds: tuple[int, ...] = (0, 1)
    device: str = "cpu"


@dataclass(frozen=True)
class FallResult:
    heights: np.ndarray
    mean: torch.Tensor
    missing: float
    exact: np.float64

    def summary(self):
        return f"fell {len(self.heights)} times"


CONFIGS = {Scale.LESSON: FallConfig(drops=3), Scale.PAPER: FallConfig(drops=5)}


def draw_fall(result):
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot(result.heights)
    return fig


def declare_fall(runs=None, *, name="fall", configs=CONFIGS, figure=draw_fall):
    @experiment(name, paper="newton1687", chapter="room/fall", configs=configs, figure=figure)
    def fall(config):
        """Apples fall.

        This is not part of the first line.
        """
        if runs is not None:
            runs.append(config)
        heights = np.arange(config.drops) / 3.0
        return FallResult(heights, torch.tensor(heights.mean()), NAN, np.float64(0.1))

    return fall


def test_an_experiment_is_collected_with_the_first_line_of_its_docstring(registry):
    declare_fall()
    collected = collect_experiments()
    assert list(collected) == ["fall"]
    assert collected["fall"].says == "Apples fall."
    assert collected["fall"].configs == CONFIGS


def test_an_experiment_needs_both_scales_and_a_name_of_its_own(registry):
    with pytest.raises(ValueError, match="configs: no configuration for scale paper"):
        declare_fall(configs={Scale.LESSON: FallConfig(drops=3)})
    declare_fall()
    with pytest.raises(ValueError, match="name: the experiment 'fall' is declared already"):
        declare_fall()


def test_a_declared_function_trains_once_for_a_page_and_its_claims(registry):
    runs = []
    fall = declare_fall(runs)
    assert fall(CONFIGS[Scale.LESSON]) is fall(FallConfig(drops=3))
    assert len(runs) == 1
    fall(CONFIGS[Scale.PAPER])
    assert len(runs) == 2


# --- running claims -----------------------------------------------------------------------------


def test_a_record_has_the_fields_of_the_architecture(registry):
    declare_claim(measured(0.25, reported=0.2, note="A note."), kind="experiment")
    record = run_claim(CLAIMS["author2020-theorem-1"], "paper")
    (line,) = json.loads(claims_json([record]))
    assert list(line)[: len(FIELDS)] == FIELDS
    assert line.pop("seconds") >= 0
    assert line == {
        "id": "author2020-theorem-1",
        "paper": "author2020",
        "where": "Theorem 1",
        "kind": "experiment",
        "says": "Water is wet.",
        "chapter": "room/page",
        "scale": "paper",
        "measured": 0.25,
        "bound": 1.0,
        "reported": 0.2,
        "unit": "1/2 E squared error",
        "verdict": "holds",
        "comparison": "at most",
        "note": "A note.",
    }


def test_the_scale_reaches_the_check(registry):
    seen = []
    declare_claim(lambda scale: seen.append(scale) or measured(0.5))
    run_claims()
    run_claims("paper")
    run_claims(Scale.PAPER)
    assert seen == [Scale.LESSON, Scale.PAPER, Scale.PAPER]


def test_what_is_no_number_becomes_null_and_is_not_settled(registry):
    declare_claim(measured(NAN))
    (line,) = json.loads(claims_json(run_claims()))
    assert line["measured"] is None and line["reported"] is None
    assert line["verdict"] == "not settled here"


@pytest.mark.parametrize("bound", [1e-10, 1e-14, 0.0])
def test_an_identity_is_held_to_1e_10_or_better(registry, bound):
    declare_claim(measured(0.0, bound), kind="identity")
    (record,) = run_claims()
    assert record.verdict == "holds"


def test_an_identity_held_to_less_is_refused(registry):
    declare_claim(measured(0.0, 1.1e-10), kind="identity")
    with pytest.raises(ValueError, match="bound: the identity 'author2020-theorem-1' is held to"):
        run_claims()


def test_an_identity_whose_error_is_bounded_from_below_is_refused(registry):
    declare_claim(measured(0.3, 1e-12, comparison="at least"), kind="identity")
    with pytest.raises(ValueError, match="comparison: the error of the identity .* upper bound"):
        run_claims()


def test_claims_are_chosen_by_paper_kind_and_chapter(registry):
    declare_claim(measured(0.0, 1e-12), id="a-1", paper="a2020", kind="identity", chapter="x/one")
    declare_claim(measured(0.5), id="a-2", paper="a2020", kind="dispute", chapter="x/two")
    declare_claim(measured(0.5), id="b-1", paper="b2021", kind="dispute", chapter="x/two")

    def ids(**chosen):
        return [record.id for record in run_claims(**chosen)]

    assert ids() == ["a-1", "a-2", "b-1"]
    assert ids(paper="a2020") == ["a-1", "a-2"]
    assert ids(kind="dispute") == ["a-2", "b-1"]
    assert ids(chapter="x/two", paper="b2021") == ["b-1"]
    assert ids(kind="experiment") == []
    assert ids(kind="identity", paper="b2021") == []


@pytest.mark.parametrize(
    "chosen, sentence",
    [
        ({"paper": "nobody2020"}, "paper: got 'nobody2020'; use one of 'author2020'"),
        ({"kind": "rumour"}, "kind: got 'rumour'; use one of 'identity'"),
        ({"scale": "huge"}, "scale: got 'huge'; use one of 'lesson', 'paper'"),
        ({"chapter": "no/page"}, "chapter: got 'no/page'; use one of 'room/page'"),
    ],
)
def test_a_choice_that_does_not_exist_lists_what_does(registry, chosen, sentence):
    declare_claim(measured(0.5))
    with pytest.raises(ValueError, match=sentence):
        run_claims(**chosen)


# --- printing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "–"),
        (NAN, "not measured"),
        (0.0, "0"),
        (0.206234, "0.206"),
        (-1.5, "-1.5"),
        (6.0606, "6.06"),
        (1000.0, "1000"),
        (12345.0, "12300"),
        (99999.0, "100000"),
        (123456.0, "1.2e+05"),
        (0.00012345, "1.2e-04"),
        (0.001, "0.001"),
        (1e-12, "1.0e-12"),
        (1e-15, "1.0e-15"),
    ],
)
def test_figures_are_printed_to_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    "kind, value, text",
    [
        ("identity", 0.0, "< 1e-12"),
        ("identity", 1.1e-15, "< 1e-12"),
        ("identity", 8.9e-15, "< 1e-12"),
        ("identity", 2e-11, "< 1e-10"),
        ("identity", 2e-9, "2.0e-09"),
        ("identity", 0.36, "0.36"),
        ("identity", NAN, "not measured"),
        ("experiment", 0.0, "0"),
        ("experiment", 3e-16, "< 1e-12"),
        ("experiment", INF, "not measured"),
        ("dispute", 0.206234, "0.206"),
    ],
)
def test_a_rounding_error_is_printed_alike_on_every_machine_and_its_bound_exactly(
    registry, kind, value, text
):
    declare_claim(measured(value, bound=1e-12), kind=kind)
    record = run_claims()[0]
    assert measured_figure(record) == text
    page = claims_table_html([record])
    assert f"{html.escape(text)} <small>" in page and ">≤ 1.0e-12<" in page


def test_the_table_escapes_what_it_prints_and_links_to_the_chapter(registry):
    declare_claim(
        measured(0.5, reported=0.123456, note="if a < b"),
        says="x < y & z",
        where='Theorem "1"',
    )
    declare_claim(measured(0.5, comparison="at least"), id="second")
    table = claims_table_html(run_claims(), up_to="../..")
    assert "x &lt; y &amp; z" in table and "if a &lt; b" in table
    assert "Theorem &quot;1&quot;" in table
    assert 'href="../../room/page.html"' in table
    titles = re.findall(r'<th scope="col">([^<]+)</th>', table)
    first, second = (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr")[2:])
    assert len(titles) == len(first) == len(second) == len(set(titles))
    assert "≤ 1" in first and "≥ 1" in second
    assert "0.123" in first and "–" in second
    assert first[-1].endswith(">holds</span>") and second[-1].endswith(">does not hold</span>")


def test_the_verdict_is_words_and_not_only_a_class(registry):
    values = {"a": 0.5, "b": 1.1, "c": 3.0, "d": NAN}
    for id, value in values.items():
        declare_claim(measured(value, partial_bound=2.0), id=id)
    table = claims_table_html(run_claims())
    spans = re.findall(r'<span class="verdict ([\w-]+)">([^<]+)</span>', table)
    assert [words for _, words in spans] == [
        "holds",
        "holds in part",
        "does not hold",
        "not settled here",
    ]
    assert len({name for name, _ in spans}) == 4


# --- running experiments ------------------------------------------------------------------------


def test_a_run_writes_its_record_and_its_figure(registry, tmp_path):
    declare_fall()
    out = tmp_path / "new" / "folder"
    record = run_experiment("fall", "paper", device="cpu", out=out, seeds=(4,))
    assert sorted(path.name for path in out.iterdir()) == ["fall.paper.json", "fall.paper.svg"]
    stored = json.loads((out / "fall.paper.json").read_text(encoding="utf-8"))
    assert stored["experiment"] == "fall" and stored["scale"] == "paper"
    assert stored["config"] == {"drops": 5, "seeds": [4], "device": "cpu"}
    thirds = [0.0, 0.3333333, 0.6666667, 1.0, 1.333333]  # seven digits
    assert stored["result"] == {"heights": thirds, "mean": 0.6666667, "missing": None, "exact": 0.1}
    assert set(stored["provenance"]) >= {"icl_lessons", "torch", "python", "device", "date"}
    assert stored["seconds"] >= 0
    assert "<svg" in (out / "fall.paper.svg").read_text(encoding="utf-8")
    for path in out.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert record.config.seeds == (4,) and record.result.summary() == "fell 5 times"
    assert json.loads(record.json()) == stored


def test_a_run_without_a_folder_writes_nothing_and_is_a_new_run(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = []
    fall = declare_fall(runs)
    fall(CONFIGS[Scale.LESSON])
    record = run_experiment("fall")
    assert record.scale == "lesson" and record.config.seeds == (0, 1)
    assert len(runs) == 2  # timed anew, although the function remembers
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_used_is_refused_before_the_run(registry, tmp_path, place):
    (tmp_path / "file").write_text("not a folder")
    runs = []
    declare_fall(runs)
    with pytest.raises(ValueError, match="out: cannot write to '.*file.*'"):
        run_experiment("fall", out=tmp_path / place)
    assert runs == []


def test_a_folder_without_permission_is_refused_before_the_run(registry, tmp_path, monkeypatch):
    """A full disk or a read-only folder, whoever runs the test (root may write anywhere)."""
    runs = []
    declare_fall(runs)

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ledger.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"out: cannot write to .* \(Permission denied\)"):
        run_experiment("fall", out=tmp_path)
    assert runs == []


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("rise",), "name: got 'rise'; use one of 'fall'"),
        (("fall", "huge"), "scale: got 'huge'; use one of 'lesson', 'paper'"),
    ],
)
def test_a_run_that_does_not_exist_lists_what_does(registry, tmp_path, arguments, sentence):
    runs = []
    declare_fall(runs)
    with pytest.raises(ValueError, match=sentence):
        run_experiment(*arguments, out=tmp_path / "out")
    with pytest.raises(ValueError, match="device: 'toaster' is not a device"):
        run_experiment("fall", device="toaster", out=tmp_path / "out")
    assert runs == [] and not (tmp_path / "out").exists()


def test_the_figure_is_drawn_in_the_course_s_style_and_nothing_else_is(registry, tmp_path):
    seen = []

    def draw(result):
        seen.append(plt.rcParams["axes.titlelocation"])
        return draw_fall(result)

    declare_fall(figure=draw)
    with plt.rc_context():
        plt.rcdefaults()  # another test of this process may have set the course's style
        before, opened = plt.rcParams.copy(), plt.get_fignums()
        run_experiment("fall", out=tmp_path)
        assert seen == ["left"] and before["axes.titlelocation"] == "center"
        assert plt.rcParams == before and plt.get_fignums() == opened


def test_a_figure_that_fails_does_not_take_the_record_with_it(registry, tmp_path):
    def broken(result):
        raise RuntimeError("no ink")

    declare_fall(figure=broken)
    with pytest.raises(RuntimeError, match="no ink"):
        run_experiment("fall", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fall.lesson.json"]
    assert json.loads((tmp_path / "fall.lesson.json").read_text())["result"]["exact"] == 0.1


@pytest.mark.parametrize("step", ["replace", "chmod"])
def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch, step):
    path = tmp_path / "record.json"
    write_whole(path, "old")

    def fail(*arguments):
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(OSError, match="the disk is gone"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    with pytest.raises(UnicodeEncodeError):  # fails in the middle of writing
        write_whole(path, "new \ud800")
    assert path.read_text() == "old"
    assert [other.name for other in tmp_path.iterdir()] == ["record.json"]
    write_whole(path, "new")
    assert path.read_text() == "new"


# --- stored results, and what the course has declared ---------------------------------------------


def test_a_stored_result_is_read_as_plain_data(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "STORED_RESULTS", tmp_path)
    declare_fall()
    with pytest.raises(FileNotFoundError, match="icl-lessons run fall --scale paper --out DIR"):
        stored_result("fall")
    run_experiment("fall", "paper", out=tmp_path)
    assert stored_result("fall")["result"]["exact"] == 0.1


def test_every_stored_result_says_where_it_comes_from():
    experiments = collect_experiments()
    for path in ledger.STORED_RESULTS.glob("*.json"):
        if path.name == ledger.STORED_CLAIMS:  # tests/test_stored_claims.py
            continue
        name, scale, _ = path.name.split(".")
        record = stored_result(name, scale)
        assert record["experiment"] == name in experiments and record["scale"] == scale
        assert set(record["provenance"]) == {"icl_lessons", "torch", "python", "device", "date"}
        assert record["seconds"] > 0 and record["result"]
        declared = experiments[name].configs[Scale(scale)]
        names = {field.name for field in dataclasses.fields(declared)}
        assert set(record["config"]) == names


def test_what_the_course_declares_can_be_printed_before_it_is_run():
    claims = collect_claims()
    assert len(claims) >= 8
    for id, declared in claims.items():
        assert declared.id == id and declared.kind in KINDS
        assert declared.says.endswith(".") and declared.where and declared.paper
        assert not declared.chapter.endswith((".md", ".ipynb", ".html"))
    for declared in collect_experiments().values():
        assert declared.says and declared.says.endswith(".")
        assert set(declared.configs) == set(Scale)
        for config in declared.configs.values():
            assert {"device", "seeds"} <= {field.name for field in dataclasses.fields(config)}


def test_what_a_page_sets_as_its_precision_changes_no_result(registry):
    seen = []

    @experiment(
        "dtypes",
        paper="author2020",
        chapter="room/page",
        configs=CONFIGS,
        figure=lambda result: None,
    )
    def dtypes(config):
        seen.append(torch.zeros(1).dtype)

    declare_claim(lambda scale: seen.append(torch.zeros(1).dtype) or measured(0.5))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        dtypes(CONFIGS[Scale.LESSON])
        run_claim(CLAIMS["author2020-theorem-1"])
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)
    assert seen == [torch.float32, torch.float32]
