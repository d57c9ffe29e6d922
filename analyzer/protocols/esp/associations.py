"""Security associations of a flow, identified by direction and SPI, and the facts that follow from their packets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Final, NamedTuple

from analyzer import heads
from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Frame, Head
from analyzer.messages import Facts, Item
from analyzer.protocols.esp.cipher import Cipher, infer_cipher, lengths_of_association, lengths_of_packets
from analyzer.protocols.esp.cleartext import Cleartext, detect_cleartext
from analyzer.protocols.esp.packets import EspPacket, EspPayload, NatKeepalive
from analyzer.safetext import SafeText

MAX_SPIS: Final = 64
"""SPIs and SAs listed in the facts."""
MAX_REORDERED: Final = 2
"""Packets of an SA that may still arrive, reordered, after another SA has replaced it."""
MAX_FIRST_SEQUENCE: Final = 64
"""Highest sequence number that the first captured packet of a new SA may have."""
LEAST_READABLE, LEAST_SHARE = 3, 1 << 12
"""Readable packets that show an SA to be unencrypted, and the share of its packets, one in that many: of random bytes,
one packet in 200,000 is readable."""


class SentPacket(NamedTuple):
    """An ESP packet and where the capture holds it."""

    packet: EspPacket
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""
    beginning: bytes
    """First bytes of Payload Data; empty if too few were captured."""


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """The packets read of one SA: one direction, one SPI. Compared by identity."""

    direction: Direction
    spi: int
    sent: list[SentPacket] = field(default_factory=list)
    """In the order of the capture; never empty."""

    @property
    def name(self) -> str:
        return f"SPI {self.spi:#010x}"


@dataclass(frozen=True, slots=True)
class AssociationFacts:
    """One SA as reports show it, from the first packets of the flow."""

    spi: str
    sender: SafeText
    """``originator`` or ``responder``."""
    packets: int
    first_sequence: int
    """The lowest sequence number read. The low-order half of an extended number may wrap (RFC 4304)."""
    last_sequence: int
    """The highest."""
    missing: int
    """Sequence numbers between them that were not read: lost on the path, or missing in the capture."""
    replaces: str | None
    """SPI of the SA that this one replaced when the tunnel was rekeyed."""


@dataclass(frozen=True, slots=True)
class EspFacts(Facts):
    """What the ESP headers of a flow show."""

    spis: tuple[str, ...]
    """SPIs of both directions, in order of first appearance: ``0xc39b2a51``."""
    udp_encapsulated: bool
    """Whether the flow is known to be UDP-encapsulated: it holds NAT keepalives, or was read as RFC 3948."""
    packets_read: int
    """ESP packets in the head, which is not the whole flow."""
    keepalives: int
    keepalives_from: tuple[SafeText, ...]
    """Senders of keepalives, ``originator`` or ``responder``. A host sends them if it detects a NAT before itself."""
    associations: tuple[AssociationFacts, ...]
    """At most :data:`MAX_SPIS`, in order of first appearance."""
    pairs: tuple[tuple[str, str], ...]
    """SPIs (originator's, responder's) of the SAs that form one tunnel: they are in use at the same time."""
    rekeys: int
    """Number of SAs that replaced another one of their direction; the higher number of both directions."""
    cleartext: Cleartext | None
    cipher: Cipher | None
    """Inferred from the packets that are not cleartext."""
    _associations: tuple[Association, ...] = ()
    """In order of first appearance."""
    _readable: tuple[Association, ...] = ()
    """SAs whose payloads are cleartext."""


def facts(items: Sequence[Item]) -> EspFacts:
    """Facts about all ESP packets and NAT keepalives of a flow."""
    sas = collect_associations(items)
    listed = sas[:MAX_SPIS]
    keepalives = [item.direction for item in items if type(item.message) is NatKeepalive]
    replaced = find_replaced(listed)
    cleartexts = {sa: found for sa in sas if (found := detect_cleartext(payloads(sa))) is not None}
    encrypted = [sa for sa in sas if sa not in cleartexts]
    packets = [sent.packet for sa in sas for sent in sa.sent]
    return EspFacts(
        spis=tuple(dict.fromkeys(f"{sa.spi:#010x}" for sa in sas))[:MAX_SPIS],
        udp_encapsulated=bool(keepalives) or any(packet.udp_encapsulated for packet in packets),
        packets_read=len(packets),
        keepalives=len(keepalives),
        keepalives_from=tuple(direction.name.lower() for direction in dict.fromkeys(keepalives)),
        associations=tuple(association_facts(sa, replaced.get(sa)) for sa in listed),
        pairs=pair_directions(listed),
        rekeys=max(sum(1 for sa in replaced if sa.direction is direction) for direction in Direction),
        cleartext=merge_cleartexts(tuple(cleartexts.values())),
        cipher=infer_cipher([lengths_of_packets([sent.packet.length for sent in sa.sent]) for sa in encrypted]),
        _associations=tuple(sas),
        _readable=tuple(cleartexts),
    )


def cipher_of_flow(head: Head, found: EspFacts) -> Cipher | None:
    """The cipher inferred from all packets of the flow's SAs without cleartext, not only from those of the head."""
    readable = {(sa.direction, sa.spi) for sa in found._readable}
    readable |= {(sa.direction, sa.spi) for sa in readable_associations(head)}
    counted = [sa for sa in head.associations if not sa.folded and (sa.direction, sa.spi) not in readable]
    return infer_cipher([lengths_of_association(sa) for sa in counted]) if counted else found.cipher


def readable_associations(head: Head) -> list[heads.Association]:
    """The SAs of a flow with readable payload anywhere in it, by all of their packets."""
    return [sa for sa in head.associations if sa.readable >= LEAST_READABLE and sa.readable * LEAST_SHARE >= sa.packets]


def collect_associations(items: Sequence[Item]) -> list[Association]:
    """The SAs of a flow, in order of first appearance."""
    found: dict[tuple[Direction, int], Association] = {}
    following = itertools.chain(itertools.islice(items, 1, None), (None,))
    for (message, direction, frame, time, _), following_item in zip(items, following, strict=False):
        if type(message) is not EspPacket:
            continue
        sa = found.get((direction, message.spi))
        if sa is None:
            sa = found[direction, message.spi] = Association(direction, message.spi)
        payload = following_item.message if following_item is not None else None
        sa.sent.append(SentPacket(message, frame, time, payload.beginning if type(payload) is EspPayload else b""))
    return list(found.values())


def association_facts(sa: Association, replaced: Association | None) -> AssociationFacts:
    start = sa.sent[0].packet.sequence
    # Serial number arithmetic (RFC 1982), because the low-order half of an extended sequence number may wrap.
    distances = {(sent.packet.sequence - start + (1 << 31) & 0xFFFFFFFF) - (1 << 31) for sent in sa.sent}
    lowest, highest = min(distances), max(distances)
    return AssociationFacts(
        spi=f"{sa.spi:#010x}",
        sender=sa.direction.name.lower(),
        packets=len(sa.sent),
        first_sequence=start + lowest & 0xFFFFFFFF,
        last_sequence=start + highest & 0xFFFFFFFF,
        missing=highest - lowest + 1 - len(distances),
        replaces=f"{replaced.spi:#010x}" if replaced else None,
    )


def find_replaced(sas: Sequence[Association]) -> dict[Association, Association]:
    """Each SA that replaced another one of its direction when the tunnel was rekeyed, with the replaced SA.

    The new SA starts with low sequence numbers, and the replaced one goes silent. SAs that continue side by side
    belong to different tunnels and replace nothing.
    """
    found: dict[Association, Association] = {}
    in_use: dict[Direction, list[Association]] = {direction: [] for direction in Direction}
    for sa in sas:
        candidates = in_use[sa.direction]
        replaced = None
        if sa.sent[0].packet.sequence <= MAX_FIRST_SEQUENCE:
            replaced = next((old for old in candidates if is_silent_after(old, sa.sent[0].frame)), None)
        if replaced is not None:
            found[sa] = replaced
            candidates.remove(replaced)
        candidates.append(sa)
    return found


def is_silent_after(sa: Association, frame: Frame) -> bool:
    """Whether an SA sends nothing after a frame, except for a few reordered packets."""
    return len(sa.sent) <= MAX_REORDERED or sa.sent[-MAX_REORDERED - 1].frame < frame


def pair_directions(sas: Sequence[Association]) -> tuple[tuple[str, str], ...]:
    """SPIs of originator and responder that are in use at the same time, in order of first appearance."""
    outgoing, free = ([sa for sa in sas if sa.direction is direction] for direction in Direction)
    pairs = []
    for sa in outgoing:
        first, last = sa.sent[0].frame, sa.sent[-1].frame
        partner = next((other for other in free if other.sent[0].frame <= last and other.sent[-1].frame >= first), None)
        if partner is not None:
            free.remove(partner)
            pairs.append((f"{sa.spi:#010x}", f"{partner.spi:#010x}"))
    return tuple(pairs)


def payloads(sa: Association) -> list[tuple[bytes, int]]:
    """First bytes of each captured payload of an SA, and the declared length of its packet in bytes."""
    return [(sent.beginning, sent.packet.length) for sent in sa.sent if sent.beginning]


def merge_cleartexts(cleartexts: Sequence[Cleartext]) -> Cleartext | None:
    """The first SA's cleartext, with the number of readable packets of all SAs."""
    if not cleartexts:
        return None
    return replace(cleartexts[0], packets=sum(cleartext.packets for cleartext in cleartexts))
