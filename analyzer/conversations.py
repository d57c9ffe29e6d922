"""Flows read by their content: who spoke what with whom."""

from __future__ import annotations

import enum
import socket
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from analyzer import protocols, scanner
from analyzer.flows import TRANSPORTS, Flows
from analyzer.heads import Direction, Frame, Head
from analyzer.messages import Facts
from analyzer.protocols import Dissection, ftp


class State(enum.Enum):
    """How far a conversation came."""

    ESTABLISHED = "established"
    """TCP: the handshake was completed."""
    ATTEMPTED = "attempted"
    """TCP: opened, never completed, never refused."""
    REJECTED = "rejected"
    """Refused: TCP reset before any data, or an ICMP error that quotes the opening packet."""
    MIDSTREAM = "midstream"
    """TCP: its beginning is not in the capture."""
    ONEWAY = "oneway"
    """Not TCP: packets in one direction only."""
    TWOWAY = "twoway"
    """Not TCP: packets in both directions."""


class Endpoint(NamedTuple):
    address: str
    """Canonical text form."""
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error that quotes a packet of the conversation."""

    type: int
    code: int
    sender: str
    """Address of the host or router that reported it."""
    frame: Frame
    time: int
    quoted: Direction
    """Who had sent the quoted packet."""

    @property
    def unreachable(self) -> bool:
        """The packet will not arrive, and neither will a smaller one or another (RFC 792; RFC 4443 section 3.1)."""
        return self.type == 1 if ":" in self.sender else self.type == 3 and self.code != 4


@dataclass(frozen=True, slots=True)
class Conversation:
    """One flow with what its content says."""

    id: int
    """1-based, in the order of first frames; the flow id of the report."""
    transport: str
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``esp`` or ``ip-<number>``."""
    originator: Endpoint
    responder: Endpoint
    originator_certain: bool
    state: State
    packets: tuple[int, int]
    """From originator, from responder."""
    bytes: tuple[int, int]
    """Frame lengths on the wire, from originator, from responder."""
    payload: tuple[int, int]
    """Bytes above the transport header (TCP: without retransmissions where seen), by direction."""
    first: int
    """Nanoseconds since the epoch."""
    last: int
    first_frame: Frame
    last_frame: Frame
    macs: tuple[str | None, str | None]
    """Source MAC of the first frame from originator and from responder."""
    head: Head
    dissection: Dissection
    icmp_errors: tuple[IcmpError, ...] = ()
    refused: Frame | None = None
    """The frame that refused it (reset)."""
    notes: tuple[str, ...] = ()
    """What the capture point added or lost: ``vlan 7``, ``vxlan 42``, ``fragments``."""
    retransmissions: int = 0
    """TCP segments that carried nothing new, both directions."""
    control: int | None = None
    """FTP data: id of the conversation whose command opened it."""

    @property
    def protocol(self) -> str | None:
        return self.dissection.protocol

    @property
    def duration(self) -> float:
        """Seconds between first and last packet."""
        return (self.last - self.first) / 1e9

    @property
    def silent(self) -> bool:
        """The responder never answered with anything that counts: no packet; of TCP: reset before any payload."""
        if self.transport != "tcp":
            return not self.packets[Direction.RESPONDER]
        if self.state in (State.ATTEMPTED, State.REJECTED):
            return True
        return self.refused is not None and not self.payload[Direction.RESPONDER]


@dataclass(frozen=True, slots=True)
class FtpDataFacts(Facts):
    """What an FTP data connection carried, as its control connection told."""

    control: int
    """Id of the control connection's flow."""
    verb: str | None
    """``None``: the connection was announced, but no command used it in the capture."""
    path: str | None


Service = tuple[str, int]
"""Transport and port of a service that some expected row names."""


def converse(
    flows: Flows, services: frozenset[Service] = frozenset(), progress: Callable[[int], None] | None = None
) -> tuple[Conversation, ...]:
    """Read the head of every flow. Without a handshake, a port of ``services`` tells the responder."""
    found: list[Conversation] = []
    known: protocols.Known = {}
    for start in range(0, len(flows), STEP):
        found.extend(several(flows, start, min(start + STEP, len(flows)), services, known))
        if progress:
            progress(len(found))
    return tuple(with_ftp_data(found))


STEP = 4096
"""Flows whose columns are turned into Python numbers at a time."""


if TYPE_CHECKING:
    Row = Any
    Side = Any
else:
    Row = namedtuple("Row", scanner.FLOW.names)
    """One flow's columns as Python numbers (see :data:`analyzer.scanner.FLOW`)."""
    Side = namedtuple("Side", scanner.SIDE.names)
    """One side's columns as Python numbers (see :data:`analyzer.scanner.SIDE`)."""


def several(
    flows: Flows, start: int, stop: int, services: frozenset[Service], known: protocols.Known
) -> Iterator[Conversation]:
    """The conversations of the flows ``start`` to ``stop - 1``."""
    rows = map(Row._make, flows.flow[start:stop].tolist())
    sides = ((Side._make(one), Side._make(two)) for one, two in flows.side[start:stop].tolist())
    pieces = flows.pieces_of(start, stop)
    for number, row, both, kept in zip(range(start + 1, stop + 1), rows, sides, pieces, strict=True):
        yield conversation(flows, number, row, both, kept, services, known)


def conversation(
    flows: Flows,
    number: int,
    row: Row,
    sides: tuple[Side, Side],
    pieces: list[Any],
    services: frozenset[Service],
    known: protocols.Known,
) -> Conversation:
    """One flow with its 1-based number: its columns, and the pieces that were kept of its payload."""
    transport = TRANSPORTS.get(row.protocol) or f"ip-{row.protocol}"
    reversed_ = opened_by(transport, row, services) if transport not in REPLIES else answers(flows, transport, pieces)
    one = Endpoint(address(row.high0, row.low0), row.port0 if transport in PORTED else None)
    two = Endpoint(address(row.high1, row.low1), row.port1 if transport in PORTED else None)
    originator, responder = sides
    side = 0
    if reversed_:
        side, one, two, originator, responder = 1, two, one, responder, originator
    head = flows.head(number - 1, row, side, (originator, responder), pieces)
    repeats = protocols.repeats(transport, head.ports[1], len(pieces))
    like = protocols.likeness(transport, head.ports, flows.said(pieces, side)) if repeats else None
    errors = icmp_errors(flows, pieces, side) if row.errors else ()
    notes = flows.notes[row.note] if row.note >= 0 else ()
    if row.vlan >= 0 and f"vlan {row.vlan}" not in notes:
        notes = (f"vlan {row.vlan}", *notes)
    return Conversation(
        id=number,
        transport=transport,
        originator=one,
        responder=two,
        originator_certain=row.syn_side >= 0
        or (transport != "tcp" and not reversed_ and not same_service(row, transport)),
        state=state_of(row, originator, responder, side, errors),
        packets=(originator.packets, responder.packets),
        bytes=(originator.bytes, responder.bytes),
        payload=(originator.payload, responder.payload),
        first=row.first,
        last=row.last,
        first_frame=Frame(row.first_capture, row.first_frame),
        last_frame=Frame(row.last_capture, row.last_frame),
        macs=(mac(originator.mac), mac(responder.mac)),
        head=head,
        dissection=protocols.dissect_known(head, like, known),
        icmp_errors=errors,
        refused=Frame(row.reset_capture, row.reset_frame) if row.reset_side == 1 - side else None,
        notes=notes,
        retransmissions=originator.retransmitted + responder.retransmitted,
    )


PORTED = ("tcp", "udp")
"""Transports whose ends have ports."""


def opened_by(transport: str, row: Row, services: frozenset[Service]) -> bool:
    """Whether the flow was opened by its side 1: not by who sent the first packet that the capture shows."""
    if row.syn_side >= 0:
        return bool(row.syn_side)
    if transport not in PORTED:
        return False  # who sent the first packet of an exchange without ports asked for it
    served = (transport, row.port0) in services
    if served != ((transport, row.port1) in services):
        return served
    return bool(row.port0 < 1024 <= row.port1)


REPLIES = {"icmp": (0, 14, 16, 18), "icmpv6": (129, 140)}
"""Types of messages that answer another one (RFC 792, RFC 950; RFC 4443, RFC 4620)."""


def answers(flows: Flows, transport: str, pieces: list[Any]) -> bool:
    """Whether an ICMP exchange begins with an answer: what it answers was sent before the capture."""
    kept = next((piece for piece in pieces if not piece[9]), None)
    return kept is not None and kept[7] > 0 and flows.payload(kept[2], 1)[0] in REPLIES[transport]


def same_service(row: Row, transport: str) -> bool:
    """Both ends use one port, as NTP servers among themselves do: then the first packet seen may be an answer."""
    return transport in PORTED and row.port0 == row.port1


def state_of(row: Row, originator: Side, responder: Side, side: int, errors: tuple[IcmpError, ...]) -> State:
    """How far it came (see :class:`State`); ``side`` is the originator's."""
    unreachable = any(error.quoted is Direction.ORIGINATOR and error.unreachable for error in errors)
    if row.protocol != scanner.TCP:
        if originator.packets and responder.packets:
            return State.TWOWAY
        return State.REJECTED if unreachable else State.ONEWAY
    if row.syn_side < 0:
        return State.MIDSTREAM
    if originator.acknowledged or responder.acknowledged:
        return State.ESTABLISHED
    refused = row.reset_side == 1 - side and not responder.flags & scanner.SYN
    return State.REJECTED if refused or unreachable else State.ATTEMPTED


def icmp_errors(flows: Flows, pieces: list[Any], originator: int) -> tuple[IcmpError, ...]:
    """The kept ICMP errors that quote a flow (RFC 792; RFC 4443 section 3)."""
    found = []
    for side, packet, at, frame, time in flows.errors(pieces):
        if packet[0] >> 4 == 4:
            sender = socket.inet_ntop(socket.AF_INET, packet[12:16])
        else:
            sender = socket.inet_ntop(socket.AF_INET6, packet[8:24])
        if at + 2 <= len(packet):
            found.append(IcmpError(packet[at], packet[at + 1], sender, frame, time, Direction(side ^ originator)))
    return tuple(found)


@lru_cache(maxsize=1 << 14)
def address(high: int, low: int) -> str:
    """Canonical text (RFC 5952) of an address as the flow table keeps it."""
    if high == 0 and low >> 32 == 0xFFFF:
        return socket.inet_ntop(socket.AF_INET, (low & 0xFFFFFFFF).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, high.to_bytes(8, "big") + low.to_bytes(8, "big"))


@lru_cache(maxsize=1 << 14)
def mac(number: int) -> str | None:
    """Lower case with colons; ``None`` for -1, the mark of frames without one."""
    return None if number < 0 else ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))


def with_ftp_data(found: Sequence[Conversation]) -> list[Conversation]:
    """Tie FTP data connections to the commands that opened them, be they before or after the reply's capture."""
    result = list(found)
    controls = [each for each in found if isinstance(each.dissection.facts, ftp.FtpFacts)]
    if not controls:
        return result
    by_end: dict[tuple[str, int | None], list[int]] = {}
    for index, each in enumerate(found):
        if each.transport == "tcp" and each.protocol != ftp.NAME:
            for end in (each.originator, each.responder):
                by_end.setdefault(end, []).append(index)
    for control in controls:
        facts = control.dissection.facts
        assert isinstance(facts, ftp.FtpFacts)
        hosts = {control.originator.address, control.responder.address}
        for transfer in facts._transfers:
            if transfer.endpoint is None:
                continue
            listening = control.responder if transfer.passive else control.originator
            for index in by_end.get((transfer.endpoint.address or listening.address, transfer.endpoint.port), ()):
                data = result[index]
                same_hosts = {data.originator.address, data.responder.address} == hosts
                if same_hosts and data.control is None and data.last >= control.first and data.first <= control.last:
                    carried = FtpDataFacts(control.id, transfer.verb, transfer.path)
                    result[index] = replace(data, control=control.id, dissection=Dissection("ftp-data", facts=carried))
    return result
