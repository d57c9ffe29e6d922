"""WireGuard: handshake and transport messages by type and length (wireguard.com/protocol)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "wireguard"

PORT = 51820
TRANSPORT_DATA = 4
TYPES = {1: "handshake initiation", 2: "handshake response", 3: "cookie reply", TRANSPORT_DATA: "transport data"}
LENGTHS = {1: 148, 2: 92, 3: 64}
"""Bytes of a message, by type; transport data has 32 and a multiple of 16 above."""
MIN_TRANSPORT_BYTES = 32


class WireGuardMessage(NamedTuple):
    type: int


@dataclass(frozen=True, slots=True)
class WireGuardFacts(Facts):
    """Facts of a WireGuard conversation."""

    messages: Mapping[SafeText, int]
    """Type → number of messages, in the order of the capture."""


def probe(head: Head) -> bool:
    """A handshake message in any datagram; on WireGuard's port also transport data."""
    if head.transport != "udp":
        return False
    for datagram in head.datagrams:
        kind = datagram.data[0] if datagram.data[1:4] == bytes(3) else 0
        if LENGTHS.get(kind) == datagram.length or (kind == TRANSPORT_DATA and is_transport(head, datagram.length)):
            return True
    return False


def is_transport(head: Head, length: int) -> bool:
    return PORT in head.ports and length >= MIN_TRANSPORT_BYTES and length % 16 == 0


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    kind = reader.u8("type")
    if kind not in TYPES:
        reader.malformed("type", f"{kind} is no message type", 0)
    if any(reader.take(3, "reserved")):
        reader.malformed("reserved", "is not zero", 1)
    reader.take(LENGTHS.get(kind, MIN_TRANSPORT_BYTES) - 4, "message")
    yield WireGuardMessage(kind)
    reader.rest("encrypted packet")


def facts(items: Sequence[Item]) -> WireGuardFacts:
    counts: dict[str, int] = {}
    for _, message in messages(items, WireGuardMessage):
        counts[TYPES[message.type]] = counts.get(TYPES[message.type], 0) + 1
    return WireGuardFacts(counts)
