"""No silent loss: every packet of a capture is somewhere in the totals, and what could not be read is spoken of."""

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
    """Packets of a pcap or pcapng file, by its records alone."""
    kind, order = kind_of(data)
    found = records(data)[1:]
    return sum(kind != "pcapng" or int.from_bytes(each[:4], order) in PACKET_BLOCKS for each in found)


@pytest.mark.parametrize("name", samples.names())
def test_every_packet_of_a_recorded_capture_is_in_the_totals(name: str) -> None:
    result, paths = samples.audit_of(name), samples.files(name)
    assert_judged(result)
    assert build.accounted(read([str(path) for path in paths]))
    if not any(each.problems for each in result.captures):
        assert result.totals.packets == sum(counted(path.read_bytes()) for path in paths)


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_every_packet_of_the_corpus_is_in_the_totals() -> None:
    read_captures = 0
    for path in sorted(Path(CORPUS or "").iterdir()):
        try:
            result = audit(path)
        except (CaptureError, IsADirectoryError):
            continue
        assert_judged(result)
        read_captures += 1
    assert read_captures


def test_a_damaged_block_is_spoken_of_with_its_bytes(tmp_path: Path) -> None:
    """Of three packets the middle one lies about its length: two are read, one is told as skipped bytes."""
    frame = build.tcp(build.STATION, 40000, build.SERVER, 3001, build.SYN)
    good = build.enhanced(frame)
    bad = good[:20] + (len(frame) + 1000).to_bytes(4, "little") + good[24:]
    path = tmp_path / "a.pcapng"
    path.write_bytes(build.section() + build.interface() + good + bad + good)
    result = audit(path)
    assert_judged(result)
    assert result.totals.packets == 2
    (notice,) = (each for each in result.findings if each.check == "TPE001")
    assert f"{len(bad)} bytes were skipped" in notice.summary
    assert result.fails()
