"""ESP over the whole flow (RFC 4303): sequence numbers and lengths by SPI."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import ALL_ASSOCIATIONS, ASSOCIATIONS, ESP, ESP_COPY, LATE, REPLAYED, REUSED, SHOWN, UDP
from analyzer.scanner.integers import u32, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.table import happened, mix


@compiled
def carries_esp(b: Buffer, p: Record) -> Number:
    """Whether the packet is ESP, or ESP inside UDP (RFC 3948 section 2.2: else there are four zeros)."""
    if p.protocol != UDP or (p.source_port != 4500 and p.destination_port != 4500):
        return p.protocol == ESP
    return min(p.length, p.end - p.payload) >= 4 and u32(b, p.payload) != 0


@compiled
def follow_esp(b: Buffer, p: Record, f: Record, side: Number, associations: Any, events: Any, clock: Record) -> None:
    """Account for an ESP packet under its SPI (RFC 4303): sequence numbers against a window of 64, and lengths."""
    flow = clock.flow
    spi = np.uint32(u32(b, p.payload))
    number = np.int64(u32(b, p.payload + 4))
    found = np.int64(-1)
    index = np.int64(f.account)
    count = 0
    while index >= 0:
        a = associations[index]
        if a.folded or (a.spi == spi and a.side == side):
            found = index
            if not a.folded:
                break
        index = np.int64(a.previous)
        count += 1
    if found < 0:
        if clock.associations >= ALL_ASSOCIATIONS:
            clock.esp_unfollowed += 1
            return
        found = clock.associations
        clock.associations += 1
        a = associations[found]
        a.flow = flow
        a.previous = f.account
        a.spi = spi
        a.side = side
        a.folded = count == ASSOCIATIONS - 1
        a.first = number
        a.highest = number
        a.first_frame = p.frame
        a.first_capture = clock.capture
        a.first_time = p.time
        f.account = found
    a = associations[found]
    a.packets += 1
    a.bytes += p.length
    a.last = number
    a.last_frame = p.frame
    a.last_capture = clock.capture
    a.last_time = p.time
    if a.folded:
        return
    a.remainders[p.length & 15] += 1
    length = min(p.length >> 2, 511)
    a.lengths[length >> 6] |= np.uint64(1) << np.uint64(length & 63)
    digest = np.uint64(p.length)
    if p.payload + 32 <= p.end:
        digest = mix(digest ^ u64(b, p.payload + 8)) ^ mix(u64(b, p.payload + 16)) ^ u64(b, p.payload + 24)
    else:
        for at in range(p.payload + 8, p.end):
            digest = (digest ^ np.uint64(b[at])) * np.uint64(0x100000001B3)
    place = number & 63
    bit = np.uint64(1)
    ahead = number - np.int64(a.highest)
    if ahead < -(np.int64(1) << 31):  # an extended sequence number went on
        ahead += np.int64(1) << 32
        a.wraps += 1
    elif ahead > np.int64(1) << 31 and a.wraps:
        ahead -= np.int64(1) << 32
    if ahead > 0 or a.packets == 1:
        a.seen = (a.seen << np.uint64(ahead) if ahead < 64 else np.uint64(0)) | bit
        a.highest = number
    elif ahead <= -64:
        a.late += 1
        if a.late <= SHOWN:
            happened(flow, side, LATE, (p.frame, p.time, clock.capture), spi, number, a.highest, events, clock)
        return
    elif a.seen & bit << np.uint64(-ahead):
        where = p.frame, p.time, clock.capture
        if a.digest[place] != digest:
            a.reused += 1
            if a.reused <= SHOWN:
                happened(flow, side, REUSED, where, spi, number, a.highest, events, clock)
        elif p.time - a.time[place] > ESP_COPY:
            a.replayed += 1
            if a.replayed <= SHOWN:
                happened(flow, side, REPLAYED, where, spi, number, a.highest, events, clock)
        else:
            a.copied += 1
        return
    else:
        a.seen |= bit << np.uint64(-ahead)
    a.digest[place] = digest
    a.time[place] = p.time
