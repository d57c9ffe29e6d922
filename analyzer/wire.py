"""Reading bytes that nobody vouches for.

A :class:`Reader` walks over bytes and keeps two limits apart:

* *seen*: the bytes that the capture gave. Past it the truth is unknown: ``TRUNCATED``, nobody's fault.
* *fence*: the end that the sender declared (a datagram's end, a length field). Past it, or short of it where
  the protocol demands exact use, the sender contradicts itself: ``MALFORMED``.

A dissector reads straight on and never catches anything: the reader stops it with the private :class:`StopParsing`,
which only :mod:`analyzer.protocols` catches and turns into an :class:`Anomaly`.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")

UNBOUNDED = 1 << 62
"""Fence of a stream whose end is not known."""

CARRIAGE_RETURN = 0x0D


class Cause(enum.Enum):
    """Why a dissection ended early."""

    TRUNCATED = "truncated"
    """The capture holds no more bytes (snap length, loss, head limit, start or end of the capture)."""
    MALFORMED = "malformed"
    """The sender's bytes contradict themselves or the protocol."""
    DEFECT = "defect"
    """This program failed; never blamed on a station."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """What stopped a dissection, and where."""

    cause: Cause
    field: str
    """Name of the field that could not be read, in the protocol's own words."""
    offset: int
    """Position of the field in the stream or datagram, in bytes from its beginning."""
    reason: str
    """One clause without a full stop: "needs 4 bytes, 2 are left of the declared length"."""


class StopParsing(Exception):  # noqa: N818 (it ends a reading; it is no error)
    """Ends a dissection. Raised by the reader only; caught in :mod:`analyzer.protocols` only."""

    def __init__(self, anomaly: Anomaly) -> None:
        super().__init__(anomaly.reason)
        self.anomaly = anomaly


class Layout:
    """Fields that stand one behind the other, big-endian: the name of each and its format in :mod:`struct`'s words.

    ``Layout(("SPI", "I"), ("Sequence Number", "I"))``. For a struct whose fields need no look until all are read.
    """

    __slots__ = ("fields", "size", "unpack_from")

    def __init__(self, *fields: tuple[str, str]) -> None:
        whole = struct.Struct(">" + "".join(code for _, code in fields))
        self.unpack_from = whole.unpack_from
        self.size = whole.size
        """In bytes."""
        self.fields = tuple((name, struct.calcsize(">" + code)) for name, code in fields)
        """Name and size in bytes of each."""


class Reader:
    """A cursor over ``data[pos:]`` with a fence; all integers are big-endian unless a name says otherwise.

    ``fence`` is the declared end, in bytes from the beginning of ``data``; it may lie behind the bytes seen.
    ``UNBOUNDED`` means that no end was declared (a stream that goes on). Only ``pos`` ever changes.
    """

    __slots__ = ("data", "fence", "limit", "pos")

    def __init__(self, data: bytes, pos: int = 0, fence: int = UNBOUNDED) -> None:
        self.data = data
        self.pos = pos
        self.fence = fence
        self.limit = fence if fence < len(data) else len(data)
        """Up to where reading is possible: the fence or the end of what was seen, whichever comes first."""

    # -- where we are -------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Bytes up to the fence or the end of what was seen, whichever comes first."""
        left = self.limit - self.pos
        return left if left > 0 else 0

    @property
    def more(self) -> bool:
        """Whether the sender declared more bytes, seen or not. On a stream: whether any byte is left to read."""
        return self.pos < (self.limit if self.fence == UNBOUNDED else self.fence)

    def peek(self, count: int) -> bytes:
        """Up to ``count`` next bytes, without moving and without ever stopping."""
        end = self.pos + count
        return self.data[self.pos : end if end < self.limit else self.limit]

    # -- reading ------------------------------------------------------------------------------------------

    def take(self, count: int, field: str) -> bytes:
        """The next ``count`` bytes, or a stop that names ``field``."""
        pos = self.pos
        end = pos + count
        if end > self.limit:
            self.stop(count, field)
        self.pos = end
        return self.data[pos:end]

    def stop(self, count: int, field: str) -> NoReturn:
        """Stop because ``field`` would need ``count`` bytes: is that the sender's fault, or the capture's?"""
        if self.pos + count > self.fence:
            self.malformed(field, f"needs {count} bytes, {self.fence - self.pos} are left of the declared length")
        reason = f"needs {count} bytes, the capture holds {len(self.data) - self.pos}"
        raise StopParsing(Anomaly(Cause.TRUNCATED, field, self.pos, reason))

    def unpack(self, layout: Layout) -> tuple[Any, ...]:
        """The values of all fields of a layout, or a stop that names the first that is not there as a whole."""
        pos = self.pos
        end = pos + layout.size
        if end > self.limit:
            for field, size in layout.fields:
                self.take(size, field)
        self.pos = end
        return layout.unpack_from(self.data, pos)

    def u8(self, field: str) -> int:
        pos = self.pos
        if pos >= self.limit:
            self.stop(1, field)
        self.pos = pos + 1
        return self.data[pos]

    def u16(self, field: str) -> int:
        end = self.pos + 2
        if end > self.limit:
            self.stop(2, field)
        self.pos = end
        return self.data[end - 2] << 8 | self.data[end - 1]

    def u24(self, field: str) -> int:
        return int.from_bytes(self.take(3, field), "big")

    def u32(self, field: str) -> int:
        return int.from_bytes(self.take(4, field), "big")

    def rest(self, field: str) -> bytes:
        """All bytes up to the fence; on a stream without one, all that was seen."""
        end = self.limit if self.fence == UNBOUNDED else self.fence
        return self.take(end - self.pos if end > self.pos else 0, field)

    def line(self, limit: int, field: str) -> bytes:
        """The next line without its end (CR LF or bare LF); no end within ``limit`` bytes is malformed."""
        pos = self.pos
        end = self.data.find(b"\n", pos, self.limit if self.limit < pos + limit else pos + limit)
        if end < 0:
            if self.left >= limit:
                self.malformed(field, f"no line end within {limit} bytes")
            self.stop(self.left + 1, field)
        self.pos = end + 1
        return self.data[pos : end - 1 if end > pos and self.data[end - 1] == CARRIAGE_RETURN else end]

    def block(self, count: int, field: str) -> Block:
        """A reader fenced to the next ``count`` bytes, which the ``with`` body must use up exactly.

        A block that reaches behind this reader's own fence is malformed at once. A body that wants to leave
        bytes unread says so with ``inner.rest(...)``.
        """
        return Block(self, count, field)

    def fenced(self, count: int, field: str) -> Reader:
        """A reader over the next ``count`` bytes; this reader does not move (see :meth:`block`)."""
        end = self.pos + count
        if end > self.fence:
            self.overlong(count, field)
        return Reader(self.data, self.pos, end)

    def overlong(self, count: int, field: str) -> NoReturn:
        """Stop because the next ``count`` bytes, declared by ``field``, reach behind this reader's own fence."""
        self.malformed(field, f"declares {count} bytes, {self.fence - self.pos} are left of the enclosing length")

    def malformed(self, field: str, reason: str, offset: int | None = None) -> NoReturn:
        """Stop: the sender contradicts itself or the protocol."""
        raise StopParsing(Anomaly(Cause.MALFORMED, field, self.pos if offset is None else offset, reason))


class Block(Reader):
    """The reader, and the context, of :meth:`Reader.block`."""

    __slots__ = ("field", "outer")

    def __init__(self, outer: Reader, count: int, field: str) -> None:
        fence = outer.pos + count
        if fence > outer.fence:
            outer.overlong(count, field)
        self.data = outer.data
        self.pos = outer.pos
        self.fence = fence
        self.limit = fence if fence < outer.limit else outer.limit
        self.outer = outer
        self.field = field

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            if self.pos != self.fence:
                declared = self.fence - self.outer.pos
                self.malformed(self.field, f"{self.fence - self.pos} bytes of {declared} declared are left over")
            self.outer.pos = self.fence


class Repeats(Generic[T]):
    """A reading of what stations of one make all send alike: bytes that were read before are not read again.

    ``read`` takes a fenced reader, and arguments on which its result depends too. What it gave is kept once it came to
    its end, for at most ``most`` different readings of at most ``longest`` bytes.
    """

    __slots__ = ("known", "longest", "most", "read")

    def __init__(self, read: Callable[..., T], longest: int, most: int = 1024) -> None:
        self.read = read
        self.longest = longest
        self.most = most
        self.known: dict[object, tuple[T, int]] = {}
        """What was read and how many bytes of it were used, by all bytes up to the fence and the arguments."""

    def __call__(self, reader: Reader, *arguments: object) -> T:
        """``read(reader, *arguments)``."""
        start, fence = reader.pos, reader.fence
        if fence > reader.limit or fence - start > self.longest:
            return self.read(reader, *arguments)
        key = (reader.data[start:fence], arguments)
        found = self.known.get(key)
        if found is not None:
            reader.pos = start + found[1]
            return found[0]
        value = self.read(reader, *arguments)
        if len(self.known) < self.most:
            self.known[key] = value, reader.pos - start
        return value
