"""Integers in packets and capture files, at any offset."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.jit import Buffer, Integer, Number, compiled

u16: Any = Integer(2, big_endian=True)
u32: Any = Integer(4, big_endian=True)
u64: Any = Integer(8, big_endian=True)
little16: Any = Integer(2, big_endian=False)
little32: Any = Integer(4, big_endian=False)


@compiled
def u48(data: Buffer, offset: Number) -> Number:
    return u16(data, offset) << 32 | u32(data, offset + 2)


@compiled
def host16(data: Buffer, offset: Number, little: bool) -> Number:
    """A 16-bit number in the byte order of the file."""
    return little16(data, offset) if little else u16(data, offset)


@compiled
def host32(data: Buffer, offset: Number, little: bool) -> Number:
    """A 32-bit number in the byte order of the file."""
    return little32(data, offset) if little else u32(data, offset)


@compiled
def distance(later: Number, earlier: Number) -> Number:
    """Bytes from one TCP sequence number to another, modulo 2**32; negative if they are the other way round."""
    return np.int64(np.int32(np.uint32(later - earlier)))
