"""A decoded packet is given to its flow."""

from __future__ import annotations

from typing import Any

from analyzer.scanner.columns import ACK, CUT, DECODED, ERRORS, FIN, FOLDED, ICMP, RST, SINGLE, SYN, TCP
from analyzer.scanner.decode import quoted
from analyzer.scanner.duplicates import is_copy
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.payload import describe, has_room, keep_datagram, store
from analyzer.scanner.table import find, fold, sent_by_first
from analyzer.scanner.tcp import follow_tcp


@compiled
def account(b: Buffer, p: Record, slots: Any, flows: Any, sides: Any, pieces: Any, arena: Any, clock: Record) -> Number:
    """Give one decoded packet to its flow; the caller made sure of the room.

    Returns what is to follow the packet (FOLLOW_*, plus the side), in the flow ``clock.flow``.
    """
    slot, flow = find(slots, flows, p, clock.secret)
    opens = p.protocol == TCP and p.flags & (SYN | ACK | RST) == SYN
    if flow >= 0 and opens:
        side = 0 if sent_by_first(flows[flow], p) else 1
        s = sides[2 * flow + side]
        # Closed, or its opener lost its memory: a new connection takes over the ports and the slot.
        if (flows[flow].closed or s.acknowledged) and (not s.flags & SYN or s.initial != p.sequence):
            flow = -1
    if flow < 0 and clock.flows >= clock.limit:
        fold(p)
        slot, flow = find(slots, flows, p, clock.secret)
        if flow < 0 and clock.flows >= clock.limit + clock.limit // 4:
            clock.unfollowed += 1
            return 0
    if flow < 0:
        flow = clock.flows
        clock.flows = flow + 1
        slots[slot] = flow
        f = flows[flow]
        f.high0 = p.source_high
        f.low0 = p.source_low
        f.port0 = p.source_port
        f.high1 = p.destination_high
        f.low1 = p.destination_low
        f.port1 = p.destination_port
        f.protocol = p.protocol
        f.version = p.version
        f.first = p.time
        f.last = p.time
        f.first_frame = p.frame
        f.first_capture = clock.capture
        f.vlan = p.vlan
        f.note = -1
        f.account = -1
        f.syn_side = -1
        f.reset_side = -1
        for each in range(2):
            sides[2 * flow + each].mac = -1
            sides[2 * flow + each].ending = -1
    f = flows[flow]
    side = 0 if sent_by_first(f, p) else 1
    s = sides[2 * flow + side]
    if clock.framing != SINGLE and is_copy(b, p, f, s, clock.secret):
        clock.copies += 1
        s.copies += 1
        return 0
    if s.packets == 0:
        s.mac = p.source_mac
    s.packets += 1
    s.bytes += p.wire
    f.first = min(f.first, p.time)
    if p.time >= f.last:
        f.last = p.time
        f.last_frame = p.frame
        f.last_capture = clock.capture
    if p.tag:
        s.tag = p.tag
    clock.flow = flow
    clock.in_flows += 1
    if f.port0 == FOLDED or f.port1 == FOLDED:
        s.flags |= p.flags
        s.payload += p.length
        if p.flags & SYN and f.syn_side < 0:
            f.syn_side = side if not p.flags & ACK else 1 - side
        return 0
    if clock.count_only:
        return 0
    if p.protocol == TCP:
        further = follow_tcp(b, p, f, s, flow, side, pieces, arena, clock)
        if sides[2 * flow].flags & FIN and sides[2 * flow + 1].flags & FIN:
            f.closed = 1
    else:
        s.payload += p.length
        further = keep_datagram(b, p, s, flow, side, pieces, arena, clock)
    return further + side if further else 0


@compiled
def account_error(
    b: Buffer, p: Record, inner: Record, slots: Any, flows: Any, sides: Any, pieces: Any, arena: Any, clock: Record
) -> None:
    """Give an ICMP error to the flow that it quotes; without such a flow it is a flow of its own."""
    outcome = quoted(b, p, inner)
    if outcome == CUT:
        clock.cut += 1
        return
    if outcome == DECODED:
        _, flow = find(slots, flows, inner, clock.secret)
        if flow >= 0:
            f = flows[flow]
            clock.in_errors += 1
            f.errors += 1
            control = p.protocol == ICMP and b[p.payload] in (4, 5)  # no number of others hides a redirect
            f.controls += control
            if (f.errors <= ERRORS or (control and f.controls <= ERRORS)) and has_room(clock):
                begin = p.network
                side = 0 if sent_by_first(f, inner) else 1
                index = store(b, begin, min(p.end - begin, 128), pieces, arena, clock)
                describe(pieces[index], p, clock, flow, side, p.payload - begin, 1)
            return
    account(b, p, slots, flows, sides, pieces, arena, clock)
