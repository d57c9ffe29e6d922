"""Every check, run on the flows and on the capture that it is for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from analyzer import checks
from analyzer.aggregate import Folded, fold
from analyzer.findings import ANY, AuditContext, Check, Finding, Kind, Scope, to_finding
from analyzer.matching import Match, StationMatches
from analyzer.protocols import esp
from analyzer.stations import carries_esp


def content_findings(matched: Iterable[StationMatches]) -> list[Finding]:
    """What the content checks say."""
    found: list[Finding] = []
    folded: dict[tuple[object, ...], Folded] = {}
    loud: dict[tuple[int, int], list[Check]] = {}
    """The checks that are worth asking of conversations that share facts and row."""
    for match in (match for each in matched for match in judged_once(each.matches)):
        facts = match.conversation.dissection.facts
        key = id(facts), id(match.row)
        known = loud.get(key)
        asked: Sequence[Check] = content_checks(match.row.protocol if speaks(match) else ANY)
        speaking = []
        for check in asked if known is None else known:
            remarks = list(check.run(match))
            if len(found) < FINDINGS:
                found += [to_finding(check, remark, match) for remark in remarks]
            else:
                fold(folded, check, match, remarks)
            if remarks or not check.pure:
                speaking.append(check)
        if known is None and facts is not None and len(loud) < REMEMBERED:
            loud[key] = speaking
    return found + [each.finding() for each in folded.values()]


FINDINGS = 1 << 17
"""What the content checks say one by one. Above it, one finding stands for all of one check about one base station."""


REMEMBERED = 4096
"""Facts that are remembered for the checks to which they gave no reason to speak."""


def judged_once(matches: Sequence[Match]) -> Iterable[Match]:
    """The matches, of which those of one conversation with several rows of one protocol are one."""
    asked: dict[tuple[int, str], Match] = {}
    for match in matches:
        key = (match.conversation.id, match.row.protocol)
        before = asked.get(key)
        asked[key] = replace(match, rows=tuple(dict.fromkeys((*before.rows, *match.rows)))) if before else match
    return asked.values()


@cache
def content_checks(protocol: str) -> tuple[Check, ...]:
    """The checks to ask of a conversation whose content is a row's protocol; for :data:`ANY`: is not."""
    return tuple(check for check in checks.CHECKS if check.scope is Scope.FLOW and check.protocol in (ANY, protocol))


def case_findings(context: AuditContext, malformed: bool) -> list[Finding]:
    """What the case checks say: those of malformed rows, on which a row's status depends, or all others."""
    return [
        to_finding(check, found)
        for check in checks.CHECKS
        if check.scope is Scope.CAPTURE and (check.kind is Kind.MALFORMED) == malformed
        for found in check.run(context)
    ]


def speaks(match: Match) -> bool:
    """The conversation's content is the protocol of its row."""
    wanted = match.row.protocol
    return match.conversation.protocol == wanted or (wanted == esp.NAME and carries_esp(match.conversation))
