"""README and docs/: what they show is what the program does, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analyzer import cli
from analyzer.verdicts import Status
from tests.tools.checks_page import page

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md")])


def test_readme_fits_two_screens_of_reading() -> None:
    assert len(README.splitlines()) <= 150


def test_readme_report_is_the_program_s_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    ((arguments, shown),) = re.findall(r"<!-- report: tpe-pcap (.*) -->\n```\n(.*?)```\n", README, re.DOTALL)
    assert cli.main(arguments.split()) == 1
    assert capsys.readouterr() == (shown, "")


def test_readme_explains_every_status() -> None:
    for status in Status:
        assert f"| {status.value} |" in README


def test_python_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = re.findall(r"```python\n(.*?)```\n", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(example, {})
    out = capsys.readouterr().out
    assert out.startswith("10.20.30.10 tls\nhigh TPE121 ")
    assert "tls_version" in out


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_paths_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or (path.parent / link).exists(), link
    for named in re.findall(r"`((?:analyzer|tests|captures|rules|docs|\.ci)/[\w./-]*)`", text):
        placeholder = any(word in named for word in ("NAME", "PROTOCOL", "FOLDER", "MODE"))
        assert placeholder or (ROOT / named).exists(), named


def test_catalogue_of_checks_is_generated_from_the_checks() -> None:
    assert (ROOT / "docs/checks.md").read_text(encoding="utf-8") == page()
