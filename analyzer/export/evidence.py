"""Writes the packets that findings cite to a capture file, each with comments that say what it shows.

The captures are read a second time, up to the last cited packet. The output is pcapng (draft-ietf-opsawg-pcapng) with
the packets, link types and time stamps of the originals, unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from analyzer.expected import UsageError
from analyzer.export.records import Record, option, selected_records
from analyzer.findings import Finding
from analyzer.safetext import escape_text
from analyzer.version import __version__

if TYPE_CHECKING:
    from analyzer.result import Audit

PACKETS = 100_000
"""Maximum packets written: those of the first findings, which are the most severe."""
COMMENTS = 64
"""Maximum findings named in the comments of one packet."""
COMMENT = 0xFFFC
"""Maximum bytes of one comment: the capacity of a pcapng option."""


def check_paths(captures: Sequence[str], target: str, output: str | None) -> None:
    """Raise ``UsageError`` if the evidence cannot be read or would overwrite something, before an audit begins."""
    for path in captures:
        if path == "-" or (Path(path).exists() and not Path(path).is_file()):
            raise UsageError(f"{path}: can be read only once, and --evidence reads twice: save the capture first")
        if is_same_file(path, target):
            raise UsageError(f"{target}: is a capture to be audited, and --evidence would replace it")
    if output is not None and (output == target or is_same_file(output, target)):
        raise UsageError(f"{target}: --output and --evidence cannot be the same file")


def is_same_file(one: str, other: str) -> bool:
    """Whether both paths lead to the same regular file."""
    return Path(one).is_file() and Path(other).is_file() and Path(one).samefile(other)


def write(audit: Audit, file: BinaryIO) -> int:
    """Write the cited packets and return how many were left out because there are more than :data:`PACKETS`.

    The captures follow one another in the order of their first packets. Raises :class:`CaptureError` for a capture
    that was changed since it was audited.
    """
    cited, left_out = citations(audit.findings)
    file.write(section_block())
    interfaces: dict[tuple[int, bytes], int] = {}
    """Index of the capture, description of the interface → number of the interface in the output."""
    for index in sorted(cited, key=lambda index: (audit.captures[index].first or 0, index)):
        path, packets = audit.captures[index].path, cited[index]
        for number, record in selected_records(path, packets):
            interface = interfaces.get((index, record.description))
            if interface is None:
                interface = interfaces[index, record.description] = len(interfaces)
                file.write(interface_block(record.description, path))
            file.write(packet_block(interface, record, comments(packets[number], number, path)))
    return left_out


def citations(findings: Sequence[Finding]) -> tuple[dict[int, dict[int, list[Finding]]], int]:
    """Index of a capture → number of a packet → the findings that cite it; and the number of packets left out."""
    cited: dict[int, dict[int, list[Finding]]] = {}
    count, left_out = 0, set()
    for finding in findings:
        for frame in finding.frames:
            packets = cited.setdefault(frame.capture, {})
            if frame.number not in packets:
                if count == PACKETS:
                    left_out.add(frame)
                    continue
                count += 1
            packets.setdefault(frame.number, []).append(finding)
    return cited, len(left_out)


def comments(findings: Sequence[Finding], number: int, path: str) -> Iterator[str]:
    """The comments of a packet, one per finding that cites it."""
    for finding in findings[:COMMENTS]:
        rows = f", {'row' if len(finding.rows) == 1 else 'rows'} {' or '.join(finding.rows)}" if finding.rows else ""
        station = f", base station {finding.base_station}" if finding.base_station else ""
        yield (
            f"{finding.check} {finding.slug} ({finding.severity}){rows}{station}: {finding.summary} "
            f"(frame {number} of {path})"
        )
    if len(findings) > COMMENTS:
        yield f"{len(findings) - COMMENTS:,} more findings cite this packet"


# -- pcapng blocks -----------------------------------------------------------------------------------------------


def block(kind: int, body: bytes, options: bytes) -> bytes:
    body += options + option(0, b"") if options else b""
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def section_block() -> bytes:
    """A Section Header Block: version 1.0, length unknown."""
    return block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), option(4, f"tpe-pcap {__version__}".encode()))


def interface_block(description: bytes, path: str) -> bytes:
    """An Interface Description Block with the path of its capture as a comment."""
    return block(1, description[:8], description[8:] + option(1, comment(path)))


def packet_block(interface: int, record: Record, comments: Iterator[str]) -> bytes:
    """An Enhanced Packet Block with comments."""
    high, low = divmod(record.ticks, 1 << 32)
    header = struct.pack("<IIIII", interface, high, low, len(record.data), record.wire)
    padding = bytes(-len(record.data) % 4)
    return block(6, header + bytes(record.data) + padding, b"".join(option(1, comment(text)) for text in comments))


def comment(text: str) -> bytes:
    """A comment in UTF-8, with terminal control characters escaped."""
    return escape_text(text).encode()[:COMMENT].decode(errors="ignore").encode()
