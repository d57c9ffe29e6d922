"""ESP: reserved SPIs, sequence numbers, and signs that a payload is not encrypted, or not by AES-GCM.

All checks look at the ESP packets of a conversation, whether they travel alone or inside an IKE flow on UDP/4500.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from analyzer.findings import Issue, Severity, check
from analyzer.heads import Frame
from analyzer.matching import Match
from analyzer.protocols.esp import AES_CBC, TDES_CBC, Association, EspFacts, SentPacket
from analyzer.protocols.ike import IkeFacts
from analyzer.scanner import columns

MAX_FRAMES = 8

WINDOW = 64
"""Packets by which a network may reorder: the default anti-replay window (RFC 4303, 3.4.3)."""

GCM_OVERHEAD = 8 + 8 + 16
"""Bytes of an AES-GCM packet beside its ciphertext: SPI and sequence, IV, ICV (RFC 4106)."""
SHORTEST_GCM = GCM_OVERHEAD + 4
ENOUGH_PACKETS = 16
ENOUGH_LENGTHS = {AES_CBC: 6, TDES_CBC: 12}
"""Different lengths that must all match the blocks."""

INTEGRITY = {12: "HMAC-SHA-1-96", 16: "HMAC-SHA-256-128", 24: "HMAC-SHA-384-192", 32: "HMAC-SHA-512-256"}
"""What usually leaves an ICV of so many bytes (RFC 8221, section 6)."""


def facts_of(match: Match) -> EspFacts | None:
    """What the ESP packets of a conversation show, whether they travel alone or inside an IKE flow."""
    facts = match.conversation.dissection.facts
    if isinstance(facts, IkeFacts):
        return facts.esp
    return facts if isinstance(facts, EspFacts) else None


def associations(match: Match) -> Sequence[Association]:
    """The SAs of a conversation, in order of first appearance."""
    facts = facts_of(match)
    return facts._associations if facts else ()


def first_frames(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    return tuple(sorted(set(frames))[:MAX_FRAMES])


# -- headers ----------------------------------------------------------------------------------------------------


@check("TPE221", "esp-reserved-spi", Severity.MEDIUM, protocol="esp")
def reserved_spi(match: Match) -> Iterator[Issue]:
    """Flags: an SPI from 0 to 255.

    Why: SPI 0 must not be sent and 1 to 255 are reserved (RFC 4303, 2.1); no IKE daemon negotiates them.

    Evidence: The first four bytes of the ESP packet.

    Remedy: Remove the manually configured SA, or find out who sends these packets.
    """
    bad = [sa for sa in associations(match) if sa.spi <= 255]
    if bad:
        listed = ", ".join(str(sa.spi) for sa in bad[:MAX_FRAMES])
        yield Issue(
            f"ESP packets carry the reserved SPI{'s' if len(bad) > 1 else ''} {listed}.",
            first_frames(each.frame for sa in bad for each in sa.sent),
        )


@check("TPE222", "esp-sequence-repeated", Severity.HIGH, protocol="esp")
def sequence_repeated(match: Match) -> Iterator[Issue]:
    """Flags: a sequence number that comes again under the same SPI, with the same packet later or with another one.

    Why: The same packet again is a replay; another packet with the same number means a counter that was set back,
    which with AES-GCM gives away plain text. An identical packet within 100 ms is taken as the capture's second copy.

    Evidence: All sequence numbers and the beginnings of the payloads, by direction and SPI.

    Remedy: Find out who sends the packets again, and rekey the SA.
    """
    for sa in match.conversation.head.associations:
        count = sa.reused + sa.replayed
        if count:
            what = "for other packets" if sa.reused else "with the same packets"
            yield Issue(
                f"SPI {sa.spi:#010x} repeats {count} sequence number{'s' if count > 1 else ''} {what}.",
                first_frames(each.frame for each in sa.events if each.kind in (columns.REUSED, columns.REPLAYED)),
            )


@check("TPE223", "esp-sequence-backwards", Severity.MEDIUM, protocol="esp")
def sequence_backwards(match: Match) -> Iterator[Issue]:
    """Flags: sequence numbers that are older than the last 64 under the same SPI.

    Why: Sequence numbers count up (RFC 4303, 3.3.3); behind the anti-replay window of 64 the receiver drops such
    packets (3.4.3), and they may be replayed from long before.

    Evidence: All sequence numbers by direction and SPI.

    Remedy: Find out who delays or replays these packets.
    """
    for sa in match.conversation.head.associations:
        if sa.late:
            yield Issue(
                f"SPI {sa.spi:#010x} goes back by {WINDOW} sequence numbers or more in {sa.late}"
                f" packet{'s' if sa.late > 1 else ''}.",
                first_frames(each.frame for each in sa.events if each.kind == columns.LATE),
            )


@check("TPE227", "esp-sequence-zero", Severity.LOW, protocol="esp")
def sequence_zero(match: Match) -> Iterator[Issue]:
    """Flags: the sequence number 0 at the beginning of an SA, or where no counter can have wrapped.

    Why: The first packet of an SA has the number 1 (RFC 4303, 3.3.3); 0 only occurs when the low half of an extended
    number wraps. A sender of 0 is no IPsec stack, or one that counts wrongly and offers no protection from replay.

    Evidence: The second four bytes of the ESP packet.

    Remedy: Find out which program sends these packets, and update it.
    """
    for sa in associations(match):
        highest = 0
        for each in sa.sent:
            if each.packet.sequence == 0 and highest < 0xFFFFFFFF - WINDOW:
                frames = (one.frame for one in sa.sent if one.packet.sequence == 0)
                yield Issue(f"{sa.name} carries the sequence number 0.", first_frames(frames))
                break
            highest = max(highest, each.packet.sequence)


# -- payloads ---------------------------------------------------------------------------------------------------


@check("TPE224", "esp-not-encrypted", Severity.HIGH, protocol="esp")
def not_encrypted(match: Match) -> Iterator[Issue]:
    """Flags: ESP whose payload begins with readable headers: NULL encryption, or authentication only.

    Why: Everybody on the way can read what the tunnel carries; the row demands AES-GCM.

    Evidence: Inner IPv4 headers with a right checksum or IPv6 headers, or in transport mode TCP, UDP or ICMP headers,
    whose lengths match (RFC 5879), and the length of the ICV behind them.

    Remedy: Set esp= on both ends to the proposals of the row, and remove "null" from it.
    """
    facts = facts_of(match)
    if facts is None or facts.cleartext is None:
        return
    found = facts.cleartext
    total = sum(1 for sa in associations(match) for each in sa.sent if each.beginning)
    kind = "inner IP headers" if found.inner.startswith("IP") else f"{found.inner} headers"
    if found.iv == 8 and found.icv == 16:
        how = "; behind an IV of 8 bytes and before an ICV of 16, as AES-GMAC leaves them"
    elif found.icv:
        how = f"; the ICV behind them has {found.icv} bytes, as of {INTEGRITY.get(found.icv, 'no usual algorithm')}"
    else:
        how = "" if found.icv is None else "; nothing authenticates them either"
    yield Issue(
        f"ESP carries its payload unencrypted: {kind} can be read in {found.packets} of {total} packets{how}.",
        first_frames(each.frame for sa in facts._readable for each in sa.sent if each.beginning),
    )


def demands_gcm(match: Match) -> bool:
    """Whether all ESP proposals of the row are AES-GCM with a 16-byte ICV (``aes128gcm128``, ``aes128gcm16``)."""
    proposals = match.row.esp_proposals
    return bool(proposals) and all(re.match(r"aes\d*gcm(128|16)(-|$)", each) for each in proposals)


def encrypted(match: Match) -> list[SentPacket]:
    """The packets whose lengths tell about the cipher: all of SAs that are not found unencrypted."""
    facts = facts_of(match)
    return [each for sa in facts._associations if sa not in facts._readable for each in sa.sent] if facts else []


@check("TPE225", "esp-length-impossible-for-gcm", Severity.MEDIUM, protocol="esp")
def impossible_length(match: Match) -> Iterator[Issue]:
    """Flags: ESP packets of a length that AES-GCM with a 16-byte ICV cannot make.

    Why: Such a packet has 8 bytes of SPI and sequence number, 8 of IV, ciphertext in steps of 4 and 16 of ICV: 36
    bytes at least, and a multiple of 4. Anything else is another cipher, another ICV or no ESP at all.

    Evidence: The length of the ESP packet as the IP or UDP header declares it.

    Remedy: Set esp= on both ends to the proposals of the row.
    """
    if not demands_gcm(match):
        return
    bad = [each for each in encrypted(match) if each.packet.length < SHORTEST_GCM or each.packet.length % 4]
    if bad:
        lengths = ", ".join(map(str, sorted({each.packet.length for each in bad})[:MAX_FRAMES]))
        yield Issue(
            f"AES-GCM with a 16-byte tag cannot make the length of {len(bad)} ESP packet{'s' if len(bad) > 1 else ''}"
            f" ({lengths} bytes); this is certain.",
            first_frames(each.frame for each in bad),
        )


@check("TPE226", "esp-block-cipher-padding", Severity.MEDIUM, protocol="esp")
def block_padding(match: Match) -> Iterator[Issue]:
    """Flags: ESP lengths that, over enough packets and lengths, only show the padding of a block cipher (CBC).

    Why: AES-GCM pads to 4 bytes, AES-CBC to 16 and 3DES to 8, so lengths that only come in such steps are most
    likely CBC, which the row does not allow. It is an inference: a device may pad AES-GCM to blocks, too, and SSH in
    the tunnel is padded to 8 bytes by itself, which is why steps of 8 are low.

    Evidence: At least 16 packets with at least 6 different lengths in steps of 16, or 12 in steps of 8. The confidence
    holds CBC and AES-GCM for as likely beforehand, and rests on how often the packets of real conversations would
    look so in AES-GCM.

    Remedy: Set esp= on both ends to the proposals of the row, or confirm by the log of an end that AES-GCM is in use.
    """
    facts = facts_of(match)
    found = facts.cipher if facts else None
    if found is None or found.odds is None or not demands_gcm(match):
        return
    if found.packets >= ENOUGH_PACKETS and found.lengths >= ENOUGH_LENGTHS[found.kind]:
        yield Issue(
            f"All {found.packets} ESP packets, of {found.lengths} different lengths, are padded to {found.padding}"
            f" bytes: this is {found.words} {found.kind} (confidence {found.confidence:.1%});"
            f" AES-GCM looks so once in about {found.odds} captures.",
            first_frames(each.frame for each in encrypted(match)),
            Severity.LOW if found.kind == TDES_CBC else None,
        )


CHECKS = (
    reserved_spi,
    sequence_repeated,
    sequence_backwards,
    not_encrypted,
    impossible_length,
    block_padding,
    sequence_zero,
)
