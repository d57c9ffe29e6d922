"""What is said of the capture itself."""

from __future__ import annotations

import struct
from pathlib import Path

from analyzer.auditing import audit
from analyzer.findings import Severity
from tests.scenes import NTP, OTHER, STATION, TLS, TPE, Scene, found, statuses


def tls(folder: Path) -> Path:
    return Scene().tcp(STATION, 40000, TPE, 3001, TLS).echo(STATION, TPE).save(folder / "a.pcap")


def test_a_file_that_ends_in_the_middle_of_a_packet_is_audited_up_to_there(tmp_path: Path) -> None:
    path = tls(tmp_path)
    whole = audit(path)
    path.write_bytes(path.read_bytes()[:-11])
    cut = audit(path)
    (notice,) = found(cut, "TPE001")
    assert notice.severity is Severity.LOW
    assert str(path) in notice.summary and "ends within a record" in notice.summary
    assert cut.totals.packets == whole.totals.packets - 1
    assert statuses(cut)["i38"] == "present"
    assert not found(whole, "TPE001")


def test_packets_cut_by_the_snap_length_are_counted(tmp_path: Path) -> None:
    path = tls(tmp_path)
    data = path.read_bytes()
    packets, at = [], 24
    while at < len(data):
        seconds, fraction, kept, length = struct.unpack_from("<IIII", data, at)
        body = data[at + 16 : at + 16 + kept][:70]
        packets.append(struct.pack("<IIII", seconds, fraction, len(body), length) + body)
        at += 16 + kept
    path.write_bytes(data[:24] + b"".join(packets))
    result = audit(path)
    (notice,) = found(result, "TPE003")
    assert notice.severity is Severity.INFO
    assert statuses(result)["i38"] == "present"
    assert not [each for each in result.findings if each.kind.value == "malformed"]


def test_packets_whose_headers_cannot_be_read_are_counted(tmp_path: Path) -> None:
    scene = Scene().tcp(STATION, 40000, TPE, 3001, TLS)
    scene.packets.append((scene.packets[-1][0] + 1, scene.packets[-1][1][:12] + b"\x08\x00\x45\x00"))
    result = scene.audited(tmp_path)
    (notice,) = found(result, "TPE002")
    assert notice.summary.startswith("1 packet could not be read: ")


def test_an_empty_capture_is_a_clear_statement(tmp_path: Path) -> None:
    result = Scene().audited(tmp_path)
    assert [each.summary for each in found(result, "TPE004")] == ["The capture holds no packet."]
    assert result.fails(Severity.HIGH)


def test_a_capture_without_a_base_station_is_a_clear_statement(tmp_path: Path) -> None:
    result = Scene().ask("10.7.7.7", 123, OTHER, 123, NTP).audited(tmp_path)
    (notice,) = found(result, "TPE005")
    assert "among 1 conversation" in notice.summary
    assert result.fails(Severity.HIGH)
    assert not found(result, "TPE004")


def test_a_named_host_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = tls(tmp_path)
    named = audit(path, base_stations=[STATION, "10.9.9.9", "70:76:ff:00:00:01"], tpe=["10.0.9.0/24", "10.8.8.8"])
    assert [each.summary for each in found(named, "TPE006")] == [
        "TPE 10.8.8.8 is not in the capture.",
        "The base station 10.9.9.9 is not in the capture.",
        "The base station 70:76:ff:00:00:01 is not in the capture.",
    ]
    assert not found(audit(path, base_stations=["10.0.0.0/8"], tpe=[TPE]), "TPE006")
