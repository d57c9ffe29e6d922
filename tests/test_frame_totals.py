"""Every frame from or to a base station is counted once, by what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from analyzer import Audit
from analyzer.frame_totals import StationFrames
from tests import build, samples

VLANS = (b"\x81\x00", b"\x88\xa8")


def frames(path: Path) -> Iterator[bytes]:
    """The frames of a capture with link type Ethernet."""
    with path.open("rb") as file:
        reader = dpkt.pcap.UniversalReader(file)
        assert reader.datalink() == dpkt.pcap.DLT_EN10MB
        for _, frame in reader:
            yield bytes(frame)


def ends(frame: bytes) -> tuple[str | None, str | None]:
    """Source and destination address of the outermost IP header."""
    at = 12
    while frame[at : at + 2] in VLANS:
        at += 4
    kind, at = frame[at : at + 2], at + 2
    if kind == b"\x08\0" and frame[at] >> 4 == 4:
        return address(frame[at + 12 : at + 16]), address(frame[at + 16 : at + 20])
    if kind == b"\x86\xdd" and frame[at] >> 4 == 6:
        return address(frame[at + 8 : at + 24]), address(frame[at + 24 : at + 40])
    return None, None


def address(raw: bytes) -> str | None:
    return str(dpkt.utils.inet_to_str(raw)) if len(raw) in (4, 16) else None


def counted(result: Audit, paths: list[Path]) -> dict[str, tuple[int, int]]:
    """Frames sent and received by each base station, counted by MAC address and outermost IP header."""
    sent: Counter[str] = Counter()
    received: Counter[str] = Counter()
    stations = [verdict.station for verdict in result.base_stations]
    for frame in (frame for path in paths for frame in frames(path)):
        source, destination = ends(frame)
        for station in stations:
            mac = build.hardware(station.mac) if station.mac else None
            if source in station.addresses or (destination not in station.addresses and frame[6:12] == mac):
                sent[station.address] += 1
            elif destination in station.addresses or frame[:6] == mac or is_dhcp_for(frame, mac):
                received[station.address] += 1
    return {station.address: (sent[station.address], received[station.address]) for station in stations}


def is_dhcp_for(frame: bytes, mac: bytes | None) -> bool:
    """Whether a broadcast frame is an answer of DHCP to a client (RFC 2131: its MAC address is at offset 28)."""
    return frame[:6] == b"\xff" * 6 and frame[34:38] == b"\0\x43\0\x44" and frame[70:76] == mac


def total(found: StationFrames) -> int:
    return sum(found) - found.sent - found.received


@pytest.mark.parametrize("name", samples.names())
def test_totals_of_every_station_add_up(name: str) -> None:
    result = samples.audit_of(name)
    assert result.station_frames.keys() == {verdict.station.address for verdict in result.base_stations}
    for found in result.station_frames.values():
        assert min(found) >= 0
        assert found.sent + found.received == total(found)


@pytest.mark.parametrize("name", samples.names())
def test_no_frame_of_a_station_is_lost(name: str) -> None:
    result, paths = samples.audit_of(name), samples.files(name)
    encapsulated = any(
        not note.startswith(("vlan", "fragments")) for flow in result.conversations for note in flow.notes
    )
    try:
        expected = counted(result, paths)
    except (AssertionError, ValueError, dpkt.Error):
        pytest.skip("no Ethernet")
    if encapsulated or any(file.problems for file in result.captures):
        pytest.skip("the outermost IP header is another's, or the file is damaged")
    assert {station: (found.sent, found.received) for station, found in result.station_frames.items()} == expected
