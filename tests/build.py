"""Packets and capture files for tests, built field by field."""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from analyzer import flows
from analyzer.conversations import NO_SERVICES, Conversation, Conversations, dissect_flows
from analyzer.flows import Flows
from analyzer.ftp_data import identify_data_connections
from analyzer.scanner import columns, driver
from analyzer.stations import capture_tunnels

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
SECOND = 10**9

STATION, SERVER, RESOLVER, ROUTER = "192.0.2.10", "198.51.100.1", "203.0.113.53", "192.0.2.1"
STATION6, SERVER6, ROUTER6 = "2001:db8::10", "2001:db8:1::1", "2001:db8::1"
MAC, OTHER_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:01"

Order = Literal["<", ">"]


class Packet(NamedTuple):
    """One captured frame."""

    frame: bytes
    time: int = 0
    """Nanoseconds since the epoch."""
    wire: int | None = None
    """Length on the wire, if more than was captured."""


def timed(frames: Iterable[bytes], start: int = 1_700_000_000 * SECOND, step: int = 1_000_000) -> list[Packet]:
    """Frames as packets, a millisecond apart."""
    return [Packet(frame, start + index * step) for index, frame in enumerate(frames)]


# -- network and transport --------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """Internet checksum, RFC 1071."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    identification: int = 0,
    fragment: int = 0,
    options: bytes = b"",
    total: int | None = None,
    ttl: int = 64,
) -> bytes:
    """An IPv4 packet; ``fragment``: flags and fragment offset as one 16-bit field."""
    length = 20 + len(options) + len(payload) if total is None else total
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        0,
        length,
        identification,
        fragment,
        ttl,
        protocol,
        0,
        socket.inet_aton(source),
        socket.inet_aton(destination),
    )
    header += options
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def ip6(
    source: str, destination: str, following: int, payload: bytes, *, length: int | None = None, ttl: int = 64
) -> bytes:
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, address) for address in (source, destination))
    return (
        struct.pack(">IHBB", 6 << 28, len(payload) if length is None else length, following, ttl) + addresses + payload
    )


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """An IP packet of the version of its addresses."""
    return (ip6 if ":" in source else ip4)(source, destination, protocol, payload)


def tcp_header(
    source_port: int, destination_port: int, flags: int, sequence: int = 0, acknowledgement: int = 0
) -> bytes:
    return struct.pack(
        ">HHIIBBHHH",
        source_port,
        destination_port,
        sequence & 0xFFFFFFFF,
        acknowledgement & 0xFFFFFFFF,
        0x50,
        flags,
        65535,
        0,
        0,
    )


def tcp(
    source: str,
    source_port: int,
    destination: str,
    destination_port: int,
    flags: int,
    sequence: int = 0,
    payload: bytes = b"",
) -> bytes:
    """An Ethernet frame with a TCP segment."""
    segment = tcp_header(source_port, destination_port, flags, sequence) + payload
    return ethernet(ip(source, destination, 6, segment))


def udp_datagram(source_port: int, destination_port: int, payload: bytes = b"", length: int | None = None) -> bytes:
    size = 8 + len(payload) if length is None else length
    return struct.pack(">HHHH", source_port, destination_port, size, 0) + payload


def udp(source: str, source_port: int, destination: str, destination_port: int, payload: bytes = b"") -> bytes:
    """An Ethernet frame with a UDP datagram."""
    return ethernet(ip(source, destination, 17, udp_datagram(source_port, destination_port, payload)))


def echo(source: str, destination: str, kind: int, identifier: int, payload: bytes = bytes(32)) -> bytes:
    """An Ethernet frame with an ICMP echo message (types 8 and 0; 128 and 129 over IPv6)."""
    message = struct.pack(">BBHHH", kind, 0, 0, identifier, 1) + payload
    return ethernet(ip(source, destination, 58 if ":" in source else 1, message))


def icmp(source: str, destination: str, kind: int, body: bytes, code: int = 0) -> bytes:
    """An Ethernet frame with any ICMP message; ``body``: what follows the checksum."""
    message = struct.pack(">BBH", kind, code, 0) + body
    return ethernet(ip(source, destination, 58 if ":" in source else 1, message))


def icmp_error(source: str, destination: str, kind: int, code: int, quoted: bytes) -> bytes:
    """An Ethernet frame with an ICMP error that quotes the Ethernet frame ``quoted``."""
    message = struct.pack(">BBHI", kind, code, 0, 0) + quoted[14:][:64]
    return ethernet(ip(source, destination, 58 if ":" in source else 1, message))


def fragments(packet: bytes, size: int, identification: int = 1) -> list[bytes]:
    """An IP packet (header without options) cut into IP fragments of ``size`` payload bytes, a multiple of 8."""
    version = packet[0] >> 4
    header, payload = (packet[:20], packet[20:]) if version == 4 else (packet[:40], packet[40:])
    found = []
    for at in range(0, len(payload), size):
        part = payload[at : at + size]
        more = at + size < len(payload)
        if version == 4:
            field = struct.pack(">HHH", 20 + len(part), identification, more << 13 | at // 8)
            found.append(header[:2] + field + header[8:] + part)
        else:
            extension = struct.pack(">BBHI", header[6], 0, at | more, identification)
            found.append(header[:4] + struct.pack(">HB", 8 + len(part), 44) + header[7:] + extension + part)
    return found


# -- links ------------------------------------------------------------------------------------------------------


def hardware(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


def ethertype_of(packet: bytes) -> int:
    return 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800


def ethernet(
    packet: bytes,
    ethertype: int | None = None,
    vlans: Sequence[tuple[int, int]] = (),
    source: str = MAC,
    destination: str = OTHER_MAC,
) -> bytes:
    """An Ethernet frame; ``vlans``: protocol and identifier of every tag, outermost first."""
    tags = b"".join(struct.pack(">HH", protocol, identifier) for protocol, identifier in vlans)
    number = ethertype_of(packet) if ethertype is None else ethertype
    return hardware(destination) + hardware(source) + tags + struct.pack(">H", number) + packet


def cooked(packet: bytes, source: str = MAC) -> bytes:
    """LINKTYPE_LINUX_SLL, 113."""
    return struct.pack(">HHH", 0, 1, 6) + hardware(source) + bytes(2) + struct.pack(">H", ethertype_of(packet)) + packet


def cooked2(packet: bytes, source: str = MAC) -> bytes:
    """LINKTYPE_LINUX_SLL2, 276."""
    return struct.pack(">HHIHBB", ethertype_of(packet), 0, 3, 1, 0, 6) + hardware(source) + bytes(2) + packet


def null(packet: bytes, order: Order = "<") -> bytes:
    """LINKTYPE_NULL, 0."""
    return struct.pack(order + "I", 2 if packet[0] >> 4 == 4 else 30) + packet


LINKS = {0: null, 1: ethernet, 12: bytes, 101: bytes, 113: cooked, 228: bytes, 276: cooked2}
"""Link type → function that wraps an IP packet."""


# -- pcap -------------------------------------------------------------------------------------------------------


def pcap(
    packets: Iterable[Packet],
    linktype: int = 1,
    order: Order = "<",
    nanoseconds: bool = False,
    modified: bool = False,
    snaplen: int = 262144,
    magic: int | None = None,
    minor: int = 4,
    padding: bytes = b"",
) -> bytes:
    """A pcap file; ``modified``: Kuznetzov's format with longer record headers; ``padding``: after every header."""
    if magic is None:
        magic = 0xA1B2CD34 if modified else 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, minor, 0, 0, snaplen, linktype)]
    for frame, time, wire in packets:
        fraction = time % SECOND // (1 if nanoseconds else 1000)
        parts.append(struct.pack(order + "IIII", time // SECOND, fraction, len(frame), wire or len(frame)))
        parts.append(bytes(8) if modified else padding)
        parts.append(frame)
    return b"".join(parts)


def snoop(packets: Iterable[Packet], datalink: int = 4, lost: int = 0) -> bytes:
    """A snoop file (RFC 1761); ``lost``: cumulative drops in the last record."""
    parts = [b"snoop\0\0\0" + struct.pack(">II", 2, datalink)]
    packets = list(packets)
    for index, (frame, time, wire) in enumerate(packets):
        padding = -len(frame) % 4
        sizes = wire or len(frame), len(frame), 24 + len(frame) + padding
        drops = lost if index == len(packets) - 1 else lost // 2
        parts.append(struct.pack(">IIIIII", *sizes, drops, time // SECOND, time % SECOND // 1000))
        parts.append(frame + bytes(padding))
    return b"".join(parts)


# -- pcapng -----------------------------------------------------------------------------------------------------


def block(kind: int, body: bytes, order: Order = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def section(order: Order = "<", version: int = 1) -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, version, 0, -1), order)


def option(code: int, value: bytes, order: Order = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(
    linktype: int = 1,
    snaplen: int = 0,
    resolution: int | None = None,
    offset: int | None = None,
    order: Order = "<",
    frame_check: int | None = None,
) -> bytes:
    """An Interface Description Block.

    ``resolution``: octet of option if_tsresol; ``offset``: seconds of option if_tsoffset; ``frame_check``: octet of
    option if_fcslen.
    """
    body = struct.pack(order + "HHI", linktype, 0, snaplen) + option(2, b"lan0", order)
    if resolution is not None:
        body += option(9, bytes([resolution]), order)
    if offset is not None:
        body += option(14, struct.pack(order + "q", offset), order)
    if frame_check is not None:
        body += option(13, bytes([frame_check]), order)
    return block(1, body + option(0, b"", order), order)


def enhanced(frame: bytes, ticks: int = 0, number: int = 0, order: Order = "<", wire: int | None = None) -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), wire or len(frame))
    return block(6, head + frame + bytes(-len(frame) % 4) + option(1, b"comment", order), order)


def simple(frame: bytes, order: Order = "<", wire: int | None = None) -> bytes:
    return block(3, struct.pack(order + "I", wire or len(frame)) + frame, order)


def obsolete(frame: bytes, ticks: int = 0, number: int = 0, order: Order = "<") -> bytes:
    head = struct.pack(order + "HHIIII", number, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(2, head + frame, order)


def statistics(dropped: int, dropped_by_system: int | None = None, number: int = 0, order: Order = "<") -> bytes:
    body = struct.pack(order + "III", number, 0, 0) + option(4, bytes(8), order)
    body += option(5, struct.pack(order + "Q", dropped), order)
    if dropped_by_system is not None:
        body += option(7, struct.pack(order + "Q", dropped_by_system), order)
    return block(5, body + option(0, b"", order), order)


# -- through the engine -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def saved(content: bytes) -> Iterator[Path]:
    """A temporary file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        path.write_bytes(content)
        yield path


def read_files(*contents: bytes, buffer_size: int = driver.BUFFER_BYTES) -> Flows:
    """The flows of capture files with these contents, given in this order."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.pcap" for index in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return flows.read([str(path) for path in paths], buffer_size=buffer_size)


def read(frames: Iterable[bytes], linktype: int = 1, buffer_size: int = driver.BUFFER_BYTES) -> Flows:
    """The flows of frames, a millisecond apart."""
    return read_files(pcap(timed(frames), linktype, nanoseconds=True), buffer_size=buffer_size)


def conversations(
    frames: Iterable[bytes], linktype: int = 1, services: Mapping[tuple[str, int], str] = NO_SERVICES
) -> tuple[Conversation, ...]:
    """The conversations of frames, a millisecond apart, without tunnels between capture points."""
    return tuple(peeled(read(frames, linktype), services).expand())


def peeled(found: Flows, services: Mapping[tuple[str, int], str] = NO_SERVICES) -> Conversations:
    """The conversations of flows, without tunnels between capture points."""
    conversations = identify_data_connections(dissect_flows(found, services))
    return conversations.without(capture_tunnels(conversations))


def conversation(frames: Iterable[bytes], linktype: int = 1) -> Conversation:
    """The only conversation of frames."""
    (found,) = conversations(frames, linktype)
    return found


def accounted(found: Flows) -> bool:
    """Whether the packet counts add up to the packets of the files and of the flows."""
    counts = found.counts
    parts = (
        counts.in_flows
        + counts.icmp_errors
        + counts.copies
        + sum(counts.not_ip.values())
        + sum(counts.unreadable.values())
    )
    in_flows = int(found.side["packets"][found.flow["layer"] != columns.TUNNEL].sum())
    return counts.packets == parts == sum(capture.packets for capture in found.captures) and in_flows == counts.in_flows
