"""What rarely stands before the IP header that counts: each encapsulation, nested, cut and hostile.

The inner endpoints of every frame in :data:`FRAMES` are those that Wireshark 4 reads, which guesses less below MPLS
(``mpls-ethernet-bare``).
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.encapsulations import DEPTH, LINKS, peel
from tests import build
from tests.build import SERVER, SERVER6, STATION, STATION6, ethernet, ip4, ip6, udp_datagram

INNER = ip4("10.1.1.1", "10.2.2.2", 17, udp_datagram(40000, 5353, b"question"))
INNER6 = ip6("fd00::1", "fd00::2", 17, udp_datagram(40000, 5353, b"question"))
EXPECTED = ("10.1.1.1", 40000, "10.2.2.2", 5353)
EXPECTED6 = ("fd00::1", 40000, "fd00::2", 5353)


def over4(protocol: int, payload: bytes) -> bytes:
    return ethernet(ip4(STATION, SERVER, protocol, payload))


def over6(protocol: int, payload: bytes) -> bytes:
    return ethernet(ip6(STATION6, SERVER6, protocol, payload))


def tunnel(port: int, payload: bytes) -> bytes:
    return over4(17, udp_datagram(50000, port, payload))


def label(number: int, bottom: bool) -> bytes:
    return struct.pack(">I", number << 12 | bottom << 8 | 64)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


CUSTOMER = ethernet(INNER, source="a0:36:9f:11:22:33", destination="a0:36:9f:44:55:66")
VXLAN = b"\x08\0\0\0\0\0\x2a\0"
GENEVE = b"\x01\0\x65\x58\0\0\x2a\0" + b"\0\0\x80\0"
GTP = b"\x30\xff" + struct.pack(">HI", len(INNER), 7)
TEREDO = b"\0\x01\x02\x03" + b"id" + b"aut" + bytes(8) + b"\0" + b"\0\0" + bytes(6)
NFLOG = b"\x02\0\0\0" + attribute(1, b"\x08\0\x03\0") + attribute(10, b"gateway\0") + attribute(9, INNER)
ERSPAN2 = b"\x10\x07\0\x05" + bytes(4)
ERSPAN3 = b"\x20\x07\0\x05" + bytes(8)
ERSPAN3_MORE = b"\x20\x07\0\x05" + bytes(7) + b"\x01" + bytes(8)

FRAMES = {
    "ppp": (9, b"\xff\x03\0\x21" + INNER, ("ppp",)),
    "ppp-compressed": (9, b"\x21" + INNER, ("ppp",)),
    "ppp-ipv6": (9, b"\xff\x03\0\x57" + INNER6, ("ppp",)),
    "ppp-hdlc": (50, b"\xff\x03\0\x21" + INNER, ("ppp",)),
    "cisco-hdlc": (104, b"\x0f\0\x08\0" + INNER, ("hdlc",)),
    "nflog": (239, NFLOG, ("nflog",)),
    "pppoe": (
        1,
        ethernet(struct.pack(">BBHH", 0x11, 0, 9, 2 + len(INNER)) + b"\0\x21" + INNER, 0x8864),
        ("pppoe 9", "ppp"),
    ),
    "mpls": (1, ethernet(label(16, False) + label(17, True) + INNER, 0x8847), ("mpls 17",)),
    "mpls-ipv6": (1, ethernet(label(18, True) + INNER6, 0x8847), ("mpls 18",)),
    "mpls-ethernet": (1, ethernet(label(19, True) + bytes(4) + CUSTOMER, 0x8847), ("mpls 19",)),
    "mpls-ethernet-bare": (1, ethernet(label(19, True) + b"\xa0" + CUSTOMER[1:], 0x8847), ("mpls 19",)),
    "vlan-mpls": (1, ethernet(label(16, True) + INNER, 0x8847, vlans=[(0x8100, 7)]), ("vlan 7", "mpls 16")),
    "snap": (1, ethernet(b"\xaa\xaa\x03\0\0\0\x08\0" + INNER, 8 + len(INNER)), ("snap",)),
    "ip-in-ip": (1, over4(4, INNER), ("ip-in-ip",)),
    "6in4": (1, over4(41, INNER6), ("ip-in-ip",)),
    "4in6": (1, over6(4, INNER), ("ip-in-ip",)),
    "6in6": (1, over6(41, INNER6), ("ip-in-ip",)),
    "4in6-options": (1, over6(60, b"\x04\0\x01\x04" + bytes(4) + INNER), ("ip-in-ip",)),
    "gre": (1, over4(47, b"\0\0\x08\0" + INNER), ("gre",)),
    "gre-over-ipv6": (1, over6(47, b"\0\0\x86\xdd" + INNER6), ("gre",)),
    "gre-checksum-key-sequence": (1, over4(47, b"\xb0\0\x08\0" + bytes(12) + INNER), ("gre",)),
    "gre-ethernet": (1, over4(47, b"\x20\0\x65\x58\0\0\0\x07" + ethernet(INNER)), ("gre",)),
    "gre-mpls": (1, over4(47, b"\0\0\x88\x47" + label(20, True) + INNER), ("gre", "mpls 20")),
    "pptp": (
        1,
        over4(47, b"\x30\x01\x88\x0b" + struct.pack(">HHI", 4 + len(INNER), 5, 1) + b"\xff\x03\0\x21" + INNER),
        ("gre", "ppp"),
    ),
    "pptp-acknowledging": (
        1,
        over4(47, b"\x30\x81\x88\x0b" + struct.pack(">HHII", 4 + len(INNER), 5, 1, 1) + b"\xff\x03\0\x21" + INNER),
        ("gre", "ppp"),
    ),
    "erspan-ii": (1, over4(47, b"\x10\0\x88\xbe\0\0\0\x01" + ERSPAN2 + ethernet(INNER)), ("gre", "erspan")),
    "erspan-iii": (1, over4(47, b"\x10\0\x22\xeb\0\0\0\x01" + ERSPAN3 + ethernet(INNER)), ("gre", "erspan")),
    "erspan-iii-more": (1, over4(47, b"\x10\0\x22\xeb\0\0\0\x01" + ERSPAN3_MORE + ethernet(INNER)), ("gre", "erspan")),
    "vxlan": (1, tunnel(4789, VXLAN + ethernet(INNER)), ("vxlan 42",)),
    "vxlan-vlan": (1, tunnel(4789, VXLAN + ethernet(INNER6, vlans=[(0x8100, 9)])), ("vxlan 42", "vlan 9")),
    "geneve": (1, tunnel(6081, GENEVE + ethernet(INNER)), ("geneve",)),
    "geneve-ip": (1, tunnel(6081, b"\0\0\x08\0" + bytes(4) + INNER), ("geneve",)),
    "gtp": (1, tunnel(2152, GTP + INNER), ("gtp",)),
    "gtp-sequence": (
        1,
        tunnel(2152, b"\x32\xff" + struct.pack(">HIHBB", 4 + len(INNER6), 7, 1, 0, 0) + INNER6),
        ("gtp",),
    ),
    "gtp-extension": (
        1,
        tunnel(2152, b"\x34\xff" + struct.pack(">HIHBB", 8 + len(INNER), 7, 0, 0, 0x85) + b"\x01\x10\x01\0" + INNER),
        ("gtp",),
    ),
    "teredo": (1, tunnel(3544, INNER6), ("teredo",)),
    "teredo-origin": (1, tunnel(3544, b"\0\0" + bytes(6) + INNER6), ("teredo",)),
    "teredo-authentication": (1, tunnel(3544, TEREDO + INNER6), ("teredo",)),
    "vxlan-in-gre-in-ip": (
        1,
        over4(4, ip4(STATION, SERVER, 47, b"\0\0\x65\x58" + tunnel(4789, VXLAN + ethernet(INNER)))),
        ("ip-in-ip", "gre", "vxlan 42"),
    ),
}
"""Link type, frame, and the notes that it leaves."""


@pytest.mark.parametrize("name", FRAMES)
def test_the_innermost_conversation_is_found(name: str) -> None:
    linktype, frame, notes = FRAMES[name]
    found = build.conversation([frame], linktype)
    ends = (found.originator.address, found.originator.port, found.responder.address, found.responder.port)
    assert ends == (EXPECTED6 if ":" in ends[0] else EXPECTED)
    assert found.notes == notes
    assert found.payload == (8, 0)
    assert found.bytes == (len(frame), 0)


def test_tunnelled_and_bare_packets_are_one_flow() -> None:
    (found,) = build.conversations([ethernet(INNER), over4(47, b"\0\0\x08\0" + INNER)])
    assert found.packets == (2, 0)


def test_fragments_in_a_tunnel_and_of_a_tunnel() -> None:
    inner = [over4(4, part) for part in build.fragments(INNER, 8)]
    found = build.conversation(inner)
    assert (found.originator.address, found.packets, found.head.datagrams[0].data) == ("10.1.1.1", (2, 0), b"question")
    assert found.notes == ("ip-in-ip", "fragments")
    outer = [ethernet(part) for part in build.fragments(ip4(STATION, SERVER, 4, INNER), 24)]
    found = build.conversation(outer)
    assert (found.transport, found.originator.address, found.packets) == ("ip-4", STATION, (2, 0))


def nested(depth: int) -> bytes:
    packet = INNER
    for _ in range(depth):
        packet = ip4(STATION, SERVER, 4, packet)
    return packet


def test_nesting_ends_at_a_limit() -> None:
    for depth in range(DEPTH + 10):
        peeled = peel(nested(depth), 101)
        assert peeled.network == 20 * min(depth, DEPTH - 2)


@pytest.mark.parametrize(
    "payload",
    [
        b"\0\0\x08\0",  # nothing in it
        b"\0\0\x08\0" + INNER[:19],  # a cut header
        b"\0\0\x08\0\x44" + INNER[1:],  # a header of 16 bytes
        b"\0\0\x86\xdd" + INNER,  # another version than announced
        b"\0\0\0\0",  # a keepalive
        b"\0\0\x12\x34" + INNER,
        b"\0\x01\x88\x0b\0\0\0\0",
        b"",
    ],
)
def test_a_tunnel_without_a_sound_packet_is_what_its_bearer_carries(payload: bytes) -> None:
    found = build.conversation([over4(47, payload)])
    assert (found.transport, found.originator.address, found.responder.address) == ("ip-47", STATION, SERVER)
    assert found.notes == ()


def test_tunnel_ports_may_carry_something_else() -> None:
    query = bytes.fromhex("123401000001000000000000026777076578616d706c650000010001")
    for port in (2152, 3544, 4789, 6081):
        found = build.conversation([build.udp(STATION, port, SERVER, 53, query)])
        assert (found.originator.port, found.responder.port, found.notes) == (port, 53, ())
        assert found.head.datagrams[0].data == query


@pytest.mark.parametrize("name", FRAMES)
def test_cut_at_every_byte(name: str) -> None:
    linktype, frame, _ = FRAMES[name]
    for size in range(len(frame)):
        peeled = peel(frame[:size], linktype)
        assert peeled.network <= size
        assert (peeled.network < 0) == (peeled.reason is not None)
    found = build.read_files(build.pcap([build.Packet(frame[:size]) for size in range(len(frame))], linktype))
    assert build.accounted(found)


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_damaged(name: str, data: st.DataObject) -> None:
    linktype, frame, _ = FRAMES[name]
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert peel(bytes(damaged), linktype).network <= len(frame)
    assert build.accounted(build.read([bytes(damaged)], linktype))


@given(st.sampled_from([*LINKS, 105]), st.binary(max_size=200))
def test_random_bytes(linktype: int, frame: bytes) -> None:
    peeled = peel(frame, linktype)
    assert peeled.network <= len(frame)
    assert (peeled.network < 0) == (peeled.reason is not None)
