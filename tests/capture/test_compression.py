"""Compressed capture files."""

from __future__ import annotations

import lzma
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from analyzer.capture import CaptureError
from tests import build
from tests.build import Packet
from tests.capture.examples import (
    COMPRESS,
    MIXED_PCAPNG,
    PACKETS,
    PCAP,
    TIME,
    error_text,
    flow_values,
)

every_compression = pytest.mark.parametrize("name", COMPRESS)


@every_compression
@pytest.mark.parametrize("content", [PCAP, MIXED_PCAPNG, build.snoop(PACKETS)], ids=["pcap", "pcapng", "snoop"])
@pytest.mark.parametrize("buffer_size", [64, 100, 4 << 20])
def test_a_compressed_capture_gives_the_same_flows(name: str, content: bytes, buffer_size: int) -> None:
    packed = COMPRESS[name](content)
    found = build.read_files(packed, buffer_size=buffer_size)
    assert flow_values(found) == flow_values(build.read_files(content))
    (file,) = found.captures
    assert (file.bytes, file.problems, file.facts.compression) == (len(packed), (), name)


@pytest.mark.parametrize(
    "tool",
    [["gzip"], ["bzip2"], ["xz"], ["xz", "-9"], ["zstd"], ["zstd", "--ultra", "-22"], ["lz4"], ["lz4", "-9", "-BD"]],
    ids=" ".join,
)
def test_files_written_by_compression_tools(tool: list[str]) -> None:
    if not shutil.which(tool[0]):
        pytest.skip(f"{tool[0]} is not installed")
    content = build.pcap(PACKETS * 5000)
    packed = subprocess.run([*tool, "-c"], input=content, capture_output=True, check=True).stdout
    found = build.read_files(packed)
    assert flow_values(found) == flow_values(build.read_files(content))
    assert (found.captures[0].facts.compression, found.captures[0].problems) == (tool[0], ())


@every_compression
@pytest.mark.parametrize("buffer_size", [100, 4 << 20])
def test_members_and_frames_are_concatenated(name: str, buffer_size: int) -> None:
    pack = COMPRESS[name]
    packed = b"".join(pack(PCAP[at : at + 50]) for at in range(0, len(PCAP), 50))
    (file,) = build.read_files(packed + pack(b""), buffer_size=buffer_size).captures
    assert (file.packets, file.problems) == (2, ())


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_skippable_frames_are_skipped(name: str) -> None:
    skip = struct.pack("<II", 0x184D2A5E, 7) + b"comment"
    pack = COMPRESS[name]
    packed = skip + skip + pack(PCAP[:70]) + skip + pack(PCAP[70:]) + skip
    for buffer_size in (100, 4 << 20):
        (file,) = build.read_files(packed, buffer_size=buffer_size).captures
        assert (file.packets, file.problems, file.facts.compression) == (2, (), name)
    assert error_text(skip) == "is empty"


@every_compression
@pytest.mark.parametrize("buffer_size", [100, 4 << 20])
def test_a_truncated_compressed_capture_is_read_to_its_end(name: str, buffer_size: int) -> None:
    noise = random.Random(1)
    frame = build.udp(build.STATION, 40000, build.SERVER, 9, bytes(1000))
    packets = [Packet(frame[:42] + noise.randbytes(1000), TIME) for _ in range(1500)]
    packed = COMPRESS[name](build.pcap(packets))
    found = build.read_files(packed[: len(packed) - 1000], buffer_size=buffer_size)
    (file,) = found.captures
    assert 100 < file.packets < 1500
    assert file.problems == (f"{name} data are damaged: they end too early at byte {len(packed) - 1000}",)
    assert build.accounted(found)


@every_compression
def test_damaged_compressed_data_raise_capture_errors_of_one_line(name: str) -> None:
    packed = bytearray(COMPRESS[name](PCAP))
    for at in range(6, len(packed)):
        damaged = packed.copy()
        damaged[at] ^= 0xFF
        try:
            build.read_files(bytes(damaged), PCAP)
        except CaptureError as error:
            assert "\n" not in str(error)


@every_compression
def test_bytes_after_compressed_data_are_reported_unless_padding(name: str) -> None:
    (file,) = build.read_files(COMPRESS[name](PCAP) + b"something else").captures
    assert file.packets == 2
    assert file.problems[0].startswith(f"{name} data are damaged: ")
    padded = build.read_files(COMPRESS[name](PCAP) + bytes(100_000)).captures[0]
    assert (padded.packets, padded.problems) == (2, ())


@every_compression
def test_decompression_takes_little_memory(name: str) -> None:
    """100 MB of empty records; measures what reading adds to the memory of a process of its own."""
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
            path.write_bytes(COMPRESS[name](content))
        done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, check=True)
    packets, kilobytes = map(int, done.stdout.split())
    assert packets == 100_000_000 // 16
    assert kilobytes < 20_000


def test_windows_that_need_too_much_memory_are_refused() -> None:
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, 21 << 3]) + b"\x01\0\0"  # a window of 2 GiB
    assert error_text(frame) == "zstd data demand more than 128 MiB of memory for unpacking at byte 6"
    packed = lzma.compress(PCAP, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    assert error_text(packed) == f"xz data demand more than 128 MiB of memory for unpacking at byte {len(packed)}"


def test_double_compression_is_refused() -> None:
    for inner in COMPRESS:
        for outer in COMPRESS:
            twice = COMPRESS[outer](COMPRESS[inner](PCAP))
            assert error_text(twice) == f"is compressed twice, inside with {inner}: unpack it first at byte 0"


def test_unsupported_compression_is_named() -> None:
    for start, name in (
        (b"\x02\x21\x4c\x18", "lz4 in its legacy format"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        (b"\x1f\x9d\x90", "compress"),
    ):
        assert error_text(start + bytes(30)) == f"is compressed with {name}, which is not supported: unpack it first"
