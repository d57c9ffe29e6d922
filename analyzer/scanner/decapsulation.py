"""Decapsulation, the first half of the slow path: the innermost IP header inside rare link types and tunnels.

The compiled scanner reads the common link layers. It hands every other frame to :func:`decapsulate`, which walks from
layer to layer. Each layer is one function in one of the four tables :data:`LINKS`, :data:`ETHERTYPES`,
:data:`IP_PROTOCOLS` and :data:`UDP_PORTS`: to add an encapsulation, write the function and list it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from analyzer.dataclass import dataclass
from analyzer.scanner.layer_names import LINKTYPES, ethertype_name

MAX_LAYERS = 16
MAX_EXTENSIONS = 16
"""Extension headers of an IPv6 packet above which a note says that they are many; they are lawful."""
"""Maximum nested layers. VXLAN in GRE in IP takes seven; deeper nesting is only made to exhaust a reader."""

IPV4, IPV6 = 0x0800, 0x86DD
FIRST_ETHERTYPE = 1536
"""Below it, the field is the length of a frame with an 802.2 header."""

HEADERS_TRUNCATED = "headers cut by the snap length"


class Layer(NamedTuple):
    """A protocol layer at an offset of the frame."""

    kind: Literal["link", "ethertype", "non_ip", "opaque", "truncated"]
    """``link``: ``code`` is a link type. ``ethertype``: ``code`` is an Ethernet type. ``non_ip``: the frame carries no
    IP, but what ``note`` names. ``opaque``: ``note`` says why the content cannot be known."""
    code: int
    at: int
    """Offset in the frame, in bytes."""
    note: str | None = None
    """Note about the encapsulation that ends here, such as ``vlan 7``."""
    mac: int = -1
    """Link-layer address of the sender; -1: none."""


TRUNCATED = Layer("truncated", 0, 0)
"""Returned for the next layer when a header reaches past the end of the frame."""

LayerFunction = Callable[[bytes, int], Layer | None]
"""From frame and offset of a layer to the layer that it carries; ``None`` if the bytes are not that layer."""


@dataclass(frozen=True, slots=True)
class Decapsulated:
    """The innermost layer of a frame: an IP header, or the reason why there is none."""

    network: int
    """Offset of the innermost IP header; -1 if there is none."""
    outer: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Offset and notes of each IP header above it, the outermost first: the packets of tunnels."""
    notes: tuple[str, ...] = ()
    mac: int = -1
    """See :attr:`Layer.mac`."""
    non_ip: str | None = None
    """Name of what the frame carries instead of IP."""
    unreadable: str | None = None
    """Why the content cannot be known."""
    neighbourly: bool = False
    """What the frame carries instead of IP is housekeeping of the link."""


def decapsulate(frame: bytes, linktype: int, wire: int = 0) -> Decapsulated:
    """Find the innermost IP header of a frame. ``wire``: its length in bytes, if it was captured truncated.

    A tunnel counts only with a complete IP header inside. Without one, the tunnel's own packet is the innermost; if
    the capture truncated the frame there, the result is unreadable.
    """
    layer = Layer("link", linktype, 0)
    end = max(wire, len(frame))
    outer: Decapsulated | None = None
    """The innermost complete IP header so far."""
    tunnels: list[tuple[int, tuple[str, ...]]] = []
    """Offsets and notes of the IP headers so far."""
    notes: list[str] = []
    mac = -1
    for _ in range(MAX_LAYERS):
        if layer.kind == "ethertype" and layer.code in (IPV4, IPV6):
            size = ip_header_size(frame, layer)
            complete = size > 0 and layer.at + size <= len(frame)
            if not complete and outer:
                return Decapsulated(-1, unreadable=HEADERS_TRUNCATED) if size and len(frame) < end else outer
            if layer.code == IPV6 and complete and count_extensions(frame, layer.at) > MAX_EXTENSIONS:
                notes.append(f"more than {MAX_EXTENSIONS} extension headers")
            outer = Decapsulated(layer.at, tuple(tunnels), tuple(notes), mac)
            tunnels.append((layer.at, tuple(notes)))
            mac = -1  # what the tunnel carries has another sender
            if not complete:
                return outer  # the scanner reports what is wrong with the header
            end = min(end, layer.at + ip_packet_length(frame, layer, end))
            frame = frame[:end]
        inner = next_layer(frame, layer)
        if inner is TRUNCATED and (len(frame) < end or not outer):
            return Decapsulated(-1, unreadable=HEADERS_TRUNCATED)
        if inner is None or inner is TRUNCATED or (outer and inner.kind in ("non_ip", "opaque")):
            return outer or Decapsulated(-1, unreadable="contradictory headers")
        if inner.kind == "non_ip":
            return Decapsulated(-1, non_ip=inner.note, neighbourly=is_bridge_frame(frame, layer))
        if inner.kind == "opaque":
            return Decapsulated(-1, unreadable=inner.note)
        if inner.note:
            notes.append(inner.note)
        mac = inner.mac if inner.mac >= 0 else mac
        layer = inner
    return Decapsulated(-1, unreadable="too many nested layers")


def next_layer(frame: bytes, layer: Layer) -> Layer | None:
    """The layer that a layer carries."""
    if layer.kind == "link":
        function = LINKS.get(layer.code)
        if function is None:
            name = LINKTYPES.get(layer.code)
            number = f"{layer.code} ({name})" if name else f"{layer.code}"
            return Layer("opaque", 0, layer.at, f"link type {number} is not supported")
    else:
        function = ETHERTYPES.get(layer.code)
        if function is None:
            return Layer("non_ip", 0, layer.at, ethertype_name(layer.code))
    return function(frame, layer.at)


def is_bridge_frame(frame: bytes, layer: Layer) -> bool:
    """Whether an Ethernet frame with an 802.2 header is housekeeping of bridges: a spanning tree's, or CDP, VTP and the
    like, to their groups and no longer than the frame says."""
    if layer.kind != "ethertype" or layer.code >= FIRST_ETHERTYPE or layer.at < 14:
        return False
    group, content = frame[layer.at - 14 : layer.at - 8], frame[layer.at :]
    if len(content) > max(layer.code, SHORT_PAYLOAD) + 4:
        return False
    if group in (BRIDGES, PROVIDER_BRIDGES):
        return content[:3] == b"\x42\x42\x03"
    return group in CISCO_GROUPS and content[:6] == b"\xaa\xaa\x03\0\0\x0c"


SHORT_PAYLOAD = 46
"""Bytes to which a short Ethernet payload is padded."""
BRIDGES, PROVIDER_BRIDGES = b"\x01\x80\xc2\0\0\0", b"\x01\x80\xc2\0\0\x08"
CISCO_GROUPS = (b"\x01\0\x0c\xcc\xcc\xcc", b"\x01\0\x0c\xcc\xcc\xcd")


def ip_header_size(frame: bytes, layer: Layer) -> int:
    """Bytes of the IP header, as far as the frame shows it; 0 if it is no header of the announced version."""
    if layer.at >= len(frame):
        return 20 if layer.code == IPV4 else 40
    version, words = frame[layer.at] >> 4, frame[layer.at] & 15
    if layer.code == IPV6:
        return 40 if version == 6 else 0
    if version != 4 or words < 5 or 0 < u16(frame, layer.at + 2) < words * 4 <= len(frame) - layer.at:
        return 0
    return words * 4


def ip_packet_length(frame: bytes, layer: Layer, end: int) -> int:
    """Bytes of an IP packet as declared; up to ``end`` where that is 0 (segmentation offload, jumbograms)."""
    declared = u16(frame, layer.at + 2) if layer.code == IPV4 else u16(frame, layer.at + 4)
    return declared + (40 if layer.code == IPV6 else 0) if declared else end - layer.at


def ip_addresses(frame: bytes, at: int) -> tuple[bytes, bytes]:
    """Source and destination of the IP header at an offset."""
    begin, size = (at + 12, 4) if frame[at] >> 4 == 4 else (at + 8, 16)
    return frame[begin : begin + size], frame[begin + size : begin + 2 * size]


def with_tunnel_port(frame: bytes, at: int) -> bytes:
    """The frame, with the port of the tunnel as both ports of the UDP datagram in the IP packet at an offset.

    The other port varies with what the tunnel carries (RFC 7348, section 5). Without UDP, the frame as it is.
    """
    if frame[at] >> 4 == 4:
        protocol, header = frame[at + 9], at + (frame[at] & 15) * 4
    else:
        protocol, header = skip_extensions(frame, at)
    if protocol != UDP or header + 4 > len(frame):
        return frame
    source, destination = frame[header : header + 2], frame[header + 2 : header + 4]
    port = destination if u16(destination, 0) in UDP_PORTS else source
    return frame[:header] + port + port + frame[header + 4 :]


UDP = 17


def u16(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")


def by_version(frame: bytes, at: int, note: str | None = None) -> Layer | None:
    """IP without a header that names its version: the first four bits do."""
    if at >= len(frame):
        return TRUNCATED
    code = {4: IPV4, 6: IPV6}.get(frame[at] >> 4)
    return Layer("ethertype", code, at, note) if code else None


# -- links ------------------------------------------------------------------------------------------------------


def ethernet(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.3: an Ethernet type, or a length and an 802.2 header."""
    if at + 14 > len(frame):
        return TRUNCATED
    return Layer("ethertype", u16(frame, at + 12), at + 14, None, int.from_bytes(frame[at + 6 : at + 12], "big"))


def ppp(frame: bytes, at: int) -> Layer | None:
    """RFC 1661, RFC 1662: address and control may be omitted, as may the first byte of the protocol if it is 0."""
    if frame[at : at + 1] == b"\xff":
        if frame[at + 1 : at + 2] not in (b"\x03", b""):
            return None
        at += 2
    if at >= len(frame):
        return TRUNCATED
    number, at = (frame[at], at + 1) if frame[at] & 1 else (u16(frame, at), at + 2)
    if at > len(frame):
        return TRUNCATED
    if number in PPP_ETHERTYPES:
        return Layer("ethertype", PPP_ETHERTYPES[number], at, "ppp")
    if number in PPP_OPAQUE:
        return Layer("opaque", 0, at, f"PPP {PPP_OPAQUE[number]}")
    return Layer("non_ip", 0, at, PPP_NAMES.get(number, f"PPP protocol 0x{number:04x}"))


PPP_ETHERTYPES: Mapping[int, int] = {0x21: IPV4, 0x57: IPV6, 0x281: 0x8847, 0x283: 0x8848}
PPP_OPAQUE: Mapping[int, str] = {
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
    """LINKTYPE_PPP_HDLC: PPP or Cisco HDLC; the address byte shows which (RFC 1547, section 4.3.1)."""
    return (cisco_hdlc if frame[at : at + 1] in (b"\x0f", b"\x8f") else ppp)(frame, at)


def cisco_hdlc(frame: bytes, at: int) -> Layer | None:
    """Cisco HDLC: address, control, Ethernet type."""
    return Layer("ethertype", u16(frame, at + 2), at + 4, "hdlc") if at + 4 <= len(frame) else TRUNCATED


def cooked(frame: bytes, at: int) -> Layer | None:
    """Linux cooked capture, LINKTYPE_LINUX_SLL."""
    if at + 16 > len(frame):
        return TRUNCATED
    return device_layer(u16(frame, at + 2), u16(frame, at + 14), at + 16)


def cooked2(frame: bytes, at: int) -> Layer | None:
    """Linux cooked capture, LINKTYPE_LINUX_SLL2."""
    if at + 20 > len(frame):
        return TRUNCATED
    return device_layer(u16(frame, at + 8), u16(frame, at), at + 20)


def device_layer(hardware: int, protocol: int, at: int) -> Layer:
    """The payload of a cooked capture, by the type of the Linux device (ARPHRD_*).

    The protocol is an Ethernet type but for a few devices and numbers.
    """
    if hardware in DEVICE_LINKS:
        return Layer("link", DEVICE_LINKS[hardware], at)
    if hardware in DEVICE_NAMES:
        return Layer("non_ip", 0, at, DEVICE_NAMES[hardware])
    if protocol >= 1536 or protocol == LLC:
        return Layer("ethertype", protocol, at)
    return Layer("non_ip", 0, at, LINUX_PROTOCOLS.get(protocol, f"Linux protocol {protocol}"))


DEVICE_LINKS: Mapping[int, int] = {801: 105, 802: 119, 803: 127}
DEVICE_NAMES: Mapping[int, str] = {770: "frame relay", 824: "netlink"}
LLC = 4
"""Linux's protocol number for IEEE 802.2. :data:`ETHERTYPES` reads all numbers below 1536 so: lengths, no types."""
LINUX_PROTOCOLS: Mapping[int, str] = {1: "Novell IPX", 12: "CAN", 13: "CAN"}


def raw_ip(frame: bytes, at: int) -> Layer | None:
    return by_version(frame, at)


def loopback(frame: bytes, at: int) -> Layer | None:
    """LINKTYPE_NULL, LINKTYPE_LOOP: four bytes of address family, in the byte order of the capturing machine."""
    if at + 4 > len(frame):
        return TRUNCATED
    family = min(int.from_bytes(frame[at : at + 4], "big"), int.from_bytes(frame[at : at + 4], "little"))
    code = IPV4 if family == 2 else IPV6 if family in (10, 24, 28, 30) else None
    return Layer("ethertype", code, at + 4) if code else Layer("non_ip", 0, at, f"address family {family}")


def netfilter_log(frame: bytes, at: int) -> Layer | None:
    """LINKTYPE_NFLOG: family, version, resource, then attributes; attribute 9 is the packet.

    Lengths and numbers of attributes are in the byte order of the capturing machine. The numbers are small, so their
    upper byte shows the order.
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
    return TRUNCATED


def radiotap(frame: bytes, at: int) -> Layer | None:
    """LINKTYPE_IEEE802_11_RADIOTAP: little-endian version, length, presence words, then the fields that are present.

    Only the flags are read: whether the 802.11 header is padded, and whether the frame was received damaged.
    """
    if at + 8 > len(frame):
        return TRUNCATED
    size = int.from_bytes(frame[at + 2 : at + 4], "little")
    if frame[at] or size < 8:
        return None
    if at + size > len(frame):
        return TRUNCATED
    present, fields = frame[at + 4], 8
    while frame[at + fields - 1] & 0x80 and fields + 4 <= size:
        fields += 4
    if present & 1:
        fields = (fields + 7 & ~7) + 8  # the time stamp, aligned to its size
    flags = frame[at + fields] if present & 2 and fields < size else 0
    if flags & 0x40:
        return Layer("opaque", 0, at, "damaged wireless LAN frame")
    return wireless_frame(frame, at + size, padded=bool(flags & 0x20))


def wireless(frame: bytes, at: int) -> Layer | None:
    return wireless_frame(frame, at)


def wireless_frame(frame: bytes, at: int, padded: bool = False) -> Layer | None:
    """IEEE 802.11: data frames carry 802.2. ``padded``: the header fills a multiple of four bytes."""
    if at + 2 > len(frame):
        return TRUNCATED
    kind, subtype, flags = frame[at] >> 2 & 3, frame[at] >> 4, frame[at + 1]
    if frame[at] & 3:
        return None
    if kind != 2 or subtype & 4:
        return Layer("non_ip", 0, at, "wireless LAN " + ("management", "control", "null data", "extension")[kind])
    if flags & 0x40:
        return Layer("opaque", 0, at, "encrypted wireless LAN frame")
    size = 24 + (6 if flags & 3 == 3 else 0)
    quality = at + size
    if subtype & 8:
        size += 2 + (4 if flags & 0x80 else 0)
    if padded:
        size = size + 3 & ~3
    if at + size > len(frame):
        return TRUNCATED
    if flags & 4 or frame[at + 22] & 15:
        return Layer("opaque", 0, at, "fragment of a wireless LAN frame")
    if subtype & 8 and frame[quality] & 0x80:
        return Layer("opaque", 0, at, "aggregate of wireless LAN frames")
    sender = at + (10, 10, 16, 24)[flags & 3]
    return Layer("ethertype", LLC, at + size, None, int.from_bytes(frame[sender : sender + 6], "big"))


# -- Ethernet types ---------------------------------------------------------------------------------------------


def vlan(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.1Q tags. The note names the outermost."""
    note = f"vlan {u16(frame, at) & 0xFFF}"
    code = 0x8100
    while code in VLANS:
        if at + 4 > len(frame):
            return TRUNCATED
        code, at = u16(frame, at + 2), at + 4
    return Layer("ethertype", code, at, note)


def mpls(frame: bytes, at: int) -> Layer | None:
    """RFC 3032 label stack; it carries IP, or the Ethernet of a pseudowire with or without control word (RFC 4448)."""
    for _ in range(MAX_LAYERS):
        if at + 4 > len(frame):
            return TRUNCATED
        bottom = frame[at + 2] & 1
        note = f"mpls {u16(frame, at) << 4 | frame[at + 2] >> 4}"
        at += 4
        if bottom:
            ip = by_version(frame, at, note)
            if ip:
                return ip
            if frame[at] >> 4 == 1:
                return Layer("non_ip", 0, at, "MPLS associated channel")  # RFC 5586
            return Layer("link", 1, at + (4 if frame[at] >> 4 == 0 else 0), note)
    return None


def pppoe(frame: bytes, at: int) -> Layer | None:
    """RFC 2516, session stage: version, code, session, length, then PPP."""
    return Layer("link", 9, at + 6, f"pppoe {u16(frame, at + 2)}") if at + 6 <= len(frame) else TRUNCATED


def logical_link(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.2: SNAP with organisation 0 carries an Ethernet type (RFC 1042); nothing else carries IP."""
    if at + 3 > len(frame):
        return TRUNCATED
    if frame[at : at + 3] != b"\xaa\xaa\x03":
        return Layer("non_ip", 0, at, "IEEE 802.2")
    if at + 8 > len(frame):
        return TRUNCATED
    code = u16(frame, at + 6)
    if frame[at + 3 : at + 6] != bytes(3) or code < 1536:
        return Layer("non_ip", 0, at, "IEEE 802.2 SNAP")
    return Layer("ethertype", code, at + 8, "snap")


def macsec(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.1AE: encrypted or not, the content is not read."""
    return Layer("opaque", 0, at, "MACsec frame")


def erspan(frame: bytes, at: int) -> Layer | None:
    """ERSPAN types II (8 bytes of header) and III (12 bytes, 8 more with the O flag; Ethernet or bare IP)."""
    if at + 8 > len(frame):
        return TRUNCATED
    version = frame[at] >> 4
    if version == 1:
        return Layer("link", 1, at + 8, "erspan")
    if version != 2:
        return None
    if at + 12 > len(frame):
        return TRUNCATED
    kind, payload = frame[at + 10] >> 2 & 31, at + 12 + (8 if frame[at + 11] & 1 else 0)
    return by_version(frame, payload, "erspan") if kind == 2 else Layer("link", 1, payload, "erspan")


def ipv4(frame: bytes, at: int) -> Layer | None:
    """RFC 791: the tunnel above the header. A fragment is left to be reassembled first."""
    if u16(frame, at + 6) & 0x3FFF:
        return None
    return transport(frame, frame[at + 9], at + (frame[at] & 15) * 4)


def ipv6(frame: bytes, at: int) -> Layer | None:
    """RFC 8200: the tunnel above the extension headers. A fragment is left to be reassembled first."""
    following, at = skip_extensions(frame, at)
    if following in EXTENSIONS:
        return TRUNCATED if at + 8 > len(frame) else None
    return transport(frame, following, at)


def skip_extensions(frame: bytes, at: int) -> tuple[int, int]:
    """Type and offset of the first header that is not skipped, behind the IPv6 header at an offset: the upper layer's,
    that of a real fragment, or a truncated one."""
    following, at = frame[at + 6], at + 40
    while following in EXTENSIONS and at + 8 <= len(frame):
        if following == 44 and u16(frame, at + 2) & 0xFFF9:
            break
        following, at = frame[at], at + (8 if following == 44 else (frame[at + 1] + 1) * 8)
    return following, at


def count_extensions(frame: bytes, at: int) -> int:
    """Extension headers of the IPv6 packet at an offset, as far as the frame shows them."""
    following, at, count = frame[at + 6], at + 40, 0
    while following in EXTENSIONS and at + 8 <= len(frame):
        following, at = frame[at], at + (8 if following == 44 else (frame[at + 1] + 1) * 8)
        count += 1
    return count


EXTENSIONS = (0, 43, 44, 60)
"""IPv6 extension headers to skip: hop-by-hop options, routing, (atomic) fragment, destination options."""


def transport(frame: bytes, protocol: int, at: int) -> Layer | None:
    """The payload of the tunnel above an IP header, if the protocol or UDP port is that of one."""
    if protocol == 17:
        if at + 8 > len(frame):
            return TRUNCATED
        function = UDP_PORTS.get(u16(frame, at + 2)) or UDP_PORTS.get(u16(frame, at))
        return function(frame, at + 8) if function else None
    function = IP_PROTOCOLS.get(protocol)
    return function(frame, at) if function else None


# -- IP protocols and UDP ports ---------------------------------------------------------------------------------


def ipv4_in_ip(frame: bytes, at: int) -> Layer | None:
    """RFC 2003, RFC 2473: IPv4 in either version. Another version inside is no tunnel."""
    return Layer("ethertype", IPV4, at, "ip-in-ip")


def ipv6_in_ip(frame: bytes, at: int) -> Layer | None:
    """RFC 2473, RFC 4213: IPv6 in either version. Another version inside is no tunnel."""
    return Layer("ethertype", IPV6, at, "ip-in-ip")


def gre(frame: bytes, at: int) -> Layer | None:
    """RFC 2784 and RFC 2890, not the routing of RFC 1701; version 1 is that of PPTP (RFC 2637)."""
    if at + 4 > len(frame):
        return TRUNCATED
    flags, code = u16(frame, at), u16(frame, at + 2)
    size = 4 + 4 * bool(flags & 0x8000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
    if flags & 7 == 1:
        if code != 0x880B or not flags & 0x1000:
            return None  # without a sequence number, a bare acknowledgement
        return Layer("link", 9, at + size + 4 * bool(flags & 0x0080), "gre")
    if flags & 0x4007 or code < 1536 or code not in ETHERTYPES:
        return None
    if code == 0x88BE and not flags & 0x1000:
        return Layer("link", 1, at + size, "erspan")  # type I has no header
    return Layer("ethertype", code, at + size, "gre")


def vxlan(frame: bytes, at: int) -> Layer | None:
    """RFC 7348: flag I, network identifier, Ethernet."""
    if frame[at : at + 1] and not frame[at] & 8:
        return None
    if at + 8 > len(frame):
        return TRUNCATED
    return Layer("link", 1, at + 8, f"vxlan {int.from_bytes(frame[at + 4 : at + 7], 'big')}")


def vxlan_generic(frame: bytes, at: int) -> Layer | None:
    """draft-ietf-nvo3-vxlan-gpe: VXLAN with a next protocol."""
    outer = vxlan(frame, at)
    if outer is None or outer is TRUNCATED:
        return outer
    if not frame[at] & 4 or frame[at + 3] == 3:
        return outer
    code = {1: IPV4, 2: IPV6}.get(frame[at + 3])
    return Layer("ethertype", code, at + 8, outer.note) if code else None


def geneve(frame: bytes, at: int) -> Layer | None:
    """RFC 8926: the protocol is an Ethernet type; options are skipped."""
    if at + 4 > len(frame):
        return TRUNCATED
    code = u16(frame, at + 2)
    if frame[at] >> 6 or code < 1536 or code not in ETHERTYPES:
        return None
    return Layer("ethertype", code, at + 8 + (frame[at] & 0x3F) * 4, "geneve")


def teredo(frame: bytes, at: int) -> Layer | None:
    """RFC 4380: IPv6 after the optional authentication and origin indications."""
    if frame[at : at + 2] == b"\0\x01":
        if at + 4 > len(frame):
            return TRUNCATED
        at += 13 + frame[at + 2] + frame[at + 3]
    if frame[at : at + 2] == b"\0\0":
        at += 8
    if at >= len(frame) or frame[at:] == b"\0":
        return TRUNCATED
    return Layer("ethertype", IPV6, at, "teredo") if frame[at] >> 4 == 6 else None


def gtp_user(frame: bytes, at: int) -> Layer | None:
    """3GPP TS 29.281: G-PDUs (message type 255) of GTP version 1; extension headers are skipped."""
    if (frame[at : at + 1] and frame[at] >> 4 != 3) or frame[at + 1 : at + 2] not in (b"", b"\xff"):
        return None
    if at + 8 > len(frame):
        return TRUNCATED
    if not frame[at] & 7:
        return by_version(frame, at + 8, "gtp")
    if at + 12 > len(frame):
        return TRUNCATED
    following, at = frame[at + 11] if frame[at] & 4 else 0, at + 12
    for _ in range(MAX_LAYERS):
        if not following:
            return by_version(frame, at, "gtp")
        if at >= len(frame) or at + 4 * frame[at] > len(frame):
            return TRUNCATED
        if not frame[at]:
            return None
        at += 4 * frame[at]
        following = frame[at - 1]
    return None


def tzsp(frame: bytes, at: int) -> Layer | None:
    """TaZmen Sniffer Protocol, version 1, which MikroTik routers mirror with: tagged fields, then a frame."""
    if at + 4 > len(frame):
        return TRUNCATED
    link = {1: 1, 18: 105, 119: 127}.get(u16(frame, at + 2))  # Ethernet, IEEE 802.11, with a Prism or AVS header
    if frame[at] != 1 or frame[at + 1] not in (0, 1) or link is None:
        return None
    at += 4
    while at < len(frame) and frame[at] != TZSP_END:
        at += 1 if frame[at] == TZSP_PADDING else 2 + (frame[at + 1] if at + 1 < len(frame) else 0)
    return Layer("link", link, at + 1, "tzsp") if at < len(frame) else TRUNCATED


TZSP_PADDING, TZSP_END = 0, 1
"""Tags of TZSP without a length."""


def cisco_metadata(frame: bytes, at: int) -> Layer | None:
    """Cisco MetaData with a security group tag: version, length, options, then an Ethernet type."""
    return Layer("ethertype", u16(frame, at + 6), at + 8, "cmd") if at + 8 <= len(frame) else TRUNCATED


def vn_tag(frame: bytes, at: int) -> Layer | None:
    """VN-Tag (IEEE 802.1BR's predecessor): four bytes, then an Ethernet type."""
    return Layer("ethertype", u16(frame, at + 4), at + 6, "vn-tag") if at + 6 <= len(frame) else TRUNCATED


def backbone_bridge(frame: bytes, at: int) -> Layer | None:
    """IEEE 802.1ah: the I-TAG's four bytes, then the customer's Ethernet frame."""
    return Layer("link", 1, at + 4, f"pbb {int.from_bytes(frame[at + 1 : at + 4], 'big')}")


def fabric_path(frame: bytes, at: int) -> Layer | None:
    """Cisco FabricPath: a tag of two bytes, then an Ethernet frame."""
    return Layer("link", 1, at + 2, "fabricpath")


def service_header(frame: bytes, at: int) -> Layer | None:
    """Network Service Header (RFC 8300): its length in words, and the protocol that follows."""
    if at + 4 > len(frame):
        return TRUNCATED
    size = 4 * (u16(frame, at) & 0x3F)
    if size < 8:
        return None
    if frame[at + 3] == 3:
        return Layer("link", 1, at + size, "nsh")
    code = {1: IPV4, 2: IPV6, 5: 0x8847}.get(frame[at + 3])
    return Layer("ethertype", code, at + size, "nsh") if code else None


def switch_tag(size: int) -> LayerFunction:
    """Ethernet with the tag of a switch chip, of ``size`` bytes, between the addresses and the Ethernet type."""

    def function(frame: bytes, at: int) -> Layer | None:
        end = at + 12 + size
        if end + 2 > len(frame):
            return TRUNCATED
        mac = int.from_bytes(frame[at + 6 : at + 12], "big")
        return Layer("ethertype", u16(frame, end), end + 2, "switch tag", mac)

    return function


def brcm_prepended(frame: bytes, at: int) -> Layer | None:
    """Broadcom's switch tag before the Ethernet header."""
    return Layer("link", 1, at + 4, "switch tag")


def per_packet_information(frame: bytes, at: int) -> Layer | None:
    """PPI: a header with its length and a link type, both little-endian."""
    if at + 8 > len(frame):
        return TRUNCATED
    size, code = (int.from_bytes(frame[at + begin : at + end], "little") for begin, end in ((2, 4), (4, 8)))
    return Layer("link", code, at + size, "ppi") if size >= 8 else None


def fddi(frame: bytes, at: int) -> Layer | None:
    """FDDI: frame control, two addresses, then IEEE 802.2."""
    return logical_link(frame, at + 13)


LINKS: Mapping[int, LayerFunction] = {
    0: loopback,
    1: ethernet,
    9: ppp,
    10: fddi,
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
    192: per_packet_information,
    228: raw_ip,
    229: raw_ip,
    239: netfilter_log,
    276: cooked2,
    281: switch_tag(4),
    282: brcm_prepended,
    284: switch_tag(4),
    285: switch_tag(8),
}

VLANS = (0x8100, 0x88A8, 0x9100, 0x9200)

ETHERTYPES: Mapping[int, LayerFunction] = {
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
    0x88E7: backbone_bridge,
    0x8903: fabric_path,
    0x8909: cisco_metadata,
    0x8926: vn_tag,
    0x894F: service_header,
    0x22EB: erspan,
    **dict.fromkeys(VLANS, vlan),
}

IP_PROTOCOLS: Mapping[int, LayerFunction] = {4: ipv4_in_ip, 41: ipv6_in_ip, 47: gre}

UDP_PORTS: Mapping[int, LayerFunction] = {
    2152: gtp_user,
    3544: teredo,
    4789: vxlan,
    4754: gre,
    4790: vxlan_generic,
    6081: geneve,
    6635: mpls,
    8472: vxlan,  # the port of Linux before RFC 7348
    37008: tzsp,
}
