"""No name in packets or files becomes code, markup, a formula or a terminal command in a report."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
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
from tests.injection import ATTACKS, save
from tests.reports.audits import HOSTILE_AUDIT, finding
from tests.reports.rendering import joined, rendered
from tests.synthetic import STATION, TPE

ATTACK_NAME = "\x1b[2J\u202ea|b`<img src=x onerror=alert(1)>\n[x](javascript:alert(1)).pcapng"


@cache
def audited() -> Audit:
    """The audit of a capture with attacks in all names, its own included."""
    with TemporaryDirectory() as folder:
        return audit(save(Path(folder) / ATTACK_NAME), base_stations=[STATION], tpe=[TPE])


@cache
def forged() -> Audit:
    """An audit whose every text that comes from a capture is an attack."""
    (capture, other) = HOSTILE_AUDIT.captures
    (station,) = HOSTILE_AUDIT.base_stations
    return replace(
        HOSTILE_AUDIT,
        captures=(replace(capture, path=ATTACK_NAME, problems=ATTACKS), other),
        base_stations=(replace(station, mode_evidence=ATTACKS, station=replace(station.station, evidence=ATTACKS)),),
        findings=tuple(finding(summary=attack, remedy=attack, filter=attack) for attack in ATTACKS),
    )


AUDITS = {"packets": audited, "forged": forged}


@pytest.fixture(params=AUDITS)
def attacked(request: pytest.FixtureRequest) -> Audit:
    return AUDITS[request.param]()


def test_every_attack_reaches_the_reports() -> None:
    """Otherwise the tests below would prove nothing."""
    value = json.loads(json_report.render(audited()))
    shown = json.dumps([flow["facts"] for flow in value["flows"]] + value["captures"])
    for word in ("owned", "forged", "<script>", "onerror", "svg", "click", "~~e~~", "calc", "SUM(1+1)", "{{7*7}}"):
        assert word in shown, word
    facts = {name for flow in value["flows"] for name in flow["facts"]}
    assert {"server_name", "client_banner", "user", "greeting", "queries", "host_name", "path", "lrr_ids"} <= facts


# -- every format -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.name)
def test_no_control_or_invisible_character(report: Format, attacked: Audit) -> None:
    text = rendered(report, attacked)
    if isinstance(text, bytes):
        pytest.skip(f"{report.name} is binary")
    text.encode("utf-8")
    assert {character for character in text if not is_printable(character)} <= set("\n\r\t")
    lines = text.replace("\r\n", "\n")
    assert "\r" not in lines, "a carriage return outside CRLF"
    if report.name != "html":  # HTML treats a line feed as a blank
        assert not re.search(r"^(HIGH +TPE999|# forged)", lines, re.MULTILINE)


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, as a browser would parse them."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def harmless_html(text: str) -> None:
    assert not re.search(r"<script>alert|<img src=x|<svg onload", text)
    for tag, attributes in Page(text).found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "src", "action", "style"):
            address = (attributes.get(name) or "").strip().lower()
            assert not address.startswith(("javascript:", "data:text/html")), (tag, attributes)
            assert "evil.example" not in address, (tag, attributes)


def harmless_csv(text: str) -> None:
    for row in csv.reader(io.StringIO(text, newline="")):
        for cell in row:
            number = re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", cell)
            assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
            assert "\n" not in cell and "\r" not in cell


def harmless_markdown(text: str) -> None:
    cells: int | None = None
    code = False
    for line in text.splitlines():
        if re.match(r" *(```|~~~)", line):
            code = not code
            continue
        if code:
            continue
        plain = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", line)  # code spans are shown verbatim
        assert not re.search(r"(?<!\\)\]\((?:javascript:|http://evil)", plain), line
        assert not re.search(r"(?<!\\)<(?:script|img|svg|http|!--(?! -->))", plain), line
        columns = len(re.findall(r"(?<!\\)\|", line))
        if line.startswith("|"):
            assert cells in (None, columns), line
            cells = columns
        else:
            cells = None


def harmless_xml(text: str) -> None:
    root = xml.etree.ElementTree.fromstring(text)
    assert not {element.tag for element in root.iter()} & {"script", "img", "svg"}
    assert "<!ENTITY" not in text and "<!DOCTYPE" not in text


def harmless_json(text: str) -> None:
    json.loads(text)


def harmless_sarif(text: str) -> None:
    def messages(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if isinstance(value.get("message"), dict):
                yield value["message"]
            for part in value.values():
                yield from messages(part)
        elif isinstance(value, list):
            for part in value:
                yield from messages(part)

    for message in messages(json.loads(text)):
        # Plain text may contain links, unless a backslash precedes the bracket (SARIF 2.1.0, section 3.11.6).
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
"""Assertions about a format, in addition to those about all."""


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.name)
def test_nothing_is_active_in_the_format(report: Format, attacked: Audit) -> None:
    text = rendered(report, attacked)
    if report.name in HARMLESS:
        assert isinstance(text, str)
        HARMLESS[report.name](text)


@pytest.mark.parametrize(
    ("harmless", "attack"),
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
def test_assertions_about_formats_can_fail(harmless: Callable[[str], None], attack: str) -> None:
    with pytest.raises(AssertionError):
        harmless(attack)


@pytest.mark.parametrize("report", [report for report in FORMATS if report.lists_flows], ids=lambda report: report.name)
def test_lists_of_flows_are_harmless(report: Format, tmp_path: Path) -> None:
    found = list_flows(save(tmp_path / ATTACK_NAME))
    text = joined(report, lambda: report.flow_pieces(found.captures, found.conversations))
    if isinstance(text, bytes):
        pytest.skip(f"{report.name} is binary")
    assert {character for character in text if not is_printable(character)} <= {"\n"}
    if report.name in HARMLESS:
        HARMLESS[report.name](text)


def test_notebook_is_harmless(attacked: Audit) -> None:
    text = attacked._repr_html_()
    harmless_html(text)
    assert {character for character in text if not is_printable(character)} <= {"\n"}


# -- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", ATTACK_NAME],
        ["flows", ATTACK_NAME],
        ["audit", f"--{ATTACK_NAME}"],
        ["audit", "-", f"--{ATTACK_NAME}"],
        ["audit", "-", "--format", ATTACK_NAME],
        ["audit", "-", "--mode", ATTACK_NAME],
        ["audit", "-", "--tpe", ATTACK_NAME],
        ["audit", "-", "--profile", ATTACK_NAME],
        ["audit", "-", "--deployment", ATTACK_NAME],
        ["explain", ATTACK_NAME],
        ["rules", ATTACK_NAME],
    ],
)
def test_refused_argument_is_harmless(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert cli.main(arguments) == cli.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "tpe-pcap" in err and {character for character in err if not is_printable(character)} <= {"\n"}
    assert not re.search(r"^\[x\]", err, re.MULTILINE)


def test_refused_file_is_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ATTACK_NAME
    path.write_bytes(b"\x1b[31m\x9b")
    assert cli.main(["audit", str(path)]) == cli.USAGE
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and is_printable(err[:-1])


def test_internal_error_is_harmless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(ATTACK_NAME)

    monkeypatch.setattr("analyzer.pipeline.audit", fail)
    monkeypatch.delenv("TPE_PCAP_TRACEBACK", raising=False)
    assert cli.main(["audit", "x.pcap"]) == cli.DEFECT
    err = capsys.readouterr().err
    assert err.count("\n") == 2 and all(map(is_printable, err.splitlines()))


# -- filters ----------------------------------------------------------------------------------------------------


def filters() -> list[str]:
    """One display filter of each shape in the findings of all samples and of the capture with attacks."""
    shapes: dict[str, str] = {}
    for result in (audited(), *map(samples.audit_of, samples.names())):
        for shown in result.findings:
            if shown.filter:
                shape = re.sub(r"[0-9a-f:.]*[0-9][0-9a-f:.]*(, [0-9]+)*", "0", shown.filter)
                shapes.setdefault(shape, shown.filter)
    return list(shapes.values())


@pytest.mark.tshark
def test_tshark_accepts_every_filter(tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    path.write_bytes(build.pcap(build.timed([build.udp(STATION, 1, TPE, 2)])))
    found = filters()
    assert len(found) > 5
    for display_filter in found:
        done = subprocess.run(["tshark", "-r", path, "-Y", display_filter], capture_output=True, text=True)
        assert done.returncode == 0, (display_filter, done.stderr)
