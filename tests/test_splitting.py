"""A capture in several files is one timeline: cut anywhere, it gives the same flows and the same verdict."""

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
"""Ways in which each capture is cut."""
OF_A_FILE = {"TPE001", "TPE011", "TPE012", "TPE013"}
"""Checks that speak of each file on its own: of its damage, and of what it carries beside its packets."""


def records(content: bytes) -> tuple[bytes, list[bytes]] | None:
    """The head of a file, and its packets; each of pcapng with the blocks before it that carry none.

    ``None`` for what is neither, or damaged.
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
                return None  # of several sections each part would need its own head
            block = content[at : at + size]
            if kind in (2, 3, 6):
                found.append(block)
            elif found:
                return None  # an interface that comes later
            else:
                head += block
            at += size
        return (head, found) if at == len(content) else None
    return None


def cuttable() -> list[Path]:
    paths = [*samples.all_captures(), *(sorted(Path(CORPUS).glob("*.pcap*")) if CORPUS else [])]
    found = ((path, records(path.read_bytes())) for path in paths)
    return [path for path, parts in found if parts is not None and len(parts[1]) > 1]


def told(result: Audit) -> Any:
    """All that an audit says, but where it stands."""
    stations = [
        (replace(each.station, signatures=()), each.mode, each.mode_evidence, each.tpe, each.rows)
        for each in result.base_stations
    ]
    findings = [
        (each.check, each.severity, each.base_station, each.rows, each.flow, each.count, each.time, each.summary)
        for each in result.findings
        if each.check not in OF_A_FILE
    ]
    flows = [
        (
            (each.id, each.transport, each.originator, each.responder, each.originator_certain, each.state),
            (each.packets, each.bytes, each.payload, each.copies, each.first, each.last, each.macs, each.notes),
            (each.protocol, to_json(each.dissection.facts), each.retransmissions, each.control),
        )
        for each in result.flows
    ]
    return stations, findings, flows, result.flow_rows, result.totals


@pytest.mark.parametrize("path", cuttable(), ids=lambda path: path.name)
def test_cut_into_several_files(path: Path, tmp_path: Path) -> None:
    try:
        whole = told(audit(path))
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
        assert told(audit(files)) == whole
