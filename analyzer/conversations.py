"""Flows read by their content: who spoke what with whom."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from analyzer.heads import Direction, Frame, Head
from analyzer.protocols import Dissection


class State(enum.Enum):
    """How far a conversation came."""

    ESTABLISHED = "established"
    """TCP: the handshake was completed."""
    ATTEMPTED = "attempted"
    """TCP: opened, never completed, never refused."""
    REJECTED = "rejected"
    """Refused: TCP reset before any data, or an ICMP error that quotes the opening packet."""
    MIDSTREAM = "midstream"
    """TCP: its beginning is not in the capture."""
    ONEWAY = "oneway"
    """Not TCP: packets in one direction only."""
    TWOWAY = "twoway"
    """Not TCP: packets in both directions."""


class Endpoint(NamedTuple):
    address: str
    """Canonical text form."""
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error that quotes a packet of the conversation."""

    type: int
    code: int
    sender: str
    """Address of the host or router that reported it."""
    frame: Frame
    time: int
    quoted: Direction
    """Who had sent the quoted packet."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One flow with what its content says."""

    id: int
    """1-based, in the order of first frames; the flow id of the report."""
    transport: str
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``esp`` or ``ip-<number>``."""
    originator: Endpoint
    responder: Endpoint
    originator_certain: bool
    state: State
    packets: tuple[int, int]
    """From originator, from responder."""
    bytes: tuple[int, int]
    """Frame lengths on the wire, from originator, from responder."""
    payload: tuple[int, int]
    """Bytes above the transport header (TCP: without retransmissions where seen), by direction."""
    first: int
    """Nanoseconds since the epoch."""
    last: int
    first_frame: Frame
    last_frame: Frame
    macs: tuple[str | None, str | None]
    """Source MAC of the first frame from originator and from responder."""
    head: Head
    dissection: Dissection
    icmp_errors: tuple[IcmpError, ...] = ()
    refused: Frame | None = None
    """The frame that refused it (reset)."""
    notes: tuple[str, ...] = ()
    """What the capture point added or lost: ``vlan 7``, ``vxlan 42``, ``fragments``."""

    @property
    def protocol(self) -> str | None:
        return self.dissection.protocol

    @property
    def duration(self) -> float:
        """Seconds between first and last packet."""
        return (self.last - self.first) / 1e9
