"""Groups of unexpected flows: what is one group, and its pattern."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from analyzer.conversations import Conversation, Endpoint
from analyzer.expected import load
from analyzer.matching import StationMatches, UnexpectedFlow, match_flows
from analyzer.stations import Mode, NamedHosts, Signature, detect_mode, find_stations
from analyzer.stations.signatures import make_signature
from analyzer.timeline import Timeline
from analyzer.unexpected import CROWD, SCANNED_PORTS, Pattern, UnexpectedGroup, group_unexpected
from tests.checks.matches import base_station
from tests.reports.audits import flow
from tests.synthetic import DNS, HTTP, IEC104, OTHER, STATION, TLS, TPE, Traffic

TABLES = load()


def groups(traffic: Traffic, folder: Path) -> tuple[UnexpectedGroup, ...]:
    """The groups of the only base station."""
    conversations = traffic.tcp(STATION, 40000, TPE, 3001, TLS).conversations(folder)
    ((station,), *_) = find_stations(conversations, TABLES, NamedHosts((STATION,)))
    mode = detect_mode(station, TABLES)
    return group_unexpected([match_flows(station, mode, TABLES, {TPE}, conversations, Timeline([]))])


def patterns(traffic: Traffic, folder: Path) -> list[Pattern]:
    return [group.pattern for group in groups(traffic, folder)]


def test_flows_of_one_peer_and_service_are_one_group(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 1, OTHER, 80, HTTP).tcp(STATION, 2, OTHER, 80, HTTP)
    traffic.tcp(STATION, 3, OTHER, 81, HTTP).tcp(STATION, 4, "192.0.2.81", 80, HTTP).tcp(OTHER, 5, STATION, 80, HTTP)
    assert [(group.peers, group.ports, group.inbound, group.flow_count) for group in groups(traffic, tmp_path)] == [
        ((OTHER,), (80,), False, 2),
        ((OTHER,), (81,), False, 1),
        (("192.0.2.81",), (80,), False, 1),
        ((OTHER,), (80,), True, 1),
    ]


def test_a_group_has_one_pattern(tmp_path: Path) -> None:
    traffic = (
        Traffic().tcp(STATION, 1, OTHER, 80, HTTP).tcp(OTHER, 2, STATION, 80, HTTP).tcp(STATION, 3, TPE, 2404, IEC104)
    )
    traffic.udp(STATION, 5353, "224.0.0.251", 5353, (">", DNS[0]))
    assert patterns(traffic, tmp_path) == [
        *(Pattern.OUTBOUND, Pattern.INBOUND, Pattern.OTHER_MODE, Pattern.NAME_DISCOVERY),
    ]


def test_name_discovery_at_a_public_address_is_no_discovery_on_the_link(tmp_path: Path) -> None:
    assert patterns(Traffic().udp(STATION, 5353, "8.8.8.8", 5353, (">", b"x")), tmp_path) == [Pattern.OUTBOUND]


@pytest.mark.parametrize(("ports", "expected"), [(SCANNED_PORTS, 1), (SCANNED_PORTS - 1, SCANNED_PORTS - 1)])
def test_unanswered_ports_of_one_host_are_a_scan(tmp_path: Path, ports: int, expected: int) -> None:
    traffic = Traffic()
    for port in range(6000, 6000 + ports):
        traffic.syn(OTHER, 50000, STATION, port, reset=True)
    found = groups(traffic.tcp(OTHER, 50001, STATION, 7000, HTTP), tmp_path)
    assert len(found) == expected + 1
    assert (found[0].pattern is Pattern.SCAN) == (expected == 1)
    assert found[-1].pattern is Pattern.INBOUND and found[-1].answered, "an answered port stays apart"


def test_a_scan_that_begins_with_a_row_of_another_mode_names_the_row(tmp_path: Path) -> None:
    traffic = Traffic()
    for port in (2404, 6000, 6001, 6002, 6003):
        traffic.syn(STATION, 50000, OTHER, port)
    (group,) = groups(traffic, tmp_path)
    assert group.pattern is Pattern.SCAN
    assert group.other_mode is not None and group.other_mode.id == "i6"


@pytest.mark.parametrize("peers", [CROWD - 1, CROWD])
def test_unanswered_peers_of_one_service_are_a_crowd(peers: int) -> None:
    conversations = [
        flow(number + 1, Endpoint(f"192.0.2.{number}", 9), Endpoint(STATION, 9)) for number in range(peers)
    ]
    silent = [conversation._replace(payload=(0, 0)) for conversation in conversations]
    assert len(group_unexpected([unexpected(silent)])) == (1 if peers == CROWD else peers)
    assert len(group_unexpected([unexpected(conversations)])) == peers, "answered"


def unexpected(conversations: Sequence[Conversation], *signatures: Signature) -> StationMatches:
    """A base station in mode tls with nothing but unexpected flows."""
    flows = tuple(UnexpectedFlow(one, one.originator.address != STATION, None, None) for one in conversations)
    mode = Mode("tls", (), (), signatures)
    return StationMatches(base_station(STATION), mode, TABLES["tls"].flows, (), flows, Timeline([]))


def test_the_time_to_group_is_linear_in_the_peers() -> None:
    """20,000 peers at which the station opens a row of another mode: seconds, where a table per group takes minutes."""
    row = TABLES["plain"].flow("i6")
    ends = (Endpoint(f"10.9.{number >> 8}.{number & 255}", 2404) for number in range(20_000))
    conversations = [flow(number, Endpoint(STATION, 40000), end) for number, end in enumerate(ends, 1)]
    signatures = [
        make_signature(row, conversation, STATION, conversation.responder.address) for conversation in conversations
    ]
    matches = unexpected(conversations, *signatures)
    began = time.process_time()
    found = group_unexpected([matches])
    assert time.process_time() - began < 5
    assert len(found) == 20_000 and all(group.other_mode is row for group in found)
