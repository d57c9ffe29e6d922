"""DTLS (RFC 6347, RFC 9147): versions and handshake messages of records in clear."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import Reader

NAME = "dtls"

PORTS = frozenset({5684, 853})
"""CoAP over DTLS (RFC 7252, section 12.7), DNS over DTLS (RFC 8094, section 6)."""
RECORD = struct.Struct(">BHH6sH")
"""Type, version, epoch, sequence number, length (RFC 6347, section 4.1)."""
HANDSHAKE_HEADER = struct.Struct(">B3sH3s3s")
"""Type, length, message number, offset and length of the fragment (RFC 6347, section 4.2.2)."""
VERSIONS = {0xFEFF: "DTLS 1.0", 0xFEFD: "DTLS 1.2"}
"""DTLS 1.3 writes that of DTLS 1.2 in its records (RFC 9147, section 4)."""
CONTENT_TYPES = {20: "ChangeCipherSpec", 21: "Alert", 22: "Handshake", 23: "application data", 24: "heartbeat"}
HANDSHAKE = 22
HANDSHAKE_TYPES = {
    0: "HelloRequest",
    1: "ClientHello",
    2: "ServerHello",
    3: "HelloVerifyRequest",
    4: "NewSessionTicket",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
}
HELLOS = (1, 2, 3)
MAX_RECORD_BYTES = 2**14 + 2048
"""Longest record (RFC 5246, section 6.2.3)."""


class DtlsRecord(NamedTuple):
    """A record without its content."""

    type: int
    version: int
    handshake: int | None
    """Type of its handshake message, in clear."""
    length: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class DtlsFacts(Facts):
    """Facts of a DTLS conversation."""

    versions: tuple[SafeText, ...]
    """Of the records, in the order of the capture."""
    messages: Mapping[SafeText, int]
    """Handshake message or type of record → number, in the order of the capture."""


def probe(head: Head) -> bool:
    """A hello in any datagram; on the ports of services over DTLS, any record."""
    if head.transport != "udp":
        return False
    on_port = not PORTS.isdisjoint(head.ports)
    return any(is_record(datagram.data, datagram.length, on_port) for datagram in head.datagrams)


def is_record(data: bytes, length: int, any_type: bool) -> bool:
    """Whether a datagram begins with a record of a known version that fits into it."""
    if len(data) < RECORD.size + 1:
        return False
    kind, version, epoch, _, size = RECORD.unpack_from(data)
    if kind not in CONTENT_TYPES or version not in VERSIONS or not 0 < size <= length - RECORD.size:
        return False
    return any_type or (kind == HANDSHAKE and not epoch and data[RECORD.size] in HELLOS)


def dissect(reader: Reader, direction: object) -> Iterator[object]:
    while reader.has_more:
        start = reader.pos
        kind, version, epoch, _, length = RECORD.unpack(reader.take(RECORD.size, "record header"))
        if version not in VERSIONS:
            reader.malformed("version", f"0x{version:04x} is no version of DTLS", start + 1)
        if kind not in CONTENT_TYPES:
            reader.malformed("content type", f"{kind} is none of DTLS", start)
        if length > MAX_RECORD_BYTES:
            reader.malformed("length", f"{length} bytes are more than {MAX_RECORD_BYTES}", start + 11)
        with reader.block(length, "fragment") as fragment:
            handshake = None
            if kind == HANDSHAKE and not epoch:
                handshake = HANDSHAKE_HEADER.unpack(fragment.take(HANDSHAKE_HEADER.size, "handshake header"))[0]
            fragment.rest("fragment")
        yield DtlsRecord(kind, version, handshake, length)


def facts(items: Sequence[Item]) -> DtlsFacts:
    versions: dict[str, None] = {}
    counts: dict[str, int] = {}
    for _, record in messages(items, DtlsRecord):
        versions[VERSIONS[record.version]] = None
        name = CONTENT_TYPES[record.type]
        if record.handshake is not None:
            name = HANDSHAKE_TYPES.get(record.handshake, f"handshake message {record.handshake}")
        counts[name] = counts.get(name, 0) + 1
    return DtlsFacts(tuple(versions), counts)
