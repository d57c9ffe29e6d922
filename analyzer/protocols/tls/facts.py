"""The facts of a TLS conversation that follow from its messages."""

from __future__ import annotations

import enum
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from analyzer.heads import DIRECTIONS, Direction
from analyzer.messages import Facts, Item, messages
from analyzer.protocols.tls.certificates import X509Certificate, read_certificate, signed_by
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
from analyzer.protocols.tls.records import Alert, ApplicationData, ChangeCipherSpec, EncryptedRecord
from analyzer.protocols.tls.registry import (
    ALERTS,
    KNOWN_CLIENTS,
    SSL_2_0,
    SSL_3_0,
    TLS_1_0,
    TLS_1_1,
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

JA4_VERSIONS: Final = {TLS_1_3: "13", TLS_1_2: "12", TLS_1_1: "11", TLS_1_0: "10", SSL_3_0: "s3", SSL_2_0: "s2"}
NOT_IN_JA4: Final = (ExtensionType.SERVER_NAME, ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
"""Extensions that do not enter JA4's third part: the same software sends them for some servers only."""


class Link(enum.Enum):
    """How a certificate of a chain is tied to the next one (RFC 5246 section 7.4.2: it must certify it directly)."""

    SIGNED = "signed"
    """The next one's key made its signature."""
    UNVERIFIED = "unverified"
    """Whether the next one signed it cannot be told: one of them cannot be read, or the algorithm is unknown."""
    FORGED = "forged"
    """The next one is named as the issuer, and its key did not make the signature."""
    ELSEWHERE = "elsewhere"
    """Another one of the chain made its signature, or it needs none for it signed itself."""
    UNRELATED = "unrelated"
    """No certificate of the chain made its signature."""


@dataclass(frozen=True, slots=True)
class TlsFacts(Facts):
    """What a conversation in TLS or SSL shows in clear, and with keys of what TLS 1.3 hides."""

    offered_version: SafeText | None = None
    """The highest that the client offers: ``TLS 1.3``."""
    version: SafeText | None = None
    """The one that the server chose."""
    cipher_suite: SafeText | None = None
    """The one chosen: IANA's name, or its number."""
    server_name: str | None = None
    """Whom the client asked for."""
    alpn: tuple[SafeText, ...] = ()
    """The application protocol that the server chose, else those that the client offered."""
    certificates: tuple[X509Certificate, ...] = ()
    """The server's chain as sent, its own certificate first."""
    chain: SafeText | None = None
    """How the server's certificates follow each other: ``ordered`` (each is signed by the next), ``unordered`` (the
    signer of one stands elsewhere in the chain), ``broken`` (the signer of one is not there); ``None`` for fewer than
    two. See :class:`Link`."""
    client_certificate: bool | None = None
    """Whether the client sent a certificate; ``None`` where that is encrypted or was not seen."""
    client_certificate_requested: bool | None = None
    """Whether the server asked for one; ``None`` where that is encrypted or was not seen."""
    ocsp_stapled: bool | None = None
    """The server sent its certificate's status along (RFC 6066 section 8); ``None`` where that was not seen."""
    alerts: tuple[SafeText, ...] = ()
    """In clear: ``fatal certificate_expired from client``."""
    encrypted_alerts: tuple[SafeText, ...] = ()
    """Who sent an alert that only the two ends can read before any application data: ``client``, ``server``."""
    resumed: bool | None = None
    """An earlier session goes on, so that no certificate is sent."""
    resumed_by: SafeText | None = None
    """What the client named the earlier session with: ``session id``, ``session ticket`` (RFC 5077) or
    ``pre-shared key`` (TLS 1.3)."""
    hello_retry: bool | None = None
    """The server asked for a second ClientHello with another key share (RFC 8446 section 4.1.4)."""
    certificates_hidden: bool | None = None
    """The certificates are encrypted (TLS 1.3)."""
    key_exchange: SafeText | None = None
    """Group of the ephemeral key exchange: ``x25519``, ``DH 2048``."""
    ja3: str | None = None
    ja4: str | None = None
    client_hint: SafeText | None = None
    """Software that sends this ClientHello: a hint, no proof."""
    decrypted: str | None = None
    """Who decrypted the handshake with keys that the user gave."""
    _server: Direction = Direction.RESPONDER
    _version: int | None = None
    _hello_seen: bool = False
    """A hello of either side is there; else the conversation's beginning is not in the capture."""
    _client_went_on: bool = False
    """The client answered the server's hello and certificate with the next step of the handshake."""
    _self_signed: bool = False
    """The server's own certificate is signed with its own key."""
    _dh_bits: int | None = None
    """Size of the Diffie-Hellman prime, in bits."""
    _server_names: tuple[str, ...] | None = None
    """All that the client's server_name extension lists; ``None``: there is none."""
    _compressed: bool = False
    """The server chose to compress (RFC 3749)."""
    _links: tuple[Link, ...] = ()
    """Of each of the server's certificates to the next one; one less than certificates."""


Said = Mapping[type, list[Any]]
"""The messages of a conversation by kind, in the order of the capture; an empty list for a kind that is not there."""


def facts(items: Sequence[Item]) -> TlsFacts:
    """The facts that follow from all messages, in the order of the capture."""
    said: defaultdict[type, list[Any]] = defaultdict(list)
    for item in items:
        said[type(item.message)].append(item.message)
    server = server_side(items)
    hellos: list[ClientHello] = said[ClientHello]
    server_hellos: list[ServerHello] = said[ServerHello]
    extensions: list[Extensions] = said[Extensions]
    offers = [each for each in extensions if each.hello is HandshakeType.CLIENT_HELLO]
    choices = [each for each in extensions if each.hello is HandshakeType.SERVER_HELLO]
    protocols: list[ApplicationProtocols] = said[ApplicationProtocols]
    chosen_protocols = [each.names for each in protocols if each.by_server]
    offered_protocols = [each.names for each in protocols if not each.by_server]
    alpn = chosen_protocols[-1] if chosen_protocols else offered_protocols[0] if offered_protocols else ()
    own = [item.message for item in items if item.direction is server]
    others = [item.message for item in items if item.direction is not server]
    chain = [message.data for message in own if isinstance(message, CertificateEntry)]
    versions: list[SupportedVersions] = said[SupportedVersions]
    version = chosen_version(said, [each.versions[0] for each in versions if each.by_server], len(choices))
    exchanges: list[ServerKeyExchange] = said[ServerKeyExchange]
    resumed = is_resumed(own, bool(server_hellos), version, choices)
    certificates = tuple(read_certificate(data) for data in chain)
    ja3 = ja4 = None
    if hellos and offers and not hellos[0].ssl2:
        listed = next((each.versions for each in versions if not each.by_server), ())
        first_protocol = offered_protocols[0][0] if offered_protocols and offered_protocols[0] else b""
        ja3, ja4 = fingerprints((hellos[0].version, hellos[0].cipher_suites), offers[0], listed, first_protocol)
    hello_done = bool(server_hellos) and not server_hellos[-1].hello_retry_request
    links = chain_links(tuple(chain))
    return TlsFacts(
        offered_version=offered_version(hellos, versions, bool(offers)),
        version=None if version is None else version_name(version),
        cipher_suite=chosen_suite(said),
        server_name=next((name for each in said[ServerName] for name in each.names), None),
        alpn=tuple(map(decode_text, alpn)),
        certificates=certificates,
        chain=chain_in_words(links),
        client_certificate=has_client_certificate(others),
        client_certificate_requested=is_asked_for(own, HandshakeType.CERTIFICATE_REQUEST),
        ocsp_stapled=True if is_asked_for(own, HandshakeType.CERTIFICATE_STATUS) else None,
        alerts=shown_alerts(items, server) if said[Alert] else (),
        encrypted_alerts=encrypted_alerts(items, server) if said[EncryptedRecord] else (),
        resumed=resumed,
        resumed_by=resumed_by(version, hellos, server_hellos, bool(said[SessionTicket])) if resumed else None,
        hello_retry=any(each.hello_retry_request for each in server_hellos) or None,
        certificates_hidden=True if is_tls13(version) and hello_done and not resumed and not chain else None,
        key_exchange=key_exchange(exchanges, choices),
        ja3=ja3,
        ja4=ja4,
        client_hint=KNOWN_CLIENTS.get(ja3) if ja3 else None,
        _server=server,
        _version=version,
        _hello_seen=bool(hellos or server_hellos),
        _client_went_on=finished(others) if is_tls13(version) and is_opened(others) else any(map(went_on, others)),
        _self_signed=bool(chain) and certificates[0]._self_issued and signed_by(chain[0], chain[0]) is True,
        _dh_bits=exchanges[-1].prime_bits if exchanges else None,
        _server_names=next((each.names for each in said[ServerName]), None),
        _compressed=bool(server_hellos) and server_hellos[-1].compression_method != 0,
        _links=links,
    )


def server_side(items: Sequence[Item]) -> Direction:
    """Who is the server: its hello tells, else the client's, else who was asked."""
    for item in items:
        if isinstance(item.message, ServerHello):
            return item.direction
        if isinstance(item.message, ClientHello):
            return DIRECTIONS[1 - item.direction]
    return Direction.RESPONDER


def offered_version(hellos: Sequence[ClientHello], versions: Sequence[SupportedVersions], complete: bool) -> str | None:
    """The highest version that the client offers; unknown while an extension may still offer a higher one."""
    for each in versions:
        if not each.by_server:
            known = [version for version in each.versions if not is_grease(version)]
            return version_name(max(known, key=version_rank)) if known else None
    if hellos and (complete or hellos[0].ssl2 or hellos[0].version < TLS_1_2):
        return version_name(hellos[0].version)
    return None


def chosen_version(said: Said, extended: Sequence[int], complete: int) -> int | None:
    """The version that the server chose.

    ``extended``: what supported_versions extensions of the server say; ``complete``: number of server hellos whose
    extensions were all read. Without a hello the records of application data tell, up to TLS 1.1.
    """
    hellos: list[ServerHello] = said[ServerHello]
    if extended:
        return extended[-1]
    if hellos:
        hello = hellos[-1]
        if hello.version != TLS_1_2 or complete >= len(hellos):
            return hello.version
        return TLS_1_3 if hello.cipher_suite is not None and hello.cipher_suite >> 8 == 0x13 else None
    if said[ClientMasterKey]:
        return SSL_2_0
    return next((each.version for each in said[ApplicationData] if each.version < TLS_1_2), None)


def is_tls13(version: int | None) -> bool:
    return version is not None and version_rank(version) > (TLS_1_2, 0)


def chosen_suite(said: Said) -> str | None:
    """Name of the cipher suite of the last server hello; in SSL 2.0 the client chooses."""
    for key in said[ClientMasterKey]:
        return cipher_kind_name(key.cipher_kind)
    suites = [each.cipher_suite for each in said[ServerHello] if each.cipher_suite is not None]
    return cipher_suite_name(suites[-1]) if suites else None


def is_resumed(
    own: Sequence[object], answered: bool, version: int | None, choices: Sequence[Extensions]
) -> bool | None:
    """Whether the server goes on with an earlier session; ``None``: the packets do not show it.

    ``own``: the server's messages; ``answered``: its hello is there. Before TLS 1.3 it changes its cipher right after
    a hello that resumes (RFC 5246 section 7.3); in TLS 1.3 its hello selects a pre-shared key (RFC 8446 section 2.2).
    """
    if is_tls13(version):
        return ExtensionType.PRE_SHARED_KEY in choices[-1].types if choices else None
    if not answered:
        return None
    for message in own:
        if isinstance(message, CertificateEntry):
            return False
        if isinstance(message, Handshake) and message.type == HandshakeType.SERVER_HELLO_DONE:
            return False
        if isinstance(message, ChangeCipherSpec):
            return True
    return None


def resumed_by(
    version: int | None, hellos: Sequence[ClientHello], server_hellos: Sequence[ServerHello], ticket: bool
) -> str | None:
    """What a resumed session was named with. A server that accepts a ticket says so with the client's session id, too
    (RFC 5077 section 3.4)."""
    if is_tls13(version):
        return "pre-shared key"
    if ticket:
        return "session ticket"
    offered = next((each.session_id for each in hellos if each.session_id), b"")
    same = bool(offered) and server_hellos[-1].session_id == offered
    return "session id" if same else None


def is_asked_for(own: Sequence[object], kind: HandshakeType) -> bool | None:
    """Whether a message is in the server's flight; ``None``: the flight was not seen to its end."""
    for message in own:
        if isinstance(message, Handshake):
            if message.type == kind:
                return True
            if message.type in (HandshakeType.SERVER_HELLO_DONE, HandshakeType.FINISHED):
                return False
    return None


@lru_cache(maxsize=256)
def chain_links(chain: tuple[bytes, ...]) -> tuple[Link, ...]:
    """How each certificate of a chain as sent is tied to the next one."""
    return tuple(link(chain, position) for position in range(min(len(chain), LONGEST_CHAIN) - 1))


LONGEST_CHAIN: Final = 10
"""Certificates of a chain that are looked at; OpenSSL's depth limit was 9 issuers for long, too."""


def link(chain: tuple[bytes, ...], position: int) -> Link:
    """How one certificate of a chain is tied to the one behind it."""
    own, following = read_certificate(chain[position]), read_certificate(chain[position + 1])
    if own.issuer is None or following.subject is None:
        return Link.UNVERIFIED
    named = own.issuer == following.subject
    verified = signed_by(chain[position], chain[position + 1]) if named else False
    if verified:
        return Link.SIGNED
    namesakes = (each for each in chain[:LONGEST_CHAIN] if own.issuer == read_certificate(each).subject)
    if any(signed_by(chain[position], each) for each in namesakes):
        return Link.ELSEWHERE
    if not named:
        return Link.UNRELATED
    return Link.UNVERIFIED if verified is None else Link.FORGED


def chain_in_words(links: Sequence[Link]) -> str | None:
    """The word for a chain; ``None`` where there is nothing to say, or it cannot be told."""
    if not links or Link.UNVERIFIED in links:
        return None
    if all(each is Link.SIGNED for each in links):
        return "ordered"
    return "unordered" if all(each in (Link.SIGNED, Link.ELSEWHERE) for each in links) else "broken"


def has_client_certificate(others: Sequence[object]) -> bool | None:
    """Whether the client sent a certificate; ``None``: it cannot be seen, or the client did not come that far."""
    for message in others:
        if isinstance(message, CertificateEntry):
            return True
        if isinstance(message, Handshake) and message.type in LAST_STEPS:
            return False
    return None


LAST_STEPS: Final = (HandshakeType.CLIENT_KEY_EXCHANGE, HandshakeType.FINISHED)
"""Of a client, behind its certificate; in clear there is only the first of them, decrypted only the second."""


def is_opened(others: Sequence[object]) -> bool:
    """Whether what a client sent encrypted in the handshake of TLS 1.3 was decrypted."""
    return finished(others) or any(isinstance(message, (Certificate, Alert)) for message in others)


def finished(others: Sequence[object]) -> bool:
    """Whether the client completed the handshake of TLS 1.3, which only decryption shows."""
    return any(isinstance(message, Handshake) and message.type == HandshakeType.FINISHED for message in others)


def went_on(message: object) -> bool:
    """Whether a client's message is the step behind its hello."""
    if isinstance(message, Handshake):
        return message.type == HandshakeType.CLIENT_KEY_EXCHANGE
    return isinstance(message, (ChangeCipherSpec, ClientMasterKey, EncryptedRecord, ApplicationData))


def encrypted_alerts(items: Sequence[Item], server: Direction) -> tuple[str, ...]:
    """Who sent one, in the order of the capture."""
    found = (
        item.direction for item, said in messages(items, EncryptedRecord) if said.content_type == ContentType.ALERT
    )
    return tuple("server" if direction is server else "client" for direction in found)


def shown_alerts(items: Sequence[Item], server: Direction) -> tuple[str, ...]:
    return tuple(shown_alert(alert, item.direction == server) for item, alert in messages(items, Alert))


def shown_alert(alert: Alert, from_server: bool) -> str:
    level = {1: "warning", 2: "fatal"}.get(alert.level, f"level {alert.level}")
    name = ALERTS.get(alert.description, str(alert.description))
    return f"{level} {name} from {'server' if from_server else 'client'}"


def key_exchange(exchanges: Sequence[ServerKeyExchange], choices: Sequence[Extensions]) -> str | None:
    """The group of the ephemeral key exchange; before TLS 1.3 it has a message of its own."""
    if exchanges:
        group, bits = exchanges[-1].group, exchanges[-1].prime_bits
        return f"DH {bits}" if bits is not None else None if group is None else group_name(group)
    return group_name(choices[-1].key_share[0]) if choices and choices[-1].key_share else None


@lru_cache(maxsize=256)
def fingerprints(
    hello: tuple[int, tuple[int, ...]], extensions: Extensions, versions: tuple[int, ...], alpn: bytes
) -> tuple[str, str]:
    """JA3 (Salesforce) and JA4 (FoxIO) of a ClientHello: which software speaks. GREASE is left out of both.

    ``hello``: version and cipher suites; ``versions``: of the supported_versions extension; ``alpn``: the first
    protocol offered, empty if none. Stations of one make send the same hello, so it is computed once.
    """
    version, suites = hello[0], without_grease(hello[1])
    types, groups = without_grease(extensions.types), without_grease(extensions.supported_groups)
    lists = (suites, types, groups, extensions.ec_point_formats)
    ja3 = ",".join((str(version), *("-".join(map(str, each)) for each in lists)))
    highest = max(without_grease(versions), key=version_rank, default=version)
    first_and_last = "00"
    if alpn:
        readable = alpn[:1].isalnum() and alpn[-1:].isalnum()
        shown = alpn.decode("ascii") if readable and alpn.isascii() else alpn.hex()
        first_and_last = shown[0] + shown[-1]
    start = (
        f"t{JA4_VERSIONS.get(highest, '00')}{'d' if ExtensionType.SERVER_NAME in types else 'i'}"
        f"{min(len(suites), 99):02}{min(len(types), 99):02}{first_and_last}"
    )
    counted = sorted(f"{each:04x}" for each in types if each not in NOT_IN_JA4)
    algorithms = ",".join(f"{each:04x}" for each in without_grease(extensions.signature_algorithms))
    described = ",".join(counted) + (f"_{algorithms}" if algorithms else "")
    parts = (",".join(sorted(f"{each:04x}" for each in suites)), described if types else "")
    digests = (hashlib.sha256(each.encode()).hexdigest()[:12] if each else "0" * 12 for each in parts)
    return hashlib.md5(ja3.encode(), usedforsecurity=False).hexdigest(), "_".join((start, *digests))


def without_grease(values: tuple[int, ...]) -> list[int]:
    return [value for value in values if not is_grease(value)]
