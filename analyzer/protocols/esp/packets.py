"""ESP packets and NAT keepalives as messages (RFC 4303, section 2; RFC 3948, section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from analyzer.wire import Layout, Reader

NAT_TRAVERSAL_PORT: Final = 4500
KEEPALIVE: Final = b"\xff"
HEADER: Final = Layout(("SPI", "I"), ("Sequence Number", "I"))
SAMPLE: Final = 40
"""Bytes kept from the beginning of a payload: the longest fixed inner header, that of IPv6."""
ALIGNMENT: Final = 4
"""Bytes to which every ESP packet is padded (RFC 4303, section 2.4)."""
LONGEST_PACKET: Final = 1 << 32
"""Stands for an unknown length (:data:`~analyzer.wire.UNBOUNDED`); no packet is that long."""


class EspPacket(NamedTuple):
    """Security Parameters Index and Sequence Number (RFC 4303, sections 2.1 and 2.2)."""

    spi: int
    sequence: int
    """Low-order 32 bits; the high-order half of an extended sequence number is never transmitted."""
    length: int
    """Declared length of the whole ESP packet in bytes, from SPI to ICV."""
    udp_encapsulated: bool


class EspPayload(NamedTuple):
    """First :data:`SAMPLE` bytes of Payload Data of the preceding packet; absent if fewer were captured."""

    beginning: bytes


class NatKeepalive(NamedTuple):
    """A datagram of the single byte 0xFF (RFC 3948, section 2.3)."""


def read_keepalive(reader: Reader) -> Iterator[object]:
    """Read a datagram of one byte; no ESP packet is that short."""
    value = reader.u8("NAT keepalive")
    if value != KEEPALIVE[0]:
        reader.malformed("NAT keepalive", f"a datagram of the single byte {value:#04x}", reader.pos - 1)
    yield NatKeepalive()


def read_packet(reader: Reader, udp_encapsulated: bool) -> Iterator[object]:
    """Read one ESP packet: the rest of a datagram, of which little may have been captured."""
    length = min(reader.fence, LONGEST_PACKET) - reader.pos
    spi, sequence = reader.unpack(HEADER)
    yield EspPacket(spi, sequence, length, udp_encapsulated)
    if reader.left >= SAMPLE:
        yield EspPayload(reader.take(SAMPLE, "Payload Data"))
