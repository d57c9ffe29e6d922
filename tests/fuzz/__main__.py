"""``python -m tests.fuzz [TARGET…] [--seconds N]``: fuzz every target for its share of the time.

Every target runs in a process of its own, guided by its coverage of ``analyzer``. Inputs that crash are minimised and
kept in ``crashes/TARGET/``; the tests replay them. ``--runs N`` instead of a time, with the same ``--seed``, is
deterministic.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CRASHES = Path(__file__).parent / "crashes"
MAX_INPUT = 1 << 15
"""Maximum bytes of an input."""
MINIMISE_SECONDS = 30
"""Maximum time to minimise a crash."""


class Outcome(NamedTuple):
    executions: int
    seconds: float
    edges: int
    crash: Path | None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together (default: 600)")
    parser.add_argument("--runs", type=int, help="executions of every target, instead of a time")
    parser.add_argument("--seed", type=int, default=1, help="seed of the mutations (default: 1)")
    parser.add_argument("--corpus", type=Path, help="folder that keeps inputs with new coverage, by target")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        fuzz(options.targets[0], options.child)
    from tests.fuzz.targets import TARGETS

    known = [target.name for target in TARGETS]
    for name in options.targets:
        if name not in known:
            parser.error(f"there is no target {name!r}: there are {', '.join(known)}")
    chosen = options.targets or known
    share = max(1, options.seconds // len(chosen))
    print(f"{'target':<12}{'executions':>12}{'per second':>12}{'edges':>8}  crash", flush=True)
    crashed = False
    for name in chosen:
        limit = f"-runs={options.runs}" if options.runs else f"-max_total_time={share}"
        found = run(name, limit, options.seed, options.corpus)
        rate = found.executions / max(found.seconds, 0.001)
        print(f"{name:<12}{found.executions:>12}{rate:>12.0f}{found.edges:>8}  {found.crash or 'none'}", flush=True)
        crashed |= found.crash is not None
    return 1 if crashed else 0


def run(name: str, limit: str, seed: int, corpus: Path | None) -> Outcome:
    """Fuzz a target in another process."""
    from tests.fuzz.targets import MEGABYTES, SECONDS, TARGETS

    target = next(target for target in TARGETS if target.name == name)
    with tempfile.TemporaryDirectory() as folder:
        seeds, kept, found = (Path(folder) / name for name in ("seeds", "kept", "found"))
        kept = corpus / name if corpus else kept
        for path in (seeds, kept, found):
            path.mkdir(parents=True, exist_ok=True)
        for data in target.seeds():
            (seeds / hashlib.sha1(data).hexdigest()).write_bytes(data)
        arguments = [
            *(sys.executable, "-m", "tests.fuzz", name, "--child", f"-artifact_prefix={found}/", limit),
            *(f"-seed={seed}", f"-timeout={2 * SECONDS}", f"-rss_limit_mb={2 * MEGABYTES}", f"-max_len={MAX_INPUT}"),
            *(str(kept), str(seeds)),
        ]
        begun = time.monotonic()
        process = subprocess.run(arguments, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, check=False)
        seconds = time.monotonic() - begun
        output = process.stdout.decode(errors="replace")
        crash = None
        samples = sorted(found.iterdir())
        if samples:
            crash = keep(name, samples[0].read_bytes())
        elif process.returncode:
            raise SystemExit(f"{name}: fuzzing ended with code {process.returncode}:\n{output[-3000:]}")
        if samples:
            print(output[-3000:], file=sys.stderr)
    executed = re.findall(r"^#(\d+)", output, re.MULTILINE)
    covered = re.findall(r"cov: (\d+)", output)
    return Outcome(int(executed[-1]) if executed else 0, seconds, int(covered[-1]) if covered else 0, crash)


def keep(name: str, data: bytes) -> Path:
    """Minimise an input that crashes and keep it for the tests."""
    small = minimised(name, data)
    path = CRASHES / name / hashlib.sha1(small).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small)
    return path


def minimised(name: str, data: bytes) -> bytes:
    """Remove parts, of decreasing size, while the input still crashes."""
    deadline = time.monotonic() + MINIMISE_SECONDS
    size = len(data) // 2
    while size and time.monotonic() < deadline:
        at = 0
        while at < len(data) and time.monotonic() < deadline:
            shorter = data[:at] + data[at + size :]
            if fails(name, shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def fails(name: str, data: bytes) -> bool:
    from tests.fuzz.targets import replay

    try:
        replay(name, data)
    except Exception:
        return True
    return False


def fuzz(name: str, arguments: Sequence[str]) -> None:
    """Fuzz a target with libFuzzer's arguments. Does not return."""
    import atheris

    import analyzer.scanner.kernels  # noqa: F401  (before the instrumentation: numba compiles it from its byte code)

    with atheris.instrument_imports(include=["analyzer"]):
        from tests.fuzz import targets
    targets.prepare()
    target = next(target for target in targets.TARGETS if target.name == name)

    def mutate(data: bytes, limit: int, seed: int) -> bytes:
        return target.mutate(data, random.Random(seed), lambda part: atheris.Mutate(part, limit))[:limit]

    atheris.Setup([name, *arguments], lambda data: targets.timed(target, data), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
