"""The lab's own certificates: one authority, the good server and client, and the servers that are wrong."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

NAMES = ("tpe.lab.example", "lrc1.lab.example", "lrc2.lab.example", "lns.lab.example", "cups.lab.example")
STATION = "lrr-7076ff-00aa1010"


@dataclass(frozen=True)
class _Signer:
    name: x509.Name
    key: rsa.RSAPrivateKey


def write(folder: Path, addresses: Sequence[str]) -> None:
    """Write ``ca``, ``tpe``, ``station``, ``expired``, ``wrong-name`` and ``self-signed`` into a folder.

    Each as ``.key``, ``.crt`` and ``.pem`` (both, as stunnel wants them). ``addresses``: those of TPE.
    """
    authority = _pair(folder, "ca", "Lab Core Root CA", None)
    names = [x509.DNSName(each) for each in NAMES]
    numbers = [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    _pair(folder, "tpe", NAMES[0], authority, [*names, *numbers])
    _pair(folder, "station", STATION, authority, [x509.DNSName(STATION)])
    _pair(folder, "expired", NAMES[0], authority, [*names, *numbers], days=(-800, -70))
    _pair(folder, "wrong-name", "other.lab.example", authority, [x509.DNSName("other.lab.example")])
    _pair(folder, "self-signed", NAMES[0], None, [*names, *numbers])


def _pair(
    folder: Path,
    file: str,
    common_name: str,
    issuer: _Signer | None,
    alternatives: Sequence[x509.GeneralName] = (),
    days: tuple[int, int] = (-20, 700),
) -> _Signer:
    """One key and its certificate, valid between two days counted from today."""
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    key = rsa.generate_private_key(65537, 2048)
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
        .add_extension(x509.BasicConstraints(ca=not alternatives, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(signer.key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    for ending, content in (("key", secret), ("crt", public), ("pem", secret + public)):
        (folder / f"{file}.{ending}").write_bytes(content)
        (folder / f"{file}.{ending}").chmod(0o600)
    return _Signer(subject, key)
