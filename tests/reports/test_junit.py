"""The JUnit report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from lxml import etree

from analyzer.findings import Kind, Severity
from analyzer.reports import junit
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EMPTY, EXAMPLE, HOSTILE_AUDIT, finding

ROOT = Path(__file__).parents[2]
SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parent / "schemas" / "junit-10.xsd")))


def suites(result: Audit) -> dict[str, Element]:
    """Name → suite of a report that conforms to the schema and whose numbers match its cases."""
    report = junit.render(result).encode()
    SCHEMA.assertValid(etree.fromstring(report))
    root = fromstring(report)
    for name, tag in (("tests", None), ("failures", "failure"), ("errors", "error")):
        for suite in root:
            cases = suite.findall("testcase")
            matching = [case for case in cases if tag is None or case.find(tag) is not None]
            assert int(suite.get(name, "")) == len(matching)
        assert int(root.get(name, "")) == sum(int(suite.get(name, "")) for suite in root)
    return {suite.get("name", ""): suite for suite in root}


def outcomes(suite: Element) -> dict[str, str]:
    """Name of a case → its outcome."""
    found = {}
    for case in suite.findall("testcase"):
        tags = [tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None]
        assert len(tags) < 2
        found[case.get("name", "")] = tags[0] if tags else "passed"
    assert len(found) == int(suite.get("tests", ""))
    return found


def test_golden() -> None:
    assert junit.render(EXAMPLE) == (ROOT / "tests" / "golden" / "audit.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "result",
    [EXAMPLE, HOSTILE_AUDIT, BARE, replace(BARE, captures=(EMPTY,))],
    ids=["example", "hostile", "bare", "empty"],
)
def test_reports_conform_to_the_schema(result: Audit) -> None:
    suites(result)


@pytest.mark.parametrize("name", samples.names())
@pytest.mark.parametrize("threshold", [Severity.INFO, Severity.HIGH])
def test_a_case_fails_if_and_only_if_the_audit_fails(name: str, threshold: Severity) -> None:
    result = replace(samples.audit_of(name), fail_on=threshold)
    shown = [outcome for suite in suites(result).values() for outcome in outcomes(suite).values()]
    assert ("failure" in shown) == result.fails()
    if result.base_stations:
        assert len(suites(result)) == 1 + len(result.base_stations)


def test_cases_of_rows_do_not_depend_on_findings() -> None:
    rows = [f"{row.row.id} {row.row.service}" for row in EXAMPLE.base_stations[0].rows]
    for result in (EXAMPLE, replace(EXAMPLE, findings=()), replace(EXAMPLE, fail_on=Severity.INFO)):
        assert list(outcomes(suites(result)["10.0.0.2"]))[: len(rows)] == rows


def test_threshold_decides_which_cases_fail() -> None:
    station = {severity: outcomes(suites(replace(EXAMPLE, fail_on=severity))["10.0.0.2"]) for severity in Severity}
    assert station[Severity.HIGH]["i38 IEC 104 over TLS"] == "failure"
    assert station[Severity.HIGH]["TPE101 unexpected-flow"] == "passed"
    assert station[Severity.MEDIUM]["TPE101 unexpected-flow"] == "failure"
    assert station[Severity.MEDIUM]["i40 SFTP over TLS"] == "skipped"
    assert station[Severity.LOW]["i40 SFTP over TLS"] == "failure"
    assert station[Severity.LOW]["i4 SFTP"] == "skipped"
    assert station[Severity.LOW]["i3 ICMP"] == "passed"


def test_unexpected_flow_does_not_fail_its_closest_row() -> None:
    unexpected = finding(
        kind=Kind.UNEXPECTED, rows=("i3",), check="TPE101", slug="unexpected-outbound", mismatch="port"
    )
    shown = outcomes(suites(replace(EXAMPLE, findings=(unexpected,)))["10.0.0.2"])
    assert (shown["i3 ICMP"], shown["TPE101 unexpected-outbound"]) == ("passed", "failure")


def test_no_base_station_fails_at_any_threshold() -> None:
    shown = outcomes(suites(replace(BARE, captures=(EMPTY,), fail_on=Severity.HIGH))["captures"])
    assert shown == {"base-station-recognised": "failure"}


def test_defect_is_an_error() -> None:
    defect = finding(
        check="TPE900", slug="program-defect", kind=Kind.NOTICE, base_station=None, rows=(), severity=Severity.HIGH
    )
    shown = outcomes(suites(replace(EXAMPLE, findings=(defect,)))["captures"])
    assert shown["TPE900 program-defect"] == "error"
