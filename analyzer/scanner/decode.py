"""Link, network and transport headers."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    BROKEN,
    CUT,
    DECODED,
    ICMP,
    ICMP_ERROR,
    ICMPV6,
    LARGEST_PACKET,
    MAPPED,
    NOT_IP,
    RARE,
    TCP,
    UDP,
)
from analyzer.scanner.integers import host32, u16, u32, u48, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled


@compiled
def decode(b: Buffer, p: Record, tunnels: Any) -> Number:
    """Link, network and transport header of the packet in ``b[p.start:p.end]``."""
    p.source_mac = -1
    p.destination_mac = -1
    p.vlan = -1
    p.tag = 0
    at = p.start
    end = p.end
    linktype = p.linktype
    if linktype == 1:  # Ethernet
        if at + 14 > end:
            return CUT
        p.destination_mac = u48(b, at)
        p.source_mac = u48(b, at + 6)
        ethertype = u16(b, at + 12)
        at += 14
    elif linktype == 113:  # Linux cooked: packet type, device type, address length, address, protocol
        if at + 16 > end:
            return CUT
        if u16(b, at + 4) == 6:
            p.source_mac = u48(b, at + 6)
        if u16(b, at + 2) in (770, 801, 802, 803, 824):  # devices whose protocol is no Ethernet type
            return RARE
        ethertype = u16(b, at + 14)
        at += 16
    elif linktype == 276:  # Linux cooked, version 2: protocol first
        if at + 20 > end:
            return CUT
        if b[at + 11] == 6:
            p.source_mac = u48(b, at + 12)
        if u16(b, at + 8) in (770, 801, 802, 803, 824):
            return RARE
        ethertype = u16(b, at)
        at += 20
    elif linktype == 101 or linktype == 228 or linktype == 229 or linktype == 12 or linktype == 14:  # raw IP
        if at >= end:
            return CUT
        ethertype = 0x86DD if b[at] >> 4 == 6 else 0x0800
    elif linktype == 0 or linktype == 108:  # BSD loopback: address family in the byte order of who captured
        if at + 4 > end:
            return CUT
        family = min(host32(b, at, True), host32(b, at, False))
        ethertype = 0x0800 if family == 2 else 0x86DD if family in (10, 24, 28, 30) else 0
        at += 4
    else:
        return RARE
    if p.source_mac == 0:  # what loops back has no sender's address
        p.source_mac = -1
    while ethertype in (0x8100, 0x88A8, 0x9100, 0x9200):
        if at + 4 > end:
            return CUT
        if p.vlan < 0:
            p.vlan = u16(b, at) & 0xFFF
        ethertype = u16(b, at + 2)
        at += 4
    p.ethertype = ethertype
    p.network = at
    if ethertype == 0x0800 or ethertype == 0x86DD:
        return decode_ip(b, p, tunnels)
    if ethertype == 0x8847 or ethertype == 0x8848 or ethertype == 0x8864:
        return decode_tagged(b, p, tunnels)
    if ethertype < 1536 or ethertype == 0x88E5:  # 802.2, MACsec
        return RARE
    return NOT_IP


@compiled
def decode_tagged(b: Buffer, p: Record, tunnels: Any) -> Number:
    """IP right below the PPPoE session (RFC 2516) or MPLS label stack (RFC 3032) at ``p.network``; else it is rare."""
    at = p.network
    if p.ethertype == 0x8864:
        if at + 8 >= p.end or (u16(b, at + 6) != 0x21 and u16(b, at + 6) != 0x57):
            return RARE
        tag = np.int64(1) << 32 | u16(b, at + 2)
        at += 8
    else:
        while at + 4 < p.end and not b[at + 2] & 1:
            at += 4
        if at + 4 >= p.end:
            return RARE
        tag = u32(b, at) >> 12
        at += 4
    if b[at] >> 4 != 4 and b[at] >> 4 != 6:
        return RARE
    p.tag = tag << 13 | np.int64(p.vlan + 1) | np.int64(1) << 60
    p.network = at
    return DECODED if decode_ip(b, p, tunnels) == DECODED else RARE


@compiled
def decode_ip(b: Buffer, p: Record, tunnels: Any) -> Number:
    """IP header at ``p.network`` and the transport header behind it."""
    at = p.network
    if at >= p.end:
        return CUT
    version = b[at] >> 4
    p.version = version
    p.source_port = -1
    p.destination_port = -1
    p.flags = 0
    p.payload = at
    p.length = 0
    if version == 4:
        if at + 20 > p.end:
            return CUT
        header = (np.int64(b[at]) & 15) * 4
        total = u16(b, at + 2)
        if header < 20 or 0 < total < header:
            return BROKEN
        if at + header > p.end:
            return CUT
        # Offloaded frames have length 0: then the frame's end is the packet's.
        limit = at + total if total else min(p.start + p.wire - p.trailer, at + LARGEST_PACKET)
        p.source_high = np.uint64(0)
        p.source_low = MAPPED | np.uint64(u32(b, at + 12))
        p.destination_high = np.uint64(0)
        p.destination_low = MAPPED | np.uint64(u32(b, at + 16))
        p.protocol = b[at + 9]
        p.time_to_live = b[at + 8]
        p.identification = u16(b, at + 4)
        if u16(b, at + 6) & 0x3FFF:
            return RARE
        return decode_transport(b, p, at + header, limit, tunnels)
    if version == 6:
        if at + 40 > p.end:
            return CUT
        declared = u16(b, at + 4)
        limit = at + 40 + declared if declared else min(p.start + p.wire - p.trailer, at + LARGEST_PACKET)
        p.source_high = u64(b, at + 8)
        p.source_low = u64(b, at + 16)
        p.destination_high = u64(b, at + 24)
        p.destination_low = u64(b, at + 32)
        p.time_to_live = b[at + 7]
        p.identification = 0
        following, at = extensions(b, np.int64(b[at + 6]), at + 40, p.end)
        p.protocol = following
        if following in (0, 43, 44, 60, 135, 139, 140) and at + 8 > p.end:
            return CUT
        if following == 44 and u16(b, at + 2) & 0xFFF9:
            p.protocol = b[at]
            return RARE
        if following in (0, 43, 44, 60):
            return BROKEN
        return decode_transport(b, p, at, limit, tunnels)
    return BROKEN


@compiled
def extensions(b: Buffer, following: Number, at: Number, end: Number) -> Number:
    """Walk over IPv6 extension headers (RFC 8200 section 4): the number and the offset of what stands behind them.

    Stops at the header of a true fragment, at one that is cut and at the seventeenth. Mobility, HIP and shim6 headers
    are walked over only where they carry something.
    """
    for _ in range(16):
        if following not in (0, 43, 44, 60, 135, 139, 140) or at + 8 > end:
            break
        if following == 44 and u16(b, at + 2) & 0xFFF9:
            break
        if following >= 135 and b[at] == 59:
            break
        step = np.int64(8) if following == 44 else (np.int64(b[at + 1]) + 1) * 8
        following = np.int64(b[at])
        at += step
    return following, at


@compiled
def decode_transport(b: Buffer, p: Record, at: Number, limit: Number, tunnels: Any) -> Number:
    """Transport header at ``at``; ``limit`` is the end of the packet that the IP header declares."""
    p.source_port = -1
    p.destination_port = -1
    p.flags = 0
    p.payload = at
    p.length = max(0, limit - at)
    protocol = p.protocol
    if protocol == TCP:
        if at + 14 > p.end:
            return CUT
        p.source_port = u16(b, at)
        p.destination_port = u16(b, at + 2)
        p.sequence = u32(b, at + 4)
        p.acknowledgement = u32(b, at + 8)
        p.flags = b[at + 13]
        header = np.int64(b[at + 12] >> 4) * 4
        p.payload = at + max(header, 20)
        p.length = max(0, limit - p.payload) if header >= 20 else 0
    elif protocol == UDP:
        if at + 8 > p.end:
            return CUT
        p.source_port = u16(b, at)
        p.destination_port = u16(b, at + 2)
        declared = u16(b, at + 4)
        p.payload = at + 8
        p.length = max(0, limit - p.payload)
        if declared >= 8:
            p.length = min(p.length, declared - 8)
        if tunnels[256 + p.destination_port] or tunnels[256 + p.source_port]:
            return RARE
    elif protocol in (ICMP, ICMPV6):
        if at + 4 > p.end:
            return CUT
        kind = b[at]
        if protocol == ICMP:
            echo = kind == 8 or kind == 0
            error = 3 <= kind <= 5 or kind == 11 or kind == 12
        else:
            echo = kind == 128 or kind == 129
            error = 1 <= kind <= 4
        if error and p.length > 8:
            return ICMP_ERROR
        if echo and p.length >= 6:
            if at + 6 > p.end:
                return CUT
            p.source_port = u16(b, at + 4)
            p.destination_port = p.source_port
    elif tunnels[protocol]:
        return RARE
    return DECODED


@compiled
def quoted(b: Buffer, error: Record, inner: Record) -> Number:
    """Decode the packet that an ICMP error quotes, into ``inner``: addresses, protocol and ports.

    CUT: the capture holds too little of the quotation; NOT_IP: the error itself does, or quotes something else.
    """
    inner.start = error.payload + 8
    inner.end = error.end
    too_short = CUT if error.payload + error.length > error.end else NOT_IP
    inner.wire = error.end - inner.start
    inner.network = inner.start
    inner.source_port = -1
    inner.destination_port = -1
    at = inner.start
    if at + 20 > inner.end:
        return too_short
    if b[at] >> 4 == 4 and not u16(b, at + 6) & 0x1FFF:
        header = (np.int64(b[at]) & 15) * 4
        inner.protocol = b[at + 9]
        inner.source_high = np.uint64(0)
        inner.source_low = MAPPED | np.uint64(u32(b, at + 12))
        inner.destination_high = np.uint64(0)
        inner.destination_low = MAPPED | np.uint64(u32(b, at + 16))
        at += header
    elif b[at] >> 4 == 6:
        if at + 40 > inner.end:
            return too_short
        inner.source_high = u64(b, at + 8)
        inner.source_low = u64(b, at + 16)
        inner.destination_high = u64(b, at + 24)
        inner.destination_low = u64(b, at + 32)
        following, at = extensions(b, np.int64(b[at + 6]), at + 40, inner.end)
        if following == 44 and at + 8 <= inner.end and not u16(b, at + 2) & 0xFFF8:
            following, at = extensions(b, np.int64(b[at]), at + 8, inner.end)  # the first fragment has the ports
        if following in (0, 43, 44, 60):
            return too_short if at + 8 > inner.end else NOT_IP
        inner.protocol = following
    else:
        return NOT_IP
    if inner.protocol == TCP or inner.protocol == UDP:
        if at + 4 > inner.end:
            return too_short
        inner.source_port = u16(b, at)
        inner.destination_port = u16(b, at + 2)
    elif inner.protocol == ICMP or inner.protocol == ICMPV6:
        if at + 6 > inner.end:
            return too_short
        if b[at] in (8, 0, 128, 129):
            inner.source_port = u16(b, at + 4)
            inner.destination_port = inner.source_port
    return DECODED
