"""The tables as the user sees them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer import __version__
from analyzer.expected import ExpectedTable, Requirement, load
from analyzer.reports.rules import render_json, render_text

GOLDEN = Path(__file__).parents[1] / "golden"
TABLES = load()


def test_the_tables_are_the_golden_ones() -> None:
    assert render_text(TABLES) == (GOLDEN / "rules.txt").read_text(encoding="utf-8")


def test_the_json_is_the_golden_one() -> None:
    golden = (GOLDEN / "rules.json").read_text(encoding="utf-8")
    assert render_json(TABLES).replace(f'"version": "{__version__}"', '"version": "VERSION"') == golden


def test_they_fit_the_terminal() -> None:
    assert max(map(len, render_text(TABLES).splitlines())) <= 80


def test_one_mode_only() -> None:
    shown = render_text(TABLES, "plain")
    assert "i6" in shown
    assert "i38" not in shown
    assert [table["mode"] for table in json.loads(render_json(TABLES, "plain"))["tables"]] == ["plain"]


def test_a_mode_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        render_text(TABLES, "vpn")


def test_deployments_that_differ_are_both_shown() -> None:
    first = replace(TABLES["tls"].flows[0], ha=Requirement.OPTIONAL)
    assert "HA: OPTIONAL" in render_text({"tls": ExpectedTable("tls", "One row", (first,))})


def test_each_row_in_json_has_its_sources() -> None:
    rows = [row for table in json.loads(render_json(TABLES))["tables"] for row in table["rows"]]
    assert len(rows) == 37
    assert all(row["origins"]["occurrence"] for row in rows)
    assert next(row for row in rows if row["id"] == "i1")["ports"] == [500, 4500]
