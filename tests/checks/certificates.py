"""X.509 certificates to test with, made by small authorities of this module's own."""

from __future__ import annotations

import datetime
import ipaddress
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.protocols.tls_messages import NOVEMBER_2026

KeyPair = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
TODAY = datetime.datetime.fromtimestamp(NOVEMBER_2026 / 1e9, datetime.UTC)
DAY = datetime.timedelta(days=1)


@cache
def key(bits: int = 0) -> KeyPair:
    """An RSA key of that size in bits, or a key on P-256."""
    return rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())


@cache
def authority(name: str) -> ec.EllipticCurvePrivateKey:
    """The key of the authority with this name."""
    return ec.generate_private_key(ec.SECP256R1())


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@cache
def issued(
    subject: str = "tpe.example",
    issuer: str = "Root",
    names: tuple[str, ...] = ("tpe.example", "*.lab.example", "192.0.2.10", "2001:db8::10"),
    begins: int = -10,
    ends: int = 10,
    bits: int = 0,
    own: bool = False,
) -> bytes:
    """A DER certificate. ``begins``, ``ends``: days from the capture; ``own``: for the key its subject signs with."""
    pair = authority(subject) if own else key(bits)
    builder = x509.CertificateBuilder(
        named(issuer), named(subject), pair.public_key(), 7, TODAY + begins * DAY, TODAY + ends * DAY
    )
    if names:
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
    return builder.sign(authority(issuer), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def signed_with_sha1(der: bytes) -> bytes:
    """The same certificate claiming ecdsa-with-SHA1, which current libraries refuse to make."""
    sha256, sha1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
    signed, rest = split(split(der)[0])
    return wrapped(wrapped(signed.replace(sha256, sha1)) + rest.replace(sha256, sha1))


def split(der: bytes) -> tuple[bytes, bytes]:
    """Content of the first DER value, and the bytes after it."""
    length_bytes = der[1] & 0x7F if der[1] & 0x80 else 0
    size = int.from_bytes(der[2 : 2 + length_bytes], "big") if length_bytes else der[1]
    start = 2 + length_bytes
    return der[start : start + size], der[start + size :]


def wrapped(content: bytes) -> bytes:
    """A DER SEQUENCE of 128 bytes or more."""
    size = len(content).to_bytes(2, "big").lstrip(b"\0")
    return bytes([0x30, 0x80 | len(size)]) + size + content


@cache
def issued_authority(name: str, issuer: str = "Root") -> bytes:
    """The DER certificate of an authority with its own key, signed by another one."""
    builder = x509.CertificateBuilder(named(issuer), named(name), authority(name).public_key(), 9, TODAY, TODAY + DAY)
    return builder.sign(authority(issuer), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


ROOT = issued("Root", "Root", (), own=True)
