"""Proposals of a Security Association payload, and strongSwan's notation for them: ``aes128-sha256-ecp256``.

RFC 7296, section 3.3 (IKEv2); RFC 2408, sections 3.5 and 3.6 (IKEv1).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Final, NamedTuple

from analyzer.protocols.ike.registry import (
    ENCR,
    ENCRYPTION,
    ESN,
    GROUPS,
    IMPLIED_PRF,
    INTEG,
    INTEGRITY,
    ISAKMP_ENCRYPTION,
    ISAKMP_ENCRYPTION_ATTRIBUTE,
    ISAKMP_GROUP_ATTRIBUTE,
    ISAKMP_HASH,
    ISAKMP_HASH_ATTRIBUTE,
    KE,
    KEY_LENGTH,
    PRF,
    PSEUDO_RANDOM,
    group_name,
)
from analyzer.wire import Layout, Reader

PROPOSAL_HEADER: Final = Layout(("Last Substruc", "B"), ("RESERVED", "B"), ("Proposal Length", "H"))
PROPOSAL: Final = Layout(("Proposal Num", "B"), ("Protocol ID", "B"), ("SPI Size", "B"), ("Num Transforms", "B"))
TRANSFORM_HEADER: Final = Layout(("Last Substruc", "H"), ("Transform Length", "H"))
TRANSFORM: Final = Layout(("Transform Type", "B"), ("RESERVED", "B"), ("Transform ID", "H"))
ISAKMP_TRANSFORM_HEADER: Final = Layout(("Next Payload", "H"), ("Payload Length", "H"))
ISAKMP_TRANSFORM: Final = Layout(("Transform #", "B"), ("Transform-Id", "B"), ("RESERVED2", "H"))
ATTRIBUTE: Final = Layout(("Attribute Type", "H"), ("Attribute Value", "H"))

SUBSTRUCTURE_HEADER: Final = 8
"""Bytes of the fixed part of a proposal or a transform."""
MORE_PROPOSALS, MORE_TRANSFORMS = 2, 3
"""First byte of a substructure that another one follows; 0 in the last one."""
SHORT_ATTRIBUTE: Final = 0x8000
"""Attribute Format bit: the length field holds the value."""

MAX_COMBINATIONS: Final = 64
"""A proposal of more combinations is written once, with all its transforms."""
MAX_OFFERED: Final = 256
"""Combinations listed of one offer."""


class Transform(NamedTuple):
    """RFC 7296, section 3.3.2."""

    type: int
    id: int
    key_length: int | None
    """Bits; ``None`` if there is no such attribute."""


class IsakmpTransform(NamedTuple):
    """A complete combination of algorithms (RFC 2408, section 3.6)."""

    number: int
    id: int
    attributes: tuple[tuple[int, int], ...]
    """Type and value; of a value longer than 8 bytes, the first 8."""

    def value(self, attribute: int) -> int | None:
        return next((value for kind, value in self.attributes if kind == attribute), None)


class Proposal(NamedTuple):
    """RFC 7296, section 3.3.1; RFC 2408, section 3.5."""

    number: int
    protocol: int
    """1 IKE, 2 AH, 3 ESP."""
    spi: bytes
    transforms: tuple[Transform, ...] | tuple[IsakmpTransform, ...]

    @property
    def ikev2_transforms(self) -> tuple[Transform, ...]:
        """Empty in IKEv1."""
        return tuple(transform for transform in self.transforms if isinstance(transform, Transform))

    @property
    def isakmp_transforms(self) -> tuple[IsakmpTransform, ...]:
        """Empty in IKEv2."""
        return tuple(transform for transform in self.transforms if isinstance(transform, IsakmpTransform))


# -- reading ----------------------------------------------------------------------------------------------------


def read_proposals(body: Reader) -> Iterator[Proposal]:
    """The proposals of an IKEv2 SA payload."""
    return read_chain(body, read_transforms)


def read_isakmp_proposals(body: Reader) -> Iterator[Proposal]:
    """The proposals of an IKEv1 SA payload, after DOI and situation."""
    return read_chain(body, read_isakmp_transforms)


ReadTransforms = Callable[[Reader, int], tuple[Transform, ...] | tuple[IsakmpTransform, ...]]


def read_chain(body: Reader, read: ReadTransforms) -> Iterator[Proposal]:
    more = MORE_PROPOSALS
    while more:
        more, _, length = body.unpack(PROPOSAL_HEADER)
        if more not in (0, MORE_PROPOSALS):
            body.malformed("Last Substruc", f"{more} is neither 0 (the last proposal) nor 2", body.pos - 4)
        if length < SUBSTRUCTURE_HEADER:
            body.malformed("Proposal Length", f"{length} bytes are less than the proposal's own header", body.pos - 2)
        with body.block(length - 4, "Proposal Length") as proposal:
            number, protocol, spi_size, count = proposal.unpack(PROPOSAL)
            spi = proposal.take(spi_size, "SPI")
            yield Proposal(number, protocol, spi, read(proposal, count))


def read_transforms(proposal: Reader, count: int) -> tuple[Transform, ...]:
    return tuple(read_transform(proposal, following) for following in reversed(range(count)))


def read_transform(proposal: Reader, following: int) -> Transform:
    """A transform that ``following`` others follow."""
    more, length = proposal.unpack(TRANSFORM_HEADER)
    check_more(proposal, "Last Substruc", more, following)
    if length < SUBSTRUCTURE_HEADER:
        reason = f"{length} bytes are less than the transform's own header"
        proposal.malformed("Transform Length", reason, proposal.pos - 2)
    with proposal.block(length - 4, "Transform Length") as transform:
        kind, _, number = transform.unpack(TRANSFORM)
        key_length = next((value for attribute, value in read_attributes(transform) if attribute == KEY_LENGTH), None)
    return Transform(kind, number, key_length)


def read_isakmp_transforms(proposal: Reader, count: int) -> tuple[IsakmpTransform, ...]:
    return tuple(read_isakmp_transform(proposal, following) for following in reversed(range(count)))


def read_isakmp_transform(proposal: Reader, following: int) -> IsakmpTransform:
    """A transform that ``following`` others follow."""
    more, length = proposal.unpack(ISAKMP_TRANSFORM_HEADER)
    check_more(proposal, "Next Payload", more, following)
    if length < SUBSTRUCTURE_HEADER:
        reason = f"{length} bytes are less than the transform's own header"
        proposal.malformed("Payload Length", reason, proposal.pos - 2)
    with proposal.block(length - 4, "Payload Length") as transform:
        number, kind, _ = transform.unpack(ISAKMP_TRANSFORM)
        attributes = read_attributes(transform)
    return IsakmpTransform(number, kind, attributes)


def check_more(proposal: Reader, field: str, value: int, following: int) -> None:
    """Stop unless the first byte of a transform's header agrees with the proposal's number of transforms."""
    if value >> 8 != (MORE_TRANSFORMS if following else 0):
        proposal.malformed(field, f"{value >> 8} where {following or 'no'} transforms follow", proposal.pos - 4)


def read_attributes(transform: Reader) -> tuple[tuple[int, int], ...]:
    """Type and value of each attribute (RFC 7296, section 3.3.5; RFC 2408, section 3.3)."""
    found = []
    while transform.has_more:
        kind, value = transform.unpack(ATTRIBUTE)
        if not kind & SHORT_ATTRIBUTE:
            value = int.from_bytes(transform.take(value, "Attribute Value")[:8], "big")
        found.append((kind & ~SHORT_ATTRIBUTE, value))
    return tuple(found)


# -- notation ---------------------------------------------------------------------------------------------------


def offer_notations(proposals: Iterable[Proposal]) -> tuple[str, ...]:
    """Every combination of some proposals, at most :data:`MAX_OFFERED`."""
    notations = itertools.chain.from_iterable(map(combinations, proposals))
    return tuple(dict.fromkeys(itertools.islice(notations, MAX_OFFERED)))


@lru_cache(maxsize=1024)
def combinations(proposal: Proposal) -> tuple[str, ...]:
    """Each combination of one transform per type; the proposal as a whole if there are too many."""
    if proposal.isakmp_transforms:
        return tuple(dict.fromkeys(map(isakmp_notation, proposal.isakmp_transforms)))
    groups = alternatives(proposal)
    if prod(map(len, groups)) > MAX_COMBINATIONS:
        return (notation(proposal),)
    return tuple(map(combination, itertools.product(*groups)))


@lru_cache(maxsize=1024)
def notation(proposal: Proposal) -> str:
    """A proposal with all transforms of each type: ``aes128-aes256-sha256-ecp256``; of IKEv1 the first transform."""
    transforms = proposal.ikev2_transforms
    if not transforms:
        return "-".join(map(isakmp_notation, proposal.isakmp_transforms[:1]))
    implied = {IMPLIED_PRF.get(transform.id) for transform in transforms if transform.type == INTEG}
    all_implied = implied == {transform.id for transform in transforms if transform.type == PRF}
    ordered = itertools.chain.from_iterable(alternatives(proposal))
    keywords = (keyword(transform) for transform in ordered if transform.type != PRF or not all_implied)
    return "-".join(filter(None, keywords))


def combination(transforms: Sequence[Transform]) -> str:
    """Notation of at most one transform of each type."""
    integrity = next((transform.id for transform in transforms if transform.type == INTEG), 0)
    implied = IMPLIED_PRF.get(integrity)
    explicit = (transform for transform in transforms if not (transform.type == PRF and transform.id == implied))
    return "-".join(filter(None, map(keyword, explicit)))


def without_noesn(notation: str) -> str:
    """An ESP proposal without "noesn", which is the default."""
    return "-".join(word for word in notation.split("-") if word != "noesn")


def alternatives(proposal: Proposal) -> list[list[Transform]]:
    """The different IKEv2 transforms of each type. Integrity comes before the PRF, as strongSwan writes it."""
    by_type: dict[int, list[Transform]] = {}
    for transform in proposal.ikev2_transforms:
        same_type = by_type.setdefault(transform.type, [])
        if transform not in same_type:
            same_type.append(transform)
    return [by_type[kind] for kind in sorted(by_type, key=lambda kind: (1.5 if kind == INTEG else kind, kind))]


def contains(proposal: Proposal, keywords: frozenset[str]) -> bool:
    """Whether a combination of a proposal's transforms has exactly these keywords, an implied PRF left out."""
    remaining = set(keywords)
    prfs: list[str] = []
    integrity = 0
    for group in alternatives(proposal):
        kind = group[0].type
        if kind == PRF:
            prfs = [keyword(transform) for transform in group]
            continue
        wanted = [transform for transform in group if keyword(transform) in remaining]
        if len(wanted) > 1:
            return False
        if wanted:
            remaining.discard(keyword(wanted[0]))
            integrity = wanted[0].id if kind == INTEG else integrity
        elif all(transform.id for transform in group) or kind == ENCR:  # "none" is not among the alternatives
            return False
    implied = PSEUDO_RANDOM.get(IMPLIED_PRF.get(integrity, 0), "")
    if not remaining:
        return not prfs or implied in prfs
    return len(remaining) == 1 and remaining <= set(prfs)


def keyword(transform: Transform) -> str:
    """strongSwan's keyword for a transform; empty for "none", ``encr_99`` or the like without a name."""
    kind, number = transform.type, transform.id
    bits = "" if transform.key_length is None else str(transform.key_length)
    if kind == ENCR:
        return ENCRYPTION[number].format(bits) if number in ENCRYPTION else f"encr_{number}"
    if kind == PRF:
        return PSEUDO_RANDOM.get(number, f"prf_{number}")
    if kind == INTEG:
        return INTEGRITY.get(number, f"integ_{number}") if number else ""
    if kind == KE:
        return group_name(number) if number else ""
    if kind == ESN:
        return {0: "noesn", 1: "esn"}.get(number, f"esn_{number}")
    if 6 <= kind <= 12:  # Additional Key Exchange 1 to 7 (RFC 9370)
        return f"ke{kind - 5}_{GROUPS.get(number, number)}"
    return f"transform_{kind}_{number}"


def isakmp_notation(transform: IsakmpTransform) -> str:
    """Encryption, hash and group of an IKEv1 transform; there is no keyword for the authentication method."""
    keywords = []
    encryption = transform.value(ISAKMP_ENCRYPTION_ATTRIBUTE)
    if encryption is not None:
        bits = transform.value(KEY_LENGTH)
        pattern = ISAKMP_ENCRYPTION.get(encryption, f"encr_{encryption}")
        keywords.append(pattern.format("" if bits is None else bits))
    hash_algorithm = transform.value(ISAKMP_HASH_ATTRIBUTE)
    if hash_algorithm is not None:
        keywords.append(ISAKMP_HASH.get(hash_algorithm, f"hash_{hash_algorithm}"))
    group = transform.value(ISAKMP_GROUP_ATTRIBUTE)
    if group is not None:
        keywords.append(group_name(group))
    return "-".join(keywords)
