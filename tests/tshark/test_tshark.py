"""How tshark is run: away from this process, from the user's settings and from the folder that a capture lies in."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from analyzer import CaptureError, audit, crosscheck, tshark
from analyzer.tshark import Question, ask

CAPTURE = Path(__file__).parents[2] / "captures" / "tls-http-on-3001.pcap"
PACKETS = audit(CAPTURE).totals.packets
NUMBERS = Question(fields=("frame.number",))
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def program(folder: Path, script: str) -> None:
    """Another tshark, found before the real one."""
    path = folder / "tshark"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def version(line: str, otherwise: str) -> str:
    return f'case "$1" in -v) echo "{line}";; *) {otherwise};; esac'


def numbers(path: Path = CAPTURE, question: Question = NUMBERS) -> list[int]:
    return [int(told["frame_number"][0]) for told in ask(str(path), question)]


@needs_tshark
def test_every_packet_is_told_in_order() -> None:
    assert numbers() == list(range(1, PACKETS + 1))


@needs_tshark
def test_a_file_that_ends_in_the_middle_of_a_packet_is_read_up_to_there() -> None:
    assert numbers(CAPTURE.with_name("tls-cut-in-the-middle.pcap"))


@needs_tshark
def test_a_running_event_loop_is_left_alone() -> None:
    async def notebook() -> bool:
        loop = asyncio.get_running_loop()
        agrees = crosscheck(CAPTURE).agrees
        return agrees and loop is asyncio.get_running_loop()

    assert asyncio.run(notebook())


@needs_tshark
def test_the_users_profile_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(fields=("frame.number",), display_filter="ssh")
    before = numbers(question=question)
    profile = tmp_path / ".config" / "wireshark"
    profile.mkdir(parents=True)
    (profile / "disabled_protos").write_text("ssh\ntcp\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WIRESHARK_CONFIG_DIR", str(profile))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    assert before and numbers(question=question) == before


@needs_tshark
def test_no_program_is_taken_from_the_folder_of_the_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, f"touch {tmp_path}/run")
    (tmp_path / "config.ini").write_text(f"[tshark]\ntshark_path = {tmp_path}/tshark\n")  # pyshark would go by it
    (tmp_path / "pyshark.py").write_text(f"open('{tmp_path}/run', 'w')")
    shutil.copy(CAPTURE, tmp_path / "-Xlua_script.pcap")
    monkeypatch.chdir(tmp_path)
    assert len(numbers(Path("-Xlua_script.pcap"))) == PACKETS
    assert not (tmp_path / "run").exists()


@needs_tshark
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = ask(str(CAPTURE), Question(fields=("frame.number",), files={"keylog": "secret"}))
    next(asked)
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    asked.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (version("TShark (Wireshark) 3.4.9", "exit 0"), r"tshark 3\.4\.9 is too old: 3\.6 or later is needed"),
        (version("no version", "exit 0"), "tshark does not tell its version"),
        (version("TShark (Wireshark) 4.0.17", "kill -SEGV $$"), r"tshark 4\.0\.17 crashed \(signal 11\)"),
        (
            version("TShark (Wireshark) 4.0.17", "echo 'tshark: out of luck' >&2; exit 2"),
            r"tshark 4\.0\.17 failed: out of luck",
        ),
    ],
)
def test_another_tshark_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    program(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(CaptureError, match=reason) as raised:
        numbers()
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(CAPTURE))


def test_it_may_not_take_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, version("TShark (Wireshark) 4.0.17", "sleep 60"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(tshark, "SECONDS", 2)
    began = time.monotonic()
    with pytest.raises(CaptureError, match="tshark took longer than 2 s"):
        numbers()
    assert time.monotonic() - began < 20


@needs_tshark
def test_what_tshark_cannot_read_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "letter.pcap"
    path.write_text("From: me\n")
    with pytest.raises(CaptureError, match="isn't a capture file") as raised:
        numbers(path)
    assert "\n" not in str(raised.value)


def test_the_pipeline_knows_nothing_of_it() -> None:
    import subprocess

    code = "import sys; from analyzer import audit; audit(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, CAPTURE], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "analyzer.pipeline" in loaded
    assert (
        not {"analyzer.tshark", "analyzer.tshark.process", "analyzer.tshark.decryption", "pyshark", "asyncio"} & loaded
    )
