"""Checks of the server's certificates: validity, keys, signatures, names, and the order of the chain."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from analyzer.checks.tls.evidence import facts_of, fatal_alerts
from analyzer.checks.tls.names import covers, is_address
from analyzer.findings import Issue, Severity, check
from analyzer.matching import Match
from analyzer.messages import Item, messages
from analyzer.protocols.tls import CertificateEntry, Link, X509Certificate

WEAK_HASHES: Final = ("MD2", "MD5", "SHA-1")
LEAST_RSA_BITS, LEAST_EC_BITS = 2048, 224
"""Shortest keys in order (NIST SP 800-131A)."""
MAX_NAMES: Final = 6
"""Names of a certificate that a sentence lists."""


# -- what the client made of it ---------------------------------------------------------------------------------


def certificate_issue(match: Match, item: Item, defect: str) -> Issue:
    """An issue about a defect for which a client should refuse the server: high where it went on all the same."""
    went_on, clause = client_reaction(match)
    return Issue(f"{defect}; {clause}.", (item.frame,), Severity.HIGH if went_on else Severity.MEDIUM)


def client_reaction(match: Match) -> tuple[bool, str]:
    """Whether the client went on after the server's certificate, and a clause that says so."""
    server = facts_of(match)._server
    if any(item.direction is not server for item, _ in fatal_alerts(match)):
        return False, "the client refused the handshake"
    if facts_of(match)._client_went_on:
        return True, "the client went on all the same"
    return False, "the client did not go on"


# -- validity ---------------------------------------------------------------------------------------------------


@check("TPE269", "tls-certificate-expired", Severity.HIGH, protocol="tls")
def certificate_expired(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate whose validity ended before it was captured.

    Severity: high where the client went on all the same, medium where it did not.

    Why: nobody vouches for the key any more, and a client that goes on accepts any server.

    Evidence: notAfter of the server's own certificate, against the capture time of its frame; what the client did next.

    Remedy: Renew the server's certificate; where the client went on all the same, make it verify the server, too.
    """
    last = match.conversation.last
    for item, certificate in own_certificate(match, lambda found: found._ends is not None and last > found._ends):
        if item.time > (certificate._ends or 0):
            defect = f"The server's certificate {subject_of(certificate)} expired on {certificate.not_after}"
            yield certificate_issue(match, item, defect)


@check("TPE270", "tls-certificate-not-yet-valid", Severity.HIGH, protocol="tls")
def certificate_not_yet_valid(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate whose validity began after it was captured.

    Severity: high where the client went on all the same, medium where it did not.

    Why: either a clock is wrong or the certificate was made for another time; a client that goes on does not verify.

    Evidence: notBefore of the server's own certificate, against the capture time of its frame; what the client did
    next.

    Remedy: Correct the clocks of the server, its issuer and the capturing machine, or replace the certificate; where
    the client went on all the same, make it verify the server, too.
    """
    first = match.conversation.first
    for item, certificate in own_certificate(match, lambda found: found._begins is not None and first < found._begins):
        if item.time < (certificate._begins or 0):
            defect = f"The server's certificate {subject_of(certificate)} is valid from {certificate.not_before} only"
            yield certificate_issue(match, item, defect)


@check("TPE275", "tls-issuer-certificate-not-valid", Severity.LOW, protocol="tls")
def issuer_certificate_not_valid(match: Match) -> Iterator[Issue]:
    """Flags: a certificate further up the server's chain that had expired, or was not valid yet, when it was captured.

    Severity: low.

    Why: clients that know no other way to a trusted root refuse the server.

    Evidence: notBefore and notAfter of the certificates after the server's own, against the capture time.

    Remedy: Install the current certificates of the issuing authority on the server.
    """
    first, last = match.conversation.first, match.conversation.last
    for item, certificate in chain(match, lambda found: not is_valid(found, first) or not is_valid(found, last)):
        if not is_valid(certificate, item.time) and not is_own(item):
            dates = f"is valid from {certificate.not_before} to {certificate.not_after} only"
            yield Issue(f"The issuer certificate {subject_of(certificate)} {dates}.", (item.frame,))


def is_valid(certificate: X509Certificate, time: int) -> bool:
    """Whether a certificate is valid at a capture time; one without readable dates counts as valid."""
    begins, ends = certificate._begins, certificate._ends
    return begins is None or ends is None or begins <= time <= ends


# -- keys and signatures ----------------------------------------------------------------------------------------


@check("TPE271", "tls-certificate-self-signed", Severity.HIGH, protocol="tls", pure=True)
def certificate_self_signed(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate that is signed with its own key.

    Severity: high where the client went on all the same, medium where it did not.

    Why: no issuer vouches for the server; a client can only trust it blindly or know it beforehand.

    Evidence: the server's own certificate names itself as issuer, and its signature verifies with its own key.

    Remedy: Give the server a certificate that is signed by the authority which the base stations trust; where the
    client went on all the same, make it verify the server, too.
    """
    if facts_of(match)._self_signed:
        for item, certificate in own_certificate(match, lambda _: True):
            yield certificate_issue(match, item, f"The server's certificate {subject_of(certificate)} is self-signed")


@check("TPE272", "tls-certificate-weak-key", Severity.HIGH, protocol="tls", pure=True)
def certificate_weak_key(match: Match) -> Iterator[Issue]:
    """Flags: an RSA or DSA key below 2048 bits, or an elliptic curve below 224 bits, in the server's chain.

    Severity: high where the client went on all the same, medium where it did not.

    Why: such keys can be broken with the means of today (NIST SP 800-131A), and then anyone can be the server.

    Evidence: the public keys of the certificates that the server sent.

    Remedy: Issue the certificate again for an RSA key of 2048 bits or more, or for an elliptic curve; where the client
    went on all the same, make it refuse weaker keys, too.
    """
    for item, certificate in chain(match, has_weak_key):
        clause = f"has the key {certificate.key}, below {least_bits(certificate)} bits"
        yield certificate_issue(match, item, f"The {role(item)} {subject_of(certificate)} {clause}")


def has_weak_key(certificate: X509Certificate) -> bool:
    return certificate._key_bits is not None and certificate._key_bits < least_bits(certificate)


def least_bits(certificate: X509Certificate) -> int:
    """Least size in bits of a key of the certificate's kind."""
    return LEAST_EC_BITS if (certificate.key or "").startswith("EC ") else LEAST_RSA_BITS


@check("TPE273", "tls-certificate-weak-signature", Severity.HIGH, protocol="tls", pure=True)
def certificate_weak_signature(match: Match) -> Iterator[Issue]:
    """Flags: a certificate of the server's chain that is signed with MD2, MD5 or SHA-1. What a root certificate says of
    itself does not count.

    Severity: high where the client went on all the same, medium where it did not.

    Why: a second certificate with the same signature can be made, for MD5 in seconds.

    Evidence: the signature algorithms of the certificates that the server sent.

    Remedy: Issue the certificate again with SHA-256 or better; where the client went on all the same, make it refuse
    weaker signatures, too.
    """
    for item, certificate in chain(match, lambda found: found._hash in WEAK_HASHES and not found._self_issued):
        defect = f"The {role(item)} {subject_of(certificate)} is signed with {certificate._hash}"
        yield certificate_issue(match, item, f"{defect} ({certificate.signature})")


@check("TPE276", "tls-certificate-unreadable", Severity.LOW, protocol="tls", pure=True)
def certificate_unreadable(match: Match) -> Iterator[Issue]:
    """Flags: a certificate of the server that cannot be read, or not wholly.

    Why: what cannot be read cannot be judged, and clients may refuse it.

    Evidence: the bytes of the Certificate message do not hold what RFC 5280 describes.

    Remedy: Look at the certificate with openssl x509 and issue it again if it is damaged.
    """
    for item, certificate in chain(match, lambda found: found.problem is not None):
        yield Issue(f"The {role(item)} could not be read wholly ({certificate.problem}).", (item.frame,))


# -- the chain --------------------------------------------------------------------------------------------------


@check("TPE280", "tls-chain-out-of-order", Severity.LOW, protocol="tls", pure=True)
def chain_out_of_order(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate chain in which a certificate is not signed by the one behind it.

    Why: RFC 5246 section 7.4.2 demands that order, and small TLS libraries follow no other; they refuse the server.

    Evidence: issuers, subjects and signatures of the certificates that the server sent.

    Remedy: Configure the server with its own certificate first and then each issuer's, and with no other certificate.
    """
    for item, certificate, link in linked(match, Link.ELSEWHERE, Link.UNRELATED):
        place = "which stands elsewhere in the chain" if link is Link.ELSEWHERE else "which was not sent"
        issuer = certificate.issuer or "without a name"
        sentence = f"The {role(item)} {subject_of(certificate)} is not followed by its issuer {issuer}, {place}."
        if certificate._self_issued:
            name = f"{role(item)} {subject_of(certificate)}"
            sentence = f"The {name} names itself as issuer, yet another certificate follows."
        yield Issue(sentence, (item.frame,))


@check("TPE281", "tls-chain-signature-wrong", Severity.MEDIUM, protocol="tls", pure=True)
def chain_signature_wrong(match: Match) -> Iterator[Issue]:
    """Flags: a certificate of the server's chain whose signature was not made with the key of the issuer behind it.

    Why: either the issuer's certificate is an outdated one, or somebody made up a certificate under its name.

    Evidence: the issuer's name is the next certificate's subject, and the signature does not verify with its key.

    Remedy: Install the issuer's current certificate on the server; if that does not help, look for an impostor.
    """
    for item, certificate, _ in linked(match, Link.FORGED):
        sentence = f"The {role(item)} {subject_of(certificate)} was not signed with the key of {certificate.issuer}"
        yield Issue(f"{sentence} that the server sent.", (item.frame,))


# -- names ------------------------------------------------------------------------------------------------------


@check("TPE274", "tls-certificate-name-mismatch", Severity.HIGH, protocol="tls", pure=True)
def certificate_name_mismatch(match: Match) -> Iterator[Issue]:
    """Flags: a server certificate that does not name the server that the client asked for.

    Severity: high where the client went on all the same, medium where it did not.

    Why: a client that goes on talks to a server that nobody vouches for under that name.

    Evidence: the server_name of the ClientHello against the subjectAltName of the server's own certificate (RFC 9525;
    IP literals against its addresses; the common name counts only where there is no subjectAltName).

    Remedy: Issue the certificate for the name under which the base stations are configured to reach the server; where
    the client went on all the same, make it verify the name, too.
    """
    name = facts_of(match).server_name
    if name is None:
        return
    for item, certificate in own_certificate(match, lambda found: has_names(found) and not is_for(found, name)):
        names = (*certificate._dns_names, *certificate._addresses) or certificate._common_names
        listed = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "") if names else "no name"
        defect = f"The client asks for {name}, the server's certificate is for {listed}"
        yield certificate_issue(match, item, defect)


@lru_cache(maxsize=256)  # many flows show one server's certificate and ask for one name
def has_names(certificate: X509Certificate) -> bool:
    """Whether the names of a certificate are known: it was read wholly, or has names in spite of what was not read."""
    return certificate.problem is None or bool(certificate._dns_names or certificate._addresses)


def is_for(certificate: X509Certificate, name: str) -> bool:
    """Whether a certificate is for a host name or an IP literal (RFC 9525, section 6)."""
    if not certificate._dns_names and not certificate._addresses:
        return any(covers(common_name, name) for common_name in certificate._common_names)
    if is_address(name):
        return str(ipaddress.ip_address(name.strip("[]"))) in certificate._addresses
    return any(covers(dns_name, name) for dns_name in certificate._dns_names)


# -- the server's certificates ----------------------------------------------------------------------------------


Condition = Callable[[X509Certificate], bool]


def chain(match: Match, condition: Condition) -> list[tuple[Item, X509Certificate]]:
    """The server's certificates that meet a condition, with the items that carry them.

    Items are read only if a certificate meets it: they may have to be dissected again.
    """
    certificates = facts_of(match).certificates
    if not any(map(condition, certificates)):
        return []
    pairs = zip(certificate_items(match), certificates, strict=True)
    return [(item, certificate) for item, certificate in pairs if condition(certificate)]


def own_certificate(match: Match, condition: Condition) -> list[tuple[Item, X509Certificate]]:
    """The server's own certificate with its item, if it was sent and meets a condition."""
    own = facts_of(match).certificates[:1]
    return [(certificate_items(match)[0], certificate) for certificate in own if condition(certificate)]


def linked(match: Match, *links: Link) -> list[tuple[Item, X509Certificate, Link]]:
    """The server's certificates that have one of these links to the next one, with the items that carry them."""
    facts = facts_of(match)
    if not any(link in links for link in facts._links):
        return []
    triples = zip(certificate_items(match), facts.certificates, facts._links, strict=False)
    return [(item, certificate, link) for item, certificate, link in triples if link in links]


def certificate_items(match: Match) -> list[Item]:
    """The items that carry the server's certificates."""
    entries = messages(match.conversation.dissection.items, CertificateEntry)
    return [item for item, _ in entries if item.direction == facts_of(match)._server]


def is_own(item: Item) -> bool:
    """Whether a certificate is the first of its chain."""
    return isinstance(item.message, CertificateEntry) and item.message.position == 0


def role(item: Item) -> str:
    return "server's certificate" if is_own(item) else "issuer certificate"


def subject_of(certificate: X509Certificate) -> str:
    return certificate.subject or "without a subject"
