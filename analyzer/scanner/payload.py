"""Which payload is kept: the heads of TCP streams, and the first datagrams of everything else."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    CONTENT_FTP,
    CONTENT_IEC104,
    CONTENT_OTHER,
    CONTENT_SSH,
    CONTENT_TEXT,
    CONTENT_TLS,
    DATAGRAM_BYTES,
    DATAGRAMS,
    DATAGRAMS_BYTES,
    DATAGRAMS_RESERVE,
    ECHO_REPETITIONS,
    ECHO_VARIANTS,
    ESP_BYTES,
    ESP_PACKETS,
    FOLLOW_ESP,
    HEAD_LIMITS,
    HEAD_PIECES,
    ICMP,
    ICMPV6,
    NTP_REPETITIONS,
    NTP_VARIANTS,
    UDP,
)
from analyzer.scanner.esp import carries_esp
from analyzer.scanner.jit import Buffer, Number, Record, compiled


@compiled
def content_of(b: Buffer, p: Record, size: Number) -> Number:
    """What the first payload of a TCP conversation looks like."""
    first = b[p.payload]
    second = b[p.payload + 1] if size > 1 else np.uint8(0)
    if (p.source_port == 21 or p.destination_port == 21) and first < 0x80 and first != 22:
        return CONTENT_FTP
    if (20 <= first <= 23 and second == 3) or (first >= 0x80 and size > 2 and b[p.payload + 2] == 1):
        return CONTENT_TLS
    if first == 0x68 or first == 0x69:
        return CONTENT_IEC104
    if size > 3 and first == 0x53 and second == 0x53 and b[p.payload + 2] == 0x48:
        return CONTENT_SSH
    if size > 3 and 0x31 <= first <= 0x35 and 0x30 <= second <= 0x39 and b[p.payload + 3] in (0x20, 0x2D):
        return CONTENT_FTP  # a three-digit reply
    if 0x20 <= first < 0x7F:
        return CONTENT_TEXT
    return CONTENT_OTHER


@compiled
def has_room(clock: Record) -> Number:
    """Whether more payload may be kept; the packet is counted if not."""
    room = clock.pieces < clock.pieces_limit and clock.arena < clock.arena_limit
    if not room:
        clock.unkept += 1
    return room


@compiled
def store(b: Buffer, begin: Number, count: Number, pieces: Any, arena: Any, clock: Record) -> Number:
    """Copy bytes into the arena and take the next piece; the caller made sure of the room."""
    offset = clock.arena
    for each in range(count):
        arena[offset + each] = b[begin + each]
    clock.arena = offset + count
    index = clock.pieces
    clock.pieces = index + 1
    pieces[index].arena = offset
    pieces[index].kept = count
    return index


@compiled
def describe(
    piece: Record, p: Record, clock: Record, flow: Number, side: Number, offset: Number, error: Number
) -> None:
    piece.frame = p.frame
    piece.time = p.time
    piece.capture = clock.capture
    piece.flow = flow
    piece.side = side
    piece.offset = offset
    piece.length = p.length
    piece.error = error


@compiled
def keep_stream(
    b: Buffer, p: Record, f: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> None:
    """Keep the part of a TCP segment that lengthens the head of its direction."""
    begin = p.payload
    captured = min(p.length, p.end - begin)
    offset = np.int64(np.int32(np.uint32(p.sequence - s.base)))
    if offset < 0:
        begin -= offset
        captured += offset
        offset = np.int64(0)
    if captured <= 0 or offset + captured <= s.contiguous:
        return
    if f.content <= CONTENT_OTHER or f.content == CONTENT_TEXT:
        f.content = max(f.content, content_of(b, p, captured))
    limit = HEAD_LIMITS[f.content]
    most = HEAD_PIECES * 8 if f.content == CONTENT_FTP else HEAD_PIECES
    if offset >= limit or s.pieces >= most or s.kept >= 2 * limit:
        s.closed = s.pieces >= most or s.kept >= 2 * limit
        return
    if not has_room(clock):
        return
    captured = min(captured, limit - offset)
    application_data = captured > 2 and b[begin] == 23 and b[begin + 1] == 3 and b[begin + 2] <= 4
    if f.content == CONTENT_TLS and application_data and offset == s.contiguous:
        captured = min(captured, 32)  # application data begins: one record's header is evidence enough
        s.closed = 1
    index = store(b, begin, captured, pieces, arena, clock)
    describe(pieces[index], p, clock, flow, side, offset, 0)
    s.pieces += 1
    s.kept += captured
    if offset <= s.contiguous:
        s.contiguous = offset + captured


@compiled
def echo_room(b: Buffer, p: Record, s: Record, captured: Number) -> Number:
    """Datagrams up to which an ICMP message is kept: endless pings of one length say nothing new, all else does."""
    kind = b[p.payload]
    asks = kind == 8 or kind == 0 if p.protocol == ICMP else kind == 128 or kind == 129
    if not asks or captured < 8 or b[p.payload + 1] != 0:
        return DATAGRAMS
    for each in range(len(s.lengths)):
        if s.lengths[each] == p.length:
            return ECHO_REPETITIONS
        if s.lengths[each] == 0:
            if s.pieces < ECHO_VARIANTS:
                s.lengths[each] = p.length
            break
    return ECHO_VARIANTS


@compiled
def time_room(b: Buffer, p: Record, captured: Number) -> Number:
    """Datagrams up to which one on NTP's port is kept: endless questions, and answers of a clock that is set, say
    nothing new; a kiss-o'-death or an authenticator may, a control message does (RFC 5905 section 7.3)."""
    if captured < 2 or p.length < 48:
        return DATAGRAMS
    first, stratum = b[p.payload], b[p.payload + 1]
    version, mode = first >> 3 & 7, first & 7
    if mode < 3 or mode > 4 or version < 3 or version > 4:
        return DATAGRAMS
    answers = first >> 6 != 3 and 0 < stratum < 16
    return NTP_REPETITIONS if p.length == 48 and (mode == 3 or answers) else NTP_VARIANTS


@compiled
def keep_datagram(
    b: Buffer, p: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> Number:
    """Keep a datagram of anything but TCP, within its direction's limits; returns what is to follow it (FOLLOW_*)."""
    begin = p.payload
    captured = min(p.length, p.end - begin)
    limit = DATAGRAM_BYTES
    most = DATAGRAMS
    further = 0
    if carries_esp(b, p):
        limit = ESP_BYTES
        most = ESP_PACKETS
        if captured >= 8:
            further = FOLLOW_ESP
    if captured <= 0 or s.pieces >= most or s.kept >= DATAGRAMS_BYTES:
        return further
    if p.protocol == ICMP or p.protocol == ICMPV6:
        most = echo_room(b, p, s, captured)
    elif p.protocol == UDP and (p.source_port == 123 or p.destination_port == 123):
        most = time_room(b, p, captured)
    if s.pieces >= most or (most < DATAGRAMS and s.kept >= DATAGRAMS_BYTES - DATAGRAMS_RESERVE):
        return further
    if not has_room(clock):
        return further
    index = store(b, begin, min(captured, limit), pieces, arena, clock)
    describe(pieces[index], p, clock, flow, side, 0, 0)
    s.pieces += 1
    s.kept += min(captured, limit)
    return further
