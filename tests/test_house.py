"""The project as a whole: pins, licences, what its files may say, and a copy that stands alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import lock
import notebooks
import pytest
import run_tests
import system_parts

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

LEFT_OUT = {".git", ".venv", ".make", "_build", "build", "grading", "results", ".ipynb_checkpoints"}


def project_files() -> list[Path]:
    """The files of the project: those git tracks, or, without git, all but what was built."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
    if not names:
        names = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*")
            if path.is_file()
            and not LEFT_OUT & set(path.relative_to(ROOT).parts[:1])
            and "__pycache__" not in path.parts
        ]
    return [Path(name) for name in names if (ROOT / name).is_file()]


# ---------------------------------------------------------------------------- pins


def test_every_requirement_and_extra_has_a_pinned_version():
    pinned = lock.pinned((ROOT / "constraints.txt").read_text())
    for group, lines in lock.requirements(PYPROJECT).items():
        for line in lines:
            name = re.match(r"[A-Za-z0-9._-]+", line).group()
            assert lock.canonical(name) in pinned, f"{group}: {name}: run tools/lock.py"


def test_pinned_versions_satisfy_the_bounds():
    from packaging.requirements import Requirement

    pinned = lock.pinned((ROOT / "constraints.txt").read_text())
    for lines in lock.requirements(PYPROJECT).values():
        for requirement in map(Requirement, lines):
            version = pinned[lock.canonical(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement} but {version}"


def test_constraints_travel_to_every_machine():
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert "torch==2.13.0" in lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[^+\s]+", line), line
        assert not lock.CUDA.fullmatch(lock.canonical(line.split("==")[0])), line
    assert lines == sorted(lines, key=lambda line: lock.canonical(line.split("==")[0]))


def test_pins_drop_the_project_builds_and_cuda():
    freeze = (
        "# a comment\n-e /somewhere\nicl_lessons==0.1.0\ntorch==2.13.0+cpu\n"
        "nvidia-cudnn-cu13==9.20\ncuda-bindings==13.0\ntriton==3.7\nZipp==4.1\nattrs==26.1.0\n"
        "local @ file:///x\n"
    )
    assert lock.pins(freeze) == ["attrs==26.1.0", "torch==2.13.0", "Zipp==4.1"]


def test_jupyter_book_stays_below_2():
    (line,) = [r for r in PYPROJECT["project"]["optional-dependencies"]["book"] if "jupyter-b" in r]
    assert "<2" in line


# ---------------------------------------------------------------------------- what files may say

# Written in pieces, so that this file does not hold what it looks for.
HOSTS = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "download.pytorch" + ".org",
    "npmjs" + ".org",
    "npmjs" + ".com",
    "deb.debian" + ".org",
    "archive.ubuntu" + ".com",
    "crates" + ".io/api",
    "conda.anaconda" + ".org",
]
MACHINE_PATH = re.compile(
    r"""(?:^|[\s"'(=`:])(/(?:root|home|work|Users|opt)/[A-Za-z0-9_.-]+)""", re.MULTILINE
)
INSIDE_THE_SANDBOX = {"/" + "home/student"}  # made by grading's sandbox, on no machine's disk
VENDORED = ("book/_vendor/", "tests/browser/vendor/")


def spoken_text(path: Path) -> str | None:
    """What a file says: None for binary files; notebooks without their pictures."""
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    if path.suffix == ".ipynb":
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                for kind in [k for k in output.get("data", {}) if k.startswith("image/")]:
                    del output["data"][kind]
        return json.dumps(notebook, ensure_ascii=False).replace("\\n", "\n").replace('\\"', '"')
    return text


def faults_of(text: str) -> list[str]:
    paths = [path for path in MACHINE_PATH.findall(text) if path not in INSIDE_THE_SANDBOX]
    return [host for host in HOSTS if host in text] + paths


def test_no_file_names_a_registry_or_a_place_on_one_machine():
    found = {}
    for path in project_files():
        if str(path).startswith(VENDORED):
            continue
        text = spoken_text(path)
        if text and (faults := faults_of(text)):
            found[str(path)] = sorted(set(faults))
    assert not found, found


def test_the_search_for_such_words_finds_them():
    assert faults_of("see https://" + HOSTS[0] + "/simple") == [HOSTS[0]]
    home = "/" + "home/someone"
    assert faults_of(f'open("{home}/x.py")') == [f"{home}"]
    assert faults_of("a/home/page.md and /usr/bin/env") == []


def test_licences_and_citation():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    text = (ROOT / "LICENSE-TEXT").read_text()
    assert "Attribution 4.0 International" in text and "Section 8 -- Interpretation." in text
    citation = (ROOT / "CITATION.cff").read_text()
    assert f'version: "{PYPROJECT["project"]["version"]}"' in citation
    assert PYPROJECT["project"]["license"] == "MIT"


def test_the_readme_names_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    code = re.compile(r"(?:^ *|`)make ([a-z]+)", re.MULTILINE)
    named = set(code.findall((ROOT / "README.md").read_text()))
    assert {"book", "test", "lab", "grade"} <= named <= targets
    picture = re.search(r"!\[[^\]]{20,}\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert picture and (ROOT / picture.group(1)).stat().st_size > 10_000


def test_a_page_names_tests_that_exist():
    named = set()
    for page in (ROOT / "book").rglob("*.ipynb"):
        named |= set(re.findall(r"tests/[a-z_/]+\.py::[a-z_]+", page.read_text(encoding="utf-8")))
    assert named  # the chapters point to the tests of their identities
    for path, function in (name.split("::") for name in named):
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), (path, function)


def test_make_help_lists_every_command():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    done = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", "help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert targets == {line.split()[0] for line in done.stdout.splitlines()[1:]}


def test_make_without_python_says_what_to_install(tmp_path):
    done = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", "environment", "PYTHON=no-such-python"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "apt-get install python3" in done.stderr


# ---------------------------------------------------------------------------- notebooks

BOOK = [path for path in project_files() if path.parts[0] == "book" and path.suffix == ".ipynb"]


@pytest.mark.parametrize("path", BOOK, ids=str)
def test_a_chapter_is_stored_executed_and_in_normal_form(path):
    assert notebooks.check(ROOT / path) == []


@pytest.mark.parametrize("path", BOOK, ids=str)
def test_no_line_of_a_chapter_ends_in_a_semicolon(path):
    """nbval runs cells without history, and then IPython does not see a closing semicolon."""
    for cell in json.loads((ROOT / path).read_text())["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).rstrip()
            assert not source.endswith(";"), f"cell {cell['id']}"


# ---------------------------------------------------------------------------- system parts


def test_missing_parts_and_their_one_command():
    finders = {"chromium": lambda: None, "bubblewrap": lambda: "somewhere"}
    assert system_parts.missing(finders) == ["chromium"]
    both = ["bubblewrap", "chromium"]
    assert system_parts.command_for(both, "debian", True) == (
        "apt-get install -y bubblewrap chromium"
    )
    assert system_parts.command_for(both, "ubuntu", False) == (
        "sudo apt-get install -y bubblewrap chromium-browser"
    )


def test_a_bubblewrap_that_may_not_make_a_sandbox_does_not_count(tmp_path, monkeypatch):
    for status, counts in ((0, True), (1, False)):
        program = tmp_path / "bwrap"
        program.write_text(f"#!/bin/sh\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        assert bool(system_parts.find_bubblewrap()) is counts


def test_a_named_chromium_is_taken_and_a_wrong_name_is_not_replaced(monkeypatch, tmp_path):
    monkeypatch.setenv("ICL_LESSONS_CHROMIUM", sys.executable)
    assert system_parts.find_chromium() == sys.executable
    monkeypatch.setenv("ICL_LESSONS_CHROMIUM", str(tmp_path / "nothing"))
    assert system_parts.find_chromium() is None


def test_torch_computes_on_one_thread_in_tests():
    import torch

    assert torch.get_num_threads() == 1


ONE_BROWSER_TEST = """\
import pytest

@pytest.mark.needs_chromium
def test_page():
    assert True

def test_other():
    assert True
"""


@pytest.fixture
def browser_project(tmp_path):
    """A project of two tests with this project's conftest, on a machine without Chromium."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "tools/system_parts.py", tmp_path / "tools")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs_chromium: a browser\n")
    (tmp_path / "tests/test_page.py").write_text(ONE_BROWSER_TEST)

    def run(**variables):
        report = tmp_path / "report.xml"
        environment = {**os.environ, "ICL_LESSONS_CHROMIUM": str(tmp_path / "none"), **variables}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and starting is slow
        done = subprocess.run(
            [sys.executable, "-m", "pytest", f"--junitxml={report}", "tests"],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        return done, run_tests.counted("tests", report, done.returncode)

    return run


def test_a_test_without_its_browser_is_skipped_counted_and_named(browser_project):
    done, outcome = browser_project(ICL_REQUIRE_SYSTEM_PARTS="")
    assert done.returncode == 0
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 0, 1)
    assert outcome.missing == {"chromium": 1}
    assert "1 tests skipped, system parts missing:" in done.stdout
    said = "\n".join(run_tests.closing([outcome]))
    assert "1 tests were skipped because chromium is not installed." in said
    assert "apt-get install -y chromium" in said


def test_where_parts_are_required_such_a_skip_is_a_failure(browser_project):
    done, outcome = browser_project(ICL_REQUIRE_SYSTEM_PARTS="1")
    assert done.returncode == 1
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 1, 0)


# ---------------------------------------------------------------------------- the runner


def test_the_closing_line_adds_up():
    outcomes = [
        run_tests.Outcome("style", passed=2, seconds=1.0),
        run_tests.Outcome("tests", passed=40, failed=1, skipped=3, seconds=9.4),
    ]
    assert run_tests.closing(outcomes)[-1] == "42 passed, 1 failed, 3 skipped"


def test_a_run_without_a_report_or_without_tests_is_a_failure(tmp_path):
    assert run_tests.counted("x", tmp_path / "absent.xml", 3).failed == 1
    empty = tmp_path / "empty.xml"
    empty.write_text("<testsuites><testsuite/></testsuites>")
    assert run_tests.counted("x", empty, 5).failed == 1


def test_a_crash_after_passing_tests_is_a_failure(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text("<testsuites><testsuite><testcase/></testsuite></testsuites>")
    assert (run_tests.counted("x", report, 0).passed, run_tests.counted("x", report, 0).failed) == (
        1,
        0,
    )
    assert run_tests.counted("x", report, 1).failed == 1


def test_all_parts_run_whatever_became_of_the_others(monkeypatch, capsys):
    ran = []

    def part(name, failed):
        def action():
            ran.append(name)
            return run_tests.Outcome(name, passed=1, failed=failed)

        return (name, action)

    made = {"a": part("a", 1), "b": part("b", 0)}
    monkeypatch.setattr(run_tests, "parts", lambda jobs: made)
    assert run_tests.main([]) == 1
    assert ran == ["a", "b"]
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 1 failed, 0 skipped"
    assert run_tests.main(["--part", "b"]) == 0
    assert run_tests.main(["--part", "c"]) == 2


# ---------------------------------------------------------------- a copy that stands alone


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """An unpacked source archive of the project, a wheel built from it, and an environment in
    which that wheel (and no editable install) is what `import icl_lessons` finds.

    The other packages come from the present environment through its folder of packages.
    """
    place = tmp_path_factory.mktemp("archive")
    source = place / "source"
    for path in project_files():
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(place), str(source)],
        check=True, env=environment,
    )  # fmt: skip
    (wheel,) = place.glob("icl_lessons-*.whl")
    venv = place / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    packages = Path(
        subprocess.check_output(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
            text=True,
        ).strip()
    )
    (packages / "present.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    subprocess.run(
        [*pip, "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)],
        check=True, env=environment,
    )  # fmt: skip

    def run(*arguments, **keywords):
        return subprocess.run(
            [str(python), *map(str, arguments)],
            env=environment, capture_output=True, text=True, timeout=600, **keywords,
        )  # fmt: skip

    return {"source": source, "wheel": wheel, "packages": packages, "run": run, "place": place}


IMPORT_ALL = """\
import importlib, pathlib, pkgutil, sys
import icl_lessons
print(pathlib.Path(icl_lessons.__file__).parent)
for module in pkgutil.walk_packages(icl_lessons.__path__, "icl_lessons."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("icl_lessons")]))
"""


def test_every_module_of_the_installed_copy_can_be_imported(copy, tmp_path):
    done = copy["run"]("-I", "-c", IMPORT_ALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where, count = done.stdout.split()
    assert Path(where) == copy["packages"] / "icl_lessons"
    assert int(count) >= len([p for p in project_files() if p.match("icl_lessons/*.py")])


def test_the_wheel_holds_every_file_of_the_package(copy):
    inside = set(zipfile.ZipFile(copy["wheel"]).namelist())
    files = {str(path) for path in project_files() if path.parts[0] == "icl_lessons"}
    assert files <= inside, f"not packed (package-data): {sorted(files - inside)}"


def test_the_command_line_of_the_installed_copy_answers(copy, tmp_path):
    code = "import sys; from icl_lessons.cli import main; sys.argv = ['x', '--help']; main()"
    done = copy["run"]("-I", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "claims" in done.stdout


def shortest_chapter() -> Path:
    """The chapter with the least code that uses the package."""
    lengths = {}
    for path in BOOK:
        cells = json.loads((ROOT / path).read_text())["cells"]
        code = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        if "icl_lessons" in code:
            lengths[path] = len(code)
    assert lengths, "no chapter imports icl_lessons"
    return min(lengths, key=lengths.get)


def test_a_chapter_runs_in_the_copy(copy):
    chapter = shortest_chapter()
    target = copy["source"] / chapter
    cells = json.loads(target.read_text())
    for cell in cells["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    proof = "import icl_lessons\nassert 'site-packages' in icl_lessons.__file__\nprint('installed')"
    cells["cells"].append(
        {"cell_type": "code", "id": "proof", "metadata": {}, "source": proof,
         "outputs": [], "execution_count": None}
    )  # fmt: skip
    target.write_text(json.dumps(cells))
    done = copy["run"]("tools/notebooks.py", chapter, cwd=copy["source"])
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(target.read_text())["cells"]
    code = [cell for cell in made if cell["cell_type"] == "code"]
    assert any(cell["outputs"] for cell in code[:-1])
    assert "".join(code[-1]["outputs"][0]["text"]) == "installed\n"
