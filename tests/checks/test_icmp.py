"""Checks of ICMP, and what the scanner keeps so that they see every unusual ping."""

from __future__ import annotations

import dataclasses
import random
import struct
from pathlib import Path

import pytest

from analyzer import audit
from analyzer.checks import icmp as checks
from analyzer.conversations import IcmpError
from analyzer.findings import Kind, Scope, Severity
from analyzer.heads import Direction, Frame
from analyzer.matching import Match
from analyzer.protocols import icmp
from tests import build
from tests.checks import matches
from tests.checks.matches import issues_by_check, match_of
from tests.protocols.test_icmp import BACK, IPV4, SENT, echo, head, message
from tests.synthetic import IEC104, OTHER, STATION, TLS, TPE, Traffic, findings_of, statuses

NOISE = random.Random(792)
FLOW_CHECKS = tuple(check for check in checks.CHECKS if check.scope is Scope.FLOW)


def match(*sent: tuple[Direction, bytes], transport: str = "icmp") -> Match:
    return match_of(icmp, head(*sent, transport=transport), "i3")


def issues_of(
    *sent: tuple[Direction, bytes], transport: str = "icmp"
) -> dict[str, tuple[Severity, str, tuple[int, ...]]]:
    return issues_by_check(match(*sent, transport=transport), FLOW_CHECKS)


def stamped(sequence: int, size: int = 56) -> bytes:
    """The data of iputils: a time stamp, then a pattern."""
    return sequence.to_bytes(16, "big") + bytes(range(16, size))


def ping(sequence: int, size: int = 56) -> tuple[tuple[Direction, bytes], tuple[Direction, bytes]]:
    data = stamped(sequence, size)
    return (SENT, echo(8, 7, sequence, data)), (BACK, echo(0, 7, sequence, data))


def test_no_issue_with_pings_and_errors() -> None:
    assert issues_of(*(packet for sequence in range(1, 20) for packet in ping(sequence))) == {}
    assert issues_of((SENT, echo(128)), (BACK, echo(129)), transport="icmpv6") == {}
    assert issues_of((SENT, echo(8)), (BACK, message(3, 1, bytes(4) + IPV4 + bytes(8)))) == {}


def test_unanswered_ping_is_no_issue() -> None:
    assert issues_of((SENT, echo(8)), (SENT, echo(8, sequence=2))) == {}


def test_copied_packets_are_no_issue() -> None:
    assert issues_of(*(packet for sequence in range(1, 6) for packet in ping(sequence) for _ in range(2))) == {}


def test_not_echo() -> None:
    found = issues_of(*ping(1), (SENT, message(13, 0, bytes(16))), (SENT, message(17, 0, bytes(8))))
    assert set(found) == {"TPE241"}
    assert "timestamp-request, address-mask-request" in found["TPE241"][1] and found["TPE241"][2] == (3, 4)


@pytest.mark.parametrize(("direction", "severity"), [(BACK, Severity.HIGH), (SENT, Severity.MEDIUM)])
def test_redirect_is_high_towards_base_station(direction: Direction, severity: Severity) -> None:
    found = issues_of(*ping(1), (direction, message(5, 1, b"\x0a\x00\x00\x01" + IPV4 + bytes(8))))
    assert set(found) == {"TPE242"}
    assert found["TPE242"][0] is severity and "redirect, which leads to 10.0.0.1." in found["TPE242"][1]


def test_redirect_that_quotes_the_flow() -> None:
    plain = match(*ping(1))
    error = IcmpError(5, 1, "10.20.30.1", Frame(0, 9), 0, SENT)
    redirected = plain.conversation._replace(icmp_errors=(error,))
    found = issues_by_check(dataclasses.replace(plain, conversation=redirected), FLOW_CHECKS)
    assert found["TPE242"][0] is Severity.HIGH and found["TPE242"][2] == (9,)


def test_unreachable_that_quotes_the_flow_is_no_issue() -> None:
    plain = match(*ping(1))
    error = IcmpError(3, 1, "10.20.30.1", Frame(0, 9), 0, SENT)
    answered = plain.conversation._replace(icmp_errors=(error,))
    assert issues_by_check(dataclasses.replace(plain, conversation=answered), FLOW_CHECKS) == {}


def test_reply_without_request() -> None:
    found = issues_of(*ping(1), (BACK, echo(0, 7, 99, stamped(99))))
    assert set(found) == {"TPE243"}
    assert "sequence 99" in found["TPE243"][1] and found["TPE243"][2] == (3,)


def test_reply_whose_request_may_not_be_kept_is_no_issue() -> None:
    assert issues_of((BACK, echo(0, 7, 1)), *ping(2)) == {}
    longer = match(*ping(1), (BACK, echo(0, 7, 99)))
    many = longer.conversation._replace(packets=(500, 500))
    assert issues_by_check(dataclasses.replace(longer, conversation=many), FLOW_CHECKS) == {}


@pytest.mark.parametrize("data", [bytes(56), stamped(1)[:40]])
def test_reply_with_different_data(data: bytes) -> None:
    found = issues_of((SENT, echo(8, 7, 1, stamped(1))), (BACK, echo(0, 7, 1, data)))
    assert set(found) == {"TPE243"} and found["TPE243"][2] == (1, 2)


def test_host_that_pings_itself_is_no_issue() -> None:
    same = match((SENT, echo(8)), (SENT, echo(0)), (SENT, echo(8, sequence=2)))
    looped = same.conversation._replace(responder=same.conversation.originator)
    assert issues_by_check(dataclasses.replace(same, conversation=looped), FLOW_CHECKS) == {}


def test_tunnel_in_replies() -> None:
    sent = [
        (direction, echo(kind, 7, sequence, NOISE.randbytes(NOISE.randrange(200, 900))))
        for sequence in range(1, 8)
        for direction, kind in ((SENT, 8), (BACK, 0))
    ]
    found = issues_of(*sent)
    assert set(found) == {"TPE244"} and found["TPE244"][0] is Severity.MEDIUM


def test_tunnel_in_requests() -> None:
    sent = []
    for sequence in range(1, 12):
        data = NOISE.randbytes(600)
        sent += [(SENT, echo(8, 7, sequence, data)), (BACK, echo(0, 7, sequence, data))]
    assert set(issues_of(*sent)) == {"TPE244"}


def test_large_payload() -> None:
    found = issues_of(*ping(1, 256), *ping(2, 256))
    assert found == {}
    jumbo = bytes(9000)
    found = issues_of((SENT, echo(8, data=jumbo)), (BACK, echo(0, data=jumbo)))
    assert set(found) == {"TPE245"} and found["TPE245"][0] is Severity.MEDIUM
    large = bytes(2800)
    found = issues_of((SENT, echo(8, data=large)), (BACK, echo(0, data=large)))
    assert set(found) == {"TPE245"} and found["TPE245"][0] is Severity.LOW and "2800" in found["TPE245"][1]


def test_control_message_towards_a_responding_base_station() -> None:
    swapped = dataclasses.replace(
        match(*ping(1), (SENT, message(9, 0, bytes(4)))), station=matches.base_station(matches.TPE)
    )
    found = issues_by_check(swapped, FLOW_CHECKS)
    assert found["TPE242"][0] is Severity.HIGH


# -- what the scanner keeps of endless pings must suffice to find a tunnel ---------------------------------------


def pings(number: int, identifier: int, data: bytes) -> list[bytes]:
    """Frames of a request and its reply."""
    request, reply = (
        build.icmp(ends[0], ends[1], kind, struct.pack(">HH", identifier, number) + data)
        for ends, kind in ((("10.0.0.2", "10.0.9.1"), 8), (("10.0.9.1", "10.0.0.2"), 0))
    )
    return [request, reply]


def issues_of_capture(tmp_path: Path, frames: list[bytes]) -> dict[str, str]:
    """Sentences by check about a base station with these frames and a TLS connection."""
    hello = [build.tcp("10.0.0.2", 40000, "10.0.9.1", 3001, 2, 1), build.tcp("10.0.9.1", 3001, "10.0.0.2", 40000, 18)]
    path = tmp_path / "pings.pcap"
    path.write_bytes(build.pcap(build.timed([*hello, *frames], step=build.SECOND)))
    result = audit(path)
    return {finding.check: finding.summary for finding in result.findings if finding.check.startswith("TPE24")}


def test_tunnel_with_equal_lengths(tmp_path: Path) -> None:
    frames = [frame for number in range(40) for frame in pings(number, 7, NOISE.randbytes(600))]
    assert set(issues_of_capture(tmp_path, frames)) == {"TPE244"}


def test_tunnel_after_ordinary_pings(tmp_path: Path) -> None:
    ordinary = [frame for number in range(3) for frame in pings(number, 7, stamped(number))]
    frames = [frame for number in range(3, 40) for frame in pings(number, 7, NOISE.randbytes(600))]
    assert set(issues_of_capture(tmp_path, [*ordinary, *frames])) == {"TPE244"}


def test_tunnel_spread_over_identifiers(tmp_path: Path) -> None:
    """The replies return the data and all lengths are equal: no single flow is suspicious."""
    frames = [frame for number in range(40) for frame in pings(1, number, NOISE.randbytes(600))]
    found = issues_of_capture(tmp_path, frames)
    assert set(found) == {"TPE246"}
    assert "40 requests carry data of their own, 600 bytes" in found["TPE246"]


@pytest.mark.parametrize("size", [56, 120])
def test_tunnel_of_ordinary_size_after_many_ordinary_pings(tmp_path: Path, size: int) -> None:
    ordinary = [frame for number in range(300) for frame in pings(number, 7, stamped(number))]
    frames = [frame for number in range(60) for frame in pings(number + 300, 7, NOISE.randbytes(size))]
    assert set(issues_of_capture(tmp_path, [*ordinary, *frames])) == {"TPE244"}


@pytest.mark.parametrize("size", [56, 120])
def test_tunnel_of_ordinary_size_among_many_alike_flows(tmp_path: Path, size: int) -> None:
    ordinary = [frame for number in range(3000) for frame in pings(1, number, stamped(number))]
    frames = [frame for number in range(60) for frame in pings(1, 3000 + number, NOISE.randbytes(size))]
    found = issues_of_capture(tmp_path, [*ordinary, *frames])
    assert set(found) == {"TPE246"} and "of 3060 flows" in found["TPE246"]


def test_pings_of_many_sizes_and_counters_are_no_tunnel(tmp_path: Path) -> None:
    """A search for the path's MTU, and a tool that counts behind the time stamp."""
    sizes = [frame for number in range(40) for frame in pings(1, number, bytes(range(40 + number)))]
    counted = [frame for n in range(40) for frame in pings(n, 99, bytes(24) + struct.pack(">I", n) + bytes(range(28)))]
    assert issues_of_capture(tmp_path, [*sizes, *counted]) == {}


def test_large_equal_pings_are_no_tunnel(tmp_path: Path) -> None:
    frames = [frame for number in range(40) for frame in pings(1, number, stamped(number, 250))]
    assert issues_of_capture(tmp_path, frames) == {}
    frames = [frame for number in range(40) for frame in pings(number, 7, stamped(number, 250))]
    assert issues_of_capture(tmp_path, frames) == {}


@pytest.mark.parametrize("size", [8, 1300, 6000])
def test_unusual_ping_is_kept_among_many_ordinary_ones(size: int) -> None:
    frames = [frame for number in range(300) for frame in pings(number, 7, bytes(number % 90 + size))]
    other = build.icmp("10.0.0.2", "10.0.9.1", 8, b"\0\x07\0\0" + bytes(20), code=3)
    found = build.conversations([*frames, other, *frames])
    kept = [datagram.data[:2] for conversation in found for datagram in conversation.head.datagrams]
    assert b"\x08\x03" in kept


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("cut_message", [0, 1])
def test_missing_fragment_is_no_issue_of_the_ping(tmp_path: Path, version: int, lost: int, cut_message: int) -> None:
    """The capture lacks the first, middle or last fragment of a large request or its reply."""
    station, tpe = (STATION, TPE) if version == 4 else ("2001:db8::2", "2001:db8:9::1")
    kinds = (8, 0) if version == 4 else (128, 129)
    traffic = Traffic().tcp(station, 40000, tpe, 3001, TLS).echo(station, tpe)
    for number, kind in enumerate(kinds):
        ends = (station, tpe) if number == 0 else (tpe, station)
        whole = build.echo(*ends, kind, 9, bytes(range(256)) * 12)[14:]
        for place, part in enumerate(build.fragments(whole, 1480 if version == 4 else 1448, number + 1)):
            if (number, place) != (cut_message, lost):
                traffic.packets.append((traffic.packets[-1][0] + 0.01, build.ethernet(part)))
    result = traffic.audit(tmp_path)
    assert findings_of(result, "TPE009")[0].severity is (Severity.INFO if lost else Severity.LOW)
    assert not [
        finding
        for finding in result.findings
        if finding.severity >= Severity.MEDIUM and finding.kind is not Kind.MISSING
    ]
    assert statuses(result, station)["i3"] == "present"
    (large,) = findings_of(result, "TPE245")
    assert "up to 3072 bytes of data" in large.summary
    assert sum(flow.packets[0] + flow.packets[1] for flow in result.flows) == len(traffic.packets)


def test_headless_fragments_from_an_unknown_host_are_unexpected(tmp_path: Path) -> None:
    """A sender of later fragments alone may serve a receiver that reads just these."""
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS)
    part = build.fragments(build.udp(STATION, 7, OTHER, 7, bytes(3000))[14:], 1480)[1]
    traffic.packets.append((traffic.packets[-1][0] + 0.01, build.ethernet(part)))
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE108")
    assert OTHER in finding.summary


def test_reply_mismatch_in_the_second_of_two_similar_flows(tmp_path: Path) -> None:
    """Both replies return different data; in the first flow, the difference lies beyond the bytes that are compared."""
    traffic = Traffic().tcp(STATION, 41000, TPE, 2404, IEC104)
    sent = bytes(200)
    for number, returned in ((1, sent[:150] + b"x" + sent[151:]), (2, b"x" + sent[1:])):
        head = struct.pack(">HHH", 0, number, 1)
        traffic.packet(STATION, TPE, 1, b"\x08\0" + head + sent).packet(TPE, STATION, 1, b"\0\0" + head + returned)
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE243")
    assert finding.count == 1


def test_tunnel_in_the_second_of_two_similar_flows(tmp_path: Path) -> None:
    """All requests of both flows differ; those of the first flow in the time stamp alone."""
    traffic = Traffic().tcp(STATION, 41000, TPE, 2404, IEC104)
    for identifier, place in ((1, 0), (2, 30)):
        for number in range(8):
            data = bytes(place) + bytes([number + 1]) + bytes(199 - place)
            traffic.packet(STATION, TPE, 1, b"\x08\0" + struct.pack(">HHH", 0, identifier, number) + data)
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE244")
    assert finding.count == 1
