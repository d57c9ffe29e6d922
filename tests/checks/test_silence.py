"""Every check is silent on at least one recorded capture in which it has something to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from analyzer import Audit
from analyzer.checks import CHECKS
from analyzer.expected import Deployment, Requirement
from analyzer.findings import ANY, Check, Kind, Scope
from analyzer.messages import Facts
from analyzer.protocols.dhcp import DhcpFacts
from analyzer.protocols.dns import DnsFacts
from analyzer.protocols.http import HttpFacts
from analyzer.protocols.icmp import IcmpFacts
from analyzer.protocols.ike import IkeFacts
from analyzer.protocols.ntp import NtpFacts
from analyzer.protocols.tls import TlsFacts
from analyzer.scanner.fragments import FRAGMENTED
from analyzer.stations import UNKNOWN, carries_esp
from analyzer.verdicts import RowVerdict
from tests import samples


def rows(audit: Audit) -> Iterator[RowVerdict]:
    return (row for verdict in audit.base_stations for row in verdict.rows)


def has_packets(audit: Audit) -> bool:
    return audit.totals.packets > 0


def has_base_station(audit: Audit) -> bool:
    return bool(audit.base_stations)


def has_known_mode(audit: Audit) -> bool:
    return any(verdict.mode != UNKNOWN for verdict in audit.base_stations)


def has_named_host(audit: Audit) -> bool:
    return any(verdict.station.named for verdict in audit.base_stations)


def has_fragments(audit: Audit) -> bool:
    return any(FRAGMENTED in conversation.notes for conversation in audit.conversations)


def has_pcapng(audit: Audit) -> bool:
    return any(capture.format == "pcapng" for capture in audit.captures)


def has_unexpected_flow(audit: Audit) -> bool:
    return any(finding.kind is Kind.UNEXPECTED for finding in audit.findings)


def has_required_row(audit: Audit) -> bool:
    return any(row.requirement is Requirement.MUST for row in rows(audit))


def has_flow_of_required_row(audit: Audit) -> bool:
    return any(row.requirement is Requirement.MUST and row.flows for row in rows(audit))


def has_standalone_tpe(audit: Audit) -> bool:
    return audit.deployment is Deployment.STANDALONE and any(verdict.tpe for verdict in audit.base_stations)


def has_esp(audit: Audit) -> bool:
    return any(map(carries_esp, audit.conversations))


def has_facts(kind: type[Facts], holds: Callable[[Any], bool] = lambda facts: True) -> Callable[[Audit], bool]:
    """Whether a conversation has facts of a protocol for which a condition holds."""

    def condition(audit: Audit) -> bool:
        found = (conversation.dissection.facts for conversation in audit.conversations)
        return any(isinstance(facts, kind) and holds(facts) for facts in found)

    return condition


PRECONDITIONS: dict[str, Callable[[Audit], bool]] = {
    "damaged-capture": has_packets,
    "one-sided-capture": has_packets,
    "strangers": has_base_station,
    "contested-base-station": has_base_station,
    "tpe-address-unanswered": has_facts(DnsFacts, lambda facts: facts.answers),
    "translated-addresses": has_base_station,
    "time-not-watched": has_packets,
    "unreadable-packets": has_packets,
    "cut-packets": has_packets,
    "empty-capture": has_packets,
    "no-base-station": has_packets,
    "named-host-unseen": has_named_host,
    "captured-twice": has_packets,
    "overlapping-fragments": has_fragments,
    "incomplete-datagrams": has_fragments,
    "flows-folded": has_packets,
    "lost-packets": has_pcapng,
    "embedded-secrets": has_pcapng,
    "unknown-blocks": has_pcapng,
    "keys-used": has_facts(TlsFacts, lambda facts: facts.certificates_hidden),
    "content-not-read": has_packets,
    "base-stations-not-judged": has_base_station,
    "program-defect": has_packets,
    "unexpected-outbound": has_unexpected_flow,
    "unexpected-inbound": has_unexpected_flow,
    "port-scan": has_unexpected_flow,
    "other-modes-flow": has_unexpected_flow,
    "name-discovery": has_unexpected_flow,
    "forwarded-flows": has_base_station,
    "bytes-beside-the-packet": has_base_station,
    "frames-without-ip": has_base_station,
    "unreadable-frames-of-base-station": has_base_station,
    "headless-fragments": has_fragments,
    "unfounded-icmp-errors": has_facts(IcmpFacts),
    "missing-flow": has_required_row,
    "blocked-flow": has_flow_of_required_row,
    "preamble": has_base_station,
    "mixed-modes": has_known_mode,
    "mode-unknown": has_base_station,
    "several-tpe": has_standalone_tpe,
    "inside-the-tunnel": has_esp,
    "ike-proposal-not-seen": has_facts(IkeFacts),
    "esp-chosen-proposal-not-allowed": has_facts(IkeFacts, lambda facts: any(sa.children for sa in facts._sas)),
    "esp-proposal-offered-not-allowed": has_facts(IkeFacts, lambda facts: any(sa.children for sa in facts._sas)),
    "icmp-tunnel-spread": has_facts(IcmpFacts, lambda facts: (facts.largest_payload or 0) >= 32),
    "dns-over-tcp": has_facts(DnsFacts),
    "dns-tunnel-names": has_facts(DnsFacts, lambda facts: facts.queries),
    "dns-tunnel-records": has_facts(DnsFacts, lambda facts: facts.answers),
    "dns-tunnel-options": has_facts(DnsFacts, lambda facts: facts.answers),
    "ntp-tunnel": has_facts(NtpFacts),
    "dhcp-tunnel": has_facts(DhcpFacts, lambda facts: facts.servers),
    "dhcp-rival-servers": has_facts(DhcpFacts, lambda facts: facts.servers),
    "http-credentials-in-clear": has_facts(HttpFacts),
}
"""What a capture must hold so that a check of scope capture has something to look at, by slug."""

WITH_KEYS = {
    "esp-chosen-proposal-not-allowed": "ike-mobike-unsupported",
    "esp-proposal-offered-not-allowed": "ike-mobike-unsupported",
}
"""Checks of messages that only tshark decrypts → a check that fires, with keys, on a capture with such messages."""


@cache
def read_protocols(name: str) -> frozenset[str]:
    """The protocols of rows whose flows have that protocol's content: checks of these protocols run on the capture."""
    audit = samples.audit_of(name)
    conversations = {conversation.id: conversation for conversation in audit.conversations}
    found = set()
    for row in rows(audit):
        for conversation in (conversations[flow] for flow in row.flows if flow in conversations):
            found.add(ANY)
            esp = row.row.protocol == "esp" and carries_esp(conversation)
            if conversation.protocol == row.row.protocol or esp:
                found.add(row.row.protocol)
    return frozenset(found)


def audits(check: Check) -> Iterator[Audit]:
    """The audits of the recorded captures in which a check has something to look at, each made when asked for."""
    for name in samples.names():
        if check.slug in WITH_KEYS:
            if WITH_KEYS[check.slug] in samples.expectation(name).get("with_keys", {}).get("fires", []):
                yield samples.audit_with_keys(name)
        elif check.scope is Scope.FLOW:
            if check.protocol in read_protocols(name):
                yield samples.audit_of(name)
        else:
            yield samples.audit_of(name)


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, marks=pytest.mark.tshark if check.slug in WITH_KEYS else ()) for check in CHECKS],
    ids=lambda check: check.slug,
)
def test_check_is_silent_on_a_capture_that_it_applies_to(check: Check) -> None:
    applies = PRECONDITIONS.get(check.slug, has_packets)
    for audit in audits(check):
        if applies(audit) and check.id not in {finding.check for finding in audit.findings}:
            return
    pytest.fail("fires on every capture that holds what the check looks at, or no capture holds it")


def test_every_capture_check_has_a_precondition() -> None:
    assert set(PRECONDITIONS) == {check.slug for check in CHECKS if check.scope is Scope.CAPTURE}
