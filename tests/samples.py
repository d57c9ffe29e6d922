"""The recorded captures in ``captures/``, by name: their files, their descriptions and their audits.

``tls-http-on-3001`` is in ``captures/tls/http-on-3001/``; captures of no single mode are in ``captures/other/``. Every
capture is audited once per process, however many tests need the audit.

``python -m tests.samples [NAME…]`` updates the tables ``[reported]`` of descriptions, by default of all.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from analyzer import Audit, audit
from analyzer.findings import Finding, Kind

ROOT = Path(__file__).parents[1]
CAPTURES = ROOT / "captures"


@cache
def folders() -> dict[str, Path]:
    """The folder of each capture by name, in alphabetical order."""
    found = {path.stem: path.parent for path in CAPTURES.glob("*/*/*.toml") if path.parent.parent.name != "lab"}
    return dict(sorted(found.items()))


def names() -> list[str]:
    return list(folders())


def all_captures() -> list[Path]:
    """Every capture file, in alphabetical order."""
    found = (path for folder in folders().values() for path in folder.glob("*.pcap*"))
    return sorted(found, key=lambda path: path.name)


def files(name: str) -> list[Path]:
    """The files of a capture: one, or the parts of a file set in their order."""
    return sorted(folders()[name].glob("*.pcap*"))


def capture(name: str) -> Path:
    """The file of a capture that consists of one."""
    (path,) = files(name)
    return path


def keys(name: str, suffix: str) -> Path:
    """The key file beside a capture: ``keylog``, ``ikev2_decryption_table``, ``esp_sa``, …"""
    return folders()[name] / f"{name}.{suffix}"


@cache
def expectation(name: str) -> dict[str, Any]:
    """The description of a capture: what it shows, its origin, and the verdict that the audit must reach."""
    return tomllib.loads((folders()[name] / f"{name}.toml").read_text())


@cache
def audit_of(name: str) -> Audit:
    """The audit of a capture with the options of its description."""
    return audit(files(name), **options(name))


@cache
def audit_with_keys(name: str) -> Audit:
    """The audit of a capture with the keys beside it, for which tshark is needed."""
    suffixes = {key.rpartition(".")[2]: folders()[name] / key for key in expectation(name)["origin"]["keys"]}
    key_files: dict[str, Any] = {
        "tls_keylog": suffixes.get("keylog"),
        "ike_keys": suffixes.get("ikev2_decryption_table"),
    }
    return audit(files(name), **options(name), **key_files)


def options(name: str) -> dict[str, Any]:
    """The arguments of :func:`analyzer.audit` for a capture."""
    described = expectation(name)
    return {"deployment": described["expected"]["deployment"], **described.get("audit", {})}


# -- reported findings ------------------------------------------------------------------------------------------


def reported(result: Audit) -> dict[str, list[str]]:
    """One line per finding, by base station, in the order of the report; ``capture`` for those of no station."""
    lines: dict[str, list[str]] = {}
    for finding in result.findings:
        lines.setdefault(finding.base_station or "capture", []).append(line(finding))
    return lines


def line(finding: Finding) -> str:
    """Severity, check, rows, the other end of an unexpected flow, and the number of flows if there are several."""
    words = [str(finding.severity), finding.check, finding.slug, ", ".join(finding.rows)]
    if finding.kind is Kind.UNEXPECTED:
        words += [finding.service or "", finding.peer or ""]
    words += [f"({finding.count} flows)"] * (finding.count > 1)
    return " ".join(word for word in words if word)


def table(heading: str, lines: dict[str, list[str]]) -> str:
    """Reported findings as a table of TOML."""
    text = f"[{heading}]\n"
    for station, found in lines.items():
        key = station if station.isalpha() else f'"{station}"'
        text += f"{key} = [\n" + "".join(f'  "{entry}",\n' for entry in found) + "]\n"
    return text


def update(name: str) -> None:
    """Write the findings of the present program into the description of a capture."""
    path = folders()[name] / f"{name}.toml"
    text = re.sub(r"\n\[(with_keys\.)?reported\]\n([^\[\n].*\n|\]\n)*", "", path.read_text())
    tables = [table("reported", reported(audit_of(name)))]
    if "with_keys" in expectation(name):
        tables.append(table("with_keys.reported", reported(audit_with_keys(name))))
    path.write_text(text + "".join("\n" + written for written in tables))


def main(chosen: Sequence[str]) -> None:
    for name in chosen or names():
        update(name)


if __name__ == "__main__":
    main(sys.argv[1:])
