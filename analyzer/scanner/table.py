"""The flow table: its hash, the lookup of a packet's flow, and the events of flows."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import ACK, FOLDED, ICMP, ICMPV6, SYN, TCP
from analyzer.scanner.jit import Number, Record, compiled


@compiled
def mix(x: Number) -> Number:
    """Spread the upper bits over the lower ones."""
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    return x ^ (x >> np.uint64(32))


@compiled
def flow_hash(protocol: Number, one: Any, two: Any, secret: Any) -> Number:
    """The same for both directions; multiplied by secrets, so that a capture cannot be made to collide.

    ``one`` and ``two`` are (high, low, port) of the ends.
    """
    left = mix(one[0] * secret[0] + one[1] * secret[1] + np.uint64(one[2] + 1) * secret[2])
    right = mix(two[0] * secret[0] + two[1] * secret[1] + np.uint64(two[2] + 1) * secret[2])
    return mix(left + right + np.uint64(protocol))


@compiled
def find(slots: Any, flows: Any, p: Record, secret: Any) -> Number:
    """(slot, flow) of the packet's conversation; flow -1: not there, slot is where it belongs."""
    mask = np.uint64(len(slots) - 1)
    at = (
        flow_hash(
            p.protocol,
            (p.source_high, p.source_low, p.source_port),
            (p.destination_high, p.destination_low, p.destination_port),
            secret,
        )
        & mask
    )
    while True:
        index = slots[at]
        if index < 0:
            return np.int64(at), np.int64(-1)
        f = flows[index]
        if f.protocol == p.protocol and (
            same(
                f, p.source_high, p.source_low, p.source_port, p.destination_high, p.destination_low, p.destination_port
            )
            or same(
                f, p.destination_high, p.destination_low, p.destination_port, p.source_high, p.source_low, p.source_port
            )
        ):
            return np.int64(at), np.int64(index)
        at = (at + np.uint64(1)) & mask


@compiled
def is_noted(slots: Any, flows: Any, sides: Any, p: Record, secret: Any) -> Number:
    """Whether the notes of the packet's flow tell its tag already: who came before it took the slow path."""
    if p.protocol == TCP and p.flags & SYN:
        return False  # it may open another flow
    _, flow = find(slots, flows, p, secret)
    return flow >= 0 and sides[2 * flow + (0 if sent_by_first(flows[flow], p) else 1)].tag == p.tag


@compiled
def same(f: Record, high0: Any, low0: Any, port0: Any, high1: Any, low1: Any, port1: Any) -> Number:
    return (
        f.low0 == low0
        and f.low1 == low1
        and f.port0 == port0
        and f.port1 == port1
        and f.high0 == high0
        and f.high1 == high1
    )


@compiled
def sent_by_first(f: Record, p: Record) -> Number:
    """Whether side 0 of the flow sent the packet."""
    return (
        f.low0 == p.source_low
        and f.high0 == p.source_high
        and f.port0 == p.source_port
        and f.low1 == p.destination_low
        and f.high1 == p.destination_high
        and f.port1 == p.destination_port
    )


@compiled
def fold(p: Record) -> None:
    """Make the packet one of the flow that stands for all ports of its client."""
    if p.protocol == ICMP or p.protocol == ICMPV6:
        p.source_port = FOLDED
        p.destination_port = FOLDED
    elif p.source_port >= 0:
        opening = p.protocol == TCP and p.flags & SYN
        asks = not p.flags & ACK if opening else p.source_port >= p.destination_port
        if asks:
            p.source_port = FOLDED
        else:
            p.destination_port = FOLDED


@compiled
def happened(
    flow: Number,
    side: Number,
    kind: Number,
    where: Any,
    offset: Number,
    value: Number,
    other: Number,
    events: Any,
    clock: Record,
) -> None:
    """Remember where something happened; ``where`` is (frame, time, capture). The caller counts, up to SHOWN."""
    e = events[clock.events]
    clock.events += 1
    e.flow = flow
    e.side = side
    e.kind = kind
    e.frame = where[0]
    e.time = where[1]
    e.capture = where[2]
    e.offset = offset
    e.value = value
    e.other = other
