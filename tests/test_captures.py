"""The recorded captures: every capture and its .toml, audited and compared with what was recorded.

A capture is one file, NAME.pcap or NAME.pcapng, or several that are read as one timeline, NAME.0.pcap, NAME.1.pcap, …
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analyzer import Audit, audit
from analyzer.checks import CHECKS
from analyzer.expected import MODES, Requirement, load
from analyzer.findings import Finding, Kind, Severity
from tests import samples
from tests.samples import audit_of, expectation

FILES: dict[str, list[Path]] = {name: samples.files(name) for name in samples.names()}

NEVER_RECORDED = (
    ("flows-folded", "it speaks of captures of hundreds of thousands of flows, and a recording stays below 500 kB"),
    ("content-not-read", "it speaks of floods that are larger still; tests/test_traps.py makes them"),
    ("base-stations-not-judged", "it speaks of thousands of base stations; tests/test_traps.py makes them"),
    ("program-defect", "it says that this program is at fault: a capture that shows it is a bug to be repaired"),
    ("ike-weak-proposal-chosen", "it speaks where a row lists no proposals, or weak ones; no row does"),
    ("tls-version-below-row", "it speaks where a row asks for more than TLS 1.2; no row does"),
)
"""Checks that no recording can show, and why."""


@cache
def opened(name: str) -> Audit:
    """Audited with the secrets beside the capture."""
    told = expectation(name)
    beside = {Path(key).suffix: FILES[name][0].parent / key for key in told["origin"]["keys"]}
    keys = {"tls_keylog": beside.get(".keylog"), "ike_keys": beside.get(".ikev2_decryption_table")}
    return audit(FILES[name], deployment=told["expected"]["deployment"], **told.get("audit", {}), **keys)


def fired(name: str) -> set[str]:
    """Checks that speak, with keys, too, where the description tells what they show."""
    result = {each.slug for each in audit_of(name).findings}
    if TSHARK and "with_keys" in expectation(name):
        result |= {each.slug for each in opened(name).findings}
    return result


TSHARK = shutil.which("tshark") is not None


def fires(name: str) -> list[str]:
    told = expectation(name)
    return told["expected"].get("fires", []) + told.get("with_keys", {}).get("fires", [])


def test_every_capture_has_its_description_and_every_description_its_capture() -> None:
    assert sorted(path for paths in FILES.values() for path in paths) == sorted(samples.CAPTURES.rglob("*.pcap*"))
    for name, paths in FILES.items():
        mode = name.partition("-")[0]
        where = f"{mode}/{name.removeprefix(f'{mode}-')}" if mode in MODES else f"other/{name}"
        assert {path.parent for path in paths} == {samples.CAPTURES / where}
        alone = [path.stem for path in paths] == [name]
        assert alone or [path.stem for path in paths] == [f"{name}.{number}" for number in range(len(paths))]


@pytest.mark.parametrize("name", FILES)
def test_capture_is_the_one_that_was_described(name: str) -> None:
    origin = expectation(name)["origin"]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES[name]]
    assert digests == (origin["sha256"] if len(digests) > 1 else [origin["sha256"]])
    assert origin["licence"] == "CC0-1.0, recorded for this project"
    assert len(origin["how"]) < 600, "the daemons that were recorded, not the whole machine"
    for key in origin.get("keys", []):
        assert (FILES[name][0].parent / key).is_file()
    assert all(path.stat().st_size < 500_000 for path in FILES[name])


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in samples.CAPTURES.rglob("*") if path.is_file()) < 12_000_000


@pytest.mark.parametrize("slug", [check.slug for check in CHECKS])
def test_every_check_has_a_capture_that_shows_it_and_one_that_does_not(slug: str) -> None:
    showing = [name for name in FILES if slug in fires(name)]
    if slug in dict(NEVER_RECORDED):
        assert not any(slug in fired(name) for name in FILES), "it was recorded after all"
    else:
        assert showing, "no capture is said to show it"
        assert any(slug not in fired(name) for name in FILES)


def test_what_is_never_recorded_exists() -> None:
    assert {slug for slug, _ in NEVER_RECORDED} <= {check.slug for check in CHECKS}


@pytest.mark.parametrize("status", ["present", "missing", "blocked", "malformed"])
@pytest.mark.parametrize("mode", MODES)
def test_every_demanded_row_is_recorded_in_every_status(mode: str, status: str) -> None:
    stations = [each for name in FILES for each in expectation(name)["expected"]["base_station"]]
    recorded = {row for each in stations if each["mode"] == mode for row, at in each["rows"].items() if at == status}
    demanded = {row.id for row in load()[mode].flows if row.standalone is Requirement.MUST}
    assert demanded <= recorded


@pytest.mark.parametrize("name", FILES)
def test_verdict(name: str) -> None:
    expected = expectation(name)["expected"]
    result = audit_of(name)

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

    assert set(expected.get("fires", [])) <= fired(name)
    assert int(result.fails()) == expected["exit_code"]


@pytest.mark.skipif(not TSHARK, reason="tshark is not installed")
@pytest.mark.parametrize("name", [name for name in FILES if "with_keys" in expectation(name)])
def test_verdict_with_keys(name: str) -> None:
    told = expectation(name)["with_keys"]
    result = opened(name)
    (station,) = result.base_stations
    rows = {row.row.id: row.status.value for row in station.rows}
    without = {row.row.id: row.status.value for row in audit_of(name).base_stations[0].rows}
    assert rows == without | told.get("rows", {})
    assert set(told["fires"]) <= {each.slug for each in result.findings}
    assert not set(told["fires"]) & {each.slug for each in audit_of(name).findings}
    assert int(result.fails()) == told["exit_code"]


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
