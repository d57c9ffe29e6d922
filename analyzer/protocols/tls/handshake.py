"""Handshake messages of TLS, and messages of SSL 2.0. A reader is fenced to the declared length of each message.

RFC 8446, section 4 (TLS 1.3); RFC 5246, section 7.4 (TLS 1.2); RFC 6101 (SSL 3.0); draft-hickman-netscape-ssl-00
(SSL 2.0).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Final, NamedTuple

from analyzer.dataclass import dataclass
from analyzer.protocols.tls.registry import (
    EXTENSION_NAMES,
    SSL_2_0,
    SSL_3_0,
    TLS_1_3,
    ExtensionType,
    HandshakeType,
    cipher_suite_name,
)
from analyzer.safetext import decode_text
from analyzer.wire import Layout, Reader

HELLO_RETRY_RANDOM: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""Random of a ServerHello that is a HelloRetryRequest (RFC 8446, section 4.1.3)."""

CLIENT_HELLO: Final = Layout(("client_version", "H"), ("random", "32s"), ("session_id length", "B"))
SERVER_HELLO: Final = Layout(("server_version", "H"), ("random", "32s"))
EXTENSION_HEADER: Final = struct.Struct(">HH")

FIRST_DRAFT, FIRST_DRAFT_WITH_SESSION_ID = 0x7F00, 0x7F16
"""Version numbers of drafts of TLS 1.3."""
NAMED_CURVE: Final = 3
"""curve_type (RFC 8422, section 5.4)."""
HOST_NAME: Final = 0
"""name_type (RFC 6066, section 3)."""
OCSP: Final = 1
"""status_type (RFC 6066, section 8)."""


class ClientHello(NamedTuple):
    """Yielded before its extensions (RFC 8446, section 4.1.2)."""

    version: int
    """The highest version that the client offers; in TLS 1.3, legacy_version."""
    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    """In the client's order; in the format of SSL 2.0, cipher kinds of three bytes."""
    compression_methods: bytes
    ssl2: bool = False
    """Whether it has the format of SSL 2.0, whatever the version (RFC 5246, appendix E.2)."""


class ServerHello(NamedTuple):
    """Yielded before its extensions (RFC 8446, section 4.1.3)."""

    version: int
    """The chosen version; in TLS 1.3, legacy_version."""
    random: bytes
    session_id: bytes
    cipher_suite: int | None
    """``None`` in SSL 2.0, where the client chooses."""
    compression_method: int

    @property
    def hello_retry_request(self) -> bool:
        return self.random == HELLO_RETRY_RANDOM


class ServerName(NamedTuple):
    """Extension of a ClientHello (RFC 6066, section 3)."""

    names: tuple[str, ...]
    """Host names. Some clients send IP literals, which the RFC forbids."""


class SessionTicket(NamedTuple):
    """A client's ticket of an earlier session (RFC 5077, section 3.2). An empty one, which requests a ticket, is not
    yielded."""

    length: int
    """Bytes."""


class ApplicationProtocols(NamedTuple):
    """ALPN extension (RFC 7301)."""

    names: tuple[bytes, ...]
    by_server: bool


class SupportedVersions(NamedTuple):
    """RFC 8446, section 4.2.1."""

    versions: tuple[int, ...]
    """Those that the client offers; or the one that the server chose."""
    by_server: bool


class Extensions(NamedTuple):
    """All extensions of a hello; yielded after them."""

    hello: HandshakeType
    types: tuple[int, ...] = ()
    """In the order of transmission."""
    supported_groups: tuple[int, ...] = ()
    ec_point_formats: tuple[int, ...] = ()
    signature_algorithms: tuple[int, ...] = ()
    key_share: tuple[int, ...] = ()
    """Groups of the client's shares; or the group that the server chose."""


class CertificateEntry(NamedTuple):
    """One certificate of a Certificate message."""

    position: int
    """0: the sender's own certificate."""
    data: bytes
    """DER as sent; it may be anything."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A Certificate message; yielded after its entries."""

    entries: int


class ServerKeyExchange(NamedTuple):
    """The group of an ephemeral key exchange (RFC 5246, section 7.4.3; RFC 8422, section 5.4)."""

    group: int | None
    """Named curve."""
    prime_bits: int | None
    """Bits of the Diffie-Hellman prime."""


class Handshake(NamedTuple):
    """A handshake message whose body is not read."""

    type: int
    length: int
    """Bytes of the body."""


class ClientMasterKey(NamedTuple):
    """CLIENT-MASTER-KEY of SSL 2.0."""

    cipher_kind: int
    """The cipher kind that the client chose."""


# -- handshake messages -----------------------------------------------------------------------------------------


def read_handshake(body: Reader, kind: int, suite: int | None) -> Iterator[object]:
    """Read the body of one handshake message. ``suite``: the last one that a ServerHello of this direction chose."""
    read = BODY_READERS.get(kind)
    if read is None and suite is not None and kind == HandshakeType.SERVER_KEY_EXCHANGE:
        read = key_exchange_reader(suite)
    return read(body) if read is not None else skip_body(body, kind)


def read_client_hello(body: Reader) -> Iterator[object]:
    """RFC 8446, section 4.1.2."""
    version, random, session_id_length = body.unpack(CLIENT_HELLO)
    session_id = body.take(session_id_length, "session_id")
    suites = read_u16_list(body, body.u16("cipher_suites length"), "cipher_suites")
    compression_methods = body.take(body.u8("compression_methods length"), "compression_methods")
    yield ClientHello(version, random, session_id, suites, compression_methods)
    yield from read_extensions(body, HandshakeType.CLIENT_HELLO)


def read_server_hello(body: Reader) -> Iterator[object]:
    """RFC 8446, section 4.1.3. Drafts of TLS 1.3 before 22 have neither session ID nor compression method."""
    version, random = body.unpack(SERVER_HELLO)
    is_early_draft = FIRST_DRAFT <= version < FIRST_DRAFT_WITH_SESSION_ID
    session_id = b"" if is_early_draft else body.take(body.u8("session_id length"), "session_id")
    suite = body.u16("cipher_suite")
    compression_method = 0 if is_early_draft else body.u8("compression_method")
    yield ServerHello(version, random, session_id, suite, compression_method)
    yield from read_extensions(body, HandshakeType.SERVER_HELLO, is_retry=random == HELLO_RETRY_RANDOM)


def read_certificate(body: Reader) -> Iterator[object]:
    """RFC 5246, section 7.4.2; :func:`read_decrypted` reads that of TLS 1.3."""
    position = 0
    with body.block(body.u24("certificate_list length"), "certificate_list") as entries:
        while entries.has_more:
            yield CertificateEntry(position, entries.take(entries.u24("certificate length"), "certificate"))
            position += 1
    yield Certificate(position)


BODY_READERS: Final[Mapping[int, Callable[[Reader], Iterator[object]]]] = {
    int(HandshakeType.CLIENT_HELLO): read_client_hello,
    int(HandshakeType.SERVER_HELLO): read_server_hello,
    int(HandshakeType.CERTIFICATE): read_certificate,
}
"""Handshake type → reader of the body; that of ServerKeyExchange depends on the cipher suite."""


@cache
def key_exchange_reader(suite: int) -> Callable[[Reader], Iterator[object]] | None:
    """Reader of the ServerKeyExchange of a cipher suite; ``None``: its key exchange is not ephemeral."""
    name = cipher_suite_name(suite)
    if "_ECDHE_RSA_" in name or "_ECDHE_ECDSA_" in name or "_ECDH_anon_" in name:
        return read_ecdhe_parameters
    if "_DHE_RSA_" in name or "_DHE_DSS_" in name or "_DH_anon_" in name:
        return read_dhe_parameters
    return None


def read_ecdhe_parameters(body: Reader) -> Iterator[ServerKeyExchange]:
    """RFC 8422, section 5.4. Explicit curves, which only RFC 4492 had, are skipped."""
    group = None
    if body.u8("curve_type") == NAMED_CURVE:
        group = body.u16("namedcurve")
        body.take(body.u8("public length"), "public")
    body.rest("signature")
    yield ServerKeyExchange(group, None)


def read_dhe_parameters(body: Reader) -> Iterator[ServerKeyExchange]:
    """RFC 5246, section 7.4.3."""
    prime = body.take(body.u16("dh_p length"), "dh_p")
    body.take(body.u16("dh_g length"), "dh_g")
    body.take(body.u16("dh_Ys length"), "dh_Ys")
    body.rest("signature")
    yield ServerKeyExchange(None, int.from_bytes(prime, "big").bit_length())


def skip_body(body: Reader, kind: int) -> Iterator[Handshake]:
    length = body.left
    body.rest("handshake body")
    yield Handshake(kind, length)


def read_decrypted(body: Reader, kind: int) -> Iterator[object]:
    """Read the body of a decrypted handshake message of TLS 1.3 (RFC 8446, sections 4.3 and 4.4)."""
    length = body.left
    if kind == HandshakeType.ENCRYPTED_EXTENSIONS:
        yield from read_extensions(body, HandshakeType.ENCRYPTED_EXTENSIONS)
    elif kind == HandshakeType.CERTIFICATE:
        position = 0
        body.take(body.u8("certificate_request_context length"), "certificate_request_context")
        with body.block(body.u24("certificate_list length"), "certificate_list") as entries:
            while entries.has_more:
                yield CertificateEntry(position, entries.take(entries.u24("cert_data length"), "cert_data"))
                entries.take(entries.u16("extensions length"), "extensions")
                position += 1
        yield Certificate(position)
    else:
        body.rest("handshake body")
    yield Handshake(kind, length)


# -- extensions -------------------------------------------------------------------------------------------------


def read_extensions(body: Reader, hello: HandshakeType, is_retry: bool = False) -> Iterator[object]:
    """RFC 8446, section 4.2. A hello without extensions ends before their length."""
    from_client = hello is HandshakeType.CLIENT_HELLO
    types: list[int] = []
    lists: dict[str, tuple[int, ...]] = {}
    if body.has_more:
        with body.block(body.u16("extensions length"), "extensions") as block:
            while block.has_more:
                kind, size = EXTENSION_HEADER.unpack(block.take(4, "extension type and length"))
                types.append(kind)
                if kind not in EXTENSION_NAMES:
                    block.take(size, "extension_data")
                    continue
                name = EXTENSION_NAMES[kind]
                with block.block(size, name) as data:
                    content = read_extension(data, kind, from_client, is_retry)
                if type(content) is tuple:  # a list of code points; the type of a message is its named tuple's
                    lists[name] = content
                elif content is not None:
                    yield content
    yield Extensions(hello, tuple(types), **lists)


def read_extension(data: Reader, kind: int, from_client: bool, is_retry: bool) -> object | tuple[int, ...] | None:
    """A message, a list of code points for :class:`Extensions`, or ``None`` if nothing of it is kept."""
    match kind:
        case ExtensionType.SERVER_NAME:
            return ServerName(read_server_names(data)) if from_client else None
        case ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION:
            return ApplicationProtocols(read_protocol_names(data), not from_client)
        case ExtensionType.SUPPORTED_VERSIONS:
            size = data.u8("versions length") if from_client else 2
            return SupportedVersions(read_u16_list(data, size, "versions"), not from_client)
        case ExtensionType.SUPPORTED_GROUPS | ExtensionType.SIGNATURE_ALGORITHMS:
            return read_u16_list(data, data.u16("list length"), EXTENSION_NAMES[kind])
        case ExtensionType.EC_POINT_FORMATS:
            return tuple(data.take(data.u8("list length"), "ec_point_formats"))
        case ExtensionType.KEY_SHARE:
            return read_client_shares(data) if from_client else (read_server_share(data, is_retry),)
        case ExtensionType.SESSION_TICKET:
            size = data.left
            data.rest("ticket")
            return SessionTicket(size) if size and from_client else None
        case ExtensionType.PRE_SHARED_KEY:
            skip_pre_shared_keys(data, from_client)
        case _ if from_client:
            skip_status_request(data)
        case _:
            data.rest("status_request")
    return None


UNIQUE: Final = frozenset((ExtensionType.KEY_SHARE, ExtensionType.PRE_SHARED_KEY))
"""Extensions whose content differs in every hello."""


def read_server_names(data: Reader) -> tuple[str, ...]:
    """RFC 6066, section 3."""
    names = []
    with data.block(data.u16("server_name_list length"), "server_name_list") as entries:
        while entries.has_more:
            kind = entries.u8("name_type")
            name = entries.take(entries.u16("server_name length"), "server_name")
            if kind == HOST_NAME:
                names.append(decode_text(name))
    return tuple(names)


def read_protocol_names(data: Reader) -> tuple[bytes, ...]:
    """RFC 7301, section 3.1."""
    names = []
    with data.block(data.u16("protocol_name_list length"), "protocol_name_list") as entries:
        while entries.has_more:
            names.append(entries.take(entries.u8("protocol_name length"), "protocol_name"))
    return tuple(names)


def read_client_shares(data: Reader) -> tuple[int, ...]:
    """The groups of a KeyShareClientHello (RFC 8446, section 4.2.8)."""
    groups = []
    with data.block(data.u16("client_shares length"), "client_shares") as shares:
        while shares.has_more:
            groups.append(shares.u16("group"))
            shares.take(shares.u16("key_exchange length"), "key_exchange")
    return tuple(groups)


def read_server_share(data: Reader, is_retry: bool) -> int:
    """The group that the server chose; a HelloRetryRequest holds no share of it."""
    group = data.u16("group")
    if not is_retry:
        data.take(data.u16("key_exchange length"), "key_exchange")
    return group


def skip_pre_shared_keys(data: Reader, from_client: bool) -> None:
    """Check the lengths of a pre_shared_key extension (RFC 8446, section 4.2.11); nothing of it is kept."""
    if not from_client:
        data.u16("selected_identity")
        return
    with data.block(data.u16("identities length"), "identities") as identities:
        while identities.has_more:
            identities.take(identities.u16("identity length"), "identity")
            identities.u32("obfuscated_ticket_age")
    with data.block(data.u16("binders length"), "binders") as binders:
        while binders.has_more:
            binders.take(binders.u8("binder length"), "binder")


def skip_status_request(data: Reader) -> None:
    """Check the lengths of a status_request extension (RFC 6066, section 8); nothing of it is kept."""
    if data.u8("status_type") == OCSP:
        data.take(data.u16("responder_id_list length"), "responder_id_list")
        data.take(data.u16("request_extensions length"), "request_extensions")
    else:
        data.rest("request")


# -- SSL 2.0 ----------------------------------------------------------------------------------------------------


def read_ssl2_client_hello(body: Reader) -> Iterator[object]:
    """CLIENT-HELLO after its message type. The version may be that of SSL 3.0 or TLS."""
    version = body.u16("client_version")
    kinds_length = body.u16("cipher_specs length")
    session_id_length = body.u16("session_id length")
    challenge_length = body.u16("challenge length")
    kinds = read_u24_list(body, kinds_length, "cipher_specs")
    session_id = body.take(session_id_length, "session_id")
    yield ClientHello(version, body.take(challenge_length, "challenge"), session_id, kinds, b"", ssl2=True)


def read_ssl2_server_hello(body: Reader) -> Iterator[object]:
    """SERVER-HELLO after its message type."""
    body.take(2, "session_id hit, certificate type")
    version = body.u16("server_version")
    certificate_length = body.u16("certificate length")
    kinds_length = body.u16("cipher_specs length")
    connection_id_length = body.u16("connection_id length")
    yield ServerHello(version, b"", b"", None, 0)
    if certificate_length:
        yield CertificateEntry(0, body.take(certificate_length, "certificate"))
        yield Certificate(1)
    read_u24_list(body, kinds_length, "cipher_specs")
    body.take(connection_id_length, "connection_id")


def read_ssl2_client_master_key(body: Reader) -> ClientMasterKey:
    """CLIENT-MASTER-KEY after its message type."""
    cipher_kind = body.u24("cipher kind")
    lengths = [body.u16(f"{name} length") for name in ("clear key", "encrypted key", "key argument")]
    body.take(sum(lengths), "key")
    return ClientMasterKey(cipher_kind)


def is_ssl2_hello(data: bytes) -> bool:
    """Whether bytes begin with a ClientHello or ServerHello of SSL 2.0: all lengths must agree."""
    if len(data) < 13 or not data[0] & 0x80:
        return False
    length = (data[0] & 0x7F) << 8 | data[1]
    if data[2] == 1:
        version, kinds, session_id, challenge = struct.unpack_from(">4H", data, 3)
        known = version == SSL_2_0 or SSL_3_0 <= version <= TLS_1_3
        return bool(known and kinds and kinds % 3 == 0 and 9 + kinds + session_id + challenge == length)
    version, certificate, kinds, connection_id = struct.unpack_from(">4H", data, 5)
    return bool(data[2] == 4 and version == SSL_2_0 and 11 + certificate + kinds + connection_id == length)


# -- lists ------------------------------------------------------------------------------------------------------


def read_u16_list(reader: Reader, size: int, field: str) -> tuple[int, ...]:
    """``size`` bytes as integers of two bytes."""
    if size % 2:
        reader.malformed(field, f"{size} bytes cannot hold values of two bytes")
    return struct.unpack(f">{size // 2}H", reader.take(size, field))


def read_u24_list(reader: Reader, size: int, field: str) -> tuple[int, ...]:
    """``size`` bytes as integers of three bytes."""
    if size % 3:
        reader.malformed(field, f"{size} bytes cannot hold values of three bytes")
    raw = reader.take(size, field)
    return tuple(int.from_bytes(raw[at : at + 3], "big") for at in range(0, size, 3))
