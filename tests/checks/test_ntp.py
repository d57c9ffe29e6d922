"""Checks of NTP, and what the scanner keeps so that they see every unusual packet."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.checks import ntp as checks
from analyzer.findings import Check, Scope, Severity
from analyzer.heads import Direction, Head
from analyzer.protocols import ntp
from tests import build
from tests.checks.matches import issues, match_of
from tests.protocols.test_dns import CORPUS, udp, whole_captures
from tests.protocols.test_ntp import (
    ANSWER,
    CONTROL_REQUEST,
    CONTROL_RESPONSE,
    MONLIST_REQUEST,
    MONLIST_RESPONSE,
    REQUEST,
    asked,
    changed,
    exchange,
)
from tests.synthetic import STATION, TLS, TPE, Traffic, findings_of


def issues_of(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return issues(check, match_of(ntp, head))


FLOW_CHECKS = [check for check in checks.CHECKS if check.scope is Scope.FLOW]


@pytest.mark.parametrize("check", FLOW_CHECKS, ids=lambda check: check.id)
def test_no_issue_with_ordinary_exchange(check: Check) -> None:
    assert issues_of(check, exchange(REQUEST, ANSWER)) == []
    assert issues_of(check, exchange(changed(REQUEST, first=0xDB), changed(ANSWER, first=0x1C))) == []


def test_control_message() -> None:
    ((severity, sentence),) = issues_of(checks.control_message, exchange(CONTROL_REQUEST, CONTROL_RESPONSE))
    assert severity is Severity.MEDIUM and "mode 6" in sentence
    assert issues_of(checks.version, exchange(CONTROL_REQUEST, CONTROL_RESPONSE)) == []


def test_private_message() -> None:
    ((severity, sentence),) = issues_of(checks.private_message, exchange(MONLIST_REQUEST, MONLIST_RESPONSE))
    assert severity is Severity.MEDIUM and "monlist" in sentence
    ((_, other),) = issues_of(checks.private_message, asked(bytes.fromhex("17000301") + bytes(4)))
    assert "request code 1" in other


@pytest.mark.parametrize("version", [0, 1, 2, 5])
def test_wrong_version(version: int) -> None:
    ((severity, sentence),) = issues_of(checks.version, asked(changed(REQUEST, first=version << 3 | 3)))
    assert severity is Severity.MEDIUM and f"version {version} " in sentence


@pytest.mark.parametrize("mode", [0, 1, 2, 5])
def test_wrong_mode(mode: int) -> None:
    ((severity, sentence),) = issues_of(checks.association_mode, asked(changed(REQUEST, first=4 << 3 | mode)))
    assert severity is Severity.MEDIUM and f"mode {mode} " in sentence


def test_kiss_of_death_is_not_unsynchronized() -> None:
    head = exchange(REQUEST, changed(ANSWER, first=0xE4, stratum=0, reference=b"RATE"))
    assert issues_of(checks.kiss_of_death, head) == [
        (Severity.LOW, "The time server answers with a kiss-o'-death (RATE: rate exceeded)."),
    ]
    assert issues_of(checks.unsynchronized, head) == []


@pytest.mark.parametrize(
    ("first", "stratum", "sign"), [(0xE4, 2, "leap indicator 3"), (0x24, 16, "stratum 16"), (0x24, 0, "stratum 0")]
)
def test_unsynchronized_server(first: int, stratum: int, sign: str) -> None:
    head = exchange(REQUEST, changed(ANSWER, first=first, stratum=stratum, reference=bytes(4)))
    ((severity, sentence),) = issues_of(checks.unsynchronized, head)
    assert severity is Severity.LOW and sign in sentence
    unset_client = changed(REQUEST, first=0xE3, stratum=0)
    assert issues_of(checks.unsynchronized, asked(unset_client)) == []


def test_many_packets_make_one_issue() -> None:
    head = udp((123, 123), *((Direction.ORIGINATOR, changed(REQUEST, first=0x21)) for _ in range(40)))
    assert len(issues_of(checks.association_mode, head)) == 1


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_issues_of_corpus() -> None:
    captures_by_slug: dict[str, set[str]] = {}
    for capture, found in whole_captures():
        for conversation in found:
            if conversation.protocol == "ntp":
                for check in FLOW_CHECKS:
                    if issues_of(check, conversation.head):
                        captures_by_slug.setdefault(check.slug, set()).add(capture["name"])
    assert captures_by_slug["ntp-control-message"] == {"tcpdump_ntp-control.pcap"}
    assert captures_by_slug["ntp-private-message"] == {"ndpi_NTPv2.pcap"}
    assert "zeek_NTP_sync.pcap" in captures_by_slug["ntp-mode"]
    assert "zeek_ntp.pcap" not in set().union(*captures_by_slug.values())


def test_crypto_nak() -> None:
    ((severity, _),) = issues_of(checks.crypto_nak, exchange(REQUEST + b"\0\0\0\1" + bytes(16), ANSWER + bytes(4)))
    assert severity is Severity.LOW
    assert issues_of(checks.crypto_nak, exchange(REQUEST + bytes(4), ANSWER)) == []
    assert issues_of(checks.crypto_nak, exchange(REQUEST, ANSWER + b"\0\0\0\1" + bytes(16))) == []


# -- what the scanner keeps -------------------------------------------------------------------------------------

UNUSUAL = {
    "monlist": MONLIST_REQUEST,
    "monlist, as long as an ordinary request": MONLIST_REQUEST.ljust(48, b"\0"),
    "monlist, with the first byte and length that a hash of 64 bits confuses": MONLIST_REQUEST.ljust(52, b"\0"),
    "control": CONTROL_REQUEST,
    "version 2": changed(REQUEST, first=0x13),
    "symmetric": changed(REQUEST, first=0x21),
    "too short": REQUEST[:20],
}


def collides(data: bytes, other: bytes) -> bool:
    """Whether two payloads have the same hash of first byte and length modulo 64."""
    return (data[0] * 31 + len(data)) & 63 == (other[0] * 31 + len(other)) & 63


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL.keys())
@pytest.mark.parametrize("ports", [(123, 123), (40000, 123)])
def test_unusual_packet_is_kept_among_many_ordinary_ones(ports: tuple[int, int], unusual: bytes) -> None:
    ordinary = [build.udp("10.0.0.2", ports[0], "10.0.9.1", ports[1], REQUEST) for _ in range(200)]
    back = [build.udp("10.0.9.1", ports[1], "10.0.0.2", ports[0], ANSWER) for _ in range(200)]
    keyed = [build.udp("10.0.0.2", ports[0], "10.0.9.1", ports[1], REQUEST + bytes(20)) for _ in range(200)]
    hidden = build.udp("10.0.0.2", ports[0], "10.0.9.1", ports[1], unusual)
    conversation = build.conversation([*ordinary, *back, *keyed, hidden, *ordinary])
    assert unusual in [datagram.data for datagram in conversation.head.datagrams]


@given(st.binary(min_size=1, max_size=60))
def test_only_ordinary_packets_may_be_dropped(unusual: bytes) -> None:
    """Ordinary: 48 bytes, version 3 or 4, mode 3 or 4."""
    ordinary = [build.udp("10.0.0.2", 123, "10.0.9.1", 123, REQUEST) for _ in range(8)]
    conversation = build.conversation([*ordinary, build.udp("10.0.0.2", 123, "10.0.9.1", 123, unusual)])
    known = len(unusual) == 48 and unusual[0] >> 3 & 7 in (3, 4) and unusual[0] & 7 in (3, 4)
    assert known or unusual in [datagram.data for datagram in conversation.head.datagrams]


def test_parameters_hold_a_hash_collision() -> None:
    assert any(collides(MONLIST_REQUEST.ljust(size, b"\0"), REQUEST) for size in range(8, 73))


def test_kiss_of_death_is_kept_among_many_answers() -> None:
    kiss = changed(ANSWER, first=0xE4, stratum=0, reference=b"DENY")
    answers = [build.udp("10.0.9.1", 123, "10.0.0.2", 123, ANSWER) for _ in range(200)]
    conversation = build.conversation([*answers, build.udp("10.0.9.1", 123, "10.0.0.2", 123, kiss), *answers])
    kept = [datagram.data for datagram in conversation.head.datagrams]
    assert kiss in kept and len(kept) < 10
    kisses = [build.udp("10.0.9.1", 123, "10.0.0.2", 123, kiss) for _ in range(200)]
    conversation = build.conversation([*kisses, build.udp("10.0.9.1", 123, "10.0.0.2", 123, MONLIST_RESPONSE), *kisses])
    assert MONLIST_RESPONSE in [datagram.data for datagram in conversation.head.datagrams]


# -- tunnels, over all conversations with a server ------------------------------------------------------------------

TIME_SERVER = "10.20.30.1"
NOISE = random.Random(7)


def tunnels_of(tmp_path: Path, requests: list[tuple[int, bytes]], step: float) -> list[str]:
    """Sentences of TPE328 about a base station that sends these requests, by client port, ``step`` seconds apart."""
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS)
    start = traffic.packets[-1][0]
    for number, (port, request) in enumerate(requests, 1):
        traffic.udp(STATION, port, TIME_SERVER, 123, (">", request))
        traffic.packets[-1] = start + number * step, traffic.packets[-1][1]
    return [finding.summary for finding in findings_of(traffic.audit(tmp_path), "TPE328")]


def time_request(origin: int = 0) -> bytes:
    """A request of a client that fills its transmit time stamp at random."""
    return bytes.fromhex("230006ec0000000000000000") + struct.pack(
        ">4s4Q", bytes(4), 0, origin, 0, NOISE.getrandbits(64)
    )


@pytest.mark.parametrize("same_port", [True, False])
def test_requests_with_impossible_time_stamps_are_a_tunnel(tmp_path: Path, same_port: bool) -> None:
    requests = [(123 if same_port else 20000 + n, time_request(NOISE.getrandbits(62))) for n in range(24)]
    (sentence,) = tunnels_of(tmp_path, requests, 64)
    assert "time stamps are no times" in sentence


def test_requests_in_a_rush_are_a_tunnel(tmp_path: Path) -> None:
    (sentence,) = tunnels_of(tmp_path, [(20000 + n, time_request()) for n in range(100)], 0.1)
    assert "100 requests within" in sentence


def test_random_transmit_time_stamps_are_no_tunnel(tmp_path: Path) -> None:
    """Clients that hide their clock, and a burst at the start."""
    burst = [(20000 + n, time_request()) for n in range(8)]
    assert tunnels_of(tmp_path, burst, 2) == []
    assert tunnels_of(tmp_path, [(20000 + n, time_request()) for n in range(100)], 64) == []
