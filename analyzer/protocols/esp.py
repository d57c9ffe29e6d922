"""IP Encapsulating Security Payload (RFC 4303): the header that is readable, and the beginning of what should not be.

A datagram is one ESP packet from its SPI on. Inside UDP (RFC 3948) the packet is the same; a single byte 0xFF there
is a NAT keepalive. What an IKE flow carries beside its messages is read by :mod:`analyzer.protocols.ike`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analyzer.heads import Datagram, Direction, Head
from analyzer.messages import Facts, Item
from analyzer.wire import Layout, Reader

NAME = "esp"

NAT_TRAVERSAL_PORT = 4500
KEEPALIVE = b"\xff"
HEADER = Layout(("SPI", "I"), ("Sequence Number", "I"))
SAMPLE = 40
"""Bytes kept from the beginning of a payload: the longest fixed inner header (IPv6)."""
MAX_SPIS = 64
"""SPIs listed in the facts."""


class EspPacket(NamedTuple):
    """Security Parameters Index and Sequence Number (RFC 4303, 2.1 and 2.2)."""

    spi: int
    sequence: int
    """Low-order 32 bits; the high-order half of an extended sequence number is never on the wire."""
    length: int
    """Declared length of the whole ESP packet in bytes, SPI and ICV included."""
    udp_encapsulated: bool


class EspPayload(NamedTuple):
    """The first :data:`SAMPLE` bytes of Payload Data of the packet before; absent where fewer were kept."""

    beginning: bytes


class NatKeepalive(NamedTuple):
    """One byte 0xFF (RFC 3948, 2.3)."""


@dataclass(frozen=True, slots=True)
class EspFacts(Facts):
    """What the headers of a flow show."""

    spis: tuple[str, ...]
    """Both directions, in order of first appearance: ``0xc39b2a51``."""
    udp_encapsulated: bool
    """As far as the packets show it: ESP seen beside NAT keepalives, or read as RFC 3948."""
    packets_read: int
    """ESP packets in the head, which is not the whole flow."""
    keepalives: int


def probe(head: Head) -> bool:
    return (head.transport == "esp" and bool(head.datagrams)) or encapsulated(head)


def encapsulated(head: Head) -> bool:
    """Whether a UDP flow on port 4500 carries ESP (RFC 3948). Its bytes are random, so its shape must do."""
    if head.transport != "udp" or NAT_TRAVERSAL_PORT not in head.ports or not head.datagrams:
        return False
    packets = [datagram for datagram in head.datagrams if not (datagram.length == 1 and datagram.data == KEEPALIVE)]
    fitting = [packet for packet in packets if shaped(packet)]
    return 2 * len(fitting) >= len(packets) and not all_printable(packets)


def shaped(datagram: Datagram) -> bool:
    """An SPI that is not reserved, and the 4-byte alignment that every ESP packet has (RFC 4303, 2.4)."""
    return datagram.length >= 12 and datagram.length % 4 == 0 and datagram.data[:4] > b"\x00\x00\x00\xff"


def all_printable(datagrams: Sequence[Datagram]) -> bool:
    """Whether every datagram begins with text, which neither an SPI nor a sequence number is."""
    return bool(datagrams) and all(
        all(32 <= byte < 127 or byte in (9, 10, 13) for byte in datagram.data[:8]) for datagram in datagrams
    )


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    return keepalive(reader) if reader.fence == 1 else packet(reader, udp_encapsulated=False)


def keepalive(reader: Reader) -> Iterator[object]:
    """A datagram of one byte; no ESP packet is that short."""
    value = reader.u8("NAT keepalive")
    if value != KEEPALIVE[0]:
        reader.malformed("NAT keepalive", f"a datagram of the single byte {value:#04x}", reader.pos - 1)
    yield NatKeepalive()


def packet(reader: Reader, udp_encapsulated: bool) -> Iterator[object]:
    """One ESP packet: the rest of a datagram, of which little may have been kept."""
    length = min(reader.fence, 1 << 32) - reader.pos
    spi, sequence = reader.unpack(HEADER)
    yield EspPacket(spi, sequence, length, udp_encapsulated)
    if reader.left >= SAMPLE:
        yield EspPayload(reader.take(SAMPLE, "Payload Data"))


def facts(items: Sequence[Item]) -> EspFacts:
    said = [item.message for item in items]
    packets = [message for message in said if isinstance(message, EspPacket)]
    keepalives = list(map(type, said)).count(NatKeepalive)
    encapsulated = keepalives > 0 or any(packet.udp_encapsulated for packet in packets)
    return EspFacts(spis(packets), encapsulated, len(packets), keepalives)


def spis(packets: Iterable[EspPacket]) -> tuple[str, ...]:
    """The SPIs of packets as JSON shows them, in order of first appearance, :data:`MAX_SPIS` at most."""
    unique = dict.fromkeys(packet.spi for packet in packets)
    return tuple(f"{spi:#010x}" for spi in list(unique)[:MAX_SPIS])
