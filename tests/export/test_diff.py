"""What changed between two reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import cli
from analyzer.expected import Deployment, UsageError
from analyzer.export.diff import Difference, compare, load
from analyzer.findings import Finding, Severity
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
CAPTURES = samples.all_captures()

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


def saved(audited: Audit, folder: Path, name: str) -> str:
    path = folder / name
    path.write_text(report.render(audited), encoding="utf-8")
    return str(path)


def compared(old: Audit, new: Audit, folder: Path) -> Difference:
    return compare(load(saved(old, folder, "old.json")), load(saved(new, folder, "new.json")))


def said(found: Difference) -> Difference:
    """As if the reports had been in the working directory."""
    return replace(found, old=replace(found.old, path="old.json"), new=replace(found.new, path="new.json"))


def test_the_texts_are_the_golden_ones(tmp_path: Path) -> None:
    found = said(compared(OLD, NEW, tmp_path))
    assert difference.render_text(found) == (GOLDEN / "diff.txt").read_text(encoding="utf-8")
    assert difference.render_json(found) == (GOLDEN / "diff.json").read_text(encoding="utf-8")


def test_an_audit_does_not_differ_from_itself(tmp_path: Path) -> None:
    found = compared(EXAMPLE, EXAMPLE, tmp_path)
    assert len(found.stayed) == len(EXAMPLE.findings)
    kept = replace(found, stayed=())
    assert difference.render_text(kept).endswith("0 new, 0 mended, 0 stayed; 0 rows with another status.\n")
    assert not found.fails("info")


def test_what_appeared_was_mended_and_stayed(tmp_path: Path) -> None:
    found = compared(OLD, NEW, tmp_path)
    assert [each.check for each in found.appeared] == ["TPE102", "TPE311"]
    assert [each.check for each in found.mended] == ["TPE001", "TPE101"]
    assert [(old.severity, new.severity) for old, new in found.stayed] == [("medium", "high"), ("high", "high")]
    assert [(each.old, each.new) for each in found.settings] == [("standalone", "ha")]
    assert [(each.about, each.old, each.new) for each in found.modes] == [(("10.0.0.2",), "tls", "ipsec")]
    assert [(each.about, each.old, each.new) for each in found.rows] == [(("10.0.0.2", "i3"), "present", "blocked")]
    assert found.stations_came == ("10.0.0.3",)
    assert found.stations_went == ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",)
    assert [each.service for each in found.flows_came] == ["udp/500"]
    assert [each.service for each in found.flows_went] == ["esp", "icmp", "tcp/3003", "tcp/80"]


def test_of_findings_with_one_fingerprint_those_that_say_the_same_stay(tmp_path: Path) -> None:
    def told(*sentences: str) -> Audit:
        return replace(EXAMPLE, findings=tuple(finding(summary=each) for each in sentences))

    found = compared(told("One.", "Two.", "Three."), told("Three.", "Two.", "Four.", "Five."), tmp_path)
    pairs = [(old.summary, new.summary) for old, new in found.stayed]
    assert pairs == [("Three.", "Three."), ("Two.", "Two."), ("One.", "Four.")]
    assert [each.summary for each in found.appeared] == ["Five."]
    assert found.mended == ()


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
def test_what_is_new_or_worse_fails(
    old: Sequence[Severity], new: Sequence[Severity], fails: set[str], tmp_path: Path
) -> None:
    def told(severities: Sequence[Severity]) -> Audit:
        return replace(EXAMPLE, findings=tuple(finding(severity=each) for each in severities))

    found = compared(told(old), told(new), tmp_path)
    assert {str(each) for each in Severity if found.fails(str(each))} == fails


# -- fingerprints -----------------------------------------------------------------------------------------------


def fingerprints(told: Any) -> dict[str, str]:
    return {each["fingerprint"]: each["check"] for each in told["findings"] if each["base_station"] is not None}


def shifted(path: Path, folder: Path) -> Path:
    """The same capture with packets of strangers before all others."""
    content = path.read_bytes()
    strangers = [build.udp("203.0.113.77", 5000, "203.0.113.78", 6000, b"stranger") for _ in range(7)]
    time = int.from_bytes(content[24:28], "little")
    before = build.pcap([build.Packet(frame, (time - 1) * build.SECOND) for frame in strangers])
    target = folder / path.name
    target.write_bytes(content[:24] + before[24:] + content[24:])
    return target


PLAIN = [each for each in CAPTURES if each.read_bytes()[:4] == b"\xd4\xc3\xb2\xa1" and len(each.read_bytes()) > 24]


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_strangers_and_other_frame_numbers_change_no_fingerprint(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if int.from_bytes(path.read_bytes()[20:24], "little") != 1:
        pytest.skip("not of Ethernet")
    reports = []
    for capture in (path, shifted(path, tmp_path)):
        cli.main(["audit", str(capture), "--format", "json"])
        reports.append(json.loads(capsys.readouterr().out))
    one, two = reports
    assert two["totals"]["packets"] == one["totals"]["packets"] + 7
    assert fingerprints(one) == fingerprints(two)


def test_what_a_finding_is_about_changes_its_fingerprint(tmp_path: Path) -> None:
    from analyzer.findings import fingerprints as names

    def name(each: Finding) -> str:
        return names([each])[0]

    own = name(finding())
    for same in ({"frames": (Frame(1, 7),)}, {"time": None}, {"flow": 9}, {"count": 3}, {"summary": "Else."}):
        assert name(finding(**same)) == own
    for other in ({"check": "TPE302"}, {"base_station": None}, {"peer": "::1"}, {"service": "tcp"}, {"rows": ("i39",)}):
        assert name(finding(**other)) != own
    assert names([finding(), finding(summary="Else.")]) == [own, f"{own}:2"]


def test_several_peers_or_ports_are_none(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP)
    for port in range(20):
        traffic.tcp(STATION, 42000 + port, OTHER, 100 + port)
    told = {each.check: (each.peer, each.service) for each in traffic.audit(tmp_path).findings}
    assert told["TPE101"] == (OTHER, "tcp/8080")
    assert told["TPE103"] == (OTHER, "tcp")


# -- what is no report ------------------------------------------------------------------------------------------


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
def test_a_file_that_is_no_report(
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
def test_a_report_with_a_wrong_part_says_which(
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


def test_a_report_of_an_older_version_is_refused_with_advice(tmp_path: Path) -> None:
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
def test_any_change_of_a_report_is_refused_or_understood(data: st.DataObject) -> None:
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
            told = load(str(path))
        except UsageError as error:
            assert "\n" not in str(error)
            return
        found = compare(told, told)
        assert difference.render_text(found)
        json.loads(difference.render_json(found))
        assert not found.appeared and not found.mended


def test_nothing_from_a_report_reaches_the_terminal_raw(tmp_path: Path) -> None:
    value = json.loads(report.render(EXAMPLE))
    value["deployment"] = HOSTILE
    for station in value["base_stations"]:
        station["address"], station["mode"] = HOSTILE, HOSTILE
    for each in value["findings"]:
        each.update(check=HOSTILE, slug=HOSTILE, summary=HOSTILE, base_station=HOSTILE, rows=[HOSTILE])
    for each in value["flows"]:
        each.update(base_station=HOSTILE, transport=HOSTILE, protocol=HOSTILE)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(value))
    hostile, plain = load(str(path)), load(saved(EXAMPLE, tmp_path, "plain.json"))
    for found in (compare(plain, hostile), compare(hostile, plain), compare(hostile, hostile)):
        for rendered in (difference.render_text(found), difference.render_json(found)):
            assert all(character == "\n" or character.isprintable() for character in rendered)
            rendered.encode()


# -- the command ------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = saved(OLD, tmp_path, "old.json"), saved(NEW, tmp_path, "new.json")
    assert cli.main(["diff", old, new, "--fail-on", "low"]) == 1
    out, err = capsys.readouterr()
    assert err == "" and "2 new, 2 mended, 2 stayed; " in out
    assert cli.main(["diff", old, old]) == 0
    capsys.readouterr()
    target = tmp_path / "diff.json"
    assert cli.main(["diff", new, old, "--fail-on", "high", "--format", "json", "--output", str(target)]) == 0
    assert capsys.readouterr() == ("", "")
    assert [each["check"] for each in json.loads(target.read_bytes())["findings"]["new"]] == ["TPE101", "TPE001"][::-1]
    assert cli.main(["diff", old, str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == f"tpe-pcap: {tmp_path / 'none.json'}: no such file or directory\n"
