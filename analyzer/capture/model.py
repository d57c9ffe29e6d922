"""What is known of a capture file beside its packets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from analyzer.dataclass import dataclass
from analyzer.messages import Facts
from analyzer.safetext import SafeText

Order = Literal["little", "big"]
"""Byte order."""

PEEK_BYTES = 1 << 16
"""First bytes of a file that tell its format, and the time of its first packet."""
MAX_RECORD_BYTES = 262144
"""Maximum captured bytes of one packet; libpcap's own limit (MAXIMUM_SNAPLEN). A longer record is damage."""
MAX_BLOCK_BYTES = 1 << 24
"""Maximum bytes of one pcapng block; libpcap's own limit. A longer block is damage."""
MAX_PROBLEMS = 20
"""Damaged blocks of a file after which reading it ends."""
MAX_NAMED_ADDRESSES = 10_000
"""Addresses of a file whose names are kept."""
MAX_NAMES_PER_ADDRESS = 8


class CaptureError(Exception):
    """A file that cannot be read as a capture. The text is one line that names file, reason and offset."""

    def __init__(self, path: str, reason: str, offset: int | None = None) -> None:
        place = f" at byte {offset}" if offset is not None else ""
        super().__init__(f"{path}: {reason}{place}")


@dataclass(frozen=True, slots=True)
class CaptureFacts(Facts):
    """What a file says of itself. What it does not say is ``None`` or empty."""

    compression: SafeText | None = None
    variant: SafeText | None = None
    """pcap: the program that writes this dialect of the format."""
    frame_check_bytes: int | None = None
    """Length of the frame check sequence at the end of each frame, which is not payload; the longest of all
    interfaces."""
    lost: int | None = None
    """Packets that the capturing machine dropped, by its own count."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Address → its names, as resolved where the capture was made; at most :data:`MAX_NAMED_ADDRESSES` addresses with
    :data:`MAX_NAMES_PER_ADDRESS` names each."""
    secrets: Mapping[SafeText, int] = field(default_factory=dict)
    """Kind of embedded decryption secrets → their bytes."""
    skipped: Mapping[SafeText, int] = field(default_factory=dict)
    """Kind of pcapng block whose content is not read → number of blocks."""


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """One capture file, as far as it was read."""

    path: str
    """As given by the user."""
    format: SafeText
    """``pcap``, ``pcapng`` or ``snoop``."""
    packets: int
    bytes: int
    """Size on disk; of standard input: bytes read from it."""
    first: int | None
    """Earliest time stamp, nanoseconds since the epoch."""
    last: int | None
    digits: int
    """Decimal digits of the fraction in its time stamps: 6, 9, …"""
    problems: tuple[SafeText, ...] = ()
    """What could not be read, one line each."""
    facts: CaptureFacts = CaptureFacts()


@dataclass(frozen=True, slots=True)
class Interface:
    """A pcapng interface, or the only interface of a pcap or snoop file."""

    linktype: int
    snaplen: int = 0
    """0: no limit."""
    digits: int = 6
    """Decimal digits of the fraction in its time stamps."""
    ticks: tuple[int, int, int] = (1000, 1, -1)
    """(multiplier, divisor, bits): nanoseconds = ticks * multiplier / divisor; if bits >= 0, seconds = ticks /
    2**bits."""
    offset: int = 0
    """Seconds to add to each time stamp."""
    frame_check: int = 0
    """Bytes of frame check sequence at the end of each frame."""

    def nanoseconds(self, ticks: int) -> int:
        """A time stamp in nanoseconds since the epoch."""
        multiplier, divisor, bits = self.ticks
        return self.offset * 10**9 + (ticks * 10**9 >> bits if bits >= 0 else ticks * multiplier // divisor)

    def ticks_at(self, nanoseconds: int) -> int:
        """The time stamp of a moment, rounded down to the interface's resolution."""
        multiplier, divisor, bits = self.ticks
        since = max(0, nanoseconds - self.offset * 10**9)
        ticks = (since << bits) // 10**9 if bits >= 0 else since * divisor // multiplier
        return min(ticks, (1 << 64) - 1)


@dataclass(slots=True)
class Framing:
    """How a file writes its records, and what its headers say. Grows while the blocks of a pcapng file are read."""

    format: str
    little: bool
    """Little-endian; of pcapng: the current section."""
    interfaces: list[Interface] = field(default_factory=list)
    """Of pcapng: of the current section."""
    record_header: int = 16
    """pcap: bytes before each packet."""
    swapped: bool = False
    """pcap: captured and original length may stand in either order."""
    variant: str | None = None
    resolutions: set[int] = field(default_factory=set)
    """Time stamp digits of all interfaces of all sections."""
    frame_check: int = 0
    """Bytes of the longest frame check sequence."""
    lost: dict[int, int] = field(default_factory=dict)
    """Interface of the current section → packets lost by its newest count; -1: packets lost in earlier sections."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    secrets: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def order(self) -> Order:
        return "little" if self.little else "big"

    def add_interface(self, interface: Interface) -> None:
        self.interfaces.append(interface)
        self.resolutions.add(interface.digits)
        self.frame_check = max(self.frame_check, interface.frame_check)

    @property
    def digits(self) -> int:
        """Decimal digits of the finest time stamps."""
        return max(self.resolutions, default=6)

    def facts(self, compression: str | None, lost: int) -> CaptureFacts:
        """What the file says of itself; ``lost``: packets lost by the count in the records of a snoop file."""
        dropped = lost if self.format == "snoop" else sum(self.lost.values()) if self.lost else None
        return CaptureFacts(
            compression,
            self.variant,
            self.frame_check or None,
            dropped,
            dict(sorted(self.names.items())),
            dict(sorted(self.secrets.items())),
            dict(sorted(self.skipped.items())),
        )
