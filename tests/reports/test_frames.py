"""Audits as pandas DataFrames."""

from __future__ import annotations

import pandas as pd
import pytest

from analyzer.reports.frames import FINDINGS, FLOWS, ROWS, findings_frame, flows_frame, rows_frame
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT


@pytest.mark.parametrize("audit", [EXAMPLE, BARE, HOSTILE_AUDIT], ids=["example", "empty", "hostile"])
def test_columns_and_types_do_not_depend_on_the_content(audit: object) -> None:
    for render, columns in ((flows_frame, FLOWS), (findings_frame, FINDINGS), (rows_frame, ROWS)):
        table = render(audit)  # type: ignore[arg-type]
        assert list(table.columns) == list(columns)
        assert [str(kind) for kind in table.dtypes] == list(columns.values())


def test_one_row_for_each_flow_finding_and_row() -> None:
    assert len(flows_frame(EXAMPLE)) == len(EXAMPLE.flows)
    assert len(findings_frame(EXAMPLE)) == len(EXAMPLE.findings)
    assert len(rows_frame(EXAMPLE)) == sum(len(each.rows) for each in EXAMPLE.base_stations)


def test_a_flow() -> None:
    first = flows_frame(EXAMPLE).iloc[0]
    assert first["flow"] == 1
    assert first["rows"] == "i38"
    assert first["first"] == pd.Timestamp("2026-11-22T06:37:01.123456Z")
    assert first["facts"]["version"] == "TLS 1.2"
    assert (first["originator"], first["responder_port"]) == ("10.0.0.2", 3001)


def test_what_is_not_there_is_missing() -> None:
    flows = flows_frame(EXAMPLE)
    assert flows.loc[flows["transport"] == "esp", "responder_port"].isna().all()
    assert findings_frame(EXAMPLE)["base_station"].isna().sum() == 1


def test_the_audit_offers_them_itself() -> None:
    pd.testing.assert_frame_equal(EXAMPLE.rows_frame(), rows_frame(EXAMPLE))
    pd.testing.assert_frame_equal(EXAMPLE.findings_frame(), findings_frame(EXAMPLE))
    assert EXAMPLE.flows_frame()["flow"].tolist() == flows_frame(EXAMPLE)["flow"].tolist()
    assert EXAMPLE.rows_frame().groupby("status", observed=True).size()["present"] == 2
