"""The recorder's scenarios: they name what exists, and each has its capture. Nothing is recorded here."""

from __future__ import annotations

import importlib
import inspect
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

import pytest

from tests import samples
from tests.samples import CAPTURES, expectation

SCENARIOS = sorted(path.stem for path in (CAPTURES / "lab" / "scenarios").glob("*.toml"))
WITHOUT_SCENARIO = {"basics-real-station-2.0.6": "the station is not in Debian"}
"""Captures that nobody can record anew with the recorder alone, and why, as their descriptions say it too."""


@pytest.fixture(scope="module")
def recorder() -> ModuleType:
    loader = SourceFileLoader("lab_record", str(CAPTURES / "lab" / "record"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    sys.path.insert(0, str(CAPTURES / "lab"))
    try:
        loader.exec_module(module)
        services = importlib.import_module("services")
        module.SERVERS, module.STEPS = services.SERVERS, services.STEPS
    finally:
        sys.path.remove(str(CAPTURES / "lab"))
    return module


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_names_what_exists(recorder: ModuleType, name: str) -> None:
    told = recorder.scenario(name)
    for services, entries in ((recorder.SERVERS, told["servers"]), (recorder.STEPS, told["steps"])):
        for options in entries.values():
            if run := options["run"]:
                arguments = {key: value for key, value in options.items() if key not in ("run", "second")}
                inspect.signature(services[run]).bind(None, **arguments)


def test_nothing_can_run_that_no_scenario_runs(recorder: ModuleType) -> None:
    told = [recorder.scenario(name) for name in SCENARIOS]
    for services, key in ((recorder.SERVERS, "servers"), (recorder.STEPS, "steps")):
        assert set(services) <= {options["run"] for each in told for options in each[key].values()}


def test_every_capture_has_its_scenario() -> None:
    assert set(samples.names()) - set(SCENARIOS) == set(WITHOUT_SCENARIO)
    for name, reason in WITHOUT_SCENARIO.items():
        assert reason in expectation(name)["origin"]["how"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_has_its_capture(name: str) -> None:
    assert expectation(name)["origin"]["ran"] == f"lab/scenarios/{name}.toml"


def test_secrets_are_those_of_their_capture(recorder: ModuleType) -> None:
    """Of the same recording, that is: what they are for occurs in it."""
    written = set()
    for sample in samples.names():
        captured = b"".join(path.read_bytes() for path in samples.files(sample))
        for name in expectation(sample)["origin"].get("keys", []):
            ending = name.rpartition(".")[2]
            lines = [
                line for line in (samples.folders()[sample] / name).read_text().splitlines() if not line.startswith("#")
            ]
            assert lines and all(recorder.decryption.identifier(ending, line) in captured for line in lines), name
            written.add(name)
    assert written == {each.name for ending in recorder.decryption.ENDINGS for each in CAPTURES.rglob(f"*.{ending}")}


def test_readme_shows_every_capture(recorder: ModuleType) -> None:
    assert recorder.table() in (CAPTURES / "README.md").read_text()
