"""Inference of an SA's cipher from the lengths of its encrypted packets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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


def infer_cipher(lengths_by_sa: Sequence[Sequence[int]]) -> Cipher | None:
    """Infer the cipher from the packet lengths (bytes) of each SA; ``None``: too few lengths, or no known cipher."""
    lengths = {length for sa_lengths in lengths_by_sa for length in sa_lengths}
    if len(lengths) < 2 or any(length % ALIGNMENT for length in lengths):
        return None
    packets = sum(map(len, lengths_by_sa))
    if any(len({length % 8 for length in sa_lengths}) > 1 for sa_lengths in lengths_by_sa):
        return Cipher(COUNTER_MODE, packets, len(lengths), 1.0, "certain", None, ALIGNMENT)
    for block_size, possible_remainders, name in BLOCK_CIPHERS:
        remainders = {length % block_size for length in lengths}
        if len(remainders) == 1 and remainders <= set(possible_remainders):
            odds = next((odds for least, odds in ODDS[block_size] if len(lengths) >= least), 1)
            confidence = round(odds / (odds + 1), 4)
            words = next((words for least, words in CONFIDENCE_WORDS if confidence >= least), None)
            return Cipher(name, packets, len(lengths), confidence, words, odds, block_size) if words else None
    return None
