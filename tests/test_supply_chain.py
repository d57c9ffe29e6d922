"""Dependencies: bounded, explained, locked. At run time: no network, no other program, no file, no privilege."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from analyzer.reports import FORMATS
from analyzer.scanner import kernels
from tests import samples

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEEDED = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXTRAS = [
    requirement
    for group in PROJECT["project"].get("optional-dependencies", {}).values()
    for requirement in map(Requirement, group)
    if requirement.name != PROJECT["project"]["name"]
]
TOOLS = [Requirement(line) for line in (*PROJECT["dependency-groups"]["dev"], *PROJECT["build-system"]["requires"])]
CAPTURE = samples.capture("tls-http-on-3001")


def lock() -> dict[str, tuple[str, int]]:
    """Package → version and number of hashes in the lock."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements-dev.lock").read_text(encoding="utf-8"))
    found = {}
    for entry in entries:
        if not entry.startswith("#"):
            pinned = re.match(r"([\w.-]+)==([\w.]+)( ;[^\n]*)? \\\n", entry)
            assert pinned, f"not pinned: {entry.splitlines()[0]}"
            found[canonicalize_name(pinned[1])] = pinned[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry))
    return found


# -- dependencies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", [*NEEDED, *EXTRAS], ids=lambda requirement: requirement.name)
def test_dependency_is_bounded_and_explained(requirement: Requirement) -> None:
    operators = {bound.operator for bound in requirement.specifier}
    assert operators >= {">=", "<"} and requirement.url is None
    table = (ROOT / "docs/contributing.md").read_text(encoding="utf-8").split("## Dependencies")[1].split("\n## ")[0]
    assert re.search(rf"^\|[^|]*\b{re.escape(requirement.name)}\b[^|]*\|", table, re.MULTILINE), "not listed"


@pytest.mark.parametrize("requirement", [*NEEDED, *TOOLS], ids=lambda requirement: requirement.name)
def test_locked_version_is_within_the_bounds(requirement: Requirement) -> None:
    version, _ = lock()[canonicalize_name(requirement.name)]
    assert Version(version) in requirement.specifier


def test_every_locked_package_has_a_hash() -> None:
    locked = lock()
    assert len(locked) > 30 and all(hashes for _, hashes in locked.values())


# -- at run time ------------------------------------------------------------------------------------------------

WATCHED = """
import os, sys
FORBIDDEN = ("socket.", "urllib.", "http.client.", "ftplib.", "smtplib.", "subprocess.", "os.system", "os.exec",
             "os.posix_spawn", "os.fork", "pty.", "webbrowser.", "ctypes.dlopen")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def watch(event, arguments):
    if event == "ctypes.dlopen" and (arguments[0] is None or "llvmlite" in str(arguments[0])):
        return  # the library of the compiled scanner
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    if event.startswith(FORBIDDEN) or writes or event in ("os.remove", "os.rename", "os.mkdir", "os.chmod"):
        sys.stderr.write(f"FORBIDDEN {event} {arguments}\\n")
        os._exit(99)

from analyzer import cli
sys.addaudithook(watch)
code = cli.main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)
"""
"""Runs the command under an audit hook (PEP 578) that ends it at the first forbidden event."""


def watched(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-B", "-c", WATCHED, *arguments], capture_output=True, check=False)


NAMES = [report.name for report in FORMATS]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["audit", str(CAPTURE), "--format", name] for name in NAMES),
        ["flows", str(CAPTURE)],
        ["rules"],
        ["explain"],
        ["audit", str(CAPTURE), "--anonymize", str(CAPTURE)],
    ],
    ids=lambda arguments: " ".join(word for word in arguments if "/" not in word),
)
def test_command_opens_no_socket_starts_no_program_and_writes_no_file(arguments: list[str]) -> None:
    if not kernels.LIBRARY.ready():  # the first audit after an installation writes the compiled scanner
        subprocess.run([sys.executable, "-m", "analyzer", "audit", str(CAPTURE)], capture_output=True, check=False)
    done = watched(arguments)
    assert b"FORBIDDEN" not in done.stderr, done.stderr
    if b"pip install" in done.stderr:
        pytest.skip(done.stderr.decode())
    assert done.returncode in (0, 1) and done.stdout


@pytest.mark.parametrize(
    "action",
    [
        "__import__('socket').create_connection(('127.0.0.1', 9))",
        "__import__('socket').getaddrinfo('example.com', 80)",
        "__import__('subprocess').run(['true'])",
        "__import__('os').system('true')",
        "open('/tmp/never', 'w')",
    ],
)
def test_audit_hook_ends_a_forbidden_action(action: str) -> None:
    source = WATCHED.replace("code = cli.main(sys.argv[1:])", f"code = 0; {action}")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 99 and done.stderr.startswith("FORBIDDEN")


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests do not run as root: all of them show it")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_command_needs_no_privilege() -> None:
    """Root without capabilities has the rights of an ordinary user who owns the files."""
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    status = subprocess.run([*without, "cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    command = [*without, sys.executable, "-m", "analyzer", "audit", str(CAPTURE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "mode tls" in done.stdout
