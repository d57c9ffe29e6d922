"""Whole reports, for tests of properties that hold in every format."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from analyzer import Audit
from analyzer.reports import Format


def rendered(report: Format, audit: Audit) -> str | bytes:
    """The report of an audit; skips the test if the format needs an extra that is not installed."""
    return joined(report, lambda: report.pieces(audit))


def joined(report: Format, pieces: Callable[[], Iterable[str] | Iterable[bytes]]) -> str | bytes:
    """All pieces of a report; skips the test as :func:`rendered` does."""
    try:
        parts: list[str | bytes] = list(pieces())
    except (ImportError, ValueError) as error:
        pytest.skip(f"{report.name}: {error}")
    if parts and isinstance(parts[0], bytes):
        return b"".join(part for part in parts if isinstance(part, bytes))
    return "".join(part for part in parts if isinstance(part, str))
