"""Capture files: every container, whatever is wrong with it, and the time line of several files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lz4.frame import compress as pack_lz4

from analyzer import flows
from analyzer.capture import CaptureError, pcapng
from analyzer.capture.model import MAX_NAMED_ADDRESSES, MAX_NAMES_PER_ADDRESS, MAX_PROBLEMS
from analyzer.capture.pcapng import MAX_KINDS
from analyzer.capture.timeline import chronological
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
"""Several flows; frames of odd and of cut length."""


KUZNETZOV = struct.pack("<IHBB", 2, 0x0800, 0, 0)
"""Interface index, Ethernet type and packet type, which his patches of 1999 put behind a record's header."""
PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd.compress, "lz4": pack_lz4}


def blocks(packets: list[Packet], order: Order = "<") -> bytes:
    """All packets as enhanced packet blocks of nanoseconds."""
    parts = [build.enhanced(frame, time, order=order, wire=wire) for frame, time, wire in packets]
    return build.section(order) + build.interface(order=order, resolution=9) + b"".join(parts)


MIXED = (
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
WHOLE = {
    "pcap": build.pcap(PACKETS),
    ">pcap": build.pcap(PACKETS, order=">", nanoseconds=True),
    "frame check": build.pcap(PACKETS, 0x24000001),
    "modified": build.pcap(PACKETS, modified=True),
    "red hat": build.pcap(PACKETS, padding=KUZNETZOV),
    "suse": build.pcap(PACKETS, magic=0xA1B2CD34, padding=KUZNETZOV + bytes(4)),
    "old": build.pcap(PACKETS, minor=2),
    "snoop": build.snoop(PACKETS),
    "pcapng": blocks(PACKETS),
    "mixed": MIXED,
    "gzip": gzip.compress(WHOLE_PCAP := build.pcap(PACKETS)),
    "bzip2": bz2.compress(WHOLE_PCAP),
    "xz": lzma.compress(WHOLE_PCAP),
    "zstd": zstd.compress(WHOLE_PCAP),
    "lz4": pack_lz4(WHOLE_PCAP),
}
"""A good file of each container."""


def failure(content: bytes) -> str:
    """The line about a file that is no capture, without the file's name in front."""
    with pytest.raises(CaptureError) as caught:
        build.read_files(content)
    line = str(caught.value)
    assert "\n" not in line
    path, _, reason = line.partition(": ")
    assert Path(path).name == "0.pcap"
    return reason


# -- pcap -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("nanoseconds", "modified", "digits", "time"),
    [
        (False, False, 6, TIME // 1000 * 1000),
        (True, False, 9, TIME),
        (False, True, 6, TIME // 1000 * 1000),
    ],
)
def test_every_kind_of_pcap(order: Order, nanoseconds: bool, modified: bool, digits: int, time: int) -> None:
    content = build.pcap([Packet(FRAME, TIME, 999)] * 2, 1, order, nanoseconds, modified)
    found = build.read_files(content)
    (file,) = found.captures
    assert (file.format, file.packets, file.bytes, file.digits) == ("pcap", 2, len(content), digits)
    assert (file.first, file.last, file.problems) == (time, time, ())
    assert found.side["bytes"][0].tolist() == [2 * 999, 0]
    assert found.counts.truncated == 2


def test_a_capture_without_packets_is_no_error() -> None:
    for content in (build.pcap([]), build.section(), build.section() + build.interface()):
        found = build.read_files(content)
        (file,) = found.captures
        assert (len(found), file.packets, file.first, file.last, file.problems) == (0, 0, None, None, ())


def columns(found: flows.Flows) -> list[Any]:
    """All that is known of flows, whatever container they were in."""
    return [
        found.flow.tolist(),
        [found.side[name].tolist() for name in found.side.dtype.names or () if not name.startswith("recent")],
        found.counts,
        [(*piece[:2], *piece[3:]) for piece in found.pieces.tolist()],
        [found.payload(int(piece["arena"]), int(piece["kept"])) for piece in found.pieces],
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "behind", "variant"),
    [
        (0xA1B2C3D4, b"", None),
        (0xA1B2C3D4, KUZNETZOV, "Red Hat 6.1"),
        (0xA1B2C3D4, 0x9FBFB601, "Nokia"),
        (0xA1B2CD34, KUZNETZOV, "modified"),
        (0xA1B2CD34, KUZNETZOV + bytes(4), "SuSE 6.3"),
    ],
)
@pytest.mark.parametrize("count", [2, 5])
def test_dialects_under_one_magic_number(
    order: Order, magic: int, behind: bytes | int, variant: str | None, count: int
) -> None:
    if isinstance(behind, int):
        behind = struct.pack(order + "I", behind)
    elif order == ">" and behind:
        behind = struct.pack(">IH", *struct.unpack("<IH", behind[:6])) + behind[6:]
    packets = [Packet(FRAME, TIME // 1000 * 1000 + index * SECOND) for index in range(count)]
    for buffer_size in (64, 4 << 20):
        content = build.pcap(packets, order=order, magic=magic, padding=behind)
        found = build.read_files(content, buffer_size=buffer_size)
        assert columns(found) == columns(build.read_files(build.pcap(packets)))
        (file,) = found.captures
        assert (file.problems, file.facts.variant) == ((), variant)


def test_a_cut_or_damaged_ordinary_file_stays_ordinary() -> None:
    loopback = FRAME[12:].rjust(len(FRAME), b"\0")  # without addresses, which look like a longer record header
    for frame in (FRAME, loopback):
        whole = build.pcap([Packet(frame, TIME)] * 4)
        for end in range(24, len(whole)):
            file = build.read_files(whole[:end]).captures[0]
            assert file.facts.variant is None
            assert file.packets == (end - 24) // (16 + len(frame))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_ixia_files_tell_their_length_behind_the_header(order: Order, nanoseconds: bool) -> None:
    whole = build.pcap(PACKETS, order=order, nanoseconds=nanoseconds, magic=0x1C0001AC if nanoseconds else 0x1C0001AB)
    content = whole[:24] + struct.pack(order + "I", len(whole) - 24) + whole[24:]
    found = build.read_files(content)
    assert columns(found) == columns(build.read_files(build.pcap(PACKETS, nanoseconds=nanoseconds)))
    assert (found.captures[0].digits, found.captures[0].facts.variant) == (9 if nanoseconds else 6, "IXIA")


@pytest.mark.parametrize(("minor", "swapped"), [(2, True), (3, True), (3, False)])
def test_old_files_have_the_two_lengths_in_either_order(minor: int, swapped: bool) -> None:
    sizes = (60, len(FRAME)) if swapped else (len(FRAME), 60)
    record = struct.pack("<IIII", 1, 2, *sizes) + FRAME
    found = build.read_files(build.pcap([], minor=minor) + record * 2)
    assert found.side["bytes"][0].tolist() == [120, 0]
    assert found.counts.truncated == 2


def test_aix_has_link_types_and_nanoseconds_of_its_own() -> None:
    content = build.pcap(PACKETS, 6, ">", nanoseconds=True, magic=0xA1B2C3D4, minor=2)
    found = build.read_files(content)
    assert columns(found) == columns(build.read_files(build.pcap(PACKETS, nanoseconds=True)))
    assert (found.captures[0].digits, found.captures[0].facts.variant) == (9, "AIX")


def test_reserved_bits_of_the_link_type_mean_nothing() -> None:
    for bits in (0x03FF0000, 0x08000000, 0xF0000000, 0xF4000000):
        found = build.read_files(PCAP[:20] + struct.pack("<I", bits | 1) + PCAP[24:])
        assert (len(found), found.captures[0].facts.frame_check_bytes) == (1, None)


@pytest.mark.parametrize("container", ["pcap", "pcapng, bits", "pcapng, bytes"])
def test_a_frame_check_sequence_is_no_payload(container: str) -> None:
    """Where the IP header tells no length, the frame's end is the packet's."""
    datagram = build.udp_datagram(40000, 5353, b"question")
    frame = build.ethernet(build.ip4(build.STATION, build.RESOLVER, 17, datagram, total=0))
    checked = frame + struct.pack("<I", zlib.crc32(frame))
    for kept in (len(checked), len(checked) - 2, len(checked) - 4):  # also cut within it, and by whoever captured
        packet = Packet(checked[:kept], TIME, len(checked))
        if container == "pcap":
            content = build.pcap([packet], 0x24000001)
        else:
            content = build.section() + build.interface(frame_check=32 if "bits" in container else 4)
            content += build.enhanced(packet.frame, wire=packet.wire)
        found = build.read_files(content)
        (piece,) = found.pieces
        assert found.payload(piece["arena"], piece["kept"]) == b"question"
        assert piece["length"] == 8
        assert found.side["bytes"][0].tolist() == [len(checked), 0]
        assert found.captures[0].facts.frame_check_bytes == 4


# -- snoop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer_size", [64, 100, 4 << 20])
def test_snoop(buffer_size: int) -> None:
    content = build.snoop(PACKETS, lost=7)
    found = build.read_files(content, buffer_size=buffer_size)
    assert columns(found) == columns(build.read_files(build.pcap(PACKETS)))
    (file,) = found.captures
    assert (file.format, file.packets, file.bytes, file.digits) == ("snoop", len(PACKETS), len(content), 6)
    assert (file.problems, file.facts.lost) == ((), 7)


def test_snoop_of_other_links() -> None:
    loopback = [Packet(build.null(FRAME[14:]), TIME)]
    assert len(build.read_files(build.snoop(loopback, 14))) == 1
    assert failure(build.snoop(loopback, 17)) == "has snoop datalink type 17, which is not supported at byte 12"


@pytest.mark.parametrize("sizes", [(50, 50, 73), (50, 262145, 262172), (50, 50, 23), (50, 50, 1 << 31)])
def test_an_impossible_snoop_record_is_named_by_its_offset(sizes: tuple[int, int, int]) -> None:
    good = build.snoop([Packet(FRAME, TIME)])
    content = good + struct.pack(">IIIIII", *sizes, 0, 0, 0) + bytes(300000)
    (file,) = build.read_files(content).captures
    rest = len(content) - len(good)
    assert file.packets == 1
    assert file.problems == (
        f"damage at byte {len(good)}: the length of a record is impossible; the rest of the file, {rest} bytes, "
        "was not read",
    )


# -- the real tools ---------------------------------------------------------------------------------------------

EDITCAP = shutil.which("editcap")
WRITTEN = {
    "pcap": ("pcap", None),
    "nsecpcap": ("pcap", None),
    "modpcap": ("pcap", "modified"),
    "rh6_1pcap": ("pcap", "Red Hat 6.1"),
    "suse6_3pcap": ("pcap", "SuSE 6.3"),
    "nokiapcap": ("pcap", "Nokia"),
    "snoop": ("snoop", None),
    "pcapng": ("pcapng", None),
}


@pytest.mark.skipif(not EDITCAP, reason="editcap is not installed")
@pytest.mark.parametrize("kind", WRITTEN)
def test_what_editcap_writes(tmp_path: Path, kind: str) -> None:
    assert EDITCAP
    plain, written = tmp_path / "plain.pcap", tmp_path / "written"
    plain.write_bytes(build.pcap(PACKETS))
    subprocess.run([EDITCAP, "-F", kind, plain, written], check=True)
    found = flows.read([str(written)])
    assert columns(found) == columns(flows.read([str(plain)]))
    (file,) = found.captures
    assert (file.format, file.facts.variant, file.problems) == (*WRITTEN[kind], ())


@pytest.mark.parametrize(
    "tool",
    [["gzip"], ["bzip2"], ["xz"], ["xz", "-9"], ["zstd"], ["zstd", "--ultra", "-22"], ["lz4"], ["lz4", "-9", "-BD"]],
    ids=" ".join,
)
def test_what_the_packers_write(tool: list[str]) -> None:
    if not shutil.which(tool[0]):
        pytest.skip(f"{tool[0]} is not installed")
    content = build.pcap(PACKETS * 5000)
    packed = subprocess.run([*tool, "-c"], input=content, capture_output=True, check=True).stdout
    found = build.read_files(packed)
    assert columns(found) == columns(build.read_files(content))
    assert (found.captures[0].facts.compression, found.captures[0].problems) == (tool[0], ())


# -- pcapng -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "ticks", "expected", "digits"),
    [
        (None, TIME // 1000, TIME // 1000 * 1000, 6),
        (3, TIME // 10**6, TIME // 10**6 * 10**6, 3),
        (6, TIME // 1000, TIME // 1000 * 1000, 6),
        (9, TIME, TIME, 9),
        (12, 5 * 10**12 + 7_654_321, 5 * SECOND + 7_654, 9),
        (0x80 | 20, (5 << 20) + 1, 5 * SECOND + 953, 9),
        (0x80 | 32, (5 << 32) + (1 << 31), 5 * SECOND + SECOND // 2, 9),
        (0, 7, 7 * SECOND, 0),
    ],
)
def test_time_resolutions(order: Order, resolution: int | None, ticks: int, expected: int, digits: int) -> None:
    content = (
        build.section(order)
        + build.interface(resolution=resolution, order=order)
        + build.enhanced(FRAME, ticks, order=order)
    )
    (file,) = build.read_files(content).captures
    assert (file.format, file.first, file.digits, file.problems) == ("pcapng", expected, digits, ())


def test_time_offset() -> None:
    content = build.section() + build.interface(offset=-30) + build.enhanced(FRAME, 100 * 10**6)
    assert build.read_files(content).captures[0].first == 70 * SECOND


def test_interfaces_differ_in_link_type_and_resolution() -> None:
    packet = FRAME[14:]
    content = (
        build.section()
        + build.interface(1)
        + build.interface(101, resolution=9)
        + build.interface(113, resolution=3)
        + build.enhanced(FRAME, 1_000_000)
        + build.enhanced(packet, 2 * SECOND, 1)
        + build.obsolete(build.cooked(packet), 3_000, 2)
    )
    found = build.read_files(content)
    assert len(found) == 1
    assert (found.flow["first"][0], found.flow["last"][0]) == (SECOND, 3 * SECOND)
    assert found.side["packets"][0].tolist() == [3, 0]


def test_sections_of_different_byte_order_start_anew() -> None:
    orders: tuple[Order, ...] = ("<", ">", "<")
    content = b"".join(
        build.section(order)
        + build.interface(101 if order == ">" else 1, order=order)
        + build.enhanced(FRAME[14:] if order == ">" else FRAME, ticks=number * 1_000_000, order=order)
        for number, order in enumerate(orders)
    )
    found = build.read_files(content)
    assert (len(found), found.counts.in_flows) == (1, 3)


def test_simple_packets_are_cut_by_the_snap_length() -> None:
    content = (
        build.section()
        + build.interface(snaplen=45)
        + build.enhanced(FRAME[:45], 7_000_000, wire=len(FRAME))
        + build.simple(FRAME[:45], wire=len(FRAME))  # padded to 48 bytes
    )
    found = build.read_files(content)
    assert found.side["packets"][0].tolist() == [2, 0]
    assert found.side["bytes"][0].tolist() == [2 * len(FRAME), 0]
    assert found.pieces["kept"].tolist() == [3, 3]
    assert found.captures[0].last == 7 * SECOND


def test_blocks_of_other_kinds_are_skipped_and_counted() -> None:
    other = b"".join(build.block(kind, bytes(20)) for kind in (4, 5, 9, 10, 11, 0xBAD, 0x40000BAD, 0x80000001))
    content = build.section() + other + build.interface() + other + build.enhanced(FRAME) + other
    found = build.read_files(content)
    (file,) = found.captures
    assert (found.counts.packets, file.problems) == (1, ())
    assert file.facts.skipped == {"0x0000000b": 3, "0x80000001": 3, "custom": 6, "systemd journal": 3}


def test_kinds_of_blocks_are_limited() -> None:
    content = build.section() + b"".join(build.block(0x1000 + kind, b"") for kind in range(1000))
    skipped = build.read_files(content).captures[0].facts.skipped
    assert (len(skipped), sum(skipped.values())) == (MAX_KINDS + 1, 1000)


@pytest.mark.parametrize("order", ["<", ">"])
def test_names_are_facts(order: Order) -> None:
    records = [
        (1, socket.inet_aton("192.0.2.10") + b"gw.example\0lrr\0"),
        (2, socket.inet_pton(socket.AF_INET6, "2001:db8::10") + b"gw6\0"),
        (3, bytes(6) + b"station\xff\0"),
        (7, b"of a kind to come"),
        (1, b"\xc0\0"),
        (1, socket.inet_aton("192.0.2.10") + b"lrr\0alias\0"),
    ]
    body = b"".join(build.option(kind, value, order) for kind, value in records) + build.option(0, b"", order)
    (file,) = build.read_files(build.section(order) + build.block(4, body, order)).captures
    assert file.facts.names == {
        "00:00:00:00:00:00": ("station\\xff",),
        "192.0.2.10": ("gw.example", "lrr", "alias"),
        "2001:db8::10": ("gw6",),
    }


def test_names_are_limited() -> None:
    records = b"".join(build.option(1, struct.pack(">I", number) + b"x\0") for number in range(MAX_NAMED_ADDRESSES + 9))
    many = b"".join(build.option(1, bytes(4) + b"%d" % number + b"x" * 1000 + b"\0") for number in range(100))
    content = build.section() + build.block(4, records) + build.block(4, many)
    names = build.read_files(content).captures[0].facts.names
    assert len(names) == MAX_NAMED_ADDRESSES
    assert len(names["0.0.0.0"]) == MAX_NAMES_PER_ADDRESS
    assert max(map(len, names["0.0.0.0"])) == 255 + len("…")


def test_secrets_are_facts_but_never_their_content() -> None:
    key = b"CLIENT_RANDOM 5f 6e"
    blocks = [(0x544C534B, key), (0x544C534B, key), (0x57474B4C, b"LOCAL_STATIC"), (0x12345678, b"")]
    content = build.section() + b"".join(
        build.block(10, struct.pack("<II", kind, len(value)) + value) for kind, value in blocks
    )
    (file,) = build.read_files(content).captures
    assert file.facts.secrets == {"0x12345678": 0, "TLS key log": 2 * len(key), "WireGuard key log": 12}
    assert "RANDOM" not in repr(file)


@pytest.mark.parametrize("order", ["<", ">"])
def test_lost_packets_are_counted_once(order: Order) -> None:
    """An interface counts on; each section begins anew."""
    start = build.section(order) + build.interface(order=order) + build.interface(order=order)
    content = start + build.statistics(3, order=order) + build.statistics(5, 2, order=order)
    content += build.statistics(10, number=1, order=order) + build.statistics(100, number=2, order=order)
    assert build.read_files(start).captures[0].facts.lost is None
    assert build.read_files(start + build.statistics(0, order=order)).captures[0].facts.lost == 0
    assert build.read_files(content).captures[0].facts.lost == 17
    assert build.read_files(content + content).captures[0].facts.lost == 34


def test_the_finest_resolution_of_all_sections_counts() -> None:
    parts = [
        build.section() + build.interface(resolution=digits) + build.enhanced(FRAME, 10**digits) for digits in (9, 3)
    ]
    assert build.read_files(*parts, b"".join(parts)).captures[2].digits == 9


def test_very_many_interfaces_are_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcapng, "MAX_INTERFACES", 1000)
    start = build.section() + b"".join(build.interface(1 if number == 999 else 101) for number in range(1000))
    found = build.read_files(start + build.enhanced(FRAME, number=999) + build.interface())
    assert len(found) == 1
    (problem,) = found.captures[0].problems
    assert "more than 1000 interfaces; the rest of the file, " in problem


def test_options_of_an_interface_may_lie() -> None:
    body = struct.pack("<HHI", 1, 0, 0) + struct.pack("<HH", 9, 60000) + b"\x09"
    content = build.section() + build.block(1, body) + build.enhanced(FRAME, 5_000_000)
    assert build.read_files(content).captures[0].first == 5 * SECOND


# -- compressed -------------------------------------------------------------------------------------------------

EACH_PACKER = pytest.mark.parametrize("name", PACKERS)


@EACH_PACKER
@pytest.mark.parametrize("content", [PCAP, MIXED, build.snoop(PACKETS)], ids=["pcap", "pcapng", "snoop"])
@pytest.mark.parametrize("buffer_size", [64, 100, 4 << 20])
def test_compressed_captures(name: str, content: bytes, buffer_size: int) -> None:
    packed = PACKERS[name](content)
    found = build.read_files(packed, buffer_size=buffer_size)
    assert columns(found) == columns(build.read_files(content))
    (file,) = found.captures
    assert (file.bytes, file.problems, file.facts.compression) == (len(packed), (), name)


@EACH_PACKER
@pytest.mark.parametrize("buffer_size", [100, 4 << 20])
def test_members_and_frames_are_one_file(name: str, buffer_size: int) -> None:
    pack = PACKERS[name]
    packed = b"".join(pack(PCAP[at : at + 50]) for at in range(0, len(PCAP), 50))
    (file,) = build.read_files(packed + pack(b""), buffer_size=buffer_size).captures
    assert (file.packets, file.problems) == (2, ())


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_frames_that_say_skip_me_are_skipped(name: str) -> None:
    skip = struct.pack("<II", 0x184D2A5E, 7) + b"comment"
    pack = PACKERS[name]
    packed = skip + skip + pack(PCAP[:70]) + skip + pack(PCAP[70:]) + skip
    for buffer_size in (100, 4 << 20):
        (file,) = build.read_files(packed, buffer_size=buffer_size).captures
        assert (file.packets, file.problems, file.facts.compression) == (2, (), name)
    assert failure(skip) == "is empty"


@EACH_PACKER
@pytest.mark.parametrize("buffer_size", [100, 4 << 20])
def test_a_cut_compressed_capture_is_read_up_to_the_cut(name: str, buffer_size: int) -> None:
    noise = random.Random(1)
    frame = build.udp(build.STATION, 40000, build.SERVER, 9, bytes(1000))
    packets = [Packet(frame[:42] + noise.randbytes(1000), TIME) for _ in range(1500)]
    packed = PACKERS[name](build.pcap(packets))
    found = build.read_files(packed[: len(packed) - 1000], buffer_size=buffer_size)
    (file,) = found.captures
    assert 100 < file.packets < 1500
    assert file.problems == (f"{name} data are damaged: they end too early at byte {len(packed) - 1000}",)
    assert build.accounted(found)


@EACH_PACKER
def test_damaged_compressed_data_are_no_crash(name: str) -> None:
    packed = bytearray(PACKERS[name](PCAP))
    for at in range(6, len(packed)):
        damaged = packed.copy()
        damaged[at] ^= 0xFF
        try:
            build.read_files(bytes(damaged), PCAP)
        except CaptureError as error:
            assert "\n" not in str(error)


@EACH_PACKER
def test_what_follows_compressed_data_is_not_silently_left_out(name: str) -> None:
    (file,) = build.read_files(PACKERS[name](PCAP) + b"something else").captures
    assert file.packets == 2
    assert file.problems[0].startswith(f"{name} data are damaged: ")
    padded = build.read_files(PACKERS[name](PCAP) + bytes(100_000)).captures[0]
    assert (padded.packets, padded.problems) == (2, ())


@EACH_PACKER
def test_what_unpacks_to_very_much_takes_little_memory(name: str) -> None:
    """100 MB of records without content; the limit is on what reading adds, in a process of its own."""
    script = (
        "import resource, sys; from analyzer import flows; flows.read(sys.argv[1:2])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "packets = flows.read(sys.argv[2:]).captures[0].packets\n"
        "print(packets, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    small, large = (build.pcap([]) + bytes(size) for size in (1600, 100_000_000))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "small", Path(folder) / "large"]
        for path, content in zip(paths, (small, large), strict=True):
            path.write_bytes(PACKERS[name](content))
        done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, check=True)
    packets, kilobytes = map(int, done.stdout.split())
    assert packets == 100_000_000 // 16
    assert kilobytes < 20_000


def test_windows_that_take_too_much_memory_are_refused() -> None:
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, 21 << 3]) + b"\x01\0\0"  # a window of 2 GiB
    assert failure(frame) == "zstd data demand more than 128 MiB of memory for unpacking at byte 6"
    packed = lzma.compress(PCAP, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    assert failure(packed) == f"xz data demand more than 128 MiB of memory for unpacking at byte {len(packed)}"


def test_what_is_compressed_twice_is_refused() -> None:
    for inner in PACKERS:
        for outer in PACKERS:
            twice = PACKERS[outer](PACKERS[inner](PCAP))
            assert failure(twice) == f"is compressed twice, inside with {inner}: unpack it first at byte 0"


def test_unsupported_compression_says_what_to_do() -> None:
    for start, name in (
        (b"\x02\x21\x4c\x18", "lz4 in its legacy format"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        (b"\x1f\x9d\x90", "compress"),
    ):
        assert failure(start + bytes(30)) == f"is compressed with {name}, which is not supported: unpack it first"


# -- what is no capture -----------------------------------------------------------------------------------------


def test_what_is_no_capture_is_named() -> None:
    nothing = "is not a capture (pcap, pcapng or snoop): begins with"
    assert failure(b"") == "is empty"
    for name, pack in PACKERS.items():
        assert failure(pack(b"")) == "is empty", name
    assert failure(b"No.,Time,Source\n1,0.0,192.0.2.1\n") == "is a text file, not a capture at byte 0"
    assert failure(b"\x7fELF" + bytes(60)) == f"{nothing} 7f 45 4c 46 at byte 0"
    assert failure(PCAP[:3]) == f"{nothing} d4 c3 b2 at byte 0"
    assert failure(b"GMBU" + bytes(60)).startswith("is a capture of Microsoft Network Monitor, which is not supported")
    assert failure(build.snoop([])[:15]) == "ends within the snoop file header (15 of 16 bytes) at byte 15"
    assert failure(b"snoop\0\0\0" + bytes(40)) == "has snoop version 0, only 2 is known at byte 8"
    assert failure(PCAP[:10]) == "ends within the pcap file header (10 of 24 bytes) at byte 10"
    assert failure(PCAP[:4] + b"\x09\0" + PCAP[6:]) == "has pcap version 9, only 2 is known at byte 4"
    section = build.section()
    assert failure(section[:8] + bytes(20)) == "has a pcapng section header without its magic number at byte 0"
    assert failure(section[:4]) == "ends within the pcapng section header (4 bytes) at byte 4"
    assert failure(section[:27]) == "ends within the pcapng section header (27 of 28 bytes) at byte 27"
    assert failure(section[:4] + bytes(4) + section[8:]) == (
        "has a pcapng section header of impossible length at byte 4"
    )
    assert failure(build.section(version=2) + build.interface()) == (
        "has a damaged section header: it begins a section of unknown pcapng version 2 at byte 0"
    )


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "is a directory"), (tmp_path / "absent.pcap", "no such file or directory")):
        for others in ([], [str(path)]):  # with others, the files are put in order first
            with pytest.raises(CaptureError, match=f"^{path}: {reason}$"):
                flows.read([str(path), *others])


def test_one_bad_file_among_good_ones_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pcap", tmp_path / "bad.pcap"
    good.write_bytes(PCAP)
    bad.write_bytes(b"hello, world")
    with pytest.raises(CaptureError, match=r"bad\.pcap: is a text file"):
        flows.read([str(good), str(bad)])


# -- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [1, 15, 16, 17, 16 + len(FRAME) - 1])
@pytest.mark.parametrize("buffer_size", [64, 4 << 20])
def test_a_file_cut_in_a_packet_is_read_up_to_there(left: int, buffer_size: int) -> None:
    (file,) = build.read_files(PCAP[: 24 + 16 + len(FRAME) + left], buffer_size=buffer_size).captures
    assert file.packets == 1
    assert file.problems == (f"ends within a record at byte {40 + len(FRAME)}: {left} bytes are left over",)


IMPOSSIBLE = "the length of a record is impossible"


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_impossible_record_is_named_by_its_offset(order: Order) -> None:
    content = build.pcap([Packet(FRAME, TIME)], order=order) + struct.pack(order + "IIII", 0, 0, 262145, 262145)
    for buffer_size in (64, 4 << 20):
        (file,) = build.read_files(content + bytes(300000), buffer_size=buffer_size).captures
        assert file.packets == 1
        assert file.problems == (
            f"damage at byte {40 + len(FRAME)}: {IMPOSSIBLE}; the rest of the file, 300016 bytes, was not read",
        )
        assert file.bytes == len(content) + 300000


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (struct.pack("<II", 6, 13) + bytes(20), IMPOSSIBLE),
        (struct.pack("<II", 6, 8) + bytes(20), IMPOSSIBLE),
        (struct.pack("<II", 6, 1 << 30) + bytes(20), IMPOSSIBLE),
        (struct.pack("<II", 10, 3) + bytes(20), IMPOSSIBLE),
        (build.section()[:8] + bytes(20), IMPOSSIBLE),
        (build.block(1, b""), "its 12 bytes are too few for its kind"),
        (build.interface()[:-4] + bytes(4), "its two lengths disagree (32 and 0)"),
        (build.section(version=2), "it begins a section of unknown pcapng version 2"),
    ],
)
def test_reading_ends_at_damage_without_which_nothing_has_a_meaning(damage: bytes, reason: str) -> None:
    start = build.section() + build.interface() + build.enhanced(FRAME)
    rest = build.enhanced(FRAME) * 3
    for buffer_size in (64, 4 << 20):
        (file,) = build.read_files(start + damage + rest, buffer_size=buffer_size).captures
        assert file.packets == 1
        left = len(damage + rest)
        assert file.problems == (
            f"damage at byte {len(start)}: {reason}; the rest of the file, {left} bytes, was not read",
        )


DAMAGED_PACKETS = [
    (build.enhanced(FRAME)[:-4] + bytes(4), "its two lengths disagree (96 and 0)"),
    (build.enhanced(FRAME, number=1), "interface 1 is not described"),
    (build.obsolete(FRAME, number=7), "interface 7 is not described"),
    (build.block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + bytes(8)), "its 40 bytes are too few for a packet of 99"),
    (build.block(6, bytes(16)), "its 28 bytes are too few for its kind"),
    (build.statistics(1)[:-4] + bytes(4), "its two lengths disagree (52 and 0)"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGED_PACKETS)
def test_a_damaged_block_is_skipped_if_the_next_is_whole(damage: bytes, reason: str) -> None:
    start = build.section() + build.interface() + build.enhanced(FRAME)
    for buffer_size in (64, 4 << 20):
        found = build.read_files(start + damage + build.enhanced(FRAME, 9) * 2, buffer_size=buffer_size)
        (file,) = found.captures
        assert (file.packets, file.last) == (3, 9000)
        assert file.problems == (f"damage at byte {len(start)}: {reason}; {len(damage)} bytes were skipped",)


def test_reading_ends_where_damage_follows_damage() -> None:
    start = build.section() + build.interface() + build.enhanced(FRAME)
    bad = build.enhanced(FRAME, number=1)
    (file,) = build.read_files(start + bad + bad + build.enhanced(FRAME)).captures
    assert file.packets == 1
    assert [problem.rpartition("; ")[2] for problem in file.problems] == [
        f"{len(bad)} bytes were skipped",
        f"the rest of the file, {2 * len(bad)} bytes, was not read",
    ]


def test_reading_ends_where_there_is_too_much_damage() -> None:
    start = build.section() + build.interface()
    pair = build.enhanced(FRAME, number=1) + build.enhanced(FRAME)
    (file,) = build.read_files(start + pair * 100).captures
    assert (file.packets, len(file.problems)) == (MAX_PROBLEMS, MAX_PROBLEMS + 1)
    assert file.problems[-1].endswith(f"the rest of the file, {80 * len(pair)} bytes, was not read")


def test_a_simple_packet_without_an_interface_is_damage() -> None:
    (file,) = build.read_files(build.section() + build.simple(FRAME)).captures
    assert (file.packets, len(file.problems)) == (0, 1)
    assert "no interface is described" in file.problems[0]


HEADERS = {
    "pcap": build.pcap([]),
    ">pcap": build.pcap([], order=">"),
    "modified": build.pcap([], modified=True),
    "pcapng": build.section() + build.interface(),
    "snoop": build.snoop([]),
}


@given(st.binary(max_size=300), st.sampled_from(sorted(HEADERS)), st.sampled_from([64, 100, 1 << 19]))
def test_random_bytes_behind_a_good_header_are_no_crash(noise: bytes, kind: str, buffer_size: int) -> None:
    assert build.accounted(build.read_files(HEADERS[kind] + noise, buffer_size=buffer_size))


@given(st.sampled_from(["", *sorted(HEADERS)]), st.integers(0, 40), st.binary(max_size=100))
def test_random_bytes_are_no_capture(kind: str, kept: int, noise: bytes) -> None:
    try:
        build.read_files(HEADERS.get(kind, b"")[:kept] + noise)
    except CaptureError as error:
        assert "\n" not in str(error)


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_damaged_captures_are_no_crash_and_the_buffer_does_not_matter(kind: str, data: st.DataObject) -> None:
    """Mutated, and cut: what comes out is the same whatever the buffer, and everything is accounted for."""
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    results: list[Any] = []
    for size in (64, 100, 4 << 20):
        try:
            found = build.read_files(bytes(content), buffer_size=size)
        except CaptureError as error:
            line = str(error)
            assert "\n" not in line
            results.append(line.partition("0.pcap: ")[2])
        else:
            assert build.accounted(found)
            (file,) = found.captures
            results.append((columns(found), file.problems, file.packets, file.bytes, file.first, file.last, file.facts))
    assert results[0] == results[1] == results[2]


FRAMES = st.sampled_from([packet.frame for packet in PACKETS])
SOME_PACKETS = st.lists(st.tuples(FRAMES, st.integers(0, 2**31)), max_size=12).map(
    lambda drawn: [Packet(frame, milliseconds * 10**6) for frame, milliseconds in drawn]
)


@given(SOME_PACKETS, st.sampled_from([64, 100, 4 << 20]))
def test_the_container_does_not_matter(packets: list[Packet], buffer_size: int) -> None:
    """Times of whole milliseconds, which each of them can say."""
    expected = columns(build.read_files(build.pcap(packets)))
    orders: tuple[Order, Order] = ("<", ">")
    contents = [build.snoop(packets)]
    for order in orders:
        contents += [
            build.pcap(packets, order=order, nanoseconds=True),
            build.pcap(packets, order=order, modified=True),
            blocks(packets, order),
        ]
        for resolution, unit in ((3, 10**6), (6, 1000), (12, None)):
            parts = [
                build.enhanced(frame, time // unit if unit else time * 1000, order=order) for frame, time, _ in packets
            ]
            start = build.section(order) + build.interface(order=order, resolution=resolution)
            contents.append(start + b"".join(parts))
    for content in contents:
        assert columns(build.read_files(content, buffer_size=buffer_size)) == expected


# -- several files ----------------------------------------------------------------------------------------------


def test_files_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("late", "none", "early", "middle")]
    syn = build.tcp(build.STATION, 50000, build.SERVER, 443, build.SYN)
    reply = build.tcp(build.SERVER, 443, build.STATION, 50000, build.SYN | build.ACK)
    contents = [
        gzip.compress(build.pcap([Packet(FRAME, 3 * SECOND)])),
        build.pcap([]),
        build.section() + build.interface(resolution=9) + build.enhanced(syn, SECOND),
        build.pcap([Packet(reply, 2 * SECOND)], nanoseconds=True),
    ]
    for path, content in zip(paths, contents, strict=True):
        Path(path).write_bytes(content)
    assert chronological(paths) == [2, 3, 0, 1]
    found = flows.read(paths)
    assert [file.path for file in found.captures] == paths
    assert [file.packets for file in found.captures] == [1, 0, 1, 1]
    first, second = found.flow
    assert (first["first_capture"], first["last_capture"], second["first_capture"]) == (2, 3, 0)


def test_snoop_and_dialects_tell_their_time_too(tmp_path: Path) -> None:
    later = [Packet(FRAME, TIME + 60 * SECOND)]
    paths = [str(tmp_path / name) for name in "abc"]
    contents = [build.snoop(later), build.pcap(PACKETS, padding=KUZNETZOV), build.pcap(later, magic=0x1C0001AB)]
    contents[2] = contents[2][:24] + bytes(4) + contents[2][24:]
    for path, content in zip(paths, contents, strict=True):
        Path(path).write_bytes(content)
    assert chronological(paths) == [1, 0, 2]


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self.rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.rest.read(min(len(buffer), 7))
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("buffered", [False, True])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, kind: str, buffered: bool) -> None:
    pipe: Any = Dribble(WHOLE[kind])
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BufferedReader(pipe) if buffered else pipe}))
    found = flows.read(["-"])
    assert columns(found) == columns(build.read_files(WHOLE[kind]))
    (file,) = found.captures
    assert (file.path, file.bytes) == ("-", len(WHOLE[kind]))


def test_standard_input_is_there_once_or_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"^-: standard input can be read only once$"):
        flows.read(["-", str(tmp_path), "-"])
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(CaptureError, match=r"^-: standard input is closed$"):
        flows.read(["-"])


def test_a_pipe_among_the_files_is_read_once(tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_bytes(PCAP)
    writer = threading.Thread(target=pipe.write_bytes, args=(build.pcap(PACKETS),))
    writer.start()
    found = flows.read([str(pipe), str(file)])
    writer.join()
    assert [each.packets for each in found.captures] == [len(PACKETS), 2]


def test_progress_tells_the_bytes_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    content = build.pcap(PACKETS * 1000)
    for packed in (content, gzip.compress(content)):
        path.write_bytes(packed)
        told: list[int] = []
        flows.read([str(path)], told.append, buffer_size=100)
        assert sum(told) == len(packed)
        assert len(told) > 1
