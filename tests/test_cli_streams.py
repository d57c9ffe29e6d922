"""The command line's streams and signals: standard input, terminals, pipes, progress, interrupts."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer import cli, pipeline
from tests import samples
from tests.synthetic import HTTP, OTHER, STATION, Traffic
from tests.test_cli import COMMAND, call, clean_capture, failing_capture

HTTP_ON_3001 = samples.capture("tls-http-on-3001")


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, without a terminal."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, check=False, **options)  # type: ignore


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


# -- standard output --------------------------------------------------------------------------------------------


def test_only_the_report_is_on_standard_output(tmp_path: Path) -> None:
    done = run("audit", failing_capture(tmp_path), "--format", "json")
    assert (done.returncode, done.stderr) == (1, b"")
    json.loads(done.stdout)


def test_report_does_not_depend_on_hash_seed_and_time_zone() -> None:
    arguments = ["audit", str(HTTP_ON_3001)]
    code = f"from analyzer.cli import main; main({arguments!r}); main([*{arguments!r}, '--format', 'json'])"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]
    assert outputs[0] == outputs[1] != b""


def test_pipe_gets_no_colour(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    for command in ("audit", "flows"):
        _, out, err = call(capsys, command, HTTP_ON_3001)
        assert out and "\x1b" not in out
        assert err == ""


@pytest.mark.parametrize("no_color", [None, "1"])
def test_terminal_gets_colour_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch, no_color: str | None) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert cli.main(["audit", str(HTTP_ON_3001)]) == 1
    assert ("\x1b[" in terminal.getvalue()) is (no_color is None)


def test_terminal_gets_no_binary_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    for command in ("audit", "flows"):
        assert cli.main([command, str(failing_capture(tmp_path)), "--format", "parquet"]) == 2
        message = "tpe-pcap: parquet is binary, and standard output is a terminal: name a file with --output\n"
        assert capsys.readouterr().err == message
    assert terminal.getvalue() == ""


def test_output_to_a_device_writes_to_it(tmp_path: Path) -> None:
    path, target = clean_capture(tmp_path), tmp_path / "redirected"
    report = run("audit", path).stdout
    assert run("audit", path, "--output", "/dev/stdout").stdout == report
    with target.open("wb") as file:
        subprocess.run([*COMMAND, "audit", path, "--output", "/dev/stdout"], stdout=file, check=True)
    assert target.read_bytes() == report
    assert Path("/dev/stdout").is_symlink()
    assert run("audit", path, "--output", "/dev/null").returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_closed_pipe_ends_the_command_quietly(tmp_path: Path) -> None:
    traffic = Traffic()
    for port in range(3000):
        traffic.tcp(STATION, 40000, OTHER, 5000 + port, HTTP)
    path = traffic.save(tmp_path / "long.pcap")
    shell = f'"{sys.executable}" -m analyzer flows "{path}" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False)
    assert done.stdout.count(b"\n") == 1
    assert (done.returncode, done.stderr) == (0, b"")


# -- progress and verbosity -------------------------------------------------------------------------------------

STAGES = ["reading", "dissecting", "matching", "judging", "writing"]
"""The stages of an audit."""


@pytest.fixture
def bars_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "BAR_FROM", {"bytes": 1, "flows": 1, "base stations": 1})


@pytest.mark.usefixtures("bars_from_the_start")
def test_terminal_shows_a_bar_for_every_slow_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    for command, stages in (("audit", STAGES[:-1]), ("flows", STAGES[:2])):
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        cli.main([command, str(HTTP_ON_3001)])
        shown = terminal.getvalue()
        assert list(dict.fromkeys(re.findall(r"([a-z]+):", shown))) == stages
        assert "104k" in shown or "0.00/" in shown
        assert shown.endswith("\r")
        assert "\n" not in shown


def test_terminal_shows_no_bar_for_quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    cli.main(["audit", str(HTTP_ON_3001)])
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("bars_from_the_start")
def test_pipe_gets_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "audit", HTTP_ON_3001)[2] == ""


def test_progress_reaches_the_total_of_every_stage() -> None:
    stages: list[tuple[str, int]] = []
    done: list[int] = []

    def progress(name: str, total: int, unit: str) -> Callable[[int], None]:
        stages.append((name, total))
        done.append(0)

        def advance(count: int) -> None:
            done[-1] += count

        return advance

    result = pipeline.audit(HTTP_ON_3001, progress=progress)
    assert stages == [
        ("reading", HTTP_ON_3001.stat().st_size), ("dissecting", result.totals.flows), ("matching", 1), ("judging", 1),
    ]  # fmt: skip
    assert done == [total for _, total in stages]


def test_verbose_prints_the_time_of_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    _, report, _ = call(capsys, "audit", HTTP_ON_3001)
    code, out, err = call(capsys, "audit", HTTP_ON_3001, "--verbose")
    assert (code, out) == (1, report)
    lines = [re.fullmatch(r"tpe-pcap: (\w+) (?:[\d,]+ )?[a-z ]+: \d+\.\d\d s", line) for line in err.splitlines()]
    assert [line and line[1] for line in lines] == STAGES
    assert f"reading {HTTP_ON_3001.stat().st_size:,} bytes" in err and "dissecting 7 flows" in err


@pytest.mark.usefixtures("bars_from_the_start")
def test_quiet_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(capsys, "audit", "--quiet", HTTP_ON_3001) == (1, "", "")
    assert call(capsys, "audit", "--quiet", clean_capture(tmp_path)) == (0, "", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert cli.main(["audit", "-q", str(HTTP_ON_3001)]) == 1
    assert terminal.getvalue() == ""


def test_quiet_still_prints_errors_and_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert call(capsys, "audit", "-q", HTTP_ON_3001, "--format", "json", "--output", report) == (1, "", "")
    assert json.loads(report.read_bytes())["findings"]
    code, out, err = call(capsys, "audit", "-q", tmp_path / "none.pcap")
    assert (code, out) == (2, "")
    assert "no such file" in err
    assert call(capsys, "audit", "-q", "-v", HTTP_ON_3001)[0] == 2


# -- standard input and pipes -----------------------------------------------------------------------------------


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Give the command this standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input_gives_the_flows_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = failing_capture(tmp_path)
    feed(monkeypatch, path.read_bytes())
    code, out, _ = call(capsys, "audit", "-", "--format", "json")
    report = json.loads(out)
    assert code == 1
    assert report["captures"][0]["path"] == "-"
    assert report["flows"] == json.loads(call(capsys, "audit", path, "--format", "json")[1])["flows"]


@pytest.mark.parametrize("content", [b"", b"no capture"])
def test_standard_input_that_is_not_a_capture(
    content: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, content)
    code, out, err = call(capsys, "flows", "-")
    assert (code, out) == (2, "")
    assert err == ("tpe-pcap: -: is a text file, not a capture at byte 0\n" if content else "tpe-pcap: -: is empty\n")


def test_closed_standard_input() -> None:
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" -m analyzer audit - <&-'], capture_output=True)
    assert (done.returncode, done.stderr) == (2, b"tpe-pcap: -: standard input is closed\n")


def test_standard_input_twice_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("audit", "flows"):
        result = call(capsys, command, "-", clean_capture(tmp_path), "-")
        assert result == (2, "", "tpe-pcap: -: standard input can be read only once\n")


def test_named_pipe_is_read_like_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, pipe = failing_capture(tmp_path), tmp_path / "pipe"
    os.mkfifo(pipe)
    content = path.read_bytes()
    _, flows, _ = call(capsys, "flows", path)
    for written, expected in ((content, flows), (gzip.compress(content), flows), (b"", None), (b"text\n", None)):
        writer = threading.Thread(target=pipe.write_bytes, args=(written,))
        writer.start()
        code, out, err = call(capsys, "flows", pipe)
        writer.join()
        assert (code, out, err.count("\n")) == ((2, "", 1) if expected is None else (0, expected, 0))


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump is not installed")
@pytest.mark.parametrize("packer", ["cat", "gzip", "bzip2", "xz", "zstd", "lz4"])
def test_tcpdump_through_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str], packer: str) -> None:
    if not shutil.which(packer):
        pytest.skip(f"{packer} is not installed")
    path = failing_capture(tmp_path)
    shell = f'tcpdump -r "{path}" -w - 2>/dev/null | {packer} | "{sys.executable}" -m analyzer flows -'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == call(capsys, "flows", path)


# -- signals ----------------------------------------------------------------------------------------------------


def test_interrupt_ends_the_command_quietly(tmp_path: Path) -> None:
    path = tmp_path / "endless"
    os.mkfifo(path)
    with subprocess.Popen([*COMMAND, "audit", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        file = path.open("wb")  # returns when the command opens the pipe
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        file.close()
    assert child.returncode == -signal.SIGINT
    assert (out, err) == (b"", b"")


INTERRUPT_DURING_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *rest):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from analyzer.cli import run
run()
"""


def test_interrupt_during_start_up_ends_the_command_quietly(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPT_DURING_IMPORT, "audit", failing_capture(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
