"""The certificates of the lab: an authority, valid certificates for server and client, and invalid ones."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtensionOID, NameOID

NAMES = (
    "tpe.lab.example",
    "lrc1.lab.example",
    "lrc2.lab.example",
    "lrc3.lab.example",
    "lns.lab.example",
    "cups.lab.example",
)
STATION = "lrr-7076ff-00aa1010"


@dataclass(frozen=True)
class _Signer:
    name: x509.Name
    key: rsa.RSAPrivateKey


_BROKEN_NAMES = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3007 8705 0a141e0a00"))
"""Alternative names with an IP address of five bytes, which no certificate parser accepts."""


def write(folder: Path, addresses: Sequence[str]) -> None:
    """Write ``ca``, ``tpe``, ``station`` and the invalid server certificates into a folder.

    Each becomes ``.key``, ``.crt`` and ``.pem`` (key and certificate, for stunnel). ``addresses``: of TPE.
    """
    authority = _pair(folder, "ca", "Lab Core Root CA", None)
    names = [x509.DNSName(name) for name in NAMES]
    numbers = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    good = x509.SubjectAlternativeName([*names, *numbers])
    _pair(folder, "tpe", NAMES[0], authority, good)
    _pair(folder, "station", STATION, authority, x509.SubjectAlternativeName([x509.DNSName(STATION)]))
    _pair(folder, "expired", NAMES[0], authority, good, days=(-800, -70))
    _pair(folder, "not-yet-valid", NAMES[0], authority, good, days=(40, 700))
    other = x509.SubjectAlternativeName([x509.DNSName("other.lab.example")])
    _pair(folder, "wrong-name", "other.lab.example", authority, other)
    _pair(folder, "self-signed", NAMES[0], None, good)
    _pair(folder, "rsa-1024", NAMES[0], authority, good, bits=1024)
    _sign_with_sha1(folder)
    _pair(folder, "unreadable", NAMES[0], authority, _BROKEN_NAMES)
    old = _pair(folder, "old-issuer", "Lab Core Issuing CA 2019", authority, days=(-2000, -30))
    _pair(folder, "expired-issuer", NAMES[0], old, good)
    _add(folder, "expired-issuer", "old-issuer")
    issuer = _pair(folder, "issuer", "Lab Core Issuing CA", authority)
    _pair(folder, "unordered", NAMES[0], issuer, good)
    _add(folder, "unordered", "ca", "issuer")
    _pair(folder, "new-issuer", "Lab Core Issuing CA", authority)
    _pair(folder, "other-issuer", NAMES[0], issuer, good)
    _add(folder, "other-issuer", "new-issuer")


def _add(folder: Path, file: str, *issuers: str) -> None:
    """Append certificates to a server's own; it sends all of them."""
    with (folder / f"{file}.pem").open("ab") as chain:
        for issuer in issuers:
            chain.write((folder / f"{issuer}.crt").read_bytes())


def _sign_with_sha1(folder: Path) -> None:
    """Sign the self-signed certificate's key with SHA-1, by openssl, because cryptography refuses SHA-1."""
    new = folder / "sha1.crt"
    authority = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-days", "300"]
    good = ["-in", str(folder / "self-signed.crt"), "-out", str(new)]
    subprocess.run(["openssl", "x509", "-sha1", *authority, *good], check=True, capture_output=True)
    (folder / "sha1.pem").write_bytes((folder / "self-signed.key").read_bytes() + new.read_bytes())


def _pair(
    folder: Path,
    file: str,
    common_name: str,
    issuer: _Signer | None,
    names: x509.ExtensionType | None = None,
    days: tuple[int, int] = (-20, 700),
    bits: int = 2048,
) -> _Signer:
    """Make a key and its certificate. ``days``: validity, as days from today."""
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    key = rsa.generate_private_key(65537, bits)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Lab Core"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    signer = issuer or _Signer(subject, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today + datetime.timedelta(days=days[0]))
        .not_valid_after(today + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signer.key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    for suffix, content in (("key", secret), ("crt", public), ("pem", secret + public)):
        (folder / f"{file}.{suffix}").write_bytes(content)
        (folder / f"{file}.{suffix}").chmod(0o600)
    return _Signer(subject, key)
