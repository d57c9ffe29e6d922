"""The records of capture files: where each packet begins and ends, and when it was captured."""

from __future__ import annotations

from typing import Any

from analyzer.scanner.columns import BLOCK, DAMAGED, DECODED, EMPTY, PCAP, SNOOP
from analyzer.scanner.integers import host16, host32, u32
from analyzer.scanner.jit import Buffer, Number, Record, compiled


@compiled
def next_record(b: Buffer, end: Number, p: Record, interfaces: Any, clock: Record) -> Number:
    """Read the framing of the record at ``clock.position`` into ``p`` and move behind it.

    Returns DECODED for a packet, else EMPTY - 10, BLOCK - 10 or DAMAGED - 10 with the position unmoved.
    """
    at = clock.position
    little = clock.little != 0
    if clock.framing == PCAP:
        header = clock.record_header
        if at + header > end:
            return EMPTY - 10
        captured = host32(b, at + 8, little)
        wire = host32(b, at + 12, little)
        if clock.swapped and captured > wire:
            captured, wire = wire, captured
        if captured > clock.largest:
            return DAMAGED - 10
        if at + header + captured > end:
            return EMPTY - 10
        p.time = host32(b, at, little) * 1_000_000_000 + host32(b, at + 4, little) * clock.fraction
        p.wire = max(captured, wire)
        p.trailer = clock.trailer
        p.linktype = clock.linktype
        p.start = at + header
        p.end = at + header + captured
        clock.position = p.end
        return DECODED
    if clock.framing == SNOOP:
        if at + 24 > end:
            return EMPTY - 10
        captured = u32(b, at + 4)
        total = u32(b, at + 8)  # header and padding included
        if captured > clock.largest or total < 24 + captured or total > 2 * clock.largest:
            return DAMAGED - 10
        if at + total > end:
            return EMPTY - 10
        p.time = u32(b, at + 16) * 1_000_000_000 + u32(b, at + 20) * 1000
        p.wire = max(captured, u32(b, at))
        p.trailer = 0
        p.linktype = clock.linktype
        p.start = at + 24
        p.end = p.start + captured
        clock.lost = max(clock.lost, u32(b, at + 12))
        clock.position = at + total
        return DECODED
    if at + 12 > end:
        return EMPTY - 10
    kind = host32(b, at, little)
    if kind != 6 and kind != 3 and kind != 2:
        return BLOCK - 10
    total = host32(b, at + 4, little)
    if total < 16 or total & 3 or total > clock.largest:
        return DAMAGED - 10
    if at + total > end:
        return EMPTY - 10
    if host32(b, at + total - 4, little) != total:
        return DAMAGED - 10
    number = 0
    if kind == 3:
        p.start = at + 12
        captured = total - 16
    else:
        if total < 32:
            return DAMAGED - 10
        number = host32(b, at + 8, little) if kind == 6 else host16(b, at + 8, little)
        captured = host32(b, at + 20, little)
        p.start = at + 28
        if captured > total - 32:
            return DAMAGED - 10
    if number >= clock.interfaces:
        return DAMAGED - 10
    interface = interfaces[number]
    if kind == 3:
        p.wire = host32(b, at + 8, little)
        captured = min(captured, p.wire)
        if interface.snaplen:
            captured = min(captured, interface.snaplen)
        p.time = clock.last  # a simple packet has no time of its own: that of the packet before it
    else:
        p.wire = max(captured, host32(b, at + 24, little))
        ticks = host32(b, at + 12, little) << 32 | host32(b, at + 16, little)
        if interface.bits >= 0:
            bits = interface.bits
            seconds = ticks >> bits if bits < 63 else 0
            rest = ticks - (seconds << bits) if bits < 63 else ticks
            if bits > 30:
                rest >>= bits - 30
                bits = 30
            p.time = (seconds + interface.offset) * 1_000_000_000 + (rest * 1_000_000_000 >> bits)
        else:
            p.time = ticks // interface.divisor * interface.multiplier + interface.offset * 1_000_000_000
    p.linktype = interface.linktype
    p.trailer = interface.trailer
    p.end = p.start + captured
    clock.position = at + total
    return DECODED
