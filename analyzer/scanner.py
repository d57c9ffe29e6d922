"""The scanner: the bytes of capture files → the flow table, in one pass over each packet, compiled.

One kernel, :func:`scan`, walks the records of a buffer, decodes link, network and transport headers, finds the
packet's flow and accounts for it. Laws of the module:

* Memory follows flows, never packets. A flow is one record of :data:`FLOW` and two of :data:`SIDE` (first sender,
  second sender); the payload that heads keep goes to an arena, and each kept piece is one record of :data:`PIECE`.
* Nothing allocates. Where an array is full the kernel stops *before* the packet, the caller makes room, and the
  kernel resumes at the same packet.
* What is rare (tunnels, fragments, unusual link types) is not decoded here: :func:`decode` ends with :data:`RARE`,
  and :mod:`analyzer.encapsulations` peels it.

All compiled code stands in this one file, because its machine code is kept on disk as long as this file does not
change (see :mod:`analyzer.kernels`). Offsets are positions in the buffer that the kernel was given; lengths are bytes;
integers on the wire are big-endian except in the headers of the capture file itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.kernels import Library

# Outcomes of decoding one packet.
DECODED = 0
NOT_IP = 1
"""An Ethernet type that carries no IP (ARP, LLDP, …); ``port`` fields are unset, ``ethertype`` is."""
RARE = 2
"""For the slow path."""
CUT = 3
"""A header lies behind the captured bytes."""
BROKEN = 4
"""A header contradicts itself (IP version, header length)."""
ICMP_ERROR = 5
"""Decoded, and an ICMP error that quotes another packet at ``payload + 8``."""

# Ways in which the records of a file are framed.
PCAP = 0
PCAPNG = 1
SINGLE = 2
"""No framing: the buffer holds one packet, its IP header at ``packet.network``."""
SNOOP = 3

TCP, UDP, ICMP, ICMPV6, ESP = 6, 17, 1, 58, 50
FIN, SYN, RST, ACK = 1, 2, 4, 16
LARGEST_PACKET = 262144
"""Bytes of an IP packet that tells no length of its own."""

PACKET = np.dtype(
    [
        ("time", np.int64),  # nanoseconds since the epoch
        ("frame", np.int64),  # 1-based number in its file
        ("wire", np.int64),  # length of the frame on the wire
        ("start", np.int64),  # offset of the first captured byte
        ("end", np.int64),  # offset behind the last captured byte, the frame check sequence left out
        ("trailer", np.int64),  # bytes of frame check sequence in ``wire``
        ("network", np.int64),  # offset of the IP header
        ("source_high", np.uint64),  # IPv6 address, or IPv4 mapped into ::ffff:0:0/96
        ("source_low", np.uint64),
        ("destination_high", np.uint64),
        ("destination_low", np.uint64),
        ("payload", np.int64),  # offset of what is above the transport header
        ("length", np.int64),  # of the payload, as the headers declare it
        ("source_mac", np.int64),  # -1: the link layer has none
        ("destination_mac", np.int64),
        ("source_port", np.int32),  # ICMP echo: the identifier on both sides; -1: none; -2: see FOLDED
        ("destination_port", np.int32),
        ("linktype", np.int32),
        ("ethertype", np.int32),
        ("vlan", np.int32),  # outermost VLAN identifier, -1: untagged
        ("tag", np.int64),  # PPPoE session or MPLS label, and VLAN; 0: none
        ("sequence", np.uint32),  # TCP
        ("acknowledgement", np.uint32),
        ("protocol", np.uint8),  # IP protocol number behind all extension headers
        ("version", np.uint8),  # of IP: 4 or 6
        ("flags", np.uint8),  # TCP
        ("time_to_live", np.uint8),
        ("identification", np.uint16),  # of IPv4; 0 in IPv6
    ]
)

FOLDED = -2
"""Port of the client in a flow that stands for all that there was no room to keep apart."""

MAPPED = np.uint64(0x0000FFFF00000000)
"""Low half of ::ffff:0:0, under which IPv4 addresses are kept."""

FLOW = np.dtype(
    [
        ("high0", np.uint64),  # address of side 0, the first sender (IPv4 mapped into IPv6)
        ("low0", np.uint64),
        ("high1", np.uint64),  # address of side 1
        ("low1", np.uint64),
        ("first", np.int64),  # nanoseconds since the epoch; earliest and latest, should time go backwards
        ("last", np.int64),
        ("first_frame", np.int64),
        ("last_frame", np.int64),
        ("reset_frame", np.int64),  # first TCP reset, 0: none
        ("port0", np.int32),  # ICMP echo: identifier; -1: none; FOLDED
        ("port1", np.int32),
        ("first_capture", np.int32),
        ("last_capture", np.int32),
        ("reset_capture", np.int32),
        ("vlan", np.int32),  # -1: untagged
        ("note", np.int32),  # index into the notes of the slow path, -1: none
        ("errors", np.int32),  # ICMP errors that quote it
        ("controls", np.int32),  # those of them that tell its sender how to route or send
        ("protocol", np.uint8),
        ("version", np.uint8),
        ("content", np.uint8),  # see CONTENT_*: how much head is kept
        ("syn_side", np.int8),  # who sent the SYN; or received the SYN-ACK; -1: no handshake seen
        ("reset_side", np.int8),  # who sent the first reset
        ("closed", np.uint8),  # a reset was seen, or FINs of both sides
    ]
)

SIDE = np.dtype(
    [
        ("packets", np.int64),
        ("bytes", np.int64),  # frame lengths on the wire
        ("copies", np.int64),  # packets that were captured before: not in packets
        ("payload", np.int64),  # bytes above the transport header, retransmissions left out
        ("retransmitted", np.int64),  # packets
        ("mac", np.int64),  # source of the side's first frame, -1: none
        ("tag", np.int64),  # the newest packet's, which the flow's notes tell
        ("base", np.uint32),  # TCP sequence number of the first head byte
        ("initial", np.uint32),  # sequence number of the SYN
        ("next", np.uint32),  # highest sequence number seen, plus one
        ("hole", np.uint32),  # sequence number of the first byte that the newest gap below next lacks
        ("hole_end", np.uint32),  # behind its last; the same: nothing is missing
        ("contiguous", np.int32),  # head bytes without a gap
        ("kept", np.int32),  # bytes in the arena
        ("pieces", np.int32),
        ("ending", np.int64),  # head offset behind the last byte (a FIN told it), -1: unknown
        ("flags", np.uint8),  # all TCP flags
        ("based", np.uint8),  # base is set
        ("begins", np.uint8),  # base follows a SYN
        ("acknowledged", np.uint8),  # sent an ACK that is neither SYN nor RST
        ("closed", np.uint8),  # no more head is kept
        ("recent", np.uint64, 4),  # digests of the last packets, for copies
        ("recent_place", np.int64, 4),  # where each was captured: a mixture of source MAC, VLAN and time to live
        ("recent_time", np.int64, 4),
        ("recent_next", np.uint8),
        ("lengths", np.uint16, 4),  # ICMP: lengths of echoes that are kept, 0: room for one
    ]
)

PIECE = np.dtype(
    [
        ("frame", np.int64),
        ("time", np.int64),
        ("arena", np.int64),  # offset of the first kept byte
        ("flow", np.int32),
        ("capture", np.int32),
        ("offset", np.int32),  # TCP: in the head; ICMP error: length of the IP header that precedes
        ("length", np.int32),  # payload as declared
        ("kept", np.int32),
        ("side", np.uint8),  # ICMP error: the side that sent the quoted packet
        ("error", np.uint8),  # 1: an ICMP error that quotes the flow, from its IP header on
    ]
)

INTERFACE = np.dtype(
    [
        ("linktype", np.int32),
        ("snaplen", np.int64),
        ("offset", np.int64),  # seconds to add
        ("multiplier", np.int64),  # ticks → ns: ticks * multiplier // divisor, or by bits if >= 0
        ("divisor", np.int64),
        ("bits", np.int32),
        ("trailer", np.int32),  # bytes of frame check sequence behind each frame
    ]
)

CLOCK = np.dtype(
    [
        ("position", np.int64),  # in: where to begin in the buffer; out: the first byte not consumed
        ("frame", np.int64),  # frames read of this file so far
        ("capture", np.int64),  # index of the file
        ("framing", np.int64),
        ("little", np.int64),
        ("record_header", np.int64),  # pcap: 16; 20, 24 or 28 in modified formats
        ("swapped", np.int64),  # pcap before version 2.4: the two lengths of a record may stand in either order
        ("fraction", np.int64),  # pcap: nanoseconds per unit of the second half of a time stamp
        ("linktype", np.int64),  # pcap and snoop
        ("trailer", np.int64),  # pcap
        ("largest", np.int64),  # captured length above which a record is damage
        ("interfaces", np.int64),
        ("flows", np.int64),  # records in use
        ("limit", np.int64),  # flows from which on those that differ in the client's port alone are folded
        ("pieces", np.int64),
        ("arena", np.int64),  # offset of the first free byte
        ("secret", np.uint64, 3),  # odd factors of the flow hash
        ("first", np.int64),  # times of this file, nanoseconds since the epoch
        ("last", np.int64),
        ("flow", np.int64),  # SINGLE, out: the flow that it was accounted to
        ("lost", np.int64),  # snoop: packets that this file's capturing machine says it lost
        ("count_only", np.int64),  # SINGLE: account for the packet, but do not look into its payload
        ("in_flows", np.int64),  # packets by fate, over all files
        ("in_errors", np.int64),  # ICMP errors that belong to the flow that they quote
        ("copies", np.int64),
        ("unfollowed", np.int64),  # above the limit of folded flows, too: in no flow
        ("not_ip", np.int64),
        ("cut", np.int64),
        ("broken", np.int64),
        ("snapped", np.int64),  # frames captured shorter than they were
    ]
)

# Why the kernel came back.
EMPTY = 0
"""The buffer holds no whole record any more."""
BLOCK = 1
"""A pcapng block that carries no packet stands at ``position``."""
SLOW = 2
"""The packet in ``packet`` is for the slow path; ``position`` is behind it and it is not yet accounted for."""
FLOWS_FULL = 3
PIECES_FULL = 4
ARENA_FULL = 5
DAMAGED = 6
"""The record at ``position`` is impossible."""

# What a flow's first payload looks like, by which the length of its head is chosen.
CONTENT_UNKNOWN, CONTENT_OTHER, CONTENT_TLS, CONTENT_SSH, CONTENT_IEC104, CONTENT_TEXT, CONTENT_FTP = range(7)
HEAD_LIMITS = np.array([4096, 4096, 24576, 8192, 16384, 8192, 262144], dtype=np.int64)
"""Bytes per direction that are kept of a TCP conversation, by content."""
HEAD_PIECES = 1024
"""Frames per direction that a TCP head is made of at the most; FTP control: eight times that."""
DATAGRAMS = 64
"""Datagrams per direction that are kept of anything but TCP and ESP."""
DATAGRAM_BYTES = 4096
DATAGRAMS_BYTES, DATAGRAMS_RESERVE = 65536, 16384
ESP_PACKETS = 64
ESP_BYTES = 64
NTP_REPETITIONS, NTP_VARIANTS = 4, 48
ECHO_REPETITIONS, ECHO_VARIANTS = 16, 48
"""Datagrams per direction up to which an ordinary time packet, an echo of a known length is kept; and up to which one
of another length is. The rest of DATAGRAMS, and DATAGRAMS_RESERVE bytes, are for what is no such packet at all: no
flood of them can hide it."""
COPY_ELSEWHERE, COPY_HERE = 20_000_000, 1_000_000
"""Nanoseconds within which the copies of a packet are captured: on its way, and at one place (two mirrors)."""
ERRORS = 8
"""ICMP errors that are kept per flow; and of source quenches and redirects as many again."""

# Numba types its functions' arguments itself; the arrays' dtypes are given where they are made.
Buffer = Any
Record = Any
Number = Any


LIBRARY = Library(__file__)
compiled = LIBRARY.part
"""A function that runs only inside compiled kernels."""


u16: Any = LIBRARY.word("u16", 2, big=True)
u32: Any = LIBRARY.word("u32", 4, big=True)
u64: Any = LIBRARY.word("u64", 8, big=True)
little16: Any = LIBRARY.word("little16", 2, big=False)
little32: Any = LIBRARY.word("little32", 4, big=False)


@compiled
def u48(b: Buffer, at: Number) -> Number:
    return u16(b, at) << 32 | u32(b, at + 2)


@compiled
def host16(b: Buffer, at: Number, little: bool) -> Number:
    """A 16-bit number of the file's own byte order."""
    return little16(b, at) if little else u16(b, at)


@compiled
def host32(b: Buffer, at: Number, little: bool) -> Number:
    """A 32-bit number of the file's own byte order."""
    return little32(b, at) if little else u32(b, at)


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


@compiled
def mix(x: Number) -> Number:
    """Spread the upper bits over the lower ones."""
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    return x ^ (x >> np.uint64(32))


@compiled
def flow_hash(protocol: Number, one: Any, two: Any, secret: Any) -> Number:
    """The same for both directions; multiplied by secrets, so that a capture cannot be made to collide.

    ``one`` and ``two`` are (high, low, port) of the ends.
    """
    left = mix(one[0] * secret[0] + one[1] * secret[1] + np.uint64(one[2] + 1) * secret[2])
    right = mix(two[0] * secret[0] + two[1] * secret[1] + np.uint64(two[2] + 1) * secret[2])
    return mix(left + right + np.uint64(protocol))


@compiled
def find(slots: Any, flows: Any, p: Record, secret: Any) -> Number:
    """(slot, flow) of the packet's conversation; flow -1: not there, slot is where it belongs."""
    mask = np.uint64(len(slots) - 1)
    at = (
        flow_hash(
            p.protocol,
            (p.source_high, p.source_low, p.source_port),
            (p.destination_high, p.destination_low, p.destination_port),
            secret,
        )
        & mask
    )
    while True:
        index = slots[at]
        if index < 0:
            return np.int64(at), np.int64(-1)
        f = flows[index]
        if f.protocol == p.protocol and (
            same(
                f, p.source_high, p.source_low, p.source_port, p.destination_high, p.destination_low, p.destination_port
            )
            or same(
                f, p.destination_high, p.destination_low, p.destination_port, p.source_high, p.source_low, p.source_port
            )
        ):
            return np.int64(at), np.int64(index)
        at = (at + np.uint64(1)) & mask


@compiled
def is_noted(slots: Any, flows: Any, sides: Any, p: Record, secret: Any) -> Number:
    """Whether the notes of the packet's flow tell its tag already: who came before it took the slow path."""
    if p.protocol == TCP and p.flags & SYN:
        return False  # it may open another flow
    _, flow = find(slots, flows, p, secret)
    return flow >= 0 and sides[2 * flow + (0 if sent_by_first(flows[flow], p) else 1)].tag == p.tag


@compiled
def same(f: Record, high0: Any, low0: Any, port0: Any, high1: Any, low1: Any, port1: Any) -> Number:
    return (
        f.low0 == low0
        and f.low1 == low1
        and f.port0 == port0
        and f.port1 == port1
        and f.high0 == high0
        and f.high1 == high1
    )


@compiled
def sent_by_first(f: Record, p: Record) -> Number:
    """Whether side 0 of the flow sent the packet."""
    return (
        f.low0 == p.source_low
        and f.high0 == p.source_high
        and f.port0 == p.source_port
        and f.low1 == p.destination_low
        and f.high1 == p.destination_high
        and f.port1 == p.destination_port
    )


@compiled
def content_of(b: Buffer, p: Record, size: Number) -> Number:
    """What the first payload of a TCP conversation looks like."""
    first = b[p.payload]
    second = b[p.payload + 1] if size > 1 else np.uint8(0)
    if (p.source_port == 21 or p.destination_port == 21) and first < 0x80 and first != 22:
        return CONTENT_FTP
    if (20 <= first <= 23 and second == 3) or (first >= 0x80 and size > 2 and b[p.payload + 2] == 1):
        return CONTENT_TLS
    if first == 0x68 or first == 0x69:
        return CONTENT_IEC104
    if size > 3 and first == 0x53 and second == 0x53 and b[p.payload + 2] == 0x48:
        return CONTENT_SSH
    if size > 3 and 0x31 <= first <= 0x35 and 0x30 <= second <= 0x39 and b[p.payload + 3] in (0x20, 0x2D):
        return CONTENT_FTP  # a three-digit reply
    if 0x20 <= first < 0x7F:
        return CONTENT_TEXT
    return CONTENT_OTHER


@compiled
def store(b: Buffer, begin: Number, count: Number, pieces: Any, arena: Any, clock: Record) -> Number:
    """Copy bytes into the arena and take the next piece; the caller made sure of the room."""
    offset = clock.arena
    for each in range(count):
        arena[offset + each] = b[begin + each]
    clock.arena = offset + count
    index = clock.pieces
    clock.pieces = index + 1
    pieces[index].arena = offset
    pieces[index].kept = count
    return index


@compiled
def describe(
    piece: Record, p: Record, clock: Record, flow: Number, side: Number, offset: Number, error: Number
) -> None:
    piece.frame = p.frame
    piece.time = p.time
    piece.capture = clock.capture
    piece.flow = flow
    piece.side = side
    piece.offset = offset
    piece.length = p.length
    piece.error = error


@compiled
def keep_stream(
    b: Buffer, p: Record, f: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> None:
    """Keep the part of a TCP segment that lengthens the head of its direction."""
    begin = p.payload
    captured = min(p.length, p.end - begin)
    offset = np.int64(np.int32(np.uint32(p.sequence - s.base)))
    if offset < 0:
        begin -= offset
        captured += offset
        offset = np.int64(0)
    if captured <= 0 or offset + captured <= s.contiguous:
        return
    if f.content <= CONTENT_OTHER or f.content == CONTENT_TEXT:
        f.content = max(f.content, content_of(b, p, captured))
    limit = HEAD_LIMITS[f.content]
    most = HEAD_PIECES * 8 if f.content == CONTENT_FTP else HEAD_PIECES
    if offset >= limit or s.pieces >= most or s.kept >= 2 * limit:
        s.closed = s.pieces >= most or s.kept >= 2 * limit
        return
    captured = min(captured, limit - offset)
    application_data = captured > 2 and b[begin] == 23 and b[begin + 1] == 3 and b[begin + 2] <= 4
    if f.content == CONTENT_TLS and application_data and offset == s.contiguous:
        captured = min(captured, 32)  # application data begins: one record's header is evidence enough
        s.closed = 1
    index = store(b, begin, captured, pieces, arena, clock)
    describe(pieces[index], p, clock, flow, side, offset, 0)
    s.pieces += 1
    s.kept += captured
    if offset <= s.contiguous:
        s.contiguous = offset + captured


@compiled
def echo_room(b: Buffer, p: Record, s: Record, captured: Number) -> Number:
    """Datagrams up to which an ICMP message is kept: endless pings of one length say nothing new, all else does."""
    kind = b[p.payload]
    asks = kind == 8 or kind == 0 if p.protocol == ICMP else kind == 128 or kind == 129
    if not asks or captured < 8 or b[p.payload + 1] != 0:
        return DATAGRAMS
    for each in range(len(s.lengths)):
        if s.lengths[each] == p.length:
            return ECHO_REPETITIONS
        if s.lengths[each] == 0:
            if s.pieces < ECHO_VARIANTS:
                s.lengths[each] = p.length
            break
    return ECHO_VARIANTS


@compiled
def time_room(b: Buffer, p: Record, captured: Number) -> Number:
    """Datagrams up to which one on NTP's port is kept: endless questions, and answers of a clock that is set, say
    nothing new; a kiss-o'-death or an authenticator may, a control message does (RFC 5905 section 7.3)."""
    if captured < 2 or p.length < 48:
        return DATAGRAMS
    first, stratum = b[p.payload], b[p.payload + 1]
    version, mode = first >> 3 & 7, first & 7
    if mode < 3 or mode > 4 or version < 3 or version > 4:
        return DATAGRAMS
    answers = first >> 6 != 3 and 0 < stratum < 16
    return NTP_REPETITIONS if p.length == 48 and (mode == 3 or answers) else NTP_VARIANTS


@compiled
def keep_datagram(
    b: Buffer, p: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> None:
    """Keep a datagram of anything but TCP, within its direction's limits."""
    begin = p.payload
    captured = min(p.length, p.end - begin)
    limit = DATAGRAM_BYTES
    most = DATAGRAMS
    if p.protocol == ESP or (
        p.protocol == UDP
        and (p.source_port == 4500 or p.destination_port == 4500)
        and captured >= 4
        and u32(b, begin) != 0
    ):
        limit = ESP_BYTES
        most = ESP_PACKETS
    if captured <= 0 or s.pieces >= most or s.kept >= DATAGRAMS_BYTES:
        return
    if p.protocol == ICMP or p.protocol == ICMPV6:
        most = echo_room(b, p, s, captured)
    elif p.protocol == UDP and (p.source_port == 123 or p.destination_port == 123):
        most = time_room(b, p, captured)
    if s.pieces >= most or (most < DATAGRAMS and s.kept >= DATAGRAMS_BYTES - DATAGRAMS_RESERVE):
        return
    index = store(b, begin, min(captured, limit), pieces, arena, clock)
    describe(pieces[index], p, clock, flow, side, 0, 0)
    s.pieces += 1
    s.kept += min(captured, limit)


@compiled
def follow_tcp(
    b: Buffer, p: Record, f: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> None:
    """Sequence numbers, handshake and close of a TCP conversation, and its head."""
    flags = p.flags
    s.flags |= flags
    if flags & RST:
        if f.reset_frame == 0:
            f.reset_frame = p.frame
            f.reset_capture = clock.capture
            f.reset_side = side
        f.closed = 1
        return
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
            return
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


@compiled
def is_copy(b: Buffer, p: Record, s: Record) -> Number:
    """Whether the side's packet was captured before, on another interface or by another path of the mirror.

    A capture on all interfaces of a router shows each packet two or three times within an instant, with another time
    to live or link-layer address. A sender's own repetition has another IPv4 identification, or comes later.
    """
    digest = np.uint64(p.identification) << np.uint64(32) | np.uint64(p.length)
    if p.protocol == TCP:
        numbers = np.uint64(p.sequence) << np.uint64(32) | np.uint64(p.acknowledgement)
        digest = mix(digest ^ mix(numbers + np.uint64(p.flags)))
    else:
        for at in range(p.payload, min(p.payload + 32, p.end)):
            digest = digest * np.uint64(0x100000001B3) ^ np.uint64(b[at])
        digest = mix(digest)
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
def fold(p: Record) -> None:
    """Make the packet one of the flow that stands for all ports of its client."""
    if p.protocol == ICMP or p.protocol == ICMPV6:
        p.source_port = FOLDED
        p.destination_port = FOLDED
    elif p.source_port >= 0:
        opening = p.protocol == TCP and p.flags & SYN
        asks = not p.flags & ACK if opening else p.source_port >= p.destination_port
        if asks:
            p.source_port = FOLDED
        else:
            p.destination_port = FOLDED


@compiled
def account(b: Buffer, p: Record, slots: Any, flows: Any, sides: Any, pieces: Any, arena: Any, clock: Record) -> None:
    """Give one decoded packet to its flow; the caller made sure of the room."""
    slot, flow = find(slots, flows, p, clock.secret)
    opens = p.protocol == TCP and p.flags & (SYN | ACK | RST) == SYN
    if flow >= 0 and opens:
        side = 0 if sent_by_first(flows[flow], p) else 1
        s = sides[2 * flow + side]
        # Closed, or its opener lost its memory: a new connection takes over the ports and the slot.
        if (flows[flow].closed or s.acknowledged) and (not s.flags & SYN or s.initial != p.sequence):
            flow = -1
    if flow < 0 and clock.flows >= clock.limit:
        fold(p)
        slot, flow = find(slots, flows, p, clock.secret)
        if flow < 0 and clock.flows >= clock.limit + clock.limit // 4:
            clock.unfollowed += 1
            return
    if flow < 0:
        flow = clock.flows
        clock.flows = flow + 1
        slots[slot] = flow
        f = flows[flow]
        f.high0 = p.source_high
        f.low0 = p.source_low
        f.port0 = p.source_port
        f.high1 = p.destination_high
        f.low1 = p.destination_low
        f.port1 = p.destination_port
        f.protocol = p.protocol
        f.version = p.version
        f.first = p.time
        f.last = p.time
        f.first_frame = p.frame
        f.first_capture = clock.capture
        f.vlan = p.vlan
        f.note = -1
        f.syn_side = -1
        f.reset_side = -1
        for each in range(2):
            sides[2 * flow + each].mac = -1
            sides[2 * flow + each].ending = -1
    f = flows[flow]
    side = 0 if sent_by_first(f, p) else 1
    s = sides[2 * flow + side]
    if clock.framing != SINGLE and is_copy(b, p, s):
        clock.copies += 1
        s.copies += 1
        return
    if s.packets == 0:
        s.mac = p.source_mac
    s.packets += 1
    s.bytes += p.wire
    f.first = min(f.first, p.time)
    if p.time >= f.last:
        f.last = p.time
        f.last_frame = p.frame
        f.last_capture = clock.capture
    if p.tag:
        s.tag = p.tag
    clock.flow = flow
    clock.in_flows += 1
    if f.port0 == FOLDED or f.port1 == FOLDED:
        s.flags |= p.flags
        s.payload += p.length
        if p.flags & SYN and f.syn_side < 0:
            f.syn_side = side if not p.flags & ACK else 1 - side
        return
    if clock.count_only:
        return
    if p.protocol == TCP:
        follow_tcp(b, p, f, s, flow, side, pieces, arena, clock)
        if sides[2 * flow].flags & FIN and sides[2 * flow + 1].flags & FIN:
            f.closed = 1
    else:
        s.payload += p.length
        keep_datagram(b, p, s, flow, side, pieces, arena, clock)


@compiled
def account_error(
    b: Buffer, p: Record, inner: Record, slots: Any, flows: Any, sides: Any, pieces: Any, arena: Any, clock: Record
) -> None:
    """Give an ICMP error to the flow that it quotes; without such a flow it is a flow of its own."""
    outcome = quoted(b, p, inner)
    if outcome == CUT:
        clock.cut += 1
        return
    if outcome == DECODED:
        _, flow = find(slots, flows, inner, clock.secret)
        if flow >= 0:
            f = flows[flow]
            clock.in_errors += 1
            f.errors += 1
            control = p.protocol == ICMP and b[p.payload] in (4, 5)  # no number of others hides a redirect
            f.controls += control
            if f.errors <= ERRORS or (control and f.controls <= ERRORS):
                begin = p.network
                side = 0 if sent_by_first(f, inner) else 1
                index = store(b, begin, min(p.end - begin, 128), pieces, arena, clock)
                describe(pieces[index], p, clock, flow, side, p.payload - begin, 1)
            return
    account(b, p, slots, flows, sides, pieces, arena, clock)


@compiled
def next_record(b: Buffer, end: Number, p: Record, interfaces: Any, clock: Record) -> Number:
    """Read the framing of the record at ``clock.position`` into ``p`` and move behind it.

    Returns DECODED for a packet, else EMPTY - 10, BLOCK - 10 or DAMAGED - 10 with the position unmoved.
    """
    at = clock.position
    little = clock.little != 0
    if clock.framing == PCAP:
        header = clock.record_header
        if at + header > end:
            return EMPTY - 10
        captured = host32(b, at + 8, little)
        wire = host32(b, at + 12, little)
        if clock.swapped and captured > wire:
            captured, wire = wire, captured
        if captured > clock.largest:
            return DAMAGED - 10
        if at + header + captured > end:
            return EMPTY - 10
        p.time = host32(b, at, little) * 1_000_000_000 + host32(b, at + 4, little) * clock.fraction
        p.wire = max(captured, wire)
        p.trailer = clock.trailer
        p.linktype = clock.linktype
        p.start = at + header
        p.end = at + header + captured
        clock.position = p.end
        return DECODED
    if clock.framing == SNOOP:
        if at + 24 > end:
            return EMPTY - 10
        captured = u32(b, at + 4)
        total = u32(b, at + 8)  # header and padding included
        if captured > clock.largest or total < 24 + captured or total > 2 * clock.largest:
            return DAMAGED - 10
        if at + total > end:
            return EMPTY - 10
        p.time = u32(b, at + 16) * 1_000_000_000 + u32(b, at + 20) * 1000
        p.wire = max(captured, u32(b, at))
        p.trailer = 0
        p.linktype = clock.linktype
        p.start = at + 24
        p.end = p.start + captured
        clock.lost = max(clock.lost, u32(b, at + 12))
        clock.position = at + total
        return DECODED
    if at + 12 > end:
        return EMPTY - 10
    kind = host32(b, at, little)
    if kind != 6 and kind != 3 and kind != 2:
        return BLOCK - 10
    total = host32(b, at + 4, little)
    if total < 16 or total & 3 or total > clock.largest:
        return DAMAGED - 10
    if at + total > end:
        return EMPTY - 10
    if host32(b, at + total - 4, little) != total:
        return DAMAGED - 10
    number = 0
    if kind == 3:
        p.start = at + 12
        captured = total - 16
    else:
        if total < 32:
            return DAMAGED - 10
        number = host32(b, at + 8, little) if kind == 6 else host16(b, at + 8, little)
        captured = host32(b, at + 20, little)
        p.start = at + 28
        if captured > total - 32:
            return DAMAGED - 10
    if number >= clock.interfaces:
        return DAMAGED - 10
    interface = interfaces[number]
    if kind == 3:
        p.wire = host32(b, at + 8, little)
        captured = min(captured, p.wire)
        if interface.snaplen:
            captured = min(captured, interface.snaplen)
        p.time = clock.last  # a simple packet has no time of its own: that of the packet before it
    else:
        p.wire = max(captured, host32(b, at + 24, little))
        ticks = host32(b, at + 12, little) << 32 | host32(b, at + 16, little)
        if interface.bits >= 0:
            bits = interface.bits
            seconds = ticks >> bits if bits < 63 else 0
            rest = ticks - (seconds << bits) if bits < 63 else ticks
            if bits > 30:
                rest >>= bits - 30
                bits = 30
            p.time = (seconds + interface.offset) * 1_000_000_000 + (rest * 1_000_000_000 >> bits)
        else:
            p.time = ticks // interface.divisor * interface.multiplier + interface.offset * 1_000_000_000
    p.linktype = interface.linktype
    p.trailer = interface.trailer
    p.end = p.start + captured
    clock.position = at + total
    return DECODED


@LIBRARY.kernel(np.uint8, int, PACKET, INTERFACE, np.bool_, np.int32, FLOW, SIDE, PIECE, np.uint8, np.int64, CLOCK)
def scan(
    b: Buffer,
    end: Number,
    packets: Any,
    interfaces: Any,
    tunnels: Any,
    slots: Any,
    flows: Any,
    sides: Any,
    pieces: Any,
    arena: Any,
    ethertypes: Any,
    clocks: Any,
) -> Number:
    """Account for all packets in ``b[clock.position:end]``; says why it came back.

    ``packets`` has two records: the packet, and scratch for what ICMP errors quote. With SINGLE framing exactly
    the packet in ``packets[0]`` is accounted for.
    """
    clock = clocks[0]
    p = packets[0]
    while True:
        # Room for what one packet may need at the most, so that nothing below can fail half-way.
        if clock.flows >= len(flows):
            return FLOWS_FULL
        if clock.pieces >= len(pieces):
            return PIECES_FULL
        if len(arena) - clock.arena < HEAD_LIMITS[CONTENT_FTP]:
            return ARENA_FULL
        if clock.framing == SINGLE:
            outcome = decode_ip(b, p, tunnels)
            if outcome == RARE:
                outcome = DECODED
        else:
            outcome = next_record(b, end, p, interfaces, clock)
            if outcome < 0:
                return outcome + 10
            clock.frame += 1
            p.frame = clock.frame
            if p.time < 0:
                p.time = 0
            if clock.frame == 1:
                clock.first = p.time
                clock.last = p.time
            clock.first = min(clock.first, p.time)
            clock.last = max(clock.last, p.time)
            if p.end - p.start < p.wire:
                clock.snapped += 1
            if p.trailer:
                p.end = min(p.end, p.start + max(0, p.wire - p.trailer))
            outcome = decode(b, p, tunnels)
            if p.tag and outcome == DECODED and not is_noted(slots, flows, sides, p, clock.secret):
                outcome = RARE
        if outcome == DECODED:
            account(b, p, slots, flows, sides, pieces, arena, clock)
        elif outcome == ICMP_ERROR:
            account_error(b, p, packets[1], slots, flows, sides, pieces, arena, clock)
        elif outcome == NOT_IP:
            clock.not_ip += 1
            ethertypes[p.ethertype] += 1
        elif outcome == RARE:
            return SLOW
        elif outcome == CUT:
            clock.cut += 1
        else:
            clock.broken += 1
        if clock.framing == SINGLE:
            return EMPTY


@LIBRARY.kernel(np.int32, FLOW, int, np.uint64)
def index(slots: Any, flows: Any, count: Number, secret: Any) -> Number:
    """Fill an empty table of slots; of flows with the same key the newest wins, as while scanning."""
    mask = np.uint64(len(slots) - 1)
    for flow in range(count):
        f = flows[flow]
        one, two = (f.high0, f.low0, f.port0), (f.high1, f.low1, f.port1)
        at = flow_hash(f.protocol, one, two, secret) & mask
        while slots[at] >= 0:
            g = flows[slots[at]]
            if g.protocol == f.protocol and (
                same(g, f.high0, f.low0, f.port0, f.high1, f.low1, f.port1)
                or same(g, f.high1, f.low1, f.port1, f.high0, f.low0, f.port0)
            ):
                break
            at = (at + np.uint64(1)) & mask
        slots[at] = flow
    return count


# -- flows that are alike ---------------------------------------------------------------------------------------
#
# A base station asks the same question, or pings the same host, every minute of a day. Such flows are read and judged
# once. What is alike is found here by comparison, byte for byte: nobody can hide a flow behind another one.

SPEAKS_NOTHING, SPEAKS_ECHO, SPEAKS_DNS, SPEAKS_NTP = range(1, 5)
"""Of which kind the content of a flow is that may well be another's; 0: it is read for itself."""
REPEATED = 8
"""Datagrams up to which a flow may be like another one."""


@compiled
def repeats(f: Record, one: Record, two: Record, count: Number) -> Number:
    """What a flow with ``count`` kept pieces may repeat (``SPEAKS_…``); all of its payload must have been kept."""
    if f.errors or f.protocol == ESP:
        return 0
    if count == 0:
        return SPEAKS_NOTHING if one.payload == 0 and two.payload == 0 else 0
    if f.protocol == TCP or count > REPEATED or count != one.packets + two.packets:
        return 0
    if f.protocol == ICMP or f.protocol == ICMPV6:
        return SPEAKS_ECHO
    if f.protocol == UDP and (f.port0 == 53 or f.port1 == 53):
        return SPEAKS_DNS
    if f.protocol == UDP and (f.port0 == 123 or f.port1 == 123):
        return SPEAKS_NTP
    return 0


@compiled
def essence(b: Buffer, at: Number, size: Number, speaks: Number, out: Buffer) -> Number:
    """Write what a datagram says to ``out``, without what only makes it unique or dates it; returns the length.

    -1: this one must be read. An echo's identifier, sequence number and data and a DNS message's identifier matter by
    being another datagram's (see :func:`token`); the times of NTP and the times to live of DNS say nothing here.
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
def token(b: Buffer, pieces: Any, start: Number, index: Number, speaks: Number) -> Number:
    """Number of the flow's first datagram that has the same unique part as the one at ``start + index``."""
    at = pieces[start + index].arena
    begin, end = 0, 0
    if speaks == SPEAKS_DNS:
        end = 2
    elif speaks == SPEAKS_ECHO:
        begin, end = 4, pieces[start + index].kept
    for earlier in range(index):
        if speaks == SPEAKS_ECHO and pieces[start + earlier].kept != end:
            continue
        place = pieces[start + earlier].arena
        same_bytes = True
        for each in range(begin, end):
            if b[at + each] != b[place + each]:
                same_bytes = False
                break
        if same_bytes:
            return earlier
    return index


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
        unique = token(b, pieces, start, index - start, speaks)
        digest = mix(digest * secret[1] + np.uint64(piece.kept << 8 | piece.side << 7 | unique))
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
        if token(b, pieces, start, index, speaks) != token(b, pieces, begin, index, speaks):
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


@LIBRARY.kernel(
    *(np.uint8, FLOW, SIDE, PIECE, np.int64, np.bool_, np.uint64),
    *(np.int32, np.int32, np.uint64, np.uint64, np.uint8, np.uint8, np.int32, np.int32),
)
def liken(
    b: Buffer,
    flows: Any,
    sides: Any,
    pieces: Any,
    starts: Any,
    named: Any,
    secret: Any,
    speech_slots: Any,
    kind_slots: Any,
    speech_digests: Any,
    kind_digests: Any,
    out: Buffer,
    other_out: Buffer,
    speech: Any,
    kind: Any,
) -> Number:
    """Tell which flows are alike; returns how many have no earlier one of their kind.

    ``speech[i]`` becomes the first flow that says what flow i says, ``kind[i]`` the first of those that goes between
    the same hosts, to the same service, and ended the same way; i itself where there is none. ``b`` is the arena,
    the slots (a power of two above the number of flows) are full of -1, there is a digest for each flow, and
    ``out`` and ``other_out`` have room for a datagram.
    """
    mask = np.uint64(len(kind_slots) - 1)
    kinds = 0
    for flow in range(len(flows)):
        speech[flow] = flow
        kind[flow] = flow
        f = flows[flow]
        start, stop = starts[flow], starts[flow + 1]
        speaks = repeats(f, sides[2 * flow], sides[2 * flow + 1], stop - start)
        digest = np.uint64(0)
        if speaks:
            digest = speech_digest(b, pieces, start, stop, speaks, secret, out)
        if digest == 0:
            kinds += 1
            continue
        digest = mix(digest + np.uint64(f.protocol))
        speech_digests[flow] = digest
        at = digest & mask
        while speech_slots[at] >= 0:
            other = speech_slots[at]
            if (
                speech_digests[other] == digest
                and flows[other].protocol == f.protocol
                and same_speech(b, pieces, starts, other, flow, speaks, out, other_out)
            ):
                speech[flow] = other
                break
            at = (at + np.uint64(1)) & mask
        if speech[flow] == flow:
            speech_slots[at] = flow
        side = service_side(f, named)
        if side < 0:
            kinds += 1
            continue
        service = 0 if f.protocol == ICMP or f.protocol == ICMPV6 else f.port1 if side else f.port0
        digest = mix(np.uint64(speech[flow]) * secret[0] + np.uint64(service << 1 | side))
        digest = mix(digest + f.low0 * secret[1] + f.high0 * secret[2])
        digest = mix(digest + f.low1 * secret[1] + f.high1 * secret[2])
        kind_digests[flow] = digest
        at = digest & mask
        while kind_slots[at] >= 0:
            other = kind_slots[at]
            if (
                kind_digests[other] == digest
                and speech[other] == speech[flow]
                and service_side(flows[other], named) == side
                and same_kind(flows, sides, other, flow, side)
            ):
                kind[flow] = other
                break
            at = (at + np.uint64(1)) & mask
        if kind[flow] == flow:
            kind_slots[at] = flow
            kinds += 1
    return kinds


def compiled_before() -> bool:
    """Whether the kernels are compiled for this machine; else the first packet waits some ten seconds for it."""
    return LIBRARY.ready()
