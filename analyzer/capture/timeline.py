"""Orders several capture files by the time of their first packets."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from analyzer.capture.formats import detect_format
from analyzer.capture.model import CaptureError, Framing
from analyzer.capture.pcapng import (
    ENHANCED_PACKET,
    MIN_BLOCK_BYTES,
    OBSOLETE_PACKET,
    SIMPLE_PACKET,
    block_size,
    read_block,
)
from analyzer.capture.source import Source, os_error_reason


def chronological(paths: Sequence[str]) -> list[int]:
    """Indexes of the files by the time of their first packets; files without a known time come last, as given.

    Raises :class:`CaptureError`.
    """
    if list(paths).count("-") > 1:
        raise CaptureError("-", "standard input can be read only once")
    if len(paths) < 2:
        return list(range(len(paths)))
    times = [first_packet_time(path) for path in paths]
    return sorted(range(len(paths)), key=lambda index: (times[index] is None, times[index] or 0, index))


def first_packet_time(path: str) -> int | None:
    """Time of a file's first packet, nanoseconds since the epoch.

    ``None`` if the first :data:`~analyzer.capture.model.PEEK_BYTES` bytes do not tell it, and for what can be read
    only once: standard input, a pipe. Raises :class:`CaptureError`.
    """
    try:
        if path == "-" or stat.S_ISFIFO(Path(path).stat().st_mode):
            return None
    except OSError as error:
        raise CaptureError(path, os_error_reason(error)) from None
    source = Source(path)
    try:
        start = source.peek()
    finally:
        source.close()
    framing, at = detect_format(path, start)
    if framing.format == "pcapng":
        return first_block_time(framing, start, at)
    at += 16 if framing.format == "snoop" else 0
    if at + 8 > len(start):
        return None
    seconds, fraction = (int.from_bytes(start[at + i : at + i + 4], framing.order) for i in (0, 4))
    return seconds * 10**9 + fraction * framing.interfaces[0].ticks[0]


def first_block_time(framing: Framing, start: bytes, at: int) -> int | None:
    """Time of the first pcapng block with a time stamp; ``start``: the first bytes of the file, ``at``: first block."""
    while at + 12 <= len(start):
        size = block_size(framing, start[at : at + 12])
        if size is None or at + size > len(start):
            return None
        order = framing.order
        kind = int.from_bytes(start[at : at + 4], order)
        if kind in (OBSOLETE_PACKET, ENHANCED_PACKET) and size >= MIN_BLOCK_BYTES[kind]:
            number, high, low = (int.from_bytes(start[at + i : at + i + 4], order) for i in (8, 12, 16))
            if kind == OBSOLETE_PACKET:
                number = int.from_bytes(start[at + 8 : at + 10], order)
            if number >= len(framing.interfaces):
                return None
            return framing.interfaces[number].nanoseconds(high << 32 | low)
        if kind != SIMPLE_PACKET:
            read_block(framing, start[at : at + size])
        at += size
    return None
