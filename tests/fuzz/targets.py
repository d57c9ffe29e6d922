"""The targets of the fuzzer. A target reads one input; any exception is a crash.

The tests run every target, without atheris, on its seeds and on the crashes that were found. Containers are fuzzed as
the bytes of a file. Inputs of other targets consist of pieces (see :func:`packed`), so that a mutation changes content
and keeps the lengths around it correct.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from analyzer import expected, flows, pipeline, protocols
from analyzer.capture.formats import PCAP_MAGICS, SNOOP_LINKS
from analyzer.capture.model import CaptureError, Order
from analyzer.capture.pcapng import SECTION
from analyzer.heads import Datagram, Direction, Frame, Head, Mark, Stream
from analyzer.messages import to_json
from analyzer.protocols import PROTOCOLS, Dissection, ProtocolModule
from analyzer.reports import FORMATS
from analyzer.result import Audit
from analyzer.scanner.decapsulation import ETHERTYPES, IP_PROTOCOLS, LINKS, UDP_PORTS
from analyzer.wire import Cause
from tests import build, samples

SECONDS, MEGABYTES = 5, 500
"""Limits of processor time and memory of one input; more counts as a crash."""
SEEDS, SEED_BYTES = 200, 4096
"""Maximum number of seeds of a target, and bytes of a seed."""

Mutate = Callable[[bytes, random.Random, Callable[[bytes], bytes]], bytes]
"""Function from an input, a random source, and a mutation of plain bytes, to another input."""


class Target(NamedTuple):
    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Mutate


def timed(target: Target, data: bytes) -> None:
    """Run a target. ``AssertionError`` if it takes too long."""
    begun = time.process_time()
    target.run(data)
    took = time.process_time() - begun
    assert took < SECONDS, f"took {took:.1f} s"


# -- pieces -----------------------------------------------------------------------------------------------------


def packed(pieces: Iterable[tuple[int, bytes]]) -> bytes:
    """Pieces as one input; each is a flag byte, a length of two bytes, and its bytes."""
    return b"".join(bytes([flag]) + len(data).to_bytes(2, "big") + data for flag, data in pieces)


def unpacked(data: bytes) -> list[tuple[int, bytes]]:
    """The pieces of an input. The last one may be truncated."""
    found = []
    at = 0
    while at + 3 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 3], "big")
        found.append((data[at], data[at + 3 : at + 3 + size]))
        at += 3 + size
    return found


def mutate_pieces(data: bytes, rng: random.Random, plain: Callable[[bytes], bytes]) -> bytes:
    """Change a piece (most often), or its flag; or remove, duplicate, move or splice one."""
    pieces = unpacked(data) or [(0, b"")]
    at = rng.randrange(len(pieces))
    flag, piece = pieces[at]
    kind = rng.randrange(12)
    if kind < 7:
        pieces[at] = flag, plain(piece)[:65535]
    elif kind == 7:
        pieces[at] = rng.randrange(256), piece
    elif kind == 8:
        pieces.insert(rng.randrange(len(pieces) + 1), (flag, piece))
    elif kind == 9:
        del pieces[at]
    elif kind == 10:
        pieces.insert(rng.randrange(len(pieces)), pieces.pop(at))
    else:
        other = rng.choice(pieces)[1]
        cut, begin = rng.randrange(len(piece) + 1), rng.randrange(len(other) + 1)
        pieces[at] = flag, (piece[:cut] + other[begin:])[:65535]
    return packed(pieces)


# -- containers -------------------------------------------------------------------------------------------------


@cache
def scratch() -> Path:
    """The capture file of this process."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None)) / "fuzzed"


def read_file(data: bytes) -> None:
    """Every packet of a capture file is counted, or the file is refused with one line."""
    path = scratch()
    path.write_bytes(data)
    try:
        found = flows.read([str(path)])
    except CaptureError as error:
        assert "\n" not in str(error)
        return
    assert build.accounted(found), found.counts


def read_compressed(data: bytes) -> None:
    """The same for a compressed file. The first byte selects the compression; any other starts a compressed file."""
    pack = PACKERS.get(data[:1])
    read_file(pack(data[1:]) if pack else data)


PACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\1": partial(gzip.compress, mtime=0),
    b"\2": bz2.compress,
    b"\3": lzma.compress,
}


def captured(count: int = SEEDS) -> Iterator[bytes]:
    """The first records of the recorded captures, the smallest files first."""
    paths = sorted(samples.all_captures(), key=lambda path: (path.stat().st_size, path.name))
    for path in islice(paths, count):
        yield b"".join(upto(records(path.read_bytes()), SEED_BYTES))


def upto(parts: Iterable[bytes], limit: int) -> Iterator[bytes]:
    for part in parts:
        limit -= len(part)
        if limit < 0:
            return
        yield part


def recorded_pcap() -> Iterator[bytes]:
    """pcap with every magic number and byte order."""
    yield from (data for data in captured() if data[:4] != SECTION)
    frames = build.timed([build.tcp(build.STATION, 40000, build.SERVER, 3001, build.SYN)] * 3)
    for magic in PCAP_MAGICS:
        for order in ("<", ">"):
            yield build.pcap(frames, magic=magic, order=order)
    yield build.pcap(frames, modified=True)
    yield build.pcap(frames, minor=2, linktype=6)


def recorded_pcapng() -> Iterator[bytes]:
    yield from (data for data in captured() if data[:4] == SECTION)
    frame = build.tcp(build.STATION, 40000, build.SERVER, 3001, build.SYN)
    for order in ("<", ">"):
        yield b"".join(
            (
                build.section(order),
                build.interface(1, 96, 9, 7, order, 4),
                build.enhanced(frame, 1, 0, order),
                build.simple(frame, order),
                build.obsolete(frame, 2, 0, order),
                build.statistics(1, 2, 0, order),
                build.block(4, build.option(1, b"\1\2\3\4name\0", order), order),
                build.block(10, b"KSLT\4\0\0\0keys", order),
                build.block(0xBAD, bytes(8), order),
            )
        )


def recorded_snoop() -> Iterator[bytes]:
    frames = build.timed([build.tcp(build.STATION, 40000, build.SERVER, 3001, build.SYN)] * 3)
    for datalink in SNOOP_LINKS:
        yield build.snoop(frames, datalink, lost=3)


def recorded_compressed() -> Iterator[bytes]:
    small = build.pcap(build.timed([build.tcp(build.STATION, 40000, build.SERVER, 3001, build.SYN)] * 3))
    for first in PACKERS:
        yield first + small
        yield PACKERS[first](small)
        yield PACKERS[first](small[:50]) + PACKERS[first](small[50:])


def records(data: bytes) -> list[bytes]:
    """A capture file as its header and its records, as far as their lengths are valid."""
    kind, order = kind_of(data)
    at = {"pcap": 24, "snoop": 16, "pcapng": 0}[kind]
    found = [data[:at]]
    while at < len(data):
        if kind == "pcap":
            size = 16 + int.from_bytes(data[at + 8 : at + 12], order)
        elif kind == "snoop":
            size = int.from_bytes(data[at + 8 : at + 12], order)
        else:
            size = int.from_bytes(data[at + 4 : at + 8], order)
        size = size if 12 <= size <= len(data) - at else len(data) - at
        found.append(data[at : at + size])
        at += size
    return found


def kind_of(data: bytes) -> tuple[str, Order]:
    if data[:4] == SECTION:
        return "pcapng", "big" if data[8:12] == b"\x1a\x2b\x3c\x4d" else "little"
    if data[:5] == b"snoop":
        return "snoop", "big"
    return "pcap", "big" if data[:1] == b"\xa1" else "little"


def mutate_file(data: bytes, rng: random.Random, plain: Callable[[bytes], bytes]) -> bytes:
    """Change any bytes, or a record with its lengths; or remove, duplicate or move a record."""
    parts = records(data)
    if len(parts) < 2 or rng.random() < 0.5:
        return plain(data)
    kind, order = kind_of(data)
    at = rng.randrange(1, len(parts))
    action = rng.randrange(8)
    if action < 5:
        parts[at] = refilled(kind, order, parts[at], plain)
    elif action == 5:
        del parts[at]
    elif action == 6:
        parts.insert(rng.randrange(1, len(parts) + 1), parts[at])
    else:
        parts.insert(rng.randrange(1, len(parts)), parts.pop(at))
    return b"".join(parts)


def refilled(kind: str, order: Order, record: bytes, plain: Callable[[bytes], bytes]) -> bytes:
    """A record with mutated content and correct lengths."""
    if kind == "pcap":
        body = plain(record[16:])
        size = len(body).to_bytes(4, order)
        return record[:8] + size + size + body
    if kind == "snoop":
        body = plain(record[24:])
        size = len(body).to_bytes(4, order)
        return size + size + (24 + len(body)).to_bytes(4, order) + record[12:24] + body
    body = plain(record[8:-4])
    body += bytes(-len(body) % 4)
    size = (12 + len(body)).to_bytes(4, order)
    return record[:4] + size + body + size


# -- link layers and encapsulations -----------------------------------------------------------------------------

LINKTYPES = sorted({*LINKS, 0, 1, 12, 14, 101, 108, 113, 228, 229, 276})


def read_frames(data: bytes) -> None:
    """Frames of any link type. The flag of a piece selects it."""
    interfaces = b"".join(build.interface(linktype) for linktype in LINKTYPES)
    blocks = (
        build.enhanced(frame, number, flag % len(LINKTYPES)) for number, (flag, frame) in enumerate(unpacked(data))
    )
    read_file(build.section() + interfaces + b"".join(blocks))


def recorded_frames() -> Iterator[bytes]:
    """One datagram in every link type and encapsulation, and in fragments."""
    inner = build.ip4(build.STATION, build.SERVER, 17, build.udp_datagram(40000, 53, b"x" * 40))
    inner6 = build.ip6(build.STATION6, build.SERVER6, 17, build.udp_datagram(40000, 53, b"x" * 40))
    ethernet = LINKTYPES.index(1)
    for index, linktype in enumerate(LINKTYPES):
        wrap = build.LINKS.get(linktype, bytes)
        yield packed([(index, wrap(inner)), (index, wrap(inner6)), (index, bytes(16) + inner)])
    for ethertype in ETHERTYPES:
        yield packed([(ethernet, build.ethernet(bytes(skipped) + inner, ethertype)) for skipped in (0, 4, 8, 16)])
    for protocol in IP_PROTOCOLS:
        for skipped in (0, 4, 8, 24):
            carrier = build.ip4(build.STATION, build.SERVER, protocol, bytes(skipped) + inner)
            yield packed([(ethernet, build.ethernet(carrier))])
    for port in UDP_PORTS:
        for skipped in (0, 8, 16):
            frame = build.udp(build.STATION, 40000, build.SERVER, port, bytes(skipped) + build.ethernet(inner))
            yield packed([(ethernet, frame)])
    for whole in (inner, inner6):
        yield packed((ethernet, build.ethernet(fragment)) for fragment in build.fragments(whole, 8))


# -- protocols --------------------------------------------------------------------------------------------------


def read_head(module: ProtocolModule, data: bytes) -> None:
    """A head, dissected as one protocol and as the protocol that it looks like.

    The first piece holds transport and ports. Every other piece is a segment or a datagram; the lowest bit of its flag
    is the direction.
    """
    head = head_of(unpacked(data))
    assert_sound(protocols.dissect_as(module, head))
    assert_sound(protocols.dissect(head))


TRANSPORTS = ("tcp", "udp", "icmp", "icmpv6", "esp")


def head_of(pieces: list[tuple[int, bytes]]) -> Head:
    flag, ports_piece = pieces[0] if pieces else (0, b"")
    transport = TRANSPORTS[(flag & 7) % len(TRANSPORTS)]
    ports = int.from_bytes(ports_piece[:2], "big"), int.from_bytes(ports_piece[2:4], "big")
    placed = [(Direction(flag & 1), piece, number) for number, (flag, piece) in enumerate(pieces[1:], 1) if piece]
    if transport != "tcp":
        datagrams = (
            Datagram(side, piece, len(piece) + flag // 128, Frame(0, number), number * 10**9)
            for side, piece, number in placed[:128]
        )
        return Head(transport, ports, datagrams=tuple(datagrams))
    streams = []
    for direction in Direction:
        parts = b""
        marks = []
        for side, piece, number in placed:
            if side == direction:
                marks.append(Mark(len(parts), Frame(0, number), number * 10**9))
                parts += piece
        ends = bool(flag & 16 << direction) and bool(parts)
        streams.append(Stream(parts, tuple(marks), not flag & 64 << direction, ends))
    return Head(transport, ports, (streams[0], streams[1]))


def pieces_of(head: Head) -> Iterator[tuple[int, bytes]]:
    """The pieces of which :func:`head_of` makes a head."""
    flag = TRANSPORTS.index(head.transport)
    for direction, stream in zip(Direction, head.streams, strict=True):
        flag |= (16 << direction) * stream.ends | (64 << direction) * (not stream.begins)
    yield flag & 255, b"".join(port.to_bytes(2, "big") for port in head.ports)
    if head.transport != "tcp":
        yield from ((datagram.direction, datagram.data) for datagram in head.datagrams)
        return
    parts = []
    for direction, stream in zip(Direction, head.streams, strict=True):
        ends = [*(mark.offset for mark in stream.marks[1:]), len(stream.data)]
        for mark, end in zip(stream.marks, ends, strict=False):
            parts.append((mark.frame, direction, stream.data[mark.offset : end]))
    yield from ((direction, part) for _, direction, part in sorted(parts))


def recorded_heads(module: ProtocolModule) -> list[bytes]:
    """The heads of a protocol in the recorded captures, shortest first."""
    return sorted(heads_by_protocol().get(module.NAME, ()), key=lambda head: (len(head), head))[:SEEDS]


@cache
def heads_by_protocol() -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for path in samples.all_captures():
        for conversation in pipeline.list_flows(str(path)).conversations:
            if conversation.protocol is not None and conversation.transport in TRANSPORTS:
                pieces = (packed([piece]) for piece in pieces_of(conversation.head))
                found.setdefault(conversation.protocol, set()).add(b"".join(upto(pieces, 2 * SEED_BYTES)))
    return found


def assert_sound(dissection: Dissection) -> None:
    """No bug of the dissector, and facts that are valid in JSON."""
    defects = [error for error in dissection.parse_errors if error.anomaly.cause is Cause.DEFECT]
    assert not defects, defects
    json.dumps(to_json(dissection.facts))
    len(dissection.items)


# -- the audit --------------------------------------------------------------------------------------------------


def audit_file(data: bytes) -> None:
    """Audit a file: no bug, and every packet is counted."""
    path = scratch()
    path.write_bytes(data)
    try:
        result = pipeline.audit(path)
    except CaptureError as error:
        assert "\n" not in str(error)
        return
    assert_judged(result)


def assert_judged(result: Audit) -> None:
    """Invariants of every audit: no bug, all formats, every packet counted, unreadable ones reported."""
    defects = [finding.summary for finding in result.findings if finding.check == "TPE900"]
    assert not defects, defects
    for report in FORMATS:
        assert report.render(result)
    totals = result.totals
    parts = totals.packets_in_flows, totals.icmp_errors, totals.copies, totals.packets_without_ip
    assert (
        totals.packets == sum(parts) + totals.packets_unreadable == sum(capture.packets for capture in result.captures)
    )
    assert totals.packets_in_flows == totals.packets_of_base_stations + totals.packets_out_of_scope
    assert totals.packets_without_ip == sum(totals.without_ip.values())
    assert totals.packets_unreadable == sum(totals.unreadable.values())
    fired = {finding.check for finding in result.findings}
    assert not totals.packets_unreadable or "TPE002" in fired
    assert not any(capture.problems for capture in result.captures) or "TPE001" in fired


def prepare() -> None:
    """Compile the kernels and read the tables of rules once, before fuzzing."""
    build.read(())
    expected.load = cache(expected.load)


TARGETS = (
    Target("pcap", read_file, recorded_pcap, mutate_file),
    Target("pcapng", read_file, recorded_pcapng, mutate_file),
    Target("snoop", read_file, recorded_snoop, mutate_file),
    Target("compressed", read_compressed, recorded_compressed, lambda data, rng, plain: plain(data)),
    Target("frames", read_frames, recorded_frames, mutate_pieces),
    *(
        Target(
            module.__name__.rpartition(".")[2],
            partial(read_head, module),
            partial(recorded_heads, module),
            mutate_pieces,
        )
        for module in PROTOCOLS
    ),
    Target("audit", audit_file, captured, mutate_file),
)


def replay(name: str, data: bytes) -> None:
    """Run the target with a name."""
    timed(next(target for target in TARGETS if target.name == name), data)


def crashes() -> Iterator[tuple[str, Path]]:
    """Every kept crash, with the name of its target."""
    folder = Path(__file__).parent / "crashes"
    for path in sorted(folder.glob("*/*")):
        yield path.parent.name, path
