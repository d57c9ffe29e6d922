"""A bounds-checked reader for untrusted input.

A :class:`Reader` keeps two limits apart:

* the *captured end*: the end of the bytes that the capture holds. A field beyond it is ``TRUNCATED``: nobody's fault.
* the *fence*: the end that the sender declared (the length of a datagram, a length field). A field that crosses it, or
  bytes left over where the protocol demands exact use, are ``MALFORMED``: the sender contradicts itself.

A dissector reads field after field and catches nothing. The reader ends it with :class:`StopParsing`, which only
:mod:`analyzer.protocols` catches and turns into an :class:`Anomaly`.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, NoReturn

from analyzer.dataclass import dataclass

UNBOUNDED = 1 << 62
"""Fence of a stream whose end is unknown."""

CARRIAGE_RETURN = 0x0D


class Cause(enum.Enum):
    """Why a dissection ended early."""

    TRUNCATED = "truncated"
    """The capture holds no more bytes: snap length, packet loss, head limit, start or end of the capture."""
    MALFORMED = "malformed"
    """The bytes contradict themselves or the protocol."""
    DEFECT = "defect"
    """A bug of this program; never blamed on a station."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Why and where a dissection ended early."""

    cause: Cause
    field: str
    """Name of the field that could not be read, in the protocol's own words."""
    offset: int
    """Position of the field in its stream or datagram, in bytes."""
    reason: str
    """One clause without a full stop: "needs 4 bytes, 2 are left of the declared length"."""


class StopParsing(Exception):  # noqa: N818 (control flow, not an error)
    """Ends a dissection. Raised by the reader only, caught in :mod:`analyzer.protocols` only."""

    def __init__(self, anomaly: Anomaly) -> None:
        super().__init__(anomaly.reason)
        self.anomaly = anomaly


class Layout:
    """Adjacent big-endian fields: ``Layout(("SPI", "I"), ("Sequence Number", "I"))``.

    A field is a name and a :mod:`struct` format. For fields of which none decides how the next one is read.
    """

    __slots__ = ("fields", "size", "unpack_from")

    def __init__(self, *fields: tuple[str, str]) -> None:
        layout = struct.Struct(">" + "".join(code for _, code in fields))
        self.unpack_from = layout.unpack_from
        self.size = layout.size
        """In bytes."""
        self.fields = tuple((name, struct.calcsize(">" + code)) for name, code in fields)
        """Name and size in bytes of every field."""


class Reader:
    """A cursor over ``data[pos:fence]``. Integers are big-endian.

    ``fence`` is the declared end, in bytes from the beginning of ``data``; it may lie beyond the captured end.
    ``UNBOUNDED``: no end is declared (a stream that goes on). Reading changes only ``pos``.
    """

    __slots__ = ("data", "fence", "limit", "pos")

    def __init__(self, data: bytes, pos: int = 0, fence: int = UNBOUNDED) -> None:
        self.data = data
        self.pos = pos
        self.fence = fence
        self.limit = fence if fence < len(data) else len(data)
        """End of the readable bytes: the fence or the captured end, whichever comes first."""

    # -- position -----------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Readable bytes: up to the fence or the captured end, whichever comes first."""
        left = self.limit - self.pos
        return left if left > 0 else 0

    @property
    def has_more(self) -> bool:
        """Whether the sender declared more bytes, captured or not. In an unbounded stream: whether any are readable."""
        return self.pos < (self.limit if self.fence == UNBOUNDED else self.fence)

    def peek(self, count: int) -> bytes:
        """Up to ``count`` next bytes. Never moves the cursor, never stops."""
        end = self.pos + count
        return self.data[self.pos : end if end < self.limit else self.limit]

    # -- reading ------------------------------------------------------------------------------------------

    def take(self, count: int, field: str) -> bytes:
        """The next ``count`` bytes. Raises :class:`StopParsing` that names ``field``, as do all methods below."""
        pos = self.pos
        end = pos + count
        if end > self.limit:
            self.stop(count, field)
        self.pos = end
        return self.data[pos:end]

    def stop(self, count: int, field: str) -> NoReturn:
        """Stop because ``field`` needs ``count`` bytes: malformed beyond the fence, else truncated."""
        if self.pos + count > self.fence:
            self.malformed(field, f"needs {count} bytes, {self.fence - self.pos} are left of the declared length")
        reason = f"needs {count} bytes, the capture holds {len(self.data) - self.pos}"
        raise StopParsing(Anomaly(Cause.TRUNCATED, field, self.pos, reason))

    def unpack(self, layout: Layout) -> tuple[Any, ...]:
        """The values of a layout. A stop names the first field that is incomplete."""
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
        """All bytes up to the fence; of an unbounded stream, all that were captured."""
        end = self.limit if self.fence == UNBOUNDED else self.fence
        return self.take(end - self.pos if end > self.pos else 0, field)

    def line(self, limit: int, field: str) -> bytes:
        """The next line without its end (CR LF or LF). Malformed if no line ends within ``limit`` bytes."""
        pos = self.pos
        end = self.data.find(b"\n", pos, self.limit if self.limit < pos + limit else pos + limit)
        if end < 0:
            if self.left >= limit:
                self.malformed(field, f"no line end within {limit} bytes")
            self.stop(self.left + 1, field)
        self.pos = end + 1
        return self.data[pos : end - 1 if end > pos and self.data[end - 1] == CARRIAGE_RETURN else end]

    # -- lengths that the sender declares -----------------------------------------------------------------

    def block(self, count: int, field: str) -> Block:
        """A reader of the next ``count`` bytes, for a ``with`` statement whose body must use them up exactly.

        Malformed at once if the block crosses this reader's fence. A body that ignores bytes says so with
        ``inner.rest(...)``.
        """
        return Block(self, count, field)

    def fenced(self, count: int, field: str) -> Reader:
        """A reader of the next ``count`` bytes, as :meth:`block`, but this reader does not move."""
        end = self.pos + count
        if end > self.fence:
            self.overlong(count, field)
        return Reader(self.data, self.pos, end)

    def overlong(self, count: int, field: str) -> NoReturn:
        """Stop because ``field`` declares ``count`` bytes, which cross this reader's fence."""
        self.malformed(field, f"declares {count} bytes, {self.fence - self.pos} are left of the enclosing length")

    def malformed(self, field: str, reason: str, offset: int | None = None) -> NoReturn:
        """Stop because the sender contradicts itself or the protocol, at ``offset`` (default: here)."""
        raise StopParsing(Anomaly(Cause.MALFORMED, field, self.pos if offset is None else offset, reason))


class Block(Reader):
    """The reader and context manager of :meth:`Reader.block`."""

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
