"""Flows: every packet of the captures in its conversation, as columns of numbers, with the heads that were kept.

:func:`read` drives the compiled kernel of :mod:`analyzer.scanner` over all files: it fills the buffer, makes room,
takes in what stands between packets, and carries rare packets over the slow path. Memory follows flows.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from analyzer import capture, scanner
from analyzer.capture import Blocks, CaptureError, CaptureFile, Framing, Source
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
    newest,
)
from analyzer.scanner.decapsulation import CUT, DEPTH, IP_PROTOCOLS, UDP_PORTS, ethertype_name, peel
from analyzer.scanner.fragments import OVERLAPPING, OVERSIZED, Carrier, Fragments, Packet, fragment_of
from analyzer.wire import UNBOUNDED

BUFFER = 1 << 21
"""Bytes read at a time."""

FLOWS = 1 << 18
"""Flows that are kept apart. Of further ones those between two hosts with one service are folded into one flow, whose
content is not read; a quarter as many again. What is then still new is counted only."""

PIECES, ARENA = 1 << 21, 1 << 28
"""Pieces of payload, and their bytes, that are kept of all flows together; that of further packets is left out."""

NOTES = 1 << 16
"""Different notes that are kept: tunnels can be made to differ with every packet."""

FLOW_NOTES = 16
"""Notes of one flow, likewise."""

RAW = 101
"""Link type of what a datagram put together is: an IP packet."""

Progress = Callable[[int], object]
"""Told how much of a stage was done since the last call: of reading, bytes on disk."""

Records = npt.NDArray[Any]

FRAMINGS = {"pcap": scanner.PCAP, "pcapng": scanner.PCAPNG, "snoop": scanner.SNOOP}

NO_INTERFACES: Records = np.zeros(1, scanner.INTERFACE)

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
    folded: int
    """Flows that stand for several because there were too many."""
    unkept: int
    """Packets in flows of which payload was left out because too much was kept."""
    unfollowed_links: int
    """IEC 104 links of which only the heads are read because there were too many."""
    unfollowed_esp: int
    """ESP packets that are counted under no SPI because there were too many SPIs."""
    snapped: int
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
    """Shape (n,), dtype :data:`analyzer.scanner.FLOW`."""
    side: Records
    """Shape (n, 2), dtype :data:`analyzer.scanner.SIDE`; side 0 sent the first packet."""
    counts: PacketCounts
    notes: tuple[tuple[str, ...], ...]
    """What the slow path peeled; ``flow["note"]`` is the index."""
    pieces: Records
    """Kept payload, by flow; dtype :data:`analyzer.scanner.PIECE`."""
    starts: npt.NDArray[np.int64]
    """Shape (n + 1,): the pieces of flow i are ``pieces[starts[i]:starts[i + 1]]``."""
    arena: memoryview
    """All kept bytes."""
    links: Records
    """Dtype :data:`analyzer.scanner.LINK`; ``flow["account"]`` is the index, of TCP."""
    lines: Records
    """Shape (links, 2), dtype :data:`analyzer.scanner.LINE`."""
    associations: Records
    """Dtype :data:`analyzer.scanner.ASSOCIATION`; ``flow["account"]`` is the index, of ESP."""
    events: Records
    """By flow; dtype :data:`analyzer.scanner.EVENT`."""

    def __len__(self) -> int:
        return len(self.flow)

    def payload(self, offset: int, count: int) -> bytes:
        """Bytes of the arena."""
        return bytes(self.arena[offset : offset + count])

    def alike(self, named: npt.NDArray[np.bool_]) -> DuplicateGroups:
        """Which flows repeat others. ``named``: shape (65536,), whether a port names a service."""
        count = len(self)
        speech, kind = np.zeros(count, np.int32), np.zeros(count, np.int32)
        scanner.liken(
            np.frombuffer(self.arena, np.uint8),
            self.flow,
            self.side.reshape(-1),
            self.pieces,
            self.starts,
            named,
            secret(),
            *(np.full(1 << (2 * count).bit_length(), -1, np.int32) for _ in range(2)),
            *(np.zeros(count, np.uint64) for _ in range(2)),
            *(np.zeros(scanner.DATAGRAM_BYTES, np.uint8) for _ in range(2)),
            speech,
            kind,
        )
        return DuplicateGroups(speech, kind)

    def pieces_of(self, chosen: npt.NDArray[np.int64]) -> Iterator[list[Any]]:
        """For each of the flows with an index of ``chosen`` the list of its pieces, as tuples (see PIECE).

        Those of TCP are left out but where ICMP errors are among them: :meth:`streams_of` puts them together.
        """
        wanted = (self.flow["protocol"][chosen] != scanner.TCP) | (self.flow["errors"][chosen] > 0)
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
        owner, index, _ = self.places(chosen, self.flow["protocol"][chosen] == scanner.TCP)
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
        ports = (row.port0, row.port1) if row.protocol in (scanner.TCP, scanner.UDP) else (0, 0)
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
            lines=(line_of(both[0], sides[0]), line_of(both[1], sides[1])),
            startdt=DIRECTIONS[int(link["startdt"]) ^ originator] if link["startdt"] >= 0 else None,
            lrr_types=tuple((kind, count) for kind, count in known if kind < scanner.STANDARD),
            type_ids=tuple((kind - scanner.STANDARD, count) for kind, count in known if kind >= scanner.STANDARD),
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
    """Which flows repeat others (see :func:`analyzer.scanner.liken`). Shape of the columns: (flows,)."""

    speech: npt.NDArray[np.int32]
    """The first flow that says the same as this one."""
    kind: npt.NDArray[np.int32]
    """The first flow of those that also goes between the same hosts, to the same service, and ended the same way."""


def secret() -> npt.NDArray[np.uint64]:
    """Odd factors for hashes, other ones in each run, so that no capture can be made to collide."""
    return np.frombuffer(os.urandom(24), np.uint64) | np.uint64(1)


class LazyStreams(LazySequence[Stream]):
    """Both streams of a TCP flow: most are looked at once, and there are very many."""

    __slots__ = ("__weakref__", "flow", "flows", "originator")

    def __init__(self, flows: Flows, flow: int, originator: int) -> None:
        self.flows = flows
        self.flow = flow
        self.originator = originator

    def made(self) -> tuple[Stream, Stream]:
        return reassemble(self)


@newest
def reassemble(each: LazyStreams) -> tuple[Stream, Stream]:
    return each.flows.streams(each.flow, each.originator)


class Marks(LazySequence[Mark]):
    """The marks of one of these streams, of which the bytes are at hand."""

    __slots__ = ("direction", "streams")

    def __init__(self, streams: Sequence[Stream], direction: Direction) -> None:
        self.streams = streams
        self.direction = direction

    def made(self) -> Sequence[Mark]:
        return self.streams[self.direction].marks


class LazyDatagrams(LazySequence[Datagram]):
    """A flow's datagrams, made anew each time."""

    __slots__ = ("flows", "originator", "start", "stop")

    def __init__(self, flows: Flows, start: int, stop: int, originator: int) -> None:
        self.flows = flows
        self.start = start
        self.stop = stop
        self.originator = originator

    def made(self) -> tuple[Datagram, ...]:
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


def read(paths: Sequence[str], progress: Progress | None = None, buffer_size: int = BUFFER) -> Flows:
    """Read capture files as one timeline. :class:`CaptureError` for the first that is not a capture."""
    scan = Scan(buffer_size, progress)
    files: dict[int, CaptureFile] = {}
    for number in capture.chronological(paths):
        files[number] = scan.file(number, paths[number])
    scan.finish()
    return scan.flows(tuple(files[number] for number in range(len(paths))))


ROOM = 1 << 15
"""Flows for which there is room at first, with some payload: a power of two. What is not used takes no memory."""


@dataclass(slots=True)
class Scan:
    """The arrays that the kernel fills, and their growth."""

    buffer_size: int = BUFFER
    progress: Progress | None = None
    clock: Records = field(default_factory=lambda: np.zeros(1, scanner.CLOCK))
    packets: Records = field(default_factory=lambda: np.zeros(2, scanner.PACKET))
    slots: Records = field(default_factory=lambda: np.full(2 * ROOM, -1, np.int32))
    flow: Records = field(default_factory=lambda: np.zeros(ROOM, scanner.FLOW))
    side: Records = field(default_factory=lambda: np.zeros(2 * ROOM, scanner.SIDE))
    pieces: Records = field(default_factory=lambda: np.zeros(4 * ROOM, scanner.PIECE))
    arena: Records = field(default_factory=lambda: np.zeros(512 * ROOM, np.uint8))
    links: Records = field(default_factory=lambda: np.zeros(1 << 6, scanner.LINK))
    lines: Records = field(default_factory=lambda: np.zeros(1 << 7, scanner.LINE))
    reorders: Records = field(default_factory=lambda: np.zeros(1 << 3, scanner.REORDER))
    associations: Records = field(default_factory=lambda: np.zeros(1 << 6, scanner.ASSOCIATION))
    events: Records = field(default_factory=lambda: np.zeros(1 << 8, scanner.EVENT))
    ethertypes: Records = field(default_factory=lambda: np.zeros(1 << 16, np.int64))
    tunnels: Records = field(default_factory=lambda: np.zeros(256 + (1 << 16), np.bool_))
    notes: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Index of each in ``noted``."""
    noted: list[tuple[str, ...]] = field(default_factory=list)
    not_ip: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    fragments: Fragments = field(default_factory=Fragments)
    total: int = 0
    """Packets of the files before this one."""

    def __post_init__(self) -> None:
        self.clock["secret"] = secret()
        self.clock["limit"] = FLOWS
        self.clock["pieces_limit"], self.clock["arena_limit"] = PIECES, ARENA
        self.tunnels[list(IP_PROTOCOLS)] = True
        self.tunnels[[256 + port for port in UDP_PORTS]] = True

    # -- one file -------------------------------------------------------------------------------------------

    def file(self, number: int, path: str) -> CaptureFile:
        """Account for all packets of one file."""
        source = Source(path)
        try:
            framing, begin = capture.recognise(source.path, source.peek())
            with Blocks(source, max(self.buffer_size, 64)) as blocks:
                return self.walk(number, source, framing, begin, blocks)
        finally:
            source.close()

    def walk(self, number: int, source: Source, framing: Framing, begin: int, blocks: Blocks) -> CaptureFile:
        clock = self.clock[0]
        clock["capture"], clock["frame"], clock["count_only"], clock["lost"] = number, 0, 0, 0
        clock["framing"] = FRAMINGS[framing.format]
        clock["interfaces"] = 0
        interfaces = self.announce(framing, np.zeros(1, scanner.INTERFACE))
        problems: list[str] = []
        buffer, position, filled = blocks.behind(begin)
        before = begin - position
        """Offset in the unpacked file of the buffer's first byte."""
        told = 0
        """Bytes on disk that were reported."""
        intact = -1
        """Offset at which the next block must be whole, for it stands behind a damaged one."""
        while True:
            clock["position"] = position
            outcome = self.scan(buffer, filled, interfaces)
            position = int(clock["position"])
            if outcome == scanner.SLOW:
                self.slow(buffer)
                continue
            if outcome != scanner.EMPTY:
                offset = before + position
                size, problem = capture.take_in(framing, buffer[position:filled].data)
                if problem is None:
                    interfaces = self.announce(framing, interfaces)
                else:
                    if framing.format == "pcapng" and not offset:
                        raise CaptureError(source.path, f"has a damaged section header: {problem}", 0)
                    damage = f"damage at byte {offset}: {problem}"
                    if not size or offset == intact or len(problems) == capture.PROBLEMS:
                        left = filled - position + blocks.drain()
                        problems.append(f"{damage}; the rest of the file, {left} bytes, was not read")
                        break
                    problems.append(f"{damage}; {size} bytes were skipped")
                    intact = offset + size
                if size:
                    position += size
                    continue
            offset, rest = before + position, buffer[position:filled]
            try:
                buffer, position, filled = blocks.after(rest)
            except CaptureError as error:
                if not int(clock["frame"]):
                    raise
                problems.append(str(error).removeprefix(f"{source.path}: "))
                break
            self.report(source.consumed - told)
            told = source.consumed
            if filled - position == len(rest):
                if len(rest):
                    problems.append(f"ends within a record at byte {offset}: {len(rest)} bytes are left over")
                break
            before = offset - position
        packets = int(clock["frame"])
        self.total += packets
        return CaptureFile(
            source.path,
            framing.format,
            packets,
            source.consumed,
            int(clock["first"]) if packets else None,
            int(clock["last"]) if packets else None,
            framing.digits,
            tuple(problems),
            framing.facts(source.compression, int(clock["lost"])),
        )

    def report(self, count: int) -> None:
        if self.progress:
            self.progress(count)

    def announce(self, framing: Framing, interfaces: Records) -> Records:
        """Tell the kernel what the file's headers said; the interfaces as an array, in which the known ones stand."""
        clock = self.clock[0]
        clock["little"] = framing.little
        clock["record_header"] = framing.record_header
        clock["swapped"] = framing.swapped
        clock["largest"] = capture.LARGEST_BLOCK if framing.format == "pcapng" else capture.LARGEST_RECORD
        known, count = int(clock["interfaces"]), len(framing.interfaces)
        if count < known:  # a new section
            known = 0
        clock["interfaces"] = count
        if count > len(interfaces):
            interfaces = np.concatenate((interfaces, np.zeros_like(interfaces)))
        for row, interface in zip(interfaces[known:], framing.interfaces[known:], strict=False):
            row["linktype"], row["snaplen"], row["offset"] = interface.linktype, interface.snaplen, interface.offset
            row["multiplier"], row["divisor"], row["bits"] = interface.ticks
            row["trailer"] = interface.frame_check
        if framing.format != "pcapng":
            clock["linktype"], clock["fraction"] = interfaces[0]["linktype"], interfaces[0]["multiplier"]
            clock["trailer"] = interfaces[0]["trailer"]
        return interfaces

    # -- the kernel -----------------------------------------------------------------------------------------

    def scan(self, buffer: Records, filled: int, interfaces: Records) -> int:
        """Run the kernel until it needs something other than room."""
        while True:
            outcome = int(
                scanner.scan(
                    buffer,
                    filled,
                    self.packets,
                    interfaces,
                    self.tunnels,
                    self.slots,
                    self.flow,
                    self.side,
                    self.pieces,
                    self.arena,
                    self.ethertypes,
                    self.clock,
                    self.links,
                    self.lines,
                    self.reorders,
                    self.associations,
                    self.events,
                )
            )
            if outcome == scanner.FLOWS_FULL:
                self.flow, self.side = lengthened(self.flow), lengthened(self.side)
                self.slots = np.full(2 * len(self.slots), -1, np.int32)
                scanner.index(self.slots, self.flow, int(self.clock["flows"][0]), self.clock["secret"][0])
            elif outcome == scanner.PIECES_FULL:
                self.pieces = lengthened(self.pieces)
            elif outcome == scanner.ARENA_FULL:
                self.arena = lengthened(self.arena)
            elif outcome == scanner.TABLES_FULL:
                self.make_room()
            else:
                return outcome

    def make_room(self) -> None:
        """Lengthen the tables that are full."""
        clock = self.clock[0]
        if clock["links"] >= len(self.links):
            self.links, self.lines = lengthened(self.links), lengthened(self.lines)
        if clock["reorders"] >= len(self.reorders):
            self.reorders = lengthened(self.reorders)
        if clock["associations"] >= len(self.associations):
            self.associations = lengthened(self.associations)
        if clock["events"] + scanner.EVENTS > len(self.events):
            self.events = lengthened(self.events)

    # -- the slow path --------------------------------------------------------------------------------------

    def slow(self, buffer: Records) -> None:
        """Peel the packet that the kernel left aside, and account for it."""
        # A copy by way of bytes: numpy's own goes field by field and takes many times as long.
        packet = np.frombuffer(bytearray(self.packets[0].tobytes()), scanner.PACKET)[0]
        frame = buffer[int(packet["start"]) : int(packet["end"])].tobytes()
        peeled = peel(frame, int(packet["linktype"]), int(packet["wire"] - packet["trailer"]))
        if peeled.carried:
            self.not_ip[peeled.carried] += 1
        elif peeled.reason:
            self.unreadable[peeled.reason] += 1
        else:
            if peeled.mac >= 0:
                packet["source_mac"] = peeled.mac
            carriers = (Carrier(packet, int(self.clock["capture"][0])),)
            self.take(Packet(frame, carriers, peeled.notes), peeled.network)

    def take(self, packet: Packet, network: int, depth: int = 0) -> None:
        """Account for a packet with its IP header at ``network``; of a fragment, once its datagram is whole."""
        datagrams = None
        if depth < DEPTH and not packet.count_only:
            datagrams = self.fragments.add(packet.data[network:], packet.carriers, packet.notes)
        if datagrams is None:
            self.account(packet, network)
        else:
            self.unwrap(datagrams, depth + 1)

    def unwrap(self, datagrams: list[Packet], depth: int = 1) -> None:
        """Take what datagrams carry that were put together: it may be a tunnel, and there fragments again."""
        for datagram in datagrams:
            peeled = peel(datagram.data, RAW, scanner.LARGEST_PACKET)
            if peeled.reason:
                self.unreadable[peeled.reason] += len(datagram.carriers)
            elif datagram.count_only and fragment_of(datagram.data[peeled.network :]):
                self.account(datagram, 0)
            else:
                self.take(datagram._replace(notes=datagram.notes + peeled.notes), peeled.network, depth)

    def account(self, packet: Packet, network: int) -> None:
        """Account for each carrier of a packet, with the file that it was in."""
        capture = int(self.clock["capture"][0])
        for index, carrier in enumerate(packet.carriers, 1):
            self.clock["capture"] = carrier.capture
            count_only = packet.count_only or index < len(packet.carriers)
            known = int(self.clock["pieces"][0])
            self.single(packet.data, carrier.record, network, packet.notes, count_only)
            if packet.unknown_length:
                self.pieces["length"][known : int(self.clock["pieces"][0])] = -1
        self.clock["capture"] = capture

    def single(self, data: bytes, carrier: Records, network: int, notes: tuple[str, ...], count_only: bool) -> None:
        """Run the kernel on one packet whose IP header is known; ``carrier`` tells time, frame and length."""
        clock = self.clock[0]
        framing, position = int(clock["framing"]), int(clock["position"])
        packet = self.packets[0]
        self.packets[0] = carrier
        packet["network"], packet["start"], packet["end"] = network, 0, len(data)
        clock["framing"], clock["count_only"], clock["flow"] = scanner.SINGLE, count_only, -1
        self.scan(np.frombuffer(bytearray(data), np.uint8), len(data), NO_INTERFACES)
        clock["framing"], clock["position"], clock["count_only"] = framing, position, 0
        if notes and clock["flow"] >= 0:
            self.note(int(clock["flow"]), notes)

    def note(self, flow: int, notes: tuple[str, ...]) -> None:
        """Add to the notes of a flow; where they are too many, only what tells of an attack."""
        index = int(self.flow["note"][flow])
        known = self.noted[index] if index >= 0 else ()
        fresh = tuple(each for each in notes if each not in known)
        if len(known) + len(fresh) > FLOW_NOTES or len(self.noted) >= NOTES:
            fresh = tuple(each for each in fresh if each in (OVERLAPPING, OVERSIZED))
        if not fresh:
            return
        index = self.notes.setdefault(known + fresh, len(self.noted))
        if index == len(self.noted):
            self.noted.append(known + fresh)
        self.flow["note"][flow] = index

    def finish(self) -> None:
        """Account for the fragments whose datagram never became whole; in them may be others. So for APDUs."""
        while self.fragments.pending:
            self.unwrap(self.fragments.flush())
        link = 0
        while self.clock["reorders"][0] and link < self.clock["links"][0]:
            link = int(scanner.settle(self.arena, self.links, self.lines, self.reorders, self.events, self.clock, link))
            self.make_room()

    # -- the result -----------------------------------------------------------------------------------------

    def flows(self, captures: tuple[CaptureFile, ...]) -> Flows:
        clock = self.clock[0]
        count = int(clock["flows"])
        flow = self.flow[:count]
        pieces = self.pieces[: int(clock["pieces"])]
        pieces = pieces[np.argsort(pieces["flow"], kind="stable")]
        starts = np.searchsorted(pieces["flow"], np.arange(count + 1)).astype(np.int64)
        events = self.events[: int(clock["events"])]
        for ethertype in np.flatnonzero(self.ethertypes).tolist():
            self.not_ip[ethertype_name(ethertype)] += int(self.ethertypes[ethertype])
        if clock["cut"]:
            self.unreadable[CUT] += int(clock["cut"])
        if clock["unfollowed"]:
            self.unreadable["too many flows to follow"] += int(clock["unfollowed"])
        if clock["broken"]:
            self.unreadable["contradictory IP header"] += int(clock["broken"])
        tally = PacketCounts(
            self.total,
            int(clock["in_flows"]),
            int(clock["in_errors"]),
            int(clock["copies"]),
            dict(sorted(self.not_ip.items())),
            dict(sorted(self.unreadable.items())),
            int(np.count_nonzero((flow["port0"] == scanner.FOLDED) | (flow["port1"] == scanner.FOLDED))),
            int(clock["unkept"]),
            int(np.count_nonzero((flow["account"] == scanner.UNFOLLOWED) & (flow["protocol"] == scanner.TCP))),
            int(clock["esp_unfollowed"]),
            int(clock["snapped"]),
            self.fragments.overlapping,
            self.fragments.incomplete,
            self.fragments.abandoned,
        )
        return Flows(
            captures,
            flow,
            self.side[: 2 * count].reshape(count, 2),
            tally,
            tuple(self.noted),
            pieces,
            starts,
            self.arena[: int(clock["arena"])].data,
            self.links[: int(clock["links"])],
            self.lines[: 2 * int(clock["links"])].reshape(-1, 2),
            self.associations[: int(clock["associations"])],
            events[np.argsort(events["flow"], kind="stable")],
        )


def lengthened(column: Records) -> Records:
    """Twice the room; what nobody has used of it yet takes no memory."""
    longer = np.zeros(2 * len(column), column.dtype)
    longer.view(np.uint8)[: column.nbytes] = column.view(np.uint8)  # numpy copies records field by field
    return longer
