"""Merging of findings that report the same defect, limits on their number, and the order in which reports list them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.findings import MAX_FRAMES, Check, Finding, Issue, Kind, Severity, common_value, frames_filter, to_finding
from analyzer.heads import Frame
from analyzer.matching import Match

MAX_FINDINGS = 1 << 17
"""Maximum findings about single flows (0.8 kB each, 106 MB together). A flood of malformed flows makes more: these
become one finding per check and base station."""


class FlowFindings:
    """The findings about single flows, of which those beyond :data:`MAX_FINDINGS` are counted only."""

    def __init__(self) -> None:
        self.single: list[Finding] = []
        self.summaries: dict[tuple[object, ...], Summary] = {}

    def add(self, check: Check, issue: Issue, match: Match) -> None:
        """Add the issue that a check reports about a flow."""
        if len(self.single) < MAX_FINDINGS:
            self.single.append(to_finding(check, issue, match))
            return
        subject = check.id, issue.kind, issue.severity, match.station.address, match.rows
        if subject not in self.summaries:
            self.summaries[subject] = Summary(to_finding(check, issue, match))
        self.summaries[subject].count_flows(match.conversation)

    def findings(self) -> list[Finding]:
        """All findings, in the order in which they were added; the summaries last."""
        return self.single + [summary.finding() for summary in self.summaries.values()]


@dataclass(slots=True)
class Summary:
    """One finding for all flows in which a check reports the same kind of issue."""

    first: Finding
    flows: int = 0
    last_conversation: int | None = None
    """Id of the conversation that was counted last."""

    def count_flows(self, conversation: Conversation) -> None:
        """Count the flows of a conversation, once for all of its issues."""
        if conversation.id != self.last_conversation:
            self.last_conversation = conversation.id
            self.flows += conversation.flow_count

    def finding(self) -> Finding:
        return replace(self.first, count=self.flows, summary="More flows show this: too many to tell them one by one.")


def merge_equal(findings: Iterable[Finding], aggregated: Collection[str]) -> list[Finding]:
    """Merge findings that differ only in their flows, in the order of the first of each group.

    ``aggregated`` are the ids of the checks whose findings are merged across base stations and rows.
    """
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        subject = () if finding.check in aggregated else (finding.base_station, finding.rows)
        key = (*subject, finding.check, finding.kind, finding.severity, finding.summary)
        groups.setdefault(key, []).append(finding)
    return [group[0] if len(group) == 1 else merge(group) for group in groups.values()]


def merge(group: Sequence[Finding]) -> Finding:
    """One finding with the first flow of a group, the number of all flows and the first frames of all."""
    frames = tuple(sorted({frame for finding in group for frame in finding.frames})[:MAX_FRAMES])
    first = min(group, key=lambda finding: (finding.frames[:1], finding.flow or 0))
    stations = len({finding.base_station for finding in group})
    if stations > 1:
        summary = f"{first.summary.removesuffix('.')}, at {stations} base stations."
        first = replace(first, base_station=None, summary=summary)
    return replace(
        first,
        rows=tuple(dict.fromkeys(row for finding in group for row in finding.rows)),
        count=sum({finding.flow: finding.count for finding in group}.values()),
        frames=frames,
        filter=frames_filter(frames) if frames else first.filter,
        peer=common_value(finding.peer for finding in group),
        service=common_value(finding.service for finding in group),
    )


def malformed_flows(findings: Iterable[Finding]) -> dict[str, dict[str, set[int]]]:
    """Address of a base station → row id → flows with a finding of kind malformed and severity medium or above."""
    flows: dict[str, dict[str, set[int]]] = {}
    for finding in findings:
        if finding.kind is Kind.MALFORMED and finding.severity >= Severity.MEDIUM and finding.flow is not None:
            by_row = flows.setdefault(finding.base_station or "", {})
            for row in finding.rows:
                by_row.setdefault(row, set()).add(finding.flow)
    return flows


def in_report_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, highest first; then by base station, check and place in the capture."""
    return tuple(sorted(findings, key=report_order))


def report_order(finding: Finding) -> tuple[object, ...]:
    """Sort key of a finding. Findings about the capture follow those about base stations."""
    return (
        -finding.severity,
        finding.base_station is None,
        finding.base_station or "",
        finding.check,
        finding.frames[:1] or (Frame(sys.maxsize, 0),),
        finding.rows,
        finding.summary,
    )
