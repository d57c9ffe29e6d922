"""IP fragments: which datagram each belongs to, and the datagram put together (RFC 791, RFC 8200 section 4.5).

Every fragment counts as a packet of its datagram's flow; the payload is looked at once, when the datagram is whole.
Fragments that overlap are no sender's habit but somebody's trick, and the datagram is marked. Of IPv4 the first bytes
win; an IPv6 datagram is not looked into, as its receiver may not either (RFC 5722).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy.typing as npt

PENDING = 4096
"""Incomplete datagrams that are kept at the same time; the oldest gives way."""
PENDING_BYTES = 64 << 20
"""Bytes that incomplete datagrams may take at the same time; the oldest gives way."""
OVERHEAD = 512
"""Bytes that a fragment takes beside its payload."""
PARTS = 1024
"""Fragments of one datagram that are waited for: more are somebody's trap."""
TIMEOUT = 60_000_000_000
"""Nanoseconds after which an identification stands for another datagram (RFC 8200 section 4.5)."""
RECENT = 256
"""Whole datagrams that are remembered, so that copies of their fragments are known as such."""
BEGINNING = 256
"""Bytes of their payload that are remembered: they tell the flow, also that of a tunnel's inside."""
LARGEST = 65535
"""Bytes of a datagram."""

FRAGMENTED = "fragments"
FIRST_FRAGMENT_MISSING = "fragments without their first"
OVERLAPPING = "overlapping fragments"
OVERSIZED = "fragments past the largest datagram"


class Carrier(NamedTuple):
    """A packet that brought a fragment."""

    record: npt.NDArray[Any]
    """The scanner's: time, frame number, length on the wire."""
    capture: int
    """Index of its file."""


class Packet(NamedTuple):
    """What the scanner shall account for."""

    data: bytes
    """An IP packet without fragmentation fields."""
    carriers: tuple[Carrier, ...]
    """Each counts as a packet; the last brings the payload."""
    notes: tuple[str, ...]
    count_only: bool = False
    """The payload is not to be looked at."""
    unknown_length: bool = False
    """Nobody knows how long the payload was: the last fragment never came, and it does not say so itself."""


@dataclass(slots=True)
class Datagram:
    """The fragments of one datagram that came so far."""

    time: int
    """When the first of them came, nanoseconds since the epoch."""
    protocol: int
    notes: tuple[str, ...]
    carriers: list[Carrier] = field(default_factory=list)
    parts: dict[int, bytes] = field(default_factory=dict)
    """By offset in the payload; none overlaps another."""
    offsets: list[int] = field(default_factory=list)
    """Of the parts, ascending."""
    held: int = 0
    """Bytes of all parts."""
    header: bytes = b""
    """IP header of the first fragment, made that of the whole."""
    total: int | None = None
    """Payload length, known from the last fragment."""
    overlapping: bool = False
    oversized: bool = False

    @property
    def whole(self) -> bool:
        return self.held == self.total

    @property
    def marks(self) -> tuple[str, ...]:
        """What no honest sender does."""
        return (OVERLAPPING,) * self.overlapping + (OVERSIZED,) * self.oversized

    def add(self, fragment: Fragment) -> None:
        """Take in a fragment; of overlapping bytes the first win."""
        end = fragment.offset + len(fragment.payload)
        if fragment.largest < end:
            self.oversized = True
            return
        if fragment.offset == 0 and not self.header:
            self.header, self.protocol = fragment.header, fragment.protocol
        if fragment.last and not fragment.cut:
            if self.total is None:
                self.finish(end)
            elif self.total != end:
                self.overlapping = True
        self.fill(fragment.offset, fragment.payload)

    def finish(self, total: int) -> None:
        """Learn the length; what was there behind it contradicts it."""
        self.total = total
        while self.offsets and self.offsets[-1] + len(self.parts[self.offsets[-1]]) > total:
            self.overlapping = True
            offset = self.offsets.pop()
            part = self.parts.pop(offset)
            self.held -= len(part)
            self.place(offset, part[: max(0, total - offset)])

    def fill(self, offset: int, data: bytes) -> None:
        """Keep what is new of some bytes."""
        if self.parts.get(offset) == data:
            return  # a copy
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
            self.place(position, data[position - offset : max(0, other - offset)])
            position = max(position, other + len(self.parts[other]))
        self.place(position, data[position - offset : max(0, end - offset)])

    def place(self, offset: int, part: bytes) -> None:
        if part:
            insort(self.offsets, offset)
            self.parts[offset] = part
            self.held += len(part)

    def payload(self) -> bytes:
        """From its beginning to the first gap."""
        found = bytearray()
        for offset in self.offsets:
            if offset > len(found):
                break
            found += self.parts[offset]
        return bytes(found)

    def length(self, payload: bytes) -> int:
        """Bytes of the whole payload: of an incomplete datagram what is known of it, and more than is there."""
        if self.total is not None:
            return self.total
        declared = int.from_bytes(payload[4:6], "big") if self.protocol == 17 else 0
        return max(declared, len(payload) + 1, *(offset + len(self.parts[offset]) for offset in self.offsets[-1:]))

    def packet(self) -> Packet:
        """What came of it, whole or not."""
        payload = self.payload()
        notes = (*self.notes, *(self.marks or (FRAGMENTED,)))
        unread = self.overlapping and self.header[0] >> 4 == 6
        needed = {6: 14, 17: 8}.get(self.protocol, 0)
        if not self.whole and 4 <= len(payload) < needed:  # its ports are there, the rest of the header is not
            payload, unread = payload.ljust(needed, b"\0"), True
        whole = with_length(self.header, self.length(payload)) + payload
        unknown = self.total is None and self.protocol in (1, 58)
        return Packet(whole, tuple(self.carriers), notes, unread, unknown)


class Fragments:
    """The datagrams of which fragments were seen."""

    def __init__(self) -> None:
        self.pending: dict[Key, Datagram] = {}
        self.held = 0
        """Bytes that all pending datagrams take."""
        self.recent: dict[Key, tuple[Datagram, Packet]] = {}
        self.overlapping = 0
        """Datagrams with fragments that overlap, or reach past the largest datagram."""
        self.incomplete = 0
        """Datagrams that never became whole."""
        self.abandoned = 0
        """Incomplete datagrams that had to give way while fragments of theirs might still have come."""

    def add(self, packet: bytes, carriers: tuple[Carrier, ...], notes: tuple[str, ...]) -> list[Packet] | None:
        """Take in an IP packet: ``None`` if it is no fragment, else what is to be accounted for now."""
        fragment = fragment_of(packet)
        if fragment is None:
            return None
        time = int(carriers[-1].record["time"])
        found: list[Packet] = []
        key = fragment.key
        if key in self.pending and abs(time - self.pending[key].time) > TIMEOUT:
            found.append(self.give_up(key))
        if key not in self.pending:
            if key in self.recent:
                datagram, whole = self.recent[key]
                copied = fragment.payload and datagram.parts.get(fragment.offset) == fragment.payload
                if copied and abs(time - datagram.time) <= TIMEOUT:
                    return [*found, whole._replace(carriers=carriers)]
            self.pending[key] = Datagram(time, fragment.protocol, notes)
        datagram = self.pending[key]
        before = datagram.held
        datagram.add(fragment)
        datagram.carriers.extend(carriers)
        self.held += datagram.held - before + OVERHEAD * len(carriers)
        if datagram.whole:
            found.append(self.complete(key))
        elif len(datagram.carriers) >= PARTS:
            self.abandoned += 1
            found.append(self.give_up(key))
        while len(self.pending) > PENDING or self.held > PENDING_BYTES:
            self.abandoned += 1
            found.append(self.give_up(next(iter(self.pending))))
        return found

    def flush(self) -> list[Packet]:
        """What is left at the end of the captures."""
        return [self.give_up(key) for key in list(self.pending)]

    def forget(self, key: Key) -> Datagram:
        datagram = self.pending.pop(key)
        self.held -= datagram.held + OVERHEAD * len(datagram.carriers)
        self.overlapping += bool(datagram.marks)
        return datagram

    def complete(self, key: Key) -> Packet:
        datagram = self.forget(key)
        packet = datagram.packet()
        datagram.carriers.clear()
        self.recent.pop(key, None)
        beginning = packet.data[: len(datagram.header) + BEGINNING].ljust(len(datagram.header) + 20, b"\0")
        self.recent[key] = datagram, Packet(beginning, (), packet.notes, True)
        if len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]
        return packet

    def give_up(self, key: Key) -> Packet:
        """An incomplete datagram: its beginning, or, without one, a packet of unknown ports."""
        datagram = self.forget(key)
        self.incomplete += 1
        if datagram.header:
            return datagram.packet()
        notes = (*datagram.notes, FIRST_FRAGMENT_MISSING, *datagram.marks)
        return Packet(bare_header(key[0], datagram.protocol), tuple(datagram.carriers), notes, True)


Key = tuple[bytes, int, int]
"""Addresses, identification, and of IPv4 the protocol: in IPv6 only the first fragment's counts (RFC 8200)."""


class Fragment(NamedTuple):
    key: Key
    protocol: int
    offset: int
    payload: bytes
    last: bool
    cut: bool
    """The capture holds less of it than was sent."""
    header: bytes
    """An unfragmented datagram's IP header."""
    largest: int
    """Bytes of payload that the datagram may have."""


def fragment_of(packet: bytes) -> Fragment | None:
    """Read the IP header; ``None`` if the packet is whole."""
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
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
            cut=len(packet) < total,
            header=packet[:6] + b"\0\0" + packet[8:size],
            largest=LARGEST - size,
        )
    if len(packet) < 48 or packet[0] >> 4 != 6:
        return None
    following, at = packet[6], 40
    for _ in range(16):
        if following not in (0, 43, 60) or at + 8 > len(packet):
            break
        following, at = packet[at], at + (packet[at + 1] + 1) * 8
    if following != 44 or at + 8 > len(packet):
        return None
    fields = int.from_bytes(packet[at + 2 : at + 4], "big")
    if not fields & 0xFFF9:
        return None  # an atomic fragment is whole (RFC 6946)
    total = 40 + int.from_bytes(packet[4:6], "big")
    return Fragment(
        key=(packet[8:40], int.from_bytes(packet[at + 4 : at + 8], "big"), -1),
        protocol=packet[at],
        offset=fields & 0xFFF8,
        payload=packet[at + 8 : total],
        last=not fields & 1,
        cut=len(packet) < total,
        header=packet[:6] + packet[at : at + 1] + packet[7:40],
        largest=LARGEST,
    )


def with_length(header: bytes, payload: int) -> bytes:
    """The IP header with its length field set."""
    if header[0] >> 4 == 4:
        return header[:2] + min(65535, len(header) + payload).to_bytes(2, "big") + header[4:]
    return header[:4] + min(65535, payload).to_bytes(2, "big") + header[6:]


def bare_header(addresses: bytes, protocol: int) -> bytes:
    """An IP header for a datagram whose first fragment was never seen, with a transport header of zeros."""
    zeros = bytes(20)
    if len(addresses) == 8:
        return b"\x45\0" + (40).to_bytes(2, "big") + bytes(4) + bytes([64, protocol]) + bytes(2) + addresses + zeros
    return b"\x60\0\0\0" + (20).to_bytes(2, "big") + bytes([protocol, 64]) + addresses + zeros
