"""When the capture watched: runs of packets, pauses between them, and steps of the clock.

A run ends where no packet of anybody follows for five minutes, within a file or between two, and where the time stamps
step back. Time between runs is not watched: nothing can be concluded from what it lacks.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analyzer.heads import Frame
from analyzer.scanner.columns import PAUSE, RUN_AFTER_PAUSE, RUN_AFTER_STEP, RUN_OF_FILE

BEGINNING = 10_000_000_000
"""Nanoseconds after a capture's beginning within which packets may be about others from before it."""


class RunKind(enum.IntEnum):
    """Why a run begins."""

    FILE = RUN_OF_FILE
    PAUSE = RUN_AFTER_PAUSE
    STEP = RUN_AFTER_STEP


class Run(NamedTuple):
    """Packets without a pause or a step of the clock between them."""

    start: int
    """Earliest time, nanoseconds since the epoch."""
    end: int
    """Latest time, nanoseconds since the epoch."""
    kind: RunKind
    first_frame: Frame


class Timeline:
    """The runs of all files, and the intervals that they cover together."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = tuple(runs)
        """In the order of reading."""
        self.intervals: tuple[tuple[int, int], ...] = tuple(merge_intervals((run.start, run.end) for run in runs))
        """Watched intervals, ascending, without overlaps; nanoseconds since the epoch."""

    @property
    def end(self) -> int:
        """Latest time; 0 without packets."""
        return self.intervals[-1][1] if self.intervals else 0

    def longest_watched(self, start: int) -> float:
        """Seconds of the longest interval, from ``start`` on."""
        return max((last - max(first, start) for first, last in self.intervals if last >= start), default=0) / 1e9

    def watched_since(self, time: int) -> int:
        """Beginning of the interval that contains a time; the time itself if none does."""
        return next((first for first, last in self.intervals if first <= time <= last), time)

    def begins_near(self, time: int) -> bool:
        """Whether a time is so soon after the beginning of its interval that what came before may explain it."""
        return time - self.watched_since(time) < BEGINNING

    def watched_until(self, time: int) -> int:
        """End of the interval that contains a time; the time itself if none does."""
        return next((last for first, last in self.intervals if first <= time <= last), time)


def merge_intervals(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals without overlaps, ascending. Those less than a pause apart are one: files follow each other."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if merged and first - merged[-1][1] < PAUSE:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged
