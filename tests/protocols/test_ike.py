"""IKE: what the clear part of the exchange shows, and how broken messages end."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import flows
from analyzer.conversations import dissect_flows
from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, ike
from analyzer.protocols.esp import EspPacket, NatKeepalive
from analyzer.protocols.ike.proposals import contains
from analyzer.protocols.ike.registry import FIRST_PAYLOADS
from analyzer.wire import Cause

SENT, BACK = Direction.ORIGINATOR, Direction.RESPONDER

# strongSwan 6.0.1, own recording: ike=aes128-sha256-ecp256,aes128-sha384-ecp384,aes256-sha512-ecp521
INIT_REQUEST = bytes.fromhex(
    "0cacfbd6a5133f550000000000000000212022080000000000000168220000880200002c010100040300000c0100000c800e0080"
    "030000080300000c030000080200000500000008040000130200002c020100040300000c0100000c800e0080030000080300000d"
    "030000080200000600000008040000140000002c030100040300000c0100000c800e0100030000080300000e0300000802000007"
    "000000080400001528000048001300008efa39e0dda071e34ad9a3c3df4e4e20531947d1728d6d1b8a3416d9b30dbc441ccbe9d3"
    "4efa5df490cf908bdb8030ba1bc5e3d5af2c524181f1ce14cbe789d3290000245dda461c849326d0dcfdb3f689b89aafe8a6746c"
    "697ba6c32b5953d7566b7f0d2900001c00004004edc4275698aa90598256233895574c1f955f91152900001c0000400547b94449"
    "1d9c707b3dcae1e9f636a636d1eb02ff290000080000402e290000100000402f00020003000400050000000800004016"
)
INIT_RESPONSE = bytes.fromhex(
    "0cacfbd6a5133f5583bfd4ba6392f1ac212022200000000000000131220000300000002c010100040300000c0100000c800e0080"
    "030000080300000c030000080200000500000008040000132800004800130000e3d985c0500a7f16522b0ee8d694ed1f6bc80dac"
    "9b263bda962fa2c1053c9b6ee5375f51681173c4253ea0290368b1248f2b2ded040b4f332c49af2bbe92187729000024e3df571f"
    "8e0716d16d111b100846e2d6be279179e259d104ada7dc38c445739a2900001c00004004c004f87cf126ec74b0599dd3eec090f7"
    "4c52ffa92600001c000040052ed3776c73248edf770faa7302bec9039aaf5b8c29000019047567bd0d6cf837a1f7dbb7e0824854"
    "18817c597b290000080000402e290000100000402f000200030004000529000008000040220000000800004014"
)
SPI_I, SPI_R = INIT_REQUEST[:8], INIT_RESPONSE[8:16]
ESP_BYTES = bytes.fromhex("fbf1cccf00000001") + bytes(range(100))
KEEPALIVE = b"\xff"


# -- building messages ------------------------------------------------------------------------------------------


def message(
    exchange: int,
    *payloads: tuple[int, bytes],
    version: int = 0x20,
    flags: int = 0x08,
    spi_i: bytes = SPI_I,
    spi_r: bytes = bytes(8),
    message_id: int = 0,
    inside: int = 0,
) -> bytes:
    """An IKE message with payloads given as (type, body)."""
    body = b""
    for index, (_, content) in enumerate(payloads):
        following = payloads[index + 1][0] if index + 1 < len(payloads) else inside
        body += struct.pack(">BBH", following, 0, len(content) + 4) + content
    first = payloads[0][0] if payloads else 0
    return spi_i + spi_r + struct.pack(">BBBBII", first, version, exchange, flags, message_id, 28 + len(body)) + body


def proposal(number: int, *transforms: tuple[int, int, int | None], last: bool = True) -> bytes:
    """An IKEv2 proposal of transforms given as (type, id, key length)."""
    body = b""
    for index, (kind, identifier, bits) in enumerate(transforms):
        attribute = b"" if bits is None else struct.pack(">HH", 0x800E, bits)
        more = 3 if index + 1 < len(transforms) else 0
        body += struct.pack(">BBHBBH", more, 0, 8 + len(attribute), kind, 0, identifier) + attribute
    return struct.pack(">BBHBBBB", 0 if last else 2, 0, 8 + len(body), number, 1, 0, len(transforms)) + body


def notify(kind: int, data: bytes = b"") -> tuple[int, bytes]:
    return 41, struct.pack(">BBH", 0, 0, kind) + data


AES128, AES256, SHA256, PRF256, ECP256 = (1, 12, 128), (1, 12, 256), (3, 12, None), (2, 5, None), (4, 19, None)
GOOD = (AES128, SHA256, PRF256, ECP256)


def isakmp_sa(*transforms: tuple[tuple[int, int], ...]) -> tuple[int, bytes]:
    """The SA payload of IKEv1 with one proposal."""
    body = b""
    for index, attributes in enumerate(transforms):
        raw = b"".join(struct.pack(">HH", 0x8000 | kind, value) for kind, value in attributes)
        raw += struct.pack(">HHI", 12, 4, 86400)  # a life duration in the long form
        more = 3 if index + 1 < len(transforms) else 0
        body += struct.pack(">BBHBBH", more, 0, 8 + len(raw), index + 1, 1, 0) + raw
    part = struct.pack(">BBHBBBB", 0, 0, 8 + len(body), 1, 1, 0, len(transforms)) + body
    return 1, struct.pack(">II", 1, 1) + part


def head(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> Head:
    """A UDP head; datagrams are a millisecond apart and numbered from frame 1."""
    datagrams = tuple(
        Datagram(direction, data, len(data), Frame(0, index + 1), index * 1_000_000)
        for index, (direction, data) in enumerate(sent)
    )
    return Head("udp", ports, datagrams=datagrams)


def read(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> Dissection:
    return dissect_as(ike, head(*sent, ports=ports))


def facts_of(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> ike.IkeFacts:
    found = read(*sent, ports=ports).facts
    assert isinstance(found, ike.IkeFacts)
    return found


MARKED_AUTH = bytes(4) + message(35, (46, bytes(64)), spi_r=SPI_R, message_id=1, inside=35)
FRAGMENT = bytes(4) + message(35, (53, struct.pack(">HH", 1, 2) + bytes(64)), spi_r=SPI_R, message_id=1, inside=35)

AGGRESSIVE = (
    message(
        4,
        isakmp_sa(((1, 7), (14, 128), (2, 2), (4, 2), (3, 1)), ((1, 5), (2, 1), (4, 5), (3, 1))),
        (4, bytes(128)),
        (10, bytes(20)),
        (5, b"\x02\x11\x01\xf4station"),
        (13, bytes.fromhex("afcad71368a1f1c96b8696fc77570100")),
        version=0x10,
        flags=0,
    ),
    message(
        4,
        isakmp_sa(((1, 7), (14, 128), (2, 2), (4, 2), (3, 1))),
        (4, bytes(128)),
        (20, bytes(20)),
        version=0x10,
        flags=0,
        spi_r=SPI_R,
    ),
)
QUICK = SPI_I + SPI_R + struct.pack(">BBBBII", 8, 0x10, 32, 1, 7, 28 + 48) + bytes(48)

REDIRECT_DATA = b"\x01\x04" + bytes((192, 0, 2, 7)) + bytes(32)
HYBRID = (*GOOD, (6, 36, None), (6, 0, None), (7, 37, None))
ISAKMP_PIECE = message(2, (132, b"\x00\x01\x01\x00" + bytes(40)), version=0x10, flags=0)

EXAMPLES = [
    head((SENT, INIT_REQUEST), (BACK, INIT_RESPONSE)),
    head(
        (SENT, message(34, (33, proposal(1, *GOOD)), notify(16406))),
        (BACK, message(34, notify(16390, bytes(20)), flags=0x20)),
        (SENT, message(34, notify(16390, bytes(20)), (33, proposal(1, *GOOD)))),
        (BACK, message(34, notify(17, b"\x00\x14"), flags=0x20)),
        (BACK, message(34, notify(16407, REDIRECT_DATA), (40, bytes(32)), flags=0x20)),
        (SENT, message(34, notify(16408, b"\x03\x0btpe.example"), (33, proposal(1, *HYBRID)))),
        (SENT, message(43, (46, bytes(64)), spi_r=SPI_R, message_id=1, inside=34)),
    ),
    head((SENT, ISAKMP_PIECE), (BACK, ISAKMP_PIECE)),
    head(
        (SENT, FRAGMENT),
        (SENT, MARKED_AUTH),
        (SENT, ESP_BYTES),
        (BACK, ESP_BYTES),
        (SENT, KEEPALIVE),
        ports=(4500, 4500),
    ),
    head((SENT, AGGRESSIVE[0]), (BACK, AGGRESSIVE[1]), (SENT, QUICK)),
]


# -- what a good exchange says ----------------------------------------------------------------------------------


def test_the_first_exchange_shows_offer_and_choice() -> None:
    shown = to_json(facts_of((SENT, INIT_REQUEST), (BACK, INIT_RESPONSE)))
    assert shown["version"] == "2.0"
    assert shown["exchanges"] == ["IKE_SA_INIT"]
    assert shown["offered"] == ["aes128-sha256-ecp256", "aes128-sha384-ecp384", "aes256-sha512-ecp521"]
    assert shown["chosen"] == "aes128-sha256-ecp256"
    assert shown["nat_traversal"] is False
    assert shown["notifies"][:2] == ["NAT_DETECTION_SOURCE_IP", "NAT_DETECTION_DESTINATION_IP"]
    assert (shown["initiator_spi"], shown["responder_spi"]) == ("0cacfbd6a5133f55", "83bfd4ba6392f1ac")
    assert not [key for key in shown if key.startswith("_")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_good_messages_are_read_to_their_end(example: Head) -> None:
    dissection = dissect_as(ike, example)
    assert ike.probe(example)
    assert dissection.breaks == ()
    assert {item.frame for item in dissection.items} == {datagram.frame for datagram in example.datagrams}


def test_esp_and_keepalives_inside_the_flow_are_told_from_ike() -> None:
    found = read(
        (SENT, MARKED_AUTH),
        (SENT, ESP_BYTES),
        (BACK, b"\x23\x6a\xb7\x64" + ESP_BYTES[4:]),
        (SENT, KEEPALIVE),
        ports=(4500, 4500),
    )
    packets = [item.message for item in found.items if isinstance(item.message, EspPacket)]
    assert [packet.spi for packet in packets] == [0xFBF1CCCF, 0x236AB764]
    assert all(packet.udp_encapsulated for packet in packets)
    assert sum(isinstance(item.message, NatKeepalive) for item in found.items) == 1
    shown = to_json(found.facts)
    assert shown["spis"] == ["0xfbf1cccf", "0x236ab764"]
    assert shown["nat_traversal"] is True and shown["udp_encapsulated"] is True
    assert "offered" not in shown and "chosen" not in shown


def test_encrypted_parts_are_passed_over_by_their_length_even_where_they_were_not_kept() -> None:
    cut = Datagram(SENT, MARKED_AUTH[:40], len(MARKED_AUTH), Frame(0, 1), 0)
    dissection = dissect_as(ike, Head("udp", (4500, 4500), datagrams=(cut,)))
    assert dissection.breaks == ()
    assert [type(item.message) for item in dissection.items] == [ike.IkeHeader, ike.Encrypted]


def test_version_1_shows_its_proposals_and_stops_quietly_where_it_is_encrypted() -> None:
    facts = facts_of((SENT, AGGRESSIVE[0]), (BACK, AGGRESSIVE[1]), (SENT, QUICK))
    assert facts.version == "1.0"
    assert facts.exchanges == ("Aggressive", "Quick Mode")
    assert facts.offered == ("aes128-sha1-modp1024", "3des-md5-modp1536")
    assert facts.chosen == "aes128-sha1-modp1024"
    assert facts.vendor_ids == ("afcad71368a1f1c96b8696fc77570100",)


@pytest.mark.parametrize(
    ("transforms", "notation"),
    [
        (GOOD, ["aes128-sha256-ecp256"]),
        (((1, 20, 128), PRF256, ECP256), ["aes128gcm16-prfsha256-ecp256"]),
        ((AES128, (3, 12, None), (2, 6, None), ECP256), ["aes128-sha256-prfsha384-ecp256"]),
        ((AES128, AES256, SHA256, PRF256, ECP256), ["aes128-sha256-ecp256", "aes256-sha256-ecp256"]),
        (((1, 3, None), (3, 1, None), (2, 1, None), (4, 2, None)), ["3des-md5-modp1024"]),
        (((1, 28, None), (2, 7, None), (4, 31, None)), ["chacha20poly1305-prfsha512-curve25519"]),
        (((1, 99, None), (3, 98, None), (2, 97, None), (4, 96, None)), ["encr_99-integ_98-prf_97-ke_96"]),
        (((1, 20, 256), (2, 6, None), (4, 20, None), (6, 36, None)), ["aes256gcm16-prfsha384-ecp384-ke1_mlkem768"]),
        (((1, 20, 256), (3, 0, None), (2, 6, None), (4, 20, None)), ["aes256gcm16-prfsha384-ecp384"]),
    ],
)
def test_proposals_are_named_as_strongswan_names_them(
    transforms: tuple[tuple[int, int, int | None], ...], notation: list[str]
) -> None:
    offered = facts_of((SENT, message(34, (33, proposal(1, *transforms))))).offered
    assert list(offered) == notation


def test_an_offer_with_too_many_combinations_is_written_in_one() -> None:
    many = (*((1, 12, bits) for bits in (128, 192, 256)), *((3, kind, None) for kind in (12, 13, 14)))
    many += (*((2, kind, None) for kind in (5, 6, 7)), *((4, kind, None) for kind in (19, 20, 21)))
    offered = facts_of((SENT, message(34, (33, proposal(1, *many))))).offered
    assert offered == ("aes128-aes192-aes256-sha256-sha384-sha512-ecp256-ecp384-ecp521",)


def test_a_retry_with_another_group_is_one_sa_and_the_last_offer_counts() -> None:
    other = (AES128, (3, 13, None), (2, 6, None), (4, 20, None))
    facts = facts_of(
        (SENT, message(34, (33, proposal(1, *other)))),
        (BACK, message(34, notify(17, b"\x00\x13"), flags=0x20)),
        (SENT, message(34, (33, proposal(1, *GOOD)))),
        (BACK, message(34, (33, proposal(1, *GOOD)), flags=0x20, spi_r=SPI_R)),
    )
    (sa,) = facts._sas
    assert sa.retries == ["INVALID_KE_PAYLOAD"] and not sa.retransmissions
    assert facts.offered == ("aes128-sha256-ecp256",) and facts.chosen == "aes128-sha256-ecp256"
    assert "INVALID_KE_PAYLOAD" in facts.notifies


def test_the_last_agreed_sa_counts_and_retransmissions_are_seen() -> None:
    second = b"\x22" * 8
    facts = facts_of(
        (SENT, INIT_REQUEST),
        (SENT, INIT_REQUEST),
        (BACK, INIT_RESPONSE),
        (SENT, message(34, (33, proposal(1, AES256, SHA256, PRF256, ECP256)), spi_i=second)),
    )
    assert facts.initiator_spi == SPI_I.hex()
    assert [(sa.retransmissions, sa.chosen is not None) for sa in facts._sas] == [(1, True), (0, False)]


def test_a_cookie_request_is_seen() -> None:
    (sa,) = facts_of((SENT, INIT_REQUEST), (BACK, message(34, notify(16390, b"cookie"), flags=0x20)))._sas
    assert sa.pending_retry == "COOKIE" and sa.chosen is None


# -- what is not IKE, and what is broken ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "ports"),
    [
        (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", (40000, 500)),
        (bytes(64), (500, 500)),
        (ESP_BYTES, (4500, 4500)),
        (KEEPALIVE, (4500, 4500)),
        (INIT_REQUEST + b"\x00", (40000, 5353)),
    ],
)
def test_other_content_is_not_taken_for_ike(data: bytes, ports: tuple[int, int]) -> None:
    assert not ike.probe(head((SENT, data), ports=ports))


def test_ike_is_known_on_any_port() -> None:
    assert ike.probe(head((SENT, INIT_REQUEST), ports=(40000, 15500)))


def malformed(data: bytes) -> str:
    (broken,) = read((SENT, data)).malformed
    return broken.anomaly.field


@pytest.mark.parametrize("delta", [-1, 1, 1000])
def test_a_message_length_that_is_wrong_is_malformed(delta: int) -> None:
    wrong = INIT_REQUEST[:24] + struct.pack(">I", len(INIT_REQUEST) + delta) + INIT_REQUEST[28:]
    assert read((SENT, wrong)).malformed


@pytest.mark.parametrize("offset", [30, 34, 42, 42 + 4 + 8, 28 + 0x88 + 2])
@pytest.mark.parametrize("delta", [-1, 1])
def test_an_inner_length_that_is_wrong_is_malformed(offset: int, delta: int) -> None:
    (length,) = struct.unpack_from(">H", INIT_REQUEST, offset)
    wrong = INIT_REQUEST[:offset] + struct.pack(">H", length + delta) + INIT_REQUEST[offset + 2 :]
    assert read((SENT, wrong)).malformed


def test_a_payload_chain_that_goes_round_in_circles_ends() -> None:
    assert malformed(message(34, (43, b""), (43, b""))[:28] + struct.pack(">BBH", 43, 0, 0) + bytes(4)) == (
        "Payload Length"
    )


def test_a_chain_that_ends_too_early_or_too_late_is_malformed() -> None:
    assert malformed(message(34, (40, bytes(32)), inside=40)) == "Next Payload"
    early = message(34, (40, bytes(32)), (40, bytes(32)))
    assert malformed(early[:28] + b"\x00" + early[29:]) == "Next Payload"


def test_what_was_read_before_a_break_is_kept() -> None:
    first = proposal(1, *GOOD, last=False)
    second = bytearray(proposal(2, *GOOD))
    second[7] = 9  # claims more transforms than there are
    facts = facts_of((SENT, message(34, (33, first + bytes(second)))))
    assert facts.offered == ("aes128-sha256-ecp256",)


def test_an_impossible_fragment_number_is_malformed() -> None:
    assert malformed(message(35, (53, struct.pack(">HH", 3, 2) + bytes(8)), spi_r=SPI_R)) == "Fragment Number"


def test_bytes_that_were_not_captured_are_nobodys_fault() -> None:
    for kept in range(len(INIT_REQUEST)):
        datagram = Datagram(SENT, INIT_REQUEST[:kept], len(INIT_REQUEST), Frame(0, 1), 0)
        breaks = dissect_as(ike, Head("udp", (500, 500), datagrams=(datagram,))).breaks
        assert [each.anomaly.cause for each in breaks] == [Cause.TRUNCATED] or (not breaks and kept > 300)


@given(
    st.lists(st.tuples(st.sampled_from([SENT, BACK]), st.binary(max_size=200)), min_size=1, max_size=8), st.booleans()
)
def test_any_bytes_are_survived(sent: list[tuple[Direction, bytes]], marked: bool) -> None:
    prefix = bytes(4) + INIT_REQUEST[:24] if marked else b""
    breaks = read(*((direction, prefix + data) for direction, data in sent), ports=(4500, 4500)).breaks
    assert not [each for each in breaks if each.anomaly.cause is Cause.DEFECT]


@given(st.sampled_from([INIT_REQUEST, INIT_RESPONSE, *AGGRESSIVE]), st.data())
def test_any_changed_byte_is_survived(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:at] + bytes([draw.draw(st.integers(0, 255))]) + data[at + 1 :]
    breaks = read((SENT, changed), (BACK, INIT_RESPONSE)).breaks
    assert not [each for each in breaks if each.anomaly.cause is Cause.DEFECT]


# -- what a specialist reads between the lines ------------------------------------------------------------------


def sa_of(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> ike.SaFacts:
    (sa,) = facts_of(*sent, ports=ports).sas
    return sa


def offer(*transforms: tuple[int, int, int | None]) -> bytes:
    return message(34, (33, proposal(1, *(transforms or GOOD))))


def choice(*transforms: tuple[int, int, int | None]) -> bytes:
    return message(34, (33, proposal(1, *(transforms or GOOD))), flags=0x20, spi_r=SPI_R)


def sealed(exchange: int, message_id: int, flags: int = 0x08, spi_i: bytes = SPI_I, size: int = 64) -> bytes:
    """A message with nothing but an encrypted payload; flags 0x08: of the initiator, 0x20: a response."""
    return bytes(4) + message(exchange, (46, bytes(size)), spi_i=spi_i, spi_r=SPI_R, message_id=message_id, flags=flags)


def fragment(number: int, total: int, message_id: int = 1, flags: int = 0x08) -> bytes:
    body = struct.pack(">HH", number, total) + bytes(64)
    return bytes(4) + message(35, (53, body), spi_r=SPI_R, message_id=message_id, flags=flags)


def test_a_cookie_and_another_group_are_two_retries_of_one_attempt() -> None:
    other = (AES128, (3, 13, None), (2, 6, None), (4, 20, None))
    sa = sa_of(
        (SENT, offer(*other)),
        (BACK, message(34, notify(16390, bytes(20)), flags=0x20)),
        (SENT, message(34, notify(16390, bytes(20)), (33, proposal(1, *other)))),
        (BACK, message(34, notify(17, b"\x00\x13"), flags=0x20)),
        (SENT, message(34, notify(16390, bytes(20)), (33, proposal(1, *GOOD)))),
        (BACK, choice()),
    )
    assert sa.retries == ("COOKIE", "INVALID_KE_PAYLOAD") and sa.requested_group == "ecp256"
    assert (sa.retransmissions, sa.exchanges) == (0, {"IKE_SA_INIT": 6})
    assert sa.offered == ("aes128-sha256-ecp256",) == (sa.chosen,)


def test_a_retransmission_is_no_retry_and_another_spi_is_another_attempt() -> None:
    facts = facts_of(
        (SENT, offer()),
        (BACK, message(34, notify(16390, bytes(20)), flags=0x20)),
        (SENT, offer()),
        (SENT, message(34, (33, proposal(1, *GOOD)), spi_i=b"\x22" * 8)),
    )
    assert [(sa.retransmissions, sa.retries) for sa in facts.sas] == [(1, ()), (0, ())]


def test_additional_key_exchanges_are_named() -> None:
    facts = facts_of((SENT, offer(*HYBRID)), (BACK, choice(*GOOD, (6, 36, None), (7, 37, None))))
    assert facts.chosen == "aes128-sha256-ecp256-ke1_mlkem768-ke2_mlkem1024"
    assert "aes128-sha256-ecp256-ke1_none-ke2_mlkem1024" in facts.offered


@pytest.mark.parametrize(
    ("data", "gateway"),
    [
        (REDIRECT_DATA, "192.0.2.7"),
        (b"\x02\x10" + bytes(15) + b"\x01" + bytes(16), "::1"),
        (b"\x03\x0btpe.example" + bytes(16), "tpe.example"),
        (b"\x09\x02\x1b[", "\\x1b["),
    ],
)
def test_a_redirection_tells_the_new_gateway(data: bytes, gateway: str) -> None:
    sa = sa_of((SENT, offer()), (BACK, message(34, notify(16407, data), flags=0x20)))
    assert sa.redirected_to == gateway and sa.redirected_from is None


def test_who_was_redirected_says_from_where() -> None:
    sa = sa_of((SENT, message(34, notify(16408, b"\x01\x04\xc0\x00\x02\x07"), (33, proposal(1, *GOOD)))))
    assert sa.redirected_from == "192.0.2.7"


def test_fragments_are_counted_by_message_and_smaller_ones_begin_anew() -> None:
    sa = sa_of(
        *((SENT, fragment(number, 3)) for number in (1, 3, 3)),
        (BACK, fragment(1, 2, flags=0x20)),
        (BACK, fragment(2, 2, flags=0x20)),
        ports=(4500, 4500),
    )
    assert [(each.message, each.total, each.read) for each in sa.fragments] == [
        ("IKE_AUTH 1 of the initiator", 3, 2),
        ("IKE_AUTH 1 of the initiator (response)", 2, 2),
    ]
    smaller = sa_of(*((SENT, fragment(*each)) for each in ((1, 2), (1, 4), (2, 4), (2, 2))), ports=(4500, 4500))
    assert [(each.total, each.read) for each in smaller.fragments] == [(4, 2)]


def test_a_session_that_is_older_than_the_capture_shows_its_window() -> None:
    sa = sa_of(
        (BACK, sealed(37, 4, flags=0x20)),
        (SENT, sealed(37, 5)),
        (BACK, sealed(37, 5, flags=0x20)),
        (BACK, sealed(36, 0, flags=0x00)),
        (SENT, sealed(36, 0, flags=0x28)),
        (SENT, sealed(37, 6)),
        (SENT, sealed(37, 6)),
        ports=(4500, 4500),
    )
    assert sa.mid_session and sa.chosen is None and sa.rekeys == 1
    assert sa.unasked == ("INFORMATIONAL 4 of the initiator",)
    assert sa.unanswered == ("INFORMATIONAL 6 of the initiator",)
    assert sa.exchanges == {"INFORMATIONAL": 4, "CREATE_CHILD_SA": 2} and sa.retransmissions == 1


def test_an_sa_that_replaces_another_is_known_by_the_exchange_before_it() -> None:
    facts = facts_of(
        (SENT, INIT_REQUEST),
        (BACK, INIT_RESPONSE),
        (SENT, sealed(36, 2)),
        (BACK, sealed(36, 2, flags=0x20)),
        (SENT, sealed(37, 0, spi_i=b"\x33" * 8)),
        ports=(4500, 4500),
    )
    assert [(sa.mid_session, sa.follows) for sa in facts.sas] == [(False, None), (True, SPI_I.hex())]


def test_vendor_ids_are_named() -> None:
    ids = ("882fe56d6fd20dbc2251613b2ebe5beb", "afcad71368a1f1c96b8696fc77570100", "00ff", "464c455856504e")
    facts = facts_of((SENT, message(34, *((43, bytes.fromhex(each)) for each in ids))))
    assert facts.vendor_ids == ids
    assert facts.vendors == ("strongSwan", "RFC 3706 (dead peer detection)", "FLEXVPN")


def test_version_1_shows_how_the_peers_authenticate_and_who_they_say_they_are() -> None:
    sa = sa_of((SENT, AGGRESSIVE[0]), (BACK, AGGRESSIVE[1]), (SENT, QUICK))
    assert sa.authentication == ("pre-shared key",) and sa.identities == ("station",)
    assert sa.exchanges == {"Aggressive": 2, "Quick Mode": 1}


def test_main_mode_names_its_proposal() -> None:
    transform = ((1, 7), (14, 128), (2, 4), (4, 15), (3, 3))
    sa = sa_of((SENT, message(2, isakmp_sa(transform), version=0x10, flags=0)))
    assert sa.offered == ("aes128-sha256-modp3072",) and sa.authentication == ("RSA signatures",)


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ("aes128-sha256-ecp256", True),
        ("aes256-sha384-ecp384", True),
        ("aes128-sha256-prfsha384-ecp256", True),
        ("aes128-sha256-prfsha1-ecp256", False),
        ("aes128-sha256", False),
        ("aes128-aes256-sha256-ecp256", False),
        ("aes128gcm16-prfsha256-ecp256", False),
    ],
)
def test_an_offer_of_sets_holds_each_of_its_combinations(wanted: str, holds: bool) -> None:
    many = (*((1, 12, bits) for bits in (128, 192, 256)), *((3, kind, None) for kind in (12, 13, 14)))
    many += (*((2, kind, None) for kind in (5, 6, 7)), *((4, kind, None) for kind in (19, 20, 21)))
    ((sa),) = facts_of((SENT, offer(*many)))._sas
    assert contains(sa.proposals[0], frozenset(wanted.split("-"))) is holds


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (message(34, notify(17, b"\x00"), flags=0x20), "Notification Data"),
        (message(34, notify(16388, bytes(19)), flags=0x20), "Notification Data"),
        (message(34, notify(16390), flags=0x20), "Notification Data"),
        (message(34, notify(16390, bytes(65)), flags=0x20), "Notification Data"),
        (message(34, notify(16407, b"\x01\x05" + bytes(5)), flags=0x20), "GW Ident Len"),
        (message(34, notify(16407, b"\x03\x05" + bytes(4)), flags=0x20), "GW Ident Len"),
        (message(34, notify(16408, b"\x01\x04" + bytes(5))), "GW Ident Len"),
        (message(2, (132, b"\x00\x01\x00\x00"), version=0x10, flags=0), "Fragment Number"),
    ],
)
def test_notifications_and_fragments_that_contradict_themselves(data: bytes, field: str) -> None:
    assert malformed(data) == field


@pytest.mark.parametrize(("at", "value"), [(28 + 4, 1), (28 + 4 + 8, 0), (28 + 4 + 8 + 12 + 3 * 8 - 8, 3)])
def test_a_chain_of_proposals_or_transforms_that_contradicts_their_number(at: int, value: int) -> None:
    good = offer()
    assert malformed(good[:at] + bytes([value]) + good[at + 1 :]) == "Last Substruc"


STRUCTURES = {
    "cookie": (message(34, notify(16390, bytes(20)), flags=0x20), (28 + 2,)),
    "redirect": (message(34, notify(16407, REDIRECT_DATA), (40, bytes(32)), flags=0x20), (28 + 2, 28 + 46 + 2)),
    "redirected from": (message(34, notify(16408, REDIRECT_DATA[:6])), (28 + 2,)),
    "additional key exchanges": (offer(*HYBRID), (28 + 2, 28 + 6, 28 + 4 + 8 + 2, 28 + 4 + 8 + 12 + 2)),
    "fragment": (fragment(1, 2)[4:], (28 + 2,)),
    "IKEv1 fragment": (ISAKMP_PIECE, (28 + 2,)),
}
"""Whole messages, and where two-byte lengths stand in them."""


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("delta", [-1, 1])
def test_any_length_that_is_off_by_one_is_malformed(name: str, delta: int) -> None:
    data, places = STRUCTURES[name]
    assert read((SENT, data)).breaks == ()
    for at in places:
        (length,) = struct.unpack_from(">H", data, at)
        assert malformed(data[:at] + struct.pack(">H", length + delta) + data[at + 2 :])


@given(st.data())
def test_any_bytes_inside_of_a_payload_are_survived(draw: st.DataObject) -> None:
    """Facts of both versions under one SPI, with payloads of every kind whose content is not what it should be."""
    sent = []
    for _ in range(draw.draw(st.integers(1, 4))):
        version = draw.draw(st.sampled_from([0x10, 0x20, 0x20, 0x30]))
        kinds = st.sampled_from(FIRST_PAYLOADS[1 if version == 0x10 else 2][1:])
        bodies = st.binary(max_size=48) | st.sampled_from(
            [
                proposal(1, *HYBRID),
                isakmp_sa(((1, 7), (2, 4), (4, 15)))[1],
                bytes((0, 0)) + struct.pack(">H", draw.draw(st.sampled_from([14, 17, 16388, 16390, 16407, 16408]))),
                bytes((0, 0)) + struct.pack(">H", 16407) + draw.draw(st.binary(max_size=24)),
            ]
        )
        payloads = draw.draw(st.lists(st.tuples(kinds, bodies), max_size=4))
        exchange = draw.draw(st.sampled_from([2, 4, 32, 34, 35, 36, 37, 43]))
        flags = draw.draw(st.sampled_from([0, 0x08, 0x20, 0x28]))
        data = message(exchange, *payloads, version=version, flags=flags, message_id=draw.draw(st.integers(0, 2)))
        sent.append((draw.draw(st.sampled_from([SENT, BACK])), bytes(4) + data))
    dissection = read(*sent, ports=(4500, 4500))
    assert not [each for each in dissection.breaks if each.anomaly.cause is Cause.DEFECT]
    json.dumps(to_json(dissection.facts))


# -- real captures ----------------------------------------------------------------------------------------------

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
NO_IKE = {"tcpdump_ikev1_id_ipv6_addr_subnet-oobr.pcap", "tcpdump_isakmp-delete-segfault.pcap"}
"""Captures of forged bytes that the truth calls IKE because of their port: see :func:`impossible`."""


def truths() -> Iterator[dict[str, Any]]:
    if CORPUS:
        for line in (Path(CORPUS) / "truth.jsonl").read_text().splitlines():
            truth = json.loads(line)
            if truth.get("ike", {}).get("message_count"):
                yield truth


def truth_of(proposals: Iterable[dict[str, Any]] | None) -> list[set[tuple[str, int, int | None]]]:
    """Proposals of the truth as sets of (kind, id, key length)."""
    kinds = {"encryption_id": "encr", "hash_id": "hash", "dh_group": "dh"}
    found = []
    for each in proposals or ():
        parts = {
            (kind, entry["id"], entry.get("key_length"))
            for kind in ("encr", "prf", "integ", "dh")
            for entry in each.get(kind, ())
        }
        if not parts:
            parts = {
                (kind, each[key], each.get("key_length") if kind == "encr" else None)
                for key, kind in kinds.items()
                if key in each
            }
        found.append(parts)
    return found


def read_of(proposals: Iterable[ike.Proposal]) -> list[set[tuple[str, int, int | None]]]:
    """The same of what was read; each IKEv1 transform is a proposal of its own there."""
    found: list[set[tuple[str, int, int | None]]] = []
    for each in proposals:
        plain = set()
        for transform in each.transforms:
            if isinstance(transform, ike.Transform):
                plain.add(
                    ({1: "encr", 2: "prf", 3: "integ", 4: "dh"}[transform.type], transform.id, transform.key_length)
                )
            else:
                values = {"encr": transform.value(1), "hash": transform.value(2), "dh": transform.value(4)}
                bits = transform.value(14)
                found.append(
                    {
                        (kind, value, bits if kind == "encr" else None)
                        for kind, value in values.items()
                        if value is not None
                    }
                )
        if plain:
            found.append(plain)
    return found


def impossible(message: dict[str, Any]) -> bool:
    """Whether a message of the truth is none: a version that does not exist, or a length that no datagram has."""
    return message["version"] not in ("1.0", "2.0") or message["length"] > 0xFFFF


def statements(truth: dict[str, Any]) -> list[tuple[str, object, object]]:
    """All that is said of the SAs and messages of one capture: what it is about, as we see it, as the truth does."""
    found = flows.read([str(Path(CORPUS or "") / truth["name"])])
    sas: dict[str, list[ike.IkeSa]] = {}
    headers: dict[int, ike.IkeHeader] = {}
    for each in dissect_flows(found).expand():
        if isinstance(each.dissection.facts, ike.IkeFacts):
            for sa in each.dissection.facts._sas:
                sas.setdefault(sa.initiator_spi, []).append(sa)
            for item in each.dissection.items:
                if isinstance(item.message, ike.IkeHeader):
                    headers[item.frame.number] = item.message
    pairs: list[tuple[str, object, object]] = []
    for expected in truth["ike"]["sas"]:
        ours = sas.get(expected["ispi"], [])
        offered = next((read_of(sa.proposals) for sa in reversed(ours) if sa.proposals), [])
        chosen = next((read_of(sa.choices) for sa in reversed(ours) if sa.choices), [])
        kinds = list(dict.fromkeys(kind for sa in ours for kind in sa.exchanges))
        pairs.append(("version", {f"{sa.major}.0" for sa in ours}, {expected["version"]}))
        # In order of preference, which strongSwan changes when it tries again with another group.
        pairs.append(("offered", *map(in_any_order, (offered, truth_of(expected["offered"])))))
        pairs.append(("chosen", chosen, truth_of(expected["chosen"])))
        # By number: the truth's tool has no name for IKE_INTERMEDIATE.
        mine = (each.get("exchange_type") for each in truth["ike"]["messages"] if each["ispi"] == expected["ispi"])
        pairs.append(("exchanges", kinds, list(dict.fromkeys(mine))))
    seen: set[tuple[object, ...]] = set()
    for expected in truth["ike"]["messages"]:
        header = headers.get(expected["frame"])
        wanted = tuple(expected.get(key) for key in ("ispi", "exchange_type", "message_id", "length"))
        sent = (expected["src"], expected["dst"], *wanted)
        if header is None and sent in seen:
            continue  # a copy that another interface captured
        seen.add(sent)
        said = header and (header.initiator_spi.hex(), header.exchange, header.message_id, header.length)
        pairs.append(("message", said, wanted))
    return pairs


def in_any_order(proposals: list[set[tuple[str, int, int | None]]]) -> list[str]:
    return sorted(str(sorted(each, key=str)) for each in proposals)


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of real captures")
def test_real_captures_say_what_tshark_sees() -> None:
    compared = 0
    for truth in truths():
        if truth["name"] in NO_IKE:
            assert all(map(impossible, truth["ike"]["messages"]))
            assert not any(said for what, said, _ in statements(truth) if what in ("version", "message"))
            continue
        for what, said, wanted in statements(truth):
            assert said == wanted, f"{truth['name']}: {what}"
            compared += 1
    assert compared >= 300
