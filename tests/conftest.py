"""How tests are selected and run: Hypothesis profiles, parallel workers, and the markers of pyproject.toml.

``pytest --hypothesis-profile long tests/protocols/test_laws.py`` takes half an hour.
"""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("quick", max_examples=100, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", max_examples=1000, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile("ci" if os.environ.get("CI") else "quick")


def names_files(config: pytest.Config) -> bool:
    return any(".py" in argument for argument in config.getoption("file_or_dir"))


def pytest_configure(config: pytest.Config) -> None:
    """``pytest FILE`` runs the deep tests of the file too."""
    if names_files(config) and config.option.markexpr == "not deep":
        config.option.markexpr = ""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``pytest FILE`` starts no worker processes: small runs are faster without, and debuggers work."""
    return 0 if names_files(config) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run tshark are deep, and skipped where it is not installed."""
    for item in items:
        if item.get_closest_marker("tshark"):
            item.add_marker(pytest.mark.deep)
            if shutil.which("tshark") is None:
                item.add_marker(pytest.mark.skip(reason="tshark is not installed"))
