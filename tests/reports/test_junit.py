"""What CI servers read."""

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


def suites(audited: Audit) -> dict[str, Element]:
    """Name → suite, after the schema has agreed to the report and its numbers to its cases."""
    said = junit.render(audited).encode()
    SCHEMA.assertValid(etree.fromstring(said))
    root = fromstring(said)
    for name, tag in (("tests", None), ("failures", "failure"), ("errors", "error")):
        for suite in root:
            cases = suite.findall("testcase")
            assert int(suite.get(name, "")) == len(
                [each for each in cases if tag is None or each.find(tag) is not None]
            )
        assert int(root.get(name, "")) == sum(int(suite.get(name, "")) for suite in root)
    return {suite.get("name", ""): suite for suite in root}


def outcomes(suite: Element) -> dict[str, str]:
    """Name of a case → what a CI server shows of it."""
    found = {}
    for case in suite.findall("testcase"):
        tags = [tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None]
        assert len(tags) < 2
        found[case.get("name", "")] = tags[0] if tags else "passed"
    assert len(found) == int(suite.get("tests", ""))
    return found


def test_the_report_is_the_golden_one() -> None:
    assert junit.render(EXAMPLE) == (ROOT / "tests" / "golden" / "audit.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "audited",
    [EXAMPLE, HOSTILE_AUDIT, BARE, replace(BARE, captures=(EMPTY,))],
    ids=["example", "hostile", "bare", "empty"],
)
def test_every_report_agrees_with_the_schema(audited: Audit) -> None:
    suites(audited)


@pytest.mark.parametrize("name", samples.names())
@pytest.mark.parametrize("threshold", [Severity.INFO, Severity.HIGH])
def test_something_fails_if_and_only_if_the_audit_fails(name: str, threshold: Severity) -> None:
    result = replace(samples.audit_of(name), fail_on=threshold)
    shown = [outcome for suite in suites(result).values() for outcome in outcomes(suite).values()]
    assert ("failure" in shown) == result.fails()
    if result.base_stations:
        assert len(suites(result)) == 1 + len(result.base_stations)


def test_the_rows_of_a_station_are_the_same_cases_whatever_was_found() -> None:
    rows = [f"{row.row.id} {row.row.service}" for row in EXAMPLE.base_stations[0].rows]
    for audited in (EXAMPLE, replace(EXAMPLE, findings=()), replace(EXAMPLE, fail_on=Severity.INFO)):
        assert list(outcomes(suites(audited)["10.0.0.2"]))[: len(rows)] == rows


def test_the_threshold_decides_what_fails() -> None:
    station = {severity: outcomes(suites(replace(EXAMPLE, fail_on=severity))["10.0.0.2"]) for severity in Severity}
    assert station[Severity.HIGH]["i38 IEC 104 over TLS"] == "failure"
    assert station[Severity.HIGH]["TPE101 unexpected-flow"] == "passed"
    assert station[Severity.MEDIUM]["TPE101 unexpected-flow"] == "failure"
    assert station[Severity.MEDIUM]["i40 SFTP over TLS"] == "skipped"
    assert station[Severity.LOW]["i40 SFTP over TLS"] == "failure"
    assert station[Severity.LOW]["i4 SFTP"] == "skipped"
    assert station[Severity.LOW]["i3 ICMP"] == "passed"


def test_the_nearest_row_of_an_unexpected_flow_is_not_to_blame() -> None:
    strange = finding(kind=Kind.UNEXPECTED, rows=("i3",), check="TPE101", slug="unexpected-outbound", mismatch="port")
    shown = outcomes(suites(replace(EXAMPLE, findings=(strange,)))["10.0.0.2"])
    assert (shown["i3 ICMP"], shown["TPE101 unexpected-outbound"]) == ("passed", "failure")


def test_no_base_station_fails_whatever_the_threshold_is() -> None:
    shown = outcomes(suites(replace(BARE, captures=(EMPTY,), fail_on=Severity.HIGH))["captures"])
    assert shown == {"base-station-recognised": "failure"}


def test_a_defect_of_the_program_is_an_error() -> None:
    broken = finding(
        check="TPE900", slug="program-defect", kind=Kind.NOTICE, base_station=None, rows=(), severity=Severity.HIGH
    )
    shown = outcomes(suites(replace(EXAMPLE, findings=(broken,)))["captures"])
    assert shown["TPE900 program-defect"] == "error"
