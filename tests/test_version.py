"""The version is defined in one place."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import analyzer
from analyzer.version import __version__

ROOT = Path(__file__).parent.parent


def test_version_is_semantic() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", __version__)


def test_version_is_defined_in_version_py_only() -> None:
    assert analyzer.__version__ is __version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"] and "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "analyzer/version.py"
    sources = sorted((ROOT / "analyzer").rglob("*.py"))
    assert [path.name for path in sources if f'"{__version__}"' in path.read_text(encoding="utf-8")] == ["version.py"]


def test_installed_distribution_has_the_version() -> None:
    assert importlib.metadata.version("tpe-pcap") == __version__
