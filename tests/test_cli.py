"""The command: arguments, streams and exit codes."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from analyzer import checks, cli, pipeline
from analyzer.capture import source
from analyzer.reports import FORMATS
from analyzer.reports.json import schema
from tests import build, samples
from tests.synthetic import HTTP, NTP, OTHER, STATION, TLS, TPE, Traffic

COMMAND = [sys.executable, "-m", "analyzer"]
HTTP_ON_3001 = samples.capture("tls-http-on-3001")


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, without a terminal."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, check=False, **options)  # type: ignore


def good(folder: Path) -> Path:
    """A capture in which nothing is wrong."""
    return Traffic().tcp(STATION, 40000, TPE, 3001, TLS).echo(STATION, TPE).save(folder / "good.pcap")


def bad(folder: Path) -> Path:
    """A capture with a finding of medium severity, and none above."""
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP)
    return traffic.save(folder / "bad.pcap")


def called(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of a call in this process."""
    code = cli.main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return code, out, err


# -- exit codes -------------------------------------------------------------------------------------------------


def test_nothing_found(tmp_path: Path) -> None:
    done = run("audit", good(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"mode tls" in done.stdout


@pytest.mark.parametrize(("threshold", "code"), [("info", 1), ("low", 1), ("medium", 1), ("high", 0), (None, 1)])
def test_something_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: str | None, code: int) -> None:
    options = ["--fail-on", threshold] if threshold else []
    assert called(capsys, "audit", bad(tmp_path), *options)[0] == code


@pytest.mark.parametrize("content", ["nobody", "nothing"])
def test_no_base_station(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    traffic = Traffic().exchange("10.7.7.7", 123, OTHER, 123, NTP) if content == "nobody" else Traffic()
    code, out, err = called(capsys, "audit", traffic.save(tmp_path / "a.pcap"), "--fail-on", "high")
    assert (code, err) == (1, "")
    expected = "No base station could be recognised." if content == "nobody" else "There is no packet in the capture"
    assert expected in out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["audit"],
        ["inspect", "a.pcap"],
        ["audit", "a.pcap", "--colour"],
        ["audit", "a.pcap", "--deployment", "cluster"],
        ["audit", "a.pcap", "--fail-on", "never"],
        ["flows", "a.pcap", "--format", "xml"],
        ["flows", "a.pcap", "--format", "sarif"],
        ["diff", "old.json"],
        ["explain", "TPE101", "TPE102"],
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = called(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "usage: tpe-pcap" in err and "error:" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mode", "wireless"], "no mode 'wireless'"),
        (["--base-station", "bs1"], "'bs1' is no address"),
        (["--tpe", "10.0.0.0/40"], "'10.0.0.0/40' is no address"),
        (["--profile", "saas"], "profile 'saas'"),
        (["--lrr-version", "new"], "new"),
        (["--output", "no/such/folder/report"], "no/such/folder"),
    ],
)
def test_a_value_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    code, out, err = called(capsys, "audit", good(tmp_path), *options)
    assert (code, out) == (2, "")
    assert err.startswith("tpe-pcap: ") and err.count("\n") == 1
    assert words in err


NO_CAPTURES = {
    "absent": (None, "no such file or directory"),
    "folder": (None, "is a directory"),
    "empty": (b"", "is empty"),
    "three bytes": (b"\xd4\xc3\xb2", "is not a capture (pcap, pcapng or snoop): begins with d4 c3 b2 at byte 0"),
    "text": (b"From: me\nTo: you\n\nThis is a letter.\n", "is a text file, not a capture at byte 0"),
    "half a header": (b"\xd4\xc3\xb2\xa1\2\0\4\0", "ends within the pcap file header (8 of 24 bytes) at byte 8"),
    "zip": (b"PK\3\4" + bytes(30), "is compressed with zip, which is not supported: unpack it first"),
}


@pytest.mark.parametrize("command", ["audit", "flows", "crosscheck"])
@pytest.mark.parametrize("kind", NO_CAPTURES)
@pytest.mark.parametrize("alone", [True, False])
def test_a_file_that_is_no_capture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str, alone: bool
) -> None:
    content, reason = NO_CAPTURES[kind]
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, out, err = called(capsys, command, path, *([] if alone else [good(tmp_path)]))
    assert (code, out, err) == (2, "", f"tpe-pcap: {path}: {reason}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_must_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = good(tmp_path)
    path.chmod(0)
    assert called(capsys, "audit", path) == (2, "", f"tpe-pcap: {path}: permission denied\n")


def test_a_disk_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(source.Source, "read_file", failing)
    path = good(tmp_path)
    assert called(capsys, "audit", path) == (2, "", f"tpe-pcap: {path}: input/output error\n")


def test_a_header_without_packets_is_a_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "header"
    for content in (build.pcap([]), build.section() + build.interface(), build.snoop([])):
        path.write_bytes(content)
        code, out, err = called(capsys, "audit", path)
        assert (code, err) == (1, "")
        assert "There is no packet in the capture" in out


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    path, pipe = bad(tmp_path), tmp_path / "pipe"
    os.mkfifo(pipe)
    for content, code in ((path.read_bytes(), 1), (gzip.compress(path.read_bytes()), 1), (b"", 2), (b"text\n", 2)):
        with subprocess.Popen([*COMMAND, "flows", pipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            pipe.write_bytes(content)
            out, err = child.communicate(timeout=60)
        assert child.returncode == (0 if code == 1 else 2)
        assert out == (run("flows", path).stdout if code == 1 else b"")
        assert err.count(b"\n") == (0 if code == 1 else 1)


def test_standard_input_can_be_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("audit", "flows"):
        said = called(capsys, command, "-", good(tmp_path), "-")
        assert said == (2, "", "tpe-pcap: -: standard input can be read only once\n")


def test_standard_input_that_is_no_capture() -> None:
    done = run("audit", "-", input=b"")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"tpe-pcap: -: is empty\n")
    closed = subprocess.run(["bash", "-c", f'"{sys.executable}" -m analyzer audit - <&-'], capture_output=True)
    assert (closed.returncode, closed.stderr) == (2, b"tpe-pcap: -: standard input is closed\n")


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump is not installed")
@pytest.mark.parametrize("packer", ["cat", "gzip", "bzip2", "xz", "zstd", "lz4"])
def test_tcpdump_through_a_pipe(tmp_path: Path, packer: str) -> None:
    if not shutil.which(packer):
        pytest.skip(f"{packer} is not installed")
    path = bad(tmp_path)
    pipeline = f'tcpdump -r "{path}" -w - 2>/dev/null | {packer} | "{sys.executable}" -m analyzer flows -'
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == run("flows", path).stdout


def test_a_capture_cut_in_the_middle_of_a_packet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = (
        Traffic()
        .tcp(STATION, 40000, TPE, 3001, TLS)
        .exchange(STATION, 123, OTHER, 123, NTP)
        .save(tmp_path / "cut.pcap")
    )
    path.write_bytes(path.read_bytes()[:-150])
    code, out, err = called(capsys, "audit", path)
    assert (code, err) == (0, "")
    assert "TPE001" in out and "! ends within a record" in out


def test_a_defect_is_confessed_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the\nworst")

    monkeypatch.setattr(pipeline, "audit", broken)
    monkeypatch.delenv("TPE_PCAP_TRACEBACK", raising=False)
    code, out, err = called(capsys, "audit", good(tmp_path))
    assert (code, out) == (3, "")
    first, _, rest = err.partition("\n")
    assert first.startswith("tpe-pcap: defect of this program at test_cli.py:")
    assert first.endswith("RuntimeError: the worst")
    assert "Traceback" not in rest

    monkeypatch.setenv("TPE_PCAP_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        cli.main(["audit", str(good(tmp_path))])


@pytest.mark.parametrize("error", [ValueError("oops"), KeyError("oops"), RecursionError()])
def test_a_defect_is_never_blamed_on_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever a check or a report raises: it is not the arguments that are wrong."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "identify_hosts", broken)
    code, out, err = called(capsys, "audit", good(tmp_path))
    assert (code, out) == (3, "")
    assert "defect of this program" in err


def test_a_defect_of_a_dissector_is_one_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from analyzer.protocols import tls

    def broken(*_: object) -> None:
        raise ZeroDivisionError("tls")

    monkeypatch.setattr(tls, "dissect", broken)
    code, out, _ = called(capsys, "audit", good(tmp_path))
    assert code == 3
    assert "TPE900" in out


# -- streams ----------------------------------------------------------------------------------------------------


def test_the_report_is_the_only_thing_on_standard_output(tmp_path: Path) -> None:
    done = run("audit", bad(tmp_path), "--format", "json")
    assert (done.returncode, done.stderr) == (1, b"")
    json.loads(done.stdout)


def test_a_pipe_gets_no_colour() -> None:
    for command in ("audit", "flows"):
        done = run(command, HTTP_ON_3001, env={**os.environ, "FORCE_COLOR": "1"})
        assert b"\x1b" not in done.stdout
        assert done.stderr == b""


class Terminal(io.StringIO):
    """Standard error as a terminal is."""

    def isatty(self) -> bool:
        return True


AUDITING = ["reading", "dissecting", "matching", "judging", "writing"]
"""The stages of an audit."""


def test_a_terminal_shows_how_far_each_slow_stage_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "SLOW", {"bytes": 1, "flows": 1, "base stations": 1})
    for command, stages in (("audit", AUDITING[:-1]), ("flows", AUDITING[:2])):
        monkeypatch.setattr(sys, "stderr", shown := Terminal())
        cli.main([command, str(HTTP_ON_3001)])
        assert list(dict.fromkeys(re.findall(r"([a-z]+):", shown.getvalue()))) == stages
        assert "104k" in shown.getvalue() or "0.00/" in shown.getvalue()
        assert shown.getvalue().endswith("\r")
        assert "\n" not in shown.getvalue()


def test_a_terminal_sees_nothing_of_quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    cli.main(["audit", str(HTTP_ON_3001)])
    assert shown.getvalue() == ""


def test_a_pipe_gets_no_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "SLOW", {"bytes": 1, "flows": 1, "base stations": 1})
    assert called(capsys, "audit", HTTP_ON_3001)[2] == ""


def test_progress_counts_to_the_end_of_each_stage() -> None:
    stages: list[tuple[str, int]] = []
    done: list[int] = []

    def watch(does: str, total: int, unit: str) -> Callable[[int], None]:
        stages.append((does, total))
        done.append(0)

        def told(count: int) -> None:
            done[-1] += count

        return told

    result = pipeline.audit(HTTP_ON_3001, progress=watch)
    assert stages == [
        ("reading", HTTP_ON_3001.stat().st_size), ("dissecting", result.totals.flows), ("matching", 1), ("judging", 1),
    ]  # fmt: skip
    assert done == [total for _, total in stages]


def test_verbose_tells_what_each_stage_took(capsys: pytest.CaptureFixture[str]) -> None:
    _, report, _ = called(capsys, "audit", HTTP_ON_3001)
    code, out, err = called(capsys, "audit", HTTP_ON_3001, "--verbose")
    assert (code, out) == (1, report)
    lines = [re.fullmatch(r"tpe-pcap: (\w+) (?:[\d,]+ )?[a-z ]+: \d+\.\d\d s", line) for line in err.splitlines()]
    assert [line and line[1] for line in lines] == AUDITING
    assert f"reading {HTTP_ON_3001.stat().st_size:,} bytes" in err and "dissecting 7 flows" in err


def test_quiet_leaves_the_verdict_to_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, code in ((HTTP_ON_3001, 1), (good(tmp_path), 0)):
        done = run("audit", "--quiet", path)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
    monkeypatch.setattr(cli, "SLOW", {"bytes": 1})
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    assert cli.main(["audit", "-q", str(HTTP_ON_3001)]) == 1
    assert shown.getvalue() == ""


def test_quiet_still_tells_errors_and_writes_what_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    options = ["--format", "json", "--output", report]
    assert called(capsys, "audit", "-q", HTTP_ON_3001, *options) == (1, "", "")
    assert json.loads(report.read_bytes())["findings"]
    code, out, err = called(capsys, "audit", "-q", tmp_path / "none.pcap")
    assert (code, out) == (2, "")
    assert "no such file" in err
    assert called(capsys, "audit", "-q", "-v", HTTP_ON_3001)[0] == 2


def test_a_terminal_gets_colour_unless_it_is_unwanted(tmp_path: Path) -> None:
    import pty

    for unwanted in (False, True):
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        if unwanted:
            environment["NO_COLOR"] = "1"
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, "audit", HTTP_ON_3001], stdout=theirs, stderr=theirs, env=environment
        ) as child:
            os.close(theirs)
            shown = b""
            try:
                while part := os.read(ours, 65536):
                    shown += part
            except OSError:
                pass
        os.close(ours)
        assert child.returncode == 1
        assert (b"\x1b[" in shown) is not unwanted


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for arguments in (["audit", HTTP_ON_3001], ["audit", HTTP_ON_3001, "--format", "json"]):
        runs = [run(*arguments, env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}).stdout
                for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))]  # fmt: skip
        assert runs[0] == runs[1] != b""


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    traffic = Traffic()
    for port in range(3000):
        traffic.tcp(STATION, 40000, OTHER, 5000 + port, HTTP)
    path = traffic.save(tmp_path / "long.pcap")
    shell = f'"{sys.executable}" -m analyzer flows "{path}" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False)
    assert done.stdout.count(b"\n") == 1
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_ends_it_without_noise(tmp_path: Path) -> None:
    path = tmp_path / "endless"
    os.mkfifo(path)
    with subprocess.Popen([*COMMAND, "audit", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        file = path.open("wb")  # opens once the command reads
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        file.close()
    assert child.returncode == -signal.SIGINT
    assert (out, err) == (b"", b"")


INTERRUPTED = """
import os, signal, sys
class Impatient:
    def find_spec(self, name, *rest):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Impatient())
from analyzer.cli import run
run()
"""


def test_an_interrupt_while_it_starts_makes_no_noise_either(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, "audit", bad(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_standard_input(tmp_path: Path) -> None:
    path = bad(tmp_path)
    done = run("audit", "-", "--format", "json", input=path.read_bytes())
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["captures"][0]["path"] == "-"
    assert told["flows"] == json.loads(run("audit", path, "--format", "json").stdout)["flows"]
    assert run("flows", "-", input=b"no capture").returncode == 2


def test_control_characters_in_a_file_name_are_harmless(tmp_path: Path) -> None:
    path = good(tmp_path).rename(tmp_path / "a\x1b[2J\nb\x9b.pcap")
    for arguments in (["audit", path], ["flows", path, "--format", "json"], ["audit", tmp_path / "no\x1b[2J\n"]):
        done = run(*arguments)
        shown = (done.stdout + done.stderr).decode()
        assert not [each for each in shown if not each.isprintable() and each != "\n"]
        assert done.stderr.count(b"\n") <= 1


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.pcap"
    os.rename(good(tmp_path), path)  # noqa: PTH104 (bytes)
    for arguments in ([b"audit"], [b"audit", b"--format", b"json"], [b"flows"]):
        done = subprocess.run([*COMMAND, *arguments, path], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        done.stdout.decode()


# -- reports ----------------------------------------------------------------------------------------------------


def test_json_keeps_to_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (good(tmp_path), bad(tmp_path), Traffic().save(tmp_path / "none.pcap")):
        _, out, _ = called(capsys, "audit", path, "--format", "json")
        jsonschema.validate(json.loads(out), schema())
        _, out, _ = called(capsys, "flows", path, "--format", "json")
        flows = {"$ref": "#/$defs/flows_report", "$defs": schema()["$defs"]}
        jsonschema.validate(json.loads(out), flows)


def test_a_report_is_written_wholly_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    code, out, err = called(capsys, "audit", bad(tmp_path), "--format", "json", "--output", target)
    assert (code, out, err) == (1, "", "")
    whole = target.read_bytes()
    assert json.loads(whole)["findings"]
    mask = cli.umask()
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(os, "fchmod", full)
    code, out, err = called(capsys, "audit", good(tmp_path), "--output", target)
    assert (code, out) == (2, "")
    assert err == f"tpe-pcap: {target}: no space left on device\n"
    assert target.read_bytes() == whole
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad.pcap", "good.pcap", "report.json"]


def test_a_capture_that_cannot_be_read_leaves_the_old_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.txt"
    target.write_text("old")
    assert called(capsys, "audit", tmp_path / "none.pcap", "--output", target)[0] == 2
    assert target.read_text() == "old"


@pytest.mark.parametrize("command", ["audit", "flows", "crosscheck"])
def test_a_report_never_takes_the_place_of_a_capture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = good(tmp_path)
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    for target in (path, tmp_path / "link"):
        code, out, err = called(capsys, command, path, "--output", target)
        assert (code, out) == (2, "") and "is a capture to be read" in err
    assert path.read_bytes() == before


@pytest.mark.parametrize("there", [True, False], ids=["whose target is there", "that leads nowhere"])
def test_a_symbolic_link_is_replaced_and_never_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "report"
    if there:
        elsewhere.write_text("precious")
    target.symlink_to(elsewhere)
    assert called(capsys, "audit", good(tmp_path), "--output", target) == (0, "", "")
    assert not target.is_symlink() and target.read_text().startswith("tpe-pcap audit")
    assert elsewhere.read_text() == "precious" if there else not elsewhere.exists()


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    done = run("audit", good(tmp_path), "--output", "/dev/stdout")
    assert done.stdout == run("audit", good(tmp_path)).stdout
    assert run("audit", good(tmp_path), "--output", "/dev/null").returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_flows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "flows", good(tmp_path))
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    assert "10.0.0.2:40000" in out and "tls" in out
    _, out, _ = called(capsys, "flows", good(tmp_path), "--format", "json")
    assert [each["protocol"] for each in json.loads(out)["flows"]] == ["tls", "icmp"]


def test_options_reach_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--mode", "ipsec", "--deployment", "ha", "--base-station", "10.0.0.0/29", "--base-station", "10.1.1.1"]
    options += ["--tpe", "10.0.9.0/24", "--lrr-version", "2.7", "--format", "json"]
    code, out, _ = called(capsys, "audit", good(tmp_path), good(tmp_path), *options)
    told = json.loads(out)
    assert code in (0, 1)
    assert (told["deployment"], len(told["captures"])) == ("ha", 2)
    (station,) = told["base_stations"]
    assert (station["mode"], station["named"], station["tpe"]) == ("ipsec", True, [TPE])


# -- the other commands -----------------------------------------------------------------------------------------


def test_help_is_short_and_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "--help")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 30
    assert max(map(len, out.splitlines())) <= 100
    assert "examples:" in out and "tpe-pcap audit capture.pcap" in out
    for command in cli.commands_of(cli.parser()):
        assert command in out


@pytest.mark.parametrize("command", cli.commands_of(cli.parser()))
def test_the_help_of_a_command_tells_exit_codes_and_examples_that_can_be_typed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    codes = re.findall(r"^  (\d)  \S", out, re.MULTILINE)
    assert codes and {int(code) for code in codes} <= {cli.CLEAN, cli.FOUND, cli.USAGE, cli.DEFECT}
    examples = re.findall(r"tpe-pcap (\S[^|>&#(\n]*)", out.partition("\nexamples:\n")[2])
    assert examples
    for example in examples:
        options = cli.parser().parse_args(shlex.split(example))
        assert options.run.__name__.startswith("run_")
    assert any(example.startswith(command) for example in examples)


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion_is_a_script_of_its_shell(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, script, err = called(capsys, "completion", shell)
    assert (code, err) == (0, "")
    for word in ("audit", "--base-station", "--fail-on", "standalone", "json", "wrong-protocol", "basics"):
        assert word.lstrip("-") in script, word
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(script)
    done = subprocess.run([shell, "-n", path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


COMPLETED = [
    ("tpe-pcap expl", ["explain"]),
    ("tpe-pcap audit --mode t", ["tls"]),
    ("tpe-pcap explain wrong-p", ["wrong-protocol"]),
    ("tpe-pcap rules ba", ["basics"]),
    ("tpe-pcap audit here-is-a", ["here-is-a.pcap"]),
]


@pytest.mark.parametrize(("typed", "completed"), COMPLETED)
def test_bash_completes(typed: str, completed: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    (tmp_path / "here-is-a.pcap").touch()
    (tmp_path / "script").write_text(called(capsys, "completion", "bash")[1])
    words = typed.split(" ")
    code = (
        "source ./script; name=$(complete -p tpe-pcap | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n"
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{typed}'; COMP_POINT={len(typed)}\n"
        f"$name tpe-pcap {words[-1]} {words[-2]}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run([bash, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed


@pytest.mark.parametrize(("typed", "completed"), COMPLETED)
def test_fish_completes(typed: str, completed: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed")
    (tmp_path / "here-is-a.pcap").touch()
    (tmp_path / "script").write_text(called(capsys, "completion", "fish")[1])
    code = f"source ./script; complete -C '{typed}'"
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([fish, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == completed


def test_help_is_fast() -> None:
    def once() -> float:
        began = time.perf_counter()
        assert run("--help").returncode == 0
        return time.perf_counter() - began

    assert min(once() for _ in range(3)) < 0.5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from analyzer import __version__

    assert called(capsys, "--version") == (0, f"tpe-pcap {__version__}\n", "")


def test_rules(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "rules")
    assert (code, err) == (0, "")
    assert "i43" in out and "i38" in out
    code, out, _ = called(capsys, "rules", "basics")
    assert code == 0
    assert "i43" in out and "i38" not in out
    tables = json.loads(called(capsys, "rules", "--format", "json")[1])["tables"]
    assert [each["mode"] for each in tables] == ["ipsec", "tls", "plain", "basics"]
    code, out, err = called(capsys, "rules", "wireless")
    assert (code, out) == (2, "")
    assert "it has ipsec, tls, plain, basics" in err


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "explain")
    assert (code, err) == (0, "")
    assert all(check.id in out for check in checks.CHECKS)
    code, out, _ = called(capsys, "explain", "TPE101")
    assert code == 0
    assert all(heading in out for heading in ("Flags", "Why", "Evidence", "Remedy"))
    assert called(capsys, "explain", "unexpected-outbound")[1] == out
    code, out, err = called(capsys, "explain", "TPE999")
    assert (code, out) == (2, "")
    assert err == "tpe-pcap: there is no check 'TPE999': 'tpe-pcap explain' lists all\n"


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("tpe-pcap")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run([script, "audit", good(tmp_path)], cwd=tmp_path, capture_output=True, check=False)
    assert done.stdout == run("audit", good(tmp_path)).stdout


def test_a_format_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "audit", good(tmp_path), "--format", "xml")
    assert (code, out) == (2, "")
    assert err == f"tpe-pcap: there is no format 'xml': there are {', '.join(each.name for each in FORMATS)}\n"


def test_every_format_is_written_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = bad(tmp_path), tmp_path / "report"
    for each in FORMATS:
        for command, expected in (("audit", 1), *((("flows", 0),) if each.lists_flows else ())):
            assert called(capsys, command, path, "--format", each.name, "--output", target) == (expected, "", "")
            piped = run(command, path, "--format", each.name)
            assert (piped.returncode, piped.stderr) == (expected, b"")
            assert target.read_bytes() == piped.stdout != b""


def test_a_terminal_gets_no_binary_report(tmp_path: Path) -> None:
    import pty

    for command in ("audit", "flows"):
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [*COMMAND, command, bad(tmp_path), "--format", "parquet"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(theirs)
        os.close(ours)
        assert done.returncode == 2
        assert done.stderr == (
            b"tpe-pcap: parquet is binary, and standard output is a terminal: name a file with --output\n"
        )


def test_a_format_loads_when_it_is_asked_for(tmp_path: Path) -> None:
    """The program starts no slower for formats that nobody wants."""
    code = f"import sys; from analyzer import cli; cli.main(['audit', {str(good(tmp_path))!r}]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    unwanted = {f"analyzer.reports.{each.name}" for each in FORMATS} - {"analyzer.reports.text"}
    assert "analyzer.reports.text" in loaded
    assert not loaded & {*unwanted, "pandas", "pyarrow", "analyzer.export.evidence", "analyzer.export.diff"}
