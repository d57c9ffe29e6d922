"""The flow table: every packet of the captures in its flow, as numpy columns, with the payload that was kept.

:func:`read` scans capture files into a :class:`Flows`. Payload stays where the scanner put it, as offsets and lengths;
:meth:`Flows.records` turns many flows at once into Python values, and :meth:`Flows.head` gives a dissector the payload
of one. Memory is O(flows), not O(packets).
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analyzer.capture.model import CaptureFile
from analyzer.capture.timeline import chronological
from analyzer.dataclass import dataclass
from analyzer.heads import (
    DIRECTIONS,
    Association,
    Datagram,
    Direction,
    Event,
    Frame,
    Head,
    Iec104Link,
    LazySequence,
    LinkDirection,
    Mark,
    SecureConnection,
    SecureDirection,
    Stream,
    cache_last,
)
from analyzer.scanner import columns, kernels
from analyzer.scanner.decapsulation import HEADERS_TRUNCATED
from analyzer.scanner.driver import BUFFER_BYTES, Records, Scan, random_factors
from analyzer.scanner.layer_names import ethertype_name
from analyzer.timeline import Run, RunKind, Timeline
from analyzer.wire import UNBOUNDED

Indexes = npt.NDArray[np.int64]

Progress = Callable[[int], object]
"""Called with how much of a stage was done since the last call; while reading, in bytes on disk."""

TRANSPORTS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp", 58: "icmpv6"}

SIDE_COLUMNS = [
    *("packets", "bytes", "copies", "payload", "retransmitted"),
    *("mac", "destination_mac", "time_to_live", "ending", "flags", "begins", "acknowledged"),
    *("contiguous", "newest", "peer_payload", "first_acknowledged", "acknowledged_to"),
    *("unlike", "mismatched", "rapid"),
    *("odd", "surplus", "tail"),
]
"""Columns of :data:`analyzer.scanner.columns.SIDE` that conversations need; the others are state of the scanner."""

if TYPE_CHECKING:
    Row = Any
    Side = Any
    Piece = Any
    Stray = Any
else:
    Row = namedtuple("Row", columns.FLOW.names)
    """A record of :data:`analyzer.scanner.columns.FLOW` as Python numbers."""
    Side = namedtuple("Side", SIDE_COLUMNS)
    """The :data:`SIDE_COLUMNS` of a record of :data:`analyzer.scanner.columns.SIDE` as Python numbers."""
    Piece = namedtuple("Piece", columns.PIECE.names)
    """A record of :data:`analyzer.scanner.columns.PIECE` as Python numbers."""
    Stray = namedtuple("Stray", columns.STRAY.names)
    """A record of :data:`analyzer.scanner.columns.STRAY` as Python numbers."""


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """Packet accounting of the captures.

    ``in_flows``, ``icmp_errors``, ``copies``, ``not_ip`` and ``unreadable`` add up to ``packets``.
    """

    packets: int
    in_flows: int
    icmp_errors: int
    """ICMP errors, accounted to the flow that they quote."""
    copies: int
    """Packets that were captured before, on another interface or a mirror port: counted here only."""
    not_ip: dict[str, int]
    """Frames without IP, by Ethernet type or link protocol."""
    unreadable: dict[str, int]
    """Frames that carry IP, or may, and are in no flow; by reason."""
    folded_flows: int
    """Flows that stand for several, because there were too many flows."""
    payload_dropped: int
    """Packets whose payload was not kept, because too much was kept before."""
    unlike_dropped: int
    """Of the packets with payload that was not kept, datagrams unlike all that were kept before."""
    untracked_links: int
    """IEC 104 links of which only the heads are read, because there were too many links."""
    untracked_esp_packets: int
    """ESP packets accounted to no SPI, because there were too many SPIs."""
    truncated: int
    """Frames captured shorter than they were; also counted above."""
    overlapping_datagrams: int
    """Datagrams with fragments that overlap or reach past the largest datagram."""
    incomplete_datagrams: int
    """Fragmented datagrams that never became complete."""
    abandoned_datagrams: int
    """Incomplete datagrams given up early, because too many were pending."""


class FrameKind(enum.Enum):
    """What frames are that belong to no flow."""

    HOUSEKEEPING = columns.NEIGHBOURLY
    """ARP, LLDP, 802.1X, spanning trees and the like, by destination, size and content."""
    MISUSED = columns.MISUSED
    """Of a type of housekeeping, but not like it."""
    OTHER = columns.OTHER_TYPE
    """Any other Ethernet type."""
    UNREADABLE = columns.UNREADABLE
    """A header contradicts itself or is truncated."""


class StrayFrames(NamedTuple):
    """Frames in no flow that agree in their ends, type and kind."""

    kind: FrameKind
    name: str
    """What the frames carry: ``ARP``, ``Ethernet type 0x88b5``."""
    macs: tuple[int, int]
    """Source and destination; -1: none."""
    addresses: tuple[bytes, bytes] | None
    """IP addresses of source and destination, where the frames show any."""
    packets: int
    bytes: int
    """Frame lengths on the wire."""
    first_frame: Frame
    time: int
    """Of the first frame, nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class DuplicateGroups:
    """Groups of flows that repeat each other, see :func:`analyzer.scanner.kernels.find_duplicates`.

    Shape of the columns: (flows,).
    """

    content_class: npt.NDArray[np.int32]
    """Index of the first flow with the same content."""
    duplicate_class: npt.NDArray[np.int32]
    """Index of the first flow with the same content, hosts, service and outcome."""


class FlowRecord(NamedTuple):
    """One flow as Python values."""

    flow: int
    """Index in the flow table."""
    row: Row
    sides: tuple[Side, Side]
    """Side 0 sent the first packet."""
    pieces: list[Piece]
    """Kept payload in the order of the capture; for TCP only if ICMP errors are among it."""
    streams: tuple[bytes | None, bytes | None]
    """TCP: what sides 0 and 1 sent; ``None`` if bytes are missing or came twice (see :meth:`Flows.reassemble`)."""


@dataclass(frozen=True, slots=True)
class Flows:
    """All flows of the captures. Columns have one entry per flow, in the order of first packets."""

    captures: tuple[CaptureFile, ...]
    flow: Records
    """Shape (n,), dtype :data:`analyzer.scanner.columns.FLOW`."""
    side: Records
    """Shape (n, 2), dtype :data:`analyzer.scanner.columns.SIDE`; side 0 sent the first packet."""
    counts: PacketCounts
    timeline: Timeline
    notes: tuple[tuple[str, ...], ...]
    """Combinations of notes of the slow path; ``flow["note"]`` is an index into it."""
    pieces: Records
    """Kept payload, by flow; dtype :data:`analyzer.scanner.columns.PIECE`."""
    piece_starts: Indexes
    """Shape (n + 1,): the pieces of flow i are ``pieces[piece_starts[i]:piece_starts[i + 1]]``."""
    arena: memoryview
    """The bytes of all pieces."""
    links: Records
    """Dtype :data:`analyzer.scanner.columns.LINK`; for TCP ``flow["tracking"]`` is an index into it."""
    link_directions: Records
    """Shape (links, 2), dtype :data:`analyzer.scanner.columns.LINK_DIRECTION`: both directions of each link."""
    associations: Records
    """Dtype :data:`analyzer.scanner.columns.ASSOCIATION`; for ESP ``flow["tracking"]`` is an index into it."""
    secure_streams: Records
    """Shape (connections, 2), dtype :data:`analyzer.scanner.columns.SECURE_STREAM`; ``flow["secure"]`` is twice the
    index of a connection."""
    secure_notable: npt.NDArray[np.bool_]
    """Shape (connections,): whether the scanner found in it what it does not find in a sound one."""
    events: Records
    """By flow; dtype :data:`analyzer.scanner.columns.EVENT`."""
    strays: tuple[StrayFrames, ...]
    """Frames in no flow."""
    carried: Mapping[tuple[int, int, int], int]
    """Packets inside of tunnels: by the flow of the tunnel, their own flow and their side of it."""

    def __len__(self) -> int:
        return len(self.flow)

    def payload(self, offset: int, count: int) -> bytes:
        """Bytes of the arena."""
        return bytes(self.arena[offset : offset + count])

    def first_payloads(self, indexes: Indexes, size: int) -> list[bytes]:
        """Up to ``size`` bytes of the first kept payload of each flow; none if the first piece is an ICMP error."""
        if not len(self.pieces):
            return [b""] * len(indexes)
        starts = self.piece_starts[indexes]
        first = self.pieces[np.minimum(starts, len(self.pieces) - 1)]
        is_payload = (starts < self.piece_starts[indexes + 1]) & (first["error"] == 0)
        sizes = np.where(is_payload, np.minimum(first["kept"], size), 0)
        return [
            self.payload(offset, count) for offset, count in zip(first["arena"].tolist(), sizes.tolist(), strict=True)
        ]

    def distinct_payloads(self, indexes: Indexes, start: int, stop: int) -> set[bytes]:
        """The different bytes from ``start`` to ``stop`` of all kept pieces of flows."""
        _, places, _ = self.locate_pieces(indexes, np.ones(len(indexes), np.bool_))
        begins = self.pieces["arena"][places]
        ends = begins + np.minimum(self.pieces["kept"][places], stop)
        return {bytes(self.arena[one + start : two]) for one, two in zip(begins.tolist(), ends.tolist(), strict=True)}

    def duplicate_groups(self, service_ports: npt.NDArray[np.bool_]) -> DuplicateGroups:
        """Group the flows that repeat each other. ``service_ports``: shape (65536,), whether a port is a service's."""
        count = len(self)
        content_class, duplicate_class = np.zeros(count, np.int32), np.zeros(count, np.int32)
        kernels.find_duplicates(
            np.frombuffer(self.arena, np.uint8),
            self.flow,
            self.side.reshape(-1),
            self.pieces,
            self.piece_starts,
            service_ports,
            random_factors(),
            *(np.full(1 << (2 * count).bit_length(), -1, np.int32) for _ in range(2)),
            *(np.zeros(count, np.uint64) for _ in range(2)),
            *(np.zeros(columns.MAX_DATAGRAM_BYTES, np.uint8) for _ in range(2)),
            content_class,
            duplicate_class,
        )
        return DuplicateGroups(content_class, duplicate_class)

    # -- many flows at once -----------------------------------------------------------------------------------------

    def records(self, indexes: Indexes) -> Iterator[FlowRecord]:
        """The flows at ``indexes`` as Python values. One conversion per column is far faster than one per flow."""
        sides = self.side[SIDE_COLUMNS][indexes].tolist()
        fields = (
            indexes.tolist(),
            map(Row._make, self.flow[indexes].tolist()),
            ((Side._make(one), Side._make(two)) for one, two in sides),
            self.pieces_of(indexes),
            self.contiguous_streams(indexes),
        )
        return map(FlowRecord._make, zip(*fields, strict=True))

    def pieces_of(self, indexes: Indexes) -> Iterator[list[Piece]]:
        """The pieces of each flow at ``indexes``.

        Empty for TCP without ICMP errors: :meth:`contiguous_streams` joins these pieces.
        """
        wanted = (self.flow["protocol"][indexes] != columns.TCP) | (self.flow["errors"][indexes] > 0)
        _, places, stops = self.locate_pieces(indexes, wanted)
        pieces = list(map(Piece._make, self.pieces[places].tolist()))
        return (pieces[start:stop] for start, stop in itertools.pairwise([0, *stops.tolist()]))

    def locate_pieces(self, indexes: Indexes, wanted: npt.NDArray[np.bool_]) -> tuple[Indexes, Indexes, Indexes]:
        """Find the pieces of those flows at ``indexes`` that are ``wanted``.

        Returns for each piece the position of its flow in ``indexes`` and its own index in ``pieces``, and for each
        flow the end of its pieces among those found.
        """
        starts = self.piece_starts[indexes]
        counts = np.where(wanted, self.piece_starts[indexes + 1] - starts, 0)
        stops = np.cumsum(counts)
        places = np.repeat(starts - stops + counts, counts) + np.arange(counts.sum())
        return np.repeat(np.arange(len(indexes)), counts), places, stops

    def contiguous_streams(self, indexes: Indexes) -> Iterator[tuple[bytes | None, bytes | None]]:
        """What sides 0 and 1 of each TCP flow at ``indexes`` sent, joined for all flows at once.

        ``None`` if bytes are missing or came twice: then :meth:`reassemble` must look at every piece.
        """
        owner, places, _ = self.locate_pieces(indexes, self.flow["protocol"][indexes] == columns.TCP)
        pieces = self.pieces[places]
        senders = 2 * len(indexes)
        sender = np.where(pieces["error"], senders, 2 * owner + pieces["side"])
        order = np.argsort(sender << 32 | pieces["offset"], kind="stable")
        sender, pieces = sender[order], pieces[order]
        bounds = np.searchsorted(sender, np.arange(senders + 1))
        arena, kept = pieces["arena"], pieces["kept"].astype(np.int64)
        before = np.cumsum(kept) - kept
        follows = pieces["offset"] == before - before[bounds[sender]]
        broken = np.bincount(sender[~follows], minlength=senders).tolist()
        parts = [self.arena[start:stop] for start, stop in zip(arena.tolist(), (arena + kept).tolist(), strict=True)]
        streams = (
            None if gaps else b"".join(parts[start:stop])
            for gaps, (start, stop) in zip(broken, itertools.pairwise(bounds.tolist()), strict=False)
        )
        return zip(streams, streams, strict=True)

    # -- the head of one flow ---------------------------------------------------------------------------------------

    def head(self, record: FlowRecord, originator: int) -> Head:
        """The kept payload of a flow; streams and datagrams are loaded when they are used.

        ``originator`` is the side, 0 or 1, that opened the flow.
        """
        index, row = record.flow, record.row
        transport = transport_name(row.protocol)
        ports = (row.port0, row.port1) if row.protocol in (columns.TCP, columns.UDP) else (0, 0)
        if originator:
            ports = ports[::-1]
        if row.protocol == columns.TCP:
            link = self.link(record, originator) if row.tracking >= 0 else None
            secure = self.secure(record, originator) if row.secure >= 0 else None
            return Head(transport, ports, LazyStreams(self, index, originator), (), link, (), secure)
        associations = self.associations_of(index, row.tracking, originator) if row.tracking >= 0 else ()
        return Head(transport, ports, NO_STREAMS, self.datagrams(index, originator), None, associations)

    def link(self, record: FlowRecord, originator: int) -> Iec104Link:
        """The IEC 104 link of a TCP flow."""
        link = self.links[record.row.tracking]
        directions = self.link_directions[record.row.tracking]
        kinds = zip(link["kind"].tolist(), link["kind_count"].tolist(), strict=True)
        known = sorted(itertools.islice(kinds, int(link["kinds"])))
        one, two = originator, 1 - originator
        return Iec104Link(
            directions=(
                link_direction(directions[one], record.sides[one]),
                link_direction(directions[two], record.sides[two]),
            ),
            startdt=DIRECTIONS[int(link["startdt"]) ^ originator] if link["startdt"] >= 0 else None,
            lrr_types=tuple((kind, count) for kind, count in known if kind < columns.STANDARD_TYPE),
            type_ids=tuple(
                (kind - columns.STANDARD_TYPE, count) for kind, count in known if kind >= columns.STANDARD_TYPE
            ),
            other_kinds=int(link["other_kinds"]),
            lrr_ids=tuple(link["id"].tolist()[: int(link["ids"])]),
            other_ids=int(link["other_ids"]),
            silence=int(link["silence"]),
            silence_frame=Frame(int(link["silence_capture"]), int(link["silence_frame"])),
            last=record.row.last,
            events=self.events_of(record.flow, originator),
        )

    def secure(self, record: FlowRecord, originator: int) -> SecureConnection | None:
        """What the scanner found in a TLS or SSH connection, if it is notable."""
        connection = record.row.secure // 2
        if not self.secure_notable[connection]:
            return None
        streams = self.secure_streams[connection][[*SecureDirection._fields]].tolist()
        one, two = map(SecureDirection._make, streams[::-1] if originator else streams)
        return SecureConnection((one, two), self.events_of(record.flow, originator))

    def associations_of(self, index: int, newest: int, originator: int) -> tuple[Association, ...]:
        """The ESP associations of a flow; ``newest`` is the index of the one that was added last."""
        events = self.events_of(index, originator)
        found = []
        while newest >= 0:
            record = self.associations[newest]
            direction, spi = DIRECTIONS[int(record["side"]) ^ originator], int(record["spi"])
            found.append(
                Association(
                    direction=direction,
                    spi=spi,
                    folded=bool(record["folded"]),
                    packets=int(record["packets"]),
                    readable=int(record["readable"]),
                    bytes=int(record["bytes"]),
                    first=int(record["first"]),
                    last=int(record["last"]),
                    highest=int(record["highest"]),
                    wraps=int(record["wraps"]),
                    copied=int(record["copied"]),
                    reused=int(record["reused"]),
                    replayed=int(record["replayed"]),
                    late=int(record["late"]),
                    remainders=tuple(record["remainders"].tolist()),
                    short=tuple(record["short"].tolist()),
                    lengths=int.from_bytes(record["lengths"].astype("<u8").tobytes(), "little"),
                    first_frame=Frame(int(record["first_capture"]), int(record["first_frame"])),
                    last_frame=Frame(int(record["last_capture"]), int(record["last_frame"])),
                    first_time=int(record["first_time"]),
                    last_time=int(record["last_time"]),
                    events=tuple(event for event in events if (event.direction, event.offset) == (direction, spi)),
                )
            )
            newest = int(record["previous"])
        return tuple(reversed(found))

    def events_of(self, index: int, originator: int) -> tuple[Event, ...]:
        """The events of a flow."""
        start, stop = np.searchsorted(self.events["flow"], (index, index + 1))
        return tuple(
            Event(kind, DIRECTIONS[side ^ originator], Frame(file, number), time, offset, value, other)
            for _, file, number, time, offset, value, other, side, kind in self.events[start:stop].tolist()
        )

    # -- datagrams and streams --------------------------------------------------------------------------------------

    def flow_pieces(self, index: int) -> list[Piece]:
        """The pieces of a flow in the order of the capture."""
        records = self.pieces[self.piece_starts[index] : self.piece_starts[index + 1]]
        return list(map(Piece._make, records.tolist()))

    def datagrams(self, index: int, originator: int) -> Sequence[Datagram]:
        """The kept datagrams of a flow; ``originator`` is the side that opened it."""
        if self.piece_starts[index] == self.piece_starts[index + 1]:
            return ()
        return LazyDatagrams(self, index, originator)

    def decode_datagrams(self, pieces: Sequence[Piece], originator: int) -> tuple[Datagram, ...]:
        """The datagrams among the pieces of a flow; the other pieces are ICMP errors."""
        payload = self.payload
        return tuple(
            Datagram(
                DIRECTIONS[piece.side ^ originator],
                payload(piece.arena, piece.kept),
                piece.length if piece.length >= 0 else UNBOUNDED,
                Frame(piece.capture, piece.frame),
                piece.time,
            )
            for piece in pieces
            if not piece.error
        )

    def streams(self, index: int, originator: int) -> tuple[Stream, Stream]:
        """The streams of originator and responder of a TCP flow."""
        halves: tuple[list[Piece], list[Piece]] = ([], [])
        for piece in self.flow_pieces(index):
            if not piece.error:
                halves[piece.side].append(piece)
        begins, endings = self.side["begins"][index].tolist(), self.side["ending"][index].tolist()
        one, two = originator, 1 - originator
        return (
            self.reassemble(halves[one], bool(begins[one]), endings[one]),
            self.reassemble(halves[two], bool(begins[two]), endings[two]),
        )

    def reassemble(self, pieces: list[Piece], begins: bool, ending: int) -> Stream:
        """Join the pieces of one TCP direction up to the first gap. Of overlapping bytes the first to arrive win."""
        parts: list[memoryview] = []
        marks: list[Mark] = []
        size = 0
        for piece in sorted(pieces, key=attrgetter("offset")):
            if piece.offset > size:
                break
            if piece.offset < size:
                return make_stream(*self.reassemble_overlapping(pieces), begins, ending)
            if piece.kept:
                marks.append(Mark(size, Frame(piece.capture, piece.frame), piece.time))
                parts.append(self.arena[piece.arena : piece.arena + piece.kept])
                size += piece.kept
        return make_stream(b"".join(parts), marks, begins, ending)

    def reassemble_overlapping(self, pieces: list[Piece]) -> tuple[bytes, list[Mark]]:
        """Data and marks of overlapping pieces, given in the order of their arrival."""
        end = max(piece.offset + piece.kept for piece in pieces)
        data = np.zeros(end, np.uint8)
        owner = np.full(end, -1, np.int32)
        for index, piece in reversed(list(enumerate(pieces))):
            part = slice(piece.offset, piece.offset + piece.kept)
            data[part] = np.frombuffer(self.payload(piece.arena, piece.kept), np.uint8)
            owner[part] = index
        gaps = np.flatnonzero(owner < 0)
        size = int(gaps[0]) if len(gaps) else end
        starts = [0, *(np.flatnonzero(np.diff(owner[:size])) + 1).tolist()]
        owners = ((start, pieces[owner[start]]) for start in starts)
        marks = [Mark(start, Frame(piece.capture, piece.frame), piece.time) for start, piece in owners]
        return data[:size].tobytes(), marks


NO_STREAMS = (Stream(), Stream())


def transport_name(protocol: int) -> str:
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``esp`` or ``ip-<number>`` for an IP protocol number."""
    return TRANSPORTS.get(protocol) or f"ip-{protocol}"


def make_stream(data: bytes, marks: Sequence[Mark], begins: bool, ending: int) -> Stream:
    """A stream; ``ending`` is the offset after the last byte that was sent, -1 if unknown."""
    return Stream(data, marks, begins, ending == len(data) and (begins or ending > 0))


class LazyStreams(LazySequence[Stream]):
    """Both streams of a TCP flow. Most are used once, by several checks in a row."""

    __slots__ = ("__weakref__", "flow", "flows", "originator")

    def __init__(self, flows: Flows, flow: int, originator: int) -> None:
        self.flows = flows
        self.flow = flow
        self.originator = originator

    @cache_last
    def load(self) -> Sequence[Stream]:
        return self.flows.streams(self.flow, self.originator)


class LazyMarks(LazySequence[Mark]):
    """The marks of one of two lazy streams whose data are at hand."""

    __slots__ = ("direction", "streams")

    def __init__(self, streams: Sequence[Stream], direction: Direction) -> None:
        self.streams = streams
        self.direction = direction

    def load(self) -> Sequence[Mark]:
        return self.streams[self.direction].marks


class LazyDatagrams(LazySequence[Datagram]):
    """The datagrams of a flow."""

    __slots__ = ("flow", "flows", "originator")

    def __init__(self, flows: Flows, flow: int, originator: int) -> None:
        self.flows = flows
        self.flow = flow
        self.originator = originator

    def load(self) -> tuple[Datagram, ...]:
        return self.flows.decode_datagrams(self.flows.flow_pieces(self.flow), self.originator)

    def __len__(self) -> int:
        start, stop = self.flows.piece_starts[self.flow : self.flow + 2].tolist()
        return int(stop - start - np.count_nonzero(self.flows.pieces["error"][start:stop]))


COUNTED_FIELDS = LinkDirection._fields[LinkDirection._fields.index("size") :]
"""Fields of :class:`LinkDirection` that have columns of the same names in :data:`columns.LINK_DIRECTION`."""


def link_direction(record: Records, side: Side) -> LinkDirection:
    """One direction of an IEC 104 link."""
    ended = side.ending >= 0 and side.ending == record["offset"]
    size, apdus, i_frames, s_frames, functions, *counts = record[[*COUNTED_FIELDS]].tolist()
    return LinkDirection(
        bool(record["based"]) and (bool(record["from_start"]) or not side.begins),
        bool(
            ended
            and record["synchronised"]
            and not record["unconfirmed"]
            and (record["remaining"] or record["header_bytes"])
        ),
        int(record["offset"]),
        int(record["began"]),
        Frame(int(record["began_capture"]), int(record["began_frame"])),
        int(record["began_time"]),
        size,
        apdus,
        i_frames,
        s_frames,
        tuple(functions.tolist()),
        *counts,
    )


def read(paths: Sequence[str], progress: Progress | None = None, buffer_size: int = BUFFER_BYTES) -> Flows:
    """Read capture files as one timeline. Raises :class:`CaptureError` for the first that is no capture."""
    scan = Scan(buffer_size, progress)
    files: dict[int, CaptureFile] = {}
    for index in chronological(paths):
        files[index] = scan.scan_file(index, paths[index])
    scan.finish()
    return flow_table(scan, tuple(files[index] for index in range(len(paths))))


def flow_table(scan: Scan, captures: tuple[CaptureFile, ...]) -> Flows:
    """The flow table of a finished scan: pieces and events are sorted by flow."""
    state = scan.state[0]
    count, links = int(state["flows"]), int(state["links"])
    secure_streams = scan.secure_streams[: int(state["secure_streams"])].reshape(-1, 2)
    pieces = scan.pieces[: int(state["pieces"])]
    pieces = pieces[np.argsort(pieces["flow"], kind="stable")]
    events = scan.events[: int(state["events"])]
    return Flows(
        captures=captures,
        flow=scan.flow[:count],
        side=scan.side[: 2 * count].reshape(count, 2),
        counts=packet_counts(scan),
        timeline=Timeline(runs(state)),
        notes=tuple(scan.notes),
        pieces=pieces,
        piece_starts=np.searchsorted(pieces["flow"], np.arange(count + 1)).astype(np.int64),
        arena=scan.arena[: int(state["arena"])].data,
        links=scan.links[:links],
        link_directions=scan.link_directions[: 2 * links].reshape(-1, 2),
        associations=scan.associations[: int(state["associations"])],
        secure_streams=secure_streams,
        secure_notable=is_notable(secure_streams),
        events=events[np.argsort(events["flow"], kind="stable")],
        strays=tuple(stray_frames(scan.strays)),
        carried=scan.carried,
    )


def stray_frames(strays: Records) -> Iterator[StrayFrames]:
    """The frames in no flow, by their first frame."""
    used = strays[strays["packets"] > 0]
    for record in used[np.lexsort((used["frame"], used["capture"]))].tolist():
        stray = Stray._make(record)
        name = ethertype_name(stray.ethertype) if stray.ethertype else "IEEE 802.2 or another link protocol"
        addresses = None
        if stray.version:
            size = 4 if stray.version == 4 else 16
            source, destination = (
                (high << 64 | low).to_bytes(16, "big")[-size:]
                for high, low in (
                    (stray.source_high, stray.source_low),
                    (stray.destination_high, stray.destination_low),
                )
            )
            addresses = source, destination
        yield StrayFrames(
            FrameKind(stray.kind),
            name,
            (stray.source_mac, stray.destination_mac),
            addresses,
            stray.packets,
            stray.bytes,
            Frame(stray.capture, stray.frame),
            stray.time,
        )


LEAST_SAMPLED = 64
"""Bytes of ciphertext from which on their highest bits tell that they are none."""


def is_notable(streams: Records) -> npt.NDArray[np.bool_]:
    """Whether TLS and SSH connections hold what sound ones do not.

    ``streams``: shape (connections, 2); the result has shape (connections,).
    """
    sampled, high = streams["sampled"].astype(np.int64), streams["high"].astype(np.int64)
    notable: npt.NDArray[np.bool_] = (sampled >= LEAST_SAMPLED) & (8 * high < sampled)
    for name in ("clear", "short", "heartbeats", "breaks", "losses", "unread"):
        notable |= streams[name] > 0
    return notable[:, 0] | notable[:, 1]


def runs(state: Any) -> list[Run]:
    """The runs of packets of a finished scan."""
    count = min(int(state["runs"]), columns.MAX_RUNS)
    names = ("run_start", "run_end", "run_kind", "run_capture", "run_frame")
    fields = (state[name][:count].tolist() for name in names)
    return [
        Run(start, end, RunKind(kind), Frame(capture, frame))
        for start, end, kind, capture, frame in zip(*fields, strict=True)
    ]


def packet_counts(scan: Scan) -> PacketCounts:
    """Packet accounting of a finished scan."""
    state = scan.state[0]
    flow = scan.flow[: int(state["flows"])]
    not_ip, unreadable = Counter(scan.not_ip), Counter(scan.unreadable)
    for ethertype in np.flatnonzero(scan.ethertypes).tolist():
        not_ip[ethertype_name(ethertype)] += int(scan.ethertypes[ethertype])
    unreadable[HEADERS_TRUNCATED] += int(state["headers_truncated"])
    unreadable["too many flows to follow"] += int(state["untracked"])
    unreadable["contradictory IP header"] += int(state["malformed"])
    return PacketCounts(
        packets=scan.packet_count,
        in_flows=int(state["in_flows"]),
        icmp_errors=int(state["icmp_errors"]),
        copies=int(state["copies"]),
        not_ip=dict(sorted(not_ip.items())),
        unreadable={reason: count for reason, count in sorted(unreadable.items()) if count},
        folded_flows=int(
            np.count_nonzero((flow["port0"] == columns.MERGED_PORT) | (flow["port1"] == columns.MERGED_PORT))
        ),
        payload_dropped=int(state["payload_dropped"]),
        unlike_dropped=int(state["unlike_dropped"]),
        untracked_links=int(
            np.count_nonzero((flow["tracking"] == columns.UNTRACKED) & (flow["protocol"] == columns.TCP))
        ),
        untracked_esp_packets=int(state["esp_untracked"]),
        truncated=int(state["truncated"]),
        overlapping_datagrams=scan.reassembler.overlapping,
        incomplete_datagrams=scan.reassembler.incomplete,
        abandoned_datagrams=scan.reassembler.abandoned,
    )
