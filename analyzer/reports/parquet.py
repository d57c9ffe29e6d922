"""The report for data platforms: findings or flows as an Apache Parquet file.

The columns and types are those of :mod:`analyzer.reports.frames`, and pandas reads them back as such. ``facts`` are
JSON text, because they differ between protocols, and severities have no order, because Parquet cannot store one.
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
    """The findings, most severe first, without colours."""
    return b"".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[bytes]:
    """:func:`render` in one piece, because a Parquet file ends with its index."""
    yield encode(FINDINGS, finding_rows(audit))


def flow_pieces(captures: Sequence[CaptureFile], conversations: Conversations) -> Iterator[bytes]:
    """The flows in one piece."""
    yield encode(FLOWS, flow_rows(conversations))


def table(columns: Mapping[str, str], rows: Iterable[Row]) -> pd.DataFrame:
    """The data to write: as in :mod:`analyzer.reports.frames`, but with text that every reader accepts."""
    kinds = {name: TEXT if name == "facts" else kind for name, kind in columns.items()}
    content = frame(kinds, ({name: portable(value) for name, value in row.items()} for row in rows))
    unordered = {name: content[name].cat.as_unordered() for name, kind in kinds.items() if kind == CATEGORY}
    return content.assign(**unordered)


def portable(value: object) -> object:
    """Facts as JSON text; text without lone surrogates, which UTF-8 cannot encode."""
    if isinstance(value, dict):
        return json.dumps(value)
    return escape_text(value) if isinstance(value, str) else value


def encode(columns: Mapping[str, str], rows: Iterable[Row]) -> bytes:
    """A Parquet file; its types do not depend on the content. ``UsageError`` if pyarrow is not installed."""
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
    special = {"facts": pa.string(), "frames": pa.list_(pa.int64())}
    schema = pa.schema([(name, special.get(name) or types[kind]) for name, kind in columns.items()])
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pandas(table(columns, rows), schema, preserve_index=False), file)
    return file.getvalue()
