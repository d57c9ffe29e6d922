"""Opening files, standard input and pipes."""

from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from analyzer import flows
from analyzer.capture import CaptureError
from tests import build
from tests.capture.examples import (
    EXAMPLES,
    PACKETS,
    PCAP,
    flow_values,
)


def test_unreadable_paths_raise_capture_errors(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "is a directory"), (tmp_path / "absent.pcap", "no such file or directory")):
        for others in ([], [str(path)]):  # with others, the files are put in order first
            with pytest.raises(CaptureError, match=f"^{path}: {reason}$"):
                flows.read([str(path), *others])


def test_the_error_names_the_bad_file_among_good_ones(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pcap", tmp_path / "bad.pcap"
    good.write_bytes(PCAP)
    bad.write_bytes(b"hello, world")
    with pytest.raises(CaptureError, match=r"bad\.pcap: is a text file"):
        flows.read([str(good), str(bad)])


class SlowPipe(io.RawIOBase):
    """A pipe that delivers at most 7 bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self.rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.rest.read(min(len(buffer), 7))
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("buffered", [False, True])
def test_standard_input_in_small_pieces(monkeypatch: pytest.MonkeyPatch, kind: str, buffered: bool) -> None:
    pipe: Any = SlowPipe(EXAMPLES[kind])
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BufferedReader(pipe) if buffered else pipe}))
    found = flows.read(["-"])
    assert flow_values(found) == flow_values(build.read_files(EXAMPLES[kind]))
    (file,) = found.captures
    assert (file.path, file.bytes) == ("-", len(EXAMPLES[kind]))


def test_standard_input_can_be_read_only_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"^-: standard input can be read only once$"):
        flows.read(["-", str(tmp_path), "-"])
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(CaptureError, match=r"^-: standard input is closed$"):
        flows.read(["-"])


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_bytes(PCAP)
    writer = threading.Thread(target=pipe.write_bytes, args=(build.pcap(PACKETS),))
    writer.start()
    found = flows.read([str(pipe), str(file)])
    writer.join()
    assert [file.packets for file in found.captures] == [len(PACKETS), 2]


def test_progress_adds_up_to_the_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    content = build.pcap(PACKETS * 1000)
    for packed in (content, gzip.compress(content)):
        path.write_bytes(packed)
        steps: list[int] = []
        flows.read([str(path)], steps.append, buffer_size=100)
        assert sum(steps) == len(packed)
        assert len(steps) > 1
