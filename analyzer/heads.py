"""The head of a flow: its first payload bytes in each direction, in order, with the frames that carried them.

Flows are columns of numbers; a head is what a dissector reads. Its parts are named tuples, because there are
hundreds of thousands of them. TCP heads are two reassembled byte streams,
the heads of everything else are the first datagrams as they came.
"""

from __future__ import annotations

import enum
import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import NamedTuple, TypeVar, overload

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class Direction(enum.IntEnum):
    """Who sent it: the flow's originator or its responder."""

    ORIGINATOR = 0
    RESPONDER = 1


DIRECTIONS = tuple(Direction)


class LazySequence(Sequence[T]):
    """A sequence whose elements are made when somebody asks for them."""

    __slots__ = ()

    def load(self) -> Sequence[T]:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self.load()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.load())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.load())


def cache_last(function: Callable[[K], V]) -> Callable[[K], V]:
    """Decorate a function so that it remembers its last result, for callers that ask for one argument several times.

    The argument is compared by identity and not kept alive; the result is dropped with it. An entry is replaced as a
    whole: threads that ask for different arguments compute more often, and never get each other's results.
    """
    last: tuple[weakref.ref[K], V] | None = None

    def drop(argument: weakref.ref[K]) -> None:
        nonlocal last
        entry = last
        if entry is not None and entry[0] is argument:
            last = None

    @wraps(function)
    def cached(argument: K) -> V:
        nonlocal last
        entry = last
        if entry is None or entry[0]() is not argument:
            last = entry = weakref.ref(argument, drop), function(argument)
        return entry[1]

    return cached


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
    marks: Sequence[Mark] = ()
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
        marks = tuple(self.marks)
        starts = [mark.offset for mark in marks]
        return [marks[bisect_right(starts, offset) - 1] for offset in offsets]

    def from_mark(self, mark: Mark) -> Stream:
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
    """Payload length that the headers below declare, in bytes; more than ``len(data)`` if cut, ``UNBOUNDED`` where
    the fragment that would tell it is missing."""
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


class Event(NamedTuple):
    """Something that happened in a link or an association, and that a check may want to show."""

    kind: int
    """One of :mod:`analyzer.scanner`'s kinds of events, where the meaning of ``value`` and ``other`` stands, too."""
    direction: Direction
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""
    offset: int
    """IEC 104: in the stream, bytes; ESP: the SPI."""
    value: int
    other: int


class LinkDirection(NamedTuple):
    """All APDUs (IEC 60870-5-104) of one direction: the stream as a whole, not only its head."""

    followed: bool
    """Its APDUs were looked for from the beginning of the head on."""
    incomplete: bool
    """The sender ended the stream within an APDU."""
    offset: int
    """Bytes of the stream that were read or, where the capture lacks them, skipped."""
    began: int
    """Where the cache_last APDU begins."""
    began_frame: Frame
    began_time: int
    size: int
    """Bytes that the cache_last APDU declares, start byte and length included."""
    apdus: int
    i_frames: int
    s_frames: int
    functions: tuple[int, ...]
    """U frames: STARTDT act and con, STOPDT act and con, TESTFR act and con."""
    long: int
    """I frames with start byte 0x69."""
    empty: int
    """I frames without ASDU, an LRR's forced acknowledgements."""
    lrr: int
    """I frames with an LRR's payload."""
    standard: int
    """I frames with a standard ASDU."""
    asdu_bytes: int
    first: int
    """Send sequence number of the first I frame, -1: there was none."""
    sent: int
    """The same of the cache_last one; -1 also while none came behind a gap or a break."""
    modulus: int
    """At which the send sequence numbers began anew: 32767 or 32768; 0: nowhere."""
    outstanding: int
    """The most I frames at a time that were not acknowledged."""
    jumps: int
    """Send sequence numbers that do not follow the one before, though no byte is missing between."""
    repeats: int
    """Those of them that are the one before."""
    wrong: int
    """Receive sequence numbers that go back or acknowledge what was not sent."""
    excesses: int
    """I frames sent though more than the allowed number were not acknowledged."""
    unknown: int
    """LRR payloads of a type above the highest known."""
    breaks: int
    """Places where the framing is broken by the sender."""
    gaps: int
    """Places where the capture lacks the beginning of an APDU."""
    resynchronised: int
    """Times that an APDU was found again."""
    missing: int
    """Bytes that the capture lacks."""
    unread: int
    """Bytes in which no APDU was found."""
    answered: int
    """TESTFR acts of this side that the other one answered."""
    unanswered: int
    """TESTFR acts of this side that came while the one before was still unanswered."""
    testing: int
    """1: the last TESTFR act is unanswered."""
    test_time: int
    """Of the last TESTFR act, nanoseconds since the epoch."""
    longest_wait: int
    """From TESTFR act to con, nanoseconds."""


class Iec104Link(NamedTuple):
    """An IEC 104 link over the whole flow."""

    directions: tuple[LinkDirection, LinkDirection]
    """From originator, from responder. Index with a :class:`Direction`."""
    startdt: Direction | None
    """Who sent the first STARTDT act."""
    lrr_types: tuple[tuple[int, int], ...]
    """Types of LRR payloads and how often each came, ascending."""
    type_ids: tuple[tuple[int, int], ...]
    """Type identifications of standard ASDUs, likewise."""
    other_kinds: int
    """Payloads of further types, of which no count is kept."""
    lrr_ids: tuple[int, ...]
    """The first few, in the order of their appearance."""
    other_ids: int
    """Payloads with further LRR-IDs."""
    silence: int
    """Longest time without an APDU of either side, nanoseconds."""
    silence_frame: Frame
    """The one that ended it."""
    last: int
    """Time of the last packet of the flow, nanoseconds since the epoch."""
    events: tuple[Event, ...]
    """In the order of the capture; of each kind the first eight per direction."""


class Association(NamedTuple):
    """ESP packets of one direction under one SPI, over the whole flow."""

    direction: Direction
    spi: int
    folded: bool
    """It stands for all SPIs of the flow that there was no room to keep apart: only packets and bytes count."""
    packets: int
    bytes: int
    """Of ESP packets, as the headers below declare them."""
    first: int
    """Sequence numbers of the first, the last and the cache_last packet."""
    last: int
    highest: int
    wraps: int
    """Times that the low half of an extended sequence number began anew."""
    copied: int
    """Packets that came twice within 100 ms."""
    reused: int
    """Sequence numbers that another packet had."""
    replayed: int
    """Packets that came again later."""
    late: int
    """Packets whose sequence number was older than the anti-replay window of 64 (RFC 4303, 3.4.3)."""
    remainders: tuple[int, ...]
    """Packets by their length modulo 16."""
    lengths: int
    """Bit n: there was a packet of 4 n to 4 n + 3 bytes; bit 511: or longer."""
    first_frame: Frame
    last_frame: Frame
    first_time: int
    """Nanoseconds since the epoch."""
    last_time: int
    events: tuple[Event, ...]
    """Of each kind the first eight per direction of the flow."""


class Head(NamedTuple):
    """What is kept of a flow's payload, and what the scanner counted in all of it."""

    transport: str
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``esp`` or ``ip-<number>``."""
    ports: tuple[int, int] = (0, 0)
    """Ports of originator and responder; 0 where the transport has none. A hint, never a proof."""
    streams: Sequence[Stream] = (Stream(), Stream())
    """Of TCP: what the originator sent and what the responder sent. Index with a :class:`Direction`."""
    datagrams: Sequence[Datagram] = ()
    """Of everything else: the first datagrams of both directions, in the order of the capture."""
    link: Iec104Link | None = None
    """Of a TCP stream in which APDUs of IEC 104 were looked for."""
    associations: tuple[Association, ...] = ()
    """Of ESP, also inside UDP/4500: by direction and SPI, in the order of the capture."""

    def first(self, direction: Direction) -> bytes:
        """The first payload bytes of a direction: the stream's, or the first datagram's."""
        if self.transport == "tcp":
            return self.streams[direction].data
        return next((datagram.data for datagram in self.datagrams if datagram.direction == direction), b"")
