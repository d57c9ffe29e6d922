"""Checks of the handshake's course: refusals, alerts, resumption, server names, and what encryption hides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analyzer.checks.tls.evidence import (
    facts_of,
    fatal_alerts,
    frames_of,
    items_of,
    suite_frames,
    version_frames,
)
from analyzer.checks.tls.names import is_address, is_host_name
from analyzer.findings import Issue, Kind, Severity, check
from analyzer.matching import Match
from analyzer.messages import messages
from analyzer.protocols.tls import ClientHello, EncryptedRecord, Handshake, ServerHello
from analyzer.protocols.tls.registry import ALERTS, ContentType, HandshakeType, cipher_suite_name, is_grease

MEANINGS: Final = {
    10: "a message came that does not belong there",
    20: "a record's integrity check failed",
    40: "no version, cipher suite or parameter suits both sides",
    41: "no certificate was given",
    42: "the certificate is damaged or its signature does not verify",
    43: "the certificate is of a kind that is not supported",
    44: "the certificate was revoked by its issuer",
    45: "the certificate has expired or is not valid yet",
    46: "the certificate was rejected for another reason",
    47: "a field of the handshake is out of range",
    48: "the certificate's issuer is not trusted",
    49: "the certificate is valid, but access is not allowed",
    50: "a message could not be decoded",
    51: "a signature or a Finished message does not verify",
    70: "the version offered is not supported",
    71: "the cipher suites offered are too weak for the server",
    80: "an error inside the sender",
    86: "a fallback to an older version was noticed",
    90: "the user gave up",
    109: "an extension is missing",
    110: "an extension came that was not asked for",
    112: "the server does not know the name asked for",
    115: "the pre-shared key is not known",
    116: "the server demands a client certificate",
    120: "no application protocol suits both sides",
}
"""Alert → what its sender objects to (RFC 8446, section 6.2; RFC 5246, section 7.2.2)."""


# -- refusals ---------------------------------------------------------------------------------------------------


@check("TPE264", "tls-handshake-refused", Severity.MEDIUM, protocol="tls", pure=True)
def handshake_refused(match: Match) -> Iterator[Issue]:
    """Flags: a fatal alert in clear, so before the handshake was completed; of TLS 1.3 also one that keys open.

    Why: the connection fails, and with it the service of the row; the alert says what its sender objects to.

    Evidence: the alert record, and what was offered, if nothing of it suits. Alerts behind the change to encryption
    cannot be read without keys.

    Remedy: Correct what the alert objects to, on the side that did not send it.
    """
    alerts = list(fatal_alerts(match))
    for direction, description in dict.fromkeys((item.direction, alert.description) for item, alert in alerts):
        sender = "server" if direction == facts_of(match)._server else "client"
        name = ALERTS.get(description, str(description))
        meaning = f": {MEANINGS[description]}" if description in MEANINGS else ""
        frames = frames_of(
            item for item, alert in alerts if (item.direction, alert.description) == (direction, description)
        )
        offer = offered(match) if sender == "server" and description in NOTHING_SUITS else ""
        yield Issue(f"The {sender} refuses the handshake with the alert {name}{meaning}{offer}.", frames)


NOTHING_SUITS: Final = frozenset({40, 70, 71})
"""Alerts that object to the versions and cipher suites that were offered."""
SUITES_SHOWN: Final = 3
"""Maximum cipher suites of an offer that a sentence lists."""
SIGNALLING_SUITES: Final = frozenset({0x00FF, 0x5600})
"""Values in the place of cipher suites that signal renegotiation and fallback (RFC 5746, RFC 7507)."""


def offered(match: Match) -> str:
    """What the client offered: its highest version and its first cipher suites."""
    hello = next((hello for _, hello in messages(match.conversation.dissection.items, ClientHello)), None)
    if hello is None or hello.ssl2:
        return ""
    suites = [suite for suite in hello.cipher_suites if not is_grease(suite) and suite not in SIGNALLING_SUITES]
    more = f" and {len(suites) - SUITES_SHOWN} more" if len(suites) > SUITES_SHOWN else ""
    version = facts_of(match).offered_version
    at_most = f" {version} at most," if version else ""
    return f"; the client offered{at_most} with {', '.join(map(cipher_suite_name, suites[:SUITES_SHOWN]))}{more}"


@check("TPE265", "tls-handshake-abandoned", Severity.LOW, protocol="tls")
def handshake_abandoned(match: Match) -> Iterator[Issue]:
    """Flags: a connection that both sides closed before the handshake was completed, without an alert: never answered
    by the server, or not continued by the client after the server's answer.

    Severity: medium where the server never answered, low where the client did not go on.

    Why: nothing was transported; one side may have objected without saying so.

    Evidence: both directions are in the capture from their first to their last byte.

    Remedy: Look into the log of the side that closed the connection.
    """
    facts, conversation = facts_of(match), match.conversation
    if facts._client_went_on or not facts._hello_seen:
        return
    complete = all(stream.begins and stream.ends for stream in conversation.head.streams)
    if not complete or conversation.dissection.parse_errors or next(fatal_alerts(match), None) is not None:
        return
    hellos, answers = items_of(match, ClientHello), items_of(match, ServerHello)
    if hellos and answers:
        sentence = "The connection was closed after the server's hello, and the client never went on."
        yield Issue(sentence, frames_of(answers), Severity.LOW)
    elif hellos:
        sentence = "The connection was closed, and the server never answered the client's hello."
        yield Issue(sentence, frames_of(hellos), Severity.MEDIUM)


@check("TPE283", "tls-encrypted-alert", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True, aggregated=True)
def encrypted_alert(match: Match) -> Iterator[Issue]:
    """Flags: an alert behind the change to encryption, before any application data from its sender.

    Why: it is a refusal or the normal end of a connection; which of them only the two ends can read.

    Evidence: an alert record behind the ChangeCipherSpec, and how many base stations show one. TLS 1.3 hides alerts
    altogether.

    Remedy: Look into the log of either end if the connection should have carried data.
    """
    senders = facts_of(match).encrypted_alerts
    if senders:
        records = messages(match.conversation.dissection.items, EncryptedRecord)
        frames = frames_of(item for item, record in records if record.content_type == ContentType.ALERT)
        names = " and the ".join(senders)
        sentence = f"An encrypted alert came from the {names} instead of data: its meaning is hidden."
        yield Issue(sentence, frames)


# -- what is not seen -------------------------------------------------------------------------------------------


@check("TPE277", "tls-certificates-hidden", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True)
def certificates_hidden(match: Match) -> Iterator[Issue]:
    """Flags: a TLS 1.3 handshake, which encrypts the certificates.

    Why: the certificates are hidden, which does not mean that they are valid.

    Evidence: the supported_versions extension of the ServerHello.

    Remedy: Check the server's certificate by connecting to it, or decrypt the capture with the session's keys
    (--tls-keylog).
    """
    facts = facts_of(match)
    if facts.certificates_hidden:
        sentence = (
            f"The certificates are hidden by {facts.version}; whether they are valid cannot be seen without keys."
        )
        yield Issue(sentence, version_frames(match))


@check("TPE278", "tls-session-resumed", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True)
def session_resumed(match: Match) -> Iterator[Issue]:
    """Flags: a handshake that resumes an earlier session.

    Why: no certificate is sent again, so that none can be judged.

    Evidence: the server changes to encryption right after its hello; in TLS 1.3 its hello selects a pre-shared key.
    What the client named the session with stands in its hello.

    Remedy: Capture from before the first connection, or restart the base station, to see a full handshake.
    """
    facts = facts_of(match)
    if facts.resumed:
        means = f" by its {facts.resumed_by}" if facts.resumed_by else ""
        sentence = f"The handshake resumes an earlier session{means}, so no certificate is sent that could be checked."
        yield Issue(sentence, version_frames(match))


@check("TPE279", "tls-handshake-not-seen", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True)
def handshake_not_seen(match: Match) -> Iterator[Issue]:
    """Flags: a TLS conversation whose handshake is not in the capture.

    Why: its version, cipher suite and certificates cannot be judged any more.

    Evidence: TLS records without a hello before them.

    Remedy: Start the capture before the base station connects.
    """
    items = () if facts_of(match)._hello_seen else match.conversation.dissection.items
    if items:
        sentence = "The TLS handshake is not in the capture, so cipher suite and certificates could not be checked."
        yield Issue(sentence, (items[0].frame,))


# -- names and authentication -----------------------------------------------------------------------------------


@check("TPE282", "tls-server-name-malformed", Severity.LOW, protocol="tls", pure=True)
def server_name_malformed(match: Match) -> Iterator[Issue]:
    """Flags: a server_name extension without exactly one host name in it, or with one that no host can have. IP
    literals are passed over: RFC 6066 forbids them, but stunnel and Basics Station send them.

    Why: servers refuse such hellos, or answer with the wrong certificate (RFC 6066 section 3, RFC 1123 section 2.1).

    Evidence: the ClientHello.

    Remedy: Configure the base station with the server's DNS name as it stands in the server's certificate.
    """
    names = facts_of(match)._server_names
    if names is None:
        return
    if len(names) != 1:
        sentence = f"The server_name extension lists {len(names) or 'no'} host names, where one is allowed."
    elif not is_host_name(names[0]) and not is_address(names[0]):
        sentence = f"The client asks for {names[0] or 'an empty name'}, which is no host name."
    else:
        return
    yield Issue(sentence, frames_of(items_of(match, ClientHello)))


@check("TPE284", "tls-server-without-certificate", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True)
def server_without_certificate(match: Match) -> Iterator[Issue]:
    """Flags: a handshake in which both ends prove that they know a shared key, or a password, before TLS 1.3.

    Why: the server sends no certificate, so that none can be judged; all depends on who knows the key.

    Evidence: the cipher suite of the ServerHello (RFC 4279, RFC 5489, RFC 5054).

    Remedy: Make sure that each base station has a key of its own, or give the server a certificate.
    """
    facts = facts_of(match)
    suite = facts.cipher_suite or ""
    if ("_PSK_" in suite or "_SRP_" in suite) and not facts.certificates and not facts.resumed:
        sentence = f"The server authenticates without a certificate: the chosen cipher suite is {suite}."
        yield Issue(sentence, suite_frames(match))


@check("TPE285", "tls-client-certificate-withheld", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True)
def client_certificate_withheld(match: Match) -> Iterator[Issue]:
    """Flags: a server that asks for a client certificate and a client that goes on without one.

    Why: a base station without its certificate is one among many; the server may refuse it, or not know which it is.

    Evidence: the CertificateRequest, and a Certificate message of the client that is empty or not there. TLS 1.3 hides
    both.

    Remedy: Install the base station's own certificate and key by the key installer.
    """
    facts = facts_of(match)
    if facts.client_certificate_requested and facts.client_certificate is False:
        handshakes = messages(match.conversation.dissection.items, Handshake)
        frames = frames_of(item for item, message in handshakes if message.type == HandshakeType.CERTIFICATE_REQUEST)
        yield Issue("The server asks for a client certificate, and the client sends none.", frames)
