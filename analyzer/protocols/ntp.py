"""NTP (RFC 5905), its control messages (RFC 9327), and the private messages of ntpd."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText
from analyzer.wire import UNBOUNDED, Reader

NAME = "ntp"

PORT = 123
SYMMETRIC_ACTIVE, SYMMETRIC_PASSIVE, CLIENT, SERVER, BROADCAST, CONTROL, PRIVATE = 1, 2, 3, 4, 5, 6, 7
"""Modes (RFC 5905, section 3)."""
UNSYNCHRONIZED = 3
"""Leap indicator of an unsynchronized clock (RFC 5905, section 7.3)."""
MONLIST = frozenset({20, 42})
"""Request codes MON_GETLIST and MON_GETLIST_1 of ntpd: the addresses that the server communicated with."""

PACKET = struct.Struct(">Bbb3I4Q")
CONTROL_HEADER = struct.Struct(">B5H")
PRIVATE_HEADER = struct.Struct(">BBBHH")
"""Headers without the first byte, which holds leap indicator or flags, version and mode."""
MIN_PACKET_BYTES = 48
MIN_MESSAGE_BYTES = {CONTROL: 12, PRIVATE: 8}
"""Length of the shortest message by mode; :data:`MIN_PACKET_BYTES` for any other mode."""
MAX_STRATUM = 16
"""Unsynchronised; higher values are reserved (RFC 5905, figure 11)."""
OPERATIONS = frozenset({*range(1, 13), 31})
"""Operation codes of control messages (RFC 9327, section 2, and ntpd)."""
IMPLEMENTATIONS = frozenset({0, 2, 3})
"""Implementation numbers of private messages: universal, and two of ntpd."""
MAX_PRIVATE_BYTES = 500
"""Most data of a private message."""
MAX_MAC_BYTES = 24
"""Longest authenticator of RFC 5905: a key identifier and 20 bytes of digest."""
MIN_EXTENSION_BYTES = 16
"""RFC 7822, section 7.5."""
MAX_SHOWN = 50
"""Kinds of extension fields, and keys, in the facts."""
EXTENSIONS = {
    0x0104: "NTS unique identifier",
    0x0204: "NTS cookie",
    0x0304: "NTS cookie placeholder",
    0x0404: "NTS authenticator",
    0x2005: "checksum complement",
}
"""Types of extension fields (RFC 8915, section 7.6; RFC 7821)."""
SOURCES = {
    "GOES": "geostationary satellite",
    "GPS": "Global Positioning System",
    "GAL": "Galileo",
    "GLON": "GLONASS",
    "BDS": "BeiDou",
    "PPS": "pulse per second",
    "IRIG": "Inter-Range Instrumentation Group",
    "WWVB": "WWVB radio",
    "DCF": "DCF77 radio",
    "HBG": "HBG radio",
    "MSF": "MSF radio",
    "JJY": "JJY radio",
    "LORC": "LORAN C radio",
    "TDF": "Allouis radio",
    "CHU": "CHU radio",
    "WWV": "WWV radio",
    "WWVH": "WWVH radio",
    "NIST": "NIST telephone modem",
    "ACTS": "NIST telephone modem",
    "USNO": "USNO telephone modem",
    "PTB": "PTB telephone modem",
    "MRS": "multiple sources",
    "LOCL": "local clock without a reference",
}
"""Reference identifiers of stratum 1 (RFC 5905, figure 12, and others that servers use)."""
KISSES = {
    "ACST": "the association belongs to a unicast server",
    "AUTH": "server authentication failed",
    "AUTO": "Autokey sequence failed",
    "BCST": "the association belongs to a broadcast server",
    "CRYP": "cryptographic authentication or identification failed",
    "DENY": "access denied",
    "DROP": "lost peer in symmetric mode",
    "RSTR": "access denied due to local policy",
    "INIT": "the association has not yet synchronized",
    "MCST": "the association belongs to a dynamically discovered server",
    "NKEY": "no key found",
    "NTSN": "the NTS cookie is not valid",
    "RATE": "rate exceeded",
    "RMOT": "somebody is tinkering with the association from a remote host",
    "STEP": "a step change in system time",
}
"""Kiss codes (RFC 5905, figure 13; RFC 8915, section 7.4)."""
OTHER_PORT_LENGTHS = frozenset({MIN_PACKET_BYTES, MIN_PACKET_BYTES + 20})
"""Lengths that count as NTP on other ports: a packet without, or with, a key identifier and MD5 digest."""


class Packet(NamedTuple):
    """A time packet, modes 1 to 5 (RFC 5905, section 7.3)."""

    leap: int
    version: int
    mode: int
    stratum: int
    poll: int
    """Interval: log2 of seconds."""
    precision: int
    """log2 of seconds."""
    root_delay: int
    """In units of 2**-16 seconds (NTP short format), as is the dispersion."""
    root_dispersion: int
    reference_id: bytes
    reference_timestamp: int
    """In units of 2**-32 seconds since 1900 (NTP timestamp format), as are the following."""
    origin_timestamp: int
    receive_timestamp: int
    transmit_timestamp: int

    @property
    def kiss(self) -> str | None:
        """The code of a kiss-o'-death packet, with which a server refuses its client (RFC 5905, section 7.4)."""
        is_kiss = self.mode == SERVER and self.stratum == 0 and self.reference_id != bytes(4)
        return reference(0, self.reference_id) if is_kiss else None

    @property
    def synchronized(self) -> bool:
        """Whether the sender declares its clock synchronized."""
        return self.leap != UNSYNCHRONIZED and 0 < self.stratum < 16


class Extension(NamedTuple):
    """An extension field (RFC 7822)."""

    type: int
    length: int
    """In bytes, with the four bytes of type and length."""


class Authenticator(NamedTuple):
    """A message authentication code, or a crypto-NAK, which has no digest (RFC 5905, section 7.3)."""

    key: int
    digest: bytes

    @property
    def refuses(self) -> bool:
        """Whether it is a crypto-NAK: the server rejects the request's authentication code."""
        return not self.digest and self.key == 0


class Control(NamedTuple):
    """A control message, mode 6 (RFC 9327, section 2)."""

    version: int
    response: bool
    error: bool
    more: bool
    opcode: int
    sequence: int
    status: int
    association: int
    offset: int
    size: int
    """Bytes of data in this message."""
    mode: int = CONTROL


class Private(NamedTuple):
    """A private message of ntpd, mode 7."""

    version: int
    response: bool
    more: bool
    implementation: int
    request: int
    items: int
    item_size: int
    """In bytes."""
    mode: int = PRIVATE


def probe(head: Head) -> bool:
    """On NTP's port any datagram with a possible version, mode, stratum and length; on other ports the first one, all
    of whose values must be plausible."""
    if head.transport != "udp" or not head.datagrams:
        return False
    if PORT in head.ports:
        return any(is_possible(datagram.data, datagram.length) for datagram in head.datagrams)
    first = head.datagrams[0]
    return (
        first.length in OTHER_PORT_LENGTHS
        and len(first.data) >= MIN_PACKET_BYTES
        and first.data[0] >> 3 & 7 in (3, 4)
        and first.data[0] & 7 in (CLIENT, SERVER)
        and is_plausible(PACKET.unpack_from(first.data, 1))
    )


def is_possible(data: bytes, length: int) -> bool:
    """Whether a datagram on NTP's port may be a message: random bytes and other protocols seldom are."""
    if not data:
        return False
    version, mode = data[0] >> 3 & 7, data[0] & 7
    if not 1 <= version <= 4 or not mode or length < MIN_MESSAGE_BYTES.get(mode, MIN_PACKET_BYTES):
        return False
    if mode == PRIVATE:
        return is_possible_private(data, length)
    if mode == CONTROL:
        return is_possible_control(data, length)
    if len(data) < 12:
        return len(data) < 2 or data[1] <= MAX_STRATUM
    # Far above any real distance; some servers of version 3 send a negative delay.
    return data[1] <= MAX_STRATUM and data[4] >> 4 in (0, 15) and data[8] >> 4 == 0


def is_possible_control(data: bytes, length: int) -> bool:
    """Whether operation and count of a control message are possible (RFC 9327, section 2)."""
    if len(data) < MIN_MESSAGE_BYTES[CONTROL]:
        return len(data) < length
    left = length - MIN_MESSAGE_BYTES[CONTROL] - int.from_bytes(data[10:12], "big")
    return data[1] & 31 in OPERATIONS and 0 <= left <= 3 + MAX_MAC_BYTES


def is_possible_private(data: bytes, length: int) -> bool:
    """Whether implementation and sizes of a private message are possible (``ntp_request.h`` of ntpd)."""
    if len(data) < MIN_MESSAGE_BYTES[PRIVATE]:
        return len(data) < length
    _, implementation, _, items, size = PRIVATE_HEADER.unpack_from(data, 1)
    content = (items & 0xFFF) * (size & 0xFFF)
    return implementation in IMPLEMENTATIONS and size < 0x1000 and content <= min(MAX_PRIVATE_BYTES, length)


def is_plausible(fields: Sequence[int]) -> bool:
    """Whether a packet may come from a clock: distances below 16 seconds, poll intervals below two days."""
    stratum, poll, _, root_delay, root_dispersion, _, *_, transmit = fields
    return stratum <= 16 and 0 <= poll <= 17 and max(root_delay, root_dispersion) < 16 << 16 and transmit != 0


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    first = reader.u8("mode")
    version, mode = first >> 3 & 7, first & 7
    if (not 1 <= version <= 4 or not mode) and reader.peek(1) > bytes((MAX_STRATUM,)):
        reader.malformed("mode", f"version {version} and mode {mode} are none of NTP", 0)
    if mode == CONTROL:
        yield from read_control(reader, first)
    elif mode == PRIVATE:
        yield from read_private(reader, first)
    else:
        yield from read_packet(reader, first)


def read_packet(reader: Reader, first: int) -> Iterator[object]:
    stratum, poll, precision, delay, dispersion, identifier, *timestamps = PACKET.unpack(
        reader.take(PACKET.size, "header")
    )
    version, mode = first >> 3 & 7, first & 7
    yield Packet(
        first >> 6,
        version,
        mode,
        stratum,
        poll,
        precision,
        delay,
        dispersion,
        identifier.to_bytes(4, "big"),
        *timestamps,
    )
    # Extension fields follow as long as more is left than the longest authenticator (RFC 7822, section 3).
    while version >= 4 and reader.fence != UNBOUNDED and reader.fence - reader.pos > MAX_MAC_BYTES:
        kind, length = reader.u16("extension field type"), reader.u16("extension field length")
        if length < MIN_EXTENSION_BYTES or length % 4:
            reader.malformed("extension field length", f"{length} bytes", reader.pos - 2)
        reader.take(length - 4, "extension field")
        yield Extension(kind, length)
    if reader.has_more:
        key = reader.u32("key identifier")
        digest = reader.rest("digest")
        if len(digest) % 4:
            reader.malformed("digest", f"{len(digest)} bytes are left for it")
        yield Authenticator(key, digest)


def read_control(reader: Reader, first: int) -> Iterator[object]:
    second, sequence, status, association, offset, count = CONTROL_HEADER.unpack(
        reader.take(CONTROL_HEADER.size, "header")
    )
    yield Control(
        first >> 3 & 7,
        bool(second & 0x80),
        bool(second & 0x40),
        bool(second & 0x20),
        second & 31,
        sequence,
        status,
        association,
        offset,
        count,
    )
    reader.take(count, "data")
    reader.rest("padding and authenticator")


def read_private(reader: Reader, first: int) -> Iterator[object]:
    _, implementation, request, items, size = PRIVATE_HEADER.unpack(reader.take(PRIVATE_HEADER.size, "header"))
    response, count, item_size = bool(first & 0x80), items & 0xFFF, size & 0xFFF
    yield Private(first >> 3 & 7, response, bool(first & 0x40), implementation, request, count, item_size)
    if response:
        reader.take(count * item_size, "data")
    reader.rest("data and authenticator")


def reference(stratum: int, identifier: bytes) -> str:
    """A reference identifier, whose meaning depends on the stratum (RFC 5905, section 7.3): a name, else an address."""
    name = identifier.rstrip(b"\0 ")
    if stratum < 2 and name.isascii() and name.decode("ascii").isprintable():
        return name.decode("ascii")
    return socket.inet_ntop(socket.AF_INET, identifier)


@dataclass(frozen=True, slots=True)
class NtpFacts(Facts):
    """Facts of an NTP conversation."""

    modes: tuple[int, ...]
    """Ascending."""
    versions: tuple[int, ...]
    """Ascending."""
    stratum: int | None = None
    """Of the last response, as are leap indicator and reference."""
    leap: int | None = None
    reference_id: SafeText | None = None
    """Stratum 1: a name. Above: an IPv4 address, or four bytes of a hash of an IPv6 address in the same notation."""
    reference_source: SafeText | None = None
    """Meaning of the name at stratum 1."""
    kiss: SafeText | None = None
    """Code of the last kiss-o'-death."""
    extensions: Mapping[SafeText, int] = field(default_factory=dict)
    """Name, or else type in hexadecimal → number of extension fields."""
    keys: tuple[int, ...] = ()
    """Identifiers of the keys that authenticate packets, ascending."""


def facts(items: Sequence[Item]) -> NtpFacts:
    modes, versions, keys = set(), set(), set()
    extensions: Counter[str] = Counter()
    response = kiss = None
    for item in items:
        message = item.message
        if isinstance(message, (Packet, Control, Private)):
            modes.add(message.mode)
            versions.add(message.version)
        if isinstance(message, Packet) and message.mode not in (SYMMETRIC_ACTIVE, CLIENT):
            response, kiss = message, message.kiss or kiss
        elif isinstance(message, Extension):
            name = EXTENSIONS.get(message.type, f"0x{message.type:04x}")
            extensions[name if name in extensions or len(extensions) < MAX_SHOWN else "…"] += 1
        elif isinstance(message, Authenticator) and not message.refuses:
            keys.add(message.key)
    values: dict[str, Any] = {"extensions": dict(extensions), "keys": tuple(sorted(keys)[:MAX_SHOWN])}
    if response is not None:
        source = None if response.kiss is not None else reference(response.stratum, response.reference_id)
        meaning = SOURCES.get(source) if source and response.stratum == 1 else None
        values |= {"stratum": response.stratum, "leap": response.leap, "reference_id": source}
        values |= {"reference_source": meaning, "kiss": kiss}
    return NtpFacts(tuple(sorted(modes)), tuple(sorted(versions)), **values)
