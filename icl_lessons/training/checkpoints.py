"""Checkpoints: one file that is either the old state or the new one, never half of either."""

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from icl_lessons.runtime import provenance

FILE_NAME = "checkpoint.pt"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another run."""


def fingerprint(identity: dict[str, Any]) -> str:
    """A short hash of what makes a run the run it is."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def save_checkpoint(folder: Path, payload: dict[str, Any]) -> None:
    """Write ``payload`` to a file beside the checkpoint, then put it in its place in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".checkpoint-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, folder / FILE_NAME)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_checkpoint(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of this run in ``folder``; ``None`` if there is none.

    Raises:
        CheckpointError: the file cannot be read, or another run wrote it; says what differs.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
        theirs, versions = payload["identity"], payload["versions"]
    except Exception as error:
        raise CheckpointError(
            f"checkpoint_dir: {path} cannot be read as a checkpoint ({type(error).__name__}); "
            "delete it to start again"
        ) from error
    if payload["fingerprint"] != fingerprint(identity):
        keys = sorted(identity.keys() | theirs.keys())
        changes = [
            f"{key} was {theirs.get(key)!r}, now {identity.get(key)!r}"
            for key in keys
            if theirs.get(key) != identity.get(key)
        ]
        raise CheckpointError(
            f"checkpoint_dir: {path} belongs to another run: {'; '.join(changes)}. Use another "
            "folder, or delete the file to start again"
        )
    now = current_versions()
    changed = {name: old for name, old in versions.items() if now.get(name) != old}
    if changed:
        warnings.warn(
            "resuming a checkpoint of other versions, so the last bits of the result may differ: "
            + ", ".join(f"{name} {old} then, {now[name]} now" for name, old in changed.items()),
            stacklevel=3,
        )
    return payload


def current_versions() -> dict[str, str]:
    """The versions on which the last bits of a result depend."""
    known = provenance()
    return {name: known[name] for name in ("icl_lessons", "torch")}
