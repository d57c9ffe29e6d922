"""The fuzzer's targets on their seeds, on random mutations and on every crash that was found; a short run of it."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys

import pytest

from tests import samples
from tests.fuzz import targets
from tests.fuzz.targets import TARGETS, Target, crashes, packed, pieces_of, replay, timed, unpacked

pytestmark = pytest.mark.deep

RUNS = 200
"""Executions of every target, in addition to its seeds."""

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: it has no wheel for this machine"
)
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@every_target
def test_seeds_and_random_mutations_do_not_crash(target: Target) -> None:
    seeds = list(target.seeds())
    assert seeds
    rng = random.Random(target.name)

    def mutate(data: bytes) -> bytes:
        at = rng.randrange(len(data) + 1)
        return data[:at] + bytes([rng.randrange(256)]) + data[at + rng.randrange(3) :]

    for data in seeds:
        timed(target, data)
        timed(target, target.mutate(data, rng, mutate))


def test_kept_crashes_do_not_crash_again() -> None:
    for name, path in crashes():
        replay(name, path.read_bytes())


@needs_atheris
@every_target
def test_short_run_finds_no_crash(target: Target) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target.name, "--runs", str(RUNS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=samples.ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    name, executions, _, edges, crash = done.stdout.splitlines()[-1].split()
    assert (name, crash) == (target.name, "none")
    assert int(executions) >= RUNS
    assert int(edges) > 100


def test_defect_and_timeout_count_as_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = next(target for target in TARGETS if target.name == "dns")
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


@pytest.mark.parametrize("name", ["tls", "dns", "icmp"])
def test_head_becomes_pieces_and_the_same_head_again(name: str) -> None:
    (target,) = (target for target in TARGETS if target.name == name)
    for data in target.seeds():
        head = targets.head_of(unpacked(data))
        restored = targets.head_of(unpacked(packed(pieces_of(head))))
        assert [stream.data for stream in restored.streams] == [stream.data for stream in head.streams]
        assert [datagram.data for datagram in restored.datagrams] == [datagram.data for datagram in head.datagrams]
        assert (restored.transport, restored.ports) == (head.transport, head.ports)
