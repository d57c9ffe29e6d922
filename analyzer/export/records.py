"""Reads the records of a capture file a second time, to copy or show single packets.

Packets are counted as :mod:`analyzer.scanner` counts them, also after damage, so a number in a report finds its packet
here. Every interface is described as in pcapng (draft-ietf-opsawg-pcapng), whatever the format of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import field
from typing import NamedTuple

from analyzer.capture.formats import detect_format
from analyzer.capture.model import MAX_BLOCK_BYTES, MAX_PROBLEMS, MAX_RECORD_BYTES, CaptureError, Framing, Interface
from analyzer.capture.pcapng import SECTION, consume_block, read_options
from analyzer.capture.source import Blocks, Source
from analyzer.dataclass import dataclass

BLOCK = 1 << 19
"""Bytes read at a time."""


class Record(NamedTuple):
    """A packet as recorded in its file."""

    interface: Interface
    description: bytes
    """The interface as the body of a little-endian Interface Description Block."""
    ticks: int
    """Time stamp in units of the interface."""
    time: int
    """Time stamp in nanoseconds since the epoch."""
    data: memoryview
    """Captured bytes; valid until the next record is read."""
    wire: int
    """Length on the wire in bytes."""


@dataclass(slots=True)
class State:
    """What the records that were read so far say about the following ones."""

    framing: Framing
    descriptions: list[bytes] = field(default_factory=list)
    """The interfaces of the current section as bodies of Interface Description Blocks."""
    latest: int = 0
    """Latest time stamp in nanoseconds since the epoch; packets without a time stamp get it."""


def selected_records(path: str, numbers: Collection[int]) -> Iterator[tuple[int, Record]]:
    """The packets of a file with these numbers, ascending. Raises :class:`CaptureError` if the file lacks one."""
    missing = set(numbers)
    for number, record in records(path, max(numbers, default=0)):
        if number in missing:
            missing.discard(number)
            yield number, record
    if missing:
        raise CaptureError(path, f"has no packet {min(missing)} any more: it was changed while it was audited")


def records(path: str, last: int) -> Iterator[tuple[int, Record]]:
    """The packets of a file with their numbers, up to number ``last``."""
    if not last:
        return
    source = Source(path)
    try:
        framing, begin = detect_format(path, source.peek())
        state = State(framing)
        if framing.format != "pcapng":
            state.descriptions.append(describe(framing))
        with Blocks(source, BLOCK) as blocks:
            for number, record in enumerate(read_records(state, begin, blocks), 1):
                yield number, record
                if number == last:
                    return
    finally:
        source.close()


def read_records(state: State, begin: int, blocks: Blocks) -> Iterator[Record]:
    """The records of a file from offset ``begin``, up to its end or to damage that the scanner does not skip either."""
    buffer, position, filled = blocks.first_block(begin)
    start = begin - position
    """Offset in the file of the buffer's first byte."""
    intact, problems = -1, 0
    """Offset after the damage that was skipped last, and the number of damaged blocks."""
    read = READERS[state.framing.format]
    view = buffer.data
    while True:
        size, record = read(state, view, position, filled)
        if size:
            position += size
            if record is not None:
                yield record
            continue
        if size is None:
            known = len(state.framing.interfaces)
            size, problem = consume_block(state.framing, view[position:filled])
            if problem is not None:
                offset = start + position
                if not size or offset == intact or problems == MAX_PROBLEMS:
                    return
                problems += 1
                intact = offset + size
            elif size:
                update_descriptions(state, view[position : position + size], known)
            if size:
                position += size
                continue
        # The rest of the buffer is the beginning of a record: read on.
        offset, rest = start + position, buffer[position:filled]
        try:
            buffer, position, filled = blocks.next_block(rest)
        except CaptureError:
            return
        if filled - position == len(rest):
            return
        start, view = offset - position, buffer.data


# -- records of each format --------------------------------------------------------------------------------------

Step = tuple[int | None, Record | None]
"""Size in bytes of the next record, and its packet. Size 0: incomplete; ``None``: not a packet, or damaged."""


def read_pcap(state: State, view: memoryview, at: int, end: int) -> Step:
    framing = state.framing
    header, order = framing.record_header, "<" if framing.little else ">"
    if at + header > end:
        return 0, None
    seconds, fraction, captured, wire = struct.unpack_from(order + "IIII", view, at)
    if framing.swapped and captured > wire:
        captured, wire = wire, captured
    if captured > MAX_RECORD_BYTES:
        return None, None
    if at + header + captured > end:
        return 0, None
    data = view[at + header : at + header + captured]
    return header + captured, only_record(state, seconds * 10**framing.digits + fraction, data, max(captured, wire))


def read_snoop(state: State, view: memoryview, at: int, end: int) -> Step:
    """A snoop packet record (RFC 1761)."""
    if at + 24 > end:
        return 0, None
    wire, captured, total, _, seconds, microseconds = struct.unpack_from(">IIIIII", view, at)
    if captured > MAX_RECORD_BYTES or total < 24 + captured or total > 2 * MAX_RECORD_BYTES:
        return None, None
    if at + total > end:
        return 0, None
    data = view[at + 24 : at + 24 + captured]
    return total, only_record(state, seconds * 10**6 + microseconds, data, max(captured, wire))


def only_record(state: State, ticks: int, data: memoryview, wire: int) -> Record:
    """A record of a file with one interface."""
    (interface,) = state.framing.interfaces
    return Record(interface, state.descriptions[0], ticks, interface.nanoseconds(ticks), data, wire)


def read_pcapng(state: State, view: memoryview, at: int, end: int) -> Step:
    """A pcapng block with a packet: Enhanced (6), Simple (3) or the obsolete Packet Block (2)."""
    if at + 12 > end:
        return 0, None
    order = "<" if state.framing.little else ">"
    kind, total = struct.unpack_from(order + "II", view, at)
    if kind not in (2, 3, 6) or total < 16 or total & 3 or total > MAX_BLOCK_BYTES:
        return None, None
    if at + total > end:
        return 0, None
    if struct.unpack_from(order + "I", view, at + total - 4)[0] != total:
        return None, None
    if kind == 3:
        return read_simple(state, view, at, total, order)
    if total < 32:
        return None, None
    number, high, low, captured, wire = struct.unpack_from(order + "IIIII", view, at + 8)
    if kind == 2:
        number = struct.unpack_from(order + "H", view, at + 8)[0]
    if captured > total - 32 or number >= len(state.descriptions):
        return None, None
    interface, ticks = state.framing.interfaces[number], high << 32 | low
    time = interface.nanoseconds(ticks)
    state.latest = max(state.latest, time)
    data = view[at + 28 : at + 28 + captured]
    return total, Record(interface, state.descriptions[number], ticks, time, data, wire)


def read_simple(state: State, view: memoryview, at: int, total: int, order: str) -> Step:
    """A Simple Packet Block, which belongs to the section's first interface and has no time stamp."""
    if not state.descriptions:
        return None, None
    interface = state.framing.interfaces[0]
    wire = struct.unpack_from(order + "I", view, at + 8)[0]
    captured = min(total - 16, wire, interface.snaplen or wire)
    data = view[at + 12 : at + 12 + captured]
    ticks = interface.ticks_at(state.latest)
    return total, Record(interface, state.descriptions[0], ticks, state.latest, data, wire)


READERS = {"pcap": read_pcap, "snoop": read_snoop, "pcapng": read_pcapng}


# -- interfaces --------------------------------------------------------------------------------------------------


def update_descriptions(state: State, block: memoryview, known: int) -> None:
    """Follow a block that carries no packet: a new section has no interfaces; a new interface is described.

    ``known`` is the number of interfaces before the block.
    """
    if bytes(block[:4]) == SECTION:
        state.descriptions.clear()
    elif len(state.framing.interfaces) > known:
        order = state.framing.order
        body = bytes(block[8:-4])
        kept = b"".join(
            option(code, value[::-1] if code == 14 and order == "big" else value)
            for code, value in read_options(body[8:], order)
            if is_kept(code, value)
        )
        state.descriptions.append(interface_body(int.from_bytes(body[:2], order), kept))


def is_kept(code: int, value: bytes) -> bool:
    """Whether an interface option is kept: name, description, hardware, system, and the meaning of time stamps."""
    size = {9: 1, 13: 1, 14: 8}.get(code)
    return code in (2, 3, 12, 15) if size is None else len(value) == size


def describe(framing: Framing) -> bytes:
    """The description of the only interface of a pcap or snoop file."""
    (interface,) = framing.interfaces
    resolution = option(9, bytes([interface.digits]))
    frame_check = option(13, bytes([interface.frame_check])) if interface.frame_check else b""
    return interface_body(interface.linktype, resolution + frame_check)


def interface_body(linktype: int, options: bytes) -> bytes:
    """The body of an Interface Description Block. Snap length 0 means none: packets are copied unchanged."""
    return struct.pack("<HHI", linktype, 0, 0) + options


def option(code: int, value: bytes) -> bytes:
    """A little-endian pcapng option."""
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
