"""The order of messages in a TLS connection (RFC 8446, section 2; RFC 5246, section 7.3).

Each direction is judged by itself: which of two directions came first depends on where they were captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from analyzer.heads import Direction
from analyzer.messages import Item
from analyzer.protocols.tls.handshake import (
    Certificate,
    CertificateEntry,
    ClientHello,
    Handshake,
    ServerHello,
    ServerKeyExchange,
)
from analyzer.protocols.tls.records import Alert, ApplicationData, ChangeCipherSpec, EncryptedRecord, Heartbeat
from analyzer.protocols.tls.registry import SSL_2_0, TLS_1_3, ContentType, HandshakeType

COALESCED_ALERT: Final = 4
"""Bytes of two alerts in one record, which TLS before 1.3 allows (RFC 5246, section 6.2.1)."""
SHORTEST_ENCRYPTED_ALERT: Final = 18
"""Bytes of an encrypted alert: two, and the shortest tag or MAC with its nonce (RFC 7905, RFC 6655, RFC 2246)."""


class Negotiated(NamedTuple):
    """What both hellos agree upon."""

    version: int | None
    """``None``: unknown."""
    by_certificate: bool
    """The cipher suite authenticates the server by a certificate."""
    resumed: bool | None
    """The server resumes an earlier session; ``None``: unknown."""
    offered: bool
    """The client's hello names that session, or its extensions were not read."""


def disorders(items: Sequence[Item], server: Direction, negotiated: Negotiated) -> Iterator[tuple[Item, str]]:
    """Messages that skip a step which the protocol demands: the first of each direction, with a clause that says so.

    ``items``: from the beginning of both directions, in the order of the capture.
    """
    if negotiated.version == SSL_2_0:
        return
    for direction in Direction:
        own = [item for item in items if item.direction is direction]
        found = next(
            server_disorders(own, negotiated) if direction is server else client_disorders(own, negotiated), None
        )
        if found is not None:
            yield found


def client_disorders(items: Sequence[Item], negotiated: Negotiated) -> Iterator[tuple[Item, str]]:
    """What the client sends out of order."""
    for item in items:
        if isinstance(item.message, ClientHello):
            break
        if not isinstance(item.message, Alert):
            yield item, f"the client sends {describe(item.message)} before a ClientHello"
    if negotiated.version is not None and negotiated.version < TLS_1_3 and negotiated.resumed is False:
        exchanged = False
        for item in items:
            message = item.message
            exchanged |= isinstance(message, Handshake) and message.type == HandshakeType.CLIENT_KEY_EXCHANGE
            if isinstance(message, ChangeCipherSpec) and not exchanged:
                yield item, "the client sends ChangeCipherSpec without a key exchange"
    yield from protection_disorders(items, "client", negotiated.version)


def server_disorders(items: Sequence[Item], negotiated: Negotiated) -> Iterator[tuple[Item, str]]:
    """What the server sends out of order."""
    answered = retried = certified = False
    for item in items:
        message = item.message
        if isinstance(message, ServerHello):
            retried = message.hello_retry_request
            answered = not retried
        elif isinstance(message, (Certificate, CertificateEntry)):
            certified = True
        if not answered and not may_precede_hello(message, retried):
            yield item, f"the server sends {describe(message)} before a ServerHello"
        if negotiated.version == TLS_1_3:
            if answered and is_clear_handshake(message):
                yield item, f"the server sends {describe(message)} in clear, which TLS 1.3 encrypts"
        elif isinstance(message, Handshake) and message.type == HandshakeType.SERVER_HELLO_DONE:
            if negotiated.by_certificate and not certified:
                yield item, "the server ends its part of the handshake without a certificate"
        elif isinstance(message, ChangeCipherSpec) and negotiated.resumed and not negotiated.offered:
            yield item, "the server changes to encryption without a key exchange: the client offered no earlier session"
    yield from protection_disorders(items, "server", negotiated.version)


def may_precede_hello(message: object, retried: bool) -> bool:
    """Whether a server may send a message before its ServerHello. ``retried``: it has sent a HelloRetryRequest."""
    if isinstance(message, ChangeCipherSpec):
        return retried
    if isinstance(message, Handshake):
        return message.type in (HandshakeType.HELLO_REQUEST, HandshakeType.HELLO_RETRY_REQUEST)
    return not isinstance(message, (ApplicationData, CertificateEntry, ServerKeyExchange, Heartbeat))


def is_clear_handshake(message: object) -> bool:
    """Whether a message is one of those that TLS 1.3 encrypts."""
    return isinstance(message, (Handshake, CertificateEntry, ServerKeyExchange)) or (
        isinstance(message, EncryptedRecord) and message.content_type == ContentType.HANDSHAKE
    )


def protection_disorders(items: Sequence[Item], sender: str, version: int | None) -> Iterator[tuple[Item, str]]:
    """What one side sends too early, or in clear, as the change to encryption demands of both."""
    changed = finished = False
    for item in items:
        message = item.message
        if isinstance(message, ChangeCipherSpec):
            changed = True
        elif isinstance(message, EncryptedRecord):
            if message.content_type == ContentType.HANDSHAKE:
                finished = changed
            elif message.length > COALESCED_ALERT and (not changed or version == TLS_1_3):
                yield item, f"the {sender} sends an alert of {message.length} bytes before anything is encrypted"
            elif changed and version != TLS_1_3 and message.length < SHORTEST_ENCRYPTED_ALERT:
                yield item, f"the {sender} sends an alert of {message.length} bytes, shorter than any encrypted one"
        elif isinstance(message, ApplicationData) and version is not None and version < TLS_1_3:
            if not changed:
                yield item, f"the {sender} sends application data without ChangeCipherSpec"
            elif not finished:
                yield item, f"the {sender} sends application data without Finished"


def describe(message: object) -> str:
    """A message in words."""
    if isinstance(message, ApplicationData):
        return "application data"
    if isinstance(message, EncryptedRecord):
        return "an encrypted record"
    if isinstance(message, (Certificate, CertificateEntry)):
        return "a certificate"
    if isinstance(message, Handshake):
        return f"handshake message {message.type}"
    return {ChangeCipherSpec: "ChangeCipherSpec", Heartbeat: "a heartbeat"}.get(type(message), "another message")
