"""Checks of DHCP."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from analyzer.checks import dhcp as checks
from analyzer.findings import Check, Scope, Severity
from analyzer.heads import Head
from analyzer.protocols import dhcp
from tests.checks.matches import issues, match_of
from tests.protocols.test_dhcp import ACK, DISCOVER, EXAMPLES, OFFER, REQUEST, head_of, message, offer
from tests.synthetic import STATION, TLS, TPE, Traffic, findings_of

RIVAL_OFFER = OFFER.replace(bytes([54, 4, 10, 20, 30, 2]), bytes([54, 4, 10, 20, 30, 66]))


def issues_of(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return issues(check, match_of(dhcp, head))


FLOW_CHECKS = [check for check in checks.CHECKS if check.scope is Scope.FLOW]


@pytest.mark.parametrize("check", FLOW_CHECKS, ids=lambda check: check.id)
def test_no_issue_with_one_server(check: Check) -> None:
    assert issues_of(check, EXAMPLES[0]) == []
    assert issues_of(check, head_of(message(DISCOVER), offer(OFFER), offer(OFFER))) == []


def test_several_servers() -> None:
    head = head_of(message(DISCOVER), offer(OFFER), offer(RIVAL_OFFER), message(REQUEST), offer(ACK))
    assert issues_of(checks.several_servers, head) == [
        (
            Severity.MEDIUM,
            "Addresses are offered by 2 servers: 10.20.30.2 confirms 10.20.30.10 (router 10.20.30.1, name server "
            "192.168.77.53); 10.20.30.66 offers 10.20.30.10 (router 10.20.30.1, name server 192.168.77.53); "
            "10.20.30.2 won.",
        )
    ]


def test_refusal_names_the_rival_that_offers() -> None:
    refusal = message(bytes.fromhex("35010636040a141e02"), op=2)
    ((_, sentence),) = issues_of(checks.refused, head_of(message(REQUEST), refusal, offer(RIVAL_OFFER)))
    assert sentence.endswith("(DHCPNAK), while 10.20.30.66 offers one.")
    assert "10.20.30.2 refuses" in sentence


def with_relay(data: bytes, giaddr: bytes = bytes([10, 20, 30, 1])) -> bytes:
    return data[:24] + giaddr + data[28:]


def named(data: bytes, server: bytes) -> bytes:
    return data.replace(bytes([54, 4, 10, 20, 30, 2]), bytes([54, 4]) + server)


def test_relay_agent_is_no_second_server() -> None:
    """The relay agent replaces the server identifier by its own address (RFC 5107)."""
    relay = bytes([10, 20, 30, 1])
    to_relay = with_relay(offer(OFFER))
    to_client = with_relay(offer(named(OFFER, relay)))
    assert issues_of(checks.several_servers, head_of(message(DISCOVER), to_relay, to_client)) == []
    without_server = head_of(message(DISCOVER), to_client, offer(RIVAL_OFFER))
    assert len(issues_of(checks.several_servers, without_server)) == 1


def test_rogue_server_does_not_pass_for_relay_agent() -> None:
    rogue = bytes([10, 20, 30, 66])
    other = offer(named(OFFER, rogue))
    other = with_relay(other[:16] + bytes([10, 20, 30, 99]) + other[20:], rogue)
    ((severity, sentence),) = issues_of(checks.several_servers, head_of(message(DISCOVER), offer(OFFER), other))
    assert severity is Severity.MEDIUM and "10.20.30.66" in sentence


def test_server_without_identifier_counts_by_address() -> None:
    unnamed = offer(OFFER.replace(bytes([54, 4, 10, 20, 30, 2]), b""))
    ((_, sentence),) = issues_of(checks.several_servers, head_of(message(DISCOVER), offer(OFFER), unnamed))
    assert "172.16.40.10" in sentence, "the responder of this conversation"
    ((severity, _),) = issues_of(checks.server_unnamed, head_of(message(DISCOVER), unnamed))
    assert severity is Severity.LOW


def test_address_in_use() -> None:
    ((severity, sentence),) = issues_of(checks.address_in_use, head_of(message(bytes.fromhex("350104"))))
    assert severity is Severity.LOW and "DHCPDECLINE" in sentence


def test_static_routes_are_listed() -> None:
    routes = bytes([121, 14, 8, 10, 10, 20, 30, 66, 24, 192, 0, 2, 10, 20, 30, 66])
    ((severity, sentence),) = issues_of(checks.static_routes, head_of(message(DISCOVER), offer(OFFER + routes)))
    assert severity is Severity.LOW
    assert "10.0.0.0/8 by 10.20.30.66, 192.0.2.0/24 by 10.20.30.66." in sentence


def test_request_to_another_server_is_no_offer() -> None:
    elsewhere = REQUEST.replace(bytes([10, 20, 30, 2]), bytes([10, 20, 30, 9]))
    assert issues_of(checks.several_servers, head_of(message(DISCOVER), offer(OFFER), message(elsewhere))) == []


def test_refused() -> None:
    refusal = message(bytes.fromhex("35010636040a141e02"), op=2)
    ((severity, _),) = issues_of(checks.refused, head_of(message(REQUEST), refusal))
    assert severity is Severity.LOW


def test_plain_bootp() -> None:
    ((severity, _),) = issues_of(checks.plain_bootp, EXAMPLES[2])
    assert severity is Severity.LOW


def options_of(sizes: dict[int, int], seed: int) -> bytes:
    noise = random.Random(seed)
    return bytes([53, 1, 8]) + b"".join(bytes([code, size]) + noise.randbytes(size) for code, size in sizes.items())


@pytest.mark.parametrize("sizes", [{224: 250, 225: 250}, {12: 100, 60: 200}])
@pytest.mark.parametrize("server", ["203.0.113.66", "255.255.255.255"])
def test_options_that_carry_data_are_a_tunnel(tmp_path: Path, sizes: dict[int, int], server: str) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS)
    for number in range(20):
        traffic.udp(STATION, 68, server, 67, (">", message(options_of(sizes, number))))
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE348")
    assert finding.severity is Severity.MEDIUM and server in finding.summary


def test_repeated_options_are_no_tunnel(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS)
    for _ in range(60):
        traffic.udp(STATION, 68, "10.0.0.1", 67, (">", message(options_of({43: 200, 60: 100, 224: 40}, 1))))
    assert findings_of(traffic.audit(tmp_path), "TPE348") == []
