"""The facts of a TLS conversation that follow from all its messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from analyzer.dataclass import dataclass
from analyzer.heads import DIRECTIONS, Direction
from analyzer.messages import Facts, Item, messages
from analyzer.protocols.tls.certificates import X509Certificate, is_signed_by, read_certificate
from analyzer.protocols.tls.chain import Link, chain_links, describe
from analyzer.protocols.tls.fingerprints import fingerprints
from analyzer.protocols.tls.handshake import (
    ApplicationProtocols,
    Certificate,
    CertificateEntry,
    ClientHello,
    ClientMasterKey,
    Extensions,
    Handshake,
    ServerHello,
    ServerKeyExchange,
    ServerName,
    SessionTicket,
    SupportedVersions,
)
from analyzer.protocols.tls.order import Negotiated
from analyzer.protocols.tls.order import disorders as find_disorders
from analyzer.protocols.tls.records import Alert, ApplicationData, ChangeCipherSpec, EncryptedRecord
from analyzer.protocols.tls.registry import (
    ALERTS,
    KNOWN_CLIENTS,
    SSL_2_0,
    TLS_1_2,
    TLS_1_3,
    ContentType,
    ExtensionType,
    HandshakeType,
    cipher_kind_name,
    cipher_suite_name,
    group_name,
    is_grease,
    version_name,
    version_rank,
)
from analyzer.safetext import SafeText, decode_text


@dataclass(frozen=True, slots=True)
class TlsFacts(Facts):
    """What a TLS or SSL conversation shows in clear, and what keys decrypt of TLS 1.3."""

    offered_version: SafeText | None = None
    """The highest version that the client offers: ``TLS 1.3``."""
    version: SafeText | None = None
    """The version that the server chose."""
    cipher_suite: SafeText | None = None
    """The chosen one: IANA's name, or its number."""
    server_name: str | None = None
    """The host name in the ClientHello."""
    alpn: tuple[SafeText, ...] = ()
    """The application protocol that the server chose; if it chose none, those that the client offered."""
    certificates: tuple[X509Certificate, ...] = ()
    """The server's chain in the order of transmission; its own certificate is the first."""
    chain: SafeText | None = None
    """Order of the server's certificates: ``ordered`` (the next one is the signer), ``unordered`` (some signer is
    elsewhere in the chain), ``broken`` (some signer is missing); ``None`` for fewer than two."""
    client_certificate: bool | None = None
    """Whether the client sent a certificate; ``None``: encrypted or not captured."""
    client_certificate_requested: bool | None = None
    """Whether the server requested one; ``None``: encrypted or not captured."""
    ocsp_stapled: bool | None = None
    """``True`` if the server sent the status of its certificate (RFC 6066, section 8)."""
    alerts: tuple[SafeText, ...] = ()
    """Alerts in clear: ``fatal certificate_expired from client``."""
    encrypted_alerts: tuple[SafeText, ...] = ()
    """Senders of encrypted alerts before any application data: ``client``, ``server``."""
    resumed: bool | None = None
    """Whether the handshake resumes an earlier session, so that no certificate is sent; ``None``: unknown."""
    resumed_by: SafeText | None = None
    """What identifies the earlier session: ``session id``, ``session ticket`` (RFC 5077) or ``pre-shared key`` (TLS
    1.3)."""
    hello_retry: bool | None = None
    """``True`` if the server requested a second ClientHello with another key share (RFC 8446, section 4.1.4)."""
    certificates_hidden: bool | None = None
    """``True`` if the certificates are encrypted (TLS 1.3)."""
    key_exchange: SafeText | None = None
    """Group of the ephemeral key exchange: ``x25519``, ``DH 2048``."""
    ja3: str | None = None
    ja4: str | None = None
    client_hint: SafeText | None = None
    """Software that sends such a ClientHello; other software may send the same."""
    decrypted: str | None = None
    """Program that decrypted the handshake with the user's keys."""
    _server: Direction = Direction.RESPONDER
    _version: int | None = None
    _hello_seen: bool = False
    """Whether a hello of either side was captured."""
    _client_went_on: bool = False
    """Whether the client continued the handshake after the server's hello and certificate."""
    _self_signed: bool = False
    """Whether the server's own certificate is signed with its own key."""
    _dh_bits: int | None = None
    """Bits of the Diffie-Hellman prime."""
    _server_names: tuple[str, ...] | None = None
    """All names of the client's server_name extension; ``None``: it has none."""
    _compressed: bool = False
    """Whether the server chose a compression method (RFC 3749)."""
    _protected: tuple[bool, bool] = (False, False)
    """Whether originator and responder sent ChangeCipherSpec or application data."""
    _answered: bool = False
    """The server sent any message."""
    _server_hello: bool = False
    """The server sent a ServerHello."""
    _client_record: int | None = None
    """Length of the client's first record of application data, in bytes; ``None``: it sent none."""
    _links: tuple[Link, ...] = ()
    """From each of the server's certificates to the next one."""
    _disorders: tuple[tuple[Direction, str], ...] = ()
    """Directions that skip a step, and a clause for each; they count if the capture has the direction's beginning."""
    _heartbeats: bool | None = None
    """Whether both hellos agree on heartbeats (RFC 6520); ``None``: a hello is missing."""


def facts(items: Sequence[Item]) -> TlsFacts:
    """Facts about all messages, given in the order of the capture."""
    session = Session(items)
    version = session.version()
    resumed = session.is_resumed(version)
    protocols = session.chosen_protocols[-1:] or session.offered_protocols[:1]
    hello_done = bool(session.server_hellos) and not session.server_hellos[-1].hello_retry_request
    chain, links = session.chain, chain_links(session.chain)
    certificates = tuple(map(read_certificate, chain))
    ja3, ja4 = session.fingerprints()
    return TlsFacts(
        offered_version=session.offered_version(),
        version=None if version is None else version_name(version),
        cipher_suite=session.cipher_suite(),
        server_name=next((name for extension in session.server_names for name in extension.names), None),
        alpn=tuple(decode_text(name) for names in protocols for name in names),
        certificates=certificates,
        chain=describe(links),
        client_certificate=has_client_certificate(session.from_client),
        client_certificate_requested=has_message(session.from_server, HandshakeType.CERTIFICATE_REQUEST),
        ocsp_stapled=has_message(session.from_server, HandshakeType.CERTIFICATE_STATUS) or None,
        alerts=describe_alerts(items, session.server),
        encrypted_alerts=senders_of_encrypted_alerts(items, session.server),
        resumed=resumed,
        resumed_by=session.resumed_by(version) if resumed else None,
        hello_retry=any(hello.hello_retry_request for hello in session.server_hellos) or None,
        certificates_hidden=True if is_tls13(version) and hello_done and not resumed and not chain else None,
        key_exchange=session.key_exchange(),
        ja3=ja3,
        ja4=ja4,
        client_hint=KNOWN_CLIENTS.get(ja3) if ja3 else None,
        _server=session.server,
        _version=version,
        _hello_seen=bool(session.client_hellos or session.server_hellos),
        _client_went_on=client_went_on(session.from_client, version),
        _self_signed=bool(chain) and certificates[0]._self_issued and is_signed_by(chain[0], chain[0]) is True,
        _dh_bits=session.key_exchanges[-1].prime_bits if session.key_exchanges else None,
        _server_names=session.server_names[0].names if session.server_names else None,
        _compressed=bool(session.server_hellos) and session.server_hellos[-1].compression_method != 0,
        _protected=session.protected,
        _answered=bool(session.from_server),
        _server_hello=bool(session.server_hellos),
        _client_record=next(
            (message.length for message in session.from_client if isinstance(message, ApplicationData)), None
        ),
        _links=links,
        _disorders=tuple(
            (item.direction, clause) for item, clause in find_disorders(items, session.server, session.negotiated())
        ),
        _heartbeats=session.allows_heartbeats(),
    )


def disorders(items: Sequence[Item]) -> list[tuple[Item, str]]:
    """See :func:`analyzer.protocols.tls.order.disorders`."""
    session = Session(items)
    return list(find_disorders(items, session.server, session.negotiated()))


WITHOUT_CERTIFICATE: Final = ("_anon_", "PSK", "_SRP_SHA_", "KRB5", "NULL_WITH_NULL", "_ECCPWD_")
"""Parts of the names of cipher suites that authenticate the server otherwise."""
HEARTBEAT_EXTENSION: Final = 15
"""RFC 6520, section 2."""


def is_protected(items: Sequence[Item], way: Direction) -> bool:
    """Whether a direction sent ChangeCipherSpec or application data."""
    return any(
        item.direction is way and isinstance(item.message, (ChangeCipherSpec, ApplicationData)) for item in items
    )


class Session:
    """The messages of a conversation by kind and by side, each in the order of the capture."""

    def __init__(self, items: Sequence[Item]) -> None:
        by_kind: defaultdict[type, list[Any]] = defaultdict(list)
        for item in items:
            by_kind[type(item.message)].append(item.message)
        self.server = server_side(items)
        self.from_server = [item.message for item in items if item.direction is self.server]
        self.from_client = [item.message for item in items if item.direction is not self.server]
        self.protected = is_protected(items, Direction.ORIGINATOR), is_protected(items, Direction.RESPONDER)
        self.client_hellos: list[ClientHello] = by_kind[ClientHello]
        self.server_hellos: list[ServerHello] = by_kind[ServerHello]
        extensions: list[Extensions] = by_kind[Extensions]
        self.offers = [found for found in extensions if found.hello is HandshakeType.CLIENT_HELLO]
        self.choices = [found for found in extensions if found.hello is HandshakeType.SERVER_HELLO]
        versions: list[SupportedVersions] = by_kind[SupportedVersions]
        self.offered_versions = [extension.versions for extension in versions if not extension.by_server]
        self.chosen_versions = [extension.versions[0] for extension in versions if extension.by_server]
        protocols: list[ApplicationProtocols] = by_kind[ApplicationProtocols]
        self.offered_protocols = [extension.names for extension in protocols if not extension.by_server]
        self.chosen_protocols = [extension.names for extension in protocols if extension.by_server]
        self.server_names: list[ServerName] = by_kind[ServerName]
        self.has_ticket = bool(by_kind[SessionTicket])
        self.chain = tuple(entry.data for entry in self.from_server if isinstance(entry, CertificateEntry))
        self.key_exchanges: list[ServerKeyExchange] = by_kind[ServerKeyExchange]
        self.master_keys: list[ClientMasterKey] = by_kind[ClientMasterKey]
        self.application_data: list[ApplicationData] = by_kind[ApplicationData]

    def offered_version(self) -> str | None:
        """Name of the highest offered version; ``None`` while an extension that was not read may offer a higher one."""
        if self.offered_versions:
            known = [version for version in self.offered_versions[0] if not is_grease(version)]
            return version_name(max(known, key=version_rank)) if known else None
        if not self.client_hellos:
            return None
        hello = self.client_hellos[0]
        is_certain = bool(self.offers) or hello.ssl2 or hello.version < TLS_1_2
        return version_name(hello.version) if is_certain else None

    def version(self) -> int | None:
        """The version that the server chose; ``None``: unknown, as with a ServerHello that could not be read.

        Of a conversation whose handshake is not in the capture, the records of application data show it, up to TLS 1.1.
        """
        if self.chosen_versions:
            return self.chosen_versions[-1]
        if self.server_hellos:
            hello = self.server_hellos[-1]
            all_extensions_read = len(self.choices) >= len(self.server_hellos)
            if hello.version != TLS_1_2 or all_extensions_read:
                return hello.version
            return TLS_1_3 if hello.cipher_suite is not None and hello.cipher_suite >> 8 == 0x13 else None
        if self.master_keys:
            return SSL_2_0
        if self.client_hellos or any(isinstance(message, Handshake) for message in self.from_server):
            return None
        return next((record.version for record in self.application_data if record.version < TLS_1_2), None)

    def negotiated(self) -> Negotiated:
        """What both hellos agree upon, as far as the order of messages depends on it."""
        version = self.version()
        resumed = self.is_resumed(version)
        name = self.cipher_suite() or ""
        return Negotiated(
            version,
            name.startswith("TLS_") and not any(part in name for part in WITHOUT_CERTIFICATE),
            resumed,
            not self.offers or (bool(resumed) and self.resumed_by(version) is not None),
        )

    def allows_heartbeats(self) -> bool | None:
        """Whether both hellos have the heartbeat extension; ``None``: one of them, or its end, is missing."""
        if not self.offers or not self.choices:
            return None
        return all(HEARTBEAT_EXTENSION in found.types for found in (self.offers[-1], self.choices[-1]))

    def cipher_suite(self) -> str | None:
        """Name of the cipher suite of the last ServerHello; in SSL 2.0, of the cipher kind that the client chose."""
        if self.master_keys:
            return cipher_kind_name(self.master_keys[0].cipher_kind)
        suites = [hello.cipher_suite for hello in self.server_hellos if hello.cipher_suite is not None]
        return cipher_suite_name(suites[-1]) if suites else None

    def key_exchange(self) -> str | None:
        """Group of the ephemeral key exchange, which is a message before TLS 1.3 and an extension in it."""
        if self.key_exchanges:
            group, bits = self.key_exchanges[-1]
            if bits is not None:
                return f"DH {bits}"
            return None if group is None else group_name(group)
        return group_name(self.choices[-1].key_share[0]) if self.choices and self.choices[-1].key_share else None

    def is_resumed(self, version: int | None) -> bool | None:
        """Whether the server resumes an earlier session; ``None``: unknown.

        In TLS 1.3 its hello selects a pre-shared key (RFC 8446, section 2.2). Before, it changes its cipher right after
        the hello (RFC 5246, section 7.3).
        """
        if is_tls13(version):
            return ExtensionType.PRE_SHARED_KEY in self.choices[-1].types if self.choices else None
        if not self.server_hellos:
            return None
        for message in self.from_server:
            if isinstance(message, CertificateEntry):
                return False
            if isinstance(message, Handshake) and message.type == HandshakeType.SERVER_HELLO_DONE:
                return False
            if isinstance(message, ChangeCipherSpec):
                return True
        return None

    def resumed_by(self, version: int | None) -> str | None:
        """What identifies the resumed session."""
        if is_tls13(version):
            return "pre-shared key"
        if self.has_ticket:  # a server that accepts it may repeat the session ID as well (RFC 5077, section 3.4)
            return "session ticket"
        session_id = next((hello.session_id for hello in self.client_hellos if hello.session_id), b"")
        return "session id" if session_id and self.server_hellos[-1].session_id == session_id else None

    def fingerprints(self) -> tuple[str, str] | tuple[None, None]:
        """JA3 and JA4 of the first ClientHello, if all its extensions were read."""
        if not self.client_hellos or not self.offers or self.client_hellos[0].ssl2:
            return None, None
        hello = self.client_hellos[0]
        versions = self.offered_versions[0] if self.offered_versions else ()
        protocols = self.offered_protocols[0] if self.offered_protocols else ()
        first_protocol = protocols[0] if protocols else b""
        return fingerprints(hello.version, hello.cipher_suites, self.offers[0], versions, first_protocol)


def server_side(items: Sequence[Item]) -> Direction:
    """The direction of the server, according to the first hello; without a hello, the flow's responder."""
    for item in items:
        if isinstance(item.message, ServerHello):
            return item.direction
        if isinstance(item.message, ClientHello):
            return DIRECTIONS[1 - item.direction]
    return Direction.RESPONDER


def is_tls13(version: int | None) -> bool:
    """Whether a version is TLS 1.3 or one of its drafts."""
    return version is not None and version_rank(version) > (TLS_1_2, 0)


def has_message(from_server: Sequence[object], kind: HandshakeType) -> bool | None:
    """Whether the server's flight holds a handshake message; ``None``: its end was not captured."""
    for message in from_server:
        if isinstance(message, Handshake):
            if message.type == kind:
                return True
            if message.type in (HandshakeType.SERVER_HELLO_DONE, HandshakeType.FINISHED):
                return False
    return None


# -- the client's part ------------------------------------------------------------------------------------------

AFTER_CERTIFICATE: Final = (HandshakeType.CLIENT_KEY_EXCHANGE, HandshakeType.FINISHED)
"""Messages that a client sends after its certificate: the first one in clear, the second one only if decrypted."""


def has_client_certificate(from_client: Sequence[object]) -> bool | None:
    """Whether the client sent a certificate; ``None``: encrypted, or the handshake ended before."""
    for message in from_client:
        if isinstance(message, CertificateEntry):
            return True
        if isinstance(message, Handshake) and message.type in AFTER_CERTIFICATE:
            return False
    return None


def client_went_on(from_client: Sequence[object], version: int | None) -> bool:
    """Whether the client continued the handshake after its hello; where TLS 1.3 was decrypted, to its end."""
    finished = any(isinstance(message, Handshake) and message.type == HandshakeType.FINISHED for message in from_client)
    is_decrypted = finished or any(isinstance(message, (Certificate, Alert)) for message in from_client)
    if is_tls13(version) and is_decrypted:
        return finished
    return any(map(is_next_step, from_client))


def is_next_step(message: object) -> bool:
    """Whether a client's message continues the handshake after its hello."""
    if isinstance(message, Handshake):
        return message.type == HandshakeType.CLIENT_KEY_EXCHANGE
    return isinstance(message, (ChangeCipherSpec, ClientMasterKey, EncryptedRecord, ApplicationData))


# -- alerts -----------------------------------------------------------------------------------------------------


def describe_alerts(items: Sequence[Item], server: Direction) -> tuple[str, ...]:
    return tuple(describe_alert(alert, item.direction is server) for item, alert in messages(items, Alert))


def describe_alert(alert: Alert, from_server: bool) -> str:
    level = {1: "warning", 2: "fatal"}.get(alert.level, f"level {alert.level}")
    name = ALERTS.get(alert.description, str(alert.description))
    return f"{level} {name} from {'server' if from_server else 'client'}"


def senders_of_encrypted_alerts(items: Sequence[Item], server: Direction) -> tuple[str, ...]:
    """In the order of the capture."""
    records = messages(items, EncryptedRecord)
    senders = (item.direction for item, record in records if record.content_type == ContentType.ALERT)
    return tuple("server" if direction is server else "client" for direction in senders)
