"""Which module may import which, and what the command may load before it knows that it needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = ("pandas", "pyshark", "cryptography", "numba", "numpy", "dpkt", "jsonschema", "jinja2", "asyncio")
"""Libraries that take long to load."""


def test_import_contracts() -> None:
    """The contracts are in pyproject.toml, ``[tool.importlinter]``."""
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.fail("import-linter is not installed: pip install --group dev")
    done = subprocess.run([lint, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def loaded(module: str) -> set[str]:
    """Names of all modules that are there after one was imported in a fresh interpreter."""
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_pandas_and_pyshark_are_never_loaded_by_the_pipeline() -> None:
    modules = loaded("analyzer.flows, analyzer.conversations, analyzer.matching, analyzer.checks")
    assert not {"pandas", "pyshark"} & modules


def test_reports_load_jinja2_only_when_a_page_is_made() -> None:
    assert "jinja2" not in loaded("analyzer.reports")


def test_the_command_shows_its_help_without_heavy_libraries() -> None:
    assert not set(HEAVY) & loaded("analyzer.cli")
