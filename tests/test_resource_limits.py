"""Time and memory of the whole command on captures made to exhaust it (:mod:`tests.resource_limits`).

The budget is stated here only. ``TPE_PCAP_LIMITS_SCALE=N`` makes every capture N times as large; at 25 the flood has
ten million flows.
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

from analyzer import conversations
from analyzer.capture.compression import DecompressedStream
from analyzer.capture.pcapng import MAX_OPTIONS, SECTION
from analyzer.findings import Severity
from analyzer.pipeline import audit
from analyzer.scanner import driver
from analyzer.stations import recognition
from tests import build, resource_limits
from tests.fuzz.targets import assert_judged
from tests.synthetic import NTP, STATION, TLS, TPE, Traffic, findings_of

SECONDS = 30.0
"""Maximum processor time of an audit, apart from the two shares below."""
MICROSECONDS = 50
"""Additional processor time per packet and pcapng block."""
RATE = 5
"""Unpacked megabytes per additional second."""
MEGABYTES = 1500
"""Maximum memory of an audit."""

SCALE = int(os.environ.get("TPE_PCAP_LIMITS_SCALE", "1"))
SMALLEST_BLOCK = 12
"""Bytes of the smallest pcapng block."""


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
"""Starts a program and measures it. A process inherits the peak memory of its parent: here that of this small program,
not that of the test run."""


def cost(path: Path) -> Cost:
    """Run the command on a capture and measure the process."""
    report = path.with_suffix(".json")
    arguments = [sys.executable, "-m", "analyzer", "audit", "--format", "json", "--output", str(report), str(path)]
    measured = subprocess.run([sys.executable, "-c", LAUNCHER, *arguments], capture_output=True, check=True, text=True)
    code, seconds, peak = json.loads(measured.stdout)
    content = json.loads(report.read_text()) if code in (0, 1) else {}
    report.unlink(missing_ok=True)
    return Cost(code, seconds, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), content)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compile the scanner first: no capture's budget pays for that."""
    build.read([])


@pytest.mark.deep
@pytest.mark.parametrize("writer", resource_limits.WRITERS, ids=lambda writer: writer.__name__)
def test_resource_limit(writer: Callable[..., None], tmp_path: Path) -> None:
    """Time and memory stay within the budget, every packet is counted, and a finding reports what was dropped."""
    path = tmp_path / "capture"
    writer(path, SCALE)
    size = path.stat().st_size
    spent = cost(path)
    assert spent.code in (0, 1)
    totals = spent.report["totals"]
    blocks = size // SMALLEST_BLOCK if path.read_bytes()[:4] == SECTION else 0
    unpacked = resource_limits.BOMB * SCALE if writer.__name__.endswith("bomb") else size
    assert spent.seconds < SECONDS + (totals["packets"] + blocks) * MICROSECONDS / 1e6 + unpacked / 1e6 / RATE
    assert spent.megabytes < MEGABYTES
    parts = ("packets_in_flows", "icmp_errors", "copies", "packets_without_ip", "packets_unreadable")
    assert totals["packets"] == sum(totals[part] for part in parts)
    expected = resource_limits.WRITERS[writer]
    assert expected is None or expected in {finding["check"] for finding in spent.report["findings"]}


@pytest.mark.deep
def test_memory_does_not_grow_with_a_control_connection(tmp_path: Path) -> None:
    """Bytes beyond the part of an FTP control connection that is read are only counted."""
    spent = []
    for scale in (1, 3):
        path = tmp_path / "capture"
        resource_limits.ftp_control(path, scale)
        spent.append(cost(path))
    assert spent[1].megabytes < spent[0].megabytes + 32
    assert spent[1].report["totals"]["packets"] > 2 * spent[0].report["totals"]["packets"]


def test_payload_limit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_message_limit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert [len(flow.dissection.items) for flow in result.flows if flow.protocol == "ftp"] == [11, 5, 5]
    assert [flow.protocol for flow in result.flows] == [flow.protocol for flow in whole.flows]


def test_base_station_limit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = Traffic()
    for number in range(5):
        traffic.tcp(f"10.0.0.{2 + number}", 40000, TPE, 3001, TLS)
    path = traffic.save(tmp_path / "a.pcap")
    assert not findings_of(audit(path), "TPE017")
    monkeypatch.setattr(recognition, "MAX_STATIONS", 3)
    result = audit(path)
    assert_judged(result)
    assert len(result.base_stations) == 3
    (notice,) = findings_of(result, "TPE017")
    assert notice.summary.startswith("2 addresses")
    assert result.totals.packets_out_of_scope > 0


def test_decompression_limit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecompressedStream, "FREE_EXPANSION", 1 << 20)
    path = tmp_path / "bomb"
    resource_limits.gzip_bomb(path)
    result = audit(path)
    (notice,) = findings_of(result, "TPE001")
    assert "unpack to more than 200 times their size" in notice.summary
    assert 0 < result.totals.packets < 8000


def test_option_limit_is_reported(tmp_path: Path) -> None:
    frame = build.tcp(STATION, 40000, TPE, 3001, build.SYN)
    body = struct.pack("<III", 0, 0, 0) + build.option(2, b"") * MAX_OPTIONS
    path = tmp_path / "a.pcapng"
    path.write_bytes(build.section() + build.interface() + build.block(5, body) + build.enhanced(frame))
    result = audit(path)
    assert result.totals.packets == 1
    (notice,) = findings_of(result, "TPE001")
    assert f"it has {MAX_OPTIONS} options or more; {len(body) + 12} bytes were skipped" in notice.summary
