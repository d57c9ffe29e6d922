"""What an addition touches: at most two files besides its test, as docs/contributing.md lists them.

Each addition is made in a copy of the package, with exactly the files of the table, and must then work.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.synthetic import STATION, TLS, TPE, Traffic

ROOT = Path(__file__).parent.parent

PROTOCOL = """
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.wire import Reader

NAME = "gopher"


class Selector(NamedTuple):
    text: str


@dataclass(frozen=True, slots=True)
class GopherFacts(Facts):
    selector: str | None = None


def probe(head: Head) -> bool:
    return any(stream.data.startswith(b"/gopher") for stream in head.streams)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    yield Selector(reader.take(7, "selector").decode())


def facts(items: Sequence[Item]) -> Facts:
    return GopherFacts(next((item.message.text for item in items if isinstance(item.message, Selector)), None))
"""

CHECK = '''

@check("TPE998", "made-up", Severity.HIGH, kind=Kind.NOTICE, scope=CAPTURE)
def made_up(context: AuditContext) -> Iterator[Issue]:
    """Flags: Anything.

    Why: A test needs it.

    Evidence: None.

    Remedy: Ignore it.
    """
    yield Issue("Made up.")


CHECKS = (*CHECKS, made_up)
'''

REPORT = """
from __future__ import annotations

from collections.abc import Iterator

from analyzer.result import Audit


def render(audit: Audit, colour: bool = False) -> str:
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    yield f"one line about {len(audit.findings)} findings\\n"
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base station in mode tls, and a flow whose content is Gopher."""
    gopher = (b"/gopher\r\n", b"iHello\r\n.\r\n")
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 70, gopher)
    return traffic.save(tmp_path_factory.mktemp("capture") / "a.pcap")


class Copy:
    """A copy of the package, to which files are added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: set[str] = set()
        for part in ("analyzer", "rules"):
            shutil.copytree(ROOT / part, folder / part)

    def append(self, name: str, text: str) -> None:
        """Append text to a file, which is made if there is none."""
        self.touched.add(name)
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    def run(self, *arguments: str | Path) -> str:
        """Standard output of the command."""
        command = [sys.executable, "-m", "analyzer", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def documented(addition: str) -> set[str]:
    """The files that docs/contributing.md names for an addition."""
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| a {addition} \|(.*)$", text, re.MULTILINE)
    files = re.findall(r"`((?:analyzer|rules)/[\w/.-]+)`", row)
    assert 1 <= len(files) <= 2
    return set(files)


def assert_documented(copy: Copy, addition: str, names: Mapping[str, str]) -> None:
    """The touched files are the documented ones, with ``names`` in the place of the documented ones."""
    expected = set()
    for name in documented(addition):
        for old, new in names.items():
            name = name.replace(old, new)
        expected.add(name)
    assert copy.touched == expected


def test_new_protocol(copy: Copy, capture: Path) -> None:
    copy.append("analyzer/protocols/gopher.py", PROTOCOL)
    added = "\n\nfrom analyzer.protocols import gopher\n\nPROTOCOLS = (*PROTOCOLS, gopher)\n"
    copy.append("analyzer/protocols/__init__.py", added)
    flows = json.loads(copy.run("flows", capture, "--format", "json"))["flows"]
    assert [(flow["protocol"], flow["facts"].get("selector")) for flow in flows][1] == ("gopher", "/gopher")
    assert_documented(copy, "protocol", {"NAME": "gopher"})


def test_new_check(copy: Copy, capture: Path) -> None:
    copy.append("analyzer/checks/captures.py", CHECK)
    assert "TPE998" in copy.run("explain")
    findings = json.loads(copy.run("audit", capture, "--format", "json"))["findings"]
    assert ("TPE998", "Made up.", "Ignore it.") in [
        (finding["check"], finding["summary"], finding["remedy"]) for finding in findings
    ]
    assert_documented(copy, "check", {"PROTOCOL": "captures"})


def test_new_table(copy: Copy, capture: Path) -> None:
    tls = (ROOT / "rules" / "tpe-self-hosted" / "tls.toml").read_text(encoding="utf-8")
    copy.append("rules/our-site/tls.toml", tls.replace("ports = [3001]", "ports = [3001, 3005]"))
    assert "3005" in copy.run("rules", "tls", "--profile", "our-site")
    result = json.loads(copy.run("audit", capture, "--profile", "our-site", "--format", "json"))
    assert result["profile"] == "our-site"
    assert {str(Path(name).parent) for name in copy.touched} == {"rules/our-site"}
    assert documented("table") == {"rules/tpe-self-hosted/"}, "a folder of the same kind"


def test_new_report(copy: Copy, capture: Path) -> None:
    copy.append("analyzer/reports/lines.py", REPORT)
    copy.append("analyzer/reports/__init__.py", '\n\nFORMATS = (*FORMATS, Format("lines"))\n')
    assert re.fullmatch(r"one line about \d+ findings\n", copy.run("audit", capture, "--format", "lines"))
    assert_documented(copy, "report", {"NAME": "lines"})
