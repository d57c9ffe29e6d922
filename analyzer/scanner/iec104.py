"""IEC 60870-5-104 over the whole TCP stream: which segments are read when, and where APDUs start in them.

Each direction of a link is read in the order of the stream. Early segments wait, up to a limit. After bytes that the
capture lacks, and after a framing break, reading resumes at the next segment that starts with an APDU.

In the signatures, ``origin`` is the (frame, time, capture) of the bytes, and ``tables`` are the arrays (LINK,
LINK_DIRECTION, REORDER, EVENT).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.apdu import check_apdu, count_apdu
from analyzer.scanner.columns import (
    CAPTURE_GAP,
    CONFIRMING_APDUS,
    CONTENT_IEC104,
    FRAMING_BREAK,
    INCOMPLETE,
    MAX_APDU_HEADER,
    MAX_EARLY_BYTES,
    MAX_EARLY_SEGMENTS,
    MAX_EVENTS,
    MAX_LINKS,
    UNTRACKED,
    VALID,
)
from analyzer.scanner.integers import distance
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import record_event

PORTS = (2404, 2504)
HEADER_ROOM = 32
"""Bytes of the arena for MAX_APDU_HEADER, rounded up."""


# -- segments ---------------------------------------------------------------------------------------------------


@compiled
def is_link(data: Buffer, packet: Record, flow: Record, state: Record) -> Number:
    """Whether to track an IEC 104 link from this segment on: by its first bytes, or by its port."""
    captured = min(packet.length, packet.end - packet.payload)
    if captured <= 0 or flow.tracking == UNTRACKED:
        return False
    found = flow.port0 in PORTS or flow.port1 in PORTS
    if not found and flow.content == CONTENT_IEC104:
        outcome, _, _, _ = check_apdu(data, packet.payload, captured)
        found = outcome <= VALID
    if found and state.links >= MAX_LINKS:
        flow.tracking = UNTRACKED
        return False
    return found


@compiled
def open_link(flow: Record, sides: Any, sender: Number, state: Record, tables: Any) -> None:
    """Start to track the flow ``state.flow`` as a link, from a segment of ``sender`` on."""
    links, directions, _, _ = tables
    link_index = state.links
    state.links = link_index + 1
    flow.tracking = link_index
    links[link_index].flow = state.flow
    links[link_index].startdt = -1
    for index in range(2):
        direction = directions[2 * link_index + index]
        side = sides[2 * state.flow + index]
        forget_sequence(direction)
        direction.first = -1
        if side.begins and side.pieces <= (1 if index == sender else 0):
            direction.next = side.base
            direction.based = 1
            direction.from_start = 1
            direction.synchronised = 1
            direction.expected = 0
            direction.received = 0


@compiled
def track_apdus(
    data: Buffer, packet: Record, flow: Record, sides: Any, sender: Number, arena: Any, state: Record, tables: Any
) -> None:
    """Read a segment of a link, or let it wait for the bytes before it."""
    _, directions, reorders, _ = tables
    if flow.tracking < 0:
        open_link(flow, sides, sender, state, tables)
    link_index = flow.tracking
    direction = directions[2 * link_index + sender]
    if not direction.based:
        direction.based = 1
        direction.next = packet.sequence
        direction.offset = distance(packet.sequence, sides[2 * state.flow + sender].base)
        direction.unconfirmed = CONFIRMING_APDUS
    length = packet.length
    kept = min(length, packet.end - packet.payload)
    origin = packet.frame, packet.time, state.capture
    early = distance(packet.sequence, direction.next)
    while early > 0:
        if buffer_early(data, packet.payload, kept, packet.sequence, length, origin, direction, arena, state, reorders):
            return
        if reorders[direction.reorder - 1].count:
            skip_gap(arena, link_index, sender, state, tables)
        else:  # it alone exceeds the buffer
            skip_bytes(early, link_index, sender, directions)
        early = distance(packet.sequence, direction.next)
    while early + length > 0:
        stop = length
        if direction.reorder:  # of overlapping bytes, the first to arrive win
            reorder = reorders[direction.reorder - 1]
            stop = first_overlap(reorder, reorder.count, packet.sequence, -early, stop)
        begin = packet.payload - early
        read_segment(
            data, begin, min(kept, stop) + early, stop + early, origin, link_index, sender, arena, state, tables
        )
        drain(arena, link_index, sender, state, tables)
        early = distance(packet.sequence, direction.next)


@compiled
def reorder_record(direction: Record, state: Record, reorders: Any) -> Record:
    """The REORDER of a direction, which gets one if it has none; the caller has made room for it."""
    if direction.reorder == 0:
        reorder = reorders[state.reorders]
        state.reorders += 1
        direction.reorder = state.reorders
        reorder.header = state.arena
        reorder.room = state.arena + HEADER_ROOM
        state.arena += HEADER_ROOM + MAX_EARLY_BYTES
    return reorders[direction.reorder - 1]


@compiled
def buffer_early(
    data: Buffer,
    begin: Number,
    kept: Number,
    sequence: Number,
    length: Number,
    origin: Any,
    direction: Record,
    arena: Any,
    state: Record,
    reorders: Any,
) -> Number:
    """Buffer an early segment; returns whether there is room for it."""
    reorder = reorder_record(direction, state, reorders)
    if reorder.count >= MAX_EARLY_SEGMENTS or reorder.used + kept > MAX_EARLY_BYTES:
        return False
    place = reorder.room + reorder.used
    for offset in range(kept):
        arena[place + offset] = data[begin + offset]
    index = reorder.count
    reorder.early_sequence[index] = sequence
    reorder.early_length[index] = length
    reorder.early_kept[index] = kept
    reorder.early_at[index] = place
    reorder.early_frame[index] = origin[0]
    reorder.early_time[index] = origin[1]
    reorder.early_capture[index] = origin[2]
    reorder.used += kept
    reorder.count = index + 1
    return True


@compiled
def first_overlap(reorder: Record, count: Number, sequence: Number, start: Number, stop: Number) -> Number:
    """Where the first of ``count`` buffered segments starts in the part from ``start`` to ``stop`` of a segment.

    ``stop`` if none does.
    """
    for index in range(count):
        offset = distance(reorder.early_sequence[index], sequence)
        if start < offset < stop:
            stop = offset
    return stop


@compiled
def skip_gap(arena: Any, link_index: Number, sender: Number, state: Record, tables: Any) -> None:
    """Take the bytes before the nearest of the buffered segments as lost, and go on with it."""
    _, directions, reorders, _ = tables
    direction = directions[2 * link_index + sender]
    reorder = reorders[direction.reorder - 1]
    nearest = np.int64(1) << 32
    for index in range(reorder.count):
        nearest = min(nearest, distance(reorder.early_sequence[index], direction.next))
    if nearest > 0:
        skip_bytes(nearest, link_index, sender, directions)
    drain(arena, link_index, sender, state, tables)


@compiled
def drain(arena: Any, link_index: Number, sender: Number, state: Record, tables: Any) -> None:
    """Read all buffered segments that are in order now, and remove those that are read."""
    _, directions, reorders, _ = tables
    direction = directions[2 * link_index + sender]
    if direction.reorder == 0 or reorders[direction.reorder - 1].count == 0:
        return
    reorder = reorders[direction.reorder - 1]
    index = 0
    while index < reorder.count:
        sequence = reorder.early_sequence[index]
        early = distance(sequence, direction.next)
        stop = np.int64(reorder.early_length[index])
        if early > 0 or early + stop <= 0:
            index += 1
            continue
        stop = first_overlap(reorder, index, sequence, -early, stop)
        kept = min(np.int64(reorder.early_kept[index]), stop)
        origin = reorder.early_frame[index], reorder.early_time[index], np.int64(reorder.early_capture[index])
        begin = reorder.early_at[index] - early
        read_segment(arena, begin, kept + early, stop + early, origin, link_index, sender, arena, state, tables)
        index = 0
    count = 0
    for index in range(reorder.count):
        if distance(reorder.early_sequence[index], direction.next) + reorder.early_length[index] <= 0:
            continue
        reorder.early_sequence[count] = reorder.early_sequence[index]
        reorder.early_length[count] = reorder.early_length[index]
        reorder.early_kept[count] = reorder.early_kept[index]
        reorder.early_at[count] = reorder.early_at[index]
        reorder.early_frame[count] = reorder.early_frame[index]
        reorder.early_time[count] = reorder.early_time[index]
        reorder.early_capture[count] = reorder.early_capture[index]
        count += 1
    reorder.count = count
    if count == 0:
        reorder.used = 0


@compiled
def read_segment(
    data: Buffer,
    begin: Number,
    kept: Number,
    length: Number,
    origin: Any,
    link_index: Number,
    sender: Number,
    arena: Any,
    state: Record,
    tables: Any,
) -> None:
    """Read the next bytes in order: ``kept`` bytes at ``begin``, of ``length`` that were sent."""
    _, directions, _, _ = tables
    if kept > 0:
        read_apdus(data, begin, kept, origin, link_index, sender, arena, state, tables)
    if length > max(kept, 0):
        skip_bytes(length - max(kept, 0), link_index, sender, directions)


@compiled
def skip_bytes(count: Number, link_index: Number, sender: Number, directions: Any) -> None:
    """Skip bytes that the capture lacks. If an APDU may start in them, framing and sequence numbers are lost."""
    direction = directions[2 * link_index + sender]
    direction.next = np.uint32(direction.next + np.uint32(count))
    direction.offset += count
    direction.missing += count
    if direction.synchronised and direction.header_bytes == 0 and direction.remaining >= count:
        direction.remaining -= count
        return
    direction.gaps += direction.synchronised
    direction.unconfirmed = CONFIRMING_APDUS
    forget_sequence(direction)
    direction.testing = 0
    directions[2 * link_index + 1 - sender].testing = 0
    desync(direction)


@compiled
def forget_sequence(direction: Record) -> None:
    direction.sent = -1
    direction.expected = -1
    direction.received = -1


@compiled
def desync(direction: Record) -> None:
    """Look for the next APDU at the start of the segments that follow."""
    direction.synchronised = 0
    direction.header_bytes = 0
    direction.remaining = 0


# -- APDUs ------------------------------------------------------------------------------------------------------


@compiled
def read_apdus(
    data: Buffer,
    offset: Number,
    count: Number,
    origin: Any,
    link_index: Number,
    sender: Number,
    arena: Any,
    state: Record,
    tables: Any,
) -> None:
    """Read APDU after APDU in ``count`` captured bytes at ``offset``."""
    links, directions, reorders, events = tables
    flow_index = links[link_index].flow
    direction = directions[2 * link_index + sender]
    begin = offset
    end = offset + count
    stream_offset = direction.offset  # of the byte at ``begin``
    direction.next = np.uint32(direction.next + np.uint32(count))
    direction.offset += count
    while offset < end:
        if direction.remaining:
            step = min(direction.remaining, end - offset)
            direction.remaining -= step
            offset += step
            continue
        if not direction.synchronised:
            if offset > begin or not may_start_apdu(data, offset, end - offset):
                direction.unread += end - offset
                return
            direction.synchronised = 1
            direction.resynchronised += 1
            if direction.missing and direction.resynchronised <= MAX_EVENTS:
                record_event(flow_index, sender, CAPTURE_GAP, origin, stream_offset, 0, 0, events, state)
        waiting = np.int64(direction.header_bytes)
        outcome, size, value, other = INCOMPLETE, 0, 0, 0
        if waiting == 0:
            direction.began = stream_offset + offset - begin
            direction.began_frame = origin[0]
            direction.began_time = origin[1]
            direction.began_capture = origin[2]
            outcome, size, value, other = check_apdu(data, offset, end - offset)
            if outcome == VALID:
                count_apdu(data, offset, size, origin, link_index, sender, state, tables)
                direction.size = size
                direction.remaining = size
                continue
        if outcome == INCOMPLETE:
            reorder = reorder_record(direction, state, reorders)
            fresh = min(MAX_APDU_HEADER - waiting, end - offset)
            for index in range(fresh):
                arena[reorder.header + waiting + index] = data[offset + index]
                reorder.frame[waiting + index] = origin[0]
                reorder.time[waiting + index] = origin[1]
                reorder.capture[waiting + index] = origin[2]
            outcome, size, value, other = check_apdu(arena, reorder.header, waiting + fresh)
            if outcome == INCOMPLETE:
                direction.header_bytes = waiting + fresh
                return
            direction.header_bytes = 0
            if outcome == VALID:
                count_apdu(arena, reorder.header, size, origin, link_index, sender, state, tables)
                direction.size = size
                direction.remaining = size - waiting
                continue
            if size < waiting:
                origin = reorder.frame[size], reorder.time[size], np.int64(reorder.capture[size])
        count_break(direction, flow_index, sender, outcome, size, value, other, origin, events, state)
        direction.unread += end - offset
        return


@compiled
def may_start_apdu(data: Buffer, offset: Number, have: Number) -> Number:
    """Whether an APDU starts at ``offset``, as far as can be told from at least six bytes, the shortest APDU."""
    outcome, _, _, _ = check_apdu(data, offset, have)
    return outcome == VALID or (outcome == INCOMPLETE and have >= 6)


@compiled
def count_break(
    direction: Record,
    flow_index: Number,
    sender: Number,
    outcome: Number,
    place: Number,
    value: Number,
    other: Number,
    origin: Any,
    events: Any,
    state: Record,
) -> None:
    """Count a framing break, unless the framing is not confirmed: then a gap in the capture may have caused it."""
    if direction.unconfirmed == 0:
        if direction.breaks < MAX_EVENTS:
            offset = direction.began + place
            record_event(flow_index, sender, FRAMING_BREAK, origin, offset, outcome | value << 8, other, events, state)
        direction.breaks += 1
        forget_sequence(direction)
    else:
        direction.unconfirmed = CONFIRMING_APDUS
    desync(direction)
