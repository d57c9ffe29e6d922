"""TLS and SSH over the whole TCP stream: record headers, and samples of what they should encrypt.

Of TLS every record header is read (RFC 8446, section 5.1), far beyond the kept head. After bytes that the capture
lacks, and after a framing break, the next record is searched for; until several have followed it, nothing is held
against the sender. Ciphertext is sampled: half of its bytes have the highest bit set, and no part of it reads as text.
The lengths of SSH's packets are encrypted; its streams are sampled where everything is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    CLEAR_BYTES,
    CLEAR_CONTENT,
    CLEAR_TEXT,
    CONFIRMING_RECORDS,
    CONTENT_SSH,
    HEAD_LIMITS,
    HEARTBEAT_RECORD,
    MAX_EVENTS,
    MAX_LOST_BYTES,
    MAX_RECORD_BYTES,
    RECORD_BREAK,
    RECORD_LOST,
    RECORD_SHORT,
    SHORTEST_CIPHERTEXT,
)
from analyzer.scanner.integers import distance, u16, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import record_event

CHANGE_CIPHER_SPEC, APPLICATION_DATA, HEARTBEAT = 20, 23, 24
"""Content types (RFC 8446, appendix B.1; RFC 6520)."""
HEADER_BYTES = 5
NONCE_BYTES = 8
"""Bytes at the beginning of a record that may be a counter in clear (RFC 5288, section 3)."""
SAMPLE_BYTES = 48
"""Bytes sampled of a record, and of a segment that continues one; a multiple of eight."""
TEXT_BYTES = 32
"""Bytes of text that no ciphertext holds by chance: one byte in three is printable, and 32 in a row once in 10**13."""
VERDICT_BYTES = 1024
"""Bytes sampled after which their highest bits are judged, so that much ciphertext does not hide what follows it."""
MAX_STRAY_TEXTS, MAX_EARLY_TEXTS = 3, 15
"""Samples of text that may stand outside of records that are read: those of segments that come late or again, after and
before anything was encrypted. A certificate holds addresses, which may fill a sample."""
HIGHEST_BITS = np.uint64(0x8080808080808080)


@compiled
def track_secure(
    data: Buffer, packet: Record, flow: Record, sides: Any, sender: Number, streams: Any, events: Any, state: Record
) -> None:
    """Read a segment of the TLS or SSH connection ``state.flow``."""
    if flow.secure < 0:
        flow.secure = state.secure_streams
        state.secure_streams += 2
    stream = streams[flow.secure + sender]
    side = sides[2 * state.flow + sender]
    captured = min(packet.length, packet.end - packet.payload)
    if captured <= 0 or stream.skipped:
        return
    origin = packet.frame, packet.time, state.capture
    if flow.content == CONTENT_SSH:
        offset = distance(packet.sequence, side.base)
        if offset >= HEAD_LIMITS[CONTENT_SSH]:
            stream.protected = 1
            sample(data, packet.payload, captured, offset, True, stream, origin, sender, events, state)
        return
    if not stream.based:
        begin_stream(data, packet, side, stream)
        if stream.skipped:
            return
    early = distance(packet.sequence, stream.next)
    if early > 0:
        lose_framing(stream)
        stream.missing += early
        stream.offset += early
        stream.next = packet.sequence
        early = np.int64(0)
    before = min(-early, captured)  # bytes of the segment before the next record header
    if before > 0 and (stream.kind == APPLICATION_DATA or not stream.synchronised):
        offset = stream.offset + early
        inside = stream.synchronised and distance(packet.sequence, stream.began) >= 0
        sample(data, packet.payload, before, offset, inside, stream, origin, sender, events, state)
    if before < captured:
        read_records(data, packet.payload + before, packet.payload + captured, stream, origin, sender, events, state)
        if not stream.synchronised and captured < packet.length:
            stream.lost = 0


@compiled
def begin_stream(data: Buffer, packet: Record, side: Record, stream: Record) -> None:
    """Start to read a direction with a segment."""
    stream.based = 1
    stream.next = packet.sequence
    stream.offset = distance(packet.sequence, side.base)
    if side.begins and stream.offset < len(side.opening) and stream.offset <= side.contiguous:
        stream.synchronised = 1
        for index in range(stream.offset):
            stream.header[index] = side.opening[index]
        stream.have = stream.offset
        first = side.opening[0] if stream.offset else data[packet.payload]
        stream.skipped = first >= 0x80  # SSL 2.0
    else:
        stream.unconfirmed = CONFIRMING_RECORDS


@compiled
def lose_framing(stream: Record) -> None:
    """Search for the next record; what it says counts once others have followed it."""
    stream.synchronised = 0
    stream.unconfirmed = CONFIRMING_RECORDS
    stream.have = 0
    stream.lost = 0


@compiled
def read_records(
    data: Buffer, begin: Number, end: Number, stream: Record, origin: Any, sender: Number, events: Any, state: Record
) -> None:
    """Read the record headers in ``data[begin:end]``, which continue the stream at its next header."""
    position = np.int64(begin)
    while position < end:
        if not stream.synchronised:
            found = find_record(data, position, end)
            offset = stream.offset + position - begin
            sample(data, position, found - position, offset, False, stream, origin, sender, events, state)
            lose_bytes(found - position, stream, offset, origin, sender, events, state)
            position = found
            if found == end:
                break
            stream.synchronised = 1
            stream.lost = 0
        while stream.have < HEADER_BYTES and position < end:
            stream.header[stream.have] = data[position]
            stream.have += 1
            position += 1
        if stream.have < HEADER_BYTES:
            break
        stream.began = np.uint32(stream.next + np.uint32(position - begin))
        offset = stream.offset + position - begin
        position += read_header(data, position, end, offset, stream, origin, sender, events, state)
    stream.next = np.uint32(stream.next + np.uint32(position - begin))
    stream.offset += position - begin


@compiled
def read_header(
    data: Buffer,
    content: Number,
    end: Number,
    offset: Number,
    stream: Record,
    origin: Any,
    sender: Number,
    events: Any,
    state: Record,
) -> Number:
    """Check a complete record header, and sample the content after it; returns the length of that.

    ``content``: where the content begins in ``data``; ``offset``: where it does in the stream.
    """
    stream.have = 0
    kind = np.int64(stream.header[0])
    version = np.int64(stream.header[1]) << 8 | np.int64(stream.header[2])
    length = np.int64(stream.header[3]) << 8 | np.int64(stream.header[4])
    if not is_header(kind, version, length):
        if stream.unconfirmed == 0:
            stream.breaks += 1
            if stream.breaks <= MAX_EVENTS:
                value = kind << 32 | version << 16 | length
                record_event(state.flow, sender, RECORD_BREAK, origin, offset - HEADER_BYTES, value, 0, events, state)
        lose_framing(stream)
        return np.int64(0)
    if stream.unconfirmed:
        stream.unconfirmed -= 1
    stream.kind = kind
    if kind == CHANGE_CIPHER_SPEC:
        stream.protected = 1
    elif kind == HEARTBEAT and stream.unconfirmed == 0:
        stream.heartbeats += 1
        if stream.heartbeats <= MAX_EVENTS:
            record_event(state.flow, sender, HEARTBEAT_RECORD, origin, offset, length, 0, events, state)
    elif kind == APPLICATION_DATA:
        stream.protected = 1
        if 0 < length < SHORTEST_CIPHERTEXT and stream.unconfirmed == 0:
            stream.short += 1
            if stream.short <= MAX_EVENTS:
                record_event(state.flow, sender, RECORD_SHORT, origin, offset, length, 0, events, state)
        sample(data, content, min(length, end - content), offset, True, stream, origin, sender, events, state)
    return length


@compiled
def is_header(kind: Number, version: Number, length: Number) -> Number:
    """Whether the fields of a record header are valid in any version of TLS."""
    return CHANGE_CIPHER_SPEC <= kind <= HEARTBEAT and 0x0300 <= version <= 0x0304 and length <= MAX_RECORD_BYTES


@compiled
def find_record(data: Buffer, begin: Number, end: Number) -> Number:
    """Where the next bytes that look like a record header begin; the end if there are none."""
    for place in range(begin, end - HEADER_BYTES + 1):
        if data[place + 1] == 3 and CHANGE_CIPHER_SPEC <= data[place] <= HEARTBEAT:
            length = u16(data, place + 3)
            if data[place + 2] <= 4 and 0 < length <= MAX_RECORD_BYTES:
                return np.int64(place)
    return np.int64(end)


@compiled
def lose_bytes(
    count: Number, stream: Record, offset: Number, origin: Any, sender: Number, events: Any, state: Record
) -> None:
    """Count captured bytes in which no record begins."""
    stream.unread += count
    before = stream.lost
    stream.lost += count
    if before <= MAX_LOST_BYTES < stream.lost:
        stream.losses += 1
        if stream.losses <= MAX_EVENTS:
            record_event(state.flow, sender, RECORD_LOST, origin, offset, stream.lost, 0, events, state)


@compiled
def sample(
    data: Buffer,
    begin: Number,
    count: Number,
    offset: Number,
    framed: Number,
    stream: Record,
    origin: Any,
    sender: Number,
    events: Any,
    state: Record,
) -> None:
    """Sample bytes that should be ciphertext. ``framed``: they are in a record of application data, or SSH's."""
    size = min(count - NONCE_BYTES, SAMPLE_BYTES) & ~7
    if size <= 0:
        return
    begin += NONCE_BYTES
    high = np.int64(0)
    for place in range(begin, begin + size, 8):
        bits = (u64(data, place) & HIGHEST_BITS) >> np.uint64(7)
        high += np.int64(bits * np.uint64(0x0101010101010101) >> np.uint64(56))
    clear = np.int64(-1)
    if high == 0 and size >= TEXT_BYTES and is_text(data, begin, size):
        if stream.texts < 255:
            stream.texts += 1
        if framed or stream.texts > (MAX_STRAY_TEXTS if stream.protected else MAX_EARLY_TEXTS):
            clear = np.int64(CLEAR_TEXT)
    if framed:
        stream.sampled += size
        stream.high += high
        if stream.sampled >= VERDICT_BYTES:
            if clear < 0 and np.int64(stream.high) * 5 < np.int64(stream.sampled):
                clear = np.int64(CLEAR_BYTES)
            stream.sampled = 0
            stream.high = 0
    if clear >= 0:
        stream.clear += 1
        if stream.clear <= MAX_EVENTS:
            record_event(state.flow, sender, CLEAR_CONTENT, origin, offset, clear, 0, events, state)


@compiled
def is_text(data: Buffer, begin: Number, count: Number) -> Number:
    """Whether bytes are printable ASCII, tabulators and line ends."""
    for place in range(begin, begin + count):
        byte = data[place]
        if not (0x20 <= byte < 0x7F or byte == 0x09 or byte == 0x0A or byte == 0x0D):
            return False
    return True
