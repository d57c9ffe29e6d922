"""X.509 certificates (RFC 5280), read with the ``cryptography`` library.

What the library refuses to read becomes a fact here; no exception of it leaves this module.
"""

from __future__ import annotations

import warnings
from functools import cache, lru_cache
from sys import intern
from typing import TYPE_CHECKING, Final

from analyzer.dataclass import dataclass
from analyzer.protocols.tls import der
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
"""Object identifier → signature algorithm and its hash; ``None``: the algorithm does not imply a hash."""

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
"""Object identifier → usual short name of an attribute that has none in RFC 4514."""

MAX_NAME: Final = 1024
"""Bytes shown of a distinguished name."""


@dataclass(frozen=True, slots=True)
class X509Certificate:
    """One certificate. A field that cannot be read is ``None``, and ``problem`` says why."""

    subject: str | None = None
    """RFC 4514."""
    issuer: str | None = None
    """RFC 4514."""
    not_before: SafeText | None = None
    """ISO 8601, UTC: the first second in which it is valid."""
    not_after: SafeText | None = None
    """ISO 8601, UTC: the last second in which it is valid."""
    key: SafeText | None = None
    """``RSA 2048``, ``EC secp256r1``, ``DSA 1024``, ``Ed25519``."""
    signature: SafeText | None = None
    """Algorithm of the signature: ``sha256WithRSAEncryption``."""
    problem: SafeText | None = None
    """What cannot be read."""
    _begins: int | None = None
    """``not_before`` in nanoseconds since the epoch."""
    _ends: int | None = None
    """End of the second ``not_after``, in nanoseconds since the epoch."""
    _key_bits: int | None = None
    _hash: str | None = None
    """Hash of the signature: ``SHA-1``."""
    _common_names: tuple[str, ...] = ()
    _dns_names: tuple[str, ...] = ()
    """DNS names of the subjectAltName extension."""
    _addresses: tuple[str, ...] = ()
    """Addresses of the subjectAltName extension, in canonical form."""
    _self_issued: bool = False
    """Whether the subject is the issuer."""


@lru_cache(maxsize=512)
def read_certificate(data: bytes) -> X509Certificate:
    """Read a DER certificate. Raises nothing. Cached, because many conversations show the same certificate."""
    from cryptography import x509

    with warnings.catch_warnings():  # the library warns of certificates that break rules
        warnings.simplefilter("ignore")
        try:
            certificate = x509.load_der_x509_certificate(data)
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            subject, issuer = certificate.subject, certificate.issuer
            names = name_text(subject), name_text(issuer)
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            return read_field_by_field(data, error_text(error))
        key, key_bits, key_problem = public_key(certificate)
        dns_names, addresses, names_problem = alternative_names(certificate)
        fields = der.certificate_fields(data) if names_problem else None
        if fields and fields.extensions:
            dns_names, addresses = der.alternative_names(fields.extensions)
        signature, digest = SIGNATURES.get(oid := certificate.signature_algorithm_oid.dotted_string, (oid, None))
        return X509Certificate(
            subject=names[0],
            # Many certificates share these texts.
            issuer=intern(names[1]),
            not_before=intern(iso_text(begins)),
            not_after=intern(iso_text(ends)),
            key=key and intern(key),
            signature=signature,
            problem=key_problem or names_problem,
            _begins=nanoseconds(begins),
            _ends=nanoseconds(ends) + 999_999_999,
            _key_bits=key_bits,
            _hash=digest or declared_hash(certificate),
            _common_names=tuple(str(name.value) for name in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)),
            _dns_names=dns_names,
            _addresses=addresses,
            _self_issued=subject == issuer,
        )


def read_field_by_field(data: bytes, problem: str) -> X509Certificate:
    """A certificate that the library refuses for one of its fields: all others."""
    fields = der.certificate_fields(data)
    if fields is None:
        return X509Certificate(problem=problem)
    subject, issuer = (
        name and printable_name(der.name_string(name, ATTRIBUTES)) for name in (fields.subject, fields.issuer)
    )
    begins, ends = der.times(fields.validity) if fields.validity else (None, None)
    bits = der.rsa_bits(fields.key) if fields.key else None
    oid = fields.signature_algorithm or ""
    signature, digest = SIGNATURES.get(oid, (oid or None, None))
    names = der.attributes(fields.subject) if fields.subject else []
    dns_names, addresses = der.alternative_names(fields.extensions) if fields.extensions else ((), ())
    return X509Certificate(
        subject=subject,
        issuer=issuer,
        not_before=None if begins is None else iso_text(begins),
        not_after=None if ends is None else iso_text(ends),
        key=f"RSA {bits}" if bits else None,
        signature=signature,
        problem=problem,
        _begins=None if begins is None else nanoseconds(begins),
        _ends=None if ends is None else nanoseconds(ends) + 999_999_999,
        _key_bits=bits,
        _hash=digest,
        _common_names=tuple(value for oid, value in names if oid == der.COMMON_NAME),
        _dns_names=dns_names,
        _addresses=addresses,
        _self_issued=bool(fields.subject and fields.issuer and fields.subject.whole == fields.issuer.whole),
    )


@lru_cache(maxsize=512)
def is_signed_by(data: bytes, issuer: bytes) -> bool | None:
    """Whether a DER certificate is signed with the key of another one, or with its own; ``None``: unknown, because one
    of them is unreadable or the algorithm is not supported."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:  # verify_directly_issued_by supports neither SHA-1 nor MD5
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
    """Description of the subject's key, its size in bits unless the algorithm fixes it, and what cannot be read."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        return None, None, f"public key: {error_text(error)}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}", key.key_size, None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}", key.key_size, None
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}", key.key_size, None
    return type(key).__name__.removesuffix("PublicKey"), None, None


def alternative_names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """DNS names and addresses of the subjectAltName extension, and what cannot be read."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = tuple(names.get_values_for_type(x509.DNSName))
        addresses = tuple(map(str, names.get_values_for_type(x509.IPAddress)))
    except x509.ExtensionNotFound:
        return (), (), None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        return (), (), f"extensions: {error_text(error)}"
    return dns_names, addresses, None


def declared_hash(certificate: x509.Certificate) -> str | None:
    """The hash in the parameters of a signature algorithm (RSASSA-PSS): ``SHA-1``; ``None``: there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        algorithm = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    return algorithm.name.upper().replace("SHA", "SHA-", 1) if algorithm else None


def name_text(name: x509.Name) -> str:
    """A distinguished name in the form of RFC 4514, safe to print."""
    return printable_name(name.rfc4514_string(short_names()))


def printable_name(text: str) -> str:
    return decode_text(text.encode("utf-8", "backslashreplace"), MAX_NAME)


@cache
def short_names() -> dict[x509.ObjectIdentifier, str]:
    from cryptography.x509 import ObjectIdentifier

    return {ObjectIdentifier(identifier): name for identifier, name in ATTRIBUTES.items()}


def iso_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def error_text(error: Exception) -> str:
    """The message of the library's exception as one clause, safe to print."""
    return decode_text(str(error).strip().rstrip(".").encode("utf-8", "backslashreplace"), 160) or type(error).__name__
