"""The program that runs tshark: it alone knows pyshark, and loads nothing else of the analyzer.

It reads one question as JSON from standard input, lets tshark read the file ``capture`` in the current folder, and
prints a line of JSON for each packet. See :mod:`analyzer.tshark`, which starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

OLDEST = (3, 6)
"""Version of tshark below which the fields that are asked for have other names."""

MEMORY = 4 << 30
"""Bytes of address space that tshark, and who runs it, may use."""

FAILED = 4
"""Exit code: the last line of standard error says why."""

SURVIVED = ("cut short in the middle of a packet", "appears to be damaged or corrupt")
"""What tshark says of a damaged file after all packets that it could read."""


def fail(reason: str) -> None:
    print(" ".join(reason.split()), file=sys.stderr)
    sys.stderr.flush()
    os._exit(FAILED)  # nothing is said behind this line


def serve() -> None:
    """Read a request from standard input, run tshark on the file ``capture``, print a line of JSON for each packet."""
    import asyncio
    import resource

    request = json.load(sys.stdin)
    try:  # before HOME changes: pyshark may be installed there; and not in the user's folder: it reads a config.ini
        import pyshark
        from pyshark.tshark import tshark
        from pyshark.tshark.output_parser.tshark_ek import TsharkEkJsonParser
    except ImportError as error:
        return fail(f"pyshark cannot be loaded ({error}): pip install pyshark")
    folder = str(Path.cwd())
    os.environ.update(HOME=folder, WIRESHARK_CONFIG_DIR=f"{folder}/profile", LC_ALL="C.UTF-8", TZ="UTC")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "WIRESHARK_DATA_DIR", "WIRESHARK_PLUGIN_DIR", "SSLKEYLOGFILE"):
        os.environ.pop(name, None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the keys
    with contextlib.suppress(ValueError):  # macOS knows no limit of memory, and somebody may have set a lower one
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    class Lines(TsharkEkJsonParser):  # type: ignore[misc]
        """tshark's lines as they are.

        Of pyshark's own parsers one builds XML trees of whole packets, one wants the frame in every answer, and one
        keeps a cache in the user's home; none of them can be asked for single fields, which is many times as fast.
        """

        def _parse_single_packet(self, packet: bytes) -> bytes:
            return packet

    class Capture(pyshark.FileCapture):  # type: ignore[misc]
        """pyshark with its gaps closed.

        It takes a tshark that a signal killed for one that came to its end, and keeps only the last line of what
        tshark complains.
        """

        complaints: tuple[str, ...] = ()

        async def _get_tshark_process(self, *arguments: Any, **options: Any) -> Any:
            self.process = await super()._get_tshark_process(*arguments, **options)
            return self.process

        def _created_new_process(self, parameters: Any, process: Any, process_name: str = "TShark") -> None:
            self._running_processes.add(process)  # how it ended is looked at when it has

        async def _cleanup_subprocess(self, process: Any) -> None:
            await asyncio.wait_for(process.wait(), 30)
            self._running_processes.discard(process)

        async def _handle_process_stderr_forever(self, stderr: Any) -> None:
            told = (await stderr.read()).decode("utf-8", "replace").splitlines()
            self.complaints = tuple(line.strip() for line in told if line.strip() and "Running as user" not in line)

        def _setup_tshark_output_parser(self) -> Lines:
            return Lines()

    try:
        version = tshark.get_tshark_version()
    except tshark.TSharkNotFoundException:
        return fail("tshark is not installed: it comes with Wireshark")
    except (tshark.TSharkVersionException, OSError, subprocess.SubprocessError) as error:
        return fail(f"tshark does not tell its version: {error}")
    if version.release[:2] < OLDEST:
        return fail(f"tshark {version} is too old: {'.'.join(map(str, OLDEST))} or later is needed")
    selection = [word for name in request["fields"] for word in ("-e", name)]
    if not selection:
        selection = ["-x", "-J", " ".join(request["layers"])]
    asked = Capture(
        "capture",
        use_ek=True,
        keep_packets=False,
        display_filter=request["filter"],
        decode_as=request["decode_as"],
        # pyshark would set up the loop of the main thread by means that Python 3.14 has no more.
        eventloop=asyncio.new_event_loop(),
        custom_parameters=selection,
    )
    out = sys.stdout.buffer
    for line in asked:
        layers = json.loads(line.decode("utf-8", "replace"))["layers"]
        out.write(json.dumps(layers).encode() + b"\n")
    out.flush()
    asked.eventloop.run_until_complete(asyncio.gather(*asked._stderr_handling_tasks))
    code, said = asked.process.returncode, " ".join(asked.complaints)
    if code < 0:
        return fail(f"tshark {version} crashed (signal {-code})")
    if code and not any(each in said for each in SURVIVED):
        return fail(f"tshark {version} failed: {said.removeprefix('tshark: ') or f'exit code {code}'}")
    return None


if __name__ == "__main__":
    serve()
