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
from analyzer.conversations import converse
from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, ike
from analyzer.protocols.esp import EspPacket, NatKeepalive
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

EXAMPLES = [
    head((SENT, INIT_REQUEST), (BACK, INIT_RESPONSE)),
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
    assert sa.group_retry and not sa.retransmissions
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
    assert sa.cookie_retry and sa.chosen is None


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


# -- real captures ----------------------------------------------------------------------------------------------

CORPUS = os.environ.get("TPE_PCAP_CORPUS")


def captures_with_ike() -> Iterator[dict[str, Any]]:
    if CORPUS:
        for line in (Path(CORPUS) / "truth.jsonl").read_text().splitlines():
            truth = json.loads(line)
            if any(sa.get("offered") or sa.get("chosen") for sa in truth.get("ike", {}).get("sas", ())):
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


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of real captures")
def test_real_captures_show_the_proposals_that_tshark_sees() -> None:
    compared = 0
    for truth in captures_with_ike():
        found = flows.read([str(Path(CORPUS or "") / truth["name"])])
        sas: dict[str, ike.IkeSa] = {}
        for each in converse(found).alone():
            if ike.probe(each.head):
                dissected = dissect_as(ike, each.head).facts
                assert isinstance(dissected, ike.IkeFacts)
                for sa in dissected._sas:
                    if sa.proposals or sa.choice or sa.initiator_spi not in sas:
                        sas[sa.initiator_spi] = sa
        for expected in truth["ike"]["sas"]:
            sa = sas[expected["ispi"]]
            assert f"{sa.major}.0" == expected["version"], truth["name"]
            # In order of preference, which strongSwan changes when it tries again with another group.
            offered, wanted = read_of(sa.proposals), truth_of(expected["offered"])
            assert len(offered) == len(wanted) and all(each in offered for each in wanted), truth["name"]
            assert read_of([sa.choice] if sa.choice else []) == truth_of(expected["chosen"]), truth["name"]
            compared += 1
    assert compared >= 10
