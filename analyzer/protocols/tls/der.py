"""Fields of a certificate that the library refuses as a whole, each read for itself (X.690, RFC 5280).

Certificates break rules that do not matter to an auditor: a character that PrintableString lacks, a name in Latin-1, a
date with a time zone, an explicit default. One such field must not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final, NamedTuple

SEQUENCE, SET, OID, INTEGER, BIT_STRING, OCTET_STRING = 0x30, 0x31, 6, 2, 3, 4
UTC_TIME, VERSION, EXTENSIONS, DNS_NAME, IP_ADDRESS = 0x17, 0xA0, 0xA3, 0x82, 0x87
ENCODINGS: Final = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x14: "latin-1"}
"""BMPString, UniversalString, T61String; others are read as UTF-8, and as Latin-1 where they are none."""
COMMON_NAME, ALTERNATIVE_NAME, RSA = "2.5.4.3", "2.5.29.17", "1.2.840.113549.1.1.1"
SHORT_NAMES: Final = {
    COMMON_NAME: "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""RFC 4514, section 3."""
TIME: Final = re.compile(rb"(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?:\.\d+)?(?:Z|([+-])(\d{2})(\d{2}))?")


class Element(NamedTuple):
    """A DER element."""

    tag: int
    content: bytes
    whole: bytes
    """With tag and length."""


class Fields(NamedTuple):
    """The elements of a certificate; ``None``: it has none that can be told apart."""

    signature_algorithm: str | None
    issuer: Element | None
    validity: Element | None
    subject: Element | None
    key: Element | None
    extensions: Element | None


def elements(data: bytes) -> Iterator[Element]:
    """The elements in a row of them, up to the first that is incomplete."""
    at = 0
    while at + 2 <= len(data):
        length, start = data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        if start + length > len(data):
            return
        yield Element(data[at], data[start : start + length], data[at : start + length])
        at = start + length


def certificate_fields(data: bytes) -> Fields | None:
    """The elements of a certificate (RFC 5280, section 4.1); ``None``: its outline cannot be read."""
    outer = next(elements(data), None)
    body = next(elements(outer.content), None) if outer else None
    parts = [part for part in elements(body.content) if part.tag != VERSION] if body else []
    if len(parts) < 2:
        return None
    algorithm = next(elements(parts[1].content), None)
    issuer, validity, subject, key = [*parts[2:6], None, None, None, None][:4]
    extensions = next((part for part in parts[6:] if part.tag == EXTENSIONS), None)
    oid = dotted(algorithm.content) if algorithm and algorithm.tag == OID else None
    return Fields(oid, issuer, validity, subject, key, extensions)


def dotted(raw: bytes) -> str:
    """An object identifier: ``2.5.4.3``."""
    numbers: list[int] = []
    value = 0
    for byte in raw:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        return ""
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def text(element: Element) -> str:
    """The text of a string, whatever its type allows."""
    encoding = ENCODINGS.get(element.tag, "utf-8")
    try:
        return element.content.decode(encoding)
    except UnicodeDecodeError:
        return element.content.decode("latin-1")


def attributes(name: Element) -> list[tuple[str, str]]:
    """Object identifier and value of each attribute of a name, in the order of the certificate."""
    found = []
    for relative in elements(name.content):
        for attribute in elements(relative.content):
            parts = list(elements(attribute.content))
            if len(parts) == 2 and parts[0].tag == OID:
                found.append((dotted(parts[0].content), text(parts[1])))
    return found


def name_string(name: Element, short_names: dict[str, str]) -> str:
    """A name in the form of RFC 4514: ``CN=a,O=b``. ``short_names``: further short names by object identifier."""
    known = {**SHORT_NAMES, **short_names}
    return ",".join(f"{known.get(oid, oid)}={escaped(value)}" for oid, value in reversed(attributes(name)))


def escaped(value: str) -> str:
    """RFC 4514, section 2.4."""
    return re.sub(r'([,+"\\<>;])', r"\\\1", value).replace("\0", "\\00")


def times(validity: Element) -> tuple[datetime | None, datetime | None]:
    """Begin and end of the validity; ``None`` where a time cannot be read."""
    parts = list(elements(validity.content))
    return (time(parts[0]), time(parts[1])) if len(parts) == 2 else (None, None)


def time(element: Element) -> datetime | None:
    """UTCTime or GeneralizedTime, with seconds and time zone or without."""
    found = TIME.fullmatch(element.content)
    if found is None:
        return None
    year = int(found[1])
    if element.tag == UTC_TIME:
        year += 1900 if year >= 50 else 2000  # RFC 5280, section 4.1.2.5.1
    zone = timedelta(hours=int(found[8] or 0), minutes=int(found[9] or 0)) * (-1 if found[7] == b"-" else 1)
    try:
        month, day, hour, minute, second = (int(found[number] or 0) for number in range(2, 7))
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC) - zone
    except (ValueError, OverflowError):
        return None


def rsa_bits(key: Element) -> int | None:
    """Size of an RSA key; ``None``: it is another key, or none that can be read."""
    parts = list(elements(key.content))
    if len(parts) != 2 or parts[1].tag != BIT_STRING:
        return None
    algorithm = next(elements(parts[0].content), None)
    if algorithm is None or dotted(algorithm.content) != RSA:
        return None
    numbers = next(elements(parts[1].content[1:]), None)
    modulus = next(elements(numbers.content), None) if numbers else None
    return int.from_bytes(modulus.content, "big").bit_length() if modulus and modulus.tag == INTEGER else None


def alternative_names(extensions: Element) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """DNS names and addresses of the subjectAltName extension."""
    dns_names: list[str] = []
    addresses: list[str] = []
    for extension in (found for part in elements(extensions.content) for found in elements(part.content)):
        parts = list(elements(extension.content))
        if len(parts) < 2 or dotted(parts[0].content) != ALTERNATIVE_NAME or parts[-1].tag != OCTET_STRING:
            continue
        for name in (found for part in elements(parts[-1].content) for found in elements(part.content)):
            if name.tag == DNS_NAME:
                dns_names.append(text(name))
            elif name.tag == IP_ADDRESS and len(name.content) in (4, 16):
                addresses.append(str(ip_address(name.content)))
    return tuple(dns_names), tuple(addresses)
