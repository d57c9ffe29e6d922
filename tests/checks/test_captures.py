"""Checks of the capture itself."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from analyzer.findings import Kind, Severity
from analyzer.pipeline import audit
from analyzer.reports import FORMATS
from analyzer.scanner import fragments
from tests import build
from tests.synthetic import NTP, OTHER, STATION, TLS, TPE, Traffic, findings_of, statuses


def tls(folder: Path) -> Path:
    return Traffic().tcp(STATION, 40000, TPE, 3001, TLS).echo(STATION, TPE).save(folder / "a.pcap")


def test_damaged_capture_is_audited_up_to_the_damage(tmp_path: Path) -> None:
    path = tls(tmp_path)
    whole = audit(path)
    path.write_bytes(path.read_bytes()[:-11])
    cut = audit(path)
    (notice,) = findings_of(cut, "TPE001")
    assert notice.severity is Severity.LOW
    assert str(path) in notice.summary and "ends within a record" in notice.summary
    assert cut.totals.packets == whole.totals.packets - 1
    assert statuses(cut)["i38"] == "present"
    assert not findings_of(whole, "TPE001")


def test_cut_packets(tmp_path: Path) -> None:
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
    (notice,) = findings_of(result, "TPE003")
    assert notice.severity is Severity.INFO
    assert statuses(result)["i38"] == "present"
    assert not [finding for finding in result.findings if finding.kind is Kind.MALFORMED]


def test_unreadable_packets(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS)
    traffic.packets.append((traffic.packets[-1][0] + 1, traffic.packets[-1][1][:12] + b"\x08\x00\x45\x00"))
    result = traffic.audit(tmp_path)
    (notice,) = findings_of(result, "TPE002")
    assert notice.summary.startswith("1 packet could not be read: ")


def test_empty_capture_fails(tmp_path: Path) -> None:
    result = Traffic().audit(tmp_path)
    assert [finding.summary for finding in findings_of(result, "TPE004")] == ["The capture holds no packet."]
    assert result.fails(Severity.HIGH)


def test_no_base_station_fails(tmp_path: Path) -> None:
    result = Traffic().exchange("10.7.7.7", 123, OTHER, 123, NTP).audit(tmp_path)
    (notice,) = findings_of(result, "TPE005")
    assert "among 1 conversation" in notice.summary
    assert result.fails(Severity.HIGH)
    assert not findings_of(result, "TPE004")


def test_named_host_unseen(tmp_path: Path) -> None:
    path = tls(tmp_path)
    named = audit(path, base_stations=[STATION, "10.9.9.9", "70:76:ff:00:00:01"], tpe=["10.0.9.0/24", "10.8.8.8"])
    assert [finding.summary for finding in findings_of(named, "TPE006")] == [
        "TPE 10.8.8.8 is not in the capture.",
        "The base station 10.9.9.9 is not in the capture.",
        "The base station 70:76:ff:00:00:01 is not in the capture.",
    ]
    assert not findings_of(audit(path, base_stations=["10.0.0.0/8"], tpe=[TPE]), "TPE006")


def fragmented(
    traffic: Traffic, source: str, destination: str, *cut: tuple[int, int], identification: int = 1
) -> Traffic:
    """A UDP datagram of 48 bytes in fragments with these beginnings and ends."""
    payload = struct.pack(">HHHH", 7000, 7000, 48, 0) + bytes(range(40))
    for start, end in cut:
        part = build.ip4(
            source,
            destination,
            17,
            payload[start:end],
            identification=identification,
            fragment=(end < len(payload)) << 13 | start // 8,
        )
        traffic.packets.append((traffic.packets[-1][0] + 0.01, build.ethernet(part)))
    return traffic


def station() -> Traffic:
    return Traffic().tcp(STATION, 40000, TPE, 3001, TLS).echo(STATION, TPE)


def test_overlapping_fragments_of_a_base_station_are_medium(tmp_path: Path) -> None:
    traffic = fragmented(station(), OTHER, STATION, (0, 24), (16, 40), (40, 48))
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE008")
    assert (notice.severity, notice.base_station, notice.count) == (Severity.MEDIUM, STATION, 1)
    assert notice.summary == (
        "1 flow has fragments that overlap or reach past the largest datagram: 1 datagram of the capture is made so."
    )
    assert notice.filter == (
        f"ip.addr == {OTHER} && ip.addr == {STATION} && (ip.fragment.overlap == 1 || ip.fragment.toolongfragment == 1)"
    )


def test_overlapping_fragments_of_other_hosts_are_low(tmp_path: Path) -> None:
    traffic = station()
    for number, server in enumerate(("192.0.2.81", "192.0.2.82")):
        fragmented(traffic, OTHER, server, (0, 24), (16, 48), identification=number)
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE008")
    assert (notice.severity, notice.base_station, notice.count) == (Severity.LOW, None, 2)


def test_overlapping_fragments_without_a_flow(tmp_path: Path) -> None:
    traffic = station()
    error = build.icmp_error(OTHER, STATION, 3, 1, traffic.packets[0][1])[34:]
    for start, end in ((0, 16), (8, 32), (32, len(error))):
        flags = (end < len(error)) << 13 | start // 8
        part = build.ip4(OTHER, STATION, 1, error[start:end], identification=9, fragment=flags)
        traffic.packets.append((traffic.packets[-1][0] + 0.01, build.ethernet(part)))
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE008")
    assert (notice.severity, notice.base_station, notice.flow) == (Severity.LOW, None, None)


@pytest.mark.parametrize("cut", [((0, 24), (24, 48)), ((24, 48), (0, 24)), ((0, 24), (0, 24), (24, 48), (24, 48))])
def test_complete_fragments_are_no_issue(tmp_path: Path, cut: tuple[tuple[int, int], ...]) -> None:
    result = fragmented(station(), STATION, TPE, *cut).audit(tmp_path)
    assert not findings_of(result, "TPE008")
    assert not findings_of(result, "TPE009")


def test_incomplete_datagrams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = fragmented(station(), STATION, TPE, (0, 24))
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE009")
    assert (notice.severity, notice.summary) == (
        Severity.INFO,
        "1 fragmented datagram is not whole in the capture.",
    )
    monkeypatch.setattr(fragments, "MAX_PENDING", 2)
    for number in range(2, 6):
        fragmented(traffic, STATION, TPE, (0, 24), identification=number)
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE009")
    assert (notice.severity, notice.summary) == (
        Severity.LOW,
        "5 fragmented datagrams are not whole in the capture; 3 of them had to be given up early.",
    )


def with_blocks(folder: Path, *blocks: bytes) -> Path:
    """The capture of :func:`tls` in pcapng, followed by these blocks."""
    plain, path = tls(folder).read_bytes(), folder / "a.pcapng"
    parts, at = [build.section(), build.interface()], 24
    while at < len(plain):
        seconds, fraction, kept, _ = struct.unpack_from("<IIII", plain, at)
        parts.append(build.enhanced(plain[at + 16 : at + 16 + kept], seconds * 10**6 + fraction))
        at += 16 + kept
    path.write_bytes(b"".join((*parts, *blocks)))
    return path


def test_lost_packets(tmp_path: Path) -> None:
    result = audit(with_blocks(tmp_path, build.statistics(2, 3)))
    (notice,) = findings_of(result, "TPE011")
    assert notice.severity is Severity.LOW
    assert notice.summary == f"{tmp_path / 'a.pcapng'}: 5 packets were lost by the machine that captured."
    for path in (with_blocks(tmp_path, build.statistics(0)), with_blocks(tmp_path), tls(tmp_path)):
        assert not findings_of(audit(path), "TPE011")


def test_embedded_secrets_are_not_shown(tmp_path: Path) -> None:
    secrets = build.block(10, struct.pack("<II", 0x544C534B, 13) + b"CLIENT_RANDOM")
    result = audit(with_blocks(tmp_path, secrets))
    (notice,) = findings_of(result, "TPE012")
    assert notice.severity is Severity.INFO
    assert notice.summary == f"{tmp_path / 'a.pcapng'}: 13 bytes of TLS key log are embedded."
    assert "CLIENT_RANDOM" not in "".join(str(report.render(result)) for report in FORMATS)
    assert not findings_of(audit(with_blocks(tmp_path)), "TPE012")


def test_unknown_blocks(tmp_path: Path) -> None:
    result = audit(with_blocks(tmp_path, build.block(0xBAD, bytes(8)), build.block(77, b""), build.block(77, b"")))
    (notice,) = findings_of(result, "TPE013")
    assert notice.severity is Severity.INFO
    assert notice.summary.endswith("a.pcapng: blocks were skipped: 2 of kind 0x0000004d, 1 of kind custom.")
    assert not findings_of(audit(with_blocks(tmp_path)), "TPE013")
