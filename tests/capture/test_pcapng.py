"""pcapng blocks: interfaces, sections, names, secrets, statistics."""

from __future__ import annotations

import socket
import struct

import pytest

from analyzer.capture import pcapng
from analyzer.capture.model import MAX_NAMED_ADDRESSES, MAX_NAMES_PER_ADDRESS
from analyzer.capture.pcapng import MAX_KINDS
from tests import build
from tests.build import SECOND, Order
from tests.capture.examples import (
    FRAME,
    TIME,
)


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


def test_every_section_has_its_own_byte_order_and_interfaces() -> None:
    orders: tuple[Order, ...] = ("<", ">", "<")
    content = b"".join(
        build.section(order)
        + build.interface(101 if order == ">" else 1, order=order)
        + build.enhanced(FRAME[14:] if order == ">" else FRAME, ticks=number * 1_000_000, order=order)
        for number, order in enumerate(orders)
    )
    found = build.read_files(content)
    assert (len(found), found.counts.in_flows) == (1, 3)


def test_simple_packets_are_truncated_by_the_snap_length() -> None:
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


def test_blocks_of_other_types_are_skipped_and_counted() -> None:
    other = b"".join(build.block(kind, bytes(20)) for kind in (4, 5, 9, 10, 11, 0xBAD, 0x40000BAD, 0x80000001))
    content = build.section() + other + build.interface() + other + build.enhanced(FRAME) + other
    found = build.read_files(content)
    (file,) = found.captures
    assert (found.counts.packets, file.problems) == (1, ())
    assert file.facts.skipped == {"0x0000000b": 3, "0x80000001": 3, "custom": 6, "systemd journal": 3}


def test_kinds_of_skipped_blocks_are_limited() -> None:
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


def test_secrets_are_counted_without_their_content() -> None:
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
    """The counter of an interface is cumulative; every section starts again."""
    start = build.section(order) + build.interface(order=order) + build.interface(order=order)
    content = start + build.statistics(3, order=order) + build.statistics(5, 2, order=order)
    content += build.statistics(10, number=1, order=order) + build.statistics(100, number=2, order=order)
    assert build.read_files(start).captures[0].facts.lost is None
    assert build.read_files(start + build.statistics(0, order=order)).captures[0].facts.lost == 0
    assert build.read_files(content).captures[0].facts.lost == 17
    assert build.read_files(content + content).captures[0].facts.lost == 34


def test_digits_are_those_of_the_finest_resolution() -> None:
    parts = [
        build.section() + build.interface(resolution=digits) + build.enhanced(FRAME, 10**digits) for digits in (9, 3)
    ]
    assert build.read_files(*parts, b"".join(parts)).captures[2].digits == 9


def test_interfaces_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcapng, "MAX_INTERFACES", 1000)
    start = build.section() + b"".join(build.interface(1 if number == 999 else 101) for number in range(1000))
    found = build.read_files(start + build.enhanced(FRAME, number=999) + build.interface())
    assert len(found) == 1
    (problem,) = found.captures[0].problems
    assert "more than 1000 interfaces; the rest of the file, " in problem


def test_an_option_with_a_wrong_length_is_ignored() -> None:
    body = struct.pack("<HHI", 1, 0, 0) + struct.pack("<HH", 9, 60000) + b"\x09"
    content = build.section() + build.block(1, body) + build.enhanced(FRAME, 5_000_000)
    assert build.read_files(content).captures[0].first == 5 * SECOND
