"""Whatever names a stranger puts into packets and files, a report is only read: nothing in it acts."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from analyzer import Audit, audit, cli
from analyzer.pipeline import list_flows
from analyzer.reports import FORMATS, Format
from analyzer.reports import json as json_report
from analyzer.safetext import is_printable
from tests import build, samples
from tests import injection as hostile
from tests.injection import ATTACKS
from tests.reports.audits import HOSTILE_AUDIT, finding
from tests.synthetic import STATION, TPE

HOSTILE_NAME = "\x1b[2J\u202ea|b`<img src=x onerror=alert(1)>\n[x](javascript:alert(1)).pcapng"


@cache
def audited() -> Audit:
    """The hostile capture, in a file with a hostile name."""
    with TemporaryDirectory() as folder:
        return audit(hostile.save(Path(folder) / HOSTILE_NAME), base_stations=[STATION], tpe=[TPE])


@cache
def forged() -> Audit:
    """An audit in which whatever may hold words of a stranger is nothing but an attack."""
    (capture, other) = HOSTILE_AUDIT.captures
    (station,) = HOSTILE_AUDIT.base_stations
    return replace(
        HOSTILE_AUDIT,
        captures=(replace(capture, path=HOSTILE_NAME, problems=ATTACKS), other),
        base_stations=(replace(station, mode_evidence=ATTACKS, station=replace(station.station, evidence=ATTACKS)),),
        findings=tuple(finding(summary=each, remedy=each, filter=each) for each in ATTACKS),
    )


AUDITS = {"packets": audited, "forged": forged}


@pytest.fixture(params=AUDITS)
def attacked(request: pytest.FixtureRequest) -> Audit:
    return AUDITS[request.param]()


def test_every_attack_reaches_the_reports() -> None:
    """Else the tests below would say nothing."""
    value = json.loads(json_report.render(audited()))
    shown = json.dumps([flow["facts"] for flow in value["flows"]] + value["captures"])
    for word in ("owned", "forged", "<script>", "onerror", "svg", "click", "~~e~~", "calc", "SUM(1+1)", "{{7*7}}"):
        assert word in shown, word
    told = {name for flow in value["flows"] for name in flow["facts"]}
    assert {"server_name", "client_banner", "user", "greeting", "queries", "host_name", "path", "lrr_ids"} <= told


# -- every format -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.NAME)
def test_no_character_acts_or_hides(report: Format, attacked: Audit) -> None:
    said = hostile.rendered(report, attacked)
    if isinstance(said, bytes):
        pytest.skip(f"{report.NAME} is no text that anybody looks at")
    said.encode("utf-8")
    assert {character for character in said if not is_printable(character)} <= set("\n\r\t")
    lines = said.replace("\r\n", "\n")
    assert "\r" not in lines, "a carriage return of its own"
    if report.NAME != "html":  # where a line feed is a blank like any other
        assert not re.search(r"^(HIGH +TPE999|# forged)", lines, re.MULTILINE)


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its elements with their attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def harmless_html(said: str) -> None:
    assert not re.search(r"<script>alert|<img src=x|<svg onload", said)
    for tag, attributes in Page(said).found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "src", "action", "style"):
            address = (attributes.get(name) or "").strip().lower()
            assert not address.startswith(("javascript:", "data:text/html")), (tag, attributes)
            assert "evil.example" not in address, (tag, attributes)


def harmless_csv(said: str) -> None:
    for row in csv.reader(io.StringIO(said, newline="")):
        for cell in row:
            number = re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", cell)
            assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
            assert "\n" not in cell and "\r" not in cell


def harmless_markdown(said: str) -> None:
    cells: int | None = None
    code = False
    for line in said.splitlines():
        if re.match(r" *(```|~~~)", line):
            code = not code
            continue
        if code:
            continue
        plain = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", line)  # what stands in code is shown as it is
        assert not re.search(r"(?<!\\)\]\((?:javascript:|http://evil)", plain), line
        assert not re.search(r"(?<!\\)<(?:script|img|svg|http|!--(?! -->))", plain), line
        columns = len(re.findall(r"(?<!\\)\|", line))
        if line.startswith("|"):
            assert cells in (None, columns), line
            cells = columns
        else:
            cells = None


def harmless_xml(said: str) -> None:
    root = xml.etree.ElementTree.fromstring(said)
    assert not {each.tag for each in root.iter()} & {"script", "img", "svg"}
    assert "<!ENTITY" not in said and "<!DOCTYPE" not in said


def harmless_json(said: str) -> None:
    json.loads(said)


def harmless_sarif(said: str) -> None:
    def messages(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if isinstance(value.get("message"), dict):
                yield value["message"]
            for part in value.values():
                yield from messages(part)
        elif isinstance(value, list):
            for part in value:
                yield from messages(part)

    for message in messages(json.loads(said)):
        # SARIF 2.1.0, section 3.11.6: a link may stand in plain text, unless a backslash is before its bracket.
        assert not re.search(r"(?<!\\)\[[^\]]*(?<!\\)\]\([^)]*(?:javascript|evil)", message.get("text", "")), message
        harmless_markdown(message.get("markdown", ""))


HARMLESS: dict[str, Callable[[str], None]] = {
    "json": harmless_json,
    "html": harmless_html,
    "csv": harmless_csv,
    "markdown": harmless_markdown,
    "junit": harmless_xml,
    "sarif": harmless_sarif,
}
"""What a format of this name must not hold, beside what none may."""


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.NAME)
def test_nothing_acts_in_the_program_that_the_format_is_for(report: Format, attacked: Audit) -> None:
    said = hostile.rendered(report, attacked)
    if report.NAME in HARMLESS:
        assert isinstance(said, str)
        HARMLESS[report.NAME](said)


@pytest.mark.parametrize(
    ("harmless", "bad"),
    [
        (harmless_html, "<p><script>alert(1)</script>"),
        (harmless_html, "<a href=' JavaScript:alert(1)'>x</a>"),
        (harmless_html, "<p title='' onload=x>"),
        (harmless_csv, "a,=cmd|x\r\n"),
        (harmless_csv, 'a,"x\ny"\r\n'),
        (harmless_markdown, "see [click](javascript:alert(1))"),
        (harmless_markdown, "a <img src=x>"),
        (harmless_markdown, "| a | b |\n|---|---|\n| c | d | e |"),
        (harmless_xml, "<a><script/></a>"),
        (harmless_sarif, '{"message": {"text": "[click](javascript:alert(1))"}}'),
    ],
)
def test_the_properties_can_fail(harmless: Callable[[str], None], bad: str) -> None:
    with pytest.raises(AssertionError):
        harmless(bad)


@pytest.mark.parametrize("report", [each for each in FORMATS if each.lists_flows], ids=lambda report: report.NAME)
def test_the_flows_of_a_hostile_capture(report: Format, tmp_path: Path) -> None:
    found = list_flows(hostile.save(tmp_path / HOSTILE_NAME))
    said = hostile.joined(report, lambda: report.flow_pieces(found.captures, found.conversations))
    if isinstance(said, bytes):
        pytest.skip(f"{report.NAME} is no text that anybody looks at")
    assert {character for character in said if not is_printable(character)} <= {"\n"}
    if report.NAME in HARMLESS:
        HARMLESS[report.NAME](said)


def test_what_a_notebook_shows(attacked: Audit) -> None:
    said = attacked._repr_html_()
    harmless_html(said)
    assert {character for character in said if not is_printable(character)} <= {"\n"}


# -- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", HOSTILE_NAME],
        ["flows", HOSTILE_NAME],
        ["audit", f"--{HOSTILE_NAME}"],
        ["audit", "-", f"--{HOSTILE_NAME}"],
        ["audit", "-", "--format", HOSTILE_NAME],
        ["audit", "-", "--mode", HOSTILE_NAME],
        ["audit", "-", "--tpe", HOSTILE_NAME],
        ["audit", "-", "--profile", HOSTILE_NAME],
        ["audit", "-", "--deployment", HOSTILE_NAME],
        ["explain", HOSTILE_NAME],
        ["rules", HOSTILE_NAME],
    ],
)
def test_what_is_refused_is_named_without_harm(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert cli.main(arguments) == cli.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "tpe-pcap" in err and {character for character in err if not is_printable(character)} <= {"\n"}
    assert not re.search(r"^\[x\]", err, re.MULTILINE)


def test_a_file_that_is_no_capture_is_named_without_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / HOSTILE_NAME
    path.write_bytes(b"\x1b[31m\x9b")
    assert cli.main(["audit", str(path)]) == cli.USAGE
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and is_printable(err[:-1])


def test_a_defect_is_confessed_without_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(HOSTILE_NAME)

    monkeypatch.setattr("analyzer.pipeline.audit", fail)
    monkeypatch.delenv("TPE_PCAP_TRACEBACK", raising=False)
    assert cli.main(["audit", "x.pcap"]) == cli.DEFECT
    err = capsys.readouterr().err
    assert err.count("\n") == 2 and all(map(is_printable, err.splitlines()))


# -- filters ----------------------------------------------------------------------------------------------------


def filters() -> list[str]:
    """One filter of each shape that any capture of the collection, or the hostile one, brings forth."""
    shapes: dict[str, str] = {}
    results = [audited(), *(audit(path) for path in samples.all_captures())]
    for result in results:
        for each in result.findings:
            if each.filter:
                shapes.setdefault(re.sub(r"[0-9a-f:.]*[0-9][0-9a-f:.]*(, [0-9]+)*", "0", each.filter), each.filter)
    return list(shapes.values())


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_accepts_every_filter(tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    path.write_bytes(build.pcap(build.timed([build.udp(STATION, 1, TPE, 2)])))
    found = filters()
    assert len(found) > 5
    refused = {
        each: done.stderr
        for each in found
        if (done := subprocess.run(["tshark", "-r", path, "-Y", each], capture_output=True, text=True)).returncode
    }
    assert refused == {}
