"""The handshake messages of TLS and the hellos of SSL 2.0, each read from a reader fenced to its declared length.

RFC 8446 section 4 (TLS 1.3), RFC 5246 section 7.4 (TLS 1.2), RFC 6101 (SSL 3.0),
draft-hickman-netscape-ssl-00 (SSL 2.0).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from analyzer.protocols.tls.registry import (
    EXTENSION_NAMES,
    SSL_2_0,
    ExtensionType,
    HandshakeType,
    cipher_suite_name,
)
from analyzer.safetext import decode_text
from analyzer.wire import Layout, Reader

HELLO_RETRY_RANDOM: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""A ServerHello with this random is a HelloRetryRequest (RFC 8446 section 4.1.3)."""


CLIENT_HELLO: Final = Layout(("client_version", "H"), ("random", "32s"), ("session_id length", "B"))
SERVER_HELLO: Final = Layout(("server_version", "H"), ("random", "32s"))
EXTENSION_HEADER: Final = struct.Struct(">HH")


class ClientHello(NamedTuple):
    """Yielded before its extensions are read."""

    version: int
    """legacy_version of TLS 1.3; before it, the highest version that the client offers."""
    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    """In the client's order; cipher kinds of three bytes in a hello of SSL 2.0."""
    compression_methods: bytes
    ssl2: bool = False
    """In the format of SSL 2.0, whatever the version (RFC 5246 appendix E.2)."""


class ServerHello(NamedTuple):
    """Yielded before its extensions are read."""

    version: int
    """legacy_version of TLS 1.3; before it, the version chosen."""
    random: bytes
    session_id: bytes
    cipher_suite: int | None
    """``None`` in SSL 2.0, where the client chooses."""
    compression_method: int

    @property
    def hello_retry_request(self) -> bool:
        return self.random == HELLO_RETRY_RANDOM


class ServerName(NamedTuple):
    """Extension of a ClientHello (RFC 6066 section 3)."""

    names: tuple[str, ...]
    """Host names; clients put IP literals here too, though the RFC does not allow it."""


class SessionTicket(NamedTuple):
    """A client's ticket of an earlier session (RFC 5077 section 3.2); one that only asks for a ticket says nothing."""

    length: int
    """In bytes."""


class ApplicationProtocols(NamedTuple):
    """ALPN extension (RFC 7301)."""

    names: tuple[bytes, ...]
    by_server: bool


class SupportedVersions(NamedTuple):
    """RFC 8446 section 4.2.1."""

    versions: tuple[int, ...]
    """What the client offers; or the one that the server chose."""
    by_server: bool


class Extensions(NamedTuple):
    """All extensions of a hello were read."""

    hello: HandshakeType
    types: tuple[int, ...] = ()
    """In the order of the hello."""
    supported_groups: tuple[int, ...] = ()
    ec_point_formats: tuple[int, ...] = ()
    signature_algorithms: tuple[int, ...] = ()
    key_share: tuple[int, ...] = ()
    """Groups of the shares; of a server the one chosen."""


class CertificateEntry(NamedTuple):
    """One certificate of a Certificate message, the sender's own first."""

    position: int
    data: bytes
    """DER, as sent; nobody promises that it is a certificate."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A Certificate message was read to its end."""

    entries: int


class ServerKeyExchange(NamedTuple):
    """The group of an ephemeral key exchange (RFC 5246 section 7.4.3, RFC 8422 section 5.4)."""

    group: int | None
    """A named curve."""
    prime_bits: int | None
    """Size of the Diffie-Hellman prime."""


class Handshake(NamedTuple):
    """A handshake message in clear whose body is not read further."""

    type: int
    length: int
    """Of the body, in bytes."""


class ClientMasterKey(NamedTuple):
    """SSL 2.0: the client's choice of a cipher kind."""

    cipher_kind: int


def handshake(message: Reader, kind: int, suite: int | None) -> Iterator[object]:
    """The messages in one handshake message's body. ``suite``: the last that this direction's ServerHello chose."""
    read = BODIES.get(kind)
    if read is None and suite is not None and kind == HandshakeType.SERVER_KEY_EXCHANGE:
        read = parameters(suite)
    return read(message) if read is not None else other(message, kind)


def client_hello(message: Reader) -> Iterator[object]:
    """RFC 8446 section 4.1.2."""
    version, random, session_size = message.unpack(CLIENT_HELLO)
    session_id = message.take(session_size, "session_id")
    suites = u16_list(message, message.u16("cipher_suites length"), "cipher_suites")
    compression_methods = message.take(message.u8("compression_methods length"), "compression_methods")
    yield ClientHello(version, random, session_id, suites, compression_methods)
    yield from extensions(message, HandshakeType.CLIENT_HELLO, False)


def server_hello(message: Reader) -> Iterator[object]:
    """RFC 8446 section 4.1.3. The drafts of TLS 1.3 below 22 had neither session id nor compression method."""
    version, random = message.unpack(SERVER_HELLO)
    early_draft = 0x7F00 <= version < 0x7F16
    session_id = b"" if early_draft else message.take(message.u8("session_id length"), "session_id")
    suite = message.u16("cipher_suite")
    compression_method = 0 if early_draft else message.u8("compression_method")
    yield ServerHello(version, random, session_id, suite, compression_method)
    yield from extensions(message, HandshakeType.SERVER_HELLO, random == HELLO_RETRY_RANDOM)


def extensions(message: Reader, hello: HandshakeType, retry: bool) -> Iterator[object]:
    """RFC 8446 section 4.2; a hello without any ends before their length."""
    from_client = hello is HandshakeType.CLIENT_HELLO
    types: list[int] = []
    lists: dict[str, tuple[int, ...]] = {}
    if message.has_more:
        with message.block(message.u16("extensions length"), "extensions") as block:
            while block.has_more:
                kind, size = EXTENSION_HEADER.unpack(block.take(4, "extension type and length"))
                types.append(kind)
                if kind not in EXTENSION_NAMES:
                    block.take(size, "extension_data")
                    continue
                name = EXTENSION_NAMES[kind]
                with block.block(size, name) as body:
                    found = extension(body, kind, from_client, retry)
                if type(found) is tuple:  # a message is a named tuple
                    lists[name] = found
                elif found is not None:
                    yield found
    yield Extensions(hello, tuple(types), **lists)


def extension(body: Reader, kind: int, from_client: bool, retry: bool) -> object | tuple[int, ...] | None:
    """A message, or a list of code points that :class:`Extensions` gathers, or nothing that is kept."""
    if kind == ExtensionType.SERVER_NAME:
        return ServerName(server_names(body)) if from_client else None
    if kind == ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION:
        return ApplicationProtocols(protocol_names(body), not from_client)
    if kind == ExtensionType.SUPPORTED_VERSIONS:
        size = body.u8("versions length") if from_client else 2
        return SupportedVersions(u16_list(body, size, "versions"), not from_client)
    if kind in (ExtensionType.SUPPORTED_GROUPS, ExtensionType.SIGNATURE_ALGORITHMS):
        return u16_list(body, body.u16("list length"), EXTENSION_NAMES[kind])
    if kind == ExtensionType.EC_POINT_FORMATS:
        return tuple(body.take(body.u8("list length"), "ec_point_formats"))
    if kind == ExtensionType.KEY_SHARE:
        return key_shares(body) if from_client else (server_share(body, retry),)
    if kind == ExtensionType.SESSION_TICKET:
        size = body.left
        body.rest("ticket")
        return SessionTicket(size) if size and from_client else None
    if kind == ExtensionType.PRE_SHARED_KEY:
        pre_shared_keys(body, from_client)
    elif from_client:
        status_request(body)
    else:
        body.rest("status_request")
    return None


UNIQUE: Final = frozenset((ExtensionType.KEY_SHARE, ExtensionType.PRE_SHARED_KEY))
"""Extensions that differ from hello to hello."""


def server_names(body: Reader) -> tuple[str, ...]:
    """RFC 6066 section 3."""
    names = []
    with body.block(body.u16("server_name_list length"), "server_name_list") as entries:
        while entries.has_more:
            kind = entries.u8("name_type")
            name = entries.take(entries.u16("server_name length"), "server_name")
            if kind == 0:
                names.append(decode_text(name))
    return tuple(names)


def protocol_names(body: Reader) -> tuple[bytes, ...]:
    """RFC 7301 section 3.1."""
    names = []
    with body.block(body.u16("protocol_name_list length"), "protocol_name_list") as entries:
        while entries.has_more:
            names.append(entries.take(entries.u8("protocol_name length"), "protocol_name"))
    return tuple(names)


def key_shares(body: Reader) -> tuple[int, ...]:
    """The groups of KeyShareClientHello (RFC 8446 section 4.2.8)."""
    groups = []
    with body.block(body.u16("client_shares length"), "client_shares") as shares:
        while shares.has_more:
            groups.append(shares.u16("group"))
            shares.take(shares.u16("key_exchange length"), "key_exchange")
    return tuple(groups)


def server_share(body: Reader, retry: bool) -> int:
    """The group that the server chose; a HelloRetryRequest names it without a share."""
    group = body.u16("group")
    if not retry:
        body.take(body.u16("key_exchange length"), "key_exchange")
    return group


def pre_shared_keys(body: Reader, from_client: bool) -> None:
    """RFC 8446 section 4.2.11: nothing of it is kept, its lengths must agree."""
    if not from_client:
        body.u16("selected_identity")
        return
    with body.block(body.u16("identities length"), "identities") as identities:
        while identities.has_more:
            identities.take(identities.u16("identity length"), "identity")
            identities.u32("obfuscated_ticket_age")
    with body.block(body.u16("binders length"), "binders") as binders:
        while binders.has_more:
            binders.take(binders.u8("binder length"), "binder")


def status_request(body: Reader) -> None:
    """RFC 6066 section 8: nothing of it is kept, its lengths must agree."""
    if body.u8("status_type") == 1:
        body.take(body.u16("responder_id_list length"), "responder_id_list")
        body.take(body.u16("request_extensions length"), "request_extensions")
    else:
        body.rest("request")


def certificate(message: Reader) -> Iterator[object]:
    """RFC 5246 section 7.4.2. In TLS 1.3 this message is encrypted."""
    position = 0
    with message.block(message.u24("certificate_list length"), "certificate_list") as entries:
        while entries.has_more:
            yield CertificateEntry(position, entries.take(entries.u24("certificate length"), "certificate"))
            position += 1
    yield Certificate(position)


BODIES: Final[Mapping[int, Callable[[Reader], Iterator[object]]]] = {
    int(HandshakeType.CLIENT_HELLO): client_hello,
    int(HandshakeType.SERVER_HELLO): server_hello,
    int(HandshakeType.CERTIFICATE): certificate,
}
"""How to read the messages that are read, but for the key exchange."""


@cache
def parameters(suite: int) -> Callable[[Reader], Iterator[object]] | None:
    """How to read the ephemeral key exchange of a cipher suite, where it has one."""
    name = cipher_suite_name(suite)
    if "_ECDHE_RSA_" in name or "_ECDHE_ECDSA_" in name or "_ECDH_anon_" in name:
        return ecdhe_parameters
    if "_DHE_RSA_" in name or "_DHE_DSS_" in name or "_DH_anon_" in name:
        return dhe_parameters
    return None


def ecdhe_parameters(message: Reader) -> Iterator[ServerKeyExchange]:
    """RFC 8422 section 5.4; the explicit curves of old drafts are passed over."""
    group = None
    if message.u8("curve_type") == 3:
        group = message.u16("namedcurve")
        message.take(message.u8("public length"), "public")
    message.rest("signature")
    yield ServerKeyExchange(group, None)


def dhe_parameters(message: Reader) -> Iterator[ServerKeyExchange]:
    """RFC 5246 section 7.4.3."""
    prime = message.take(message.u16("dh_p length"), "dh_p")
    message.take(message.u16("dh_g length"), "dh_g")
    message.take(message.u16("dh_Ys length"), "dh_Ys")
    message.rest("signature")
    yield ServerKeyExchange(None, int.from_bytes(prime, "big").bit_length())


def other(message: Reader, kind: int) -> Iterator[Handshake]:
    """A message whose body is not read."""
    length = message.left
    message.rest("handshake body")
    yield Handshake(kind, length)


def opened(message: Reader, kind: int) -> Iterator[object]:
    """The messages in the body of a handshake message of TLS 1.3 that was decrypted (RFC 8446 section 4.3 and 4.4)."""
    length = message.left
    if kind == HandshakeType.ENCRYPTED_EXTENSIONS:
        yield from extensions(message, HandshakeType.ENCRYPTED_EXTENSIONS, False)
    elif kind == HandshakeType.CERTIFICATE:
        position = 0
        message.take(message.u8("certificate_request_context length"), "certificate_request_context")
        with message.block(message.u24("certificate_list length"), "certificate_list") as entries:
            while entries.has_more:
                yield CertificateEntry(position, entries.take(entries.u24("cert_data length"), "cert_data"))
                entries.take(entries.u16("extensions length"), "extensions")
                position += 1
        yield Certificate(position)
    else:
        message.rest("handshake body")
    yield Handshake(kind, length)


def ssl2_client_hello(message: Reader) -> Iterator[object]:
    """CLIENT-HELLO of SSL 2.0 behind its message type; the version may be a newer one."""
    version = message.u16("client_version")
    kinds_size = message.u16("cipher_specs length")
    session_size = message.u16("session_id length")
    challenge_size = message.u16("challenge length")
    kinds = u24_list(message, kinds_size, "cipher_specs")
    session_id = message.take(session_size, "session_id")
    yield ClientHello(version, message.take(challenge_size, "challenge"), session_id, kinds, b"", ssl2=True)


def ssl2_server_hello(message: Reader) -> Iterator[object]:
    """SERVER-HELLO of SSL 2.0 behind its message type."""
    message.take(2, "session_id hit, certificate type")
    version = message.u16("server_version")
    certificate_size = message.u16("certificate length")
    kinds_size = message.u16("cipher_specs length")
    connection_size = message.u16("connection_id length")
    yield ServerHello(version, b"", b"", None, 0)
    if certificate_size:
        yield CertificateEntry(0, message.take(certificate_size, "certificate"))
        yield Certificate(1)
    u24_list(message, kinds_size, "cipher_specs")
    message.take(connection_size, "connection_id")


def ssl2_client_master_key(message: Reader) -> ClientMasterKey:
    """CLIENT-MASTER-KEY of SSL 2.0 behind its message type."""
    cipher_kind = message.u24("cipher kind")
    sizes = [message.u16(f"{name} length") for name in ("clear key", "encrypted key", "key argument")]
    message.take(sum(sizes), "key")
    return ClientMasterKey(cipher_kind)


def ssl2_lengths_agree(data: bytes) -> bool:
    """Whether ``data`` begins with a ClientHello or ServerHello of SSL 2.0: all its lengths must agree."""
    if len(data) < 13 or not data[0] & 0x80:
        return False
    length = (data[0] & 0x7F) << 8 | data[1]
    if data[2] == 1:
        version, kinds, session, challenge = struct.unpack_from(">4H", data, 3)
        known = version == SSL_2_0 or 0x0300 <= version <= 0x0304
        return bool(known and kinds and kinds % 3 == 0 and 9 + kinds + session + challenge == length)
    version, certificate_size, kinds, connection = struct.unpack_from(">4H", data, 5)
    return bool(data[2] == 4 and version == SSL_2_0 and 11 + certificate_size + kinds + connection == length)


def u16_list(reader: Reader, size: int, field: str) -> tuple[int, ...]:
    """``size`` bytes as two-byte integers."""
    if size % 2:
        reader.malformed(field, f"{size} bytes cannot hold values of two bytes")
    return struct.unpack(f">{size // 2}H", reader.take(size, field))


def u24_list(reader: Reader, size: int, field: str) -> tuple[int, ...]:
    """``size`` bytes as three-byte integers."""
    if size % 3:
        reader.malformed(field, f"{size} bytes cannot hold values of three bytes")
    raw = reader.take(size, field)
    return tuple(int.from_bytes(raw[at : at + 3], "big") for at in range(0, size, 3))
