"""Accounting: a decoded packet is counted in its flow."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    ACK,
    DECODED,
    FIN,
    ICMP,
    ICMP_ERROR,
    MAX_ICMP_ERRORS,
    MERGED_PORT,
    ODD_PACKET,
    ODDITIES,
    PLAIN,
    RAPID,
    RST,
    SINGLE,
    SURPLUS,
    SYN,
    SYN_REPEATED,
    TAIL,
    TCP,
    TRUNCATED,
    TUNNEL,
    UDP,
)
from analyzer.scanner.datagrams import keep_datagram
from analyzer.scanner.decode import decode_quoted
from analyzer.scanner.duplicates import is_copy
from analyzer.scanner.integers import distance
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.payload import describe_piece, has_room, store_piece
from analyzer.scanner.table import find_flow, merge_ports, open_flow, record_event, sender_of
from analyzer.scanner.tcp import begin_stream, track_tcp

QUOTED_BYTES = 128
"""Bytes kept of an ICMP error, from its IP header on; and those to which RFC 4884 pads a quotation."""
LARGEST_EXTENSION, EXTENSION_VERSION = 128, 2
"""Bytes of the largest extension structure that an ICMP error may have (label stacks and interface names take fewer),
and its version (RFC 4884, section 7)."""
ERROR_COPIES = 4
"""Errors per packet above which they are not about the flow's packets: a capture on several interfaces holds each error
two or three times."""
LONGEST_TCP_HEADER = 60
"""Bytes, with 40 of options."""
LARGEST_WINDOW = 1 << 20
"""Bytes by which a quoted segment may lie before the first captured one of its connection."""


@compiled
def count_packet(
    data: Buffer,
    packet: Record,
    slots: Any,
    flows: Any,
    sides: Any,
    pieces: Any,
    arena: Any,
    events: Any,
    state: Record,
) -> Number:
    """Count a decoded packet in its flow, for whose records the caller has made room.

    Returns what remains to do in the flow ``state.flow``: TRACK_* plus the side that sent the packet; 0: nothing.
    """
    flow_index = find_or_open(packet, slots, flows, sides, state)
    if flow_index < 0:
        state.untracked += 1
        return 0
    flow = flows[flow_index]
    sender = sender_of(flow, packet)
    side = sides[2 * flow_index + sender]
    if packet.odd:  # before copies are told: whoever adds bytes to a copy must not hide them
        note_oddities(packet, side, flow_index, sender, events, state)
    if state.framing != SINGLE and is_copy(data, packet, flow, side, 2 * flow_index + sender, state):
        state.copies += 1
        side.copies += 1
        return 0
    if side.packets == 0:
        side.mac = packet.source_mac
        side.destination_mac = packet.destination_mac
        side.time_to_live = packet.time_to_live
    side.packets += 1
    side.bytes += packet.wire
    flow.first = min(flow.first, packet.time)
    if packet.time >= flow.last:
        flow.last = packet.time
        flow.last_frame = packet.frame
        flow.last_capture = state.capture
    if packet.tag:
        side.tag = packet.tag
    side.largest = max(side.largest, packet.length)
    state.flow = flow_index
    state.sender = sender
    if packet.layer == TUNNEL:
        state.tunnels += 1
        side.payload += packet.length
        return 0
    state.in_flows += 1
    if flow.port0 == MERGED_PORT or flow.port1 == MERGED_PORT:
        side.flags |= packet.flags
        side.payload += packet.length
        if packet.flags & SYN and flow.syn_side < 0:
            flow.syn_side = sender if not packet.flags & ACK else 1 - sender
        return 0
    if state.count_only:
        return 0
    if packet.protocol == TCP:
        peer = sides[2 * flow_index + 1 - sender]
        remains = track_tcp(data, packet, flow, side, peer, flow_index, sender, pieces, arena, state)
        if side.protected and side.peer_payload < 0:
            side.peer_payload = peer.payload
        if sides[2 * flow_index].flags & FIN and sides[2 * flow_index + 1].flags & FIN:
            flow.closed = 1
    else:
        side.payload += packet.length
        in_run = side.newest > 0 and packet.time - side.newest <= RAPID
        side.run = (side.run + 1) * in_run
        side.rapid = max(side.rapid, side.run)
        side.newest = packet.time
        peer = sides[2 * flow_index + 1 - sender]
        remains = keep_datagram(data, packet, side, peer, flow_index, sender, pieces, arena, state)
    return remains + sender if remains else 0


@compiled
def note_oddities(packet: Record, side: Record, flow_index: Number, sender: Number, events: Any, state: Record) -> None:
    """Count what a packet has that no packet needs, and record the first one of each kind."""
    side.surplus += packet.surplus
    side.tail += packet.tail
    new = packet.odd & ~side.odd
    side.odd |= packet.odd
    origin = packet.frame, packet.time, state.capture
    for oddity in ODDITIES:
        if new & oddity:
            size = packet.surplus if oddity == SURPLUS else packet.tail if oddity == TAIL else np.int64(0)
            record_event(flow_index, sender, ODD_PACKET, origin, 0, oddity, size, events, state)


@compiled
def find_or_open(packet: Record, slots: Any, flows: Any, sides: Any, state: Record) -> Number:
    """Index of the packet's flow, which it may open; -1: there are too many flows."""
    slot, flow_index = find_flow(slots, flows, packet, state.secret)
    reopened = np.int64(-1)
    if flow_index >= 0 and packet.protocol == TCP and packet.flags & (SYN | RST) == SYN:
        flow = flows[flow_index]
        sender = sender_of(flow, packet)
        if packet.flags & ACK and flow.reopening:
            reopened = np.int64(sides[2 * flow_index + 1 - sender].initial)
        if reopened >= 0 or opens_another(packet, flow, sides[2 * flow_index + sender]):
            flow_index = -1
    if flow_index < 0 and state.flows >= state.limit:
        merge_ports(packet)
        slot, flow_index = find_flow(slots, flows, packet, state.secret)
        if flow_index < 0 and state.flows >= state.limit + state.limit // 4:
            return -1
    if flow_index < 0:
        flow_index = state.flows
        state.flows += 1
        slots[slot] = flow_index
        open_flow(packet, flows[flow_index], flow_index, sides, state.capture)
        if reopened >= 0:  # the SYN was counted in the previous flow
            begin_stream(sides[2 * flow_index + 1], np.uint32(reopened + 1))
    return flow_index


@compiled
def opens_another(packet: Record, flow: Record, side: Record) -> Number:
    """Whether a packet with SYN opens a new connection on the ports of ``flow``, whose sender is ``side``.

    A SYN does if the flow is closed, or if the sender has restarted. One that follows the previous one closely and has
    its number may be a copy that was under way: the peer's answer will tell.
    """
    if packet.flags & ACK:
        return False
    if side.flags & SYN and side.initial == packet.sequence:
        flow.reopening = flow.closed
        return flow.closed and packet.time - side.opened > SYN_REPEATED
    return flow.closed or side.acknowledged


@compiled
def count_icmp_error(
    data: Buffer,
    packet: Record,
    inner: Record,
    slots: Any,
    flows: Any,
    sides: Any,
    pieces: Any,
    arena: Any,
    state: Record,
) -> Number:
    """Count an ICMP error in the flow that it quotes, and return ICMP_ERROR.

    Returns DECODED if there is no such flow, or if nobody has a reason to send the error: it is a packet of a flow of
    its own. Returns TRUNCATED if the quotation is truncated. ``inner`` is scratch space.
    """
    outcome = decode_quoted(data, packet, inner)
    if outcome != DECODED:
        return TRUNCATED if outcome == TRUNCATED else DECODED
    _, flow_index = find_flow(slots, flows, inner, state.secret)
    if flow_index < 0 and inner.layer == PLAIN:
        inner.layer = TUNNEL
        _, flow_index = find_flow(slots, flows, inner, state.secret)
    if flow_index < 0:
        return DECODED
    flow = flows[flow_index]
    sender = sender_of(flow, inner)
    side = sides[2 * flow_index + sender]
    if not is_about(data, packet, inner, flow, side):
        return DECODED
    state.icmp_errors += 1
    flow.errors += 1
    side.errors += 1
    side.peer_errors += packet.source_low == inner.destination_low and packet.source_high == inner.destination_high
    # Source quenches and redirects have a limit of their own: a flood of other errors cannot hide them.
    control = packet.protocol == ICMP and data[packet.payload] in (4, 5)
    flow.controls += control
    if (flow.errors <= MAX_ICMP_ERRORS or (control and flow.controls <= MAX_ICMP_ERRORS)) and has_room(state):
        begin = packet.network
        index = store_piece(data, begin, min(packet.end - begin, QUOTED_BYTES), pieces, arena, state)
        describe_piece(pieces[index], packet, state, flow_index, sender, packet.payload - begin, 1)
    return ICMP_ERROR


@compiled
def is_about(data: Buffer, packet: Record, inner: Record, flow: Record, side: Record) -> Number:
    """Whether an ICMP error can be about a packet of the flow that it quotes: it goes to that packet's sender, is no
    longer than that packet, and quotes what was sent. ``side``: the sender of the quoted packet."""
    if packet.destination_low != inner.source_low or packet.destination_high != inner.source_high:
        return False
    if packet.length - 8 > inner.finish - inner.start and not is_extended(data, packet, inner):
        return False
    if side.packets == 0 or flow.port0 == MERGED_PORT or flow.port1 == MERGED_PORT:
        return True  # the capture lacks this direction, or keeps no numbers
    # A capture on several interfaces holds each error several times.
    if side.errors >= ERROR_COPIES * (side.packets + side.copies):
        return False
    if flow.protocol != TCP:
        return inner.finish - inner.payload <= side.largest + (8 if flow.protocol == UDP else 0)
    if inner.payload + 8 > inner.end:
        return True
    # Of a connection that began before the capture, older segments may be quoted, too.
    oldest = side.initial if side.flags & SYN else side.base - np.uint32(LARGEST_WINDOW)
    # Many routers quote 8 bytes of TCP only (RFC 792), which do not tell how long its header is.
    known = inner.payload + 12 < inner.end
    header = np.int64(data[inner.payload + 12] >> 4) * 4 if known else np.int64(LONGEST_TCP_HEADER)
    size = max(np.int64(0), inner.finish - inner.payload - header)
    return distance(inner.sequence, oldest) >= 0 and distance(side.next, inner.sequence) >= size


@compiled
def is_extended(data: Buffer, packet: Record, inner: Record) -> Number:
    """Whether what an ICMP error has behind the quoted packet is padding and an extension structure (RFC 4884).

    The length of the padded quotation stands in the header, in words of 4 bytes (ICMPv6: 8); 0 means 128 bytes.
    """
    if packet.protocol == ICMP:
        padded = np.int64(data[packet.payload + 5]) * 4
    else:
        padded = np.int64(data[packet.payload + 4]) * 8
    padded = padded if padded else np.int64(QUOTED_BYTES)
    structure = inner.start + padded
    finish = packet.payload + packet.length
    if finish - structure > LARGEST_EXTENSION or structure < inner.finish:
        return False
    for place in range(inner.finish, min(structure, finish, packet.end)):
        if data[place] != 0:
            return False
    return structure >= min(finish, packet.end) or data[structure] >> 4 == EXTENSION_VERSION
