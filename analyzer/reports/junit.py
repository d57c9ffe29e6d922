"""The report for CI servers: JUnit XML, as Jenkins, GitLab and GitHub's test reporters read it.

A base station is a test suite and each row of its table a case, so that the cases are the same in every run. A case
fails by findings whose severity fails the audit; what was not seen, or could not be judged, is skipped. Findings that
belong to no row, such as a flow that should not be there, have a case for each check. The suite ``captures`` holds
what is said of the captures, and one case that fails when no base station was recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from analyzer.capture import CaptureFile
from analyzer.findings import Finding, Kind
from analyzer.reports.times import finding_time, iso
from analyzer.safetext import escape_text
from analyzer.verdicts import RowVerdict, StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit

CAPTURES = "captures"
"""Suite of the findings that are about no base station."""
DEFECT = "TPE900"
"""Its findings are errors, not failures: the case was not judged."""
OF_ROWS = (Kind.MALFORMED, Kind.MISSING)
"""Kinds of findings that say what is wrong with a row."""


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as one XML document; it has no colours."""
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
    """What is said of the captures as a whole."""
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
    add_checks(suite, CAPTURES, [each for each in audit.findings if each.base_station is None], audit)
    return counted(suite, audit.captures)


def station_suite(audit: Audit, verdict: StationVerdict) -> Element:
    """The rows of a base station, and what else was found of it."""
    address = verdict.station.address
    suite = Element("testsuite", {"name": address})
    add_properties(suite, {"mode": verdict.mode, "tpe": " ".join(verdict.tpe)})
    found = [finding for finding in audit.findings if finding.base_station == address]
    by_row: dict[str, list[Finding]] = {row.row.id: [] for row in verdict.rows}
    others: list[Finding] = []
    for finding in found:
        own = [by_row[row] for row in finding.rows if row in by_row] if finding.kind in OF_ROWS else []
        for place in own:
            place.append(finding)
        if not own:
            others.append(finding)
    for row in verdict.rows:
        add_row(suite, address, row, by_row[row.row.id], audit)
    add_checks(suite, address, others, audit)
    return counted(suite, audit.captures)


def counted(suite: Element, captures: Sequence[CaptureFile]) -> Element:
    """The suite with its numbers; its time stamp is that of the first packet."""
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    first = min(((each.first, each.digits) for each in captures if each.first is not None), default=None)
    if first is not None:
        suite.set("timestamp", iso(first[0], 0).removesuffix("Z"))
    return suite


def add_properties(suite: Element, values: Mapping[str, str]) -> None:
    properties = SubElement(suite, "properties")
    for name, value in values.items():
        SubElement(properties, "property", {"name": name, "value": escape_text(value)})


# -- cases -----------------------------------------------------------------------------------------------------


def add_row(suite: Element, address: str, row: RowVerdict, findings: Sequence[Finding], audit: Audit) -> None:
    """The case of a row: its status, and what was found wrong with it."""
    case = SubElement(suite, "testcase", {"name": f"{row.row.id} {row.row.service}", "classname": f"{address}.rows"})
    add_outcome(case, findings, audit)
    if case.find("failure") is None and case.find("error") is None and row.status is not Status.PRESENT:
        certainty = f", {row.certainty.value}" if row.certainty else ""
        reason = f": {row.reason}" if row.reason else ""
        SubElement(case, "skipped", {"message": escape_text(f"{row.status.value}{certainty}{reason}")})
    add_output(case, findings, audit)


def add_checks(suite: Element, name: str, findings: Iterable[Finding], audit: Audit) -> None:
    """A case for each check that found something which belongs to no row."""
    for (check, slug), group in groupby(
        sorted(findings, key=lambda each: each.check), key=lambda each: (each.check, each.slug)
    ):
        said = list(group)
        case = SubElement(suite, "testcase", {"name": f"{check} {slug}", "classname": f"{name}.checks"})
        add_outcome(case, said, audit)
        add_output(case, said, audit)


def add_outcome(case: Element, findings: Sequence[Finding], audit: Audit) -> None:
    """A failure for the findings that fail the audit; an error where this program failed."""
    failing = [finding for finding in findings if finding.severity >= audit.fail_on]
    if failing:
        tag = "error" if any(finding.check == DEFECT for finding in failing) else "failure"
        more = f" And {len(failing) - 1} more." if len(failing) > 1 else ""
        said = {"type": failing[0].check, "message": escape_text(failing[0].summary) + more}
        SubElement(case, tag, said).text = described(failing, audit.captures)


def add_output(case: Element, findings: Sequence[Finding], audit: Audit) -> None:
    """What was found and fails nothing."""
    below = [finding for finding in findings if finding.severity < audit.fail_on]
    if below:
        SubElement(case, "system-out").text = described(below, audit.captures)


def described(findings: Iterable[Finding], captures: Sequence[CaptureFile]) -> str:
    """Findings in full, a paragraph each."""
    return "\n\n".join("\n".join(map(escape_text, finding_lines(each, captures))) for each in findings)


def finding_lines(finding: Finding, captures: Sequence[CaptureFile]) -> Iterator[str]:
    yield f"{str(finding.severity).upper()} {finding.check} {finding.slug}: {finding.summary}"
    for capture, group in groupby(finding.frames, key=lambda frame: frame.capture):
        yield f"Frames: {', '.join(str(frame.number) for frame in group)} of {captures[capture].path}"
    time = finding_time(finding, captures)
    if time is not None:
        yield f"Time: {time}"
    if finding.filter:
        yield f"Filter: {finding.filter}"
    yield f"Remedy: {finding.remedy}"
