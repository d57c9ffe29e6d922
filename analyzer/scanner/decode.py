"""Link, network and transport headers of one packet."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import (
    DECODED,
    HOUSEKEEPING_PORT,
    ICMP,
    ICMP_ERROR,
    ICMPV6,
    IPV4_MAPPED,
    LARGEST_PACKET,
    MALFORMED,
    MANY_EXTENSIONS,
    NOT_IP,
    OPTION_DATA,
    PLAIN,
    SLOW_PATH,
    SOURCE_ROUTE,
    SURPLUS,
    TAIL,
    TCP,
    TRUNCATED,
    UDP,
)
from analyzer.scanner.housekeeping import IGMP, is_group_report, is_neighbourly6
from analyzer.scanner.integers import host32, u16, u32, u48, u64
from analyzer.scanner.jit import Buffer, Number, Record, compiled

# https://www.tcpdump.org/linktypes.html; DLT_RAW is 12 on most systems and 14 on OpenBSD.
LINK_NULL, LINK_ETHERNET, LINK_LOOP, LINK_COOKED, LINK_COOKED2 = 0, 1, 108, 113, 276
LINKS_RAW = (101, 228, 229, 12, 14)

IPV4, IPV6 = 0x0800, 0x86DD
VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
MPLS, MPLS_MULTICAST, PPPOE_SESSION = 0x8847, 0x8848, 0x8864
SLOW_ETHERTYPES = (0x88E5, 0x88E7, 0x8903, 0x8909, 0x8926, 0x894F)
"""Ethernet types of :mod:`analyzer.scanner.decapsulation`: MACsec, backbone bridges, FabricPath, Cisco metadata,
VN-Tag, NSH."""
COMMON_NEXT_HEADERS = (0, 6, 17, 44, 50, 58)
"""IPv6: hop-by-hop options, TCP, UDP, fragments, ESP, ICMPv6."""

OTHER_COOKED = (770, 801, 802, 803, 824)
"""Linux device types (ARPHRD_*) under which the protocol field of a cooked header is no Ethernet type."""

FAMILIES_IPV6 = (10, 24, 28, 30)
"""AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS."""

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
MOBILITY, HIP, SHIM6, NO_NEXT_HEADER = 135, 139, 140, 59
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, MOBILITY, HIP, SHIM6)
UNFINISHED = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION)
"""Extension headers that never end a packet."""
MAX_EXTENSIONS = 16
"""Extension headers of a packet above which it is noted that they are many; they are lawful."""
EXTENSION_BYTES = 8
"""Size of the shortest extension header."""

ROUTER_ALERT = 148
"""Type of the IPv4 option (RFC 2113)."""
PADDED, FRAME_CHECK = 46, 4
"""Bytes to which a short Ethernet payload is padded, and of a frame check sequence that the capture may hold."""


@compiled
def decode_link(data: Buffer, packet: Record) -> Number:
    """Decode the link layer of the packet in ``data[packet.start:packet.end]``; DECODED: down to ``packet.network``."""
    packet.source_mac = -1
    packet.destination_mac = -1
    packet.vlan = -1
    packet.tag = 0
    packet.ethertype = 0
    packet.version = 0
    packet.layer = PLAIN
    packet.odd = 0
    packet.surplus = 0
    packet.tail = 0
    offset = packet.start
    end = packet.end
    linktype = packet.linktype
    if linktype == LINK_ETHERNET:
        if offset + 14 > end:
            return TRUNCATED
        packet.destination_mac = u48(data, offset)
        packet.source_mac = u48(data, offset + 6)
        ethertype = u16(data, offset + 12)
        offset += 14
    elif linktype == LINK_COOKED:  # packet type, device type, address length, address, protocol
        if offset + 16 > end:
            return TRUNCATED
        if u16(data, offset + 4) == 6:
            packet.source_mac = u48(data, offset + 6)
        if u16(data, offset + 2) in OTHER_COOKED:
            return SLOW_PATH
        ethertype = u16(data, offset + 14)
        offset += 16
    elif linktype == LINK_COOKED2:  # protocol, reserved, interface, device type, packet type, address length, address
        if offset + 20 > end:
            return TRUNCATED
        if data[offset + 11] == 6:
            packet.source_mac = u48(data, offset + 12)
        if u16(data, offset + 8) in OTHER_COOKED:
            return SLOW_PATH
        ethertype = u16(data, offset)
        offset += 20
    elif linktype in LINKS_RAW:
        if offset >= end:
            return TRUNCATED
        ethertype = IPV6 if data[offset] >> 4 == 6 else IPV4
    elif linktype in (LINK_NULL, LINK_LOOP):
        if offset + 4 > end:
            return TRUNCATED
        # The address family is in the byte order of the capturing machine.
        family = min(host32(data, offset, True), host32(data, offset, False))
        ethertype = IPV4 if family == 2 else IPV6 if family in FAMILIES_IPV6 else 0
        offset += 4
    else:
        return SLOW_PATH
    if packet.source_mac == 0:  # loopback devices have no address
        packet.source_mac = -1
    while ethertype in VLAN_TAGS:
        if offset + 4 > end:
            return TRUNCATED
        if packet.vlan < 0:
            packet.vlan = u16(data, offset) & 0xFFF
        ethertype = u16(data, offset + 2)
        offset += 4
    packet.ethertype = ethertype
    packet.network = offset
    if ethertype in (IPV4, IPV6):
        return DECODED
    if ethertype in (MPLS, MPLS_MULTICAST, PPPOE_SESSION):
        return decode_tag(data, packet)
    if linktype == LINK_ETHERNET and is_bare_ip(data, packet):
        packet.source_mac = -1
        packet.vlan = -1
        packet.ethertype = IPV6 if data[packet.start] >> 4 == 6 else IPV4
        packet.network = packet.start
        return DECODED
    if ethertype < 1536 or ethertype in SLOW_ETHERTYPES:  # below 1536 it is a length: IEEE 802.2
        return SLOW_PATH
    return NOT_IP


@compiled
def is_bare_ip(data: Buffer, packet: Record) -> Number:
    """Whether a frame of an unknown Ethernet type is an IP packet without any link-layer header.

    Modems deliver such frames, in files that call them Ethernet: all of them, or those of one direction. The header
    must declare the length of the frame; that of IPv4 must have a right checksum, that of IPv6 a common next header.
    """
    start = packet.start
    size = packet.wire - packet.trailer
    if data[start] == 0x45 and packet.end - start >= 20:
        total = np.int64(0)
        for index in range(10):
            total += u16(data, start + 2 * index)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        return u16(data, start + 2) == size and total == 0xFFFF
    if data[start] >> 4 == 6 and packet.end - start >= 40:
        return u16(data, start + 4) + 40 == size and data[start + 6] in COMMON_NEXT_HEADERS
    return False


@compiled
def decode_tag(data: Buffer, packet: Record) -> Number:
    """Skip a PPPoE session header (RFC 2516) or MPLS label stack (RFC 3032) right before IP; sets ``packet.tag``.

    Anything else takes the slow path.
    """
    offset = packet.network
    if packet.ethertype == PPPOE_SESSION:
        if offset + 8 >= packet.end or (u16(data, offset + 6) != 0x21 and u16(data, offset + 6) != 0x57):
            return SLOW_PATH
        tag = np.int64(1) << 32 | u16(data, offset + 2)
        offset += 8
    else:
        while offset + 4 < packet.end and not data[offset + 2] & 1:  # the last label has the bottom-of-stack bit
            offset += 4
        if offset + 4 >= packet.end:
            return SLOW_PATH
        tag = u32(data, offset) >> 12
        offset += 4
    if data[offset] >> 4 != 4 and data[offset] >> 4 != 6:
        return SLOW_PATH
    packet.tag = tag << 13 | np.int64(packet.vlan + 1) | np.int64(1) << 60
    packet.network = offset
    return DECODED


@compiled
def decode_ip(data: Buffer, packet: Record, tunnels: Any) -> Number:
    """Decode the IP header at ``packet.network`` and the transport header after it.

    ``tunnels[n]``: IP protocol n takes the slow path; ``tunnels[256 + n]``: so does UDP port n.
    """
    offset = packet.network
    if offset >= packet.end:
        return TRUNCATED
    version = data[offset] >> 4
    packet.source_port = -1
    packet.destination_port = -1
    packet.flags = 0
    packet.payload = offset
    packet.length = 0
    packet.finish = 0
    # Packets that the network card segments declare the length 0: then they end with the frame.
    limit = min(packet.start + packet.wire - packet.trailer, offset + LARGEST_PACKET)
    many_extensions = False
    if version == 4:
        if offset + 20 > packet.end:
            return TRUNCATED
        read_addresses4(data, offset, packet)
        header = (np.int64(data[offset]) & 15) * 4
        total = u16(data, offset + 2)
        if header < 20 or 0 < total < header:
            return MALFORMED
        if offset + header > packet.end:
            return TRUNCATED
        packet.protocol = data[offset + 9]
        packet.time_to_live = data[offset + 8]
        packet.identification = u16(data, offset + 4)
        if packet.source_low == IPV4_MAPPED:  # 0.0.0.0: its MAC address tells hosts without an address apart
            packet.source_high = np.uint64(packet.source_mac + 1)
        if total:
            limit = offset + total
            packet.finish = limit
        if header > 20:
            packet.odd |= odd_options(data, offset + 20, offset + header)
        if u16(data, offset + 6) & 0x3FFF:  # a fragment: more fragments, or an offset
            return SLOW_PATH
        offset += header
    elif version == 6:
        if offset + 40 > packet.end:
            return TRUNCATED
        read_addresses6(data, offset, packet)
        declared = u16(data, offset + 4)
        if declared:
            limit = offset + 40 + declared
            packet.finish = limit
        packet.time_to_live = data[offset + 7]
        packet.identification = 0
        following = np.int64(data[offset + 6])
        if following in EXTENSIONS:
            packet.odd |= odd_extensions(data, following, offset + 40, packet.end)
        following, offset = skip_extensions(data, following, offset + 40, packet.end)
        packet.protocol = following
        if following in EXTENSIONS and offset + 8 > packet.end:
            return TRUNCATED if limit > packet.end else MALFORMED
        if following == FRAGMENT and u16(data, offset + 2) & 0xFFF9:
            packet.protocol = data[offset]
            return SLOW_PATH
        if following in UNFINISHED:
            return MALFORMED
        many_extensions = offset - packet.network - 40 > MAX_EXTENSIONS * EXTENSION_BYTES
    else:
        return MALFORMED
    outcome = decode_transport(data, packet, offset, limit, tunnels)
    if not many_extensions:
        return outcome
    packet.odd |= MANY_EXTENSIONS
    return SLOW_PATH if outcome == DECODED else outcome


@compiled
def odd_options(data: Buffer, offset: Number, end: Number) -> Number:
    """SOURCE_ROUTE and OPTION_DATA of the IPv4 options in ``data[offset:end]`` (RFC 791, section 3.1).

    Padding (types 0 and 1) and router alerts (RFC 2113) carry no data, unless bytes follow the end of the list.
    """
    odd = 0
    while offset < end:
        kind = data[offset]
        if kind == 1:
            offset += 1
            continue
        if kind == 0:
            while offset < end:
                if data[offset] != 0:
                    odd |= OPTION_DATA
                offset += 1
            break
        size = np.int64(data[offset + 1]) if offset + 1 < end else np.int64(0)
        if kind & 0x7F == 3 or kind & 0x7F == 9:  # loose or strict source route, copied or not
            odd |= SOURCE_ROUTE
        elif kind != ROUTER_ALERT or size != 4 or offset + 4 > end or u16(data, offset + 2) != 0:
            odd |= OPTION_DATA
        if size < 2:
            odd |= OPTION_DATA
            break
        offset += size
    return odd


@compiled
def odd_extensions(data: Buffer, following: Number, offset: Number, end: Number) -> Number:
    """SOURCE_ROUTE and OPTION_DATA of the IPv6 extension headers from ``offset`` on (RFC 8200, section 4)."""
    odd = 0
    while following in EXTENSIONS and offset + 8 <= end:
        if following == FRAGMENT:
            if u16(data, offset + 2) & 0xFFF9:
                break
            size = np.int64(8)
        else:
            size = (np.int64(data[offset + 1]) + 1) * 8
        if following == ROUTING and data[offset + 3] > 0:
            odd |= SOURCE_ROUTE
        elif following in (HOP_BY_HOP, DESTINATION) and has_option_data(data, offset + 2, min(offset + size, end)):
            odd |= OPTION_DATA
        following = np.int64(data[offset])
        offset += size
    return odd


@compiled
def has_option_data(data: Buffer, offset: Number, end: Number) -> Number:
    """Whether IPv6 options carry more than padding, a router alert, a jumbo length, a tunnel limit or a home address
    (RFC 8200, section 4.2; RFC 2711, RFC 2675, RFC 2473, RFC 6275)."""
    while offset < end:
        kind = data[offset]
        if kind == 0:
            offset += 1
            continue
        size = np.int64(data[offset + 1]) if offset + 1 < end else np.int64(0)
        if kind == 1:
            for place in range(offset + 2, min(offset + 2 + size, end)):
                if data[place] != 0:
                    return True
        elif not (
            (kind == 5 and size == 2)
            or (kind == 0xC2 and size == 4)
            or (kind == 4 and size == 1)
            or (kind == 0xC9 and size == 16)
        ):
            return True
        offset += 2 + size
    return False


@compiled
def find_tail(packet: Record) -> None:
    """Set TAIL and ``packet.tail`` where bytes follow the IP packet that are no padding and no frame check sequence.

    IEEE 802.3 pads the payload of a frame to 46 bytes.
    """
    finish = packet.start + packet.wire - packet.trailer
    if packet.finish and finish - packet.finish > FRAME_CHECK and finish - packet.network > PADDED + FRAME_CHECK:
        packet.tail = finish - max(packet.finish, packet.network + PADDED)
        packet.odd |= TAIL


@compiled
def read_addresses4(data: Buffer, offset: Number, packet: Record) -> None:
    """Version and addresses of the IPv4 header at ``offset``."""
    packet.version = 4
    packet.source_high = np.uint64(0)
    packet.source_low = IPV4_MAPPED | np.uint64(u32(data, offset + 12))
    packet.destination_high = np.uint64(0)
    packet.destination_low = IPV4_MAPPED | np.uint64(u32(data, offset + 16))


@compiled
def read_addresses6(data: Buffer, offset: Number, packet: Record) -> None:
    """Version and addresses of the IPv6 header at ``offset``."""
    packet.version = 6
    packet.source_high = u64(data, offset + 8)
    packet.source_low = u64(data, offset + 16)
    packet.destination_high = u64(data, offset + 24)
    packet.destination_low = u64(data, offset + 32)


@compiled
def skip_extensions(data: Buffer, following: Number, offset: Number, end: Number) -> Number:
    """Skip IPv6 extension headers (RFC 8200, section 4) from one of type ``following`` at ``offset`` on.

    Returns type and offset of the first header that is not skipped: the upper layer's, that of a real fragment, a
    truncated one. Mobility, HIP and shim6 headers are skipped if another one follows. Each has 8 bytes at least, and
    their number has no limit.
    """
    while following in EXTENSIONS and offset + 8 <= end:
        if following == FRAGMENT and u16(data, offset + 2) & 0xFFF9:
            break
        if following >= MOBILITY and data[offset] == NO_NEXT_HEADER:
            break
        step = np.int64(8) if following == FRAGMENT else (np.int64(data[offset + 1]) + 1) * 8
        following = np.int64(data[offset])
        offset += step
    return following, offset


@compiled
def decode_transport(data: Buffer, packet: Record, offset: Number, limit: Number, tunnels: Any) -> Number:
    """Decode the transport header at ``offset``; ``limit`` is the end of the packet as the IP header declares it."""
    packet.source_port = -1
    packet.destination_port = -1
    packet.flags = 0
    packet.payload = offset
    packet.length = max(0, limit - offset)
    protocol = packet.protocol
    if protocol == TCP:
        if offset + 14 > packet.end:
            return TRUNCATED
        packet.source_port = u16(data, offset)
        packet.destination_port = u16(data, offset + 2)
        packet.sequence = u32(data, offset + 4)
        packet.acknowledgement = u32(data, offset + 8)
        packet.flags = data[offset + 13]
        header = np.int64(data[offset + 12] >> 4) * 4
        packet.payload = offset + max(header, 20)
        packet.length = max(0, limit - packet.payload) if header >= 20 else 0
    elif protocol == UDP:
        if offset + 8 > packet.end:
            return TRUNCATED
        packet.source_port = u16(data, offset)
        packet.destination_port = u16(data, offset + 2)
        declared = u16(data, offset + 4)
        packet.payload = offset + 8
        packet.length = max(0, limit - packet.payload)
        if 8 <= declared < packet.length + 8:
            if packet.finish:
                packet.surplus = packet.length + 8 - declared
                packet.odd |= SURPLUS
            packet.length = declared - 8
        if tunnels[256 + packet.destination_port] or tunnels[256 + packet.source_port]:
            return SLOW_PATH
    elif protocol in (ICMP, ICMPV6):
        if offset + 4 > packet.end:
            return TRUNCATED
        kind = data[offset]
        if is_icmp_error(protocol, kind) and packet.length > 8:
            return ICMP_ERROR
        if is_echo(protocol, kind) and packet.length >= 6:
            if offset + 6 > packet.end:
                return TRUNCATED
            packet.source_port = u16(data, offset + 4)
            packet.destination_port = packet.source_port
        elif protocol == ICMPV6 and is_neighbourly6(data, packet):
            packet.source_port = HOUSEKEEPING_PORT
            packet.destination_port = HOUSEKEEPING_PORT
    elif protocol == IGMP:
        if is_group_report(data, packet):
            packet.source_port = HOUSEKEEPING_PORT
            packet.destination_port = HOUSEKEEPING_PORT
    elif tunnels[protocol]:
        return SLOW_PATH
    return DECODED


@compiled
def is_icmp_error(protocol: Number, kind: Number) -> Number:
    """Whether an ICMP type quotes a packet (RFC 792, RFC 4443): unreachable, source quench, redirect, and so on."""
    if protocol == ICMP:
        return 3 <= kind <= 5 or kind == 11 or kind == 12
    return 1 <= kind <= 4


@compiled
def is_echo(protocol: Number, kind: Number) -> Number:
    """Whether an ICMP type is that of an echo request or reply."""
    if protocol == ICMP:
        return kind == 8 or kind == 0
    return kind == 128 or kind == 129


@compiled
def decode_quoted(data: Buffer, error: Record, inner: Record) -> Number:
    """Decode the packet that an ICMP error quotes into ``inner``: addresses, protocol and ports.

    Its ``payload`` is where the transport header begins. Returns DECODED; TRUNCATED if the capture holds too little of
    the quotation; NOT_IP if the error itself does, or quotes something else.
    """
    inner.layer = error.layer
    inner.start = error.payload + 8
    inner.end = error.end
    too_short = TRUNCATED if error.payload + error.length > error.end else NOT_IP
    inner.wire = error.end - inner.start
    inner.network = inner.start
    inner.source_port = -1
    inner.destination_port = -1
    offset = inner.start
    if offset + 20 > inner.end:
        return too_short
    if data[offset] >> 4 == 4 and not u16(data, offset + 6) & 0x1FFF:
        inner.protocol = data[offset + 9]
        read_addresses4(data, offset, inner)
        inner.finish = offset + u16(data, offset + 2)
        offset += (np.int64(data[offset]) & 15) * 4
    elif data[offset] >> 4 == 6:
        if offset + 40 > inner.end:
            return too_short
        read_addresses6(data, offset, inner)
        inner.finish = offset + 40 + u16(data, offset + 4)
        following, offset = skip_extensions(data, np.int64(data[offset + 6]), offset + 40, inner.end)
        if following == FRAGMENT and offset + 8 <= inner.end and not u16(data, offset + 2) & 0xFFF8:
            # The first fragment has the ports.
            following, offset = skip_extensions(data, np.int64(data[offset]), offset + 8, inner.end)
        if following in UNFINISHED:
            return too_short if offset + 8 > inner.end else NOT_IP
        inner.protocol = following
    else:
        return NOT_IP
    inner.payload = offset
    if inner.protocol == TCP or inner.protocol == UDP:
        if offset + 4 > inner.end:
            return too_short
        inner.source_port = u16(data, offset)
        inner.destination_port = u16(data, offset + 2)
        if inner.protocol == TCP and offset + 8 <= inner.end:
            inner.sequence = u32(data, offset + 4)
    elif inner.protocol == ICMP or inner.protocol == ICMPV6:
        if offset + 6 > inner.end:
            return too_short
        if is_echo(ICMP, data[offset]) or is_echo(ICMPV6, data[offset]):
            inner.source_port = u16(data, offset + 4)
            inner.destination_port = inner.source_port
    return DECODED
