"""The TLS record layer: one direction of a stream, record by record, until encryption hides the rest.

RFC 8446, section 5.1; RFC 5246, section 6.2.1. A record may hold several handshake messages, and a message may be split
over several records.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import field
from typing import Final, NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Frame, Head, SecureConnection, Stream
from analyzer.protocols.tls.handshake import (
    BODY_READERS,
    ServerHello,
    is_ssl2_hello,
    key_exchange_reader,
    read_ecdhe_parameters,
    read_handshake,
    read_ssl2_client_hello,
    read_ssl2_client_master_key,
    read_ssl2_server_hello,
)
from analyzer.protocols.tls.registry import HANDSHAKE_NAMES, SSL_3_0, TLS_1_0, TLS_1_3, ContentType, HandshakeType
from analyzer.scanner import columns
from analyzer.wire import UNBOUNDED, Anomaly, Cause, Reader

MAX_LENGTH: Final = (1 << 14) + 2048
"""Bytes of a record's content: the largest that any version allows (TLSCiphertext, RFC 5246, section 6.2.3)."""

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT = ContentType
RECORD_HEADER: Final = struct.Struct(">BHH")
HANDSHAKE_HEADER: Final = struct.Struct(">I")
HELLO_PREFIX: Final = 6
"""Bytes by which :func:`is_hello` recognises a hello: handshake header and version."""
SSL2_CLIENT_MASTER_KEY, SSL2_SERVER_HELLO = 2, 4
"""Message types of SSL 2.0; CLIENT-HELLO is 1."""


class ChangeCipherSpec(NamedTuple):
    """Before TLS 1.3, all records after it are encrypted; in TLS 1.3 it means nothing (RFC 8446, appendix D.4)."""


class Alert(NamedTuple):
    """An alert in clear (RFC 8446, section 6)."""

    level: int
    """1 warning, 2 fatal."""
    description: int


class Heartbeat(NamedTuple):
    """RFC 6520."""

    length: int


class EncryptedRecord(NamedTuple):
    """An encrypted handshake message or alert. Nothing after an encrypted alert is read."""

    content_type: int
    length: int = 0
    """Declared length of the record's content, in bytes."""


class ApplicationData(NamedTuple):
    """The first record of application data; in TLS 1.3 it may hold anything. Nothing after its header is read."""

    version: int
    """The negotiated version; in TLS 1.3, legacy_record_version."""
    length: int = 0
    """Declared length of the record's content, in bytes."""


# -- recognition ------------------------------------------------------------------------------------------------


def probe(head: Head) -> bool:
    """Whether the client begins with TLS or SSL; if its beginning is missing, whether either side does.

    The server's answer does not matter, so that a request for TLS is TLS even if it is answered with something else.
    """
    if head.transport != "tcp":
        return False
    client, server = head.streams
    if client.data and (client.begins or begins_with_tls(client)):
        return begins_with_tls(client)
    return begins_with_tls(server)


def begins_with_tls(stream: Stream) -> bool:
    """Whether a stream begins with a TLS record or a hello of SSL 2.0."""
    data = stream.data
    if not is_record_header(data):
        return is_ssl2_hello(data)
    following = data[5 + int.from_bytes(data[3:5], "big") :]
    if len(following) >= 5 and is_record_header(following):
        return True
    if data[0] == HANDSHAKE and len(data) > 5:
        return data[5] in HANDSHAKE_NAMES
    return len(following) < 5


def is_record_header(data: bytes) -> bool:
    return (
        len(data) >= RECORD_HEADER.size
        and CHANGE_CIPHER_SPEC <= data[0] <= HEARTBEAT
        and data[1] == 3
        and data[2] <= 4
        and int.from_bytes(data[3:5], "big") <= MAX_LENGTH
    )


# -- dissection -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Outline:
    """Which bytes of a stream may differ in another stream of the same messages."""

    variable: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of bytes that do not decide which messages there are: encrypted, not kept, or copied into a
    message."""
    client_certificates: list[int] = field(default_factory=list)
    """Where each certificate of a client begins."""
    encrypted: list[int] = field(default_factory=list)
    """Where the content of each encrypted handshake record begins."""
    complete: bool = True
    """Whether the fields above name all such bytes; otherwise the stream is no example for others."""

    def add(self, data: bytes, kind: int, begin: int, end: int, suite: int | None) -> None:
        """Add the body of a handshake message. ``suite``: chosen by the server that sent it; ``None``: a client's."""
        if kind in (HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO):
            session_id = begin + 35
            self.variable += (begin + 2, begin + 34), (session_id, session_id + data[begin + 34])
            self.complete &= data[begin] == TLS_1_0 >> 8  # early drafts of TLS 1.3 have no session ID
        elif kind == HandshakeType.SERVER_KEY_EXCHANGE and suite is not None and key_exchange_reader(suite) is not None:
            self.variable.append((min(begin + 4, end), end))
            self.complete &= key_exchange_reader(suite) is read_ecdhe_parameters
        elif kind == HandshakeType.CERTIFICATE and suite is None:
            begin += 3
            while begin < end:
                begin += 3
                self.client_certificates.append(begin)
                begin += int.from_bytes(data[begin - 3 : begin], "big")
                self.variable.append((self.client_certificates[-1], begin))
        elif kind not in BODY_READERS:
            self.variable.append((begin, end))


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """Messages of one direction, up to the first application data or encrypted alert.

    Yields ClientHello, ServerHello, ServerName, SessionTicket, ApplicationProtocols, SupportedVersions, Extensions,
    CertificateEntry, Certificate, ServerKeyExchange, Handshake, ClientMasterKey, ChangeCipherSpec, Alert, Heartbeat,
    EncryptedRecord, ApplicationData.
    """
    return read_records(reader, Outline())


def read_records(reader: Reader, outline: Outline) -> Iterator[object]:
    """As :func:`dissect`; fills an outline on the way."""
    suite: int | None = None
    cipher_changed = False
    if begins_with_ssl2_header(reader) and (yield from read_ssl2_records(reader)):
        return
    while reader.has_more:
        content_type, version, length = read_record_header(reader)
        if content_type == HANDSHAKE:
            body = reader.fenced(length, "handshake record")
            if cipher_changed and not is_hello(body.take(min(HELLO_PREFIX, length), "handshake record")):
                outline.encrypted.append(reader.pos)
                outline.variable.append(skip_encrypted(reader, length))
                yield EncryptedRecord(content_type, length)
                if reader.left < RECORD_HEADER.size:
                    return
            else:
                suite = yield from read_handshake_record(reader, length, suite, outline)
        elif content_type == ALERT:
            alert = reader.fenced(length, "alert record")
            if length != 2:
                outline.variable.append(skip_encrypted(reader, length))
                yield EncryptedRecord(content_type, length)
                return
            level, description = alert.u8("level"), alert.u8("description")
            reader.pos = alert.pos
            yield Alert(level, description)
        elif content_type == CHANGE_CIPHER_SPEC:
            if length != 1 or reader.peek(1) not in (b"", b"\x01"):
                reader.malformed("change_cipher_spec", f"holds {length} bytes, not the single byte 1")
            reader.take(1, "change_cipher_spec")
            cipher_changed = True
            yield ChangeCipherSpec()
        elif content_type == HEARTBEAT:
            reader.take(length, "heartbeat record")
            yield Heartbeat(length)
        else:
            yield ApplicationData(version, length)
            return


def read_record_header(reader: Reader) -> tuple[int, int, int]:
    """Content type, version, and length in bytes of the next record."""
    content_type, version, length = RECORD_HEADER.unpack(reader.take(RECORD_HEADER.size, "record header"))
    field, reason, place = header_defect(content_type, version, length)
    if field:
        reader.malformed(field, reason, reader.pos - RECORD_HEADER.size + place)
    if length == 0 and content_type != APPLICATION_DATA:
        reader.malformed("record length", "only application data may be empty", reader.pos - 2)
    return content_type, version, length


def header_defect(content_type: int, version: int, length: int) -> tuple[str, str, int]:
    """The field of a record header that no version of TLS allows, the reason, and the field's offset in the header.

    The field is empty if there is none.
    """
    if not CHANGE_CIPHER_SPEC <= content_type <= HEARTBEAT:
        return "content type", f"{content_type} is no TLS content type", 0
    if not SSL_3_0 <= version <= TLS_1_3:
        return "record version", f"0x{version:04x} is no TLS version", 1
    if length > MAX_LENGTH:
        return "record length", f"{length} bytes are more than {MAX_LENGTH}", 3
    return "", "", 0


def anomalies(secure: SecureConnection) -> Iterator[tuple[Anomaly, Direction, Frame, int]]:
    """The broken framing that the scanner found in a connection: anomaly, sender, frame, and its time."""
    for event in secure.events:
        if event.kind == columns.RECORD_BREAK:
            header = event.value >> 32, event.value >> 16 & 0xFFFF, event.value & 0xFFFF
            field, reason, place = header_defect(*header)
            yield Anomaly(Cause.MALFORMED, field, event.offset + place, reason), *event[1:4]
        elif event.kind == columns.RECORD_LOST:
            reason = f"{event.value:,} bytes in a row hold none"
            yield Anomaly(Cause.MALFORMED, "record header", event.offset, reason), *event[1:4]


def skip_encrypted(reader: Reader, length: int) -> tuple[int, int]:
    """Skip the content of a record as far as it was captured; its begin and end."""
    begin = reader.pos
    reader.pos = min(begin + length, reader.limit)
    return begin, reader.pos


def is_hello(start: bytes) -> bool:
    """Whether a handshake record after a ChangeCipherSpec is in clear, given its first :data:`HELLO_PREFIX` bytes.

    It is the second hello of a client or server after a HelloRetryRequest (RFC 8446, appendix D.4).
    """
    return start[:2] in (b"\x01\x00", b"\x02\x00") and start[4:] == b"\x03\x03"


def read_handshake_record(
    reader: Reader, length: int, suite: int | None, outline: Outline
) -> Generator[object, None, int | None]:
    """Read the handshake messages of a record, and of the records that continue the last of them.

    ``suite``, and the result: the last cipher suite that a ServerHello of this direction chose.
    """
    body = reader.fenced(length, "handshake record")
    end = body.fence
    while body.has_more:
        header = read_handshake_header(body)
        if header is None:
            reader.pos = end
            body = join_records(reader, body)
            outline.complete = False
            end = reader.pos
            header = body.u32("handshake type and length")
        kind, size = header >> 24, header & 0xFFFFFF
        with body.block(size, HANDSHAKE_NAMES.get(kind, "handshake message")) as block:
            for message in read_handshake(block, kind, suite):
                if isinstance(message, ServerHello):
                    suite = message.cipher_suite
                reader.pos = min(block.pos, end)
                yield message
        outline.add(body.data, kind, body.pos - size, body.pos, suite)
    reader.pos = end
    return suite


def read_handshake_header(body: Reader) -> int | None:
    """Type (8 bits) and length (24 bits) of the next handshake message; ``None``: it does not end within ``body``."""
    start = body.pos + HANDSHAKE_HEADER.size
    if start > body.limit:
        return None
    header: int = HANDSHAKE_HEADER.unpack_from(body.data, body.pos)[0]
    if start + (header & 0xFFFFFF) > body.fence:
        return None
    body.pos = start
    return header


def join_records(reader: Reader, body: Reader) -> Reader:
    """A reader over the handshake message that begins in ``body`` and continues in the records that follow.

    Its offsets are those of the stream in the first record; after it, they are 5 bytes lower per record, because record
    headers are left out. It ends early if the capture does.
    """
    parts = [body.peek(body.left)]
    if body.pos + len(parts[0]) < body.fence:  # the capture ends within this record, and so does the message
        return Reader(body.data, body.pos)
    start = reader.pos - len(parts[0])
    joined = len(parts[0])
    needed = message_length(parts)
    while joined < needed and reader.left >= RECORD_HEADER.size:
        content_type, _, length = read_record_header(reader)
        if content_type != HANDSHAKE:
            reader.malformed("handshake message", f"a record of type {content_type} interrupts it", reader.pos - 5)
        part = reader.peek(reader.fenced(length, "handshake record").fence - reader.pos)
        parts.append(part)
        reader.pos += len(part)
        joined += len(part)
        needed = message_length(parts) if needed == HANDSHAKE_HEADER.size else needed
    ends = joined >= needed or reader.fence != UNBOUNDED
    return Reader(reader.data[:start] + b"".join(parts), start, start + joined if ends else UNBOUNDED)


def message_length(parts: list[bytes]) -> int:
    """Bytes of the handshake message that begins with some parts, header included; 4 until the header is complete."""
    header = b"".join(parts[:4])[:4]
    return 4 + int.from_bytes(header[1:], "big") if len(header) == 4 else 4


# -- SSL 2.0 ----------------------------------------------------------------------------------------------------


def begins_with_ssl2_header(reader: Reader) -> bool:
    """Whether the stream begins with a hello of SSL 2.0, whose two-byte record header has the highest bit set."""
    start = reader.peek(3)
    return start >= b"\x80" and start[2:] in (b"", b"\x01", b"\x04")


def read_ssl2_records(reader: Reader) -> Generator[object, None, bool]:
    """Read the records of SSL 2.0 in clear. Returns whether the rest is SSL 2.0, too, and encrypted.

    A client that also supports SSL 3.0 or TLS may begin with a hello of SSL 2.0 and continue in the newer format.
    """
    with reader.block(reader.u16("record length") & 0x7FFF, "SSL 2.0 record") as record:
        if record.u8("message type") == SSL2_SERVER_HELLO:
            yield from read_ssl2_server_hello(record)
            return True
        yield from read_ssl2_client_hello(record)
    if reader.peek(1) < b"\x80":
        return False
    with reader.block(reader.u16("record length") & 0x7FFF, "SSL 2.0 record") as record:
        if record.u8("message type") == SSL2_CLIENT_MASTER_KEY:
            yield read_ssl2_client_master_key(record)
        record.rest("encrypted")
    return True
