"""IKE datagrams: what is read of valid ones, and how broken ones end."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import to_json
from analyzer.protocols import dissect_as, ike
from analyzer.protocols.esp import EspPacket, NatKeepalive
from analyzer.protocols.ike.registry import FIRST_PAYLOADS
from analyzer.wire import Cause
from tests.protocols.ike_messages import (
    AGGRESSIVE,
    ALLOWED,
    ESP_BYTES,
    EXAMPLES,
    HYBRID,
    INIT_REQUEST,
    INIT_RESPONSE,
    ISAKMP_FRAGMENT,
    KEEPALIVE,
    MARKED_AUTH,
    ORIGINATOR,
    REDIRECT_DATA,
    RESPONDER,
    SPI_R,
    dissection_of,
    facts_of,
    fragment,
    head_of,
    isakmp_sa,
    message,
    notify,
    offer,
    proposal,
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_valid_messages_are_read_to_their_end(example: Head) -> None:
    dissection = dissect_as(ike, example)
    assert ike.probe(example)
    assert dissection.parse_errors == ()
    assert {item.frame for item in dissection.items} == {datagram.frame for datagram in example.datagrams}


def test_esp_and_keepalives_in_the_flow_are_told_from_ike() -> None:
    dissection = dissection_of(
        (ORIGINATOR, MARKED_AUTH),
        (ORIGINATOR, ESP_BYTES),
        (RESPONDER, b"\x23\x6a\xb7\x64" + ESP_BYTES[4:]),
        (ORIGINATOR, KEEPALIVE),
        ports=(4500, 4500),
    )
    packets = [item.message for item in dissection.items if isinstance(item.message, EspPacket)]
    assert [packet.spi for packet in packets] == [0xFBF1CCCF, 0x236AB764]
    assert all(packet.udp_encapsulated for packet in packets)
    assert sum(isinstance(item.message, NatKeepalive) for item in dissection.items) == 1
    shown = to_json(dissection.facts)
    assert shown["spis"] == ["0xfbf1cccf", "0x236ab764"]
    assert shown["nat_traversal"] is True and shown["udp_encapsulated"] is True
    assert "offered" not in shown and "chosen" not in shown


def test_encrypted_payloads_are_skipped_even_if_not_captured() -> None:
    cut = Datagram(ORIGINATOR, MARKED_AUTH[:40], len(MARKED_AUTH), Frame(0, 1), 0)
    dissection = dissect_as(ike, Head("udp", (4500, 4500), datagrams=(cut,)))
    assert dissection.parse_errors == ()
    assert [type(item.message) for item in dissection.items] == [ike.IkeHeader, ike.Encrypted]


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
def test_probe_rejects_other_content(data: bytes, ports: tuple[int, int]) -> None:
    assert not ike.probe(head_of((ORIGINATOR, data), ports=ports))


def test_probe_accepts_ike_on_any_port() -> None:
    assert ike.probe(head_of((ORIGINATOR, INIT_REQUEST), ports=(40000, 15500)))


# -- malformed and truncated --------------------------------------------------------------------------------------


def malformed_field(data: bytes) -> str:
    (error,) = dissection_of((ORIGINATOR, data)).malformed
    return error.anomaly.field


@pytest.mark.parametrize("delta", [-1, 1, 1000])
def test_a_wrong_message_length_is_malformed(delta: int) -> None:
    wrong = INIT_REQUEST[:24] + struct.pack(">I", len(INIT_REQUEST) + delta) + INIT_REQUEST[28:]
    assert dissection_of((ORIGINATOR, wrong)).malformed


@pytest.mark.parametrize("offset", [30, 34, 42, 42 + 4 + 8, 28 + 0x88 + 2])
@pytest.mark.parametrize("delta", [-1, 1])
def test_a_wrong_inner_length_is_malformed(offset: int, delta: int) -> None:
    (length,) = struct.unpack_from(">H", INIT_REQUEST, offset)
    wrong = INIT_REQUEST[:offset] + struct.pack(">H", length + delta) + INIT_REQUEST[offset + 2 :]
    assert dissection_of((ORIGINATOR, wrong)).malformed


def test_a_payload_of_length_zero_is_malformed() -> None:
    assert malformed_field(message(34, (43, b""), (43, b""))[:28] + struct.pack(">BBH", 43, 0, 0) + bytes(4)) == (
        "Payload Length"
    )


def test_a_payload_chain_that_ends_early_or_late_is_malformed() -> None:
    assert malformed_field(message(34, (40, bytes(32)), next_payload=40)) == "Next Payload"
    early = message(34, (40, bytes(32)), (40, bytes(32)))
    assert malformed_field(early[:28] + b"\x00" + early[29:]) == "Next Payload"


def test_proposals_before_a_malformed_one_are_kept() -> None:
    first = proposal(1, *ALLOWED, last=False)
    second = bytearray(proposal(2, *ALLOWED))
    second[7] = 9  # claims more transforms than there are
    facts = facts_of((ORIGINATOR, message(34, (33, first + bytes(second)))))
    assert facts.offered == ("aes128-sha256-ecp256",)


def test_an_impossible_fragment_number_is_malformed() -> None:
    assert malformed_field(message(35, (53, struct.pack(">HH", 3, 2) + bytes(8)), spi_r=SPI_R)) == "Fragment Number"


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
def test_notifications_and_fragments_with_impossible_values_are_malformed(data: bytes, field: str) -> None:
    assert malformed_field(data) == field


@pytest.mark.parametrize(("at", "value"), [(28 + 4, 1), (28 + 4 + 8, 0), (28 + 4 + 8 + 12 + 3 * 8 - 8, 3)])
def test_last_substruc_must_agree_with_the_number_of_transforms(at: int, value: int) -> None:
    valid = offer()
    assert malformed_field(valid[:at] + bytes([value]) + valid[at + 1 :]) == "Last Substruc"


STRUCTURES = {
    "cookie": (message(34, notify(16390, bytes(20)), flags=0x20), (28 + 2,)),
    "redirect": (message(34, notify(16407, REDIRECT_DATA), (40, bytes(32)), flags=0x20), (28 + 2, 28 + 46 + 2)),
    "redirected from": (message(34, notify(16408, REDIRECT_DATA[:6])), (28 + 2,)),
    "additional key exchanges": (offer(*HYBRID), (28 + 2, 28 + 6, 28 + 4 + 8 + 2, 28 + 4 + 8 + 12 + 2)),
    "fragment": (fragment(1, 2)[4:], (28 + 2,)),
    "IKEv1 fragment": (ISAKMP_FRAGMENT, (28 + 2,)),
}
"""Complete messages, and the offsets of two-byte lengths in them."""


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("delta", [-1, 1])
def test_a_length_off_by_one_is_malformed(name: str, delta: int) -> None:
    data, offsets = STRUCTURES[name]
    assert dissection_of((ORIGINATOR, data)).parse_errors == ()
    for at in offsets:
        (length,) = struct.unpack_from(">H", data, at)
        assert malformed_field(data[:at] + struct.pack(">H", length + delta) + data[at + 2 :])


def test_a_datagram_cut_by_the_capture_is_truncated() -> None:
    for kept in range(len(INIT_REQUEST)):
        datagram = Datagram(ORIGINATOR, INIT_REQUEST[:kept], len(INIT_REQUEST), Frame(0, 1), 0)
        breaks = dissect_as(ike, Head("udp", (500, 500), datagrams=(datagram,))).parse_errors
        assert [error.anomaly.cause for error in breaks] == [Cause.TRUNCATED] or (not breaks and kept > 300)


# -- any bytes ----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from([ORIGINATOR, RESPONDER]), st.binary(max_size=200)), min_size=1, max_size=8),
    st.booleans(),
)
def test_any_bytes_cause_no_defect(sent: list[tuple[Direction, bytes]], marked: bool) -> None:
    prefix = bytes(4) + INIT_REQUEST[:24] if marked else b""
    breaks = dissection_of(*((direction, prefix + data) for direction, data in sent), ports=(4500, 4500)).parse_errors
    assert Cause.DEFECT not in [error.anomaly.cause for error in breaks]


@given(st.sampled_from([INIT_REQUEST, INIT_RESPONSE, *AGGRESSIVE]), st.data())
def test_any_changed_byte_causes_no_defect(message: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(message) - 1))
    changed = message[:at] + bytes([data.draw(st.integers(0, 255))]) + message[at + 1 :]
    breaks = dissection_of((ORIGINATOR, changed), (RESPONDER, INIT_RESPONSE)).parse_errors
    assert Cause.DEFECT not in [error.anomaly.cause for error in breaks]


@given(st.data())
def test_any_bytes_inside_a_payload_cause_no_defect(data: st.DataObject) -> None:
    """Messages of both versions under one SPI, with payloads of every type and arbitrary content."""
    sent = []
    for _ in range(data.draw(st.integers(1, 4))):
        version = data.draw(st.sampled_from([0x10, 0x20, 0x20, 0x30]))
        kinds = st.sampled_from(FIRST_PAYLOADS[1 if version == 0x10 else 2][1:])
        bodies = st.binary(max_size=48) | st.sampled_from(
            [
                proposal(1, *HYBRID),
                isakmp_sa(((1, 7), (2, 4), (4, 15)))[1],
                bytes((0, 0)) + struct.pack(">H", data.draw(st.sampled_from([14, 17, 16388, 16390, 16407, 16408]))),
                bytes((0, 0)) + struct.pack(">H", 16407) + data.draw(st.binary(max_size=24)),
            ]
        )
        payloads = data.draw(st.lists(st.tuples(kinds, bodies), max_size=4))
        exchange = data.draw(st.sampled_from([2, 4, 32, 34, 35, 36, 37, 43]))
        flags = data.draw(st.sampled_from([0, 0x08, 0x20, 0x28]))
        identifier = data.draw(st.integers(0, 2))
        datagram = bytes(4) + message(exchange, *payloads, version=version, flags=flags, message_id=identifier)
        sent.append((data.draw(st.sampled_from([ORIGINATOR, RESPONDER])), datagram))
    dissection = dissection_of(*sent, ports=(4500, 4500))
    assert Cause.DEFECT not in [error.anomaly.cause for error in dissection.parse_errors]
    json.dumps(to_json(dissection.facts))
