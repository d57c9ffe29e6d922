"""How tshark is run: isolated from this process, from the user's settings and from the capture's folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analyzer import CaptureError, audit, crosscheck
from analyzer.tshark import client
from analyzer.tshark.client import Query, run
from tests import samples

CAPTURE = samples.capture("tls-http-on-3001")
PACKETS = audit(CAPTURE).totals.packets
NUMBERS = Query(fields=("frame.number",))


def fake_tshark(folder: Path, script: str) -> None:
    """Write a shell script named ``tshark``."""
    path = folder / "tshark"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def with_version(line: str, otherwise: str) -> str:
    """A script that prints its version for ``-v`` and runs a command otherwise."""
    return f'case "$1" in -v) echo "{line}";; *) {otherwise};; esac'


def frame_numbers(path: Path = CAPTURE, query: Query = NUMBERS) -> list[int]:
    return [int(packet["frame_number"][0]) for packet in run(str(path), query)]


@pytest.mark.tshark
def test_yields_every_packet_in_order() -> None:
    assert frame_numbers() == list(range(1, PACKETS + 1))


@pytest.mark.tshark
def test_yields_the_packets_before_a_truncated_one() -> None:
    assert frame_numbers(samples.capture("tls-cut-in-the-middle"))


@pytest.mark.tshark
def test_leaves_a_running_event_loop_alone() -> None:
    async def notebook() -> bool:
        loop = asyncio.get_running_loop()
        agrees = crosscheck(CAPTURE).agrees
        return agrees and loop is asyncio.get_running_loop()

    assert asyncio.run(notebook())


@pytest.mark.tshark
def test_ignores_the_users_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query(fields=("frame.number",), display_filter="ssh")
    before = frame_numbers(query=query)
    profile = tmp_path / ".config" / "wireshark"
    profile.mkdir(parents=True)
    (profile / "disabled_protos").write_text("ssh\ntcp\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WIRESHARK_CONFIG_DIR", str(profile))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    assert before and frame_numbers(query=query) == before


@pytest.mark.tshark
def test_runs_no_code_from_the_captures_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tshark(tmp_path, f"touch {tmp_path}/executed")
    (tmp_path / "config.ini").write_text(f"[tshark]\ntshark_path = {tmp_path}/tshark\n")  # pyshark reads this name
    (tmp_path / "pyshark.py").write_text(f"open('{tmp_path}/executed', 'w')")
    shutil.copy(CAPTURE, tmp_path / "-Xlua_script.pcap")
    monkeypatch.chdir(tmp_path)
    assert len(frame_numbers(Path("-Xlua_script.pcap"))) == PACKETS
    assert not (tmp_path / "executed").exists()


@pytest.mark.tshark
def test_removes_its_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    packets = run(str(CAPTURE), Query(fields=("frame.number",), files={"keylog": "secret"}))
    next(packets)
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    packets.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(
            with_version("TShark (Wireshark) 3.4.9", "exit 0"),
            r"tshark 3\.4\.9 is too old: 3\.6 or later is needed",
            id="old",
        ),
        pytest.param(with_version("no version", "exit 0"), "tshark does not tell its version", id="unversioned"),
        pytest.param(
            with_version("TShark (Wireshark) 4.0.17", "kill -SEGV $$"),
            r"tshark 4\.0\.17 crashed \(signal 11\)",
            id="crash",
        ),
        pytest.param(
            with_version("TShark (Wireshark) 4.0.17", "echo 'tshark: out of luck' >&2; exit 2"),
            r"tshark 4\.0\.17 failed: out of luck",
            id="failure",
        ),
    ],
)
def test_unusable_tshark_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    fake_tshark(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(CaptureError, match=reason) as raised:
        frame_numbers()
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(CAPTURE))


def test_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tshark(tmp_path, with_version("TShark (Wireshark) 4.0.17", "sleep 60"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(client, "SECONDS", 2)
    start = time.monotonic()
    with pytest.raises(CaptureError, match="tshark took longer than 2 s"):
        frame_numbers()
    assert time.monotonic() - start < 20


@pytest.mark.tshark
def test_file_that_is_not_a_capture_is_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / "letter.pcap"
    path.write_text("From: me\n")
    with pytest.raises(CaptureError, match="isn't a capture file") as raised:
        frame_numbers(path)
    assert "\n" not in str(raised.value)


def test_an_audit_without_keys_imports_nothing_of_tshark() -> None:
    code = "import sys; from analyzer import audit; audit(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, CAPTURE], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "analyzer.pipeline" in loaded
    assert not {name for name in loaded if name.startswith(("analyzer.tshark", "pyshark", "asyncio"))}
