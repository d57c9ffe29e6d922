"""Differences between two JSON reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import audit, cli
from analyzer.expected import Deployment, UsageError
from analyzer.export.diff import Change, Difference, compare, load
from analyzer.findings import Severity, fingerprints
from analyzer.heads import Frame
from analyzer.reports import difference
from analyzer.reports import json as report
from analyzer.result import Audit
from analyzer.verdicts import Status
from tests import build, samples
from tests.reports.audits import EXAMPLE, HOSTILE, UNKNOWN_STATION, finding
from tests.synthetic import HTTP, OTHER, STATION, TLS, TPE, Traffic

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"

OLD = replace(EXAMPLE, findings=EXAMPLE.findings[:4])
NEW = replace(
    EXAMPLE,
    deployment=Deployment.HA,
    base_stations=(
        replace(
            EXAMPLE.base_stations[0],
            mode="ipsec",
            rows=(replace(EXAMPLE.base_stations[0].rows[0], status=Status.BLOCKED), *EXAMPLE.base_stations[0].rows[5:]),
        ),
        replace(UNKNOWN_STATION, station=replace(UNKNOWN_STATION.station, address="10.0.0.3")),
    ),
    findings=(
        finding(severity=Severity.HIGH, frames=(Frame(0, 99),), time=None),
        *EXAMPLE.findings[3:],
        finding(check="TPE311", slug="tls-new", severity=Severity.LOW, base_station="10.0.0.3"),
    ),
    flow_stations={1: "10.0.0.2", 3: "10.0.0.2", 5: "10.0.0.2"},
)


def saved(result: Audit, folder: Path, name: str) -> str:
    path = folder / name
    path.write_text(report.render(result), encoding="utf-8")
    return str(path)


def compared(old: Audit, new: Audit, folder: Path) -> Difference:
    return compare(load(saved(old, folder, "old.json")), load(saved(new, folder, "new.json")))


def test_golden(tmp_path: Path) -> None:
    found = compared(OLD, NEW, tmp_path)
    found = replace(found, old=replace(found.old, path="old.json"), new=replace(found.new, path="new.json"))
    assert difference.render_text(found) == (GOLDEN / "diff.txt").read_text(encoding="utf-8")
    assert difference.render_json(found) == (GOLDEN / "diff.json").read_text(encoding="utf-8")


def test_equal_reports_have_no_difference(tmp_path: Path) -> None:
    found = compared(EXAMPLE, EXAMPLE, tmp_path)
    assert len(found.unchanged_findings) == len(EXAMPLE.findings)
    without_findings = replace(found, unchanged_findings=())
    assert difference.render_text(without_findings).endswith("0 new, 0 mended, 0 stayed; 0 rows with another status.\n")
    assert not found.fails("info")


def test_findings_are_new_fixed_or_unchanged(tmp_path: Path) -> None:
    found = compared(OLD, NEW, tmp_path)
    assert [finding.check for finding in found.new_findings] == ["TPE102", "TPE311"]
    assert [finding.check for finding in found.fixed_findings] == ["TPE001", "TPE101"]
    assert [(old.severity, new.severity) for old, new in found.unchanged_findings] == [
        ("medium", "high"),
        ("high", "high"),
    ]
    assert found.settings == (Change(("deployment",), "standalone", "ha"),)
    assert found.modes == (Change(("10.0.0.2",), "tls", "ipsec"),)
    assert found.rows == (Change(("10.0.0.2", "i3"), "present", "blocked"),)
    assert found.new_stations == ("10.0.0.3",)
    assert found.gone_stations == ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",)
    assert [flow.service for flow in found.new_flows] == ["udp/500"]
    assert [flow.service for flow in found.gone_flows] == ["esp", "icmp", "tcp/3003", "tcp/80"]


def test_findings_with_one_fingerprint_are_paired_by_summary_first(tmp_path: Path) -> None:
    def audit_with(*summaries: str) -> Audit:
        return replace(EXAMPLE, findings=tuple(finding(summary=summary) for summary in summaries))

    found = compared(audit_with("One.", "Two.", "Three."), audit_with("Three.", "Two.", "Four.", "Five."), tmp_path)
    pairs = [(old.summary, new.summary) for old, new in found.unchanged_findings]
    assert pairs == [("Three.", "Three."), ("Two.", "Two."), ("One.", "Four.")]
    assert [finding.summary for finding in found.new_findings] == ["Five."]
    assert found.fixed_findings == ()


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ([], [Severity.LOW], {"info", "low"}),
        ([], [Severity.HIGH], {"info", "low", "medium", "high"}),
        ([Severity.LOW], [Severity.MEDIUM], {"medium"}),
        ([Severity.MEDIUM], [Severity.LOW], set()),
        ([Severity.HIGH], [Severity.HIGH], set()),
        ([Severity.HIGH], [], set()),
    ],
)
def test_new_and_worse_findings_fail(
    old: Sequence[Severity], new: Sequence[Severity], fails: set[str], tmp_path: Path
) -> None:
    def audit_with(severities: Sequence[Severity]) -> Audit:
        return replace(EXAMPLE, findings=tuple(finding(severity=severity) for severity in severities))

    found = compared(audit_with(old), audit_with(new), tmp_path)
    assert {str(severity) for severity in Severity if found.fails(str(severity))} == fails


# -- fingerprints -----------------------------------------------------------------------------------------------


def station_fingerprints(result: Audit) -> dict[str, str]:
    """Fingerprint → check, for the findings about base stations."""
    pairs = zip(fingerprints(result.findings), result.findings, strict=True)
    return {fingerprint: finding.check for fingerprint, finding in pairs if finding.base_station is not None}


def shifted(path: Path, folder: Path) -> Path:
    """The same capture with packets of other hosts before all others."""
    content = path.read_bytes()
    strangers = [build.udp("203.0.113.77", 5000, "203.0.113.78", 6000, b"stranger") for _ in range(7)]
    time = int.from_bytes(content[24:28], "little")
    before = build.pcap([build.Packet(frame, (time - 1) * build.SECOND) for frame in strangers])
    target = folder / path.name
    target.write_bytes(content[:24] + before[24:] + content[24:])
    return target


def is_ethernet_pcap(path: Path) -> bool:
    """Whether it is a little-endian pcap file with microseconds, link type Ethernet, and packets."""
    content = path.read_bytes()
    return content[:4] == b"\xd4\xc3\xb2\xa1" and content[20:24] == b"\1\0\0\0" and len(content) > 24


@pytest.mark.parametrize("path", list(filter(is_ethernet_pcap, samples.all_captures())), ids=lambda path: path.stem)
def test_fingerprints_do_not_depend_on_other_hosts_and_frame_numbers(path: Path, tmp_path: Path) -> None:
    before, after = audit(path), audit(shifted(path, tmp_path))
    assert after.totals.packets == before.totals.packets + 7
    assert station_fingerprints(before) == station_fingerprints(after)


def test_fingerprint_depends_on_the_subject_of_a_finding() -> None:
    def fingerprint(**changes: object) -> str:
        return fingerprints([finding(**changes)])[0]

    original = fingerprint()
    for same in ({"frames": (Frame(1, 7),)}, {"time": None}, {"flow": 9}, {"count": 3}, {"summary": "Else."}):
        assert fingerprint(**same) == original
    for other in ({"check": "TPE302"}, {"base_station": None}, {"peer": "::1"}, {"service": "tcp"}, {"rows": ("i39",)}):
        assert fingerprint(**other) != original
    assert fingerprints([finding(), finding(summary="Else.")]) == [original, f"{original}:2"]


def test_finding_about_several_peers_or_ports_names_none(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP)
    for port in range(20):
        traffic.tcp(STATION, 42000 + port, OTHER, 100 + port)
    subjects = {finding.check: (finding.peer, finding.service) for finding in traffic.audit(tmp_path).findings}
    assert subjects["TPE101"] == (OTHER, "tcp/8080")
    assert subjects["TPE103"] == (OTHER, "tcp")


# -- files that are no reports -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no JSON: Expecting value"),
        (b"\xff\xfe\xff", "is no JSON: "),
        (b"{", "is no JSON: "),
        (b"[" * 100_000, "is no JSON: it nests too deeply"),
        (b"1" * 10_000, "is no JSON: "),
        (b"[]", "is no report of 'tpe-pcap audit --format json': the report is no object"),
        (b"{}", "is no report of 'tpe-pcap audit --format json': the report has no schema_version"),
        (b'{"schema_version": "2"}', "its schema version is '2', only '1' is known"),
        (b'{"schema_version": 1}', "schema_version of the report is of the wrong type"),
    ],
)
def test_file_that_is_no_report_is_a_one_line_error(
    content: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    good = saved(EXAMPLE, tmp_path, "good.json")
    for arguments in ((str(path), good), (good, str(path))):
        assert cli.main(["diff", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(f"tpe-pcap: {path}: ") and err.count("\n") == 1
        assert reason in err


@pytest.mark.parametrize(
    ("path", "wrong", "reason"),
    [
        (("findings", 2), None, "findings[2] is no object"),
        (("findings", 0, "severity"), "fatal", "findings[0] has the severity 'fatal'"),
        (("findings", 0, "rows"), [1], "findings[0] has rows that are no text"),
        (("findings",), {}, "findings of the report is of the wrong type"),
        (("base_stations", 0, "rows", 1, "status"), 7, "status of rows[1] is of the wrong type"),
        (("flows", 0, "originator"), "here", "originator of flows[0] is of the wrong type"),
        (("flows", 0, "responder", "port"), "http", "port of responder of flows[0] is of the wrong type"),
    ],
)
def test_error_names_the_wrong_part_of_a_report(
    path: tuple[str | int, ...], wrong: object, reason: str, tmp_path: Path
) -> None:
    value = json.loads(report.render(EXAMPLE))
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    target = tmp_path / "report.json"
    target.write_text(json.dumps(value))
    with pytest.raises(UsageError) as error:
        load(str(target))
    assert str(error.value).endswith(reason)


def test_report_without_fingerprints_is_refused_with_advice(tmp_path: Path) -> None:
    value = json.loads(report.render(EXAMPLE))
    del value["findings"][0]["fingerprint"]
    target = tmp_path / "report.json"
    target.write_text(json.dumps(value))
    with pytest.raises(UsageError, match="no fingerprint: write the report anew"):
        load(str(target))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_changed_report_is_refused_or_compared(data: st.DataObject) -> None:
    value = json.loads(report.render(EXAMPLE))
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    with build.saved(json.dumps(value).encode()) as path:
        try:
            loaded = load(str(path))
        except UsageError as error:
            assert "\n" not in str(error)
            return
        found = compare(loaded, loaded)
        assert difference.render_text(found)
        json.loads(difference.render_json(found))
        assert not found.new_findings and not found.fixed_findings


def test_text_from_reports_is_escaped(tmp_path: Path) -> None:
    value = json.loads(report.render(EXAMPLE))
    value["deployment"] = HOSTILE
    for station in value["base_stations"]:
        station["address"], station["mode"] = HOSTILE, HOSTILE
    for reported in value["findings"]:
        reported.update(check=HOSTILE, slug=HOSTILE, summary=HOSTILE, base_station=HOSTILE, rows=[HOSTILE])
    for flow in value["flows"]:
        flow.update(base_station=HOSTILE, transport=HOSTILE, protocol=HOSTILE)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(value))
    hostile, plain = load(str(path)), load(saved(EXAMPLE, tmp_path, "plain.json"))
    for found in (compare(plain, hostile), compare(hostile, plain), compare(hostile, hostile)):
        for rendered in (difference.render_text(found), difference.render_json(found)):
            assert all(character == "\n" or character.isprintable() for character in rendered)
            rendered.encode()


# -- the command ------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = saved(OLD, tmp_path, "old.json"), saved(NEW, tmp_path, "new.json")
    assert cli.main(["diff", old, new, "--fail-on", "low"]) == 1
    out, err = capsys.readouterr()
    assert err == "" and "2 new, 2 mended, 2 stayed; " in out
    assert cli.main(["diff", old, old]) == 0
    capsys.readouterr()
    target = tmp_path / "diff.json"
    assert cli.main(["diff", new, old, "--fail-on", "high", "--format", "json", "--output", str(target)]) == 0
    assert capsys.readouterr() == ("", "")
    assert [finding["check"] for finding in json.loads(target.read_bytes())["findings"]["new"]] == ["TPE001", "TPE101"]
    assert cli.main(["diff", old, str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == f"tpe-pcap: {tmp_path / 'none.json'}: no such file or directory\n"
