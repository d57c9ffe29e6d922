"""Kept datagrams: of each direction the first ones, and those unlike them, however many came before.

A flow of a row's protocol has few classes of datagrams: a base station asks the same questions and pings with the same
pattern all day. The first datagrams of a direction are kept whatever they are; later ones only if their class is new.
Classes are also counted over the whole flow, so that a tunnel shows wherever in the flow it begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    ECHO_REPETITIONS,
    ECHO_STAMP,
    ECHO_VARIANTS,
    ICMP,
    ICMPV6,
    MAX_DATAGRAM_BYTES,
    MAX_DATAGRAMS,
    MAX_DIRECTION_BYTES,
    MAX_OPENINGS,
    MAX_UNLIKE,
    NTP_REPETITIONS,
    NTP_VARIANTS,
    RESERVED_BYTES,
    TRACK_ESP,
    UDP,
    UNLIKE_BYTES,
)
from analyzer.scanner.decode import is_echo
from analyzer.scanner.esp import NATT_PORT, is_esp
from analyzer.scanner.integers import u16, u32
from analyzer.scanner.jit import Buffer, Number, Record, compiled
from analyzer.scanner.payload import describe_piece, has_room, store_piece
from analyzer.scanner.table import mix

DNS_PORT, NTP_PORT, IKE_PORT = 53, 123, 500
NTP_BYTES = 48
"""Length of an NTP message without extension fields and message authentication code (RFC 5905, section 7.3)."""
BOOTP_NAMES = 44
"""Offset of the server's name in a DHCP message; file name and options follow (RFC 2131, section 2)."""
ELAPSED_TIME = 8
"""DHCPv6 option that differs in every retransmission (RFC 8415, section 21.9)."""
IKE_HEADER = 28
SA_PAYLOADS = (1, 33)
"""Types of the payload with the proposals: IKEv1 (RFC 2408, section 3.4) and IKEv2 (RFC 7296, section 3.3)."""
NOTIFY = 41
OPENING_EXCHANGES = (2, 4, 34, 35)
"""IKEv1 main and aggressive mode; IKE_SA_INIT and IKE_AUTH."""
MAX_PAYLOADS = 16
"""Payloads of an IKE message in which the proposals are looked for."""
PLAIN, ECHO, DNS, NTP, IKE, DHCP, DHCP6 = range(7)
"""What a datagram is by its port: PLAIN belongs to no row."""


@compiled
def keep_datagram(
    data: Buffer,
    packet: Record,
    side: Record,
    peer: Record,
    flow_index: Number,
    sender: Number,
    pieces: Any,
    arena: Any,
    state: Record,
) -> Number:
    """Keep a datagram of anything but TCP, within the limits of its direction; returns TRACK_ESP or 0.

    ESP packets are kept by their SPI, see :func:`analyzer.scanner.esp.track_esp`.
    """
    captured = min(packet.length, packet.end - packet.payload)
    if captured <= 0:
        return 0
    if captured >= 8 and is_esp(data, packet):
        return TRACK_ESP
    kind = service_kind(packet)
    limit = MAX_DATAGRAMS
    if kind != PLAIN:
        limit = class_limit(data, packet, captured, kind, side, peer)
    room = MAX_DIRECTION_BYTES
    if limit < MAX_DATAGRAMS:
        room -= RESERVED_BYTES
    elif limit > MAX_DATAGRAMS:
        room += UNLIKE_BYTES
    if side.pieces >= limit or side.kept >= room:
        state.unlike_dropped += limit == MAX_UNLIKE
        return 0
    if not has_room(state):
        return 0
    index = store_piece(data, packet.payload, min(captured, MAX_DATAGRAM_BYTES), pieces, arena, state)
    describe_piece(pieces[index], packet, state, flow_index, sender, 0, 0)
    side.pieces += 1
    side.kept += min(captured, MAX_DATAGRAM_BYTES)
    return 0


@compiled
def service_kind(packet: Record) -> Number:
    """What a datagram is by its port."""
    if packet.protocol == ICMP or packet.protocol == ICMPV6:
        return ECHO
    if packet.protocol != UDP:
        return PLAIN
    one, two = packet.source_port, packet.destination_port
    if one == DNS_PORT or two == DNS_PORT:
        return DNS
    if one == NTP_PORT or two == NTP_PORT:
        return NTP
    if one in (IKE_PORT, NATT_PORT) or two in (IKE_PORT, NATT_PORT):
        return IKE
    if one in (67, 68) or two in (67, 68):
        return DHCP
    return DHCP6 if one in (546, 547) or two in (546, 547) else PLAIN


@compiled
def class_limit(data: Buffer, packet: Record, captured: Number, kind: Number, side: Record, peer: Record) -> Number:
    """Number of datagrams up to which this one is kept: few of known classes, more of new ones. Counts the class."""
    begin = packet.payload
    echo = kind == ECHO and captured >= 8 and data[begin + 1] == 0 and is_echo(packet.protocol, data[begin])
    new = is_new(side, datagram_class(data, packet, captured, kind, data[begin]))
    side.unlike += new
    if echo:
        if data[begin] == 0 or data[begin] == 129:
            request = 8 if data[begin] == 0 else 128
            side.mismatched += lacks_class(peer, datagram_class(data, packet, captured, kind, request))
        return ECHO_VARIANTS if new else ECHO_REPETITIONS
    if kind == NTP:
        return ntp_limit(data, packet, captured, new)
    if new:
        return MAX_UNLIKE
    at = ike_start(data, packet, captured)
    opening = kind == IKE and captured >= IKE_HEADER + 4 and data[at + 18] in OPENING_EXCHANGES
    return MAX_OPENINGS if opening else MAX_DATAGRAMS


@compiled
def ntp_limit(data: Buffer, packet: Record, captured: Number, new: Number) -> Number:
    """Number of datagrams up to which one on the port of NTP is kept (RFC 5905, section 7.3).

    Few plain requests, and few plain answers of a synchronised clock; more of those with a kiss code or more fields;
    most of anything else, such as control messages.
    """
    other = MAX_UNLIKE if new else MAX_DATAGRAMS
    if captured < 2 or packet.length < NTP_BYTES:
        return other
    first, stratum = data[packet.payload], data[packet.payload + 1]
    leap, version, mode = first >> 6, first >> 3 & 7, first & 7
    if mode < 3 or mode > 4 or version < 3 or version > 4:
        return other
    plain = packet.length == NTP_BYTES and (mode == 3 or (leap != 3 and 0 < stratum < 16))
    return NTP_REPETITIONS if plain and not new else NTP_VARIANTS


# -- classes ----------------------------------------------------------------------------------------------------


@compiled
def is_new(side: Record, digest: Number) -> Number:
    """Whether a class is none of those that the side remembers; it is remembered if there is room."""
    for index in range(len(side.classes)):
        if side.classes[index] == digest:
            return False
        if side.classes[index] == 0:
            side.classes[index] = digest
            return True
    return True


@compiled
def lacks_class(side: Record, digest: Number) -> Number:
    """Whether a side has sent something, and nothing of a class, of which it remembers all."""
    if side.classes[0] == 0 or side.classes[len(side.classes) - 1] != 0:
        return False
    for index in range(len(side.classes)):  # noqa: SIM110  (numba compiles no generators in all())
        if side.classes[index] == digest:
            return False
    return True


@compiled
def datagram_class(data: Buffer, packet: Record, captured: Number, kind: Number, first: Number) -> Number:
    """Digest of what makes a datagram another than those before; never 0. ``first``: stands for its first byte.

    Fields that identify or date a message are left out, and its length counts roughly where it is part of these.
    """
    begin = packet.payload
    end = begin + min(captured, MAX_DATAGRAM_BYTES)
    digest = np.uint64(0)
    if kind == ECHO:
        digest = np.uint64(
            packet.length << 16 | np.int64(first) << 8 | np.int64(data[begin + 1] if captured > 1 else 0)
        )
        digest = hash_bytes(data, begin + 8 + ECHO_STAMP, end, digest)
    elif kind == DNS and captured >= 12:
        digest = hash_question(data, begin, end, np.uint64(packet.length >> 7))
    elif kind == NTP and captured >= 16:
        digest = np.uint64(packet.length << 16 | np.int64(first) << 8 | np.int64(data[begin + 1]))
        digest = hash_bytes(data, begin + 12, begin + 16, digest)
    elif kind == IKE and captured >= IKE_HEADER:
        digest = hash_negotiation(data, ike_start(data, packet, captured), end)
    elif kind == DHCP and captured > BOOTP_NAMES:
        digest = hash_bytes(data, begin + BOOTP_NAMES, end, np.uint64(first))
    elif kind == DHCP6 and captured >= 4:
        digest = hash_options(data, begin + 4, end, np.uint64(first))
    else:
        digest = hash_bytes(data, begin, min(end, begin + 4), np.uint64(packet.length >> 4))
    return np.uint32(mix(digest) & np.uint64(0xFFFFFFFF)) | np.uint32(1)


@compiled
def hash_bytes(data: Buffer, begin: Number, end: Number, digest: Number) -> Number:
    for offset in range(begin, end):
        digest = (digest ^ np.uint64(data[offset])) * np.uint64(0x100000001B3)  # FNV-1a
    return mix(digest)


@compiled
def hash_question(data: Buffer, begin: Number, end: Number, digest: Number) -> Number:
    """Digest of a DNS message's flags, counts and first question, whose letters may be in either case (RFC 4343)."""
    answered = u16(data, begin + 6) != 0
    flags = np.uint64(u16(data, begin + 2)) << np.uint64(24) | np.uint64(u16(data, begin + 4) << 1 | answered)
    digest = mix(digest ^ flags << np.uint64(8))
    offset = begin + 12
    while offset < end and data[offset]:
        digest = (digest ^ np.uint64(data[offset] | 0x20)) * np.uint64(0x100000001B3)
        offset += 1
    return hash_bytes(data, offset, min(end, offset + 5), digest)


@compiled
def ike_start(data: Buffer, packet: Record, captured: Number) -> Number:
    """Offset of an IKE header, behind the non-ESP marker on port 4500 (RFC 3948, section 2.2)."""
    natt = packet.source_port == NATT_PORT or packet.destination_port == NATT_PORT
    marked = natt and captured >= IKE_HEADER + 4 and u32(data, packet.payload) == 0
    return packet.payload + 4 if marked else packet.payload


@compiled
def hash_negotiation(data: Buffer, start: Number, end: Number) -> Number:
    """Digest of an IKE message's version, exchange and direction, and of its proposals or notifications in clear."""
    if start + IKE_HEADER > end:
        return hash_bytes(data, start, end, np.uint64(0))
    version, exchange, response = data[start + 17], data[start + 18], data[start + 19] & 0x20
    digest = np.uint64(np.int64(version) << 16 | np.int64(exchange) << 8 | np.int64(response))
    kind, at = np.int64(data[start + 16]), start + IKE_HEADER
    for _ in range(MAX_PAYLOADS):
        if at + 8 > end:
            break
        size = np.int64(u16(data, at + 2))
        if kind in SA_PAYLOADS:
            return hash_bytes(data, at + 4, min(end, at + size), digest)
        if kind == NOTIFY:
            digest = hash_bytes(data, at + 6, at + 8, digest)
        if size < 4:
            break
        kind = np.int64(data[at])
        at += size
    return digest


@compiled
def hash_options(data: Buffer, offset: Number, end: Number, digest: Number) -> Number:
    """Digest of the options of DHCPv6 (RFC 8415, section 21.1) without the elapsed time."""
    while offset + 4 <= end:
        stop = min(end, offset + 4 + np.int64(u16(data, offset + 2)))
        if u16(data, offset) != ELAPSED_TIME:
            digest = hash_bytes(data, offset, stop, digest)
        offset = stop
    return digest
