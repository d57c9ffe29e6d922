"""The Parquet report."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from analyzer import cli
from analyzer.conversations import Conversations
from analyzer.reports import parquet
from analyzer.reports.frames import FINDINGS, FLOWS, findings_frame, flow_rows, flows_frame, frame
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT


def read(pieces: Iterable[bytes]) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(b"".join(pieces)))


def assert_equal(one: pd.DataFrame, two: pd.DataFrame) -> None:
    """Compare columns, types and values; pandas itself compares how text and categories are stored, too."""
    assert [str(kind) for kind in one.dtypes] == [str(kind) for kind in two.dtypes]
    for name in one.columns:
        assert [plain(value) for value in one[name]] == [plain(value) for value in two[name]], name


def plain(value: object) -> object:
    """A comparable value: ``None`` for a missing one, a list for an array."""
    if isinstance(value, (list, np.ndarray)):
        return list(value)
    return None if pd.isna(value) else value  # type: ignore[call-overload]


AUDITS = [EXAMPLE, BARE, samples.audit_of("mixed-two-base-stations")]


@pytest.mark.parametrize("result", AUDITS, ids=["example", "bare", "capture"])
def test_findings_are_read_as_the_same_frame(result: Audit) -> None:
    assert_equal(read(parquet.pieces(result)), findings_frame(result))


@pytest.mark.parametrize("result", AUDITS, ids=["example", "bare", "capture"])
def test_flows_are_read_as_the_same_frame(result: Audit) -> None:
    back = read(parquet.flow_pieces(result.captures, result.conversations))
    own = frame(FLOWS, flow_rows(result.conversations))
    assert list(map(json.loads, back.pop("facts"))) == json.loads(json.dumps(own.pop("facts").tolist()))
    assert_equal(back, own)


def test_flows_without_an_audit_have_the_same_columns() -> None:
    back = read(parquet.flow_pieces(EXAMPLE.captures, EXAMPLE.conversations))
    assert list(back.columns) == list(flows_frame(EXAMPLE).columns)


def test_types_are_in_the_file() -> None:
    schema = pyarrow.parquet.read_schema(io.BytesIO(parquet.render(EXAMPLE)))
    assert schema.names == list(FINDINGS)
    assert str(schema.field("time").type) == "timestamp[ns, tz=UTC]"
    assert str(schema.field("count").type) == "int64"


@pytest.mark.parametrize("result", [HOSTILE_AUDIT, BARE], ids=["hostile", "bare"])
def test_any_text_can_be_written(result: Audit) -> None:
    assert len(read(parquet.pieces(result))) == len(result.findings)
    assert len(read(parquet.flow_pieces(result.captures, result.conversations))) == len(result.flows)
    assert read(parquet.flow_pieces((), Conversations(()))).empty


def test_missing_pyarrow_is_an_error_that_names_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    target = tmp_path / "flows.parquet"
    path = samples.capture("tls-http-on-3001")
    assert cli.main(["flows", str(path), "--format", "parquet", "--output", str(target)]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "tpe-pcap: the format parquet needs pyarrow: pip install 'tpe-pcap[parquet]'\n")
    assert not target.exists()
