"""TCP: sequence numbers, handshake and close."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import ACK, FIN, FOLLOW_APDUS, RST, SYN
from analyzer.scanner.iec104 import opens_link
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.payload import keep_stream


@compiled
def follow_tcp(
    b: Buffer, p: Record, f: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> Number:
    """Sequence numbers, handshake and close of a TCP conversation, and its head.

    Returns what is to follow the segment (FOLLOW_*).
    """
    flags = p.flags
    s.flags |= flags
    if flags & RST:
        if f.reset_frame == 0:
            f.reset_frame = p.frame
            f.reset_capture = clock.capture
            f.reset_side = side
        f.closed = 1
        return 0
    if flags & SYN:
        if f.syn_side < 0:
            f.syn_side = side if not flags & ACK else 1 - side
        s.initial = p.sequence
        if s.pieces == 0:
            s.base = np.uint32(p.sequence + np.uint32(1))
            s.next = s.base
            s.based = 1
            s.begins = 1
        if p.length == 0:
            return 0
    elif flags & ACK:
        s.acknowledged = 1
    sequence = np.uint32(p.sequence + np.uint32(1)) if flags & SYN else np.uint32(p.sequence)
    p.sequence = sequence
    if not s.based and (p.length or flags & FIN):
        s.base = sequence
        s.next = sequence
        s.based = 1
    if flags & FIN and s.ending < 0:
        s.ending = np.int64(np.int32(np.uint32(sequence - s.base))) + p.length
    if p.length:
        behind = np.uint32(sequence + np.uint32(p.length))
        ahead = np.int64(np.int32(np.uint32(behind - s.next)))
        late = np.int64(np.int32(np.uint32(sequence - s.hole)))
        fills = ahead <= 0 <= late and np.int64(np.int32(np.uint32(s.hole_end - behind))) >= 0
        if ahead > 0 or fills:
            if fills:
                s.payload += p.length
                if late == 0:
                    s.hole = behind
                else:  # of what is left in two parts, the earlier is the longer expected
                    s.hole_end = sequence
            else:
                s.payload += min(ahead, p.length)
                if ahead > p.length:
                    s.hole = s.next
                    s.hole_end = sequence
                s.next = behind
        elif p.length > 1:
            s.retransmitted += 1
        if not s.closed:
            keep_stream(b, p, f, s, flow, side, pieces, arena, clock)
        if f.account >= 0 or opens_link(b, p, f, clock):
            return FOLLOW_APDUS
    return 0
