"""Runs the checks on flows and on the capture. A check that fails becomes a finding, and the others still run."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from analyzer.aggregate import FlowFindings
from analyzer.checks import CHECKS
from analyzer.checks.captures import program_defect
from analyzer.findings import ANY, AuditContext, Check, Finding, Issue, Kind, Scope, to_finding
from analyzer.matching import Match, StationMatches

CACHED_FACTS = 4096
"""Maximum pairs of facts and row for which the checks that may still fire are cached."""

AGGREGATED = frozenset(check.id for check in CHECKS if check.aggregated)
"""Ids of the checks whose findings cover all base stations."""


def run_flow_checks(stations: Iterable[StationMatches]) -> list[Finding]:
    """Run the checks with scope flow on every flow that matches a row."""
    findings = FlowFindings()
    remaining: dict[tuple[int, int], list[Check]] = {}
    """(facts, row), by identity → checks without the pure ones that did not fire."""
    for match in (match for station in stations for match in join_rows(station.matches)):
        facts = match.conversation.dissection.facts
        key = id(facts), id(match.row)
        known = remaining.get(key)
        candidates = flow_checks(match.row.protocol if match.has_row_protocol else ANY) if known is None else known
        still_run = []
        for check in candidates:
            issues = run_guarded(check, match)
            for reporting, issue in issues:
                findings.add(reporting, issue, match)
            if issues or not check.pure:
                still_run.append(check)
        if known is None and facts is not None and len(remaining) < CACHED_FACTS:
            remaining[key] = still_run
    return findings.findings()


def run_capture_checks(context: AuditContext, *, malformed: bool) -> list[Finding]:
    """Run the checks with scope capture: those of kind malformed, on which verdicts depend, or all others."""
    addresses = {matches.station.address: matches.station.addresses for matches in context.stations}
    return [
        to_finding(reporting, issue, addresses=addresses.get(issue.base_station or "", ()))
        for check in CHECKS
        if check.scope is Scope.CAPTURE and (check.kind is Kind.MALFORMED) == malformed
        for reporting, issue in run_guarded(check, context)
    ]


def run_guarded(check: Check, subject: Match | AuditContext) -> list[tuple[Check, Issue]]:
    """Run a check. Returns its issues, each with the check that reports it.

    If the check raises an exception, the issues before it are kept, and a program defect is the last one. Its sentence
    omits the exception's message, which may quote the capture.
    """
    issues = []
    try:
        for issue in check.run(subject):
            issues.append((check, issue))
    except MemoryError:
        raise
    except Exception as error:
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        place = f"{Path(frame.f_code.co_filename).name}:{line}"
        failure = f"Check {check.id} ({check.slug}) failed: {type(error).__name__} at {place}."
        issues.append((program_defect, Issue(failure)))
    return issues


def join_rows(matches: Sequence[Match]) -> Iterable[Match]:
    """The matches, with those of one conversation and one protocol as a single match with all of their rows."""
    joined: dict[tuple[int, str], Match] = {}
    for match in matches:
        key = match.conversation.id, match.row.protocol
        other = joined.get(key)
        joined[key] = replace(match, rows=tuple(dict.fromkeys((*other.rows, *match.rows)))) if other else match
    return joined.values()


@cache
def flow_checks(protocol: str) -> tuple[Check, ...]:
    """The checks for flows whose content is their row's protocol. For :data:`ANY`: whose content is another one."""
    return tuple(check for check in CHECKS if check.scope is Scope.FLOW and check.protocol in (ANY, protocol))
