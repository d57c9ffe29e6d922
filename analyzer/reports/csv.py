"""The report for spreadsheets: findings or flows as comma-separated values (RFC 4180, but with line feeds).

The columns are those of :mod:`analyzer.reports.frames`; ``facts`` are JSON text. All times have as many digits as the
capture with the most.
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
from analyzer.reports.times import iso, most_digits
from analyzer.safetext import escape_text

if TYPE_CHECKING:
    from analyzer.result import Audit

FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001 (spreadsheets take the wide ones, too)
"""Beginnings of cells that spreadsheets evaluate as formulas; such cells get an apostrophe in front."""


def render(audit: Audit, colour: bool = False) -> str:
    """The findings, most severe first, without colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, line by line."""
    return lines(FINDINGS, finding_rows(audit), audit.captures)


def flow_pieces(captures: Sequence[CaptureFile], conversations: Conversations) -> Iterator[str]:
    """The flows, line by line."""
    return lines(FLOWS, flow_rows(conversations), captures)


def lines(columns: Mapping[str, str], rows: Iterable[Row], captures: Sequence[CaptureFile]) -> Iterator[str]:
    """A line with the column names, and one line per row."""
    digits = most_digits(captures)
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")

    def encode(cells: Iterable[object]) -> str:
        line.seek(0)
        line.truncate()
        writer.writerow(cells)
        return line.getvalue()

    yield encode(columns)
    for row in rows:
        yield encode(cell(row[name], kind, digits) for name, kind in columns.items())


def cell(value: object, kind: str, digits: int) -> object:
    """A value as a spreadsheet should show it: never a formula or a control character."""
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
