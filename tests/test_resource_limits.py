"""Captures made to exhaust a reader (:mod:`tests.resource_limits`): what they may cost, measured on the whole command.

This is the one place where the budget is stated; the README tells users of it. ``TPE_PCAP_TRAPS=N`` makes every trap N
times as large; at 25 the flood is one of ten million flows.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from analyzer import conversations, stations
from analyzer.capture.compression import DecompressedStream
from analyzer.capture.pcapng import MAX_OPTIONS, SECTION
from analyzer.findings import Severity
from analyzer.pipeline import audit
from analyzer.scanner import driver
from tests import build
from tests import resource_limits as traps
from tests.fuzz.targets import assert_judged
from tests.synthetic import NTP, STATION, TLS, TPE, Traffic, findings_of

SECONDS = 30.0
"""Processor time that an audit may take, whatever the capture …"""
MICROSECONDS = 50
"""… beside so much for each packet and pcapng block of it …"""
RATE = 5
"""… and a second for so many megabytes, unpacked."""
MEGABYTES = 1500
"""Memory that an audit may take, whatever the capture."""

SCALE = int(os.environ.get("TPE_PCAP_TRAPS", "1"))
SMALLEST_BLOCK = 12
"""Bytes of a pcapng block."""


class Cost(NamedTuple):
    code: int
    seconds: float
    megabytes: float
    report: dict[str, Any]


LAUNCHER = """
import json, os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
"""Starts a program and measures it. A process takes over the peak of the one that it was started from: of this small
one, not of a test run that has grown large."""


def cost(path: Path) -> Cost:
    """Run the command on a capture and measure the process."""
    report = path.with_suffix(".json")
    arguments = [sys.executable, "-m", "analyzer", "audit", "--format", "json", "--output", str(report), str(path)]
    measured = subprocess.run([sys.executable, "-c", LAUNCHER, *arguments], capture_output=True, check=True, text=True)
    code, seconds, peak = json.loads(measured.stdout)
    told = json.loads(report.read_text()) if code in (0, 1) else {}
    report.unlink(missing_ok=True)
    return Cost(code, seconds, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), told)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """The scanner is compiled once, which is no capture's fault."""
    build.read([])


@pytest.mark.deep
@pytest.mark.parametrize("trap", traps.TRAPS, ids=lambda trap: trap.__name__)
def test_a_trap_costs_no_more_than_the_budget_and_nothing_is_left_out_without_a_word(
    trap: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "trap"
    trap(path, SCALE)
    size = path.stat().st_size
    spent = cost(path)
    assert spent.code in (0, 1)
    totals = spent.report["totals"]
    blocks = size // SMALLEST_BLOCK if path.read_bytes()[:4] == SECTION else 0
    unpacked = traps.BOMB * SCALE if trap.__name__.endswith("bomb") else size
    assert spent.seconds < SECONDS + (totals["packets"] + blocks) * MICROSECONDS / 1e6 + unpacked / 1e6 / RATE
    assert spent.megabytes < MEGABYTES
    parts = ("packets_in_flows", "icmp_errors", "copies", "packets_without_ip", "packets_unreadable")
    assert totals["packets"] == sum(totals[part] for part in parts)
    said = {each["check"] for each in spent.report["findings"]}
    assert traps.TRAPS[trap] is None or traps.TRAPS[trap] in said


@pytest.mark.deep
def test_twice_the_control_connection_costs_no_more_memory(tmp_path: Path) -> None:
    """What is behind the part of an FTP control connection that is read is counted only."""
    spent = []
    for scale in (1, 3):
        path = tmp_path / "trap"
        traps.ftp_control(path, scale)
        spent.append(cost(path))
    assert spent[1].megabytes < spent[0].megabytes + 32
    assert spent[1].report["totals"]["packets"] > 2 * spent[0].report["totals"]["packets"]


def test_payload_above_the_limit_is_left_out_and_this_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = Traffic()
    for number in range(20):
        traffic.tcp(STATION, 40000 + number, TPE, 3001, TLS)
    path = traffic.save(tmp_path / "a.pcap")
    assert not findings_of(audit(path), "TPE016")
    for limit, value in (("MAX_PIECES", 10), ("MAX_ARENA_BYTES", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(driver, limit, value)
            result = audit(path)
        assert_judged(result)
        (notice,) = findings_of(result, "TPE016")
        assert notice.severity is Severity.MEDIUM
        assert "packets was left out" in notice.summary
        assert result.totals.flows == 20


def test_messages_above_the_limit_are_not_read_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic()
    for number in range(3):
        traffic.tcp(STATION, 40000 + number, TPE, 21, (b"NOOP\r\n" * (10 + number), b"220 ready\r\n"))
        traffic.exchange(STATION, 50000 + number, TPE, 123, NTP)
    path = traffic.save(tmp_path / "a.pcap")
    whole = audit(path)
    assert not findings_of(whole, "TPE016")
    monkeypatch.setattr(conversations, "MAX_MESSAGES", 5)
    result = audit(path)
    assert_judged(result)
    (notice,) = findings_of(result, "TPE016")
    assert "first messages" in notice.summary
    assert notice.count == 2
    assert [len(each.dissection.items) for each in result.flows if each.protocol == "ftp"] == [11, 5, 5]
    assert [each.protocol for each in result.flows] == [each.protocol for each in whole.flows]


def test_base_stations_above_the_limit_are_not_judged_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic()
    for number in range(5):
        traffic.tcp(f"10.0.0.{2 + number}", 40000, TPE, 3001, TLS)
    path = traffic.save(tmp_path / "a.pcap")
    assert not findings_of(audit(path), "TPE017")
    monkeypatch.setattr(stations, "MAX_STATIONS", 3)
    result = audit(path)
    assert_judged(result)
    assert len(result.base_stations) == 3
    (notice,) = findings_of(result, "TPE017")
    assert notice.summary.startswith("2 addresses")
    assert result.totals.packets_out_of_scope > 0


def test_what_unpacks_to_too_much_is_read_up_to_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecompressedStream, "FREE_EXPANSION", 1 << 20)
    path = tmp_path / "bomb"
    traps.gzip_bomb(path)
    result = audit(path)
    (notice,) = findings_of(result, "TPE001")
    assert "unpack to more than 200 times their size" in notice.summary
    assert 0 < result.totals.packets < 8000


def test_a_block_with_too_many_options_is_skipped_and_this_is_said(tmp_path: Path) -> None:
    frame = build.tcp(STATION, 40000, TPE, 3001, build.SYN)
    body = struct.pack("<III", 0, 0, 0) + build.option(2, b"") * MAX_OPTIONS
    path = tmp_path / "a.pcapng"
    path.write_bytes(build.section() + build.interface() + build.block(5, body) + build.enhanced(frame))
    result = audit(path)
    assert result.totals.packets == 1
    (notice,) = findings_of(result, "TPE001")
    assert f"it has {MAX_OPTIONS} options or more; {len(body) + 12} bytes were skipped" in notice.summary
