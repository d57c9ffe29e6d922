"""Capture files: opening them, whatever they are packed in, and what their own headers say.

The records themselves are walked by :mod:`analyzer.scanner`; this module reads what stands before and between them:
the pcap file header (draft-ietf-opsawg-pcap, and the dialects that Wireshark's wiretap knows), the snoop file header
(RFC 1761), and the pcapng blocks that carry no packet (draft-ietf-opsawg-pcapng).
"""

from __future__ import annotations

import bz2
import ipaddress
import lzma
import os
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from analyzer.messages import Facts
from analyzer.safetext import SafeText, decode_text

Order = Literal["little", "big"]

LARGEST_RECORD = 262144
"""Captured bytes of one packet above which a record is damage: libpcap's own limit (MAXIMUM_SNAPLEN)."""
LARGEST_BLOCK = 1 << 24
"""Bytes of one pcapng block above which it is damage: libpcap's own limit."""
PEEK = 1 << 16
"""First bytes of a file by which its framing is told, and the time of its first packet."""
PROBLEMS = 20
"""Damaged blocks of a file after which reading it ends."""
INTERFACES = 1 << 16
NAMES = 10_000
NAMES_EACH = 8
KINDS = 64
"""What is kept of one file: interfaces of a section, named addresses, names of each, kinds of skipped blocks."""


class CaptureError(Exception):
    """A file that cannot be read as a capture. The text is one line that names file, offset and reason."""

    def __init__(self, path: str, reason: str, offset: int | None = None) -> None:
        place = f" at byte {offset}" if offset is not None else ""
        super().__init__(f"{path}: {reason}{place}")


@dataclass(frozen=True, slots=True)
class CaptureFacts(Facts):
    """What a file says of itself beside its packets. What it does not say is ``None`` or empty."""

    compression: SafeText | None = None
    variant: SafeText | None = None
    """Of pcap: the program whose own dialect of the format it is."""
    frame_check_bytes: int | None = None
    """Frame check sequence behind each frame, which is not payload; of several interfaces the longest."""
    lost: int | None = None
    """Packets that the capturing machine says it could not keep up with."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Address → its names, as resolved where the capture was made; of :data:`NAMES` addresses, and of each
    :data:`NAMES_EACH`, at the most."""
    secrets: Mapping[SafeText, int] = field(default_factory=dict)
    """Kind of embedded decryption secrets → how many bytes."""
    skipped: Mapping[SafeText, int] = field(default_factory=dict)
    """Kind of pcapng block whose content is unknown here → how many."""


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """One file as it was read."""

    path: str
    """As given by the user."""
    format: SafeText
    """``pcap``, ``pcapng`` or ``snoop``."""
    packets: int
    bytes: int
    """On disk; of standard input: read from it."""
    first: int | None
    """Earliest time stamp, nanoseconds since the epoch."""
    last: int | None
    digits: int
    """Decimal digits of its time stamps' fractions of a second: 6, 9, …"""
    problems: tuple[SafeText, ...] = ()
    """What could not be read, each one line."""
    facts: CaptureFacts = CaptureFacts()


@dataclass(frozen=True, slots=True)
class Interface:
    """A pcapng interface, or the only one of a pcap or snoop file."""

    linktype: int
    snaplen: int = 0
    """0: no limit."""
    digits: int = 6
    """Decimal digits of a time stamp's fraction."""
    ticks: tuple[int, int, int] = (1000, 1, -1)
    """(multiplier, divisor, bits): nanoseconds = ticks * multiplier / divisor; with bits >= 0: ticks / 2**bits s."""
    offset: int = 0
    """Seconds to add to each time stamp."""
    frame_check: int = 0
    """Bytes of frame check sequence behind each frame."""

    def nanoseconds(self, ticks: int) -> int:
        """A time stamp in nanoseconds since the epoch."""
        multiplier, divisor, bits = self.ticks
        return self.offset * 10**9 + (ticks * 10**9 >> bits if bits >= 0 else ticks * multiplier // divisor)

    def ticks_at(self, nanoseconds: int) -> int:
        """The time stamp of a moment, as near before it as the resolution allows."""
        multiplier, divisor, bits = self.ticks
        since = max(0, nanoseconds - self.offset * 10**9)
        ticks = (since << bits) // 10**9 if bits >= 0 else since * divisor // multiplier
        return min(ticks, (1 << 64) - 1)


@dataclass(slots=True)
class Framing:
    """How the records of the file are written; of pcapng, as far as the file was read."""

    format: str
    little: bool
    interfaces: list[Interface] = field(default_factory=list)
    """Of the current section."""
    record_header: int = 16
    """pcap: bytes before each packet."""
    swapped: bool = False
    """pcap: captured and original length may stand in either order."""
    variant: str | None = None
    resolutions: set[int] = field(default_factory=set)
    """Digits of the interfaces of all sections."""
    frame_check: int = 0
    lost: dict[int, int] = field(default_factory=dict)
    """Interface of the current section → packets lost there, as counted last; -1: in all sections before."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    secrets: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def order(self) -> Order:
        return "little" if self.little else "big"

    def describe(self, interface: Interface) -> None:
        """Take in an interface."""
        self.interfaces.append(interface)
        self.resolutions.add(interface.digits)
        self.frame_check = max(self.frame_check, interface.frame_check)

    @property
    def digits(self) -> int:
        return max(self.resolutions, default=6)

    def facts(self, compression: str | None, lost: int) -> CaptureFacts:
        """What the file said of itself; ``lost``: as counted in its records, where they count."""
        told = lost if self.format == "snoop" else sum(self.lost.values()) if self.lost else None
        return CaptureFacts(
            compression,
            self.variant,
            self.frame_check or None,
            told,
            dict(sorted(self.names.items())),
            dict(sorted(self.secrets.items())),
            dict(sorted(self.skipped.items())),
        )


# -- bytes ------------------------------------------------------------------------------------------------------


class Source:
    """The bytes of one capture file, unpacked, in order."""

    def __init__(self, path: str) -> None:
        """Open a file, or standard input for ``-``; :class:`CaptureError` if it cannot be opened."""
        self.path = path
        self.consumed = 0
        """Bytes taken from the file itself."""
        self.failure: tuple[str, int] | None = None
        """Why there is no reading on, and where; not the exception, which would keep all that it passed through."""
        self.unpacked: Unpacked | None = None
        self.held = memoryview(b"")
        """Bytes that were read ahead."""
        if path == "-" and sys.stdin is None:
            raise CaptureError(path, "standard input is closed")
        try:
            self.raw: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb", buffering=0)  # noqa: SIM115
            start = self.packed_start()
        except OSError as error:
            raise CaptureError(path, worded(error)) from None
        self.compression = compression_of(start)
        if self.compression is None:
            self.held = memoryview(start)
        elif self.compression in DECOMPRESSORS:
            self.unpacked = Unpacked(self.packed, DECOMPRESSORS[self.compression], start)
        else:
            raise CaptureError(path, f"is compressed with {self.compression}, which is not supported: unpack it first")

    def packed_start(self) -> bytes:
        """The first bytes of the file; frames of zstd and lz4 that only say "skip me" are left out."""
        while True:
            start = self.packed_fully(6)
            if start[1:4] != SKIPPABLE[1:] or start[0] & 0xF0 != SKIPPABLE[0]:
                return start
            start += self.packed_fully(2)
            left = int.from_bytes(start[4:8], "little")
            while left and (part := self.packed(min(left, PEEK))):
                left -= len(part)

    def packed_fully(self, count: int) -> bytes:
        """Up to ``count`` bytes of the file itself, fewer only at its end."""
        parts = b""
        while len(parts) < count and (part := self.packed(count - len(parts))):
            parts += part
        return parts

    def packed(self, count: int) -> bytes:
        """Some bytes of the file itself, empty at its end."""
        part = self.raw.read(count)
        self.consumed += len(part)
        return part

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of a buffer; 0 at the end. :class:`CaptureError` if there is no reading on.

        What could be read or unpacked before the damage is given first.
        """
        if self.held:
            count = min(len(self.held), len(buffer))
            buffer[:count] = self.held[:count]
            self.held = self.held[count:]
            return count
        if self.failure is not None:
            raise CaptureError(self.path, *self.failure)
        try:
            if self.unpacked is not None:
                return self.unpacked.readinto(buffer)
            count = self.raw.readinto(buffer)  # type: ignore[attr-defined]
        except OSError as error:
            self.failure = worded(error), self.consumed
        except DamageError as error:
            self.failure = f"{self.compression} data {error}", self.consumed
        else:
            self.consumed += count
            return cast(int, count)
        raise CaptureError(self.path, *self.failure)

    def peek(self, count: int = PEEK) -> bytes:
        """The first bytes, which stay to be read; fewer only if the file is shorter. As :meth:`readinto`."""
        start = bytearray(count)
        filled = 0
        with memoryview(start) as view:
            while filled < count:
                try:
                    part = self.readinto(view[filled:])
                except CaptureError:
                    if not filled:
                        raise
                    break
                if not part:
                    break
                filled += part
        self.held = memoryview(bytes(start[:filled]))
        return bytes(self.held)

    def is_larger(self, size: int) -> bool:
        """Whether it is a file, and no pipe, of more than so many bytes."""
        if self.path == "-":
            return False
        status = os.fstat(self.raw.fileno())
        return stat.S_ISREG(status.st_mode) and status.st_size > size

    def close(self) -> None:
        self.unpacked = None  # it knows this object, and its window may be large
        if self.path != "-":
            self.raw.close()


Bytes = npt.NDArray[np.uint8]


class Blocks:
    """The content of a source, block by block; of large files, and of all that has to be unpacked, a thread of its own
    reads one block ahead.

    A pipe is read on the spot: who waits for it can be interrupted at once.
    """

    def __init__(self, source: Source, size: int) -> None:
        """``size``: bytes of a block at the most."""
        self.source = source
        self.size = size
        self.ahead = source.compression is not None or source.is_larger(size)
        # Each array has as much room before the block for what the one before it left over.
        self.current = np.zeros(2 * size, np.uint8)
        self.free: SimpleQueue[Bytes | None] = SimpleQueue()
        self.read: SimpleQueue[tuple[Bytes, int] | Exception] = SimpleQueue()
        for _ in range(1 + self.ahead):
            self.free.put(np.zeros(2 * size, np.uint8))
        self.thread: Thread | None = None

    def run(self) -> None:
        """Read until the end, an error, or :meth:`__exit__`."""
        while self.fill():
            pass

    def fill(self) -> bool:
        """Read the next block into an array that is free; whether there may be another one."""
        buffer = self.free.get()
        if buffer is None:
            return False
        try:
            count = self.source.readinto(buffer[self.size :].data)
        except Exception as error:  # for who waits for the block
            self.read.put(error)
            return False
        self.read.put((buffer, count))
        return count > 0

    def next(self) -> tuple[Bytes, int] | Exception:
        if not self.ahead:
            self.fill()
        return self.read.get()

    def after(self, rest: Bytes) -> tuple[Bytes, int, int]:
        """The next block behind ``rest``, the unused end of the block that was given last.

        An array, and the offsets in it of the first and behind the last byte. At the end of the source nothing stands
        behind ``rest``. As :meth:`Source.readinto`; after its error, or the end, there is no other block.
        """
        told = self.next()
        if isinstance(told, Exception):
            try:
                raise told
            finally:
                del told  # or the error would keep this frame, and the frame the error
        buffer, count = told
        start, end = self.size - len(rest), self.size + count
        if start >= 0:
            buffer[start : self.size] = rest
            whole = buffer
        else:  # a record larger than a block
            whole = np.concatenate((rest, buffer[self.size : end]))
            start, end = 0, len(whole)
        self.free.put(self.current)
        self.current = buffer
        return whole, start, end

    def behind(self, header: int) -> tuple[Bytes, int, int]:
        """The first block, from behind a header of so many bytes on; otherwise as :meth:`after`."""
        buffer, start, end = self.after(np.zeros(0, np.uint8))
        while end - start < header:
            buffer, start, end = self.after(buffer[start:end])
        return buffer, start + header, end

    def drain(self) -> int:
        """Read on to the end, or to where there is no reading on; how many bytes came."""
        total = 0
        while not isinstance(told := self.next(), Exception) and told[1]:
            total += told[1]
            self.free.put(told[0])
        return total

    def __enter__(self) -> Blocks:
        if self.ahead:
            self.thread = Thread(target=self.run, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.thread:
            self.free.put(None)
            self.thread.join(1)  # it may wait for a pipe that never ends
            self.thread = None  # it knows this object, and both would outlive their use


def worded(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


class DamageError(Exception):
    """Compressed data that cannot be unpacked any further; the text is a predicate."""


class Decompressor(Protocol):
    """What the decompressors of the standard library and of others have in common; one object a member or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Unpacked:
    """The content of compressed data, all members, streams or frames one after the other.

    Its memory is the decompressor's window and two pieces, whatever the data unpack to.
    """

    EXPANSION, FREE = 200, 1 << 28
    """Times of their size that data may unpack to, and bytes beyond that: more is made to keep its readers busy."""

    PIECE = 1 << 15
    """Bytes that go in and come out at a time: so much may be lost before damage that shows in the middle."""

    def __init__(self, packed: Callable[[int], bytes], begin: Callable[[], Decompressor], start: bytes) -> None:
        self.packed = packed
        self.begin = begin
        self.decompressor = begin()
        self.start = start
        self.ready = memoryview(b"")
        self.left = self.FREE
        """Bytes that may still come out."""

    def more(self) -> bytes:
        """The next packed bytes, empty at their end."""
        data = self.packed(self.PIECE)
        self.left += self.EXPANSION * len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of a buffer; 0 at the end. :class:`DamageError` if the data are damaged."""
        while not self.ready:
            if self.left < 0:
                raise DamageError(f"unpack to more than {self.EXPANSION} times their size")
            if self.decompressor.eof:
                rest = self.decompressor.unused_data or self.more()
                while rest and not (begun := bytes(rest).lstrip(b"\0")):  # padding, of tapes and of xz
                    rest = self.more()
                if not rest:
                    return 0
                self.decompressor, data = self.begin(), begun
            elif self.decompressor.needs_input:
                data = self.start or self.more()
                self.start = b""
                if not data:
                    raise DamageError("are damaged: they end too early")
            else:
                data = b""
            try:
                self.ready = memoryview(self.decompressor.decompress(data, self.PIECE))
            except Exception as error:  # each library has its own; whatever it is, the data are what it is about
                if "memory" in str(error).lower():
                    raise DamageError(f"demand more than {WINDOW >> 20} MiB of memory for unpacking") from None
                raise DamageError(f"are damaged: {' '.join(str(error).split())}") from None
            self.left -= len(self.ready)
        count = min(len(self.ready), len(buffer))
        buffer[:count] = self.ready[:count]
        self.ready = self.ready[count:]
        return count


class Gzip:
    """zlib's decompressor of one gzip member (RFC 1952) with the manners of the others."""

    def __init__(self) -> None:
        self.zlib = zlib.decompressobj(wbits=31)
        self.full = False
        """The last piece was as long as it might be: more may be inside."""

    @property
    def eof(self) -> bool:
        return self.zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self.full and not self.zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self.zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        piece = self.zlib.decompress(self.zlib.unconsumed_tail + data, max_length)
        self.full = len(piece) == max_length
        return piece


WINDOW = 1 << 27
"""Bytes of window that compressed data may demand: what zstd itself allows, and twice what ``xz -9`` needs."""


def xz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=WINDOW)


def zstd() -> Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW.bit_length() - 1})


def lz4() -> Decompressor:
    from lz4.frame import LZ4FrameDecompressor

    return cast(Decompressor, LZ4FrameDecompressor())


COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x02\x21\x4c\x18": "lz4 in its legacy format",
    b"\x1f\x9d": "compress",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
}
SKIPPABLE = b"\x50\x2a\x4d\x18"
"""Magic number of a frame to be skipped, of zstd and of lz4; the low half of its first octet is free."""
DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "gzip": Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": xz,
    "zstd": zstd,
    "lz4": lz4,
}


def compression_of(start: bytes) -> str | None:
    """The compression that a file's first bytes announce."""
    return next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)


# -- file headers -----------------------------------------------------------------------------------------------


def recognise(path: str, start: bytes) -> tuple[Framing, int]:
    """The framing that a file's first bytes announce, and the offset of its first record.

    ``start`` holds :data:`PEEK` bytes, fewer only if the file is shorter.
    """
    if not start:
        raise CaptureError(path, "is empty")
    order: Order
    for order in ("little", "big"):
        dialect = PCAP_MAGICS.get(int.from_bytes(start[:4], order)) if len(start) >= 4 else None
        if dialect is not None:
            return pcap_framing(path, start, order, *dialect)
    if start[:4] == SECTION:
        return pcapng_framing(path, start), 0
    if start[:8] == b"snoop\0\0\0":
        return snoop_framing(path, start), 16
    inner = compression_of(start)
    if inner is not None:
        raise CaptureError(path, f"is compressed twice, inside with {inner}: unpack it first", 0)
    for magic, name in FOREIGN.items():
        if start.startswith(magic):
            raise CaptureError(path, f"is a capture of {name}, which is not supported: convert it with editcap", 0)
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start[:64]):
        raise CaptureError(path, "is a text file, not a capture", 0)
    raise CaptureError(path, f"is not a capture (pcap, pcapng or snoop): begins with {start[:4].hex(' ')}", 0)


FOREIGN = {
    b"GMBU": "Microsoft Network Monitor",
    b"RTSS": "Microsoft Network Monitor",
    b"TRSNIFF data": "a Sniffer",
    b"XCP\0": "a Sniffer",
    b"\x7fver": "EtherPeek",
    b"iptrace ": "AIX iptrace",
    b"btsnoop\0": "Bluetooth",
}

PCAP_MAGICS = {
    0xA1B2C3D4: (6, 24, (16, 24, 20)),
    0xA1B23C4D: (9, 24, (16,)),
    0xA1B2CD34: (6, 24, (24, 28)),
    0x1C0001AB: (6, 28, (16,)),  # IXIA: the file's length follows its header
    0x1C0001AC: (9, 28, (16,)),
}
"""Magic number → digits of the time stamps, length of the file's header, and what a record's header may have; the
usual first."""
VARIANTS = {
    (0xA1B2C3D4, 24): "Red Hat 6.1",
    (0xA1B2C3D4, 20): "Nokia",
    (0xA1B2CD34, 24): "modified",
    (0xA1B2CD34, 28): "SuSE 6.3",
    (0x1C0001AB, 16): "IXIA",
    (0x1C0001AC, 16): "IXIA",
}
AIX_LINKS = {6: 1, 9: 6, 15: 10, 24: 0}
"""Interface types of RFC 1573, which AIX writes → link types."""


def pcap_framing(
    path: str, start: bytes, order: Order, digits: int, length: int, headers: Sequence[int]
) -> tuple[Framing, int]:
    """The pcap file header. One magic number may stand for several dialects, which only their records tell apart; what
    makes a record possible is from Wireshark's wiretap/libpcap.c."""
    if len(start) < length:
        raise CaptureError(path, f"ends within the pcap file header ({len(start)} of {length} bytes)", len(start))
    magic, major, minor, snaplen, link = (
        int.from_bytes(start[at:end], order) for at, end in ((0, 4), (4, 6), (6, 8), (16, 20), (20, 24))
    )
    if major != 2:
        raise CaptureError(path, f"has pcap version {major}, only 2 is known", 4)
    header, variant = headers[0], None
    if minor == 2 and magic == 0xA1B2C3D4 and link in AIX_LINKS:
        link, digits, variant = AIX_LINKS[link], 9, "AIX"
    else:

        def looks(length_of_header: int) -> int:
            return plausible(start, length, length_of_header, order, snaplen)

        # A damaged file of the usual dialect must not be taken for a rare one: two records have to speak for that.
        if minor == 4 and looks(header) < 0:
            header = next((each for each in headers[1:] if looks(each) >= 2), header)
        variant = VARIANTS.get((magic, header))
    # Of the upper bits of the link type, four tell the length of a frame check sequence in units of 16 bits, if the
    # bit 26 says so; no frame has one longer than 4 bytes. The others are reserved.
    frame_check = 2 * (link >> 28) if link >> 26 & 1 and link >> 28 <= 2 else 0
    ticks = (1000, 1, -1) if digits == 6 else (1, 1, -1)
    framing = Framing("pcap", order == "little", [], header, minor < 4, variant)
    framing.describe(Interface(link & 0xFFFF, 0, digits, ticks, 0, frame_check))
    return framing, length


def plausible(start: bytes, at: int, header: int, order: Order, snaplen: int) -> int:
    """How many of the first three records look possible, should their headers have this length; -1: one does not."""
    for count in range(3):
        if at + header > len(start):
            return count
        fraction, captured, length = (int.from_bytes(start[at + i : at + i + 4], order) for i in (4, 8, 12))
        possible = fraction < 10**6 and captured <= min(length, snaplen or LARGEST_RECORD) and length <= 1 << 27
        if header >= 24:  # interface index, Ethernet type or one of Linux's numbers below, packet type
            ethertype = int.from_bytes(start[at + 20 : at + 22], order)
            possible &= int.from_bytes(start[at + 16 : at + 20], order) <= 10000
            possible &= ethertype <= 0x17 or ethertype >= 0x600 or ethertype in (0x60, 0x200, 0x400)
            possible &= start[at + 22] <= 4
        elif header == 20:  # the few words that were ever seen there, and what editcap writes
            word = int.from_bytes(start[at + 16 : at + 20], order)
            seen = (word & 0xF0000000, word & 0x0FFF00F0, word & 0xF000, word & 0xF00, word & 0xF)
            known = ((0x90000000, 0xB0000000), (0x0FBF0000,), (0xB000, 0xD000), (0x600, 0x900), (1, 2))
            possible &= word == 0 or all(part in parts for part, parts in zip(seen, known, strict=True))
        if not possible:
            return -1
        at += header + captured
    return 3


def snoop_framing(path: str, start: bytes) -> Framing:
    """The 16-byte snoop file header (RFC 1761)."""
    if len(start) < 16:
        raise CaptureError(path, f"ends within the snoop file header ({len(start)} of 16 bytes)", len(start))
    version, link = int.from_bytes(start[8:12], "big"), int.from_bytes(start[12:16], "big")
    if version != 2:
        raise CaptureError(path, f"has snoop version {version}, only 2 is known", 8)
    if link not in SNOOP_LINKS:
        raise CaptureError(path, f"has snoop datalink type {link}, which is not supported", 12)
    framing = Framing("snoop", False)
    framing.describe(Interface(SNOOP_LINKS[link]))
    return framing


SNOOP_LINKS = {0: 1, 2: 6, 4: 1, 8: 10, 9: 0, 14: 0}
"""Datalink types of snoop (IANA) → link types: IEEE 802.3, token ring, Ethernet, FDDI, other, loopback."""

SECTION = b"\x0a\x0d\x0d\x0a"


def pcapng_framing(path: str, start: bytes) -> Framing:
    """A file that begins with a section header, which is still to be read as the first of its blocks."""
    framing = Framing("pcapng", True)
    if len(start) < 12:
        raise CaptureError(path, f"ends within the pcapng section header ({len(start)} bytes)", len(start))
    if start[8:12] not in BYTE_ORDERS:
        raise CaptureError(path, "has a pcapng section header without its magic number", 0)
    size = block_size(framing, start[:12])
    if size is None or size < 28:
        raise CaptureError(path, "has a pcapng section header of impossible length", 4)
    if len(start) < min(size, PEEK):
        reason = f"ends within the pcapng section header ({len(start)} of {size} bytes)"
        raise CaptureError(path, reason, len(start))
    return framing


BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": True, b"\x1a\x2b\x3c\x4d": False}
"""Magic number of a section header → little-endian."""


# -- pcapng blocks ----------------------------------------------------------------------------------------------


def block_size(framing: Framing, start: bytes) -> int | None:
    """Length of the pcapng block that begins with these (at least 12) bytes; ``None``: it is damage.

    A section header tells the byte order of all that follows it, its own length included.
    """
    if start[:4] == SECTION:
        if start[8:12] not in BYTE_ORDERS:
            return None
        framing.little = BYTE_ORDERS[start[8:12]]
    size = int.from_bytes(start[4:8], framing.order)
    return size if 12 <= size <= LARGEST_BLOCK and size % 4 == 0 else None


def take_in(framing: Framing, data: memoryview) -> tuple[int, str | None]:
    """Take in what stands at the beginning of ``data`` and is no packet, or a damaged one.

    Returns its length and what is wrong with it. Length 0: it is not there as a whole; or, with something wrong, what
    follows has no meaning without it.
    """
    size = block_size(framing, bytes(data[:12])) if framing.format == "pcapng" else None
    if size is None:
        return 0, "the length of a record is impossible"
    if size > len(data):
        return 0, None
    block = bytes(data[:size])
    problem = read_block(framing, block)
    if problem is not None and (block[:4] == SECTION or int.from_bytes(block[:4], framing.order) == 1):
        return 0, problem
    return size, problem


def read_block(framing: Framing, data: bytes) -> str | None:
    """Take in a whole pcapng block that carries no packet, or is damaged; says what is wrong with it, if anything."""
    order = framing.order

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(data[at : at + size], order)

    kind, size = number(0), len(data)
    if number(size - 4) != size:
        return f"its two lengths disagree ({size} and {number(size - 4)})"
    if size < SHORTEST.get(kind, 12):
        return f"its {size} bytes are too few for its kind"
    read = options(data[OPTIONS_AT[kind] : -4], order) if kind in OPTIONS_AT else []
    if len(read) == OPTIONS:
        return f"it has {OPTIONS} options or more"
    if kind == 0x0A0D0D0A:
        if number(12, 2) != 1:
            return f"it begins a section of unknown pcapng version {number(12, 2)}"
        framing.interfaces.clear()
        if framing.lost:
            framing.lost = {-1: sum(framing.lost.values())}
    elif kind == 1:
        if len(framing.interfaces) == INTERFACES:
            return f"it describes more than {INTERFACES} interfaces"
        framing.describe(interface_of(data[8:16], read, order))
    elif kind in (2, 6):  # only if the kernel could not read it
        interface = number(8, 2 if kind == 2 else 4)
        if interface >= len(framing.interfaces):
            return f"interface {interface} is not described"
        return f"its {size} bytes are too few for a packet of {number(20)}"
    elif kind == 3:
        return "no interface is described"
    elif kind == 4:
        read_names(framing, read)
    elif kind == 5:
        lost = [int.from_bytes(value[:8], order) for code, value in read if code in (5, 7)]
        if lost and number(8) < len(framing.interfaces):
            framing.lost[number(8)] = sum(lost)
    elif kind == 10:
        secrets = SECRETS.get(number(8), f"0x{number(8):08x}")
        framing.secrets[among(framing.secrets, secrets)] += min(number(12), size - 20)
    else:
        framing.skipped[among(framing.skipped, BLOCKS.get(kind, f"0x{kind:08x}"))] += 1
    return None


OPTIONS_AT = {1: 16, 4: 8, 5: 20}
"""Kind of block → where its options begin, or its records, which look alike."""
SHORTEST = {0x0A0D0D0A: 28, 1: 20, 2: 32, 3: 16, 5: 24, 6: 32, 10: 20}
"""Kind of block → bytes that it has at the least."""
BLOCKS = {9: "systemd journal", 0x0BAD: "custom", 0x40000BAD: "custom"}
SECRETS = {
    0x544C534B: "TLS key log",
    0x5353484B: "SSH key log",
    0x57474B4C: "WireGuard key log",
    0x5A4E574B: "Zigbee network key",
    0x5A415053: "Zigbee application key",
    0x55414B4C: "OPC UA key log",
}


def among(known: Counter[str], name: str) -> str:
    """The name, as long as there are not too many different ones."""
    return name if name in known or len(known) < KINDS else "other"


OPTIONS = 1 << 16
"""Of one block: more are somebody's trap."""


def options(body: bytes, order: Order) -> list[tuple[int, bytes]]:
    """Code and value of each option, up to the end or to the first that lies about its length; OPTIONS at the most."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 4 <= len(body) and len(found) < OPTIONS:
        code, length = (int.from_bytes(body[at + i : at + i + 2], order) for i in (0, 2))
        if code == 0 or at + 4 + length > len(body):
            break
        found.append((code, body[at + 4 : at + 4 + length]))
        at += 4 + (length + 3 & ~3)
    return found


def interface_of(body: bytes, read: list[tuple[int, bytes]], order: Order) -> Interface:
    """An Interface Description Block: link type, snap length, options 9 (time resolution), 13 (frame check sequence, in
    bits; some write bytes) and 14 (offset)."""
    digits, ticks, offset, frame_check = 6, (1000, 1, -1), 0, 0
    for code, value in read:
        if code == 9 and len(value) == 1:
            power = value[0] & 0x7F
            if value[0] & 0x80:
                digits, ticks = min(9, power), (1, 1, power)
            elif power <= 9:
                digits, ticks = power, (10 ** (9 - power), 1, -1)
            else:
                digits, ticks = 9, (1, 10 ** min(18, power - 9), -1)
        elif code == 13 and len(value) == 1:
            frame_check = {2: 2, 4: 4, 16: 2, 32: 4}.get(value[0], 0)
        elif code == 14 and len(value) == 8:
            offset = max(-(1 << 33), min(1 << 33, int.from_bytes(value, order, signed=True)))
    link, snaplen = int.from_bytes(body[:2], order), int.from_bytes(body[4:8], order)
    return Interface(link, snaplen, digits, ticks, offset, frame_check)


def read_names(framing: Framing, read: list[tuple[int, bytes]]) -> None:
    """The records of a Name Resolution Block: an address, and its names with a zero octet behind each."""
    for kind, value in read:
        size = {1: 4, 2: 16, 3: 6, 4: 8}.get(kind)
        if size is None or len(value) <= size:
            continue
        raw = value[:size]
        address = raw.hex(":") if kind > 2 else str(ipaddress.ip_address(raw))
        names = (decode_text(part, 255) for part in value[size:].split(b"\0") if part)
        before = framing.names.get(address, ())
        if before or len(framing.names) < NAMES:
            framing.names[address] = tuple(dict.fromkeys((*before, *names)))[:NAMES_EACH]


# -- several files ----------------------------------------------------------------------------------------------


def chronological(paths: Sequence[str]) -> list[int]:
    """Indexes of the files by the time of their first packets; files that tell none stay behind, as given."""
    if list(paths).count("-") > 1:
        raise CaptureError("-", "standard input can be read only once")
    if len(paths) < 2:
        return list(range(len(paths)))
    times = [first_time(path) for path in paths]
    return sorted(range(len(paths)), key=lambda index: (times[index] is None, times[index] or 0, index))


def first_time(path: str) -> int | None:
    """Time of a file's first packet in nanoseconds since the epoch, if its first 64 KiB tell it.

    ``None`` for what can be read only once: standard input, a pipe.
    """
    try:
        if path == "-" or stat.S_ISFIFO(Path(path).stat().st_mode):
            return None
    except OSError as error:
        raise CaptureError(path, worded(error)) from None
    source = Source(path)
    try:
        start = source.peek()
    finally:
        source.close()
    framing, at = recognise(path, start)
    order = framing.order
    if framing.format != "pcapng":
        at += 16 if framing.format == "snoop" else 0
        if at + 8 > len(start):
            return None
        seconds, fraction = (int.from_bytes(start[at + i : at + i + 4], order) for i in (0, 4))
        return seconds * 10**9 + fraction * framing.interfaces[0].ticks[0]
    while at + 12 <= len(start):
        size = block_size(framing, start[at : at + 12])
        if size is None or at + size > len(start):
            return None
        order = framing.order
        kind = int.from_bytes(start[at : at + 4], order)
        if kind in (2, 6) and size >= SHORTEST[kind]:
            number, high, low = (int.from_bytes(start[at + i : at + i + 4], order) for i in (8, 12, 16))
            if kind == 2:
                number = int.from_bytes(start[at + 8 : at + 10], order)
            if number >= len(framing.interfaces):
                return None
            return framing.interfaces[number].nanoseconds(high << 32 | low)
        if kind != 3:
            read_block(framing, start[at : at + size])
        at += size
    return None
