"""The terms as data: every measurement they name is declared, and none is named without limits."""

import pytest

from icl_lessons.declare import CLAIMS, EXPERIMENTS
from icl_lessons.mesa_optimization.alignment_terms import (
    DECEPTION,
    TERMS,
    Term,
    deception_table,
    term,
    terms_table,
)
from icl_lessons.mesa_optimization.claims import goal_misgeneralization, pseudo_alignment  # noqa: F401


@pytest.mark.parametrize("one", TERMS, ids=lambda t: t.name)
def test_what_a_term_names_is_declared(one):
    if one.experiment is None:
        assert "No toy here shows this" in one.limit
        return
    assert one.experiment in EXPERIMENTS
    assert set(one.claims) <= set(CLAIMS)
    assert all(CLAIMS[name].paper == "hubinger2019risks" for name in one.claims if "hub" in name)


def test_deception_alone_has_no_measurement():
    assert [t.name for t in TERMS if t.experiment is None] == ["deceptive alignment"]
    assert len(DECEPTION) == 3 and not any(condition.met for condition in DECEPTION)


def test_terms_are_found_by_name():
    assert term("proxy alignment").experiment == "goal_misgeneralization"
    with pytest.raises(ValueError, match="outer alignment"):
        term("wrong")


def test_tables_have_a_row_for_each():
    assert terms_table().count("\n") == len(TERMS) + 1
    assert deception_table().count("| no |") == 3


def test_a_term_without_limits_is_refused():
    how = {"name": "x", "means": "y", "section": "1"}
    with pytest.raises(ValueError, match="limit"):
        Term(**how, experiment=None, claims=(), limit="")
    with pytest.raises(ValueError, match="claims"):
        Term(**how, experiment="outer_and_inner", claims=(), limit="z")
