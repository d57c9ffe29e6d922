"""The recorded captures: every pair of a capture and its .toml, audited and compared with what was recorded."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from analyzer import Audit, audit
from analyzer.findings import Finding, Kind, Severity

CAPTURES = Path(__file__).parent.parent / "captures"
FILES = sorted(path for path in CAPTURES.iterdir() if path.suffix in (".pcap", ".pcapng"))


def description(capture: Path) -> dict[str, Any]:
    return tomllib.loads(capture.with_suffix(".toml").read_text())


def test_every_capture_has_its_description_and_every_description_its_capture() -> None:
    assert {path.stem for path in FILES} == {path.stem for path in CAPTURES.glob("*.toml")}
    assert len({path.stem for path in FILES}) == len(FILES)


@pytest.mark.parametrize("capture", FILES, ids=lambda path: path.stem)
def test_capture_is_the_one_that_was_described(capture: Path) -> None:
    origin = description(capture)["origin"]
    assert hashlib.sha256(capture.read_bytes()).hexdigest() == origin["sha256"]
    assert origin["licence"] == "CC0-1.0, recorded for this project"
    for name in origin.get("keys", []):
        assert (CAPTURES / name).is_file()
    assert capture.stat().st_size < 500_000


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in CAPTURES.rglob("*") if path.is_file()) < 12_000_000


@pytest.mark.parametrize("capture", FILES, ids=lambda path: path.stem)
def test_verdict(capture: Path) -> None:
    told = description(capture)
    expected = told["expected"]
    result = audit([capture], deployment=expected["deployment"], **told.get("audit", {}))

    assert {each.station.address: each.mode for each in result.base_stations} == {
        each["address"]: each["mode"] for each in expected["base_station"]
    }
    rows = {each.station.address: {row.row.id: row.status.value for row in each.rows} for each in result.base_stations}
    for station in expected["base_station"]:
        wanted: dict[str, str | list[str]] = station.get("rows", {})
        found = rows[station["address"]]
        # Where several answers are right, the one that was given stands for all of them.
        assert found == {
            row: found.get(row) if isinstance(status, list) and found.get(row) in status else status
            for row, status in wanted.items()
        }

    serious = [each for each in result.findings if each.severity >= Severity.MEDIUM and each.kind is not Kind.MISSING]
    unfounded = list(expected.get("finding", []))
    for finding in serious:
        reasons = [each for each in expected.get("finding", []) if describes(each, finding, result)]
        assert reasons, f"nobody expects: {finding.kind.value} {finding.severity}: {finding.summary}"
        unfounded = [each for each in unfounded if each not in reasons]
    assert not unfounded, "expected and not found"

    # What is missing follows from the rows, so no description repeats it.
    blocked_or_missing = [
        (station, row)
        for station, found in rows.items()
        for row, status in found.items()
        if status in ("missing", "blocked")
    ]
    said = [(each.base_station, row) for each in result.findings if each.kind is Kind.MISSING for row in each.rows]
    assert sorted(said) == sorted(blocked_or_missing)

    assert int(result.fails()) == expected["exit_code"]


def describes(told: dict[str, Any], finding: Finding, result: Audit) -> bool:
    """Whether a finding is the one that was told of; keys that were not told match anything."""
    if told["kind"] != finding.kind.value or set(told.get("rows", finding.rows)) != set(finding.rows):
        return False
    if finding.kind is not Kind.UNEXPECTED:
        return True
    flow = next(each for each in result.flows if each.id == finding.flow)
    inbound = flow.responder.address == finding.base_station
    return bool(
        told["peer"] == (flow.originator if inbound else flow.responder).address
        and told["transport"] == flow.transport
        and told.get("port", flow.responder.port) == flow.responder.port
        and told["direction"] == ("inbound" if inbound else "outbound")
    )
