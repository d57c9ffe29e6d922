"""ESP over IP and inside UDP: packets, SAs, cleartext and the cipher that lengths show."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from random import Random

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import to_json
from analyzer.protocols import ProtocolModule, dissect_as, esp, ike
from analyzer.protocols.esp import EspPacket, EspPayload, NatKeepalive, udp
from analyzer.protocols.esp.associations import MAX_SPIS
from analyzer.protocols.esp.cipher import COUNTER_MODE, ODDS
from analyzer.wire import Cause

CORPUS = os.environ.get("TPE_PCAP_CORPUS")

ORIGINATOR, RESPONDER = Direction

# strongSwan 6.0.1 with esp=null-sha256, own recording: an ICMP echo inside
NULL_PACKET = bytes.fromhex(
    "cf2b90be0000000145000054d79e400040014d140afa00010afb000108008e0221c40001e799026b0000000093600c0000000000"
    "101112131415161718191a1b"
)
# As AES-GCM: an IV, then random bytes
GCM_PACKET = bytes.fromhex(
    "98e7c6a60000000100000000000000015bc03f9d4c1a9e2277f0d1b48812ee5699a3c0f7e2b4851d06d9"
) + bytes(range(0x90, 0xA6))


def head_of(
    *sent: tuple[Direction, bytes, int],
    transport: str = "esp",
    ports: tuple[int, int] = (0, 0),
) -> Head:
    """A head of datagrams given as (direction, captured bytes, declared length)."""
    datagrams = tuple(
        Datagram(direction, data, length, Frame(0, index + 1), index * 1_000_000)
        for index, (direction, data, length) in enumerate(sent)
    )
    return Head(transport, ports, datagrams=datagrams)


EXAMPLES = [
    head_of((ORIGINATOR, NULL_PACKET, 112), (RESPONDER, GCM_PACKET, 108), (ORIGINATOR, GCM_PACKET[:60], 60)),
    head_of(
        (ORIGINATOR, GCM_PACKET, 108),
        (ORIGINATOR, b"\xff", 1),
        (RESPONDER, GCM_PACKET, 108),
        transport="udp",
        ports=(4500, 4500),
    ),
]


def test_facts_list_the_spis_of_both_directions() -> None:
    shown = to_json(dissect_as(esp, EXAMPLES[0]).facts)
    assert shown["spis"] == ["0xcf2b90be", "0x98e7c6a6"]
    assert shown["udp_encapsulated"] is False
    assert shown["packets_read"] == 3


def test_a_packet_cut_after_its_header_is_no_anomaly() -> None:
    dissection = dissect_as(esp, head_of((ORIGINATOR, GCM_PACKET, 1440)))
    assert dissection.parse_errors == ()
    packet, payload = (item.message for item in dissection.items)
    assert isinstance(packet, EspPacket) and isinstance(payload, EspPayload)
    assert (packet.spi, packet.sequence, packet.length) == (0x98E7C6A6, 1, 1440)
    assert payload.beginning == GCM_PACKET[8:48]


def test_an_incomplete_header_is_truncated_by_the_capture_or_malformed_by_the_sender() -> None:
    (cut,) = dissect_as(esp, head_of((ORIGINATOR, GCM_PACKET[:6], 108))).parse_errors
    (short,) = dissect_as(esp, head_of((ORIGINATOR, GCM_PACKET[:6], 6))).parse_errors
    assert (cut.anomaly.cause, short.anomaly.cause) == (Cause.TRUNCATED, Cause.MALFORMED)


def test_probe_recognises_udp_encapsulated_esp_by_its_shape() -> None:
    without_ike = EXAMPLES[1]
    assert udp.probe(without_ike) and not esp.probe(without_ike) and not ike.probe(without_ike)
    assert not udp.probe(head_of((ORIGINATOR, b"GET / HTTP/1.1\r\n\r\n..", 20), transport="udp", ports=(40000, 4500)))
    assert not udp.probe(head_of((ORIGINATOR, bytes(40), 40), transport="udp", ports=(4500, 4500)))
    assert not udp.probe(head_of((ORIGINATOR, GCM_PACKET, 108), transport="udp", ports=(4501, 4501)))


def test_keepalives_alone_are_udp_encapsulation() -> None:
    alone = head_of((ORIGINATOR, b"\xff", 1), (ORIGINATOR, b"\xff", 1), transport="udp", ports=(4500, 4500))
    assert udp.probe(alone)
    dissection = dissect_as(udp, alone)
    assert [type(item.message) for item in dissection.items] == [NatKeepalive, NatKeepalive]
    assert to_json(dissection.facts)["udp_encapsulated"] is True


def test_facts_state_udp_encapsulation() -> None:
    dissection = dissect_as(udp, head_of((ORIGINATOR, GCM_PACKET, 108), transport="udp", ports=(4500, 4500)))
    assert dissection.protocol == "esp"
    assert to_json(dissection.facts)["udp_encapsulated"] is True


# -- associations -----------------------------------------------------------------------------------------------


def packets_with(direction: Direction, spi: int, *sequences: int) -> list[tuple[Direction, bytes, int]]:
    """Packets of 48 bytes with these sequence numbers."""
    return [(direction, struct.pack(">II", spi, number) + bytes(40), 48) for number in sequences]


def facts_of(*sent: tuple[Direction, bytes, int], transport: str = "esp") -> esp.EspFacts:
    found = dissect_as(esp, head_of(*sent, transport=transport)).facts
    assert isinstance(found, esp.EspFacts)
    return found


@pytest.mark.parametrize(
    ("sequences", "first", "last", "missing"),
    [
        ((1, 2, 3), 1, 3, 0),
        ((7, 9, 8, 12), 7, 12, 2),
        ((9, 8, 7, 7), 7, 9, 0),
        ((0xFFFFFFFE, 0xFFFFFFFF, 1), 0xFFFFFFFE, 1, 1),
    ],
)
def test_missing_sequence_numbers_are_counted(sequences: tuple[int, ...], first: int, last: int, missing: int) -> None:
    (sa,) = facts_of(*packets_with(ORIGINATOR, 0x1000, *sequences)).associations
    assert (sa.first_sequence, sa.last_sequence, sa.missing) == (first, last, missing)
    assert (sa.spi, sa.sender, sa.packets, sa.replaces) == ("0x00001000", "originator", len(sequences), None)


def test_rekeying_replaces_both_sas_of_a_tunnel() -> None:
    facts = facts_of(
        *packets_with(ORIGINATOR, 0x1000, 500, 501, 502),
        *packets_with(RESPONDER, 0x2000, 70, 71, 72),
        *packets_with(ORIGINATOR, 0x1001, 1),
        *packets_with(ORIGINATOR, 0x1000, 503),
        *packets_with(RESPONDER, 0x2001, 1, 2),
        *packets_with(ORIGINATOR, 0x1001, 2, 3, 4),
    )
    assert facts.rekeys == 1
    assert [(sa.spi, sa.replaces) for sa in facts.associations] == [
        ("0x00001000", None),
        ("0x00002000", None),
        ("0x00001001", "0x00001000"),
        ("0x00002001", "0x00002000"),
    ]
    assert facts.pairs == (("0x00001000", "0x00002000"), ("0x00001001", "0x00002001"))


def test_parallel_tunnels_replace_nothing() -> None:
    first, second = packets_with(ORIGINATOR, 0x1000, *range(1, 9)), packets_with(ORIGINATOR, 0x1001, *range(1, 9))
    facts = facts_of(*(packet for pair in zip(first, second, strict=True) for packet in pair))
    assert facts.rekeys == 0 and not any(sa.replaces for sa in facts.associations)


def test_facts_name_the_sender_of_keepalives() -> None:
    keepalive_and_packet = head_of(
        (RESPONDER, b"\xff", 1), (ORIGINATOR, GCM_PACKET, 108), transport="udp", ports=(4500, 4500)
    )
    facts = dissect_as(udp, keepalive_and_packet).facts
    assert isinstance(facts, esp.EspFacts)
    assert (facts.keepalives, facts.keepalives_from) == (1, ("responder",))


# -- cleartext --------------------------------------------------------------------------------------------------


def checksummed(header: bytes) -> bytes:
    """An IPv4 header with its checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]


def inner_header(kind: str, index: int, size: int) -> bytes:
    """First header of an inner packet of ``size`` bytes."""
    if kind == "IPv4":
        return checksummed(struct.pack(">BBHHHBBHII", 0x45, 0, size, index, 0, 64, 6, 0, 0x0A000001, 0x0A000002))
    if kind == "IPv6":
        return struct.pack(">IHBB", 6 << 28, size - 40, 17, 64) + bytes(range(32))
    if kind == "TCP":
        return struct.pack(">HHIIBBHHH", 40000, 2404, 1000 + index, 77, 0x50, 0x18, 512, 4711 + index, 0)
    if kind == "UDP":
        return struct.pack(">HHHH", 123, 123, size, 99 + index)
    return struct.pack(">BBHHH", 8, 0, 4711 + index, 77, index)


@pytest.mark.parametrize("kind", ["IPv4", "IPv6", "TCP", "UDP", "ICMP"])
@pytest.mark.parametrize(("iv", "icv"), [(0, 0), (0, 12), (0, 16), (8, 16), (0, 24), (0, 32)])
def test_cleartext_is_detected_with_every_icv(kind: str, iv: int, icv: int) -> None:
    sent = []
    for index in range(6):
        size = 60 + 4 * index + index % 2
        length = 8 + iv + size + -(size + 2) % 4 + 2 + icv
        raw = struct.pack(">II", 0x1000, index + 1) + bytes(iv) + inner_header(kind, index, size)
        sent.append((ORIGINATOR, (raw + bytes(range(1, 57)))[:64], length))
    found = facts_of(*sent).cleartext
    assert found is not None
    assert (found.inner, found.packets, found.iv) == (kind, 6, iv)
    assert found.icv == (icv if kind in ("IPv4", "IPv6", "UDP") else None)


@pytest.mark.parametrize("salt", [bytes(8), b"\x08\x00\x12\x34\x00\x07\x00\x00", b"\x12\x34\x10\x92\x00\x50\x00\x00"])
@given(st.randoms(use_true_random=False), st.booleans())
def test_a_counting_iv_is_no_inner_header(salt: bytes, random: Random, equal_lengths: bool) -> None:
    sent = []
    for index in range(1, 40):
        iv = (int.from_bytes(salt) ^ index).to_bytes(8)
        length = 108 if equal_lengths else 8 + 8 + 4 * random.randrange(3, 350) + 16
        sent.append((ORIGINATOR, struct.pack(">II", 0x1000, index) + iv + random.randbytes(48), length))
    assert facts_of(*sent).cleartext is None


# -- ciphers ----------------------------------------------------------------------------------------------------


def packets_of(*lengths: int) -> list[tuple[Direction, bytes, int]]:
    """Encrypted packets of these lengths in bytes."""
    return [
        (ORIGINATOR, struct.pack(">II", 0x1000, sequence) + b"\x8a" * 40, length)
        for sequence, length in enumerate(lengths)
    ]


def test_lengths_that_no_block_cipher_makes_prove_a_counter_mode() -> None:
    found = facts_of(*packets_of(108, 112, 116)).cipher
    assert found is not None
    assert (found.kind, found.confidence, found.words, found.odds) == (COUNTER_MODE, 1.0, "certain", None)


@pytest.mark.parametrize(
    ("blocks", "confidence", "words"), [(3, 0.9, "possibly"), (5, 0.9722, "likely"), (8, 0.9921, "very likely")]
)
def test_confidence_in_a_block_cipher_grows_with_the_number_of_lengths(
    blocks: int, confidence: float, words: str
) -> None:
    found = facts_of(*packets_of(*(8 + 16 + 12 + 16 * size for size in range(3, 3 + blocks)))).cipher
    assert found is not None
    assert (found.kind, found.confidence, found.words) == (esp.AES_CBC, confidence, words)


def test_few_or_unaligned_lengths_prove_nothing() -> None:
    assert facts_of(*packets_of(108, 124)).cipher is None
    assert facts_of(*packets_of(108, 109, 110, 111)).cipher is None
    assert facts_of(*packets_of(108)).cipher is None


def test_different_icvs_per_direction_are_no_evidence() -> None:
    sent = packets_of(*(36 + 16 * size for size in range(3, 9)))
    answers = [(RESPONDER, data, length + 4) for _, data, length in sent]
    assert facts_of(*sent, *answers).cipher is None
    assert facts_of(*sent).cipher is not None


def ipv4_lengths(path: Path) -> dict[frozenset[bytes], list[int]]:
    """Pair of hosts → Total Length of each IPv4 packet between them, in an Ethernet pcap file."""
    found: dict[frozenset[bytes], list[int]] = {}
    try:
        with path.open("rb") as file:
            for _, frame in dpkt.pcap.Reader(file):
                if frame[12:15] == b"\x08\x00\x45" and len(frame) >= 34:
                    ends = frozenset((frame[26:30], frame[30:34]))
                    found.setdefault(ends, []).append(struct.unpack_from(">H", frame, 16)[0])
    except (ValueError, dpkt.Error):
        pass  # another format, or malformed
    return found


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of real captures")
def test_odds_hold_for_real_packet_lengths() -> None:
    """The packets of real conversations, inside AES-GCM, fit a block cipher's padding no more often than ODDS says."""
    lengths_of_flows = []
    for path in sorted(Path(CORPUS or "").iterdir()):
        for sizes in ipv4_lengths(path).values():
            if len(sizes) >= 16:
                lengths_of_flows.append(
                    sorted({32 + size + 2 + -(size + 2) % 4 for size in sizes[:128] if 20 <= size <= 1500})
                )
    random = Random(4303)
    for block_size, table in ODDS.items():
        for least, odds in table:
            flows = [lengths for lengths in lengths_of_flows if len(lengths) >= least]
            assert len(flows) >= 20
            samples = [random.sample(lengths, least) for lengths in flows for _ in range(200)]
            fitting = sum(1 for sample in samples if len({length % block_size for length in sample}) == 1)
            assert fitting / len(samples) <= 1.1 / odds, (block_size, least, fitting, len(samples))


@pytest.mark.parametrize("module", [esp, udp])
@given(st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 1500)), min_size=1, max_size=8))
def test_any_bytes_cause_no_defect(module: ProtocolModule, sent: list[tuple[bytes, int]]) -> None:
    packets = [(ORIGINATOR, data, max(len(data), length)) for data, length in sent]
    for ports in ((0, 0), (4500, 4500)):
        flow = head_of(*packets, transport="udp", ports=ports)
        module.probe(flow)
        breaks = dissect_as(module, flow).parse_errors
        assert Cause.DEFECT not in [error.anomaly.cause for error in breaks]


@given(st.lists(st.tuples(st.booleans(), st.integers(254, 259), st.integers(0, 2**32 - 1), st.binary(max_size=56))))
def test_facts_of_any_packets_are_consistent(sent: list[tuple[bool, int, int, bytes]]) -> None:
    packets = [
        (Direction(responder), struct.pack(">II", spi, sequence) + body, 8 + len(body))
        for responder, spi, sequence, body in sent
    ]
    facts = facts_of(*packets)
    assert sum(sa.packets for sa in facts.associations) == facts.packets_read == len(packets)
    assert all(sa.missing >= 0 for sa in facts.associations)
    assert len(facts.pairs) <= len(facts.associations) // 2
    assert len({spi for pair in facts.pairs for spi in pair}) <= len(facts.associations)
    json.dumps(to_json(facts))


def test_listed_spis_are_bounded() -> None:
    many = head_of(*((ORIGINATOR, struct.pack(">II", 1000 + index, 1) + bytes(40), 48) for index in range(200)))
    facts = dissect_as(esp, many).facts
    assert isinstance(facts, esp.EspFacts)
    assert len(facts.spis) == MAX_SPIS and facts.packets_read == 200
