from __future__ import annotations

import pytest

from analyzer.checks import dhcp as checks
from analyzer.findings import ContentCheck, Severity
from analyzer.heads import Head
from analyzer.protocols import dhcp
from tests.checks.test_ssh import fit_of, remarks
from tests.protocols.test_dhcp import ACK, DISCOVER, EXAMPLES, OFFER, REQUEST, head_of, message, offer

OTHER_OFFER = OFFER.replace(bytes([54, 4, 10, 20, 30, 2]), bytes([54, 4, 10, 20, 30, 66]))


def said(check: ContentCheck, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(dhcp, head))


@pytest.mark.parametrize(
    "check", [each for each in checks.CHECKS if isinstance(each, ContentCheck)], ids=lambda check: check.id
)
def test_one_server_is_fine(check: ContentCheck) -> None:
    assert said(check, EXAMPLES[0]) == []
    assert said(check, head_of(message(DISCOVER), offer(OFFER), offer(OFFER))) == []


def test_two_servers() -> None:
    head = head_of(message(DISCOVER), offer(OFFER), offer(OTHER_OFFER), message(REQUEST), offer(ACK))
    assert said(checks.several_servers, head) == [
        (Severity.MEDIUM, "Addresses are offered by 2 servers: 10.20.30.2, 10.20.30.66.")
    ]


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
