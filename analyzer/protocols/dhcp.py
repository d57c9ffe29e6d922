"""DHCP for IPv4 (RFC 2131), its options (RFC 2132), and BOOTP (RFC 951), whose message format it uses.

A message is yielded in parts: its :class:`Header`, then its :class:`Option` entries, or :class:`Bootp`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "dhcp"

PORTS = frozenset({67, 68})
BOOTREQUEST, BOOTREPLY = 1, 2
ETHERNET = 1
MAGIC_COOKIE = bytes.fromhex("63825363")
"""First bytes of the options field (RFC 2131, section 3)."""

PAD, ROUTERS, DNS_SERVERS, HOST_NAME, NTP_SERVERS, OVERLOAD, MESSAGE_TYPE, SERVER_IDENTIFIER, VENDOR_CLASS, END = (
    0, 3, 6, 12, 42, 52, 53, 54, 60, 255,
)  # fmt: skip
"""Options (RFC 2132)."""
REQUESTED_ADDRESS, LEASE_TIME, RELAY_AGENT, CLASSLESS_ROUTES, MICROSOFT_ROUTES = 50, 51, 82, 121, 249
"""RFC 2132, sections 9.1 and 9.2; RFC 3046; RFC 3442, and the number that Windows uses for the same."""
SECRET_OPTIONS = frozenset({43, 90, 124, 125})
"""Options whose value may be a secret and is not kept: vendor-specific ones (RFC 2132, section 8.4; RFC 3925) and
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
MAX_ADDRESSES = 50
"""Addresses of one kind in the facts."""
FOREVER = 0xFFFFFFFF
"""Infinite lease time (RFC 2131, section 3.3)."""


class Header(NamedTuple):
    """The fixed part of a message (RFC 2131, section 2) without ``sname`` and ``file``."""

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
    """Hardware address of the client, ``hlen`` bytes."""


class Bootp(NamedTuple):
    """Marks a message of plain BOOTP: its vendor area is empty (RFC 951)."""

    header: Header


class Option(NamedTuple):
    """One option as encoded. A value of more than 255 bytes takes several (RFC 3396)."""

    header: Header
    """Header of its message."""
    code: int
    data: bytes
    """Empty for :data:`SECRET_OPTIONS`."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The value as IPv4 addresses; bytes of an incomplete one are left out."""
        return tuple(ipv4(self.data[at : at + 4]) for at in range(0, len(self.data) - 3, 4))


def probe(head: Head) -> bool:
    """On any port the magic cookie; on DHCP's ports a BOOTP header for Ethernet is enough."""
    if head.transport != "udp":
        return False
    on_port = not PORTS.isdisjoint(head.ports)
    return any(is_message(datagram.data, on_port) for datagram in head.datagrams)


def is_message(data: bytes, on_port: bool) -> bool:
    if data[:1] not in (b"\1", b"\2"):
        return False
    cookie = HEADER.size + SNAME_LENGTH + FILE_LENGTH
    if data[cookie : cookie + len(MAGIC_COOKIE)] == MAGIC_COOKIE:
        return True
    return on_port and data[1:3] == bytes((ETHERNET, 6))


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
    if overload & 1:  # file comes before sname (RFC 2131, section 4.1)
        yield from options(file, header)
    if overload & 2:
        yield from options(sname, header)
    reader.rest("padding")


def options(reader: Reader, header: Header) -> Iterator[Option]:
    """The options of a field up to the end option, which it must have (RFC 2131, section 4.1)."""
    while (code := reader.u8("option")) != END:
        if code != PAD:
            data = reader.take(reader.u8("option length"), "option")
            yield Option(header, code, b"" if code in SECRET_OPTIONS else data)


def ipv4(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, raw)


class Message(NamedTuple):
    """A complete message, with the parts of long options joined (RFC 3396)."""

    item: Item
    """The item of its header."""
    header: Header
    options: Mapping[int, bytes]

    @property
    def type(self) -> int:
        """DHCP message type (RFC 2132, section 9.6); 0: plain BOOTP."""
        value = self.options.get(MESSAGE_TYPE, b"")
        return value[0] if len(value) == 1 else 0

    @property
    def server(self) -> str | None:
        """Server identifier (RFC 2132, section 9.7)."""
        value = self.options.get(SERVER_IDENTIFIER, b"")
        return ipv4(value) if len(value) == 4 else None


def join_messages(items: Sequence[Item]) -> list[Message]:
    """The messages of a conversation, in the order of the capture."""
    joined: list[Message] = []
    options: dict[int, bytes] = {}
    for item in items:
        message = item.message
        if isinstance(message, Header):
            options = {}
            joined.append(Message(item, message, options))
        elif isinstance(message, Option):
            options[message.code] = options.get(message.code, b"") + message.data
    return joined


def read_routes(raw: bytes) -> tuple[str, ...] | None:
    """Classless static routes (RFC 3442) as ``10.0.0.0/8 by 10.20.30.66``; ``None``: malformed."""
    routes = []
    at = 0
    while at < len(raw):
        width = raw[at]
        significant = (width + 7) // 8
        end = at + 1 + significant
        if width > 32 or end + 4 > len(raw):
            return None
        destination = ipv4(raw[at + 1 : end].ljust(4, b"\0"))
        routes.append(f"{destination}/{width} by {ipv4(raw[end : end + 4])}")
        at = end + 4
    return tuple(routes)


@dataclass(frozen=True, slots=True)
class Client(Facts):
    """What DHCP says of one client. What it does not say is ``None``."""

    mac: str
    host_name: str | None = None
    vendor_class: SafeText | None = None
    requested: str | None = None
    """The address that it requested last."""
    address: str | None = None
    """The address of its last lease: confirmed, or else offered."""
    lease_seconds: int | None = None
    """Duration of that lease."""
    server: str | None = None
    """Identifier of the server that granted it."""

    def updated(self, later: Client) -> Client:
        """The same client with what a later message says of it."""
        values = {name: value for name in CLIENT_FIELDS if (value := getattr(later, name)) is not None}
        return replace(self, **values)


CLIENT_FIELDS = tuple(field.name for field in fields(Client))


def read_client(message: Message) -> Client | None:
    """What one message says of its client; ``None``: the client has no Ethernet address."""
    header, options = message.header, message.options
    if header.htype != ETHERNET or len(header.chaddr) != 6:
        return None
    mac = header.chaddr.hex(":")
    if header.op == BOOTREQUEST:
        value = options.get(REQUESTED_ADDRESS, b"")
        requested = ipv4(value) if len(value) == 4 else header.ciaddr if header.ciaddr != UNSPECIFIED else None
        return Client(mac, option_text(options.get(HOST_NAME)), option_text(options.get(VENDOR_CLASS)), requested)
    if message.type not in (OFFER, ACK) or header.yiaddr == UNSPECIFIED:
        return Client(mac)
    lease = options.get(LEASE_TIME, b"")
    seconds = int.from_bytes(lease, "big") if len(lease) == 4 else None
    return Client(mac, address=header.yiaddr, lease_seconds=seconds, server=message.server)


def option_text(value: bytes | None) -> str | None:
    """The text of an option; some clients end it with a zero byte (RFC 2132, section 2)."""
    return decode_text(value.rstrip(b"\0")) or None if value else None


def merge_clients(conversations: Iterable[DhcpFacts]) -> dict[str, Client]:
    """MAC address → what several conversations, in this order, say of the client."""
    merged: dict[str, Client] = {}
    for conversation in conversations:
        for mac, client in conversation._clients.items():
            merged[mac] = merged[mac].updated(client) if mac in merged else client
    return merged


@dataclass(frozen=True, slots=True)
class DhcpFacts(Facts):
    """Facts of a DHCP or BOOTP conversation."""

    messages: Mapping[SafeText, int]
    """Message type → number of messages, in the order of the capture; BOOTREQUEST and BOOTREPLY: plain BOOTP."""
    client_mac: str | None
    """Of the first message from an Ethernet client."""
    host_name: str | None
    """The first value that a client sent; so is the vendor class."""
    vendor_class: SafeText | None
    requested: tuple[str, ...]
    """Addresses that clients requested."""
    servers: tuple[str, ...]
    """Identifiers of the servers that replied."""
    offered: tuple[str, ...]
    """Addresses that servers offered or confirmed."""
    lease_seconds: int | None
    """Duration of the last lease."""
    relays: tuple[str, ...]
    """Relay agents between client and server (RFC 2131, giaddr)."""
    relay_information: bool | None
    """A relay agent added option 82 (RFC 3046)."""
    routers: tuple[str, ...]
    """From the servers' options, as are the fields below."""
    dns_servers: tuple[str, ...]
    ntp_servers: tuple[str, ...]
    static_routes: tuple[SafeText, ...]
    """``10.0.0.0/8 by 10.20.30.66`` (RFC 3442)."""
    _clients: Mapping[str, Client]
    """By MAC address."""


def facts(items: Sequence[Item]) -> DhcpFacts:
    messages: dict[str, int] = {}
    texts: dict[int, str] = {}
    """First host name and vendor class."""
    server_options: dict[int, dict[str, None]] = {ROUTERS: {}, DNS_SERVERS: {}, NTP_SERVERS: {}, SERVER_IDENTIFIER: {}}
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
            elif message.header.op == BOOTREPLY and message.code in server_options:
                server_options[message.code] |= dict.fromkeys(message.addresses)
            elif message.header.op == BOOTREQUEST and message.code in (HOST_NAME, VENDOR_CLASS):
                texts.setdefault(message.code, decode_text(message.data.rstrip(b"\0")))  # RFC 2132, section 2
        elif isinstance(message, Bootp):
            count(messages, "BOOTREQUEST" if message.header.op == BOOTREQUEST else "BOOTREPLY")
    clients: dict[str, Client] = {}
    requested: dict[str, None] = {}
    relays: dict[str, None] = {}
    static_routes: dict[str, None] = {}
    lease_seconds = None
    relay_information = None
    for message in join_messages(items):
        if message.header.giaddr != UNSPECIFIED:
            relays[message.header.giaddr] = None
        if RELAY_AGENT in message.options:
            relay_information = True
        if message.header.op == BOOTREPLY:
            for code in (CLASSLESS_ROUTES, MICROSOFT_ROUTES):
                static_routes |= dict.fromkeys(read_routes(message.options.get(code, b"")) or ())
        client = read_client(message)
        if client is not None:
            clients[client.mac] = clients[client.mac].updated(client) if client.mac in clients else client
            lease_seconds = lease_seconds if client.lease_seconds is None else client.lease_seconds
            if client.requested is not None:
                requested[client.requested] = None
    routers, dns_servers, ntp_servers, servers = (tuple(values)[:MAX_ADDRESSES] for values in server_options.values())
    return DhcpFacts(
        messages,
        mac,
        texts.get(HOST_NAME),
        texts.get(VENDOR_CLASS),
        tuple(requested)[:MAX_ADDRESSES],
        servers,
        tuple(offered),
        lease_seconds,
        tuple(relays)[:MAX_ADDRESSES],
        relay_information,
        routers,
        dns_servers,
        ntp_servers,
        tuple(static_routes)[:MAX_ADDRESSES],
        clients,
    )


def count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
