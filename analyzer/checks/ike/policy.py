"""The row's list of proposals, weak algorithms, and what checks share to look at the SAs of a flow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from analyzer.matching import Match
from analyzer.protocols.ike import IkeFacts, IkeSa
from analyzer.protocols.ike.proposals import contains

MAX_NAMED: Final = 6
"""Proposals or other names that a sentence lists."""

SYNONYMS: Final = {
    "sha": "sha1",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    "x25519": "curve25519",
    "x448": "curve448",
    "aes": "aes128",
    **{f"aes{key}gcm{8 * octets}": f"aes{key}gcm{octets}" for key in (128, 192, 256) for octets in (8, 12, 16)},
}
"""strongSwan's other keywords for the same transform (ipsec.conf(5))."""

WEAK: Final = {
    "null": "encrypts nothing",
    "des": "has keys of 56 bits, which can be searched",
    "des-iv64": "has keys of 56 bits, which can be searched",
    "3des": "has blocks of 64 bits, which collide in long sessions",
    "md5": "is broken",
    "sha1": "no longer resists collisions",
    "modp768": "can be computed",
    "modp1024": "is within reach of precomputation",
    "modp1024s160": "is within reach of precomputation",
    "modp1536": "is too short (RFC 8247)",
    "modp2048s224": "is a group of unknown origin that RFC 8247 advises against",
    "modp2048s256": "is a group of unknown origin that RFC 8247 advises against",
    "ecp192": "is too short",
}
"""Keyword → why RFC 8247 or RFC 9395 retires the transform."""

BELOW_128_BITS: Final = frozenset({"modp2048", "ecp224", "ecp224bp"})
"""Groups that RFC 8247 allows, and that are weaker than ecp256, the weakest of the vendor's list (RFC 5903)."""


def sas_of(match: Match) -> tuple[IkeSa, ...]:
    """The SAs of a flow, in order of first appearance."""
    facts = match.conversation.dissection.facts
    return facts._sas if isinstance(facts, IkeFacts) else ()


def regulated_sas(match: Match) -> tuple[IkeSa, ...]:
    """The IKEv2 SAs to which the row's list of proposals applies."""
    return tuple(sa for sa in sas_of(match) if sa.major == 2) if match.row.ike_proposals else ()


def keywords(notation: str) -> frozenset[str]:
    """The transforms of a proposal, without a PRF that the integrity algorithm implies or a key exchange "none"."""
    words = {SYNONYMS.get(word, word) for word in notation.split("-")}
    implied_prfs = {f"prf{word}" for word in words}
    return frozenset(word for word in words - implied_prfs if not re.fullmatch(r"ke\d_none", word))


def is_weaker_than_list(notation: str) -> bool:
    """Whether any part of a proposal is weaker than the weakest of the list (aes128-sha256-ecp256)."""
    return any(word in WEAK or word in BELOW_128_BITS for word in keywords(without_additional(notation)))


def weak_keywords(notation: str) -> list[str]:
    return sorted(word for word in keywords(notation) if word in WEAK)


def without_additional(notation: str) -> str:
    """A proposal without its additional key exchanges (RFC 9370), which only strengthen it: ``ke1_mlkem768``."""
    return "-".join(word for word in notation.split("-") if not re.fullmatch(r"ke[1-7]_\w+", word))


def has_additional(notation: str) -> bool:
    """Whether a proposal has an additional key exchange of RFC 9370."""
    return without_additional(notation) != notation and any(
        not word.endswith("_none") for word in notation.split("-") if re.fullmatch(r"ke[1-7]_\w+", word)
    )


def is_allowed(notation: str, allowed: Sequence[str]) -> bool:
    """Whether a list holds exactly this combination of transforms, additional key exchanges aside."""
    return keywords(without_additional(notation)) in map(keywords, allowed)


def is_near_miss(notation: str, allowed: Sequence[str]) -> bool:
    """Whether a list holds each transform of a proposal, though not the combination."""
    return keywords(notation) <= frozenset().union(*map(keywords, allowed))


def is_offered(sa: IkeSa, notation: str) -> bool:
    """Whether the last offer of the initiator allows the responder to choose this combination of transforms."""
    return any(contains(proposal, keywords(notation)) for proposal in sa.proposals)


def listed(notations: Iterable[str]) -> str:
    """The different ones as a list in a sentence, cut after :data:`MAX_NAMED`."""
    distinct = list(dict.fromkeys(notations))
    rest = f" and {len(distinct) - MAX_NAMED} more" if len(distinct) > MAX_NAMED else ""
    return ", ".join(distinct[:MAX_NAMED]) + rest
