"""The record layer: one direction of a TLS stream, record by record, up to where encryption hides the rest.

RFC 8446 section 5.1, RFC 5246 section 6.2.1. Handshake messages may share records and may be split over them.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from analyzer.heads import Direction, Head, Stream
from analyzer.protocols.tls.handshake import (
    BODIES,
    ServerHello,
    ecdhe_parameters,
    handshake,
    parameters,
    ssl2_client_hello,
    ssl2_client_master_key,
    ssl2_lengths_agree,
    ssl2_server_hello,
)
from analyzer.protocols.tls.registry import HANDSHAKE_NAMES, TLS_1_0, ContentType, HandshakeType
from analyzer.wire import UNBOUNDED, Reader

MAXIMUM_LENGTH: Final = (1 << 14) + 2048
"""Of a record's content, in bytes: the largest that any version allows (TLSCiphertext, RFC 5246 section 6.2.3)."""


CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT = ContentType
RECORD_HEADER: Final = struct.Struct(">BHH")
HANDSHAKE_HEADER: Final = struct.Struct(">I")


class ChangeCipherSpec(NamedTuple):
    """In TLS 1.3 without meaning (RFC 8446 appendix D.4); before it, all records that follow are encrypted."""


class Alert(NamedTuple):
    """An alert in clear (RFC 8446 section 6)."""

    level: int
    """1 warning, 2 fatal."""
    description: int


class Heartbeat(NamedTuple):
    """RFC 6520."""

    length: int


class EncryptedRecord(NamedTuple):
    """A handshake message or an alert that only the two ends can read. Nothing behind an alert is read."""

    content_type: int


class ApplicationData(NamedTuple):
    """The first record of application data, which in TLS 1.3 may be anything. Nothing behind it is read."""

    version: int
    """legacy_record_version of TLS 1.3; before it, the version negotiated."""


def probe(head: Head) -> bool:
    """Whether the client began with TLS or SSL; where its beginning is not seen, whether either side did.

    What a server answers does not matter: TLS that is answered by something else is still TLS that was asked for.
    """
    if head.transport != "tcp":
        return False
    client, server = head.streams
    if client.data and (client.begins or begins_with_tls(client)):
        return begins_with_tls(client)
    return begins_with_tls(server)


def begins_with_tls(stream: Stream) -> bool:
    """Whether a record of TLS or a hello of SSL 2.0 stands at the beginning."""
    data = stream.data
    if not is_record_header(data):
        return ssl2_lengths_agree(data)
    following = data[5 + int.from_bytes(data[3:5], "big") :]
    if len(following) >= 5 and is_record_header(following):
        return True
    if data[0] == HANDSHAKE and len(data) > 5:
        return data[5] in HANDSHAKE_NAMES
    return len(following) < 5


def is_record_header(data: bytes) -> bool:
    return (
        len(data) >= 5
        and 20 <= data[0] <= 24
        and data[1] == 3
        and data[2] <= 4
        and int.from_bytes(data[3:5], "big") <= MAXIMUM_LENGTH
    )


@dataclass(slots=True)
class Outline:
    """Which bytes of a stream may differ in another stream of the same messages."""

    variable: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of bytes that do not decide which messages there are: encrypted, not kept, or taken into a
    message as they are."""
    client_certificates: list[int] = field(default_factory=list)
    """Where each certificate of a client begins."""
    encrypted: list[int] = field(default_factory=list)
    """Where the content of each encrypted handshake record begins."""
    complete: bool = True
    """The fields above tell all; else every byte of the stream may matter."""

    def add(self, data: bytes, kind: int, begin: int, end: int, suite: int | None) -> None:
        """Add the body of a handshake message; ``suite``: chosen by the server that sent it, ``None``: a client's."""
        if kind in (HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO):
            session_id = begin + 35
            self.variable += (begin + 2, begin + 34), (session_id, session_id + data[begin + 34])
            self.complete &= data[begin] == TLS_1_0 >> 8  # the drafts of TLS 1.3 had no session id
        elif kind == HandshakeType.SERVER_KEY_EXCHANGE and suite is not None and parameters(suite) is not None:
            self.variable.append((min(begin + 4, end), end))
            self.complete &= parameters(suite) is ecdhe_parameters
        elif kind == HandshakeType.CERTIFICATE and suite is None:
            begin += 3
            while begin < end:
                begin += 3
                self.client_certificates.append(begin)
                begin += int.from_bytes(data[begin - 3 : begin], "big")
                self.variable.append((self.client_certificates[-1], begin))
        elif kind not in BODIES:
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
    if begins_like_ssl2(reader) and (yield from ssl2_records(reader)):
        return
    while reader.has_more:
        content_type, version, length = record_header(reader)
        if content_type == HANDSHAKE:
            body = reader.fenced(length, "handshake record")
            if cipher_changed and not is_hello(body.take(min(6, length), "handshake record")):
                begin, reader.pos = reader.pos, min(reader.pos + length, reader.limit)
                outline.encrypted.append(begin)
                outline.variable.append((begin, reader.pos))
                yield EncryptedRecord(content_type)
                if reader.left < RECORD_HEADER.size:
                    return
                continue
            body = reader.fenced(length, "handshake record")
            end = body.fence
            while body.has_more:
                header = handshake_header(body)
                if header is None:
                    reader.pos = end
                    body = spliced(reader, body)
                    outline.complete = False
                    end = reader.pos
                    header = body.u32("handshake type and length")
                kind, size = header >> 24, header & 0xFFFFFF
                with body.block(size, HANDSHAKE_NAMES.get(kind, "handshake message")) as message:
                    for found in handshake(message, kind, suite):
                        if isinstance(found, ServerHello):
                            suite = found.cipher_suite
                        reader.pos = message.pos if message.pos < end else end  # where the next message begins
                        yield found
                outline.add(body.data, kind, body.pos - size, body.pos, suite)
            reader.pos = end
        elif content_type == ALERT:
            alert = reader.fenced(length, "alert record")
            if length != 2:
                begin, reader.pos = reader.pos, min(reader.pos + length, reader.limit)
                outline.variable.append((begin, reader.pos))
                yield EncryptedRecord(content_type)
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
            yield ApplicationData(version)
            return


def record_header(reader: Reader) -> tuple[int, int, int]:
    """Content type, version and length (in bytes) of the next record."""
    content_type, version, length = RECORD_HEADER.unpack(reader.take(5, "record header"))
    if not 20 <= content_type <= 24:
        reader.malformed("content type", f"{content_type} is no TLS content type", reader.pos - 5)
    if not 0x0300 <= version <= 0x0304:
        reader.malformed("record version", f"0x{version:04x} is no TLS version", reader.pos - 4)
    if length > MAXIMUM_LENGTH:
        reader.malformed("record length", f"{length} bytes are more than {MAXIMUM_LENGTH}", reader.pos - 2)
    if length == 0 and content_type != APPLICATION_DATA:
        reader.malformed("record length", "only application data may be empty", reader.pos - 2)
    return content_type, version, length


def is_hello(start: bytes) -> bool:
    """Whether a handshake record behind a ChangeCipherSpec is in clear all the same: its first six bytes are those of
    the second hello that a client or server sends after a HelloRetryRequest (RFC 8446 appendix D.4)."""
    return start[:2] in (b"\x01\x00", b"\x02\x00") and start[4:] == b"\x03\x03"


def handshake_header(body: Reader) -> int | None:
    """Type (8 bits) and length (24 bits) of the next handshake message; ``None``: it does not end within ``body``."""
    start = body.pos + HANDSHAKE_HEADER.size
    if start > body.limit:
        return None
    header: int = HANDSHAKE_HEADER.unpack_from(body.data, body.pos)[0]
    if start + (header & 0xFFFFFF) > body.fence:
        return None
    body.pos = start
    return header


def spliced(reader: Reader, body: Reader) -> Reader:
    """A reader over the handshake message that begins at the end of ``body`` and the records that continue it.

    Its offsets are those of the stream up to the first seam; behind a seam they fall short by the record headers
    left out (5 bytes each). What the capture does not hold is missing at its end.
    """
    parts = [body.peek(body.left)]
    if body.pos + len(parts[0]) < body.fence:  # the capture ends within this record: reading on says what is missing
        return Reader(body.data, body.pos)
    start = reader.pos - len(parts[0])
    had = len(parts[0])
    needed = message_length(parts)
    while had < needed and reader.left >= 5:
        content_type, _, length = record_header(reader)
        if content_type != HANDSHAKE:
            reader.malformed("handshake message", f"a record of type {content_type} interrupts it", reader.pos - 5)
        part = reader.peek(reader.fenced(length, "handshake record").fence - reader.pos)
        parts.append(part)
        reader.pos += len(part)
        had += len(part)
        needed = message_length(parts) if needed == 4 else needed
    over = had >= needed or reader.fence != UNBOUNDED
    return Reader(reader.data[:start] + b"".join(parts), start, start + had if over else UNBOUNDED)


def message_length(parts: list[bytes]) -> int:
    """Length of the handshake message that begins ``parts``, with its header; 4 while the header is not there."""
    start = b"".join(parts[:4])[:4]
    return 4 + int.from_bytes(start[1:], "big") if len(start) == 4 else 4


def begins_like_ssl2(reader: Reader) -> bool:
    """Whether the stream begins with a hello of SSL 2.0, whose record headers have the highest bit set."""
    start = reader.peek(3)
    return start >= b"\x80" and start[2:] in (b"", b"\x01", b"\x04")


def ssl2_records(reader: Reader) -> Generator[object, None, bool]:
    """The records of SSL 2.0 in clear. Returns whether SSL 2.0 goes on, encrypted.

    A client that also speaks SSL 3.0 or TLS may begin with a hello of SSL 2.0 and go on in the newer format.
    """
    with reader.block(reader.u16("record length") & 0x7FFF, "SSL 2.0 record") as message:
        if message.u8("message type") == 4:
            yield from ssl2_server_hello(message)
            return True
        yield from ssl2_client_hello(message)
    if reader.peek(1) < b"\x80":
        return False
    with reader.block(reader.u16("record length") & 0x7FFF, "SSL 2.0 record") as message:
        if message.u8("message type") == 2:
            yield ssl2_client_master_key(message)
        message.rest("encrypted")
    return True
