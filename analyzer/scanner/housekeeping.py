"""Link-local housekeeping: what every host sends to keep its link going, recognised by content.

Group management (IGMP), neighbour discovery and listener discovery of IPv6, ARP, LLDP, 802.1X and the like are
housekeeping only as far as their destination, hop limit, size and content are those of their standards: no router
forwards such frames. Anything else of these types is a packet like any other.
"""

from __future__ import annotations

import numpy as np

from analyzer.scanner.columns import MISUSED, NEIGHBOURLY, OTHER_TYPE
from analyzer.scanner.integers import u16
from analyzer.scanner.jit import Buffer, Number, Record, compiled

IGMP = 2
"""Protocol number."""

LARGEST_REPORT = 512
"""Bytes of the largest message of group management or listener discovery that counts as housekeeping: a report of 24
IPv6 groups. A host joins a few."""
LARGEST_SOLICITATION = 80
"""Bytes of the largest neighbour solicitation, advertisement or router solicitation: 24, a link-layer address and a
nonce (RFC 4861, RFC 7527), with room for another option of 40 bytes."""
LARGEST_ADVERTISEMENT = 512
"""Bytes of the largest router advertisement: 16, and options for prefixes, routes and name servers."""

ARP, RARP, SLOW_PROTOCOLS, FLOW_CONTROL = 0x0806, 0x8035, 0x8809, 0x8808
PPPOE_DISCOVERY, EAPOL, LLDP = 0x8863, 0x888E, 0x88CC
LINK_GROUP = 0x0180C2000000
"""First of the sixteen addresses that no bridge forwards (IEEE 802.1D, table 7-10)."""
SHORT_FRAME = 50
"""Bytes to which a short Ethernet payload is padded, with a frame check sequence."""
LARGEST_LACPDU = 128
"""Bytes of the largest frame of a slow protocol (IEEE 802.3, annex 57A)."""


@compiled
def is_group_report(data: Buffer, packet: Record) -> Number:
    """Whether a packet is a query, report or leave of group management (RFC 2236; RFC 9776, section 4).

    It goes to a group, with a time to live of 1, and is as long as its content says.
    """
    offset, size = packet.payload, packet.length
    to_group = packet.version == 4 and packet.destination_low >> np.uint64(28) & np.uint64(15) == np.uint64(14)
    if not to_group or packet.time_to_live != 1 or size < 8 or size > LARGEST_REPORT:
        return False
    if offset + size > packet.end:
        return True  # truncated by the capture
    kind = data[offset]
    if kind == 0x12 or kind == 0x16 or kind == 0x17:
        return size == 8
    if kind == 0x11:
        return size == 8 or (size >= 12 and size == 12 + 4 * u16(data, offset + 10))
    if kind != 0x22:
        return False
    at = np.int64(8)
    for _ in range(u16(data, offset + 6)):
        if at + 8 > size or data[offset + at + 1] != 0:
            return False
        at += 8 + 4 * u16(data, offset + at + 2)
    return at == size


@compiled
def is_neighbourly6(data: Buffer, packet: Record) -> Number:
    """Whether an ICMPv6 message is neighbour discovery (RFC 4861: hop limit 255, to a neighbour) or listener discovery
    (RFC 9777: hop limit 1, to a group), and no larger than one."""
    kind = data[packet.payload]
    if 130 <= kind <= 132 or kind == 143:
        return packet.time_to_live == 1 and is_group6(packet) and 20 <= packet.length <= LARGEST_REPORT
    if kind < 133 or kind > 136 or packet.time_to_live != 255 or data[packet.payload + 1] != 0:
        return False
    limit = LARGEST_ADVERTISEMENT if kind == 134 else LARGEST_SOLICITATION
    return packet.length <= limit and is_on_link(packet)


@compiled
def is_group6(packet: Record) -> Number:
    """Whether the destination is an IPv6 group."""
    return packet.destination_high >> np.uint64(56) == np.uint64(0xFF)


@compiled
def is_on_link(packet: Record) -> Number:
    """Whether an IPv6 packet stays on its link: one end is link-local, the destination is a group of the link, or both
    ends share a prefix of 64 bits."""
    link_local = np.uint64(0xFE80 >> 6)
    return (
        packet.destination_high >> np.uint64(48) & np.uint64(0xFF0F) == np.uint64(0xFF02)
        or packet.destination_high >> np.uint64(54) == link_local
        or packet.source_high >> np.uint64(54) == link_local
        or packet.source_high == packet.destination_high
    )


@compiled
def frame_kind(data: Buffer, packet: Record) -> Number:
    """NEIGHBOURLY, MISUSED or OTHER_TYPE for a frame without IP; its payload begins at ``packet.network``."""
    offset, kind = packet.network, packet.ethertype
    size = packet.start + packet.wire - packet.trailer - offset
    held = packet.end - offset
    to_link_group = packet.destination_mac >> 4 == LINK_GROUP >> 4
    if kind in (ARP, RARP):
        # Hardware type, protocol type, both lengths; then the operation.
        sound = size <= SHORT_FRAME and (
            held < 8 or (u16(data, offset + 2) == 0x0800 and u16(data, offset + 4) == 0x0604 and data[offset + 6] == 0)
        )
    elif kind == LLDP:
        sound = to_link_group and (held < 2 or data[offset] >> 1 == 1)  # first the chassis
    elif kind == SLOW_PROTOCOLS:
        sound = to_link_group and size <= LARGEST_LACPDU
    elif kind == FLOW_CONTROL:
        sound = to_link_group and size <= SHORT_FRAME
    elif kind == EAPOL:
        sound = held < 4 or (data[offset] <= 3 and data[offset + 1] <= 8 and fills(size, 4 + u16(data, offset + 2)))
    elif kind == PPPOE_DISCOVERY:
        sound = held < 6 or (data[offset] == 0x11 and fills(size, 6 + u16(data, offset + 4)))
    else:
        return OTHER_TYPE
    return NEIGHBOURLY if sound else MISUSED


@compiled
def fills(size: Number, declared: Number) -> Number:
    """Whether content of ``declared`` bytes leaves nothing of a payload of ``size`` bytes but padding."""
    return declared <= size <= max(declared + 4, np.int64(SHORT_FRAME))
