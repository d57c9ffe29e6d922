"""The head of a flow: its first payload bytes in each direction, in order, with the frames that carried them.

Flows are columns of numbers; a head is what a dissector reads. Its parts are named tuples, because there are
hundreds of thousands of them. TCP heads are two reassembled byte streams,
the heads of everything else are the first datagrams as they came.
"""

from __future__ import annotations

import enum
import sys
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Direction(enum.IntEnum):
    """Who sent it: the flow's originator or its responder."""

    ORIGINATOR = 0
    RESPONDER = 1


DIRECTIONS = tuple(Direction)


class Frame(NamedTuple):
    """A captured frame: index of its file among those given, and its number there as Wireshark shows it."""

    capture: int
    number: int
    """1-based."""


LAST = Frame(sys.maxsize, sys.maxsize)
"""Sorts behind every frame."""


class Mark(NamedTuple):
    """Where the payload of one frame begins in a stream."""

    offset: int
    """In bytes from the beginning of the stream's ``data``."""
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


class Stream(NamedTuple):
    """One direction of a TCP conversation: contiguous bytes from its beginning, as far as they were kept."""

    data: bytes = b""
    marks: tuple[Mark, ...] = ()
    """One per frame that contributed bytes, ascending by offset."""
    begins: bool = False
    """``data`` starts with the first byte that the sender sent (its SYN is in the capture)."""
    ends: bool = False
    """``data`` ends with the last byte that the sender sent (its FIN is there and nothing is missing between)."""

    def mark_at(self, offset: int) -> Mark:
        """The mark of the frame that carried the byte at ``offset``; of the last frame for the end.

        ``IndexError`` for a stream without bytes.
        """
        # A mark compares by its offset first, and no frame has more numbers than this one.
        return self.marks[bisect_right(self.marks, Mark(offset, LAST, 0)) - 1]

    def marks_at(self, offsets: Sequence[int]) -> list[Mark]:
        """:meth:`mark_at` of many offsets."""
        marks = self.marks
        starts = [mark.offset for mark in marks]
        return [marks[bisect_right(starts, offset) - 1] for offset in offsets]

    def behind(self, mark: Mark) -> Stream:
        """The same stream from the bytes of one of its marks on."""
        offset = mark.offset
        marks = self.marks[self.marks.index(mark) :]
        return self._replace(
            data=self.data[offset:], marks=tuple(each._replace(offset=each.offset - offset) for each in marks)
        )


class Datagram(NamedTuple):
    """One datagram's payload (UDP payload, ICMP message from its type byte on, ESP packet from its SPI on)."""

    direction: Direction
    data: bytes
    """As much as was captured and kept."""
    length: int
    """Payload length that the headers below declare, in bytes; more than ``len(data)`` if cut."""
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


class Head(NamedTuple):
    """What is kept of a flow's payload."""

    transport: str
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``esp`` or ``ip-<number>``."""
    ports: tuple[int, int] = (0, 0)
    """Ports of originator and responder; 0 where the transport has none. A hint, never a proof."""
    streams: tuple[Stream, Stream] = (Stream(), Stream())
    """Of TCP: what the originator sent and what the responder sent. Index with a :class:`Direction`."""
    datagrams: Sequence[Datagram] = ()
    """Of everything else: the first datagrams of both directions, in the order of the capture."""

    def first(self, direction: Direction) -> bytes:
        """The first payload bytes of a direction: the stream's, or the first datagram's."""
        if self.transport == "tcp":
            return self.streams[direction].data
        return next((datagram.data for datagram in self.datagrams if datagram.direction == direction), b"")
