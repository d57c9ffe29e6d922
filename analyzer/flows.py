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
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from analyzer import capture, scanner
from analyzer.capture import CaptureError, CaptureFile, Framing, Source
from analyzer.encapsulations import IP_PROTOCOLS, UDP_PORTS, peel
from analyzer.fragments import Fragments, Packet
from analyzer.heads import Datagram, Direction, Frame, Head, Mark, Stream

BUFFER = 1 << 19
"""Bytes read at a time."""

NOTES = 1 << 16
"""Different notes that are kept: tunnels can be made to differ with every packet."""

Progress = Callable[[int], object]
"""Told how many bytes of the file were read since the last call."""

Records = npt.NDArray[Any]

FRAMINGS = {"pcap": scanner.PCAP, "pcapng": scanner.PCAPNG, "snoop": scanner.SNOOP}
TRANSPORTS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp", 58: "icmpv6"}


@dataclass(frozen=True, slots=True)
class Tally:
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
    """Frames whose headers cannot be read, by reason."""
    snapped: int
    """Frames captured shorter than they were (also counted above)."""


@dataclass(frozen=True, slots=True)
class Flows:
    """All flows of the captures. Columns have one entry a flow, in the order of first packets."""

    captures: tuple[CaptureFile, ...]
    flow: Records
    """Shape (n,), dtype :data:`analyzer.scanner.FLOW`."""
    side: Records
    """Shape (n, 2), dtype :data:`analyzer.scanner.SIDE`; side 0 sent the first packet."""
    tally: Tally
    notes: tuple[tuple[str, ...], ...]
    """What the slow path peeled; ``flow["note"]`` is the index."""
    pieces: Records
    """Kept payload, by flow; dtype :data:`analyzer.scanner.PIECE`."""
    starts: npt.NDArray[np.int64]
    """Shape (n + 1,): the pieces of flow i are ``pieces[starts[i]:starts[i + 1]]``."""
    arena: tuple[bytes, ...]
    """Chunks of kept bytes."""

    def __len__(self) -> int:
        return len(self.flow)

    def payload(self, offset: int, count: int) -> bytes:
        """Bytes of the arena."""
        start = offset % scanner.CHUNK
        return self.arena[offset // scanner.CHUNK][start : start + count]

    def pieces_of(self, start: int, stop: int) -> Iterator[list[Any]]:
        """For each of the flows ``start`` to ``stop - 1`` the list of its pieces, as tuples (see PIECE)."""
        bounds = (self.starts[start : stop + 1] - self.starts[start]).tolist()
        pieces = self.pieces[self.starts[start] : self.starts[stop]].tolist()
        return (pieces[one:two] for one, two in itertools.pairwise(bounds))

    def head(self, index: int, row: Any, originator: int, sides: tuple[Any, Any], pieces: list[Any]) -> Head:
        """What was kept of a flow's payload.

        ``row`` is its record of FLOW, ``originator`` the side (0 or 1) that opened it, ``sides`` the records of SIDE
        of originator and responder, ``pieces`` as :meth:`pieces_of` gives them.
        """
        transport = TRANSPORTS.get(row.protocol) or f"ip-{row.protocol}"
        ports = (max(0, row.port0), max(0, row.port1))
        if originator:
            ports = ports[::-1]
        if transport != "tcp":
            start, stop = int(self.starts[index]), int(self.starts[index + 1])
            return Head(transport, ports, NO_STREAMS, Kept(self, start, stop, originator) if pieces else ())
        own = [piece for piece in pieces if not piece[9]]
        return Head(
            transport,
            ports,
            (
                self.stream(sides[0], [piece for piece in own if piece[8] == originator]),
                self.stream(sides[1], [piece for piece in own if piece[8] != originator]),
            ),
        )

    def said(self, pieces: list[Any], originator: int) -> list[tuple[Direction, bytes, int]]:
        """Direction, kept bytes and declared length of each datagram among a flow's pieces."""
        payload = self.payload
        return [
            (DIRECTIONS[side ^ originator], payload(arena, kept), length)
            for _, _, arena, _, _, _, length, kept, side, error in pieces
            if not error
        ]

    def stream(self, side: Any, pieces: list[Any]) -> Stream:
        """Put the pieces of one TCP direction together, up to the first gap. Of overlapping bytes the first win."""
        if not pieces:
            return NO_STREAMS[0]
        arrived = pieces
        pieces = sorted(pieces, key=itemgetter(5))
        parts: list[bytes] = []
        marks: list[Mark] = []
        size = 0
        for number, time, arena, _, file, offset, _, kept, _, _ in pieces:
            if offset > size:
                break
            if offset < size:
                data, marks = self.overlapping(arrived)
                return Stream(data, tuple(marks), bool(side.begins), side.ending == len(data))
            if kept:
                marks.append(Mark(size, Frame(file, number), time))
                parts.append(self.payload(arena, kept))
                size += kept
        return Stream(b"".join(parts), tuple(marks), bool(side.begins), side.ending == size > 0)

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


class Kept(Sequence[Datagram]):
    """A flow's datagrams, made when somebody asks for them: most are read once, and there are very many."""

    __slots__ = ("flows", "originator", "start", "stop")

    def __init__(self, flows: Flows, start: int, stop: int, originator: int) -> None:
        self.flows = flows
        self.start = start
        self.stop = stop
        self.originator = originator

    def __iter__(self) -> Iterator[Datagram]:
        for index in range(self.start, self.stop):
            number, time, arena, _, file, _, length, kept, side, error = self.flows.pieces[index].tolist()
            if not error:
                direction = DIRECTIONS[side ^ self.originator]
                yield Datagram(direction, self.flows.payload(arena, kept), length, Frame(file, number), time)

    @overload
    def __getitem__(self, index: int) -> Datagram: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Datagram]: ...
    def __getitem__(self, index: int | slice) -> Datagram | Sequence[Datagram]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return self.stop - self.start - int(np.count_nonzero(self.flows.pieces["error"][self.start : self.stop]))


DIRECTIONS = tuple(Direction)
NO_STREAMS = (Stream(), Stream())


def read(paths: Sequence[str], progress: Progress | None = None, buffer_size: int = BUFFER) -> Flows:
    """Read capture files as one timeline. :class:`CaptureError` for the first that is not a capture."""
    scan = Scan(buffer_size, progress)
    files: dict[int, CaptureFile] = {}
    for number in capture.chronological(paths):
        files[number] = scan.file(number, paths[number])
    scan.finish()
    return scan.flows(tuple(files[number] for number in range(len(paths))))


@dataclass(slots=True)
class Scan:
    """The arrays that the kernel fills, and their growth."""

    buffer_size: int = BUFFER
    progress: Progress | None = None
    clock: Records = field(default_factory=lambda: np.zeros(1, scanner.CLOCK))
    packets: Records = field(default_factory=lambda: np.zeros(2, scanner.PACKET))
    slots: Records = field(default_factory=lambda: np.full(1 << 11, -1, np.int32))
    flow: Records = field(default_factory=lambda: np.zeros(1 << 10, scanner.FLOW))
    side: Records = field(default_factory=lambda: np.zeros(1 << 11, scanner.SIDE))
    pieces: list[Records] = field(default_factory=list)
    arena: list[Records] = field(default_factory=list)
    ethertypes: Records = field(default_factory=lambda: np.zeros(1 << 16, np.int64))
    tunnels: Records = field(default_factory=lambda: np.zeros(256 + (1 << 16), np.bool_))
    notes: dict[tuple[str, ...], int] = field(default_factory=dict)
    not_ip: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    fragments: Fragments = field(default_factory=Fragments)
    total: int = 0
    """Packets of the files before this one."""

    def __post_init__(self) -> None:
        self.clock["secret"] = np.frombuffer(os.urandom(24), np.uint64) | np.uint64(1)
        self.tunnels[list(IP_PROTOCOLS)] = True
        self.tunnels[[256 + port for port in UDP_PORTS]] = True
        self.more_pieces()
        self.more_arena()

    # -- one file -------------------------------------------------------------------------------------------

    def file(self, number: int, path: str) -> CaptureFile:
        """Account for all packets of one file."""
        source = Source(path)
        try:
            return self.walk(number, source)
        finally:
            source.close()

    def walk(self, number: int, source: Source) -> CaptureFile:
        framing, position = capture.recognise(source.path, source.peek())
        buffer = np.zeros(max(self.buffer_size, 64), np.uint8)
        clock = self.clock[0]
        clock["capture"], clock["frame"], clock["note"], clock["count_only"], clock["lost"] = number, 0, -1, 0, 0
        clock["framing"] = FRAMINGS[framing.format]
        clock["interfaces"] = 0
        interfaces = self.announce(framing, np.zeros(1, scanner.INTERFACE))
        problems: list[str] = []
        before = filled = 0
        """Bytes of the unpacked file that have left the buffer, and that are in it."""
        while filled < position:
            filled += source.readinto(buffer[filled:].data)
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
                        left = filled - position + source.drain()
                        problems.append(f"{damage}; the rest of the file, {left} bytes, was not read")
                        break
                    problems.append(f"{damage}; {size} bytes were skipped")
                    intact = offset + size
                if size:
                    position += size
                    continue
            if position == 0 and filled == len(buffer):
                buffer = np.concatenate((buffer, np.zeros_like(buffer)))
            rest = filled - position
            buffer[:rest] = buffer[position:filled].copy()
            before += position
            position, filled = 0, rest
            try:
                count = source.readinto(buffer[filled:].data)
            except CaptureError as error:
                if not int(clock["frame"]):
                    raise
                problems.append(str(error).removeprefix(f"{source.path}: "))
                break
            self.report(source.consumed - told)
            told = source.consumed
            if not count:
                if rest:
                    problems.append(f"ends within a record at byte {before}: {rest} bytes are left over")
                break
            filled += count
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
                    self.pieces[-1],
                    self.arena[-1],
                    self.ethertypes,
                    self.clock,
                )
            )
            if outcome == scanner.FLOWS_FULL:
                self.more_flows()
            elif outcome == scanner.PIECES_FULL:
                self.more_pieces()
            elif outcome == scanner.ARENA_FULL:
                self.more_arena()
            else:
                return outcome

    def more_flows(self) -> None:
        self.flow = np.concatenate((self.flow, np.zeros_like(self.flow)))
        self.side = np.concatenate((self.side, np.zeros_like(self.side)))
        self.slots = np.full(2 * len(self.slots), -1, np.int32)
        scanner.index(self.slots, self.flow, int(self.clock["flows"][0]), self.clock["secret"][0])

    def more_pieces(self) -> None:
        self.pieces.append(np.zeros(1 << 14, scanner.PIECE))
        self.clock["pieces"] = 0

    def more_arena(self) -> None:
        self.arena.append(np.zeros(scanner.CHUNK, np.uint8))
        self.clock["arena"] = (len(self.arena) - 1) * scanner.CHUNK
        self.clock["arena_end"] = len(self.arena) * scanner.CHUNK

    # -- the slow path --------------------------------------------------------------------------------------

    def slow(self, buffer: Records) -> None:
        """Peel the packet that the kernel left aside, and account for it."""
        packet = self.packets[0]
        frame = buffer[int(packet["start"]) : int(packet["end"])].tobytes()
        peeled = peel(frame, int(packet["linktype"]))
        if peeled.network < 0:
            reason = peeled.reason or "no IP"
            (self.not_ip if reason == "no IP" else self.unreadable)[reason] += 1
            return
        datagrams = self.fragments.add(
            frame[peeled.network :], packet.copy(), int(self.clock["capture"][0]), peeled.notes
        )
        if datagrams is None:
            self.single(frame, packet.copy(), peeled.network, peeled.notes)
            return
        self.fragmented(datagrams)

    def fragmented(self, datagrams: list[Packet]) -> None:
        """Account for fragments, each with the file that it was in."""
        capture = int(self.clock["capture"][0])
        for packet in datagrams:
            self.clock["capture"] = packet.capture
            self.single(packet.data, packet.carrier, 0, packet.notes, packet.count_only)
        self.clock["capture"] = capture

    def single(
        self, data: bytes, carrier: Records, network: int, notes: tuple[str, ...], count_only: bool = False
    ) -> None:
        """Run the kernel on one packet whose IP header is known; ``carrier`` tells time, frame and length."""
        clock = self.clock[0]
        framing, position = int(clock["framing"]), int(clock["position"])
        packet = self.packets[0]
        self.packets[0] = carrier
        packet["network"], packet["start"], packet["end"] = network, 0, len(data)
        clock["framing"], clock["count_only"] = scanner.SINGLE, count_only
        if notes and len(self.notes) < NOTES:
            self.notes.setdefault(notes, len(self.notes))
        clock["note"] = self.notes.get(notes, -1)
        self.scan(np.frombuffer(bytearray(data), np.uint8), len(data), np.zeros(1, scanner.INTERFACE))
        clock["framing"], clock["position"], clock["count_only"], clock["note"] = framing, position, 0, -1

    def finish(self) -> None:
        """Account for the fragments whose datagram never became whole."""
        self.fragmented(self.fragments.flush())

    # -- the result -----------------------------------------------------------------------------------------

    def flows(self, captures: tuple[CaptureFile, ...]) -> Flows:
        clock = self.clock[0]
        count = int(clock["flows"])
        self.pieces[-1] = self.pieces[-1][: int(clock["pieces"])]
        pieces = np.concatenate(self.pieces)
        self.pieces.clear()
        pieces = pieces[np.argsort(pieces["flow"], kind="stable")]
        starts = np.searchsorted(pieces["flow"], np.arange(count + 1)).astype(np.int64)
        for ethertype in np.flatnonzero(self.ethertypes).tolist():
            self.not_ip[ETHERTYPES.get(ethertype, f"Ethernet type 0x{ethertype:04x}")] += int(
                self.ethertypes[ethertype]
            )
        if clock["cut"]:
            self.unreadable["headers cut by the snap length"] += int(clock["cut"])
        if clock["broken"]:
            self.unreadable["contradictory IP header"] += int(clock["broken"])
        tally = Tally(
            self.total,
            int(clock["in_flows"]),
            int(clock["in_errors"]),
            int(clock["copies"]),
            dict(sorted(self.not_ip.items())),
            dict(sorted(self.unreadable.items())),
            int(clock["snapped"]),
        )
        return Flows(
            captures,
            self.flow[:count],
            self.side[: 2 * count].reshape(count, 2),
            tally,
            tuple(self.notes),
            pieces,
            starts,
            tuple(self.arena.pop(0).tobytes() for _ in range(len(self.arena))),
        )


ETHERTYPES = {0x0806: "ARP", 0x88CC: "LLDP", 0x888E: "802.1X", 0x8863: "PPPoE discovery", 0x8035: "RARP"}
"""Names of Ethernet types that a base station's network carries beside IP."""
