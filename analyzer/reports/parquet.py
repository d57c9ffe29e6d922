"""The report for data platforms: the findings, or the flows, as an Apache Parquet file.

The columns and their types are those of the frames, as which pandas reads them back. ``facts`` are JSON text, for they
differ from protocol to protocol, and severities have no order, for Parquet keeps none.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversations
from analyzer.expected import UsageError
from analyzer.reports.frames import (
    CATEGORY,
    FINDINGS,
    FLOWS,
    NUMBER,
    TEXT,
    TIME,
    Row,
    finding_rows,
    flow_rows,
    frame,
)
from analyzer.safetext import escape_text

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.result import Audit


def render(audit: Audit, colour: bool = False) -> bytes:
    """The findings, most severe first; there are no colours."""
    return b"".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[bytes]:
    """:func:`render` in one piece: a Parquet file's index stands at its end."""
    yield written(FINDINGS, finding_rows(audit))


def flow_pieces(captures: Sequence[CaptureFile], conversations: Conversations) -> Iterator[bytes]:
    """The flows, in one piece."""
    yield written(FLOWS, flow_rows(conversations))


def table(columns: Mapping[str, str], rows: Iterable[Row]) -> pd.DataFrame:
    """The frame that is written: as those of :mod:`analyzer.reports.frames`, with text that any reader can hold."""
    kinds = {name: TEXT if name == "facts" else kind for name, kind in columns.items()}
    content = frame(kinds, ({name: plain(value) for name, value in row.items()} for row in rows))
    unordered = {name: content[name].cat.as_unordered() for name, kind in kinds.items() if kind == CATEGORY}
    return content.assign(**unordered)


def plain(value: object) -> object:
    """Facts as JSON; text without lone surrogates, which UTF-8 has not."""
    if isinstance(value, dict):
        return json.dumps(value)
    return escape_text(value) if isinstance(value, str) else value


def written(columns: Mapping[str, str], rows: Iterable[Row]) -> bytes:
    """A Parquet file, whose types do not depend on its content; ``UsageError`` if pyarrow is not there."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError("the format parquet needs pyarrow: pip install 'tpe-pcap[parquet]'") from None
    types = {
        TIME: pa.timestamp("ns", "UTC"),
        CATEGORY: pa.dictionary(pa.int32(), pa.string()),
        NUMBER: pa.int64(),
        TEXT: pa.string(),
    }
    own = {"facts": pa.string(), "frames": pa.list_(pa.int64())}
    schema = pa.schema([(name, own.get(name) or types[kind]) for name, kind in columns.items()])
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pandas(table(columns, rows), schema, preserve_index=False), file)
    return file.getvalue()
