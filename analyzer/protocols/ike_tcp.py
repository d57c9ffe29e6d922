"""IKE and ESP inside TCP (RFC 9329): how much of both. What the messages say is not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "ike-tcp"

PREFIX = b"IKETCP"
"""The first bytes of the originator (RFC 9329, section 4)."""
MIN_BYTES = 2
"""A length includes itself."""
KEEPALIVE_BYTES = 3
"""A NAT keepalive: length and 0xFF."""
MAX_MESSAGES = 512
"""Messages that are read per direction."""


class Encapsulated(NamedTuple):
    """An IKE message after a non-ESP marker, an ESP packet, or a keepalive."""

    kind: str


@dataclass(frozen=True, slots=True)
class IkeTcpFacts(Facts):
    """Facts of a TCP connection of IKE and ESP."""

    messages: Mapping[SafeText, int]
    """``IKE``, ``ESP`` and ``keepalive`` → number of messages."""


def probe(head: Head) -> bool:
    """The prefix of the originator."""
    return head.transport == "tcp" and head.streams[Direction.ORIGINATOR].data.startswith(PREFIX)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    if reader.peek(len(PREFIX)) == PREFIX:
        reader.take(len(PREFIX), "prefix")
    for _ in range(MAX_MESSAGES):
        if not reader.has_more:
            return
        length = reader.u16("length")
        if length <= MIN_BYTES:
            reader.malformed("length", f"{length} bytes, which include its own two", reader.pos - 2)
        content = reader.take(length - MIN_BYTES, "message")
        yield Encapsulated("keepalive" if length == KEEPALIVE_BYTES else "IKE" if content[:4] == bytes(4) else "ESP")


def facts(items: Sequence[Item]) -> IkeTcpFacts:
    counts: dict[str, int] = {}
    for _, message in messages(items, Encapsulated):
        counts[message.kind] = counts.get(message.kind, 0) + 1
    return IkeTcpFacts(counts)
