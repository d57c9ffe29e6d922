"""The compiled entry points.

They get every array that they need: numba passes records, but not objects. Where an array is full, a kernel returns and
can be called again once the array is longer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner import columns
from analyzer.scanner.accounting import count_icmp_error, count_packet
from analyzer.scanner.columns import (
    ARENA_FULL,
    ASSOCIATION,
    CLOCK_STEP,
    CONTENT_FTP,
    DECODED,
    END_OF_BUFFER,
    EVENT,
    FLOW,
    FLOWS_FULL,
    HEAD_LIMITS,
    ICMP_ERROR,
    INTERFACE,
    LINK,
    LINK_DIRECTION,
    MALFORMED,
    MAX_PACKET_EVENTS,
    MAX_RUNS,
    NEEDS_SLOW_PATH,
    NOT_IP,
    PACKET,
    PACKET_READ,
    PAUSE,
    PIECE,
    PIECES_FULL,
    REORDER,
    RUN_AFTER_PAUSE,
    RUN_AFTER_STEP,
    RUN_OF_FILE,
    SECURE_STREAM,
    SIDE,
    SINGLE,
    SLOW_PATH,
    STATE,
    STRAY,
    TABLES_FULL,
    TRACK_ESP,
    TRACK_SECURE,
    TRUNCATED,
    UNREADABLE,
)
from analyzer.scanner.decode import decode_ip, decode_link, find_tail
from analyzer.scanner.duplicates import (
    content_digest,
    content_kind,
    exchange_digest,
    same_content,
    same_exchange,
    service_side,
)
from analyzer.scanner.esp import track_esp
from analyzer.scanner.housekeeping import frame_kind
from analyzer.scanner.iec104 import skip_gap, track_apdus
from analyzer.scanner.jit import Buffer, Library, Number, Record, compiled
from analyzer.scanner.records import read_record
from analyzer.scanner.secure import track_secure
from analyzer.scanner.table import count_stray, find_slot, flow_ends, is_tag_noted, mix

LIBRARY = Library(__file__, columns.__file__)


@compiled
def full_table(
    state: Record,
    flows: Any,
    pieces: Any,
    arena: Any,
    links: Any,
    reorders: Any,
    associations: Any,
    secure_streams: Any,
    events: Any,
) -> Number:
    """Which table lacks the room that one packet may need, as the reason to stop before it; 0: none."""
    if state.flows >= len(flows):
        return FLOWS_FULL
    if state.pieces >= len(pieces):
        return PIECES_FULL
    if len(arena) - state.arena < HEAD_LIMITS[CONTENT_FTP]:
        return ARENA_FULL
    if (
        state.links >= len(links)
        or state.reorders >= len(reorders)
        or state.associations >= len(associations)
        or state.secure_streams + 2 > len(secure_streams)
        or state.events + MAX_PACKET_EVENTS > len(events)
    ):
        return TABLES_FULL
    return 0


@LIBRARY.kernel(
    *(np.uint8, int, PACKET, INTERFACE, np.bool_, np.int32, FLOW, SIDE, PIECE, np.uint8, np.int64, STRAY, STATE),
    *(LINK, LINK_DIRECTION, REORDER, ASSOCIATION, SECURE_STREAM, EVENT),
)
def scan(
    data: Buffer,
    end: Number,
    packets: Any,
    interfaces: Any,
    tunnels: Any,
    slots: Any,
    flows: Any,
    sides: Any,
    pieces: Any,
    arena: Any,
    ethertypes: Any,
    strays: Any,
    states: Any,
    links: Any,
    directions: Any,
    reorders: Any,
    associations: Any,
    secure_streams: Any,
    events: Any,
) -> Number:
    """Count all packets in ``data[state.position:end]``; returns the reason to stop (END_OF_BUFFER, BLOCK, …).

    ``states`` has one record. ``packets`` has two: the packet, and scratch space for the packet that an ICMP error
    quotes. With SINGLE framing, exactly the packet in ``packets[0]`` is counted. ``tunnels``: see :func:`decode_ip`.
    """
    state = states[0]
    packet = packets[0]
    tables = links, directions, reorders, events
    while True:
        full = full_table(state, flows, pieces, arena, links, reorders, associations, secure_streams, events)
        if full:
            return full
        outcome = DECODED
        if state.framing != SINGLE:
            outcome = read_record(data, end, packet, interfaces, state)
            if outcome != PACKET_READ:
                return outcome
            count_frame(packet, state)
            outcome = decode_link(data, packet)
        if outcome == DECODED:
            outcome = decode_ip(data, packet, tunnels)
            if state.framing == SINGLE:
                outcome = DECODED if outcome == SLOW_PATH else outcome  # it comes from there
            else:
                find_tail(packet)
                if packet.tag and not (outcome == DECODED and is_tag_noted(slots, flows, sides, packet, state.secret)):
                    outcome = SLOW_PATH
        if outcome == ICMP_ERROR:
            outcome = count_icmp_error(data, packet, packets[1], slots, flows, sides, pieces, arena, state)
        if outcome == DECODED:
            remains = count_packet(data, packet, slots, flows, sides, pieces, arena, events, state)
            sender = remains & 1
            if remains >= TRACK_SECURE:
                track_secure(data, packet, flows[state.flow], sides, sender, secure_streams, events, state)
            elif remains >= TRACK_ESP:
                side = sides[2 * state.flow + sender]
                track_esp(data, packet, flows[state.flow], side, sender, pieces, arena, associations, events, state)
            elif remains:
                track_apdus(data, packet, flows[state.flow], sides, sender, arena, state, tables)
        elif outcome == NOT_IP:
            state.not_ip += 1
            ethertypes[packet.ethertype] += 1
            count_stray(packet, frame_kind(data, packet), strays, state)
        elif outcome == SLOW_PATH:
            return NEEDS_SLOW_PATH
        elif outcome in (TRUNCATED, MALFORMED):
            state.headers_truncated += outcome == TRUNCATED
            state.malformed += outcome == MALFORMED
            count_stray(packet, UNREADABLE, strays, state)
        if state.framing == SINGLE:
            return END_OF_BUFFER


@compiled
def count_frame(packet: Record, state: Record) -> None:
    """Number the frame, and note its time and whether it is complete; leave out its frame check sequence."""
    state.frame += 1
    packet.frame = state.frame
    packet.time = max(packet.time, 0)
    if state.frame == 1:
        state.first = packet.time
        state.last = packet.time
    state.first = min(state.first, packet.time)
    state.last = max(state.last, packet.time)
    track_run(packet.time, state)
    if packet.end - packet.start < packet.wire:
        state.truncated += 1
    if packet.trailer:
        packet.end = min(packet.end, packet.start + max(0, packet.wire - packet.trailer))


@compiled
def track_run(time: Number, state: Record) -> None:
    """Extend the present run of packets, or begin another one: in a new file, after a pause or a step of the clock."""
    kind = np.int64(-1)
    if state.frame == 1:
        kind = np.int64(RUN_OF_FILE)
    elif time - state.newest >= PAUSE:
        kind = np.int64(RUN_AFTER_PAUSE)
    elif state.newest - time > CLOCK_STEP:
        kind = np.int64(RUN_AFTER_STEP)
    if kind >= 0:
        state.newest = time
        run = state.runs
        state.runs += 1
        if run < MAX_RUNS:
            state.run_start[run] = time
            state.run_end[run] = time
            state.run_kind[run] = kind
            state.run_capture[run] = state.capture
            state.run_frame[run] = state.frame
        return
    state.newest = max(state.newest, time)
    run = state.runs - 1
    if run < MAX_RUNS:
        state.run_start[run] = min(state.run_start[run], time)
        state.run_end[run] = max(state.run_end[run], time)


@LIBRARY.kernel(PACKET, STRAY, STATE, int)
def count_stray_frame(packets: Any, strays: Any, states: Any, kind: Number) -> Number:
    """Count the packet that took the slow path as a frame in no flow; returns the number of such records."""
    count_stray(packets[0], kind, strays, states[0])
    return states[0].strays


@LIBRARY.kernel(np.uint8, LINK, LINK_DIRECTION, REORDER, EVENT, STATE, int)
def flush(arena: Any, links: Any, directions: Any, reorders: Any, events: Any, states: Any, start: Number) -> Number:
    """After the last packet, read the segments that still wait for earlier ones, from link ``start`` on.

    Returns the link for whose events there is no room, or the number of links.
    """
    state = states[0]
    tables = links, directions, reorders, events
    for link_index in range(start, state.links):
        for sender in range(2):
            if state.events + MAX_PACKET_EVENTS > len(events):
                return link_index
            direction = directions[2 * link_index + sender]
            while direction.reorder and reorders[direction.reorder - 1].count:
                skip_gap(arena, link_index, sender, state, tables)
    return state.links


@LIBRARY.kernel(np.int32, FLOW, int, np.uint64)
def fill_slots(slots: Any, flows: Any, count: Number, secret: Any) -> Number:
    """Enter ``count`` flows into an empty table of slots. Of flows with the same ends, the newest is the one found."""
    for flow_index in range(count):
        flow = flows[flow_index]
        one, two = flow_ends(flow)
        slots[find_slot(slots, flows, flow, one, two, secret)] = flow_index
    return count


@LIBRARY.kernel(
    *(np.uint8, FLOW, SIDE, PIECE, np.int64, np.bool_, np.uint64),
    *(np.int32, np.int32, np.uint64, np.uint64, np.uint8, np.uint8, np.int32, np.int32),
)
def find_duplicates(
    arena: Buffer,
    flows: Any,
    sides: Any,
    pieces: Any,
    starts: Any,
    services: Any,
    secret: Any,
    content_slots: Any,
    duplicate_slots: Any,
    content_digests: Any,
    duplicate_digests: Any,
    out: Buffer,
    other_out: Buffer,
    content_class: Any,
    duplicate_class: Any,
) -> Number:
    """Find the flows that repeat others; returns the number of flows that repeat none.

    ``content_class[i]`` becomes the first flow with the same content as flow i. ``duplicate_class[i]`` becomes the
    first of those that also goes between the same hosts, to the same service, and ended the same way. Both become i
    if there is none. The pieces of flow i are ``pieces[starts[i]:starts[i + 1]]``; ``services[n]``: port n is that of
    a service. Scratch space: slots, a power of two above the number of flows, filled with -1; digests, one per flow;
    ``out`` and ``other_out``, of MAX_DATAGRAM_BYTES.
    """
    mask = np.uint64(len(content_slots) - 1)
    scratch = out, other_out
    count = 0
    for index in range(len(flows)):
        content_class[index] = index
        duplicate_class[index] = index
        flow = flows[index]
        start, stop = starts[index], starts[index + 1]
        kind = content_kind(flow, sides[2 * index], sides[2 * index + 1], stop - start)
        digest = content_digest(arena, pieces, start, stop, kind, secret, out) if kind else np.uint64(0)
        if digest == 0:
            count += 1
            continue
        digest = mix(digest + np.uint64(flow.protocol))
        content_digests[index] = digest
        slot = digest & mask
        while content_slots[slot] >= 0:
            other = content_slots[slot]
            if (
                content_digests[other] == digest
                and flows[other].protocol == flow.protocol
                and same_content(arena, pieces, starts, other, index, kind, scratch)
            ):
                break
            slot = (slot + np.uint64(1)) & mask
        if content_slots[slot] < 0:
            content_slots[slot] = index
        content_class[index] = content_slots[slot]
        side = service_side(flow, services)
        if side < 0:
            count += 1
            continue
        digest = exchange_digest(flow, content_class[index], side, secret)
        duplicate_digests[index] = digest
        slot = digest & mask
        while duplicate_slots[slot] >= 0:
            other = duplicate_slots[slot]
            if (
                duplicate_digests[other] == digest
                and content_class[other] == content_class[index]
                and service_side(flows[other], services) == side
                and same_exchange(flows, sides, other, index, side)
            ):
                break
            slot = (slot + np.uint64(1)) & mask
        if duplicate_slots[slot] < 0:
            duplicate_slots[slot] = index
            count += 1
        duplicate_class[index] = duplicate_slots[slot]
    return count
