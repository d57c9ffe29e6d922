"""Inference of an SA's cipher from the lengths of its encrypted packets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Association
from analyzer.protocols.esp.packets import ALIGNMENT
from analyzer.safetext import SafeText

COUNTER_MODE: Final = "counter mode, as AES-GCM"
AES_CBC: Final = "AES-CBC"
TDES_CBC: Final = "3DES-CBC"

BLOCK_CIPHERS: Final = ((16, (0, 4, 8), AES_CBC), (8, (0, 4), TDES_CBC))
"""Block size in bytes, packet lengths modulo the block size that usual ICV lengths leave, cipher."""
ODDS: Final = {
    16: ((12, 400), (8, 125), (6, 60), (5, 35), (4, 20), (3, 9)),
    8: ((12, 9),),
}
"""Block size → (number of different lengths, number of AES-GCM captures of which one shows only such lengths).

Measured by sampling the packet lengths of real conversations (``test_odds_hold_for_real_packet_lengths``): lengths
are not random, and what SSH pads to 8 bytes inside the tunnel remains padded outside.
"""
ICVS: Final = (12, 16, 24, 32)
"""Bytes of the ICV beside a block cipher: HMAC-SHA-1-96, and SHA-256, 384, 512 (RFC 8221, section 6)."""
ACKNOWLEDGEMENTS: Final = (40, 52)
"""Bytes of a TCP segment without payload in IPv4: without options, and with a time stamp."""
LEAST_SHORT: Final = 4
"""Packets of one length that show what most short packets of the tunnel are."""
SHORT: Final = 128
"""Bytes below which a packet may hold a bare acknowledgement, under any cipher."""
ACKNOWLEDGEMENT_ODDS: Final = 10
"""Factor by which the odds grow where only the block cipher makes the commonest short packet an acknowledgement.

Of 65 real conversations inside AES-GCM, 3 would look so for AES-CBC and 2 for 3DES: half of that is claimed.
"""
CONFIDENCE_WORDS: Final = ((0.99, "very likely"), (0.95, "likely"), (0.9, "possibly"))
"""Least confidence for each wording; below the last one, nothing is stated."""


@dataclass(frozen=True, slots=True)
class Cipher:
    """Inference about the cipher from the lengths of encrypted packets.

    A block cipher pads to its block size, so all lengths of an SA are equal modulo that size. AES-GCM and other counter
    modes pad to 4 bytes only, and their lengths differ by any multiple of 4.
    """

    kind: SafeText
    """:data:`COUNTER_MODE`, :data:`AES_CBC`, :data:`TDES_CBC`."""
    packets: int
    lengths: int
    """Number of different lengths."""
    confidence: float
    """Probability from 0 to 1, if block cipher and counter mode are equally likely a priori."""
    words: SafeText
    """The confidence in words."""
    odds: int | None
    """One in that many AES-GCM captures shows such lengths; ``None``: no block cipher ever does."""
    padding: int
    """All lengths differ by a multiple of this many bytes."""
    acknowledgement: int = 0
    """Length of the commonest short packet, if only the block cipher makes it a bare acknowledgement of TCP; else 0."""
    _association: Association | None = None
    """The SA of which it is inferred, where the others of the flow use counter mode; ``None``: all SAs."""


class SaLengths(NamedTuple):
    """Packets of an SA by their length in bytes."""

    packets: int
    lengths: frozenset[int]
    """Different lengths, in steps of :data:`ALIGNMENT`."""
    remainders: frozenset[int]
    """Different lengths modulo 16."""
    short: Mapping[int, int]
    """Length below :data:`SHORT` → packets."""
    association: Association | None = None

    @property
    def in_counter_mode(self) -> bool:
        """Whether the lengths differ by less than any block."""
        return len({remainder % 8 for remainder in self.remainders}) > 1


def lengths_of_packets(lengths: Sequence[int]) -> SaLengths:
    short = Counter(length for length in lengths if length < SHORT)
    return SaLengths(len(lengths), frozenset(lengths), frozenset(length % 16 for length in lengths), short)


def lengths_of_association(association: Association) -> SaLengths:
    """The lengths of all packets of an SA, as the scanner counted them."""
    return SaLengths(
        association.packets,
        frozenset(ALIGNMENT * bit for bit in range(association.lengths.bit_length()) if association.lengths >> bit & 1),
        frozenset(remainder for remainder, count in enumerate(association.remainders) if count),
        {ALIGNMENT * index: count for index, count in enumerate(association.short) if count},
        association,
    )


def infer_cipher(sas: Sequence[SaLengths]) -> Cipher | None:
    """Infer the cipher from the packet lengths of each SA; ``None``: too few lengths, or no known cipher.

    An SA in counter mode says nothing of the others: beside it, each is looked at alone, and the odds of a coincidence
    grow with their number.
    """
    aligned = [sa for sa in sas if not any(remainder % ALIGNMENT for remainder in sa.remainders)]
    in_blocks = [sa for sa in aligned if not sa.in_counter_mode]
    if len(in_blocks) == len(aligned) == len(sas):
        return infer_block_cipher(sas, 1)
    for sa in in_blocks:
        cipher = infer_block_cipher([sa], len(sas))
        if cipher is not None:
            return replace(cipher, _association=sa.association)
    if len(aligned) < len(sas):
        return None
    lengths = frozenset[int]().union(*(sa.lengths for sa in sas))
    return Cipher(COUNTER_MODE, sum(sa.packets for sa in sas), len(lengths), 1.0, "certain", None, ALIGNMENT)


def infer_block_cipher(sas: Sequence[SaLengths], candidates: int) -> Cipher | None:
    """The block cipher to whose size all packets of some SAs are padded, chosen among ``candidates`` groups of SAs."""
    lengths = frozenset[int]().union(*(sa.lengths for sa in sas))
    if len(lengths) < 2:
        return None
    for block_size, possible_remainders, name in BLOCK_CIPHERS:
        remainders = {remainder % block_size for sa in sas for remainder in sa.remainders}
        if len(remainders) != 1 or not remainders <= set(possible_remainders):
            continue
        commonest = commonest_short_length(sas)
        in_counter_mode = holds_acknowledgement(commonest, 8, ALIGNMENT, (16,))
        in_blocks = holds_acknowledgement(commonest, block_size, block_size, ICVS)
        odds = next((odds for least, odds in ODDS[block_size] if len(lengths) >= least), 1)
        acknowledgement = commonest if in_blocks and not in_counter_mode else 0
        if acknowledgement:
            odds *= ACKNOWLEDGEMENT_ODDS
        odds //= candidates
        confidence = round(odds / (odds + 1), 4)
        words = next((words for least, words in CONFIDENCE_WORDS if confidence >= least), None)
        if words is None:
            return None
        packets = sum(sa.packets for sa in sas)
        return Cipher(name, packets, len(lengths), confidence, words, odds, block_size, acknowledgement)
    return None


def commonest_short_length(sas: Sequence[SaLengths]) -> int:
    """The length that most packets below :data:`SHORT` have; 0: too few packets have it."""
    counts: Counter[int] = Counter()
    for sa in sas:
        counts.update(sa.short)
    ((length, count),) = counts.most_common(1) or ((0, 0),)
    return length if count >= LEAST_SHORT else 0


def holds_acknowledgement(length: int, iv: int, alignment: int, icvs: Sequence[int]) -> bool:
    """Whether an ESP packet of this length in tunnel mode can hold a bare acknowledgement of TCP.

    It consists of SPI and sequence number (8 bytes), IV, the inner packet with padding and 2 bytes of trailer up to
    the alignment, and ICV (RFC 4303, section 2).
    """
    return any(length == 8 + iv + size + 2 + -(size + 2) % alignment + icv for size in ACKNOWLEDGEMENTS for icv in icvs)
