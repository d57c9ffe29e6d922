"""Heads: the first payload bytes of a flow in each direction, with the frames that carried them.

A dissector reads a head. The head of a TCP flow is two reassembled byte streams; the head of any other flow is its
first datagrams as they were sent. The parts of a head are named tuples, because a capture has hundreds of thousands.
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
    """The sender of payload: the flow's originator or its responder."""

    ORIGINATOR = 0
    RESPONDER = 1


DIRECTIONS = tuple(Direction)


class LazySequence(Sequence[T]):
    """A sequence that loads its elements whenever they are used, and keeps none."""

    __slots__ = ()

    def load(self) -> Sequence[T]:
        """All elements."""
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

    The argument is compared by identity and not kept alive. The result is dropped with the argument, so that nothing
    outlives the audit to which that belongs. An entry is replaced as a whole: threads that ask for different arguments
    compute more often, but never get each other's results.
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
    """A captured frame."""

    capture: int
    """Index of its file among those given."""
    number: int
    """1-based number in its file, as Wireshark shows it."""


LAST = Frame(sys.maxsize, sys.maxsize)
"""Sorts after every frame."""


class Mark(NamedTuple):
    """Where the payload of a frame begins in a stream."""

    offset: int
    """In the stream's ``data``, in bytes."""
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


class Stream(NamedTuple):
    """One direction of a TCP flow: contiguous bytes from its beginning, as far as they were kept."""

    data: bytes = b""
    marks: Sequence[Mark] = ()
    """One per frame that contributed bytes, ascending by offset."""
    begins: bool = False
    """``data`` starts with the first byte that was sent: the SYN is in the capture."""
    ends: bool = False
    """``data`` ends with the last byte that was sent: the FIN is in the capture, and no byte is missing before it."""

    def mark_at(self, offset: int) -> Mark:
        """The mark of the frame that carried the byte at ``offset``; at the end of the data, that of the last frame.

        Raises ``IndexError`` for a stream without bytes.
        """
        # Marks compare by their offset first, and LAST sorts after every frame with the same offset.
        return self.marks[bisect_right(self.marks, Mark(offset, LAST, 0)) - 1]

    def marks_at(self, offsets: Sequence[int]) -> list[Mark]:
        """:meth:`mark_at` for many offsets."""
        marks = tuple(self.marks)
        starts = [mark.offset for mark in marks]
        return [marks[bisect_right(starts, offset) - 1] for offset in offsets]

    def from_mark(self, mark: Mark) -> Stream:
        """The stream from the bytes of one of its marks on."""
        start = mark.offset
        marks = self.marks[self.marks.index(mark) :]
        shifted = tuple(mark._replace(offset=mark.offset - start) for mark in marks)
        return self._replace(data=self.data[start:], marks=shifted)

    def from_offset(self, offset: int) -> Stream:
        """The stream from the byte at ``offset`` on; its first mark is that of the frame that carried this byte."""
        if not offset:
            return self
        if offset >= len(self.data):
            return self._replace(data=b"", marks=())
        first = self.mark_at(offset)
        marks = self.marks[self.marks.index(first) :]
        shifted = tuple(mark._replace(offset=max(0, mark.offset - offset)) for mark in marks)
        return self._replace(data=self.data[offset:], marks=shifted)


class Datagram(NamedTuple):
    """The payload of one datagram: of UDP, of ICMP from the type on, of ESP from the SPI on."""

    direction: Direction
    data: bytes
    """As many bytes as were captured and kept."""
    length: int
    """Payload length in bytes as the headers declare it: above ``len(data)`` if truncated; ``UNBOUNDED`` if the
    fragment that would show it is missing."""
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


class Event(NamedTuple):
    """An event of an IEC 104 link or ESP association that a check may cite."""

    kind: int
    """One of the kinds of events of :mod:`analyzer.scanner.columns`, which also defines ``value`` and ``other``."""
    direction: Direction
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""
    offset: int
    """IEC 104: offset in the stream, in bytes. ESP: the SPI."""
    value: int
    other: int


class LinkDirection(NamedTuple):
    """One direction of an IEC 104 link (IEC 60870-5-104), counted over the whole stream and not only its head."""

    followed: bool
    """APDUs were looked for from the beginning of the head on."""
    incomplete: bool
    """The sender ended the stream within an APDU."""
    offset: int
    """Bytes of the stream that were read, or skipped where the capture lacks them."""
    began: int
    """Offset of the newest APDU in the stream, in bytes."""
    began_frame: Frame
    began_time: int
    """Nanoseconds since the epoch."""
    size: int
    """Bytes that the newest APDU declares, with start byte and length."""
    apdus: int
    i_frames: int
    s_frames: int
    functions: tuple[int, ...]
    """U frames by function: STARTDT act and con, STOPDT act and con, TESTFR act and con."""
    long: int
    """I frames with start byte 0x69."""
    empty: int
    """I frames without ASDU: an LRR's forced acknowledgements."""
    lrr: int
    """I frames with the payload of an LRR."""
    standard: int
    """I frames with a standard ASDU."""
    asdu_bytes: int
    first: int
    """Send sequence number of the first I frame; -1 if there was none."""
    sent: int
    """Send sequence number of the newest I frame; -1 if none has followed a gap or a framing error."""
    modulus: int
    """Where send sequence numbers started again at 0: 32767 or 32768; 0 if they did not."""
    outstanding: int
    """Maximum I frames unacknowledged at a time."""
    jumps: int
    """Send sequence numbers that do not follow the previous one, though no byte is missing between them."""
    repeats: int
    """Jumps to the previous number."""
    wrong: int
    """Receive sequence numbers that go back or acknowledge what was not sent."""
    excesses: int
    """I frames sent while more than the allowed number were unacknowledged."""
    unknown: int
    """LRR payloads of a type above the highest known."""
    breaks: int
    """Framing errors by the sender."""
    gaps: int
    """Places where the capture lacks the beginning of an APDU."""
    resynchronised: int
    """Times that an APDU was found again."""
    missing: int
    """Bytes that the capture lacks."""
    unread: int
    """Bytes in which no APDU was found."""
    answered: int
    """TESTFR acts of this direction that the peer confirmed."""
    unanswered: int
    """TESTFR acts of this direction sent while the previous one was unconfirmed."""
    testing: int
    """1 if the last TESTFR act is unconfirmed."""
    test_time: int
    """Time of the last TESTFR act, nanoseconds since the epoch."""
    longest_wait: int
    """Longest time from a TESTFR act to its confirmation, nanoseconds."""


class Iec104Link(NamedTuple):
    """An IEC 104 link over the whole flow."""

    directions: tuple[LinkDirection, LinkDirection]
    """Index with a :class:`Direction`."""
    startdt: Direction | None
    """Sender of the first STARTDT act."""
    lrr_types: tuple[tuple[int, int], ...]
    """Types of LRR payloads, ascending, with their counts."""
    type_ids: tuple[tuple[int, int], ...]
    """Type identifications of standard ASDUs, ascending, with their counts."""
    other_kinds: int
    """Payloads of further types, for which the table had no room."""
    lrr_ids: tuple[int, ...]
    """The first few LRR-IDs in the order of their appearance."""
    other_ids: int
    """Payloads with further LRR-IDs, for which the table had no room."""
    silence: int
    """Longest time without an APDU in either direction, nanoseconds."""
    silence_frame: Frame
    """The frame that ended it."""
    last: int
    """Time of the flow's last packet, nanoseconds since the epoch."""
    events: tuple[Event, ...]
    """In the order of the capture; of each kind the first eight per direction."""


class SecureDirection(NamedTuple):
    """One direction of a TLS or SSH connection, read over the whole stream: records of TLS, samples of ciphertext."""

    sampled: int
    """Bytes sampled of ciphertext since the last verdict on them."""
    high: int
    """Those of them with the highest bit set: half, if they are ciphertext."""
    clear: int
    """Samples, or groups of them, that are no ciphertext."""
    short: int
    """Records of application data shorter than any ciphertext."""
    heartbeats: int
    """Heartbeat records."""
    breaks: int
    """Record headers that are none, where one must be."""
    losses: int
    """Times that more bytes in a row than any record takes held no record."""
    missing: int
    """Bytes that the capture lacks between records that were read."""
    unread: int
    """Bytes in which no record was found."""


class SecureConnection(NamedTuple):
    """A TLS or SSH connection over the whole flow."""

    directions: tuple[SecureDirection, SecureDirection]
    """Index with a :class:`Direction`."""
    events: tuple[Event, ...]
    """In the order of the capture; of each kind the first eight per direction."""


class Association(NamedTuple):
    """The ESP packets of one direction under one SPI, over the whole flow."""

    direction: Direction
    spi: int
    folded: bool
    """Stands for all further SPIs of the flow, for which the table had no room: only packets and bytes count."""
    packets: int
    readable: int
    """Packets whose payload begins with an IP header, at an IV of 0, 8 or 16 bytes, or with text."""
    bytes: int
    """Bytes of the ESP packets as the headers declare them."""
    first: int
    """Sequence number of the first packet."""
    last: int
    """Sequence number of the last packet."""
    highest: int
    """Highest sequence number."""
    wraps: int
    """Times that the low half of an extended sequence number wrapped around."""
    copied: int
    """Packets captured twice within 100 ms."""
    reused: int
    """Packets with a sequence number that another packet had."""
    replayed: int
    """Packets that came again later."""
    late: int
    """Packets with a sequence number below the anti-replay window of 64 (RFC 4303, section 3.4.3)."""
    remainders: tuple[int, ...]
    """Packets by their length modulo 16."""
    short: tuple[int, ...]
    """Packets of 4n to 4n + 3 bytes, below 128 bytes."""
    lengths: int
    """Bit n is set if a packet had 4n to 4n + 3 bytes; bit 511 also if one was longer."""
    first_frame: Frame
    last_frame: Frame
    first_time: int
    """Nanoseconds since the epoch."""
    last_time: int
    """Nanoseconds since the epoch."""
    events: tuple[Event, ...]
    """Of each kind the first eight per direction of the flow."""


class Head(NamedTuple):
    """The kept payload of a flow, and what the scanner counted in all of its payload."""

    transport: str
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``esp`` or ``ip-<number>``."""
    ports: tuple[int, int] = (0, 0)
    """Ports of originator and responder; 0 where the transport has none. A hint, never a proof."""
    streams: Sequence[Stream] = (Stream(), Stream())
    """TCP: what each direction sent. Index with a :class:`Direction`."""
    datagrams: Sequence[Datagram] = ()
    """Not TCP: the first datagrams of both directions, in the order of the capture."""
    link: Iec104Link | None = None
    """TCP: the IEC 104 link, if APDUs were looked for."""
    associations: tuple[Association, ...] = ()
    """ESP, also inside UDP/4500: by direction and SPI, in the order of the capture."""
    secure: SecureConnection | None = None
    """TCP: what the scanner found in a TLS or SSH connection that it does not find in a sound one."""

    def first(self, direction: Direction) -> bytes:
        """The first payload of a direction: its stream, or its first datagram."""
        if self.transport == "tcp":
            return self.streams[direction].data
        return next((datagram.data for datagram in self.datagrams if datagram.direction == direction), b"")
