"""The catalogue of checks, findings and fingerprints, and display filters."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer import checks
from analyzer.conversations import Endpoint
from analyzer.findings import (
    Check,
    Issue,
    Kind,
    Scope,
    Severity,
    fingerprints,
    flow_filter,
    frames_filter,
    sections,
    severities,
    to_finding,
)
from analyzer.heads import Frame
from analyzer.matching import Match
from analyzer.stations import Station
from tests import samples
from tests.reports.audits import finding, flow
from tests.synthetic import OTHER, SSH, STATION, TLS, TPE, Traffic, findings_of

FIRED_BY_CAPTURES = {
    "TPE005", "TPE101", "TPE102", "TPE103", "TPE111", "TPE112", "TPE121", "TPE122", "TPE132", "TPE133", "TPE201",
    "TPE202", "TPE203", "TPE211", "TPE224", "TPE245", "TPE261", "TPE264", "TPE269", "TPE271", "TPE274", "TPE277",
}  # fmt: skip
"""Checks that fire in at least one recorded capture."""


def modules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(checks.__path__, "analyzer.checks.")]


@pytest.mark.parametrize("name", modules())
def test_every_check_is_listed(name: str) -> None:
    defined = {value for value in vars(importlib.import_module(name)).values() if isinstance(value, Check)}
    assert defined <= set(checks.CHECKS), "defined, but not listed"


def test_ids_and_slugs_are_unique() -> None:
    assert len({check.id for check in checks.CHECKS}) == len(checks.CHECKS)
    assert len({check.slug for check in checks.CHECKS}) == len(checks.CHECKS)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_check_has_id_slug_and_documentation(check: Check) -> None:
    assert re.fullmatch(r"TPE\d{3}", check.id)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", check.slug)
    documentation = sections(check)
    assert list(documentation) == ["flags", "severity", "why", "evidence", "remedy"]
    for heading, text in documentation.items():
        assert text.endswith("."), heading
        assert text.isprintable()
    assert not re.search(r"[.!?] [A-Z]", documentation["remedy"]), "a remedy is one sentence"
    assert documentation["remedy"][0].isupper()


@pytest.mark.parametrize("check", checks.CHECKS[:3], ids=lambda check: check.id)
def test_find_check_by_id_or_slug(check: Check) -> None:
    assert checks.find(check.id) is checks.find(check.id.lower()) is checks.find(check.slug.upper()) is check
    assert checks.find("TPE999") is None


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_documentation_lists_the_severity_of_the_declaration(check: Check) -> None:
    assert check.severity in severities(check)


def test_findings_have_a_severity_that_their_check_lists() -> None:
    for name in samples.names():
        for reported in samples.audit_of(name).findings:
            check = checks.find(reported.check)
            assert check is not None and reported.severity in severities(check), (name, reported.check)


def test_findings_of_recorded_captures() -> None:
    findings = [reported for name in samples.names() for reported in samples.audit_of(name).findings]
    for reported in findings:
        assert reported.summary.endswith(".") and reported.summary.isprintable()
        assert reported.count >= 1
        assert list(reported.frames) == sorted(set(reported.frames))
    fired = {reported.check for reported in findings}
    assert FIRED_BY_CAPTURES <= fired <= {check.id for check in checks.CHECKS}


def test_names_of_severities_and_kinds_in_reports() -> None:
    assert [str(severity) for severity in Severity] == ["info", "low", "medium", "high"]
    assert [kind.value for kind in Kind] == ["unexpected", "missing", "malformed", "notice"]


# -- display filters --------------------------------------------------------------------------------------------


def test_frames_filter() -> None:
    assert frames_filter([Frame(0, 7)]) == "frame.number == 7"
    assert frames_filter([Frame(0, 7), Frame(0, 9)]) == "frame.number in {7, 9}"
    assert frames_filter([Frame(1, 7), Frame(2, 9)]) == "frame.number == 7"


@pytest.mark.parametrize(
    ("ends", "transport", "expected"),
    [
        (("10.0.0.2", 4000, "10.0.9.1", 22), "tcp", "ip.addr == 10.0.0.2 && ip.addr == 10.0.9.1 && tcp.port == 22"),
        (("fd00::2", 4000, "fd00::1", 53), "udp", "ipv6.addr == fd00::2 && ipv6.addr == fd00::1 && udp.port == 53"),
        (("10.0.0.2", None, "10.0.9.1", None), "esp", "ip.addr == 10.0.0.2 && ip.addr == 10.0.9.1 && esp"),
        (("10.0.0.2", None, "10.0.9.1", None), "ip-47", "ip.addr == 10.0.0.2 && ip.addr == 10.0.9.1 && ip.proto == 47"),
        (("fd00::2", None, "fd00::1", None), "ip-47", "ipv6.addr == fd00::2 && ipv6.addr == fd00::1 && ipv6.nxt == 47"),
    ],
)
def test_flow_filter(ends: tuple[str, int | None, str, int | None], transport: str, expected: str) -> None:
    assert flow_filter(flow(1, Endpoint(*ends[:2]), Endpoint(*ends[2:]), transport)) == expected


# -- findings ---------------------------------------------------------------------------------------------------

CAPTURE_CHECK = next(check for check in checks.CHECKS if check.scope is Scope.CAPTURE)


def test_finding_cites_each_frame_once() -> None:
    by_conversations = to_finding(CAPTURE_CHECK, Issue("Text.", conversations=(flow(1), flow(1), flow(2)))).frames
    assert len(by_conversations) == len(set(by_conversations)) > 0
    by_frames = to_finding(CAPTURE_CHECK, Issue("Text.", frames=(Frame(0, 3), Frame(0, 3), Frame(0, 1)))).frames
    assert by_frames == (Frame(0, 1), Frame(0, 3))


def test_check_without_docstring_has_no_remedy() -> None:
    """As under ``python -OO``, which strips docstrings."""
    stripped = replace(CAPTURE_CHECK, run=lambda context: iter(()))
    assert to_finding(stripped, Issue("Text.")).remedy == ""


STATION_V6 = "2001:db8::2"
ATTACKERS = ("2001:db8:bad::1", "2001:db8:bad::2")


def dual_stack(traffic: Traffic) -> Traffic:
    """A base station in mode tls by IPv4, which the attackers reach by IPv6."""
    traffic.tcp(STATION, 40000, TPE, 3001, TLS)
    for attacker in ATTACKERS:
        traffic.tcp(attacker, 50000, STATION_V6, 22, SSH)
    return traffic


def test_peer_is_never_another_address_of_the_base_station(tmp_path: Path) -> None:
    """Otherwise findings about different attackers have the same fingerprint."""
    mac = "70:76:ff:00:aa:10"
    result = dual_stack(Traffic({STATION: mac, STATION_V6: mac})).audit(tmp_path)
    (station,) = result.base_stations
    assert station.station.addresses == (STATION, STATION_V6)
    inbound = findings_of(result, "TPE102")
    assert [(unexpected.base_station, unexpected.peer) for unexpected in inbound] == [
        (STATION, peer) for peer in ATTACKERS
    ]
    names = fingerprints(result.findings)
    assert len({name.partition(":")[0] for name in names}) == len(names)


def test_peer_of_a_flow_check_is_never_another_address_of_the_base_station() -> None:
    station = Station(STATION, (STATION, STATION_V6), None, True, ())
    conversation = flow(1, Endpoint(TPE, 500), Endpoint(STATION_V6, 500), "udp")
    check = next(check for check in checks.CHECKS if check.scope is Scope.FLOW)
    assert to_finding(check, Issue("Text."), Match(station, conversation, ())).peer == TPE


@pytest.mark.parametrize(
    ("ends", "peer", "service"),
    [
        ([(STATION, TPE, 22)], TPE, "tcp/22"),
        ([(TPE, STATION, 22)], TPE, "tcp/22"),
        ([(STATION, TPE, 22), (STATION, TPE, 23)], TPE, "tcp"),
        ([(STATION, TPE, 22), (STATION, OTHER, 22)], None, "tcp/22"),
        ([], None, None),
    ],
)
def test_peer_and_service_are_those_that_all_flows_share(
    ends: list[tuple[str, str, int]], peer: str | None, service: str | None
) -> None:
    conversations = tuple(
        flow(number, Endpoint(originator, 40000), Endpoint(responder, port))
        for number, (originator, responder, port) in enumerate(ends, 1)
    )
    issue = Issue("Text.", base_station=STATION, conversations=conversations)
    result = to_finding(CAPTURE_CHECK, issue, addresses=(STATION,))
    assert (result.peer, result.service) == (peer, service)


def test_fingerprint_depends_on_the_subject_only() -> None:
    one = finding()
    assert fingerprints([one]) == fingerprints([finding(frames=(Frame(0, 99),), time=1, flow=7, count=3, summary="X.")])
    others = [finding(check="TPE302"), finding(base_station=None), finding(peer=None), finding(service="tcp")]
    others.append(finding(rows=("i39",)))
    assert len(set(fingerprints([one, *others]))) == 6
    first, second, third = fingerprints([one, one, one])
    assert (second, third) == (f"{first}:2", f"{first}:3")
