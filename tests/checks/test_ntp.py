from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.checks import ntp as checks
from analyzer.findings import Check, Severity
from analyzer.heads import Direction, Head
from analyzer.protocols import ntp
from tests import build
from tests.checks.test_ssh import fit_of, remarks
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


def said(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(ntp, head))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_an_ordinary_exchange_is_fine(check: Check) -> None:
    assert said(check, exchange(REQUEST, ANSWER)) == []
    assert said(check, exchange(changed(REQUEST, first=0xDB), changed(ANSWER, first=0x1C))) == []


def test_control_messages() -> None:
    ((severity, sentence),) = said(checks.control_message, exchange(CONTROL_REQUEST, CONTROL_RESPONSE))
    assert severity is Severity.MEDIUM and "mode 6" in sentence
    assert said(checks.version, exchange(CONTROL_REQUEST, CONTROL_RESPONSE)) == []


def test_monlist() -> None:
    ((severity, sentence),) = said(checks.private_message, exchange(MONLIST_REQUEST, MONLIST_RESPONSE))
    assert severity is Severity.MEDIUM and "monlist" in sentence
    ((_, other),) = said(checks.private_message, asked(bytes.fromhex("17000301") + bytes(4)))
    assert "request code 1" in other


@pytest.mark.parametrize("version", [0, 1, 2, 5])
def test_old_and_unknown_versions(version: int) -> None:
    ((severity, sentence),) = said(checks.version, asked(changed(REQUEST, first=version << 3 | 3)))
    assert severity is Severity.MEDIUM and f"version {version} " in sentence


@pytest.mark.parametrize("mode", [0, 1, 2, 5])
def test_other_modes(mode: int) -> None:
    ((severity, sentence),) = said(checks.association_mode, asked(changed(REQUEST, first=4 << 3 | mode)))
    assert severity is Severity.MEDIUM and f"mode {mode} " in sentence


def test_a_kiss_of_death_is_not_called_unsynchronized() -> None:
    head = exchange(REQUEST, changed(ANSWER, first=0xE4, stratum=0, reference=b"RATE"))
    assert said(checks.kiss_of_death, head) == [
        (Severity.LOW, "The time server answers with a kiss-o'-death (RATE: rate exceeded)."),
    ]
    assert said(checks.unsynchronized, head) == []


@pytest.mark.parametrize(
    ("first", "stratum", "sign"), [(0xE4, 2, "leap indicator 3"), (0x24, 16, "stratum 16"), (0x24, 0, "stratum 0")]
)
def test_an_unsynchronized_server(first: int, stratum: int, sign: str) -> None:
    head = exchange(REQUEST, changed(ANSWER, first=first, stratum=stratum, reference=bytes(4)))
    ((severity, sentence),) = said(checks.unsynchronized, head)
    assert severity is Severity.LOW and sign in sentence
    unset_client = changed(REQUEST, first=0xE3, stratum=0)
    assert said(checks.unsynchronized, asked(unset_client)) == []


def test_one_remark_for_many_packets() -> None:
    head = udp((123, 123), *((Direction.ORIGINATOR, changed(REQUEST, first=0x21)) for _ in range(40)))
    assert len(said(checks.association_mode, head)) == 1


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_checks_on_the_corpus() -> None:
    fired: dict[str, set[str]] = {}
    for truth, found in whole_captures():
        for each in found:
            if each.protocol == "ntp":
                for check in checks.CHECKS:
                    if said(check, each.head):
                        fired.setdefault(check.slug, set()).add(truth["name"])
    assert fired["ntp-control-message"] == {"tcpdump_ntp-control.pcap"}
    assert fired["ntp-private-message"] == {"ndpi_NTPv2.pcap"}
    assert "zeek_NTP_sync.pcap" in fired["ntp-mode"]
    assert "zeek_ntp.pcap" not in set().union(*fired.values())


def test_a_crypto_nak() -> None:
    ((severity, _),) = said(checks.crypto_nak, exchange(REQUEST + b"\0\0\0\1" + bytes(16), ANSWER + bytes(4)))
    assert severity is Severity.LOW
    assert said(checks.crypto_nak, exchange(REQUEST + bytes(4), ANSWER)) == []
    assert said(checks.crypto_nak, exchange(REQUEST, ANSWER + b"\0\0\0\1" + bytes(16))) == []


# -- from the capture on: what is kept must show whatever is no ordinary packet -----------------------------------

ODD = {
    "monlist": MONLIST_REQUEST,
    "monlist, as long as an ordinary request": MONLIST_REQUEST.ljust(48, b"\0"),
    "monlist, with the first byte and length that a hash of 64 bits confuses": MONLIST_REQUEST.ljust(52, b"\0"),
    "control": CONTROL_REQUEST,
    "version 2": changed(REQUEST, first=0x13),
    "symmetric": changed(REQUEST, first=0x21),
    "too short": REQUEST[:20],
}


def collides(data: bytes, other: bytes) -> bool:
    """As under a hash of first byte and length with 64 values."""
    return (data[0] * 31 + len(data)) & 63 == (other[0] * 31 + len(other)) & 63


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("ports", [(123, 123), (40000, 123)])
def test_whatever_is_no_ordinary_packet_is_seen_behind_any_number_of_those(ports: tuple[int, int], odd: bytes) -> None:
    ordinary = [build.udp("10.0.0.2", ports[0], "10.0.9.1", ports[1], REQUEST) for _ in range(200)]
    back = [build.udp("10.0.9.1", ports[1], "10.0.0.2", ports[0], ANSWER) for _ in range(200)]
    keyed = [build.udp("10.0.0.2", ports[0], "10.0.9.1", ports[1], REQUEST + bytes(20)) for _ in range(200)]
    hidden = build.udp("10.0.0.2", ports[0], "10.0.9.1", ports[1], odd)
    each = build.conversation([*ordinary, *back, *keyed, hidden, *ordinary])
    assert odd in [datagram.data for datagram in each.head.datagrams]


@given(st.binary(min_size=1, max_size=60))
def test_no_datagram_is_lost_for_looking_like_another(odd: bytes) -> None:
    """Whatever is no time packet of mode 3 or 4, version 3 or 4 and 48 bytes is kept."""
    ordinary = [build.udp("10.0.0.2", 123, "10.0.9.1", 123, REQUEST) for _ in range(8)]
    each = build.conversation([*ordinary, build.udp("10.0.0.2", 123, "10.0.9.1", 123, odd)])
    known = len(odd) == 48 and odd[0] >> 3 & 7 in (3, 4) and odd[0] & 7 in (3, 4)
    assert known or odd in [datagram.data for datagram in each.head.datagrams]


def test_a_length_that_collides_is_among_those() -> None:
    assert any(collides(MONLIST_REQUEST.ljust(size, b"\0"), REQUEST) for size in range(8, 73))


def test_a_kiss_of_death_is_seen_behind_any_number_of_answers() -> None:
    kiss = changed(ANSWER, first=0xE4, stratum=0, reference=b"DENY")
    answers = [build.udp("10.0.9.1", 123, "10.0.0.2", 123, ANSWER) for _ in range(200)]
    each = build.conversation([*answers, build.udp("10.0.9.1", 123, "10.0.0.2", 123, kiss), *answers])
    kept = [datagram.data for datagram in each.head.datagrams]
    assert kiss in kept and len(kept) < 10
    kisses = [build.udp("10.0.9.1", 123, "10.0.0.2", 123, kiss) for _ in range(200)]
    each = build.conversation([*kisses, build.udp("10.0.9.1", 123, "10.0.0.2", 123, MONLIST_RESPONSE), *kisses])
    assert MONLIST_RESPONSE in [datagram.data for datagram in each.head.datagrams]
