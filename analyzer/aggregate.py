"""Findings that are one, and the order in which reports list them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from analyzer import checks
from analyzer.conversations import Conversation
from analyzer.findings import SHOWN, Check, Finding, Issue, frames_filter, only, to_finding
from analyzer.heads import Frame
from analyzer.matching import Match


@dataclass(slots=True)
class Folded:
    """One finding that stands for many."""

    first: Finding
    count: int = 0
    newest: int | None = None

    def add(self, each: Conversation) -> None:
        """Count a conversation, once for all that is said of it."""
        if each.id != self.newest:
            self.newest = each.id
            self.count += each.flow_count

    def finding(self) -> Finding:
        return replace(self.first, count=self.count, summary="More flows show this: too many to tell them one by one.")


def fold(folded: dict[tuple[object, ...], Folded], check: Check, match: Match, remarks: Iterable[Issue]) -> None:
    """Add remarks to the findings that stand for all such."""
    for remark in remarks:
        about = check.id, remark.kind, remark.severity, match.station, match.rows
        if about not in folded:
            folded[about] = Folded(to_finding(check, remark, match))
        folded[about].add(match.conversation)


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """The same defect in several conversations as one finding, with their number and the frames of all."""
    same: dict[tuple[object, ...], list[Finding]] = {}
    for each in findings:
        whose = () if each.check in told_together() else (each.base_station, each.rows)
        same.setdefault((*whose, each.check, each.kind, each.severity, each.summary), []).append(each)
    return [group[0] if len(group) == 1 else merge(group) for group in same.values()]


def merge(group: Sequence[Finding]) -> Finding:
    """One finding for several that say the same; it begins with the first of them."""
    frames = tuple(sorted({frame for each in group for frame in each.frames})[:SHOWN])
    first = min(group, key=lambda each: (each.frames[:1], each.flow or 0))
    count = sum({each.flow: each.count for each in group}.values())
    rows = tuple(dict.fromkeys(row for each in group for row in each.rows))
    stations = len({each.base_station for each in group})
    if stations > 1:
        summary = f"{first.summary.removesuffix('.')}, at {stations} base stations."
        first = replace(first, base_station=None, summary=summary)
    return replace(
        first,
        rows=rows,
        count=count,
        frames=frames,
        filter=frames_filter(frames) if frames else first.filter,
        peer=only(each.peer for each in group),
        service=only(each.service for each in group),
    )


@cache
def told_together() -> frozenset[str]:
    """Ids of the checks of which a finding is about all base stations."""
    return frozenset(check.id for check in checks.CHECKS if check.aggregated)


def report_order(finding: Finding) -> tuple[object, ...]:
    """Most severe first, then by station, check and place in the capture."""
    return (
        -finding.severity,
        finding.base_station is None,
        finding.base_station or "",
        finding.check,
        finding.frames[:1] or (Frame(sys.maxsize, 0),),
        finding.rows,
        finding.summary,
    )
