"""The packets that findings cite, in a capture of their own, each with a comment that says what it shows.

The captures are read a second time and walked record by record, as :mod:`analyzer.scanner` does it, until the last
cited packet; what is written is pcapng (draft-ietf-opsawg-pcapng) with the packets, link types and time stamps of the
originals, unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from analyzer import capture
from analyzer.capture import Blocks, CaptureError, Framing, Source
from analyzer.expected import UsageError
from analyzer.findings import Finding
from analyzer.safetext import escape_text
from analyzer.version import __version__

if TYPE_CHECKING:
    from analyzer.result import Audit

PACKETS = 100_000
"""Packets that are written at the most: those of the first findings, which are the most severe."""
COMMENTS = 64
"""Findings that the comments of one packet name at the most."""
COMMENT = 0xFFFC
"""Bytes of one comment at the most: what an option holds."""
BLOCK = 1 << 19
"""Bytes read at a time."""


def check(paths: Sequence[str], target: str, output: str | None) -> None:
    """Refuse, before anything is read, what cannot be: ``UsageError``."""
    for path in paths:
        if path == "-" or (Path(path).exists() and not Path(path).is_file()):
            raise UsageError(f"{path}: can be read only once, and --evidence reads twice: save the capture first")
        if same(path, target):
            raise UsageError(f"{target}: is a capture to be audited, and --evidence would replace it")
    if output is not None and (output == target or same(output, target)):
        raise UsageError(f"{target}: --output and --evidence cannot be the same file")


def same(one: str, two: str) -> bool:
    """Both are there, and are one file."""
    return Path(one).is_file() and Path(two).is_file() and Path(one).samefile(two)


def write(audit: Audit, file: BinaryIO) -> int:
    """Write the cited packets; how many were left out because there are too many.

    The files follow one another by the time of their first packets. :class:`CaptureError` for a file that is no longer
    what was audited.
    """
    cited, left = citations(audit.findings)
    file.write(section())
    known: dict[tuple[int, bytes], int] = {}
    """Interfaces that are described: index of the file, and how it describes them → number."""
    order = sorted(range(len(audit.captures)), key=lambda index: (audit.captures[index].first or 0, index))
    for index in order:
        path, wanted = audit.captures[index].path, cited.get(index, {})
        missing = set(wanted)
        for number, record in records(path, max(wanted, default=0)):
            if number in wanted:
                missing.discard(number)
                place = known.get((index, record.interface))
                if place is None:
                    place = known[index, record.interface] = len(known)
                    file.write(described(record.interface, path))
                file.write(packet(place, record, comments(wanted[number], number, path)))
        if missing:
            raise CaptureError(path, f"has no packet {min(missing)} any more: it was changed while it was audited")
    return left


def citations(findings: Sequence[Finding]) -> tuple[dict[int, dict[int, list[Finding]]], int]:
    """Index of a file → number of a packet → the findings that cite it; and how many packets are too many."""
    cited: dict[int, dict[int, list[Finding]]] = {}
    count, left = 0, set()
    for finding in findings:
        for frame in finding.frames:
            packets = cited.setdefault(frame.capture, {})
            if frame.number not in packets:
                if count == PACKETS:
                    left.add(frame)
                    continue
                count += 1
            packets.setdefault(frame.number, []).append(finding)
    return cited, len(left)


def comments(findings: Sequence[Finding], number: int, path: str) -> Iterator[str]:
    """What the findings say of a packet, a comment each."""
    for finding in findings[:COMMENTS]:
        rows = f", {'row' if len(finding.rows) == 1 else 'rows'} {' or '.join(finding.rows)}" if finding.rows else ""
        station = f", base station {finding.base_station}" if finding.base_station else ""
        yield (
            f"{finding.check} {finding.slug} ({finding.severity}){rows}{station}: {finding.summary} "
            f"(frame {number} of {path})"
        )
    if len(findings) > COMMENTS:
        yield f"{len(findings) - COMMENTS:,} more findings cite this packet"


# -- reading ---------------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """A packet as it stands in its file."""

    interface: bytes
    """How the file describes the interface: the body of a little-endian Interface Description Block."""
    ticks: int
    """Time stamp in the interface's own units."""
    data: memoryview
    """What was captured of it; valid until the next record is asked for."""
    wire: int
    """Length on the wire, in bytes."""


@dataclass(slots=True)
class Walk:
    """What is known of a file while its records are read."""

    framing: Framing
    interfaces: list[bytes] = field(default_factory=list)
    """Bodies of the descriptions of the current section's interfaces."""
    latest: int = 0
    """Latest time stamp, nanoseconds since the epoch: the time of packets that have none."""


def records(path: str, last: int) -> Iterator[tuple[int, Record]]:
    """The packets of a file with their numbers, up to number ``last``.

    Packets are counted as the scanner counts them: behind damage, too, where it goes on.
    """
    if not last:
        return
    source = Source(path)
    try:
        framing, begin = capture.recognise(path, source.peek())
        walk = Walk(framing)
        if framing.format != "pcapng":
            walk.interfaces.append(plain_interface(framing))
        with Blocks(source, BLOCK) as blocks:
            for number, record in enumerate(walked(walk, begin, blocks), 1):
                yield number, record
                if number == last:
                    return
    finally:
        source.close()


def walked(walk: Walk, begin: int, blocks: Blocks) -> Iterator[Record]:
    """The records of a file, up to its end or to damage that the scanner does not pass either."""
    buffer, position, filled = blocks.behind(begin)
    before = begin - position
    intact, problems = -1, 0
    step = {"pcap": pcap_record, "snoop": snoop_record, "pcapng": pcapng_record}[walk.framing.format]
    view = buffer.data
    while True:
        size, record = step(walk, view, position, filled)
        if size:
            position += size
            if record is not None:
                yield record
            continue
        if size is None:  # no packet, or damage
            interfaces = len(walk.framing.interfaces)
            size, problem = capture.take_in(walk.framing, view[position:filled])
            if problem is None:
                if size:
                    announce(walk, view[position : position + size], interfaces)
            else:
                offset = before + position
                if not size or offset == intact or problems == capture.PROBLEMS:
                    return
                problems += 1
                intact = offset + size
            if size:
                position += size
                continue
        offset, rest = before + position, buffer[position:filled]
        try:
            buffer, position, filled = blocks.after(rest)
        except CaptureError:
            return
        if filled - position == len(rest):
            return
        before, view = offset - position, buffer.data


Step = tuple[int | None, Record | None]
"""How far to go on, and the packet there. 0: there is not enough; ``None``: that is no packet, or damage."""


def pcap_record(walk: Walk, view: memoryview, at: int, end: int) -> Step:
    framing = walk.framing
    header, mark = framing.record_header, "<" if framing.little else ">"
    if at + header > end:
        return 0, None
    seconds, fraction, captured, wire = struct.unpack_from(mark + "IIII", view, at)
    if framing.swapped and captured > wire:
        captured, wire = wire, captured
    if captured > capture.LARGEST_RECORD:
        return None, None
    if at + header + captured > end:
        return 0, None
    ticks = seconds * 10**framing.digits + fraction
    data = view[at + header : at + header + captured]
    return header + captured, Record(walk.interfaces[0], ticks, data, max(captured, wire))


def snoop_record(walk: Walk, view: memoryview, at: int, end: int) -> Step:
    if at + 24 > end:
        return 0, None
    wire, captured, total, _, seconds, microseconds = struct.unpack_from(">IIIIII", view, at)
    if captured > capture.LARGEST_RECORD or total < 24 + captured or total > 2 * capture.LARGEST_RECORD:
        return None, None
    if at + total > end:
        return 0, None
    data = view[at + 24 : at + 24 + captured]
    return total, Record(walk.interfaces[0], seconds * 10**6 + microseconds, data, max(captured, wire))


def pcapng_record(walk: Walk, view: memoryview, at: int, end: int) -> Step:
    if at + 12 > end:
        return 0, None
    mark = "<" if walk.framing.little else ">"
    kind, total = struct.unpack_from(mark + "II", view, at)
    if kind not in (2, 3, 6) or total < 16 or total & 3 or total > capture.LARGEST_BLOCK:
        return None, None
    if at + total > end:
        return 0, None
    if struct.unpack_from(mark + "I", view, at + total - 4)[0] != total:
        return None, None
    if kind == 3:
        return simple_record(walk, view, at, total, mark)
    if total < 32:
        return None, None
    number, high, low, captured, wire = struct.unpack_from(mark + "IIIII", view, at + 8)
    if kind == 2:
        number = struct.unpack_from(mark + "H", view, at + 8)[0]
    if captured > total - 32 or number >= len(walk.interfaces):
        return None, None
    ticks = high << 32 | low
    walk.latest = max(walk.latest, walk.framing.interfaces[number].nanoseconds(ticks))
    data = view[at + 28 : at + 28 + captured]
    return total, Record(walk.interfaces[number], ticks, data, max(captured, wire))


def simple_record(walk: Walk, view: memoryview, at: int, total: int, mark: str) -> Step:
    """A Simple Packet Block has no time and no interface: it is of the first one, and as late as any before it."""
    if not walk.interfaces:
        return None, None
    interface = walk.framing.interfaces[0]
    wire = struct.unpack_from(mark + "I", view, at + 8)[0]
    captured = min(total - 16, wire, interface.snaplen or wire)
    data = view[at + 12 : at + 12 + captured]
    return total, Record(walk.interfaces[0], interface.ticks_at(walk.latest), data, wire)


def announce(walk: Walk, block: memoryview, known: int) -> None:
    """Keep how an interface is described; forget the interfaces of the section before."""
    if bytes(block[:4]) == capture.SECTION:
        walk.interfaces.clear()
    elif len(walk.framing.interfaces) > known:
        order = walk.framing.order
        body = bytes(block[8:-4])
        kept = [option(code, value if code != 14 else value[::-1] if order == "big" else value)
                for code, value in capture.options(body[8:], order)
                if fits(code, value)]  # fmt: skip
        walk.interfaces.append(body_of(int.from_bytes(body[:2], order), b"".join(kept)))


def fits(code: int, value: bytes) -> bool:
    """An option of an interface that is kept: its name, description, hardware and system, and what its times mean."""
    size = {9: 1, 13: 1, 14: 8}.get(code)
    return code in (2, 3, 12, 15) if size is None else len(value) == size


def plain_interface(framing: Framing) -> bytes:
    """The only interface of a pcap or snoop file."""
    (interface,) = framing.interfaces
    resolution = option(9, bytes([interface.digits]))
    frame_check = option(13, bytes([interface.frame_check])) if interface.frame_check else b""
    return body_of(interface.linktype, resolution + frame_check)


# -- writing ---------------------------------------------------------------------------------------------------


def option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(kind: int, body: bytes, options: bytes) -> bytes:
    body += options + option(0, b"") if options else b""
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def section() -> bytes:
    """A Section Header Block: version 1.0, length unknown."""
    return block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), option(4, f"tpe-pcap {__version__}".encode()))


def body_of(linktype: int, options: bytes) -> bytes:
    """The body of an Interface Description Block. Its snap length is 0, none: packets are written as they are."""
    return struct.pack("<HHI", linktype, 0, 0) + options


def described(body: bytes, path: str) -> bytes:
    """An Interface Description Block with the name of the file that it is from as a comment."""
    return block(1, body[:8], body[8:] + option(1, text(path)))


def packet(interface: int, record: Record, comments: Iterator[str]) -> bytes:
    """An Enhanced Packet Block with comments."""
    high, low = divmod(record.ticks, 1 << 32)
    head = struct.pack("<IIIII", interface, high, low, len(record.data), record.wire)
    padding = bytes(-len(record.data) % 4)
    return block(6, head + bytes(record.data) + padding, b"".join(option(1, text(each)) for each in comments))


def text(said: str) -> bytes:
    """A comment in UTF-8, without what a terminal acts upon."""
    return escape_text(said).encode()[:COMMENT].decode(errors="ignore").encode()
