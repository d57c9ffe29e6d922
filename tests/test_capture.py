"""Capture files: every container, whatever is wrong with it, and the time line of several files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import capture, flows
from analyzer.capture import CaptureError
from tests import build
from tests.build import SECOND, Order, Packet

TIME = 1_700_000_000 * SECOND + 123_456_789
FRAME = build.udp(build.STATION, 40000, build.RESOLVER, 5353, b"question")
PCAP = build.pcap([Packet(FRAME, TIME), Packet(FRAME, TIME + SECOND)])


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
    assert found.tally.snapped == 2


def test_a_capture_without_packets_is_no_error() -> None:
    for content in (build.pcap([]), build.section(), build.section() + build.interface()):
        found = build.read_files(content)
        (file,) = found.captures
        assert (len(found), file.packets, file.first, file.last, file.problems) == (0, 0, None, None, ())


def test_link_type_has_upper_bits_that_mean_something_else() -> None:
    content = PCAP[:20] + struct.pack("<I", 0xF4000001) + PCAP[24:]
    assert len(build.read_files(content)) == 1


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
    assert (len(found), found.tally.in_flows) == (1, 3)


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


def test_blocks_of_other_kinds_are_skipped() -> None:
    other = b"".join(build.block(kind, bytes(20)) for kind in (4, 5, 10, 0xBAD, 0x80000001))
    content = build.section() + other + build.interface() + other + build.enhanced(FRAME) + other
    found = build.read_files(content)
    assert (found.tally.packets, found.captures[0].problems) == (1, ())


def test_options_of_an_interface_may_lie() -> None:
    body = struct.pack("<HHI", 1, 0, 0) + struct.pack("<HH", 9, 60000) + b"\x09"
    content = build.section() + build.block(1, body) + build.enhanced(FRAME, 5_000_000)
    assert build.read_files(content).captures[0].first == 5 * SECOND


# -- compressed -------------------------------------------------------------------------------------------------

PACKERS = [gzip.compress, bz2.compress, lzma.compress]


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("buffer_size", [64, 100, 4 << 20])
def test_compressed_captures(pack: Callable[[bytes], bytes], buffer_size: int) -> None:
    packed = pack(PCAP)
    (file,) = build.read_files(packed, buffer_size=buffer_size).captures
    assert (file.packets, file.bytes, file.problems) == (2, len(packed), ())


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("buffer_size", [100, 4 << 20])
def test_a_cut_compressed_capture_is_read_up_to_the_cut(pack: Callable[[bytes], bytes], buffer_size: int) -> None:
    noise = random.Random(1)
    frame = build.udp(build.STATION, 40000, build.SERVER, 9, bytes(1000))
    packets = [Packet(frame[:42] + noise.randbytes(1000), TIME) for _ in range(1500)]
    packed = pack(build.pcap(packets))
    found = build.read_files(packed[: len(packed) - 1000], buffer_size=buffer_size)
    (file,) = found.captures
    assert 100 < file.packets < 1500
    (problem,) = file.problems
    assert "data are damaged" in problem
    assert build.accounted(found)


@pytest.mark.parametrize("pack", PACKERS)
def test_damaged_compressed_data_are_no_crash(pack: Callable[[bytes], bytes]) -> None:
    packed = bytearray(pack(PCAP))
    for at in range(6, len(packed)):
        damaged = packed.copy()
        damaged[at] ^= 0xFF
        try:
            build.read_files(bytes(damaged), PCAP)
        except CaptureError as error:
            assert "\n" not in str(error)


def test_unsupported_compression_says_what_to_do() -> None:
    assert failure(b"\x28\xb5\x2f\xfd" + bytes(30)).startswith("is compressed with zstd, which is not supported")
    assert failure(b"\x04\x22\x4d\x18" + bytes(30)).startswith("is compressed with lz4, which is not supported")


# -- what is no capture -----------------------------------------------------------------------------------------


def test_what_is_no_capture_is_named() -> None:
    assert failure(b"") == "is empty"
    assert failure(gzip.compress(b"")) == "is empty"
    assert failure(b"No.,Time,Source\n1,0.0,192.0.2.1\n") == "is a text file, not a capture at byte 0"
    assert failure(b"\x7fELF" + bytes(60)) == "is not a capture (pcap or pcapng): begins with 7f 45 4c 46 at byte 0"
    assert failure(b"snoop\0\0\0" + bytes(40)).startswith("is a snoop file, which is not supported: convert it")
    assert failure(PCAP[:10]) == "ends within the pcap file header (10 of 24 bytes) at byte 10"
    assert failure(PCAP[:4] + b"\x09\0" + PCAP[6:]) == "has pcap version 9, only 2 is known at byte 4"
    assert failure(build.section()[:8] + bytes(20)) == "has a pcapng section header without its magic number at byte 0"


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


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_impossible_record_is_named_by_its_offset(order: Order) -> None:
    content = build.pcap([Packet(FRAME, TIME)], order=order) + struct.pack(order + "IIII", 0, 0, 262145, 262145)
    for buffer_size in (64, 4 << 20):
        (file,) = build.read_files(content + bytes(300000), buffer_size=buffer_size).captures
        assert file.packets == 1
        assert file.problems == (f"damaged record at byte {40 + len(FRAME)}: its length or interface is impossible",)


@pytest.mark.parametrize(
    "damage",
    [
        struct.pack("<II", 6, 13) + bytes(20),
        struct.pack("<II", 6, 8) + bytes(20),
        struct.pack("<II", 6, 1 << 30) + bytes(20),
        build.enhanced(FRAME)[:-4] + bytes(4),
        build.enhanced(FRAME, number=1),
        build.block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + bytes(8)),
        struct.pack("<II", 10, 3) + bytes(20),
        build.section()[:8] + bytes(20),
        build.block(1, b""),
        build.section(version=2),
    ],
)
def test_an_impossible_block_is_named_by_its_offset(damage: bytes) -> None:
    start = build.section() + build.interface() + build.enhanced(FRAME)
    for buffer_size in (64, 4 << 20):
        (file,) = build.read_files(start + damage + bytes(100), buffer_size=buffer_size).captures
        assert file.packets == 1
        (problem,) = file.problems
        assert f"at byte {len(start)}" in problem


@given(st.binary(max_size=300), st.sampled_from(["pcap", ">pcap", "pcapng"]), st.sampled_from([64, 100, 1 << 19]))
def test_random_bytes_behind_a_good_header_are_no_crash(noise: bytes, kind: str, buffer_size: int) -> None:
    header = {"pcap": build.pcap([]), ">pcap": build.pcap([], order=">"), "pcapng": build.section()}[kind]
    if kind == "pcapng":
        header += build.interface()
    assert build.accounted(build.read_files(header + noise, buffer_size=buffer_size))


@given(st.binary(max_size=100))
def test_random_bytes_are_no_capture(noise: bytes) -> None:
    try:
        build.read_files(noise)
    except CaptureError as error:
        assert "\n" not in str(error)


@given(st.data())
def test_mutated_captures_are_no_crash(data: st.DataObject) -> None:
    whole = bytearray(
        build.section()
        + build.interface(resolution=9)
        + build.enhanced(FRAME, 1)
        + build.section(">")
        + build.interface(order=">", resolution=0x94)
        + build.enhanced(FRAME, 1, order=">")
        + build.simple(FRAME, order=">")
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        one, other = (build.read_files(bytes(whole), buffer_size=size) for size in (64, 1 << 19))
    except CaptureError:
        return
    assert build.accounted(one)
    assert one.tally == other.tally
    assert one.captures[0].problems == other.captures[0].problems


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
    assert capture.chronological(paths) == [2, 3, 0, 1]
    found = flows.read(paths)
    assert [file.path for file in found.captures] == paths
    assert [file.packets for file in found.captures] == [1, 0, 1, 1]
    first, second = found.flow
    assert (first["first_capture"], first["last_capture"], second["first_capture"]) == (2, 3, 0)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "piped"
    path.write_bytes(gzip.compress(PCAP))
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": file}))
        (read,) = flows.read(["-"]).captures
    assert (read.path, read.packets, read.bytes) == ("-", 2, path.stat().st_size)


def test_progress_tells_the_bytes_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    path.write_bytes(PCAP)
    told: list[int] = []
    flows.read([str(path)], told.append, buffer_size=100)
    assert sum(told) == len(PCAP)
    assert len(told) > 1
