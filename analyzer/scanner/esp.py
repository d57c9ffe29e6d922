"""ESP over the whole flow (RFC 4303): sequence numbers and lengths by SPI."""

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
    MAX_EVENTS,
    MAX_FLOW_ASSOCIATIONS,
    UDP,
)
from analyzer.scanner.integers import u32, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import mix, record_event

NATT_PORT = 4500
"""IKE and ESP inside UDP (RFC 3948)."""
REPLAY_WINDOW = 64
"""Sequence numbers (RFC 4303, section 3.4.3)."""


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
    data: Buffer, packet: Record, flow: Record, sender: Number, associations: Any, events: Any, state: Record
) -> None:
    """Count an ESP packet of the flow ``state.flow`` under its SPI."""
    spi = np.uint32(u32(data, packet.payload))
    sequence = np.int64(u32(data, packet.payload + 4))
    index = find_association(spi, sequence, packet, flow, sender, associations, state)
    if index < 0:
        state.esp_untracked += 1
        return
    association = associations[index]
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
