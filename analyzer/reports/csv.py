"""The report for spreadsheets: the findings, or the flows, as comma-separated values (RFC 4180, with line feeds).

The columns are those of the frames; ``facts`` are JSON text. Times have as many digits as the finest capture.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversations
from analyzer.reports.frames import FINDINGS, FLOWS, TIME, Row, finding_rows, flow_rows
from analyzer.reports.times import iso
from analyzer.safetext import escape_text

if TYPE_CHECKING:
    from analyzer.result import Audit

FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001 (spreadsheets take the wide ones, too)
"""With these a cell begins that spreadsheets compute; text before it keeps them from that."""


def render(audit: Audit, colour: bool = False) -> str:
    """The findings, most severe first; there are no colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, line by line."""
    return lines(FINDINGS, finding_rows(audit), audit.captures)


def flow_pieces(captures: Sequence[CaptureFile], conversations: Conversations) -> Iterator[str]:
    """The flows, line by line."""
    return lines(FLOWS, flow_rows(conversations), captures)


def lines(columns: Mapping[str, str], rows: Iterable[Row], captures: Sequence[CaptureFile]) -> Iterator[str]:
    """A heading, and a line for each row."""
    digits = max((capture.digits for capture in captures), default=6)
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")

    def written(cells: Iterable[object]) -> str:
        line.seek(0)
        line.truncate()
        writer.writerow(cells)
        return line.getvalue()

    yield written(columns)
    for row in rows:
        yield written(cell(row[name], kind, digits) for name, kind in columns.items())


def cell(value: object, kind: str, digits: int) -> object:
    """A value as a spreadsheet should show it: never a formula, never a control character."""
    if value is None:
        return ""
    if kind == TIME and isinstance(value, int):
        return iso(value, digits)
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if not isinstance(value, str):
        return value
    text = escape_text(value)
    return f"'{text}" if text.startswith(FORMULA) else text
