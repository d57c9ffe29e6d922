"""ICMP (RFC 792) and ICMPv6 (RFC 4443): echoes, errors with the packet that they quote, other messages.

A datagram is a message from its type byte on. Both versions share this module: their types hardly overlap, and where
they do, the IP version of the quoted packet decides.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText
from analyzer.scanner import columns
from analyzer.wire import UNBOUNDED, Reader

NAME = "icmp"

MAX_GATEWAYS = 50
"""Gateways in the facts."""
SAMPLE = columns.ECHO_SAMPLE
"""First bytes of an echo's data that are kept. By default, iputils and BSD send 56 bytes, Windows 32."""

ECHO_REQUEST = (8, 128)
ECHO_REPLY = (0, 129)

TYPES = {
    0: "echo-reply",
    3: "destination-unreachable",
    4: "source-quench",
    5: "redirect",
    8: "echo-request",
    9: "router-advertisement",
    10: "router-solicitation",
    11: "time-exceeded",
    12: "parameter-problem",
    13: "timestamp-request",
    14: "timestamp-reply",
    15: "information-request",
    16: "information-reply",
    17: "address-mask-request",
    18: "address-mask-reply",
    30: "traceroute",
    40: "photuris",
    42: "extended-echo-request",
    43: "extended-echo-reply",
    100: "private-experimentation-100",
    101: "private-experimentation-101",
    128: "echo-request",
    129: "echo-reply",
    130: "multicast-listener-query",
    131: "multicast-listener-report",
    132: "multicast-listener-done",
    133: "router-solicitation",
    134: "router-advertisement",
    135: "neighbor-solicitation",
    136: "neighbor-advertisement",
    137: "redirect",
    138: "router-renumbering",
    139: "node-information-query",
    140: "node-information-response",
    143: "multicast-listener-report-v2",
    160: "extended-echo-request",
    161: "extended-echo-reply",
}
"""Types whose number belongs to one version only; 128 and above are ICMPv6."""

ICMPV6_ERRORS = {1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem"}
"""Types that have another meaning in ICMPv4, or none."""

QUOTING_TYPES = frozenset({1, 2, 3, 4, 5, 11, 12})
"""Types of the errors and redirects of both versions, which quote a packet after eight bytes. The redirect of ICMPv6
(137) quotes in an option instead."""

ERRORS = frozenset({"destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem", "source-quench"})


CODES = {
    "destination-unreachable": {
        0: "network",
        1: "host",
        2: "protocol",
        3: "port",
        4: "fragmentation needed",
        5: "source route failed",
        6: "network unknown",
        7: "host unknown",
        8: "source host isolated",
        9: "network prohibited",
        10: "host prohibited",
        11: "network for this type of service",
        12: "host for this type of service",
        13: "administratively prohibited",
        14: "host precedence violation",
        15: "precedence cutoff",
    },
    "redirect": {
        0: "network",
        1: "host",
        2: "network for this type of service",
        3: "host for this type of service",
    },
    "time-exceeded": {0: "hop limit", 1: "reassembly"},
    "parameter-problem": {0: "pointer", 1: "missing option", 2: "bad length"},
}
"""Codes of ICMPv4 (RFC 792, RFC 1122, RFC 1812)."""
ICMPV6_CODES = {
    "destination-unreachable": {
        0: "no route",
        1: "administratively prohibited",
        2: "beyond the scope of the source address",
        3: "address",
        4: "port",
        5: "source address failed policy",
        6: "rejected route",
        7: "error in source routing header",
    },
    "time-exceeded": {0: "hop limit", 1: "reassembly"},
    "parameter-problem": {0: "header field", 1: "next header", 2: "option", 3: "incomplete header chain"},
}
"""Codes of ICMPv6 (RFC 4443 section 3; RFC 7112)."""


class IcmpMessage(NamedTuple):
    """A message that is neither an echo nor an error."""

    name: str
    type: int
    code: int
    length: int
    """Declared length of the message, in bytes."""


class Echo(NamedTuple):
    """Echo request or reply (RFC 792, page 14; RFC 4443, sections 4.1 and 4.2)."""

    name: str
    type: int
    code: int
    identifier: int
    sequence: int
    length: int | None
    """Declared length of the data, in bytes; ``None``: unknown, as the last fragment is missing."""


class EchoData(NamedTuple):
    """The first :data:`SAMPLE` bytes of the preceding echo's data, or all of it. Absent if they are truncated."""

    beginning: bytes


class ErrorMessage(NamedTuple):
    """An error message or a redirect. The packet that it quotes follows as :class:`Quoted`."""

    name: str
    type: int
    code: int
    parameter: int
    """The second 32-bit word: gateway of a redirect, MTU of "packet too big", otherwise mostly unused."""
    length: int
    """Declared length of the message, in bytes."""

    @property
    def gateway(self) -> str | None:
        """The gateway that an IPv4 redirect names (RFC 792, page 12)."""
        if self.name != "redirect":
            return None
        return socket.inet_ntop(socket.AF_INET, self.parameter.to_bytes(4, "big"))


class Quoted(NamedTuple):
    """The IP header that an error quotes."""

    version: int
    """IP version: 4 or 6."""
    protocol: int
    source: bytes
    destination: bytes


@dataclass(frozen=True, slots=True)
class IcmpFacts(Facts):
    """Facts of an ICMP or ICMPv6 conversation."""

    types: Mapping[SafeText, int]
    """Type → number of messages: ``{"echo-request": 3, "echo-reply": 3}``."""
    codes: Mapping[SafeText, int]
    """Type and code → number of errors: ``{"destination-unreachable, port": 1}``."""
    gateways: tuple[str, ...]
    """Gateways that IPv4 redirects name (RFC 792, page 12)."""
    largest_payload: int | None
    """Declared data bytes of the largest echo."""


def probe(head: Head) -> bool:
    return head.transport in ("icmp", "icmpv6") and bool(head.datagrams)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    start = reader.pos
    kind = reader.u8("type")
    code = reader.u8("code")
    reader.u16("checksum")
    length = min(reader.fence, 1 << 32) - start
    if kind in ECHO_REQUEST or kind in ECHO_REPLY:
        identifier = reader.u16("identifier")
        sequence = reader.u16("sequence number")
        data = None if reader.fence == UNBOUNDED else length - 8
        yield Echo(TYPES[kind], kind, code, identifier, sequence, data)
        sample = SAMPLE if data is None else min(SAMPLE, data)
        if reader.left >= sample:
            yield EchoData(reader.take(sample, "data"))
    elif kind in QUOTING_TYPES:
        parameter = reader.u32("rest of header")
        version = reader.u8("quoted packet") >> 4
        reader.pos -= 1
        name = ICMPV6_ERRORS.get(kind) if version == 6 else TYPES.get(kind)
        yield ErrorMessage(name or f"type-{kind}", kind, code, parameter, length)
        yield read_quoted(reader, version)
    else:
        yield IcmpMessage(TYPES.get(kind, f"type-{kind}"), kind, code, length)


def read_quoted(reader: Reader, version: int) -> Quoted:
    """The IP header in an error (RFC 792: "Internet Header + 64 bits of Data Datagram"; RFC 4443, section 3.1)."""
    if version == 6:
        reader.take(6, "quoted IPv6 header")
        protocol = reader.u8("quoted next header")
        reader.take(1, "quoted hop limit")
        return Quoted(6, protocol, reader.take(16, "quoted source"), reader.take(16, "quoted destination"))
    if version != 4:
        reader.malformed("quoted packet", f"its IP version is {version}")
    reader.take(9, "quoted IPv4 header")
    protocol = reader.u8("quoted protocol")
    reader.take(2, "quoted header checksum")
    return Quoted(4, protocol, reader.take(4, "quoted source"), reader.take(4, "quoted destination"))


def facts(items: Sequence[Item]) -> IcmpFacts:
    names: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    gateways: dict[str, None] = {}
    largest = None
    error: ErrorMessage | None = None
    for item in items:
        message = item.message
        if isinstance(message, Echo):
            names[message.name] += 1
            if message.length is not None:
                largest = max(largest or 0, message.length)
        elif isinstance(message, IcmpMessage):
            names[message.name] += 1
        elif isinstance(message, ErrorMessage):
            names[message.name] += 1
            error = message
            if message.gateway is not None and len(gateways) < MAX_GATEWAYS:
                gateways[message.gateway] = None
        elif isinstance(message, Quoted) and error is not None:
            codes[f"{error.name}, {code_name(error, message.version)}"] += 1
    return IcmpFacts(dict(names), dict(codes), tuple(gateways), largest)


def code_name(error: ErrorMessage, version: int) -> str:
    """The meaning of an error's code; the number of a code that is not assigned."""
    known = (CODES if version == 4 else ICMPV6_CODES).get(error.name, {})
    return known.get(error.code, f"code {error.code}")


def error_name(kind: int, code: int, version: int) -> str:
    """An error in words: ``destination unreachable, administratively prohibited``. ``version``: 4 or 6."""
    name = (TYPES if version == 4 else ICMPV6_ERRORS).get(kind)
    if name is None:
        return f"type {kind} code {code}"
    known = (CODES if version == 4 else ICMPV6_CODES).get(name, {})
    words = known.get(code)
    return name.replace("-", " ") + (f", {words}" if words else f", code {code}" if code else "")
