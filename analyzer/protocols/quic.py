"""QUIC (RFC 9000, RFC 9369): versions and packet types of long headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "quic"

LONG, FIXED = 0x80, 0x40
"""Bits of the first byte (RFC 9000, section 17.2)."""
NEGOTIATION, VERSION_1, VERSION_2 = 0, 1, 0x6B3343CF
MAX_ID_BYTES = 20
"""Longest connection ID of versions 1 and 2."""
MIN_INITIAL_BYTES = 1200
"""Smallest datagram of a client that holds an Initial packet (RFC 9000, section 14.1)."""
TYPES = ("Initial", "0-RTT", "Handshake", "Retry")


class QuicPacket(NamedTuple):
    """The first packet of a datagram."""

    version: int | None
    """``None``: a short header, which has none."""
    type: int
    """Of version 1; -1: a short header or a version negotiation."""


@dataclass(frozen=True, slots=True)
class QuicFacts(Facts):
    """Facts of a QUIC conversation."""

    versions: tuple[SafeText, ...]
    packets: Mapping[SafeText, int]
    """Type of the first packet → number of datagrams, in the order of the capture."""


def probe(head: Head) -> bool:
    """A long header of a known version, in a padded datagram of the client or with valid connection IDs."""
    if head.transport != "udp":
        return False
    return any(
        is_long_header(datagram.data)
        and (datagram.direction is Direction.RESPONDER or datagram.length >= MIN_INITIAL_BYTES)
        for datagram in head.datagrams
    )


def is_long_header(data: bytes) -> bool:
    if len(data) < 7 or data[0] & (LONG | FIXED) != LONG | FIXED or not is_known(int.from_bytes(data[1:5], "big")):
        return False
    destination = data[5]
    source = data[6 + destination : 7 + destination]
    return destination <= MAX_ID_BYTES and bool(source) and source[0] <= MAX_ID_BYTES and destination + source[0] > 0


def is_known(version: int) -> bool:
    """Versions 1 and 2, and the drafts 27 to 34 of version 1."""
    return version in (VERSION_1, VERSION_2) or 0xFF00001B <= version <= 0xFF000022


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    first = reader.u8("header form")
    if not first & LONG:
        reader.rest("protected packet")
        yield QuicPacket(None, -1)
        return
    version = reader.u32("version")
    for name in ("destination connection ID", "source connection ID"):
        length = reader.u8(name)
        if length > MAX_ID_BYTES and is_known(version):
            reader.malformed(name, f"{length} bytes are more than {MAX_ID_BYTES}", reader.pos - 1)
        reader.take(length, name)
    kind = first >> 4 & 3
    if version == VERSION_2:
        kind = kind - 1 & 3  # RFC 9369, section 3.2
    yield QuicPacket(version, kind if is_known(version) else -1)
    reader.rest("protected packet")


def facts(items: Sequence[Item]) -> QuicFacts:
    versions: dict[str, None] = {}
    packets: dict[str, int] = {}
    for _, packet in messages(items, QuicPacket):
        if packet.version:
            versions[version_name(packet.version)] = None
        name = TYPES[packet.type] if packet.type >= 0 else "1-RTT" if packet.version is None else "version negotiation"
        packets[name] = packets.get(name, 0) + 1
    return QuicFacts(tuple(versions), packets)


def version_name(version: int) -> str:
    if version in (VERSION_1, VERSION_2):
        return "1" if version == VERSION_1 else "2"
    return f"draft-{version & 0xFF}" if is_known(version) else f"0x{version:08x}"
