"""Flows read by their content: who spoke what with whom."""

from __future__ import annotations

import enum
import socket
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from analyzer import protocols
from analyzer.flows import TRANSPORTS, Flows, LazyDatagrams, Marks, Progress, stream_of
from analyzer.heads import Direction, Frame, Head, Stream
from analyzer.messages import Item
from analyzer.protocols import Dissection, tls
from analyzer.safetext import SafeText
from analyzer.scanner import columns


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


class Conversation(NamedTuple):
    """One flow with what its content says; or several that nothing but their times and client ports tell apart.

    A base station that asks the same question every minute holds one such conversation: it says the same, between the
    same hosts, to the same service, and ends the same way. All numbers are then those of its first flow.
    """

    id: int
    """1-based, in the order of first frames; the flow id of the report. Of several flows: the first one's."""
    transport: SafeText
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
    """Its bytes may hold passwords and tokens: no text shows them."""
    dissection: Dissection
    icmp_errors: tuple[IcmpError, ...] = ()
    refused: Frame | None = None
    """The frame that refused it (reset)."""
    notes: tuple[SafeText, ...] = ()
    """What the capture point added or lost: ``vlan 7``, ``vxlan 42``, ``fragments``."""
    retransmissions: int = 0
    """TCP segments that carried nothing new, both directions."""
    copies: tuple[int, int] = (0, 0)
    """Packets that were captured before and are not counted in ``packets``, by direction."""
    control: int | None = None
    """FTP data: id of the conversation whose command opened it."""
    side: int = 0
    """The originator's side in the flow table."""
    repeats: tuple[int, ...] = ()
    """Ids of the other flows that it stands for, ascending."""
    repeat_frames: tuple[Frame, ...] = ()
    """Of the first of these: where each begins, and where it was refused."""

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "head")
        return f"Conversation({', '.join(shown)})"

    @property
    def flows(self) -> tuple[int, ...]:
        """Ids of all flows that it stands for, ascending."""
        return (self.id, *self.repeats)

    @property
    def first_frames(self) -> tuple[Frame, ...]:
        """Where its flows begin (and those of :attr:`repeats` were refused), as far as they are worth showing."""
        return (self.first_frame, *self.repeat_frames)

    @property
    def flow_count(self) -> int:
        """Number of flows that it stands for."""
        return 1 + len(self.repeats)

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
class KeyUse:
    """What became of one source of keys."""

    source: str
    """Path as given; or what it is, for keys that a capture carries."""
    kind: str
    """``TLS``, ``IKE`` (version 2), ``IKEv1`` or ``ESP``; the last two are not used."""
    messages: int
    """That it opened."""
    flows: tuple[int, ...]
    """Ids of those in which it opened any."""


Service = tuple[str, int]
"""Transport and port of a service that some expected row names."""


class Flow(NamedTuple):
    """What tells a flow from the others that its conversation stands for."""

    id: int
    conversation: Conversation
    port: int | None
    """The originator's."""
    first: int
    """Nanoseconds since the epoch."""
    last: int
    first_capture: int
    """Of its first frame: index of its file, and number there."""
    first_number: int
    last_capture: int
    last_number: int


class Conversations(Sequence[Conversation]):
    """The conversations of captures, ascending by id; :meth:`flows` lists each of their flows."""

    def __init__(self, found: Iterable[Conversation], table: Flows | None = None) -> None:
        """``table``: the flow table, where a conversation stands for several flows."""
        self.found = tuple(found)
        self.table = table

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | Sequence[Conversation]:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self.found)

    def replaced(self, found: Iterable[Conversation]) -> Conversations:
        """The same flows, each conversation replaced by the one in its place."""
        return Conversations(found, self.table)

    def flows(self) -> Iterator[Flow]:
        """Every flow, ascending by id."""
        if self.table is None:
            yield from map(only_flow, self.found)
            return
        table = self.table.flow
        owners = np.zeros(len(table), np.int32)
        for index, each in enumerate(self.found):
            owners[each.id - 1] = index
            if each.repeats:
                owners[np.array(each.repeats) - 1] = index
        sides = np.array([each.side for each in self.found], np.bool_)[owners]
        ports = np.where(sides, table["port1"], table["port0"]).astype(object)
        ports[np.array([each.originator.port is None for each in self.found], np.bool_)[owners]] = None
        columns = (ports, *(table[name] for name in FLOW_COLUMNS))
        for start in range(0, len(table), STEP):
            several = map(self.found.__getitem__, owners[start : start + STEP].tolist())
            parts = (column[start : start + STEP].tolist() for column in columns)
            yield from map(Flow._make, zip(range(start + 1, len(table) + 1), several, *parts, strict=False))

    def expand(self) -> Iterator[Conversation]:
        """Every flow as a conversation of its own, ascending by id."""
        columns = () if self.table is None else self.table.flow[["reset_capture", "reset_frame"]]
        for flow in self.flows():
            each = flow.conversation
            if not each.repeats:
                yield each
            elif flow.id == each.id:
                yield each._replace(repeats=(), repeat_frames=())
            else:
                assert self.table is not None
                ports = each.head.ports if flow.port is None else (flow.port, each.head.ports[1])
                head = each.head._replace(ports=ports)
                if each.head.datagrams:
                    head = head._replace(datagrams=self.table.datagrams(flow.id - 1, each.side))
                yield each._replace(
                    id=flow.id,
                    originator=Endpoint(each.originator.address, flow.port),
                    first=flow.first,
                    last=flow.last,
                    first_frame=Frame(flow.first_capture, flow.first_number),
                    last_frame=Frame(flow.last_capture, flow.last_number),
                    head=head,
                    dissection=protocols.with_items_of(each.dissection, head),
                    refused=None if each.refused is None else Frame(*columns[flow.id - 1].tolist()),
                    repeats=(),
                    repeat_frames=(),
                )


def items_by_flow(conversation: Conversation, limit: int) -> Iterator[Sequence[Item]]:
    """The items of a conversation's flows, one sequence per flow: the first, and up to ``limit`` of its repeats.

    Duplicate flows agree in their facts, not in every byte of their messages: each sequence is read from the payload
    of its own flow.
    """
    head = conversation.head
    yield protocols.RereadItems(head)
    if isinstance(head.datagrams, LazyDatagrams):
        table = head.datagrams.flows
        for flow in conversation.repeats[:limit]:
            datagrams = table.datagrams(flow - 1, conversation.side)
            yield protocols.RereadItems(head._replace(datagrams=datagrams))


def only_flow(each: Conversation) -> Flow:
    """The first flow of a conversation."""
    return Flow(each.id, each, each.originator.port, each.first, each.last, *each.first_frame, *each.last_frame)


FLOW_COLUMNS = ("first", "last", "first_capture", "first_frame", "last_capture", "last_frame")
"""Columns of the flow table that become the last fields of a :class:`Flow`."""


def dissect_flows(
    flows: Flows, services: frozenset[Service] = frozenset(), progress: Progress | None = None
) -> Conversations:
    """Read the head of every flow. Without a handshake, a port of ``services`` tells the responder.

    ``progress`` is told numbers of flows.
    """
    named = np.zeros(1 << 16, np.bool_)
    named[:1024] = True
    named[[port for _, port in services]] = True
    groups = flows.duplicate_groups(named)
    leaders = np.flatnonzero(groups.duplicate_class == np.arange(len(flows)))
    order = np.argsort(groups.duplicate_class, kind="stable")
    stops = np.searchsorted(groups.duplicate_class, leaders, side="right", sorter=order).tolist()
    speeches = groups.content_class[leaders]
    shared = np.bincount(speeches)[speeches] > 1 if len(leaders) else speeches
    reading = Reading()
    found: list[Conversation] = []
    start = 0
    for at in range(0, len(leaders), STEP):
        chosen = leaders[at : at + STEP]
        before = start
        for index, speech, row, sides, pieces, streams, stop in zip(
            chosen.tolist(),
            np.where(shared, speeches, -1)[at : at + STEP].tolist(),
            map(Row._make, flows.flow[chosen].tolist()),
            ((Side._make(one), Side._make(two)) for one, two in flows.side[SIDE_COLUMNS][chosen].tolist()),
            flows.pieces_of(chosen),
            flows.streams_of(chosen),
            stops[at : at + STEP],
            strict=True,
        ):
            each = conversation(flows, index, row, sides, pieces, streams, services, speech, reading)
            found.append(together(flows, each, order[start + 1 : stop]) if stop > start + 1 else each)
            start = stop
        if progress:
            progress(start - before)
    return Conversations(found, flows)


def together(flows: Flows, each: Conversation, others: npt.NDArray[np.intp]) -> Conversation:
    """A conversation that stands for flows with other indices, too."""
    shown = flows.flow[others[:FRAMES]]
    frames = [*zip(shown["first_capture"].tolist(), shown["first_frame"].tolist(), strict=True)]
    if each.refused:
        frames += zip(shown["reset_capture"].tolist(), shown["reset_frame"].tolist(), strict=True)
    return each._replace(repeats=tuple((others + 1).tolist()), repeat_frames=tuple(map(Frame._make, frames)))


FRAMES = 16
"""Flows alike of which the first frames are remembered."""

MAX_KEPT_MESSAGES = 1 << 18
"""Messages that are kept; those of further conversations are read again when somebody asks for them."""

MAX_MESSAGES, FEW_MESSAGES = 1 << 20, 4
"""Messages after which no more than a few of each further conversation are read: somebody floods the capture."""


@dataclass(slots=True)
class Reading:
    """What was read of the conversations so far."""

    said: dict[tuple[object, ...], Dissection] = field(default_factory=dict)
    """The dissections of those that others may repeat."""
    messages: int = 0
    recall: tls.Recall = field(default_factory=tls.Recall)
    """TLS handshakes that others may repeat."""


STEP = 4096
"""Flows whose columns are turned into Python numbers at a time."""


SIDE_COLUMNS = [
    *("packets", "bytes", "copies", "payload", "retransmitted"),
    *("mac", "ending", "flags", "begins", "acknowledged"),
]
"""Columns of :data:`analyzer.scanner.columns.SIDE` that tell what a side did; the others are the scanner's own."""


if TYPE_CHECKING:
    Row = Any
    Side = Any
else:
    Row = namedtuple("Row", columns.FLOW.names)
    """One flow's columns as Python numbers (see :data:`analyzer.scanner.columns.FLOW`)."""
    Side = namedtuple("Side", SIDE_COLUMNS)
    """One side's columns as Python numbers (see :data:`analyzer.scanner.columns.SIDE`)."""


def conversation(
    flows: Flows,
    index: int,
    row: Row,
    sides: tuple[Side, Side],
    pieces: list[Any],
    streams: tuple[bytes | None, bytes | None],
    services: frozenset[Service],
    speech: int,
    reading: Reading,
) -> Conversation:
    """The flow with an index: its columns, and what was kept of its payload, as pieces or streams.

    ``speech`` is the first of several flows that say the same, or -1.
    """
    transport = TRANSPORTS.get(row.protocol) or f"ip-{row.protocol}"
    reversed_ = opened_by(transport, row, services) if transport not in REPLIES else answers(flows, transport, pieces)
    one = Endpoint(format_address(row.high0, row.low0), row.port0 if transport in PORTED and row.port0 >= 0 else None)
    two = Endpoint(format_address(row.high1, row.low1), row.port1 if transport in PORTED and row.port1 >= 0 else None)
    originator, responder = sides
    side = 0
    if reversed_:
        side, one, two, originator, responder = 1, two, one, responder, originator
    head = flows.head(index, row, side, (originator, responder))
    # What a protocol makes of bytes may depend on the service, and on a client that uses a service's port.
    speaker = speech, transport, side, two.port, one.port if transport in PORTED and head.ports[0] < 1024 else 0
    before = reading.said.get(speaker) if speech >= 0 else None
    if before is not None and not before.parse_errors:
        dissection = protocols.with_items_of(before, head, reading.recall)
    else:
        datagrams = flows.datagrams_of(pieces, side) if head.datagrams else ()
        if transport == "tcp":
            spoken = spoken_by((originator, responder), head.streams, streams[::-1] if side else streams)
        else:
            spoken = head.streams
        limit = protocols.NO_LIMIT if reading.messages < MAX_MESSAGES else FEW_MESSAGES
        said = Head(transport, head.ports, spoken, datagrams, head.link, head.associations)
        dissection = protocols.dissect(said, limit, reading.recall)
        recalled = not isinstance(dissection.items, tuple)
        if not recalled:
            reading.messages += len(dissection.items)
        if recalled or reading.messages > MAX_KEPT_MESSAGES:
            dissection = protocols.with_items_of(dissection, head, reading.recall)
        if speech >= 0:
            reading.said[speaker] = dissection
    errors = icmp_errors(flows, pieces, side) if row.errors else ()
    notes = flows.notes[row.note] if row.note >= 0 else ()
    if row.vlan >= 0 and f"vlan {row.vlan}" not in notes:
        notes = (f"vlan {row.vlan}", *notes)
    if columns.FOLDED in (row.port0, row.port1):
        notes = (*notes, FOLDED)
    return Conversation(
        id=index + 1,
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
        macs=(format_mac(originator.mac), format_mac(responder.mac)),
        head=head,
        dissection=dissection,
        icmp_errors=errors,
        refused=Frame(row.reset_capture, row.reset_frame) if row.reset_side == 1 - side else None,
        notes=notes,
        retransmissions=originator.retransmitted + responder.retransmitted,
        copies=(originator.copies, responder.copies),
        side=side,
    )


def spoken_by(
    sides: tuple[Side, Side], streams: Sequence[Stream], known: tuple[bytes | None, bytes | None]
) -> Sequence[Stream]:
    """The streams of two sides; made of the ``known`` bytes, if those of both are."""
    (one, two), (asked, answered) = sides, known
    if asked is None or answered is None:
        return streams
    return (
        stream_of(asked, Marks(streams, Direction.ORIGINATOR), bool(one.begins), one.ending),
        stream_of(answered, Marks(streams, Direction.RESPONDER), bool(two.begins), two.ending),
    )


FOLDED = "folded"
"""Note of a flow that stands for all that its hosts had with one service, because there were too many flows."""

PORTED = ("tcp", "udp")
"""Transports whose ends have ports."""


def opened_by(transport: str, row: Row, services: frozenset[Service]) -> bool:
    """Whether the flow was opened by its side 1: not by who sent the first packet that the capture shows."""
    if row.syn_side >= 0:
        return bool(row.syn_side)
    if transport not in PORTED:
        return False  # who sent the first packet of an exchange without ports asked for it
    if columns.FOLDED in (row.port0, row.port1):
        return bool(row.port1 == columns.FOLDED)
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
    if row.protocol != columns.TCP:
        if originator.packets and responder.packets:
            return State.TWOWAY
        return State.REJECTED if unreachable else State.ONEWAY
    if row.syn_side < 0:
        return State.MIDSTREAM
    if originator.acknowledged or responder.acknowledged:
        return State.ESTABLISHED
    refused = row.reset_side == 1 - side and not responder.flags & columns.SYN
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
def format_address(high: int, low: int) -> str:
    """Canonical text (RFC 5952) of an address as the flow table keeps it."""
    if high == 0 and low >> 32 == 0xFFFF:
        return socket.inet_ntop(socket.AF_INET, (low & 0xFFFFFFFF).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, high.to_bytes(8, "big") + low.to_bytes(8, "big"))


@lru_cache(maxsize=1 << 14)
def format_mac(number: int) -> str | None:
    """Lower case with colons; ``None`` for -1, the mark of frames without one."""
    return None if number < 0 else ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))
