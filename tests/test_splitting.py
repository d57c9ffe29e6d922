"""Several files are one timeline: a capture cut anywhere gives the same flows and the same audit."""

from __future__ import annotations

import os
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analyzer import audit
from analyzer.capture import CaptureError
from analyzer.messages import to_json
from analyzer.result import Audit
from tests import samples

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
CUTS = 8 if os.environ.get("CI") else 2
"""Random cuts per capture."""
FILE_CHECKS = {"TPE001", "TPE011", "TPE012", "TPE013"}
"""Checks about single files: their damage, and what they hold besides packets."""


def records(content: bytes) -> tuple[bytes, list[bytes]] | None:
    """The file header and the packet records; in pcapng, the header is all blocks before the first packet.

    ``None`` for other formats and damaged files.
    """
    if content[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d"):
        order = "<" if content[0] in (0xD4, 0x4D) else ">"
        at, found = 24, []
        while at < len(content):
            if at + 16 > len(content):
                return None
            end = at + 16 + struct.unpack_from(order + "I", content, at + 8)[0]
            if end > len(content):
                return None
            found.append(content[at:end])
            at = end
        return content[:24], found
    if content[:4] == b"\x0a\x0d\x0d\x0a":
        order = "<" if content[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
        at, head, found, sections = 0, b"", [], 0
        while at + 12 <= len(content):
            kind, size = struct.unpack_from(order + "II", content, at)
            sections += kind == 0x0A0D0D0A
            if size < 12 or at + size > len(content) or sections > 1:
                return None  # with several sections, every part would need a header of its own
            block = content[at : at + size]
            if kind in (2, 3, 6):
                found.append(block)
            elif found:
                return None  # an interface after the first packet
            else:
                head += block
            at += size
        return (head, found) if at == len(content) else None
    return None


def cuttable() -> list[Path]:
    paths = [*samples.all_captures(), *(sorted(Path(CORPUS).glob("*.pcap*")) if CORPUS else [])]
    found = ((path, records(path.read_bytes())) for path in paths)
    return [path for path, parts in found if parts is not None and len(parts[1]) > 1]


def audit_content(result: Audit) -> Any:
    """An audit without frame numbers."""
    stations = [
        (replace(station.station, signatures=()), station.mode, station.mode_evidence, station.tpe, station.rows)
        for station in result.base_stations
    ]
    findings = [
        (
            finding.check,
            finding.severity,
            finding.base_station,
            finding.rows,
            finding.flow,
            finding.count,
            finding.time,
            finding.summary,
        )
        for finding in result.findings
        if finding.check not in FILE_CHECKS
    ]
    flows = [
        (
            (flow.id, flow.transport, flow.originator, flow.responder, flow.originator_certain, flow.state),
            (flow.packets, flow.bytes, flow.payload, flow.copies, flow.first, flow.last, flow.macs, flow.notes),
            (flow.protocol, to_json(flow.dissection.facts), flow.retransmissions, flow.control),
        )
        for flow in result.flows
    ]
    return stations, findings, flows, result.flow_rows, result.totals


BACKWARDS = "tls-clock-step.pcap"
"""Files are read in the order of their first packets: a clock that steps back in a capture reorders its parts."""


@pytest.mark.parametrize("path", [path for path in cuttable() if path.name != BACKWARDS], ids=lambda path: path.name)
def test_a_capture_cut_into_several_files_has_the_same_audit(path: Path, tmp_path: Path) -> None:
    try:
        whole = audit_content(audit(path))
    except CaptureError as error:
        assert str(error)
        return
    parts = records(path.read_bytes())
    assert parts
    head, packets = parts
    chance = random.Random(path.name)
    for _ in range(CUTS):
        cuts = sorted(chance.randrange(len(packets) + 1) for _ in range(chance.randrange(1, 9)))
        files = []
        for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(packets)], strict=True)):
            files.append(tmp_path / f"{number}{path.suffix}")
            files[-1].write_bytes(head + b"".join(packets[begin:end]))
        assert audit_content(audit(files)) == whole
