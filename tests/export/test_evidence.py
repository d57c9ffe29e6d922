"""The capture file with the packets that findings cite."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer import audit, cli, flows
from analyzer.capture import CaptureError
from analyzer.export import evidence
from analyzer.export.records import Record, records
from analyzer.heads import Frame
from analyzer.result import Audit
from tests import build, samples
from tests.build import SECOND, Packet
from tests.export.test_records import ALL, CONTENTS, FRAMES, MIXED, PACKETS, START
from tests.reports.audits import BARE, finding
from tests.synthetic import HTTP, OTHER, STATION, TLS, TPE, Traffic

SAMPLES = samples.all_captures()


def written(result: Audit) -> bytes:
    file = io.BytesIO()
    assert evidence.write(result, file) == 0
    return file.getvalue()


def citing(paths: Sequence[Path], *frames: tuple[int, int], **changes: object) -> Audit:
    """An audit of captures with a finding that cites these frames: index of the capture, number."""
    read = flows.read([str(path) for path in paths])
    return replace(
        BARE,
        captures=read.captures,
        findings=(finding(frames=tuple(Frame(*frame) for frame in frames), **changes),),
    )


def all_records(path: Path) -> list[Record]:
    return [record._replace(data=memoryview(bytes(record.data))) for _, record in records(str(path), ALL)]


def packets(content: bytes, folder: Path) -> list[Record]:
    """The packets of an evidence file."""
    path = folder / "evidence.pcapng"
    path.write_bytes(content)
    return all_records(path)


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """Fields of every packet as tshark reads them; the test fails if tshark reports a problem with the file."""
    options = [part for field in fields for part in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "Running as user" not in line]
    return [line.split("\t") for line in done.stdout.splitlines()]


# -- packets and comments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENTS)
def test_packets_and_times_are_unchanged(name: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(CONTENTS[name])
    originals = all_records(path)
    copies = packets(written(citing([path], *((0, number) for number in range(1, len(originals) + 1)))), tmp_path)
    for original, copy in zip(originals, copies, strict=True):
        assert (bytes(copy.data), copy.ticks, copy.wire) == (bytes(original.data), original.ticks, original.wire)


@pytest.mark.tshark
@pytest.mark.parametrize("name", CONTENTS)
def test_tshark_reads_the_packets_and_shows_the_comments(name: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(CONTENTS[name])
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(citing([path], (0, 2), (0, 5), summary="Café is not TLS.")))
    fields = ("frame.time_epoch", "frame.len", "frame.cap_len", "frame.encap_type", "udp.srcport", "udp.length")
    original = tshark(path, *fields)
    assert tshark(target, *fields) == [original[1], original[4]]
    assert tshark(target, "frame.comment") == [
        [
            f"TPE301 tls-certificate-expired (medium), row i38, base station 10.0.0.2: Café is not TLS. "
            f"(frame {number} of {path})"
        ]
        for number in (2, 5)
    ]


@pytest.mark.tshark
def test_interfaces_keep_their_names_and_resolutions(tmp_path: Path) -> None:
    path = tmp_path / "mixed.pcapng"
    path.write_bytes(MIXED)
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(citing([path], (0, 1), (0, 9))))
    assert [name for (name,) in tshark(target, "frame.interface_name")] == ["lan0", "lan0"]
    description = packets(target.read_bytes(), tmp_path)[1].description
    assert struct.pack("<HHBxxx", 9, 1, 0x8A) in description
    assert struct.pack("<HHq", 14, 8, -5) in description


@pytest.mark.tshark
def test_captures_follow_one_another_by_time(tmp_path: Path) -> None:
    late, early = tmp_path / "late.pcap", tmp_path / "early.pcapng"
    late.write_bytes(build.pcap([Packet(FRAMES[0], START + 100 * SECOND)], nanoseconds=True))
    early.write_bytes(MIXED)
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(citing([late, early], (0, 1), (1, 3))))
    assert [comment.rpartition("(")[2] for (comment,) in tshark(target, "frame.comment")] == [
        f"frame 3 of {early})",
        f"frame 1 of {late})",
    ]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_compressed_capture(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "compressed"
    path.write_bytes(compress(MIXED))
    assert bytes(packets(written(citing([path], (0, 4))), tmp_path)[0].data) == FRAMES[3]


@pytest.mark.tshark
def test_packet_has_a_comment_per_finding_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    one = citing([path], (0, 1))
    many = replace(one, findings=tuple(replace(one.findings[0], check=f"TPE{number}") for number in range(100, 170)))
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(many))
    ((comment,),) = tshark(target, "frame.comment")
    assert all(f"TPE{number} " in comment for number in range(100, 164))
    assert "6 more findings cite this packet" in comment and "TPE164" not in comment


def test_comment_is_escaped_and_fits_an_option(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    content = written(citing([path], (0, 1), summary="\x1b[31m\0\n\ud8ff" + "é" * 70_000))
    assert b"\x1b" not in content and b"\\x1b[31m\\x00\\n\\ud8ff" in content
    assert bytes(packets(content, tmp_path)[0].data) == FRAMES[0]


def test_packets_beyond_the_limit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    monkeypatch.setattr(evidence, "PACKETS", 2)
    file = io.BytesIO()
    assert evidence.write(citing([path], *((0, number) for number in range(1, 8))), file) == 5
    assert [bytes(record.data) for record in packets(file.getvalue(), tmp_path)] == FRAMES[:2]


def test_changed_capture_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    result = citing([path], (0, 7))
    path.write_bytes(build.pcap(PACKETS[:3]))
    with pytest.raises(CaptureError, match="has no packet 7 any more: it was changed while it was audited"):
        evidence.write(result, io.BytesIO())


@pytest.mark.tshark
def test_no_findings_give_an_empty_capture(tmp_path: Path) -> None:
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(BARE))
    assert tshark(target, "frame.number") == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_evidence_of_a_recorded_capture_is_complete(path: Path, tmp_path: Path) -> None:
    result = audit(path)
    cited = sorted({frame.number for finding in result.findings for frame in finding.frames})
    originals = {
        number: (bytes(record.data), record.ticks) for number, record in records(str(path), max(cited, default=0))
    }
    copies = packets(written(result), tmp_path)
    assert [(bytes(record.data), record.ticks) for record in copies] == [originals[number] for number in cited]


# -- the command ------------------------------------------------------------------------------------------------


def failing_capture(folder: Path) -> Path:
    return (
        Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP).save(folder / "bad.pcap")
    )


def test_command_writes_evidence_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "evidence.pcapng"
    assert cli.main(["audit", str(failing_capture(tmp_path)), "--format", "json", "--evidence", str(target)]) == 1
    out, err = capsys.readouterr()
    cited = {frame["number"] for finding in json.loads(out)["findings"] for frame in finding["frames"]}
    assert err == "" and len(packets(target.read_bytes(), tmp_path)) == len(cited)
    assert not list(tmp_path.glob(".*"))


def test_command_reports_packets_that_were_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "PACKETS", 1)
    target = tmp_path / "evidence.pcapng"
    assert cli.main(["audit", str(failing_capture(tmp_path)), "--evidence", str(target)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"tpe-pcap: {target}: ") and err.endswith(" cited packets are left out\n")


def test_command_refuses_captures_that_can_be_read_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "evidence.pcapng"
    for path in ("-", "/dev/null"):
        assert cli.main(["audit", path, "--evidence", str(target)]) == 2
        message = f"tpe-pcap: {path}: can be read only once, and --evidence reads twice: save the capture first\n"
        assert capsys.readouterr() == ("", message)
    assert not target.exists()


def test_command_refuses_evidence_with_anonymize(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = failing_capture(tmp_path), tmp_path / "evidence.pcapng"
    assert cli.main(["audit", str(path), "--evidence", str(target), "--anonymize", str(path)]) == 2
    message = "tpe-pcap: --evidence writes packets as they are: it cannot be had with --anonymize\n"
    assert capsys.readouterr() == ("", message)
    assert not target.exists()


def test_command_never_overwrites_a_capture_or_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = failing_capture(tmp_path)
    content = path.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(path)
    report = tmp_path / "report"
    for options in ((path,), (link,), (report, "--output", report)):
        assert cli.main(["audit", str(path), "--evidence", *map(str, options)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
    assert path.read_bytes() == content and not report.exists()


def test_old_evidence_survives_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    target = tmp_path / "evidence.pcapng"
    target.write_bytes(b"old")
    monkeypatch.setattr(evidence, "packet_block", disk_full)
    assert cli.main(["audit", str(failing_capture(tmp_path)), "--evidence", str(target)]) == 2
    assert "no space left on device" in capsys.readouterr().err.lower()
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pcap", "evidence.pcapng"]
