"""Kept payload: pieces of it in the arena, and the heads of TCP streams. Limits are per direction."""

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
    HEAD_LIMITS,
    MAX_HEAD_PIECES,
)
from analyzer.scanner.integers import distance
from analyzer.scanner.jit import Buffer, Number, Record, compiled

MAX_FTP_PIECES = 8 * MAX_HEAD_PIECES
"""Maximum frames of the head of an FTP control connection: its commands and replies are short."""

APPLICATION_DATA_BYTES = 32
"""Bytes kept of the first TLS record of application data: its header is evidence enough."""


@compiled
def classify_content(data: Buffer, begin: Number, packet: Record, size: Number) -> Number:
    """What ``size`` bytes of payload, at least 1, look like, as one of CONTENT_*."""
    first = data[begin]
    second = data[begin + 1] if size > 1 else np.uint8(0)
    if (packet.source_port == 21 or packet.destination_port == 21) and first < 0x80 and first != 22:
        return CONTENT_FTP
    # A record of SSL 3.0 to TLS 1.3, or an SSL 2.0 hello, whose length has the highest bit set.
    if (20 <= first <= 23 and second == 3) or (first >= 0x80 and size > 2 and data[begin + 2] == 1):
        return CONTENT_TLS
    if first == 0x68 or first == 0x69:
        return CONTENT_IEC104
    if size > 3 and first == 0x53 and second == 0x53 and data[begin + 2] == 0x48:  # "SSH"
        return CONTENT_SSH
    if size > 3 and 0x31 <= first <= 0x35 and 0x30 <= second <= 0x39 and data[begin + 3] in (0x20, 0x2D):
        return CONTENT_FTP  # a reply: three digits, then a space or a hyphen
    if 0x20 <= first < 0x7F:
        return CONTENT_TEXT
    return CONTENT_OTHER


@compiled
def has_room(state: Record) -> Number:
    """Whether more payload may be kept; if not, the packet is counted as one whose payload was dropped."""
    room = state.pieces < state.pieces_limit and state.arena < state.arena_limit
    if not room:
        state.payload_dropped += 1
    return room


@compiled
def store_piece(data: Buffer, begin: Number, count: Number, pieces: Any, arena: Any, state: Record) -> Number:
    """Copy bytes to the arena; returns the index of a new piece for them. The caller has made room for both."""
    offset = state.arena
    if begin < 0 or count < 0 or begin + count > len(data) or offset + count > len(arena):
        raise IndexError
    # After this check, and with indices that cannot be negative, no byte needs its own: many are copied at a time.
    source, target = np.uint64(begin), np.uint64(offset)
    for index in range(np.uint64(count)):
        arena[target + index] = data[source + index]
    state.arena = offset + count
    piece = state.pieces
    state.pieces = piece + 1
    pieces[piece].arena = offset
    pieces[piece].kept = count
    return piece


@compiled
def describe_piece(
    piece: Record, packet: Record, state: Record, flow_index: Number, sender: Number, offset: Number, error: Number
) -> None:
    """Fill the other fields of a piece."""
    piece.frame = packet.frame
    piece.time = packet.time
    piece.capture = state.capture
    piece.flow = flow_index
    piece.side = sender
    piece.offset = offset
    piece.length = packet.length
    piece.error = error


@compiled
def keep_segment(
    data: Buffer,
    packet: Record,
    flow: Record,
    side: Record,
    flow_index: Number,
    sender: Number,
    pieces: Any,
    arena: Any,
    state: Record,
) -> None:
    """Keep the part of a TCP segment that extends the head of its direction."""
    begin = packet.payload
    captured = min(packet.length, packet.end - begin)
    offset = distance(packet.sequence, side.base)
    if offset < 0:
        begin -= offset
        captured += offset
        offset = np.int64(0)
    if captured <= 0 or offset + captured <= side.contiguous:
        return
    if flow.content <= CONTENT_OTHER or flow.content == CONTENT_TEXT:
        if 0 < offset < len(side.opening) and offset == side.contiguous and side.begins:
            size = note_opening(data, begin, offset, captured, side)
            kind = classify_content(side.opening, 0, packet, size)
            if kind > CONTENT_OTHER:  # a longer beginning tells more
                flow.content = kind
        else:
            if offset == 0:
                note_opening(data, begin, offset, captured, side)
            flow.content = max(flow.content, classify_content(data, packet.payload, packet, captured))
    limit = HEAD_LIMITS[flow.content]
    max_pieces = MAX_FTP_PIECES if flow.content == CONTENT_FTP else MAX_HEAD_PIECES
    if offset >= limit or side.pieces >= max_pieces or side.kept >= 2 * limit:
        side.closed = side.pieces >= max_pieces or side.kept >= 2 * limit
        return
    if not has_room(state):
        return
    captured = min(captured, limit - offset)
    if flow.content == CONTENT_TLS and offset == side.contiguous:
        if is_application_data(data, begin, captured):
            captured = min(captured, APPLICATION_DATA_BYTES)
            side.closed = 1
            side.protected = 1
        elif data[begin] == 20 and captured > 8 and is_application_data(data, begin + 6, captured - 6):
            side.protected = 1  # Finished of TLS 1.3, after ChangeCipherSpec in one segment
    index = store_piece(data, begin, captured, pieces, arena, state)
    describe_piece(pieces[index], packet, state, flow_index, sender, offset, 0)
    side.pieces += 1
    side.kept += captured
    if offset <= side.contiguous:
        side.contiguous = offset + captured


@compiled
def note_opening(data: Buffer, begin: Number, offset: Number, captured: Number, side: Record) -> Number:
    """Keep the first bytes of a head, which may come in several segments; returns how many are there."""
    size = min(offset + captured, len(side.opening))
    for index in range(offset, size):
        side.opening[index] = data[begin + index - offset]
    return size


@compiled
def is_application_data(data: Buffer, offset: Number, size: Number) -> Number:
    """Whether a TLS record of application data begins at ``offset``, of which there are ``size`` bytes."""
    return size > 2 and data[offset] == 23 and data[offset + 1] == 3 and data[offset + 2] <= 4
