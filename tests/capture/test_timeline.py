"""Several files in the order of their first packets."""

from __future__ import annotations

import gzip
from pathlib import Path

from analyzer import flows
from analyzer.capture.timeline import chronological
from tests import build
from tests.build import SECOND, Packet
from tests.capture.examples import (
    FRAME,
    KUZNETZOV,
    PACKETS,
    TIME,
)


def test_files_are_read_in_the_order_of_their_first_packets(tmp_path: Path) -> None:
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


def test_snoop_and_pcap_dialects_tell_their_time(tmp_path: Path) -> None:
    later = [Packet(FRAME, TIME + 60 * SECOND)]
    paths = [str(tmp_path / name) for name in "abc"]
    contents = [build.snoop(later), build.pcap(PACKETS, padding=KUZNETZOV), build.pcap(later, magic=0x1C0001AB)]
    contents[2] = contents[2][:24] + bytes(4) + contents[2][24:]
    for path, content in zip(paths, contents, strict=True):
        Path(path).write_bytes(content)
    assert chronological(paths) == [1, 0, 2]
