"""Worker process that runs tshark. The only module that imports pyshark; it imports nothing else of the analyzer.

It reads one query as JSON from standard input, lets tshark read the file ``capture`` in the current folder, and prints
one line of JSON per packet. :mod:`analyzer.tshark.client` starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

OLDEST = (3, 6)
"""Oldest version of tshark that knows the requested fields by these names."""

MEMORY = 4 << 30
"""Address space limit of the worker and of tshark, in bytes."""

FAILED = 4
"""Exit code: the last line of standard error states the reason."""

RECOVERABLE = ("cut short in the middle of a packet", "appears to be damaged or corrupt")
"""Messages of tshark about a damaged file, printed after all packets that it could read."""

SETTINGS = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "WIRESHARK_DATA_DIR", "WIRESHARK_PLUGIN_DIR", "SSLKEYLOGFILE")
"""Environment variables through which a user's settings would reach tshark."""


def fail(reason: str) -> NoReturn:
    """End the process with the reason as the last line of standard error."""
    print(" ".join(reason.split()), file=sys.stderr)
    sys.stderr.flush()
    os._exit(FAILED)  # no exit handler may write after this line


def isolate() -> None:
    """Detach from the user's settings, limit memory, and disable core dumps."""
    import resource

    folder = str(Path.cwd())
    os.environ.update(HOME=folder, WIRESHARK_CONFIG_DIR=f"{folder}/profile", LC_ALL="C.UTF-8", TZ="UTC")
    for name in SETTINGS:
        os.environ.pop(name, None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain the keys
    # macOS has no memory limit, and an outer limit may be lower.
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def serve() -> None:
    """Read a query from standard input, run tshark on the file ``capture``, and print a line of JSON per packet."""
    import asyncio

    query = json.load(sys.stdin)
    try:  # before isolate(), because pyshark may be installed in the user's home
        import pyshark
        from pyshark.tshark import tshark
    except ImportError as error:
        fail(f"pyshark cannot be loaded ({error}): pip install pyshark")
    isolate()
    try:
        version = tshark.get_tshark_version()
    except tshark.TSharkNotFoundException:
        fail("tshark is not installed: it comes with Wireshark")
    except (tshark.TSharkVersionException, OSError, subprocess.SubprocessError) as error:
        fail(f"tshark does not tell its version: {error}")
    if version.release[:2] < OLDEST:
        fail(f"tshark {version} is too old: {'.'.join(map(str, OLDEST))} or later is needed")
    selection = [word for name in query["fields"] for word in ("-e", name)]
    if not selection:
        selection = ["-x", "-J", " ".join(query["layers"])]
    capture = capture_class(pyshark.FileCapture)(
        "capture",
        use_ek=True,
        keep_packets=False,
        display_filter=query["filter"],
        decode_as=query["decode_as"],
        # pyshark would set up the main thread's loop through functions that Python 3.14 removed.
        eventloop=asyncio.new_event_loop(),
        custom_parameters=selection,
    )
    out = sys.stdout.buffer
    for line in capture:
        layers = json.loads(line.decode("utf-8", "replace"))["layers"]
        out.write(json.dumps(layers).encode() + b"\n")
    out.flush()
    capture.eventloop.run_until_complete(asyncio.gather(*capture._stderr_handling_tasks))
    code, messages = capture.process.returncode, " ".join(capture.messages)
    if code < 0:
        fail(f"tshark {version} crashed (signal {-code})")
    if code and not any(message in messages for message in RECOVERABLE):
        fail(f"tshark {version} failed: {messages.removeprefix('tshark: ') or f'exit code {code}'}")


def capture_class(base: Any) -> Any:
    """A subclass of ``pyshark.FileCapture`` that yields raw lines and reports how tshark ended.

    pyshark itself takes a tshark that was killed by a signal for one that finished, and keeps only the last line of its
    standard error. Of pyshark's parsers, one builds XML trees of whole packets, one expects the frame layer in every
    answer, and one keeps a cache in the user's home; none can be limited to single fields, which is many times faster.
    """
    import asyncio

    from pyshark.tshark.output_parser.tshark_ek import TsharkEkJsonParser

    class RawLines(TsharkEkJsonParser):  # type: ignore[misc]
        def _parse_single_packet(self, packet: bytes) -> bytes:
            return packet

    class Capture(base):  # type: ignore[misc]
        messages: tuple[str, ...] = ()

        async def _get_tshark_process(self, *arguments: Any, **options: Any) -> Any:
            self.process = await super()._get_tshark_process(*arguments, **options)
            return self.process

        def _created_new_process(self, parameters: Any, process: Any, process_name: str = "TShark") -> None:
            self._running_processes.add(process)  # serve() reads its exit code at the end

        async def _cleanup_subprocess(self, process: Any) -> None:
            await asyncio.wait_for(process.wait(), 30)
            self._running_processes.discard(process)

        async def _handle_process_stderr_forever(self, stderr: Any) -> None:
            lines = (await stderr.read()).decode("utf-8", "replace").splitlines()
            self.messages = tuple(line.strip() for line in lines if line.strip() and "Running as user" not in line)

        def _setup_tshark_output_parser(self) -> RawLines:
            return RawLines()

    return Capture


if __name__ == "__main__":
    serve()
