"""Capture files: opening them, whatever they are packed in, and what their own headers say.

The records themselves are walked by :mod:`analyzer.scanner`; this module reads what stands before and between them:
the pcap file header (draft-ietf-opsawg-pcap), and the pcapng blocks that carry no packet (draft-ietf-opsawg-pcapng).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, cast

Order = Literal["little", "big"]

LARGEST_RECORD = 262144
"""Captured bytes of one packet above which a record is damage: libpcap's own limit (MAXIMUM_SNAPLEN)."""
LARGEST_BLOCK = 1 << 24
"""Bytes of one pcapng block above which it is damage: libpcap's own limit."""


class CaptureError(Exception):
    """A file that cannot be read as a capture. The text is one line that names file, offset and reason."""

    def __init__(self, path: str, reason: str, offset: int | None = None) -> None:
        place = f" at byte {offset}" if offset is not None else ""
        super().__init__(f"{path}: {reason}{place}")


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """One file as it was read."""

    path: str
    """As given by the user."""
    format: str
    """``pcap`` or ``pcapng``."""
    packets: int
    bytes: int
    """On disk; of standard input: read from it."""
    first: int | None
    """Earliest time stamp, nanoseconds since the epoch."""
    last: int | None
    digits: int
    """Decimal digits of its time stamps' fractions of a second: 6, 9, …"""
    problems: tuple[str, ...] = ()
    """What could not be read, each one line."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A pcapng interface, or the only one of a pcap file."""

    linktype: int
    snaplen: int = 0
    """0: no limit."""
    digits: int = 6
    """Decimal digits of a time stamp's fraction."""
    ticks: tuple[int, int, int] = (1000, 1, -1)
    """(multiplier, divisor, bits): nanoseconds = ticks * multiplier / divisor; with bits >= 0: ticks / 2**bits s."""
    offset: int = 0
    """Seconds to add to each time stamp."""


@dataclass(slots=True)
class Framing:
    """How the records of the file are written; of pcapng, as far as the file was read."""

    format: str
    little: bool
    interfaces: list[Interface] = field(default_factory=list)
    record_header: int = 16
    """pcap: bytes before each packet."""

    @property
    def digits(self) -> int:
        return max((interface.digits for interface in self.interfaces), default=6)


class Source:
    """The bytes of one capture file, unpacked, in order."""

    def __init__(self, path: str) -> None:
        """Open a file, or standard input for ``-``; :class:`CaptureError` if it cannot be opened."""
        self.path = path
        try:
            file: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise CaptureError(path, (error.strerror or str(error)).lower()) from None
        self.raw = file
        self.failure: CaptureError | None = None
        try:
            start = read_fully(file, 6)
        except OSError as error:
            raise CaptureError(path, (error.strerror or str(error)).lower()) from None
        self.compression = next((name for magic, name in MAGICS.items() if start.startswith(magic)), None)
        self.consumed = 0
        rejoined = cast(BinaryIO, Rejoined(start, file, self))
        if self.compression is None:
            self.stream = rejoined
        elif self.compression in UNPACKERS:
            self.stream = cast(BinaryIO, UNPACKERS[self.compression](rejoined))
        else:
            raise CaptureError(path, f"is compressed with {self.compression}, which is not supported: unpack it first")

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of a buffer; 0 at the end. :class:`CaptureError` if the compressed data are damaged.

        What could be unpacked before the damage is given first.
        """
        filled = 0
        while self.failure is None and filled < len(buffer):
            try:
                if self.compression is None:
                    count = self.stream.readinto(buffer[filled:])  # type: ignore[attr-defined]
                else:
                    # read1 and not readinto, which loses what it has unpacked when it comes upon damage
                    part = self.stream.read1(len(buffer) - filled)  # type: ignore[attr-defined]
                    count = len(part)
                    buffer[filled : filled + count] = part
            except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
                reason = f"{self.compression} data are damaged: {error}" if self.compression else str(error)
                self.failure = CaptureError(self.path, reason, self.consumed)
                break
            filled += count
            if self.compression is None or not count:
                break
        if not filled and self.failure is not None:
            raise self.failure
        return filled

    def close(self) -> None:
        if self.path != "-":
            self.raw.close()


class Rejoined(io.RawIOBase):
    """A stream whose first bytes were already read; counts what is taken from it."""

    def __init__(self, start: bytes, rest: BinaryIO, source: Source) -> None:
        self.start = start
        self.rest = rest
        self.source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.start:
            count = min(len(self.start), len(buffer))
            buffer[:count] = self.start[:count]
            self.start = self.start[count:]
        else:
            count = self.rest.readinto(buffer)  # type: ignore[attr-defined]
        self.source.consumed += count
        return count


MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
UNPACKERS: dict[str, Callable[[BinaryIO], object]] = {
    "gzip": lambda stream: gzip.GzipFile(fileobj=stream),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}


def read_fully(file: BinaryIO, count: int) -> bytes:
    """Up to ``count`` bytes, fewer only at the end of the file."""
    parts = b""
    while len(parts) < count:
        part = file.read(count - len(parts))
        if not part:
            break
        parts += part
    return parts


def recognise(path: str, start: bytes) -> tuple[Framing, int]:
    """The framing that a file's first bytes announce, and the offset of its first record.

    ``start`` holds at least 24 bytes, fewer only if the file is shorter.
    """
    if not start:
        raise CaptureError(path, "is empty")
    magic = start[:4]
    if magic == b"\x0a\x0d\x0d\x0a":
        return Framing("pcapng", True), 0
    if magic in PCAP_MAGICS:
        if len(start) < 24:
            raise CaptureError(path, f"ends within the pcap file header ({len(start)} of 24 bytes)", len(start))
        return pcap_framing(path, start), 24
    if start[:8] == b"snoop\0\0\0":
        raise CaptureError(path, "is a snoop file, which is not supported: convert it with editcap", 0)
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        raise CaptureError(path, "is a text file, not a capture", 0)
    raise CaptureError(path, f"is not a capture (pcap or pcapng): begins with {magic.hex(' ')}", 0)


PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": (True, 6, 16),
    b"\xa1\xb2\xc3\xd4": (False, 6, 16),
    b"\x4d\x3c\xb2\xa1": (True, 9, 16),
    b"\xa1\xb2\x3c\x4d": (False, 9, 16),
    b"\x34\xcd\xb2\xa1": (True, 6, 24),  # Kuznetzov's modification: longer record headers
    b"\xa1\xb2\xcd\x34": (False, 6, 24),
}
"""Magic → little-endian, digits of the time stamps, length of a record's header."""


def pcap_framing(path: str, start: bytes) -> Framing:
    """The 24-byte pcap file header."""
    little, digits, record_header = PCAP_MAGICS[start[:4]]
    order: Order = "little" if little else "big"
    major = int.from_bytes(start[4:6], order)
    if major != 2:
        raise CaptureError(path, f"has pcap version {major}, only 2 is known", 4)
    # The upper bits of the link type tell the length of a frame check sequence, which the IP length excludes.
    linktype = int.from_bytes(start[20:24], order) & 0x03FFFFFF
    ticks = (1000, 1, -1) if digits == 6 else (1, 1, -1)
    return Framing("pcap", little, [Interface(linktype, 0, digits, ticks)], record_header)


def read_block(path: str, framing: Framing, data: bytes, offset: int) -> str | None:
    """Take in a whole pcapng block that carries no packet; says what is wrong with it, if anything."""
    order: Order = "little" if framing.little else "big"
    kind = int.from_bytes(data[:4], order)
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        framing.interfaces.clear()
        major = int.from_bytes(data[12:14], order)
        if major != 1:
            return f"section of unknown pcapng version {major} at byte {offset}"
        return None
    if kind == 1:
        if len(data) < 20:
            return f"interface description too short at byte {offset}"
        framing.interfaces.append(interface_of(data[8:-4], order))
    return None


def interface_of(body: bytes, order: Order) -> Interface:
    """An Interface Description Block's body: link type, snap length, options 9 (resolution) and 14 (offset)."""

    def number(part: bytes) -> int:
        return int.from_bytes(part, order)

    digits, ticks, offset = 6, (1000, 1, -1), 0
    at = 8
    while at + 4 <= len(body):
        code, length = number(body[at : at + 2]), number(body[at + 2 : at + 4])
        value = body[at + 4 : at + 4 + length]
        if code == 0:
            break
        if code == 9 and len(value) == 1:
            power = value[0] & 0x7F
            if value[0] & 0x80:
                digits, ticks = min(9, power), (1, 1, power)
            elif power <= 9:
                digits, ticks = power, (10 ** (9 - power), 1, -1)
            else:
                digits, ticks = 9, (1, 10 ** min(18, power - 9), -1)
        elif code == 14 and len(value) == 8:
            offset = int.from_bytes(value, order, signed=True)
        at += 4 + ((length + 3) & ~3)
    return Interface(number(body[:2]), number(body[4:8]), digits, ticks, max(-(1 << 33), min(1 << 33, offset)))


def block_size(framing: Framing, start: bytes) -> int | None:
    """Length of the pcapng block that begins with these (at least 12) bytes; ``None``: it is damage.

    A section header tells the byte order of all that follows it, its own length included.
    """
    if start[:4] == b"\x0a\x0d\x0d\x0a":
        if start[8:12] not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
            return None
        framing.little = start[8:12] == b"\x4d\x3c\x2b\x1a"
    size = int.from_bytes(start[4:8], "little" if framing.little else "big")
    return size if 12 <= size <= LARGEST_BLOCK and size % 4 == 0 else None


def chronological(paths: Sequence[str]) -> list[int]:
    """Indexes of the files by the time of their first packets; files that tell none stay behind, as given."""
    if len(paths) < 2:
        return list(range(len(paths)))
    times = [first_time(path) for path in paths]
    return sorted(range(len(paths)), key=lambda index: (times[index] is None, times[index] or 0, index))


def first_time(path: str) -> int | None:
    """Time of a file's first packet in nanoseconds since the epoch, if its first 64 KiB tell it."""
    if path == "-":
        return None
    source = Source(path)
    try:
        buffer = bytearray(1 << 16)
        filled = 0
        while filled < len(buffer):
            try:
                count = source.readinto(memoryview(buffer)[filled:])
            except CaptureError:
                if not filled:
                    raise
                break
            if not count:
                break
            filled += count
        start = bytes(buffer[:filled])
        framing, at = recognise(path, start[:64])
        order: Order
        while at + 12 <= len(start):
            if framing.format == "pcap":
                order = "little" if framing.little else "big"
                seconds, fraction = (int.from_bytes(start[at + i : at + i + 4], order) for i in (0, 4))
                return seconds * 10**9 + fraction * framing.interfaces[0].ticks[0]
            size = block_size(framing, start[at : at + 12])
            if size is None or at + size > len(start):
                return None
            order = "little" if framing.little else "big"
            if int.from_bytes(start[at : at + 4], order) in (2, 6):
                number, high, low = (int.from_bytes(start[at + i : at + i + 4], order) for i in (8, 12, 16))
                if number >= len(framing.interfaces):
                    return None
                interface = framing.interfaces[number]
                multiplier, divisor, bits = interface.ticks
                ticks = high << 32 | low
                nanoseconds = ticks * 10**9 >> bits if bits >= 0 else ticks * multiplier // divisor
                return nanoseconds + interface.offset * 10**9
            read_block(path, framing, start[at : at + size], at)
            at += size
        return None
    finally:
        source.close()
