"""The command line: exit codes, options and reports. Streams and signals: ``test_cli_streams.py``."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from analyzer import __version__, checks, cli, pipeline
from analyzer.capture import source
from analyzer.protocols import icmp
from analyzer.reports import FORMATS, Format
from analyzer.reports.json import schema
from tests import build
from tests.synthetic import HTTP, NTP, OTHER, STATION, TLS, TPE, Traffic

COMMAND = [sys.executable, "-m", "analyzer"]


def clean_capture(folder: Path) -> Path:
    """A capture without findings."""
    return Traffic().tcp(STATION, 40000, TPE, 3001, TLS).echo(STATION, TPE).save(folder / "clean.pcap")


def failing_capture(folder: Path) -> Path:
    """A capture whose most severe finding is medium."""
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP)
    return traffic.save(folder / "failing.pcap")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command, run in this process."""
    code = cli.main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


# -- exit codes -------------------------------------------------------------------------------------------------


def test_no_findings_exit_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "audit", clean_capture(tmp_path))
    assert (code, err) == (0, "")
    assert "mode tls" in out


@pytest.mark.parametrize(("threshold", "code"), [("info", 1), ("low", 1), ("medium", 1), ("high", 0), (None, 1)])
def test_findings_from_the_threshold_on_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: str | None, code: int
) -> None:
    options = ["--fail-on", threshold] if threshold else []
    assert call(capsys, "audit", failing_capture(tmp_path), *options)[0] == code


@pytest.mark.parametrize(
    ("traffic", "sentence"),
    [
        (Traffic().exchange("10.7.7.7", 123, OTHER, 123, NTP), "No base station could be recognised."),
        (Traffic(), "There is no packet in the capture"),
    ],
    ids=["no base station", "no packet"],
)
def test_nothing_to_judge_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], traffic: Traffic, sentence: str
) -> None:
    code, out, err = call(capsys, "audit", traffic.save(tmp_path / "a.pcap"), "--fail-on", "high")
    assert (code, err) == (1, "")
    assert sentence in out


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
def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = call(capsys, *arguments)
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
def test_invalid_value_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    code, out, err = call(capsys, "audit", clean_capture(tmp_path), *options)
    assert (code, out) == (2, "")
    assert err.startswith("tpe-pcap: ") and err.count("\n") == 1
    assert words in err


def test_unknown_format_lists_the_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "audit", clean_capture(tmp_path), "--format", "xml")
    assert (code, out) == (2, "")
    assert err == f"tpe-pcap: there is no format 'xml': there are {', '.join(format_.name for format_ in FORMATS)}\n"


# -- files that are not captures --------------------------------------------------------------------------------

NOT_CAPTURES = {
    "absent": (None, "no such file or directory"),
    "folder": (None, "is a directory"),
    "empty": (b"", "is empty"),
    "three bytes": (b"\xd4\xc3\xb2", "is not a capture (pcap, pcapng or snoop): begins with d4 c3 b2 at byte 0"),
    "text": (b"From: me\nTo: you\n\nThis is a letter.\n", "is a text file, not a capture at byte 0"),
    "half a header": (b"\xd4\xc3\xb2\xa1\2\0\4\0", "ends within the pcap file header (8 of 24 bytes) at byte 8"),
    "zip": (b"PK\3\4" + bytes(30), "is compressed with zip, which is not supported: unpack it first"),
}


@pytest.mark.parametrize("command", ["audit", "flows", "crosscheck"])
@pytest.mark.parametrize("kind", NOT_CAPTURES)
@pytest.mark.parametrize("alone", [True, False])
def test_file_that_is_not_a_capture_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str, alone: bool
) -> None:
    content, reason = NOT_CAPTURES[kind]
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    others = [] if alone else [clean_capture(tmp_path)]
    assert call(capsys, command, path, *others) == (2, "", f"tpe-pcap: {path}: {reason}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = clean_capture(tmp_path)
    path.chmod(0)
    assert call(capsys, "audit", path) == (2, "", f"tpe-pcap: {path}: permission denied\n")


def test_read_error_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(source.Source, "read_file", fail)
    path = clean_capture(tmp_path)
    assert call(capsys, "audit", path) == (2, "", f"tpe-pcap: {path}: input/output error\n")


def test_header_without_packets_is_a_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "header"
    for content in (build.pcap([]), build.section() + build.interface(), build.snoop([])):
        path.write_bytes(content)
        code, out, err = call(capsys, "audit", path)
        assert (code, err) == (1, "")
        assert "There is no packet in the capture" in out


def test_truncated_capture_is_audited_with_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).exchange(STATION, 123, OTHER, 123, NTP)
    path = traffic.save(tmp_path / "truncated.pcap")
    path.write_bytes(path.read_bytes()[:-150])
    code, out, err = call(capsys, "audit", path)
    assert (code, err) == (0, "")
    assert "TPE001" in out and "! ends within a record" in out


def test_control_characters_in_file_names_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = clean_capture(tmp_path).rename(tmp_path / "a\x1b[2J\nb\x9b.pcap")
    for arguments in (["audit", path], ["flows", path, "--format", "json"], ["audit", tmp_path / "no\x1b[2J\n"]):
        _, out, err = call(capsys, *arguments)
        assert out + err
        assert all(character == "\n" or character.isprintable() for character in out + err)
        assert err.count("\n") <= 1


def test_file_name_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.pcap"
    os.rename(clean_capture(tmp_path), path)  # noqa: PTH104 (bytes)
    for arguments in (["audit", "--format", "json"], ["flows"]):
        code, out, err = call(capsys, *arguments, os.fsdecode(path))
        assert (code, err) == (0, "") and out
    done = subprocess.run([*COMMAND, b"audit", path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "caf\\udce9.pcap" in done.stdout.decode()


# -- defects ----------------------------------------------------------------------------------------------------


def test_defect_is_reported_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the\nworst")

    monkeypatch.setattr(pipeline, "audit", fail)
    monkeypatch.delenv("TPE_PCAP_TRACEBACK", raising=False)
    code, out, err = call(capsys, "audit", clean_capture(tmp_path))
    assert (code, out) == (3, "")
    first, _, rest = err.partition("\n")
    assert first.startswith("tpe-pcap: defect of this program at test_cli.py:")
    assert first.endswith("RuntimeError: the worst")
    assert "Traceback" not in rest

    monkeypatch.setenv("TPE_PCAP_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        cli.main(["audit", str(clean_capture(tmp_path))])


@pytest.mark.parametrize("error", [ValueError("oops"), KeyError("oops"), RecursionError()])
def test_error_of_a_stage_is_a_defect_not_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "identify_hosts", fail)
    code, out, err = call(capsys, "audit", clean_capture(tmp_path))
    assert (code, out) == (3, "")
    assert "defect of this program" in err


def test_error_of_a_dissector_exits_3_with_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("icmp")

    monkeypatch.setattr(icmp, "dissect", fail)
    code, out, _ = call(capsys, "audit", clean_capture(tmp_path))
    assert code == 3
    assert "TPE900" in out


# -- reports ----------------------------------------------------------------------------------------------------


def test_json_conforms_to_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (clean_capture(tmp_path), failing_capture(tmp_path), Traffic().save(tmp_path / "empty.pcap")):
        _, out, _ = call(capsys, "audit", path, "--format", "json")
        jsonschema.validate(json.loads(out), schema())
        _, out, _ = call(capsys, "flows", path, "--format", "json")
        jsonschema.validate(json.loads(out), {"$ref": "#/$defs/flows_report", "$defs": schema()["$defs"]})


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_format_is_the_same_in_a_file_and_on_standard_output(
    format_: Format, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path, target = failing_capture(tmp_path), tmp_path / "report"
    for command, code in (("audit", 1), *((("flows", 0),) if format_.lists_flows else ())):
        arguments = [command, str(path), "--format", format_.name]
        assert cli.main([*arguments, "--output", str(target)]) == code
        assert capsysbinary.readouterr() == (b"", b"")
        assert cli.main(arguments) == code
        assert capsysbinary.readouterr() == (target.read_bytes(), b"")
        assert target.read_bytes()


def test_report_file_is_written_atomically(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    assert call(capsys, "audit", failing_capture(tmp_path), "--format", "json", "--output", target) == (1, "", "")
    report = target.read_bytes()
    assert json.loads(report)["findings"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~cli.umask()

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(os, "fchmod", disk_full)
    code, out, err = call(capsys, "audit", clean_capture(tmp_path), "--output", target)
    assert (code, out) == (2, "")
    assert err == f"tpe-pcap: {target}: no space left on device\n"
    assert target.read_bytes() == report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.pcap", "failing.pcap", "report.json"]


def test_old_report_survives_an_unreadable_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.txt"
    target.write_text("old")
    assert call(capsys, "audit", tmp_path / "none.pcap", "--output", target)[0] == 2
    assert target.read_text() == "old"


@pytest.mark.parametrize("command", ["audit", "flows", "crosscheck"])
def test_report_never_overwrites_a_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    path = clean_capture(tmp_path)
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    for target in (path, tmp_path / "link"):
        code, out, err = call(capsys, command, path, "--output", target)
        assert (code, out) == (2, "") and "is a capture to be read" in err
    assert path.read_bytes() == before


@pytest.mark.parametrize("exists", [True, False], ids=["existing target", "dangling"])
def test_report_replaces_a_symbolic_link_without_following_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exists: bool
) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "report"
    if exists:
        elsewhere.write_text("precious")
    target.symlink_to(elsewhere)
    assert call(capsys, "audit", clean_capture(tmp_path), "--output", target) == (0, "", "")
    assert not target.is_symlink() and target.read_text().startswith("tpe-pcap audit")
    assert elsewhere.read_text() == "precious" if exists else not elsewhere.exists()


def test_flows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "flows", clean_capture(tmp_path))
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    assert "10.0.0.2:40000" in out and "tls" in out
    _, out, _ = call(capsys, "flows", clean_capture(tmp_path), "--format", "json")
    assert [flow["protocol"] for flow in json.loads(out)["flows"]] == ["tls", "icmp"]


def test_options_reach_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--mode", "ipsec", "--deployment", "ha", "--base-station", "10.0.0.0/29", "--base-station", "10.1.1.1"]
    options += ["--tpe", "10.0.9.0/24", "--lrr-version", "2.7", "--format", "json"]
    code, out, _ = call(capsys, "audit", clean_capture(tmp_path), clean_capture(tmp_path), *options)
    report = json.loads(out)
    assert code in (0, 1)
    assert (report["deployment"], len(report["captures"])) == ("ha", 2)
    (station,) = report["base_stations"]
    assert (station["mode"], station["named"], station["tpe"]) == ("ipsec", True, [TPE])


def test_formats_are_imported_when_used(tmp_path: Path) -> None:
    arguments = ["audit", str(clean_capture(tmp_path))]
    code = f"import sys; from analyzer import cli; cli.main({arguments!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    unused = {f"analyzer.reports.{format_.name}" for format_ in FORMATS} - {"analyzer.reports.text"}
    assert "analyzer.reports.text" in loaded
    assert not loaded & {*unused, "pandas", "pyarrow", "dpkt", "analyzer.export.evidence", "analyzer.export.diff"}


# -- help, completion and the other commands --------------------------------------------------------------------


def test_help_is_short_and_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "--help")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 30
    assert max(map(len, out.splitlines())) <= 100
    assert "examples:" in out and "tpe-pcap audit capture.pcap" in out
    for command in cli.commands_of(cli.parser()):
        assert command in out


@pytest.mark.parametrize("command", cli.commands_of(cli.parser()))
def test_help_of_a_command_has_exit_codes_and_valid_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, command, "--help")
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


def test_help_takes_less_than_half_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"tpe-pcap {__version__}\n", "")


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion_is_valid_in_its_shell(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, script, err = call(capsys, "completion", shell)
    assert (code, err) == (0, "")
    for word in ("audit", "--base-station", "--fail-on", "standalone", "json", "wrong-protocol", "basics"):
        assert word.lstrip("-") in script, word
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(script)
    done = subprocess.run([shell, "-n", path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


COMPLETIONS = [
    ("tpe-pcap expl", ["explain"]),
    ("tpe-pcap audit --mode t", ["tls"]),
    ("tpe-pcap explain wrong-p", ["wrong-protocol"]),
    ("tpe-pcap rules ba", ["basics"]),
    ("tpe-pcap audit here-is-a", ["here-is-a.pcap"]),
]


@pytest.mark.parametrize(("typed", "completed"), COMPLETIONS)
def test_completion_in_bash(
    typed: str, completed: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    (tmp_path / "here-is-a.pcap").touch()
    (tmp_path / "script").write_text(call(capsys, "completion", "bash")[1])
    words = typed.split(" ")
    code = (
        "source ./script; name=$(complete -p tpe-pcap | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n"
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{typed}'; COMP_POINT={len(typed)}\n"
        f"$name tpe-pcap {words[-1]} {words[-2]}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run([bash, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed


@pytest.mark.parametrize(("typed", "completed"), COMPLETIONS)
def test_completion_in_fish(
    typed: str, completed: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed")
    (tmp_path / "here-is-a.pcap").touch()
    (tmp_path / "script").write_text(call(capsys, "completion", "fish")[1])
    code = f"source ./script; complete -C '{typed}'"
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([fish, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == completed


def test_rules(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "rules")
    assert (code, err) == (0, "")
    assert "i43" in out and "i38" in out
    code, out, _ = call(capsys, "rules", "basics")
    assert code == 0
    assert "i43" in out and "i38" not in out
    tables = json.loads(call(capsys, "rules", "--format", "json")[1])["tables"]
    assert [table["mode"] for table in tables] == ["ipsec", "tls", "plain", "basics"]
    code, out, err = call(capsys, "rules", "wireless")
    assert (code, out) == (2, "")
    assert "it has ipsec, tls, plain, basics" in err


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "explain")
    assert (code, err) == (0, "")
    assert all(check.id in out for check in checks.CHECKS)
    code, out, _ = call(capsys, "explain", "TPE101")
    assert code == 0
    assert all(heading in out for heading in ("Flags", "Why", "Evidence", "Remedy"))
    assert call(capsys, "explain", "unexpected-outbound")[1] == out
    code, out, err = call(capsys, "explain", "TPE999")
    assert (code, out) == (2, "")
    assert err == "tpe-pcap: there is no check 'TPE999': 'tpe-pcap explain' lists all\n"


def test_installed_command_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(sys.executable).with_name("tpe-pcap")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    path = clean_capture(tmp_path)
    done = subprocess.run([script, "audit", path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == call(capsys, "audit", path)
