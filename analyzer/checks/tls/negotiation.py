"""Checks of what the handshake negotiates: version, cipher suite, key exchange, compression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analyzer.checks.tls.evidence import facts_of, frames_of, items_of, suite_frames, version_frames
from analyzer.findings import Issue, Kind, Severity, check
from analyzer.matching import Match
from analyzer.protocols.tls import ServerKeyExchange
from analyzer.protocols.tls.registry import SSL_3_0, TLS_1_2, VERSIONS, version_rank

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
"""Part of a cipher suite's name, and what is wrong with such suites."""
SMALL_BLOCK_SUITES: Final = (("_3DES_", "3DES"), ("_EDE3_", "3DES"), ("_IDEA_", "IDEA"), ("_RC2_", "RC2"))
"""Part of a cipher suite's name, and its cipher of 64-bit blocks."""
STATIC_KEY_SUITES: Final = ("TLS_RSA_", "TLS_DH_RSA_", "TLS_DH_DSS_", "TLS_ECDH_RSA_", "TLS_ECDH_ECDSA_", "SSL_RSA_")
"""Beginnings of the names of cipher suites without an ephemeral key exchange."""

LEAST_PRIME: Final = 2048
"""Bits of the shortest Diffie-Hellman prime in order (RFC 9325, section 4.4)."""
BREAKABLE_PRIME: Final = 1024
"""Bits below which a Diffie-Hellman prime can be broken with little effort (CVE-2015-4000)."""


# -- version ----------------------------------------------------------------------------------------------------


@check("TPE261", "tls-obsolete-version", Severity.HIGH, protocol="tls", pure=True)
def obsolete_version(match: Match) -> Iterator[Issue]:
    """Flags: SSL 2.0, SSL 3.0, TLS 1.0 or TLS 1.1 as the version that the server chose.

    Severity: high for SSL 2.0 and SSL 3.0, medium for TLS 1.0 and TLS 1.1.

    Why: SSL 2.0 and 3.0 can be broken by whoever sits on the path (RFC 6176, RFC 7568); TLS 1.0 and 1.1 rest on MD5 and
    SHA-1 and must not be used (RFC 8996).

    Evidence: the ServerHello; without it, the version of the records that carry application data.

    Remedy: Configure both ends for TLS 1.2 or newer and switch the older versions off.
    """
    facts, row = facts_of(match), match.row
    if facts._version is not None and facts._version < TLS_1_2:
        is_ssl = facts._version <= SSL_3_0
        reason = "which anyone on the path can break" if is_ssl else "which RFC 8996 forbids"
        floor = f"; row {row.id} asks for {row.tls_floor} or newer" if row.tls_floor else ""
        sentence = f"The connection uses {facts.version}, {reason}{floor}."
        yield Issue(sentence, version_frames(match), Severity.HIGH if is_ssl else Severity.MEDIUM)


@check("TPE262", "tls-version-below-row", Severity.MEDIUM, protocol="tls", pure=True)
def version_below_row(match: Match) -> Iterator[Issue]:
    """Flags: a version that is not obsolete, but older than the row allows.

    Why: the row names the oldest version that its service may speak.

    Evidence: the ServerHello.

    Remedy: Configure both ends for the version that the row asks for.
    """
    facts, row = facts_of(match), match.row
    if facts._version is None or facts._version < TLS_1_2 or facts.version == row.tls_floor:
        return
    floor = next((version for version, name in VERSIONS.items() if name == row.tls_floor), 0)
    if version_rank(facts._version) < version_rank(floor):
        sentence = f"The connection uses {facts.version}, older than the {row.tls_floor} of row {row.id}."
        yield Issue(sentence, version_frames(match))


@check("TPE263", "tls-version-above-row", Severity.INFO, protocol="tls", kind=Kind.NOTICE, pure=True)
def version_above_row(match: Match) -> Iterator[Issue]:
    """Flags: TLS 1.3 where the row names TLS 1.2.

    Why: it is no fault, TLS 1.3 protects more; but it differs from the row's words, and it hides the certificates.

    Evidence: the supported_versions extension of the ServerHello.

    Remedy: Do nothing, unless something on the path has to see the certificates.
    """
    facts, row = facts_of(match), match.row
    if facts._version is not None and version_rank(facts._version) > (TLS_1_2, 0) and "TLS 1.2" in row.service:
        sentence = f"The connection uses {facts.version} where row {row.id} names TLS 1.2."
        yield Issue(sentence, version_frames(match))


# -- cipher suite -----------------------------------------------------------------------------------------------


@check("TPE266", "tls-broken-cipher-suite", Severity.HIGH, protocol="tls", pure=True)
def broken_cipher_suite(match: Match) -> Iterator[Issue]:
    """Flags: a chosen cipher suite without encryption, without authentication, of export strength, with RC4 or DES.

    Why: whoever sits on the path can read or change what is transported (RFC 9325 section 4.2, RFC 7465).

    Evidence: the ServerHello; in SSL 2.0 the client's master key message.

    Remedy: Allow only cipher suites with AES-GCM or ChaCha20-Poly1305 on the server.
    """
    suite = facts_of(match).cipher_suite or ""
    flaws = flaws_of(suite)
    if flaws:
        yield Issue(f"The chosen cipher suite {suite} {' and '.join(flaws)}.", suite_frames(match))


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
    if cipher and not flaws_of(suite):
        yield Issue(f"The chosen cipher suite {suite} uses {cipher}, whose blocks have 64 bits.", suite_frames(match))


@check("TPE286", "tls-no-forward-secrecy", Severity.LOW, protocol="tls", pure=True)
def no_forward_secrecy(match: Match) -> Iterator[Issue]:
    """Flags: a chosen cipher suite whose key exchange depends on the server's long-term key alone.

    Why: who records the traffic and gets hold of that key later can read all of it (RFC 9325 section 4.1).

    Evidence: the ServerHello.

    Remedy: Allow only cipher suites with ECDHE on the server.
    """
    suite = facts_of(match).cipher_suite or ""
    if suite.startswith(STATIC_KEY_SUITES) and not flaws_of(suite):
        yield Issue(f"The chosen cipher suite {suite} has no forward secrecy.", suite_frames(match))


def flaws_of(suite: str) -> list[str]:
    """What is wrong with a broken cipher suite; empty for any other."""
    # "_DES_" is also part of SSL 2.0's name for 3DES: SSL_CK_DES_192_EDE3_CBC_WITH_MD5.
    return list(dict.fromkeys(flaw for part, flaw in BROKEN_SUITES if part in suite and "_EDE3_" not in suite))


# -- key exchange and compression -------------------------------------------------------------------------------


@check("TPE268", "tls-small-dh-group", Severity.LOW, protocol="tls", pure=True)
def small_dh_group(match: Match) -> Iterator[Issue]:
    """Flags: an ephemeral Diffie-Hellman key exchange with a prime below 2048 bits.

    Severity: medium below 1024 bits, low from there to 2047.

    Why: the keys of such a connection can be computed with enough effort, below 1024 bits with little (Logjam,
    CVE-2015-4000; RFC 9325 section 4.4).

    Evidence: the ServerKeyExchange message.

    Remedy: Use an elliptic curve, or a Diffie-Hellman group of 2048 bits or more, on the server.
    """
    bits = facts_of(match)._dh_bits
    if bits is not None and bits < LEAST_PRIME:
        severity = Severity.MEDIUM if bits < BREAKABLE_PRIME else Severity.LOW
        frames = frames_of(items_of(match, ServerKeyExchange))
        yield Issue(f"The key exchange uses a Diffie-Hellman prime of {bits} bits.", frames, severity)


@check("TPE287", "tls-compression", Severity.LOW, protocol="tls", pure=True)
def compression(match: Match) -> Iterator[Issue]:
    """Flags: TLS compression that the server chose.

    Why: the length of what is sent then tells about its content (CRIME, CVE-2012-4929; RFC 9325 section 3.3).

    Evidence: the compression method of the ServerHello.

    Remedy: Switch TLS compression off on the server.
    """
    if facts_of(match)._compressed:
        yield Issue("The connection is compressed, which gives away parts of its content.", version_frames(match))
