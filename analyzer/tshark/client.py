"""Runs tshark in a worker process and reads its dissection of each packet."""

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
from dataclasses import field
from pathlib import Path
from typing import Any

from analyzer.capture import CaptureError
from analyzer.dataclass import dataclass
from analyzer.tshark import worker

SECONDS = 120
BYTES_A_SECOND = 1 << 20
"""Time limit: two minutes, and one more second per mebibyte of the capture."""

Layers = Mapping[str, Any]
"""tshark's dissection of one packet: field (``tcp_stream``) → its values; for a query without fields, layer → fields.
"""


@dataclass(frozen=True, slots=True)
class Query:
    """What tshark prints of every packet that matches the display filter."""

    fields: tuple[str, ...] = ()
    """Names as in display filters; empty: all fields of ``layers``, with their bytes."""
    layers: tuple[str, ...] = ()
    display_filter: str | None = None
    decode_as: Mapping[str, str] = field(default_factory=dict)
    """Port → protocol that tshark decodes it as: ``tcp.port==3002`` → ``tls``."""
    preferences: Mapping[str, str] = field(default_factory=dict)
    """Paths are relative to the parent of the profile folder: ``profile/keylog``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name → content of further files of tshark's profile: tables and secrets. Secrets are never passed as arguments,
    because every user of the machine can read those."""


def run(capture: str, query: Query) -> Iterator[Layers]:
    """Yield tshark's dissection of each packet of a file, in order.

    Raises :class:`CaptureError` if tshark is not installed, exceeds its limits or crashes. A file that is damaged at
    its end is dissected up to the damage.
    """
    path = Path(capture)
    if capture == "-" or not path.is_file():
        raise CaptureError(capture, "tshark needs a file that can be read more than once")
    with tempfile.TemporaryDirectory(prefix="tpe-pcap-", ignore_cleanup_errors=True) as folder:
        profile = Path(folder, "profile")
        profile.mkdir(mode=0o700)
        preferences = "".join(f"{name}: {value}\n" for name, value in query.preferences.items())
        for name, content in {**query.files, "preferences": preferences}.items():
            (profile / name).write_text(content, encoding="utf-8")
        # A link, because the file's own name may look like an option or may not be valid UTF-8.
        Path(folder, "capture").symlink_to(path.resolve())
        request = {
            "fields": query.fields,
            "layers": query.layers,
            "filter": query.display_filter,
            "decode_as": dict(query.decode_as),
        }
        limit = SECONDS + path.stat().st_size // BYTES_A_SECOND
        yield from worker_lines(capture, folder, json.dumps(request), limit)


def worker_lines(capture: str, folder: str, request: str, limit: float) -> Iterator[Layers]:
    """Send the request to a new worker process and yield its output line by line; ``limit`` is in seconds."""
    timed_out = threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-P", worker.__file__],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

    def time_out() -> None:
        timed_out.set()
        kill(process)

    timer = threading.Timer(limit, time_out)
    timer.start()
    try:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(request.encode())
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line.decode("utf-8", "replace"))
        errors = process.stderr.read().decode("utf-8", "replace").splitlines()
        process.wait()
    finally:
        timer.cancel()
        kill(process)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    if timed_out.is_set():
        raise CaptureError(capture, f"tshark took longer than {limit:.0f} s")
    if process.returncode:
        reported = process.returncode == worker.FAILED and errors
        raise CaptureError(capture, errors[-1] if reported else "the process that runs tshark ended early")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
