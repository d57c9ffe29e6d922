"""Conversations: flows with their dissected content.

:func:`dissect_flows` reads the flow table. Duplicate flows, which differ in their times and client ports only, become
one :class:`Conversation`; :meth:`Conversations.flows` and :meth:`Conversations.expand` list every flow.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from analyzer import protocols
from analyzer.dataclass import dataclass
from analyzer.flows import (
    FlowRecord,
    Flows,
    LazyDatagrams,
    LazyMarks,
    Progress,
    Row,
    Side,
    make_stream,
    transport_name,
)
from analyzer.heads import DIRECTIONS, Direction, Frame, Head
from analyzer.messages import Item
from analyzer.protocols import Dissection, tls
from analyzer.safetext import SafeText
from analyzer.scanner import columns
from analyzer.scanner.columns import (
    CONTENT_FTP,
    CONTENT_IEC104,
    CONTENT_SSH,
    CONTENT_TLS,
    HOUSEKEEPING_PORT,
    MERGED_PORT,
    ODD_PACKET,
    SYN,
    TCP,
    TUNNEL,
)


class State(enum.Enum):
    """Connection state of a conversation."""

    ESTABLISHED = "established"
    """TCP: the handshake was completed."""
    ATTEMPTED = "attempted"
    """TCP: opened, and neither completed nor refused."""
    REJECTED = "rejected"
    """Refused: by a TCP reset before any data, or by an ICMP error that quotes the originator's packet."""
    MIDSTREAM = "midstream"
    """TCP: the handshake is not in the capture."""
    ONEWAY = "oneway"
    """Not TCP: packets in one direction only."""
    TWOWAY = "twoway"
    """Not TCP: packets in both directions."""


class Endpoint(NamedTuple):
    """An address, with the port if the transport has ports."""

    address: str
    """Canonical text (RFC 5952)."""
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
    """Address of the host or router that reported the error."""
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""
    quoted: Direction
    """Direction of the quoted packet."""

    @property
    def unreachable(self) -> bool:
        """Whether no packet reaches the destination, of whatever size (RFC 792; RFC 4443, section 3.1)."""
        return self.type == 1 if ":" in self.sender else self.type == 3 and self.code != 4


class Oddity(enum.Enum):
    """What packets have that no packet needs."""

    SOURCE_ROUTE = columns.SOURCE_ROUTE
    OPTION_DATA = columns.OPTION_DATA
    """Options of IPv4, hop-by-hop options or destination options of IPv6 that carry data."""
    SURPLUS = columns.SURPLUS
    """Bytes between the end of a UDP datagram and that of its IP packet."""
    TAIL = columns.TAIL
    """Bytes behind the IP packet that are neither padding nor a frame check sequence."""
    MANY_EXTENSIONS = columns.MANY_EXTENSIONS
    """More than 16 extension headers of IPv6."""


class OddPackets(NamedTuple):
    """Packets of one direction that have an oddity."""

    oddity: Oddity
    direction: Direction
    bytes: int
    """Of SURPLUS or TAIL, in all packets."""
    frame: Frame
    """The first such frame."""


class Layer(enum.Enum):
    """What the packets of a conversation are to those of others."""

    PLAIN = columns.PLAIN
    TUNNELLED = columns.TUNNELLED
    """Carried by a tunnel that one of the conversation's own ends opened."""
    TUNNEL = columns.TUNNEL
    """They carry the packets of other conversations."""


class Conversation(NamedTuple):
    """A flow with its dissected content; or a group of duplicate flows.

    Duplicate flows have the same content, hosts, service and outcome: a base station that asks the same question every
    minute has one conversation for it. All numbers are then those of the first flow.
    """

    id: int
    """1-based, in the order of first frames; the flow id of reports. Of several flows, the first one's."""
    transport: SafeText
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``esp`` or ``ip-<number>``."""
    originator: Endpoint
    responder: Endpoint
    originator_certain: bool
    """The capture shows who opened the flow; else it is inferred from the ports."""
    state: State
    packets: tuple[int, int]
    """From originator, from responder."""
    bytes: tuple[int, int]
    """Frame lengths on the wire, from originator, from responder."""
    payload: tuple[int, int]
    """Bytes above the transport header, without TCP retransmissions, by direction."""
    first: int
    """Nanoseconds since the epoch."""
    last: int
    """Nanoseconds since the epoch."""
    first_frame: Frame
    last_frame: Frame
    macs: tuple[str | None, str | None]
    """Source MAC of the first frame from originator and from responder."""
    head: Head
    """Kept payload. It may hold passwords and tokens: no text shows it."""
    dissection: Dissection
    destination_macs: tuple[str | None, str | None] = (None, None)
    """Destination MAC of the first frame from originator and from responder."""
    times_to_live: tuple[int, int] = (0, 0)
    """Time to live, or hop limit, of the first packet from originator and from responder; 0: there is none."""
    icmp_errors: tuple[IcmpError, ...] = ()
    refused: Frame | None = None
    """The responder's TCP reset."""
    closed_by: Direction | None = None
    """TCP: sender of the first FIN."""
    newest: tuple[int, int] = (0, 0)
    """Time of the newest payload by direction, without retransmissions, nanoseconds since the epoch; 0: none."""
    acknowledged: tuple[int, int] = (0, 0)
    """TCP: bytes of the responder that the originator acknowledged, and of the originator that the responder did,
    whether the capture holds them or not; each counted from the first acknowledgement, a FIN as one byte."""
    contiguous: tuple[int, int] = (-1, -1)
    """TCP: bytes at the beginning of each direction that were kept as they arrived, without a gap; -1: the beginning is
    not in the capture."""
    peer_payload: tuple[int, int] = (-1, -1)
    """TLS: what the peer had sent when this direction sent its first record of application data, in bytes; -1: it has
    sent none."""
    unlike: tuple[int, int] = (0, 0)
    """ICMP, DNS, NTP, IKE and DHCP: datagrams of each direction that were unlike all before them; see
    :mod:`analyzer.scanner.datagrams`."""
    mismatched: int = 0
    """ICMP: echo replies whose data behind the time stamp no request had."""
    rapid: tuple[int, int] = (0, 0)
    """Most datagrams of each direction in a row of which each follows another one within four seconds."""
    notes: tuple[SafeText, ...] = ()
    """Encapsulation and fragmentation: ``vlan 7``, ``vxlan 42``, ``fragments``."""
    retransmissions: int = 0
    """TCP segments without new payload, both directions."""
    copies: tuple[int, int] = (0, 0)
    """Packets captured before, which ``packets`` does not count, by direction."""
    control: int | None = None
    """FTP data: id of the control connection whose command opened the flow."""
    side: int = 0
    """Side of the originator in the flow table, 0 or 1."""
    layer: Layer = Layer.PLAIN
    housekeeping: bool = False
    """Group management or neighbour discovery, by destination, hop limit, size and content."""
    odd_packets: tuple[OddPackets, ...] = ()
    repeats: tuple[int, ...] = ()
    """Ids of the further flows of the group, ascending."""
    repeat_frames: tuple[Frame, ...] = ()
    """First frames of the first of these flows, then their resets."""
    repeats_from: int = 0
    """Beginning of the newest flow of the group, nanoseconds since the epoch; 0 without repeats."""
    repeats_to: int = 0
    """Last packet of the group, nanoseconds since the epoch; 0 without repeats."""

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "head")
        return f"Conversation({', '.join(shown)})"

    def turned(self) -> Conversation:
        """The conversation with originator and responder exchanged, in its ends, counts and times; the directions of
        its content remain."""
        swapped = {name: getattr(self, name)[::-1] for name in BY_DIRECTION}
        return self._replace(originator=self.responder, responder=self.originator, side=1 - self.side, **swapped)

    @property
    def flows(self) -> tuple[int, ...]:
        """Ids of all flows of the group, ascending."""
        return (self.id, *self.repeats)

    @property
    def first_frames(self) -> tuple[Frame, ...]:
        """First frame of the first flow, then :attr:`repeat_frames`: frames to show as evidence."""
        return (self.first_frame, *self.repeat_frames)

    @property
    def flow_count(self) -> int:
        """Number of flows of the group."""
        return 1 + len(self.repeats)

    @property
    def protocol(self) -> str | None:
        """Name of the protocol of the content; ``None`` if it is none that is known here."""
        return self.dissection.protocol

    @property
    def duration(self) -> float:
        """Seconds between first and last packet."""
        return (self.last - self.first) / 1e9

    @property
    def latest_start(self) -> int:
        """Beginning of the newest flow of the group, nanoseconds since the epoch."""
        return max(self.first, self.repeats_from)

    @property
    def latest(self) -> int:
        """Last packet of the group, nanoseconds since the epoch."""
        return max(self.last, self.repeats_to)

    @property
    def silent(self) -> bool:
        """Whether the responder never answered: it sent no packet or, by TCP, a reset before any payload."""
        if self.transport != "tcp":
            return not self.packets[Direction.RESPONDER]
        if self.state in (State.ATTEMPTED, State.REJECTED):
            return True
        return self.refused is not None and not self.payload[Direction.RESPONDER]


BY_DIRECTION = (
    *("packets", "bytes", "payload", "macs", "destination_macs", "times_to_live"),
    *("newest", "acknowledged", "contiguous", "peer_payload", "copies"),
)
"""Fields of :class:`Conversation` with one value for each direction."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Result of decrypting with one source of keys."""

    source: str
    """Path as given; a description for the keys that a capture carries."""
    kind: str
    """``TLS``, ``IKE`` (version 2), ``IKEv1`` or ``ESP``; the last two are not used."""
    messages: int
    """Number of messages decrypted."""
    flows: tuple[int, ...]
    """Ids of the flows with decrypted messages."""


Service = tuple[str, int]
"""Transport and port of a service in the tables of expected flows."""
NO_SERVICES: Mapping[Service, str] = MappingProxyType({})


class Flow(NamedTuple):
    """A flow of a conversation: what differs between duplicate flows."""

    id: int
    conversation: Conversation
    port: int | None
    """Port of the originator."""
    first: int
    """Nanoseconds since the epoch."""
    last: int
    """Nanoseconds since the epoch."""
    first_capture: int
    """First frame: index of its file."""
    first_number: int
    """First frame: number in its file."""
    last_capture: int
    last_number: int


FLOW_COLUMNS = ("first", "last", "first_capture", "first_frame", "last_capture", "last_frame")
"""Columns of the flow table for the fields of :class:`Flow` from ``first`` on."""

BATCH = 4096
"""Flows whose columns are converted to Python values at a time."""


class Conversations(Sequence[Conversation]):
    """The conversations of captures, ascending by id."""

    def __init__(self, conversations: Iterable[Conversation], table: Flows | None = None) -> None:
        """``table``: the flow table; without it every conversation is one flow."""
        self.conversations = tuple(conversations)
        self.table = table

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | Sequence[Conversation]:
        return self.conversations[index]

    def __len__(self) -> int:
        return len(self.conversations)

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self.conversations)

    def replaced(self, conversations: Iterable[Conversation]) -> Conversations:
        """The same flows with other conversations, given in the same order."""
        return Conversations(conversations, self.table)

    def without(self, ids: Collection[int]) -> Conversations:
        """All conversations but some; their flows are not listed either."""
        if not ids:
            return self
        return Conversations((conversation for conversation in self if conversation.id not in ids), self.table)

    def flows(self) -> Iterator[Flow]:
        """Every flow of the conversations, ascending by id."""
        if self.table is None:
            yield from map(only_flow, self.conversations)
            return
        table = self.table.flow
        owners = np.full(len(table), -1, np.int32)
        for index, conversation in enumerate(self.conversations):
            owners[conversation.id - 1] = index
            if conversation.repeats:
                owners[np.array(conversation.repeats) - 1] = index
        sides = np.array([conversation.side for conversation in self.conversations], np.bool_)
        portless = np.array([conversation.originator.port is None for conversation in self.conversations], np.bool_)
        listed = np.flatnonzero(owners >= 0)
        owners = owners[listed]
        ports = np.where(sides[owners], table["port1"][listed], table["port0"][listed]).astype(object)
        ports[portless[owners]] = None
        columns = (ports, *(table[name][listed] for name in FLOW_COLUMNS))
        for start in range(0, len(listed), BATCH):
            batch = slice(start, start + BATCH)
            ids = (listed[batch] + 1).tolist()
            conversations = map(self.conversations.__getitem__, owners[batch].tolist())
            values = (column[batch].tolist() for column in columns)
            yield from map(Flow._make, zip(ids, conversations, *values, strict=True))

    def expand(self) -> Iterator[Conversation]:
        """Every flow as a conversation of its own, ascending by id."""
        for flow in self.flows():
            conversation = flow.conversation
            if not conversation.repeats:
                yield conversation
            elif flow.id == conversation.id:
                yield conversation._replace(repeats=(), repeat_frames=(), repeats_from=0, repeats_to=0)
            else:
                yield self.repeat(flow)

    def repeat(self, flow: Flow) -> Conversation:
        """A further flow of a group as a conversation of its own."""
        assert self.table is not None
        conversation, head = flow.conversation, flow.conversation.head
        if flow.port is not None:
            head = head._replace(ports=(flow.port, head.ports[1]))
        if head.datagrams:
            head = head._replace(datagrams=self.table.datagrams(flow.id - 1, conversation.side))
        reset = self.table.flow[["reset_capture", "reset_frame"]][flow.id - 1]
        newest = self.table.side["newest"][flow.id - 1].tolist()
        return conversation._replace(
            id=flow.id,
            originator=Endpoint(conversation.originator.address, flow.port),
            first=flow.first,
            last=flow.last,
            first_frame=Frame(flow.first_capture, flow.first_number),
            last_frame=Frame(flow.last_capture, flow.last_number),
            head=head,
            dissection=protocols.with_items_of(conversation.dissection, head),
            refused=None if conversation.refused is None else Frame(*reset.tolist()),
            newest=(newest[conversation.side], newest[1 - conversation.side]),
            repeats=(),
            repeat_frames=(),
            repeats_from=0,
            repeats_to=0,
        )


def only_flow(conversation: Conversation) -> Flow:
    """The flow of a conversation that is one."""
    return Flow(
        conversation.id,
        conversation,
        conversation.originator.port,
        conversation.first,
        conversation.last,
        *conversation.first_frame,
        *conversation.last_frame,
    )


def items_of_flows(conversation: Conversation, places: Iterable[int]) -> Iterator[Sequence[Item]]:
    """The items of some of a conversation's flows, one sequence per flow: 0 is its first, 1 the first of its repeats.

    Duplicate flows agree in their facts, not in every byte of their messages: each sequence is read from the payload
    of its own flow.
    """
    head = conversation.head
    for place in places:
        if place and isinstance(head.datagrams, LazyDatagrams):
            flow = conversation.repeats[place - 1]
            yield protocols.RereadItems(
                head._replace(datagrams=head.datagrams.flows.datagrams(flow - 1, conversation.side))
            )
        elif not place:
            yield protocols.RereadItems(head)


# -- from the flow table ----------------------------------------------------------------------------------------------

FOLDED = "folded"
"""Note of a flow that stands for all flows of its hosts with one service, because there were too many flows."""

REPEAT_FRAMES = 16
"""Maximum first frames kept per group of duplicate flows."""

MAX_KEPT_MESSAGES = 1 << 18
"""Messages kept in memory; those of further conversations are read again when they are used."""

MAX_MESSAGES = 1 << 20
"""Messages read in full. Above it only :data:`FEW_MESSAGES` of each further conversation are read, so that the time for
a capture made of tiny messages stays bounded."""
FEW_MESSAGES = 4

CACHED_ADDRESSES = 1 << 14
"""Addresses, and MAC addresses, kept as text while conversations are built. Without it building 100,000 of them takes
0.3 s longer."""

CONTENT_PROTOCOLS = {CONTENT_TLS: "tls", CONTENT_SSH: "ssh", CONTENT_IEC104: "iec104", CONTENT_FTP: "ftp"}
"""What the scanner takes the content of a TCP flow for → name of the protocol."""

PORTED = ("tcp", "udp")
"""Transports with ports."""

ICMP_REPLIES = {"icmp": (0, 14, 16, 18), "icmpv6": (129, 140)}
"""Types of ICMP messages that answer another one (RFC 792, RFC 950; RFC 4443, RFC 4620)."""


def dissect_flows(
    flows: Flows, services: Mapping[Service, str] = NO_SERVICES, progress: Progress | None = None
) -> Conversations:
    """Dissect the head of every flow.

    ``services``, with the protocol of each, identify the responder of a flow without a handshake. ``progress`` is
    called with numbers of flows.
    """
    service_ports = np.zeros(1 << 16, np.bool_)
    service_ports[:1024] = True
    service_ports[[port for _, port in services]] = True
    groups = flows.duplicate_groups(service_ports)
    leaders = np.flatnonzero(groups.duplicate_class == np.arange(len(flows)))
    by_group = np.argsort(groups.duplicate_class, kind="stable")
    stops = np.searchsorted(groups.duplicate_class, leaders, side="right", sorter=by_group).tolist()
    classes = groups.content_class[leaders]
    shared = np.bincount(classes)[classes] > 1 if len(leaders) else classes
    classes = np.where(shared, classes, -1).tolist()
    builder = ConversationBuilder(flows, services)
    conversations: list[Conversation] = []
    start = 0
    for first in range(0, len(leaders), BATCH):
        batch = slice(first, first + BATCH)
        before = start
        for record, content_class, stop in zip(
            flows.records(leaders[batch]), classes[batch], stops[batch], strict=True
        ):
            conversations.append(builder.build(record, content_class, by_group[start + 1 : stop]))
            start = stop
        if progress:
            progress(start - before)
    return Conversations(conversations, flows)


class ConversationBuilder:
    """Makes conversations of flow records, and remembers the dissections of content that several flows share."""

    def __init__(self, flows: Flows, services: Mapping[Service, str]) -> None:
        self.flows = flows
        self.services = services
        self.dissections: dict[tuple[object, ...], Dissection] = {}
        """Content class, and what else a dissection depends on → the dissection."""
        self.recall = tls.Recall()
        self.message_count = 0
        self.address = lru_cache(CACHED_ADDRESSES)(format_address)
        self.mac = lru_cache(CACHED_ADDRESSES)(format_mac)

    def build(self, record: FlowRecord, content_class: int, repeats: npt.NDArray[np.intp]) -> Conversation:
        """The conversation of a flow and its repeats (indexes).

        ``content_class``: index of the first flow with the same content; -1 if no other flow has it.
        """
        row, transport = record.row, transport_name(record.row.protocol)
        side = self.originator_side(record, transport)
        endpoints = (
            Endpoint(self.address(row.high0, row.low0, row.version), port_of(row.port0, transport)),
            Endpoint(self.address(row.high1, row.low1, row.version), port_of(row.port1, transport)),
        )
        originator, responder = record.sides[side], record.sides[1 - side]
        head = self.flows.head(record, side)
        errors = self.icmp_errors(record, side) if row.errors else ()
        refused, repeated = row.reset_side == 1 - side, len(repeats) > 0
        opener_seen = transport != "tcp" and not side and (row.layer == TUNNEL or not same_port(row, transport))
        return Conversation(
            id=record.flow + 1,
            transport=transport,
            originator=endpoints[side],
            responder=endpoints[1 - side],
            originator_certain=row.syn_side >= 0 or opener_seen,
            state=connection_state(row, originator, responder, side, errors),
            packets=(originator.packets, responder.packets),
            bytes=(originator.bytes, responder.bytes),
            payload=(originator.payload, responder.payload),
            first=row.first,
            last=row.last,
            first_frame=Frame(row.first_capture, row.first_frame),
            last_frame=Frame(row.last_capture, row.last_frame),
            macs=(self.mac(originator.mac), self.mac(responder.mac)),
            destination_macs=(self.mac(originator.destination_mac), self.mac(responder.destination_mac)),
            times_to_live=(originator.time_to_live, responder.time_to_live),
            head=head,
            dissection=self.dissect(record, head, side, content_class),
            icmp_errors=errors,
            refused=Frame(row.reset_capture, row.reset_frame) if refused else None,
            closed_by=DIRECTIONS[row.fin_side ^ side] if row.fin_side >= 0 else None,
            newest=(originator.newest, responder.newest),
            acknowledged=(acknowledged_bytes(originator), acknowledged_bytes(responder)),
            peer_payload=(originator.peer_payload, responder.peer_payload),
            contiguous=(
                originator.contiguous if originator.begins else -1,
                responder.contiguous if responder.begins else -1,
            ),
            unlike=(originator.unlike, responder.unlike),
            mismatched=originator.mismatched + responder.mismatched,
            rapid=(originator.rapid, responder.rapid),
            notes=self.notes(row),
            retransmissions=originator.retransmitted + responder.retransmitted,
            copies=(originator.copies, responder.copies),
            side=side,
            layer=Layer(row.layer) if row.layer else Layer.PLAIN,
            housekeeping=row.port0 == HOUSEKEEPING_PORT,
            odd_packets=self.odd_packets(record, side) if originator.odd or responder.odd else (),
            repeats=tuple((repeats + 1).tolist()) if repeated else (),
            repeat_frames=self.repeat_frames(repeats, refused) if repeated else (),
            repeats_from=int(self.flows.flow["first"][repeats].max()) if repeated else 0,
            repeats_to=int(self.flows.flow["last"][repeats].max()) if repeated else 0,
        )

    def originator_side(self, record: FlowRecord, transport: str) -> int:
        """The side that opened the flow: not always the sender of the first packet that the capture shows."""
        row = record.row
        if row.syn_side >= 0:
            return int(row.syn_side)
        if transport in ICMP_REPLIES:
            return int(self.begins_with_reply(record, transport))
        if transport not in PORTED:
            return 0
        if MERGED_PORT in (row.port0, row.port1):
            return int(row.port1 == MERGED_PORT)
        protocols_of_ports = tuple(self.services.get((transport, port)) for port in (row.port0, row.port1))
        if (protocols_of_ports[0] is None) != (protocols_of_ports[1] is None):
            return int(protocols_of_ports[1] is None)
        if protocols_of_ports[0] is not None:
            content = CONTENT_PROTOCOLS.get(row.content)
            if protocols_of_ports.count(content) == 1:
                return 1 - protocols_of_ports.index(content)
        return int(row.port0 < 1024 <= row.port1)

    def begins_with_reply(self, record: FlowRecord, transport: str) -> bool:
        """Whether the first ICMP message is a reply: its request was sent before the capture."""
        first = next((piece for piece in record.pieces if not piece.error), None)
        return first is not None and first.kept > 0 and self.flows.arena[first.arena] in ICMP_REPLIES[transport]

    def dissect(self, record: FlowRecord, head: Head, side: int, content_class: int) -> Dissection:
        """The dissection of a flow, or that of an earlier flow with the same content."""
        client_port, service_port = head.ports
        # Content may mean something else at another service, and if the client uses the port of a service.
        key = content_class, head.transport, side, service_port, client_port if client_port < 1024 else 0
        known = self.dissections.get(key) if content_class >= 0 else None
        if known is not None and not known.parse_errors:
            return protocols.with_items_of(known, head, self.recall)
        limit = protocols.NO_LIMIT if self.message_count < MAX_MESSAGES else FEW_MESSAGES
        dissection = protocols.dissect(self.loaded(head, record, side), limit, self.recall)
        kept = isinstance(dissection.items, tuple)
        if kept:
            self.message_count += len(dissection.items)
        if not kept or self.message_count > MAX_KEPT_MESSAGES:
            dissection = protocols.with_items_of(dissection, head, self.recall)
        if content_class >= 0:
            self.dissections[key] = dissection
        return dissection

    def loaded(self, head: Head, record: FlowRecord, side: int) -> Head:
        """A head with datagrams and streams that are read from the record, not once more from the table."""
        transport, ports, streams, datagrams, link, associations, secure = head
        if transport != "tcp":
            datagrams = self.flows.decode_datagrams(record.pieces, side)
            return Head(transport, ports, streams, datagrams, link, associations)
        sent, received = record.streams[side], record.streams[1 - side]
        if sent is None or received is None:
            return head
        sender, receiver = record.sides[side], record.sides[1 - side]
        streams = (
            make_stream(sent, LazyMarks(streams, Direction.ORIGINATOR), bool(sender.begins), sender.ending),
            make_stream(received, LazyMarks(streams, Direction.RESPONDER), bool(receiver.begins), receiver.ending),
        )
        return Head(transport, ports, streams, datagrams, link, associations, secure)

    def icmp_errors(self, record: FlowRecord, side: int) -> tuple[IcmpError, ...]:
        """The kept ICMP errors that quote the flow (RFC 792; RFC 4443, section 3)."""
        found = []
        for piece in record.pieces:
            if not piece.error or piece.offset + 2 > piece.kept:
                continue
            packet = self.flows.payload(piece.arena, piece.kept)
            if packet[0] >> 4 == 4:
                sender = socket.inet_ntop(socket.AF_INET, packet[12:16])
            else:
                sender = socket.inet_ntop(socket.AF_INET6, packet[8:24])
            kind, code = packet[piece.offset : piece.offset + 2]
            frame = Frame(piece.capture, piece.frame)
            found.append(IcmpError(kind, code, sender, frame, piece.time, Direction(piece.side ^ side)))
        return tuple(found)

    def odd_packets(self, record: FlowRecord, side: int) -> tuple[OddPackets, ...]:
        """The oddities of a flow's packets; ``side``: the originator's."""
        found = []
        for event in self.flows.events_of(record.flow, side):
            if event.kind == ODD_PACKET:
                sender = record.sides[event.direction ^ side]
                oddity = Oddity(event.value)
                size = {Oddity.SURPLUS: sender.surplus, Oddity.TAIL: sender.tail}.get(oddity, 0)
                found.append(OddPackets(oddity, event.direction, size, event.frame))
        return tuple(found)

    def notes(self, row: Row) -> tuple[str, ...]:
        """The notes of a flow: those of the slow path, and what the flow table shows."""
        notes = self.flows.notes[row.note] if row.note >= 0 else ()
        if row.vlan >= 0 and f"vlan {row.vlan}" not in notes:
            notes = (f"vlan {row.vlan}", *notes)
        if MERGED_PORT in (row.port0, row.port1):
            notes = (*notes, FOLDED)
        return notes

    def repeat_frames(self, repeats: npt.NDArray[np.intp], refused: bool) -> tuple[Frame, ...]:
        """See :attr:`Conversation.repeat_frames`."""
        shown = self.flows.flow[repeats[:REPEAT_FRAMES]]
        frames = [*zip(shown["first_capture"].tolist(), shown["first_frame"].tolist(), strict=True)]
        if refused:
            frames += zip(shown["reset_capture"].tolist(), shown["reset_frame"].tolist(), strict=True)
        return tuple(map(Frame._make, frames))


def port_of(port: int, transport: str) -> int | None:
    """A port of the flow table, which is an identifier for ICMP, and negative if there is none."""
    return port if port >= 0 and transport in PORTED else None


def acknowledged_bytes(side: Side) -> int:
    """Bytes of the other side that a side acknowledged after its first acknowledgement, modulo 2 to the 32."""
    return int(side.acknowledged_to - side.first_acknowledged) & 0xFFFFFFFF


def same_port(row: Row, transport: str) -> bool:
    """Whether both ends use one port, as NTP servers among themselves do: the first packet seen may be a reply."""
    return transport in PORTED and row.port0 == row.port1


def connection_state(row: Row, originator: Side, responder: Side, side: int, errors: tuple[IcmpError, ...]) -> State:
    """The :class:`State` of a flow; ``side`` is the originator's."""
    unreachable = bool(errors) and any(error.quoted is Direction.ORIGINATOR and error.unreachable for error in errors)
    if row.protocol != TCP:
        if originator.packets and responder.packets:
            return State.TWOWAY
        return State.REJECTED if unreachable else State.ONEWAY
    if row.syn_side < 0:
        return State.MIDSTREAM
    if originator.acknowledged or responder.acknowledged:
        return State.ESTABLISHED
    refused = row.reset_side == 1 - side and not responder.flags & SYN
    return State.REJECTED if refused or unreachable else State.ATTEMPTED


def format_address(high: int, low: int, version: int) -> str:
    """Canonical text (RFC 5952) of an address of the flow table, where IPv4 is mapped into IPv6.

    ``version`` is that of the packets: IPv6 may carry an IPv4-mapped address: ``::ffff:10.0.0.1``.
    """
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, (low & 0xFFFFFFFF).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, high.to_bytes(8, "big") + low.to_bytes(8, "big"))


def format_mac(number: int) -> str | None:
    """Lower case with colons; ``None`` for -1, which stands for a frame without link-layer address."""
    return None if number < 0 else ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))
