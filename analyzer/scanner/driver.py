"""Runs the compiled kernel over capture files: buffer, growth of the tables, damage, and the slow path.

:class:`Scan` reads one file after another through one buffer. The kernel returns where it needs something that it
cannot do itself: more room in a table, a block that carries no packet, or a packet for the slow path.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from analyzer.capture.formats import detect_format
from analyzer.capture.model import MAX_BLOCK_BYTES, MAX_PROBLEMS, MAX_RECORD_BYTES, CaptureError, CaptureFile, Framing
from analyzer.capture.pcapng import consume_block
from analyzer.capture.source import Blocks, Source
from analyzer.scanner import columns, kernels
from analyzer.scanner.decapsulation import DEPTH, IP_PROTOCOLS, UDP_PORTS, peel
from analyzer.scanner.fragments import OVERLAPPING, OVERSIZED, Carrier, Fragments, Packet, fragment_of

Records = npt.NDArray[Any]

BUFFER_BYTES = 1 << 21
"""Bytes read at a time."""

MAX_FLOWS = 1 << 18
"""Flows that are kept apart. Of further ones those between two hosts with one service are folded into one flow, whose
content is not read; a quarter as many again. What is then still new is counted only."""

MAX_PIECES, MAX_ARENA_BYTES = 1 << 21, 1 << 28
"""Pieces of payload, and their bytes, that are kept of all flows together; that of further packets is left out."""

NOTES = 1 << 16
"""Different notes that are kept: tunnels can be made to differ with every packet."""

FLOW_NOTES = 16
"""Notes of one flow, likewise."""

RAW = 101
"""Link type of what a datagram put together is: an IP packet."""

FRAMINGS = {"pcap": columns.PCAP, "pcapng": columns.PCAPNG, "snoop": columns.SNOOP}

NO_INTERFACES: Records = np.zeros(1, columns.INTERFACE)

INITIAL_FLOWS = 1 << 15
"""Flows for which there is room at first, with some payload: a power of two. What is not used takes no memory."""


@dataclass(slots=True)
class Scan:
    """The arrays that the kernel fills, and their growth."""

    buffer_size: int = BUFFER_BYTES
    progress: Callable[[int], object] | None = None
    clock: Records = field(default_factory=lambda: np.zeros(1, columns.CLOCK))
    packets: Records = field(default_factory=lambda: np.zeros(2, columns.PACKET))
    slots: Records = field(default_factory=lambda: np.full(2 * INITIAL_FLOWS, -1, np.int32))
    flow: Records = field(default_factory=lambda: np.zeros(INITIAL_FLOWS, columns.FLOW))
    side: Records = field(default_factory=lambda: np.zeros(2 * INITIAL_FLOWS, columns.SIDE))
    pieces: Records = field(default_factory=lambda: np.zeros(4 * INITIAL_FLOWS, columns.PIECE))
    arena: Records = field(default_factory=lambda: np.zeros(512 * INITIAL_FLOWS, np.uint8))
    links: Records = field(default_factory=lambda: np.zeros(1 << 6, columns.LINK))
    lines: Records = field(default_factory=lambda: np.zeros(1 << 7, columns.LINE))
    reorders: Records = field(default_factory=lambda: np.zeros(1 << 3, columns.REORDER))
    associations: Records = field(default_factory=lambda: np.zeros(1 << 6, columns.ASSOCIATION))
    events: Records = field(default_factory=lambda: np.zeros(1 << 8, columns.EVENT))
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
        self.clock["limit"] = MAX_FLOWS
        self.clock["pieces_limit"], self.clock["arena_limit"] = MAX_PIECES, MAX_ARENA_BYTES
        self.tunnels[list(IP_PROTOCOLS)] = True
        self.tunnels[[256 + port for port in UDP_PORTS]] = True

    # -- one file -------------------------------------------------------------------------------------------

    def file(self, number: int, path: str) -> CaptureFile:
        """Account for all packets of one file."""
        source = Source(path)
        try:
            framing, begin = detect_format(source.path, source.peek())
            with Blocks(source, max(self.buffer_size, 64)) as blocks:
                return self.walk(number, source, framing, begin, blocks)
        finally:
            source.close()

    def walk(self, number: int, source: Source, framing: Framing, begin: int, blocks: Blocks) -> CaptureFile:
        clock = self.clock[0]
        clock["capture"], clock["frame"], clock["count_only"], clock["lost"] = number, 0, 0, 0
        clock["framing"] = FRAMINGS[framing.format]
        clock["interfaces"] = 0
        interfaces = self.announce(framing, np.zeros(1, columns.INTERFACE))
        problems: list[str] = []
        buffer, position, filled = blocks.first_block(begin)
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
            if outcome == columns.SLOW:
                self.slow(buffer)
                continue
            if outcome != columns.EMPTY:
                offset = before + position
                size, problem = consume_block(framing, buffer[position:filled].data)
                if problem is None:
                    interfaces = self.announce(framing, interfaces)
                else:
                    if framing.format == "pcapng" and not offset:
                        raise CaptureError(source.path, f"has a damaged section header: {problem}", 0)
                    damage = f"damage at byte {offset}: {problem}"
                    if not size or offset == intact or len(problems) == MAX_PROBLEMS:
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
                buffer, position, filled = blocks.next_block(rest)
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
        clock["largest"] = MAX_BLOCK_BYTES if framing.format == "pcapng" else MAX_RECORD_BYTES
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
                kernels.scan(
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
            if outcome == columns.FLOWS_FULL:
                self.flow, self.side = lengthened(self.flow), lengthened(self.side)
                self.slots = np.full(2 * len(self.slots), -1, np.int32)
                kernels.index(self.slots, self.flow, int(self.clock["flows"][0]), self.clock["secret"][0])
            elif outcome == columns.PIECES_FULL:
                self.pieces = lengthened(self.pieces)
            elif outcome == columns.ARENA_FULL:
                self.arena = lengthened(self.arena)
            elif outcome == columns.TABLES_FULL:
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
        if clock["events"] + columns.EVENTS > len(self.events):
            self.events = lengthened(self.events)

    # -- the slow path --------------------------------------------------------------------------------------

    def slow(self, buffer: Records) -> None:
        """Peel the packet that the kernel left aside, and account for it."""
        # A copy by way of bytes: numpy's own goes field by field and takes many times as long.
        packet = np.frombuffer(bytearray(self.packets[0].tobytes()), columns.PACKET)[0]
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
            peeled = peel(datagram.data, RAW, columns.LARGEST_PACKET)
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
        clock["framing"], clock["count_only"], clock["flow"] = columns.SINGLE, count_only, -1
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
            link = int(kernels.settle(self.arena, self.links, self.lines, self.reorders, self.events, self.clock, link))
            self.make_room()


def secret() -> npt.NDArray[np.uint64]:
    """Odd factors for hashes, other ones in each run, so that no capture can be made to collide."""
    return np.frombuffer(os.urandom(24), np.uint64) | np.uint64(1)


def lengthened(column: Records) -> Records:
    """Twice the room; what nobody has used of it yet takes no memory."""
    longer = np.zeros(2 * len(column), column.dtype)
    longer.view(np.uint8)[: column.nbytes] = column.view(np.uint8)  # numpy copies records field by field
    return longer
