"""OpenVPN over UDP and TCP: opcodes (openvpn.net, network protocol)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import DIRECTIONS, Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "openvpn"

PORT = 1194
CLIENT_RESET_2, SERVER_RESET_2, CLIENT_RESET_3 = 7, 8, 10
OPCODES = {
    1: "hard reset client v1",
    2: "hard reset server v1",
    3: "soft reset",
    4: "control",
    5: "acknowledgement",
    6: "data v1",
    CLIENT_RESET_2: "hard reset client v2",
    SERVER_RESET_2: "hard reset server v2",
    9: "data v2",
    CLIENT_RESET_3: "hard reset client v3",
    11: "control with wrapped key",
}
LOWEST_OPCODE = b"\x08"
"""The first byte of a packet is not lower: its upper five bits are the opcode. That of a length over TCP is."""
PLAIN_RESET_BYTES = 14
"""A client's reset without authentication: opcode, session id, no acknowledgements, packet id 0."""
MAX_RESET_BYTES = 1200
"""Longest reset: version 3 carries a wrapped key of up to 1024 bytes."""
MAX_PACKETS = 256
"""Packets that are read per direction of TCP."""


class OpenVpnPacket(NamedTuple):
    opcode: int


@dataclass(frozen=True, slots=True)
class OpenVpnFacts(Facts):
    """Facts of an OpenVPN conversation."""

    packets: Mapping[SafeText, int]
    """Opcode → number of packets, in the order of the capture."""


def probe(head: Head) -> bool:
    """A client's reset, and a server's that repeats its session id; on OpenVPN's port, any server's reset."""
    if head.transport not in ("udp", "tcp"):
        return False
    reset, answer = (first_packet(head, direction) for direction in DIRECTIONS)
    if reset[:1] not in (b"\x38", b"\x50") or not PLAIN_RESET_BYTES <= len(reset) <= MAX_RESET_BYTES:
        return False
    plain = len(reset) == PLAIN_RESET_BYTES and reset[0] == CLIENT_RESET_2 << 3 and not any(reset[9:])
    if not answer:
        return plain or (PORT in head.ports and head.transport == "udp")
    return answer[0] == SERVER_RESET_2 << 3 and (PORT in head.ports or reset[1:9] in answer[1:])


def first_packet(head: Head, direction: Direction) -> bytes:
    """The first packet of a direction; over TCP without its length."""
    data = head.first(direction)
    if head.transport == "udp":
        return data
    length = int.from_bytes(data[:2], "big")
    return data[2 : 2 + length]


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """Over TCP, packets after their lengths; a datagram begins with its opcode."""
    if reader.peek(1) >= LOWEST_OPCODE:
        yield OpenVpnPacket(opcode(reader))
        reader.rest("packet")
        return
    for _ in range(MAX_PACKETS):
        if not reader.has_more:
            return
        with reader.block(reader.u16("packet length"), "packet") as packet:
            found = opcode(packet)
            packet.rest("packet")
        yield OpenVpnPacket(found)


def opcode(reader: Reader) -> int:
    found = reader.u8("opcode") >> 3
    if found not in OPCODES:
        reader.malformed("opcode", f"{found} is no opcode", reader.pos - 1)
    return found


def facts(items: Sequence[Item]) -> OpenVpnFacts:
    counts: dict[str, int] = {}
    for _, packet in messages(items, OpenVpnPacket):
        counts[OPCODES[packet.opcode]] = counts.get(OPCODES[packet.opcode], 0) + 1
    return OpenVpnFacts(counts)
