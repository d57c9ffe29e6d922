"""Times and durations in reports."""

from __future__ import annotations

import pytest

from analyzer.reports.times import iso, span

START = 1_795_329_420_123_456_789


@pytest.mark.parametrize(
    ("time", "digits", "expected"),
    [
        (START, 9, "2026-11-22T06:37:00.123456789Z"),
        (START, 6, "2026-11-22T06:37:00.123456Z"),
        (START, 3, "2026-11-22T06:37:00.123Z"),
        (START, 0, "2026-11-22T06:37:00Z"),
        (0, 6, "1970-01-01T00:00:00.000000Z"),
        (-1, 9, "1969-12-31T23:59:59.999999999Z"),
        (2**63 - 1, 9, "2262-04-11T23:47:16.854775807Z"),
        (1_709_208_000_000_000_000, 0, "2024-02-29T12:00:00Z"),
    ],
)
def test_iso(time: int, digits: int, expected: str) -> None:
    assert iso(time, digits) == expected


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "0 s"),
        (1_500_000, "0.0015 s"),
        (9_994_000_000, "9.99 s"),
        (59_900_000_000, "59 s"),
        (60_000_000_000, "1 min 0 s"),
        (3_600_000_000_000, "1 h 0 min"),
        (90_061_000_000_000, "1 d 1 h"),
    ],
)
def test_span(nanoseconds: int, expected: str) -> None:
    assert span(nanoseconds) == expected
