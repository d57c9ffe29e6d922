"""DHCP for IPv6 (RFC 8415). Reports call it ``dhcp``.

A message is yielded in parts: its :class:`Message6`, then its :class:`Option6` entries. Options that hold options (an
association and its addresses, a relayed message) are followed by what they hold.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "dhcp"

PORTS = frozenset({546, 547})
"""Client, and server or relay agent (RFC 8415, section 7.2)."""
MESSAGE_TYPES = {
    1: "SOLICIT",
    2: "ADVERTISE",
    3: "REQUEST",
    4: "CONFIRM",
    5: "RENEW",
    6: "REBIND",
    7: "REPLY",
    8: "RELEASE",
    9: "DECLINE",
    10: "RECONFIGURE",
    11: "INFORMATION-REQUEST",
    12: "RELAY-FORW",
    13: "RELAY-REPL",
    14: "LEASEQUERY",
    15: "LEASEQUERY-REPLY",
}
"""RFC 8415, section 7.3; RFC 5007."""
RELAYED = frozenset({12, 13})
MAX_RELAYS = 8
"""Relay agents between client and server (HOP_COUNT_LIMIT, RFC 8415, section 7.6)."""
CLIENT_ID, SERVER_ID, IA_NA, IA_TA, IA_ADDRESS, RELAY_MESSAGE, SERVER_UNICAST, STATUS = 1, 2, 3, 4, 5, 9, 12, 13
DNS_SERVERS, IA_PD, IA_PREFIX = 23, 25, 26
"""Options (RFC 8415, section 21; RFC 3646)."""
HEADER_BYTES = {IA_NA: 12, IA_TA: 4, IA_ADDRESS: 24, IA_PD: 12, IA_PREFIX: 25}
"""Options that hold further options → bytes before these."""
KEPT = frozenset({CLIENT_ID, SERVER_ID, IA_ADDRESS, SERVER_UNICAST, STATUS, DNS_SERVERS, IA_PREFIX})
"""Options whose value is kept; of others it may be a secret (authentication, vendor-specific information)."""
LINK_LAYER_TIME, LINK_LAYER = 1, 3
"""Types of DUID that hold a link-layer address, with and without a time (RFC 8415, section 11)."""
ETHERNET = 1
STATUS_CODES = {
    1: "UnspecFail",
    2: "NoAddrsAvail",
    3: "NoBinding",
    4: "NotOnLink",
    5: "UseMulticast",
    6: "NoPrefixAvail",
}
"""RFC 8415, section 21.13."""
MAX_SHOWN = 50
"""Addresses of one kind in the facts."""


class Message6(NamedTuple):
    """The fixed part of a message (RFC 8415, sections 8 and 9)."""

    type: int
    transaction: int
    """0 of messages between relay agents and servers."""
    link: str | None
    """link-address that a relay agent added."""


class Option6(NamedTuple):
    """One option (RFC 8415, section 21.1), without the options that it holds."""

    code: int
    data: bytes
    """Empty for options that are not in :data:`KEPT`."""


def probe(head: Head) -> bool:
    """On DHCP's ports: a known type and options that fill the datagram, in any datagram."""
    if head.transport != "udp" or PORTS.isdisjoint(head.ports):
        return False
    return any(is_plausible(datagram.data, datagram.length) for datagram in head.datagrams)


def is_plausible(data: bytes, length: int) -> bool:
    if len(data) < 8 or data[0] not in MESSAGE_TYPES:
        return False
    at = 34 if data[0] in RELAYED else 4
    while at + 4 <= len(data):
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at == length or (len(data) < length and at >= len(data))


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    return read_message(reader, 0)


def read_message(reader: Reader, depth: int) -> Iterator[object]:
    kind = reader.u8("msg-type")
    if kind not in MESSAGE_TYPES:
        reader.malformed("msg-type", f"{kind} is no message type", reader.pos - 1)
    if kind in RELAYED:
        reader.u8("hop-count")
        link, _ = reader.take(16, "link-address"), reader.take(16, "peer-address")
        yield Message6(kind, 0, ipv6(link))
    else:
        yield Message6(kind, reader.u24("transaction-id"), None)
    yield from read_options(reader, depth)


def read_options(reader: Reader, depth: int) -> Iterator[object]:
    """All options up to the end of the reader."""
    while reader.has_more:
        code, length = reader.u16("option-code"), reader.u16("option-len")
        with reader.block(length, "option") as option:
            if code == RELAY_MESSAGE:
                if depth == MAX_RELAYS:
                    option.malformed("relay message", f"more than {MAX_RELAYS} relay agents")
                yield Option6(code, b"")
                yield from read_message(option, depth + 1)
            elif code in HEADER_BYTES:
                data = option.take(HEADER_BYTES[code], "option")
                yield Option6(code, data if code in KEPT else b"")
                if depth == MAX_RELAYS:
                    option.rest("option")
                yield from read_options(option, depth + 1)
            else:
                data = option.rest("option")
                yield Option6(code, data if code in KEPT else b"")


def ipv6(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, raw)


@dataclass(frozen=True, slots=True)
class Dhcp6Facts(Facts):
    """Facts of a DHCPv6 conversation."""

    messages: Mapping[SafeText, int]
    """Message type → number of messages, in the order of the capture."""
    client_mac: str | None
    """Ethernet address in the client's identifier."""
    requested: tuple[str, ...]
    """Addresses and prefixes that clients requested."""
    offered: tuple[str, ...]
    """Addresses and prefixes that servers offered or confirmed."""
    servers: tuple[str, ...]
    """Ethernet addresses in the identifiers of the servers, or else the identifiers (DUID) in hexadecimal."""
    lease_seconds: int | None
    """Valid lifetime of the last address or prefix from a server."""
    relays: tuple[str, ...]
    """Link addresses that relay agents added."""
    dns_servers: tuple[str, ...]
    status: tuple[SafeText, ...]
    """Errors that servers reported."""


FROM_SERVER = frozenset({2, 7, 10, 13, 15})
"""Types of messages that servers, or relay agents in their name, send."""


def facts(items: Sequence[Item]) -> Dhcp6Facts:
    messages: dict[str, int] = {}
    mac = lease = None
    requested: dict[str, None] = {}
    offered: dict[str, None] = {}
    servers: dict[str, None] = {}
    relays: dict[str, None] = {}
    dns_servers: dict[str, None] = {}
    status: dict[str, None] = {}
    kind = 0
    for item in items:
        message = item.message
        if isinstance(message, Message6):
            kind = message.type
            name = MESSAGE_TYPES[kind]
            messages[name] = messages.get(name, 0) + 1
            if message.link not in (None, "::"):
                relays[str(message.link)] = None
        if not isinstance(message, Option6):
            continue
        from_server, data = kind in FROM_SERVER, message.data
        if message.code == CLIENT_ID:
            mac = mac or ethernet_address(data)
        elif message.code == SERVER_ID:
            servers[ethernet_address(data) or data.hex()] = None
        elif message.code in (IA_ADDRESS, IA_PREFIX):
            address, seconds = binding(message)
            (offered if from_server else requested)[address] = None
            lease = seconds if from_server else lease
        elif message.code == DNS_SERVERS and from_server:
            dns_servers |= dict.fromkeys(ipv6(data[at : at + 16]) for at in range(0, len(data) - 15, 16))
        elif message.code == STATUS and from_server and any(data[:2]):
            code = int.from_bytes(data[:2], "big")
            status[STATUS_CODES.get(code, f"code {code}")] = None
    return Dhcp6Facts(
        messages,
        mac,
        tuple(requested)[:MAX_SHOWN],
        tuple(offered)[:MAX_SHOWN],
        tuple(servers)[:MAX_SHOWN],
        lease,
        tuple(relays)[:MAX_SHOWN],
        tuple(dns_servers)[:MAX_SHOWN],
        tuple(status)[:MAX_SHOWN],
    )


def binding(option: Option6) -> tuple[str, int]:
    """Address or prefix of an association, and its valid lifetime in seconds (RFC 8415, sections 21.6 and 21.22)."""
    data = option.data
    if option.code == IA_ADDRESS:
        return ipv6(data[:16]), int.from_bytes(data[20:24], "big")
    return f"{ipv6(data[9:25])}/{data[8]}", int.from_bytes(data[4:8], "big")


def ethernet_address(duid: bytes) -> str | None:
    """The Ethernet address in a DUID (RFC 8415, sections 11.2 and 11.4); ``None``: it holds none."""
    start = {LINK_LAYER_TIME: 8, LINK_LAYER: 4}.get(int.from_bytes(duid[:2], "big"))
    if start is None or int.from_bytes(duid[2:4], "big") != ETHERNET or len(duid) != start + 6:
        return None
    return duid[start:].hex(":")
