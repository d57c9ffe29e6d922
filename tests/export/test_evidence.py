"""The capture of cited packets."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import audit, cli, flows
from analyzer.capture import CaptureError
from analyzer.export import evidence
from analyzer.heads import Frame
from analyzer.result import Audit
from tests import build, samples
from tests.build import SECOND, Packet
from tests.reports.audits import BARE, finding
from tests.synthetic import HTTP, OTHER, STATION, TLS, TPE, Scene

SAMPLES = samples.all_captures()
FRAMES = [build.udp("192.0.2.1", 1000 + number, "192.0.2.2", 2000, bytes(number)) for number in range(1, 8)]
START = 1_700_000_000 * SECOND
PACKETS = [Packet(frame, START + number * 1_234_567) for number, frame in enumerate(FRAMES)]


def written(audited: Audit) -> bytes:
    file = io.BytesIO()
    assert evidence.write(audited, file) == 0
    return file.getvalue()


def citing(paths: Sequence[Path], *frames: tuple[int, int], **changes: object) -> Audit:
    """An audit of files with a finding that cites these frames: index of the file, number."""
    read = flows.read([str(path) for path in paths])
    return replace(
        BARE,
        captures=read.captures,
        findings=(finding(frames=tuple(Frame(*each) for each in frames), **changes),),
    )


def packets(content: bytes, folder: Path) -> list[evidence.Record]:
    path = folder / "evidence.pcapng"
    path.write_bytes(content)
    return [record._replace(data=memoryview(bytes(record.data))) for _, record in evidence.records(str(path), 1 << 40)]


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """Fields of every packet, as tshark reads them; it fails the test if it complains of the file."""
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    options = [part for field in fields for part in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "Running as user" not in line]
    return [line.split("\t") for line in done.stdout.splitlines()]


# -- reading again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_packets_are_numbered_as_in_the_report(path: Path) -> None:
    (capture,) = flows.read([str(path)]).captures
    numbers = [number for number, _ in evidence.records(str(path), 1 << 40)]
    assert numbers == list(range(1, capture.packets + 1))


MIXED = (
    build.section()
    + build.interface()
    + build.interface(101, resolution=9)
    + b"".join(build.enhanced(frame, 1_700_000_000_000_000 + number) for number, frame in enumerate(FRAMES))
    + build.block(0x0BAD, b"whatever")
    + build.simple(FRAMES[0])
    + build.section(">")
    + build.interface(order=">", resolution=0x8A, offset=-5)
    + b"".join(build.obsolete(frame, 1 << 40, order=">") for frame in FRAMES)
    + build.statistics(3, order=">")
    + build.enhanced(FRAMES[1], 1 << 41, order=">")
)
CONTENTS = {
    "pcap": build.pcap(PACKETS),
    "pcap, big-endian, nanoseconds": build.pcap(PACKETS, order=">", nanoseconds=True),
    "pcap, modified": build.pcap(PACKETS, modified=True),
    "snoop": build.snoop(PACKETS, lost=4),
    "pcapng": MIXED,
}


@pytest.mark.parametrize("name", CONTENTS)
@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_passed_where_the_report_passes_it(name: str, data: st.DataObject) -> None:
    """Of a damaged file, as many packets are found as were audited."""
    content = bytearray(CONTENTS[name])
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(24, len(content) - 1))
        content[place] = data.draw(st.sampled_from((0, 1, 3, 4, 6, 16, 127, 255)))
    del content[data.draw(st.integers(24, len(content))) :]
    with build.saved(bytes(content)) as path:
        try:
            (capture,) = flows.read([str(path)]).captures
        except CaptureError:
            return  # there is no report that could cite it
        assert len(list(evidence.records(str(path), 1 << 40))) == capture.packets


@pytest.mark.parametrize("size", [64, 100, 4096])
def test_the_size_of_the_blocks_does_not_matter(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mixed.pcapng"
    path.write_bytes(MIXED)
    audited = citing([path], *((0, number) for number in range(1, 17)))
    whole = written(audited)
    monkeypatch.setattr(evidence, "BLOCK", size)
    assert written(audited) == whole


# -- what is written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENTS)
def test_packets_and_their_times_are_those_of_the_capture(name: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(CONTENTS[name])
    count = flows.read([str(path)]).captures[0].packets
    again = packets(written(citing([path], *((0, number) for number in range(1, count + 1)))), tmp_path)
    for (_, record), copy in zip(evidence.records(str(path), count), again, strict=True):
        assert (bytes(copy.data), copy.ticks, copy.wire) == (bytes(record.data), record.ticks, record.wire)


@pytest.mark.parametrize("name", CONTENTS)
def test_tshark_reads_the_same_packets_and_shows_the_comments(name: str, tmp_path: Path) -> None:
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


def test_interfaces_keep_their_names_and_resolutions(tmp_path: Path) -> None:
    path = tmp_path / "mixed.pcapng"
    path.write_bytes(MIXED)
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(citing([path], (0, 1), (0, 9))))
    assert [name for (name,) in tshark(target, "frame.interface_name")] == ["lan0", "lan0"]
    framings = [record.interface for record in packets(target.read_bytes(), tmp_path)]
    assert struct.pack("<HHBxxx", 9, 1, 0x8A) in framings[1]
    assert struct.pack("<HHq", 14, 8, -5) in framings[1]


def test_several_captures_go_into_one_file(tmp_path: Path) -> None:
    late, early = tmp_path / "late.pcap", tmp_path / "early.pcapng"
    late.write_bytes(build.pcap([Packet(FRAMES[0], START + 100 * SECOND)], nanoseconds=True))
    early.write_bytes(MIXED)
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(citing([late, early], (0, 1), (1, 3))))
    assert [said.rpartition("(")[2] for (said,) in tshark(target, "frame.comment")] == [
        f"frame 3 of {early})",
        f"frame 1 of {late})",
    ]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_compressed_capture_is_unpacked_again(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "packed"
    path.write_bytes(pack(MIXED))
    assert bytes(packets(written(citing([path], (0, 4))), tmp_path)[0].data) == FRAMES[3]


def test_each_finding_of_a_packet_has_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    one = citing([path], (0, 1))
    many = replace(one, findings=tuple(replace(one.findings[0], check=f"TPE{number}") for number in range(100, 170)))
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(many))
    ((said,),) = tshark(target, "frame.comment")
    assert all(f"TPE{number} " in said for number in range(100, 164))
    assert "6 more findings cite this packet" in said and "TPE164" not in said


def test_a_comment_is_plain_text_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    content = written(citing([path], (0, 1), summary="\x1b[31m\0\n\ud8ff" + "é" * 70_000))
    assert b"\x1b" not in content and b"\\x1b[31m\\x00\\n\\ud8ff" in content
    assert bytes(packets(content, tmp_path)[0].data) == FRAMES[0]


def test_too_many_packets_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    monkeypatch.setattr(evidence, "PACKETS", 2)
    file = io.BytesIO()
    assert evidence.write(citing([path], *((0, number) for number in range(1, 8))), file) == 5
    assert [bytes(record.data) for record in packets(file.getvalue(), tmp_path)] == FRAMES[:2]


def test_a_capture_that_was_changed_meanwhile_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(build.pcap(PACKETS))
    audited = citing([path], (0, 7))
    path.write_bytes(build.pcap(PACKETS[:3]))
    with pytest.raises(CaptureError, match="has no packet 7 any more: it was changed while it was audited"):
        evidence.write(audited, io.BytesIO())


def test_without_findings_it_is_an_empty_capture(tmp_path: Path) -> None:
    target = tmp_path / "evidence.pcapng"
    target.write_bytes(written(BARE))
    assert tshark(target, "frame.number") == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_evidence_of_every_sample_holds_what_its_findings_cite(path: Path, tmp_path: Path) -> None:
    result = audit(path)
    cited = sorted({frame.number for each in result.findings for frame in each.frames})
    read = evidence.records(str(path), max(cited, default=0))
    original = {number: (bytes(record.data), record.ticks) for number, record in read}
    again = packets(written(result), tmp_path)
    assert [(bytes(record.data), record.ticks) for record in again] == [original[number] for number in cited]


# -- the command ------------------------------------------------------------------------------------------------


def bad(folder: Path) -> Path:
    return Scene().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP).save(folder / "bad.pcap")


def test_the_command_writes_it_beside_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "evidence.pcapng"
    assert cli.main(["audit", str(bad(tmp_path)), "--format", "json", "--evidence", str(target)]) == 1
    out, err = capsys.readouterr()
    cited = {frame["number"] for each in json.loads(out)["findings"] for frame in each["frames"]}
    assert err == "" and len(packets(target.read_bytes(), tmp_path)) == len(cited)
    assert not [each.name for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_packets_that_are_left_out_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "PACKETS", 1)
    target = tmp_path / "evidence.pcapng"
    assert cli.main(["audit", str(bad(tmp_path)), "--evidence", str(target)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"tpe-pcap: {target}: ") and err.endswith(" cited packets are left out\n")


def test_what_can_be_read_only_once_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "evidence.pcapng"
    for path in ("-", "/dev/null"):
        assert cli.main(["audit", path, "--evidence", str(target)]) == 2
        said = f"tpe-pcap: {path}: can be read only once, and --evidence reads twice: save the capture first\n"
        assert capsys.readouterr() == ("", said)
    assert not target.exists()


def test_packets_are_not_written_beside_an_anonymous_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = bad(tmp_path), tmp_path / "evidence.pcapng"
    assert cli.main(["audit", str(path), "--evidence", str(target), "--anonymize", str(path)]) == 2
    said = "tpe-pcap: --evidence writes packets as they are: it cannot be had with --anonymize\n"
    assert capsys.readouterr() == ("", said)
    assert not target.exists()


def test_no_capture_and_no_report_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bad(tmp_path)
    content = path.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(path)
    report = tmp_path / "report"
    for options in ((path,), (link,), (report, "--output", report)):
        assert cli.main(["audit", str(path), "--evidence", *map(str, options)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
    assert path.read_bytes() == content and not report.exists()


def test_after_an_error_the_old_evidence_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    target = tmp_path / "evidence.pcapng"
    target.write_bytes(b"old")
    monkeypatch.setattr(evidence, "packet", full)
    assert cli.main(["audit", str(bad(tmp_path)), "--evidence", str(target)]) == 2
    assert "no space left on device" in capsys.readouterr().err.lower()
    assert target.read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad.pcap", "evidence.pcapng"]
