"""What data platforms read."""

from __future__ import annotations

import builtins
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from analyzer import audit, cli
from analyzer.conversations import Conversations
from analyzer.reports import parquet
from analyzer.reports.frames import FINDINGS, FLOWS, findings_frame, flow_rows, flows_frame, frame
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT


def read(pieces: Iterable[bytes]) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(b"".join(pieces)))


def equal(one: pd.DataFrame, two: pd.DataFrame) -> None:
    """The same columns, types and values; pandas keeps text and categories in ways of its own."""
    assert [str(kind) for kind in one.dtypes] == [str(kind) for kind in two.dtypes]
    for name in one.columns:
        assert [plain(value) for value in one[name]] == [plain(value) for value in two[name]], name


def plain(value: object) -> object:
    """A value that can be compared: missing is ``None``, an array a list."""
    if isinstance(value, (list, np.ndarray)):
        return list(value)
    return None if pd.isna(value) else value  # type: ignore[call-overload]


AUDITS = [EXAMPLE, BARE, audit(samples.capture("mixed-two-base-stations"))]


@pytest.mark.parametrize("audited", AUDITS, ids=["example", "bare", "capture"])
def test_findings_come_back_as_they_are_in_a_notebook(audited: Audit) -> None:
    equal(read(parquet.pieces(audited)), findings_frame(audited))


@pytest.mark.parametrize("audited", AUDITS, ids=["example", "bare", "capture"])
def test_flows_come_back_as_they_are_in_a_notebook(audited: Audit) -> None:
    back = read(parquet.flow_pieces(audited.captures, audited.conversations))
    own = frame(FLOWS, flow_rows(audited.conversations))
    assert [json.loads(said) for said in back.pop("facts")] == json.loads(json.dumps(own.pop("facts").tolist()))
    equal(back, own)


def test_flows_that_were_not_judged_have_the_columns_of_those_that_were() -> None:
    back = read(parquet.flow_pieces(EXAMPLE.captures, EXAMPLE.conversations))
    assert list(back.columns) == list(flows_frame(EXAMPLE).columns)


def test_any_reader_finds_the_types_in_the_file() -> None:
    schema = pyarrow.parquet.read_schema(io.BytesIO(parquet.render(EXAMPLE)))
    assert schema.names == list(FINDINGS)
    assert str(schema.field("time").type) == "timestamp[ns, tz=UTC]"
    assert str(schema.field("count").type) == "int64"


@pytest.mark.parametrize("audited", [HOSTILE_AUDIT, BARE], ids=["hostile", "bare"])
def test_anything_can_be_written(audited: Audit) -> None:
    assert len(read(parquet.pieces(audited))) == len(audited.findings)
    assert len(read(parquet.flow_pieces(audited.captures, audited.conversations))) == len(audited.flows)
    assert read(parquet.flow_pieces((), Conversations(()))).empty


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    target = tmp_path / "flows.parquet"
    path = samples.capture("tls-http-on-3001")
    assert cli.main(["flows", str(path), "--format", "parquet", "--output", str(target)]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "tpe-pcap: the format parquet needs pyarrow: pip install 'tpe-pcap[parquet]'\n")
    assert not target.exists()
