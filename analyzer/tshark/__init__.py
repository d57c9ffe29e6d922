"""tshark, through pyshark: the second opinion, and the way to what is encrypted.

tshark parses hostile bytes with millions of lines of C, so it runs only when the user asks for it, and pyshark has an
event loop of its own, which does not go together with that of a notebook. Both therefore live in another process
(:mod:`analyzer.tshark.process`) with limited memory and time and an empty folder: without the user's profile, plugins
and name resolution, which could all change what tshark says.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.capture import CaptureError
from analyzer.tshark import process as tshark_process
from analyzer.tshark.process import FAILED

SECONDS = 120
BYTES_A_SECOND = 1 << 20
"""tshark may take two minutes, and a second more for each mebibyte of the capture."""

Layers = Mapping[str, Any]
"""What tshark says of one packet: field (``tcp_stream``) → its values; or, with ``whole``, layer → such fields."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask of every packet that the display filter lets through."""

    fields: tuple[str, ...] = ()
    """Names as in display filters; empty: all fields of ``layers``, with their bytes."""
    layers: tuple[str, ...] = ()
    display_filter: str | None = None
    decode_as: Mapping[str, str] = field(default_factory=dict)
    """``tcp.port==3002`` → ``tls``: what tshark is told of a port."""
    preferences: Mapping[str, str] = field(default_factory=dict)
    """A path among them is relative to the profile's parent: ``profile/keylog``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name → content of further files of tshark's profile: its tables, and secrets. No argument of a process, which
    everybody on the machine can read, ever holds a secret."""


def ask(capture: str, question: Question) -> Iterator[Layers]:
    """tshark's answer for each packet of a file, in order.

    :class:`CaptureError` if tshark is not there, takes too long or crashes. What it makes of a file that is damaged at
    its end is given up to there.
    """
    path = Path(capture)
    if capture == "-" or not path.is_file():
        raise CaptureError(capture, "tshark needs a file that can be read more than once")
    with tempfile.TemporaryDirectory(prefix="tpe-pcap-", ignore_cleanup_errors=True) as folder:
        profile = Path(folder, "profile")
        profile.mkdir(mode=0o700)
        preferences = "".join(f"{name}: {value}\n" for name, value in question.preferences.items())
        for name, content in {**question.files, "preferences": preferences}.items():
            (profile / name).write_text(content, encoding="utf-8")
        Path(folder, "capture").symlink_to(path.resolve())  # its own name may look like an option, or be no text
        request = {
            "fields": question.fields,
            "layers": question.layers,
            "filter": question.display_filter,
            "decode_as": dict(question.decode_as),
        }
        limit = SECONDS + path.stat().st_size // BYTES_A_SECOND
        yield from answers(capture, folder, json.dumps(request), limit)


def answers(capture: str, folder: str, request: str, limit: float) -> Iterator[Layers]:
    """What the program in a process of its own says, line by line."""
    late = threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-P", tshark_process.__file__],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

    def end() -> None:
        late.set()
        kill(process)

    timer = threading.Timer(limit, end)
    timer.start()
    try:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(request.encode())
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line.decode("utf-8", "replace"))
        said = process.stderr.read().decode("utf-8", "replace").splitlines()
        process.wait()
    finally:
        timer.cancel()
        kill(process)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    if late.is_set():
        raise CaptureError(capture, f"tshark took longer than {limit:.0f} s")
    if process.returncode:
        reason = said[-1] if process.returncode == FAILED and said else "the process that runs tshark ended early"
        raise CaptureError(capture, reason)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the process, if it still runs, with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
