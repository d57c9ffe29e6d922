"""What is said of pings under row i3."""

from __future__ import annotations

import dataclasses
import random

import pytest

from analyzer.checks import icmp as checks
from analyzer.conversations import IcmpError
from analyzer.findings import Severity
from analyzer.heads import Direction, Frame
from analyzer.matching import Fit
from analyzer.protocols import icmp
from tests.checks.test_ike import TPE, fit_of, judged
from tests.protocols.test_icmp import BACK, IPV4, SENT, echo, head, message

NOISE = random.Random(792)


def fit(*sent: tuple[Direction, bytes], transport: str = "icmp") -> Fit:
    return fit_of(icmp, head(*sent, transport=transport), "i3")


def said(*sent: tuple[Direction, bytes], transport: str = "icmp") -> dict[str, tuple[Severity, str, tuple[int, ...]]]:
    return judged(fit(*sent, transport=transport), checks.CHECKS)


def stamped(sequence: int, size: int = 56) -> bytes:
    """Data as iputils makes it: a time stamp, then a pattern."""
    return sequence.to_bytes(16, "big") + bytes(range(16, size))


def ping(sequence: int, size: int = 56) -> tuple[tuple[Direction, bytes], tuple[Direction, bytes]]:
    data = stamped(sequence, size)
    return (SENT, echo(8, 7, sequence, data)), (BACK, echo(0, 7, sequence, data))


def test_documentation_has_its_four_paragraphs() -> None:
    for check in checks.CHECKS:
        paragraphs = [each.strip() for each in check.documentation.strip().split("\n\n")]
        assert [each.split(":")[0] for each in paragraphs] == ["Flags", "Why", "Evidence", "Remedy"]


def test_pings_are_fine() -> None:
    assert said(*(each for sequence in range(1, 20) for each in ping(sequence))) == {}
    assert said((SENT, echo(128)), (BACK, echo(129)), transport="icmpv6") == {}
    assert said((SENT, echo(8)), (BACK, message(3, 1, bytes(4) + IPV4 + bytes(8)))) == {}


def test_a_ping_without_an_answer_is_not_malformed() -> None:
    assert said((SENT, echo(8)), (SENT, echo(8, sequence=2))) == {}


def test_a_copy_of_each_packet_is_not_malformed() -> None:
    assert said(*(each for sequence in range(1, 6) for each in ping(sequence) for _ in range(2))) == {}


def test_other_queries_are_told() -> None:
    found = said(*ping(1), (SENT, message(13, 0, bytes(16))), (SENT, message(17, 0, bytes(8))))
    assert set(found) == {"TPE241"}
    assert "timestamp-request, address-mask-request" in found["TPE241"][1] and found["TPE241"][2] == (3, 4)


@pytest.mark.parametrize(("direction", "severity"), [(BACK, Severity.HIGH), (SENT, Severity.MEDIUM)])
def test_a_redirect_weighs_most_towards_the_base_station(direction: Direction, severity: Severity) -> None:
    found = said(*ping(1), (direction, message(5, 1, b"\x0a\x00\x00\x01" + IPV4 + bytes(8))))
    assert set(found) == {"TPE242"}
    assert found["TPE242"][0] is severity and "redirect" in found["TPE242"][1]


def test_a_redirect_that_quotes_a_ping_counts_with_its_flow() -> None:
    plain = fit(*ping(1))
    error = IcmpError(5, 1, "10.20.30.1", Frame(0, 9), 0, SENT)
    redirected = dataclasses.replace(plain.conversation, icmp_errors=(error,))
    found = judged(dataclasses.replace(plain, conversation=redirected), checks.CHECKS)
    assert found["TPE242"][0] is Severity.HIGH and found["TPE242"][2] == (9,)


def test_an_unreachable_that_quotes_a_ping_is_no_control() -> None:
    plain = fit(*ping(1))
    error = IcmpError(3, 1, "10.20.30.1", Frame(0, 9), 0, SENT)
    answered = dataclasses.replace(plain.conversation, icmp_errors=(error,))
    assert judged(dataclasses.replace(plain, conversation=answered), checks.CHECKS) == {}


def test_a_reply_nobody_asked_for() -> None:
    found = said(*ping(1), (BACK, echo(0, 7, 99, stamped(99))))
    assert set(found) == {"TPE243"}
    assert "sequence 99" in found["TPE243"][1] and found["TPE243"][2] == (3,)


def test_replies_to_what_lies_before_the_capture_or_past_the_head_are_not_judged() -> None:
    assert said((BACK, echo(0, 7, 1)), *ping(2)) == {}
    longer = fit(*ping(1), (BACK, echo(0, 7, 99)))
    many = dataclasses.replace(longer.conversation, packets=(500, 500))
    assert judged(dataclasses.replace(longer, conversation=many), checks.CHECKS) == {}


@pytest.mark.parametrize("data", [bytes(56), stamped(1)[:40]])
def test_a_reply_with_other_data(data: bytes) -> None:
    found = said((SENT, echo(8, 7, 1, stamped(1))), (BACK, echo(0, 7, 1, data)))
    assert set(found) == {"TPE243"} and found["TPE243"][2] == (1, 2)


def test_a_host_that_pings_itself_is_not_judged() -> None:
    same = fit((SENT, echo(8)), (SENT, echo(0)), (SENT, echo(8, sequence=2)))
    looped = dataclasses.replace(same.conversation, responder=same.conversation.originator)
    assert judged(dataclasses.replace(same, conversation=looped), checks.CHECKS) == {}


def test_large_differing_payloads_are_a_tunnel() -> None:
    sent = [
        (direction, echo(kind, 7, sequence, NOISE.randbytes(NOISE.randrange(200, 900))))
        for sequence in range(1, 8)
        for direction, kind in ((SENT, 8), (BACK, 0))
    ]
    found = said(*sent)
    assert set(found) == {"TPE244"} and found["TPE244"][0] is Severity.MEDIUM


def test_requests_that_carry_ever_other_data_are_a_tunnel_even_if_honestly_returned() -> None:
    sent = []
    for sequence in range(1, 12):
        data = NOISE.randbytes(600)
        sent += [(SENT, echo(8, 7, sequence, data)), (BACK, echo(0, 7, sequence, data))]
    assert set(said(*sent)) == {"TPE244"}


def test_merely_large_pings_are_low() -> None:
    found = said(*ping(1, 256), *ping(2, 256))
    assert found == {}
    large = bytes(2800)
    found = said((SENT, echo(8, data=large)), (BACK, echo(0, data=large)))
    assert set(found) == {"TPE245"} and found["TPE245"][0] is Severity.LOW and "2800" in found["TPE245"][1]


def test_the_station_is_known_from_either_side() -> None:
    swapped = dataclasses.replace(fit(*ping(1), (SENT, message(9, 0, bytes(4)))), station=TPE)
    found = judged(swapped, checks.CHECKS)
    assert found["TPE242"][0] is Severity.HIGH
