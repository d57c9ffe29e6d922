"""IEC 104 over the whole TCP stream: APDUs, their sequence numbers, and what waits for a segment that is late."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    ASDU_SIZES,
    BAD_CAUSE,
    BAD_CONTROL,
    BAD_FIXED,
    BAD_FUNCTION,
    BAD_HEADER,
    BAD_HEADER_SIZE,
    BAD_IDENTIFIER,
    BAD_LENGTH,
    BAD_OBJECTS,
    BAD_START,
    BAD_TYPE,
    BAD_VERSION,
    BREAK,
    CONTENT_IEC104,
    DOUBTS,
    EARLY,
    EARLY_BYTES,
    EXCESS,
    GAP,
    GOOD,
    HEADER,
    HIGHEST_LRR_TYPE,
    IDENTIFIED,
    JUMP,
    LINKS,
    MORE,
    SHOWN,
    STANDARD,
    STANDARD_ASDU,
    STARTDT,
    UNANSWERED,
    UNFOLLOWED,
    UNKNOWN,
    WINDOW,
    WRONG,
)
from analyzer.scanner.integers import little16, little32, u16
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import happened


@compiled
def judge(b: Buffer, at: Number, have: Number) -> Number:
    """What the ``have`` bytes at ``at``, at least one, say of the APDU that begins there.

    Returns the outcome (GOOD, MORE: they are too few, or why it is broken: BAD_*); if GOOD the APDU's length, start
    byte and length included, and 0, 0; if broken the offset of the offending byte, its value, and what it should
    agree with. It says what :func:`analyzer.protocols.iec104.apdu` says.
    """
    start = np.int64(b[at])
    if start == 0x68:
        if have < 2:
            return MORE, 0, 0, 0
        control = 2
        length = np.int64(b[at + 1])
        if length < 4 or length > 253:
            return BAD_LENGTH, 1, length, start
    elif start == 0x69:
        if have < 3:
            return MORE, 0, 0, 0
        control = 3
        length = np.int64(u16(b, at + 1))
        if length < 254 or length > 16384:
            return BAD_LENGTH, 1, length, start
    else:
        return BAD_START, 0, start, 0
    if have < control + 4:
        return MORE, 0, 0, 0
    one = np.int64(b[at + control])
    if one & 1:
        if length != 4:
            return BAD_FIXED, 1, length, 0
        if one & 2 and function_of(one) < 0:
            return BAD_FUNCTION, control, one, 0
        return GOOD, control + length, 0, 0
    if b[at + control + 2] & 1:
        return BAD_CONTROL, control + 2, np.int64(b[at + control + 2]), 0
    size = length - 4
    if size == 0:
        return GOOD, control + length, 0, 0
    body = control + 4
    have -= body
    if have < min(2, size):
        return MORE, 0, 0, 0
    at += body
    kind = np.int64(b[at])
    if kind <= 1 and (size == 1 or b[at + 1] == 0):
        if kind != 1:
            return BAD_VERSION, body, kind, 0
        if size < 20:
            return BAD_HEADER, body, size, 0
        if have < 20:
            return MORE, 0, 0, 0
        header = np.int64(little16(b, at + 2))
        if header < 20 or header > size:
            return BAD_HEADER_SIZE, body + 2, header, size
        return GOOD, control + length, 0, 0
    element = ASDU_SIZES[kind]
    if element == -2:
        return BAD_TYPE, body, kind, 0
    if size < 6:
        return BAD_IDENTIFIER, body, size, 0
    if have < 6:
        return MORE, 0, 0, 0
    if b[at + 2] & 63 == 0:
        return BAD_CAUSE, body + 2, 0, 0
    objects = np.int64(b[at + 1]) & 0x7F
    if element >= 0:
        need = objects * (3 + element) if b[at + 1] < 0x80 or objects == 0 else 3 + objects * element
        if need != size - 6:
            return BAD_OBJECTS, body + 1, kind << 16 | need, (size - 6) << 8 | objects
    return GOOD, control + length, 0, 0


@compiled
def function_of(first: Number) -> Number:
    """Index in ``functions`` of what a U frame says; -1: nothing that is known."""
    if first == 0x07:
        return 0
    if first == 0x0B:
        return 1
    if first == 0x13:
        return 2
    if first == 0x23:
        return 3
    if first == 0x43:
        return 4
    if first == 0x83:
        return 5
    return -1


@compiled
def opens_link(b: Buffer, p: Record, f: Record, clock: Record) -> Number:
    """Whether an IEC 104 link is to be followed from this segment on: by its first bytes, or by its port."""
    captured = min(p.length, p.end - p.payload)
    if captured <= 0 or f.account == UNFOLLOWED:
        return False
    opens = f.port0 == 2404 or f.port1 == 2404 or f.port0 == 2504 or f.port1 == 2504
    if not opens and f.content == CONTENT_IEC104:
        outcome, _, _, _ = judge(b, p.payload, captured)
        opens = outcome <= GOOD
    if opens and clock.links >= LINKS:
        f.account = UNFOLLOWED
        return False
    return opens


@compiled
def open_link(f: Record, sides: Any, flow: Number, side: Number, clock: Record, tables: Any) -> None:
    links, lines, _, _ = tables
    link = clock.links
    clock.links = link + 1
    f.account = link
    links[link].flow = flow
    links[link].startdt = -1
    for each in range(2):
        line = lines[2 * link + each]
        s = sides[2 * flow + each]
        line.first = -1
        line.sent = -1
        line.expected = -1
        line.received = -1
        if s.begins and s.pieces <= (1 if each == side else 0):
            line.next = s.base
            line.based = 1
            line.whole = 1
            line.synchronised = 1
            line.expected = 0
            line.received = 0


@compiled
def follow_apdus(
    b: Buffer, p: Record, f: Record, sides: Any, side: Number, arena: Any, clock: Record, tables: Any
) -> None:
    """Read a segment of a link, or let it wait for what should come before it."""
    _, lines, reorders, _ = tables
    if f.account < 0:
        open_link(f, sides, clock.flow, side, clock, tables)
    link = f.account
    line = lines[2 * link + side]
    if not line.based:
        line.based = 1
        line.next = p.sequence
        line.offset = np.int64(np.int32(np.uint32(p.sequence - sides[2 * clock.flow + side].base)))
        line.doubt = DOUBTS
    length = p.length
    kept = min(length, p.end - p.payload)
    where = p.frame, p.time, clock.capture
    early = np.int64(np.int32(np.uint32(p.sequence - line.next)))
    while early > 0:
        if waits(b, p.payload, kept, p.sequence, length, where, line, arena, clock, reorders):
            return
        if reorders[line.reorder - 1].count:
            give_up(arena, link, side, clock, tables)
        else:  # it is longer than what may wait
            skip(early, link, side, lines)
        early = np.int64(np.int32(np.uint32(p.sequence - line.next)))
    while early + length > 0:
        stop = length  # of overlapping bytes the first to arrive win
        if line.reorder:
            r = reorders[line.reorder - 1]
            for each in range(r.count):
                start = np.int64(np.int32(np.uint32(r.early_sequence[each] - p.sequence)))
                if -early < start < stop:
                    stop = start
        feed(b, p.payload - early, min(kept, stop) + early, stop + early, where, link, side, arena, clock, tables)
        drain(arena, link, side, clock, tables)
        early = np.int64(np.int32(np.uint32(p.sequence - line.next)))


@compiled
def reorder_of(line: Record, clock: Record, reorders: Any) -> Number:
    """The record of what waits, made where there is none yet."""
    if line.reorder == 0:
        r = reorders[clock.reorders]
        clock.reorders += 1
        line.reorder = clock.reorders
        r.header = clock.arena
        r.room = clock.arena + 32
        clock.arena += 32 + EARLY_BYTES
    return reorders[line.reorder - 1]


@compiled
def waits(
    b: Buffer,
    begin: Number,
    kept: Number,
    sequence: Number,
    length: Number,
    where: Any,
    line: Record,
    arena: Any,
    clock: Record,
    reorders: Any,
) -> Number:
    """Keep a segment that came early, if there is room."""
    r = reorder_of(line, clock, reorders)
    if r.count >= EARLY or r.used + kept > EARLY_BYTES:
        return False
    at = r.room + r.used
    for each in range(kept):
        arena[at + each] = b[begin + each]
    index = r.count
    r.early_sequence[index] = sequence
    r.early_length[index] = length
    r.early_kept[index] = kept
    r.early_at[index] = at
    r.early_frame[index] = where[0]
    r.early_time[index] = where[1]
    r.early_capture[index] = where[2]
    r.used += kept
    r.count = index + 1
    return True


@compiled
def give_up(arena: Any, link: Number, side: Number, clock: Record, tables: Any) -> None:
    """Something waits: take as lost what should come before it, and go on with the first that waits."""
    _, lines, reorders, _ = tables
    line = lines[2 * link + side]
    r = reorders[line.reorder - 1]
    nearest = np.int64(1) << 32
    for each in range(r.count):
        nearest = min(nearest, np.int64(np.int32(np.uint32(r.early_sequence[each] - line.next))))
    if nearest > 0:
        skip(nearest, link, side, lines)
    drain(arena, link, side, clock, tables)


@compiled
def drain(arena: Any, link: Number, side: Number, clock: Record, tables: Any) -> None:
    """Read all that waits and whose turn it is."""
    _, lines, reorders, _ = tables
    line = lines[2 * link + side]
    if line.reorder == 0 or reorders[line.reorder - 1].count == 0:
        return
    r = reorders[line.reorder - 1]
    index = 0
    while index < r.count:
        early = np.int64(np.int32(np.uint32(r.early_sequence[index] - line.next)))
        stop = np.int64(r.early_length[index])
        if early > 0 or early + stop <= 0:
            index += 1
            continue
        for each in range(index):
            start = np.int64(np.int32(np.uint32(r.early_sequence[each] - r.early_sequence[index])))
            if -early < start < stop:
                stop = start
        kept = min(np.int64(r.early_kept[index]), stop)
        where = r.early_frame[index], r.early_time[index], np.int64(r.early_capture[index])
        feed(arena, r.early_at[index] - early, kept + early, stop + early, where, link, side, arena, clock, tables)
        index = 0
    left = 0
    for each in range(r.count):
        behind = np.int64(np.int32(np.uint32(r.early_sequence[each] - line.next))) + r.early_length[each]
        if behind <= 0:
            continue
        r.early_sequence[left] = r.early_sequence[each]
        r.early_length[left] = r.early_length[each]
        r.early_kept[left] = r.early_kept[each]
        r.early_at[left] = r.early_at[each]
        r.early_frame[left] = r.early_frame[each]
        r.early_time[left] = r.early_time[each]
        r.early_capture[left] = r.early_capture[each]
        left += 1
    r.count = left
    if left == 0:
        r.used = 0


@compiled
def skip(count: Number, link: Number, side: Number, lines: Any) -> None:
    """Go on behind bytes that the capture lacks; if they may hold the beginning of an APDU, look for the next one."""
    line = lines[2 * link + side]
    line.next = np.uint32(line.next + np.uint32(count))
    line.offset += count
    line.missing += count
    if line.synchronised and line.gathered == 0 and line.left >= count:
        line.left -= count
        return
    line.gaps += line.synchronised
    line.doubt = DOUBTS
    line.sent = -1
    line.expected = -1
    line.received = -1
    line.testing = 0
    lines[2 * link + 1 - side].testing = 0
    lose(line)


@compiled
def lose(line: Record) -> None:
    """Look for the next APDU at the beginnings of the segments that follow."""
    line.synchronised = 0
    line.gathered = 0
    line.left = 0


@compiled
def feed(
    b: Buffer,
    at: Number,
    kept: Number,
    length: Number,
    where: Any,
    link: Number,
    side: Number,
    arena: Any,
    clock: Record,
    tables: Any,
) -> None:
    """Read what follows in order: ``kept`` bytes at ``at``, of ``length`` that were sent."""
    _, lines, _, _ = tables
    if kept > 0:
        consume(b, at, kept, where, link, side, arena, clock, tables)
    if length > max(kept, 0):
        skip(length - max(kept, 0), link, side, lines)


@compiled
def consume(
    b: Buffer,
    at: Number,
    count: Number,
    where: Any,
    link: Number,
    side: Number,
    arena: Any,
    clock: Record,
    tables: Any,
) -> None:
    """APDU after APDU in bytes that were captured."""
    links, lines, reorders, events = tables
    line = lines[2 * link + side]
    end = at + count
    begin = at
    offset = line.offset  # of the byte at ``begin``
    line.next = np.uint32(line.next + np.uint32(count))
    line.offset += count
    while at < end:
        if line.left:
            step = min(line.left, end - at)
            line.left -= step
            at += step
            continue
        if not line.synchronised:
            outcome, _, _, _ = judge(b, at, end - at)
            if at > begin or not (outcome == GOOD or (outcome == MORE and end - at >= 6)):
                line.unread += end - at
                return
            line.synchronised = 1
            line.resynchronised += 1
            if line.missing and line.resynchronised <= SHOWN:
                happened(links[link].flow, side, GAP, where, offset + at - begin, 0, 0, events, clock)
        gathered = np.int64(line.gathered)
        if gathered == 0:
            line.began = offset + at - begin
            line.began_frame = where[0]
            line.began_time = where[1]
            line.began_capture = where[2]
            outcome, size, value, other = judge(b, at, end - at)
            if outcome == GOOD:
                note(b, at, size, where, link, side, clock, tables)
                line.size = size
                line.left = size
                continue
        else:
            outcome, size, value, other = MORE, 0, 0, 0
        if outcome == MORE:
            r = reorder_of(line, clock, reorders)
            fresh = min(HEADER - gathered, end - at)
            for each in range(fresh):
                arena[r.header + gathered + each] = b[at + each]
                r.frame[gathered + each] = where[0]
                r.time[gathered + each] = where[1]
                r.capture[gathered + each] = where[2]
            outcome, size, value, other = judge(arena, r.header, gathered + fresh)
            if outcome == MORE:
                line.gathered = gathered + fresh
                return
            line.gathered = 0
            if outcome == GOOD:
                note(arena, r.header, size, where, link, side, clock, tables)
                line.size = size
                line.left = size - gathered
                continue
            if size < gathered:
                where = r.frame[size], r.time[size], np.int64(r.capture[size])
        # Broken: ``size`` tells where.
        if line.doubt == 0:
            if line.breaks < SHOWN:
                happened(
                    links[link].flow, side, BREAK, where, line.began + size, outcome | value << 8, other, events, clock
                )
            line.breaks += 1
            line.sent = -1
            line.expected = -1
            line.received = -1
        else:
            line.doubt = DOUBTS
        line.unread += end - at
        lose(line)
        return


@compiled
def note(
    b: Buffer, at: Number, size: Number, where: Any, link: Number, side: Number, clock: Record, tables: Any
) -> None:
    """Account for an APDU that begins well."""
    links, lines, reorders, events = tables
    k = links[link]
    line = lines[2 * link + side]
    peer = lines[2 * link + 1 - side]
    # Whether what the peer sent is not read as far as it came.
    waits = peer.reorder > 0 and reorders[peer.reorder - 1].count > 0
    if line.doubt:
        line.doubt -= 1
    if k.last and where[1] - k.last > k.silence:
        k.silence = where[1] - k.last
        k.silence_frame = where[0]
        k.silence_capture = where[2]
    k.last = max(k.last, where[1])
    line.apdus += 1
    control = 2
    if b[at] == 0x69:
        control = 3
        line.long += 1
    one = np.int64(b[at + control])
    if one & 3 == 3:
        function = function_of(one)
        line.functions[function] += 1
        if function == 0:
            if k.startdt < 0:
                k.startdt = side
            if line.functions[0] <= SHOWN:
                happened(k.flow, side, STARTDT, where, line.began, 0, 0, events, clock)
        elif function == 4:
            if line.testing:
                line.unanswered += 1
                if line.unanswered <= SHOWN:
                    happened(k.flow, side, UNANSWERED, where, line.began, where[1] - line.test_time, 0, events, clock)
            line.testing = 1
            line.test_time = where[1]
        elif function == 5 and peer.testing:
            peer.testing = 0
            peer.answered += 1
            peer.longest_wait = max(peer.longest_wait, where[1] - peer.test_time)
        return
    modulus = 32767 if line.lrr or peer.lrr else 32768
    received = np.int64(little16(b, at + control + 2)) >> 1
    acknowledge(line, -1 if waits else peer.sent, received, modulus, where, k.flow, side, events, clock)
    if one & 1:
        line.s_frames += 1
        return
    line.i_frames += 1
    number = np.int64(little16(b, at + control)) >> 1
    if line.first < 0:
        line.first = number
    known = line.expected >= 0 and line.doubt == 0
    if known and number != line.expected and not (number == 0 and line.sent == 32766):
        line.jumps += 1
        if number == line.sent:
            line.repeats += 1
        if line.jumps <= SHOWN:
            happened(k.flow, side, JUMP, where, line.began, number, line.sent, events, clock)
    if number == 0 and line.sent >= 32766:
        line.modulus = line.sent + 1
    line.sent = number
    line.expected = (number + 1) & 0x7FFF
    if peer.received >= 0 and not waits:
        outstanding = (number + 1 - peer.received) % modulus
        if outstanding < modulus // 2:
            line.outstanding = max(line.outstanding, outstanding)
            if outstanding > WINDOW:
                line.excesses += 1
                if line.excesses <= SHOWN:
                    happened(k.flow, side, EXCESS, where, line.began, outstanding, 0, events, clock)
    carried = size - control - 4
    if carried == 0:
        line.empty += 1
        return
    line.asdu_bytes += carried
    at += control + 4
    kind = np.int64(b[at])
    if kind == 1 and b[at + 1] == 0:
        line.lrr += 1
        kind = np.int64(little16(b, at + 6))
        if kind > HIGHEST_LRR_TYPE:
            line.unknown += 1
            if line.unknown <= SHOWN:
                happened(k.flow, side, UNKNOWN, where, line.began, kind, 0, events, clock)
        if identify(k, np.uint32(little32(b, at + 8))):
            happened(k.flow, side, IDENTIFIED, where, line.began, k.id[k.ids - 1], 0, events, clock)
    else:
        line.standard += 1
        if line.standard <= SHOWN:
            happened(k.flow, side, STANDARD_ASDU, where, line.began, kind, 0, events, clock)
        kind |= STANDARD
    for each in range(k.kinds):
        if k.kind[each] == kind:
            k.kind_count[each] += 1
            return
    if k.kinds < 64:
        k.kind[k.kinds] = kind
        k.kind_count[k.kinds] = 1
        k.kinds += 1
    else:
        k.other_kinds += 1


@compiled
def acknowledge(
    line: Record,
    sent: Number,
    received: Number,
    modulus: Number,
    where: Any,
    flow: Number,
    side: Number,
    events: Any,
    clock: Record,
) -> None:
    """A receive sequence number: it never goes back, and acknowledges only what was sent.

    ``sent``: the newest send sequence number of the other side; -1: unknown. Where the two directions were captured at
    two places, an acknowledgement may come before what it acknowledges, but never by more than may be sent without one.
    """
    wrong = False
    before = line.received
    if before >= 0 and (received - before) % modulus > modulus // 2:
        wrong = True
    if sent >= 0 and WINDOW < (received - sent - 1) % modulus < modulus // 2:
        wrong = True
        before = sent
    if wrong:
        line.wrong += 1
        if line.wrong <= SHOWN:
            happened(flow, side, WRONG, where, line.began, received, before, events, clock)
    line.received = received


@compiled
def identify(k: Record, lrr: Number) -> Number:
    """Remember an LRR-ID; returns whether it is a new one."""
    for each in range(k.ids):
        if k.id[each] == lrr:
            return False
    if k.ids < 4:
        k.id[k.ids] = lrr
        k.ids += 1
        return True
    k.other_ids += 1
    return False
