"""The fuzzer's targets without chance: their seeds and every crash that was found, and a short run of the fuzzer."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS, Target, crashes, packed, pieces_of, replay, timed, unpacked

pytestmark = pytest.mark.deep

RUNS = 200
"""Executions of each target, beside its seeds."""

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: it has no wheel for this machine"
)
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@every_target
def test_seeds_and_what_becomes_of_them_do_not_crash(target: Target) -> None:
    """A replay without atheris: chance alone changes the bytes."""
    seeds = list(target.seeds())
    assert seeds
    chance = random.Random(target.name)

    def plain(data: bytes) -> bytes:
        at = chance.randrange(len(data) + 1)
        return data[:at] + bytes([chance.randrange(256)]) + data[at + chance.randrange(3) :]

    for data in seeds:
        timed(target, data)
        timed(target, target.mutate(data, chance, plain))


def test_what_crashed_once_does_not_crash_again() -> None:
    for name, path in crashes():
        replay(name, path.read_bytes())


@needs_atheris
@every_target
def test_a_short_run_of_the_fuzzer_finds_nothing(target: Target) -> None:
    arguments = [sys.executable, "-m", "tests.fuzz", target.name, "--runs", str(RUNS)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    name, executions, _, edges, crash = done.stdout.splitlines()[-1].split()
    assert (name, crash) == (target.name, "none")
    assert int(executions) >= RUNS
    assert int(edges) > 100


def test_a_defect_counts_as_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that finds nothing because it looks at nothing would be worth nothing."""
    dns = next(each for each in TARGETS if each.name == "dns")
    data = next(iter(dns.seeds()))
    timed(dns, data)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("analyzer.protocols.dns.facts", broken)
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            timed(dns, data)
    with monkeypatch.context() as patch:
        patch.setattr(targets, "SECONDS", 0)
        with pytest.raises(AssertionError, match="took"):
            timed(dns, data)


def test_a_head_becomes_pieces_and_the_same_head_again() -> None:
    for target in TARGETS:
        if target.name in ("tls", "dns", "icmp"):
            for data in target.seeds():
                head = targets.head_of(unpacked(data))
                again = targets.head_of(unpacked(packed(pieces_of(head))))
                assert [each.data for each in again.streams] == [each.data for each in head.streams]
                assert [each.data for each in again.datagrams] == [each.data for each in head.datagrams]
                assert (again.transport, again.ports) == (head.transport, head.ports)
