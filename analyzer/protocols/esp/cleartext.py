"""Detection of ESP payloads that are not encrypted, by the inner headers at their beginning (RFC 5879)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeVar

from analyzer.dataclass import dataclass
from analyzer.protocols.esp.packets import ALIGNMENT
from analyzer.safetext import SafeText

H = TypeVar("H", bound=Hashable)

ESP_HEADER: Final = 8
"""Bytes of SPI and Sequence Number."""
TRAILER: Final = 2
"""Bytes of Pad Length and Next Header."""
LONGEST_PADDING: Final = 15
LONGEST_ICV: Final = 32
ICV_LENGTHS: Final = (12, 16, 24, 32, 8, 0)
"""Bytes that integrity algorithms append (RFC 8221, section 6); 0: none."""
PROBED: Final = 8
"""First packets of an SA of which at least half must be readable before all packets are examined."""
LEAST_READABLE: Final = 3
"""Readable packets that rule out coincidence; a single IPv4 header suffices, because it has a checksum."""
NEXT_HEADERS: Final = (0, 6, 17, 43, 44, 58, 60, 132)
"""Next Header values that IPv6 packets in use have."""


@dataclass(frozen=True, slots=True)
class Cleartext:
    """Readable payloads: NULL encryption (RFC 2410) or authentication without encryption (RFC 4543)."""

    inner: SafeText
    """First inner header: ``IPv4``, ``IPv6`` (tunnel mode); ``TCP``, ``UDP``, ``ICMP`` (transport mode)."""
    packets: int
    iv: int
    """Bytes of IV before it: 0 with NULL encryption, 8 with AES-GMAC."""
    icv: int | None
    """Bytes of the ICV, provided that the padding is the shortest possible; ``None``: unknown."""


Payload = tuple[bytes, int]
"""First bytes of Payload Data, and the length of the whole ESP packet in bytes."""


def detect_cleartext(payloads: Sequence[Payload]) -> Cleartext | None:
    """Detect inner headers in the payloads of one SA; ``None``: encrypted, or too few payloads to be certain.

    Encrypted bytes pass for an IPv4 header with checksum and length once in about 2**24 packets. Other headers pass
    more often and therefore must occur several times: IPv6 once in 2**13 packets, a UDP length that fits once in
    2**10, TCP once in 2**16, an ICMP echo once in 2**15. An IV that counts up must not pass for one of them, so fields
    that change in real conversations have to change.
    """
    for parse_header, iv_lengths in INNER_HEADERS:
        for iv in iv_lengths:
            if not mostly_readable(parse_header, payloads[:PROBED], iv):
                continue
            headers = [parse_header(beginning[iv:], length - ESP_HEADER - iv) for beginning, length in payloads]
            readable = [(name, payload) for name, payload in zip(headers, payloads, strict=True) if name]
            names = [name for name, _ in readable]
            plausible = "IPv4" in names or is_plausible(names[0], [beginning[iv:] for _, (beginning, _) in readable])
            if plausible and 2 * len(readable) >= len(payloads):
                icv_lengths = [icv_length(name, payload, iv) for name, payload in readable]
                return Cleartext(most_frequent(names), len(readable), iv, most_frequent(icv_lengths))
    return None


def mostly_readable(parse_header: HeaderParser, payloads: Sequence[Payload], iv: int) -> bool:
    """Whether at least half of some payloads are readable, and there is at least one."""
    misses = 0
    for beginning, length in payloads:
        misses += not parse_header(beginning[iv:], length - ESP_HEADER - iv)
        if 2 * misses > len(payloads):
            return False
    return bool(payloads)


def most_frequent(values: Sequence[H]) -> H:
    """The most frequent value; of several, the first."""
    return max(dict.fromkeys(values), key=values.count)


def is_plausible(name: str, headers: Sequence[bytes]) -> bool:
    """Whether the inner headers of an SA change as those of a conversation do, unlike an IV that counts up."""
    if len(headers) < LEAST_READABLE:
        return False
    if name == "UDP":
        return len({header[4:6] for header in headers}) > 1  # lengths
    if name == "TCP":
        return len({header[16:18] for header in headers}) > 1  # checksums
    if name == "ICMP":
        checksums, identifiers = {header[2:4] for header in headers}, {header[4:6] for header in headers}
        return len(checksums) >= LEAST_READABLE and len(identifiers) <= 2
    return True


def icv_length(name: str, payload: Payload, iv: int) -> int | None:
    """Bytes of the ICV after a packet with the shortest padding; ``None`` if the inner length is not known."""
    beginning, packet_length = payload
    at = {"IPv4": 2, "IPv6": 4, "UDP": 4}.get(name)
    if at is None:
        return None
    inner = int.from_bytes(beginning[iv + at : iv + at + 2], "big") + (40 if name == "IPv6" else 0)
    padding = -(inner + TRAILER) % ALIGNMENT
    icv = packet_length - ESP_HEADER - iv - inner - padding - TRAILER
    return icv if icv in ICV_LENGTHS else None


# -- inner headers ----------------------------------------------------------------------------------------------
#
# A parser takes the first bytes of a payload after the IV, and the number of bytes up to the end of the ESP packet.
# It returns the name of the header, or None.


def fits(length: int, available: int) -> bool:
    """Whether an inner packet leaves room for trailer, padding and ICV, and for no more."""
    return TRAILER <= available - length <= TRAILER + LONGEST_PADDING + LONGEST_ICV


def parse_ip(data: bytes, available: int) -> str | None:
    """An IPv4 header with a correct checksum, or an IPv6 header with a usual next header, whose length fits."""
    version = data[0] >> 4 if len(data) >= 8 else 0
    if version == 6:
        length = int.from_bytes(data[4:6], "big") + 40
        return "IPv6" if data[6] in NEXT_HEADERS and fits(length, available) else None
    if version != 4:
        return None
    header_length = (data[0] & 15) * 4
    if not 20 <= header_length <= len(data) or not fits(int.from_bytes(data[2:4], "big"), available):
        return None
    checksum = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, header_length, 2))
    return "IPv4" if checksum % 0xFFFF == 0 else None


def parse_udp(data: bytes, available: int) -> str | None:
    """A UDP header (RFC 768) with both ports set and a length that fits."""
    plausible = len(data) >= 8 and fits(int.from_bytes(data[4:6], "big"), available)
    return "UDP" if plausible and has_ports(data) else None


def parse_tcp(data: bytes, available: int) -> str | None:
    """A TCP header (RFC 9293, section 3.1) with both ports, no reserved bit, consistent flags, and an urgent pointer
    only with URG."""
    header_length = data[12] >> 2 & 0x3C if len(data) >= 20 else 0
    if header_length < 20 or header_length + TRAILER > available or data[12] & 0x0F or not has_ports(data):
        return None
    urg, ack, rst, syn, fin = (data[13] & bit for bit in (0x20, 0x10, 0x04, 0x02, 0x01))
    consistent = not (syn and (rst or fin)) and (ack or rst or syn)
    return "TCP" if consistent and (urg or data[18:20] == b"\0\0") else None


def parse_icmp_echo(data: bytes, available: int) -> str | None:
    """An ICMP or ICMPv6 echo (RFC 792, RFC 4443) with a checksum."""
    echo = len(data) >= 8 and data[0] in (0, 8, 128, 129) and data[1] == 0 and available >= 8
    return "ICMP" if echo and data[2:4] != b"\0\0" else None


def has_ports(data: bytes) -> bool:
    return data[:2] != b"\0\0" and data[2:4] != b"\0\0"


HeaderParser = Callable[[bytes, int], str | None]

INNER_HEADERS: Final[tuple[tuple[HeaderParser, tuple[int, ...]], ...]] = (
    (parse_ip, (0, 8, 16)),
    (parse_udp, (0, 8)),
    (parse_tcp, (0, 8)),
    (parse_icmp_echo, (0, 8)),
)
"""Headers that a payload may begin with, and possible bytes of IV before them."""
