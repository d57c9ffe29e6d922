"""IP Encapsulating Security Payload (RFC 4303): the header that is readable, and the beginning of what should not be.

A datagram is one ESP packet from its SPI on. Inside UDP (RFC 3948) the packet is the same; a single byte 0xFF there
is a NAT keepalive. What an IKE flow carries beside its messages is read by :mod:`analyzer.protocols.ike`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText
from analyzer.wire import Layout, Reader

NAME = "esp"

T = TypeVar("T")

NAT_TRAVERSAL_PORT = 4500
KEEPALIVE = b"\xff"
HEADER = Layout(("SPI", "I"), ("Sequence Number", "I"))
SAMPLE = 40
"""Bytes kept from the beginning of a payload: the longest fixed inner header (IPv6)."""
MAX_SPIS = 64
"""SPIs and SAs listed in the facts."""
FADING = 2
"""Packets that an SA may still send, reordered, once another took over from it."""
FRESH = 64
"""A sequence number up to which an SA may have come when the first of its packets is seen."""
PROBED = 8
"""Packets of an SA of which at least half must be readable before more are looked at."""
READABLE = 3
"""Packets whose readable beginning is no chance; of IPv4, with its checksum, a single one suffices."""
ICVS = (12, 16, 24, 32, 8, 0)
"""Bytes that integrity algorithms append (RFC 8221, section 6); 0 where there is none."""

COUNTER_MODE, AES_CBC, TDES_CBC = "counter mode, as AES-GCM", "AES-CBC", "3DES-CBC"
BLOCKS = ((16, (0, 4, 8), AES_CBC), (8, (0, 4), TDES_CBC))
"""Block size in bytes, remainders of the length that an ICV of usual length leaves, cipher."""
ALIGNMENT = 4
"""Bytes to which every ESP packet is padded (RFC 4303, 2.4)."""
ODDS = {
    16: ((12, 400), (8, 125), (6, 60), (5, 35), (4, 20), (3, 9)),
    8: ((12, 9),),
}
"""Block size → so many different lengths, and the number of captures of AES-GCM of which one shows nothing but lengths
that fit the blocks. Measured with the packets of real conversations: lengths are no dice, and what is padded inside
the tunnel (SSH, to 8 bytes at least) stays padded outside."""
WORDS = ((0.99, "very likely"), (0.95, "likely"), (0.9, "possibly"))
"""The least confidence for each of the words that state it."""


class EspPacket(NamedTuple):
    """Security Parameters Index and Sequence Number (RFC 4303, 2.1 and 2.2)."""

    spi: int
    sequence: int
    """Low-order 32 bits; the high-order half of an extended sequence number is never on the wire."""
    length: int
    """Declared length of the whole ESP packet in bytes, SPI and ICV included."""
    udp_encapsulated: bool


class EspPayload(NamedTuple):
    """The first :data:`SAMPLE` bytes of Payload Data of the packet before; absent where fewer were kept."""

    beginning: bytes


class NatKeepalive(NamedTuple):
    """One byte 0xFF (RFC 3948, 2.3)."""


# -- what a flow shows ------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """An ESP packet where it stands in the capture."""

    packet: EspPacket
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""
    beginning: bytes
    """Of Payload Data; empty where too little was kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """The packets read of one SA: one direction, one SPI. Compared by identity."""

    direction: Direction
    spi: int
    sent: list[Sent] = field(default_factory=list)
    """In the order of the capture; never empty."""

    @property
    def name(self) -> str:
        return f"SPI {self.spi:#010x}"


@dataclass(frozen=True, slots=True)
class AssociationFacts:
    """One SA in the report, as far as the flow's first packets show it."""

    spi: str
    sender: SafeText
    """``originator`` or ``responder``."""
    packets: int
    first_sequence: int
    """The lowest number read; an extended number's low half may wrap."""
    last_sequence: int
    """The highest."""
    missing: int
    """Numbers between them that were not read: lost on the way, or by the capture."""
    replaces: str | None
    """SPI of the SA that it took over from when the tunnel was rekeyed."""


@dataclass(frozen=True, slots=True)
class Cleartext:
    """Payloads that can be read: NULL encryption, or authentication only (RFC 2410, RFC 4543)."""

    inner: SafeText
    """What the payloads begin with: ``IPv4``, ``IPv6`` (tunnel mode); ``TCP``, ``UDP``, ``ICMP`` (transport mode)."""
    packets: int
    iv: int
    """Bytes in front of it: 0 of NULL encryption, 8 of AES-GMAC."""
    icv: int | None
    """Bytes of the ICV behind it, if there is no more padding than there must be."""


@dataclass(frozen=True, slots=True)
class Cipher:
    """What the lengths of encrypted packets say about the cipher.

    A block cipher pads to its blocks, so all lengths of an SA leave one remainder; AES-GCM and its like pad to 4 bytes
    only (RFC 4303, 2.4). Lengths that differ otherwise rule a block cipher out. Lengths that never do are an inference:
    how often AES-GCM makes them by chance was measured, see :data:`ODDS`.
    """

    kind: SafeText
    """One of :data:`COUNTER_MODE`, :data:`AES_CBC`, :data:`TDES_CBC`."""
    packets: int
    lengths: int
    """Different ones."""
    confidence: float
    """From 0 to 1, if block cipher and counter mode are as likely beforehand."""
    words: SafeText
    """The same in words."""
    odds: int | None
    """AES-GCM looks so once in that many captures; ``None``: no block cipher ever does."""
    padding: int
    """All lengths are so many bytes apart, or a multiple of it."""


@dataclass(frozen=True, slots=True)
class EspFacts(Facts):
    """What the headers of a flow show."""

    spis: tuple[str, ...]
    """Both directions, in order of first appearance: ``0xc39b2a51``."""
    udp_encapsulated: bool
    """As far as the packets show it: ESP seen beside NAT keepalives, or read as RFC 3948."""
    packets_read: int
    """ESP packets in the head, which is not the whole flow."""
    keepalives: int
    keepalives_from: tuple[SafeText, ...]
    """Who sends them, and so holds itself for the one behind a NAT: ``originator``, ``responder``."""
    associations: tuple[AssociationFacts, ...]
    """In order of first appearance, :data:`MAX_SPIS` at most."""
    pairs: tuple[tuple[str, str], ...]
    """SPIs of the originator and of the responder that make up one tunnel, as their times tell."""
    rekeys: int
    """How often a new SA took over from another in the same direction; the higher of both directions."""
    cleartext: Cleartext | None
    cipher: Cipher | None
    """Of what is no cleartext."""
    _associations: tuple[Association, ...] = ()
    """In order of first appearance."""
    _readable: tuple[Association, ...] = ()
    """Those whose payloads are cleartext."""


def probe(head: Head) -> bool:
    return (head.transport == "esp" and bool(head.datagrams)) or encapsulated(head)


def encapsulated(head: Head) -> bool:
    """Whether a UDP flow on port 4500 carries ESP (RFC 3948). Its bytes are random, so its shape must do."""
    if head.transport != "udp" or NAT_TRAVERSAL_PORT not in head.ports or not head.datagrams:
        return False
    packets = [datagram for datagram in head.datagrams if not (datagram.length == 1 and datagram.data == KEEPALIVE)]
    fitting = [packet for packet in packets if shaped(packet)]
    return 2 * len(fitting) >= len(packets) and not all_printable(packets)


def shaped(datagram: Datagram) -> bool:
    """An SPI that is not reserved, and the 4-byte alignment that every ESP packet has (RFC 4303, 2.4)."""
    return datagram.length >= 12 and datagram.length % 4 == 0 and datagram.data[:4] > b"\x00\x00\x00\xff"


def all_printable(datagrams: Sequence[Datagram]) -> bool:
    """Whether every datagram begins with text, which neither an SPI nor a sequence number is."""
    return bool(datagrams) and all(
        all(32 <= byte < 127 or byte in (9, 10, 13) for byte in datagram.data[:8]) for datagram in datagrams
    )


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    return keepalive(reader) if reader.fence == 1 else packet(reader, udp_encapsulated=False)


def keepalive(reader: Reader) -> Iterator[object]:
    """A datagram of one byte; no ESP packet is that short."""
    value = reader.u8("NAT keepalive")
    if value != KEEPALIVE[0]:
        reader.malformed("NAT keepalive", f"a datagram of the single byte {value:#04x}", reader.pos - 1)
    yield NatKeepalive()


def packet(reader: Reader, udp_encapsulated: bool) -> Iterator[object]:
    """One ESP packet: the rest of a datagram, of which little may have been kept."""
    length = min(reader.fence, 1 << 32) - reader.pos
    spi, sequence = reader.unpack(HEADER)
    yield EspPacket(spi, sequence, length, udp_encapsulated)
    if reader.left >= SAMPLE:
        yield EspPayload(reader.take(SAMPLE, "Payload Data"))


def facts(items: Sequence[Item]) -> EspFacts:
    sas = associations(items)
    senders = dict.fromkeys(item.direction for item in items if type(item.message) is NatKeepalive)
    keepalives = sum(1 for item in items if type(item.message) is NatKeepalive) if senders else 0
    before = predecessors(sas[:MAX_SPIS])
    rekeys = [sum(1 for sa in before if sa.direction is direction) for direction in Direction]
    listed = tuple(association_facts(sa, before.get(sa)) for sa in sas[:MAX_SPIS])
    readable = {sa: found for sa in sas if (found := cleartext(sa)) is not None}
    first = next(iter(readable.values()), None)
    shown = first and replace(first, packets=sum(each.packets for each in readable.values()))
    packets = [each.packet for sa in sas for each in sa.sent]
    return EspFacts(
        spis=tuple(dict.fromkeys(f"{sa.spi:#010x}" for sa in sas))[:MAX_SPIS],
        udp_encapsulated=keepalives > 0 or any(packet.udp_encapsulated for packet in packets),
        packets_read=len(packets),
        keepalives=keepalives,
        keepalives_from=tuple(direction.name.lower() for direction in senders),
        associations=listed,
        pairs=paired(sas[:MAX_SPIS]),
        rekeys=max(rekeys),
        cleartext=shown,
        cipher=cipher([sa for sa in sas if sa not in readable]),
        _associations=tuple(sas),
        _readable=tuple(readable),
    )


# -- associations -----------------------------------------------------------------------------------------------


def associations(items: Sequence[Item]) -> list[Association]:
    """The SAs among the messages of a conversation, in order of first appearance."""
    found: dict[tuple[Direction, int], Association] = {}
    followers = itertools.chain(itertools.islice(items, 1, None), (None,))
    for (message, direction, frame, time, _), after in zip(items, followers, strict=False):
        if type(message) is EspPacket:
            sa = found.get((direction, message.spi))
            if sa is None:
                sa = found[direction, message.spi] = Association(direction, message.spi)
            payload = after.message if after is not None else None
            sa.sent.append(Sent(message, frame, time, payload.beginning if type(payload) is EspPayload else b""))
    return list(found.values())


def association_facts(sa: Association, before: Association | None) -> AssociationFacts:
    start = sa.sent[0].packet.sequence
    # Serial numbers (RFC 1982): the low half of an extended number may wrap.
    distances = {(each.packet.sequence - start + (1 << 31) & 0xFFFFFFFF) - (1 << 31) for each in sa.sent}
    low, high = min(distances), max(distances)
    return AssociationFacts(
        spi=f"{sa.spi:#010x}",
        sender=sa.direction.name.lower(),
        packets=len(sa.sent),
        first_sequence=start + low & 0xFFFFFFFF,
        last_sequence=start + high & 0xFFFFFFFF,
        missing=high - low + 1 - len(distances),
        replaces=f"{before.spi:#010x}" if before else None,
    )


def predecessors(sas: Sequence[Association]) -> dict[Association, Association]:
    """SA → the one of the same direction that it took over from: it began anew, and the other went silent.

    Two SAs that go on side by side are two tunnels, and neither replaces the other.
    """
    found: dict[Association, Association] = {}
    going: dict[Direction, list[Association]] = {direction: [] for direction in Direction}
    for sa in sas:
        others = going[sa.direction]
        begins = sa.sent[0].frame
        fading = (each for each in others if len(each.sent) <= FADING or each.sent[-FADING - 1].frame < begins)
        before = next(fading, None) if sa.sent[0].packet.sequence <= FRESH else None
        if before is not None:
            found[sa] = before
            others.remove(before)
        others.append(sa)
    return found


def paired(sas: Sequence[Association]) -> tuple[tuple[str, str], ...]:
    """The SPIs of both directions that belong together: those in use at the same time, in order of appearance."""
    sides: list[list[Association]] = [[sa for sa in sas if sa.direction is direction] for direction in Direction]
    found = []
    free = sides[Direction.RESPONDER]
    for sa in sides[Direction.ORIGINATOR]:
        first, last = sa.sent[0].frame, sa.sent[-1].frame
        other = next((each for each in free if each.sent[0].frame <= last and each.sent[-1].frame >= first), None)
        if other is not None:
            free.remove(other)
            found.append((f"{sa.spi:#010x}", f"{other.spi:#010x}"))
    return tuple(found)


# -- payloads that can be read (RFC 5879) -----------------------------------------------------------------------


def cleartext(sa: Association) -> Cleartext | None:
    """What the payloads of an SA begin with, if that is too much for chance.

    A right IPv4 checksum and length come by chance once in some 2**24 packets, all else has to come several times:
    an IPv6 header once in 2**13 packets, a UDP length that fits once in 2**10, a TCP header once in 2**16, an ICMP
    echo once in 2**15. Numbers that count up in an IV must not be taken for one of these, so what should change has to.
    """
    seen = [each for each in sa.sent if each.beginning]
    for begins, ivs in INNER:
        for iv in ivs:
            if not mostly(begins, seen[:PROBED], iv):
                continue
            fitting = [(each, inner) for each in seen if (inner := inner_of(begins, each, iv))]
            kinds = [inner for _, inner in fitting]
            enough = "IPv4" in kinds or credible(kinds[0], [each.beginning[iv:] for each, _ in fitting])
            if enough and 2 * len(fitting) >= len(seen):
                icvs = [icv_length(inner, each, iv) for each, inner in fitting]
                return Cleartext(most(kinds), len(fitting), iv, most(icvs))
    return None


def inner_of(begins: Begins, each: Sent, iv: int) -> str | None:
    return begins(each.beginning[iv:], each.packet.length - 8 - iv)


def mostly(begins: Begins, some: Sequence[Sent], iv: int) -> bool:
    """Whether at least half of some packets are readable, one at the least."""
    misses = 0
    for each in some:
        misses += not inner_of(begins, each, iv)
        if 2 * misses > len(some):
            return False
    return bool(some)


def most(values: Sequence[T]) -> T:
    """The most frequent value; of several the first."""
    return max(dict.fromkeys(values), key=values.count)


def credible(inner: str, bodies: Sequence[bytes]) -> bool:
    """Whether readable beginnings of an SA change as those of a conversation do, and not as an IV that counts."""
    if len(bodies) < READABLE:
        return False
    if inner == "UDP":
        return len({body[4:6] for body in bodies}) > 1
    if inner == "TCP":
        return len({body[16:18] for body in bodies}) > 1
    if inner == "ICMP":
        return len({body[2:4] for body in bodies}) >= READABLE and len({body[4:6] for body in bodies}) <= 2
    return True


def trailing(length: int, room: int) -> bool:
    """Whether behind an inner packet there is room for padding, trailer and an ICV of at most 32 bytes, not more."""
    return 2 <= room - length <= 2 + 15 + 32


def ip(body: bytes, room: int) -> str | None:
    """An IPv4 header with a right checksum, or an IPv6 header with a usual next header, whose length fits."""
    version = body[0] >> 4 if len(body) >= 8 else 0
    if version == 6:
        return "IPv6" if body[6] in USUAL and trailing(int.from_bytes(body[4:6], "big") + 40, room) else None
    if version != 4:
        return None
    size = (body[0] & 15) * 4
    if not 20 <= size <= len(body) or not trailing(int.from_bytes(body[2:4], "big"), room):
        return None
    total = sum(int.from_bytes(body[at : at + 2], "big") for at in range(0, size, 2))
    return "IPv4" if total % 0xFFFF == 0 else None


USUAL = (0, 6, 17, 43, 44, 58, 60, 132)
"""Next headers of IPv6 that occur."""


def ports(body: bytes) -> bool:
    return body[:2] != b"\0\0" and body[2:4] != b"\0\0"


def tcp(body: bytes, room: int) -> str | None:
    """A TCP header (RFC 9293, 3.1) with both ports, no reserved bit, sensible flags and no urgent pointer unasked."""
    size = body[12] >> 2 & 0x3C if len(body) >= 20 else 0
    if size < 20 or size + 2 > room or body[12] & 0x0F or not ports(body):
        return None
    urgent, ack, reset, opens, ends = (body[13] & bit for bit in (0x20, 0x10, 0x04, 0x02, 0x01))
    sensible = not (opens and (reset or ends)) and (ack or reset or opens)
    return "TCP" if sensible and (urgent or body[18:20] == b"\0\0") else None


def udp(body: bytes, room: int) -> str | None:
    """A UDP header (RFC 768) with both ports, whose length fits."""
    fits = len(body) >= 8 and trailing(int.from_bytes(body[4:6], "big"), room)
    return "UDP" if fits and ports(body) else None


def icmp_echo(body: bytes, room: int) -> str | None:
    """An ICMP or ICMPv6 echo (RFC 792, RFC 4443) with a checksum."""
    fits = len(body) >= 8 and body[0] in (0, 8, 128, 129) and body[1] == 0 and room >= 8
    return "ICMP" if fits and body[2:4] != b"\0\0" else None


Begins = Callable[[bytes, int], str | None]
"""What bytes begin with, of which there is so much room up to the ICV's end."""

INNER: tuple[tuple[Begins, tuple[int, ...]], ...] = (
    (ip, (0, 8, 16)),
    (udp, (0, 8)),
    (tcp, (0, 8)),
    (icmp_echo, (0, 8)),
)
"""What a payload may begin with, behind so many bytes of IV."""


def icv_length(inner: str, each: Sent, iv: int) -> int | None:
    """Bytes of the ICV, if the packet is not padded more than it must be; ``None`` where its length is not known."""
    at = {"IPv4": 2, "IPv6": 4, "UDP": 4}.get(inner)
    if at is None:
        return None
    length = int.from_bytes(each.beginning[iv + at : iv + at + 2], "big") + (40 if inner == "IPv6" else 0)
    rest = each.packet.length - 8 - iv - length - 2 - -(length + 2) % ALIGNMENT
    return rest if rest in ICVS else None


# -- ciphers ----------------------------------------------------------------------------------------------------


def cipher(sas: Sequence[Association]) -> Cipher | None:
    """What the lengths of the packets of SAs say about their cipher; ``None``: nothing yet, or it is none of these."""
    lengths = {each.packet.length for sa in sas for each in sa.sent}
    if len(lengths) < 2 or any(length % ALIGNMENT for length in lengths):
        return None
    packets = sum(len(sa.sent) for sa in sas)
    if any(len({each.packet.length % 8 for each in sa.sent}) > 1 for sa in sas):
        return Cipher(COUNTER_MODE, packets, len(lengths), 1.0, "certain", None, ALIGNMENT)
    for step, fitting, name in BLOCKS:
        remainders = {length % step for length in lengths}
        if len(remainders) == 1 and remainders <= set(fitting):
            odds = next((odds for least, odds in ODDS[step] if len(lengths) >= least), 1)
            confidence = round(odds / (odds + 1), 4)
            words = next((said for least, said in WORDS if confidence >= least), None)
            return Cipher(name, packets, len(lengths), confidence, words, odds, step) if words else None
    return None
