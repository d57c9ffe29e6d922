"""Checks of a TLS connection as a whole: the order of its messages, and whether its records stay encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analyzer.checks.tls.evidence import facts_of, frames_of, items_of
from analyzer.findings import Issue, Kind, Severity, check, cited_frames
from analyzer.heads import DIRECTIONS, Frame, SecureConnection, SecureDirection
from analyzer.matching import Match
from analyzer.protocols.tls import ApplicationData, disorders
from analyzer.protocols.tls.registry import TLS_1_3
from analyzer.scanner import columns

MIN_SAMPLED: Final = 64
"""Bytes of ciphertext from which on a lack of high bits is no chance: of 64, at most eight once in 10**10."""


@check("TPE288", "tls-out-of-order", Severity.MEDIUM, protocol="tls")
def out_of_order(match: Match) -> Iterator[Issue]:
    """Flags: a connection whose beginning is in the capture, and which skips a step that its version of TLS demands:
    data before a hello, no certificate, no ChangeCipherSpec or Finished before the data, handshake messages of TLS 1.3
    in clear, alerts of impossible length, heartbeats that nobody negotiated.

    Why: no TLS library sends that; something else uses the port and only looks like TLS.

    Evidence: the first message of each direction that is out of order (RFC 8446, section 2; RFC 5246, section 7.3; RFC
    6520), and the records of heartbeats.

    Remedy: Find out which program opened the connection on the base station, and what answers it.
    """
    facts, head = facts_of(match), match.conversation.head
    clauses: dict[str, Frame] = {}
    if facts._disorders and facts.decrypted is None:
        found = disorders(match.conversation.dissection.items)
        clauses = {clause: item.frame for item, clause in found if head.streams[item.direction].begins}
    if clauses:
        sentence = f"The handshake skips a step: {' and '.join(clauses)}."
        yield Issue(sentence, cited_frames(clauses.values()))
    if head.secure is not None and (facts._heartbeats is False or facts._version == TLS_1_3):
        count = sum(found.heartbeats for found in head.secure.directions)
        if count:
            records = "A heartbeat record passes" if count == 1 else f"{count:,} heartbeat records pass"
            sentence = f"{records}, and the hellos of both sides did not agree upon heartbeats."
            yield Issue(sentence, event_frames(head.secure, columns.HEARTBEAT_RECORD))


@check("TPE289", "tls-not-encrypted", Severity.HIGH, protocol="tls")
def not_encrypted(match: Match) -> Iterator[Issue]:
    """Flags: application data that no cipher made: text, bytes of which far too few have the highest bit set, or
    records shorter than any tag. A cipher suite without encryption is a finding of its own, TPE266.

    Severity: high for content that can be read, medium where only the length of records is impossible.

    Why: what the row is to protect goes in clear, inside of records that look like TLS.

    Evidence: samples of every record and segment, at any place of the connection: half of the bytes of ciphertext have
    the highest bit set, and 32 bytes of it in a row are text once in 10**13. No byte of the content is repeated here.

    Remedy: Find out which program opened the connection on the base station, and what it sends.
    """
    secure, facts = match.conversation.head.secure, facts_of(match)
    if secure is None or "_NULL_" in (facts.cipher_suite or ""):
        return
    readable = [side for side, found in sides(match, secure) if found.clear or is_low(found)]
    if readable:
        frames = event_frames(secure, columns.CLEAR_CONTENT) or frames_of(items_of(match, ApplicationData))
        yield Issue(f"Readable content from {' and '.join(readable)}, where TLS encrypts.", frames)
    elif any(found.short for found in secure.directions):
        sentence = "Records of application data pass that are shorter than any cipher makes them."
        yield Issue(sentence, event_frames(secure, columns.RECORD_SHORT), Severity.MEDIUM)


def is_low(found: SecureDirection) -> bool:
    """Whether far too few bytes of what should be ciphertext have the highest bit set."""
    return found.sampled >= MIN_SAMPLED and 8 * found.high < found.sampled


@check("TPE290", "tls-records-not-read", Severity.INFO, protocol="tls", kind=Kind.NOTICE, aggregated=True)
def records_not_read(match: Match) -> Iterator[Issue]:
    """Flags: bytes of a connection in which no record header was found, because the capture lacks what came before.

    Why: what was in them could not be judged by its framing; reading resumed at the next record.

    Evidence: how many bytes were passed over, and how many TCP's sequence numbers show to be missing.

    Remedy: Capture without loss, and whole frames.
    """
    secure = match.conversation.head.secure
    if secure is None or match.conversation.dissection.malformed:
        return
    unread, missing = (sum(getattr(found, name) for found in secure.directions) for name in ("unread", "missing"))
    if unread and missing:
        yield Issue("Records of TLS were not read where the capture lacks bytes before them.")


def sides(match: Match, secure: SecureConnection) -> Iterator[tuple[str, SecureDirection]]:
    """Both sides in words, with what the scanner found in the direction in which each sends."""
    for direction, found in zip(DIRECTIONS, secure.directions, strict=True):
        yield "the server" if direction is facts_of(match)._server else "the client", found


def event_frames(secure: SecureConnection, kind: int) -> tuple[Frame, ...]:
    """The frames of a connection's events of one kind."""
    return cited_frames(event.frame for event in secure.events if event.kind == kind)
