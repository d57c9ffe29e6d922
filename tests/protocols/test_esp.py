"""ESP: raw and inside UDP, mostly cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import to_json
from analyzer.protocols import dissect_as, esp, ike, natt
from analyzer.protocols.esp import EspPacket, EspPayload, NatKeepalive
from analyzer.wire import Cause

SENT, BACK = Direction.ORIGINATOR, Direction.RESPONDER

# strongSwan 6.0.1 with esp=null-sha256, own recording: a ping inside
NULL_PACKET = bytes.fromhex(
    "cf2b90be0000000145000054d79e400040014d140afa00010afb000108008e0221c40001e799026b0000000093600c0000000000"
    "101112131415161718191a1b"
)
# AES-GCM looks like this: IV, then noise
GCM_PACKET = bytes.fromhex(
    "98e7c6a60000000100000000000000015bc03f9d4c1a9e2277f0d1b48812ee5699a3c0f7e2b4851d06d9"
) + bytes(range(0x90, 0xA6))


def head(
    *sent: tuple[Direction, bytes, int],
    transport: str = "esp",
    ports: tuple[int, int] = (0, 0),
    spacing: int = 1_000_000,
) -> Head:
    """A head of datagrams given as (direction, kept bytes, declared length)."""
    datagrams = tuple(
        Datagram(direction, data, length, Frame(0, index + 1), index * spacing)
        for index, (direction, data, length) in enumerate(sent)
    )
    return Head(transport, ports, datagrams=datagrams)


EXAMPLES = [
    head((SENT, NULL_PACKET, 112), (BACK, GCM_PACKET, 108), (SENT, GCM_PACKET[:60], 60)),
    head((SENT, GCM_PACKET, 108), (SENT, b"\xff", 1), (BACK, GCM_PACKET, 108), transport="udp", ports=(4500, 4500)),
]


def test_spis_of_both_directions_are_facts() -> None:
    shown = to_json(dissect_as(esp, EXAMPLES[0]).facts)
    assert shown["spis"] == ["0xcf2b90be", "0x98e7c6a6"]
    assert shown["udp_encapsulated"] is False
    assert shown["packets_read"] == 3


def test_a_packet_of_which_only_the_beginning_was_kept_is_whole() -> None:
    dissection = dissect_as(esp, head((SENT, GCM_PACKET, 1440)))
    assert dissection.breaks == ()
    packet, payload = (item.message for item in dissection.items)
    assert isinstance(packet, EspPacket) and isinstance(payload, EspPayload)
    assert (packet.spi, packet.sequence, packet.length) == (0x98E7C6A6, 1, 1440)
    assert payload.beginning == GCM_PACKET[8:48]


def test_too_little_for_a_header_is_truncated_or_malformed_by_whose_fault_it_is() -> None:
    (cut,) = dissect_as(esp, head((SENT, GCM_PACKET[:6], 108))).breaks
    (short,) = dissect_as(esp, head((SENT, GCM_PACKET[:6], 6))).breaks
    assert (cut.anomaly.cause, short.anomaly.cause) == (Cause.TRUNCATED, Cause.MALFORMED)


def test_esp_on_port_4500_is_known_by_its_shape() -> None:
    alone = EXAMPLES[1]
    assert esp.probe(alone) and natt.probe(alone) and not ike.probe(alone)
    assert not esp.probe(head((SENT, b"GET / HTTP/1.1\r\n\r\n..", 20), transport="udp", ports=(40000, 4500)))
    assert not esp.probe(head((SENT, bytes(40), 40), transport="udp", ports=(4500, 4500)))
    assert not esp.probe(head((SENT, GCM_PACKET, 108), transport="udp", ports=(4501, 4501)))


def test_keepalives_alone_are_the_nat_traversal_of_a_silent_tunnel() -> None:
    alone = head((SENT, b"\xff", 1), (SENT, b"\xff", 1), transport="udp", ports=(4500, 4500))
    assert esp.probe(alone)
    dissection = dissect_as(natt, alone)
    assert [type(item.message) for item in dissection.items] == [NatKeepalive, NatKeepalive]
    assert to_json(dissection.facts)["udp_encapsulated"] is True


def test_udp_encapsulation_is_said_where_it_is_read_as_such() -> None:
    dissection = dissect_as(natt, head((SENT, GCM_PACKET, 108), transport="udp", ports=(4500, 4500)))
    assert dissection.protocol == "esp"
    assert to_json(dissection.facts)["udp_encapsulated"] is True


@pytest.mark.parametrize("module", [esp, natt])
@given(st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 1500)), min_size=1, max_size=8))
def test_any_bytes_are_survived(module: object, sent: list[tuple[bytes, int]]) -> None:
    known = {"esp": esp, "natt": natt}[getattr(module, "__name__", "").rpartition(".")[2]]
    packets = [(SENT, data, max(len(data), length)) for data, length in sent]
    for ports in ((0, 0), (4500, 4500)):
        given_head = head(*packets, transport="udp", ports=ports)
        known.probe(given_head)
        breaks = dissect_as(known, given_head).breaks
        assert not [each for each in breaks if each.anomaly.cause is Cause.DEFECT]


def test_many_spis_are_listed_up_to_a_bound() -> None:
    many = head(*((SENT, struct.pack(">II", 1000 + index, 1) + bytes(40), 48) for index in range(200)))
    facts = dissect_as(esp, many).facts
    assert isinstance(facts, esp.EspFacts)
    assert len(facts.spis) == esp.MAX_SPIS and facts.packets_read == 200
