"""The pcapng blocks that carry no packet (draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import ipaddress
from collections import Counter

from analyzer.capture.model import (
    MAX_BLOCK_BYTES,
    MAX_NAMED_ADDRESSES,
    MAX_NAMES_PER_ADDRESS,
    PEEK_BYTES,
    CaptureError,
    Framing,
    Interface,
    Order,
)
from analyzer.safetext import decode_text

SECTION = b"\x0a\x0d\x0d\x0a"
"""Type of a Section Header Block, which reads the same in either byte order."""
BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": True, b"\x1a\x2b\x3c\x4d": False}
"""Magic number of a section header → little-endian."""
SECTION_HEADER, INTERFACE, OBSOLETE_PACKET, SIMPLE_PACKET, NAME_RESOLUTION, STATISTICS, ENHANCED_PACKET, SECRETS = (
    *(0x0A0D0D0A, 1, 2, 3, 4, 5, 6),
    10,
)
"""Block types (section 11.1)."""

MIN_BLOCK_BYTES = {
    SECTION_HEADER: 28,
    INTERFACE: 20,
    OBSOLETE_PACKET: 32,
    SIMPLE_PACKET: 16,
    STATISTICS: 24,
    ENHANCED_PACKET: 32,
    SECRETS: 20,
}
"""Block type → length of its shortest block; 12 for any other type."""
OPTIONS_OFFSET = {INTERFACE: 16, NAME_RESOLUTION: 8, STATISTICS: 20}
"""Block type → offset of its options, or of its name resolution records, which have the same layout."""
BLOCK_NAMES = {9: "systemd journal", 0x0BAD: "custom", 0x40000BAD: "custom"}
SECRETS_NAMES = {
    0x544C534B: "TLS key log",
    0x5353484B: "SSH key log",
    0x57474B4C: "WireGuard key log",
    0x5A4E574B: "Zigbee network key",
    0x5A415053: "Zigbee application key",
    0x55414B4C: "OPC UA key log",
}

MAX_OPTIONS = 1 << 16
"""Options of a block. More serve only to exhaust memory."""
MAX_INTERFACES = 1 << 16
"""Interfaces of a section."""
MAX_KINDS = 64
"""Different kinds of secrets, and of skipped blocks, that are counted apart."""


def pcapng_framing(path: str, start: bytes) -> Framing:
    """The framing of a file whose first bytes are a section header. The header itself is still to be read as a block.

    ``start`` holds :data:`PEEK_BYTES` bytes, fewer only if the file is shorter. Raises :class:`CaptureError`.
    """
    framing = Framing("pcapng", True)
    if len(start) < 12:
        raise CaptureError(path, f"ends within the pcapng section header ({len(start)} bytes)", len(start))
    if start[8:12] not in BYTE_ORDERS:
        raise CaptureError(path, "has a pcapng section header without its magic number", 0)
    size = block_size(framing, start[:12])
    if size is None or size < MIN_BLOCK_BYTES[SECTION_HEADER]:
        raise CaptureError(path, "has a pcapng section header of impossible length", 4)
    if len(start) < min(size, PEEK_BYTES):
        reason = f"ends within the pcapng section header ({len(start)} of {size} bytes)"
        raise CaptureError(path, reason, len(start))
    return framing


def block_size(framing: Framing, start: bytes) -> int | None:
    """Length of the block that begins with these (at least 12) bytes; ``None`` if it is damaged.

    A section header sets the byte order of its own length and of all that follows.
    """
    if start[:4] == SECTION:
        if start[8:12] not in BYTE_ORDERS:
            return None
        framing.little = BYTE_ORDERS[start[8:12]]
    size = int.from_bytes(start[4:8], framing.order)
    return size if 12 <= size <= MAX_BLOCK_BYTES and size % 4 == 0 else None


def consume_block(framing: Framing, data: memoryview) -> tuple[int, str | None]:
    """Read the block at the beginning of ``data`` that carries no packet, or is damaged.

    Returns its length and its defect, if any. Length 0 without a defect: the block is incomplete. Length 0 with a
    defect: the rest of the file cannot be understood, as after any damaged record of pcap or snoop.
    """
    size = block_size(framing, bytes(data[:12])) if framing.format == "pcapng" else None
    if size is None:
        return 0, "the length of a record is impossible"
    if size > len(data):
        return 0, None
    block = bytes(data[:size])
    problem = read_block(framing, block)
    if problem is not None and (block[:4] == SECTION or int.from_bytes(block[:4], framing.order) == INTERFACE):
        return 0, problem
    return size, problem


def read_block(framing: Framing, data: bytes) -> str | None:
    """Read a complete block that carries no packet, or is damaged, into the framing. Returns its defect, if any."""
    order = framing.order

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(data[at : at + size], order)

    kind, size = number(0), len(data)
    if number(size - 4) != size:
        return f"its two lengths disagree ({size} and {number(size - 4)})"
    if size < MIN_BLOCK_BYTES.get(kind, 12):
        return f"its {size} bytes are too few for its kind"
    options = read_options(data[OPTIONS_OFFSET[kind] : -4], order) if kind in OPTIONS_OFFSET else []
    if len(options) == MAX_OPTIONS:
        return f"it has {MAX_OPTIONS} options or more"
    if kind == SECTION_HEADER:
        if number(12, 2) != 1:
            return f"it begins a section of unknown pcapng version {number(12, 2)}"
        framing.interfaces.clear()
        if framing.lost:
            framing.lost = {-1: sum(framing.lost.values())}
    elif kind == INTERFACE:
        if len(framing.interfaces) == MAX_INTERFACES:
            return f"it describes more than {MAX_INTERFACES} interfaces"
        framing.add_interface(read_interface(data[8:16], options, order))
    elif kind in (OBSOLETE_PACKET, ENHANCED_PACKET):  # the scanner could not read it
        interface = number(8, 2 if kind == OBSOLETE_PACKET else 4)
        if interface >= len(framing.interfaces):
            return f"interface {interface} is not described"
        return f"its {size} bytes are too few for a packet of {number(20)}"
    elif kind == SIMPLE_PACKET:
        return "no interface is described"
    elif kind == NAME_RESOLUTION:
        read_names(framing, options)
    elif kind == STATISTICS:
        lost = [int.from_bytes(value[:8], order) for code, value in options if code in (5, 7)]
        if lost and number(8) < len(framing.interfaces):
            framing.lost[number(8)] = sum(lost)
    elif kind == SECRETS:
        secrets = SECRETS_NAMES.get(number(8), f"0x{number(8):08x}")
        framing.secrets[counted_name(framing.secrets, secrets)] += min(number(12), size - 20)
    else:
        framing.skipped[counted_name(framing.skipped, BLOCK_NAMES.get(kind, f"0x{kind:08x}"))] += 1
    return None


def counted_name(counts: Counter[str], name: str) -> str:
    """The name, or ``other`` for a new one beyond :data:`MAX_KINDS`."""
    return name if name in counts or len(counts) < MAX_KINDS else "other"


def read_options(body: bytes, order: Order) -> list[tuple[int, bytes]]:
    """Code and value of at most :data:`MAX_OPTIONS` options, up to the end option or to a wrong length."""
    options: list[tuple[int, bytes]] = []
    at = 0
    while at + 4 <= len(body) and len(options) < MAX_OPTIONS:
        code, length = (int.from_bytes(body[at + i : at + i + 2], order) for i in (0, 2))
        if code == 0 or at + 4 + length > len(body):
            break
        options.append((code, body[at + 4 : at + 4 + length]))
        at += 4 + (length + 3 & ~3)
    return options


def read_interface(body: bytes, options: list[tuple[int, bytes]], order: Order) -> Interface:
    """An Interface Description Block: link type, snap length, and the options if_tsresol (9), if_fcslen (13; in bits,
    though some programs write bytes) and if_tsoffset (14)."""
    digits, ticks, offset, frame_check = 6, (1000, 1, -1), 0, 0
    for code, value in options:
        if code == 9 and len(value) == 1:
            power = value[0] & 0x7F
            if value[0] & 0x80:
                digits, ticks = min(9, power), (1, 1, power)
            elif power <= 9:
                digits, ticks = power, (10 ** (9 - power), 1, -1)
            else:
                digits, ticks = 9, (1, 10 ** min(18, power - 9), -1)
        elif code == 13 and len(value) == 1:
            frame_check = {2: 2, 4: 4, 16: 2, 32: 4}.get(value[0], 0)
        elif code == 14 and len(value) == 8:
            offset = max(-(1 << 33), min(1 << 33, int.from_bytes(value, order, signed=True)))
    link, snaplen = int.from_bytes(body[:2], order), int.from_bytes(body[4:8], order)
    return Interface(link, snaplen, digits, ticks, offset, frame_check)


def read_names(framing: Framing, records: list[tuple[int, bytes]]) -> None:
    """The records of a Name Resolution Block: an address and its names, each of which ends with a zero octet."""
    for kind, value in records:
        size = {1: 4, 2: 16, 3: 6, 4: 8}.get(kind)
        if size is None or len(value) <= size:
            continue
        raw = value[:size]
        address = raw.hex(":") if kind > 2 else str(ipaddress.ip_address(raw))
        names = (decode_text(part, 255) for part in value[size:].split(b"\0") if part)
        known = framing.names.get(address, ())
        if known or len(framing.names) < MAX_NAMED_ADDRESSES:
            framing.names[address] = tuple(dict.fromkeys((*known, *names)))[:MAX_NAMES_PER_ADDRESS]
