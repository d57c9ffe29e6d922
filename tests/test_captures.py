"""Every recorded capture, audited and compared with its description."""

from __future__ import annotations

import hashlib
import shutil
from typing import Any

import pytest

from analyzer import Audit
from analyzer.checks import CHECKS
from analyzer.expected import MODES, Requirement, load
from analyzer.findings import Finding, Kind, Severity
from tests import samples
from tests.samples import audit_of, audit_with_keys, expectation, files

NAMES = samples.names()
WITH_KEYS = [name for name in NAMES if "with_keys" in expectation(name)]
TSHARK = shutil.which("tshark") is not None

NEVER_RECORDED = {
    "flows-folded": "needs hundreds of thousands of flows; a recording stays below 500 kB",
    "content-not-read": "needs an even larger flood; tests/test_resource_limits.py makes one",
    "base-stations-not-judged": "needs thousands of base stations; tests/test_resource_limits.py makes them",
    "program-defect": "reports a bug of this program; a capture that shows it is a bug to fix",
    "ike-weak-proposal-chosen": "needs a row without proposals or with weak ones; no row is like that",
    "tls-version-below-row": "needs a row that requires more than TLS 1.2; no row does",
}
"""Checks that no recording can fire, and why."""


def expected_checks(name: str) -> list[str]:
    """The checks for which a capture was recorded, by slug."""
    description = expectation(name)
    return description["expected"].get("fires", []) + description.get("with_keys", {}).get("fires", [])


def fired_checks(name: str) -> set[str]:
    """The checks that fire, with keys too where the description says what they show."""
    result = {finding.slug for finding in audit_of(name).findings}
    if TSHARK and name in WITH_KEYS:
        result |= {finding.slug for finding in audit_with_keys(name).findings}
    return result


# -- the folder -------------------------------------------------------------------------------------------------


def test_every_capture_file_belongs_to_a_description() -> None:
    assert sorted(path for name in NAMES for path in files(name)) == sorted(samples.CAPTURES.rglob("*.pcap*"))
    for name in NAMES:
        mode, _, rest = name.partition("-")
        paths = files(name)
        assert paths[0].parent == samples.CAPTURES / (f"{mode}/{rest}" if mode in MODES else f"other/{name}")
        stems = [path.stem for path in paths]
        assert stems == [name] or stems == [f"{name}.{number}" for number in range(len(paths))]


@pytest.mark.parametrize("name", NAMES)
def test_capture_is_the_described_recording(name: str) -> None:
    origin = expectation(name)["origin"]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files(name)]
    assert digests == (origin["sha256"] if len(digests) > 1 else [origin["sha256"]])
    assert origin["licence"] == "CC0-1.0, recorded for this project"
    assert len(origin["how"]) < 600, "names the daemons of the recording, not every package of the machine"
    for key in origin.get("keys", []):
        assert (samples.folders()[name] / key).is_file()
    assert all(path.stat().st_size < 500_000 for path in files(name))


def test_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in samples.CAPTURES.rglob("*") if path.is_file()) < 16_000_000


# -- coverage of checks and rows --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fired() -> dict[str, set[str]]:
    return {name: fired_checks(name) for name in NAMES}


@pytest.mark.parametrize("slug", [check.slug for check in CHECKS])
def test_check_fires_in_a_capture(slug: str, fired: dict[str, set[str]]) -> None:
    """The other half, a capture on which the check stays silent, is in tests/checks/test_silence.py."""
    expecting = [name for name in NAMES if slug in expected_checks(name)]
    if slug in NEVER_RECORDED:
        assert not any(slug in checks for checks in fired.values()), "recorded after all: remove the exemption"
    else:
        assert expecting, "no description expects it"


def test_every_exemption_names_a_check() -> None:
    assert set(NEVER_RECORDED) <= {check.slug for check in CHECKS}


@pytest.mark.parametrize("status", ["present", "missing", "blocked", "malformed"])
@pytest.mark.parametrize("mode", MODES)
def test_every_required_row_is_recorded_in_every_status(mode: str, status: str) -> None:
    stations = [station for name in NAMES for station in expectation(name)["expected"]["base_station"]]
    tables = [station["rows"] for station in stations if station["mode"] == mode]
    recorded = {row for rows in tables for row, expected in rows.items() if expected == status}
    required = {row.id for row in load()[mode].flows if row.standalone is Requirement.MUST}
    assert required <= recorded


# -- verdicts ---------------------------------------------------------------------------------------------------


def row_statuses(result: Audit) -> dict[str, dict[str, str]]:
    """The status of every row, by base station."""
    return {
        station.station.address: {row.row.id: row.status.value for row in station.rows}
        for station in result.base_stations
    }


@pytest.mark.parametrize("name", NAMES)
def test_verdict(name: str) -> None:
    expected = expectation(name)["expected"]
    result = audit_of(name)

    assert {station.station.address: station.mode for station in result.base_stations} == {
        station["address"]: station["mode"] for station in expected["base_station"]
    }
    statuses = row_statuses(result)
    for station in expected["base_station"]:
        found = statuses[station["address"]]
        allowed = {
            row: status if isinstance(status, list) else [status] for row, status in station.get("rows", {}).items()
        }
        assert found.keys() == allowed.keys()
        assert not {row: found[row] for row in found if found[row] not in allowed[row]}

    serious = [
        finding
        for finding in result.findings
        if finding.severity >= Severity.MEDIUM and finding.kind is not Kind.MISSING
    ]
    missed = list(expected.get("finding", []))
    for finding in serious:
        matching = [entry for entry in expected.get("finding", []) if describes(entry, finding, result)]
        assert matching, f"unexpected finding: {finding.kind.value} {finding.severity}: {finding.summary}"
        missed = [entry for entry in missed if entry not in matching]
    assert not missed, "expected findings that are not there"

    # Findings of kind missing follow from the rows, so descriptions do not list them.
    not_used = [
        (station, row)
        for station, rows in statuses.items()
        for row, status in rows.items()
        if status in ("missing", "blocked")
    ]
    missing = [finding for finding in result.findings if finding.kind is Kind.MISSING]
    assert sorted((finding.base_station, row) for finding in missing for row in finding.rows) == sorted(not_used)

    assert set(expected.get("fires", [])) <= fired_checks(name)
    assert int(result.fails()) == expected["exit_code"]


@pytest.mark.tshark
@pytest.mark.parametrize("name", WITH_KEYS)
def test_verdict_with_keys(name: str) -> None:
    expected = expectation(name)["with_keys"]
    result, without_keys = audit_with_keys(name), audit_of(name)
    ((station, rows),) = row_statuses(result).items()
    assert rows == row_statuses(without_keys)[station] | expected.get("rows", {})
    assert set(expected["fires"]) <= {finding.slug for finding in result.findings}
    assert not set(expected["fires"]) & {finding.slug for finding in without_keys.findings}
    assert int(result.fails()) == expected["exit_code"]
    assert samples.reported(result) == expected["reported"]


@pytest.mark.parametrize("name", NAMES)
def test_findings_are_those_last_reviewed(name: str) -> None:
    """A change of any finding shows in the description, as a change to review; see captures/README.md."""
    assert samples.reported(audit_of(name)) == expectation(name)["reported"]


def describes(entry: dict[str, Any], finding: Finding, result: Audit) -> bool:
    """Whether an expected finding is this one. Keys that the entry leaves out match anything."""
    if entry["kind"] != finding.kind.value or set(entry.get("rows", finding.rows)) != set(finding.rows):
        return False
    if finding.kind is not Kind.UNEXPECTED:
        return True
    flow = next(flow for flow in result.flows if flow.id == finding.flow)
    inbound = flow.responder.address == finding.base_station
    return bool(
        entry["peer"] == (flow.originator if inbound else flow.responder).address
        and entry["transport"] == flow.transport
        and entry.get("port", flow.responder.port) == flow.responder.port
        and entry["direction"] == ("inbound" if inbound else "outbound")
    )
