"""No silent loss: the totals count every packet, and what could not be read is reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from analyzer.capture import CaptureError
from analyzer.flows import read
from analyzer.pipeline import audit
from tests import build, samples
from tests.fuzz.targets import assert_judged, kind_of, records

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
PACKET_BLOCKS = (2, 3, 6)


def counted(data: bytes) -> int:
    """Packets of a pcap or pcapng file, counted by its records."""
    kind, order = kind_of(data)
    found = records(data)[1:]
    return sum(kind != "pcapng" or int.from_bytes(record[:4], order) in PACKET_BLOCKS for record in found)


@pytest.mark.parametrize("name", samples.names())
def test_totals_count_every_packet_of_a_recording(name: str) -> None:
    result, paths = samples.audit_of(name), samples.files(name)
    assert_judged(result)
    assert build.accounted(read([str(path) for path in paths]))
    if not any(capture.problems for capture in result.captures):
        assert result.totals.packets == sum(counted(path.read_bytes()) for path in paths)


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_totals_count_every_packet_of_the_corpus() -> None:
    read_captures = 0
    for path in sorted(Path(CORPUS or "").iterdir()):
        try:
            result = audit(path)
        except (CaptureError, IsADirectoryError):
            continue
        assert_judged(result)
        read_captures += 1
    assert read_captures


def test_a_damaged_block_is_reported_with_its_bytes(tmp_path: Path) -> None:
    """Of three packets the middle one has a false length: two are read, and the report names the skipped bytes."""
    frame = build.tcp(build.STATION, 40000, build.SERVER, 3001, build.SYN)
    good = build.enhanced(frame)
    bad = good[:20] + (len(frame) + 1000).to_bytes(4, "little") + good[24:]
    path = tmp_path / "a.pcapng"
    path.write_bytes(build.section() + build.interface() + good + bad + good)
    result = audit(path)
    assert_judged(result)
    assert result.totals.packets == 2
    (notice,) = (finding for finding in result.findings if finding.check == "TPE001")
    assert f"{len(bad)} bytes were skipped" in notice.summary
