"""NTP: the Network Time Protocol (RFC 5905), its control messages (RFC 9327) and the private ones of ntpd."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText
from analyzer.wire import UNBOUNDED, Reader

NAME = "ntp"

PORT = 123
SYMMETRIC_ACTIVE, SYMMETRIC_PASSIVE, CLIENT, SERVER, BROADCAST, CONTROL, PRIVATE = 1, 2, 3, 4, 5, 6, 7
"""Modes (RFC 5905, section 3)."""
UNSYNCHRONIZED = 3
"""Leap indicator of a clock that was never set (RFC 5905, section 7.3)."""
MONLIST = frozenset({20, 42})
"""Request codes MON_GETLIST and MON_GETLIST_1 of ntpd: whom the server spoke with."""

PACKET = struct.Struct(">Bbb3I4Q")
CONTROL_HEADER = struct.Struct(">B5H")
PRIVATE_HEADER = struct.Struct(">BBBHH")
"""What follows the first byte, which tells leap indicator or flags, version and mode."""
SHORTEST = 48
SHORTEST_OF = {CONTROL: 12, PRIVATE: 8}
"""Bytes of the shortest message, in any other mode and in these."""
LARGEST_MAC = 24
"""Bytes of the largest authenticator that RFC 5905 knows: a key identifier and 20 bytes of digest."""
LEAST_EXTENSION = 16
MOST_SHOWN = 50
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
"""What a reference identifier of stratum 1 names (RFC 5905, figure 12, and what servers use beside it)."""
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
OTHER_PORT_LENGTHS = frozenset({SHORTEST, SHORTEST + 20})
"""Lengths that count as NTP on other ports: a bare packet and one with an MD5 digest."""


class Packet(NamedTuple):
    """A time packet, modes 1 to 5 (RFC 5905, section 7.3)."""

    leap: int
    version: int
    mode: int
    stratum: int
    poll: int
    """Of the interval in seconds, the logarithm to base 2."""
    precision: int
    """Of the precision in seconds, the logarithm to base 2."""
    root_delay: int
    """NTP short format: seconds times 65536."""
    root_dispersion: int
    """NTP short format: seconds times 65536."""
    reference_id: bytes
    reference_timestamp: int
    """NTP timestamp format: seconds since 1900 times 2**32, as are those below."""
    origin_timestamp: int
    receive_timestamp: int
    transmit_timestamp: int

    @property
    def kiss(self) -> str | None:
        """The kiss code of a server that turns its client away (RFC 5905, section 7.4)."""
        turned_away = self.mode == SERVER and self.stratum == 0 and self.reference_id != bytes(4)
        return reference(0, self.reference_id) if turned_away else None

    @property
    def synchronized(self) -> bool:
        """Whether the sender says that its clock was set."""
        return self.leap != UNSYNCHRONIZED and 0 < self.stratum < 16


class Extension(NamedTuple):
    """An extension field (RFC 7822)."""

    type: int
    length: int
    """Bytes, the four of type and length included."""


class Authenticator(NamedTuple):
    """A message authentication code; without a digest it is a crypto-NAK (RFC 5905, section 7.3)."""

    key: int
    digest: bytes

    @property
    def refuses(self) -> bool:
        """Whether it is a crypto-NAK: the request's own code did not fit."""
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
    """A private message, mode 7, as ntpd has it."""

    version: int
    response: bool
    more: bool
    implementation: int
    request: int
    items: int
    item_size: int
    """Bytes."""
    mode: int = PRIVATE


def probe(head: Head) -> bool:
    if head.transport != "udp" or not head.datagrams:
        return False
    first = head.datagrams[0]
    if not first.data:
        return False
    version, mode = first.data[0] >> 3 & 7, first.data[0] & 7
    if PORT in head.ports:
        return 1 <= version <= 4 and mode > 0 and first.length >= SHORTEST_OF.get(mode, SHORTEST)
    return (
        first.length in OTHER_PORT_LENGTHS
        and version in (3, 4)
        and mode in (CLIENT, SERVER)
        and len(first.data) >= SHORTEST
        and believable(PACKET.unpack_from(first.data, 1))
    )


def believable(fields: Sequence[int]) -> bool:
    """Whether a packet's values are those of a clock: distances below 16 seconds, polls below two days."""
    stratum, poll, _, root_delay, root_dispersion, _, *_, transmit = fields
    return stratum <= 16 and 0 <= poll <= 17 and max(root_delay, root_dispersion) < 16 << 16 and transmit != 0


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    first = reader.u8("mode")
    mode = first & 7
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
    # Whatever follows is extension fields until no more than an authenticator is left (RFC 7822, section 3).
    while version >= 4 and reader.fence != UNBOUNDED and reader.fence - reader.pos > LARGEST_MAC:
        kind, length = reader.u16("extension field type"), reader.u16("extension field length")
        if length < LEAST_EXTENSION or length % 4:
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
    """A reference identifier as it is read at its stratum (RFC 5905, section 7.3): a name, else an address."""
    name = identifier.rstrip(b"\0 ")
    if stratum < 2 and name.isascii() and name.decode("ascii").isprintable():
        return name.decode("ascii")
    return socket.inet_ntop(socket.AF_INET, identifier)


@dataclass(frozen=True, slots=True)
class NtpFacts(Facts):
    """What a conversation in NTP shows."""

    modes: tuple[int, ...]
    """Ascending."""
    versions: tuple[int, ...]
    """Ascending."""
    stratum: int | None = None
    """This, the leap indicator and the reference as the last answer tells."""
    leap: int | None = None
    reference_id: SafeText | None = None
    """A name at stratum 1; above, an address, or for IPv6 servers four bytes of a hash written as one."""
    reference_source: SafeText | None = None
    """What the reference's name at stratum 1 stands for."""
    kiss: SafeText | None = None
    """Code of the last kiss-o'-death."""
    extensions: Mapping[SafeText, int] = field(default_factory=dict)
    """Extension fields by name, else by their type in hexadecimal."""
    keys: tuple[int, ...] = ()
    """Identifiers of the keys by which packets are authenticated, ascending."""


def facts(items: Sequence[Item]) -> NtpFacts:
    modes, versions, keys = set(), set(), set()
    extensions: Counter[str] = Counter()
    answer = kiss = None
    for item in items:
        message = item.message
        if isinstance(message, (Packet, Control, Private)):
            modes.add(message.mode)
            versions.add(message.version)
        if isinstance(message, Packet) and message.mode not in (SYMMETRIC_ACTIVE, CLIENT):
            answer, kiss = message, message.kiss or kiss
        elif isinstance(message, Extension):
            name = EXTENSIONS.get(message.type, f"0x{message.type:04x}")
            extensions[name if name in extensions or len(extensions) < MOST_SHOWN else "…"] += 1
        elif isinstance(message, Authenticator) and not message.refuses:
            keys.add(message.key)
    known: dict[str, Any] = {"extensions": dict(extensions), "keys": tuple(sorted(keys)[:MOST_SHOWN])}
    if answer is not None:
        source = None if answer.kiss is not None else reference(answer.stratum, answer.reference_id)
        meaning = SOURCES.get(source) if source and answer.stratum == 1 else None
        known |= {"stratum": answer.stratum, "leap": answer.leap, "reference_id": source}
        known |= {"reference_source": meaning, "kiss": kiss}
    return NtpFacts(tuple(sorted(modes)), tuple(sorted(versions)), **known)
