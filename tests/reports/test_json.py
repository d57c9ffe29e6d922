"""The JSON report and its schema."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analyzer import __version__
from analyzer.capture import CaptureFacts
from analyzer.capture.compression import DECOMPRESSORS
from analyzer.capture.formats import VARIANTS
from analyzer.reports import json as report
from analyzer.result import Audit
from tests.reports.audits import BARE, EMPTY, EXAMPLE, FLOWS, GW, HOSTILE, HOSTILE_AUDIT, finding

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEMA = report.schema()
FLOWS_SCHEMA = {"$ref": "#/$defs/flows_report", "$defs": SCHEMA["$defs"]}


def checked(content: str, schema: dict[str, Any] = SCHEMA) -> Any:
    """The content of a report that conforms to the schema."""
    value = json.loads(content)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    validator.validate(value)
    return value


def test_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_golden() -> None:
    golden = (GOLDEN / "audit.json").read_text(encoding="utf-8")
    assert report.render(EXAMPLE).replace(f'"version": "{__version__}"', '"version": "VERSION"') == golden


@pytest.mark.parametrize(
    "audit",
    [EXAMPLE, HOSTILE_AUDIT, BARE, replace(BARE, captures=(EMPTY,))],
    ids=["example", "hostile", "bare", "empty"],
)
def test_reports_conform_to_the_schema(audit: Audit) -> None:
    checked(report.render(audit))


def test_flows_conform_to_the_schema() -> None:
    value = checked(report.render_flows(EXAMPLE.captures, FLOWS), FLOWS_SCHEMA)
    assert [flow["id"] for flow in value["flows"]] == [1, 2, 3, 4, 5, 6, 7]
    assert all(flow["rows"] == [] and flow["base_station"] is None for flow in value["flows"])


def test_flows_have_the_given_rows_and_base_stations() -> None:
    value = checked(report.render_flows(EXAMPLE.captures, FLOWS, {1: ("i38",)}, {1: "10.0.0.2"}), FLOWS_SCHEMA)
    assert (value["flows"][0]["rows"], value["flows"][0]["base_station"]) == (["i38"], "10.0.0.2")


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("deployment",), "cluster"),
        (("captures", 0, "first"), "2026-11-22 06:37:00"),
        (("base_stations", 0, "mode"), "vpn"),
        (("base_stations", 0, "rows", 0, "status"), "ok"),
        (("base_stations", 0, "rows", 0, "certainty"), "firm"),
        (("base_stations", 0, "rows", 4, "certainty"), None),
        (("findings", 0, "check"), "301"),
        (("findings", 1, "flow"), 0),
        (("flows", 0, "transport"), "sctp"),
        (("flows", 0, "originator", "address"), "010.0.0.2"),
        (("flows", 0, "facts", "server_name"), None),
        (("flows", 0, "community_id"), "2:"),
    ],
)
def test_schema_rejects_invalid_values(path: tuple[str | int, ...], wrong: object) -> None:
    value = json.loads(report.render(EXAMPLE))
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        checked(json.dumps(value))


def test_schema_describes_the_facts_of_captures() -> None:
    assert {field.name for field in fields(CaptureFacts)} == set(SCHEMA["$defs"]["capture_metadata"]["properties"])
    facts = SCHEMA["$defs"]["capture_metadata"]["properties"]
    assert set(facts["compression"]["enum"]) == set(DECOMPRESSORS)
    assert set(facts["variant"]["enum"]) == {*VARIANTS.values(), "AIX"}


def test_schema_has_exactly_the_keys_of_the_report() -> None:
    value = json.loads(report.render(EXAMPLE))
    parts = SCHEMA["$defs"]
    assert set(value) == set(SCHEMA["properties"])
    for name, examples in (
        ("capture", value["captures"]),
        ("base_station", value["base_stations"]),
        ("row", value["base_stations"][0]["rows"]),
        ("finding", value["findings"]),
        ("flow", value["flows"]),
    ):
        keys = {key for example in examples for key in example}
        optional = {"preamble", "served_until"}  # shown by flows that have one, and by rows that were lost
        assert keys - optional == set(parts[name]["properties"]) - optional, name


def test_flows_and_findings_have_one_line_each() -> None:
    lines = [line.strip().rstrip(",") for line in report.render(EXAMPLE).splitlines()]
    flows = [json.loads(line) for line in lines if '"transport"' in line]
    assert [flow["id"] for flow in flows] == [1, 2, 3, 4, 5, 6, 7]
    assert len([line for line in lines if '"slug"' in line]) == 5


def test_times_have_the_digits_of_their_capture() -> None:
    value = json.loads(report.render(EXAMPLE))
    assert value["captures"][0]["first"] == "2026-11-22T06:37:00.123456Z"
    assert value["captures"][1]["first"] == "2026-11-22T06:37:00.123456001Z"
    assert value["flows"][0]["first"] == "2026-11-22T06:37:01.123456Z"
    assert value["flows"][4]["first"] == "2026-11-22T06:37:05.123456000Z"


def test_time_without_a_frame_has_the_most_digits() -> None:
    value = json.loads(report.render(replace(EXAMPLE, findings=(finding(frames=()),))))
    assert value["findings"][0]["time"] == "2026-11-22T06:37:01.123456000Z"


def test_mismatch_is_left_out_if_nothing_mismatched() -> None:
    found = json.loads(report.render(EXAMPLE))["findings"]
    assert [reported.get("mismatch") for reported in found] == [None, "port", None, None, None]
    assert "mismatch" not in found[0]


def test_private_and_empty_facts_are_left_out() -> None:
    facts = json.loads(report.render(EXAMPLE))["flows"][0]["facts"]
    assert list(facts) == [
        "offered_version",
        "version",
        "cipher_suite",
        "server_name",
        "certificates",
        "client_certificate",
    ]
    assert facts["certificates"] == [{"subject": "CN=lrc1.example", "not_after": "2027-11-22T06:37:00Z"}]


def test_path_that_is_not_utf8_is_preserved() -> None:
    content = report.render(HOSTILE_AUDIT)
    content.encode("utf-8")
    value = json.loads(content)
    assert [capture["path"] for capture in value["captures"]] == [HOSTILE, "café \udcff.pcap"]
    assert "café" in content


def test_equal_audits_give_equal_reports() -> None:
    assert report.render(EXAMPLE) == report.render(replace(EXAMPLE))


def test_empty_audit_has_all_lists() -> None:
    value = checked(report.render(replace(BARE, captures=(GW,))))
    assert value["base_stations"] == value["findings"] == value["flows"] == []
