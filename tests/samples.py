"""The recorded captures in ``captures/``, by name: their files, their expectations and their audits.

``tls-http-on-3001`` is recorded in ``captures/tls/http-on-3001/``; what belongs to no single mode is in
``captures/other/``. Every capture is audited once per process, however many tests ask for it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from analyzer import Audit, audit

ROOT = Path(__file__).parents[1]
CAPTURES = ROOT / "captures"


@cache
def folders() -> dict[str, Path]:
    """The folder of each capture, by name, in the order of names."""
    found = {path.stem: path.parent for path in CAPTURES.glob("*/*/*.toml") if path.parent.parent.name != "lab"}
    return dict(sorted(found.items()))


def names() -> list[str]:
    return list(folders())


def all_captures() -> list[Path]:
    """Every capture file, in the order of names."""
    found = (path for folder in folders().values() for path in folder.glob("*.pcap*"))
    return sorted(found, key=lambda path: path.name)


def files(name: str) -> list[Path]:
    """The files of a capture, in their order: one, or the parts of a file set."""
    return sorted(folders()[name].glob("*.pcap*"))


def capture(name: str) -> Path:
    """The file of a capture that has only one."""
    (path,) = files(name)
    return path


def keys(name: str, suffix: str) -> Path:
    """The secrets beside a capture: ``keylog``, ``ikev2_decryption_table``, ``esp_sa``, …"""
    return folders()[name] / f"{name}.{suffix}"


@cache
def expectation(name: str) -> dict[str, Any]:
    """The description of a capture: what it shows, its origin, and the verdict it must get."""
    return tomllib.loads((folders()[name] / f"{name}.toml").read_text())


@cache
def audit_of(name: str) -> Audit:
    """The audit of a capture with the options of its description, made once."""
    described = expectation(name)
    return audit(files(name), deployment=described["expected"]["deployment"], **described.get("audit", {}))
