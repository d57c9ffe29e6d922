"""Checks of ESP."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from analyzer.checks import esp as checks
from analyzer.findings import Severity
from analyzer.heads import Datagram, Frame, Head
from analyzer.protocols import esp, ike
from tests.checks.matches import issues_by_check, match_of
from tests.protocols.esp_packets import KEPT, MILLISECOND, RANDOM, head_of, packet, scanned, traffic
from tests.protocols.ike_messages import MARKED_AUTH, ORIGINATOR
from tests.protocols.test_esp import NULL_PACKET


def issues_of(head: Head) -> dict[str, tuple[Severity, str, tuple[int, ...]]]:
    """Issues about a flow that matches row i2, by check."""
    return issues_by_check(match_of(esp, head, "i2"), checks.CHECKS)


def inner_ipv6(length: int) -> bytes:
    return struct.pack(">IHBB", 6 << 28, length - 40, 6, 64) + RANDOM.randbytes(32)


GCM = [108, 124, 128, 140, 116, 112, 1456, 132, 120, 184, 156, 144, 1020, 108, 124, 128, 140, 116]


def test_no_issue_with_aes_gcm() -> None:
    assert issues_of(traffic(GCM)) == {}
    assert issues_of(traffic(GCM[:1])) == {}


def test_reserved_spi() -> None:
    found = issues_of(head_of([(packet(1, 108, spi=7), 108), (packet(2, 108, spi=7), 108)]))
    assert set(found) == {"TPE221"}
    assert "SPI 7" in found["TPE221"][1] and found["TPE221"][2] == (1, 2)
    assert issues_of(head_of([(packet(1, 108, spi=256), 108)])) == {}


# -- sequence numbers -------------------------------------------------------------------------------------------


def test_sequence_repeated_by_a_replay_but_not_by_a_copy() -> None:
    first, second = packet(1, 108), packet(2, 108)
    packets = [(first, 108), (second, 108), (first, 108)]
    assert issues_of(scanned(head_of(packets))) == {}
    found = issues_of(scanned(head_of(packets), spacing=1000 * MILLISECOND))
    assert set(found) == {"TPE222"}
    severity, sentence, frames = found["TPE222"]
    assert severity is Severity.HIGH and frames == (3,) and "the same packets" in sentence


def test_sequence_repeated_by_another_packet() -> None:
    found = issues_of(scanned(head_of([(packet(number, 108), 108) for number in (1, 2, 3, 1, 2, 3)])))
    assert found["TPE222"][0] is Severity.HIGH and "for other packets" in found["TPE222"][1]
    assert found["TPE222"][2] == (4, 5, 6)


def test_sequence_backwards_beyond_the_window_only() -> None:
    assert issues_of(scanned(head_of((packet(number, 108), 108) for number in (100, 101, 38, 102)))) == {}
    found = issues_of(scanned(head_of((packet(number, 108), 108) for number in (100, 101, 37, 102))))
    assert set(found) == {"TPE223"} and found["TPE223"][2] == (3,)


def test_no_issue_with_wrapped_extended_sequence_number() -> None:
    wrapped = scanned(head_of((packet(number, 108), 108) for number in (0xFFFFFFFE, 0xFFFFFFFF, 0, 0xFFFFFFFD, 1, 2)))
    assert issues_of(wrapped) == {}
    assert (wrapped.associations[0].wraps, wrapped.associations[0].highest) == (1, 2)


def test_replay_after_the_head_is_found() -> None:
    sent = [(packet(number, 108), 108) for number in range(1, 5001)]
    found = issues_of(scanned(head_of([*sent, sent[-3]]), spacing=1000 * MILLISECOND))
    assert set(found) == {"TPE222"} and found["TPE222"][2] == (5001,)
    found = issues_of(scanned(head_of([*sent, sent[6]])))
    assert set(found) == {"TPE223"} and found["TPE223"][2] == (5001,)


def test_no_issue_with_rekeying() -> None:
    old = [(packet(number, 108, 0x1000), 108) for number in range(900, 903)]
    new = [(packet(number, 108, 0x1001), 108) for number in range(1, 4)]
    assert issues_of(head_of([*old, *new, (packet(903, 108, 0x1000), 108)])) == {}


def test_sequence_zero() -> None:
    found = issues_of(head_of((packet(number, 108), 108) for number in (0, 1, 2)))
    assert set(found) == {"TPE227"} and found["TPE227"][0] is Severity.LOW and found["TPE227"][2] == (1,)


# -- payloads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iv", "clause"),
    [(b"", "the ICV behind them has 16 bytes, as of HMAC-SHA-256-128"), (bytes(8), "as AES-GMAC leaves")],
)
def test_not_encrypted_tunnel_mode(iv: bytes, clause: str) -> None:
    plain = NULL_PACKET[:8] + iv + NULL_PACKET[8:]
    found = issues_of(head_of([(plain[:KEPT], 112 + len(iv))]))
    assert set(found) == {"TPE224"}
    severity, sentence, _ = found["TPE224"]
    assert severity is Severity.HIGH and "1 of the 1" in sentence and clause in sentence


@pytest.mark.parametrize("icv", [0, 12])
def test_not_encrypted_transport_mode(icv: int) -> None:
    sent = []
    for number in range(1, 6):
        size = 40 + 4 * number
        sent.append(
            (packet(number, 200, body=struct.pack(">HHHH", 123, 123, size, number) + bytes(48)), size + 12 + icv)
        )
    found = issues_of(head_of(sent))
    assert set(found) == {"TPE224"}
    assert "UDP headers can be read in 5 of the 5 packets" in found["TPE224"][1]
    assert ("nothing authenticates them" if icv == 0 else "HMAC-SHA-1-96") in found["TPE224"][1]


def test_inner_ipv6_needs_several_packets() -> None:
    sent = [(packet(number, 8 + 80 + 4 + 16, body=inner_ipv6(80)), 108) for number in range(1, 6)]
    assert issues_of(head_of(sent[:2])) == {}
    assert "TPE224" in issues_of(head_of(sent))


def test_no_issue_with_inconsistent_inner_header() -> None:
    wrong_checksum = NULL_PACKET[:20] + b"\x00\x00" + NULL_PACKET[22:]
    assert issues_of(head_of([(wrong_checksum, 112)])) == {}
    assert issues_of(head_of([(NULL_PACKET, 512)])) == {}


def test_esp_inside_an_ike_flow_is_checked() -> None:
    datagrams = (
        Datagram(ORIGINATOR, MARKED_AUTH, len(MARKED_AUTH), Frame(0, 1), 0),
        Datagram(ORIGINATOR, NULL_PACKET, 112, Frame(0, 2), MILLISECOND),
    )
    found = issues_by_check(match_of(ike, Head("udp", (4500, 4500), datagrams=datagrams), "i2"), checks.CHECKS)
    assert found["TPE224"][2] == (2,)


# -- lengths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [35, 32, 109, 110, 111])
def test_length_impossible_for_gcm(length: int) -> None:
    found = issues_of(traffic([108, length]))
    assert set(found) == {"TPE225"}
    assert str(length) in found["TPE225"][1] and found["TPE225"][2] == (2,)


@pytest.mark.parametrize("icv", [12, 16, 24, 32])
def test_block_cipher_padding_of_aes_cbc(icv: int) -> None:
    lengths = [8 + 16 + 16 * blocks + icv for blocks in (4, 5, 6, 7, 9, 12)] * 3
    found = issues_of(traffic(lengths))
    assert set(found) == {"TPE226"}
    severity, sentence, _ = found["TPE226"]
    assert severity is Severity.MEDIUM
    assert "likely AES-CBC (confidence 98.4%)" in sentence and "once in about 60 captures" in sentence


def test_block_cipher_padding_of_3des() -> None:
    found = issues_of(traffic([8 + 8 + 8 * blocks + 12 for blocks in range(6, 24)]))
    severity, sentence, _ = found["TPE226"]
    assert severity is Severity.LOW and "possibly 3DES-CBC (confidence 90.0%)" in sentence


UNIFORM = [104] * 40
"""Lengths of the first packets of a flow, more than its head keeps: all acknowledgements with a time stamp."""


def test_the_cipher_is_inferred_from_all_packets_of_the_sa() -> None:
    cbc = [8 + 16 + 16 * blocks + 16 for blocks in (4, 5, 6, 7, 9, 12, 14, 20)]
    found = issues_of(scanned(traffic([*UNIFORM, *cbc])))
    assert set(found) == {"TPE226"}
    severity, sentence, frames = found["TPE226"]
    assert severity is Severity.MEDIUM and frames[0] == 1
    assert "All 48 ESP packets, of 8 different lengths" in sentence
    assert "of 104 bytes, holds a bare TCP acknowledgement only under AES-CBC" in sentence
    assert issues_of(scanned(traffic([*UNIFORM, *cbc, 108]))) == {}


def test_bare_acknowledgements_that_only_3des_makes_are_medium() -> None:
    lengths = [8 + 8 + 56 + 12] * 40 + [8 + 8 + 8 * blocks + 12 for blocks in (8, 9, 10, 13, 20, 41, 44, 90, 101)]
    severity, sentence, _ = issues_of(scanned(traffic(lengths)))["TPE226"]
    assert severity is Severity.MEDIUM and "only under 3DES-CBC" in sentence


def test_acknowledgements_that_either_cipher_makes_are_no_evidence() -> None:
    lengths = [8 + 8 + 44 + 16] * 40 + [76 + 8 * blocks for blocks in range(1, 9)]
    assert issues_of(scanned(traffic(lengths))) == {}


def test_lengths_that_gcm_cannot_make_are_counted_after_the_first_packets() -> None:
    found = issues_of(scanned(traffic([*UNIFORM, 109, 111])))
    assert "2 ESP packets" in found["TPE225"][1]


def test_no_issue_with_few_packets_or_lengths() -> None:
    cbc = [8 + 16 + 16 * blocks + 12 for blocks in (4, 5, 6, 7, 9, 12)]
    assert issues_of(traffic(cbc)) == {}
    assert issues_of(traffic(cbc[:2] * 20)) == {}


def test_no_length_issue_where_the_row_allows_other_ciphers() -> None:
    match = match_of(esp, traffic([109] * 20), "i2")
    assert "TPE225" in issues_by_check(match, checks.CHECKS)
    for proposals in ((), ("aes128gcm128", "aes128-sha256")):
        other = dataclasses.replace(match, rows=(dataclasses.replace(match.row, esp_proposals=proposals),))
        assert issues_by_check(other, checks.CHECKS) == {}


def test_an_sa_behind_another_is_judged_alone() -> None:
    gcm = [(packet(number, length), length) for number, length in enumerate(GCM * 4, 1)]
    cbc = [120 + 16 * (number % 13) for number in range(60)]
    second = [(packet(number, length, spi=0xC0FFEE02), length) for number, length in enumerate(cbc, 1)]
    assert issues_of(scanned(head_of(gcm))) == {}
    found = issues_of(scanned(head_of([*gcm, *second])))
    assert set(found) == {"TPE226"}
    assert "SPI 0xc0ffee02" in found["TPE226"][1] and found["TPE226"][2][0] == len(gcm) + 1


def test_readable_payload_behind_encrypted_packets_names_its_spi() -> None:
    sent = [(packet(number, 108), 108) for number in range(1, 200)]
    text = [(packet(number, 108, spi=0xC0FFEE02, body=b"clear text " * 6), 108) for number in range(1, 9)]
    found = issues_of(scanned(head_of([*sent, *text])))
    assert set(found) == {"TPE224"}
    severity, sentence, frames = found["TPE224"]
    assert severity is Severity.HIGH and "8 of the 8 packets with SPI 0xc0ffee02" in sentence
    assert frames == tuple(range(200, 208))
