"""ESP over the whole flow (RFC 4303): kept packets, sequence numbers, lengths and readable payloads by SPI."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    ESP,
    ESP_COPY,
    ESP_LATE,
    ESP_REPLAYED,
    ESP_REUSED,
    MAX_ASSOCIATIONS,
    MAX_ESP_BYTES,
    MAX_ESP_PACKETS,
    MAX_EVENTS,
    MAX_FLOW_ASSOCIATIONS,
    MAX_READABLE,
    UDP,
)
from analyzer.scanner.integers import u16, u32, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.payload import describe_piece, has_room, store_piece
from analyzer.scanner.table import mix, record_event

NATT_PORT = 4500
"""IKE and ESP inside UDP (RFC 3948)."""
REPLAY_WINDOW = 64
"""Sequence numbers (RFC 4303, section 3.4.3)."""
ESP_HEADER = 8
LEAST_TRAILER, MOST_TRAILER = 2, 2 + 15 + 32
"""Bytes behind an inner packet: Pad Length and Next Header; with the longest padding and ICV."""


@compiled
def is_esp(data: Buffer, packet: Record) -> Number:
    """Whether the packet is ESP, directly in IP or inside UDP.

    Inside UDP, a SPI of zero marks IKE, and a shorter payload is a keep-alive (RFC 3948, sections 2.2 and 2.3).
    """
    if packet.protocol != UDP or (packet.source_port != NATT_PORT and packet.destination_port != NATT_PORT):
        return packet.protocol == ESP
    return min(packet.length, packet.end - packet.payload) >= 4 and u32(data, packet.payload) != 0


@compiled
def track_esp(
    data: Buffer,
    packet: Record,
    flow: Record,
    side: Record,
    sender: Number,
    pieces: Any,
    arena: Any,
    associations: Any,
    events: Any,
    state: Record,
) -> None:
    """Count an ESP packet of the flow ``state.flow`` under its SPI, and keep the first ones and the readable ones."""
    spi = np.uint32(u32(data, packet.payload))
    sequence = np.int64(u32(data, packet.payload + 4))
    captured = min(packet.length, packet.end - packet.payload)
    index = find_association(spi, sequence, packet, flow, sender, associations, state)
    if index < 0:
        state.esp_untracked += 1
        if side.pieces < MAX_ESP_PACKETS and has_room(state):
            keep_packet(data, packet, side, captured, sender, pieces, arena, state)
        return
    association = associations[index]
    readable = is_readable(data, packet, captured)
    association.readable += readable
    limit = MAX_ESP_PACKETS + MAX_READABLE if readable else MAX_ESP_PACKETS
    if association.kept < limit and has_room(state):
        association.kept += 1
        keep_packet(data, packet, side, captured, sender, pieces, arena, state)
    association.packets += 1
    association.bytes += packet.length
    association.last = sequence
    association.last_frame = packet.frame
    association.last_capture = state.capture
    association.last_time = packet.time
    if association.folded:
        return
    association.remainders[packet.length & 15] += 1
    length = min(packet.length >> 2, 511)
    if length < len(association.short):
        association.short[length] += 1
    association.lengths[length >> 6] |= np.uint64(1) << np.uint64(length & 63)
    check_replay(data, packet, association, sequence, events, state)


@compiled
def keep_packet(
    data: Buffer, packet: Record, side: Record, captured: Number, sender: Number, pieces: Any, arena: Any, state: Record
) -> None:
    size = min(captured, MAX_ESP_BYTES)
    piece = store_piece(data, packet.payload, size, pieces, arena, state)
    describe_piece(pieces[piece], packet, state, state.flow, sender, 0, 0)
    side.pieces += 1
    side.kept += size


@compiled
def is_readable(data: Buffer, packet: Record, captured: Number) -> Number:
    """Whether the payload of an ESP packet begins with an IP header, at an IV of 0, 8 or 16 bytes, or with 16 bytes of
    text or of one value.

    Random bytes do once in 200,000 packets.
    """
    begin = packet.payload + ESP_HEADER
    end = packet.payload + captured
    if begin + 20 > end:
        return False
    for initialisation in (0, 8, 16):
        at = begin + initialisation
        if at + 20 > end:
            break
        version = data[at] >> 4
        if (version == 4 or version == 6) and is_inner_header(data, at, end, packet.payload + packet.length - at):
            return True
    one, two = u64(data, begin), u64(data, begin + 8)
    if (one | two) & np.uint64(0x8080808080808080):
        return one == two == np.uint64(data[begin]) * np.uint64(0x0101010101010101)
    for offset in range(begin, begin + 16):
        if data[offset] < 32 and data[offset] not in (9, 10, 13):
            return one == two == np.uint64(data[begin]) * np.uint64(0x0101010101010101)
    return True


@compiled
def is_inner_header(data: Buffer, at: Number, end: Number, available: Number) -> Number:
    """Whether an IP header stands at ``at`` whose length fits the ``available`` bytes up to the end of the packet."""
    if data[at] >> 4 == 6:
        trailer = available - 40 - np.int64(u16(data, at + 4))
        return LEAST_TRAILER <= trailer <= MOST_TRAILER and data[at + 6] in (0, 6, 17, 43, 44, 58, 60, 132)
    size = np.int64(data[at] & 15) * 4
    trailer = available - np.int64(u16(data, at + 2))
    if size < 20 or at + size > end or not LEAST_TRAILER <= trailer <= MOST_TRAILER:
        return False
    checksum = np.int64(0)
    for offset in range(at, at + size, 2):
        checksum += np.int64(u16(data, offset))
    return checksum % 0xFFFF == 0


@compiled
def find_association(
    spi: Number, sequence: Number, packet: Record, flow: Record, sender: Number, associations: Any, state: Record
) -> Number:
    """Index of the association of a packet, which it may open; -1: there are too many."""
    folded = np.int64(-1)
    count = 0
    index = np.int64(flow.tracking)
    while index >= 0:
        association = associations[index]
        if association.folded:
            folded = index
        elif association.spi == spi and association.side == sender:
            return index
        index = np.int64(association.previous)
        count += 1
    if folded >= 0 or state.associations >= MAX_ASSOCIATIONS:
        return folded
    index = np.int64(state.associations)
    state.associations += 1
    association = associations[index]
    association.flow = state.flow
    association.previous = flow.tracking
    association.spi = spi
    association.side = sender
    association.folded = count == MAX_FLOW_ASSOCIATIONS - 1
    association.first = sequence
    association.highest = sequence
    association.first_frame = packet.frame
    association.first_capture = state.capture
    association.first_time = packet.time
    flow.tracking = index
    return index


@compiled
def check_replay(
    data: Buffer, packet: Record, association: Record, sequence: Number, events: Any, state: Record
) -> None:
    """Compare a sequence number with the window of the newest ones, as a receiver does (RFC 4303, section 3.4.3).

    A packet that repeats a sequence number is a copy made by the capture, a replay, or a different packet.
    """
    digest = esp_digest(data, packet)
    place = sequence & (REPLAY_WINDOW - 1)
    bit = np.uint64(1)
    ahead = sequence - np.int64(association.highest)
    if ahead < -(np.int64(1) << 31):  # the lower half of an extended sequence number wrapped
        ahead += np.int64(1) << 32
        association.wraps += 1
    elif ahead > np.int64(1) << 31 and association.wraps:
        ahead -= np.int64(1) << 32
    if ahead > 0 or association.packets == 1:
        association.seen = (association.seen << np.uint64(ahead) if ahead < REPLAY_WINDOW else np.uint64(0)) | bit
        association.highest = sequence
    elif ahead <= -REPLAY_WINDOW:
        association.late += 1
        if association.late <= MAX_EVENTS:
            record_esp_event(ESP_LATE, packet, association, sequence, events, state)
        return
    elif association.seen & bit << np.uint64(-ahead):
        if association.digest[place] != digest:
            association.reused += 1
            if association.reused <= MAX_EVENTS:
                record_esp_event(ESP_REUSED, packet, association, sequence, events, state)
        elif packet.time - association.time[place] > ESP_COPY:
            association.replayed += 1
            if association.replayed <= MAX_EVENTS:
                record_esp_event(ESP_REPLAYED, packet, association, sequence, events, state)
        else:
            association.copied += 1
        return
    else:
        association.seen |= bit << np.uint64(-ahead)
    association.digest[place] = digest
    association.time[place] = packet.time


@compiled
def esp_digest(data: Buffer, packet: Record) -> Number:
    """Digest of an ESP packet: of its length and of 24 bytes after the sequence number, or as many as there are."""
    digest = np.uint64(packet.length)
    begin = packet.payload + 8
    if begin + 24 <= packet.end:
        return mix(digest ^ u64(data, begin)) ^ mix(u64(data, begin + 8)) ^ u64(data, begin + 16)
    for offset in range(begin, packet.end):
        digest = (digest ^ np.uint64(data[offset])) * np.uint64(0x100000001B3)  # FNV-1a
    return digest


@compiled
def record_esp_event(
    kind: Number, packet: Record, association: Record, sequence: Number, events: Any, state: Record
) -> None:
    origin = packet.frame, packet.time, state.capture
    record_event(
        state.flow, association.side, kind, origin, association.spi, sequence, association.highest, events, state
    )
