"""What code scanning and collectors of findings read."""

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


def run(audited: Audit) -> Any:
    """The only run of the log, after the schema has agreed to it."""
    log = json.loads(sarif.render(audited))
    VALIDATOR.validate(log)
    (only,) = log["runs"]
    return only


def test_the_report_is_the_golden_one() -> None:
    golden = (ROOT / "tests" / "golden" / "audit.sarif").read_text(encoding="utf-8")
    assert (
        sarif.render(EXAMPLE).replace(f'"semanticVersion": "{__version__}"', '"semanticVersion": "VERSION"') == golden
    )


@pytest.mark.parametrize(
    "audited",
    [EXAMPLE, HOSTILE_AUDIT, BARE, replace(BARE, captures=(EMPTY,)), replace(EXAMPLE, captures=(NANO, NANO))],
    ids=["example", "hostile", "bare", "empty", "the same file twice"],
)
def test_every_report_agrees_with_the_official_schema(audited: Audit) -> None:
    run(audited)
    assert sarif.render(audited).isascii()


@pytest.mark.parametrize("name", samples.names())
def test_collectors_find_what_they_ask_for(name: str) -> None:
    """What GitHub's code scanning demands beyond the schema, and what DefectDojo reads without asking."""
    told = run(samples.audit_of(name))
    rules = told["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"]
        assert all(f"{heading}: " in rule["help"]["text"] for heading in ("Flags", "Why", "Evidence", "Remedy"))
        assert all(f"**{heading}:** " in rule["help"]["markdown"] for heading in ("Flags", "Why", "Evidence", "Remedy"))
        assert 0 <= float(rule["properties"]["security-severity"]) <= 10
        assert "security" in rule["properties"]["tags"]
    names = set()
    for result in told["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] == 1
        assert (
            told["artifacts"][place["artifactLocation"]["index"]]["location"]["uri"] == place["artifactLocation"]["uri"]
        )
        names.add(result["partialFingerprints"]["primaryLocationLineHash"])
    assert len(names) == len(told["results"]), "a collector would take two findings for one"


def test_severities() -> None:
    audited = replace(EXAMPLE, findings=tuple(finding(severity=severity) for severity in Severity))
    assert [(each["level"], each["properties"]["security-severity"]) for each in run(audited)["results"]] == [
        ("note", "0.0"),
        ("note", "2.0"),
        ("warning", "5.5"),
        ("error", "8.0"),
    ]


def test_the_frames_are_in_the_message_and_in_the_places() -> None:
    cited = run(EXAMPLE)["results"][3]
    assert "frame 12 of gw.pcap; frame 3 of nano.pcapng" in cited["message"]["text"]
    places = [
        (place["physicalLocation"]["artifactLocation"]["uri"], [each["name"] for each in place["logicalLocations"]])
        for place in cited["locations"]
    ]
    assert places == [
        ("gw.pcap", ["10.0.0.2", "10.0.9.1", "tcp/3001", "frame 12"]),
        ("nano.pcapng", ["10.0.0.2", "10.0.9.1", "tcp/3001", "frame 3"]),
    ]


def test_damage_and_defects_are_told_of_the_run() -> None:
    (invocation,) = run(EXAMPLE)["invocations"]
    assert invocation["executionSuccessful"] is True
    assert [each["message"]["text"] for each in invocation["toolExecutionNotifications"]] == list(NANO.problems)
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
def test_a_path_becomes_a_uri(path: str, uri: str) -> None:
    capture: CaptureFile = replace(GW, path=path)
    assert run(replace(EXAMPLE, captures=(capture, NANO)))["artifacts"][0]["location"]["uri"] == uri


def test_nothing_from_the_packets_is_raw() -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, dict)):
            for part in value.values() if isinstance(value, dict) else value:
                yield from texts(part)

    said = list(texts(run(HOSTILE_AUDIT)))
    assert any("\\x1b[31mred" in each for each in said)
    rule_help = "\n\n"
    assert all(each.replace(rule_help, "").isprintable() for each in said)
