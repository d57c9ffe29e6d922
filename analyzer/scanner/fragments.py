"""Fragments, the second half of the slow path: IP datagrams are reassembled (RFC 791; RFC 8200, section 4.5).

Every fragment counts as a packet of its datagram's flow; the payload is read once, when the datagram is complete. No
ordinary sender makes overlapping fragments: such a datagram is noted. Of overlapping bytes in IPv4 the first to arrive
win. The payload of an overlapping IPv6 datagram is not read, as its receiver must drop it (RFC 5722).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import field
from typing import Any, NamedTuple

import numpy.typing as npt

from analyzer.dataclass import dataclass

MAX_PENDING = 4096
"""Maximum incomplete datagrams at a time; above it the oldest is abandoned."""
MAX_PENDING_BYTES = 64 << 20
"""Maximum memory of all incomplete datagrams, in bytes; above it the oldest is abandoned."""
FRAGMENT_OVERHEAD = 512
"""Memory of a fragment in addition to its payload, in bytes: the scanner's record and Python's objects."""
MAX_FRAGMENTS = 1024
"""Maximum fragments of one datagram. The largest datagram in packets of 576 bytes takes 119; more are an attack."""
TIMEOUT = 60_000_000_000
"""Nanoseconds after which an identification may belong to another datagram (RFC 8200, section 4.5)."""
MAX_RECENT = 256
"""Complete datagrams remembered, so that copies of their fragments are recognised."""
PREFIX_BYTES = 256
"""Payload remembered of each of them, in bytes: enough to find its flow again, also inside a tunnel."""
MAX_DATAGRAM_BYTES = 65535

FRAGMENTED = "fragments"
FIRST_FRAGMENT_MISSING = "fragments without their first"
OVERLAPPING = "overlapping fragments"
OVERSIZED = "fragments past the largest datagram"


class Carrier(NamedTuple):
    """A captured packet that brought a fragment, or a whole datagram."""

    record: npt.NDArray[Any]
    """Record of :data:`analyzer.scanner.columns.PACKET`: time, frame number, length on the wire."""
    capture: int
    """Index of its file."""


class IpPacket(NamedTuple):
    """An IP packet for the scanner to account for."""

    data: bytes
    carriers: tuple[Carrier, ...]
    """Each counts as a packet; the last one brings the payload."""
    notes: tuple[str, ...]
    count_only: bool = False
    """The payload is not to be read."""
    unknown_length: bool = False
    """The length of the payload is unknown: the last fragment is missing, and no header above IP declares it."""
    tunnels: tuple[int, ...] = ()
    """Flows of the tunnels that carry the packet."""


Key = tuple[bytes, int, int]
"""Addresses, identification and IPv4 protocol; -1 for IPv6, where only the first fragment's protocol counts
(RFC 8200, section 4.5)."""


class Fragment(NamedTuple):
    """A fragment as its IP header describes it."""

    key: Key
    protocol: int
    offset: int
    """In the datagram's payload, in bytes."""
    payload: bytes
    last: bool
    truncated: bool
    """The capture holds less of it than was sent."""
    header: bytes
    """IP header of the datagram without fragmentation fields; its length field is still the fragment's."""
    max_payload: int
    """Maximum payload of the datagram, in bytes."""


def parse_fragment(packet: bytes) -> Fragment | None:
    """Read the IP header of a packet; ``None`` if it is no fragment."""
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
        return parse_fragment4(packet)
    if len(packet) >= 48 and packet[0] >> 4 == 6:
        return parse_fragment6(packet)
    return None


def parse_fragment4(packet: bytes) -> Fragment | None:
    """See :func:`parse_fragment`; RFC 791, section 3.1."""
    flags = int.from_bytes(packet[6:8], "big")
    if not flags & 0x3FFF:
        return None
    size = max(20, (packet[0] & 15) * 4)
    total = int.from_bytes(packet[2:4], "big") or len(packet)
    return Fragment(
        key=(packet[12:20], int.from_bytes(packet[4:6], "big"), packet[9]),
        protocol=packet[9],
        offset=(flags & 0x1FFF) * 8,
        payload=packet[size:total],
        last=not flags & 0x2000,
        truncated=len(packet) < total,
        header=packet[:6] + b"\0\0" + packet[8:size],
        max_payload=MAX_DATAGRAM_BYTES - size,
    )


def parse_fragment6(packet: bytes) -> Fragment | None:
    """See :func:`parse_fragment`; RFC 8200, section 4.5. An atomic fragment is a whole datagram (RFC 6946)."""
    following, at = packet[6], 40
    for _ in range(16):
        if following not in (0, 43, 60) or at + 8 > len(packet):
            break
        following, at = packet[at], at + (packet[at + 1] + 1) * 8
    if following != 44 or at + 8 > len(packet):
        return None
    fields = int.from_bytes(packet[at + 2 : at + 4], "big")
    if not fields & 0xFFF9:
        return None
    total = 40 + int.from_bytes(packet[4:6], "big")
    return Fragment(
        key=(packet[8:40], int.from_bytes(packet[at + 4 : at + 8], "big"), -1),
        protocol=packet[at],
        offset=fields & 0xFFF8,
        payload=packet[at + 8 : total],
        last=not fields & 1,
        truncated=len(packet) < total,
        header=packet[:6] + packet[at : at + 1] + packet[7:40],
        max_payload=MAX_DATAGRAM_BYTES,
    )


@dataclass(slots=True)
class PartialDatagram:
    """The fragments of one datagram that have arrived."""

    time: int
    """Arrival of the first of them, nanoseconds since the epoch."""
    protocol: int
    notes: tuple[str, ...]
    tunnels: tuple[int, ...] = ()
    carriers: list[Carrier] = field(default_factory=list)
    parts: dict[int, bytes] = field(default_factory=dict)
    """Offset in the payload → bytes; parts do not overlap."""
    offsets: list[int] = field(default_factory=list)
    """Offsets of the parts, ascending."""
    held: int = 0
    """Bytes of all parts."""
    header: bytes = b""
    """Header of the first fragment (:attr:`Fragment.header`); empty until that arrives."""
    total: int | None = None
    """Length of the payload, known from the last fragment."""
    overlapping: bool = False
    oversized: bool = False

    @property
    def complete(self) -> bool:
        return self.held == self.total

    @property
    def violations(self) -> tuple[str, ...]:
        """Notes about fragments that no ordinary sender makes."""
        return (OVERLAPPING,) * self.overlapping + (OVERSIZED,) * self.oversized

    def add(self, fragment: Fragment) -> None:
        """Add a fragment. Of overlapping bytes the first to arrive win."""
        end = fragment.offset + len(fragment.payload)
        if fragment.max_payload < end:
            self.oversized = True
            return
        if fragment.offset == 0 and not self.header:
            self.header, self.protocol = fragment.header, fragment.protocol
        if fragment.last and not fragment.truncated:
            if self.total is None:
                self.set_total(end)
            elif self.total != end:
                self.overlapping = True
        self.insert(fragment.offset, fragment.payload)

    def set_total(self, total: int) -> None:
        """Set the length of the payload; bytes that arrived past it contradict it and are cut off."""
        self.total = total
        while self.offsets and self.offsets[-1] + len(self.parts[self.offsets[-1]]) > total:
            self.overlapping = True
            offset = self.offsets.pop()
            part = self.parts.pop(offset)
            self.held -= len(part)
            self.store(offset, part[: max(0, total - offset)])

    def insert(self, offset: int, data: bytes) -> None:
        """Store those of some bytes that are new."""
        if self.parts.get(offset) == data:
            return  # a copy of a fragment
        end = offset + len(data)
        if self.total is not None and end > self.total:
            self.overlapping = True
            end = self.total
        at = bisect_left(self.offsets, offset)
        position = offset
        if at:
            position = max(offset, self.offsets[at - 1] + len(self.parts[self.offsets[at - 1]]))
        occupied = self.offsets[at : bisect_left(self.offsets, end)]
        self.overlapping |= bool(data) and (position > offset or bool(occupied))
        for other in occupied:
            self.store(position, data[position - offset : max(0, other - offset)])
            position = max(position, other + len(self.parts[other]))
        self.store(position, data[position - offset : max(0, end - offset)])

    def store(self, offset: int, part: bytes) -> None:
        """Store bytes where no part is yet."""
        if part:
            insort(self.offsets, offset)
            self.parts[offset] = part
            self.held += len(part)

    def payload(self) -> bytes:
        """The payload up to the first gap."""
        found = bytearray()
        for offset in self.offsets:
            if offset > len(found):
                break
            found += self.parts[offset]
        return bytes(found)

    def payload_length(self, payload: bytes) -> int:
        """Bytes of the complete payload; of an incomplete one at least one more than ``payload``, what is there."""
        if self.total is not None:
            return self.total
        declared = int.from_bytes(payload[4:6], "big") if self.protocol == 17 else 0
        return max(declared, len(payload) + 1, *(offset + len(self.parts[offset]) for offset in self.offsets[-1:]))

    def to_packet(self) -> IpPacket:
        """The datagram as one IP packet, complete or not; its first fragment must be there."""
        payload = self.payload()
        notes = (*self.notes, *(self.violations or (FRAGMENTED,)))
        count_only = self.overlapping and self.header[0] >> 4 == 6
        header_size = {6: 14, 17: 8}.get(self.protocol, 0)
        if not self.complete and 4 <= len(payload) < header_size:  # the ports are there, the rest of TCP or UDP is not
            payload, count_only = payload.ljust(header_size, b"\0"), True
        data = with_length(self.header, self.payload_length(payload)) + payload
        unknown_length = self.total is None and self.protocol in (1, 58)
        return IpPacket(data, tuple(self.carriers), notes, count_only, unknown_length, self.tunnels)


class Reassembler:
    """Reassembles the datagrams of all captures."""

    def __init__(self) -> None:
        self.pending: dict[Key, PartialDatagram] = {}
        self.held = 0
        """Memory of all pending datagrams, in bytes."""
        self.recent: dict[Key, tuple[PartialDatagram, IpPacket]] = {}
        """Complete datagrams, and the packet to account for when a fragment of theirs comes again."""
        self.overlapping = 0
        """Datagrams with fragments that overlap or reach past the largest datagram."""
        self.incomplete = 0
        """Datagrams that never became complete."""
        self.abandoned = 0
        """Incomplete datagrams given up early, while more of their fragments might have come."""

    def add(self, packet: IpPacket, network: int = 0) -> list[IpPacket] | None:
        """Add a packet whose IP header is at ``network``. Returns the packets to account for now, or ``None`` if it is
        no fragment."""
        fragment = parse_fragment(packet.data[network:])
        if fragment is None:
            return None
        carriers = packet.carriers
        time = int(carriers[-1].record["time"])
        found: list[IpPacket] = []
        key = fragment.key
        if key in self.pending and abs(time - self.pending[key].time) > TIMEOUT:
            found.append(self.give_up(key))
        if key not in self.pending:
            if key in self.recent:
                datagram, repeated = self.recent[key]
                is_copy = fragment.payload and datagram.parts.get(fragment.offset) == fragment.payload
                if is_copy and abs(time - datagram.time) <= TIMEOUT:
                    return [*found, repeated._replace(carriers=carriers, tunnels=packet.tunnels)]
            self.pending[key] = PartialDatagram(time, fragment.protocol, packet.notes, packet.tunnels)
        datagram = self.pending[key]
        before = datagram.held
        datagram.add(fragment)
        datagram.carriers.extend(carriers)
        self.held += datagram.held - before + FRAGMENT_OVERHEAD * len(carriers)
        if datagram.complete:
            found.append(self.complete(key))
        elif len(datagram.carriers) >= MAX_FRAGMENTS:
            self.abandoned += 1
            found.append(self.give_up(key))
        while len(self.pending) > MAX_PENDING or self.held > MAX_PENDING_BYTES:
            self.abandoned += 1
            found.append(self.give_up(next(iter(self.pending))))
        return found

    def flush(self) -> list[IpPacket]:
        """The incomplete datagrams that are left at the end of the captures."""
        return [self.give_up(key) for key in list(self.pending)]

    def remove(self, key: Key) -> PartialDatagram:
        """Take a datagram out of those that wait for fragments."""
        datagram = self.pending.pop(key)
        self.held -= datagram.held + FRAGMENT_OVERHEAD * len(datagram.carriers)
        self.overlapping += bool(datagram.violations)
        return datagram

    def complete(self, key: Key) -> IpPacket:
        """The packet of a complete datagram."""
        datagram = self.remove(key)
        packet = datagram.to_packet()
        datagram.carriers.clear()
        self.recent.pop(key, None)
        size = len(datagram.header)
        prefix = packet.data[: size + PREFIX_BYTES].ljust(size + 20, b"\0")
        self.recent[key] = datagram, IpPacket(prefix, (), packet.notes, count_only=True)
        if len(self.recent) > MAX_RECENT:
            del self.recent[next(iter(self.recent))]
        return packet

    def give_up(self, key: Key) -> IpPacket:
        """The packet of an incomplete datagram: as far as it is there; without its beginning, one with ports 0."""
        datagram = self.remove(key)
        self.incomplete += 1
        if datagram.header:
            return datagram.to_packet()
        notes = (*datagram.notes, FIRST_FRAGMENT_MISSING, *datagram.violations)
        blank = blank_packet(key[0], datagram.protocol)
        return IpPacket(blank, tuple(datagram.carriers), notes, count_only=True, tunnels=datagram.tunnels)


def with_length(header: bytes, payload: int) -> bytes:
    """An IP header with its length field set for so many bytes of payload."""
    if header[0] >> 4 == 4:
        return header[:2] + min(65535, len(header) + payload).to_bytes(2, "big") + header[4:]
    return header[:4] + min(65535, payload).to_bytes(2, "big") + header[6:]


def blank_packet(addresses: bytes, protocol: int) -> bytes:
    """An IP packet between ``addresses`` (source and destination, packed) with a transport header of zeros."""
    zeros = bytes(20)
    if len(addresses) == 8:
        return b"\x45\0" + (40).to_bytes(2, "big") + bytes(4) + bytes([64, protocol]) + bytes(2) + addresses + zeros
    return b"\x60\0\0\0" + (20).to_bytes(2, "big") + bytes([protocol, 64]) + addresses + zeros
