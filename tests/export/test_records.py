"""Records that are read a second time: the same packets as in the audit, also in damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import flows
from analyzer.capture import CaptureError
from analyzer.export import records
from tests import build, samples
from tests.build import SECOND, Packet

START = 1_700_000_000 * SECOND
FRAMES = [build.udp("192.0.2.1", 1000 + number, "192.0.2.2", 2000, bytes(number)) for number in range(1, 8)]
PACKETS = [Packet(frame, START + number * 1_234_567) for number, frame in enumerate(FRAMES)]
ALL = 1 << 40
"""A packet number beyond every file's end."""

MIXED = (
    build.section()
    + build.interface()
    + build.interface(101, resolution=9)
    + b"".join(build.enhanced(frame, 1_700_000_000_000_000 + number) for number, frame in enumerate(FRAMES))
    + build.block(0x0BAD, b"whatever")
    + build.simple(FRAMES[0])
    + build.section(">")
    + build.interface(order=">", resolution=0x8A, offset=-5)
    + b"".join(build.obsolete(frame, 1 << 40, order=">") for frame in FRAMES)
    + build.statistics(3, order=">")
    + build.enhanced(FRAMES[1], 1 << 41, order=">")
)
"""Two sections of both byte orders, with all kinds of blocks that carry packets."""
CONTENTS = {
    "pcap": build.pcap(PACKETS),
    "pcap, big-endian, nanoseconds": build.pcap(PACKETS, order=">", nanoseconds=True),
    "pcap, modified": build.pcap(PACKETS, modified=True),
    "snoop": build.snoop(PACKETS, lost=4),
    "pcapng": MIXED,
}


@pytest.mark.parametrize("path", samples.all_captures(), ids=lambda path: path.stem)
def test_packet_numbers_and_times_match_the_audit(path: Path) -> None:
    (capture,) = flows.read([str(path)]).captures
    times = {number: record.time for number, record in records.records(str(path), ALL)}
    assert list(times) == list(range(1, capture.packets + 1))
    if times:
        assert (min(times.values()), max(times.values())) == (capture.first, capture.last)


@pytest.mark.parametrize("name", CONTENTS)
@given(data=st.data())
def test_damaged_file_yields_as_many_packets_as_the_audit(name: str, data: st.DataObject) -> None:
    content = bytearray(CONTENTS[name])
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(24, len(content) - 1))
        content[place] = data.draw(st.sampled_from((0, 1, 3, 4, 6, 16, 127, 255)))
    del content[data.draw(st.integers(24, len(content))) :]
    with build.saved(bytes(content)) as path:
        try:
            (capture,) = flows.read([str(path)]).captures
        except CaptureError:
            return  # no report can cite its packets
        assert len(list(records.records(str(path), ALL))) == capture.packets


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("size", [64, 100, 4096])
def test_block_size_does_not_matter(name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "capture"
    path.write_bytes(CONTENTS[name])

    def read() -> list[tuple[int, bytes, int, bytes]]:
        return [
            (number, record.description, record.time, bytes(record.data))
            for number, record in records.records(str(path), ALL)
        ]

    whole = read()
    assert whole
    monkeypatch.setattr(records, "BLOCK", size)
    assert read() == whole


def test_selection_yields_these_packets_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    selected = [(number, bytes(record.data)) for number, record in records.selected_records(str(path), {5, 2})]
    assert selected == [(2, FRAMES[1]), (5, FRAMES[4])]
    with pytest.raises(CaptureError, match="has no packet 8 any more"):
        list(records.selected_records(str(path), {8, 9, 1}))
