"""Cut captures: what is left of a capture without its beginning, its end, a direction, or the ends of its packets.

The packets are decoded here once more, by a few lines that share nothing with the program, so that a test can tell
what a cut took away.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import NamedTuple

from analyzer.export.records import records
from tests import build, samples

SNAP_LENGTHS = range(54, 201)
"""Bytes kept of each packet: from the headers of Ethernet, IPv4 and TCP on."""
HOUR = 3_600_000_000_000
"""Nanoseconds."""
ETHERNET, RAW, LOOPBACK, COOKED, COOKED_2 = 1, (12, 101, 228, 229), 0, 113, 276
"""Link types, as registered at tcpdump.org."""
TCP, UDP, ICMP, ICMPV6, ESP = 6, 17, 1, 58, 50


class Cut(Enum):
    """A way to cut a capture."""

    BEGINNING = "beginning"
    """Tenths of the packets that are removed from the beginning."""
    END = "end"
    """Tenths of the packets that are removed from the end."""
    SNAP = "snap"
    """Bytes that are kept of each packet."""
    SENT = "sent"
    """Only what the base stations sent."""
    RECEIVED = "received"
    """Only what the base stations received."""
    SPLIT = "split"
    """Tenths of the packets that are in the first of two files; the second one follows an hour later."""


class Way(NamedTuple):
    """One cut of a capture, with its amount."""

    cut: Cut
    amount: int = 0

    def __str__(self) -> str:
        return f"{self.cut.value} {self.amount}" if self.amount else self.cut.value


TENTHS = range(1, 10)
WAYS = (
    *(Way(cut, tenths) for cut in (Cut.BEGINNING, Cut.END, Cut.SPLIT) for tenths in TENTHS),
    *(Way(Cut.SNAP, length) for length in SNAP_LENGTHS),
    Way(Cut.SENT),
    Way(Cut.RECEIVED),
)


End = tuple[str, int]
"""Address and port; port 0 where the transport has none."""


class Ends(NamedTuple):
    """Both ends of a packet, and what it carries."""

    protocol: int
    source: End
    destination: End
    payload: int
    """Bytes above the transport header, as sent."""
    flags: int
    """TCP flags; for ICMP the type."""
    beginning: bytes
    """First bytes above the transport header."""


class Packet(NamedTuple):
    """A packet of a capture."""

    time: int
    """Nanoseconds since the epoch."""
    data: bytes
    wire: int
    """Length on the wire."""
    interface: int
    mac: str | None
    """Source MAC address."""
    ends: Ends | None
    """``None``: not IP, or not decodable."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The packets of a capture's files in the order of reading."""

    packets: tuple[Packet, ...]
    interfaces: tuple[tuple[int, int], ...]
    """Link type and bytes of frame check sequence of each interface."""


@cache
def recording(name: str) -> Recording:
    """The packets of a recorded capture."""
    interfaces: dict[tuple[int, int], int] = {}
    packets = []
    for path in samples.files(name):
        for _, record in records(str(path), 1 << 40):
            kind = record.interface.linktype, record.interface.frame_check
            number = interfaces.setdefault(kind, len(interfaces))
            data = bytes(record.data)
            mac, ends = decode(data, kind[0])
            packets.append(Packet(record.time, data, record.wire, number, mac, ends))
    return Recording(tuple(packets), tuple(interfaces))


# -- cutting ----------------------------------------------------------------------------------------------------


def left(name: str, way: Way, addresses: Collection[str] = (), macs: Collection[str] = ()) -> list[list[Packet]]:
    """What a cut leaves of a capture, by file. ``addresses``, ``macs``: those of the base stations."""
    packets = recording(name).packets
    place = len(packets) * way.amount // 10
    if way.cut is Cut.BEGINNING:
        return [list(packets[place:])]
    if way.cut is Cut.END:
        return [list(packets[: len(packets) - place])]
    if way.cut is Cut.SPLIT:
        return [list(packets[:place]), [packet._replace(time=packet.time + HOUR) for packet in packets[place:]]]
    if way.cut is Cut.SNAP:
        return [[packet._replace(data=packet.data[: way.amount]) for packet in packets]]
    kept = is_sent if way.cut is Cut.SENT else is_received
    return [[packet for packet in packets if kept(packet, addresses, macs)]]


def is_sent(packet: Packet, addresses: Collection[str], macs: Collection[str]) -> bool:
    """Whether a base station sent a packet."""
    ends = packet.ends
    if ends is None or not is_unicast(ends.source[0]):
        return packet.mac in macs
    return ends.source[0] in addresses


def is_received(packet: Packet, addresses: Collection[str], macs: Collection[str]) -> bool:
    """Whether a base station received a packet, alone or with others."""
    if is_sent(packet, addresses, macs):
        return False
    return packet.ends is None or packet.ends.destination[0] in addresses or not is_unicast(packet.ends.destination[0])


@cache
def is_unicast(address: str) -> bool:
    """Whether an address is one host's, and of use beyond its link."""
    parsed = ipaddress.ip_address(address)
    group = parsed.is_multicast or parsed.is_unspecified or parsed.is_link_local
    return not group and address != "255.255.255.255"


def write(folder: Path, name: str, files: Sequence[Sequence[Packet]]) -> list[Path]:
    """Write packets to pcapng files."""
    head = build.section() + b"".join(
        build.interface(linktype, resolution=9, frame_check=check or None)
        for linktype, check in recording(name).interfaces
    )
    paths = []
    for number, packets in enumerate(files):
        paths.append(folder / f"{number}.pcapng")
        paths[-1].write_bytes(head + b"".join(map(packet_block, packets)))
    return paths


def packet_block(packet: Packet) -> bytes:
    """An Enhanced Packet Block."""
    size = len(packet.data)
    total = 32 + size + -size % 4
    time = packet.time
    head = struct.pack("<7I", 6, total, packet.interface, time >> 32, time & 0xFFFFFFFF, size, packet.wire)
    return head + packet.data + bytes(-size % 4) + struct.pack("<I", total)


# -- decoding ---------------------------------------------------------------------------------------------------


def decode(data: bytes, linktype: int) -> tuple[str | None, Ends | None]:
    """Source MAC address and ends of a frame; the outermost IP packet counts."""
    mac, network = None, None
    if linktype == ETHERNET and len(data) >= 14:
        mac, at = data[6:12].hex(":"), 12
        while data[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
            at += 4
        network = data[at + 2 :] if data[at : at + 2] in (b"\x08\x00", b"\x86\xdd") else None
    elif linktype in RAW:
        network = data
    elif linktype == LOOPBACK:
        network = data[4:]
    elif linktype == COOKED and len(data) >= 16:
        mac, network = data[6:12].hex(":"), data[16:] if data[14:16] in (b"\x08\x00", b"\x86\xdd") else None
    elif linktype == COOKED_2 and len(data) >= 20:
        mac, network = data[12:18].hex(":"), data[20:] if data[:2] in (b"\x08\x00", b"\x86\xdd") else None
    return mac, decode_ip(network) if network else None


def decode_ip(packet: bytes) -> Ends | None:
    """The ends of an IP packet. A fragment but the first has no ports."""
    version = packet[0] >> 4
    if version == 4 and len(packet) >= 20:
        header = 4 * (packet[0] & 15)
        protocol, fragment = packet[9], int.from_bytes(packet[6:8], "big") & 0x1FFF
        addresses = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
        size = (int.from_bytes(packet[2:4], "big") or len(packet)) - header
    elif version == 6 and len(packet) >= 40:
        header, protocol, fragment = 40, packet[6], 0
        addresses = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
        size = int.from_bytes(packet[4:6], "big") or len(packet) - header
    else:
        return None
    source, destination = addresses
    above = packet[header:]
    ports, flags, begin = (0, 0), 0, 8
    if protocol in (TCP, UDP) and not fragment and len(above) >= 4:
        ports = (int.from_bytes(above[:2], "big"), int.from_bytes(above[2:4], "big"))
    if protocol == UDP:
        size -= begin
    if protocol == TCP and len(above) >= 14:
        flags, begin = above[13], 4 * (above[12] >> 4)
        size -= begin
    elif protocol in (ICMP, ICMPV6) and above:
        flags = above[0]
    ends = (source, ports[0]), (destination, ports[1])
    return Ends(protocol, *ends, max(0, size), flags, above[begin : begin + 32])
