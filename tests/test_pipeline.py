"""The audit as a whole: what adds up, what is merged, and what never changes."""

from __future__ import annotations

import dataclasses
import gc
import shutil
import struct
import weakref
from pathlib import Path

import pytest

from analyzer import CaptureError, RuleError, aggregate, audit
from analyzer.aggregate import merge_equal
from analyzer.findings import MAX_FRAMES, Kind, Severity
from analyzer.heads import Frame
from analyzer.reports import FORMATS
from analyzer.scanner.columns import ACK, SYN
from tests import build, samples
from tests.checks.test_tls import handshake
from tests.protocols.test_tls import CHANGE_CIPHER_SPEC, FINISHED, message, record
from tests.reports.audits import finding
from tests.synthetic import HTTP, NTP, OTHER, STATION, TLS, TPE, Traffic, findings_of, statuses


def test_findings_that_say_the_same_of_several_conversations_are_one() -> None:
    three = [finding(flow=number, frames=(Frame(0, 10 * number), Frame(0, 5 + number))) for number in (3, 1, 2)]
    (one,) = merge_equal(three, ())
    assert (one.flow, one.count) == (1, 3)
    assert one.frames == (Frame(0, 6), Frame(0, 7), Frame(0, 8), Frame(0, 10), Frame(0, 20), Frame(0, 30))
    assert one.filter == "frame.number in {6, 7, 8, 10, 20, 30}"


@pytest.mark.parametrize(
    "other",
    [
        {"check": "TPE302"},
        {"rows": ("i39",)},
        {"severity": Severity.HIGH},
        {"summary": "Something else."},
        {"base_station": "10.0.0.3"},
        {"kind": Kind.NOTICE},
    ],
)
def test_findings_that_differ_stay_apart(other: dict[str, object]) -> None:
    assert len(merge_equal([finding(), finding(flow=2, **other)], ())) == 2


def test_what_says_little_of_each_base_station_is_one_finding(tmp_path: Path) -> None:
    """An encrypted alert (TPE283), at three base stations and on two rows of one of them."""
    sealed = record(22, message(16, b"k")) + CHANGE_CIPHER_SPEC + FINISHED + record(21, b"\x99" * 26)
    client, server = (stream.data for stream in handshake(answer=sealed).streams)
    traffic = (
        Traffic().tcp(STATION, 40000, TPE, 3001, (client, server)).tcp(STATION, 40001, TPE, 3002, (client, server))
    )
    alone = traffic.audit(tmp_path)
    (notice,) = findings_of(alone, "TPE283")
    assert (notice.base_station, notice.rows, notice.count) == (STATION, ("i38", "i39"), 2)
    for number in (3, 4):
        traffic.tcp(f"10.0.0.{number}", 40000, TPE, 3001, (client, server))
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE283")
    assert (notice.base_station, notice.rows, notice.count) == (None, ("i38", "i39"), 4)
    assert notice.summary.endswith(", at 3 base stations.") and len(notice.frames) == 4


def test_merged_findings_cite_only_so_many_frames() -> None:
    (one,) = merge_equal([finding(flow=number, frames=(Frame(0, number),)) for number in range(1, 100)], ())
    assert (one.count, len(one.frames)) == (99, MAX_FRAMES)


def test_a_defect_in_every_reconnect_is_one_finding_and_the_row_is_malformed(tmp_path: Path) -> None:
    traffic = Traffic()
    for number in range(40):
        traffic.at(10 * number).tcp(STATION, 40000 + number, TPE, 3001, HTTP)
    result = traffic.audit(tmp_path)
    (one,) = findings_of(result, "TPE121")
    assert (one.count, one.flow) == (40, 1)
    assert statuses(result)["i38"] == "malformed"


def test_of_too_many_findings_one_stands_for_those_of_a_check_and_a_base_station(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic, stations = Traffic(), (STATION, "10.0.0.3", "10.0.0.4")
    for station in stations:
        for number in range(5):
            traffic.tcp(
                station, 40000 + number, TPE, 3001, (b"GET /%d HTTP/1.1\r\n\r\n" % number, b"220 %d\r\n" % number)
            )
    whole = traffic.audit(tmp_path)
    monkeypatch.setattr(aggregate, "MAX_FINDINGS", 2)
    result = traffic.audit(tmp_path)
    assert [each.count for each in findings_of(whole, "TPE121")] == [5] * 3
    told, *folded = findings_of(result, "TPE121")
    assert (told.base_station, told.count) == (STATION, 2)
    assert {each.base_station: each.count for each in folded} == dict(zip(stations, (3, 5, 5), strict=True))
    assert all(each.frames and each.severity is told.severity and "too many" in each.summary for each in folded)
    assert [each.rows for each in result.base_stations] == [each.rows for each in whole.base_stations]


def test_a_malformed_flow_outweighs_a_good_one_whichever_comes_first(tmp_path: Path) -> None:
    good_first = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 3001, HTTP)
    bad_first = Traffic().tcp(STATION, 40000, TPE, 3001, HTTP).tcp(STATION, 40001, TPE, 3001, TLS)
    assert statuses(good_first.audit(tmp_path))["i38"] == "malformed"
    assert statuses(bad_first.audit(tmp_path))["i38"] == "malformed"


def test_every_flow_and_every_packet_is_accounted_for(tmp_path: Path) -> None:
    for path in samples.all_captures():
        result = audit(path)
        told = result.totals
        assert told.packets == sum(each.packets for each in result.captures)
        assert told.packets == (
            told.packets_in_flows + told.icmp_errors + told.copies + told.packets_without_ip + told.packets_unreadable
        )
        assert told.packets_in_flows == told.packets_of_base_stations + told.packets_out_of_scope
        assert told.flows == len(result.flows)
        assert [each.id for each in result.flows] == list(range(1, told.flows + 1))
        for station in result.base_stations:
            for row in station.rows:
                assert all(row.row.id in result.flow_rows[flow] for flow in row.flows)


def test_findings_come_most_severe_first(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, HTTP).tcp(STATION, 1, OTHER, 99).at(500).audit(tmp_path)
    severities = [each.severity for each in result.findings]
    assert severities == sorted(severities, reverse=True)
    assert len(set(severities)) > 1


@pytest.mark.parametrize("module", FORMATS, ids=lambda module: module.NAME)
def test_the_same_capture_gives_the_same_report(module: object) -> None:
    path = samples.capture("mixed-two-base-stations")
    assert module.render(audit(path)) == module.render(audit(path))  # type: ignore[attr-defined]


def test_a_capture_in_two_files_says_the_same_as_in_one(tmp_path: Path) -> None:
    traffic = (
        Traffic()
        .tcp(STATION, 40000, TPE, 3001, TLS)
        .exchange(STATION, 123, OTHER, 123, NTP)
        .tcp(STATION, 1, TPE, 80, HTTP)
    )
    whole = traffic.audit(tmp_path)
    half = len(traffic.packets) // 2
    halves = []
    for number, packets in enumerate((traffic.packets[:half], traffic.packets[half:])):
        part = Traffic()
        part.packets = packets
        halves.append(part.save(tmp_path / f"{number}.pcap"))
    for order in (halves, halves[::-1]):
        split = audit(order)
        assert [(each.check, each.summary) for each in split.findings] == [
            (each.check, each.summary) for each in whole.findings
        ]
        assert statuses(split) == statuses(whole)


def test_paths_may_be_one_or_many_text_or_path(tmp_path: Path) -> None:
    path = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).save(tmp_path / "a.pcap")
    plain = [dataclasses.replace(each) for each in audit(path).findings]
    for given in (str(path), [path], (str(path),)):
        assert list(audit(given).findings) == plain


def test_what_cannot_be_audited_is_said_by_an_exception(tmp_path: Path) -> None:
    path = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).save(tmp_path / "a.pcap")
    with pytest.raises(CaptureError):
        audit(__file__)
    with pytest.raises(CaptureError, match="no such file"):
        audit(tmp_path / "none.pcap")
    with pytest.raises(RuleError, match="no-such-profile"):
        audit(path, profile="no-such-profile")
    with pytest.raises(ValueError, match="no mode 'wireless'"):
        audit(path, mode="wireless")
    with pytest.raises(ValueError, match="'bs1'"):
        audit(path, base_stations=["bs1"])
    with pytest.raises(ValueError, match="cluster"):
        audit(path, deployment="cluster")
    with pytest.raises(ValueError, match="new"):
        audit(path, lrr_version="new")


def test_a_profile_of_ones_own_without_all_modes(tmp_path: Path) -> None:
    rules = tmp_path / "own"
    rules.mkdir()
    shutil.copy(samples.ROOT / "rules" / "tpe-self-hosted" / "tls.toml", rules)
    path = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 2404).save(tmp_path / "a.pcap")
    result = audit(path, profile=str(rules))
    assert [each.mode for each in result.base_stations] == ["tls"]
    assert result.profile == str(rules)


def bare(packet: bytes) -> bytes:
    """A packet of a virtual interface in a capture on all interfaces: LINKTYPE_LINUX_SLL without an address."""
    return struct.pack(">HHH", 0, 65534, 0) + bytes(8) + b"\x08\x00" + packet


def test_the_inside_of_a_tunnel_is_no_cleartext_beside_it(tmp_path: Path) -> None:
    """A capture on all interfaces of the base station shows the tunnel's inside on its virtual interface."""
    esp = [
        build.cooked(build.ip(*ends, 50, struct.pack(">II", spi, number) + bytes(range(64))))
        for number in range(1, 4)
        for ends, spi in ((("10.0.0.2", "10.0.9.1"), 0xC1), (("10.0.9.1", "10.0.0.2"), 0xC2))
    ]
    inner = [
        build.ip("10.250.0.1", "10.251.0.1", 6, build.tcp_header(40000, 2404, SYN, 1)),
        build.ip("10.251.0.1", "10.250.0.1", 6, build.tcp_header(2404, 40000, SYN | ACK, 1)),
        build.ip("10.250.0.1", "10.251.0.1", 6, build.tcp_header(40000, 2404, ACK, 2) + b"\x68\x04\x43\0\0\0"),
    ]
    seen = tmp_path / "any.pcap"
    seen.write_bytes(build.pcap(build.timed([*esp[:2], *map(bare, inner), *esp[2:]]), linktype=113))
    beside = tmp_path / "beside.pcap"
    beside.write_bytes(build.pcap(build.timed([*esp[:2], *map(build.cooked, inner), *esp[2:]]), linktype=113))
    inside, clear = audit(seen), audit(beside)
    assert [verdict.mode for verdict in inside.base_stations] == ["ipsec"]
    assert [finding.check for finding in inside.findings if finding.check == "TPE135"] == ["TPE135"]
    assert "plain" in [verdict.mode for verdict in clear.base_stations]
    assert not any(finding.check == "TPE135" for finding in clear.findings)


def test_an_uplink_without_link_layer_addresses_hides_nothing(tmp_path: Path) -> None:
    """Cleartext to the tunnel's own end is beside the tunnel, whatever interface it takes."""
    esp = [
        build.cooked(build.ip(*ends, 50, struct.pack(">II", spi, number) + bytes(range(64))))
        for number in range(1, 4)
        for ends, spi in ((("10.0.0.2", "10.0.9.1"), 0xC1), (("10.0.9.1", "10.0.0.2"), 0xC2))
    ]
    clear = [
        bare(build.ip("10.0.0.2", "10.0.9.1", 6, build.tcp_header(40000, 2404, SYN, 1))),
        bare(build.ip("10.0.9.1", "10.0.0.2", 6, build.tcp_header(2404, 40000, SYN | ACK, 1))),
        bare(build.ip("10.0.0.2", "10.0.9.1", 6, build.tcp_header(40000, 2404, ACK, 2) + b"\x68\x04\x43\0\0\0")),
    ]
    capture = tmp_path / "cellular.pcap"
    capture.write_bytes(build.pcap(build.timed([*esp, *clear]), linktype=113))
    found = audit(capture)
    assert [verdict.mode for verdict in found.base_stations] == ["ipsec"]
    assert ("TPE104", ("i6",), Severity.HIGH) in [(each.check, each.rows, each.severity) for each in found.findings]
    assert not any(each.check == "TPE135" for each in found.findings)


def test_an_audit_that_nobody_holds_takes_no_memory() -> None:
    result = audit(samples.capture("tls-compliant"))
    assert any(list(each.dissection.items) for each in result.conversations)
    assert result.conversations.table is not None
    table = weakref.ref(result.conversations.table.flow)
    del result
    gc.collect()
    assert table() is None
