"""The compiled entry points."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner import columns
from analyzer.scanner.accounting import account, account_error
from analyzer.scanner.columns import (
    ARENA_FULL,
    ASSOCIATION,
    CLOCK,
    CONTENT_FTP,
    CUT,
    DECODED,
    EMPTY,
    EVENT,
    EVENTS,
    FLOW,
    FLOWS_FULL,
    FOLLOW_APDUS,
    FOLLOW_ESP,
    HEAD_LIMITS,
    ICMP,
    ICMP_ERROR,
    ICMPV6,
    INTERFACE,
    LINE,
    LINK,
    NOT_IP,
    PACKET,
    PIECE,
    PIECES_FULL,
    RARE,
    REORDER,
    SIDE,
    SINGLE,
    SLOW,
    TABLES_FULL,
)
from analyzer.scanner.decode import decode, decode_ip
from analyzer.scanner.duplicates import repeats, same_kind, same_speech, service_side, speech_digest
from analyzer.scanner.esp import follow_esp
from analyzer.scanner.iec104 import follow_apdus, give_up
from analyzer.scanner.jit import Buffer, Library, Number
from analyzer.scanner.records import next_record
from analyzer.scanner.table import flow_hash, is_noted, mix, same

LIBRARY = Library(__file__, columns.__file__)


@LIBRARY.kernel(
    *(np.uint8, int, PACKET, INTERFACE, np.bool_, np.int32, FLOW, SIDE, PIECE, np.uint8, np.int64, CLOCK),
    *(LINK, LINE, REORDER, ASSOCIATION, EVENT),
)
def scan(
    b: Buffer,
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
    clocks: Any,
    links: Any,
    lines: Any,
    reorders: Any,
    associations: Any,
    events: Any,
) -> Number:
    """Account for all packets in ``b[clock.position:end]``; says why it came back.

    ``packets`` has two records: the packet, and scratch for what ICMP errors quote. With SINGLE framing exactly
    the packet in ``packets[0]`` is accounted for.
    """
    clock = clocks[0]
    p = packets[0]
    tables = links, lines, reorders, events
    while True:
        # Room for what one packet may need at the most, so that nothing below can fail half-way.
        if clock.flows >= len(flows):
            return FLOWS_FULL
        if clock.pieces >= len(pieces):
            return PIECES_FULL
        if len(arena) - clock.arena < HEAD_LIMITS[CONTENT_FTP]:
            return ARENA_FULL
        if (
            clock.links >= len(links)
            or clock.reorders >= len(reorders)
            or clock.associations >= len(associations)
            or clock.events + EVENTS > len(events)
        ):
            return TABLES_FULL
        if clock.framing == SINGLE:
            outcome = decode_ip(b, p, tunnels)
            if outcome == RARE:
                outcome = DECODED
        else:
            outcome = next_record(b, end, p, interfaces, clock)
            if outcome < 0:
                return outcome + 10
            clock.frame += 1
            p.frame = clock.frame
            if p.time < 0:
                p.time = 0
            if clock.frame == 1:
                clock.first = p.time
                clock.last = p.time
            clock.first = min(clock.first, p.time)
            clock.last = max(clock.last, p.time)
            if p.end - p.start < p.wire:
                clock.snapped += 1
            if p.trailer:
                p.end = min(p.end, p.start + max(0, p.wire - p.trailer))
            outcome = decode(b, p, tunnels)
            if p.tag and outcome == DECODED and not is_noted(slots, flows, sides, p, clock.secret):
                outcome = RARE
        if outcome == DECODED:
            further = account(b, p, slots, flows, sides, pieces, arena, clock)
            if further >= FOLLOW_ESP:
                follow_esp(b, p, flows[clock.flow], further - FOLLOW_ESP, associations, events, clock)
            elif further:
                side = further - FOLLOW_APDUS
                follow_apdus(b, p, flows[clock.flow], sides, side, arena, clock, tables)
        elif outcome == ICMP_ERROR:
            account_error(b, p, packets[1], slots, flows, sides, pieces, arena, clock)
        elif outcome == NOT_IP:
            clock.not_ip += 1
            ethertypes[p.ethertype] += 1
        elif outcome == RARE:
            return SLOW
        elif outcome == CUT:
            clock.cut += 1
        else:
            clock.broken += 1
        if clock.framing == SINGLE:
            return EMPTY


@LIBRARY.kernel(np.uint8, LINK, LINE, REORDER, EVENT, CLOCK, int)
def settle(arena: Any, links: Any, lines: Any, reorders: Any, events: Any, clocks: Any, start: Number) -> Number:
    """At the end of the capture, read what waits behind bytes that never came.

    Goes on with the link ``start``, and returns the one for whose events there is no more room; all links: done.
    """
    clock = clocks[0]
    tables = links, lines, reorders, events
    for link in range(start, clock.links):
        for side in range(2):
            if clock.events + EVENTS > len(events):
                return link
            line = lines[2 * link + side]
            while line.reorder and reorders[line.reorder - 1].count:
                give_up(arena, link, side, clock, tables)
    return clock.links


@LIBRARY.kernel(np.int32, FLOW, int, np.uint64)
def index(slots: Any, flows: Any, count: Number, secret: Any) -> Number:
    """Fill an empty table of slots; of flows with the same key the newest wins, as while scanning."""
    mask = np.uint64(len(slots) - 1)
    for flow in range(count):
        f = flows[flow]
        one, two = (f.high0, f.low0, f.port0), (f.high1, f.low1, f.port1)
        at = flow_hash(f.protocol, one, two, secret) & mask
        while slots[at] >= 0:
            g = flows[slots[at]]
            if g.protocol == f.protocol and (
                same(g, f.high0, f.low0, f.port0, f.high1, f.low1, f.port1)
                or same(g, f.high1, f.low1, f.port1, f.high0, f.low0, f.port0)
            ):
                break
            at = (at + np.uint64(1)) & mask
        slots[at] = flow
    return count


@LIBRARY.kernel(
    *(np.uint8, FLOW, SIDE, PIECE, np.int64, np.bool_, np.uint64),
    *(np.int32, np.int32, np.uint64, np.uint64, np.uint8, np.uint8, np.int32, np.int32),
)
def liken(
    b: Buffer,
    flows: Any,
    sides: Any,
    pieces: Any,
    starts: Any,
    named: Any,
    secret: Any,
    speech_slots: Any,
    kind_slots: Any,
    speech_digests: Any,
    kind_digests: Any,
    out: Buffer,
    other_out: Buffer,
    speech: Any,
    kind: Any,
) -> Number:
    """Tell which flows are alike; returns how many have no earlier one of their kind.

    ``speech[i]`` becomes the first flow that says what flow i says, ``kind[i]`` the first of those that goes between
    the same hosts, to the same service, and ended the same way; i itself where there is none. ``b`` is the arena,
    the slots (a power of two above the number of flows) are full of -1, there is a digest for each flow, and
    ``out`` and ``other_out`` have room for a datagram.
    """
    mask = np.uint64(len(kind_slots) - 1)
    kinds = 0
    for flow in range(len(flows)):
        speech[flow] = flow
        kind[flow] = flow
        f = flows[flow]
        start, stop = starts[flow], starts[flow + 1]
        speaks = repeats(f, sides[2 * flow], sides[2 * flow + 1], stop - start)
        digest = np.uint64(0)
        if speaks:
            digest = speech_digest(b, pieces, start, stop, speaks, secret, out)
        if digest == 0:
            kinds += 1
            continue
        digest = mix(digest + np.uint64(f.protocol))
        speech_digests[flow] = digest
        at = digest & mask
        while speech_slots[at] >= 0:
            other = speech_slots[at]
            if (
                speech_digests[other] == digest
                and flows[other].protocol == f.protocol
                and same_speech(b, pieces, starts, other, flow, speaks, out, other_out)
            ):
                speech[flow] = other
                break
            at = (at + np.uint64(1)) & mask
        if speech[flow] == flow:
            speech_slots[at] = flow
        side = service_side(f, named)
        if side < 0:
            kinds += 1
            continue
        service = 0 if f.protocol == ICMP or f.protocol == ICMPV6 else f.port1 if side else f.port0
        digest = mix(np.uint64(speech[flow]) * secret[0] + np.uint64(service << 1 | side))
        digest = mix(digest + f.low0 * secret[1] + f.high0 * secret[2])
        digest = mix(digest + f.low1 * secret[1] + f.high1 * secret[2])
        kind_digests[flow] = digest
        at = digest & mask
        while kind_slots[at] >= 0:
            other = kind_slots[at]
            if (
                kind_digests[other] == digest
                and speech[other] == speech[flow]
                and service_side(flows[other], named) == side
                and same_kind(flows, sides, other, flow, side)
            ):
                kind[flow] = other
                break
            at = (at + np.uint64(1)) & mask
        if kind[flow] == flow:
            kind_slots[at] = flow
            kinds += 1
    return kinds
