"""UDP Encapsulation of IPsec ESP Packets (RFC 3948) in a flow without IKE messages. Reports call it ``esp``.

A datagram is an ESP packet from its SPI on, or a NAT keepalive: the single byte 0xFF.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from analyzer.heads import Datagram, Direction, Head
from analyzer.protocols.esp.associations import facts
from analyzer.protocols.esp.packets import ALIGNMENT, KEEPALIVE, NAT_TRAVERSAL_PORT, read_keepalive, read_packet
from analyzer.wire import Reader

__all__ = ["NAME", "dissect", "facts", "probe"]

NAME: Final = "esp"

SHORTEST_PACKET: Final = 12
"""Bytes of the shortest ESP packet: SPI, sequence number, and at least 4 bytes of payload and trailer."""
HIGHEST_RESERVED_SPI: Final = b"\x00\x00\x00\xff"
"""RFC 4303, section 2.1."""
NON_ESP_MARKER: Final = bytes(4)
"""Precedes an IKE message, where an ESP packet has its SPI (RFC 3948, section 2.2)."""
SHORTEST_IKE: Final = 32
"""Bytes of the marker and of an IKE header, by which :mod:`analyzer.protocols.ike` recognises a message."""


def probe(head: Head) -> bool:
    """Whether a UDP flow on port 4500 carries ESP. Encrypted packets look random, so their shape has to decide."""
    if head.transport != "udp" or NAT_TRAVERSAL_PORT not in head.ports or not head.datagrams:
        return False
    others = [datagram for datagram in head.datagrams if not (datagram.length == 1 and datagram.data == KEEPALIVE)]
    packets = [datagram for datagram in others if not is_cut_ike(datagram.data, datagram.length)]
    if others and not packets:
        return False
    plausible = sum(map(has_esp_shape, packets))
    return 2 * plausible >= len(packets) and not all_begin_with_text(packets)


def has_esp_shape(datagram: Datagram) -> bool:
    """Whether a datagram has an unreserved SPI and the 4-byte alignment of ESP (RFC 4303, sections 2.1 and 2.4)."""
    return (
        datagram.length >= SHORTEST_PACKET
        and datagram.length % ALIGNMENT == 0
        and datagram.data[:4] > HIGHEST_RESERVED_SPI
    )


def all_begin_with_text(datagrams: Sequence[Datagram]) -> bool:
    """Whether the first 8 bytes of every datagram are text, which SPIs and sequence numbers are not."""
    return bool(datagrams) and all(
        all(32 <= byte < 127 or byte in b"\t\n\r" for byte in datagram.data[:8]) for datagram in datagrams
    )


def is_cut_ike(data: bytes, length: int) -> bool:
    """Whether a datagram of ``length`` bytes begins as IKE does, and the capture cut it off within the header."""
    return data[:4] == NON_ESP_MARKER and len(data) < min(length, SHORTEST_IKE)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    if is_cut_ike(reader.data, reader.fence):
        reader.take(SHORTEST_IKE, "IKE header")
    return read_keepalive(reader) if reader.fence == 1 else read_packet(reader, udp_encapsulated=True)
