"""Decompression of capture files: gzip, bzip2, xz, zstd and lz4, with bounded memory."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Protocol, cast

MAX_WINDOW = 1 << 27
"""Bytes of window that compressed data may demand: zstd's own limit, and twice what ``xz -9`` needs."""


class DamageError(Exception):
    """Compressed data that cannot be decompressed any further. The text is a predicate: "are damaged: …"."""


class Decompressor(Protocol):
    """The interface of the standard library's decompressors. One object per member, stream or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class GzipDecompressor:
    """zlib's decompressor of one gzip member (RFC 1952) with the interface of the others."""

    def __init__(self) -> None:
        self.zlib = zlib.decompressobj(wbits=31)
        self.full = False
        """The last piece had the maximum length: zlib may hold more output."""

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


def xz_decompressor() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW)


def zstd_decompressor() -> Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW.bit_length() - 1})


def lz4_decompressor() -> Decompressor:
    from lz4.frame import LZ4FrameDecompressor

    return cast(Decompressor, LZ4FrameDecompressor())


DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "gzip": GzipDecompressor,
    "bzip2": bz2.BZ2Decompressor,
    "xz": xz_decompressor,
    "zstd": zstd_decompressor,
    "lz4": lz4_decompressor,
}

MAGIC_NUMBERS = {
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
"""First bytes of compressed data → compression, be it one of :data:`DECOMPRESSORS` or not."""
SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18"
"""Magic number of a skippable frame of zstd and of lz4; the low half of its first byte may have any value."""


def detect_compression(start: bytes) -> str | None:
    """The compression that the first bytes of a file announce."""
    return next((name for magic, name in MAGIC_NUMBERS.items() if start.startswith(magic)), None)


class DecompressedStream:
    """The content of compressed data: all members, streams or frames, one after the other.

    Holds the decompressor's window and two pieces in memory, whatever the size of the content.
    """

    MAX_EXPANSION, FREE_EXPANSION = 200, 1 << 28
    """Data may expand to this many times their size plus this many bytes. More is a decompression bomb."""

    PIECE = 1 << 15
    """Bytes that are fed to the decompressor, and taken from it, at a time. Damage in the middle costs so much
    content."""

    def __init__(self, read: Callable[[int], bytes], create: Callable[[], Decompressor], start: bytes) -> None:
        """``read`` returns the next compressed bytes, ``create`` a new decompressor; ``start`` was read before."""
        self.read = read
        self.create = create
        self.decompressor = create()
        self.start = start
        self.pending = memoryview(b"")
        """Content that nobody took yet."""
        self.allowance = self.FREE_EXPANSION
        """Bytes of content that may still follow."""

    def read_compressed(self) -> bytes:
        """The next compressed bytes, empty at their end."""
        data = self.read(self.PIECE)
        self.allowance += self.MAX_EXPANSION * len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of a buffer; 0 at the end. Raises :class:`DamageError`."""
        while not self.pending:
            data = self.next_input()
            if data is None:
                return 0
            try:
                self.pending = memoryview(self.decompressor.decompress(data, self.PIECE))
            except Exception as error:  # every library raises its own exceptions; all of them are about the data
                if "memory" in str(error).lower():
                    raise DamageError(f"demand more than {MAX_WINDOW >> 20} MiB of memory for unpacking") from None
                raise DamageError(f"are damaged: {' '.join(str(error).split())}") from None
            self.allowance -= len(self.pending)
        count = min(len(self.pending), len(buffer))
        buffer[:count] = self.pending[:count]
        self.pending = self.pending[count:]
        return count

    def next_input(self) -> bytes | None:
        """Input for the decompressor, empty if it needs none. ``None``: all is decompressed."""
        if self.allowance < 0:
            raise DamageError(f"unpack to more than {self.MAX_EXPANSION} times their size")
        if self.decompressor.eof:
            rest = self.decompressor.unused_data or self.read_compressed()
            while rest and not (member := bytes(rest).lstrip(b"\0")):  # padding of tapes and of xz
                rest = self.read_compressed()
            if not rest:
                return None
            self.decompressor = self.create()
            return member
        if not self.decompressor.needs_input:
            return b""
        data = self.start or self.read_compressed()
        self.start = b""
        if not data:
            raise DamageError("are damaged: they end too early")
        return data
