"""Write constraints.txt: every package of the project and its extras with its exact version.

    .venv/bin/python tools/lock.py            resolve again, from what constraints.txt allows
    .venv/bin/python tools/lock.py --upgrade  resolve again, with the newest versions allowed

The packages are installed into a temporary environment and read off there. Torch is written
without the name of its build (`torch==2.13.0`, never `+cpu`), so that one file serves machines
with and without a GPU, and the packages of the CUDA build are left out for the same reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = """\
# Every package of the project and its extras, pinned. Made by tools/lock.py: do not edit by hand.
# Torch carries no build name, so that this file serves machines with and without a GPU.
"""
# Parts of the CUDA build of torch, which pins them itself.
CUDA = re.compile(r"(nvidia|cuda)[-_].*|triton")


def canonical(name: str) -> str:
    """A distribution's name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(freeze: str) -> list[str]:
    """The lines of constraints.txt from the output of `pip freeze --all`."""
    result = {}
    for line in freeze.splitlines():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line.strip())
        if not match:
            continue  # comments, and the project itself, which is installed from its folder
        name, version = match.groups()
        if canonical(name) == "icl-lessons" or CUDA.fullmatch(canonical(name)):
            continue
        result[canonical(name)] = f"{name}=={version.split('+')[0]}"
    return [result[name] for name in sorted(result)]


def pinned(text: str) -> dict[str, str]:
    """Canonical name -> version of each line of a constraints file."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {canonical(n): v for n, _, v in (line.partition("==") for line in lines if line)}


def requirements(pyproject: dict) -> dict[str, list[str]]:
    """Group -> requirement strings: 'runtime', 'build' and one group for each extra."""
    project = pyproject["project"]
    return {
        "build": pyproject["build-system"]["requires"],
        "runtime": project["dependencies"],
        **project["optional-dependencies"],
    }


def load_bootstrap():
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "tools" / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write constraints.txt.")
    parser.add_argument("--upgrade", action="store_true", help="do not keep the present versions")
    options = parser.parse_args(arguments)
    groups = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    wanted = sorted({line for lines in groups.values() for line in lines})
    keep = []
    if not options.upgrade and CONSTRAINTS.exists():
        keep = ["-c", str(CONSTRAINTS)]
    print(f"resolving {len(wanted)} requirements in a temporary environment ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="icl-lessons-lock-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder) / "bin" / "python")
        pip = [python, "-m", "pip"]
        subprocess.run([*pip, "install", "-q", "--upgrade", "pip", *keep], check=True)
        torch = load_bootstrap().torch_pin(CONSTRAINTS.read_text()) if keep else "torch"
        subprocess.run([*pip, "install", "-q", torch, *keep], check=True)
        subprocess.run([*pip, "install", "-q", *wanted, *keep], check=True)
        subprocess.run([*pip, "check"], check=True)
        freeze = subprocess.run(
            [*pip, "freeze", "--all"], check=True, capture_output=True, text=True
        ).stdout
    lines = pins(freeze)
    CONSTRAINTS.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
