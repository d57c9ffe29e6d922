"""Runs the compiled kernel over capture files and takes rare packets over the slow path.

:class:`Scan` owns the tables; it reads one file after another with a :class:`FileScan`. The kernel returns when the
buffer is used up, when a table is full, at a pcapng block without a packet, at a damaged record, and at a packet for
the slow path (:mod:`analyzer.scanner.decapsulation`, :mod:`analyzer.scanner.fragments`). Memory is O(flows), not
O(packets).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import field
from typing import Any

import numpy as np
import numpy.typing as npt

from analyzer.capture.formats import detect_format
from analyzer.capture.model import MAX_BLOCK_BYTES, MAX_PROBLEMS, MAX_RECORD_BYTES, CaptureError, CaptureFile, Framing
from analyzer.capture.pcapng import consume_block
from analyzer.capture.source import Blocks, Source
from analyzer.dataclass import dataclass
from analyzer.scanner import columns, kernels
from analyzer.scanner.decapsulation import (
    FIRST_ETHERTYPE,
    IP_PROTOCOLS,
    MAX_LAYERS,
    UDP_PORTS,
    Decapsulated,
    decapsulate,
    ip_addresses,
    with_tunnel_port,
)
from analyzer.scanner.fragments import OVERLAPPING, OVERSIZED, Carrier, IpPacket, Reassembler, parse_fragment

Records = npt.NDArray[Any]

BUFFER_BYTES = 1 << 21
"""Bytes read at a time: the fastest size between 128 KiB and 8 MiB, measured with a capture of 1 million packets."""

MIN_BUFFER_BYTES = 64
"""Smallest buffer that tests may ask for; a record that does not fit makes it grow."""

MAX_FLOWS = 1 << 18
"""Flows kept apart. Above it, flows between two hosts that differ in the client's port only are folded into one flow
whose payload is not kept, up to a quarter as many again; packets of any further flow are counted only. The table then
takes 174 MB (530 bytes per flow)."""

MAX_PIECES = 1 << 21
"""Pieces of payload kept for all flows together (46 bytes each, 96 MB); payload above it is dropped."""
MAX_ARENA_BYTES = 1 << 28
"""Bytes of payload kept for all flows together; payload above it is dropped."""

MAX_NOTES = 1 << 16
"""Different combinations of notes kept: a sender can give every packet another tunnel header."""
MAX_FLOW_NOTES = 16
"""Notes kept per flow, for the same reason."""

INITIAL_FLOWS = 1 << 15
"""Flows that fit into the tables before they grow: a power of two. Pages that are never written take no memory."""

LINKTYPE_RAW = 101
"""Link type of a reassembled datagram: a bare IP packet."""

FRAMINGS = {"pcap": columns.PCAP, "pcapng": columns.PCAPNG, "snoop": columns.SNOOP}

NO_INTERFACES: Records = np.zeros(1, columns.INTERFACE)


@dataclass(slots=True)
class Scan:
    """The tables that the kernel fills, and what the slow path counts beside them.

    The tables are longer than what is used of them: ``state`` holds the number of used records.
    """

    buffer_size: int = BUFFER_BYTES
    progress: Callable[[int], object] | None = None
    """Called with the number of bytes read from disk since the last call."""
    state: Records = field(default_factory=lambda: np.zeros(1, columns.STATE))
    packets: Records = field(default_factory=lambda: np.zeros(2, columns.PACKET))
    """The packet at hand, and room for the one that an ICMP error quotes."""
    slots: Records = field(default_factory=lambda: np.full(2 * INITIAL_FLOWS, -1, np.int32))
    """Hash table: indexes into ``flow``, -1 if free."""
    flow: Records = field(default_factory=lambda: np.zeros(INITIAL_FLOWS, columns.FLOW))
    side: Records = field(default_factory=lambda: np.zeros(2 * INITIAL_FLOWS, columns.SIDE))
    pieces: Records = field(default_factory=lambda: np.zeros(4 * INITIAL_FLOWS, columns.PIECE))
    arena: Records = field(default_factory=lambda: np.zeros(512 * INITIAL_FLOWS, np.uint8))
    links: Records = field(default_factory=lambda: np.zeros(1 << 6, columns.LINK))
    link_directions: Records = field(default_factory=lambda: np.zeros(1 << 7, columns.LINK_DIRECTION))
    reorders: Records = field(default_factory=lambda: np.zeros(1 << 3, columns.REORDER))
    associations: Records = field(default_factory=lambda: np.zeros(1 << 6, columns.ASSOCIATION))
    secure_streams: Records = field(default_factory=lambda: np.zeros(1 << 7, columns.SECURE_STREAM))
    events: Records = field(default_factory=lambda: np.zeros(1 << 8, columns.EVENT))
    ethertypes: Records = field(default_factory=lambda: np.zeros(1 << 16, np.int64))
    """Frames without IP, counted by Ethernet type."""
    strays: Records = field(default_factory=lambda: np.zeros(columns.MAX_STRAYS, columns.STRAY))
    """Frames in no flow, by their ends."""
    carried: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    """Packets inside of tunnels: by the flow of the tunnel, their own flow and their side of it."""
    tunnels: Records = field(default_factory=lambda: np.zeros(256 + (1 << 16), np.bool_))
    """Whether an IP protocol, or (from 256 on) a UDP port, is that of a tunnel."""
    note_index: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Combination of notes → its place in ``notes``."""
    notes: list[tuple[str, ...]] = field(default_factory=list)
    """Combinations of notes; the column ``note`` of a flow is an index into it."""
    not_ip: Counter[str] = field(default_factory=Counter)
    """Frames of the slow path that carry no IP, by what they carry."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Packets of the slow path that cannot be read, by reason."""
    reassembler: Reassembler = field(default_factory=Reassembler)
    packet_count: int = 0
    """Packets of all files that were read to their end."""

    def __post_init__(self) -> None:
        self.state["secret"] = random_factors()
        self.state["limit"] = MAX_FLOWS
        self.state["pieces_limit"], self.state["arena_limit"] = MAX_PIECES, MAX_ARENA_BYTES
        self.tunnels[list(IP_PROTOCOLS)] = True
        self.tunnels[[256 + port for port in UDP_PORTS]] = True

    def scan_file(self, index: int, path: str) -> CaptureFile:
        """Account for all packets of a file. Raises :class:`CaptureError` if it is no capture."""
        source = Source(path)
        try:
            framing, start = detect_format(source.path, source.peek())
            with Blocks(source, max(self.buffer_size, MIN_BUFFER_BYTES)) as blocks:
                file = FileScan(self, index, source, framing, blocks, start).run()
        finally:
            source.close()
        self.packet_count += file.packets
        return file

    def finish(self) -> None:
        """Account for what still waits at the end of the captures: incomplete datagrams and APDUs."""
        while self.reassembler.pending:  # a fragment of a tunnel may complete the datagram that it carries
            self.take_datagrams(self.reassembler.flush())
        link = 0
        while self.state["reorders"][0] and link < self.state["links"][0]:
            link = int(
                kernels.flush(
                    self.arena, self.links, self.link_directions, self.reorders, self.events, self.state, link
                )
            )
            self.grow_tables()

    # -- the kernel -------------------------------------------------------------------------------------------------

    def run_kernel(self, buffer: Records, end: int, interfaces: Records) -> int:
        """Run the kernel on ``buffer[position:end]``, making room as it asks; returns why it came back."""
        while True:
            outcome = int(
                kernels.scan(
                    buffer,
                    end,
                    self.packets,
                    interfaces,
                    self.tunnels,
                    self.slots,
                    self.flow,
                    self.side,
                    self.pieces,
                    self.arena,
                    self.ethertypes,
                    self.strays,
                    self.state,
                    self.links,
                    self.link_directions,
                    self.reorders,
                    self.associations,
                    self.secure_streams,
                    self.events,
                )
            )
            if outcome == columns.FLOWS_FULL:
                self.flow, self.side = doubled(self.flow), doubled(self.side)
                self.slots = np.full(2 * len(self.slots), -1, np.int32)
                kernels.fill_slots(self.slots, self.flow, int(self.state["flows"][0]), self.state["secret"][0])
            elif outcome == columns.PIECES_FULL:
                self.pieces = doubled(self.pieces)
            elif outcome == columns.ARENA_FULL:
                self.arena = doubled(self.arena)
            elif outcome == columns.TABLES_FULL:
                self.grow_tables()
            else:
                return outcome

    def grow_tables(self) -> None:
        """Double the tables of links, associations, secure streams and events that are full."""
        state = self.state[0]
        if state["links"] >= len(self.links):
            self.links, self.link_directions = doubled(self.links), doubled(self.link_directions)
        if state["reorders"] >= len(self.reorders):
            self.reorders = doubled(self.reorders)
        if state["associations"] >= len(self.associations):
            self.associations = doubled(self.associations)
        if state["secure_streams"] + 2 > len(self.secure_streams):
            self.secure_streams = doubled(self.secure_streams)
        if state["events"] + columns.MAX_PACKET_EVENTS > len(self.events):
            self.events = doubled(self.events)

    # -- the slow path ----------------------------------------------------------------------------------------------

    def take_slow_path(self, buffer: Records) -> None:
        """Decapsulate the packet at which the kernel stopped, and account for it."""
        # A copy by way of bytes: numpy copies a record field by field, which takes many times as long.
        record = np.frombuffer(bytearray(self.packets[0].tobytes()), columns.PACKET)[0]
        frame = buffer[int(record["start"]) : int(record["end"])].tobytes()
        found = decapsulate(frame, int(record["linktype"]), int(record["wire"] - record["trailer"]))
        if found.non_ip or found.unreadable:
            self.count_stray(found)
            return
        carriers = (Carrier(record, int(self.state["capture"][0])),)
        tunnels = self.take_tunnels(frame, carriers, found)
        if found.mac > 0 or tunnels:
            record["source_mac"] = found.mac
        self.take_packet(IpPacket(frame, carriers, found.notes, tunnels=tunnels), found.network)

    def count_stray(self, found: Decapsulated) -> None:
        """Count the packet at hand as a frame in no flow."""
        kind = columns.NEIGHBOURLY if found.neighbourly else columns.OTHER_TYPE if found.non_ip else columns.UNREADABLE
        if found.non_ip:
            self.not_ip[found.non_ip] += 1
        else:
            self.unreadable[found.unreadable or ""] += 1
        if self.packets["ethertype"][0] < FIRST_ETHERTYPE:  # the length of an 802.2 frame
            self.packets["ethertype"][0] = 0
        kernels.count_stray_frame(self.packets, self.strays, self.state, kind)

    def take_tunnels(self, data: bytes, carriers: tuple[Carrier, ...], found: Decapsulated) -> tuple[int, ...]:
        """Account for the packets of the tunnels around a packet, beside it; returns their flows.

        A tunnel's packet is a packet of its ends, whatever it carries. What a tunnel carries from or to one of its own
        ends is kept apart from what this end exchanges outside of it.
        """
        if not found.outer:
            return ()
        flows = []
        for network, notes in found.outer:
            for carrier in carriers:
                carrier.record["layer"] = columns.TUNNEL
            self.account(IpPacket(with_tunnel_port(data, network), carriers, notes, count_only=True), network)
            flows.append(int(self.state["flow"][0]))
        inside = set(ip_addresses(data, found.network))
        own = any(not inside.isdisjoint(ip_addresses(data, network)) for network, _ in found.outer)
        for carrier in carriers:
            carrier.record["layer"] = columns.TUNNELLED if own else columns.PLAIN
            for name in ("odd", "surplus", "tail"):  # counted with the tunnel's packet
                carrier.record[name] = 0
        return tuple(flow for flow in flows if flow >= 0)

    def take_packet(self, packet: IpPacket, network: int, depth: int = 0) -> None:
        """Account for a packet whose IP header is at ``network``; for a fragment, once its datagram is complete.

        ``depth`` is the number of datagrams that were reassembled to get at the packet.
        """
        datagrams = None
        if depth < MAX_LAYERS and not packet.count_only:
            datagrams = self.reassembler.add(packet, network)
        if datagrams is None:
            self.account(packet, network)
        else:
            self.take_datagrams(datagrams, depth + 1)

    def take_datagrams(self, datagrams: list[IpPacket], depth: int = 1) -> None:
        """Account for reassembled datagrams. One may be a tunnel that carries fragments again."""
        for datagram in datagrams:
            found = decapsulate(datagram.data, LINKTYPE_RAW, columns.LARGEST_PACKET)
            if found.unreadable:
                for carrier in datagram.carriers:
                    self.packets[0] = carrier.record
                    self.count_stray(found)
            elif datagram.count_only and parse_fragment(datagram.data[found.network :]):
                self.account(datagram, 0)
            else:
                tunnels = datagram.tunnels + self.take_tunnels(datagram.data, datagram.carriers, found)
                inner = datagram._replace(notes=datagram.notes + found.notes, tunnels=tunnels)
                self.take_packet(inner, found.network, depth)

    def account(self, packet: IpPacket, network: int) -> None:
        """Account for every captured packet that brought a part of ``packet``, in the file where it was captured."""
        capture_index = int(self.state["capture"][0])
        last = len(packet.carriers) - 1
        for place, carrier in enumerate(packet.carriers):
            self.state["capture"] = carrier.capture
            used = int(self.state["pieces"][0])
            self.account_carrier(packet, carrier.record, network, count_only=packet.count_only or place < last)
            if packet.unknown_length:
                self.pieces["length"][used : int(self.state["pieces"][0])] = -1
        self.state["capture"] = capture_index

    def account_carrier(self, packet: IpPacket, record: Records, network: int, count_only: bool) -> None:
        """Run the kernel on one packet; ``record`` holds time, frame number and length on the wire."""
        state = self.state[0]
        framing, position = int(state["framing"]), int(state["position"])
        size = len(packet.data)
        current = self.packets[0]
        self.packets[0] = record
        current["network"], current["start"], current["end"] = network, 0, size
        state["framing"], state["count_only"], state["flow"] = columns.SINGLE, count_only, -1
        self.run_kernel(np.frombuffer(bytearray(packet.data), np.uint8), size, NO_INTERFACES)
        state["framing"], state["position"], state["count_only"] = framing, position, 0
        flow = int(state["flow"])
        if packet.notes and flow >= 0:
            self.add_notes(flow, packet.notes)
        for tunnel in packet.tunnels if flow >= 0 else ():
            self.carried[tunnel, flow, int(state["sender"])] += 1

    def add_notes(self, flow: int, notes: tuple[str, ...]) -> None:
        """Add to the notes of a flow. Above the limits only the notes of fragments that attacks are made of."""
        index = int(self.flow["note"][flow])
        known = self.notes[index] if index >= 0 else ()
        new = tuple(note for note in notes if note not in known)
        if len(known) + len(new) > MAX_FLOW_NOTES or len(self.notes) >= MAX_NOTES:
            new = tuple(note for note in new if note in (OVERLAPPING, OVERSIZED))
        if not new:
            return
        index = self.note_index.setdefault(known + new, len(self.notes))
        if index == len(self.notes):
            self.notes.append(known + new)
        self.flow["note"][flow] = index


class FileScan:
    """The scan of one file: its buffer, and what of the file the buffer holds."""

    def __init__(self, scan: Scan, index: int, source: Source, framing: Framing, blocks: Blocks, start: int) -> None:
        """``index``: of the file among all captures; ``start``: offset of its first record."""
        self.scan = scan
        self.source = source
        self.framing = framing
        self.blocks = blocks
        self.problems: list[str] = []
        self.reported = 0
        """Bytes on disk that ``progress`` was told of."""
        self.intact_offset = -1
        """Offset in the file at which an intact block must follow a damaged one."""
        self.state = scan.state[0]
        self.state["capture"], self.state["framing"] = index, FRAMINGS[framing.format]
        for name in ("frame", "count_only", "lost", "interfaces"):
            self.state[name] = 0
        self.interfaces: Records = np.zeros(1, columns.INTERFACE)
        self.apply_headers()
        self.buffer, self.position, self.end = blocks.first_block(start)
        self.base = start - self.position
        """Offset in the unpacked file of the buffer's first byte."""

    def run(self) -> CaptureFile:
        """Read the file to its end, or to damage after which nothing can be read."""
        more = True
        while more:
            self.state["position"] = self.position
            outcome = self.scan.run_kernel(self.buffer, self.end, self.interfaces)
            self.position = int(self.state["position"])
            if outcome == columns.NEEDS_SLOW_PATH:
                self.scan.take_slow_path(self.buffer)
            elif outcome == columns.END_OF_BUFFER:
                more = self.refill()
            else:
                more = self.read_block()
        packets = int(self.state["frame"])
        return CaptureFile(
            self.source.path,
            self.framing.format,
            packets,
            self.source.consumed,
            int(self.state["first"]) if packets else None,
            int(self.state["last"]) if packets else None,
            self.framing.digits,
            tuple(self.problems),
            self.framing.facts(self.source.compression, int(self.state["lost"])),
        )

    def apply_headers(self) -> None:
        """Pass what the file's headers declare to the kernel."""
        framing, state = self.framing, self.state
        state["little"] = framing.little
        state["record_header"] = framing.record_header
        state["swapped"] = framing.swapped
        state["largest"] = MAX_BLOCK_BYTES if framing.format == "pcapng" else MAX_RECORD_BYTES
        known, count = int(state["interfaces"]), len(framing.interfaces)
        if count < known:  # a new section, whose interfaces are numbered from 0 again
            known = 0
        state["interfaces"] = count
        if count > len(self.interfaces):
            self.interfaces = np.concatenate((self.interfaces, np.zeros_like(self.interfaces)))
        for row, interface in zip(self.interfaces[known:], framing.interfaces[known:], strict=False):
            row["linktype"], row["snaplen"], row["offset"] = interface.linktype, interface.snaplen, interface.offset
            row["multiplier"], row["divisor"], row["bits"] = interface.ticks
            row["trailer"] = interface.frame_check
        if framing.format != "pcapng":
            only = self.interfaces[0]
            state["linktype"], state["fraction"], state["trailer"] = (
                only["linktype"],
                only["multiplier"],
                only["trailer"],
            )

    def read_block(self) -> bool:
        """Read a block without a packet, or skip a damaged one. Returns whether the file goes on."""
        offset = self.base + self.position
        size, problem = consume_block(self.framing, self.buffer[self.position : self.end].data)
        if problem is None:
            self.apply_headers()
            if not size:  # the buffer holds only a part of the block
                return self.refill()
        else:
            if self.framing.format == "pcapng" and not offset:
                raise CaptureError(self.source.path, f"has a damaged section header: {problem}", 0)
            damage = f"damage at byte {offset}: {problem}"
            if not size or offset == self.intact_offset or len(self.problems) == MAX_PROBLEMS:
                left = self.end - self.position + self.blocks.drain()
                self.problems.append(f"{damage}; the rest of the file, {left} bytes, was not read")
                return False
            self.problems.append(f"{damage}; {size} bytes were skipped")
            self.intact_offset = offset + size
        self.position += size
        return True

    def refill(self) -> bool:
        """Read the next bytes into the buffer, after what is left in it. Returns whether there were any."""
        offset, rest = self.base + self.position, self.buffer[self.position : self.end]
        try:
            self.buffer, self.position, self.end = self.blocks.next_block(rest)
        except CaptureError as error:
            if not int(self.state["frame"]):
                raise
            self.problems.append(str(error).removeprefix(f"{self.source.path}: "))
            return False
        self.base = offset - self.position
        if self.scan.progress:
            self.scan.progress(self.source.consumed - self.reported)
        self.reported = self.source.consumed
        if self.end - self.position > len(rest):
            return True
        if len(rest):
            self.problems.append(f"ends within a record at byte {offset}: {len(rest)} bytes are left over")
        return False


def random_factors() -> npt.NDArray[np.uint64]:
    """Three odd random factors for hashes: no capture can be made to collide in the next run."""
    return np.frombuffer(os.urandom(24), np.uint64) | np.uint64(1)


def doubled(column: Records) -> Records:
    """A copy of a column with twice the length; new records are zero."""
    longer = np.zeros(2 * len(column), column.dtype)
    longer.view(np.uint8)[: column.nbytes] = column.view(np.uint8)  # numpy copies records field by field
    return longer
