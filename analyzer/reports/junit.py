"""The report for CI servers: JUnit XML, as Jenkins, GitLab and GitHub's test reporters read it.

Each base station is a test suite, and each row of its table a test case, so the cases are the same in every run. A case
fails if one of its findings fails the audit; rows that were not seen or could not be judged are skipped. Findings that
belong to no row, such as unexpected flows, are grouped into one case per check. The suite ``captures`` has the findings
about the captures, and one case that fails if no base station was recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from analyzer.capture import CaptureFile
from analyzer.findings import Finding, Kind
from analyzer.reports.times import finding_time, iso
from analyzer.reports.wording import frames_by_capture, status_text
from analyzer.safetext import escape_text
from analyzer.verdicts import RowVerdict, StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit

CAPTURES = "captures"
"""Name of the suite for findings that concern no base station."""
DEFECT = "TPE900"
"""Check whose findings are errors, not failures: the case could not be judged."""
ROW_KINDS = (Kind.MALFORMED, Kind.MISSING)
"""Kinds of findings that belong to the case of their row."""


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as one XML document, which has no colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, suite by suite."""
    suites = [capture_suite(audit), *(station_suite(audit, verdict) for verdict in audit.base_stations)]
    totals = {name: str(sum(int(suite.get(name, "0")) for suite in suites)) for name in ("tests", "failures", "errors")}
    root = Element("testsuites", {"name": "tpe-pcap", **totals})
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield tostring(root, encoding="unicode", short_empty_elements=False).removesuffix("</testsuites>") + "\n"
    for suite in suites:
        indent(suite)
        yield tostring(suite, encoding="unicode") + "\n"
    yield "</testsuites>\n"


# -- suites ----------------------------------------------------------------------------------------------------


def capture_suite(audit: Audit) -> Element:
    """The findings about the captures, and whether a base station was recognised."""
    suite = Element("testsuite", {"name": CAPTURES})
    add_properties(
        suite,
        {
            "profile": audit.profile,
            "deployment": audit.deployment.value,
            "fail-on": str(audit.fail_on),
            **{f"capture {number}": capture.path for number, capture in enumerate(audit.captures, 1)},
        },
    )
    recognised = SubElement(suite, "testcase", {"name": "base-station-recognised", "classname": CAPTURES})
    if not audit.base_stations:
        SubElement(recognised, "failure", {"type": "none", "message": "No base station could be recognised."})
    add_checks(suite, CAPTURES, [finding for finding in audit.findings if finding.base_station is None], audit)
    return with_counts(suite, audit.captures)


def station_suite(audit: Audit, verdict: StationVerdict) -> Element:
    """The rows of a base station, and its findings that belong to no row."""
    address = verdict.station.address
    suite = Element("testsuite", {"name": address})
    add_properties(suite, {"mode": verdict.mode, "tpe": " ".join(verdict.tpe)})
    found = [finding for finding in audit.findings if finding.base_station == address]
    by_row: dict[str, list[Finding]] = {row.row.id: [] for row in verdict.rows}
    others: list[Finding] = []
    for finding in found:
        rows = [row for row in finding.rows if row in by_row] if finding.kind in ROW_KINDS else []
        for row_id in rows:
            by_row[row_id].append(finding)
        if not rows:
            others.append(finding)
    for row in verdict.rows:
        add_row(suite, address, row, by_row[row.row.id], audit)
    add_checks(suite, address, others, audit)
    return with_counts(suite, audit.captures)


def with_counts(suite: Element, captures: Sequence[CaptureFile]) -> Element:
    """The suite with the numbers of its cases, and the time of the first packet as its time stamp."""
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    first = min((capture.first for capture in captures if capture.first is not None), default=None)
    if first is not None:
        suite.set("timestamp", iso(first, 0).removesuffix("Z"))
    return suite


def add_properties(suite: Element, values: Mapping[str, str]) -> None:
    properties = SubElement(suite, "properties")
    for name, value in values.items():
        SubElement(properties, "property", {"name": name, "value": escape_text(value)})


# -- cases -----------------------------------------------------------------------------------------------------


def add_row(suite: Element, address: str, row: RowVerdict, findings: Sequence[Finding], audit: Audit) -> None:
    """The case of a row: its status and its findings."""
    case = SubElement(suite, "testcase", {"name": f"{row.row.id} {row.row.service}", "classname": f"{address}.rows"})
    add_outcome(case, findings, audit)
    if case.find("failure") is None and case.find("error") is None and row.status is not Status.PRESENT:
        reason = f": {row.reason}" if row.reason else ""
        SubElement(case, "skipped", {"message": escape_text(f"{status_text(row)}{reason}")})
    add_output(case, findings, audit)


def add_checks(suite: Element, name: str, findings: Iterable[Finding], audit: Audit) -> None:
    """One case per check, for findings that belong to no row."""
    ordered = sorted(findings, key=lambda finding: finding.check)
    for (check, slug), group in groupby(ordered, key=lambda finding: (finding.check, finding.slug)):
        found = list(group)
        case = SubElement(suite, "testcase", {"name": f"{check} {slug}", "classname": f"{name}.checks"})
        add_outcome(case, found, audit)
        add_output(case, found, audit)


def add_outcome(case: Element, findings: Sequence[Finding], audit: Audit) -> None:
    """Add a failure for the findings that fail the audit; an error if this program failed."""
    failing = [finding for finding in findings if finding.severity >= audit.fail_on]
    if failing:
        tag = "error" if any(finding.check == DEFECT for finding in failing) else "failure"
        more = f" And {len(failing) - 1} more." if len(failing) > 1 else ""
        attributes = {"type": failing[0].check, "message": escape_text(failing[0].summary) + more}
        SubElement(case, tag, attributes).text = findings_text(failing, audit.captures)


def add_output(case: Element, findings: Sequence[Finding], audit: Audit) -> None:
    """Add the findings that do not fail the audit."""
    below = [finding for finding in findings if finding.severity < audit.fail_on]
    if below:
        SubElement(case, "system-out").text = findings_text(below, audit.captures)


def findings_text(findings: Iterable[Finding], captures: Sequence[CaptureFile]) -> str:
    """Findings in full, one paragraph each."""
    return "\n\n".join("\n".join(map(escape_text, finding_lines(finding, captures))) for finding in findings)


def finding_lines(finding: Finding, captures: Sequence[CaptureFile]) -> Iterator[str]:
    yield f"{str(finding.severity).upper()} {finding.check} {finding.slug}: {finding.summary}"
    for capture, numbers in frames_by_capture(finding.frames, captures):
        yield f"Frames: {', '.join(map(str, numbers))} of {capture.path}"
    time = finding_time(finding, captures)
    if time is not None:
        yield f"Time: {time}"
    if finding.filter:
        yield f"Filter: {finding.filter}"
    yield f"Remedy: {finding.remedy}"
