"""Damaged capture files: what is read, skipped and reported."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture import CaptureError
from analyzer.capture.model import MAX_PROBLEMS
from tests import build
from tests.build import Order, Packet
from tests.capture.examples import (
    EXAMPLES,
    FRAME,
    HEADERS,
    PCAP,
    TIME,
    flow_values,
)


@pytest.mark.parametrize("left", [1, 15, 16, 17, 16 + len(FRAME) - 1])
@pytest.mark.parametrize("buffer_size", [64, 4 << 20])
def test_a_file_truncated_within_a_packet_is_read_up_to_it(left: int, buffer_size: int) -> None:
    (file,) = build.read_files(PCAP[: 24 + 16 + len(FRAME) + left], buffer_size=buffer_size).captures
    assert file.packets == 1
    assert file.problems == (f"ends within a record at byte {40 + len(FRAME)}: {left} bytes are left over",)


IMPOSSIBLE = "the length of a record is impossible"


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_impossible_pcap_record_is_reported_with_its_offset(order: Order) -> None:
    content = build.pcap([Packet(FRAME, TIME)], order=order) + struct.pack(order + "IIII", 0, 0, 262145, 262145)
    for buffer_size in (64, 4 << 20):
        (file,) = build.read_files(content + bytes(300000), buffer_size=buffer_size).captures
        assert file.packets == 1
        assert file.problems == (
            f"damage at byte {40 + len(FRAME)}: {IMPOSSIBLE}; the rest of the file, 300016 bytes, was not read",
        )
        assert file.bytes == len(content) + 300000


@pytest.mark.parametrize("sizes", [(50, 50, 73), (50, 262145, 262172), (50, 50, 23), (50, 50, 1 << 31)])
def test_an_impossible_snoop_record_is_reported_with_its_offset(sizes: tuple[int, int, int]) -> None:
    good = build.snoop([Packet(FRAME, TIME)])
    content = good + struct.pack(">IIIIII", *sizes, 0, 0, 0) + bytes(300000)
    (file,) = build.read_files(content).captures
    rest = len(content) - len(good)
    assert file.packets == 1
    assert file.problems == (
        f"damage at byte {len(good)}: the length of a record is impossible; the rest of the file, {rest} bytes, "
        "was not read",
    )


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
def test_reading_ends_at_damage_that_hides_the_rest(damage: bytes, reason: str) -> None:
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
def test_a_damaged_block_before_an_intact_one_is_skipped(damage: bytes, reason: str) -> None:
    start = build.section() + build.interface() + build.enhanced(FRAME)
    for buffer_size in (64, 4 << 20):
        found = build.read_files(start + damage + build.enhanced(FRAME, 9) * 2, buffer_size=buffer_size)
        (file,) = found.captures
        assert (file.packets, file.last) == (3, 9000)
        assert file.problems == (f"damage at byte {len(start)}: {reason}; {len(damage)} bytes were skipped",)


def test_reading_ends_at_the_second_damaged_block_in_a_row() -> None:
    start = build.section() + build.interface() + build.enhanced(FRAME)
    bad = build.enhanced(FRAME, number=1)
    (file,) = build.read_files(start + bad + bad + build.enhanced(FRAME)).captures
    assert file.packets == 1
    assert [problem.rpartition("; ")[2] for problem in file.problems] == [
        f"{len(bad)} bytes were skipped",
        f"the rest of the file, {2 * len(bad)} bytes, was not read",
    ]


def test_reading_ends_after_too_many_damaged_blocks() -> None:
    start = build.section() + build.interface()
    pair = build.enhanced(FRAME, number=1) + build.enhanced(FRAME)
    (file,) = build.read_files(start + pair * 100).captures
    assert (file.packets, len(file.problems)) == (MAX_PROBLEMS, MAX_PROBLEMS + 1)
    assert file.problems[-1].endswith(f"the rest of the file, {80 * len(pair)} bytes, was not read")


def test_a_simple_packet_without_an_interface_is_damage() -> None:
    (file,) = build.read_files(build.section() + build.simple(FRAME)).captures
    assert (file.packets, len(file.problems)) == (0, 1)
    assert "no interface is described" in file.problems[0]


@given(st.binary(max_size=300), st.sampled_from(sorted(HEADERS)), st.sampled_from([64, 100, 1 << 19]))
def test_random_bytes_after_a_header_are_accounted_for(noise: bytes, kind: str, buffer_size: int) -> None:
    assert build.accounted(build.read_files(HEADERS[kind] + noise, buffer_size=buffer_size))


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_damaged_captures_give_the_same_result_for_every_buffer_size(kind: str, data: st.DataObject) -> None:
    """Mutated and truncated files: the result does not depend on the buffer, and every packet is accounted for."""
    content = bytearray(EXAMPLES[kind])
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
            results.append(
                (flow_values(found), file.problems, file.packets, file.bytes, file.first, file.last, file.facts)
            )
    assert results[0] == results[1] == results[2]
