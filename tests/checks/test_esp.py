"""What is said of ESP packets under row i2."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.checks import esp as checks
from analyzer.conversations import dissect_flows
from analyzer.findings import Severity
from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.protocols import esp, ike
from analyzer.scanner import columns
from tests import build
from tests.build import SECOND, Packet
from tests.checks.matches import issues_by_check, match_of
from tests.protocols.ike_messages import MARKED_AUTH, ORIGINATOR, RESPONDER
from tests.protocols.test_esp import NULL_PACKET

NOISE = random.Random(4303)
KEPT = 64
MILLISECOND = 1_000_000


def packet(sequence: int, length: int, spi: int = 0xC0FFEE01, body: bytes = b"") -> bytes:
    """The kept beginning of an ESP packet; noise where no body is given."""
    return (struct.pack(">II", spi, sequence) + (body or NOISE.randbytes(KEPT)))[: min(KEPT, length)]


def head(sent: Iterable[tuple[bytes, int]], direction: Direction = ORIGINATOR, spacing: int = MILLISECOND) -> Head:
    """Packets given as (kept bytes, declared length)."""
    return Head(
        "esp",
        datagrams=tuple(
            Datagram(direction, data, length, Frame(0, index + 1), index * spacing)
            for index, (data, length) in enumerate(sent)
        ),
    )


def followed(head: Head, spacing: int = MILLISECOND) -> Head:
    """The same packets as the scanner hands them on."""
    ends = (build.STATION, build.SERVER)
    packets = []
    for number, each in enumerate(head.datagrams):
        source, destination = ends if each.direction is ORIGINATOR else ends[::-1]
        packet = build.ethernet(build.ip4(source, destination, 50, each.data.ljust(each.length, b"\0")))
        packets.append(Packet(packet, SECOND + number * spacing))
    (found,) = dissect_flows(build.read_files(build.pcap(packets))).expand()
    return found.head


def traffic(lengths: Iterable[int]) -> Head:
    return head((packet(index + 1, length), length) for index, length in enumerate(lengths))


def said(given: Head) -> dict[str, tuple[Severity, str, tuple[int, ...]]]:
    return issues_by_check(match_of(esp, given, "i2"), checks.CHECKS)


def inner_ipv6(length: int) -> bytes:
    return struct.pack(">IHBB", 6 << 28, length - 40, 6, 64) + NOISE.randbytes(32)


GCM = [108, 124, 128, 140, 116, 112, 1456, 132, 120, 184, 156, 144, 1020, 108, 124, 128, 140, 116]


def test_documentation_has_its_four_paragraphs() -> None:
    for check in checks.CHECKS:
        paragraphs = [each.strip() for each in check.documentation.strip().split("\n\n")]
        assert [each.split(":")[0] for each in paragraphs] == ["Flags", "Why", "Evidence", "Remedy"]


def test_aes_gcm_is_fine() -> None:
    assert said(traffic(GCM)) == {}
    assert said(traffic(GCM[:1])) == {}


def test_reserved_spis() -> None:
    found = said(head([(packet(1, 108, spi=7), 108), (packet(2, 108, spi=7), 108)]))
    assert set(found) == {"TPE221"}
    assert "SPI 7" in found["TPE221"][1] and found["TPE221"][2] == (1, 2)
    assert said(head([(packet(1, 108, spi=256), 108)])) == {}


# -- sequence numbers -------------------------------------------------------------------------------------------


def test_a_packet_that_comes_again_later_is_a_replay_and_at_once_a_copy() -> None:
    first, second = packet(1, 108), packet(2, 108)
    packets = [(first, 108), (second, 108), (first, 108)]
    assert said(followed(head(packets))) == {}
    found = said(followed(head(packets), spacing=1000 * MILLISECOND))
    assert set(found) == {"TPE222"}
    severity, sentence, frames = found["TPE222"]
    assert severity is Severity.HIGH and frames == (3,) and "the same packets" in sentence


def test_a_sequence_number_for_two_packets_is_high_however_soon() -> None:
    found = said(followed(head([(packet(number, 108), 108) for number in (1, 2, 3, 1, 2, 3)])))
    assert found["TPE222"][0] is Severity.HIGH and "for other packets" in found["TPE222"][1]
    assert found["TPE222"][2] == (4, 5, 6)


def test_going_back_beyond_the_window_is_told_and_reordering_is_not() -> None:
    assert said(followed(head((packet(number, 108), 108) for number in (100, 101, 38, 102)))) == {}
    found = said(followed(head((packet(number, 108), 108) for number in (100, 101, 37, 102))))
    assert set(found) == {"TPE223"} and found["TPE223"][2] == (3,)


def test_an_extended_sequence_number_may_wrap() -> None:
    wrapped = followed(head((packet(number, 108), 108) for number in (0xFFFFFFFE, 0xFFFFFFFF, 0, 0xFFFFFFFD, 1, 2)))
    assert said(wrapped) == {}
    assert (wrapped.associations[0].wraps, wrapped.associations[0].highest) == (1, 2)


def test_a_replay_far_behind_the_head_is_found() -> None:
    sent = [(packet(number, 108), 108) for number in range(1, 5001)]
    found = said(followed(head([*sent, sent[-3]]), spacing=1000 * MILLISECOND))
    assert set(found) == {"TPE222"} and found["TPE222"][2] == (5001,)
    found = said(followed(head([*sent, sent[6]])))
    assert set(found) == {"TPE223"} and found["TPE223"][2] == (5001,)


def test_a_rekeying_is_no_anomaly() -> None:
    old, new = ([(packet(number, 108, spi), 108) for number in numbers] for spi, numbers in NUMBERS)
    assert said(head([*old, *new, (packet(903, 108, 0x1000), 108)])) == {}


NUMBERS = ((0x1000, range(900, 903)), (0x1001, range(1, 4)))


def test_the_number_zero_is_told_unless_a_counter_wraps() -> None:
    found = said(head((packet(number, 108), 108) for number in (0, 1, 2)))
    assert set(found) == {"TPE227"} and found["TPE227"][0] is Severity.LOW and found["TPE227"][2] == (1,)


def test_directions_and_spis_count_on_their_own() -> None:
    both = head([(packet(5, 108, spi), 108) for spi in (0x1000, 0x2000)])
    back = both.datagrams[0]._replace(direction=RESPONDER, frame=Frame(0, 9), data=packet(5, 108, 0x1000))
    head_of_all = followed(both._replace(datagrams=(*both.datagrams, back)))
    assert said(head_of_all) == {}
    assert [(each.direction, each.spi, each.packets) for each in head_of_all.associations] == [
        (ORIGINATOR, 0x1000, 1),
        (ORIGINATOR, 0x2000, 1),
        (RESPONDER, 0x1000, 1),
    ]


def test_what_a_flow_shows_of_each_spi_is_bounded_and_nothing_is_lost() -> None:
    found = followed(head((packet(1, 108, spi), 108) for spi in range(1000, 1200))).associations
    assert len(found) == columns.ASSOCIATIONS
    assert [each.folded for each in found] == [False] * (len(found) - 1) + [True]
    assert sum(each.packets for each in found) == 200 and sum(each.bytes for each in found) == 200 * 108


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=80), st.sampled_from((0, 1 << 20, (1 << 32) - 150)))
def test_the_window_says_what_a_memory_of_all_numbers_says(numbers: list[int], start: int) -> None:
    (found,) = followed(head((packet((start + number) % (1 << 32), 108), 108) for number in numbers)).associations
    highest, seen, late, reused = -1, set[int](), 0, 0
    for number in numbers:
        if number <= highest - 64:
            late += 1
        elif number in seen:
            reused += 1
        seen.add(number)
        highest = max(highest, number)
    if start != (1 << 32) - 150 or numbers[0] < 150:  # else an earlier one looks like one before the first wrap
        assert (found.late, found.reused, found.replayed, found.copied) == (late, reused, 0, 0)
        assert found.highest == (start + highest) % (1 << 32)
    assert (found.packets, found.bytes) == (len(numbers), 108 * len(numbers))


def test_lengths_are_counted_over_the_whole_flow() -> None:
    (found,) = followed(traffic([108, 124, 1456] * 100)).associations
    assert {rest: count for rest, count in enumerate(found.remainders) if count} == {12: 200, 0: 100}
    assert [bit for bit in range(512) if found.lengths >> bit & 1] == [27, 31, 364]


# -- payloads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iv", "how"), [(b"", "the ICV behind them has 16 bytes, as of HMAC-SHA-256-128"), (bytes(8), "as AES-GMAC leaves")]
)
def test_a_readable_inner_packet_is_high(iv: bytes, how: str) -> None:
    plain = NULL_PACKET[:8] + iv + NULL_PACKET[8:]
    found = said(head([(plain[:KEPT], 112 + len(iv))]))
    assert set(found) == {"TPE224"}
    severity, sentence, _ = found["TPE224"]
    assert severity is Severity.HIGH and "1 of 1" in sentence and how in sentence


@pytest.mark.parametrize("icv", [0, 12])
def test_readable_transport_mode_is_high(icv: int) -> None:
    sent = []
    for number in range(1, 6):
        size = 40 + 4 * number
        sent.append(
            (packet(number, 200, body=struct.pack(">HHHH", 123, 123, size, number) + bytes(48)), size + 12 + icv)
        )
    found = said(head(sent))
    assert set(found) == {"TPE224"}
    assert "UDP headers can be read in 5 of 5 packets" in found["TPE224"][1]
    assert ("nothing authenticates them" if icv == 0 else "HMAC-SHA-1-96") in found["TPE224"][1]


def test_readable_inner_ipv6_needs_several_packets() -> None:
    sent = [(packet(number, 8 + 80 + 4 + 16, body=inner_ipv6(80)), 108) for number in range(1, 6)]
    assert said(head(sent[:2])) == {}
    assert "TPE224" in said(head(sent))


def test_an_inner_header_that_does_not_add_up_is_noise() -> None:
    wrong_checksum = NULL_PACKET[:20] + b"\x00\x00" + NULL_PACKET[22:]
    assert said(head([(wrong_checksum, 112)])) == {}
    assert said(head([(NULL_PACKET, 512)])) == {}


def test_esp_inside_an_ike_flow_is_judged_as_well() -> None:
    datagrams = (
        Datagram(ORIGINATOR, MARKED_AUTH, len(MARKED_AUTH), Frame(0, 1), 0),
        Datagram(ORIGINATOR, NULL_PACKET, 112, Frame(0, 2), MILLISECOND),
    )
    found = issues_by_check(match_of(ike, Head("udp", (4500, 4500), datagrams=datagrams), "i2"), checks.CHECKS)
    assert found["TPE224"][2] == (2,)


# -- lengths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [35, 32, 109, 110, 111])
def test_a_length_that_aes_gcm_cannot_make(length: int) -> None:
    found = said(traffic([108, length]))
    assert set(found) == {"TPE225"}
    assert str(length) in found["TPE225"][1] and found["TPE225"][2] == (2,)


@pytest.mark.parametrize("icv", [12, 16, 24, 32])
def test_lengths_that_only_show_cbc_padding(icv: int) -> None:
    lengths = [8 + 16 + 16 * blocks + icv for blocks in (4, 5, 6, 7, 9, 12)] * 3
    found = said(traffic(lengths))
    assert set(found) == {"TPE226"}
    severity, sentence, _ = found["TPE226"]
    assert severity is Severity.MEDIUM
    assert "likely AES-CBC (confidence 98.4%)" in sentence and "once in about 60 captures" in sentence


def test_lengths_that_only_show_3des_padding() -> None:
    found = said(traffic([8 + 8 + 8 * blocks + 12 for blocks in range(6, 24)]))
    severity, sentence, _ = found["TPE226"]
    assert severity is Severity.LOW and "possibly 3DES-CBC (confidence 90.0%)" in sentence


def test_few_packets_or_few_lengths_prove_nothing() -> None:
    cbc = [8 + 16 + 16 * blocks + 12 for blocks in (4, 5, 6, 7, 9, 12)]
    assert said(traffic(cbc)) == {}
    assert said(traffic(cbc[:2] * 20)) == {}


def test_lengths_are_not_judged_where_the_row_allows_other_ciphers() -> None:
    fit = match_of(esp, traffic([109] * 20), "i2")
    assert "TPE225" in issues_by_check(fit, checks.CHECKS)
    for proposals in ((), ("aes128gcm128", "aes128-sha256")):
        free = dataclasses.replace(fit, rows=(dataclasses.replace(fit.row, esp_proposals=proposals),))
        assert issues_by_check(free, checks.CHECKS) == {}
