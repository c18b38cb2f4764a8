"""Builds the book for the browser tests: once for all workers, and again only when it changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import yaml


def toc_pages(root: Path) -> list[str]:
    """The pages that the table of contents lists, such as `reference/api`, the first one first."""
    toc = yaml.safe_load((root / "book/_toc.yml").read_text())
    return [toc["root"]] + [c["file"] for part in toc["parts"] for c in part["chapters"]]


def _digest(root: Path) -> str:
    """A fingerprint of everything that the built site depends on."""
    digest = hashlib.sha256()
    inputs = [root / "_config.yml", *(root / "book").rglob("*"), *(root / "icl_lessons").rglob("*")]
    for path in sorted(inputs):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(root)).encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def build_site(root: Path, out: Path) -> Path:
    """Build the book under `out` with warnings as errors and return the folder of its pages.

    Workers that run at the same time wait for the first of them.

    Raises:
        RuntimeError: when the build fails, with the warnings that stopped it.
    """
    out.mkdir(parents=True, exist_ok=True)
    html, stamp = out / "_build/html", out / "built-from"
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = _digest(root)
        if stamp.exists() and stamp.read_text() == digest and html.is_dir():
            return html
        stamp.unlink(missing_ok=True)
        command = [Path(sys.executable).with_name("jupyter-book"), "build", root / "book",
                   "--config", root / "_config.yml", "--path-output", out, "-W", "--keep-going",
                   "--all"]  # fmt: skip
        environment = {**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).splitlines()
            told = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-30:]
            raise RuntimeError("the book does not build:\n" + "\n".join(told))
        stamp.write_text(digest)
    return html
