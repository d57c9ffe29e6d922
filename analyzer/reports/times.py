"""Times and durations in reports: UTC, with as many decimals as the capture records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache

import numpy as np

from analyzer.capture import CaptureFile
from analyzer.findings import Finding

EPOCH = date(1970, 1, 1)


def iso(time: int, digits: int) -> str:
    """Nanoseconds since the epoch in ISO 8601 with ``digits`` decimals of a second (RFC 3339)."""
    seconds, fraction = divmod(int(time), 1_000_000_000)
    day, second = divmod(seconds, 86_400)
    text = f"{day_text(day)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"{text}.{fraction:09}"[: len(text) + 1 + digits] + "Z" if digits else text + "Z"


def iso_all(times: Sequence[int], digits: Sequence[int]) -> list[str]:
    """:func:`iso` of many times; ``digits`` are those of each."""
    moments = np.array(times, dtype="datetime64[ns]")
    texts: list[str] = np.datetime_as_string(moments).tolist()
    return [text[: 20 + count] + "Z" if count else text[:19] + "Z" for text, count in zip(texts, digits, strict=True)]


def finding_time(finding: Finding, captures: Sequence[CaptureFile]) -> str | None:
    """The time of a finding with the digits of its first frame's capture, or the most digits if it cites no frame."""
    if finding.time is None:
        return None
    if finding.frames:
        return iso(finding.time, captures[finding.frames[0].capture].digits)
    return iso(finding.time, most_digits(captures))


def most_digits(captures: Sequence[CaptureFile]) -> int:
    """Decimals of a second of the capture that records most of them."""
    return max((capture.digits for capture in captures), default=6)


@lru_cache(maxsize=64)
def day_text(day: int) -> str:
    """A day since the epoch as ``2026-11-22``."""
    return (EPOCH + timedelta(days=day)).isoformat()


def span(nanoseconds: int) -> str:
    """A duration in words: ``4 min 59 s``."""
    seconds = nanoseconds / 1e9
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 10 else f"{int(seconds)} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])
