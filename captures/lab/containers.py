"""What becomes of tcpdump's file: VLAN tags, several files, a cut end. All on classic pcap files."""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER, _RECORD = 24, struct.Struct("<IIII")


def _records(content: bytes) -> list[bytes]:
    """The records of a little-endian pcap file, each with its header."""
    found, at = [], _HEADER
    while at < len(content):
        captured = _RECORD.unpack_from(content, at)[2]
        end = at + _RECORD.size + captured
        found.append(content[at:end])
        at = end
    return found


def tag(path: Path, vlan: int) -> None:
    """Write an 802.1Q tag into every Ethernet frame, as a trunk port would: the lab's kernel may know no VLANs."""
    content = path.read_bytes()
    tagged = [content[:_HEADER]]
    for record in _records(content):
        seconds, fraction, captured, length = _RECORD.unpack_from(record)
        frame = record[_RECORD.size :]
        frame = frame[:12] + struct.pack(">HH", 0x8100, vlan) + frame[12:]
        tagged.append(_RECORD.pack(seconds, fraction, captured + 4, length + 4) + frame)
    path.write_bytes(b"".join(tagged))


def split(path: Path, files: int) -> list[Path]:
    """The capture in several files of nearly the same number of packets."""
    if files == 1:
        return [path]
    content = path.read_bytes()
    records = _records(content)
    parts = []
    for number in range(files):
        mine = records[number * len(records) // files : (number + 1) * len(records) // files]
        parts.append(path.with_suffix(f".{number}.pcap"))
        parts[-1].write_bytes(content[:_HEADER] + b"".join(mine))
    return parts


def cut(path: Path, size: int) -> None:
    """Take bytes off the end, as a full disk does."""
    path.write_bytes(path.read_bytes()[:-size])
