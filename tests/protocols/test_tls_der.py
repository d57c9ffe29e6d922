"""Certificates that the library refuses: each field is read for itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from hypothesis import given
from hypothesis import strategies as st

from analyzer.protocols.tls import der
from analyzer.protocols.tls.certificates import read_certificate

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def certificate() -> bytes:
    """A self-signed certificate whose common name is a PrintableString."""
    common = x509.NameAttribute(x509.NameOID.COMMON_NAME, "gw.lab.example", _ASN1Type.PrintableString)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "FR"), common])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7, BEGIN, BEGIN + timedelta(days=1))
    names = [x509.DNSName("gw.lab.example"), x509.IPAddress(ip_address("10.20.30.10"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


GOOD = certificate()
RSA_KEY = bytes.fromhex("300d06092a864886f70d0101010500")
"""Algorithm identifier of the key."""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"gw.lab.example", b"gw_lab.example"),
        (b"gw.lab.example", b"gw*lab@example"),
        (b"gw.lab.example", b"gw\0lab.example"),
        (b"\x13\x0egw.lab.example", b"\x14\x0egw.l\xe4b.example"),
        (b"\x13\x0egw.lab.example", b"\x0c\x0egw.l\xe4b.example"),
        (b"260101000000Z", b"2601010000+00"),
        (RSA_KEY, RSA_KEY.replace(b"\1\1\1", b"\1\1\x63")),
    ],
    ids=["underscore", "star and at", "NUL", "Latin-1 in T61String", "Latin-1 in UTF8String", "time zone", "key"],
)  # fmt: skip
def test_one_odd_field_hides_no_other(old: bytes, new: bytes) -> None:
    assert old in GOOD
    found = read_certificate(GOOD.replace(old, new))
    assert found.problem
    assert found.subject and found.subject.startswith("CN=gw") and found.subject.endswith("example,C=FR")
    assert found._self_issued
    assert found.not_after == "2026-01-02T00:00:00Z"
    assert found.signature == "sha256WithRSAEncryption"
    assert found._addresses == ("10.20.30.10",)
    assert len(found._dns_names) == 1
    assert found.key == (None if b"\x01\x01\x63" in new else "RSA 1024")


def test_fields_are_those_of_the_library() -> None:
    fields, found = der.certificate_fields(GOOD), read_certificate(GOOD)
    assert fields and fields.subject and fields.validity and fields.key and fields.extensions
    assert der.name_string(fields.subject, {}) == found.subject == "CN=gw.lab.example,C=FR"
    assert der.times(fields.validity) == (BEGIN, BEGIN + timedelta(days=1))
    assert der.rsa_bits(fields.key) == found._key_bits == 1024
    assert der.alternative_names(fields.extensions) == (found._dns_names, found._addresses)


def test_times() -> None:
    def time(tag: int, content: bytes) -> datetime | None:
        return der.time(der.Element(tag, content, content))

    assert time(0x17, b"2601010000Z") == BEGIN
    assert time(0x18, b"20260101020000+0200") == BEGIN
    assert time(0x17, b"500101000000Z") == datetime(1950, 1, 1, tzinfo=UTC)
    assert time(0x18, b"20261301000000Z") is None
    assert time(0x17, b"soon") is None


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=8))
def test_any_damage_is_read_without_an_error(at: int, damage: bytes) -> None:
    read_certificate(GOOD[:at] + damage + GOOD[at + len(damage) :])
    read_certificate(GOOD[:at])
