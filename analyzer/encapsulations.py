"""The slow path: peels what rarely stands between a capture's frame and the IP header that counts.

The compiled scanner knows the common link layers. For everything else it hands the frame to :func:`peel`, which
walks from layer to layer until it stands before the innermost IP header. Each layer is one small function in one
of the four tables at the end: to add an encapsulation, write the function and list it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

DEPTH = 16
"""Layers after which peeling stops: tunnels nested deeper are somebody's trap."""

IPV4, IPV6 = 0x0800, 0x86DD


class Layer(NamedTuple):
    """What stands at an offset of the frame."""

    kind: str
    """``link`` (code: link type), ``ethertype`` (code: Ethernet type) or ``other`` (no IP; code is 0)."""
    code: int
    at: int
    """Offset in the frame, in bytes."""
    note: str | None = None
    """What was peeled to come here."""


Peel = Callable[[bytes, int], Layer | None]
"""From the offset of a layer to the next one; ``None``: it is cut, or not what its number promised."""


@dataclass(frozen=True, slots=True)
class Peeled:
    network: int
    """Offset of the innermost IP header, -1: there is none."""
    notes: tuple[str, ...] = ()
    reason: str | None = None
    """Why there is no IP header."""


def peel(frame: bytes, linktype: int) -> Peeled:
    """Find the innermost IP header of a frame."""
    layer = Layer("link", linktype, 0)
    network = -1
    peeled: tuple[str, ...] = ()
    notes: list[str] = []
    for _ in range(DEPTH):
        following, reason = step(frame, layer)
        # A tunnel without a sound IP header in it is no tunnel, but what its bearer carries.
        if layer.kind == "ethertype" and layer.code in (IPV4, IPV6) and (network < 0 or sound(frame, layer)):
            network, peeled = layer.at, tuple(notes)
        if following is None:
            return Peeled(network, peeled, reason if network < 0 else None)
        if following.note:
            notes.append(following.note)
        layer = following
    return Peeled(network, peeled, None if network >= 0 else "too many nested layers")


def sound(frame: bytes, layer: Layer) -> bool:
    """Whether an IP header stands there, whole, with the version that was announced."""
    if layer.at >= len(frame):
        return False
    if layer.code == IPV6:
        return frame[layer.at] >> 4 == 6 and layer.at + 40 <= len(frame)
    size = (frame[layer.at] & 15) * 4
    return frame[layer.at] >> 4 == 4 and size >= 20 and layer.at + size <= len(frame)


def step(frame: bytes, layer: Layer) -> tuple[Layer | None, str]:
    """The layer behind one, or none and the reason."""
    table, what = (LINKS, "link type") if layer.kind == "link" else (ETHERTYPES, "Ethernet type")
    if layer.kind == "other":
        return None, "no IP"
    function = table.get(layer.code)
    if function is None:
        number = f"{layer.code}" if layer.kind == "link" else f"0x{layer.code:04x}"
        return None, f"{what} {number} is not supported"
    return function(frame, layer.at), "cut or contradictory headers"


def u16(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")


def by_version(frame: bytes, at: int, note: str | None = None) -> Layer | None:
    """Bare IP of either version, told by its first four bits."""
    if at >= len(frame) or frame[at] >> 4 not in (4, 6):
        return None
    return Layer("ethertype", IPV4 if frame[at] >> 4 == 4 else IPV6, at, note)


# -- links ------------------------------------------------------------------------------------------------------


def ethernet(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.3: a type, or a length and 802.2 behind it."""
    if at + 14 > len(frame):
        return None
    return Layer("ethertype", u16(frame, at + 12), at + 14)


def ppp(frame: bytes, at: int) -> Layer | None:
    """RFC 1661, RFC 1662: address and control may be left out."""
    if frame[at : at + 2] == b"\xff\x03":
        at += 2
    if at + 2 > len(frame):
        return None
    number, at = (frame[at], at + 1) if frame[at] & 1 else (u16(frame, at), at + 2)
    code = {0x21: IPV4, 0x57: IPV6, 0x281: 0x8847, 0x283: 0x8848}.get(number)
    return Layer("other", 0, at, "ppp") if code is None else Layer("ethertype", code, at, "ppp")


def cisco_hdlc(frame: bytes, at: int) -> Layer | None:
    """Cisco HDLC: address, control, Ethernet type."""
    return Layer("ethertype", u16(frame, at + 2), at + 4, "hdlc") if at + 4 <= len(frame) else None


def cooked(frame: bytes, at: int) -> Layer | None:
    """Linux cooked capture, LINKTYPE_LINUX_SLL."""
    return Layer("ethertype", u16(frame, at + 14), at + 16) if at + 16 <= len(frame) else None


def cooked2(frame: bytes, at: int) -> Layer | None:
    """Linux cooked capture, LINKTYPE_LINUX_SLL2."""
    return Layer("ethertype", u16(frame, at), at + 20) if at + 20 <= len(frame) else None


def raw_ip(frame: bytes, at: int) -> Layer | None:
    return by_version(frame, at)


def loopback(frame: bytes, at: int) -> Layer | None:
    """BSD loopback: four bytes of address family in some byte order."""
    return by_version(frame, at + 4)


def netfilter_log(frame: bytes, at: int) -> Layer | None:
    """LINKTYPE_NFLOG: family, version, resource, then attributes of which number 9 is the packet."""
    at += 4
    while at + 4 <= len(frame):
        length = int.from_bytes(frame[at : at + 2], "little")
        kind = int.from_bytes(frame[at + 2 : at + 4], "little") & 0x7FFF
        if kind == 9:
            return by_version(frame, at + 4, "nflog")
        if length < 4:
            return None
        at += (length + 3) & ~3
    return None


# -- Ethernet types ---------------------------------------------------------------------------------------------


def vlan(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.1Q tag."""
    if at + 4 > len(frame):
        return None
    return Layer("ethertype", u16(frame, at + 2), at + 4, f"vlan {u16(frame, at) & 0xFFF}")


def mpls(frame: bytes, at: int) -> Layer | None:
    """RFC 3032 label stack; below it IP, or a pseudowire's Ethernet with or without control word (RFC 4448)."""
    for _ in range(DEPTH):
        if at + 4 > len(frame):
            return None
        bottom = frame[at + 2] & 1
        label = u16(frame, at) << 4 | frame[at + 2] >> 4
        at += 4
        if bottom:
            below = by_version(frame, at, f"mpls {label}")
            control = 4 if frame[at : at + 1] and frame[at] >> 4 == 0 else 0
            return below or Layer("link", 1, at + control, f"mpls {label}")
    return None


def pppoe(frame: bytes, at: int) -> Layer | None:
    """RFC 2516 session stage: version, code, session, length, then PPP."""
    return Layer("link", 9, at + 6, f"pppoe {u16(frame, at + 2)}") if at + 8 <= len(frame) else None


def logical_link(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.2: SNAP carries an Ethernet type, everything else no IP."""
    if frame[at : at + 3] == b"\xaa\xaa\x03" and at + 8 <= len(frame):
        return Layer("ethertype", u16(frame, at + 6), at + 8, "snap")
    return Layer("other", 0, at, "802.2")


def ethernet_bridged(frame: bytes, at: int) -> Layer | None:
    """Transparent Ethernet bridging (GRE, Geneve)."""
    return ethernet(frame, at)


def erspan(frame: bytes, at: int) -> Layer | None:
    """ERSPAN types II (8 bytes of header) and III (12 bytes, 8 more with the O flag)."""
    if at + 12 > len(frame):
        return None
    version = frame[at] >> 4
    size = 8 if version == 1 else 12 + (8 if frame[at + 11] & 1 else 0)
    return Layer("link", 1, at + size, "erspan")


def ipv4(frame: bytes, at: int) -> Layer | None:
    """RFC 791: on to what a tunnel carries; a fragment is not peeled further."""
    if at + 20 > len(frame) or frame[at] >> 4 != 4 or u16(frame, at + 6) & 0x3FFF:
        return None
    return transport(frame, frame[at + 9], at + (frame[at] & 15) * 4)


def ipv6(frame: bytes, at: int) -> Layer | None:
    """RFC 8200: through the extension headers, on to what a tunnel carries."""
    if at + 40 > len(frame) or frame[at] >> 4 != 6:
        return None
    following, at = frame[at + 6], at + 40
    for _ in range(DEPTH):
        if following not in (0, 43, 60) or at + 8 > len(frame):
            break
        following, at = frame[at], at + (frame[at + 1] + 1) * 8
    return transport(frame, following, at)


def transport(frame: bytes, protocol: int, at: int) -> Layer | None:
    """The tunnel above an IP header, if it is one."""
    if protocol == 17 and at + 8 <= len(frame):
        function = UDP_PORTS.get(u16(frame, at + 2)) or UDP_PORTS.get(u16(frame, at))
        return function(frame, at + 8) if function else None
    function = IP_PROTOCOLS.get(protocol)
    return function(frame, at) if function else None


# -- IP protocols and UDP ports ---------------------------------------------------------------------------------


def ip_in_ip(frame: bytes, at: int) -> Layer | None:
    """RFC 2003, RFC 2473, RFC 4213."""
    return by_version(frame, at, "ip-in-ip")


def gre(frame: bytes, at: int) -> Layer | None:
    """RFC 2784, RFC 2890; version 1 is PPTP's (RFC 2637)."""
    if at + 4 > len(frame):
        return None
    flags, code = u16(frame, at), u16(frame, at + 2)
    size = 4 + 4 * bool(flags & 0xC000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
    if flags & 7 == 1:
        size += 4 * bool(flags & 0x0080)
        return Layer("link", 9, at + size, "gre") if code == 0x880B and at + size < len(frame) else None
    if code in ETHERTYPES:
        return Layer("ethertype", code, at + size, "gre")
    return None


def vxlan(frame: bytes, at: int) -> Layer | None:
    """RFC 7348: flag I, network identifier, Ethernet."""
    if at + 22 > len(frame) or not frame[at] & 8:
        return None
    return Layer("link", 1, at + 8, f"vxlan {int.from_bytes(frame[at + 4 : at + 7], 'big')}")


def geneve(frame: bytes, at: int) -> Layer | None:
    """RFC 8926."""
    if at + 8 > len(frame) or frame[at] >> 6:
        return None
    inner = Layer("ethertype", u16(frame, at + 2), at + 8 + (frame[at] & 0x3F) * 4, "geneve")
    return inner if inner.code in ETHERTYPES else None


def teredo(frame: bytes, at: int) -> Layer | None:
    """RFC 4380: IPv6, after authentication and origin indications."""
    if frame[at : at + 2] == b"\0\x01" and at + 4 <= len(frame):
        at += 13 + frame[at + 2] + frame[at + 3]
    if frame[at : at + 2] == b"\0\0":
        at += 8
    inner = by_version(frame, at, "teredo")
    return inner if inner and inner.code == IPV6 and at + 40 <= len(frame) else None


def gtp_user(frame: bytes, at: int) -> Layer | None:
    """3GPP TS 29.281: G-PDUs (message type 255) of GTP version 1, behind their extension headers."""
    if at + 12 > len(frame) or frame[at] >> 4 != 3 or frame[at + 1] != 255:
        return None
    if not frame[at] & 7:
        return by_version(frame, at + 8, "gtp")
    following, at = frame[at + 11] if frame[at] & 4 else 0, at + 12
    for _ in range(DEPTH):
        if not following:
            return by_version(frame, at, "gtp")
        size = 4 * frame[at] if at < len(frame) else 0
        if not size or at + size > len(frame):
            return None
        following, at = frame[at + size - 1], at + size
    return None


LINKS: Mapping[int, Peel] = {
    0: loopback,
    1: ethernet,
    9: ppp,
    12: raw_ip,
    14: raw_ip,
    50: ppp,
    101: raw_ip,
    104: cisco_hdlc,
    108: loopback,
    113: cooked,
    228: raw_ip,
    229: raw_ip,
    239: netfilter_log,
    276: cooked2,
}

ETHERTYPES: Mapping[int, Peel] = {
    **dict.fromkeys(range(1536), logical_link),
    IPV4: ipv4,
    0x6558: ethernet_bridged,
    0x8100: vlan,
    0x8847: mpls,
    0x8848: mpls,
    0x8864: pppoe,
    IPV6: ipv6,
    0x880B: ppp,
    0x88A8: vlan,
    0x88BE: erspan,
    0x22EB: erspan,
    0x9100: vlan,
    0x9200: vlan,
}

IP_PROTOCOLS: Mapping[int, Peel] = {4: ip_in_ip, 41: ip_in_ip, 47: gre}

UDP_PORTS: Mapping[int, Peel] = {2152: gtp_user, 3544: teredo, 4789: vxlan, 6081: geneve}
