"""Packets that were captured twice, and flows that repeat others."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    COPY_ELSEWHERE,
    COPY_HERE,
    DATAGRAM_BYTES,
    ECHO_SAMPLE,
    ECHO_STAMP,
    ESP,
    HEAD_LIMITS,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
)
from analyzer.scanner.esp import carries_esp
from analyzer.scanner.integers import u16, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import mix

SPEAKS_NOTHING, SPEAKS_ECHO, SPEAKS_DNS, SPEAKS_NTP = range(1, 5)
"""Of which kind the content of a flow is that may well be another's; 0: it is read for itself."""
REPEATED = 8
"""Datagrams up to which a flow may be like another one."""


@compiled
def is_copy(b: Buffer, p: Record, f: Record, s: Record, secret: Any) -> Number:
    """Whether the side's packet was captured before, on another interface or by another path of the mirror.

    A capture on all interfaces of a router shows each packet two or three times within an instant, with another time
    to live or link-layer address. A sender's own repetition has another IPv4 identification, or comes later. What
    somebody forges to look like another packet has other content: all of it that a head may keep is compared, by a
    hash that nobody can foretell.
    """
    digest = secret[0] ^ (np.uint64(p.identification) << np.uint64(32) | np.uint64(p.length))
    at = p.payload
    stop = min(at + p.length, p.end)
    if p.protocol == TCP:
        numbers = np.uint64(p.sequence) << np.uint64(32) | np.uint64(p.acknowledgement)
        digest = mix(digest ^ mix(numbers + np.uint64(p.flags)))
        offset = np.int64(np.int32(np.uint32(p.sequence - s.base))) if s.based else np.int64(0)
        if f.account < 0 and offset >= HEAD_LIMITS[f.content]:
            stop = at
    else:
        stop = min(stop, at + (32 if carries_esp(b, p) else DATAGRAM_BYTES))
    one, two, three, four = digest, digest, digest, digest
    while at + 32 <= stop:  # four at a time, for none has to wait for another
        one = mix(one ^ u64(b, at))
        two = mix(two ^ u64(b, at + 8))
        three = mix(three ^ u64(b, at + 16))
        four = mix(four ^ u64(b, at + 24))
        at += 32
    digest = mix(one ^ mix(two ^ mix(three ^ mix(four))))
    while at + 8 <= stop:
        digest = mix(digest ^ u64(b, at))
        at += 8
    rest = np.uint64(1)
    while at < stop:
        rest = rest << np.uint64(8) | np.uint64(b[at])
        at += 1
    digest = mix(digest ^ rest)
    place = p.source_mac ^ np.int64(p.time_to_live) << 48 ^ np.int64(p.vlan) << 56
    for each in range(4):
        if s.recent[each] == digest:
            apart = abs(p.time - s.recent_time[each])
            if s.recent_place[each] != place and apart <= COPY_ELSEWHERE:
                return True
            if p.identification != 0 and apart <= COPY_HERE:
                return True
    slot = s.recent_next & 3
    s.recent[slot] = digest
    s.recent_place[slot] = place
    s.recent_time[slot] = p.time
    s.recent_next = slot + 1
    return False


@compiled
def repeats(f: Record, one: Record, two: Record, count: Number) -> Number:
    """What a flow with ``count`` kept pieces may repeat (``SPEAKS_…``); all of its payload must have been kept, but of
    NTP, where what is not kept says nothing new."""
    if f.errors or f.account >= 0 or f.protocol == ESP:
        return 0
    if count == 0:
        return SPEAKS_NOTHING if one.payload == 0 and two.payload == 0 else 0
    if f.protocol == TCP or count > REPEATED:
        return 0
    if f.protocol == UDP and (f.port0 == 123 or f.port1 == 123):
        return SPEAKS_NTP
    if count != one.packets + two.packets:
        return 0
    if f.protocol == ICMP or f.protocol == ICMPV6:
        return SPEAKS_ECHO
    if f.protocol == UDP and (f.port0 == 53 or f.port1 == 53):
        return SPEAKS_DNS
    return 0


@compiled
def essence(b: Buffer, at: Number, size: Number, speaks: Number, out: Buffer) -> Number:
    """Write what a datagram says to ``out``, without what only makes it unique or dates it; returns the length.

    -1: this one must be read. An echo's identifier, sequence number and data and a DNS message's identifier matter by
    being another datagram's (see :func:`likenesses`); the times of NTP and the times to live of DNS say nothing here.
    """
    if speaks == SPEAKS_ECHO:
        if size < 8 or b[at] not in (0, 8, 128, 129):
            return -1
        out[0] = b[at]
        out[1] = b[at + 1]
        return 2
    if speaks == SPEAKS_NTP:
        if size != 48 or b[at] & 7 >= 6:
            return -1
        for each in range(4):
            out[each] = b[at + each]
            out[4 + each] = b[at + 12 + each]
        return 8
    if size < 12 or u16(b, at) + 2 <= size:  # or it may be the length of a framed message
        return -1
    for each in range(2, size):
        out[each - 2] = b[at + each]
    place = np.int64(12)
    questions = u16(b, at + 4)
    for record in range(questions + u16(b, at + 6) + u16(b, at + 8) + u16(b, at + 10)):
        while place < size and 0 < b[at + place] < 0xC0:
            place += 1 + np.int64(b[at + place])
        if place >= size:
            break
        place += 2 if b[at + place] else 1
        if record < questions:
            place += 4
            continue
        if place + 10 > size:
            break
        if u16(b, at + place) != 41:  # of OPT it is no time to live (RFC 6891 section 6.1.3)
            for each in range(2, 6):
                out[place + each] = 0
        place += 10 + u16(b, at + place + 8)
    return size - 2


@compiled
def token(b: Buffer, pieces: Any, start: Number, index: Number, begin: Number, end: Number) -> Number:
    """Number of the flow's first datagram that has the same bytes from ``begin`` to ``end``, or as far as it reaches,
    as the one at ``start + index``."""
    at = pieces[start + index].arena
    stop = min(end, np.int64(pieces[start + index].kept))
    for earlier in range(index):
        if min(end, np.int64(pieces[start + earlier].kept)) != stop:
            continue
        place = pieces[start + earlier].arena
        same_bytes = True
        for each in range(begin, stop):
            if b[at + each] != b[place + each]:
                same_bytes = False
                break
        if same_bytes:
            return earlier
    return index


@compiled
def likenesses(b: Buffer, pieces: Any, start: Number, index: Number, speaks: Number) -> Number:
    """Of a datagram's unique parts, which earlier ones of its flow they equal: all that a reader compares."""
    if speaks == SPEAKS_DNS:
        return token(b, pieces, start, index, 0, 2)
    if speaks == SPEAKS_ECHO:
        numbers = token(b, pieces, start, index, 4, 8)
        data = token(b, pieces, start, index, 8, 8 + ECHO_SAMPLE)
        return numbers << 8 | data << 4 | token(b, pieces, start, index, 8 + ECHO_STAMP, 8 + ECHO_SAMPLE)
    return 0


@compiled
def speech_digest(
    b: Buffer, pieces: Any, start: Number, stop: Number, speaks: Number, secret: Any, out: Buffer
) -> Number:
    """A hash of what a flow says; 0: it must be read for itself."""
    digest = mix(secret[0] + np.uint64(speaks))
    for index in range(start, stop):
        piece = pieces[index]
        if piece.kept != piece.length or piece.error:
            return np.uint64(0)
        size = essence(b, piece.arena, piece.kept, speaks, out)
        if size < 0:
            return np.uint64(0)
        same_as = likenesses(b, pieces, start, index - start, speaks)
        digest = mix(digest * secret[1] + np.uint64(piece.kept << 16 | piece.side << 12 | same_as))
        for each in range(size):
            digest = (digest ^ np.uint64(out[each])) * secret[2]
        digest = mix(digest)
    return digest | np.uint64(1)


@compiled
def same_speech(
    b: Buffer, pieces: Any, starts: Any, one: Number, two: Number, speaks: Number, out: Buffer, other: Buffer
) -> Number:
    """Whether two flows say the same, datagram by datagram."""
    start, begin = starts[one], starts[two]
    count = starts[one + 1] - start
    if count != starts[two + 1] - begin:
        return False
    for index in range(count):
        left, right = pieces[start + index], pieces[begin + index]
        if left.kept != right.kept or left.side != right.side:
            return False
        size = essence(b, left.arena, left.kept, speaks, out)
        if size != essence(b, right.arena, right.kept, speaks, other):
            return False
        if likenesses(b, pieces, start, index, speaks) != likenesses(b, pieces, begin, index, speaks):
            return False
        for each in range(size):
            if out[each] != other[each]:
                return False
    return True


@compiled
def service_side(f: Record, named: Any) -> Number:
    """The side whose port is the service's, while the other one's says nothing; -1: that cannot be told.

    ``named[p]``: port p names a service.
    """
    if f.protocol == ICMP or f.protocol == ICMPV6:
        return 1
    if f.port0 < 0 or f.port1 < 0:
        return -1
    side = 1 - f.syn_side if f.syn_side >= 0 else 1 if named[f.port1] else 0
    if named[f.port0 if side else f.port1] or (f.syn_side < 0 and not named[f.port1 if side else f.port0]):
        return -1
    return side


@compiled
def same_side(one: Record, two: Record) -> Number:
    """Whether all that a judgement asks of one side's packets is equal."""
    return (
        one.packets == two.packets
        and one.bytes == two.bytes
        and one.payload == two.payload
        and one.retransmitted == two.retransmitted
        and one.mac == two.mac
        and one.flags == two.flags
        and one.acknowledged == two.acknowledged
        and one.begins == two.begins
        and one.ending == two.ending
        and one.copies == two.copies
    )


@compiled
def same_kind(flows: Any, sides: Any, one: Number, two: Number, side: Number) -> Number:
    """Whether two flows that say the same go between the same hosts, to the same service, and ended the same way."""
    f, g = flows[one], flows[two]
    echo = f.protocol == ICMP or f.protocol == ICMPV6
    return (
        (echo or (f.port1 == g.port1 if side else f.port0 == g.port0))
        and f.protocol == g.protocol
        and f.high0 == g.high0
        and f.low0 == g.low0
        and f.high1 == g.high1
        and f.low1 == g.low1
        and f.vlan == g.vlan
        and f.note == g.note
        and f.syn_side == g.syn_side
        and f.reset_side == g.reset_side
        and same_side(sides[2 * one], sides[2 * two])
        and same_side(sides[2 * one + 1], sides[2 * two + 1])
    )
