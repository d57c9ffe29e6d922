"""The audit as a whole: accounting, equal results for equal input, arguments, and memory."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest

from analyzer import CaptureError, RuleError, audit
from analyzer.expected import UsageError
from analyzer.pipeline import list_flows
from analyzer.reports import FORMATS, Format
from analyzer.result import Audit
from tests import samples
from tests.synthetic import HTTP, NTP, OTHER, STATION, TLS, TPE, Traffic, statuses


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return Traffic().tcp(STATION, 40000, TPE, 3001, TLS).save(tmp_path / "a.pcap")


@pytest.mark.parametrize("name", samples.names())
def test_every_packet_and_flow_is_counted_once(name: str) -> None:
    result = samples.audit_of(name)
    totals = result.totals
    assert totals.packets == sum(file.packets for file in result.captures)
    outside = totals.icmp_errors + totals.copies + totals.packets_without_ip + totals.packets_unreadable
    assert totals.packets == totals.packets_in_flows + outside
    assert totals.packets_in_flows == totals.packets_of_base_stations + totals.packets_out_of_scope
    assert totals.flows == len(result.flows)
    assert [flow.id for flow in result.flows] == list(range(1, totals.flows + 1))
    for station in result.base_stations:
        for verdict in station.rows:
            assert all(verdict.row.id in result.flow_rows[flow] for flow in verdict.flows)


def summaries(result: Audit) -> list[tuple[str, str]]:
    return [(finding.check, finding.summary) for finding in result.findings]


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.name)
def test_same_capture_gives_the_same_report(report: Format) -> None:
    path = samples.capture("mixed-two-base-stations")
    assert report.render(audit(path)) == report.render(audit(path))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_files_give_the_result_of_one(tmp_path: Path, order: Sequence[int]) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).exchange(STATION, 123, OTHER, 123, NTP)
    whole = traffic.tcp(STATION, 1, TPE, 80, HTTP).audit(tmp_path)
    half = len(traffic.packets) // 2
    files = []
    for number, packets in enumerate((traffic.packets[:half], traffic.packets[half:])):
        part = Traffic()
        part.packets = packets
        files.append(part.save(tmp_path / f"{number}.pcap"))
    split = audit([files[number] for number in order])
    assert summaries(split) == summaries(whole)
    assert statuses(split) == statuses(whole)


# -- arguments --------------------------------------------------------------------------------------------------


def test_captures_are_one_or_several_paths_as_text_or_path(capture: Path) -> None:
    findings = audit(capture).findings
    for captures in (str(capture), [capture], (str(capture),)):
        assert audit(captures).findings == findings


@pytest.mark.parametrize("path", [__file__, "none.pcap"])
def test_unreadable_capture_is_a_capture_error(path: str) -> None:
    with pytest.raises(CaptureError):
        audit(path)
    with pytest.raises(CaptureError):
        list_flows(path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"profile": "no-such-profile"}, RuleError, "no-such-profile"),
        ({"mode": "wireless"}, UsageError, "profile tpe-self-hosted has no mode 'wireless': it has ipsec, tls"),
        ({"base_stations": ["bs1"]}, UsageError, "'bs1' is no address, network or MAC address"),
        ({"tpe": ["tpe1"]}, UsageError, "'tpe1' is no address, network or MAC address"),
        ({"deployment": "cluster"}, ValueError, "cluster"),
        ({"lrr_version": "new"}, UsageError, "'new' is no version"),
    ],
)
def test_invalid_argument_is_an_error_before_any_capture_is_read(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        audit("none.pcap", **arguments)  # type: ignore[arg-type]


def test_profile_may_lack_modes(tmp_path: Path) -> None:
    rules = tmp_path / "own"
    rules.mkdir()
    shutil.copy(samples.ROOT / "rules" / "tpe-self-hosted" / "tls.toml", rules)
    path = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 2404).save(tmp_path / "a.pcap")
    result = audit(path, profile=str(rules))
    assert [station.mode for station in result.base_stations] == ["tls"]
    assert result.profile == str(rules)


def test_progress_names_each_stage_and_counts_its_work(capture: Path) -> None:
    stages: list[tuple[str, int, str]] = []
    done: dict[str, int] = {}

    def progress(activity: str, total: int, unit: str) -> object:
        stages.append((activity, total, unit))
        done[activity] = 0

        def count(amount: int) -> None:
            done[activity] += amount

        return count

    audit(capture, progress=progress)  # type: ignore[arg-type]
    size = capture.stat().st_size
    assert stages == [
        ("reading", size, "bytes"),
        ("dissecting", 1, "flows"),
        ("matching", 1, "base stations"),
        ("judging", 1, "base stations"),
    ]
    assert done == {activity: total for activity, total, _ in stages}


# -- memory -----------------------------------------------------------------------------------------------------


def test_released_audit_frees_its_memory() -> None:
    result = audit(samples.capture("tls-compliant"))
    assert any(list(conversation.dissection.items) for conversation in result.conversations)
    assert result.conversations.table is not None
    table = weakref.ref(result.conversations.table.flow)
    del result
    gc.collect()
    assert table() is None
