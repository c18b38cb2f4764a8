"""Make the environment `.venv` that every `make` command runs in, or say why it cannot be made.

    python3 tools/bootstrap.py                          the environment of `make book`, `make test`
    python3 tools/bootstrap.py --extra benchmark        the same with one more extra

It needs nothing but Python's standard library. The first run installs the versions of
constraints.txt; later runs compare a stamp and return at once. A run that was interrupted leaves
a mark, and the next one begins again from an empty folder.

Two environment variables choose the build of PyTorch (see "How PyTorch is chosen" in README.md):
TORCH (`auto`, `cpu` or `cuda`) and TORCH_INDEX (the address of an index that has the build).

The syntax stays old on purpose: an old Python must get far enough to say that it is too old.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = ".venv"
STATE = ".make"  # the lock file and the log of pip
STAMP = "icl-lessons-ready.json"
UNFINISHED = "icl-lessons-unfinished"
EXTRAS = ("book", "development", "grading", "language-models", "test")

OLDEST = (3, 11)
NEWEST = (3, 14)  # the newest Python that PyTorch and the pinned packages have builds for
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "python3.14", "python")

NEEDED_GB = {"cpu": 6, "cuda": 14}
NEEDED_TEMPORARY_GB = 2


class Stop(Exception):
    """What is wrong, in one sentence that a person can act on."""


# ---------------------------------------------------------------------------- what is there


def python_problem(version):
    """Why a Python version cannot be used, or None. `version` is (major, minor)."""
    shown = "%d.%d" % tuple(version[:2])
    if tuple(version[:2]) < OLDEST:
        return "Python %d.%d or newer is needed and this is %s" % (OLDEST + (shown,))
    if tuple(version[:2]) > NEWEST:
        return "Python %s is newer than the pinned packages know (%d.%d to %d.%d)" % (
            (shown,) + OLDEST + NEWEST
        )
    return None


def version_of(command):
    """(major, minor) of a Python command, or None when it cannot be started."""
    code = "import sys; print(sys.version_info[0], sys.version_info[1])"
    try:
        out = subprocess.check_output([command, "-c", code], stderr=subprocess.DEVNULL)
        major, minor = out.decode().split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def find_python(current=None, candidates=CANDIDATES, version_of=version_of):
    """The first usable Python among the one that runs this file and those on PATH."""
    if current is None:
        # Inside an environment (perhaps the one to be made again) its base is meant.
        base = getattr(sys, "_base_executable", None) or sys.executable
        current = (base, sys.version_info[:2])
    command, version = current
    first_problem = python_problem(version)
    if first_problem is None:
        return command
    for name in candidates:
        found = version_of(name)
        if found and python_problem(found) is None:
            return shutil.which(name) or name
    raise Stop(
        "%s: install one and run the command again "
        "(Debian 12, Ubuntu 24.04 and later have it: apt-get install python3 python3-venv)."
        % first_problem
    )


def disk_problem(free_bytes, needed_gb, where):
    """Why there is not enough room at a place, or None."""
    free_gb = free_bytes / 1e9
    if free_gb >= needed_gb:
        return None
    return (
        "%s has %.1f GB free and about %d GB are needed: make room and run the command again."
        % (
            where,
            free_gb,
            needed_gb,
        )
    )


def check_disk(root, build):
    temporary = tempfile.gettempdir()
    for place, where, needed in (
        (root, "The disk with this folder", NEEDED_GB[build]),
        (temporary, "The folder for temporary files, %s," % temporary, NEEDED_TEMPORARY_GB),
    ):
        problem = disk_problem(shutil.disk_usage(place).free, needed, where)
        if problem:
            raise Stop(problem)


def gpu_present(run=subprocess.run):
    """Whether an NVIDIA GPU answers on this machine."""
    try:
        answer = run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                     timeout=30)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0 and b"GPU" in answer.stdout


# ---------------------------------------------------------------------------- pip


def explain(log, code=1):
    """One sentence for what pip, or venv, wrote before it failed."""
    low = log.lower()

    def said(*pieces):
        return any(piece in low for piece in pieces)

    if said("no space left on device", "errno 28"):
        return "The disk is full: make room (about 6 GB) and run the command again."
    if said("ensurepip is not available", "no module named ensurepip", "no module named venv"):
        return (
            "This Python cannot make virtual environments: "
            "apt-get install python3-venv, then run the command again."
        )
    if said("certificate_verify_failed", "certificate verify failed"):
        return (
            "The package index's certificate is not trusted here: behind a company proxy, set "
            "PIP_CERT to the proxy's certificate file and run the command again."
        )
    if said("407 proxy authentication", "proxyerror", "cannot connect to proxy"):
        return "The proxy refuses the connection: correct HTTPS_PROXY and run the command again."
    if said(
        "name resolution",
        "name or service not known",
        "failed to establish a new connection",
        "network is unreachable",
        "connection refused",
        "connectionerror",
        "newconnectionerror",
        "nameresolutionerror",
        "read timed out",
        "readtimeouterror",
        "connecttimeouterror",
        "max retries exceeded",
        "connection broken",
        "connection reset",
    ):
        return (
            "The package index cannot be reached: check the network (behind a proxy, set "
            "HTTPS_PROXY) and run the command again; what was fetched is kept in pip's cache."
        )
    if said("resolutionimpossible", "conflicting dependencies"):
        return (
            "pyproject.toml and constraints.txt contradict each other: run tools/lock.py in a "
            "working environment, or take both files from one release."
        )
    match = re.search(r"no matching distribution found for (\S+)", low)
    if match:
        return (
            "The package index has no build of %s for this machine's Python: use Python 3.11, 3.12 "
            "or 3.13 on a 64-bit machine." % match.group(1)
        )
    match = re.search(r"failed (?:building wheel for|to build) '?([\w.-]+)", low)
    if match or said("error: command 'gcc' failed", "error: command 'cc' failed"):
        return (
            "%s has no ready-made build for this machine and could not be compiled: use Python "
            "3.11, 3.12 or 3.13 on a 64-bit machine." % (match.group(1) if match else "A package")
        )
    if said("permission denied", "errno 13", "read-only file system"):
        return "This folder cannot be written to: make it yours (chown) and run the command again."
    if code in (-9, 137) or said("memoryerror", "cannot allocate memory"):
        return "The machine ran out of memory: close programs or add swap, then run it again."
    lines = [line.strip() for line in log.strip().splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
    return "pip failed (exit status %d): %s" % (code, errors[0] if errors else "it said nothing")


class Installer:
    """Runs commands of the environment's Python, logs them, and shows that they are alive."""

    def __init__(self, root, python, echo=print):
        self.root, self.python, self.echo = root, python, echo
        self.log = os.path.join(root, STATE, "pip.log")

    def command(self, arguments, doing, watch=False):
        """Run a command; its output goes to the log. Raises Stop with a sentence on failure."""
        start = last = time.time()
        seen, pieces = 0, []
        with open(self.log, "a", encoding="utf-8") as log:
            log.write("\n$ %s\n" % " ".join(arguments))
            log.flush()
            process = subprocess.Popen(
                arguments, cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=self.environment(),
            )  # fmt: skip
            try:
                for raw in process.stdout:
                    line = raw.decode("utf-8", "replace")
                    log.write(line)
                    log.flush()
                    pieces.append(line)
                    seen += line.startswith("Collecting ")
                    if watch and time.time() - last > 30:
                        last = time.time()
                        self.echo("      %d packages so far, %d s" % (seen, last - start))
                code = process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
        text = "".join(pieces)
        if code:
            raise Stop(
                "%s did not work. %s (All of pip's words: %s)"
                % (doing, explain(text, code), os.path.relpath(self.log, self.root))
            )
        return text

    def environment(self):
        values = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
        values.setdefault("PIP_RETRIES", "3")
        for name in ("PYTHONPATH", "PYTHONHOME", "PIP_REQUIRE_VIRTUALENV", "PIP_USER"):
            values.pop(name, None)
        if values.get("PIP_CERT"):
            values.setdefault("SSL_CERT_FILE", values["PIP_CERT"])
        return values

    def pip(self, arguments, doing, watch=False):
        base = [self.python, "-m", "pip", "install", "--progress-bar", "off"]
        return self.command(base + ["-c", "constraints.txt"] + arguments, doing, watch)

    def listed(self, package, index=None):
        """The versions of a package that pip could install here, [] if it cannot say."""
        arguments = [self.python, "-m", "pip", "index", "versions", package]
        if index:
            arguments += ["--extra-index-url", index]
        answer = subprocess.run(
            arguments, cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self.environment(),
        )  # fmt: skip
        if answer.returncode:
            text = answer.stderr.decode("utf-8", "replace")
            raise Stop("Looking for PyTorch did not work. " + explain(text, answer.returncode))
        return versions(answer.stdout.decode("utf-8", "replace"))


def versions(text):
    """The version list in what `pip index versions` printed."""
    match = re.search(r"^Available versions: (.+)$", text, re.MULTILINE)
    return match.group(1).split(", ") if match else []


# ---------------------------------------------------------------------------- PyTorch


def torch_pin(constraints):
    """The pinned requirement `torch==...` of a constraints file."""
    for line in constraints.splitlines():
        if line.startswith("torch=="):
            return line.strip()
    raise Stop("constraints.txt has no line for torch: make it again with tools/lock.py.")


def torch_build(wanted, gpu, system):
    """`cpu` or `cuda`: which build of PyTorch this machine should get."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise Stop("TORCH is %r and must be auto, cpu or cuda." % wanted)
    if wanted != "auto":
        return wanted
    return "cuda" if gpu and system == "Linux" else "cpu"


def torch_plan(version, build, system, index, listed):
    """How to install PyTorch: (tool, arguments), where tool is `pip` or `uv`.

    version: the pinned version, without a build name.
    build: `cpu` or `cuda`.
    system: `platform.system()`.
    index: the address of an extra index, or "".
    listed: the versions that pip can see, that index included.
    """
    extra = ["--extra-index-url", index] if index else []
    builds = [v for v in listed if v.split("+")[0] == version]
    if build == "cuda":
        if index:
            return "pip", extra + ["torch==" + version]
        # Three equals signs leave out builds with a name, such as a CPU build beside this one.
        return "pip", ["torch===" + version]
    if version + "+cpu" in builds:
        return "pip", extra + ["torch==%s+cpu" % version]
    if index:
        raise Stop(
            "The index that TORCH_INDEX names has no CPU build of PyTorch %s for this Python: "
            "correct the address (the install page of pytorch.org shows it)." % version
        )
    if system != "Linux":
        return "pip", ["torch==" + version]  # the only build there has no CUDA in it
    # On Linux the plain build brings gigabytes of CUDA and does not start without them. uv knows
    # the address of PyTorch's own index of CPU builds.
    return "uv", ["--torch-backend", "cpu", "--no-deps", "torch==" + version]


NO_CPU_BUILD = (
    "There is no GPU here, and no CPU build of PyTorch %s could be reached: give the address of an "
    "index that has one (make book TORCH_INDEX=..., the install page of pytorch.org shows it), or "
    "accept the CUDA build, several gigabytes, with make book TORCH=cuda."
)


def install_torch(installer, constraints, build, index):
    requirement = torch_pin(constraints)
    version = requirement.split("==")[1]
    system = platform.system()
    present = installed_torch(installer.python)
    if present and present.split("+")[0] == version:
        if build != "cuda" or "+cpu" not in present:
            return
        installer.command(
            [installer.python, "-m", "pip", "uninstall", "-y", "torch"], "Replacing PyTorch"
        )
    listed = installer.listed("torch", index) if build == "cpu" else []
    tool, arguments = torch_plan(version, build, system, index, listed)
    if tool == "pip":
        installer.pip(arguments, "Installing PyTorch")
        return
    installer.pip(["uv"], "Installing uv, which finds PyTorch's CPU build,")
    uv = [installer.python, "-m", "uv", "pip", "install", "--python", installer.python]
    try:
        installer.command(uv + arguments, "Installing PyTorch")
    except Stop:
        raise Stop(NO_CPU_BUILD % version) from None


def installed_torch(python):
    """The version of torch in an environment, or None."""
    code = "from importlib.metadata import version; print(version('torch'))"
    try:
        out = subprocess.check_output([python, "-c", code], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    return out.decode().strip()


# ---------------------------------------------------------------------------- the environment


def key(root):
    """A hash of what the environment is made from."""
    digest = hashlib.sha256()
    for name in ("constraints.txt", "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read())
        digest.update(b"\0")
    return digest.hexdigest()


def read_stamp(venv):
    try:
        with open(os.path.join(venv, STAMP), encoding="utf-8") as file:
            stamp = json.load(file)
        return stamp if isinstance(stamp, dict) else None
    except (OSError, ValueError):
        return None


def state(root, extras, works=None):
    """What `.venv` is: `absent`, `unfinished`, `broken`, `outdated`, `unknown` or `ready`.

    absent: there is none. unfinished: a run was interrupted. broken: its Python does not start, or
    it was moved. unknown: somebody else made it. outdated: made from other pinned versions, or
    without one of the extras.
    """
    venv = os.path.join(root, VENV)
    if not os.path.lexists(venv):
        return "absent"
    if os.path.lexists(os.path.join(venv, UNFINISHED)):
        return "unfinished"
    if not (works or environment_works)(venv):
        return "broken"
    stamp = read_stamp(venv)
    if stamp is None:
        return "unknown"
    if stamp.get("folder") != venv:
        return "broken"
    if stamp.get("key") != key(root) or not set(extras) <= set(stamp.get("extras", [])):
        return "outdated"
    return "ready"


def environment_works(venv):
    """Whether the environment's Python starts and finds the environment's pip."""
    python = python_of(venv)
    if not os.path.exists(python):
        return False
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"
    try:
        return subprocess.call([python, "-c", code], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def python_of(venv):
    folder = "Scripts" if os.name == "nt" else "bin"
    return os.path.join(venv, folder, "python")


@contextlib.contextmanager
def locked(root, echo=print):
    """Only one run at a time makes the environment; a second one waits."""
    os.makedirs(os.path.join(root, STATE), exist_ok=True)
    with open(os.path.join(root, STATE, "lock"), "w") as file:
        try:
            import fcntl
        except ImportError:  # no such thing on Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            echo("Another command is making the environment; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mark_unfinished(venv):
    os.makedirs(venv, exist_ok=True)
    with open(os.path.join(venv, UNFINISHED), "w") as file:
        file.write("tools/bootstrap.py did not finish; the next run begins again\n")


def finish(root, venv, extras):
    """Write the stamp, then take the mark away: never the other way round."""
    temporary = os.path.join(venv, STAMP + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"key": key(root), "extras": sorted(extras), "folder": venv}, file)
    os.replace(temporary, os.path.join(venv, STAMP))
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(venv, UNFINISHED))


def duration(seconds):
    minutes, seconds = divmod(int(round(seconds)), 60)
    return "%d min %d s" % (minutes, seconds) if minutes else "%d s" % seconds


REASONS = {
    "unfinished": "The environment in .venv was left unfinished; it is made again.",
    "broken": "The environment in .venv does not work (moved, or its Python is gone); "
    "it is made again.",
    "outdated": "The pinned versions or the wanted extras changed; .venv is brought up to date.",
    "unknown": ".venv was not made by this project's tools; it is brought to the pinned versions.",
}


def make(root, extras, echo=print, torch="auto", index=""):
    """Bring `.venv` to the pinned versions; return at once when it is."""
    if state(root, extras) == "ready":
        return
    with locked(root, echo):
        before = state(root, extras)
        if before == "ready":  # the run that held the lock made it
            return
        start = time.time()
        venv = os.path.join(root, VENV)
        stamp = read_stamp(venv) or {}
        extras = sorted(set(extras) | set(stamp.get("extras", [])))
        build = torch_build(torch, gpu_present(), platform.system())
        fresh = before in ("absent", "unfinished", "broken")
        if fresh:
            base = find_python()
            check_disk(root, build)
        if before in REASONS:
            echo(REASONS[before])
        if before in ("unfinished", "broken"):
            remove(venv)
        if fresh:
            size = "1.8 GB" if build == "cpu" else "8 GB"
            echo("Making the environment in %s, once: usually 2 to 6 minutes, "
                 "about %s on disk." % (VENV, size))  # fmt: skip
        open(os.path.join(root, STATE, "pip.log"), "w").close()
        mark_unfinished(venv)
        installer = Installer(root, python_of(venv), echo)

        numbers = iter(range(1, 5))
        total = 4 if fresh else 3

        def step(text, action, *arguments):
            echo("  %d/%d %s" % (next(numbers), total, text))
            began = time.time()
            action(*arguments)
            echo("      done, %s" % duration(time.time() - began))

        if fresh:
            step("an empty virtual environment", create, installer, base, venv)
        with open(os.path.join(root, "constraints.txt"), encoding="utf-8") as file:
            constraints = file.read()
        step("PyTorch, %s build" % build.upper(), torch_step, installer, constraints, build, index)
        count = len([line for line in constraints.splitlines() if "==" in line])
        project = ".[%s]" % ",".join(extras)
        step("the other packages, up to %d" % count, installer.pip,
             ["--no-build-isolation", "-e", project], "Installing the packages", True)  # fmt: skip
        step("a look at what was installed", verify, installer, build, echo)
        finish(root, venv, extras)
        echo("The environment is ready (%s); later commands use it as it is."
             % duration(time.time() - start))  # fmt: skip


def remove(venv):
    if os.path.islink(venv) or os.path.isfile(venv):
        os.remove(venv)
    else:
        shutil.rmtree(venv)


def create(installer, base, venv):
    installer.command([base, "-m", "venv", venv], "Making a virtual environment")


def torch_step(installer, constraints, build, index):
    installer.pip(["--upgrade", "pip", "setuptools"], "Updating pip")
    install_torch(installer, constraints, build, index)


def verify(installer, build, echo):
    """The installed packages fit together, and torch and the package can be imported."""
    code = "import icl_lessons, torch; print('GPU' if torch.cuda.is_available() else 'CPU only')"
    installer.command([installer.python, "-m", "pip", "check"], "Checking the packages")
    answer = installer.command([installer.python, "-c", code], "Importing PyTorch")
    if build == "cuda" and "GPU" not in answer:
        echo("      note: PyTorch finds no usable GPU (an old driver?); everything runs on the CPU")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Make the environment .venv.")
    parser.add_argument("--extra", action="append", default=[], help="one more extra to install")
    options = parser.parse_args(arguments)
    try:
        usable = find_python()
        if python_problem(sys.version_info[:2]):
            # Another Python on PATH is of the right age: let it do the work.
            os.execv(usable, [usable, os.path.abspath(__file__)] + (arguments or sys.argv[1:]))
        make(
            ROOT,
            set(EXTRAS) | set(options.extra),
            echo=lambda text: print(text, flush=True),
            torch=os.environ.get("TORCH") or "auto",
            index=os.environ.get("TORCH_INDEX") or "",
        )
    except Stop as stop:
        print("\nThe environment could not be made. %s" % stop, file=sys.stderr)
        return 1
    except PermissionError as error:
        print("\nThe environment could not be made. %s" % explain("permission denied"),
              error.filename or "", file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next run begins again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
