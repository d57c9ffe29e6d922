"""The tables of expected flows as text and JSON."""

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


def test_golden_text() -> None:
    assert render_text(TABLES) == (GOLDEN / "rules.txt").read_text(encoding="utf-8")


def test_golden_json() -> None:
    golden = (GOLDEN / "rules.json").read_text(encoding="utf-8")
    assert render_json(TABLES).replace(f'"version": "{__version__}"', '"version": "VERSION"') == golden


def test_lines_fit_80_columns() -> None:
    assert max(map(len, render_text(TABLES).splitlines())) <= 80


def test_one_mode() -> None:
    text = render_text(TABLES, "plain")
    assert "i6" in text
    assert "i38" not in text
    assert [table["mode"] for table in json.loads(render_json(TABLES, "plain"))["tables"]] == ["plain"]


def test_unknown_mode_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        render_text(TABLES, "vpn")


def test_differing_requirements_of_deployments_are_shown() -> None:
    first = replace(TABLES["tls"].flows[0], ha=Requirement.OPTIONAL)
    assert "HA: OPTIONAL" in render_text({"tls": ExpectedTable("tls", "One row", (first,))})


def test_json_has_the_origins_of_every_row() -> None:
    rows = [row for table in json.loads(render_json(TABLES))["tables"] for row in table["rows"]]
    assert len(rows) == 37
    assert all(row["origins"]["occurrence"] for row in rows)
    assert next(row for row in rows if row["id"] == "i1")["ports"] == [500, 4500]
