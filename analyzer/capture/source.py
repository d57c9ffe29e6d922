"""The bytes of a capture file: opened, decompressed, and read ahead in blocks."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from analyzer.capture.compression import (
    DECOMPRESSORS,
    SKIPPABLE_FRAME,
    DamageError,
    DecompressedStream,
    detect_compression,
)
from analyzer.capture.model import PEEK_BYTES, CaptureError


class Source:
    """The content of one capture file, decompressed, in order."""

    def __init__(self, path: str) -> None:
        """Open a file; ``-``: standard input. Raises :class:`CaptureError`."""
        self.path = path
        self.consumed = 0
        """Bytes read from the file itself."""
        self.failure: tuple[str, int] | None = None
        """Reason and offset of the error that ended reading. Not the exception itself, whose traceback keeps
        buffers alive."""
        self.decompressed: DecompressedStream | None = None
        self.lookahead = memoryview(b"")
        """Content that was read, but not consumed."""
        if path == "-" and sys.stdin is None:
            raise CaptureError(path, "standard input is closed")
        try:
            self.file: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb", buffering=0)  # noqa: SIM115
            start = self.read_start()
        except OSError as error:
            raise CaptureError(path, os_error_reason(error)) from None
        self.compression = detect_compression(start)
        if self.compression is None:
            self.lookahead = memoryview(start)
        elif self.compression in DECOMPRESSORS:
            self.decompressed = DecompressedStream(self.read_file, DECOMPRESSORS[self.compression], start)
        else:
            raise CaptureError(path, f"is compressed with {self.compression}, which is not supported: unpack it first")

    def read_start(self) -> bytes:
        """The first bytes of the file, after any skippable frames of zstd or lz4."""
        while True:
            start = self.read_fully(6)
            if start[1:4] != SKIPPABLE_FRAME[1:] or start[0] & 0xF0 != SKIPPABLE_FRAME[0]:
                return start
            start += self.read_fully(2)
            left = int.from_bytes(start[4:8], "little")
            while left and (part := self.read_file(min(left, PEEK_BYTES))):
                left -= len(part)

    def read_fully(self, count: int) -> bytes:
        """``count`` bytes of the file itself, fewer only at its end."""
        parts = b""
        while len(parts) < count and (part := self.read_file(count - len(parts))):
            parts += part
        return parts

    def read_file(self, count: int) -> bytes:
        """Up to ``count`` bytes of the file itself, empty at its end."""
        part = self.file.read(count)
        self.consumed += len(part)
        return part

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of a buffer; 0 at the end.

        Raises :class:`CaptureError` once nothing more can be read; the content before the damage comes first.
        """
        if self.lookahead:
            count = min(len(self.lookahead), len(buffer))
            buffer[:count] = self.lookahead[:count]
            self.lookahead = self.lookahead[count:]
            return count
        if self.failure is not None:
            raise CaptureError(self.path, *self.failure)
        try:
            if self.decompressed is not None:
                return self.decompressed.readinto(buffer)
            count = self.file.readinto(buffer)  # type: ignore[attr-defined]
        except OSError as error:
            self.failure = os_error_reason(error), self.consumed
        except DamageError as error:
            self.failure = f"{self.compression} data {error}", self.consumed
        else:
            self.consumed += count
            return cast(int, count)
        raise CaptureError(self.path, *self.failure)

    def peek(self, count: int = PEEK_BYTES) -> bytes:
        """The first bytes, without consuming them; fewer only if the file is shorter. Raises as :meth:`readinto`."""
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
        self.lookahead = memoryview(bytes(start[:filled]))
        return bytes(self.lookahead)

    def is_larger(self, size: int) -> bool:
        """Whether it is a regular file of more than ``size`` bytes."""
        if self.path == "-":
            return False
        status = os.fstat(self.file.fileno())
        return stat.S_ISREG(status.st_mode) and status.st_size > size

    def close(self) -> None:
        self.decompressed = None  # breaks a reference cycle; its window may be large
        if self.path != "-":
            self.file.close()


Bytes = npt.NDArray[np.uint8]


class Blocks:
    """The content of a source in blocks, each with the unconsumed end of the one before it in front.

    A thread reads one block ahead, if the file is large or compressed. A pipe is read without a thread, so that an
    interrupt takes effect at once.
    """

    def __init__(self, source: Source, size: int) -> None:
        """``size``: maximum bytes of a block."""
        self.source = source
        self.size = size
        self.ahead = source.compression is not None or source.is_larger(size)
        # The first half of an array is room for the unconsumed end of the block before.
        self.current = np.zeros(2 * size, np.uint8)
        self.free: SimpleQueue[Bytes | None] = SimpleQueue()
        self.filled: SimpleQueue[tuple[Bytes, int] | Exception] = SimpleQueue()
        for _ in range(1 + self.ahead):
            self.free.put(np.zeros(2 * size, np.uint8))
        self.thread: Thread | None = None

    def fill_all(self) -> None:
        """Read until the end, an error, or :meth:`__exit__`."""
        while self.fill():
            pass

    def fill(self) -> bool:
        """Read the next block into a free array. Returns whether another block may follow."""
        buffer = self.free.get()
        if buffer is None:
            return False
        try:
            count = self.source.readinto(buffer[self.size :].data)
        except Exception as error:  # raised again by the thread that waits for the block
            self.filled.put(error)
            return False
        self.filled.put((buffer, count))
        return count > 0

    def receive(self) -> tuple[Bytes, int] | Exception:
        """The next array with the number of bytes read into its second half, or the error that ended reading."""
        if not self.ahead:
            self.fill()
        return self.filled.get()

    def next_block(self, rest: Bytes) -> tuple[Bytes, int, int]:
        """``rest``, the unconsumed end of the last block, and the next block after it.

        Returns an array, and in it the offset of the first byte and the end offset (exclusive). At the end of the
        source nothing follows ``rest``. Raises as :meth:`Source.readinto`. Must not be called after an error or the
        end.
        """
        received = self.receive()
        if isinstance(received, Exception):
            try:
                raise received
            finally:
                del received  # breaks the reference cycle of the error and this frame
        buffer, count = received
        start, end = self.size - len(rest), self.size + count
        if start >= 0:
            buffer[start : self.size] = rest
            block = buffer
        else:  # a record larger than a block
            block = np.concatenate((rest, buffer[self.size : end]))
            start, end = 0, len(block)
        self.free.put(self.current)
        self.current = buffer
        return block, start, end

    def first_block(self, header: int) -> tuple[Bytes, int, int]:
        """The first block without the ``header`` bytes at its beginning; otherwise as :meth:`next_block`."""
        buffer, start, end = self.next_block(np.zeros(0, np.uint8))
        while end - start < header:
            buffer, start, end = self.next_block(buffer[start:end])
        return buffer, start + header, end

    def drain(self) -> int:
        """Read to the end, or to an error, and return the number of bytes."""
        total = 0
        while not isinstance(received := self.receive(), Exception) and received[1]:
            total += received[1]
            self.free.put(received[0])
        return total

    def __enter__(self) -> Blocks:
        if self.ahead:
            self.thread = Thread(target=self.fill_all, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.thread:
            self.free.put(None)
            self.thread.join(1)  # seconds; the thread may wait for a pipe that never ends
            self.thread = None  # breaks a reference cycle


def os_error_reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
