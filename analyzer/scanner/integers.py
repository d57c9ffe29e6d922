"""Integers in packets and in the headers of capture files, at any offset."""

from __future__ import annotations

from typing import Any

from analyzer.scanner.jit import Buffer, Integer, Number, compiled

u16: Any = Integer(2, big_endian=True)
u32: Any = Integer(4, big_endian=True)
u64: Any = Integer(8, big_endian=True)
little16: Any = Integer(2, big_endian=False)
little32: Any = Integer(4, big_endian=False)


@compiled
def u48(b: Buffer, at: Number) -> Number:
    return u16(b, at) << 32 | u32(b, at + 2)


@compiled
def host16(b: Buffer, at: Number, little: bool) -> Number:
    """A 16-bit number of the file's own byte order."""
    return little16(b, at) if little else u16(b, at)


@compiled
def host32(b: Buffer, at: Number, little: bool) -> Number:
    """A 32-bit number of the file's own byte order."""
    return little32(b, at) if little else u32(b, at)
