"""IP fragments: which datagram each belongs to, and the datagram put together (RFC 791, RFC 8200 section 4.5).

Every fragment counts as a packet of its datagram's flow; the payload is looked at once, when the datagram is whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy.typing as npt

PENDING = 4096
"""Incomplete datagrams that are kept at the same time; the oldest gives way."""
PENDING_BYTES = 64 << 20
"""Payload of incomplete datagrams that is kept at the same time; the oldest gives way."""
PARTS = 1024
"""Fragments of one datagram that are waited for: more are somebody's trap."""
RECENT = 256
"""Whole datagrams that are remembered, so that copies of their fragments are known as such."""
LARGEST = 65535
"""Bytes of a datagram's payload."""

Carrier = npt.NDArray[Any]
"""The scanner's record of the packet that carried a fragment: time, frame number, length on the wire."""


class Packet(NamedTuple):
    """What the scanner shall account for."""

    data: bytes
    """An IP packet without fragmentation fields."""
    carrier: Carrier
    capture: int
    """Index of the carrier's file."""
    notes: tuple[str, ...]
    count_only: bool
    """Count the carrier, but do not look at the payload (another fragment of the datagram brings it)."""


@dataclass(slots=True)
class Datagram:
    """Fragments of one datagram, as they came."""

    notes: tuple[str, ...]
    carriers: list[tuple[Carrier, int]] = field(default_factory=list)
    """With the index of the file of each."""
    parts: dict[int, bytes] = field(default_factory=dict)
    """By offset in the payload."""
    header: bytes = b""
    """IP header of the first fragment, made that of the whole."""
    total: int | None = None
    """Payload length, known from the last fragment."""
    overlaps: bool = False
    held: int = 0
    """Bytes of all parts."""

    def whole(self) -> bytes | None:
        """The payload, once nothing is missing."""
        if self.total is None or self.held < self.total or 0 not in self.parts:
            return None
        payload = self.contiguous()
        return payload[: self.total] if len(payload) >= self.total else None

    def contiguous(self) -> bytes:
        """The payload from its beginning to the first gap. Of overlapping bytes the first win."""
        payload = bytearray()
        for offset, part in sorted(self.parts.items()):
            if offset > len(payload):
                break
            if offset < len(payload):
                self.overlaps = True
            payload += part[len(payload) - offset :]
        return bytes(payload)

    def length(self, payload: bytes) -> int:
        """Bytes of the whole payload: of an incomplete datagram what is known of it, and more than is there."""
        if self.total is not None:
            return self.total
        declared = int.from_bytes(payload[4:6], "big") if protocol_of(self.header) == 17 else 0
        return max(declared, len(payload) + 1, *(offset + len(part) for offset, part in self.parts.items()))

    def packets(self, payload: bytes) -> list[Packet]:
        """All carriers as packets of the flow; the last one carries the payload."""
        notes = (*self.notes, "overlapping fragments" if self.overlaps else "fragments")
        data = with_length(self.header, self.length(payload)) + payload
        last = len(self.carriers) - 1
        return [Packet(data, *carrier, notes, index != last) for index, carrier in enumerate(self.carriers)]

    def repeats(self, fragment: Fragment) -> bool:
        """Whether a fragment is a copy of one that is there."""
        return bool(fragment.payload) and self.parts.get(fragment.offset) == fragment.payload


class Fragments:
    """The datagrams of which fragments were seen."""

    def __init__(self) -> None:
        self.pending: dict[Key, Datagram] = {}
        self.held = 0
        """Bytes of all pending parts."""
        self.recent: dict[Key, Datagram] = {}

    def add(self, packet: bytes, carrier: Carrier, capture: int, notes: tuple[str, ...]) -> list[Packet] | None:
        """Take in an IP packet: ``None`` if it is no fragment, else what is to be accounted for now."""
        fragment = fragment_of(packet)
        if fragment is None:
            return None
        done = self.recent.get(fragment.key)
        if done is not None and fragment.key not in self.pending and done.repeats(fragment):
            return [Packet(done.header, carrier, capture, (*notes, "fragments"), True)]
        datagram = self.pending.setdefault(fragment.key, Datagram(notes))
        datagram.carriers.append((carrier, capture))
        if fragment.offset == 0:
            datagram.header = fragment.header
        if fragment.offset + len(fragment.payload) <= LARGEST:
            if fragment.payload and fragment.offset not in datagram.parts:
                datagram.parts[fragment.offset] = fragment.payload
                datagram.held += len(fragment.payload)
                self.held += len(fragment.payload)
            elif fragment.payload != datagram.parts.get(fragment.offset, b""):
                datagram.overlaps = True
            if fragment.last and datagram.total is None and not fragment.cut:
                datagram.total = fragment.offset + len(fragment.payload)
        payload = datagram.whole()
        if payload is not None:
            self.forget(fragment.key)
            packets = datagram.packets(payload)
            self.remember(fragment.key, datagram, payload)
            return packets
        if len(datagram.carriers) >= PARTS:
            return self.give_up(fragment.key)
        if len(self.pending) > PENDING or self.held > PENDING_BYTES:
            return self.give_up(next(iter(self.pending)))
        return []

    def flush(self) -> list[Packet]:
        """What is left at the end of the captures."""
        return [packet for key in list(self.pending) for packet in self.give_up(key)]

    def forget(self, key: Key) -> Datagram:
        datagram = self.pending.pop(key)
        self.held -= datagram.held
        return datagram

    def remember(self, key: Key, datagram: Datagram, payload: bytes) -> None:
        """Keep a whole datagram's parts, and of its header what tells its flow."""
        datagram.header = with_length(datagram.header, len(payload)) + payload[:64].ljust(20, b"\0")
        datagram.carriers.clear()
        self.recent.pop(key, None)
        self.recent[key] = datagram
        if len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]

    def give_up(self, key: Key) -> list[Packet]:
        """An incomplete datagram: its beginning, or, without one, packets of unknown ports."""
        datagram = self.forget(key)
        if datagram.header:
            return datagram.packets(datagram.contiguous())
        addresses, protocol, _ = key
        data = bare_header(addresses, protocol)
        notes = (*datagram.notes, "fragments without their first")
        return [Packet(data, carrier, capture, notes, True) for carrier, capture in datagram.carriers]


Key = tuple[bytes, int, int]
"""Addresses, protocol, identification."""


class Fragment(NamedTuple):
    key: Key
    offset: int
    payload: bytes
    last: bool
    cut: bool
    """The capture holds less of it than was sent."""
    header: bytes
    """An unfragmented datagram's IP header."""


def fragment_of(packet: bytes) -> Fragment | None:
    """Read the IP header; ``None`` if the packet is whole."""
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
        flags = int.from_bytes(packet[6:8], "big")
        if not flags & 0x3FFF:
            return None
        size = max(20, (packet[0] & 15) * 4)
        total = int.from_bytes(packet[2:4], "big") or len(packet)
        payload = packet[size:total]
        header = packet[:6] + b"\0\0" + packet[8:size]
        key = (packet[12:20], packet[9], int.from_bytes(packet[4:6], "big"))
        return Fragment(key, (flags & 0x1FFF) * 8, payload, not flags & 0x2000, len(packet) < total, header)
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
    total = 40 + int.from_bytes(packet[4:6], "big")
    payload = packet[at + 8 : total]
    header = packet[:6] + packet[at : at + 1] + packet[7:40]
    key = (packet[8:40], packet[at], int.from_bytes(packet[at + 4 : at + 8], "big"))
    return Fragment(key, fields & 0xFFF8, payload, not fields & 1, len(packet) < total, header)


def with_length(header: bytes, payload: int) -> bytes:
    """The IP header with its length field set."""
    if header[0] >> 4 == 4:
        return header[:2] + min(65535, len(header) + payload).to_bytes(2, "big") + header[4:]
    return header[:4] + min(65535, payload).to_bytes(2, "big") + header[6:]


def protocol_of(header: bytes) -> int:
    """IP protocol number of a header without extensions."""
    return header[9] if header[0] >> 4 == 4 else header[6]


def bare_header(addresses: bytes, protocol: int) -> bytes:
    """An IP header for a datagram whose first fragment was never seen, with a transport header of zeros."""
    zeros = bytes(20)
    if len(addresses) == 8:
        return b"\x45\0" + (40).to_bytes(2, "big") + bytes(4) + bytes([64, protocol]) + bytes(2) + addresses + zeros
    return b"\x60\0\0\0" + (20).to_bytes(2, "big") + bytes([protocol, 64]) + addresses + zeros
