"""Checks of ESP: reserved SPIs, sequence numbers, payloads that are not encrypted, ciphers other than AES-GCM.

They apply to the ESP packets of any flow, including those inside an IKE flow on UDP/4500.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from analyzer.findings import CITED, Check, Issue, Severity, check, cited_frames
from analyzer.heads import Direction
from analyzer.matching import Match
from analyzer.protocols.esp import (
    AES_CBC,
    TDES_CBC,
    Association,
    Cleartext,
    EspFacts,
    SentPacket,
    cipher_of_flow,
    readable_associations,
)
from analyzer.protocols.ike import IkeFacts
from analyzer.scanner import columns

HIGHEST_RESERVED_SPI: Final = 255
"""RFC 4303, section 2.1."""
WINDOW: Final = 64
"""Packets by which the path may reorder: the default anti-replay window (RFC 4303, section 3.4.3)."""
SHORTEST_GCM: Final = 8 + 8 + 4 + 16
"""Bytes of the shortest AES-GCM packet (RFC 4106): SPI and sequence number, IV, ciphertext, ICV."""
LEAST_PACKETS: Final = 16
LEAST_LENGTHS: Final = {AES_CBC: 6, TDES_CBC: 12}
"""Packets and different lengths from which on a block cipher is inferred."""
LEAST_LENGTHS_BESIDE_ACKNOWLEDGEMENTS: Final = 6
"""The same where the lengths of bare acknowledgements speak for the block cipher, too."""
INTEGRITY: Final = {12: "HMAC-SHA-1-96", 16: "HMAC-SHA-256-128", 24: "HMAC-SHA-384-192", 32: "HMAC-SHA-512-256"}
"""Length of the ICV in bytes → the algorithm that usually leaves it (RFC 8221, section 6)."""


def facts_of(match: Match) -> EspFacts | None:
    """Facts about the ESP packets of a flow, including those inside an IKE flow."""
    facts = match.conversation.dissection.facts
    if isinstance(facts, IkeFacts):
        return facts.esp
    return facts if isinstance(facts, EspFacts) else None


def associations(match: Match) -> Sequence[Association]:
    """The SAs of a flow, in order of first appearance."""
    facts = facts_of(match)
    return facts._associations if facts else ()


# -- headers ----------------------------------------------------------------------------------------------------


@check("TPE221", "esp-reserved-spi", Severity.MEDIUM, protocol="esp")
def reserved_spi(match: Match) -> Iterator[Issue]:
    """Flags: an SPI from 0 to 255.

    Why: SPI 0 must not be sent and 1 to 255 are reserved (RFC 4303, 2.1); no IKE daemon negotiates them.

    Evidence: The first four bytes of the ESP packet.

    Remedy: Remove the manually configured SA, or find out who sends these packets.
    """
    reserved = [sa for sa in associations(match) if sa.spi <= HIGHEST_RESERVED_SPI]
    if reserved:
        spis = ", ".join(str(sa.spi) for sa in reserved[:CITED])
        yield Issue(
            f"ESP packets carry the reserved SPI{'s' if len(reserved) > 1 else ''} {spis}.",
            cited_frames(sent.frame for sa in reserved for sent in sa.sent),
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
            repeated = "for other packets" if sa.reused else "with the same packets"
            yield Issue(
                f"SPI {sa.spi:#010x} repeats {count} sequence number{'s' if count > 1 else ''} {repeated}.",
                cited_frames(
                    event.frame for event in sa.events if event.kind in (columns.ESP_REUSED, columns.ESP_REPLAYED)
                ),
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
                cited_frames(event.frame for event in sa.events if event.kind == columns.ESP_LATE),
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
        for sent in sa.sent:
            if sent.packet.sequence == 0 and highest < 0xFFFFFFFF - WINDOW:
                frames = (other.frame for other in sa.sent if other.packet.sequence == 0)
                yield Issue(f"{sa.name} carries the sequence number 0.", cited_frames(frames))
                break
            highest = max(highest, sent.packet.sequence)


# -- payloads ---------------------------------------------------------------------------------------------------


@check("TPE224", "esp-not-encrypted", Severity.HIGH, protocol="esp")
def not_encrypted(match: Match) -> Iterator[Issue]:
    """Flags: ESP whose payload is readable: NULL encryption, authentication only, or text.

    Why: Everybody on the way can read what the tunnel carries; the row demands AES-GCM.

    Evidence: Inner IPv4 headers with a right checksum or IPv6 headers, or in transport mode TCP, UDP or ICMP headers,
    whose lengths match (RFC 5879), and the length of the ICV behind them; or text, or bytes that are all the same. IP
    headers and text are looked for in all packets of each SPI.

    Remedy: Set esp= on both ends to the proposals of the row, and remove "null" from it.
    """
    facts = facts_of(match)
    if facts is None:
        return
    cleartext = facts.cleartext
    whole = readable_associations(match.conversation.head)
    readable = readable_spis(match)
    if not readable:
        return
    if cleartext is None:
        headers, clause = "inner IP headers or text", ""
    else:
        headers = "inner IP headers" if cleartext.inner.startswith("IP") else f"{cleartext.inner} headers"
        clause = authentication_clause(cleartext)
    if whole:
        count, total = sum(sa.readable for sa in whole), sum(sa.packets for sa in whole)
    else:
        count = 0 if cleartext is None else cleartext.packets
        total = sum(1 for sa in facts._readable for sent in sa.sent if sent.beginning)
    spis = sorted({spi for _, spi in readable})
    named = ", ".join(f"{spi:#010x}" for spi in spis[:CITED]) + (", …" if len(spis) > CITED else "")
    yield Issue(
        f"ESP carries its payload unencrypted: {headers} can be read in {count} of the {total}"
        f" packets with SPI {named}{clause}.",
        cited_frames(
            sent.frame
            for sa in facts._associations
            if (sa.direction, sa.spi) in readable
            for sent in (sa.sent if sa in facts._readable else sa.sent[-columns.MAX_READABLE :])
            if sent.beginning
        ),
    )


def readable_spis(match: Match) -> set[tuple[Direction, int]]:
    """Direction and SPI of the SAs whose payload is readable, in their first packets or anywhere."""
    facts = facts_of(match)
    found = {(sa.direction, sa.spi) for sa in facts._readable} if facts else set()
    return found | {(sa.direction, sa.spi) for sa in readable_associations(match.conversation.head)}


def authentication_clause(cleartext: Cleartext) -> str:
    """What stands behind the readable payload."""
    if cleartext.iv == 8 and cleartext.icv == 16:
        return "; behind an IV of 8 bytes and before an ICV of 16, as AES-GMAC leaves them"
    if cleartext.icv:
        algorithm = INTEGRITY.get(cleartext.icv, "no usual algorithm")
        return f"; the ICV behind them has {cleartext.icv} bytes, as of {algorithm}"
    return "" if cleartext.icv is None else "; nothing authenticates them either"


@check("TPE225", "esp-length-impossible-for-gcm", Severity.MEDIUM, protocol="esp")
def length_impossible_for_gcm(match: Match) -> Iterator[Issue]:
    """Flags: ESP packets of a length that AES-GCM with a 16-byte ICV cannot make.

    Why: Such a packet has 8 bytes of SPI and sequence number, 8 of IV, ciphertext in steps of 4 and 16 of ICV: 36
    bytes at least, and a multiple of 4. Anything else is another cipher, another ICV or no ESP at all.

    Evidence: The length of the ESP packet as the IP or UDP header declares it.

    Remedy: Set esp= on both ends to the proposals of the row.
    """
    if not demands_gcm(match):
        return
    wrong = [sent for sent in encrypted_packets(match) if sent.packet.length < SHORTEST_GCM or sent.packet.length % 4]
    count = max(len(wrong), unaligned_packets(match))
    if count:
        sizes = ", ".join(map(str, sorted({sent.packet.length for sent in wrong})[:CITED]))
        frames = [sent.frame for sent in wrong or encrypted_packets(match)]
        yield Issue(
            f"AES-GCM with a 16-byte tag cannot make the length of {count} ESP packet"
            f"{'s' if count > 1 else ''} ({f'{sizes} bytes' if sizes else 'no multiple of 4 bytes'}); this is certain.",
            cited_frames(frames),
        )


@check("TPE226", "esp-block-cipher-padding", Severity.MEDIUM, protocol="esp")
def block_cipher_padding(match: Match) -> Iterator[Issue]:
    """Flags: ESP lengths that, over enough packets and lengths, only show the padding of a block cipher (CBC).

    Severity: low for steps of 8, medium for steps of 16.

    Why: AES-GCM pads to 4 bytes, AES-CBC to 16 and 3DES to 8, so lengths that only come in such steps are most
    likely CBC, which the row does not allow. It is an inference: a device may pad AES-GCM to blocks, too, and SSH in
    the tunnel is padded to 8 bytes by itself, which is why steps of 8 are low. Bare acknowledgements of TCP tell more:
    they have 40 or 52 bytes, and most short packets of a tunnel are such; where their length fits CBC only, steps of 8
    are medium.

    Evidence: All packets of each SA, and beside SAs in counter mode those of one SPI alone: at least 16, with at least
    6 different lengths in steps of 16, or 12 in steps of 8, or 6 where the commonest short length holds an
    acknowledgement under CBC and none under AES-GCM. The confidence holds CBC and AES-GCM for as likely beforehand, and
    rests on how often the packets of real conversations would look so in AES-GCM.

    Remedy: Set esp= on both ends to the proposals of the row, or confirm by the log of an end that AES-GCM is in use.
    """
    facts = facts_of(match)
    # Decryption derives the facts from messages alone, and these are only the first of the flow.
    cipher = cipher_of_flow(match.conversation.head, facts) if facts else None
    if cipher is None or cipher.odds is None or not demands_gcm(match):
        return
    least = LEAST_LENGTHS_BESIDE_ACKNOWLEDGEMENTS if cipher.acknowledgement else LEAST_LENGTHS[cipher.kind]
    if cipher.packets >= LEAST_PACKETS and cipher.lengths >= least:
        acknowledgements = (
            f"; the commonest short packet, of {cipher.acknowledgement} bytes, holds a bare TCP acknowledgement only"
            f" under {cipher.kind}"
            if cipher.acknowledgement
            else ""
        )
        alone = cipher._association
        whose = "" if alone is None else f" with SPI {alone.spi:#010x}"
        yield Issue(
            f"All {cipher.packets} ESP packets{whose}, of {cipher.lengths} different lengths, are padded to"
            f" {cipher.padding} bytes{acknowledgements}: this is {cipher.words} {cipher.kind} (confidence"
            f" {cipher.confidence:.1%}); AES-GCM looks so once in about {cipher.odds} captures.",
            cited_frames(
                sent.frame for sent in encrypted_packets(match) if alone is None or sent.packet.spi == alone.spi
            ),
            Severity.LOW if cipher.kind == TDES_CBC and not cipher.acknowledgement else None,
        )


def demands_gcm(match: Match) -> bool:
    """Whether all ESP proposals of the row are AES-GCM with a 16-byte ICV (``aes128gcm128``, ``aes128gcm16``)."""
    proposals = match.row.esp_proposals
    return bool(proposals) and all(re.match(r"aes\d*gcm(128|16)(-|$)", proposal) for proposal in proposals)


def unaligned_packets(match: Match) -> int:
    """Packets of all SAs without cleartext whose length is no multiple of 4, over the whole flow."""
    facts = facts_of(match)
    if facts is None:
        return 0
    readable = readable_spis(match)
    return sum(
        count
        for sa in match.conversation.head.associations
        if (sa.direction, sa.spi) not in readable
        for remainder, count in enumerate(sa.remainders)
        if remainder % 4
    )


def encrypted_packets(match: Match) -> list[SentPacket]:
    """The packets from whose lengths the cipher is inferred: those of all SAs without cleartext."""
    facts = facts_of(match)
    if facts is None:
        return []
    readable = readable_spis(match)
    return [sent for sa in facts._associations if (sa.direction, sa.spi) not in readable for sent in sa.sent]


CHECKS: Final[tuple[Check, ...]] = (
    reserved_spi,
    sequence_repeated,
    sequence_backwards,
    not_encrypted,
    length_impossible_for_gcm,
    block_cipher_padding,
    sequence_zero,
)
