"""Formats of capture files: pcap and its dialects, snoop, and files that are no captures."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import flows
from analyzer.capture import CaptureError
from tests import build
from tests.build import SECOND, Order, Packet
from tests.capture.examples import (
    COMPRESS,
    FRAME,
    HEADERS,
    KUZNETZOV,
    PACKETS,
    PCAP,
    TIME,
    error_text,
    flow_values,
    pcapng_of,
)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("nanoseconds", "modified", "digits", "time"),
    [
        (False, False, 6, TIME // 1000 * 1000),
        (True, False, 9, TIME),
        (False, True, 6, TIME // 1000 * 1000),
    ],
)
def test_pcap_time_stamps_and_lengths(order: Order, nanoseconds: bool, modified: bool, digits: int, time: int) -> None:
    content = build.pcap([Packet(FRAME, TIME, 999)] * 2, 1, order, nanoseconds, modified)
    found = build.read_files(content)
    (file,) = found.captures
    assert (file.format, file.packets, file.bytes, file.digits) == ("pcap", 2, len(content), digits)
    assert (file.first, file.last, file.problems) == (time, time, ())
    assert found.side["bytes"][0].tolist() == [2 * 999, 0]
    assert found.counts.truncated == 2


def test_a_capture_without_packets_is_valid() -> None:
    for content in (build.pcap([]), build.section(), build.section() + build.interface()):
        found = build.read_files(content)
        (file,) = found.captures
        assert (len(found), file.packets, file.first, file.last, file.problems) == (0, 0, None, None, ())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "padding", "variant"),
    [
        (0xA1B2C3D4, b"", None),
        (0xA1B2C3D4, KUZNETZOV, "Red Hat 6.1"),
        (0xA1B2C3D4, 0x9FBFB601, "Nokia"),
        (0xA1B2CD34, KUZNETZOV, "modified"),
        (0xA1B2CD34, KUZNETZOV + bytes(4), "SuSE 6.3"),
    ],
)
@pytest.mark.parametrize("count", [2, 5])
def test_dialects_of_one_magic_number_are_told_apart(
    order: Order, magic: int, padding: bytes | int, variant: str | None, count: int
) -> None:
    if isinstance(padding, int):
        padding = struct.pack(order + "I", padding)
    elif order == ">" and padding:
        padding = struct.pack(">IH", *struct.unpack("<IH", padding[:6])) + padding[6:]
    packets = [Packet(FRAME, TIME // 1000 * 1000 + index * SECOND) for index in range(count)]
    for buffer_size in (64, 4 << 20):
        content = build.pcap(packets, order=order, magic=magic, padding=padding)
        found = build.read_files(content, buffer_size=buffer_size)
        assert flow_values(found) == flow_values(build.read_files(build.pcap(packets)))
        (file,) = found.captures
        assert (file.problems, file.facts.variant) == ((), variant)


def test_a_truncated_file_is_not_taken_for_a_rare_dialect() -> None:
    loopback = FRAME[12:].rjust(len(FRAME), b"\0")  # without addresses, which look like a longer record header
    for frame in (FRAME, loopback):
        whole = build.pcap([Packet(frame, TIME)] * 4)
        for end in range(24, len(whole)):
            file = build.read_files(whole[:end]).captures[0]
            assert file.facts.variant is None
            assert file.packets == (end - 24) // (16 + len(frame))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_ixia_files_have_their_length_after_the_header(order: Order, nanoseconds: bool) -> None:
    whole = build.pcap(PACKETS, order=order, nanoseconds=nanoseconds, magic=0x1C0001AC if nanoseconds else 0x1C0001AB)
    content = whole[:24] + struct.pack(order + "I", len(whole) - 24) + whole[24:]
    found = build.read_files(content)
    assert flow_values(found) == flow_values(build.read_files(build.pcap(PACKETS, nanoseconds=nanoseconds)))
    assert (found.captures[0].digits, found.captures[0].facts.variant) == (9 if nanoseconds else 6, "IXIA")


@pytest.mark.parametrize(("minor", "swapped"), [(2, True), (3, True), (3, False)])
def test_old_files_have_the_lengths_in_either_order(minor: int, swapped: bool) -> None:
    sizes = (60, len(FRAME)) if swapped else (len(FRAME), 60)
    record = struct.pack("<IIII", 1, 2, *sizes) + FRAME
    found = build.read_files(build.pcap([], minor=minor) + record * 2)
    assert found.side["bytes"][0].tolist() == [120, 0]
    assert found.counts.truncated == 2


def test_aix_writes_its_own_link_types_and_nanoseconds() -> None:
    content = build.pcap(PACKETS, 6, ">", nanoseconds=True, magic=0xA1B2C3D4, minor=2)
    found = build.read_files(content)
    assert flow_values(found) == flow_values(build.read_files(build.pcap(PACKETS, nanoseconds=True)))
    assert (found.captures[0].digits, found.captures[0].facts.variant) == (9, "AIX")


def test_reserved_bits_of_the_link_type_are_ignored() -> None:
    for bits in (0x03FF0000, 0x08000000, 0xF0000000, 0xF4000000):
        found = build.read_files(PCAP[:20] + struct.pack("<I", bits | 1) + PCAP[24:])
        assert (len(found), found.captures[0].facts.frame_check_bytes) == (1, None)


@pytest.mark.parametrize("container", ["pcap", "pcapng, bits", "pcapng, bytes"])
def test_a_frame_check_sequence_is_not_payload(container: str) -> None:
    """If the IP header has no length, the packet ends where the frame does."""
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


@pytest.mark.parametrize("buffer_size", [64, 100, 4 << 20])
def test_snoop_gives_the_same_flows_as_pcap(buffer_size: int) -> None:
    content = build.snoop(PACKETS, lost=7)
    found = build.read_files(content, buffer_size=buffer_size)
    assert flow_values(found) == flow_values(build.read_files(build.pcap(PACKETS)))
    (file,) = found.captures
    assert (file.format, file.packets, file.bytes, file.digits) == ("snoop", len(PACKETS), len(content), 6)
    assert (file.problems, file.facts.lost) == ((), 7)


def test_snoop_link_types() -> None:
    loopback = [Packet(build.null(FRAME[14:]), TIME)]
    assert len(build.read_files(build.snoop(loopback, 14))) == 1
    assert error_text(build.snoop(loopback, 17)) == "has snoop datalink type 17, which is not supported at byte 12"


EDITCAP = shutil.which("editcap")

EDITCAP_FORMATS = {
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
@pytest.mark.parametrize("kind", EDITCAP_FORMATS)
def test_files_written_by_editcap(tmp_path: Path, kind: str) -> None:
    assert EDITCAP
    plain, written = tmp_path / "plain.pcap", tmp_path / "written"
    plain.write_bytes(build.pcap(PACKETS))
    subprocess.run([EDITCAP, "-F", kind, plain, written], check=True)
    found = flows.read([str(written)])
    assert flow_values(found) == flow_values(flows.read([str(plain)]))
    (file,) = found.captures
    assert (file.format, file.facts.variant, file.problems) == (*EDITCAP_FORMATS[kind], ())


def test_errors_name_what_is_wrong_with_a_file() -> None:
    nothing = "is not a capture (pcap, pcapng or snoop): begins with"
    assert error_text(b"") == "is empty"
    for name, pack in COMPRESS.items():
        assert error_text(pack(b"")) == "is empty", name
    assert error_text(b"No.,Time,Source\n1,0.0,192.0.2.1\n") == "is a text file, not a capture at byte 0"
    assert error_text(b"\x7fELF" + bytes(60)) == f"{nothing} 7f 45 4c 46 at byte 0"
    assert error_text(PCAP[:3]) == f"{nothing} d4 c3 b2 at byte 0"
    assert error_text(b"GMBU" + bytes(60)).startswith(
        "is a capture of Microsoft Network Monitor, which is not supported"
    )
    assert error_text(build.snoop([])[:15]) == "ends within the snoop file header (15 of 16 bytes) at byte 15"
    assert error_text(b"snoop\0\0\0" + bytes(40)) == "has snoop version 0, only 2 is known at byte 8"
    assert error_text(PCAP[:10]) == "ends within the pcap file header (10 of 24 bytes) at byte 10"
    assert error_text(PCAP[:4] + b"\x09\0" + PCAP[6:]) == "has pcap version 9, only 2 is known at byte 4"
    section = build.section()
    assert error_text(section[:8] + bytes(20)) == "has a pcapng section header without its magic number at byte 0"
    assert error_text(section[:4]) == "ends within the pcapng section header (4 bytes) at byte 4"
    assert error_text(section[:27]) == "ends within the pcapng section header (27 of 28 bytes) at byte 27"
    assert error_text(section[:4] + bytes(4) + section[8:]) == (
        "has a pcapng section header of impossible length at byte 4"
    )
    assert error_text(build.section(version=2) + build.interface()) == (
        "has a damaged section header: it begins a section of unknown pcapng version 2 at byte 0"
    )


@given(st.sampled_from(["", *sorted(HEADERS)]), st.integers(0, 40), st.binary(max_size=100))
def test_random_bytes_raise_capture_errors_of_one_line(kind: str, kept: int, noise: bytes) -> None:
    try:
        build.read_files(HEADERS.get(kind, b"")[:kept] + noise)
    except CaptureError as error:
        assert "\n" not in str(error)


FRAMES = st.sampled_from([packet.frame for packet in PACKETS])

PACKET_LISTS = st.lists(st.tuples(FRAMES, st.integers(0, 2**31)), max_size=12).map(
    lambda drawn: [Packet(frame, milliseconds * 10**6) for frame, milliseconds in drawn]
)


@given(PACKET_LISTS, st.sampled_from([64, 100, 4 << 20]))
def test_every_format_gives_the_same_flows(packets: list[Packet], buffer_size: int) -> None:
    """With times of whole milliseconds, which every format can express."""
    expected = flow_values(build.read_files(build.pcap(packets)))
    orders: tuple[Order, Order] = ("<", ">")
    contents = [build.snoop(packets)]
    for order in orders:
        contents += [
            build.pcap(packets, order=order, nanoseconds=True),
            build.pcap(packets, order=order, modified=True),
            pcapng_of(packets, order),
        ]
        for resolution, unit in ((3, 10**6), (6, 1000), (12, None)):
            parts = [
                build.enhanced(frame, time // unit if unit else time * 1000, order=order) for frame, time, _ in packets
            ]
            start = build.section(order) + build.interface(order=order, resolution=resolution)
            contents.append(start + b"".join(parts))
    for content in contents:
        assert flow_values(build.read_files(content, buffer_size=buffer_size)) == expected
