"""Flows: every packet of the captures in its conversation, as columns of numbers, with the heads that were kept.

:func:`read` drives the compiled kernel of :mod:`analyzer.scanner` over all files: it fills the buffer, makes room,
takes in what stands between packets, and carries rare packets over the slow path. Memory follows flows.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from analyzer.capture.model import CaptureFile
from analyzer.capture.timeline import chronological
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
    Stream,
    cache_last,
)
from analyzer.scanner import columns, kernels
from analyzer.scanner.decapsulation import CUT, ethertype_name
from analyzer.scanner.driver import BUFFER_BYTES, Records, Scan, secret
from analyzer.wire import UNBOUNDED

Progress = Callable[[int], object]
"""Told how much of a stage was done since the last call: of reading, bytes on disk."""

TRANSPORTS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp", 58: "icmpv6"}


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """What became of every packet of the captures; the parts add up to ``packets``."""

    packets: int
    in_flows: int
    icmp_errors: int
    """ICMP errors, counted with the flow that they quote."""
    copies: int
    """Packets that were captured before, on another interface; they count once, in their flow."""
    not_ip: dict[str, int]
    """Frames that carry no IP, by Ethernet type or link protocol."""
    unreadable: dict[str, int]
    """Frames that are in no flow though they carry IP, or may, by reason."""
    folded_flows: int
    """Flows that stand for several because there were too many."""
    payload_dropped: int
    """Packets in flows of which payload was left out because too much was kept."""
    untracked_links: int
    """IEC 104 links of which only the heads are read because there were too many."""
    untracked_esp_packets: int
    """ESP packets that are counted under no SPI because there were too many SPIs."""
    truncated: int
    """Frames captured shorter than they were (also counted above)."""
    overlapping_datagrams: int
    """Datagrams with fragments that overlap, or reach past the largest datagram."""
    incomplete_datagrams: int
    """Fragmented datagrams that never became whole."""
    abandoned_datagrams: int
    """Incomplete datagrams that were given up early, because too many were waited for at a time."""


@dataclass(frozen=True, slots=True)
class Flows:
    """All flows of the captures. Columns have one entry a flow, in the order of first packets."""

    captures: tuple[CaptureFile, ...]
    flow: Records
    """Shape (n,), dtype :data:`analyzer.scanner.columns.FLOW`."""
    side: Records
    """Shape (n, 2), dtype :data:`analyzer.scanner.columns.SIDE`; side 0 sent the first packet."""
    counts: PacketCounts
    notes: tuple[tuple[str, ...], ...]
    """What the slow path peeled; ``flow["note"]`` is the index."""
    pieces: Records
    """Kept payload, by flow; dtype :data:`analyzer.scanner.columns.PIECE`."""
    starts: npt.NDArray[np.int64]
    """Shape (n + 1,): the pieces of flow i are ``pieces[starts[i]:starts[i + 1]]``."""
    arena: memoryview
    """All kept bytes."""
    links: Records
    """Dtype :data:`analyzer.scanner.columns.LINK`; ``flow["account"]`` is the index, of TCP."""
    lines: Records
    """Shape (links, 2), dtype :data:`analyzer.scanner.columns.LINE`."""
    associations: Records
    """Dtype :data:`analyzer.scanner.columns.ASSOCIATION`; ``flow["account"]`` is the index, of ESP."""
    events: Records
    """By flow; dtype :data:`analyzer.scanner.columns.EVENT`."""

    def __len__(self) -> int:
        return len(self.flow)

    def payload(self, offset: int, count: int) -> bytes:
        """Bytes of the arena."""
        return bytes(self.arena[offset : offset + count])

    def duplicate_groups(self, named: npt.NDArray[np.bool_]) -> DuplicateGroups:
        """Which flows repeat others. ``named``: shape (65536,), whether a port names a service."""
        count = len(self)
        speech, kind = np.zeros(count, np.int32), np.zeros(count, np.int32)
        kernels.liken(
            np.frombuffer(self.arena, np.uint8),
            self.flow,
            self.side.reshape(-1),
            self.pieces,
            self.starts,
            named,
            secret(),
            *(np.full(1 << (2 * count).bit_length(), -1, np.int32) for _ in range(2)),
            *(np.zeros(count, np.uint64) for _ in range(2)),
            *(np.zeros(columns.DATAGRAM_BYTES, np.uint8) for _ in range(2)),
            speech,
            kind,
        )
        return DuplicateGroups(speech, kind)

    def pieces_of(self, chosen: npt.NDArray[np.int64]) -> Iterator[list[Any]]:
        """For each of the flows with an index of ``chosen`` the list of its pieces, as tuples (see PIECE).

        Those of TCP are left out but where ICMP errors are among them: :meth:`streams_of` puts them together.
        """
        wanted = (self.flow["protocol"][chosen] != columns.TCP) | (self.flow["errors"][chosen] > 0)
        _, index, stops = self.places(chosen, wanted)
        pieces = self.pieces[index].tolist()
        return (pieces[one:two] for one, two in itertools.pairwise([0, *stops.tolist()]))

    def places(
        self, chosen: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The pieces of the flows with an index of ``chosen``, as far as these are ``wanted``.

        Of each piece the place of its flow in ``chosen`` and its own in ``pieces``; of each flow the end of its pieces.
        """
        starts = self.starts[chosen]
        counts = np.where(wanted, self.starts[chosen + 1] - starts, 0)
        stops = np.cumsum(counts)
        index = np.repeat(starts - stops + counts, counts) + np.arange(counts.sum())
        return np.repeat(np.arange(len(chosen)), counts), index, stops

    def streams_of(self, chosen: npt.NDArray[np.int64]) -> Iterator[tuple[bytes | None, bytes | None]]:
        """For each of the flows with an index of ``chosen`` what its sides 0 and 1 sent by TCP.

        ``None`` where bytes are missing or came twice: then :meth:`stream` has to look at every piece.
        """
        owner, index, _ = self.places(chosen, self.flow["protocol"][chosen] == columns.TCP)
        pieces = self.pieces[index]
        sender = np.where(pieces["error"], 2 * len(chosen), 2 * owner + pieces["side"])
        order = np.argsort(sender << 32 | pieces["offset"], kind="stable")
        sender, pieces = sender[order], pieces[order]
        stops = np.searchsorted(sender, np.arange(2 * len(chosen) + 1))
        arena, kept = pieces["arena"], pieces["kept"].astype(np.int64)
        before = np.cumsum(kept) - kept
        follows = pieces["offset"] == before - before[stops[sender]]
        broken = np.bincount(sender[~follows], minlength=2 * len(chosen)).tolist()
        parts = [self.arena[one:two] for one, two in zip(arena.tolist(), (arena + kept).tolist(), strict=True)]
        streams = (
            None if odd else b"".join(parts[one:two])
            for odd, (one, two) in zip(broken, itertools.pairwise(stops.tolist()), strict=False)
        )
        return zip(streams, streams, strict=True)

    def head(self, index: int, row: Any, originator: int, sides: tuple[Any, Any]) -> Head:
        """What was kept of a flow's payload; streams and datagrams are made when somebody asks for them.

        ``row`` is its record of FLOW, ``originator`` the side (0 or 1) that opened it, ``sides`` the records of SIDE
        of originator and responder.
        """
        transport = TRANSPORTS.get(row.protocol) or f"ip-{row.protocol}"
        ports = (row.port0, row.port1) if row.protocol in (columns.TCP, columns.UDP) else (0, 0)
        if originator:
            ports = ports[::-1]
        if transport == "tcp":
            link = self.link(index, row, originator, sides) if row.account >= 0 else None
            return Head(transport, ports, LazyStreams(self, index, originator), (), link)
        associations = self.associations_of(index, row.account, originator) if row.account >= 0 else ()
        datagrams = self.datagrams(index, originator) if self.starts[index] < self.starts[index + 1] else ()
        return Head(transport, ports, NO_STREAMS, datagrams, None, associations)

    def link(self, index: int, row: Any, originator: int, sides: tuple[Any, Any]) -> Iec104Link:
        """What was counted of an IEC 104 link (arguments as of :meth:`head`)."""
        link = self.links[row.account]
        one, two = self.lines[row.account]
        both = (two, one) if originator else (one, two)
        kinds = zip(link["kind"].tolist(), link["kind_count"].tolist(), strict=True)
        known = sorted(itertools.islice(kinds, int(link["kinds"])))
        return Iec104Link(
            directions=(line_of(both[0], sides[0]), line_of(both[1], sides[1])),
            startdt=DIRECTIONS[int(link["startdt"]) ^ originator] if link["startdt"] >= 0 else None,
            lrr_types=tuple((kind, count) for kind, count in known if kind < columns.STANDARD),
            type_ids=tuple((kind - columns.STANDARD, count) for kind, count in known if kind >= columns.STANDARD),
            other_kinds=int(link["other_kinds"]),
            lrr_ids=tuple(link["id"].tolist()[: int(link["ids"])]),
            other_ids=int(link["other_ids"]),
            silence=int(link["silence"]),
            silence_frame=Frame(int(link["silence_capture"]), int(link["silence_frame"])),
            last=row.last,
            events=self.events_of(index, originator),
        )

    def associations_of(self, index: int, newest: int, originator: int) -> tuple[Association, ...]:
        """What was counted of a flow's ESP packets, by SPI."""
        events = self.events_of(index, originator)
        found = []
        while newest >= 0:
            each = self.associations[newest]
            direction, spi = DIRECTIONS[int(each["side"]) ^ originator], int(each["spi"])
            found.append(
                Association(
                    direction=direction,
                    spi=spi,
                    folded=bool(each["folded"]),
                    packets=int(each["packets"]),
                    bytes=int(each["bytes"]),
                    first=int(each["first"]),
                    last=int(each["last"]),
                    highest=int(each["highest"]),
                    wraps=int(each["wraps"]),
                    copied=int(each["copied"]),
                    reused=int(each["reused"]),
                    replayed=int(each["replayed"]),
                    late=int(each["late"]),
                    remainders=tuple(each["remainders"].tolist()),
                    lengths=int.from_bytes(each["lengths"].astype("<u8").tobytes(), "little"),
                    first_frame=Frame(int(each["first_capture"]), int(each["first_frame"])),
                    last_frame=Frame(int(each["last_capture"]), int(each["last_frame"])),
                    first_time=int(each["first_time"]),
                    last_time=int(each["last_time"]),
                    events=tuple(one for one in events if (one.direction, one.offset) == (direction, spi)),
                )
            )
            newest = int(each["previous"])
        return tuple(reversed(found))

    def events_of(self, index: int, originator: int) -> tuple[Event, ...]:
        """What happened in a flow."""
        start, stop = np.searchsorted(self.events["flow"], (index, index + 1))
        return tuple(
            Event(kind, DIRECTIONS[side ^ originator], Frame(file, number), time, offset, value, other)
            for _, file, number, time, offset, value, other, side, kind in self.events[start:stop].tolist()
        )

    def datagrams(self, index: int, originator: int) -> Sequence[Datagram]:
        """The kept datagrams of a flow; ``originator`` is the side that opened it."""
        return LazyDatagrams(self, int(self.starts[index]), int(self.starts[index + 1]), originator)

    def datagrams_of(self, pieces: list[Any], originator: int) -> tuple[Datagram, ...]:
        """The datagrams that pieces are, as tuples (see PIECE)."""
        payload = self.payload
        return tuple(
            Datagram(
                DIRECTIONS[side ^ originator],
                payload(arena, kept),
                length if length >= 0 else UNBOUNDED,
                Frame(file, number),
                time,
            )
            for number, time, arena, _, file, _, length, kept, side, error in pieces
            if not error
        )

    def streams(self, index: int, originator: int) -> tuple[Stream, Stream]:
        """The streams of originator and responder of a TCP flow."""
        halves: tuple[list[Any], list[Any]] = ([], [])
        for piece in self.pieces[self.starts[index] : self.starts[index + 1]].tolist():
            if not piece[9]:
                halves[piece[8] ^ originator].append(piece)
        begins, endings = self.side["begins"][index].tolist(), self.side["ending"][index].tolist()
        one, two = originator, 1 - originator
        return (
            self.stream(bool(begins[one]), endings[one], halves[0]),
            self.stream(bool(begins[two]), endings[two], halves[1]),
        )

    def stream(self, begins: bool, ending: int, pieces: list[Any]) -> Stream:
        """Put the pieces of one TCP direction together, up to the first gap. Of overlapping bytes the first win."""
        arrived = pieces
        pieces = sorted(pieces, key=itemgetter(5))
        parts: list[memoryview] = []
        marks: list[Mark] = []
        size = 0
        for number, time, arena, _, file, offset, _, kept, _, _ in pieces:
            if offset > size:
                break
            if offset < size:
                data, marks = self.overlapping(arrived)
                return stream_of(data, marks, begins, ending)
            if kept:
                marks.append(Mark(size, Frame(file, number), time))
                parts.append(self.arena[arena : arena + kept])
                size += kept
        return stream_of(b"".join(parts), marks, begins, ending)

    def overlapping(self, pieces: list[Any]) -> tuple[bytes, list[Mark]]:
        """The same of pieces in the order of their arrival, of which some say the same bytes, or other ones."""
        end = max(offset + kept for _, _, _, _, _, offset, _, kept, _, _ in pieces)
        data = np.zeros(end, np.uint8)
        owner = np.full(end, -1, np.int32)
        for index in range(len(pieces) - 1, -1, -1):
            _, _, arena, _, _, offset, _, kept, _, _ = pieces[index]
            data[offset : offset + kept] = np.frombuffer(self.payload(arena, kept), np.uint8)
            owner[offset : offset + kept] = index
        gaps = np.flatnonzero(owner < 0)
        size = int(gaps[0]) if len(gaps) else end
        borders = [0, *(np.flatnonzero(np.diff(owner[:size])) + 1).tolist()]
        found = [(at, pieces[owner[at]]) for at in borders]
        return data[:size].tobytes(), [Mark(at, Frame(piece[4], piece[0]), piece[1]) for at, piece in found]

    def errors(self, pieces: list[Any]) -> list[tuple[int, bytes, int, Frame, int]]:
        """ICMP errors among a flow's pieces.

        Of each: side that sent the quoted packet, IP packet, offset of the ICMP message in it, frame, time in ns.
        """
        return [
            (side, self.payload(arena, kept), offset, Frame(file, number), time)
            for number, time, arena, _, file, offset, _, kept, side, error in pieces
            if error
        ]


def stream_of(data: bytes, marks: Sequence[Mark], begins: bool, ending: int) -> Stream:
    """A stream whose last byte stands before ``ending`` (see SIDE)."""
    return Stream(data, marks, begins, ending == len(data) and (begins or ending > 0))


@dataclass(frozen=True, slots=True)
class DuplicateGroups:
    """Which flows repeat others (see :func:`analyzer.scanner.kernels.liken`). Shape of the columns: (flows,)."""

    content_class: npt.NDArray[np.int32]
    """The first flow that says the same as this one."""
    duplicate_class: npt.NDArray[np.int32]
    """The first flow of those that also goes between the same hosts, to the same service, and ended the same way."""


class LazyStreams(LazySequence[Stream]):
    """Both streams of a TCP flow: most are looked at once, and there are very many."""

    __slots__ = ("__weakref__", "flow", "flows", "originator")

    def __init__(self, flows: Flows, flow: int, originator: int) -> None:
        self.flows = flows
        self.flow = flow
        self.originator = originator

    def load(self) -> tuple[Stream, Stream]:
        return reassemble(self)


@cache_last
def reassemble(each: LazyStreams) -> tuple[Stream, Stream]:
    return each.flows.streams(each.flow, each.originator)


class Marks(LazySequence[Mark]):
    """The marks of one of these streams, of which the bytes are at hand."""

    __slots__ = ("direction", "streams")

    def __init__(self, streams: Sequence[Stream], direction: Direction) -> None:
        self.streams = streams
        self.direction = direction

    def load(self) -> Sequence[Mark]:
        return self.streams[self.direction].marks


class LazyDatagrams(LazySequence[Datagram]):
    """A flow's datagrams, made anew each time."""

    __slots__ = ("flows", "originator", "start", "stop")

    def __init__(self, flows: Flows, start: int, stop: int, originator: int) -> None:
        self.flows = flows
        self.start = start
        self.stop = stop
        self.originator = originator

    def load(self) -> tuple[Datagram, ...]:
        return self.flows.datagrams_of(self.flows.pieces[self.start : self.stop].tolist(), self.originator)

    def __len__(self) -> int:
        return self.stop - self.start - int(np.count_nonzero(self.flows.pieces["error"][self.start : self.stop]))


LINE_COUNTS = LinkDirection._fields[LinkDirection._fields.index("size") :]
"""Fields of a line that are columns of the same name."""


def line_of(line: Records, side: Any) -> LinkDirection:
    """One direction of a link; ``side`` is its record of SIDE."""
    ended = side.ending >= 0 and side.ending == line["offset"]
    size, apdus, i_frames, s_frames, functions, *counts = line[[*LINE_COUNTS]].tolist()
    return LinkDirection(
        bool(line["based"]) and (bool(line["whole"]) or not side.begins),
        bool(ended and line["synchronised"] and not line["doubt"] and (line["left"] or line["gathered"])),
        int(line["offset"]),
        int(line["began"]),
        Frame(int(line["began_capture"]), int(line["began_frame"])),
        int(line["began_time"]),
        size,
        apdus,
        i_frames,
        s_frames,
        tuple(functions.tolist()),
        *counts,
    )


NO_STREAMS = (Stream(), Stream())


def read(paths: Sequence[str], progress: Progress | None = None, buffer_size: int = BUFFER_BYTES) -> Flows:
    """Read capture files as one timeline. :class:`CaptureError` for the first that is not a capture."""
    scan = Scan(buffer_size, progress)
    files: dict[int, CaptureFile] = {}
    for number in chronological(paths):
        files[number] = scan.file(number, paths[number])
    scan.finish()
    return flow_table(scan, tuple(files[number] for number in range(len(paths))))


def flow_table(scan: Scan, captures: tuple[CaptureFile, ...]) -> Flows:
    """The flows of a finished scan, with everything that belongs to a flow next to each other."""
    clock = scan.clock[0]
    count = int(clock["flows"])
    flow = scan.flow[:count]
    pieces = scan.pieces[: int(clock["pieces"])]
    pieces = pieces[np.argsort(pieces["flow"], kind="stable")]
    starts = np.searchsorted(pieces["flow"], np.arange(count + 1)).astype(np.int64)
    events = scan.events[: int(clock["events"])]
    return Flows(
        captures,
        flow,
        scan.side[: 2 * count].reshape(count, 2),
        packet_counts(scan),
        tuple(scan.noted),
        pieces,
        starts,
        scan.arena[: int(clock["arena"])].data,
        scan.links[: int(clock["links"])],
        scan.lines[: 2 * int(clock["links"])].reshape(-1, 2),
        scan.associations[: int(clock["associations"])],
        events[np.argsort(events["flow"], kind="stable")],
    )


def packet_counts(scan: Scan) -> PacketCounts:
    """Packet accounting of a finished scan."""
    clock, flow = scan.clock[0], scan.flow[: int(scan.clock["flows"][0])]
    not_ip, unreadable = Counter(scan.not_ip), Counter(scan.unreadable)
    for ethertype in np.flatnonzero(scan.ethertypes).tolist():
        not_ip[ethertype_name(ethertype)] += int(scan.ethertypes[ethertype])
    if clock["cut"]:
        unreadable[CUT] += int(clock["cut"])
    if clock["unfollowed"]:
        unreadable["too many flows to follow"] += int(clock["unfollowed"])
    if clock["broken"]:
        unreadable["contradictory IP header"] += int(clock["broken"])
    return PacketCounts(
        scan.total,
        int(clock["in_flows"]),
        int(clock["in_errors"]),
        int(clock["copies"]),
        dict(sorted(not_ip.items())),
        dict(sorted(unreadable.items())),
        int(np.count_nonzero((flow["port0"] == columns.FOLDED) | (flow["port1"] == columns.FOLDED))),
        int(clock["unkept"]),
        int(np.count_nonzero((flow["account"] == columns.UNFOLLOWED) & (flow["protocol"] == columns.TCP))),
        int(clock["esp_unfollowed"]),
        int(clock["snapped"]),
        scan.fragments.overlapping,
        scan.fragments.incomplete,
        scan.fragments.abandoned,
    )
