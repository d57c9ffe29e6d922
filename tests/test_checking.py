"""How checks are run: on which flows, once or for each of them, and what happens if one of them fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from analyzer import checking, cli
from analyzer.checks import CHECKS
from analyzer.findings import ANY, CAPTURE, FLOW, AuditContext, Check, Issue, Kind, Scope, Severity
from analyzer.matching import Match
from analyzer.result import Audit
from tests.synthetic import HTTP, OTHER, STATION, TLS, TPE, Traffic, findings_of, statuses


@pytest.fixture
def traffic() -> Traffic:
    """A base station with HTTP where TLS belongs, and an unexpected flow."""
    return Traffic().tcp(STATION, 40000, TPE, 3001, HTTP).tcp(STATION, 40001, OTHER, 80, HTTP)


def with_check(monkeypatch: pytest.MonkeyPatch, scope: Scope, run: object, **options: object) -> None:
    """Run one more check, before all others."""
    extra = Check("TPE999", "made-up", Severity.LOW, Kind.NOTICE, scope, run, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(checking, "CHECKS", (extra, *CHECKS))
    checking.flow_checks.cache_clear()


@pytest.fixture(autouse=True)
def forget_checks() -> Iterator[None]:
    yield
    checking.flow_checks.cache_clear()


def broken_flow_check(match: Match) -> Iterator[Issue]:
    yield Issue("Before the failure.")
    raise KeyError("secret of the capture")


def broken_capture_check(context: AuditContext) -> Iterator[Issue]:
    yield Issue("Before the failure.")
    raise KeyError("secret of the capture")


def other_findings(result: Audit) -> list[tuple[str, str]]:
    return [
        (finding.check, finding.summary) for finding in result.findings if finding.check not in ("TPE900", "TPE999")
    ]


BROKEN = [pytest.param(FLOW, broken_flow_check, id="flow"), pytest.param(CAPTURE, broken_capture_check, id="capture")]


@pytest.mark.parametrize(("scope", "run"), BROKEN)
def test_a_failing_check_becomes_a_finding_and_all_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traffic: Traffic, scope: Scope, run: object
) -> None:
    whole = traffic.audit(tmp_path)
    with_check(monkeypatch, scope, run)
    result = traffic.audit(tmp_path)
    (defect,) = findings_of(result, "TPE900")
    assert (defect.slug, defect.severity, defect.kind) == ("program-defect", Severity.HIGH, Kind.NOTICE)
    assert defect.summary.startswith("Check TPE999 (made-up) failed: KeyError at test_checking.py:")
    assert "secret" not in defect.summary, "the exception's message may quote the capture"
    assert [finding.summary for finding in findings_of(result, "TPE999")] == ["Before the failure."]
    assert other_findings(result) == other_findings(whole)
    assert statuses(result) == statuses(whole)


@pytest.mark.parametrize(("scope", "run"), BROKEN)
def test_the_command_reports_a_failing_check_and_exits_with_3(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    traffic: Traffic,
    scope: Scope,
    run: object,
) -> None:
    with_check(monkeypatch, scope, run)
    path = traffic.save(tmp_path / "a.pcap")
    assert cli.main(["audit", str(path), "--format", "json"]) == cli.DEFECT == 3
    report = json.loads(capsys.readouterr().out)
    assert {finding["check"] for finding in report["findings"]} >= {"TPE900", "TPE121", "TPE101"}


def test_a_check_that_fails_on_a_flow_cites_the_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traffic: Traffic
) -> None:
    with_check(monkeypatch, FLOW, broken_flow_check)
    traffic.tcp(STATION, 40002, TPE, 3001, HTTP).tcp(STATION, 40003, TPE, 3002, TLS)
    defects = findings_of(traffic.audit(tmp_path), "TPE900")
    assert [(defect.rows, defect.count, defect.base_station) for defect in defects] == [
        (("i38",), 2, STATION),
        (("i39",), 1, STATION),
    ]


def test_running_out_of_memory_is_no_defect_of_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traffic: Traffic
) -> None:
    def exhausts(match: Match) -> Iterator[Issue]:
        raise MemoryError
        yield

    with_check(monkeypatch, FLOW, exhausts)
    with pytest.raises(MemoryError):
        traffic.audit(tmp_path)


# -- which checks run on which flows ----------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "expected"), [(ANY, ["3001", "3002"]), ("tls", ["3002"]), ("http", [])])
def test_a_check_runs_on_flows_whose_content_is_the_protocol_of_their_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traffic: Traffic, protocol: str, expected: list[str]
) -> None:
    def reports_port(match: Match) -> Iterator[Issue]:
        yield Issue(f"Port {match.conversation.responder.port}.")

    with_check(monkeypatch, FLOW, reports_port, protocol=protocol)
    result = traffic.tcp(STATION, 40002, TPE, 3002, TLS).audit(tmp_path)
    assert [finding.summary for finding in findings_of(result, "TPE999")] == [f"Port {port}." for port in expected]


@pytest.mark.parametrize(("pure", "fires", "calls"), [(True, False, 1), (True, True, 3), (False, False, 3)])
def test_a_pure_check_that_did_not_fire_is_not_run_again_for_equal_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pure: bool, fires: bool, calls: int
) -> None:
    examined: list[int] = []

    def counts(match: Match) -> Iterator[Issue]:
        examined.append(match.conversation.id)
        if fires:
            yield Issue("Fires.")

    with_check(monkeypatch, FLOW, counts, pure=pure)
    traffic = Traffic()
    for port in (40000, 40001, 40002):  # the last packet tells them apart
        traffic.tcp(STATION, port, TPE, 3001, TLS, duration=port - 39999)
    result = traffic.audit(tmp_path)
    assert len({id(conversation.dissection.facts) for conversation in result.conversations}) == 1
    assert len(examined) == calls


def test_rows_that_share_a_port_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reports_rows(match: Match) -> Iterator[Issue]:
        yield Issue(f"Rows {', '.join(row.id for row in match.rows)}.")

    with_check(monkeypatch, FLOW, reports_rows)
    result = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 22, HTTP).audit(tmp_path)
    assert [finding.summary for finding in findings_of(result, "TPE999")] == ["Rows i38.", "Rows i4, i5."]
