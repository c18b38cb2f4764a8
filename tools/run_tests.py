"""Run every test of the project, each part whatever became of the others, and add them up.

    python tools/run_tests.py              everything
    python tools/run_tests.py --part book  one part: style, tests, book, book-gpu or solutions

The last line reads `N passed, N failed, N skipped`. The exit status is 0 only if nothing failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import system_parts  # noqa: E402

REPORTS = ROOT / ".make"
MISSING = "system part missing: "  # tests/conftest.py begins the reason of such a skip with this
NBVAL = [
    "--nbval-sanitize-with",
    "tests/nbval_sanitize.cfg",
    "--nbval-cell-timeout",
    "120",
    "--nbval-current-env",
]


@dataclass
class Outcome:
    """What became of one part."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    missing: dict[str, int] = field(default_factory=dict)  # system part -> tests skipped for it


def counted(name: str, report: Path, status: int) -> Outcome:
    """The outcome of a pytest run from its JUnit report.

    A run that ended without a report, or that ran nothing, counts as one failure.
    """
    outcome = Outcome(name)
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
    for case in cases:
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
        elif skip is not None:
            outcome.skipped += 1
            reason = skip.get("message", "")
            if reason.startswith(MISSING):
                part = reason.removeprefix(MISSING).split(",")[0].strip()
                outcome.missing[part] = outcome.missing.get(part, 0) + 1
        else:
            outcome.passed += 1
    if status and not outcome.failed:
        outcome.failed = 1
    return outcome


def environment(device: str = "cpu") -> dict[str, str]:
    """One thread per process (two processes share the machine), and the device to compute on."""
    values = dict(os.environ, ICL_LESSONS_DEVICE=device, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    values["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), values.get("PATH", "")])
    return values


def run(name: str, commands: list[list[str]], env: dict[str, str]) -> Outcome:
    """Run commands that only have an exit status; each counts as one test."""
    outcome = Outcome(name)
    for command in commands:
        print("$", " ".join(command), flush=True)
        good = subprocess.call([sys.executable, "-m", *command], cwd=ROOT, env=env) == 0
        outcome.passed += good
        outcome.failed += not good
    return outcome


def run_pytest(name: str, arguments: list[str], env: dict[str, str]) -> Outcome:
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = ["pytest", "-q", *arguments]
    print("$", " ".join(command), flush=True)
    command = [sys.executable, "-m", *command, f"--junitxml={report}"]
    return counted(name, report, subprocess.call(command, cwd=ROOT, env=env))


def has_notebooks(folder: str) -> bool:
    return any((ROOT / folder).rglob("*.ipynb"))


def gpu_usable() -> bool:
    import torch

    return torch.cuda.is_available()


def parts(jobs: int) -> dict[str, tuple[str, object]]:
    """Name -> (what it does, how to run it), in the order in which they run."""
    parallel = ["-n", str(jobs), "--dist", "loadscope"]
    book = [*NBVAL, *parallel, "book"]
    result = {
        "style": (
            "ruff: mistakes and formatting",
            lambda: run("style", [["ruff", "check"], ["ruff", "format", "--check"]], environment()),
        ),
        "tests": (
            "the package, the tools, grading and the built book",
            lambda: run_pytest("tests", [*parallel, "tests"], environment()),
        ),
    }
    if has_notebooks("book"):
        result["book"] = (
            "every chapter executed and compared with its stored outputs",
            lambda: run_pytest("book", ["--nbval", *book], environment()),
        )
    if has_notebooks("book") and gpu_usable():
        result["book-gpu"] = (
            "the chapters once more on the GPU",
            lambda: run_pytest("book-gpu", ["--nbval", *book], environment("cuda")),
        )
    if has_notebooks("solutions"):
        result["solutions"] = (
            "every reference solution executed",
            lambda: run_pytest(
                "solutions", ["--nbval-lax", *NBVAL, *parallel, "solutions"], environment()
            ),
        )
    return result


def closing(outcomes: list[Outcome]) -> list[str]:
    """The lines printed at the very end; the last is the total."""
    lines = [f"{'part':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for o in outcomes:
        lines.append(f"{o.name:<12}{o.passed:>8}{o.failed:>8}{o.skipped:>9}{o.seconds:>9.0f}")
    absent: dict[str, int] = {}
    for o in outcomes:
        for part, count in o.missing.items():
            absent[part] = absent.get(part, 0) + count
    if absent:
        names = " and ".join(sorted(absent))
        verb = "are" if len(absent) > 1 else "is"
        lines.append(
            f"{sum(absent.values())} tests were skipped because {names} {verb} not installed. "
            f"To run them: {system_parts.command_for(sorted(absent))}"
        )
    passed, failed, skipped = (
        sum(getattr(o, key) for o in outcomes) for key in ("passed", "failed", "skipped")
    )
    lines.append(f"{passed} passed, {failed} failed, {skipped} skipped")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run every test of the project.")
    parser.add_argument("--part", action="append", help="only this part; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default 2)")
    options = parser.parse_args(arguments)
    REPORTS.mkdir(exist_ok=True)
    available = parts(options.jobs)
    if unknown := set(options.part or []) - set(available):
        print(f"no part {', '.join(sorted(unknown))}; there are {', '.join(available)}")
        return 2
    outcomes = []
    for name, (says, action) in available.items():
        if options.part and name not in options.part:
            continue
        print(f"\n=== {name}: {says}", flush=True)
        start = time.perf_counter()
        outcome = action()
        outcome.seconds = time.perf_counter() - start
        outcomes.append(outcome)
    print()
    print("\n".join(closing(outcomes)), flush=True)
    return 1 if any(o.failed for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
