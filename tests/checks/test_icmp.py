"""What is said of pings under row i3."""

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
from tests.checks.test_ike import TPE, fit_of, judged
from tests.protocols.test_icmp import BACK, IPV4, SENT, echo, head, message
from tests.synthetic import IEC104, OTHER, STATION, TLS, Scene, found, statuses
from tests.synthetic import TPE as TPE_CORE

NOISE = random.Random(792)
CONTENT_CHECKS = tuple(check for check in checks.CHECKS if check.scope is Scope.FLOW)


def fit(*sent: tuple[Direction, bytes], transport: str = "icmp") -> Match:
    return fit_of(icmp, head(*sent, transport=transport), "i3")


def said(*sent: tuple[Direction, bytes], transport: str = "icmp") -> dict[str, tuple[Severity, str, tuple[int, ...]]]:
    return judged(fit(*sent, transport=transport), CONTENT_CHECKS)


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
    assert found["TPE242"][0] is severity and "redirect, which leads to 10.0.0.1." in found["TPE242"][1]


def test_a_redirect_that_quotes_a_ping_counts_with_its_flow() -> None:
    plain = fit(*ping(1))
    error = IcmpError(5, 1, "10.20.30.1", Frame(0, 9), 0, SENT)
    redirected = plain.conversation._replace(icmp_errors=(error,))
    found = judged(dataclasses.replace(plain, conversation=redirected), CONTENT_CHECKS)
    assert found["TPE242"][0] is Severity.HIGH and found["TPE242"][2] == (9,)


def test_an_unreachable_that_quotes_a_ping_is_no_control() -> None:
    plain = fit(*ping(1))
    error = IcmpError(3, 1, "10.20.30.1", Frame(0, 9), 0, SENT)
    answered = plain.conversation._replace(icmp_errors=(error,))
    assert judged(dataclasses.replace(plain, conversation=answered), CONTENT_CHECKS) == {}


def test_a_reply_nobody_asked_for() -> None:
    found = said(*ping(1), (BACK, echo(0, 7, 99, stamped(99))))
    assert set(found) == {"TPE243"}
    assert "sequence 99" in found["TPE243"][1] and found["TPE243"][2] == (3,)


def test_replies_to_what_lies_before_the_capture_or_past_the_head_are_not_judged() -> None:
    assert said((BACK, echo(0, 7, 1)), *ping(2)) == {}
    longer = fit(*ping(1), (BACK, echo(0, 7, 99)))
    many = longer.conversation._replace(packets=(500, 500))
    assert judged(dataclasses.replace(longer, conversation=many), CONTENT_CHECKS) == {}


@pytest.mark.parametrize("data", [bytes(56), stamped(1)[:40]])
def test_a_reply_with_other_data(data: bytes) -> None:
    found = said((SENT, echo(8, 7, 1, stamped(1))), (BACK, echo(0, 7, 1, data)))
    assert set(found) == {"TPE243"} and found["TPE243"][2] == (1, 2)


def test_a_host_that_pings_itself_is_not_judged() -> None:
    same = fit((SENT, echo(8)), (SENT, echo(0)), (SENT, echo(8, sequence=2)))
    looped = same.conversation._replace(responder=same.conversation.originator)
    assert judged(dataclasses.replace(same, conversation=looped), CONTENT_CHECKS) == {}


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
    absurd = bytes(9000)
    found = said((SENT, echo(8, data=absurd)), (BACK, echo(0, data=absurd)))
    assert set(found) == {"TPE245"} and found["TPE245"][0] is Severity.MEDIUM
    large = bytes(2800)
    found = said((SENT, echo(8, data=large)), (BACK, echo(0, data=large)))
    assert set(found) == {"TPE245"} and found["TPE245"][0] is Severity.LOW and "2800" in found["TPE245"][1]


def test_the_station_is_known_from_either_side() -> None:
    swapped = dataclasses.replace(fit(*ping(1), (SENT, message(9, 0, bytes(4)))), station=TPE)
    found = judged(swapped, CONTENT_CHECKS)
    assert found["TPE242"][0] is Severity.HIGH


# -- from the capture on: what is kept of endless pings must suffice to find a tunnel ----------------------------


def pings(number: int, identifier: int, data: bytes) -> list[bytes]:
    asked, returned = (
        build.icmp(ends[0], ends[1], kind, struct.pack(">HH", identifier, number) + data)
        for ends, kind in ((("10.0.0.2", "10.0.9.1"), 8), (("10.0.9.1", "10.0.0.2"), 0))
    )
    return [asked, returned]


def checked(tmp_path: Path, frames: list[bytes]) -> dict[str, str]:
    """What the checks of ICMP say of a base station that also has a TLS connection."""
    hello = [build.tcp("10.0.0.2", 40000, "10.0.9.1", 3001, 2, 1), build.tcp("10.0.9.1", 3001, "10.0.0.2", 40000, 18)]
    path = tmp_path / "pings.pcap"
    path.write_bytes(build.pcap(build.timed([*hello, *frames], step=build.SECOND)))
    result = audit(path)
    return {each.check: each.summary for each in result.findings if each.check.startswith("TPE24")}


def test_a_tunnel_of_pings_of_one_length_is_found_in_a_capture(tmp_path: Path) -> None:
    frames = [frame for number in range(40) for frame in pings(number, 7, NOISE.randbytes(600))]
    assert set(checked(tmp_path, frames)) == {"TPE244"}


def test_a_tunnel_is_found_behind_few_honest_pings(tmp_path: Path) -> None:
    honest = [frame for number in range(3) for frame in pings(number, 7, stamped(number))]
    frames = [frame for number in range(3, 40) for frame in pings(number, 7, NOISE.randbytes(600))]
    assert set(checked(tmp_path, [*honest, *frames])) == {"TPE244"}


def test_a_tunnel_whose_every_ping_has_another_identifier_is_found(tmp_path: Path) -> None:
    """Their replies are honest and their lengths equal: each alone is a ping like any other."""
    frames = [frame for number in range(40) for frame in pings(1, number, NOISE.randbytes(600))]
    found = checked(tmp_path, frames)
    assert set(found) == {"TPE246"}
    assert "40 requests carry ever other data, 600 bytes each" in found["TPE246"]


def test_ordinary_large_pings_are_no_tunnel(tmp_path: Path) -> None:
    frames = [frame for number in range(40) for frame in pings(1, number, stamped(number, 250))]
    assert checked(tmp_path, frames) == {}
    frames = [frame for number in range(40) for frame in pings(number, 7, stamped(number, 250))]
    assert checked(tmp_path, frames) == {}


@pytest.mark.parametrize("size", [8, 1300, 6000])
def test_an_odd_ping_is_seen_behind_any_number_of_others(size: int) -> None:
    """Whatever their lengths, and however large they are."""
    frames = [frame for number in range(300) for frame in pings(number, 7, bytes(number % 90 + size))]
    other = build.icmp("10.0.0.2", "10.0.9.1", 8, b"\0\x07\0\0" + bytes(20), code=3)
    found = build.conversations([*frames, other, *frames])
    kept = [datagram.data[:2] for each in found for datagram in each.head.datagrams]
    assert b"\x08\x03" in kept


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("way", [0, 1])
def test_a_fragment_that_the_capture_lacks_is_nobodys_fault(tmp_path: Path, version: int, lost: int, way: int) -> None:
    """Of a large ping or its reply the first, middle or last fragment was not captured."""
    station, tpe = (STATION, TPE_CORE) if version == 4 else ("2001:db8::2", "2001:db8:9::1")
    kinds = (8, 0) if version == 4 else (128, 129)
    scene = Scene().tcp(station, 40000, tpe, 3001, TLS).echo(station, tpe)
    for number, kind in enumerate(kinds):
        ends = (station, tpe) if number == 0 else (tpe, station)
        whole = build.echo(*ends, kind, 9, bytes(range(256)) * 12)[14:]
        for place, part in enumerate(build.fragments(whole, 1480 if version == 4 else 1448, number + 1)):
            if (number, place) != (way, lost):
                scene.packets.append((scene.packets[-1][0] + 0.01, build.ethernet(part)))
    result = scene.audited(tmp_path)
    assert found(result, "TPE009")[0].severity is (Severity.INFO if lost else Severity.LOW)
    assert not [each for each in result.findings if each.severity >= Severity.MEDIUM and each.kind is not Kind.MISSING]
    assert statuses(result, station)["i3"] == "present"
    (large,) = found(result, "TPE245")
    assert "up to 3072 bytes of data" in large.summary
    assert sum(flow.packets[0] + flow.packets[1] for flow in result.flows) == len(scene.packets)


def test_fragments_without_ports_from_a_host_that_says_nothing_else_are_unexpected(tmp_path: Path) -> None:
    """Whoever sends only later fragments may be talking to a receiver that reads just these."""
    scene = Scene().tcp(STATION, 40000, TPE_CORE, 3001, TLS)
    part = build.fragments(build.udp(STATION, 7, OTHER, 7, bytes(3000))[14:], 1480)[1]
    scene.packets.append((scene.packets[-1][0] + 0.01, build.ethernet(part)))
    (finding,) = found(scene.audited(tmp_path), "TPE101")
    assert OTHER in finding.summary


def test_a_harmless_ping_silences_no_other_one(tmp_path: Path) -> None:
    """Both replies return other data than they were sent; of the first, that lies behind what is looked at."""
    scene = Scene().tcp(STATION, 41000, TPE_CORE, 2404, IEC104)
    sent = bytes(200)
    for number, returned in ((1, sent[:150] + b"x" + sent[151:]), (2, b"x" + sent[1:])):
        head = struct.pack(">HHH", 0, number, 1)
        scene.packet(STATION, TPE_CORE, 1, b"\x08\0" + head + sent).packet(
            TPE_CORE, STATION, 1, b"\0\0" + head + returned
        )
    (finding,) = found(scene.audited(tmp_path), "TPE243")
    assert finding.count == 1


def test_pings_with_time_stamps_hide_no_tunnel(tmp_path: Path) -> None:
    """All requests of both flows differ from each other: of the first in the time stamp alone."""
    scene = Scene().tcp(STATION, 41000, TPE_CORE, 2404, IEC104)
    for identifier, place in ((1, 0), (2, 30)):
        for number in range(8):
            data = bytes(place) + bytes([number + 1]) + bytes(199 - place)
            scene.packet(STATION, TPE_CORE, 1, b"\x08\0" + struct.pack(">HHH", 0, identifier, number) + data)
    (finding,) = found(scene.audited(tmp_path), "TPE244")
    assert finding.count == 1
