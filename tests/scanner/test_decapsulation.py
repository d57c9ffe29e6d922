"""Decapsulation: every encapsulation, nested, truncated and hostile.

The inner endpoints of every frame in :data:`FRAMES` are those that Wireshark 4 reads, which guesses less below MPLS
(``mpls-ethernet-bare``), leaves some undecoded (wireless devices in cooked captures, ``erspan-iii-ip``, forty VLANs)
and wants to be told others (``vxlan-linux``, ``nflog-big-endian``).
"""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.scanner import driver
from analyzer.scanner.decapsulation import HEADERS_TRUNCATED, LINKS, MAX_LAYERS, decapsulate
from analyzer.scanner.layer_names import LINKTYPES
from tests import build
from tests.build import MAC, OTHER_MAC, SERVER, SERVER6, STATION, STATION6, ethernet, hardware, ip4, ip6, udp_datagram

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


def cooked(hardware_type: int, protocol: int, payload: bytes) -> bytes:
    return struct.pack(">HHH8sH", 0, hardware_type, 4, bytes(8), protocol) + payload


def cooked2(hardware_type: int, protocol: int, payload: bytes) -> bytes:
    return struct.pack(">HHIHBB8s", protocol, 0, 3, hardware_type, 0, 4, bytes(8)) + payload


def wireless(control: int, body: bytes, extra: bytes = b"", sequence: int = 0) -> bytes:
    """An IEEE 802.11 frame; ``control``: both bytes of frame control; ``extra``: what follows the sequence number."""
    ends = [hardware(address) for address in (OTHER_MAC, MAC, "02:00:00:00:00:99")]
    order = {0: (0, 1, 2), 1: (2, 1, 0), 2: (0, 2, 1), 3: (2, 2, 0)}[control & 3]
    addresses = b"".join(ends[index] for index in order)
    return struct.pack(">HH", control, 0) + addresses + struct.pack("<H", sequence) + extra + body


def radiotap(frame: bytes, flags: int = 0) -> bytes:
    """A radiotap header with two presence words, time stamp and flags."""
    fields = bytes(4) + bytes(8) + bytes([flags, 0])
    return struct.pack("<BBHII", 0, 0, 12 + len(fields), 0x80000003, 0) + fields + frame


SNAP = b"\xaa\xaa\x03\0\0\0"
SNAPPED = SNAP + b"\x08\0" + INNER
CUSTOMER = ethernet(INNER, source="a0:36:9f:11:22:33", destination="a0:36:9f:44:55:66")
VXLAN = b"\x08\0\0\0\0\0\x2a\0"
GENEVE = b"\x01\0\x65\x58\0\0\x2a\0" + b"\0\0\x80\0"
GTP = b"\x30\xff" + struct.pack(">HI", len(INNER), 7)
TEREDO = b"\0\x01\x02\x03" + b"id" + b"aut" + bytes(8) + b"\0" + b"\0\0" + bytes(6)
NFLOG_BIG = b"\x02\0\0\0" + struct.pack(">HHI", 8, 1, 0x08000300) + struct.pack(">HH", 4 + len(INNER), 9) + INNER
NFLOG = b"\x02\0\0\0" + attribute(1, b"\x08\0\x03\0") + attribute(10, b"gateway\0") + attribute(9, INNER)
ERSPAN2 = b"\x10\x07\0\x05" + bytes(4)
ERSPAN3 = b"\x20\x07\0\x05" + bytes(8)
ERSPAN3_MORE = b"\x20\x07\0\x05" + bytes(7) + b"\x01" + bytes(8)

FRAMES = {
    "ppp": (9, b"\xff\x03\0\x21" + INNER, ("ppp",)),
    "ppp-compressed": (9, b"\x21" + INNER, ("ppp",)),
    "ppp-ipv6": (9, b"\xff\x03\0\x57" + INNER6, ("ppp",)),
    "ppp-hdlc": (50, b"\xff\x03\0\x21" + INNER, ("ppp",)),
    "ppp-hdlc-bare": (50, b"\0\x21" + INNER, ("ppp",)),
    "ppp-hdlc-cisco": (50, b"\x8f\0\x08\0" + INNER, ("hdlc",)),
    "ppp-mpls": (9, b"\x02\x81" + label(21, True) + INNER, ("ppp", "mpls 21")),
    "ppp-ethernet": (51, struct.pack(">BBHH", 0x11, 0, 9, 2 + len(INNER)) + b"\0\x21" + INNER, ("pppoe 9", "ppp")),
    "wireless-direct": (105, wireless(0x0800, SNAPPED), ("snap",)),
    "wireless-to-access-point": (105, wireless(0x0801, SNAPPED), ("snap",)),
    "wireless-from-access-point": (105, wireless(0x0802, SNAPPED), ("snap",)),
    "wireless-bridge": (105, wireless(0x0803, SNAPPED, hardware(MAC)), ("snap",)),
    "wireless-quality": (105, wireless(0x8801, SNAPPED, b"\x06\0"), ("snap",)),
    "wireless-quality-throughput": (105, wireless(0x8881, SNAPPED, b"\x06\0" + bytes(4)), ("snap",)),
    "wireless-bridge-quality": (105, wireless(0x8803, SNAPPED, hardware(MAC) + b"\x06\0"), ("snap",)),
    "radiotap": (127, radiotap(wireless(0x0801, SNAPPED)), ("snap",)),
    "radiotap-check-sum": (127, radiotap(wireless(0x0801, SNAPPED), 0x10) + bytes(4), ("snap",)),
    "radiotap-padded": (127, radiotap(wireless(0x8801, bytes(2) + SNAPPED, b"\0\0"), 0x20), ("snap",)),
    "radiotap-bare": (127, struct.pack("<BBHI", 0, 0, 8, 0) + wireless(0x0801, SNAPPED), ("snap",)),
    "cooked-802.2": (113, cooked(1, 4, SNAPPED), ("snap",)),
    "cooked2-802.2": (276, cooked2(1, 4, SNAPPED), ("snap",)),
    "cooked-vlan": (113, cooked(1, 0x8100, b"\0\x07\x08\0" + INNER), ("vlan 7",)),
    "cooked2-vlan": (276, cooked2(1, 0x8100, b"\0\x07\x86\xdd" + INNER6), ("vlan 7",)),
    "cooked-gre-device": (113, cooked(778, 0x0800, INNER), ()),
    "cooked2-gre-device": (276, cooked2(778, 0x86DD, INNER6), ()),
    "cooked-radiotap": (113, cooked(803, 0x0800, radiotap(wireless(0x0801, SNAPPED))), ("snap",)),
    "cooked2-wireless": (276, cooked2(801, 4, wireless(0x0801, SNAPPED)), ("snap",)),
    "nflog-big-endian": (239, NFLOG_BIG, ("nflog",)),
    "pppoe-in-vlans": (
        1,
        ethernet(
            struct.pack(">BBHH", 0x11, 0, 9, 2 + len(INNER)) + b"\0\x21" + INNER,
            0x8864,
            vlans=[(0x88A8, 5), *[(0x8100, 6)] * 40],
        ),
        ("vlan 5", "pppoe 9", "ppp"),
    ),
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
    "4in6-atomic-fragment": (1, over6(44, b"\x04\0\0\0\0\0\0\x07" + INNER), ("ip-in-ip",)),
    "shim6": (1, ethernet(ip6("fd00::1", "fd00::2", 140, b"\x11\0" + bytes(6) + INNER6[40:])), ()),
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
    "erspan-i": (1, over4(47, b"\0\0\x88\xbe" + ethernet(INNER)), ("erspan",)),
    "erspan-iii-ip": (1, over4(47, b"\x10\0\x22\xeb\0\0\0\x01" + ERSPAN3[:10] + b"\x08\0" + INNER), ("gre", "erspan")),
    "erspan-ii": (1, over4(47, b"\x10\0\x88\xbe\0\0\0\x01" + ERSPAN2 + ethernet(INNER)), ("gre", "erspan")),
    "erspan-iii": (1, over4(47, b"\x10\0\x22\xeb\0\0\0\x01" + ERSPAN3 + ethernet(INNER)), ("gre", "erspan")),
    "erspan-iii-more": (1, over4(47, b"\x10\0\x22\xeb\0\0\0\x01" + ERSPAN3_MORE + ethernet(INNER)), ("gre", "erspan")),
    "vxlan": (1, tunnel(4789, VXLAN + ethernet(INNER)), ("vxlan 42",)),
    "vxlan-vlan": (1, tunnel(4789, VXLAN + ethernet(INNER6, vlans=[(0x8100, 9)])), ("vxlan 42", "vlan 9")),
    "vxlan-linux": (1, tunnel(8472, VXLAN + ethernet(INNER)), ("vxlan 42",)),
    "vxlan-gpe-ipv4": (1, tunnel(4790, b"\x0c\0\0\x01\0\0\x2a\0" + INNER), ("vxlan 42",)),
    "vxlan-gpe-ipv6": (1, tunnel(4790, b"\x0c\0\0\x02\0\0\x2a\0" + INNER6), ("vxlan 42",)),
    "vxlan-gpe-ethernet": (1, tunnel(4790, b"\x0c\0\0\x03\0\0\x2a\0" + ethernet(INNER)), ("vxlan 42",)),
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
"""Link type, frame, and the notes of its flow."""


@pytest.mark.parametrize("name", FRAMES)
def test_the_innermost_ip_header_is_found(name: str) -> None:
    linktype, frame, notes = FRAMES[name]
    found = build.conversation([frame], linktype)
    ends = (found.originator.address, found.originator.port, found.responder.address, found.responder.port)
    assert ends == (EXPECTED6 if ":" in ends[0] else EXPECTED)
    assert found.notes == notes
    assert found.payload == (8, 0)
    assert found.bytes == (len(frame), 0)
    if "wireless" in name or "radiotap" in name:
        assert found.macs == (MAC, None)


@pytest.mark.parametrize(
    ("linktype", "frame", "name"),
    [
        (1, ethernet(b"\xaa\xaa\x03\0\0\x0c\x20\0" + bytes(40), 48), "IEEE 802.2 SNAP"),  # CDP
        (1, ethernet(b"\xaa\xaa\x03\x08\0\x07\x08\0" + INNER, 8 + len(INNER)), "IEEE 802.2 SNAP"),
        (1, ethernet(b"\x42\x42\x03" + bytes(40), 43), "IEEE 802.2"),
        (1, ethernet(SNAP + b"\x08\x06" + bytes(28), 36), "ARP"),
        (1, ethernet(bytes(46), 0x8863), "PPPoE discovery"),
        (1, ethernet(b"\x11\0\0\x09\0\x0a\xc0\x21" + bytes(8), 0x8864), "PPP LCP"),
        (1, ethernet(label(13, True) + b"\x10\0\0\x07" + bytes(40), 0x8847), "MPLS associated channel"),
        (9, b"\xff\x03\x80\x57" + bytes(10), "PPP IPV6CP"),
        (9, b"\xff\x03\xc0\x29" + bytes(10), "PPP protocol 0xc029"),
        (104, b"\x0f\0\x20\0" + bytes(40), "Ethernet type 0x2000"),
        (0, struct.pack("<I", 7) + INNER, "address family 7"),
        (108, struct.pack(">I", 0x01020304) + INNER, "address family 16909060"),
        (113, cooked(824, 0, bytes(40)), "netlink"),
        (113, cooked(824, 0x0800, INNER), "netlink"),
        (276, cooked2(824, 0x0800, INNER), "netlink"),
        (113, cooked(1, 1, b"\xff\xff" + bytes(40)), "Novell IPX"),
        (276, cooked2(280, 12, bytes(16)), "CAN"),
        (113, cooked(1, 0x00F6, bytes(40)), "Linux protocol 246"),
        (105, wireless(0x8000, bytes(40)), "wireless LAN management"),
        (105, wireless(0xD400, b"")[:10], "wireless LAN control"),
        (105, wireless(0x4801, b""), "wireless LAN null data"),
        (127, radiotap(wireless(0x0C00, b"")), "wireless LAN extension"),
    ],
)
def test_frames_without_ip_are_counted_by_name(linktype: int, frame: bytes, name: str) -> None:
    assert build.read([frame], linktype).counts.not_ip == {name: 1}


@pytest.mark.parametrize(
    ("linktype", "frame", "reason"),
    [
        (105, wireless(0x0841, bytes(60)), "encrypted wireless LAN frame"),
        (127, radiotap(wireless(0x8842, bytes(60), b"\0\0")), "encrypted wireless LAN frame"),
        (105, wireless(0x0805, SNAPPED), "fragment of a wireless LAN frame"),
        (105, wireless(0x0801, SNAPPED, sequence=1), "fragment of a wireless LAN frame"),
        (105, wireless(0x8801, SNAPPED, b"\x80\0"), "aggregate of wireless LAN frames"),
        (127, radiotap(wireless(0x0801, SNAPPED), 0x40), "damaged wireless LAN frame"),
        (127, b"\x01\0\x08\0" + bytes(4) + wireless(0x0801, SNAPPED), "contradictory headers"),
        (1, ethernet(bytes(60), 0x88E5), "MACsec frame"),
        (9, b"\xff\x03\0\x2d" + bytes(40), "PPP with compressed TCP headers"),
        (9, b"\0\x3d" + bytes(40), "PPP multilink fragment"),
        (9, b"\xfd" + bytes(40), "PPP compressed"),
        (9, b"\xff\x04\0\x21" + INNER, "contradictory headers"),
        (119, bytes(60), "link type 119 (IEEE802_11_PRISM) is not supported"),
        (113, cooked(802, 4, bytes(60)), "link type 119 (IEEE802_11_PRISM) is not supported"),
        (189, bytes(60), "link type 189 (USB_LINUX) is not supported"),
        (249, bytes(60), "link type 249 (USBPCAP) is not supported"),
        (283, bytes(60), "link type 283 (IEEE802_15_4_TAP) is not supported"),
        (270, bytes(60), "link type 270 (LORATAP) is not supported"),
        (60000, bytes(60), "link type 60000 is not supported"),
    ],
)
def test_opaque_frames_are_counted_by_reason(linktype: int, frame: bytes, reason: str) -> None:
    assert build.read([frame], linktype).counts.unreadable == {reason: 1}


def test_every_supported_link_type_has_a_name() -> None:
    assert set(LINKS) - {12, 14} <= set(LINKTYPES)  # raw IP as numbered on BSD and OpenBSD


def test_tunnelled_and_bare_packets_are_one_flow() -> None:
    (found,) = build.conversations([ethernet(INNER), over4(47, b"\0\0\x08\0" + INNER)])
    assert found.packets == (2, 0)


def test_fragments_inside_and_outside_of_a_tunnel_are_reassembled() -> None:
    inner = [over4(4, part) for part in build.fragments(INNER, 8)]
    found = build.conversation(inner)
    assert (found.originator.address, found.packets, found.head.datagrams[0].data) == ("10.1.1.1", (2, 0), b"question")
    assert found.notes == ("ip-in-ip", "fragments")
    outer = [ethernet(part) for part in build.fragments(ip4(STATION, SERVER, 4, INNER), 24)]
    found = build.conversation(outer)
    assert (found.originator.address, found.packets, found.head.datagrams[0].data) == ("10.1.1.1", (2, 0), b"question")
    assert found.notes == ("fragments", "ip-in-ip")


def test_fragments_of_fragments_in_a_tunnel_are_reassembled() -> None:
    """The tunnel's overhead makes full-sized fragments too large for the path."""
    whole = ip4("10.1.1.1", "10.2.2.2", 17, udp_datagram(40000, 5353, bytes(range(200))))
    frames = [
        ethernet(part)
        for number, inner in enumerate(build.fragments(whole, 104))
        for part in build.fragments(ip4(STATION, SERVER, 47, b"\0\0\x08\0" + inner), 64, number)
    ]
    for order in (frames, frames[::-1]):
        found = build.conversation(order)
        assert (found.originator, found.responder) == (("10.1.1.1", 40000), ("10.2.2.2", 5353))
        assert [datagram.data for datagram in found.head.datagrams] == [bytes(range(200))]
        assert (found.packets, found.bytes) == ((len(frames), 0), (sum(map(len, frames)), 0))
        assert found.notes == ("fragments", "gre", "fragments")


def test_a_tunnel_that_lacks_its_last_fragment_is_truncated() -> None:
    whole = ip4(STATION, SERVER, 47, b"\0\0\x08\0" + ip4("10.1.1.1", "10.2.2.2", 17, udp_datagram(1, 2, bytes(200))))
    found = build.conversation(map(ethernet, build.fragments(whole, 104)[:-1]))
    assert (found.originator, found.packets, found.payload) == (("10.1.1.1", 1), (2, 0), (200, 0))
    assert found.head.datagrams[0].data == bytes(2 * 104 - 4 - 20 - 8)


def test_notes_of_a_flow_add_up_to_a_limit() -> None:
    frames = [tunnel(4789, b"\x08\0\0\0\0\0" + bytes([number, 0]) + ethernet(INNER)) for number in (1, 2, 1)]
    assert build.conversation(frames).notes == ("vxlan 1", "vxlan 2")
    frames = [tunnel(4789, b"\x08\0\0\0\0\0" + bytes([number, 0]) + ethernet(INNER)) for number in range(100)]
    assert len(build.conversation(frames).notes) == 16


def in_session(packet: bytes, session: int, identifier: int = 7) -> bytes:
    number = b"\0\x57" if packet[0] >> 4 == 6 else b"\0\x21"
    header = struct.pack(">BBHH", 0x11, 0, session, 2 + len(packet))
    return ethernet(header + number + packet, 0x8864, vlans=[(0x8100, identifier)])


def labelled(packet: bytes, *labels: int) -> bytes:
    return ethernet(b"".join(label(number, number == labels[-1]) for number in labels) + packet, 0x8847)


ANSWER = ip4("10.2.2.2", "10.1.1.1", 17, udp_datagram(5353, 40000, b"an answer"))


@pytest.mark.parametrize(
    ("frames", "slow", "notes"),
    [
        ([in_session(INNER, 9)] * 5, 1, ("vlan 7", "pppoe 9", "ppp")),
        ([in_session(INNER6, 9)] * 5, 1, ("vlan 7", "pppoe 9", "ppp")),
        ([in_session(INNER, 9), in_session(ANSWER, 9)] * 5, 2, ("vlan 7", "pppoe 9", "ppp")),
        ([in_session(INNER, 9), in_session(INNER, 8)], 2, ("vlan 7", "pppoe 9", "ppp", "pppoe 8")),
        ([in_session(INNER, 9), in_session(INNER, 9, 6)], 2, ("vlan 7", "pppoe 9", "ppp", "vlan 6")),
        ([labelled(INNER, 16, 17), labelled(ANSWER, 18)] * 5, 2, ("mpls 17", "mpls 18")),
        ([labelled(INNER, 17), ethernet(INNER), labelled(INNER, 17)], 1, ("mpls 17",)),
        ([ethernet(INNER), *[labelled(INNER6, 17), labelled(INNER, 17)] * 3], 2, ("mpls 17",)),
        ([labelled(ip4(STATION, SERVER, 4, INNER), 17)] * 3, 3, ("mpls 17", "ip-in-ip")),
        ([labelled(INNER, *range(16, 40))] * 3, 3, None),
    ],
)
def test_only_packets_with_new_notes_take_the_slow_path(
    frames: list[bytes], slow: int, notes: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    before = driver.Scan.take_slow_path

    def counted(self: driver.Scan, buffer: driver.Records) -> None:
        nonlocal calls
        calls += 1
        before(self, buffer)

    monkeypatch.setattr(driver.Scan, "take_slow_path", counted)
    found = build.read(frames)
    assert build.accounted(found)
    assert calls == slow
    if notes is None:
        assert found.counts.unreadable == {"contradictory headers": len(frames)}
    else:
        assert {conversation.notes for conversation in build.peeled(found)} == {notes}
        assert found.counts.in_flows == len(frames)


def test_a_new_connection_on_old_ports_has_its_own_notes() -> None:
    def segment(flags: int, sequence: int) -> bytes:
        return ip4("10.1.1.1", "10.2.2.2", 6, build.tcp_header(40000, 443, flags, sequence))

    packets = [segment(*fields) for fields in ((2, 1), (16, 2), (4, 2), (2, 99), (16, 100))]
    one, two = build.conversations([in_session(packet, 9) for packet in packets])
    assert one.notes == two.notes == ("vlan 7", "pppoe 9", "ppp")
    assert (one.packets, two.packets) == ((3, 0), (2, 0))


def nested(depth: int) -> bytes:
    packet = INNER
    for _ in range(depth):
        packet = ip4(STATION, SERVER, 4, packet)
    return packet


def test_nested_layers_are_limited() -> None:
    for depth in range(MAX_LAYERS - 1):
        assert decapsulate(nested(depth), 101).network == 20 * depth
    bombs = [nested(depth) for depth in range(MAX_LAYERS - 1, MAX_LAYERS + 20)]
    assert build.read(bombs, 101).counts.unreadable == {"too many nested layers": len(bombs)}


def test_nested_fragmented_datagrams_are_limited() -> None:
    """A fragment inside every datagram completes the previous one."""
    packet, frames = INNER, []
    for depth in range(60):
        first, *_, last = build.fragments(
            ip4(STATION, SERVER, 4, packet + bytes(-len(packet) % 8) + bytes(8)), 8 + len(packet) // 8 * 8, depth
        )
        frames.append(first)
        packet = last
    found = build.read([*frames, packet], 101)
    assert build.accounted(found)


@pytest.mark.parametrize(
    "payload",
    [
        b"\0\0\x08\0",  # no payload
        b"\0\0\x08\0" + INNER[:19],  # an incomplete header
        b"\0\0\x08\0\x44" + INNER[1:],  # a header of 16 bytes
        b"\0\0\x86\xdd" + INNER,  # not the announced version
        b"\0\0\0\0",  # a keepalive
        b"\0\0\x12\x34" + INNER,
        b"\0\x01\x88\x0b\0\0\0\0",
        b"",
    ],
)
def test_a_tunnel_without_a_valid_packet_is_a_flow_of_its_endpoints(payload: bytes) -> None:
    found = build.conversation([over4(47, payload)])
    assert (found.transport, found.originator.address, found.responder.address) == ("ip-47", STATION, SERVER)
    assert found.notes == ()


def test_other_content_on_a_tunnel_port_is_not_decapsulated() -> None:
    query = bytes.fromhex("123401000001000000000000026777076578616d706c650000010001")
    for port in (2152, 3544, 4789, 6081):
        found = build.conversation([build.udp(STATION, port, SERVER, 53, query)])
        assert (found.originator.port, found.responder.port, found.notes) == (port, 53, ())
        assert found.head.datagrams[0].data == query


@pytest.mark.parametrize("name", FRAMES)
def test_frames_truncated_at_every_byte(name: str) -> None:
    linktype, frame, _ = FRAMES[name]
    for size in range(len(frame)):
        found = decapsulate(frame[:size], linktype, len(frame))
        assert found.network <= size
        assert (found.network < 0) == (found.unreadable is not None)
        assert found.unreadable in (None, HEADERS_TRUNCATED)
        assert decapsulate(frame[:size], linktype).network <= size  # not truncated, but sent so
    found = build.read_files(
        build.pcap([build.Packet(frame[:size], 0, len(frame)) for size in range(len(frame))], linktype)
    )
    assert build.accounted(found)
    assert set(found.counts.unreadable) == {HEADERS_TRUNCATED}
    assert found.counts.not_ip == {}
    (only,) = build.peeled(found)
    ends = (only.originator.address, only.originator.port, only.responder.address, only.responder.port)
    assert ends == (EXPECTED6 if ":" in ends[0] else EXPECTED)


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_damaged_frames_are_accounted_for(name: str, data: st.DataObject) -> None:
    linktype, frame, _ = FRAMES[name]
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert decapsulate(bytes(damaged), linktype).network <= len(frame)
    assert build.accounted(build.read([bytes(damaged)], linktype))


@given(st.sampled_from([*LINKS, 195]), st.binary(max_size=200), st.integers(0, 300))
def test_random_bytes_have_an_ip_header_or_a_reason(linktype: int, frame: bytes, wire: int) -> None:
    found = decapsulate(frame, linktype, wire)
    assert found.network <= len(frame)
    assert (found.network < 0) == (found.unreadable is not None or found.non_ip is not None)


@pytest.mark.parametrize("linktype", LINKS)
@pytest.mark.parametrize("byte", [0, 1, 3, 4, 0x45, 0x60, 0x81, 0xAA, 0xFF])
def test_repeated_bytes_take_little_time(linktype: int, byte: int) -> None:
    began = time.process_time()
    decapsulate(bytes([byte]) * 262144, linktype)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("ethertype", [0x8100, 0x8847, 0x8864, 0x0800, 0x86DD])
def test_repeated_headers_take_little_time(ethertype: int) -> None:
    began = time.process_time()
    decapsulate(bytes(12) + ethertype.to_bytes(2, "big") + ethertype.to_bytes(2, "big") * 131000, 1)
    assert time.process_time() - began < 0.5
