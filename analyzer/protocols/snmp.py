"""SNMP versions 1, 2c and 3 (RFC 3416, RFC 3412): version and type of PDU. Communities and users are not kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "snmp"

VERSIONS = {0: "1", 1: "2c", 3: "3"}
PDUS = {
    0xA0: "get-request",
    0xA1: "get-next-request",
    0xA2: "response",
    0xA3: "set-request",
    0xA4: "trap v1",
    0xA5: "get-bulk-request",
    0xA6: "inform-request",
    0xA7: "trap v2",
    0xA8: "report",
}
"""Tags (RFC 3416, section 3)."""
SEQUENCE, INTEGER, OCTETS = 0x30, 2, 4


class SnmpMessage(NamedTuple):
    version: int
    pdu: int
    """Tag of the PDU; 0: encrypted, or of version 3."""


@dataclass(frozen=True, slots=True)
class SnmpFacts(Facts):
    """Facts of an SNMP conversation."""

    versions: tuple[SafeText, ...]
    pdus: Mapping[SafeText, int]
    """Type of PDU → number of messages, in the order of the capture."""


def probe(head: Head) -> bool:
    """Any datagram whose outer length, version and what follows it are those of a message."""
    return head.transport == "udp" and any(is_message(datagram.data, datagram.length) for datagram in head.datagrams)


def is_message(data: bytes, length: int) -> bool:
    size = tlv(data, 0, SEQUENCE)
    if size is None or size[1] != length or data[size[0] : size[0] + 2] != b"\2\1":
        return False
    at = size[0] + 2
    version, following = data[at : at + 1], at + 1
    if version == b"\3":
        return data[following : following + 1] == b"\x30"
    community = tlv(data, following, OCTETS) if version in (b"\0", b"\1") else None
    return community is not None and community[1] < len(data) and data[community[1]] in PDUS


def tlv(data: bytes, at: int, tag: int) -> tuple[int, int] | None:
    """Begin and end of the value of a BER element with a tag; ``None``: another element, or an incomplete one."""
    if len(data) < at + 2 or data[at] != tag:
        return None
    length, start = data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or len(data) < start + count:
            return None
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    return start, start + length


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    element(reader, SEQUENCE, "message")
    version_bytes = element(reader, INTEGER, "version")
    version = int.from_bytes(reader.take(version_bytes, "version"), "big")
    if version not in VERSIONS:
        reader.malformed("version", f"{version} is no version", reader.pos - version_bytes)
    pdu = 0
    if version != 3:
        reader.take(element(reader, OCTETS, "community"), "community")
        pdu = reader.u8("PDU")
        if pdu not in PDUS:
            reader.malformed("PDU", f"tag 0x{pdu:02x} is no PDU", reader.pos - 1)
    reader.rest("PDU")
    yield SnmpMessage(version, pdu)


def element(reader: Reader, tag: int, field: str) -> int:
    """Length of the BER element that begins here."""
    found = reader.u8(field)
    if found != tag:
        reader.malformed(field, f"tag 0x{found:02x} in place of 0x{tag:02x}", reader.pos - 1)
    length = reader.u8(field)
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            reader.malformed(field, f"a length of {count} bytes", reader.pos - 1)
        length = int.from_bytes(reader.take(count, field), "big")
    return length


def facts(items: Sequence[Item]) -> SnmpFacts:
    found = [message for _, message in messages(items, SnmpMessage)]
    pdus: dict[str, int] = {}
    for message in found:
        if message.pdu:
            pdus[PDUS[message.pdu]] = pdus.get(PDUS[message.pdu], 0) + 1
    return SnmpFacts(tuple(VERSIONS[version] for version in sorted({message.version for message in found})), pdus)
