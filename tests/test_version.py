"""One version, wherever it is asked for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import analyzer
from analyzer.version import __version__


def test_the_package_and_its_metadata_have_one_version() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert analyzer.__version__ == __version__
    assert "version" in project.get("dynamic", ()) or project["version"] == __version__
