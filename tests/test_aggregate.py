"""Merging of equal findings, the limit on their number, their order, and the malformed flows that verdicts need."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer import aggregate
from analyzer.aggregate import in_report_order, malformed_flows, merge_equal
from analyzer.findings import MAX_FRAMES, Kind, Severity
from analyzer.heads import Frame
from tests.checks.test_tls import handshake
from tests.protocols.tls_messages import CHANGE_CIPHER_SPEC, FINISHED, message, record
from tests.reports.audits import finding
from tests.synthetic import HTTP, STATION, TPE, Traffic, findings_of, statuses


def test_equal_findings_of_several_flows_are_merged() -> None:
    three = [finding(flow=number, frames=(Frame(0, 10 * number), Frame(0, 5 + number))) for number in (3, 1, 2)]
    (merged,) = merge_equal(three, ())
    assert (merged.flow, merged.count) == (1, 3)
    assert merged.frames == (Frame(0, 6), Frame(0, 7), Frame(0, 8), Frame(0, 10), Frame(0, 20), Frame(0, 30))
    assert merged.filter == "frame.number in {6, 7, 8, 10, 20, 30}"


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
def test_findings_that_differ_are_not_merged(other: dict[str, object]) -> None:
    assert len(merge_equal([finding(), finding(flow=2, **other)], ())) == 2


def test_findings_of_an_aggregated_check_are_merged_across_base_stations_and_rows(tmp_path: Path) -> None:
    """TPE283, an encrypted alert: at three base stations, and on two rows of one of them."""
    encrypted_alert = record(22, message(16, b"k")) + CHANGE_CIPHER_SPEC + FINISHED + record(21, b"\x99" * 26)
    client, server = (stream.data for stream in handshake(answer=encrypted_alert).streams)
    traffic = (
        Traffic().tcp(STATION, 40000, TPE, 3001, (client, server)).tcp(STATION, 40001, TPE, 3002, (client, server))
    )
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE283")
    assert (notice.base_station, notice.rows, notice.count) == (STATION, ("i38", "i39"), 2)
    for number in (3, 4):
        traffic.tcp(f"10.0.0.{number}", 40000, TPE, 3001, (client, server))
    (notice,) = findings_of(traffic.audit(tmp_path), "TPE283")
    assert (notice.base_station, notice.rows, notice.count) == (None, ("i38", "i39"), 4)
    assert notice.summary.endswith(", at 3 base stations.") and len(notice.frames) == 4


def test_merged_finding_cites_a_limited_number_of_frames() -> None:
    (merged,) = merge_equal([finding(flow=number, frames=(Frame(0, number),)) for number in range(1, 100)], ())
    assert (merged.count, len(merged.frames)) == (99, MAX_FRAMES)


def test_merged_finding_has_the_peer_and_service_that_all_share() -> None:
    (merged,) = merge_equal([finding(), finding(flow=2, peer="10.0.9.2")], ())
    assert (merged.peer, merged.service) == (None, "tcp/3001")


def test_defect_in_every_reconnect_is_one_finding(tmp_path: Path) -> None:
    traffic = Traffic()
    for number in range(40):
        traffic.at(10 * number).tcp(STATION, 40000 + number, TPE, 3001, HTTP)
    result = traffic.audit(tmp_path)
    (merged,) = findings_of(result, "TPE121")
    assert (merged.count, merged.flow) == (40, 1)
    assert statuses(result)["i38"] == "malformed"


def test_findings_beyond_the_limit_become_one_per_check_and_base_station(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic, stations = Traffic(), (STATION, "10.0.0.3", "10.0.0.4")
    for station in stations:
        for number in range(5):
            content = b"GET /%d HTTP/1.1\r\n\r\n" % number, b"220 %d\r\n" % number
            traffic.tcp(station, 40000 + number, TPE, 3001, content)
    whole = traffic.audit(tmp_path)
    monkeypatch.setattr(aggregate, "MAX_FINDINGS", 2)
    result = traffic.audit(tmp_path)
    assert [single.count for single in findings_of(whole, "TPE121")] == [5] * 3
    single, *summaries = findings_of(result, "TPE121")
    assert (single.base_station, single.count) == (STATION, 2)
    counts = {summary.base_station: summary.count for summary in summaries}
    assert counts == dict(zip(stations, (3, 5, 5), strict=True))
    for summary in summaries:
        assert summary.frames and summary.severity is single.severity and "too many" in summary.summary
    assert [station.rows for station in result.base_stations] == [station.rows for station in whole.base_stations]


def test_findings_are_ordered_by_severity_base_station_check_and_frame() -> None:
    ordered = (
        finding(severity=Severity.HIGH, base_station="10.0.0.9"),
        finding(severity=Severity.HIGH, base_station=None),
        finding(base_station="10.0.0.2", check="TPE301", frames=(Frame(0, 1),)),
        finding(base_station="10.0.0.2", check="TPE301", frames=(Frame(0, 2),)),
        finding(base_station="10.0.0.2", check="TPE301", frames=(Frame(1, 1),)),
        finding(base_station="10.0.0.2", check="TPE301", frames=()),
        finding(base_station="10.0.0.2", check="TPE302"),
        finding(base_station="10.0.0.3", check="TPE101"),
        finding(severity=Severity.LOW),
    )
    assert in_report_order(reversed(ordered)) == ordered


def test_malformed_flows_are_those_of_malformed_findings_of_medium_severity_or_above() -> None:
    findings = [
        finding(flow=1, rows=("i38", "i39")),
        finding(flow=2, severity=Severity.HIGH),
        finding(flow=3, severity=Severity.LOW),
        finding(flow=4, kind=Kind.NOTICE),
        finding(flow=None),
        finding(flow=5, base_station="10.0.0.3"),
    ]
    assert malformed_flows(findings) == {
        "10.0.0.2": {"i38": {1, 2}, "i39": {1}},
        "10.0.0.3": {"i38": {5}},
    }
