"""Opinions on TLS: versions, refusals, cipher suites and the server's certificate."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from analyzer.findings import Check, Issue, Kind, Severity, check
from analyzer.heads import Frame
from analyzer.matching import Match
from analyzer.messages import Item, messages
from analyzer.protocols.tls import (
    Alert,
    ApplicationData,
    CertificateEntry,
    ClientHello,
    ClientMasterKey,
    EncryptedRecord,
    Handshake,
    Link,
    ServerHello,
    ServerKeyExchange,
    TlsFacts,
    X509Certificate,
)
from analyzer.protocols.tls.registry import (
    ALERTS,
    SSL_3_0,
    TLS_1_2,
    VERSIONS,
    ContentType,
    HandshakeType,
    version_rank,
)

SHOWN_FRAMES: Final = 8

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

BROKEN_SUITES: Final = (
    ("_WITH_NULL", "does not encrypt"),
    ("TLS_SHA256_SHA256", "does not encrypt"),
    ("TLS_SHA384_SHA384", "does not encrypt"),
    ("_EXPORT", "uses keys shortened for export"),
    ("_anon_", "does not authenticate the server"),
    ("_RC4_", "uses RC4"),
    ("_DES_", "uses single DES"),
    ("_DES40_", "uses DES with 40 bits"),
)
SMALL_BLOCK_SUITES: Final = (("_3DES_", "3DES"), ("_EDE3_", "3DES"), ("_IDEA_", "IDEA"), ("_RC2_", "RC2"))

STATIC_EXCHANGES: Final = ("TLS_RSA_", "TLS_DH_RSA_", "TLS_DH_DSS_", "TLS_ECDH_RSA_", "TLS_ECDH_ECDSA_", "SSL_RSA_")

WEAK_HASHES: Final = ("MD2", "MD5", "SHA-1")

HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")
"""RFC 1123 section 2.1, with the underscores that are in use; without the final dot (RFC 6066 section 3)."""


@check("TPE261", "tls-obsolete-version", Severity.HIGH, protocol="tls", pure=True)
def obsolete_version(match: Match) -> Iterator[Issue]:
    """Flags: SSL 2.0 or SSL 3.0 (high), TLS 1.0 or TLS 1.1 (medium) as the version that the server chose.

    Why: SSL 2.0 and 3.0 can be broken by whoever sits on the path (RFC 6176, RFC 7568); TLS 1.0 and 1.1 rest on MD5 and
    SHA-1 and must not be used (RFC 8996).

    Evidence: the ServerHello; without it, the version of the records that carry application data.

    Remedy: Configure both ends for TLS 1.2 or newer and switch the older versions off.
    """
    facts = facts_of(match)
    if facts._version is not None and facts._version < TLS_1_2:
        ssl = facts._version <= SSL_3_0
        reason = "which anyone on the path can break" if ssl else "which RFC 8996 forbids"
        floor = f"; row {match.row.id} asks for {match.row.tls_floor} or newer" if match.row.tls_floor else ""
        sentence = f"The connection uses {facts.version}, {reason}{floor}."
        yield Issue(sentence, version_frames(match), Severity.HIGH if ssl else Severity.MEDIUM)


@check("TPE262", "tls-version-below-row", Severity.MEDIUM, protocol="tls", pure=True)
def version_below_row(match: Match) -> Iterator[Issue]:
    """Flags: a version that is not obsolete, but older than the row allows.

    Why: the row names the oldest version that its service may speak.

    Evidence: the ServerHello.

    Remedy: Configure both ends for the version that the row asks for.
    """
    facts = facts_of(match)
    if facts._version is None or facts._version < TLS_1_2 or facts.version == match.row.tls_floor:
        return
    floor = next((value for value, name in VERSIONS.items() if name == match.row.tls_floor), 0)
    if version_rank(facts._version) < version_rank(floor):
        sentence = f"The connection uses {facts.version}, older than the {match.row.tls_floor} of row {match.row.id}."
        yield Issue(sentence, version_frames(match))


@check("TPE263", "tls-version-above-row", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True)
def version_above_row(match: Match) -> Iterator[Issue]:
    """Flags: TLS 1.3 where the row names TLS 1.2.

    Why: it is no fault, TLS 1.3 protects more; but it differs from the row's words, and it hides the certificates.

    Evidence: the supported_versions extension of the ServerHello.

    Remedy: Do nothing, unless something on the path has to see the certificates.
    """
    version = facts_of(match)._version
    if version is not None and version_rank(version) > (TLS_1_2, 0) and "TLS 1.2" in match.row.service:
        sentence = f"The connection uses {facts_of(match).version} where row {match.row.id} names TLS 1.2."
        yield Issue(sentence, version_frames(match))


@check("TPE264", "tls-handshake-refused", Severity.MEDIUM, protocol="tls", pure=True)
def handshake_refused(match: Match) -> Iterator[Issue]:
    """Flags: a fatal alert in clear, so before the handshake was completed; of TLS 1.3 also one that keys open.

    Why: the connection fails, and with it the service of the row; the alert says what its sender objects to.

    Evidence: the alert record. Alerts behind the change to encryption cannot be read without keys.

    Remedy: Correct what the alert objects to, on the side that did not send it.
    """
    facts = facts_of(match)
    if not facts.alerts:
        return
    server = facts._server
    for key in dict.fromkeys((item.direction, alert.description) for item, alert in fatal_alerts(match)):
        direction, description = key
        shown = [item for item, alert in fatal_alerts(match) if (item.direction, alert.description) == key]
        sender = "server" if direction == server else "client"
        name = ALERTS.get(description, str(description))
        meaning = f": {MEANINGS[description]}" if description in MEANINGS else ""
        yield Issue(f"The {sender} refuses the handshake with the alert {name}{meaning}.", frames(shown))


@check("TPE265", "tls-handshake-abandoned", Severity.LOW, protocol="tls")
def handshake_abandoned(match: Match) -> Iterator[Issue]:
    """Flags: a connection that both sides closed before the handshake was completed, without an alert: never answered
    by the server (medium), or not continued by the client after the server's answer (low).

    Why: nothing was transported; one side may have objected without saying so.

    Evidence: both directions are in the capture from their first to their last byte.

    Remedy: Look into the log of the side that closed the connection.
    """
    facts, conversation = facts_of(match), match.conversation
    if facts._client_went_on or not facts._hello_seen:
        return
    whole = all(stream.begins and stream.ends for stream in conversation.head.streams)
    refused = next(fatal_alerts(match), None) is not None or bool(conversation.dissection.parse_errors)
    hellos = [item for item, _ in messages(conversation.dissection.items, ClientHello)]
    if not whole or refused or not hellos:
        return
    answers = [item for item, _ in messages(conversation.dissection.items, ServerHello)]
    if answers:
        sentence = "The connection was closed after the server's hello, and the client never went on."
        yield Issue(sentence, frames(answers), Severity.LOW)
    else:
        sentence = "The connection was closed, and the server never answered the client's hello."
        yield Issue(sentence, frames(hellos), Severity.MEDIUM)


@check("TPE266", "tls-broken-cipher-suite", Severity.HIGH, protocol="tls", pure=True)
def broken_cipher_suite(match: Match) -> Iterator[Issue]:
    """Flags: a chosen cipher suite without encryption, without authentication, of export strength, with RC4 or DES.

    Why: whoever sits on the path can read or change what is transported (RFC 9325 section 4.2, RFC 7465).

    Evidence: the ServerHello; in SSL 2.0 the client's master key message.

    Remedy: Allow only cipher suites with AES-GCM or ChaCha20-Poly1305 on the server.
    """
    suite = facts_of(match).cipher_suite or ""
    reasons = broken(suite)
    if reasons:
        yield Issue(f"The chosen cipher suite {suite} {' and '.join(reasons)}.", suite_frames(match))


@check("TPE267", "tls-small-block-cipher-suite", Severity.MEDIUM, protocol="tls", pure=True)
def small_block_cipher_suite(match: Match) -> Iterator[Issue]:
    """Flags: a chosen cipher suite with 3DES or another cipher of 64-bit blocks.

    Why: blocks repeat after some gigabytes and give their content away (Sweet32, CVE-2016-2183); a link to a base
    station stays up for weeks.

    Evidence: the ServerHello; in SSL 2.0 the client's master key message.

    Remedy: Allow only cipher suites with AES-GCM or ChaCha20-Poly1305 on the server.
    """
    suite = facts_of(match).cipher_suite or ""
    cipher = next((name for part, name in SMALL_BLOCK_SUITES if part in suite), None)
    if cipher and not broken(suite):
        yield Issue(f"The chosen cipher suite {suite} uses {cipher}, whose blocks have 64 bits.", suite_frames(match))


@check("TPE268", "tls-small-dh-group", Severity.LOW, protocol="tls", pure=True)
def small_dh_group(match: Match) -> Iterator[Issue]:
    """Flags: an ephemeral Diffie-Hellman key exchange with a prime below 2048 bits; below 1024 bits medium.

    Why: the keys of such a connection can be computed with enough effort, below 1024 bits with little (Logjam,
    CVE-2015-4000; RFC 9325 section 4.4).

    Evidence: the ServerKeyExchange message.

    Remedy: Use an elliptic curve, or a Diffie-Hellman group of 2048 bits or more, on the server.
    """
    bits = facts_of(match)._dh_bits
    if bits is not None and bits < 2048:
        shown = [item for item, _ in messages(match.conversation.dissection.items, ServerKeyExchange)]
        severity = Severity.MEDIUM if bits < 1024 else Severity.LOW
        yield Issue(f"The key exchange uses a Diffie-Hellman prime of {bits} bits.", frames(shown), severity)


@check("TPE269", "tls-certificate-expired", Severity.HIGH, protocol="tls")
def certificate_expired(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate whose validity ended before it was captured: high if the client went on all the
    same, medium if it did not.

    Why: nobody vouches for the key any more, and a client that goes on accepts any server.

    Evidence: notAfter of the server's own certificate, against the capture time of its frame.

    Remedy: Renew the server's certificate, and make the client verify it.
    """
    last = match.conversation.last
    for item, certificate in own_certificate(match, lambda each: each._ends is not None and last > each._ends):
        if item.time > (certificate._ends or 0):
            sentence = f"The server's certificate {subject(certificate)} expired on {certificate.not_after}"
            yield dated(match, item, sentence)


@check("TPE270", "tls-certificate-not-yet-valid", Severity.HIGH, protocol="tls")
def certificate_not_yet_valid(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate whose validity began after it was captured: high if the client went on all the
    same, medium if it did not.

    Why: either a clock is wrong or the certificate was made for another time; a client that goes on does not verify.

    Evidence: notBefore of the server's own certificate, against the capture time of its frame.

    Remedy: Correct the clocks of the server, its issuer and the capturing machine, or replace the certificate.
    """
    first = match.conversation.first
    for item, certificate in own_certificate(match, lambda each: each._begins is not None and first < each._begins):
        if item.time < (certificate._begins or 0):
            sentence = f"The server's certificate {subject(certificate)} is valid from {certificate.not_before} only"
            yield dated(match, item, sentence)


@check("TPE271", "tls-certificate-self-signed", Severity.MEDIUM, protocol="tls", pure=True)
def certificate_self_signed(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate that is signed with its own key.

    Why: no issuer vouches for the server; a client can only trust it blindly or know it beforehand.

    Evidence: the server's own certificate names itself as issuer, and its signature verifies with its own key.

    Remedy: Give the server a certificate that is signed by the authority which the base stations trust.
    """
    if facts_of(match)._self_signed:
        for item, certificate in own_certificate(match, lambda _: True):
            yield Issue(f"The server's certificate {subject(certificate)} is self-signed.", (item.frame,))


@check("TPE272", "tls-certificate-weak-key", Severity.MEDIUM, protocol="tls", pure=True)
def certificate_weak_key(match: Match) -> Iterator[Issue]:
    """Flags: an RSA or DSA key below 2048 bits, or an elliptic curve below 224 bits, in the server's chain.

    Why: such keys can be broken with the means of today (NIST SP 800-131A), and then anyone can be the server.

    Evidence: the public keys of the certificates that the server sent.

    Remedy: Issue the certificate again for an RSA key of 2048 bits or more, or for an elliptic curve.
    """
    for item, certificate in chain(
        match, lambda each: each._key_bits is not None and each._key_bits < least_bits(each)
    ):
        owner = "server's certificate" if is_own(item) else "issuer certificate"
        has = f"has the key {certificate.key}, below {least_bits(certificate)} bits"
        yield Issue(f"The {owner} {subject(certificate)} {has}.", (item.frame,))


@check("TPE273", "tls-certificate-weak-signature", Severity.MEDIUM, protocol="tls", pure=True)
def certificate_weak_signature(match: Match) -> Iterator[Issue]:
    """Flags: a certificate of the server's chain that is signed with MD2, MD5 or SHA-1. What a root certificate says of
    itself does not count.

    Why: a second certificate with the same signature can be made, for MD5 in seconds.

    Evidence: the signature algorithms of the certificates that the server sent.

    Remedy: Issue the certificate again with SHA-256 or better.
    """
    for item, certificate in chain(match, lambda each: each._hash in WEAK_HASHES and not each._self_issued):
        owner = "server's certificate" if is_own(item) else "issuer certificate"
        sentence = f"The {owner} {subject(certificate)} is signed with {certificate._hash}"
        yield Issue(f"{sentence} ({certificate.signature}).", (item.frame,))


@check("TPE274", "tls-certificate-name-mismatch", Severity.MEDIUM, protocol="tls", pure=True)
def certificate_name_mismatch(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate that does not name the server that the client asked for.

    Why: a client that goes on talks to a server that nobody vouches for under that name.

    Evidence: the server_name of the ClientHello against the subjectAltName of the server's own certificate (RFC 9525;
    IP literals against its addresses; the common name counts only where there is no subjectAltName).

    Remedy: Issue the certificate for the name under which the base stations are configured to reach the server.
    """
    name = facts_of(match).server_name
    if name is None:
        return
    for item, certificate in own_certificate(match, lambda each: each.problem is None and not names(each, name)):
        known = (*certificate._dns_names, *certificate._addresses) or certificate._common_names
        listed = ", ".join(known[:6]) + (", …" if len(known) > 6 else "") if known else "no name"
        yield Issue(f"The client asks for {name}, the server's certificate is for {listed}.", (item.frame,))


@check("TPE275", "tls-issuer-certificate-expired", Severity.LOW, protocol="tls")
def issuer_certificate_expired(match: Match) -> Iterator[Issue]:
    """Flags: a certificate further up the server's chain that was not valid when it was captured.

    Why: clients that know no other way to a trusted root refuse the server.

    Evidence: notBefore and notAfter of the certificates behind the server's own, against the capture time.

    Remedy: Install the current certificates of the issuing authority on the server.
    """
    first, last = match.conversation.first, match.conversation.last
    for item, certificate in chain(match, lambda each: not valid(each, first) or not valid(each, last)):
        if not valid(certificate, item.time) and not is_own(item):
            dates = f"is valid from {certificate.not_before} to {certificate.not_after} only"
            yield Issue(f"The issuer certificate {subject(certificate)} {dates}.", (item.frame,))


@check("TPE276", "tls-certificate-unreadable", Severity.LOW, protocol="tls", pure=True)
def certificate_unreadable(match: Match) -> Iterator[Issue]:
    """Flags: a certificate of the server that cannot be read, or not wholly.

    Why: what cannot be read cannot be judged, and clients may refuse it.

    Evidence: the bytes of the Certificate message do not hold what RFC 5280 describes.

    Remedy: Look at the certificate with openssl x509 and issue it again if it is damaged.
    """
    for item, certificate in chain(match, lambda each: each.problem is not None):
        owner = "server's certificate" if is_own(item) else "issuer certificate"
        yield Issue(f"The {owner} could not be read wholly ({certificate.problem}).", (item.frame,))


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


@check("TPE280", "tls-chain-out-of-order", Severity.LOW, protocol="tls", pure=True)
def chain_out_of_order(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate chain in which a certificate is not signed by the one behind it.

    Why: RFC 5246 section 7.4.2 demands that order, and small TLS libraries follow no other; they refuse the server.

    Evidence: issuers, subjects and signatures of the certificates that the server sent.

    Remedy: Configure the server with its own certificate first and then each issuer's, and with no other certificate.
    """
    for item, certificate, link in linked(match, Link.ELSEWHERE, Link.UNRELATED):
        owner = "server's certificate" if is_own(item) else "issuer certificate"
        means = "which stands elsewhere in the chain" if link is Link.ELSEWHERE else "which was not sent"
        issuer = certificate.issuer or "without a name"
        sentence = f"The {owner} {subject(certificate)} is not followed by its issuer {issuer}, {means}."
        if certificate._self_issued:
            sentence = f"The {owner} {subject(certificate)} names itself as issuer, yet another certificate follows."
        yield Issue(sentence, (item.frame,))


@check("TPE281", "tls-chain-signature-wrong", Severity.MEDIUM, protocol="tls", pure=True)
def chain_signature_wrong(match: Match) -> Iterator[Issue]:
    """Flags: a certificate of the server's chain whose signature was not made with the key of the issuer behind it.

    Why: either the issuer's certificate is an outdated one, or somebody made up a certificate under its name.

    Evidence: the issuer's name is the next certificate's subject, and the signature does not verify with its key.

    Remedy: Install the issuer's current certificate on the server; if that does not help, look for an impostor.
    """
    for item, certificate, _ in linked(match, Link.FORGED):
        owner = "server's certificate" if is_own(item) else "issuer certificate"
        sentence = f"The {owner} {subject(certificate)} was not signed with the key of {certificate.issuer}"
        yield Issue(f"{sentence} that the server sent.", (item.frame,))


@check("TPE282", "tls-server-name-malformed", Severity.LOW, protocol="tls", pure=True)
def server_name_malformed(match: Match) -> Iterator[Issue]:
    """Flags: a server_name extension without exactly one host name in it, or with one that no host can have. IP
    literals are passed over: RFC 6066 forbids them, but stunnel and Basics Station send them.

    Why: servers refuse such hellos, or answer with the wrong certificate (RFC 6066 section 3, RFC 1123 section 2.1).

    Evidence: the ClientHello.

    Remedy: Configure the base station with the server's DNS name as it stands in the server's certificate.
    """
    names = facts_of(match)._server_names
    if names is None or (len(names) == 1 and HOST_NAME.fullmatch(names[0]) and len(names[0]) < 254):
        return
    if len(names) != 1:
        sentence = f"The server_name extension lists {len(names) or 'no'} host names, where one is allowed."
    elif is_address(names[0]):
        return
    else:
        sentence = f"The client asks for {names[0] or 'an empty name'}, which is no host name."
    hellos = [item for item, _ in messages(match.conversation.dissection.items, ClientHello)]
    yield Issue(sentence, frames(hellos))


@check("TPE283", "tls-encrypted-alert", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True, aggregated=True)
def encrypted_alert(match: Match) -> Iterator[Issue]:
    """Flags: an alert behind the change to encryption, before any application data from its sender.

    Why: it is a refusal or the normal end of a connection; which of them only the two ends can read.

    Evidence: an alert record behind the ChangeCipherSpec, and how many base stations show one. TLS 1.3 hides alerts
    altogether.

    Remedy: Look into the log of either end if the connection should have carried data.
    """
    found = facts_of(match).encrypted_alerts
    if found:
        records = messages(match.conversation.dissection.items, EncryptedRecord)
        shown = [item for item, record in records if record.content_type == ContentType.ALERT]
        sentence = f"An encrypted alert came from the {' and the '.join(found)} instead of data: its meaning is hidden."
        yield Issue(sentence, frames(shown))


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
        items = match.conversation.dissection.items
        asked = [item for item, said in messages(items, Handshake) if said.type == HandshakeType.CERTIFICATE_REQUEST]
        yield Issue("The server asks for a client certificate, and the client sends none.", frames(asked))


@check("TPE286", "tls-no-forward-secrecy", Severity.LOW, protocol="tls", pure=True)
def no_forward_secrecy(match: Match) -> Iterator[Issue]:
    """Flags: a chosen cipher suite whose key exchange depends on the server's long-term key alone.

    Why: who records the traffic and gets hold of that key later can read all of it (RFC 9325 section 4.1).

    Evidence: the ServerHello.

    Remedy: Allow only cipher suites with ECDHE on the server.
    """
    suite = facts_of(match).cipher_suite or ""
    if suite.startswith(STATIC_EXCHANGES) and not broken(suite):
        yield Issue(f"The chosen cipher suite {suite} has no forward secrecy.", suite_frames(match))


@check("TPE287", "tls-compression", Severity.LOW, protocol="tls", pure=True)
def compression(match: Match) -> Iterator[Issue]:
    """Flags: TLS compression that the server chose.

    Why: the length of what is sent then tells about its content (CRIME, CVE-2012-4929; RFC 9325 section 3.3).

    Evidence: the compression method of the ServerHello.

    Remedy: Switch TLS compression off on the server.
    """
    if facts_of(match)._compressed:
        yield Issue("The connection is compressed, which gives away parts of its content.", version_frames(match))


def facts_of(match: Match) -> TlsFacts:
    facts = match.conversation.dissection.facts
    return facts if isinstance(facts, TlsFacts) else TlsFacts()


def frames(items: list[Item]) -> tuple[Frame, ...]:
    """The first frames that show something, ascending."""
    return tuple(sorted({item.frame for item in items})[:SHOWN_FRAMES])


def version_frames(match: Match) -> tuple[Frame, ...]:
    """Where the version shows: the server's hello, else the first application data."""
    items = match.conversation.dissection.items
    hellos = [item for item, _ in messages(items, ServerHello)]
    return frames(hellos or [item for item, _ in messages(items, ApplicationData)])


def suite_frames(match: Match) -> tuple[Frame, ...]:
    """Where the cipher suite shows."""
    items = match.conversation.dissection.items
    keys = [item for item, _ in messages(items, ClientMasterKey)]
    return frames(keys or [item for item, _ in messages(items, ServerHello)])


def fatal_alerts(match: Match) -> Iterator[tuple[Item, Alert]]:
    """Fatal alerts in clear; closing a connection is no refusal."""
    if not facts_of(match).alerts:
        return
    for item, alert in messages(match.conversation.dissection.items, Alert):
        if alert.level == 2 and alert.description != 0:
            yield item, alert


Suspicion = Callable[[X509Certificate], bool]


def chain(match: Match, suspect: Suspicion) -> list[tuple[Item, X509Certificate]]:
    """Those of the server's certificates that are suspect, each with the item that carries it."""
    certificates = facts_of(match).certificates
    if not any(map(suspect, certificates)):
        return []
    return [(item, each) for item, each in zip(sent(match), certificates, strict=True) if suspect(each)]


def own_certificate(match: Match, suspect: Suspicion) -> list[tuple[Item, X509Certificate]]:
    """The server's own certificate with its item, if it is there and suspect."""
    return [(sent(match)[0], each) for each in facts_of(match).certificates[:1] if suspect(each)]


def linked(match: Match, *links: Link) -> list[tuple[Item, X509Certificate, Link]]:
    """Those of the server's certificates that are tied so to the next one, each with the item that carries it."""
    facts = facts_of(match)
    if not any(each in links for each in facts._links):
        return []
    tied = zip(sent(match), facts.certificates, facts._links, strict=False)
    return [(item, certificate, link) for item, certificate, link in tied if link in links]


def sent(match: Match) -> list[Item]:
    """The items that carry the server's certificates."""
    entries = messages(match.conversation.dissection.items, CertificateEntry)
    return [item for item, _ in entries if item.direction == facts_of(match)._server]


def valid(certificate: X509Certificate, time: int) -> bool:
    """Whether a certificate's dates allow a capture time; without dates nothing forbids it."""
    begins, ends = certificate._begins, certificate._ends
    return begins is None or ends is None or begins <= time <= ends


def least_bits(certificate: X509Certificate) -> int:
    """Bits that a key of the certificate's kind needs."""
    return 224 if (certificate.key or "").startswith("EC ") else 2048


def is_own(item: Item) -> bool:
    """Whether a certificate is the first of its chain."""
    return isinstance(item.message, CertificateEntry) and item.message.position == 0


def dated(match: Match, item: Item, sentence: str) -> Issue:
    """A remark on a certificate outside of its validity, by what the client made of it."""
    captured = datetime.datetime.fromtimestamp(item.time // 1_000_000_000, datetime.UTC)
    went_on = facts_of(match)._client_went_on
    return Issue(
        f"{sentence} and was shown on {captured:%Y-%m-%dT%H:%M:%SZ}; "
        f"the client {'went on all the same' if went_on else 'did not go on'}.",
        (item.frame,),
        Severity.HIGH if went_on else Severity.MEDIUM,
    )


def subject(certificate: X509Certificate) -> str:
    return certificate.subject or "without a subject"


def broken(suite: str) -> list[str]:
    """What is wrong with a cipher suite of this name."""
    reasons = [reason for part, reason in BROKEN_SUITES if part in suite and "_EDE3_" not in suite]
    return list(dict.fromkeys(reasons))


@lru_cache(maxsize=256)  # one server, asked for by one name
def names(certificate: X509Certificate, name: str) -> bool:
    """Whether a certificate is for a host name or an IP literal (RFC 9525 section 6)."""
    address = str(ipaddress.ip_address(name.strip("[]"))) if is_address(name) else None
    if not certificate._dns_names and not certificate._addresses:
        return any(covers(each, name) for each in certificate._common_names)
    if address is not None:
        return address in certificate._addresses
    return any(covers(each, name) for each in certificate._dns_names)


def is_address(name: str) -> bool:
    """Whether a name is an IP literal, be it with brackets."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def covers(pattern: str, name: str) -> bool:
    """Whether a DNS name of a certificate covers a host name; a wildcard stands for exactly one leftmost label."""
    labels, wanted = (each.rstrip(".").lower().split(".") for each in (pattern, name))
    if labels[0] == "*" and len(labels) > 1:
        return len(labels) == len(wanted) and labels[1:] == wanted[1:]
    return labels == wanted


CHECKS: Final[tuple[Check, ...]] = (
    obsolete_version,
    version_below_row,
    version_above_row,
    handshake_refused,
    handshake_abandoned,
    broken_cipher_suite,
    small_block_cipher_suite,
    small_dh_group,
    certificate_expired,
    certificate_not_yet_valid,
    certificate_self_signed,
    certificate_weak_key,
    certificate_weak_signature,
    certificate_name_mismatch,
    issuer_certificate_expired,
    certificate_unreadable,
    certificates_hidden,
    session_resumed,
    handshake_not_seen,
    chain_out_of_order,
    chain_signature_wrong,
    server_name_malformed,
    encrypted_alert,
    server_without_certificate,
    client_certificate_withheld,
    no_forward_secrecy,
    compression,
)
