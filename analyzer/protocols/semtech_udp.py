"""Semtech's UDP protocol between a LoRaWAN gateway and a network server (packet_forwarder, PROTOCOL.TXT).

Radio traffic in JSON, in clear: payloads and identifiers of devices are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Datagram, Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "semtech-udp"

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)
IDENTIFIERS = ("PUSH_DATA", "PUSH_ACK", "PULL_DATA", "PULL_RESP", "PULL_ACK", "TX_ACK")
FROM_GATEWAY = frozenset({PUSH_DATA, PULL_DATA, TX_ACK})
"""Messages that carry the gateway's EUI."""
ACKNOWLEDGEMENTS = frozenset({PUSH_ACK, PULL_ACK})
HEADER_BYTES, EUI_BYTES = 4, 8
KINDS = re.compile(rb'"(rxpk|stat|txpk|txpk_ack)"')
"""Objects: received packets, status of the gateway, a packet to send, and whether it was sent."""
MAX_GATEWAYS = 16
"""EUIs in the facts."""


class Forward(NamedTuple):
    """The header of a message, and the gateway's EUI."""

    version: int
    token: int
    identifier: int
    gateway: bytes
    """Empty for messages without one."""


class Objects(NamedTuple):
    """The kinds of objects in the JSON of a message."""

    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SemtechUdpFacts(Facts):
    """Facts of a gateway's conversation with a network server."""

    versions: tuple[int, ...]
    """Ascending."""
    messages: Mapping[SafeText, int]
    """Identifier → number of messages, in the order of the capture."""
    gateways: tuple[str, ...]
    """EUIs in hexadecimal, colons between the bytes."""
    objects: Mapping[SafeText, int]
    """Kind of JSON object → number of messages."""


def probe(head: Head) -> bool:
    """A message with JSON of a known kind; or a keepalive of a gateway whose token is acknowledged."""
    if head.transport != "udp":
        return False
    asked: set[bytes] = set()
    for datagram in head.datagrams:
        if not is_plausible(datagram):
            continue
        data = datagram.data
        if data[3] in ACKNOWLEDGEMENTS:
            if data[1:3] in asked:
                return True
        elif data[3] == PULL_DATA:
            asked.add(data[1:3])
        elif KINDS.search(data):
            return True
    return False


def is_plausible(datagram: Datagram) -> bool:
    """Whether a datagram has a known version and identifier, and the length that goes with it."""
    data, length = datagram.data, datagram.length
    if len(data) < HEADER_BYTES or data[0] not in (1, 2) or data[3] > TX_ACK:
        return False
    if data[3] in ACKNOWLEDGEMENTS:
        return length == HEADER_BYTES
    if data[3] == PULL_DATA:
        return length == HEADER_BYTES + EUI_BYTES
    start = HEADER_BYTES + EUI_BYTES * (data[3] in FROM_GATEWAY)
    return data[start : start + 1] == b"{" or (data[3] == TX_ACK and length == start)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    version = reader.u8("protocol version")
    if version not in (1, 2):
        reader.malformed("protocol version", f"{version} is not 1 or 2", 0)
    token, identifier = reader.u16("token"), reader.u8("identifier")
    if identifier > TX_ACK:
        reader.malformed("identifier", f"{identifier} is no message", 3)
    yield Forward(
        version, token, identifier, reader.take(EUI_BYTES, "gateway EUI") if identifier in FROM_GATEWAY else b""
    )
    if reader.has_more:
        content = reader.rest("JSON")
        yield Objects(tuple(dict.fromkeys(kind.decode("ascii") for kind in KINDS.findall(content))))


def facts(items: Sequence[Item]) -> SemtechUdpFacts:
    counts: dict[str, int] = {}
    objects: dict[str, int] = {}
    headers = [header for _, header in messages(items, Forward)]
    for header in headers:
        name = IDENTIFIERS[header.identifier]
        counts[name] = counts.get(name, 0) + 1
    for _, content in messages(items, Objects):
        for kind in content.kinds:
            objects[kind] = objects.get(kind, 0) + 1
    gateways = dict.fromkeys(header.gateway.hex(":") for header in headers if header.gateway)
    versions = tuple(sorted({header.version for header in headers}))
    return SemtechUdpFacts(versions, counts, tuple(gateways)[:MAX_GATEWAYS], objects)
