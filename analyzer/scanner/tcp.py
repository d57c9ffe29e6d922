"""TCP over the whole flow: handshake, sequence numbers, close."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import ACK, CONTENT_SSH, CONTENT_TLS, FIN, RST, SYN, TRACK_APDUS, TRACK_SECURE
from analyzer.scanner.iec104 import is_link
from analyzer.scanner.integers import distance
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.payload import keep_segment


@compiled
def track_tcp(
    data: Buffer,
    packet: Record,
    flow: Record,
    side: Record,
    peer: Record,
    flow_index: Number,
    sender: Number,
    pieces: Any,
    arena: Any,
    state: Record,
) -> Number:
    """Update the connection state of a flow, and keep the payload of a segment; returns TRACK_* or 0.

    ``peer`` is the other side. After a SYN, ``packet.sequence`` becomes that of the first byte of payload. A SYN with
    another number counts only while the peer has acknowledged none: later, the peer ignores it (RFC 9293, 3.10.7.4).
    """
    flags = packet.flags
    side.flags |= flags
    if flags & RST:
        if flow.reset_frame == 0:
            flow.reset_frame = packet.frame
            flow.reset_capture = state.capture
            flow.reset_side = sender
        flow.closed = 1
        return 0
    if flags & SYN:
        if flow.syn_side < 0:
            flow.syn_side = sender if not flags & ACK else 1 - sender
        side.initial = packet.sequence
        side.opened = packet.time
        packet.sequence = np.uint32(packet.sequence + np.uint32(1))
        if side.pieces == 0 and not (side.begins and peer.acknowledged):
            begin_stream(side, packet.sequence)
        if packet.length == 0:
            return 0
    elif flags & ACK:
        if not side.acknowledged:
            side.acknowledged = 1
            side.first_acknowledged = packet.acknowledgement
            side.acknowledged_to = packet.acknowledgement
        elif distance(packet.acknowledgement, side.acknowledged_to) > 0:
            side.acknowledged_to = packet.acknowledgement
    if not side.based and (packet.length or flags & FIN):
        side.base = packet.sequence
        side.next = packet.sequence
        side.based = 1
    if flags & FIN and side.ending < 0:
        side.ending = distance(packet.sequence, side.base) + packet.length
        if flow.fin_side < 0:
            flow.fin_side = sender
    if packet.length:
        count_payload(packet, side)
        if not side.closed:
            keep_segment(data, packet, flow, side, flow_index, sender, pieces, arena, state)
        if flow.tracking >= 0 or is_link(data, packet, flow, state):
            return TRACK_APDUS
        if flow.content == CONTENT_TLS or flow.content == CONTENT_SSH:
            return TRACK_SECURE
    return 0


@compiled
def begin_stream(side: Record, sequence: Number) -> None:
    """Set the TCP sequence number of the first byte that a side sends."""
    side.initial = np.uint32(sequence - np.uint32(1))
    side.base = sequence
    side.next = sequence
    side.based = 1
    side.begins = 1


@compiled
def count_payload(packet: Record, side: Record) -> None:
    """Count payload that is new, or that fills the newest gap; anything else is a retransmission.

    A keep-alive probe (RFC 9293, section 3.8.4) repeats one byte at most, and is not counted.
    """
    end = np.uint32(packet.sequence + np.uint32(packet.length))
    ahead = distance(end, side.next)
    into_gap = distance(packet.sequence, side.gap)
    if ahead > 0:
        side.payload += min(ahead, packet.length)
        side.newest = packet.time
        if ahead > packet.length:
            side.gap = side.next
            side.gap_end = packet.sequence
        side.next = end
    elif into_gap >= 0 and distance(side.gap_end, end) >= 0:
        side.payload += packet.length
        side.newest = packet.time
        if into_gap == 0:
            side.gap = end
        else:  # of the two parts left, the earlier is more likely to be filled
            side.gap_end = packet.sequence
    elif packet.length > 1:
        side.retransmitted += 1
