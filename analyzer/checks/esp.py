"""ESP: reserved SPIs, sequence numbers, and signs that a payload is not encrypted, or not by AES-GCM.

All checks look at the ESP packets of a conversation, whether they travel alone or inside an IKE flow on UDP/4500.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from analyzer import scanner
from analyzer.findings import Remark, Severity, content_check
from analyzer.heads import Direction, Frame
from analyzer.matching import Fit
from analyzer.protocols.esp import EspPacket, EspPayload

MAX_FRAMES = 8

WINDOW = 64
"""Packets by which a network may reorder: the default anti-replay window (RFC 4303, 3.4.3)."""

GCM_OVERHEAD = 8 + 8 + 16
"""Bytes of an AES-GCM packet beside its ciphertext: SPI and sequence, IV, ICV (RFC 4106)."""
SHORTEST_GCM = GCM_OVERHEAD + 4
ENOUGH_PACKETS = 16
CBC_LENGTHS = 6
"""Different lengths that must all fit 16-byte blocks: by chance AES-GCM makes that once in 4**5 times."""
TDES_LENGTHS = 12
"""The same for 8-byte blocks: once in 2**11 times."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An ESP packet where it stands in the capture."""

    packet: EspPacket
    frame: Frame
    time: int
    beginning: bytes
    """Of Payload Data; empty where too little was kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """All captured packets of one SA: one direction, one SPI. Compared by identity, so that it can be asked again."""

    direction: Direction
    spi: int
    sent: list[Sent] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"SPI {self.spi:#010x}"


@lru_cache(maxsize=1)  # several checks ask in a row
def associations(fit: Fit) -> list[Association]:
    """The SAs of a conversation, in order of first appearance."""
    found: dict[tuple[Direction, int], Association] = {}
    items = fit.conversation.dissection.items
    for index, item in enumerate(items):
        packet = item.message
        if isinstance(packet, EspPacket):
            after = items[index + 1].message if index + 1 < len(items) else None
            beginning = after.beginning if isinstance(after, EspPayload) else b""
            sa = found.setdefault((item.direction, packet.spi), Association(item.direction, packet.spi))
            sa.sent.append(Sent(packet, item.frame, item.time, beginning))
    return list(found.values())


def first_frames(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    return tuple(sorted(set(frames))[:MAX_FRAMES])


# -- headers ----------------------------------------------------------------------------------------------------


@content_check("TPE221", "esp-reserved-spi", Severity.MEDIUM, "esp")
def reserved_spi(fit: Fit) -> Iterator[Remark]:
    """Flags: an SPI from 0 to 255.

    Why: SPI 0 must not be sent and 1 to 255 are reserved (RFC 4303, 2.1); no IKE daemon negotiates them.

    Evidence: The first four bytes of the ESP packet.

    Remedy: Remove the manually configured SA, or find out who sends these packets.
    """
    bad = [sa for sa in associations(fit) if sa.spi <= 255]
    if bad:
        listed = ", ".join(str(sa.spi) for sa in bad[:MAX_FRAMES])
        yield Remark(
            f"ESP packets carry the reserved SPI{'s' if len(bad) > 1 else ''} {listed}.",
            first_frames(each.frame for sa in bad for each in sa.sent),
        )


@content_check("TPE222", "esp-sequence-repeated", Severity.HIGH, "esp")
def sequence_repeated(fit: Fit) -> Iterator[Remark]:
    """Flags: a sequence number that comes again under the same SPI, with the same packet later or with another one.

    Why: The same packet again is a replay; another packet with the same number means a counter that was set back,
    which with AES-GCM gives away plain text. An identical packet within 100 ms is taken as the capture's second copy.

    Evidence: All sequence numbers and the beginnings of the payloads, by direction and SPI.

    Remedy: Find out who sends the packets again, and rekey the SA.
    """
    for sa in fit.conversation.head.associations:
        count = sa.reused + sa.replayed
        if count:
            what = "for other packets" if sa.reused else "with the same packets"
            yield Remark(
                f"SPI {sa.spi:#010x} repeats {count} sequence number{'s' if count > 1 else ''} {what}.",
                first_frames(each.frame for each in sa.events if each.kind in (scanner.REUSED, scanner.REPLAYED)),
            )


@content_check("TPE223", "esp-sequence-backwards", Severity.MEDIUM, "esp")
def sequence_backwards(fit: Fit) -> Iterator[Remark]:
    """Flags: sequence numbers that are older than the last 64 under the same SPI.

    Why: Sequence numbers count up (RFC 4303, 3.3.3); behind the anti-replay window of 64 the receiver drops such
    packets (3.4.3), and they may be replayed from long before.

    Evidence: All sequence numbers by direction and SPI.

    Remedy: Find out who delays or replays these packets.
    """
    for sa in fit.conversation.head.associations:
        if sa.late:
            yield Remark(
                f"SPI {sa.spi:#010x} goes back by {WINDOW} sequence numbers or more in {sa.late}"
                f" packet{'s' if sa.late > 1 else ''}.",
                first_frames(each.frame for each in sa.events if each.kind == scanner.LATE),
            )


# -- payloads ---------------------------------------------------------------------------------------------------


def inner_header(each: Sent) -> str | None:
    """The inner packet that is readable behind no IV, or behind one that nothing was encrypted with (RFC 5879, 7)."""
    for iv in (0, 8, 16):
        version = each.beginning[iv] >> 4 if len(each.beginning) > iv else 0
        if version not in (4, 6):
            continue
        body, room = each.beginning[iv:], each.packet.length - 8 - iv
        if version == 4 and is_ipv4(body, room):
            return "IPv4"
        if version == 6 and is_ipv6(body, room):
            return "IPv6"
    return None


def trailing(length: int, room: int) -> bool:
    """Whether behind an inner packet there is room for padding, trailer and an ICV of at most 32 bytes, not more."""
    return 2 <= room - length <= 2 + 15 + 32


def is_ipv4(body: bytes, room: int) -> bool:
    """An IPv4 header with a right checksum whose total length fits."""
    size = (body[0] & 15) * 4
    if not 20 <= size <= len(body):
        return False
    total = sum(int.from_bytes(body[at : at + 2], "big") for at in range(0, size, 2))
    return total % 0xFFFF == 0 and trailing(int.from_bytes(body[2:4], "big"), room)


def is_ipv6(body: bytes, room: int) -> bool:
    """An IPv6 header whose payload length fits and whose next header is usual."""
    usual = (0, 6, 17, 43, 44, 58, 60, 132)
    return len(body) >= 8 and body[6] in usual and trailing(int.from_bytes(body[4:6], "big") + 40, room)


@lru_cache(maxsize=64)  # several checks ask in a row
def unencrypted(sa: Association) -> list[Sent]:
    """The packets of an SA whose inner header can be read, if they are too many for chance.

    A right IPv4 checksum and length come by chance once in some 2**24 packets, an IPv6 header once in 2**13.
    """
    found = [(each, inner_header(each)) for each in sa.sent]
    readable = [each for each, kind in found if kind]
    judged = sum(1 for each in sa.sent if each.beginning)
    enough = any(kind == "IPv4" for _, kind in found) or len(readable) >= 3
    return readable if enough and 2 * len(readable) >= judged else []


@content_check("TPE224", "esp-not-encrypted", Severity.HIGH, "esp")
def not_encrypted(fit: Fit) -> Iterator[Remark]:
    """Flags: ESP whose payload begins with a readable inner IP header: NULL encryption, or authentication only.

    Why: Everybody on the way can read what the tunnel carries; the row demands AES-GCM.

    Evidence: An inner IPv4 header with a right checksum, or inner IPv6 headers, whose lengths fit (RFC 5879).

    Remedy: Set esp= on both ends to the proposals of the row, and remove "null" from it.
    """
    readable = [each for sa in associations(fit) for each in unencrypted(sa)]
    if readable:
        total = sum(1 for sa in associations(fit) for each in sa.sent if each.beginning)
        yield Remark(
            f"ESP carries its payload unencrypted: inner IP headers can be read in {len(readable)} of {total} packets.",
            first_frames(each.frame for each in readable),
        )


def demands_gcm(fit: Fit) -> bool:
    """Whether all ESP proposals of the row are AES-GCM with a 16-byte ICV (``aes128gcm128``, ``aes128gcm16``)."""
    proposals = fit.row.esp_proposals
    return bool(proposals) and all(re.match(r"aes\d*gcm(128|16)(-|$)", each) for each in proposals)


def encrypted(fit: Fit) -> list[Sent]:
    """The packets whose lengths tell about the cipher: all of SAs that are not found unencrypted."""
    return [each for sa in associations(fit) if not unencrypted(sa) for each in sa.sent]


@content_check("TPE225", "esp-length-impossible-for-gcm", Severity.MEDIUM, "esp")
def impossible_length(fit: Fit) -> Iterator[Remark]:
    """Flags: ESP packets of a length that AES-GCM with a 16-byte ICV cannot make.

    Why: Such a packet has 8 bytes of SPI and sequence number, 8 of IV, ciphertext in steps of 4 and 16 of ICV: 36
    bytes at least, and a multiple of 4. Anything else is another cipher, another ICV or no ESP at all.

    Evidence: The length of the ESP packet as the IP or UDP header declares it.

    Remedy: Set esp= on both ends to the proposals of the row.
    """
    if not demands_gcm(fit):
        return
    bad = [each for each in encrypted(fit) if each.packet.length < SHORTEST_GCM or each.packet.length % 4]
    if bad:
        lengths = ", ".join(map(str, sorted({each.packet.length for each in bad})[:MAX_FRAMES]))
        yield Remark(
            f"AES-GCM with a 16-byte tag cannot make the length of {len(bad)} ESP packet{'s' if len(bad) > 1 else ''}"
            f" ({lengths} bytes); this is certain.",
            first_frames(each.frame for each in bad),
        )


@content_check("TPE226", "esp-block-cipher-padding", Severity.MEDIUM, "esp")
def block_padding(fit: Fit) -> Iterator[Remark]:
    """Flags: ESP lengths that, over enough packets and lengths, only show the padding of a block cipher (CBC).

    Why: AES-GCM pads to 4 bytes, AES-CBC to 16 and 3DES to 8, so lengths that only come in such steps are most
    likely CBC, which the row does not allow. It is an inference: a device may pad AES-GCM to blocks, too.

    Evidence: At least 16 packets with at least 6 different lengths in steps of 16, or 12 in steps of 8.

    Remedy: Set esp= on both ends to the proposals of the row, or confirm by the log of an end that AES-GCM is in use.
    """
    packets = encrypted(fit)
    if not demands_gcm(fit) or len(packets) < ENOUGH_PACKETS:
        return
    lengths = {each.packet.length for each in packets}
    for step, needed, remainder_fits, cipher in STEPS:
        remainders = {length % step for length in lengths}
        if len(lengths) >= needed and len(remainders) == 1 and remainder_fits(remainders.pop()):
            chance = (step // 4) ** (len(lengths) - 1)
            yield Remark(
                f"All {len(packets)} ESP packets, of {len(lengths)} different lengths, are padded to {step} bytes as"
                f" {cipher} does; AES-GCM would look so once in about {chance:,} such captures.",
                first_frames(each.frame for each in packets),
            )
            return


STEPS: tuple[tuple[int, int, Callable[[int], bool], str], ...] = (
    (16, CBC_LENGTHS, lambda remainder: remainder in (0, 4, 8), "AES-CBC"),  # ICV of 24, 12, 16 or 32 bytes
    (8, TDES_LENGTHS, lambda remainder: remainder in (0, 4), "3DES-CBC"),
)
"""Block size in bytes, different lengths needed, remainders that an ICV of usual length leaves, cipher."""


CHECKS = (
    reserved_spi,
    sequence_repeated,
    sequence_backwards,
    not_encrypted,
    impossible_length,
    block_padding,
)
