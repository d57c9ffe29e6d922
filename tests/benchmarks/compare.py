"""Measure tpe-pcap and other tools on the same capture, in the same run.

``python -m tests.benchmarks.compare [CAPTURE] [--runs 5] [--slow]``

Every tool runs once without being measured, to fill the caches; then all tools run in turns, several times. The table
shows medians; the columns with an x are multiples of tpe-pcap's time. Time and memory are those of the process and its
children (``wait4``); the memory of a tool that needs less than this process (about 15 MB) shows as that of this one.
Without a capture, :mod:`tests.benchmarks.generate` makes one in a temporary folder. ``--slow`` adds tools that take
minutes on large files; they run once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

DPKT_LOOP = """
import sys, dpkt
with open(sys.argv[1], "rb") as file:
    for _, frame in dpkt.pcap.UniversalReader(file):
        dpkt.ethernet.Ethernet(frame)
"""
NFSTREAM_LOOP = """
import sys, nfstream
for flow in nfstream.NFStreamer(source=sys.argv[1]):
    pass
"""


@dataclass(frozen=True)
class Measure:
    wall: float
    """Seconds."""
    cpu: float
    """Seconds in user and kernel mode."""
    memory: int
    """Peak resident set in bytes."""
    code: int


@dataclass
class Tool:
    name: str
    command: list[str]
    version: list[str]
    """The command that prints the version in its first line."""
    slow: bool = False
    module: str | None = None
    """Python module that it needs."""
    success: tuple[int, ...] = (0,)
    """Exit codes of a successful run."""
    measures: list[Measure] = field(default_factory=list)

    @property
    def missing(self) -> bool:
        if self.module is not None:
            return importlib.util.find_spec(self.module) is None
        return shutil.which(self.command[0]) is None

    def run(self) -> Measure:
        before = time.perf_counter()
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        pid = os.posix_spawnp(self.command[0], self.command, os.environ, file_actions=quiet)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - before
        unit = 1 if sys.platform == "darwin" else 1024
        return Measure(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, os.waitstatus_to_exitcode(status))

    def version_line(self) -> str:
        done = subprocess.run(self.version, capture_output=True, text=True, errors="replace", check=False)
        return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "?")


def tools(capture: str) -> list[Tool]:
    """The tools; the first is the reference for the others."""
    python = sys.executable
    script = Path(python).with_name("tpe-pcap")
    ours = [str(script)] if script.exists() else [python, "-m", "analyzer.cli"]
    printed = "from importlib.metadata import version; print('{0}', version('{0}'))"
    return [
        Tool("tpe-pcap audit", [*ours, "audit", "--format", "json", capture], [*ours, "--version"], success=(0, 1)),
        Tool("cat", ["cat", capture], ["cat", "--version"]),
        Tool("tcpdump filter", ["tcpdump", "-nr", capture, "tcp port 9"], ["tcpdump", "--version"]),
        Tool("ndpiReader", ["ndpiReader", "-q", "-i", capture], ["ndpiReader", "-h"]),
        Tool("argus", ["argus", "-r", capture, "-w", os.devnull], ["argus", "-h"]),
        Tool(
            "nfstream",
            [python, "-c", NFSTREAM_LOOP, capture],
            [python, "-c", printed.format("nfstream")],
            slow=True,
            module="nfstream",
        ),
        Tool(
            "dpkt Ethernet",
            [python, "-c", DPKT_LOOP, capture],
            [python, "-c", printed.format("dpkt")],
            slow=True,
            module="dpkt",
        ),
        Tool(
            "tshark conversations",
            ["tshark", "-q", "-z", "conv,tcp", "-z", "conv,udp", "-r", capture],
            ["tshark", "--version"],
            slow=True,
        ),
    ]


def measure(chosen: list[Tool], runs: int) -> None:
    """Measure: one run to warm up, then all tools in turns; slow tools once."""
    quick = [tool for tool in chosen if not tool.slow]
    for tool in quick:
        tool.run()
    for _ in range(runs):
        for tool in quick:
            tool.measures.append(tool.run())
    for tool in chosen:
        if tool.slow:
            tool.measures.append(tool.run())


def writes_json(tool: Tool, folder: str) -> bool:
    """Whether a tool prints JSON. It prints to a file, so that a long report does not take memory of this process."""
    path = Path(folder) / "report"
    with path.open("wb") as out:
        subprocess.run(tool.command, stdout=out, check=False)
    with path.open("rb") as made:
        return made.read(1) == b"{"


def table(chosen: list[Tool], absent: list[Tool]) -> str:
    from tabulate import tabulate  # imported late: the memory of this process shows as that of small tools

    def median(tool: Tool, name: str) -> float:
        return float(statistics.median(getattr(run, name) for run in tool.measures))

    base = chosen[0]
    rows = []
    for tool in chosen:
        walls = [run.wall for run in tool.measures]
        wrong = sorted({run.code for run in tool.measures} - set(tool.success))
        rows.append(
            [
                tool.name,
                len(walls),
                f"{median(tool, 'wall'):.3f}",
                f"{min(walls):.3f}-{max(walls):.3f}",
                f"{median(tool, 'cpu'):.3f}",
                f"{median(tool, 'memory') / 1e6:.0f}",
                f"{median(tool, 'wall') / median(base, 'wall'):.3f}",
                f"{median(tool, 'cpu') / max(median(base, 'cpu'), 1e-3):.3f}",
                f"exit code {wrong[0]}" if wrong else "",
            ]
        )
    rows += [[tool.name, 0, "", "", "", "", "", "", "not installed"] for tool in absent]
    headers = ["tool", "runs", "wall s", "from-to", "cpu s", "peak MB", "wall x", "cpu x", ""]
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 7, "left"))


def make_capture(folder: str, stations: int, packets: int) -> str:
    """Generate a capture in a process of its own, so that numpy takes no memory of this one."""
    path = str(Path(folder) / "gateway.pcap")
    counts = ["--stations", str(stations), "--packets", str(packets)]
    subprocess.run([sys.executable, "-m", "tests.benchmarks.generate", path, *counts], check=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tpe-pcap and other tools.")
    parser.add_argument("capture", nargs="?", metavar="CAPTURE", help="default: generate one")
    parser.add_argument("--stations", type=int, default=400, help="of the generated capture")
    parser.add_argument("--packets", type=int, default=2_000_000, help="of the generated capture")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slow", "--tshark", action="store_true", help="also nfstream, dpkt and tshark, once each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        capture = arguments.capture or make_capture(folder, arguments.stations, arguments.packets)
        listed = [tool for tool in tools(capture) if arguments.slow or not tool.slow]
        absent = [tool for tool in listed if tool.missing]
        present = [tool for tool in listed if not tool.missing]
        for tool in present[:1]:  # exit code 1 may mean findings or a traceback
            if not writes_json(tool, folder):
                sys.exit(f"{tool.name} writes no report: {' '.join(tool.command)}")
        measure(present, arguments.runs)
        size = Path(capture).stat().st_size
        print(
            f"{capture}: {size} bytes; {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        print(table(present, absent))
        print()
        for tool in present:
            shown = ["<loop>" if "\n" in part else part for part in tool.command]
            print(f"{tool.name}: {' '.join(shown)}\n    {tool.version_line()}")


if __name__ == "__main__":
    main()
