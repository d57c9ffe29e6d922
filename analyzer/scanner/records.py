"""Record framing of capture files: where each packet starts and ends, and when it was captured."""

from __future__ import annotations

from typing import Any

from analyzer.scanner.columns import BLOCK, DAMAGED, END_OF_BUFFER, PACKET_READ, PCAP, SNOOP
from analyzer.scanner.integers import host16, host32, u32
from analyzer.scanner.jit import Buffer, Number, Record, compiled

SECOND = 1_000_000_000
"""Nanoseconds."""

# Types of pcapng blocks.
PACKET_BLOCK, SIMPLE_PACKET_BLOCK, ENHANCED_PACKET_BLOCK = 2, 3, 6


@compiled
def read_record(data: Buffer, end: Number, packet: Record, interfaces: Any, state: Record) -> Number:
    """Read the framing of the record at ``state.position`` into ``packet``, and move past the record.

    Returns PACKET_READ. Without a packet, returns END_OF_BUFFER, BLOCK or DAMAGED and does not move.
    """
    if state.framing == PCAP:
        return read_pcap_record(data, end, packet, state)
    if state.framing == SNOOP:
        return read_snoop_record(data, end, packet, state)
    return read_pcapng_block(data, end, packet, interfaces, state)


@compiled
def read_pcap_record(data: Buffer, end: Number, packet: Record, state: Record) -> Number:
    offset = state.position
    little = state.little != 0
    header = state.record_header
    if offset + header > end:
        return END_OF_BUFFER
    captured = host32(data, offset + 8, little)
    wire = host32(data, offset + 12, little)
    if state.swapped and captured > wire:
        captured, wire = wire, captured
    if captured > state.largest:
        return DAMAGED
    if offset + header + captured > end:
        return END_OF_BUFFER
    packet.time = host32(data, offset, little) * SECOND + host32(data, offset + 4, little) * state.fraction
    packet.wire = max(captured, wire)
    packet.trailer = state.trailer
    packet.linktype = state.linktype
    packet.start = offset + header
    packet.end = offset + header + captured
    state.position = packet.end
    return PACKET_READ


@compiled
def read_snoop_record(data: Buffer, end: Number, packet: Record, state: Record) -> Number:
    """A record of a snoop file (RFC 1761)."""
    offset = state.position
    if offset + 24 > end:
        return END_OF_BUFFER
    captured = u32(data, offset + 4)
    total = u32(data, offset + 8)  # with header and padding
    if captured > state.largest or total < 24 + captured or total > 2 * state.largest:
        return DAMAGED
    if offset + total > end:
        return END_OF_BUFFER
    packet.time = u32(data, offset + 16) * SECOND + u32(data, offset + 20) * 1000
    packet.wire = max(captured, u32(data, offset))
    packet.trailer = 0
    packet.linktype = state.linktype
    packet.start = offset + 24
    packet.end = packet.start + captured
    state.lost = max(state.lost, u32(data, offset + 12))
    state.position = offset + total
    return PACKET_READ


@compiled
def read_pcapng_block(data: Buffer, end: Number, packet: Record, interfaces: Any, state: Record) -> Number:
    offset = state.position
    little = state.little != 0
    if offset + 12 > end:
        return END_OF_BUFFER
    kind = host32(data, offset, little)
    if kind != ENHANCED_PACKET_BLOCK and kind != SIMPLE_PACKET_BLOCK and kind != PACKET_BLOCK:
        return BLOCK
    total = host32(data, offset + 4, little)
    if total < 16 or total & 3 or total > state.largest:
        return DAMAGED
    if offset + total > end:
        return END_OF_BUFFER
    if host32(data, offset + total - 4, little) != total:
        return DAMAGED
    number = 0
    if kind == SIMPLE_PACKET_BLOCK:
        packet.start = offset + 12
        captured = total - 16
    else:
        if total < 32:
            return DAMAGED
        enhanced = kind == ENHANCED_PACKET_BLOCK
        number = host32(data, offset + 8, little) if enhanced else host16(data, offset + 8, little)
        captured = host32(data, offset + 20, little)
        packet.start = offset + 28
        if captured > total - 32:
            return DAMAGED
    if number >= state.interfaces:
        return DAMAGED
    interface = interfaces[number]
    if kind == SIMPLE_PACKET_BLOCK:
        packet.wire = host32(data, offset + 8, little)
        captured = min(captured, packet.wire)
        if interface.snaplen:
            captured = min(captured, interface.snaplen)
        packet.time = state.last  # a Simple Packet Block has no time stamp: take that of the packet before
    else:
        packet.wire = max(captured, host32(data, offset + 24, little))
        ticks = host32(data, offset + 12, little) << 32 | host32(data, offset + 16, little)
        packet.time = nanoseconds(ticks, interface)
    packet.linktype = interface.linktype
    packet.trailer = interface.trailer
    packet.end = packet.start + captured
    state.position = offset + total
    return PACKET_READ


@compiled
def nanoseconds(ticks: Number, interface: Record) -> Number:
    """Time of a pcapng time stamp, since the epoch."""
    if interface.bits < 0:
        return ticks // interface.divisor * interface.multiplier + interface.offset * SECOND
    bits = interface.bits
    seconds = ticks >> bits if bits < 63 else 0
    rest = ticks - (seconds << bits) if bits < 63 else ticks
    if bits > 30:  # or the product below would not fit 64 bits
        rest >>= bits - 30
        bits = 30
    return (seconds + interface.offset) * SECOND + (rest * SECOND >> bits)
