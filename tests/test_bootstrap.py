"""tools/bootstrap.py: what it says when an environment cannot be made, and what it trusts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import bootstrap
import pytest


def test_python_versions():
    assert bootstrap.python_problem((3, 11)) is None
    assert bootstrap.python_problem((3, 14)) is None
    assert "3.11 or newer is needed and this is 3.9" in bootstrap.python_problem((3, 9))
    assert "newer than the pinned packages know" in bootstrap.python_problem((3, 99))


def test_another_python_on_the_path_is_found():
    there = {"python3": (3, 9), "python3.12": (3, 12)}
    found = bootstrap.find_python(
        ("old", (3, 9)), ("python3", "python3.12", "python3.13"), there.get
    )
    assert Path(found).name == "python3.12"


def test_the_python_that_runs_is_preferred():
    assert bootstrap.find_python(("this one", (3, 12)), (), None) == "this one"


def test_no_usable_python_is_one_sentence_with_a_command():
    with pytest.raises(bootstrap.Stop) as stop:
        bootstrap.find_python(("old", (3, 9)), ("python3",), lambda name: None)
    assert "3.11 or newer" in str(stop.value)
    assert "apt-get install python3" in str(stop.value)


def test_version_of_asks_a_real_interpreter():
    assert bootstrap.version_of(sys.executable) == sys.version_info[:2]
    assert bootstrap.version_of("no-such-python") is None


def test_disk_space():
    assert bootstrap.disk_problem(7e9, 6, "The disk") is None
    said = bootstrap.disk_problem(1.25e9, 6, "The disk")
    assert said.startswith("The disk has 1.2 GB free and about 6 GB are needed")


def test_a_full_disk_stops_before_anything_is_made(tmp_path, monkeypatch):
    make_project(tmp_path)
    usage = SimpleNamespace(free=10**9)
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(bootstrap.Stop, match="1.0 GB free"):
        bootstrap.make(str(tmp_path), {"book"}, echo=lambda text: None)
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("answer", "present"),
    [
        (SimpleNamespace(returncode=0, stdout=b"GPU 0: NVIDIA H200"), True),
        (SimpleNamespace(returncode=0, stdout=b"No devices found"), False),
        (SimpleNamespace(returncode=9, stdout=b""), False),
        (FileNotFoundError(), False),
        (subprocess.TimeoutExpired("nvidia-smi", 30), False),
    ],
)
def test_a_gpu_counts_only_when_it_answers(answer, present):
    def run(*arguments, **keywords):
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert bootstrap.gpu_present(run) is present


NO_NETWORK = """\
WARNING: Retrying (Retry(total=2, connect=None)) after connection broken by
'NewConnectionError: Failed to establish a new connection: [Errno -3] Temporary failure in name
resolution'
ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)
ERROR: No matching distribution found for numpy
"""


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (NO_NETWORK, "package index cannot be reached"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
         "disk is full"),
        ("Error: ensurepip is not available", "apt-get install python3-venv"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]')", "PIP_CERT"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no build of torch==2.13.0"),
        ("ERROR: ResolutionImpossible: for help visit", "contradict each other"),
        ("ERROR: Failed building wheel for pyzmq", "pyzmq has no ready-made build"),
        ("ERROR: [Errno 13] Permission denied: 'x'", "cannot be written to"),
        ("OSError: Tunnel connection failed: 407 Proxy Authentication Required", "HTTPS_PROXY"),
        ("something odd\nERROR: a new kind of failure\nmore", "ERROR: a new kind of failure"),
        ("", "it said nothing"),
    ],
)  # fmt: skip
def test_pip_is_explained_in_one_sentence(log, said):
    sentence = bootstrap.explain(log)
    assert said in sentence
    assert "\n" not in sentence


def test_a_killed_pip_ran_out_of_memory():
    assert "out of memory" in bootstrap.explain("", -9)


# ---------------------------------------------------------------------------- torch


@pytest.mark.parametrize(
    ("wanted", "gpu", "system", "build"),
    [
        ("auto", True, "Linux", "cuda"),
        ("auto", False, "Linux", "cpu"),
        ("auto", True, "Darwin", "cpu"),
        ("cpu", True, "Linux", "cpu"),
        ("cuda", False, "Linux", "cuda"),
    ],
)
def test_torch_build(wanted, gpu, system, build):
    assert bootstrap.torch_build(wanted, gpu, system) == build


def test_torch_must_be_a_known_word():
    with pytest.raises(bootstrap.Stop, match="auto, cpu or cuda"):
        bootstrap.torch_build("rocm", False, "Linux")


LOCAL = ["2.13.0+cpu", "2.13.0", "2.12.0"]
PLAIN = ["2.13.0", "2.12.0"]


@pytest.mark.parametrize(
    ("build", "system", "index", "listed", "plan"),
    [
        ("cpu", "Linux", "", LOCAL, ("pip", ["torch==2.13.0+cpu"])),
        ("cpu", "Linux", "", PLAIN,
         ("uv", ["--torch-backend", "cpu", "--no-deps", "torch==2.13.0"])),
        ("cpu", "Linux", "address", LOCAL,
         ("pip", ["--extra-index-url", "address", "torch==2.13.0+cpu"])),
        ("cpu", "Darwin", "", PLAIN, ("pip", ["torch==2.13.0"])),
        ("cuda", "Linux", "", [], ("pip", ["torch===2.13.0"])),
        ("cuda", "Linux", "address", [],
         ("pip", ["--extra-index-url", "address", "torch==2.13.0"])),
    ],
)  # fmt: skip
def test_torch_plan(build, system, index, listed, plan):
    assert bootstrap.torch_plan("2.13.0", build, system, index, listed) == plan


def test_an_index_without_the_build_is_not_passed_over_in_silence():
    with pytest.raises(bootstrap.Stop, match="TORCH_INDEX"):
        bootstrap.torch_plan("2.13.0", "cpu", "Linux", "address", PLAIN)


def test_without_a_gpu_no_plan_on_linux_takes_the_cuda_build():
    for listed in (LOCAL, PLAIN, []):
        tool, arguments = bootstrap.torch_plan("2.13.0", "cpu", "Linux", "", listed)
        assert (tool == "uv" and "cpu" in arguments) or arguments == ["torch==2.13.0+cpu"]


def test_an_unreachable_cpu_build_is_one_sentence(monkeypatch):
    class Installer:
        python = "python"

        def listed(self, package, index):
            return PLAIN

        def pip(self, arguments, doing, watch=False):
            assert arguments == ["uv"]

        def command(self, arguments, doing, watch=False):
            raise bootstrap.Stop("dns error")

    monkeypatch.setattr(bootstrap, "installed_torch", lambda python: None)
    monkeypatch.setattr(bootstrap.platform, "system", lambda: "Linux")
    with pytest.raises(bootstrap.Stop) as stop:
        bootstrap.install_torch(Installer(), "torch==2.13.0\n", "cpu", "")
    assert "TORCH_INDEX" in str(stop.value) and "TORCH=cuda" in str(stop.value)


def test_versions_are_read_from_pips_words():
    text = "torch (2.13.0)\nAvailable versions: 2.13.0+cpu, 2.13.0\n  INSTALLED: 2.13.0\n"
    assert bootstrap.versions(text) == ["2.13.0+cpu", "2.13.0"]
    assert bootstrap.versions("nothing of the kind") == []


# ---------------------------------------------------------------------------- what is trusted


def make_project(root: Path) -> None:
    (root / "constraints.txt").write_text("torch==2.13.0\n")
    (root / "pyproject.toml").write_text("[project]\n")


@pytest.fixture
def project(tmp_path):
    """A folder with a finished environment (its Python is a link to this one)."""
    make_project(tmp_path)
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    bootstrap.finish(str(tmp_path), str(venv), {"book", "test"})
    return tmp_path


def state(project, extras=("book", "test"), works=True):
    return bootstrap.state(str(project), extras, lambda venv: works)


def test_a_finished_environment_is_trusted_and_costs_nothing(project):
    assert state(project) == "ready"
    said = []
    bootstrap.finish(str(project), str(project / ".venv"), {"book"})
    assert bootstrap.state(str(project), ["book"]) == "ready"  # with its real Python
    bootstrap.make(str(project), {"book"}, echo=said.append)
    assert said == []


def test_an_interrupted_run_is_not_trusted(project):
    bootstrap.mark_unfinished(str(project / ".venv"))
    assert state(project) == "unfinished"


def test_changed_pins_or_extras_are_noticed(project):
    assert state(project, ("book", "benchmark")) == "outdated"
    (project / "constraints.txt").write_text("torch==2.14.0\n")
    assert state(project) == "outdated"


def test_other_states(project, tmp_path):
    assert state(project, works=False) == "broken"
    stamp = project / ".venv" / bootstrap.STAMP
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "folder": "elsewhere"}))
    assert state(project) == "broken"
    stamp.write_text("half a sta")
    assert state(project) == "unknown"
    (project / ".venv" / "bin" / "python").unlink()
    assert not bootstrap.environment_works(str(project / ".venv"))


def test_no_environment(tmp_path):
    make_project(tmp_path)
    assert state(tmp_path) == "absent"


def fake_steps(monkeypatch, fail_in=None):
    """Replace the steps that install; each leaves a file, and one may fail."""

    def create(installer, base, venv):
        (Path(venv) / "bin").mkdir(parents=True, exist_ok=True)
        (Path(venv) / "bin" / "python").symlink_to(base)

    def step(name):
        def act(*arguments, **keywords):
            if name == fail_in:
                raise bootstrap.Stop(f"{name} failed.")

        return act

    monkeypatch.setattr(bootstrap, "create", create)
    monkeypatch.setattr(bootstrap, "torch_step", step("torch"))
    monkeypatch.setattr(bootstrap.Installer, "pip", step("pip"))
    monkeypatch.setattr(bootstrap, "verify", step("verify"))
    monkeypatch.setattr(bootstrap, "gpu_present", lambda: False)
    monkeypatch.setattr(bootstrap, "check_disk", lambda root, build: None)


@pytest.mark.parametrize("where", ["torch", "pip", "verify"])
def test_a_failed_run_is_made_again_from_nothing(tmp_path, monkeypatch, where):
    make_project(tmp_path)
    with monkeypatch.context() as patch:
        fake_steps(patch, fail_in=where)
        with pytest.raises(bootstrap.Stop):
            bootstrap.make(str(tmp_path), {"book"}, echo=lambda text: None)
    left = tmp_path / ".venv" / "left by the failed run"
    left.write_text("")
    assert bootstrap.state(str(tmp_path), {"book"}) == "unfinished"
    said = []
    fake_steps(monkeypatch)
    bootstrap.make(str(tmp_path), {"book"}, echo=said.append)
    assert not left.exists()
    assert bootstrap.REASONS["unfinished"] in said
    assert bootstrap.state(str(tmp_path), {"book"}) == "ready"


def test_what_a_first_run_says(tmp_path, monkeypatch):
    make_project(tmp_path)
    fake_steps(monkeypatch)
    said = []
    bootstrap.make(str(tmp_path), {"book"}, echo=said.append)
    text = "\n".join(said)
    assert "2 to 6 minutes" in text and "GB on disk" in text
    assert "1/4" in text and "4/4" in text and "PyTorch, CPU build" in text
    assert said[-1].startswith("The environment is ready")


def test_extras_are_kept_when_others_are_added(project, monkeypatch):
    fake_steps(monkeypatch)
    bootstrap.make(str(project), {"benchmark"}, echo=lambda text: None)
    assert state(project, ("book", "test", "benchmark")) == "ready"


def test_the_installer_turns_a_failing_command_into_a_sentence(tmp_path):
    (tmp_path / bootstrap.STATE).mkdir()
    installer = bootstrap.Installer(str(tmp_path), sys.executable)
    code = "import sys; print('No space left on device'); sys.exit(1)"
    with pytest.raises(bootstrap.Stop, match="Trying did not work. The disk is full"):
        installer.command([sys.executable, "-c", code], "Trying")
    assert "No space left" in (tmp_path / bootstrap.STATE / "pip.log").read_text()


def test_a_project_without_network_gets_a_sentence_from_the_command_line(tmp_path):
    """The whole command, with pip pointed at an index that does not answer."""
    make_project(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bootstrap.py").write_bytes(Path(bootstrap.__file__).read_bytes())
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\npip==26.3\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "1",
        "TORCH": "cpu",
    }
    done = subprocess.run(
        [sys.executable, str(tools / "bootstrap.py")],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if line]
    assert sentence.startswith("The environment could not be made. ")
    assert "package index cannot be reached" in sentence
    assert bootstrap.state(str(tmp_path), bootstrap.EXTRAS) == "unfinished"
