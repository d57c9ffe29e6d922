"""Mutated samples: the audit ends in time and memory, with a result or with a CaptureError."""

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
"""Mutations per sample; ``TPE_PCAP_MUTATIONS=1000`` takes an hour."""


def mutated(content: bytes, generator: random.Random) -> bytes:
    """Change, remove, repeat or cut off bytes, mostly few of them."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 8, 64))):
        at = generator.randrange(len(data))
        kind = generator.randrange(8)
        if kind < 4:
            data[at] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        elif kind == 4:
            data[at : at + 4] = generator.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
        elif kind == 5:
            del data[at + 1 : at + generator.randrange(2, 100)]
        elif kind == 6:
            data[at:at] = data[at : at + generator.randrange(1, 100)]
        elif generator.randrange(4) == 0:
            del data[max(64, at) :]
    return bytes(data)


@pytest.mark.deep
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_mutated_sample(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    generator = random.Random(path.name)
    audit(path)  # the first audit on a machine compiles the scanner
    before = peak_megabytes()
    for number in range(MUTATIONS):
        damaged = tmp_path / path.name
        damaged.write_bytes(mutated(content, generator))
        start = time.process_time()
        try:
            result = audit(damaged)
        except CaptureError as error:
            assert "\n" not in str(error)
            continue
        assert_judged(result)
        assert time.process_time() - start < SECONDS, f"mutation {number}"
    assert peak_megabytes() - before < MEGABYTES


def peak_megabytes() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
