"""The SARIF report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analyzer import __version__
from analyzer.capture import CaptureFile
from analyzer.findings import Severity
from analyzer.reports import sarif
from analyzer.result import Audit
from tests import samples
from tests.reports.audits import BARE, EMPTY, EXAMPLE, GW, HOSTILE_AUDIT, NANO, finding

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


def run(result: Audit) -> Any:
    """The only run of a log that conforms to the schema."""
    log = json.loads(sarif.render(result))
    VALIDATOR.validate(log)
    (found,) = log["runs"]
    return found


def test_golden() -> None:
    golden = (ROOT / "tests" / "golden" / "audit.sarif").read_text(encoding="utf-8")
    report = sarif.render(EXAMPLE)
    assert report.replace(f'"semanticVersion": "{__version__}"', '"semanticVersion": "VERSION"') == golden


@pytest.mark.parametrize(
    "result",
    [EXAMPLE, HOSTILE_AUDIT, BARE, replace(BARE, captures=(EMPTY,)), replace(EXAMPLE, captures=(NANO, NANO))],
    ids=["example", "hostile", "bare", "empty", "the same file twice"],
)
def test_reports_conform_to_the_official_schema(result: Audit) -> None:
    run(result)
    assert sarif.render(result).isascii()


@pytest.mark.parametrize("name", samples.names())
def test_requirements_of_collectors(name: str) -> None:
    """What GitHub's code scanning requires beyond the schema, and what DefectDojo expects."""
    log = run(samples.audit_of(name))
    rules = log["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"]
        assert all(f"{heading}: " in rule["help"]["text"] for heading in ("Flags", "Why", "Evidence", "Remedy"))
        assert all(f"**{heading}:** " in rule["help"]["markdown"] for heading in ("Flags", "Why", "Evidence", "Remedy"))
        assert 0 <= float(rule["properties"]["security-severity"]) <= 10
        assert "security" in rule["properties"]["tags"]
    fingerprints = set()
    for result in log["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        location = result["locations"][0]["physicalLocation"]
        assert location["region"]["startLine"] == 1
        artifact = log["artifacts"][location["artifactLocation"]["index"]]
        assert artifact["location"]["uri"] == location["artifactLocation"]["uri"]
        fingerprints.add(result["partialFingerprints"]["primaryLocationLineHash"])
    assert len(fingerprints) == len(log["results"]), "a collector would merge two findings"


def test_severities() -> None:
    results = run(replace(EXAMPLE, findings=tuple(finding(severity=severity) for severity in Severity)))["results"]
    assert [(result["level"], result["properties"]["security-severity"]) for result in results] == [
        ("note", "0.0"),
        ("note", "2.0"),
        ("warning", "5.5"),
        ("error", "8.0"),
    ]


def test_frames_are_in_the_message_and_in_the_locations() -> None:
    result = run(EXAMPLE)["results"][3]
    assert "frame 12 of gw.pcap; frame 3 of nano.pcapng" in result["message"]["text"]
    locations = [
        (
            location["physicalLocation"]["artifactLocation"]["uri"],
            [logical["name"] for logical in location["logicalLocations"]],
        )
        for location in result["locations"]
    ]
    assert locations == [
        ("gw.pcap", ["10.0.0.2", "10.0.9.1", "tcp/3001", "frame 12"]),
        ("nano.pcapng", ["10.0.0.2", "10.0.9.1", "tcp/3001", "frame 3"]),
    ]


def test_invocation_has_problems_and_defects() -> None:
    (invocation,) = run(EXAMPLE)["invocations"]
    assert invocation["executionSuccessful"] is True
    messages = [notification["message"]["text"] for notification in invocation["toolExecutionNotifications"]]
    assert messages == list(NANO.problems)
    failed = replace(EXAMPLE, findings=(finding(check="TPE900", slug="program-defect", base_station=None),))
    assert run(failed)["invocations"][0]["executionSuccessful"] is False


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("captures/a b.pcap", "captures/a%20b.pcap"),
        ("a:b#c?d%.pcap", "a%3Ab%23c%3Fd%25.pcap"),
        ("/var/log/gw.pcap", "file:///var/log/gw.pcap"),
        ("caf\udce9.pcap", "caf%E9.pcap"),
        ("café.pcap", "caf%C3%A9.pcap"),
        ("-", "-"),
    ],
)
def test_path_as_uri(path: str, uri: str) -> None:
    capture: CaptureFile = replace(GW, path=path)
    assert run(replace(EXAMPLE, captures=(capture, NANO)))["artifacts"][0]["location"]["uri"] == uri


def test_text_from_packets_is_escaped() -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, dict)):
            for part in value.values() if isinstance(value, dict) else value:
                yield from texts(part)

    found = list(texts(run(HOSTILE_AUDIT)))
    assert any("\\x1b[31mred" in text for text in found)
    paragraph = "\n\n"  # in the help of rules
    assert all(text.replace(paragraph, "").isprintable() for text in found)
