"""The slow path: peels what rarely stands between a capture's frame and the IP header that counts.

The compiled scanner knows the common link layers. For everything else it hands the frame to :func:`peel`, which
walks from layer to layer until it stands before the innermost IP header. Each layer is one small function in one
of the four tables at the end: to add an encapsulation, write the function and list it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

DEPTH = 16
"""Layers after which peeling stops: tunnels nested deeper are somebody's trap."""

IPV4, IPV6 = 0x0800, 0x86DD

CUT = "headers cut by the snap length"


class Layer(NamedTuple):
    """What stands at an offset of the frame."""

    kind: str
    """``link`` (code: link type), ``ethertype`` (code: Ethernet type); ``carries`` (no IP but what ``note`` names) or
    ``hides`` (nobody can tell what, for the reason in ``note``)."""
    code: int
    at: int
    """Offset in the frame, in bytes."""
    note: str | None = None
    """What was peeled to come here."""
    mac: int = -1
    """Link-layer address of the sender, where the scanner cannot know it."""


SHORT = Layer("short", 0, 0)
"""Instead of the next layer: the header goes on behind the end of the frame."""

Peel = Callable[[bytes, int], Layer | None]
"""From the offset of a layer to the next one, or :data:`SHORT`; ``None``: it is not what its number promised."""


@dataclass(frozen=True, slots=True)
class Peeled:
    """What stands under all layers of a frame."""

    network: int
    """Offset of the innermost IP header, -1: there is none."""
    notes: tuple[str, ...] = ()
    mac: int = -1
    """Link-layer address of the sender, where the scanner cannot know it."""
    carried: str | None = None
    """What the frame carries instead of IP."""
    reason: str | None = None
    """Why nobody can tell what it carries."""


def peel(frame: bytes, linktype: int, wire: int = 0) -> Peeled:
    """Find the innermost IP header of a frame; ``wire`` is its length in bytes, if more than was captured.

    A tunnel without a sound IP header in it is no tunnel, but what its bearer carries; unless the capture cut the
    frame there, for then nobody can tell.
    """
    layer: Layer | None = Layer("link", linktype, 0)
    end = max(wire, len(frame))
    bearer: Peeled | None = None
    notes: list[str] = []
    mac = -1
    for _ in range(DEPTH):
        assert layer is not None
        if layer.kind == "ethertype" and layer.code in (IPV4, IPV6):
            size = header_size(frame, layer)
            whole = size > 0 and layer.at + size <= len(frame)
            if not whole and bearer:
                return Peeled(-1, reason=CUT) if size and len(frame) < end else bearer
            bearer = Peeled(layer.at, tuple(notes), mac)
            if not whole:
                return bearer  # the scanner says what is wrong with it
            end = min(end, layer.at + length(frame, layer, end))
            frame = frame[:end]
        layer = step(frame, layer)
        if layer is SHORT and (len(frame) < end or not bearer):
            return Peeled(-1, reason=CUT)
        if layer is None or layer is SHORT or (bearer and layer.kind in ("carries", "hides")):
            return bearer or Peeled(-1, reason="contradictory headers")
        if layer.kind == "carries":
            return Peeled(-1, carried=layer.note)
        if layer.kind == "hides":
            return Peeled(-1, reason=layer.note)
        if layer.note:
            notes.append(layer.note)
        mac = max(mac, layer.mac)
    return Peeled(-1, reason="too many nested layers")


def step(frame: bytes, layer: Layer) -> Layer | None:
    """The layer behind one."""
    if layer.kind == "link":
        function = LINKS.get(layer.code)
        if function is None:
            name = LINKTYPES.get(layer.code)
            number = f"{layer.code} ({name})" if name else f"{layer.code}"
            return Layer("hides", 0, layer.at, f"link type {number} is not supported")
    else:
        function = ETHERTYPES.get(layer.code)
        if function is None:
            return Layer("carries", 0, layer.at, ethertype_name(layer.code))
    return function(frame, layer.at)


def header_size(frame: bytes, layer: Layer) -> int:
    """Bytes of the IP header that begins there, as far as the frame tells; 0: none of the announced version does."""
    if layer.at >= len(frame):
        return 20 if layer.code == IPV4 else 40
    version, words = frame[layer.at] >> 4, frame[layer.at] & 15
    if layer.code == IPV6:
        return 40 if version == 6 else 0
    if version != 4 or words < 5 or 0 < u16(frame, layer.at + 2) < words * 4 <= len(frame) - layer.at:
        return 0
    return words * 4


def length(frame: bytes, layer: Layer, end: int) -> int:
    """Bytes of an IP packet as its header declares them, or up to the end (offloaded packets, jumbograms)."""
    declared = u16(frame, layer.at + 2) if layer.code == IPV4 else u16(frame, layer.at + 4)
    return declared + (40 if layer.code == IPV6 else 0) if declared else end - layer.at


def u16(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")


def by_version(frame: bytes, at: int, note: str | None = None) -> Layer | None:
    """Bare IP of either version, told by its first four bits."""
    if at >= len(frame):
        return SHORT
    code = {4: IPV4, 6: IPV6}.get(frame[at] >> 4)
    return Layer("ethertype", code, at, note) if code else None


# -- links ------------------------------------------------------------------------------------------------------


def ethernet(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.3: a type, or a length and 802.2 behind it."""
    if at + 14 > len(frame):
        return SHORT
    return Layer("ethertype", u16(frame, at + 12), at + 14)


def ppp(frame: bytes, at: int) -> Layer | None:
    """RFC 1661, RFC 1662: address and control may be left out, and the protocol's first byte if it is zero."""
    if frame[at : at + 1] == b"\xff":
        if frame[at + 1 : at + 2] not in (b"\x03", b""):
            return None
        at += 2
    if at >= len(frame):
        return SHORT
    number, at = (frame[at], at + 1) if frame[at] & 1 else (u16(frame, at), at + 2)
    if at > len(frame):
        return SHORT
    if number in PPP_ETHERTYPES:
        return Layer("ethertype", PPP_ETHERTYPES[number], at, "ppp")
    if number in PPP_HIDING:
        return Layer("hides", 0, at, f"PPP {PPP_HIDING[number]}")
    return Layer("carries", 0, at, PPP_NAMES.get(number, f"PPP protocol 0x{number:04x}"))


PPP_ETHERTYPES: Mapping[int, int] = {0x21: IPV4, 0x57: IPV6, 0x281: 0x8847, 0x283: 0x8848}
PPP_HIDING: Mapping[int, str] = {
    0x2D: "with compressed TCP headers",
    0x2F: "with compressed TCP headers",
    0x3D: "multilink fragment",
    0x53: "encrypted",
    0xFB: "compressed",
    0xFD: "compressed",
}
PPP_NAMES: Mapping[int, str] = {
    0xC021: "PPP LCP",
    0xC023: "PPP PAP",
    0xC025: "PPP LQR",
    0xC223: "PPP CHAP",
    0xC227: "PPP EAP",
    0x8021: "PPP IPCP",
    0x8057: "PPP IPV6CP",
    0x80FD: "PPP CCP",
}


def ppp_serial(frame: bytes, at: int) -> Layer | None:
    """LINKTYPE_PPP_HDLC: PPP, or Cisco's HDLC, told by the address byte (RFC 1547 section 4.3.1)."""
    return (cisco_hdlc if frame[at : at + 1] in (b"\x0f", b"\x8f") else ppp)(frame, at)


def cisco_hdlc(frame: bytes, at: int) -> Layer | None:
    """Cisco HDLC: address, control, Ethernet type."""
    return Layer("ethertype", u16(frame, at + 2), at + 4, "hdlc") if at + 4 <= len(frame) else SHORT


def cooked(frame: bytes, at: int) -> Layer | None:
    """Linux cooked capture, LINKTYPE_LINUX_SLL."""
    if at + 16 > len(frame):
        return SHORT
    return of_device(u16(frame, at + 2), u16(frame, at + 14), at + 16)


def cooked2(frame: bytes, at: int) -> Layer | None:
    """Linux cooked capture, LINKTYPE_LINUX_SLL2."""
    if at + 20 > len(frame):
        return SHORT
    return of_device(u16(frame, at + 8), u16(frame, at), at + 20)


def of_device(hardware: int, protocol: int, at: int) -> Layer:
    """What a Linux device of a type (ARPHRD_*) delivered: the protocol is an Ethernet type with a few exceptions."""
    if hardware in DEVICE_LINKS:
        return Layer("link", DEVICE_LINKS[hardware], at)
    if hardware in DEVICE_NAMES:
        return Layer("carries", 0, at, DEVICE_NAMES[hardware])
    if protocol >= 1536 or protocol == LLC:
        return Layer("ethertype", protocol, at)
    return Layer("carries", 0, at, LINUX_PROTOCOLS.get(protocol, f"Linux protocol {protocol}"))


DEVICE_LINKS: Mapping[int, int] = {801: 105, 802: 119, 803: 127}
DEVICE_NAMES: Mapping[int, str] = {770: "frame relay", 824: "netlink"}
LLC = 4
"""Linux's number for IEEE 802.2, and any that is a length and no Ethernet type does."""
LINUX_PROTOCOLS: Mapping[int, str] = {1: "Novell IPX", 12: "CAN", 13: "CAN"}


def raw_ip(frame: bytes, at: int) -> Layer | None:
    return by_version(frame, at)


def loopback(frame: bytes, at: int) -> Layer | None:
    """BSD loopback: four bytes of address family, in the byte order of who captured."""
    if at + 4 > len(frame):
        return SHORT
    family = min(int.from_bytes(frame[at : at + 4], "big"), int.from_bytes(frame[at : at + 4], "little"))
    code = IPV4 if family == 2 else IPV6 if family in (10, 24, 28, 30) else None
    return Layer("ethertype", code, at + 4) if code else Layer("carries", 0, at, f"address family {family}")


def netfilter_log(frame: bytes, at: int) -> Layer | None:
    """LINKTYPE_NFLOG: family, version, resource, then attributes of which number 9 is the packet.

    Their lengths and numbers are in the byte order of who captured; numbers are small, and that tells which.
    """
    at += 4
    order: Literal["big", "little"] = (
        "big" if frame[at + 3 : at + 4] > b"\0" and frame[at + 2] & 0x7F == 0 else "little"
    )
    while at + 4 <= len(frame):
        size = int.from_bytes(frame[at : at + 2], order)
        if int.from_bytes(frame[at + 2 : at + 4], order) & 0x7FFF == 9:
            return by_version(frame, at + 4, "nflog")
        if size < 4:
            return None
        at += (size + 3) & ~3
    return SHORT


def radiotap(frame: bytes, at: int) -> Layer | None:
    """LINKTYPE_IEEE802_11_RADIOTAP: little-endian version, length, presence words, then the fields that they announce.

    Of these the flags matter: whether the header is padded, and whether the frame arrived damaged.
    """
    if at + 8 > len(frame):
        return SHORT
    size = int.from_bytes(frame[at + 2 : at + 4], "little")
    if frame[at] or size < 8:
        return None
    if at + size > len(frame):
        return SHORT
    present, fields = frame[at + 4], 8
    while frame[at + fields - 1] & 0x80 and fields + 4 <= size:
        fields += 4
    if present & 1:
        fields = (fields + 7 & ~7) + 8  # the time, aligned to its size
    flags = frame[at + fields] if present & 2 and fields < size else 0
    if flags & 0x40:
        return Layer("hides", 0, at, "damaged wireless LAN frame")
    return wireless_frame(frame, at + size, padded=bool(flags & 0x20))


def wireless(frame: bytes, at: int) -> Layer | None:
    return wireless_frame(frame, at)


def wireless_frame(frame: bytes, at: int, padded: bool = False) -> Layer | None:
    """IEEE 802.11: data frames carry 802.2. ``padded``: so that the payload begins at a multiple of four bytes."""
    if at + 2 > len(frame):
        return SHORT
    kind, subtype, flags = frame[at] >> 2 & 3, frame[at] >> 4, frame[at + 1]
    if frame[at] & 3:
        return None
    if kind != 2 or subtype & 4:
        return Layer("carries", 0, at, "wireless LAN " + ("management", "control", "null data", "extension")[kind])
    if flags & 0x40:
        return Layer("hides", 0, at, "encrypted wireless LAN frame")
    size = 24 + (6 if flags & 3 == 3 else 0)
    quality = at + size
    if subtype & 8:
        size += 2 + (4 if flags & 0x80 else 0)
    if padded:
        size = size + 3 & ~3
    if at + size > len(frame):
        return SHORT
    if flags & 4 or frame[at + 22] & 15:
        return Layer("hides", 0, at, "fragment of a wireless LAN frame")
    if subtype & 8 and frame[quality] & 0x80:
        return Layer("hides", 0, at, "aggregate of wireless LAN frames")
    sender = at + (10, 10, 16, 24)[flags & 3]
    return Layer("ethertype", LLC, at + size, None, int.from_bytes(frame[sender : sender + 6], "big"))


# -- Ethernet types ---------------------------------------------------------------------------------------------


def vlan(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.1Q tags, of which the outermost is noted."""
    note = f"vlan {u16(frame, at) & 0xFFF}"
    code = 0x8100
    while code in VLANS:
        if at + 4 > len(frame):
            return SHORT
        code, at = u16(frame, at + 2), at + 4
    return Layer("ethertype", code, at, note)


def mpls(frame: bytes, at: int) -> Layer | None:
    """RFC 3032 label stack; below it IP, or a pseudowire's Ethernet with or without control word (RFC 4448)."""
    for _ in range(DEPTH):
        if at + 4 > len(frame):
            return SHORT
        bottom = frame[at + 2] & 1
        note = f"mpls {u16(frame, at) << 4 | frame[at + 2] >> 4}"
        at += 4
        if bottom:
            below = by_version(frame, at, note)
            if below:
                return below
            if frame[at] >> 4 == 1:
                return Layer("carries", 0, at, "MPLS associated channel")  # RFC 5586
            return Layer("link", 1, at + (4 if frame[at] >> 4 == 0 else 0), note)
    return None


def pppoe(frame: bytes, at: int) -> Layer | None:
    """RFC 2516 session stage: version, code, session, length, then PPP."""
    return Layer("link", 9, at + 6, f"pppoe {u16(frame, at + 2)}") if at + 6 <= len(frame) else SHORT


def logical_link(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.2: SNAP of organisation 0 carries an Ethernet type (RFC 1042), everything else no IP."""
    if at + 3 > len(frame):
        return SHORT
    if frame[at : at + 3] != b"\xaa\xaa\x03":
        return Layer("carries", 0, at, "IEEE 802.2")
    if at + 8 > len(frame):
        return SHORT
    code = u16(frame, at + 6)
    if frame[at + 3 : at + 6] != bytes(3) or code < 1536:
        return Layer("carries", 0, at, "IEEE 802.2 SNAP")
    return Layer("ethertype", code, at + 8, "snap")


def macsec(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.1AE."""
    return Layer("hides", 0, at, "MACsec frame")


def erspan(frame: bytes, at: int) -> Layer | None:
    """ERSPAN types II (8 bytes of header) and III (12 bytes, 8 more with the O flag; Ethernet or bare IP)."""
    if at + 8 > len(frame):
        return SHORT
    version = frame[at] >> 4
    if version == 1:
        return Layer("link", 1, at + 8, "erspan")
    if version != 2:
        return None
    if at + 12 > len(frame):
        return SHORT
    kind, behind = frame[at + 10] >> 2 & 31, at + 12 + (8 if frame[at + 11] & 1 else 0)
    return by_version(frame, behind, "erspan") if kind == 2 else Layer("link", 1, behind, "erspan")


def ipv4(frame: bytes, at: int) -> Layer | None:
    """RFC 791: on to what a tunnel carries; a fragment is not peeled further."""
    if u16(frame, at + 6) & 0x3FFF:
        return None
    return transport(frame, frame[at + 9], at + (frame[at] & 15) * 4)


def ipv6(frame: bytes, at: int) -> Layer | None:
    """RFC 8200: through the extension headers, on to what a tunnel carries; a fragment is not peeled further."""
    following, at = frame[at + 6], at + 40
    for _ in range(DEPTH):
        if following not in EXTENSIONS:
            return transport(frame, following, at)
        if at + 8 > len(frame):
            return SHORT
        if following == 44 and u16(frame, at + 2) & 0xFFF9:
            return None
        following, at = frame[at], at + (8 if following == 44 else (frame[at + 1] + 1) * 8)
    return None


EXTENSIONS = (0, 43, 44, 60)
"""IPv6 extension headers that the scanner walks over, too: hop-by-hop, routing, fragment, destination."""


def transport(frame: bytes, protocol: int, at: int) -> Layer | None:
    """The tunnel above an IP header, if it is one."""
    if protocol == 17:
        if at + 8 > len(frame):
            return SHORT
        function = UDP_PORTS.get(u16(frame, at + 2)) or UDP_PORTS.get(u16(frame, at))
        return function(frame, at + 8) if function else None
    function = IP_PROTOCOLS.get(protocol)
    return function(frame, at) if function else None


# -- IP protocols and UDP ports ---------------------------------------------------------------------------------


def ip_in_ip(frame: bytes, at: int) -> Layer | None:
    """RFC 2003, RFC 2473, RFC 4213."""
    return by_version(frame, at, "ip-in-ip")


def gre(frame: bytes, at: int) -> Layer | None:
    """RFC 2784, RFC 2890, without RFC 1701's routing; version 1 is PPTP's (RFC 2637)."""
    if at + 4 > len(frame):
        return SHORT
    flags, code = u16(frame, at), u16(frame, at + 2)
    size = 4 + 4 * bool(flags & 0x8000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
    if flags & 7 == 1:
        if code != 0x880B or not flags & 0x1000:
            return None  # without a sequence number it only acknowledges
        return Layer("link", 9, at + size + 4 * bool(flags & 0x0080), "gre")
    if flags & 0x4007 or code < 1536 or code not in ETHERTYPES:
        return None
    if code == 0x88BE and not flags & 0x1000:
        return Layer("link", 1, at + size, "erspan")  # type I: no header of its own
    return Layer("ethertype", code, at + size, "gre")


def vxlan(frame: bytes, at: int) -> Layer | None:
    """RFC 7348: flag I, network identifier, Ethernet."""
    if frame[at : at + 1] and not frame[at] & 8:
        return None
    if at + 8 > len(frame):
        return SHORT
    return Layer("link", 1, at + 8, f"vxlan {int.from_bytes(frame[at + 4 : at + 7], 'big')}")


def vxlan_generic(frame: bytes, at: int) -> Layer | None:
    """draft-ietf-nvo3-vxlan-gpe: as VXLAN, with the number of what it carries."""
    outer = vxlan(frame, at)
    if outer is None or outer is SHORT:
        return outer
    if not frame[at] & 4 or frame[at + 3] == 3:
        return outer
    code = {1: IPV4, 2: IPV6}.get(frame[at + 3])
    return Layer("ethertype", code, at + 8, outer.note) if code else None


def geneve(frame: bytes, at: int) -> Layer | None:
    """RFC 8926."""
    if at + 4 > len(frame):
        return SHORT
    code = u16(frame, at + 2)
    if frame[at] >> 6 or code < 1536 or code not in ETHERTYPES:
        return None
    return Layer("ethertype", code, at + 8 + (frame[at] & 0x3F) * 4, "geneve")


def teredo(frame: bytes, at: int) -> Layer | None:
    """RFC 4380: IPv6, after authentication and origin indications."""
    if frame[at : at + 2] == b"\0\x01":
        if at + 4 > len(frame):
            return SHORT
        at += 13 + frame[at + 2] + frame[at + 3]
    if frame[at : at + 2] == b"\0\0":
        at += 8
    if at >= len(frame) or frame[at:] == b"\0":
        return SHORT
    return Layer("ethertype", IPV6, at, "teredo") if frame[at] >> 4 == 6 else None


def gtp_user(frame: bytes, at: int) -> Layer | None:
    """3GPP TS 29.281: G-PDUs (message type 255) of GTP version 1, behind their extension headers."""
    if (frame[at : at + 1] and frame[at] >> 4 != 3) or frame[at + 1 : at + 2] not in (b"", b"\xff"):
        return None
    if at + 8 > len(frame):
        return SHORT
    if not frame[at] & 7:
        return by_version(frame, at + 8, "gtp")
    if at + 12 > len(frame):
        return SHORT
    following, at = frame[at + 11] if frame[at] & 4 else 0, at + 12
    for _ in range(DEPTH):
        if not following:
            return by_version(frame, at, "gtp")
        if at >= len(frame) or at + 4 * frame[at] > len(frame):
            return SHORT
        if not frame[at]:
            return None
        at += 4 * frame[at]
        following = frame[at - 1]
    return None


LINKS: Mapping[int, Peel] = {
    0: loopback,
    1: ethernet,
    9: ppp,
    12: raw_ip,
    14: raw_ip,
    50: ppp_serial,
    51: pppoe,
    101: raw_ip,
    104: cisco_hdlc,
    105: wireless,
    108: loopback,
    113: cooked,
    127: radiotap,
    228: raw_ip,
    229: raw_ip,
    239: netfilter_log,
    276: cooked2,
}

VLANS = (0x8100, 0x88A8, 0x9100, 0x9200)

ETHERTYPES: Mapping[int, Peel] = {
    **dict.fromkeys(range(1536), logical_link),
    IPV4: ipv4,
    0x6558: ethernet,  # transparent Ethernet bridging
    0x8847: mpls,
    0x8848: mpls,
    0x8864: pppoe,
    IPV6: ipv6,
    0x880B: ppp,
    0x88BE: erspan,
    0x88E5: macsec,
    0x22EB: erspan,
    **dict.fromkeys(VLANS, vlan),
}

IP_PROTOCOLS: Mapping[int, Peel] = {4: ip_in_ip, 41: ip_in_ip, 47: gre}

UDP_PORTS: Mapping[int, Peel] = {
    2152: gtp_user,
    3544: teredo,
    4789: vxlan,
    4790: vxlan_generic,
    6081: geneve,
    8472: vxlan,  # the port of Linux before RFC 7348
}


# -- names ------------------------------------------------------------------------------------------------------


def ethertype_name(number: int) -> str:
    """What an Ethernet type that carries no IP stands for."""
    return ETHERTYPE_NAMES.get(number, f"Ethernet type 0x{number:04x}")


ETHERTYPE_NAMES: Mapping[int, str] = {
    0x0806: "ARP",
    0x8035: "RARP",
    0x8863: "PPPoE discovery",
    0x888E: "802.1X",
    0x88CC: "LLDP",
}
"""Those that a base station's network carries beside IP."""

LINKTYPES: Mapping[int, str] = {
    0: "NULL",
    1: "ETHERNET",
    2: "EXP_ETHERNET",
    3: "AX25",
    6: "IEEE802_5",
    7: "ARCNET_BSD",
    8: "SLIP",
    9: "PPP",
    10: "FDDI",
    50: "PPP_HDLC",
    51: "PPP_ETHER",
    99: "SYMANTEC_FIREWALL",
    100: "ATM_RFC1483",
    101: "RAW",
    104: "C_HDLC",
    105: "IEEE802_11",
    107: "FRELAY",
    108: "LOOP",
    109: "ENC",
    113: "LINUX_SLL",
    114: "LTALK",
    117: "PFLOG",
    119: "IEEE802_11_PRISM",
    122: "IP_OVER_FC",
    123: "SUNATM",
    127: "IEEE802_11_RADIOTAP",
    129: "ARCNET_LINUX",
    138: "APPLE_IP_OVER_IEEE1394",
    139: "MTP2_WITH_PHDR",
    140: "MTP2",
    141: "MTP3",
    142: "SCCP",
    143: "DOCSIS",
    144: "LINUX_IRDA",
    163: "IEEE802_11_AVS",
    165: "BACNET_MS_TP",
    166: "PPP_PPPD",
    169: "GPRS_LLC",
    177: "LINUX_LAPD",
    182: "MFR",
    187: "BLUETOOTH_HCI_H4",
    189: "USB_LINUX",
    192: "PPI",
    195: "IEEE802_15_4_WITHFCS",
    196: "SITA",
    197: "ERF",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    202: "AX25_KISS",
    203: "LAPD",
    204: "PPP_WITH_DIR",
    205: "C_HDLC_WITH_DIR",
    206: "FRELAY_WITH_DIR",
    209: "IPMB_LINUX",
    215: "IEEE802_15_4_NONASK_PHY",
    220: "USB_LINUX_MMAPPED",
    224: "FC_2",
    225: "FC_2_WITH_FRAME_DELIMS",
    226: "IPNET",
    227: "CAN_SOCKETCAN",
    228: "IPV4",
    229: "IPV6",
    230: "IEEE802_15_4_NOFCS",
    231: "DBUS",
    235: "DVB_CI",
    236: "MUX27010",
    237: "STANAG_5066_D_PDU",
    239: "NFLOG",
    240: "NETANALYZER",
    241: "NETANALYZER_TRANSPARENT",
    242: "IPOIB",
    243: "MPEG_2_TS",
    244: "NG40",
    245: "NFC_LLCP",
    247: "INFINIBAND",
    248: "SCTP",
    249: "USBPCAP",
    250: "RTAC_SERIAL",
    251: "BLUETOOTH_LE_LL",
    253: "NETLINK",
    254: "BLUETOOTH_LINUX_MONITOR",
    255: "BLUETOOTH_BREDR_BB",
    256: "BLUETOOTH_LE_LL_WITH_PHDR",
    257: "PROFIBUS_DL",
    258: "PKTAP",
    259: "EPON",
    260: "IPMI_HPM_2",
    261: "ZWAVE_R1_R2",
    262: "ZWAVE_R3",
    263: "WATTSTOPPER_DLM",
    264: "ISO_14443",
    265: "RDS",
    266: "USB_DARWIN",
    268: "SDLC",
    270: "LORATAP",
    271: "VSOCK",
    272: "NORDIC_BLE",
    273: "DOCSIS31_XRA31",
    274: "ETHERNET_MPACKET",
    275: "DISPLAYPORT_AUX",
    276: "LINUX_SLL2",
    278: "OPENVIZSLA",
    279: "EBHSCR",
    280: "VPP_DISPATCH",
    281: "DSA_TAG_BRCM",
    282: "DSA_TAG_BRCM_PREPEND",
    283: "IEEE802_15_4_TAP",
    284: "DSA_TAG_DSA",
    285: "DSA_TAG_EDSA",
    286: "ELEE",
    287: "Z_WAVE_SERIAL",
    288: "USB_2_0",
    289: "ATSC_ALP",
    290: "ETW",
    292: "ZBOSS_NCP",
    293: "USB_2_0_LOW_SPEED",
    294: "USB_2_0_FULL_SPEED",
    295: "USB_2_0_HIGH_SPEED",
}
"""Link types by number, without LINKTYPE_ (https://www.tcpdump.org/linktypes.html)."""
