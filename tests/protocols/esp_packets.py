"""ESP packets to test with: as heads of flows, and read from a capture by the scanner."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

from analyzer.conversations import dissect_flows
from analyzer.heads import Datagram, Direction, Frame, Head
from tests import build
from tests.build import SECOND, Packet

RANDOM = random.Random(4303)
KEPT = 64
"""Bytes that the scanner keeps of a packet."""
MILLISECOND = 1_000_000
"""Nanoseconds."""


def packet(sequence: int, length: int, spi: int = 0xC0FFEE01, body: bytes = b"") -> bytes:
    """First bytes of an ESP packet; random ones if no body is given."""
    return (struct.pack(">II", spi, sequence) + (body or RANDOM.randbytes(KEPT)))[: min(KEPT, length)]


def head_of(sent: Iterable[tuple[bytes, int]]) -> Head:
    """A flow of the originator's packets, a millisecond apart, given as (captured bytes, declared length)."""
    return Head(
        "esp",
        datagrams=tuple(
            Datagram(Direction.ORIGINATOR, data, length, Frame(0, index + 1), index * MILLISECOND)
            for index, (data, length) in enumerate(sent)
        ),
    )


def scanned(flow: Head, spacing: int = MILLISECOND) -> Head:
    """The same packets after the scanner has read them from a capture."""
    ends = (build.STATION, build.SERVER)
    packets = []
    for number, datagram in enumerate(flow.datagrams):
        source, destination = ends if datagram.direction is Direction.ORIGINATOR else ends[::-1]
        frame = build.ethernet(build.ip4(source, destination, 50, datagram.data.ljust(datagram.length, b"\0")))
        packets.append(Packet(frame, SECOND + number * spacing))
    (conversation,) = dissect_flows(build.read_files(build.pcap(packets))).expand()
    return conversation.head


def traffic(lengths: Iterable[int]) -> Head:
    """A flow of encrypted packets of these lengths in bytes."""
    return head_of((packet(index + 1, length), length) for index, length in enumerate(lengths))
