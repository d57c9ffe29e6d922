"""Which modules import which, and which libraries are imported only where they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = ("pandas", "pyshark", "cryptography", "numba", "numpy", "dpkt", "jsonschema", "jinja2", "asyncio")
"""Libraries that take long to import."""


def test_import_contracts() -> None:
    """The contracts are in pyproject.toml, ``[tool.importlinter]``."""
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.fail("import-linter is not installed: pip install --group dev")
    done = subprocess.run([lint, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("cli", HEAVY),
        ("pipeline", ("pandas", "pyshark", "numba", "jinja2", "asyncio")),
        ("reports", ("jinja2", "pandas")),
    ],
)
def test_module_does_not_import_heavy_libraries(module: str, libraries: tuple[str, ...]) -> None:
    code = f"import sys, analyzer.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"analyzer.{module}" in done.stdout.split()
    assert not set(libraries) & set(done.stdout.split())


def test_public_name_is_the_function_after_its_module_was_imported() -> None:
    """Importing a submodule binds its name in the package: none may have the name of a public function."""
    import analyzer

    submodules = {path.stem for path in (ROOT / "analyzer").iterdir()}
    assert not submodules & set(analyzer.__all__)
    assert all(callable(getattr(analyzer, name)) for name in analyzer.__all__ if name != "__version__")
