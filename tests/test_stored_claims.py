"""The stored ledger, which the page of all claims shows, is what checking gives today."""

import dataclasses

import pytest
from typer.testing import CliRunner

from icl_lessons import ledger
from icl_lessons.cli import app
from icl_lessons.declare import CLAIMS, Evidence, Verdict, claim
from icl_lessons.ledger import collect_claims, run_claims, store_claims, stored_claims

# Remarks that are right for one layer only [literature: sections 1.2 and 1.8].
IDENTITIES_IN_PART = {
    "vonoswald2023-query-as-key",
    "vonoswald2023-same-slot-copy",
    "vonoswald2023-causal-copying",
}
AGAIN = "make the stored ledger again with: icl-lessons claims --store"


def test_every_claim_is_stored_as_it_is_declared_and_has_the_verdict_that_checking_gives():
    stored = {record.id: record for record in stored_claims()[0]}
    assert set(stored) == set(collect_claims()), AGAIN
    for now in run_claims():
        kept = stored[now.id]
        assert kept.verdict == now.verdict, f"{now.id}: {AGAIN}, and read its chapter"
        for field in ("paper", "where", "kind", "says", "chapter", "unit", "comparison"):
            assert getattr(kept, field) == getattr(now, field), f"{now.id}, {field}: {AGAIN}"
        if now.kind == "identity":
            in_part = now.id in IDENTITIES_IN_PART
            assert now.verdict == (Verdict.IN_PART if in_part else Verdict.HOLDS), now
            assert (0 <= now.measured <= 1e-10) != in_part, now
        elif now.measured == now.measured:
            assert kept.measured == pytest.approx(now.measured, rel=0.1, abs=0.02), now.id


@pytest.fixture
def one_claim(tmp_path, monkeypatch):
    """A course with a single claim, and an empty folder for what is stored."""
    collect_claims()
    kept = dict(CLAIMS)
    CLAIMS.clear()

    @claim(
        "narcissus2020-echo",
        paper="narcissus2020",
        where="Theorem 1",
        kind="experiment",
        says="What is said comes back.",
        chapter="room/echo",
    )
    def comes_back(scale):
        return Evidence(measured=float("nan"), bound=1.0, unit="words", reported=2.0)

    monkeypatch.setattr(ledger, "STORED_RESULTS", tmp_path)
    yield tmp_path
    CLAIMS.clear()
    CLAIMS.update(kept)


def test_what_is_stored_comes_back(one_claim):
    (record,) = store_claims(one_claim)
    (again,), made_with = stored_claims(one_claim)
    assert record.verdict == again.verdict == Verdict.OPEN
    assert again.measured != again.measured and again.reported == 2.0
    named = [field.name for field in dataclasses.fields(record) if field.name != "measured"]
    assert all(getattr(record, name) == getattr(again, name) for name in named)
    assert {"torch", "device", "date"} <= set(made_with)


def test_nothing_stored_says_how_to_make_it(one_claim):
    with pytest.raises(FileNotFoundError, match="icl-lessons claims --store"):
        stored_claims(one_claim)


def test_the_command_stores_all_claims_or_none(one_claim):
    done = CliRunner().invoke(app, ["claims", "--store", "--kind", "identity"])
    assert isinstance(done.exception, ValueError) and not list(one_claim.iterdir())


def test_a_page_can_show_the_stored_records_of_its_chapter(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda page: shown.append(page.data))
    chapter = "gradient_descent/one_layer_one_step"
    ledger.show_claims(chapter=chapter, stored=True)
    records, _ = stored_claims()
    for record in records:
        assert (record.id in shown[0]) == (record.chapter == chapter), record.id
    with pytest.raises(ValueError, match="scale: got paper; the stored records"):
        ledger.show_claims(scale="paper", stored=True)
