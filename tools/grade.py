"""Make the student versions of the assignments, and grade what was handed in.

    python tools/grade.py release [--assignment NAME]
    python tools/grade.py grade [--assignment NAME] [--submitted DIR] [--sample] [--again]

Hand-ins are expected in grading/submitted/STUDENT/ASSIGNMENT/NOTEBOOK.ipynb, or as STUDENT.ipynb
files in the folder given with --submitted. Grades go to grading/grades.csv, feedback to
grading/feedback/. See book/reference/instructors.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    release = commands.add_parser("release", help="make exercises/ from solutions/")
    grade = commands.add_parser("grade", help="run, score and give feedback on hand-ins")
    for command in (release, grade):
        command.add_argument("--assignment", help="its folder in solutions/; all if not given")
    grade.add_argument("--submitted", type=Path, help="folder of hand-ins [grading/submitted]")
    grade.add_argument(
        "--sample",
        action="store_true",
        help="grade made-up hand-ins in grading/sample (also done when nothing is handed in)",
    )
    grade.add_argument("--again", action="store_true", help="run also what has not changed")
    grade.add_argument(
        "--no-sandbox",
        action="store_true",
        help="run hand-ins without bubblewrap: only for code that you trust",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    chosen = parse(arguments)
    try:
        from icl_lessons.grading import commands
        from icl_lessons.grading.release import ReleaseError, assignments
        from icl_lessons.grading.sandbox import SandboxUnavailable
    except ModuleNotFoundError as error:
        print(
            f"{error.name} is not installed: grading needs the `grading` extra of the package. "
            "Run this with the project's environment (`make release`, `make grade`).",
            file=sys.stderr,
        )
        return 2
    try:
        names = [chosen.assignment] if chosen.assignment else assignments(ROOT)
        if chosen.command == "release":
            commands.make_release(ROOT, chosen.assignment)
            return 0
        rows = []
        if chosen.submitted is None and not chosen.sample and not handed_in():
            print("Nothing is handed in below grading/submitted: grading made-up hand-ins instead.")
            chosen.sample = True
        for name in names:
            if chosen.sample:
                rows += grade_samples(name, chosen)
                continue
            rows += commands.grade(
                ROOT,
                name,
                submitted=chosen.submitted,
                sandboxed=not chosen.no_sandbox,
                again=chosen.again,
            )
        if rows:
            place = ROOT / "grading" / ("sample/grading" if chosen.sample else "")
            print(f"\n{commands.table(rows)}\n")
            print(f"grades:   {place / 'grades.csv'}\nfeedback: {place / 'feedback'}")
        return 0
    except (SandboxUnavailable, ReleaseError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130


def handed_in() -> bool:
    """Whether there is anything in the folder of hand-ins."""
    folder = ROOT / "grading" / "submitted"
    return folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())


def grade_samples(name: str, chosen: argparse.Namespace):
    """Grade the made-up hand-ins in a course of their own, so that no real gradebook is touched."""
    from icl_lessons.grading import commands, samples

    course = ROOT / "grading" / "sample"
    samples.course(ROOT, course, name)
    return commands.grade(course, name, sandboxed=not chosen.no_sandbox, again=chosen.again)


if __name__ == "__main__":
    sys.exit(main())
