"""What a certificate says (X.509, RFC 5280), as far as an auditor asks. Trust is judged elsewhere, if at all.

Reading certificates is the library's craft; this is the one place where its refusals are caught and become a fact.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from sys import intern
from typing import TYPE_CHECKING, Final

from analyzer.safetext import SafeText, decode_text

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

SIGNATURES: Final = {
    "1.2.840.113549.1.1.2": ("md2WithRSAEncryption", "MD2"),
    "1.2.840.113549.1.1.4": ("md5WithRSAEncryption", "MD5"),
    "1.2.840.113549.1.1.5": ("sha1WithRSAEncryption", "SHA-1"),
    "1.3.14.3.2.29": ("sha1WithRSAEncryption", "SHA-1"),
    "1.2.840.113549.1.1.14": ("sha224WithRSAEncryption", "SHA-224"),
    "1.2.840.113549.1.1.11": ("sha256WithRSAEncryption", "SHA-256"),
    "1.2.840.113549.1.1.12": ("sha384WithRSAEncryption", "SHA-384"),
    "1.2.840.113549.1.1.13": ("sha512WithRSAEncryption", "SHA-512"),
    "1.2.840.113549.1.1.10": ("RSASSA-PSS", None),
    "1.2.840.10045.4.1": ("ecdsa-with-SHA1", "SHA-1"),
    "1.2.840.10045.4.3.1": ("ecdsa-with-SHA224", "SHA-224"),
    "1.2.840.10045.4.3.2": ("ecdsa-with-SHA256", "SHA-256"),
    "1.2.840.10045.4.3.3": ("ecdsa-with-SHA384", "SHA-384"),
    "1.2.840.10045.4.3.4": ("ecdsa-with-SHA512", "SHA-512"),
    "1.2.840.10040.4.3": ("dsa-with-sha1", "SHA-1"),
    "2.16.840.1.101.3.4.3.2": ("dsa-with-sha256", "SHA-256"),
    "1.3.101.112": ("Ed25519", None),
    "1.3.101.113": ("Ed448", None),
}
"""Name of a signature algorithm and of its hash by object identifier; ``None``: the name does not settle the hash."""

ATTRIBUTES: Final = {
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.5": "serialNumber",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.97": "organizationIdentifier",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}
"""Usual short names of attributes for which RFC 4514 has none."""

LONGEST_NAME: Final = 1024
"""Bytes of a distinguished name that are shown."""


@dataclass(frozen=True, slots=True)
class X509Certificate:
    """One certificate of a chain. A field that could not be read is missing, and ``problem`` says why."""

    subject: str | None = None
    """RFC 4514."""
    issuer: str | None = None
    """RFC 4514."""
    not_before: SafeText | None = None
    """ISO 8601, UTC, to the second."""
    not_after: SafeText | None = None
    """ISO 8601, UTC, to the second: the last second in which it is valid."""
    key: SafeText | None = None
    """``RSA 2048``, ``EC secp256r1``, ``DSA 1024``, ``Ed25519``."""
    signature: SafeText | None = None
    """Algorithm of the issuer's signature: ``sha256WithRSAEncryption``."""
    problem: SafeText | None = None
    """What could not be read."""
    _begins: int | None = None
    """``not_before`` in nanoseconds since the epoch."""
    _ends: int | None = None
    """End of the second ``not_after``, in nanoseconds since the epoch."""
    _key_bits: int | None = None
    _hash: str | None = None
    """Hash of the issuer's signature: ``SHA-1``."""
    _common_names: tuple[str, ...] = ()
    _dns_names: tuple[str, ...] = ()
    """Of the subjectAltName extension."""
    _addresses: tuple[str, ...] = ()
    """Of the subjectAltName extension, in canonical text form."""
    _self_issued: bool = False
    """Its subject is its issuer."""


@lru_cache(maxsize=512)
def read_certificate(data: bytes) -> X509Certificate:
    """Read a DER certificate. Never raises; many conversations show the same one, so it is read once."""
    from cryptography import x509

    with warnings.catch_warnings():  # of certificates that break rules which auditors do not ask for
        warnings.simplefilter("ignore")
        try:
            certificate = x509.load_der_x509_certificate(data)
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            subject, issuer = certificate.subject, certificate.issuer
            names = shown_name(subject), shown_name(issuer)
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            return X509Certificate(problem=clause(error))
        key, key_bits, key_problem = public_key(certificate)
        dns_names, addresses, names_problem = alternative_names(certificate)
        signature, digest = SIGNATURES.get(oid := certificate.signature_algorithm_oid.dotted_string, (oid, None))
        return X509Certificate(
            subject=names[0],
            # What many certificates share is kept once.
            issuer=intern(names[1]),
            not_before=intern(iso(begins)),
            not_after=intern(iso(ends)),
            key=key and intern(key),
            signature=signature,
            problem=key_problem or names_problem,
            _begins=nanoseconds(begins),
            _ends=nanoseconds(ends) + 999_999_999,
            _key_bits=key_bits,
            _hash=digest or declared_hash(certificate),
            _common_names=tuple(str(each.value) for each in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)),
            _dns_names=dns_names,
            _addresses=addresses,
            _self_issued=subject == issuer,
        )


@lru_cache(maxsize=512)
def signed_by(data: bytes, issuer: bytes) -> bool | None:
    """Whether a DER certificate's signature verifies with the key of another one (or its own); ``None``: one of them
    cannot be read, or their algorithm is not known here."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:  # not verify_directly_issued_by, which knows neither SHA-1 nor MD5
            certificate = x509.load_der_x509_certificate(data)
            key = x509.load_der_x509_certificate(issuer).public_key()
            digest = certificate.signature_hash_algorithm
            signature, signed = certificate.signature, certificate.tbs_certificate_bytes
            parameters = certificate.signature_algorithm_parameters
            if isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
                key.verify(signature, signed)
            elif isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, AsymmetricPadding) and digest:
                key.verify(signature, signed, parameters, digest)
            elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
                key.verify(signature, signed, parameters)
            elif isinstance(key, dsa.DSAPublicKey) and digest:
                key.verify(signature, signed, digest)
            else:
                return None
        except InvalidSignature:
            return False
        except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
            return None
    return True


def public_key(certificate: x509.Certificate) -> tuple[str | None, int | None, str | None]:
    """The subject's key in words, its size in bits where a size says anything, and what could not be read."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        return None, None, f"public key: {clause(error)}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}", key.key_size, None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}", key.key_size, None
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}", key.key_size, None
    return type(key).__name__.removesuffix("PublicKey"), None, None


def alternative_names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """DNS names and addresses of the subjectAltName extension, and what could not be read."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = tuple(names.get_values_for_type(x509.DNSName))
        addresses = tuple(str(each) for each in names.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        return (), (), None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        return (), (), f"extensions: {clause(error)}"
    return dns_names, addresses, None


def declared_hash(certificate: x509.Certificate) -> str | None:
    """The hash that the parameters of a signature name (RSASSA-PSS): ``SHA-1``; ``None`` if there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        algorithm = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    return algorithm.name.upper().replace("SHA", "SHA-", 1) if algorithm else None


def shown_name(name: x509.Name) -> str:
    """A distinguished name in RFC 4514's form, safe to print."""
    shown = name.rfc4514_string(short_names())
    return decode_text(shown.encode("utf-8", "backslashreplace"), LONGEST_NAME)


@cache
def short_names() -> dict[x509.ObjectIdentifier, str]:
    from cryptography.x509 import ObjectIdentifier

    return {ObjectIdentifier(each): short for each, short in ATTRIBUTES.items()}


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def clause(error: Exception) -> str:
    """A library's complaint as one printable clause."""
    return decode_text(str(error).strip().rstrip(".").encode("utf-8", "backslashreplace"), 160) or type(error).__name__
