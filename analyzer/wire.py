"""Reading bytes that nobody vouches for.

A :class:`Reader` walks over bytes and keeps two limits apart:

* *seen*: the bytes that the capture gave. Past it the truth is unknown: ``TRUNCATED``, nobody's fault.
* *fence*: the end that the sender declared (a datagram's end, a length field). Past it, or short of it where
  the protocol demands exact use, the sender contradicts itself: ``MALFORMED``.

A dissector reads straight on and never catches anything: the reader stops it with the private :class:`Stop`,
which only :mod:`analyzer.protocols` catches and turns into an :class:`Anomaly`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NoReturn

UNBOUNDED = 1 << 62
"""Fence of a stream whose end is not known."""


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


class Stop(Exception):  # noqa: N818 (it ends a reading; it is no error)
    """Ends a dissection. Raised by the reader only; caught in :mod:`analyzer.protocols` only."""

    def __init__(self, anomaly: Anomaly) -> None:
        super().__init__(anomaly.reason)
        self.anomaly = anomaly


class Reader:
    """A cursor over ``data[pos:]`` with a fence; all integers are big-endian unless a name says otherwise.

    ``fence`` is the declared end, in bytes from the beginning of ``data``; it may lie behind the bytes seen.
    ``UNBOUNDED`` means that no end was declared (a stream that goes on).
    """

    __slots__ = ("data", "fence", "pos")

    def __init__(self, data: bytes, pos: int = 0, fence: int = UNBOUNDED) -> None:
        self.data = data
        self.pos = pos
        self.fence = fence

    # -- where we are -------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Bytes up to the fence or the end of what was seen, whichever comes first."""
        return max(0, min(self.fence, len(self.data)) - self.pos)

    @property
    def more(self) -> bool:
        """Whether the sender declared more bytes, seen or not. On a stream: whether any byte is left to read."""
        if self.fence == UNBOUNDED:
            return self.pos < len(self.data)
        return self.pos < self.fence

    def peek(self, count: int) -> bytes:
        """Up to ``count`` next bytes, without moving and without ever stopping."""
        return self.data[self.pos : self.pos + min(count, self.left)]

    # -- reading ------------------------------------------------------------------------------------------

    def take(self, count: int, field: str) -> bytes:
        """The next ``count`` bytes, or a stop that names ``field``."""
        end = self.pos + count
        if end > self.fence:
            self.malformed(field, f"needs {count} bytes, {self.fence - self.pos} are left of the declared length")
        if end > len(self.data):
            raise Stop(
                Anomaly(
                    Cause.TRUNCATED,
                    field,
                    self.pos,
                    f"needs {count} bytes, the capture holds {len(self.data) - self.pos}",
                )
            )
        value = self.data[self.pos : end]
        self.pos = end
        return value

    def uint(self, count: int, field: str) -> int:
        """An unsigned big-endian integer of ``count`` bytes."""
        return int.from_bytes(self.take(count, field), "big")

    def u8(self, field: str) -> int:
        pos = self.pos
        if pos < self.fence and pos < len(self.data):  # the common case, without a detour
            self.pos = pos + 1
            return self.data[pos]
        return self.uint(1, field)

    def u16(self, field: str) -> int:
        end = self.pos + 2
        if end <= self.fence and end <= len(self.data):
            self.pos = end
            return self.data[end - 2] << 8 | self.data[end - 1]
        return self.uint(2, field)

    def u24(self, field: str) -> int:
        return self.uint(3, field)

    def u32(self, field: str) -> int:
        return self.uint(4, field)

    def rest(self, field: str) -> bytes:
        """All bytes up to the fence; on a stream without one, all that was seen."""
        end = len(self.data) if self.fence == UNBOUNDED else self.fence
        return self.take(max(0, end - self.pos), field)

    def line(self, limit: int, field: str) -> bytes:
        """The next line without its end (CR LF or bare LF); no end within ``limit`` bytes is malformed."""
        end = self.data.find(b"\n", self.pos, min(self.fence, self.pos + limit))
        if end < 0 and self.left >= limit:
            self.malformed(field, f"no line end within {limit} bytes")
        raw = self.take((self.left if end < 0 else end - self.pos) + 1, field)
        return raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]

    def block(self, count: int, field: str) -> Block:
        """A reader fenced to the next ``count`` bytes, which the ``with`` body must use up exactly.

        A block that reaches behind this reader's own fence is malformed at once. A body that wants to leave
        bytes unread says so with ``inner.rest(...)``.
        """
        return Block(self, self.fenced(count, field), field)

    def fenced(self, count: int, field: str) -> Reader:
        """A reader over the next ``count`` bytes; this reader does not move (see :meth:`block`)."""
        end = self.pos + count
        if end > self.fence:
            self.malformed(field, f"declares {count} bytes, {self.fence - self.pos} are left of the enclosing length")
        return Reader(self.data, self.pos, end)

    def malformed(self, field: str, reason: str, offset: int | None = None) -> NoReturn:
        """Stop: the sender contradicts itself or the protocol."""
        raise Stop(Anomaly(Cause.MALFORMED, field, self.pos if offset is None else offset, reason))


class Block:
    """The context of :meth:`Reader.block`."""

    __slots__ = ("field", "inner", "outer")

    def __init__(self, outer: Reader, inner: Reader, field: str) -> None:
        self.outer = outer
        self.inner = inner
        self.field = field

    def __enter__(self) -> Reader:
        return self.inner

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        inner = self.inner
        if kind is None:
            if inner.pos != inner.fence:
                declared = inner.fence - self.outer.pos
                inner.malformed(self.field, f"{inner.fence - inner.pos} bytes of {declared} declared are left over")
            self.outer.pos = inner.fence


def text(raw: bytes, limit: int = 256) -> str:
    """Bytes from a packet as text that is safe to print: UTF-8 where it decodes, control characters escaped.

    At most ``limit`` bytes are shown; an ellipsis stands for the rest.
    """
    decoded = raw[:limit].decode("utf-8", errors="backslashreplace")
    shown = decoded if decoded.isprintable() else "".join(map(escaped, decoded))
    return shown + "…" if len(raw) > limit else shown


def escaped(character: str) -> str:
    """A printable character as it is; any other as an escape that no terminal acts upon."""
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
