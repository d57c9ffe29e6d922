"""The scenarios of the recorder: they name existing functions, and every one has its capture. Nothing is recorded."""

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

LAB = CAPTURES / "lab"
SCENARIOS = sorted(path.stem for path in (LAB / "scenarios").glob("*.toml"))
WITHOUT_SCENARIO = {
    "basics-real-station-2.0.6": "the station is not in Debian",
    "tls-other-services": "built packet by packet",
    "tls-preambles": "built packet by packet",
}
"""Captures that the recorder cannot record, and the reason, which their descriptions state too."""


@pytest.fixture(scope="module")
def recorder() -> ModuleType:
    loader = SourceFileLoader("lab_record", str(LAB / "record"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    sys.path.insert(0, str(LAB))
    try:
        loader.exec_module(module)
        module.SERVERS = importlib.import_module("servers").SERVERS
        module.STEPS = importlib.import_module("steps").STEPS
        module.CaptureOptions = importlib.import_module("network").CaptureOptions
    finally:
        sys.path.remove(str(LAB))
    return module


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_calls_existing_functions(recorder: ModuleType, name: str) -> None:
    scenario = recorder.scenario(name)
    for functions, entries in ((recorder.SERVERS, scenario["servers"]), (recorder.STEPS, scenario["steps"])):
        for options in entries.values():
            if run := options["run"]:
                arguments = {key: value for key, value in options.items() if key not in ("run", "second")}
                inspect.signature(functions[run]).bind(None, **arguments)
    recorder.CaptureOptions(**scenario.get("capture", {}))


def test_every_function_is_used_by_a_scenario(recorder: ModuleType) -> None:
    scenarios = [recorder.scenario(name) for name in SCENARIOS]
    for functions, table in ((recorder.SERVERS, "servers"), (recorder.STEPS, "steps")):
        assert set(functions) <= {options["run"] for scenario in scenarios for options in scenario[table].values()}


def test_every_capture_has_a_scenario() -> None:
    origins = {name: expectation(name)["origin"]["ran"] for name in samples.names()}
    edited = {name for name, ran in origins.items() if ran.startswith("field situation ") or "packets added" in ran}
    assert set(samples.names()) - set(SCENARIOS) - edited == set(WITHOUT_SCENARIO)
    for name, reason in WITHOUT_SCENARIO.items():
        assert reason in expectation(name)["origin"]["how"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_a_capture(recorder: ModuleType, name: str) -> None:
    assert expectation(name)["origin"]["ran"] == f"lab/scenarios/{name}.toml"
    assert recorder.folder(name) == samples.folders()[name]


def test_keys_belong_to_sessions_of_their_capture(recorder: ModuleType) -> None:
    listed = set()
    for sample in samples.names():
        captured = b"".join(path.read_bytes() for path in samples.files(sample))
        for name in expectation(sample)["origin"].get("keys", []):
            suffix = name.rpartition(".")[2]
            text = (samples.folders()[sample] / name).read_text()
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            assert lines and all(recorder.decryption.identifier(suffix, line) in captured for line in lines), name
            listed.add(name)
    assert listed == {path.name for suffix in recorder.decryption.SUFFIXES for path in CAPTURES.rglob(f"*.{suffix}")}


def test_readme_lists_every_capture(recorder: ModuleType) -> None:
    assert recorder.table() in (CAPTURES / "README.md").read_text()
