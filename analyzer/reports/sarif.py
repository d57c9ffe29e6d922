"""The report for code scanning, DefectDojo and other collectors: SARIF 2.1.0 (OASIS, with Errata 01).

A check becomes a rule, a finding a result. Collectors match results from one upload to the next by the fingerprint
(:func:`analyzer.findings.fingerprints`), which GitHub reads under the name ``primaryLocationLineHash``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from analyzer import checks
from analyzer.capture import CaptureFile
from analyzer.findings import Check, Finding, Severity, fingerprints, sections, severities
from analyzer.reports.times import finding_time, iso
from analyzer.reports.wording import frames_by_capture
from analyzer.safetext import escape_text
from analyzer.version import __version__

if TYPE_CHECKING:
    from analyzer.result import Audit

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

LEVELS = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note", Severity.INFO: "note"}
SCORES = {Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "2.0", Severity.INFO: "0.0"}
"""``security-severity`` of GitHub and DefectDojo: 7 and above is high, 4 and above medium, above 0 low."""


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as one SARIF log with one run; SARIF has no colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, piece by piece; ASCII only, with JSON escapes for everything else."""
    yield from json.JSONEncoder(indent=1).iterencode(
        {"$schema": SCHEMA, "version": "2.1.0", "runs": [run(audit)]},
    )
    yield "\n"


def run(audit: Audit) -> dict[str, Any]:
    found = {finding.check for finding in audit.findings}
    rules = [check for check in checks.CHECKS if check.id in found]
    indexes = {check.id: index for index, check in enumerate(rules)}
    return {
        "tool": {
            "driver": {
                "name": "tpe-pcap",
                "semanticVersion": __version__,
                "rules": [rule(check) for check in rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation(audit)],
        "artifacts": [artifact(index, capture) for index, capture in enumerate(audit.captures)],
        "results": [
            result(finding, fingerprint, indexes.get(finding.check), audit.captures)
            for finding, fingerprint in zip(audit.findings, fingerprints(audit.findings), strict=True)
        ],
        "properties": {"profile": escape_text(audit.profile), "deployment": audit.deployment.value},
    }


def rule(check: Check) -> dict[str, Any]:
    """A check with its documentation, and the highest severity that it can give."""
    documentation, highest = sections(check), severities(check)[-1]
    return {
        "id": check.id,
        "name": "".join(word.capitalize() for word in check.slug.split("-")),
        "shortDescription": {"text": check.slug.replace("-", " ").capitalize()},
        "fullDescription": {"text": documentation["flags"]},
        "help": {
            "text": "\n\n".join(f"{heading.capitalize()}: {text}" for heading, text in documentation.items()),
            "markdown": "\n\n".join(f"**{heading.capitalize()}:** {text}" for heading, text in documentation.items()),
        },
        "defaultConfiguration": {"level": LEVELS[highest]},
        "properties": {
            "tags": ["security", "network", check.kind.value],
            "security-severity": SCORES[highest],
            "precision": "high",
        },
    }


def invocation(audit: Audit) -> dict[str, Any]:
    """Whether this program succeeded, and what it could not read of the captures."""
    return {
        "executionSuccessful": all(finding.check != "TPE900" for finding in audit.findings),
        "toolExecutionNotifications": [
            {
                "level": "warning",
                "message": message(problem),
                "locations": [{"physicalLocation": {"artifactLocation": artifact_location(index, capture)}}],
            }
            for index, capture in enumerate(audit.captures)
            for problem in capture.problems
        ],
    }


def message(text: str) -> dict[str, str]:
    """A plain text message without links (section 3.11.6)."""
    return {"text": escape_text(text).replace("](", "\\](")}


def artifact(index: int, capture: CaptureFile) -> dict[str, Any]:
    """A capture file and its facts; the index distinguishes a file that is given twice."""
    times = {
        name: iso(time, capture.digits)
        for name, time in (("first", capture.first), ("last", capture.last))
        if time is not None
    }
    return {
        "location": {"uri": uri(capture.path)},
        "length": capture.bytes,
        "roles": ["analysisTarget"],
        "properties": {
            "capture": index,
            "format": capture.format,
            "packets": capture.packets,
            **times,
            "problems": [escape_text(problem) for problem in capture.problems],
        },
    }


def artifact_location(index: int, capture: CaptureFile) -> dict[str, Any]:
    return {"uri": uri(capture.path), "index": index}


def uri(path: str) -> str:
    """The path as given, as a URI (RFC 3986): absolute, or relative to the folder in which the program was started."""
    try:
        name = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        name = path.encode("utf-8", "backslashreplace")
    return ("file://" if path.startswith("/") else "") + quote(name, safe="/")


# -- results ---------------------------------------------------------------------------------------------------


def result(
    finding: Finding, fingerprint: str, rule_index: int | None, captures: Sequence[CaptureFile]
) -> dict[str, Any]:
    """A finding. Its evidence and remedy are part of the message, because most collectors show nothing else."""
    sentences = [finding.summary]
    if finding.frames:
        sentences.append(f"Evidence: {evidence(finding, captures)}.")
    sentences.append(finding.remedy)
    locations = locations_of(finding, captures)
    time = finding_time(finding, captures)
    details = {
        "kind": finding.kind.value,
        "base_station": finding.base_station,
        "rows": list(finding.rows),
        "mismatch": finding.mismatch,
        "peer": finding.peer,
        "service": finding.service,
        "flow": finding.flow,
        "count": finding.count,
        "time": time,
        "filter": finding.filter and escape_text(finding.filter),
        "frames": [{"capture": frame.capture, "number": frame.number} for frame in finding.frames],
    }
    return {
        "ruleId": finding.check,
        **({} if rule_index is None else {"ruleIndex": rule_index}),
        "level": LEVELS[finding.severity],
        "message": message(" ".join(sentences)),
        **({"locations": locations} if locations else {}),
        "occurrenceCount": finding.count,
        "partialFingerprints": {"primaryLocationLineHash": fingerprint, "tpePcap/v1": fingerprint},
        "properties": {
            "severity": str(finding.severity),
            "security-severity": SCORES[finding.severity],
            **{name: value for name, value in details.items() if value not in (None, [])},
        },
    }


def evidence(finding: Finding, captures: Sequence[CaptureFile]) -> str:
    """The frames with their files: ``frames 168, 170 of gw.pcap``."""
    return "; ".join(
        f"{'frame' if len(numbers) == 1 else 'frames'} {', '.join(map(str, numbers))} of {capture.path}"
        for capture, numbers in frames_by_capture(finding.frames, captures)
    )


def locations_of(finding: Finding, captures: Sequence[CaptureFile]) -> list[dict[str, Any]]:
    """One location per file with cited frames; the first file for a finding without frames.

    Packets have no line numbers, but GitHub requires one, so every location has line 1. The frames are logical
    locations, like the hosts and the service.
    """
    about = [
        {"name": name, "kind": kind}
        for kind, name in (("base station", finding.base_station), ("peer", finding.peer), ("service", finding.service))
        if name is not None
    ]
    shown: list[tuple[int, list[int]]] = [
        (capture, [frame.number for frame in group])
        for capture, group in groupby(finding.frames, key=lambda frame: frame.capture)
    ]
    return [
        {
            "physicalLocation": {
                "artifactLocation": artifact_location(capture, captures[capture]),
                "region": {"startLine": 1},
            },
            "logicalLocations": [
                *about,
                *({"name": f"frame {number}", "kind": "frame"} for number in numbers),
            ],
        }
        for capture, numbers in shown or ([(0, [])] if captures else [])
    ]
