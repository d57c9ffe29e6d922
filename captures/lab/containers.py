"""Changes to a recorded file: VLAN tags, splitting (pcap), a vendor's block (pcapng), a missing end.

All files are little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER, _RECORD = 24, struct.Struct("<IIII")


def _records(content: bytes) -> list[bytes]:
    """The records of a pcap file, with their headers."""
    found, at = [], _HEADER
    while at < len(content):
        captured = _RECORD.unpack_from(content, at)[2]
        end = at + _RECORD.size + captured
        found.append(content[at:end])
        at = end
    return found


def tag(path: Path, vlan: int) -> None:
    """Insert an 802.1Q tag into every Ethernet frame, as a trunk port does; the kernel may lack VLAN support."""
    content = path.read_bytes()
    tagged = [content[:_HEADER]]
    for record in _records(content):
        seconds, fraction, captured, length = _RECORD.unpack_from(record)
        frame = record[_RECORD.size :]
        frame = frame[:12] + struct.pack(">HH", 0x8100, vlan) + frame[12:]
        tagged.append(_RECORD.pack(seconds, fraction, captured + 4, length + 4) + frame)
    path.write_bytes(b"".join(tagged))


def split(path: Path, files: int) -> list[Path]:
    """Split a capture into files with about the same number of packets."""
    if files == 1:
        return [path]
    content = path.read_bytes()
    records = _records(content)
    parts = []
    for number in range(files):
        part = records[number * len(records) // files : (number + 1) * len(records) // files]
        parts.append(path.with_suffix(f".{number}.pcap"))
        parts[-1].write_bytes(content[:_HEADER] + b"".join(part))
    return parts


def add_block(path: Path, kind: int) -> None:
    """Insert a vendor-specific block before the packets of a pcapng file, after its section and its interface.

    Block types with the highest bit set are reserved for local use (draft-ietf-opsawg-pcapng).
    """
    content = path.read_bytes()
    at = 0
    for _ in range(2):
        at += int.from_bytes(content[at + 4 : at + 8], "little")
    body = b"probe 7, load 12 %\0\0"
    size = struct.pack("<I", 12 + len(body))
    path.write_bytes(content[:at] + struct.pack("<I", kind) + size + body + size + content[at:])


def cut(path: Path, size: int) -> None:
    """Remove bytes from the end, as a full disk does."""
    path.write_bytes(path.read_bytes()[:-size])
