"""Captures that somebody damaged on purpose: nothing crashes, nothing runs away, nothing ends without a word."""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from pathlib import Path

import pytest

from analyzer import audit
from analyzer.capture import CaptureError
from tests import samples
from tests.fuzz.targets import MEGABYTES, SECONDS, assert_judged

SAMPLES = [path for path in samples.all_captures() if path.stat().st_size > 100]
MUTATIONS = int(os.environ.get("TPE_PCAP_MUTATIONS", "2"))
"""Of each sample; ``TPE_PCAP_MUTATIONS=1000`` is an hour's work."""


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut out, doubled or cut off; most often few, and headers more often than payload."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        at = chance.randrange(len(data))
        kind = chance.randrange(8)
        if kind < 4:
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 4:
            data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
        elif kind == 5:
            del data[at + 1 : at + chance.randrange(2, 100)]
        elif kind == 6:
            data[at:at] = data[at : at + chance.randrange(1, 100)]
        elif chance.randrange(4) == 0:
            del data[max(64, at) :]
    return bytes(data)


@pytest.mark.deep
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_mutated_samples(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    chance = random.Random(path.name)
    audit(path)  # the first audit of a machine compiles the scanner
    held = peak()
    for number in range(MUTATIONS):
        damaged = tmp_path / path.name
        damaged.write_bytes(mutated(content, chance))
        begun = time.process_time()
        try:
            result = audit(damaged)
        except CaptureError as error:
            assert "\n" not in str(error)
            continue
        assert_judged(result)
        assert time.process_time() - begun < SECONDS, f"mutation {number}"
    assert peak() - held < MEGABYTES


def peak() -> float:
    """The most memory that this process ever took, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
