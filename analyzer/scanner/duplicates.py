"""Duplicates: packets that were captured more than once, and flows that repeat others.

A base station asks the same question, or pings the same host, every minute of a day. Such flows are dissected and
checked once. Whether a flow is a duplicate is decided by comparison, byte by byte, so hash collisions cannot hide a
flow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    COPY_OTHER_PATH,
    COPY_SAME_PATH,
    ECHO_SAMPLE,
    ECHO_STAMP,
    ESP,
    HEAD_LIMITS,
    HOUSEKEEPING_PORT,
    ICMP,
    ICMPV6,
    MAX_DATAGRAM_BYTES,
    PLAIN,
    RECENT_PACKETS,
    TCP,
    UDP,
)
from analyzer.scanner.esp import is_esp
from analyzer.scanner.integers import distance, u16, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import mix

UNIQUE, EMPTY, ECHO, DNS, NTP = range(5)
"""Kinds of content that flows may share. UNIQUE: the flow is dissected on its own."""
MAX_DUPLICATE_DATAGRAMS = 8
"""Datagrams of a flow above which it is dissected on its own."""
ESP_DIGEST_BYTES = 32
"""Bytes of an ESP packet that distinguish it: SPI, sequence number, and three words of ciphertext."""
OPT = 41
"""Type of the DNS pseudo-record whose time-to-live field holds flags (RFC 6891, section 6.1.3)."""


# -- packets ----------------------------------------------------------------------------------------------------


@compiled
def is_copy(data: Buffer, packet: Record, flow: Record, side: Record, place: Number, state: Record) -> Number:
    """Whether the packet was captured before, on another interface or through another mirror port.

    A capture on all interfaces of a router contains each packet two or three times within an instant, with another
    time to live or link-layer address, and after as many other packets as the capturing machine reads at a time. When a
    sender repeats a packet, it has another IPv4 identification, or comes later. A packet forged to look like a copy has
    other payload: all payload that a head may keep is compared, by a hash that the capture cannot foresee. ``place``
    is the index of the side.
    """
    digest = mix(packet_digest(data, packet, flow, side, state.secret) + np.uint64(place) * state.secret[1])
    path = np.uint64(packet.source_mac) ^ np.uint64(packet.time_to_live) << np.uint64(48)
    path ^= np.uint64(packet.vlan + 1) * np.uint64(0x9E3779B97F4A7C15)
    first = np.int64(digest & np.uint64(RECENT_PACKETS - 4))
    oldest = first
    for slot in range(first, first + 4):
        if state.recent[slot] == digest:
            apart = abs(packet.time - state.recent_time[slot])
            if state.recent_path[slot] != path and apart <= COPY_OTHER_PATH:
                return True
            if packet.identification != 0 and apart <= COPY_SAME_PATH:
                return True
        if state.recent_time[slot] < state.recent_time[oldest]:
            oldest = np.int64(slot)
    state.recent[oldest] = digest
    state.recent_path[oldest] = path
    state.recent_time[oldest] = packet.time
    return False


@compiled
def packet_digest(data: Buffer, packet: Record, flow: Record, side: Record, secret: Any) -> Number:
    """Hash of everything that copies of a packet have in common."""
    digest = secret[0] ^ (np.uint64(packet.identification) << np.uint64(32) | np.uint64(packet.length))
    offset = packet.payload
    stop = min(offset + packet.length, packet.end)
    if packet.protocol == TCP:
        numbers = np.uint64(packet.sequence) << np.uint64(32) | np.uint64(packet.acknowledgement)
        digest = mix(digest ^ mix(numbers + np.uint64(packet.flags)))
        place = distance(packet.sequence, side.base) if side.based else np.int64(0)
        if flow.tracking < 0 and place >= HEAD_LIMITS[flow.content]:
            stop = offset
    else:
        stop = min(stop, offset + (ESP_DIGEST_BYTES if is_esp(data, packet) else MAX_DATAGRAM_BYTES))
    one, two, three, four = digest, digest, digest, digest
    while offset + 32 <= stop:  # four independent chains, which the processor computes at the same time
        one = mix(one ^ u64(data, offset))
        two = mix(two ^ u64(data, offset + 8))
        three = mix(three ^ u64(data, offset + 16))
        four = mix(four ^ u64(data, offset + 24))
        offset += 32
    digest = mix(one ^ mix(two ^ mix(three ^ mix(four))))
    while offset + 8 <= stop:
        digest = mix(digest ^ u64(data, offset))
        offset += 8
    rest = np.uint64(1)
    while offset < stop:
        rest = rest << np.uint64(8) | np.uint64(data[offset])
        offset += 1
    return mix(digest ^ rest)


# -- content of flows -------------------------------------------------------------------------------------------


@compiled
def content_kind(flow: Record, one: Record, two: Record, count: Number) -> Number:
    """Kind of content of a flow with ``count`` pieces, and sides ``one`` and ``two``.

    All of its payload must have been kept, except of NTP, whose messages beyond the limits repeat kept ones.
    """
    if flow.errors or flow.tracking >= 0 or flow.protocol == ESP:
        return UNIQUE
    if flow.layer != PLAIN or flow.port0 == HOUSEKEEPING_PORT or one.odd or two.odd:
        return UNIQUE  # what is judged is more than the content
    if count == 0:
        return EMPTY if one.payload == 0 and two.payload == 0 else UNIQUE
    if flow.protocol == TCP or count > MAX_DUPLICATE_DATAGRAMS:
        return UNIQUE
    if flow.protocol == UDP and (flow.port0 == 123 or flow.port1 == 123):
        return NTP
    if count != one.packets + two.packets:
        return UNIQUE
    if flow.protocol == ICMP or flow.protocol == ICMPV6:
        return ECHO
    if flow.protocol == UDP and (flow.port0 == 53 or flow.port1 == 53):
        return DNS
    return UNIQUE


@compiled
def normalise(data: Buffer, offset: Number, size: Number, kind: Number, out: Buffer) -> Number:
    """Write a datagram to ``out`` without the fields that only identify or date it; returns the length.

    -1: the datagram makes its flow unique. Fields that identify (identifier, sequence number and data of an echo,
    identifier of a DNS message) matter only by equality to those of another datagram, see :func:`equal_fields`. Fields
    that date (time stamps of NTP, times to live of DNS) do not matter.
    """
    if kind == ECHO:
        if size < 8 or data[offset] not in (0, 8, 128, 129):
            return -1
        out[0] = data[offset]
        out[1] = data[offset + 1]
        return 2
    if kind == NTP:
        if size != 48 or data[offset] & 7 >= 6:  # control and private messages
            return -1
        for index in range(4):  # leap, version and mode; stratum; poll; precision
            out[index] = data[offset + index]
            out[4 + index] = data[offset + 12 + index]  # reference identifier
        return 8
    return normalise_dns(data, offset, size, out)


@compiled
def normalise_dns(data: Buffer, offset: Number, size: Number, out: Buffer) -> Number:
    """:func:`normalise` for a DNS message: without identifier, with times to live of 0."""
    if size < 12 or u16(data, offset) + 2 <= size:  # its identifier could be the length of a message framed as in TCP
        return -1
    for index in range(2, size):
        out[index - 2] = data[offset + index]
    place = np.int64(12)
    questions = u16(data, offset + 4)
    records = questions + u16(data, offset + 6) + u16(data, offset + 8) + u16(data, offset + 10)
    for record in range(records):
        while place < size and 0 < data[offset + place] < 0xC0:
            place += 1 + np.int64(data[offset + place])
        if place >= size:
            break
        place += 2 if data[offset + place] else 1  # a pointer, or the root
        if record < questions:
            place += 4
            continue
        if place + 10 > size:
            break
        if u16(data, offset + place) != OPT:
            for index in range(2, 6):
                out[place + index] = 0
        place += 10 + u16(data, offset + place + 8)
    return size - 2


@compiled
def equal_fields(data: Buffer, pieces: Any, start: Number, index: Number, kind: Number) -> Number:
    """Which earlier datagrams of its flow have the same identifying fields as the one at ``start + index``.

    Dissectors and checks compare these fields within a flow, and read nothing else from them.
    """
    if kind == DNS:
        return first_equal(data, pieces, start, index, 0, 2)
    if kind == ECHO:
        numbers = first_equal(data, pieces, start, index, 4, 8)
        sample = first_equal(data, pieces, start, index, 8, 8 + ECHO_SAMPLE)
        unstamped = first_equal(data, pieces, start, index, 8 + ECHO_STAMP, 8 + ECHO_SAMPLE)
        return numbers << 8 | sample << 4 | unstamped
    return 0


@compiled
def first_equal(data: Buffer, pieces: Any, start: Number, index: Number, begin: Number, end: Number) -> Number:
    """Number of the first datagram of the flow with the same bytes from ``begin`` to ``end`` as datagram ``index``.

    Shorter datagrams are compared as far as they reach.
    """
    place = pieces[start + index].arena
    stop = min(end, np.int64(pieces[start + index].kept))
    for earlier in range(index):
        if min(end, np.int64(pieces[start + earlier].kept)) != stop:
            continue
        if equal_bytes(data, place + begin, pieces[start + earlier].arena + begin, stop - begin):
            return earlier
    return index


@compiled
def equal_bytes(data: Buffer, one: Number, two: Number, count: Number) -> Number:
    for index in range(count):  # noqa: SIM110  (numba compiles no generators in all())
        if data[one + index] != data[two + index]:
            return False
    return True


@compiled
def content_digest(
    data: Buffer, pieces: Any, start: Number, stop: Number, kind: Number, secret: Any, out: Buffer
) -> Number:
    """Hash of the normalised content of a flow; 0: it is unique."""
    digest = mix(secret[0] + np.uint64(kind))
    for index in range(start, stop):
        piece = pieces[index]
        if piece.kept != piece.length or piece.error:
            return np.uint64(0)
        size = normalise(data, piece.arena, piece.kept, kind, out)
        if size < 0:
            return np.uint64(0)
        equal = equal_fields(data, pieces, start, index - start, kind)
        digest = mix(digest * secret[1] + np.uint64(piece.kept << 16 | piece.side << 12 | equal))
        for place in range(size):
            digest = (digest ^ np.uint64(out[place])) * secret[2]
        digest = mix(digest)
    return digest | np.uint64(1)


@compiled
def same_content(
    data: Buffer, pieces: Any, starts: Any, one: Number, two: Number, kind: Number, scratch: Any
) -> Number:
    """Whether two flows have the same normalised content, datagram by datagram."""
    out, other_out = scratch
    start, other_start = starts[one], starts[two]
    count = starts[one + 1] - start
    if count != starts[two + 1] - other_start:
        return False
    for index in range(count):
        piece, other = pieces[start + index], pieces[other_start + index]
        if piece.kept != other.kept or piece.side != other.side:
            return False
        size = normalise(data, piece.arena, piece.kept, kind, out)
        if size != normalise(data, other.arena, other.kept, kind, other_out):
            return False
        if equal_fields(data, pieces, start, index, kind) != equal_fields(data, pieces, other_start, index, kind):
            return False
        for place in range(size):
            if out[place] != other_out[place]:
                return False
    return True


# -- flows ------------------------------------------------------------------------------------------------------


@compiled
def service_side(flow: Record, services: Any) -> Number:
    """The side whose port is the service's, while the port of the other side is arbitrary; -1: not known.

    ``services[n]``: port n is that of a service.
    """
    if flow.protocol == ICMP or flow.protocol == ICMPV6:
        return 1
    if flow.port0 < 0 or flow.port1 < 0:
        return -1
    side = 1 - flow.syn_side if flow.syn_side >= 0 else 1 if services[flow.port1] else 0
    port, client_port = (flow.port1, flow.port0) if side else (flow.port0, flow.port1)
    if services[client_port] or (flow.syn_side < 0 and not services[port]):
        return -1
    return side


@compiled
def service_port(flow: Record, side: Number) -> Number:
    """Port of the service, which is on ``side``; 0 for ICMP, whose identifier is arbitrary."""
    if flow.protocol == ICMP or flow.protocol == ICMPV6:
        return 0
    return flow.port1 if side else flow.port0


@compiled
def exchange_digest(flow: Record, content_class: Number, side: Number, secret: Any) -> Number:
    """Hash of what :func:`same_exchange` compares."""
    digest = mix(np.uint64(content_class) * secret[0] + np.uint64(service_port(flow, side) << 1 | side))
    digest = mix(digest + flow.low0 * secret[1] + flow.high0 * secret[2])
    return mix(digest + flow.low1 * secret[1] + flow.high1 * secret[2])


@compiled
def same_exchange(flows: Any, sides: Any, one: Number, two: Number, side: Number) -> Number:
    """Whether two flows go between the same hosts, to the same service on ``side``, and went and ended the same way."""
    flow, other = flows[one], flows[two]
    return (
        service_port(flow, side) == service_port(other, side)
        and flow.protocol == other.protocol
        and flow.version == other.version
        and flow.high0 == other.high0
        and flow.low0 == other.low0
        and flow.high1 == other.high1
        and flow.low1 == other.low1
        and flow.vlan == other.vlan
        and flow.note == other.note
        and flow.syn_side == other.syn_side
        and flow.reset_side == other.reset_side
        and flow.fin_side == other.fin_side
        and same_side(sides[2 * one], sides[2 * two])
        and same_side(sides[2 * one + 1], sides[2 * two + 1])
    )


@compiled
def same_side(one: Record, two: Record) -> Number:
    """Whether two sides are equal in everything that dissectors and checks read."""
    return (
        one.packets == two.packets
        and one.bytes == two.bytes
        and one.payload == two.payload
        and one.retransmitted == two.retransmitted
        and one.mac == two.mac
        and one.destination_mac == two.destination_mac
        and one.flags == two.flags
        and one.acknowledged == two.acknowledged
        and one.begins == two.begins
        and one.ending == two.ending
        and acknowledged_bytes(one) == acknowledged_bytes(two)
        and one.copies == two.copies
        and one.unlike == two.unlike
        and one.mismatched == two.mismatched
        and one.rapid == two.rapid
    )


@compiled
def acknowledged_bytes(side: Record) -> Number:
    """Bytes of the other side that this side acknowledged after its first acknowledgement."""
    return distance(side.acknowledged_to, side.first_acknowledged)
