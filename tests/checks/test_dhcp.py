from __future__ import annotations

import pytest

from analyzer.checks import dhcp as checks
from analyzer.findings import Check, Scope, Severity
from analyzer.heads import Head
from analyzer.protocols import dhcp
from tests.checks.test_ssh import fit_of, remarks
from tests.protocols.test_dhcp import ACK, DISCOVER, EXAMPLES, OFFER, REQUEST, head_of, message, offer

OTHER_OFFER = OFFER.replace(bytes([54, 4, 10, 20, 30, 2]), bytes([54, 4, 10, 20, 30, 66]))


def said(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(dhcp, head))


@pytest.mark.parametrize(
    "check", [each for each in checks.CHECKS if each.scope is Scope.FLOW], ids=lambda check: check.id
)
def test_one_server_is_fine(check: Check) -> None:
    assert said(check, EXAMPLES[0]) == []
    assert said(check, head_of(message(DISCOVER), offer(OFFER), offer(OFFER))) == []


def test_two_servers() -> None:
    head = head_of(message(DISCOVER), offer(OFFER), offer(OTHER_OFFER), message(REQUEST), offer(ACK))
    assert said(checks.several_servers, head) == [
        (Severity.MEDIUM, "Addresses are offered by 2 servers: 10.20.30.2, 10.20.30.66.")
    ]


def with_relay(data: bytes, giaddr: bytes = bytes([10, 20, 30, 1])) -> bytes:
    return data[:24] + giaddr + data[28:]


def named(data: bytes, server: bytes) -> bytes:
    return data.replace(bytes([54, 4, 10, 20, 30, 2]), bytes([54, 4]) + server)


def test_a_relay_agent_in_the_servers_place_is_no_second_server() -> None:
    """RFC 5107: the relay agent writes its own address over the server's."""
    relay = bytes([10, 20, 30, 1])
    at_the_server = with_relay(offer(OFFER))
    at_the_client = with_relay(offer(named(OFFER, relay)))
    assert said(checks.several_servers, head_of(message(DISCOVER), at_the_server, at_the_client)) == []
    alone = head_of(message(DISCOVER), at_the_client, offer(OTHER_OFFER))
    assert len(said(checks.several_servers, alone)) == 1


def test_a_rogue_server_cannot_pass_for_a_relay_agent() -> None:
    rogue = bytes([10, 20, 30, 66])
    other = offer(named(OFFER, rogue))
    other = with_relay(other[:16] + bytes([10, 20, 30, 99]) + other[20:], rogue)
    ((severity, sentence),) = said(checks.several_servers, head_of(message(DISCOVER), offer(OFFER), other))
    assert severity is Severity.MEDIUM and "10.20.30.66" in sentence


def test_a_server_without_a_name_counts_by_its_address() -> None:
    unnamed = offer(OFFER.replace(bytes([54, 4, 10, 20, 30, 2]), b""))
    ((_, sentence),) = said(checks.several_servers, head_of(message(DISCOVER), offer(OFFER), unnamed))
    assert "172.16.40.10" in sentence, "the responder of this conversation"
    ((severity, _),) = said(checks.server_unnamed, head_of(message(DISCOVER), unnamed))
    assert severity is Severity.LOW


def test_a_declined_address() -> None:
    ((severity, sentence),) = said(checks.address_in_use, head_of(message(bytes.fromhex("350104"))))
    assert severity is Severity.LOW and "DHCPDECLINE" in sentence


def test_routes_that_lead_around_a_tunnel() -> None:
    ways = bytes([121, 14, 8, 10, 10, 20, 30, 66, 24, 192, 0, 2, 10, 20, 30, 66])
    ((severity, sentence),) = said(checks.static_routes, head_of(message(DISCOVER), offer(OFFER + ways)))
    assert severity is Severity.LOW
    assert "10.0.0.0/8 by 10.20.30.66, 192.0.2.0/24 by 10.20.30.66." in sentence


def test_a_request_that_names_another_server_offers_nothing() -> None:
    elsewhere = REQUEST.replace(bytes([10, 20, 30, 2]), bytes([10, 20, 30, 9]))
    assert said(checks.several_servers, head_of(message(DISCOVER), offer(OFFER), message(elsewhere))) == []


def test_a_refusal() -> None:
    refusal = message(bytes.fromhex("35010636040a141e02"), op=2)
    ((severity, _),) = said(checks.refused, head_of(message(REQUEST), refusal))
    assert severity is Severity.LOW


def test_plain_bootp() -> None:
    ((severity, _),) = said(checks.plain_bootp, EXAMPLES[2])
    assert severity is Severity.LOW
