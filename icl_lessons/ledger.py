"""Collects what the rooms declare, runs it, and makes its tables."""

import dataclasses
import html
import importlib
import importlib.util
import json
import math
import os
import pkgutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import icl_lessons
from icl_lessons.declare import (
    CLAIMS,
    EXPERIMENTS,
    IDENTITY_BOUND,
    KINDS,
    Claim,
    Experiment,
    Verdict,
    error_size,
)
from icl_lessons.runtime import Scale, check_choice, provenance, write_whole
from icl_lessons.runtime import device as choose_device
from icl_lessons.zoo import RECIPES, Recipe

VERDICT_CLASSES = {
    Verdict.HOLDS: "verdict-holds",
    Verdict.IN_PART: "verdict-in-part",
    Verdict.FAILS: "verdict-fails",
    Verdict.OPEN: "verdict-open",
}
STORED_RESULTS = Path(__file__).parent / "results"


def _import_declarations() -> None:
    """Import ``claims`` and ``experiments`` of every room there is, with all their modules."""
    for room in pkgutil.iter_modules(icl_lessons.__path__, "icl_lessons."):
        if room.ispkg:
            for kind in ("experiments", "claims"):
                if importlib.util.find_spec(f"{room.name}.{kind}") is None:
                    continue
                declarations = importlib.import_module(f"{room.name}.{kind}")
                path = getattr(declarations, "__path__", ())
                for module in pkgutil.iter_modules(path, f"{declarations.__name__}."):
                    importlib.import_module(module.name)


def collect_claims() -> dict[str, Claim]:
    """Every declared claim by id, in the order of their chapters' rooms."""
    _import_declarations()
    return dict(CLAIMS)


def collect_experiments() -> dict[str, Experiment]:
    """Every declared experiment by name."""
    _import_declarations()
    return dict(EXPERIMENTS)


def collect_recipes() -> dict[str, Recipe]:
    """Every recipe of stored weights by name."""
    _import_declarations()
    return dict(RECIPES)


@dataclass(frozen=True)
class ClaimRecord:
    """One line of the ledger: the claim, what was measured, and the verdict.

    ``bound`` is compared with ``measured`` as ``comparison`` says; ``reported`` is the paper's own
    figure or ``None``; ``seconds`` is how long the check took here.
    """

    id: str
    paper: str
    where: str
    kind: str
    says: str
    chapter: str
    scale: str
    measured: float
    bound: float
    reported: float | None
    unit: str
    verdict: str
    seconds: float
    comparison: str
    note: str


def run_claim(claim: Claim, scale: Scale | str = Scale.LESSON) -> ClaimRecord:
    """Check one claim now."""
    start = time.perf_counter()
    evidence = claim.check(Scale(scale))
    seconds = time.perf_counter() - start
    if claim.kind == "identity" and evidence.comparison == "at least":
        raise ValueError(f"comparison: the error of the identity {claim.id!r} needs an upper bound")
    if claim.kind == "identity" and not evidence.bound <= IDENTITY_BOUND:
        raise ValueError(
            f"bound: the identity {claim.id!r} is held to {evidence.bound}, not {IDENTITY_BOUND}"
        )
    return ClaimRecord(
        claim.id,
        claim.paper,
        claim.where,
        claim.kind,
        claim.says,
        claim.chapter,
        str(Scale(scale)),
        float(evidence.measured),
        float(evidence.bound),
        None if evidence.reported is None else float(evidence.reported),
        evidence.unit,
        evidence.verdict,
        round(seconds, 3),
        evidence.comparison,
        evidence.note,
    )


def run_claims(
    scale: Scale | str = Scale.LESSON,
    *,
    paper: str | None = None,
    kind: str | None = None,
    chapter: str | None = None,
) -> list[ClaimRecord]:
    """Check the claims, all or those of one paper, kind or chapter.

    Raises:
        ValueError: a scale or kind that does not exist, a paper or chapter without claims.
    """
    check_choice("scale", str(scale), tuple(map(str, Scale)))
    claims = collect_claims()
    if kind is not None:
        check_choice("kind", kind, KINDS)
        claims = {key: value for key, value in claims.items() if value.kind == kind}
    for name, wanted in (("paper", paper), ("chapter", chapter)):
        if wanted is not None:
            known = {getattr(claim, name) for claim in collect_claims().values()}
            check_choice(name, wanted, tuple(sorted(known)))
            claims = {k: claim for k, claim in claims.items() if getattr(claim, name) == wanted}
    return [run_claim(claim, scale) for claim in claims.values()]


STORED_CLAIMS = "claims.lesson.json"


def store_claims(folder: Path = STORED_RESULTS) -> list[ClaimRecord]:
    """Check every claim at lesson scale and keep the records with the package.

    The page *Every claim, checked* shows them: to check all of them takes longer than a page may.
    """
    records = run_claims(Scale.LESSON)
    kept = {"provenance": provenance(), "claims": [asdict(record) for record in records]}
    text = json.dumps(_plain(kept), indent=1, ensure_ascii=False)
    write_whole(folder / STORED_CLAIMS, text + "\n")
    return records


def stored_claims(folder: Path = STORED_RESULTS) -> tuple[list[ClaimRecord], dict[str, str]]:
    """The records kept by :func:`store_claims`, and with what they were made.

    Raises:
        FileNotFoundError: there are none; the message says how to make them.
    """
    path = folder / STORED_CLAIMS
    if not path.exists():
        raise FileNotFoundError("no stored claims; make them with: icl-lessons claims --store")
    kept = json.loads(path.read_text(encoding="utf-8"))
    numbers = ("measured", "bound")  # what JSON cannot hold comes back as NaN
    records = [
        ClaimRecord(**{k: math.nan if v is None and k in numbers else v for k, v in row.items()})
        for row in kept["claims"]
    ]
    return records, kept["provenance"]


def claims_json(records: Iterable[ClaimRecord]) -> str:
    """The records as JSON; a figure that is not a number becomes ``null``."""
    return json.dumps([_plain(asdict(record)) for record in records], indent=2, ensure_ascii=False)


def number(value: float | None) -> str:
    """A bound, or what a paper reports, as the tables print it: three significant digits."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not measured"
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.1e}"
    return f"{float(f'{value:.3g}'):g}"


def measured_figure(record: ClaimRecord) -> str:
    """What was measured, as the tables print it; of a rounding error what it stays under.

    Of an identity 0 too is rounding error.
    """
    value = record.measured
    if abs(value) < 1e-10 and (value != 0 or record.kind == "identity"):
        return error_size(value)
    return number(value)


def claims_table_html(records: Iterable[ClaimRecord], *, up_to: str = "..") -> str:
    """The ledger as an HTML table for the book.

    Args:
        up_to: relative path from the page to the book's root, for the links to chapters.
    """
    rows = []
    for record in records:
        sign = {"at most": "≤", "at least": "≥", "within": "±"}[record.comparison]
        link = f'<a href="{up_to}/{record.chapter}.html"><code>{html.escape(record.id)}</code></a>'
        source = html.escape(f"{record.kind} · {record.paper}, {record.where}")
        note = f"<small>{html.escape(record.note)}</small>" if record.note else ""
        cells = {
            "Claim": f"<p>{html.escape(record.says)}</p>{note}<small>{link} · {source}</small>",
            "Measured here": f"{html.escape(measured_figure(record))} "
            f"<small>{html.escape(record.unit)}</small>",
            "Held to": f"{sign} {number(record.bound)}",
            "Paper reports": number(record.reported),
            "Verdict": f'<span class="verdict {VERDICT_CLASSES[record.verdict]}">'
            f"{html.escape(record.verdict)}</span>",
        }
        row = "".join(f'<td data-title="{title}">{cell}</td>' for title, cell in cells.items())
        rows.append(f"<tr>{row}</tr>")
    head = ("Claim", "Measured here", "Held to", "Paper reports", "Verdict")
    return (
        '<table class="ledger"><thead><tr>'
        + "".join(f'<th scope="col">{title}</th>' for title in head)
        + "</tr></thead><tbody>"
        + "".join(rows)
        + "</tbody></table>"
    )


def show_claims(
    *,
    chapter: str | None = None,
    scale: Scale | str = Scale.LESSON,
    stored: bool = False,
    up_to: str = "..",
) -> None:
    """Display claims as a table, in a notebook.

    Args:
        chapter: only those that belong to it.
        scale: at which they are checked.
        stored: show the lesson-scale records of :func:`store_claims` instead of checking now, for
            chapters whose checks together take longer than a page may.
        up_to: the way from the page to the root of the book.

    Raises:
        ValueError: stored records of another scale than the lesson's.
    """
    from IPython.display import HTML, display

    if not stored:
        records = run_claims(scale, chapter=chapter)
    elif Scale(scale) is not Scale.LESSON:
        raise ValueError(f"scale: got {scale}; the stored records are those of 'lesson'")
    else:
        kept, _ = stored_claims()
        records = [record for record in kept if chapter in (None, record.chapter)]
    display(HTML(claims_table_html(records, up_to=up_to)))


# --- experiments --------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Dataclasses, arrays and tensors as what JSON knows; NaN as null.

    A dataclass field with ``metadata={"stored": False}`` is left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.metadata.get("stored", True)
        }
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


@dataclass(frozen=True)
class Record:
    """A finished experiment: its result, and all that is needed to make it again."""

    experiment: str
    scale: str
    config: Any
    result: Any
    provenance: dict[str, str]
    seconds: float

    def json(self) -> str:
        """The record as JSON, numbers to seven digits."""
        return json.dumps(_plain(self), ensure_ascii=False)


def run_experiment(
    name: str,
    scale: Scale | str = Scale.LESSON,
    *,
    device: str | None = None,
    out: str | os.PathLike | None = None,
    seeds: tuple[int, ...] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Record:
    """Run a declared experiment and, if asked, write its record and figure.

    Args:
        name: as declared.
        scale: ``"lesson"`` or ``"paper"``.
        device: as :func:`icl_lessons.runtime.device`.
        out: a folder, made if absent, for ``NAME.SCALE.json`` and ``NAME.SCALE.svg``; it is
            tried before the run, so that hours of work are not lost to a mistyped path.
        seeds: in place of the configuration's.
        changes: other fields of the configuration, by name, such as the ``model`` of a study of
            language models.

    Raises:
        ValueError: a name, scale, device or field that does not exist, or a folder that cannot be
            used.
    """
    experiments = collect_experiments()
    check_choice("name", name, tuple(experiments))
    check_choice("scale", str(scale), tuple(map(str, Scale)))
    on = choose_device(device)
    if out is not None:
        out = Path(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=out):
                pass
        except OSError as error:
            raise ValueError(f"out: cannot write to {str(out)!r} ({error.strerror})") from None
    declared = experiments[name]
    config = dataclasses.replace(declared.configs[Scale(scale)], device=str(on))
    if seeds is not None:
        config = dataclasses.replace(config, seeds=tuple(seeds))
    known = [field.name for field in dataclasses.fields(config)]
    if unknown := [name for name in changes or {} if name not in known]:
        raise ValueError(f"{unknown[0]}: {name!r} has no such setting; it has {', '.join(known)}")
    if changes:
        config = dataclasses.replace(config, **changes)
    start = time.perf_counter()
    result = declared.run.__wrapped__(config)  # now, whatever was run before
    record = Record(
        name,
        str(Scale(scale)),
        config,
        result,
        provenance(on),
        round(time.perf_counter() - start, 2),
    )
    if out is not None:
        import matplotlib.pyplot as plt

        from icl_lessons.figures import save, use_style

        write_whole(out / f"{name}.{scale}.json", record.json() + "\n")
        with plt.rc_context():  # the course's style, for this figure alone
            use_style()
            fig = declared.figure(result)
            save(fig, out / f"{name}.{scale}.svg")
            plt.close(fig)
    return record


def stored_result(name: str, scale: Scale | str = Scale.PAPER) -> dict[str, Any]:
    """A record that was run once and is kept with the package, as plain data.

    Raises:
        FileNotFoundError: no such record; the message says how to make it.
    """
    path = STORED_RESULTS / f"{name}.{scale}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"no stored result for {name!r} at scale {str(scale)!r}; "
            f"make it with: icl-lessons run {name} --scale {scale} --out DIR"
        )
    return json.loads(path.read_text(encoding="utf-8"))
