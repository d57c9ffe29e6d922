"""Example captures of every format, shared by the tests of this folder."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from lz4.frame import compress as pack_lz4

from analyzer import flows
from analyzer.capture import CaptureError
from tests import build
from tests.build import SECOND, Order, Packet

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TIME = 1_700_000_000 * SECOND + 123_456_789
FRAME = build.udp(build.STATION, 40000, build.RESOLVER, 5353, b"question")

PCAP = build.pcap([Packet(FRAME, TIME), Packet(FRAME, TIME + SECOND)])

PACKETS = [
    Packet(build.tcp(build.STATION, 50000, build.SERVER, 443, build.SYN, 9), TIME),
    Packet(build.tcp(build.SERVER, 443, build.STATION, 50000, build.SYN | build.ACK, 99), TIME + 2_000_000),
    Packet(FRAME + b"odd", TIME + SECOND),
    Packet(build.echo(build.STATION6, build.SERVER6, 128, 7)[:80], TIME + 2 * SECOND, 94),
    Packet(build.tcp(build.STATION, 50000, build.SERVER, 443, build.ACK, 10, bytes(range(99))), TIME + 3 * SECOND),
]
"""Several flows; frames of odd length, and truncated ones."""

KUZNETZOV = struct.pack("<IHBB", 2, 0x0800, 0, 0)
"""Interface index, EtherType and packet type: what Kuznetsov's libpcap patches of 1999 add to a record header."""

COMPRESS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd.compress, "lz4": pack_lz4}


def pcapng_of(packets: list[Packet], order: Order = "<") -> bytes:
    """A pcapng file with the packets in Enhanced Packet Blocks of nanosecond resolution."""
    parts = [build.enhanced(frame, time, order=order, wire=wire) for frame, time, wire in packets]
    return build.section(order) + build.interface(order=order, resolution=9) + b"".join(parts)


MIXED_PCAPNG = (
    build.section()
    + build.interface(resolution=9)
    + build.enhanced(FRAME, 1)
    + build.block(4, build.option(1, b"\xc0\0\x02\x0agw\0"))
    + build.block(10, struct.pack("<II", 0x544C534B, 4) + b"keys")
    + build.statistics(1, 2)
    + build.section(">")
    + build.interface(order=">", resolution=0x94, frame_check=32)
    + build.enhanced(FRAME, 1, order=">")
    + build.simple(FRAME, order=">")
    + build.obsolete(FRAME, order=">")
)

EXAMPLES = {
    "pcap": build.pcap(PACKETS),
    ">pcap": build.pcap(PACKETS, order=">", nanoseconds=True),
    "frame check": build.pcap(PACKETS, 0x24000001),
    "modified": build.pcap(PACKETS, modified=True),
    "red hat": build.pcap(PACKETS, padding=KUZNETZOV),
    "suse": build.pcap(PACKETS, magic=0xA1B2CD34, padding=KUZNETZOV + bytes(4)),
    "old": build.pcap(PACKETS, minor=2),
    "snoop": build.snoop(PACKETS),
    "pcapng": pcapng_of(PACKETS),
    "mixed": MIXED_PCAPNG,
    "gzip": gzip.compress(PLAIN_PCAP := build.pcap(PACKETS)),
    "bzip2": bz2.compress(PLAIN_PCAP),
    "xz": lzma.compress(PLAIN_PCAP),
    "zstd": zstd.compress(PLAIN_PCAP),
    "lz4": pack_lz4(PLAIN_PCAP),
}
"""A valid file of every format and compression."""

HEADERS = {
    "pcap": build.pcap([]),
    ">pcap": build.pcap([], order=">"),
    "modified": build.pcap([], modified=True),
    "pcapng": build.section() + build.interface(),
    "snoop": build.snoop([]),
}


def error_text(content: bytes) -> str:
    """The error about a file that is no capture, without the path in front."""
    with pytest.raises(CaptureError) as caught:
        build.read_files(content)
    line = str(caught.value)
    assert "\n" not in line
    path, _, reason = line.partition(": ")
    assert Path(path).name == "0.pcap"
    return reason


def flow_values(found: flows.Flows) -> list[Any]:
    """Everything that the flow table holds, apart from what depends on the file format."""
    return [
        found.flow.tolist(),
        [found.side[name].tolist() for name in found.side.dtype.names or () if not name.startswith("recent")],
        found.counts,
        [(*piece[:2], *piece[3:]) for piece in found.pieces.tolist()],
        [found.payload(int(piece["arena"]), int(piece["kept"])) for piece in found.pieces],
    ]
