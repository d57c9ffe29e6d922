"""Detects the format of a capture file, and reads the file headers of pcap and snoop.

Sources: draft-ietf-opsawg-pcap and the dialects in Wireshark's wiretap/libpcap.c; RFC 1761 for snoop.
"""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.capture.compression import detect_compression
from analyzer.capture.model import MAX_RECORD_BYTES, CaptureError, Framing, Interface, Order
from analyzer.capture.pcapng import SECTION, pcapng_framing

UNSUPPORTED_FORMATS = {
    b"GMBU": "Microsoft Network Monitor",
    b"RTSS": "Microsoft Network Monitor",
    b"TRSNIFF data": "a Sniffer",
    b"XCP\0": "a Sniffer",
    b"\x7fver": "EtherPeek",
    b"iptrace ": "AIX iptrace",
    b"btsnoop\0": "Bluetooth",
}
"""First bytes of a file → the program or link that the format belongs to."""

PCAP_MAGICS = {
    0xA1B2C3D4: (6, 24, (16, 24, 20)),
    0xA1B23C4D: (9, 24, (16,)),
    0xA1B2CD34: (6, 24, (24, 28)),
    0x1C0001AB: (6, 28, (16,)),  # IXIA: the file's length follows its header
    0x1C0001AC: (9, 28, (16,)),
}
"""Magic number → digits of the time stamps, length of the file header, possible lengths of a record header with the
usual one first."""
VARIANTS = {
    (0xA1B2C3D4, 24): "Red Hat 6.1",
    (0xA1B2C3D4, 20): "Nokia",
    (0xA1B2CD34, 24): "modified",
    (0xA1B2CD34, 28): "SuSE 6.3",
    (0x1C0001AB, 16): "IXIA",
    (0x1C0001AC, 16): "IXIA",
}
"""Magic number and length of a record header → dialect."""
AIX_LINKS = {6: 1, 9: 6, 15: 10, 24: 0}
"""Interface types of RFC 1573, which AIX writes → link types."""

SNOOP_MAGIC = b"snoop\0\0\0"
SNOOP_HEADER = 16
"""Bytes of the file header."""
SNOOP_LINKS = {0: 1, 2: 6, 4: 1, 8: 10, 9: 0, 14: 0}
"""Datalink types of snoop (IANA) → link types: IEEE 802.3, token ring, Ethernet, FDDI, other, loopback."""


def detect_format(path: str, start: bytes) -> tuple[Framing, int]:
    """The framing that the first bytes of a file announce, and the offset of its first record.

    ``start`` holds :data:`~analyzer.capture.model.PEEK_BYTES` bytes, fewer only if the file is shorter. Raises
    :class:`CaptureError`.
    """
    if not start:
        raise CaptureError(path, "is empty")
    order: Order
    for order in ("little", "big"):
        dialect = PCAP_MAGICS.get(int.from_bytes(start[:4], order)) if len(start) >= 4 else None
        if dialect is not None:
            return pcap_framing(path, start, order, *dialect)
    if start[:4] == SECTION:
        return pcapng_framing(path, start), 0
    if start[:8] == SNOOP_MAGIC:
        return snoop_framing(path, start), SNOOP_HEADER
    compression = detect_compression(start)
    if compression is not None:
        raise CaptureError(path, f"is compressed twice, inside with {compression}: unpack it first", 0)
    for magic, name in UNSUPPORTED_FORMATS.items():
        if start.startswith(magic):
            raise CaptureError(path, f"is a capture of {name}, which is not supported: convert it with editcap", 0)
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start[:64]):
        raise CaptureError(path, "is a text file, not a capture", 0)
    raise CaptureError(path, f"is not a capture (pcap, pcapng or snoop): begins with {start[:4].hex(' ')}", 0)


def pcap_framing(
    path: str, start: bytes, order: Order, digits: int, length: int, headers: Sequence[int]
) -> tuple[Framing, int]:
    """The framing of a pcap file, and the offset of its first record.

    ``digits``, ``length`` and ``headers`` are the values of :data:`PCAP_MAGICS`. One magic number may stand for
    several dialects, which only the records tell apart.
    """
    if len(start) < length:
        raise CaptureError(path, f"ends within the pcap file header ({len(start)} of {length} bytes)", len(start))
    magic, major, minor, snaplen, link = (
        int.from_bytes(start[at:end], order) for at, end in ((0, 4), (4, 6), (6, 8), (16, 20), (20, 24))
    )
    if major != 2:
        raise CaptureError(path, f"has pcap version {major}, only 2 is known", 4)
    header, variant = headers[0], None
    if minor == 2 and magic == 0xA1B2C3D4 and link in AIX_LINKS:
        link, digits, variant = AIX_LINKS[link], 9, "AIX"
    else:
        # A damaged file of the usual dialect must not pass as a rare one: that takes two plausible records.
        if minor == 4 and plausible_records(start, length, header, order, snaplen) < 0:
            rare = (size for size in headers[1:] if plausible_records(start, length, size, order, snaplen) >= 2)
            header = next(rare, header)
        variant = VARIANTS.get((magic, header))
    # The upper four bits of the link type tell the length of a frame check sequence in units of 16 bits, if bit 26 is
    # set; no link layer has one longer than 4 bytes. The bits between are reserved.
    frame_check = 2 * (link >> 28) if link >> 26 & 1 and link >> 28 <= 2 else 0
    ticks = (1000, 1, -1) if digits == 6 else (1, 1, -1)
    framing = Framing("pcap", order == "little", [], header, minor < 4, variant)
    framing.add_interface(Interface(link & 0xFFFF, 0, digits, ticks, 0, frame_check))
    return framing, length


def plausible_records(start: bytes, at: int, header: int, order: Order, snaplen: int) -> int:
    """Number of plausible records among the first three, if their headers take ``header`` bytes; -1: one is not.

    The criteria are those of Wireshark's wiretap/libpcap.c.
    """
    for count in range(3):
        if at + header > len(start):
            return count
        fraction, captured, length = (int.from_bytes(start[at + i : at + i + 4], order) for i in (4, 8, 12))
        possible = fraction < 10**6 and captured <= min(length, snaplen or MAX_RECORD_BYTES) and length <= 1 << 27
        if header >= 24:  # interface index; EtherType, or one of Linux's numbers below 0x600; packet type
            ethertype = int.from_bytes(start[at + 20 : at + 22], order)
            possible &= int.from_bytes(start[at + 16 : at + 20], order) <= 10000
            possible &= ethertype <= 0x17 or ethertype >= 0x600 or ethertype in (0x60, 0x200, 0x400)
            possible &= start[at + 22] <= 4
        elif header == 20:  # the few values that were ever observed, and 0, which editcap writes
            word = int.from_bytes(start[at + 16 : at + 20], order)
            parts = (word & 0xF0000000, word & 0x0FFF00F0, word & 0xF000, word & 0xF00, word & 0xF)
            known = ((0x90000000, 0xB0000000), (0x0FBF0000,), (0xB000, 0xD000), (0x600, 0x900), (1, 2))
            possible &= word == 0 or all(part in values for part, values in zip(parts, known, strict=True))
        if not possible:
            return -1
        at += header + captured
    return 3


def snoop_framing(path: str, start: bytes) -> Framing:
    """The framing of a snoop file (RFC 1761)."""
    if len(start) < SNOOP_HEADER:
        raise CaptureError(path, f"ends within the snoop file header ({len(start)} of 16 bytes)", len(start))
    version, link = int.from_bytes(start[8:12], "big"), int.from_bytes(start[12:16], "big")
    if version != 2:
        raise CaptureError(path, f"has snoop version {version}, only 2 is known", 8)
    if link not in SNOOP_LINKS:
        raise CaptureError(path, f"has snoop datalink type {link}, which is not supported", 12)
    framing = Framing("snoop", False)
    framing.add_interface(Interface(SNOOP_LINKS[link]))
    return framing
