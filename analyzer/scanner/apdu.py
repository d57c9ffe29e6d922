"""One APDU of IEC 60870-5-104: its framing, and what is counted of it.

``origin`` is the (frame, time, capture) of the APDU, and ``tables`` are the arrays (LINK, LINK_DIRECTION, REORDER,
EVENT).
"""

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
    HIGHEST_LRR_TYPE,
    INCOMPLETE,
    MAX_EVENTS,
    NEW_LRR_ID,
    SEQUENCE_JUMP,
    STANDARD_ASDU,
    STANDARD_TYPE,
    STARTDT,
    UNANSWERED_TESTFR,
    UNKNOWN_LRR_TYPE,
    VALID,
    WINDOW,
    WINDOW_EXCEEDED,
    WRONG_ACKNOWLEDGEMENT,
)
from analyzer.scanner.integers import little16, little32, u16
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import record_event

SHORT, LONG = 0x68, 0x69
"""Start bytes: of IEC 60870-5-104, and of the LRR's longer APDUs, with a length of two bytes."""
LRR_HEADER = 20
"""Bytes of the payload header of an LRR."""
IDENTIFIER = 6
"""Bytes of a data unit identifier."""
STARTDT_ACT, TESTFR_ACT, TESTFR_CON = 0, 4, 5
"""Indices into ``functions``."""
LRR_MODULUS, MODULUS = 32767, 32768
"""Send sequence numbers wrap here; an LRR skips 32767."""


@compiled
def check_apdu(data: Buffer, offset: Number, have: Number) -> Number:
    """Check the framing of the APDU that starts at ``offset``, of which there are ``have`` bytes, at least one.

    Returns (outcome, size, value, other). VALID: ``size`` is the length of the APDU with start byte and length.
    INCOMPLETE: more bytes are needed. BAD_*: ``size`` is the offset in the APDU of the offending byte, then its value
    and what it should agree with. :func:`analyzer.protocols.iec104.read_apdu` is the same grammar.
    """
    start = np.int64(data[offset])
    if start == SHORT:
        if have < 2:
            return INCOMPLETE, 0, 0, 0
        control = 2
        length = np.int64(data[offset + 1])
        if length < 4 or length > 253:
            return BAD_LENGTH, 1, length, start
    elif start == LONG:
        if have < 3:
            return INCOMPLETE, 0, 0, 0
        control = 3
        length = np.int64(u16(data, offset + 1))
        if length < 254 or length > 16384:
            return BAD_LENGTH, 1, length, start
    else:
        return BAD_START, 0, start, 0
    if have < control + 4:
        return INCOMPLETE, 0, 0, 0
    first = np.int64(data[offset + control])
    if first & 1:  # an S or U frame
        if length != 4:
            return BAD_FIXED, 1, length, 0
        if first & 2 and u_function(first) < 0:
            return BAD_FUNCTION, control, first, 0
        return VALID, control + length, 0, 0
    third = np.int64(data[offset + control + 2])
    if third & 1:
        return BAD_CONTROL, control + 2, third, 0
    if length == 4:
        return VALID, control + length, 0, 0
    body = control + 4
    outcome, place, value, other = check_payload(data, offset + body, have - body, length - 4)
    if outcome == VALID:
        return VALID, control + length, 0, 0
    return outcome, body + place, value, other


@compiled
def check_payload(data: Buffer, offset: Number, have: Number, size: Number) -> Number:
    """Check the payload of an I frame, of which there are ``have`` of ``size`` bytes: an LRR's, or a standard ASDU.

    Returns (outcome, place, value, other) like :func:`check_apdu`, with the place in the payload.
    """
    if have < min(2, size):
        return INCOMPLETE, 0, 0, 0
    kind = np.int64(data[offset])
    if kind <= 1 and (size == 1 or data[offset + 1] == 0):
        if kind != 1:
            return BAD_VERSION, 0, kind, 0
        if size < LRR_HEADER:
            return BAD_HEADER, 0, size, 0
        if have < LRR_HEADER:
            return INCOMPLETE, 0, 0, 0
        header = np.int64(little16(data, offset + 2))
        if header < LRR_HEADER or header > size:
            return BAD_HEADER_SIZE, 2, header, size
        return VALID, 0, 0, 0
    element = ASDU_SIZES[kind]
    if element == -2:
        return BAD_TYPE, 0, kind, 0
    if size < IDENTIFIER:
        return BAD_IDENTIFIER, 0, size, 0
    if have < IDENTIFIER:
        return INCOMPLETE, 0, 0, 0
    if data[offset + 2] & 63 == 0:
        return BAD_CAUSE, 2, 0, 0
    objects = np.int64(data[offset + 1]) & 0x7F
    if element >= 0:
        # Each object has an address of three bytes, but a sequence of elements (SQ = 1) has one for all.
        sequence = data[offset + 1] >= 0x80 and objects > 0
        need = 3 + objects * element if sequence else objects * (3 + element)
        if need != size - IDENTIFIER:
            return BAD_OBJECTS, 1, kind << 16 | need, (size - IDENTIFIER) << 8 | objects
    return VALID, 0, 0, 0


@compiled
def u_function(first: Number) -> Number:
    """Index in ``functions`` of a U frame with this first byte of the control field; -1: unknown."""
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
def count_apdu(
    data: Buffer,
    offset: Number,
    size: Number,
    origin: Any,
    link_index: Number,
    sender: Number,
    state: Record,
    tables: Any,
) -> None:
    """Count a valid APDU."""
    links, directions, reorders, events = tables
    link = links[link_index]
    direction = directions[2 * link_index + sender]
    peer = directions[2 * link_index + 1 - sender]
    if direction.unconfirmed:
        direction.unconfirmed -= 1
    if link.last and origin[1] - link.last > link.silence:
        link.silence = origin[1] - link.last
        link.silence_frame = origin[0]
        link.silence_capture = origin[2]
    link.last = max(link.last, origin[1])
    direction.apdus += 1
    control = offset + 2
    if data[offset] == LONG:
        control += 1
        direction.long += 1
    first = np.int64(data[control])
    if first & 3 == 3:
        count_u_frame(u_function(first), link, direction, peer, sender, origin, events, state)
        return
    # While segments of the peer wait, its newest sequence numbers are not known.
    peer_waits = peer.reorder > 0 and reorders[peer.reorder - 1].count > 0
    modulus = LRR_MODULUS if direction.lrr or peer.lrr else MODULUS
    received = np.int64(little16(data, control + 2)) >> 1
    acknowledged_up_to = -1 if peer_waits else peer.sent
    check_acknowledgement(direction, acknowledged_up_to, received, modulus, origin, link.flow, sender, events, state)
    if first & 1:
        direction.s_frames += 1
        return
    direction.i_frames += 1
    sent = np.int64(little16(data, control)) >> 1
    check_sent(direction, sent, origin, link.flow, sender, events, state)
    if not peer_waits:
        check_window(direction, peer.received, modulus, origin, link.flow, sender, events, state)
    payload = control + 4
    count = offset + size - payload
    if count:
        direction.asdu_bytes += count
        count_payload(data, payload, link, direction, origin, sender, events, state)
    else:
        direction.empty += 1


@compiled
def count_u_frame(
    function: Number,
    link: Record,
    direction: Record,
    peer: Record,
    sender: Number,
    origin: Any,
    events: Any,
    state: Record,
) -> None:
    """Count a U frame, and match TESTFR con to act."""
    direction.functions[function] += 1
    if function == STARTDT_ACT:
        if link.startdt < 0:
            link.startdt = sender
        if direction.functions[STARTDT_ACT] <= MAX_EVENTS:
            record_event(link.flow, sender, STARTDT, origin, direction.began, 0, 0, events, state)
    elif function == TESTFR_ACT:
        if direction.testing:
            direction.unanswered += 1
            if direction.unanswered <= MAX_EVENTS:
                waited = origin[1] - direction.test_time
                record_event(link.flow, sender, UNANSWERED_TESTFR, origin, direction.began, waited, 0, events, state)
        direction.testing = 1
        direction.test_time = origin[1]
    elif function == TESTFR_CON and peer.testing:
        peer.testing = 0
        peer.answered += 1
        peer.longest_wait = max(peer.longest_wait, origin[1] - peer.test_time)


@compiled
def check_acknowledgement(
    direction: Record,
    sent: Number,
    received: Number,
    modulus: Number,
    origin: Any,
    flow_index: Number,
    sender: Number,
    events: Any,
    state: Record,
) -> None:
    """Check a receive sequence number: it never goes back, and acknowledges only what the peer has sent.

    ``sent``: newest send sequence number of the peer; -1: unknown. If both directions are captured at different
    places, an acknowledgement may precede what it acknowledges, but by no more than the peer may send without one.
    """
    wrong = False
    before = direction.received
    if before >= 0 and (received - before) % modulus > modulus // 2:
        wrong = True
    if sent >= 0 and WINDOW < (received - sent - 1) % modulus < modulus // 2:
        wrong = True
        before = sent
    if wrong:
        direction.wrong += 1
        if direction.wrong <= MAX_EVENTS:
            record_event(
                flow_index, sender, WRONG_ACKNOWLEDGEMENT, origin, direction.began, received, before, events, state
            )
    direction.received = received


@compiled
def check_sent(
    direction: Record, sent: Number, origin: Any, flow_index: Number, sender: Number, events: Any, state: Record
) -> None:
    """Check a send sequence number: it follows its predecessor. An LRR wraps from 32766 to 0."""
    if direction.first < 0:
        direction.first = sent
    known = direction.expected >= 0 and direction.unconfirmed == 0
    if known and sent != direction.expected and not (sent == 0 and direction.sent == LRR_MODULUS - 1):
        direction.jumps += 1
        if sent == direction.sent:
            direction.repeats += 1
        if direction.jumps <= MAX_EVENTS:
            record_event(
                flow_index, sender, SEQUENCE_JUMP, origin, direction.began, sent, direction.sent, events, state
            )
    if sent == 0 and direction.sent >= LRR_MODULUS - 1:
        direction.modulus = direction.sent + 1
    direction.sent = sent
    direction.expected = (sent + 1) & 0x7FFF


@compiled
def check_window(
    direction: Record,
    acknowledged: Number,
    modulus: Number,
    origin: Any,
    flow_index: Number,
    sender: Number,
    events: Any,
    state: Record,
) -> None:
    """Check that no more than WINDOW I frames are outstanding. ``acknowledged``: up to which; -1: unknown."""
    if acknowledged < 0:
        return
    outstanding = (direction.sent + 1 - acknowledged) % modulus
    if outstanding >= modulus // 2:
        return
    direction.outstanding = max(direction.outstanding, outstanding)
    if outstanding > WINDOW:
        direction.excesses += 1
        if direction.excesses <= MAX_EVENTS:
            record_event(flow_index, sender, WINDOW_EXCEEDED, origin, direction.began, outstanding, 0, events, state)


@compiled
def count_payload(
    data: Buffer,
    offset: Number,
    link: Record,
    direction: Record,
    origin: Any,
    sender: Number,
    events: Any,
    state: Record,
) -> None:
    """Count the payload of an I frame by its type."""
    kind = np.int64(data[offset])
    if kind == 1 and data[offset + 1] == 0:
        direction.lrr += 1
        kind = np.int64(little16(data, offset + 6))
        if kind > HIGHEST_LRR_TYPE:
            direction.unknown += 1
            if direction.unknown <= MAX_EVENTS:
                record_event(link.flow, sender, UNKNOWN_LRR_TYPE, origin, direction.began, kind, 0, events, state)
        lrr_id = np.uint32(little32(data, offset + 8))
        if add_lrr_id(link, lrr_id):
            record_event(link.flow, sender, NEW_LRR_ID, origin, direction.began, lrr_id, 0, events, state)
    else:
        direction.standard += 1
        if direction.standard <= MAX_EVENTS:
            record_event(link.flow, sender, STANDARD_ASDU, origin, direction.began, kind, 0, events, state)
        kind |= STANDARD_TYPE
    for index in range(link.kinds):
        if link.kind[index] == kind:
            link.kind_count[index] += 1
            return
    if link.kinds < len(link.kind):
        link.kind[link.kinds] = kind
        link.kind_count[link.kinds] = 1
        link.kinds += 1
    else:
        link.other_kinds += 1


@compiled
def add_lrr_id(link: Record, lrr_id: Number) -> Number:
    """Add an LRR-ID; returns whether it is new."""
    for index in range(link.ids):
        if link.id[index] == lrr_id:
            return False
    if link.ids < len(link.id):
        link.id[link.ids] = lrr_id
        link.ids += 1
        return True
    link.other_ids += 1
    return False
