"""IKE messages in clear: the header and the chain of payloads up to where encryption begins.

IKEv2: RFC 7296, section 3, RFC 7383 (fragments), RFC 5685 (redirect). IKEv1: RFC 2408, section 3, RFC 3947
(NAT traversal), MS-IKEE, section 2.2 (fragments).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final, NamedTuple

from analyzer.heads import Direction, Head
from analyzer.protocols import esp
from analyzer.protocols.ike.proposals import read_isakmp_proposals, read_proposals
from analyzer.protocols.ike.registry import (
    ENCRYPTED_FLAG,
    EXCHANGES,
    FIRST_PAYLOADS,
    FLAGS,
    GATEWAY_SIZES,
    INITIATOR_FLAG,
    NOTIFICATION_SIZES,
    REDIRECT,
    REDIRECTED_FROM,
    RESPONSE_FLAG,
    IsakmpPayloadType,
    PayloadType,
    notify_name,
)
from analyzer.safetext import decode_text
from analyzer.wire import Layout, Reader

PORTS: Final = (500, esp.NAT_TRAVERSAL_PORT)
NON_ESP_MARKER: Final = bytes(4)
"""Precedes an IKE message on port 4500, where an ESP packet has its SPI (RFC 3948, section 2.2)."""
NO_SPI: Final = bytes(8)

HEADER: Final = Layout(
    ("IKE SA Initiator's SPI", "8s"),
    ("IKE SA Responder's SPI", "8s"),
    ("Next Payload", "B"),
    ("Version", "B"),
    ("Exchange Type", "B"),
    ("Flags", "B"),
    ("Message ID", "I"),
    ("Length", "I"),
)
PAYLOAD_HEADER: Final = Layout(("Next Payload", "B"), ("Critical", "B"), ("Payload Length", "H"))
KEY_EXCHANGE: Final = Layout(("Key Exchange Method", "H"), ("RESERVED", "H"))
NOTIFY: Final = Layout(("Protocol ID", "B"), ("SPI Size", "B"), ("Notify Message Type", "H"))
DELETE: Final = Layout(("Protocol ID", "B"), ("SPI Size", "B"), ("Num of SPIs", "H"))

IPSEC_DOI, IDENTITY_ONLY = 1, 1
"""The Domain of Interpretation and the Situation that IPsec peers use (RFC 2407, sections 4.2 and 6.1)."""
NOTIFICATION_DATA: Final = 64
"""Bytes kept of Notification Data: the longest cookie."""


class IkeHeader(NamedTuple):
    """First item of a message; its payloads follow (RFC 7296, section 3.1). IKEv1 calls the SPIs cookies."""

    initiator_spi: bytes
    responder_spi: bytes
    next_payload: int
    major: int
    minor: int
    exchange: int
    flags: int
    message_id: int
    length: int
    """Bytes, with the header and without the non-ESP marker."""
    non_esp_marker: bool

    @property
    def response(self) -> bool:
        """IKEv2: the Response flag. IKEv1, which has none: whether a responder cookie is set."""
        return bool(self.flags & RESPONSE_FLAG) if self.major == 2 else self.responder_spi != NO_SPI

    @property
    def request_by_initiator(self) -> bool:
        """Whether the request of this exchange comes from the initiator of the SA."""
        return bool(self.flags & INITIATOR_FLAG) != self.response


class KeyExchange(NamedTuple):
    group: int | None
    """Key exchange method; ``None`` in IKEv1, which names it in the proposal only."""
    length: int
    """Bytes of key exchange data."""


class Nonce(NamedTuple):
    length: int
    """Bytes."""


class Notify(NamedTuple):
    protocol: int
    type: int
    spi: bytes
    data: bytes
    """First :data:`NOTIFICATION_DATA` bytes."""


class Gateway(NamedTuple):
    """Gateway in the preceding REDIRECT or REDIRECTED_FROM notification (RFC 5685, section 6)."""

    address: str
    """IPv4 or IPv6 address, or FQDN."""


class VendorId(NamedTuple):
    id: bytes


class NatDetection(NamedTuple):
    """NAT-D of IKEv1 (RFC 3947, section 3.2); IKEv2 uses a :class:`Notify`."""

    hash: bytes


class Identification(NamedTuple):
    payload: int
    """35 IDi, 36 IDr; 5 in IKEv1."""
    type: int
    """1 IPv4 address, 2 FQDN, 3 user at FQDN, 5 IPv6 address, 9 distinguished name, 11 key ID."""
    data: bytes


class CertificateRequest(NamedTuple):
    encoding: int
    authority: bytes


class Delete(NamedTuple):
    protocol: int
    spis: tuple[bytes, ...]


class Encrypted(NamedTuple):
    """The SK payload of IKEv2, or all payloads of an IKEv1 message with the Encryption flag."""

    next_payload: int
    """Type of the first payload inside."""
    length: int
    """Bytes of the payload's body."""


class EncryptedFragment(NamedTuple):
    """SKF (RFC 7383, section 2.5)."""

    next_payload: int
    number: int
    total: int
    length: int
    """Bytes of the payload's body."""


class IsakmpFragment(NamedTuple):
    """A fragment of an IKEv1 message (MS-IKEE, section 2.2.3.1)."""

    id: int
    number: int
    """Counts from 1."""
    last: bool
    length: int
    """Bytes of the fragment."""


class OtherPayload(NamedTuple):
    """A payload whose body is skipped."""

    type: int
    length: int
    """Bytes of the payload's body."""


# -- recognition ------------------------------------------------------------------------------------------------


def probe(head: Head) -> bool:
    """Whether datagrams are IKE: on its own ports by the shape of any header, elsewhere by a first complete message."""
    if head.transport != "udp":
        return False
    if head.ports[0] in PORTS or head.ports[1] in PORTS:
        return any(has_header_shape(datagram.data, marker_length(datagram.data)) for datagram in head.datagrams)
    return bool(head.datagrams) and is_complete_message(head.datagrams[0].data, head.datagrams[0].length)


def marker_length(data: bytes) -> int:
    """Bytes of the non-ESP marker that precedes a message: 4 or 0."""
    return 4 if data[:4] == NON_ESP_MARKER and data[4:12] != NO_SPI else 0


def has_header_shape(data: bytes, start: int) -> bool:
    """Whether an IKE header may begin at ``start``: version, exchange, flags and first payload are defined.

    Without a non-ESP marker, only the shape distinguishes an IKE message from an ESP packet. Then the two high-order
    bytes of the length, which no datagram needs, must be zero, too.
    """
    if len(data) < start + HEADER.size:
        return False
    major, minor = data[start + 17] >> 4, data[start + 17] & 0x0F
    return (
        major in EXCHANGES
        and minor == 0
        and data[start + 18] in EXCHANGES[major]
        and not data[start + 19] & ~FLAGS[major]
        and data[start + 16] in FIRST_PAYLOADS[major]
        and (start > 0 or data[24:26] == b"\x00\x00")
    )


def is_complete_message(data: bytes, length: int) -> bool:
    """Whether a datagram of ``length`` bytes is certainly one IKE message, whatever its ports."""
    start = marker_length(data)
    body = start + HEADER.size
    if not has_header_shape(data, start) or data[start : start + 8] == NO_SPI or data[start + 16] == 0:
        return False
    is_encrypted_v1 = data[start + 17] >> 4 == 1 and bool(data[start + 19] & ENCRYPTED_FLAG)
    first_payload_length = int.from_bytes(data[body + 2 : body + 4], "big")
    declared_length = int.from_bytes(data[start + 24 : body], "big")
    return declared_length == length - start and (is_encrypted_v1 or 4 <= first_payload_length <= length - body)


# -- dissection -------------------------------------------------------------------------------------------------


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """Read one datagram: an IKE message, an ESP packet inside UDP, or a NAT keepalive."""
    if reader.fence == 1:
        return esp.read_keepalive(reader)
    if reader.fence >= HEADER.size and len(reader.data) < HEADER.size:
        reader.take(HEADER.size, "IKE header")  # too few bytes were captured to distinguish IKE from ESP
    marker = marker_length(reader.data)
    if marker == 0 and not has_header_shape(reader.data, 0):
        return esp.read_packet(reader, udp_encapsulated=True)
    reader.take(marker, "non-ESP marker")
    return read_message(reader, marker > 0)


def read_message(reader: Reader, non_esp_marker: bool) -> Iterator[object]:
    """Read the header, then the payloads up to the declared length."""
    fields = reader.unpack(HEADER)
    initiator_spi, responder_spi, first, version, exchange, flags, message_id, length = fields
    major, minor = version >> 4, version & 0x0F
    yield IkeHeader(
        initiator_spi, responder_spi, first, major, minor, exchange, flags, message_id, length, non_esp_marker
    )
    if major not in EXCHANGES:
        reader.malformed("Version", f"major version {major} is neither 1 nor 2", reader.pos - 11)
    if length < HEADER.size:
        reader.malformed("Length", f"{length} bytes are less than the header itself", reader.pos - 4)
    body = reader.fenced(length - HEADER.size, "Length")
    if major == 1 and flags & ENCRYPTED_FLAG:
        yield Encrypted(first, skip(body))
    else:
        for payload in read_payloads(body, first, major):
            reader.pos = body.pos
            yield payload
    reader.pos = body.fence
    if reader.fence != body.fence and reader.has_more:
        reader.malformed("Length", f"{reader.fence - reader.pos} bytes follow the declared end of the message")


def read_payloads(body: Reader, first: int, major: int) -> Iterator[object]:
    """Read the chain of payloads (RFC 7296, section 3.2), which must end where the message ends."""
    kind = first
    while kind:
        next_payload, _, length = body.unpack(PAYLOAD_HEADER)
        if length < PAYLOAD_HEADER.size:
            reason = f"{length} bytes are less than the payload's own header"
            body.malformed("Payload Length", reason, body.pos - 2)
        with body.block(length - PAYLOAD_HEADER.size, "Payload Length") as payload:
            if major == 2:
                yield from read_payload(payload, kind, next_payload)
            else:
                yield from read_isakmp_payload(payload, kind)
        if major == 2 and kind in (PayloadType.ENCRYPTED, PayloadType.ENCRYPTED_FRAGMENT):
            break  # it is the last payload, and its Next Payload is the first one inside
        kind = next_payload
    if body.pos != body.fence:
        body.malformed("Next Payload", f"the chain ends {body.fence - body.pos} bytes before the message does")


def read_decrypted(plaintext: bytes, first: int) -> Iterator[object]:
    """Read the payloads inside an SK payload of IKEv2, given its plaintext without padding (RFC 7296, section 3.14).

    Of a message in fragments, the plaintext is that of all fragments together (RFC 7383, section 2.6).
    """
    return read_payloads(Reader(plaintext, 0, len(plaintext)), first, 2)


def read_payload(body: Reader, kind: int, next_payload: int) -> Iterator[object]:
    """Read the body of one IKEv2 payload."""
    match kind:
        case PayloadType.SECURITY_ASSOCIATION:
            yield from read_proposals(body)
        case PayloadType.KEY_EXCHANGE:
            group, _ = body.unpack(KEY_EXCHANGE)
            yield KeyExchange(group, skip(body))
        case PayloadType.ID_INITIATOR | PayloadType.ID_RESPONDER:
            id_type = body.u8("ID Type")
            body.u24("RESERVED")
            yield Identification(kind, id_type, body.rest("Identification Data"))
        case PayloadType.CERTIFICATE_REQUEST:
            yield CertificateRequest(body.u8("Cert Encoding"), body.rest("Certification Authority"))
        case PayloadType.NONCE:
            yield Nonce(skip(body))
        case PayloadType.NOTIFY:
            yield from read_notify(body)
        case PayloadType.DELETE:
            yield read_delete(body)
        case PayloadType.VENDOR_ID:
            yield VendorId(body.rest("Vendor ID"))
        case PayloadType.ENCRYPTED:
            yield Encrypted(next_payload, skip(body))
        case PayloadType.ENCRYPTED_FRAGMENT:
            length = body.fence - body.pos
            number, total = body.u16("Fragment Number"), body.u16("Total Fragments")
            if not 1 <= number <= total:
                body.malformed("Fragment Number", f"fragment {number} of {total}", body.pos - 4)
            skip(body)
            yield EncryptedFragment(next_payload, number, total, length)
        case _:
            yield OtherPayload(kind, skip(body))


def read_isakmp_payload(body: Reader, kind: int) -> Iterator[object]:
    """Read the body of one IKEv1 payload that is not encrypted."""
    match kind:
        case IsakmpPayloadType.SECURITY_ASSOCIATION:
            if body.u32("DOI") == IPSEC_DOI and body.u32("Situation") == IDENTITY_ONLY:
                yield from read_isakmp_proposals(body)
            else:
                skip(body)
        case IsakmpPayloadType.KEY_EXCHANGE:
            yield KeyExchange(None, skip(body))
        case IsakmpPayloadType.IDENTIFICATION:
            id_type = body.u8("ID Type")
            body.u24("Protocol ID and Port")
            yield Identification(kind, id_type, body.rest("Identification Data"))
        case IsakmpPayloadType.CERTIFICATE_REQUEST:
            yield CertificateRequest(body.u8("Cert Encoding"), body.rest("Certification Authority"))
        case IsakmpPayloadType.NONCE:
            yield Nonce(skip(body))
        case IsakmpPayloadType.NOTIFICATION:
            body.u32("DOI")
            yield read_isakmp_notification(body)
        case IsakmpPayloadType.DELETE:
            body.u32("DOI")
            yield read_delete(body)
        case IsakmpPayloadType.VENDOR_ID:
            yield VendorId(body.rest("Vendor ID"))
        case IsakmpPayloadType.NAT_DETECTION | IsakmpPayloadType.NAT_DETECTION_DRAFT:
            yield NatDetection(body.rest("NAT-D"))
        case IsakmpPayloadType.FRAGMENT:
            identifier, number, flags = body.u16("Fragment ID"), body.u8("Fragment Number"), body.u8("Flags")
            if not number:
                body.malformed("Fragment Number", "fragments count from 1", body.pos - 2)
            yield IsakmpFragment(identifier, number, bool(flags & 1), skip(body))
        case _:
            yield OtherPayload(kind, skip(body))


def skip(body: Reader) -> int:
    """Skip to the declared end, whether or not the bytes were captured; how many bytes that is."""
    length = body.fence - body.pos
    body.pos = body.fence
    return length


def read_notify(body: Reader) -> Iterator[object]:
    protocol, spi_size, kind = body.unpack(NOTIFY)
    spi = body.take(spi_size, "SPI")
    start = body.pos
    data = body.rest("Notification Data")
    yield Notify(protocol, kind, spi, data[:NOTIFICATION_DATA])
    least, most = NOTIFICATION_SIZES.get(kind, (0, len(data)))
    if not least <= len(data) <= most:
        expected = f"{least} bytes" if least == most else f"{least} to {most} bytes"
        body.malformed("Notification Data", f"{len(data)} bytes, {notify_name(2, kind)} has {expected}", start)
    if kind in (REDIRECT, REDIRECTED_FROM):
        yield read_gateway(Reader(body.data, start, body.fence), kind)


def read_isakmp_notification(body: Reader) -> Notify:
    protocol, spi_size, kind = body.unpack(NOTIFY)
    spi = body.take(spi_size, "SPI")
    return Notify(protocol, kind, spi, body.rest("Notification Data")[:NOTIFICATION_DATA])


def read_gateway(data: Reader, kind: int) -> Gateway:
    """Read the gateway in the data of a REDIRECT or REDIRECTED_FROM (RFC 5685, sections 6.1 to 6.3)."""
    identity_type, size = data.u8("GW Ident Type"), data.u8("GW Ident Len")
    if GATEWAY_SIZES.get(identity_type, size) != size:
        reason = f"{size} bytes, an address of type {identity_type} has {GATEWAY_SIZES[identity_type]}"
        data.malformed("GW Ident Len", reason, data.pos - 1)
    with data.block(size, "GW Ident Len") as inner:
        identity = inner.rest("New Responder GW Identity")
    if kind == REDIRECTED_FROM and data.has_more:  # only a REDIRECT goes on, with a nonce
        data.malformed("GW Ident Len", f"{data.fence - data.pos} bytes are left over behind the gateway")
    return Gateway(str(ipaddress.ip_address(identity)) if identity_type in GATEWAY_SIZES else decode_text(identity))


def read_delete(body: Reader) -> Delete:
    protocol, spi_size, count = body.unpack(DELETE)
    with body.block(spi_size * count, "Num of SPIs") as spis:
        raw = spis.rest("SPIs")
    return Delete(protocol, tuple(raw[at : at + spi_size] for at in range(0, len(raw), spi_size or 1)))
