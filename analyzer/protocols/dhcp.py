"""DHCP for IPv4 (RFC 2131) with its options (RFC 2132), in the message format of BOOTP (RFC 951)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import NamedTuple

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "dhcp"

PORTS = frozenset({67, 68})
BOOTREQUEST, BOOTREPLY = 1, 2
ETHERNET = 1
MAGIC_COOKIE = bytes.fromhex("63825363")
"""Stands before the options (RFC 2131, section 3)."""

PAD, ROUTERS, DNS_SERVERS, HOST_NAME, NTP_SERVERS, OVERLOAD, MESSAGE_TYPE, SERVER_IDENTIFIER, VENDOR_CLASS, END = (
    0, 3, 6, 12, 42, 52, 53, 54, 60, 255,
)  # fmt: skip
"""Options (RFC 2132)."""
REQUESTED_ADDRESS, LEASE_TIME, RELAY_AGENT, CLASSLESS_ROUTES, MICROSOFT_ROUTES = 50, 51, 82, 121, 249
"""RFC 2132, sections 9.1 and 9.2; RFC 3046; RFC 3442, and the same under the number that Windows asks for."""
UNKEPT = frozenset({43, 90, 124, 125})
"""Options whose value may be a secret, and which nobody asks for: vendors' own (RFC 2132, section 8.4; RFC 3925), and
authentication (RFC 3118)."""
OFFER, DECLINE, ACK, NAK = 2, 4, 5, 6
MESSAGE_TYPES = {
    1: "DISCOVER",
    2: "OFFER",
    3: "REQUEST",
    4: "DECLINE",
    5: "ACK",
    6: "NAK",
    7: "RELEASE",
    8: "INFORM",
    9: "FORCERENEW",
    10: "LEASEQUERY",
    11: "LEASEUNASSIGNED",
    12: "LEASEUNKNOWN",
    13: "LEASEACTIVE",
}
"""RFC 2132, section 9.6; RFC 3203; RFC 4388."""

HEADER = struct.Struct(">4BIHH4s4s4s4s16s")
SNAME_LENGTH, FILE_LENGTH = 64, 128
UNSPECIFIED = "0.0.0.0"
ADDRESSES_SHOWN = 50
"""Of each kind, in the facts."""
FOREVER = 0xFFFFFFFF
"""Lease time without an end (RFC 2131, section 3.3)."""


class Header(NamedTuple):
    """The fixed part of a message (RFC 2131, section 2) but for ``sname`` and ``file``."""

    op: int
    htype: int
    hops: int
    xid: int
    secs: int
    flags: int
    ciaddr: str
    yiaddr: str
    siaddr: str
    giaddr: str
    chaddr: bytes
    """The client's hardware address, ``hlen`` bytes."""


class Bootp(NamedTuple):
    """Says that the message is one of plain BOOTP: its vendor area is empty (RFC 951)."""

    header: Header


class Option(NamedTuple):
    """One option as it stands; a long value comes in several (RFC 3396)."""

    header: Header
    """Of the message that it belongs to."""
    code: int
    data: bytes
    """Empty where the option is one of :data:`UNKEPT`."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The value as IPv4 addresses, as far as it is whole ones."""
        return tuple(ipv4(self.data[at : at + 4]) for at in range(0, len(self.data) - 3, 4))


def probe(head: Head) -> bool:
    """The cookie proves it on any port; without it, on DHCP's ports, a BOOTP header for Ethernet."""
    if head.transport != "udp" or not head.datagrams:
        return False
    first = head.datagrams[0].data
    if first[:1] not in (b"\1", b"\2"):
        return False
    cookie = HEADER.size + SNAME_LENGTH + FILE_LENGTH
    if first[cookie : cookie + len(MAGIC_COOKIE)] == MAGIC_COOKIE:
        return True
    return not PORTS.isdisjoint(head.ports) and first[1:3] == bytes((ETHERNET, 6))


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    fixed = HEADER.unpack(reader.take(HEADER.size, "header"))
    op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr = fixed
    if hlen > len(chaddr):
        reader.malformed("hlen", f"a hardware address of {hlen} bytes in a field of {len(chaddr)}", 2)
    addresses = ipv4(ciaddr), ipv4(yiaddr), ipv4(siaddr), ipv4(giaddr)
    header = Header(op, htype, hops, xid, secs, flags, *addresses, chaddr[:hlen])
    yield header
    sname = reader.fenced(SNAME_LENGTH, "sname")
    reader.take(SNAME_LENGTH, "sname")
    file = reader.fenced(FILE_LENGTH, "file")
    reader.take(FILE_LENGTH, "file")
    cookie = reader.take(len(MAGIC_COOKIE), "magic cookie")
    if cookie != MAGIC_COOKIE:
        if not any(cookie) and not any(reader.peek(reader.left)):
            reader.rest("vend")
            yield Bootp(header)
            return
        reader.malformed("magic cookie", f"it is not {MAGIC_COOKIE.hex()}", reader.pos - len(cookie))
    overload = 0
    for option in options(reader, header):
        yield option
        if option.code == OVERLOAD and option.data:
            overload = option.data[0]
    if overload & 1:  # first file, then sname (RFC 2131, section 4.1)
        yield from options(file, header)
    if overload & 2:
        yield from options(sname, header)
    reader.rest("padding")


def options(reader: Reader, header: Header) -> Iterator[Option]:
    """The options of a field up to the end option, which it must have (RFC 2131, section 4.1)."""
    while (code := reader.u8("option")) != END:
        if code != PAD:
            data = reader.take(reader.u8("option length"), "option")
            yield Option(header, code, b"" if code in UNKEPT else data)


@lru_cache(maxsize=4096)
def ipv4(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, raw)


class Message(NamedTuple):
    """A whole message, its long options put together (RFC 3396)."""

    item: Item
    """Of its header."""
    header: Header
    options: Mapping[int, bytes]

    @property
    def type(self) -> int:
        """DHCP message type (RFC 2132, section 9.6); 0 of plain BOOTP."""
        told = self.options.get(MESSAGE_TYPE, b"")
        return told[0] if len(told) == 1 else 0

    @property
    def server(self) -> str | None:
        """Identifier of the server that it is from or for."""
        told = self.options.get(SERVER_IDENTIFIER, b"")
        return ipv4(told) if len(told) == 4 else None


def whole(items: Sequence[Item]) -> list[Message]:
    """The messages of a conversation, in the order of the capture."""
    found: list[Message] = []
    options: dict[int, bytes] = {}
    for item in items:
        message = item.message
        if isinstance(message, Header):
            options = {}
            found.append(Message(item, message, options))
        elif isinstance(message, Option):
            options[message.code] = options.get(message.code, b"") + message.data
    return found


def routes(raw: bytes) -> tuple[str, ...] | None:
    """The destinations of classless static routes (RFC 3442): ``10.0.0.0/8 by 10.20.30.66``; ``None``: undecodable."""
    found = []
    at = 0
    while at < len(raw):
        width = raw[at]
        significant = (width + 7) // 8
        end = at + 1 + significant
        if width > 32 or end + 4 > len(raw):
            return None
        destination = ipv4(raw[at + 1 : end].ljust(4, b"\0"))
        found.append(f"{destination}/{width} by {ipv4(raw[end : end + 4])}")
        at = end + 4
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Client(Facts):
    """What DHCP tells of one client. What it does not tell is ``None``."""

    mac: str
    host_name: str | None = None
    vendor_class: SafeText | None = None
    requested: str | None = None
    """The address that it asked for last."""
    address: str | None = None
    """The address that a server confirmed last, else offered."""
    lease_seconds: int | None = None
    """For how long."""
    server: str | None = None
    """Identifier of that server."""

    def and_then(self, later: Client) -> Client:
        """The same client with what was told of it later."""
        told = {name: value for name in PARTS if (value := getattr(later, name)) is not None}
        return replace(self, **told)


PARTS = tuple(each.name for each in fields(Client))


def client_of(message: Message) -> Client | None:
    """What one message tells of its client; ``None``: it has no Ethernet address."""
    header, options = message.header, message.options
    if header.htype != ETHERNET or len(header.chaddr) != 6:
        return None
    mac = header.chaddr.hex(":")
    if header.op == BOOTREQUEST:
        asked = options.get(REQUESTED_ADDRESS, b"")
        requested = ipv4(asked) if len(asked) == 4 else header.ciaddr if header.ciaddr != UNSPECIFIED else None
        return Client(mac, named(options.get(HOST_NAME)), named(options.get(VENDOR_CLASS)), requested)
    if message.type not in (OFFER, ACK) or header.yiaddr == UNSPECIFIED:
        return Client(mac)
    lease = options.get(LEASE_TIME, b"")
    seconds = int.from_bytes(lease, "big") if len(lease) == 4 else None
    return Client(mac, address=header.yiaddr, lease_seconds=seconds, server=message.server)


def named(raw: bytes | None) -> str | None:
    """A name as an option holds it; some end it with a zero (RFC 2132, section 2)."""
    return decode_text(raw.rstrip(b"\0")) or None if raw else None


def clients(found: Iterable[DhcpFacts]) -> dict[str, Client]:
    """MAC address → what several conversations tell of this client, in their order."""
    together: dict[str, Client] = {}
    for facts in found:
        for mac, told in facts._clients.items():
            together[mac] = together[mac].and_then(told) if mac in together else told
    return together


@dataclass(frozen=True, slots=True)
class DhcpFacts(Facts):
    """What a conversation in DHCP or BOOTP shows."""

    messages: Mapping[SafeText, int]
    """How many of each type, in the order of the capture; BOOTREQUEST and BOOTREPLY are those of plain BOOTP."""
    client_mac: str | None
    """Of the first message from an Ethernet client."""
    host_name: str | None
    vendor_class: SafeText | None
    """As the client tells them first, as is the name."""
    requested: tuple[str, ...]
    """Addresses that a client asked for."""
    servers: tuple[str, ...]
    """Identifiers of the servers that offered or confirmed an address, or refused it."""
    offered: tuple[str, ...]
    """Addresses that a server offered or confirmed."""
    lease_seconds: int | None
    """For how long, as it was told last."""
    relays: tuple[str, ...]
    """Relay agents between client and server (RFC 2131, giaddr)."""
    relay_information: bool | None
    """A relay agent added its option 82 (RFC 3046)."""
    routers: tuple[str, ...]
    """This and those below as the servers handed out."""
    dns_servers: tuple[str, ...]
    ntp_servers: tuple[str, ...]
    static_routes: tuple[SafeText, ...]
    """``10.0.0.0/8 by 10.20.30.66`` (RFC 3442)."""
    _clients: Mapping[str, Client]
    """By MAC address."""


def facts(items: Sequence[Item]) -> DhcpFacts:
    messages: dict[str, int] = {}
    client: dict[int, str] = {}
    handed: dict[int, dict[str, None]] = {ROUTERS: {}, DNS_SERVERS: {}, NTP_SERVERS: {}, SERVER_IDENTIFIER: {}}
    offered: dict[str, None] = {}
    mac = None
    for item in items:
        message = item.message
        if isinstance(message, Header):
            if mac is None and message.htype == ETHERNET and len(message.chaddr) == 6:
                mac = message.chaddr.hex(":")
            if message.op == BOOTREPLY and message.yiaddr != UNSPECIFIED:
                offered[message.yiaddr] = None
        elif isinstance(message, Option):
            if message.code == MESSAGE_TYPE and len(message.data) == 1:
                count(messages, MESSAGE_TYPES.get(message.data[0], str(message.data[0])))
            elif message.header.op == BOOTREPLY and message.code in handed:
                handed[message.code] |= dict.fromkeys(message.addresses)
            elif message.header.op == BOOTREQUEST and message.code in (HOST_NAME, VENDOR_CLASS):
                client.setdefault(message.code, decode_text(message.data.rstrip(b"\0")))  # RFC 2132, section 2
        elif isinstance(message, Bootp):
            count(messages, "BOOTREQUEST" if message.header.op == BOOTREQUEST else "BOOTREPLY")
    told: dict[str, Client] = {}
    requested: dict[str, None] = {}
    relays: dict[str, None] = {}
    ways: dict[str, None] = {}
    seconds = None
    relayed = None
    for each in whole(items):
        if each.header.giaddr != UNSPECIFIED:
            relays[each.header.giaddr] = None
        if RELAY_AGENT in each.options:
            relayed = True
        if each.header.op == BOOTREPLY:
            for code in (CLASSLESS_ROUTES, MICROSOFT_ROUTES):
                ways |= dict.fromkeys(routes(each.options.get(code, b"")) or ())
        one = client_of(each)
        if one is not None:
            told[one.mac] = told[one.mac].and_then(one) if one.mac in told else one
            seconds = seconds if one.lease_seconds is None else one.lease_seconds
            if one.requested is not None:
                requested[one.requested] = None
    routers, dns_servers, ntp_servers, servers = (tuple(each)[:ADDRESSES_SHOWN] for each in handed.values())
    return DhcpFacts(
        messages,
        mac,
        client.get(HOST_NAME),
        client.get(VENDOR_CLASS),
        tuple(requested)[:ADDRESSES_SHOWN],
        servers,
        tuple(offered),
        seconds,
        tuple(relays)[:ADDRESSES_SHOWN],
        relayed,
        routers,
        dns_servers,
        ntp_servers,
        tuple(ways)[:ADDRESSES_SHOWN],
        told,
    )


def count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
