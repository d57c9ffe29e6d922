"""Shows the packets that a finding or a flow refers to, decoded by dpkt.

dpkt is imported here only, and only when packets are asked for. It displays packets to analysts; every verdict comes
from this program's own dissectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from analyzer.capture import CaptureError, CaptureFile
from analyzer.conversations import Conversation
from analyzer.expected import UsageError
from analyzer.export.records import selected_records
from analyzer.findings import Finding
from analyzer.heads import Frame

if TYPE_CHECKING:
    from analyzer.result import Audit

Selection = Finding | Conversation | int | Iterable[Frame]
"""A finding, a flow, the id of a flow, or frames."""


class Packet(NamedTuple):
    """One captured packet."""

    frame: Frame
    time: int
    """Capture time in nanoseconds since the epoch, as everywhere in an audit."""
    decoded: Any
    """A dpkt packet of the capture's link type, such as ``dpkt.ethernet.Ethernet``; ``bytes`` where dpkt does not know
    the link type or cannot decode the packet."""


def packets(audit: Audit, selection: Selection) -> Iterator[Packet]:
    """The packets of a selection in the order of the captures, each once.

    Raises ``UsageError`` for a flow id or capture index that the audit does not have, for standard input, and for a
    capture that no longer exists; the iterator raises ``CaptureError`` for a capture that was changed since.
    """
    wanted: dict[int, set[int]] = {}
    for frame in selected_frames(audit, selection):
        if not 0 <= frame.capture < len(audit.captures):
            raise UsageError(f"the audit has no capture {frame.capture}: it has {len(audit.captures)}")
        wanted.setdefault(frame.capture, set()).add(frame.number)
    for index in wanted:
        check_readable(audit.captures[index])
    return read_packets(audit, wanted)


def selected_frames(audit: Audit, selection: Selection) -> Iterable[Frame]:
    """The frames of a selection."""
    match selection:
        case Finding():
            return selection.frames
        case Conversation():
            return known_frames(cast(Conversation, selection))  # a named tuple is iterable too, which confuses mypy
        case int():
            flow = next((flow for flow in audit.conversations.expand() if flow.id == selection), None)
            if flow is None:
                raise UsageError(f"the audit has no flow {selection}: it has {audit.totals.flows:,}")
            return known_frames(flow)
        case _:
            return selection


def known_frames(flow: Conversation) -> Iterator[Frame]:
    """The frames that an audit knows of a flow: its first ones with payload, ICMP errors, its reset, first and last."""
    yield from flow.first_frames
    for stream in flow.head.streams:
        yield from (mark.frame for mark in stream.marks)
    yield from (datagram.frame for datagram in flow.head.datagrams)
    yield from (error.frame for error in flow.icmp_errors)
    if flow.refused is not None:
        yield flow.refused
    yield flow.last_frame


def check_readable(capture: CaptureFile) -> None:
    """Raise ``UsageError`` for a capture that cannot be read a second time."""
    if capture.path == "-":
        raise UsageError("-: standard input cannot be read a second time: save the capture to a file and audit that")
    path = Path(capture.path)
    if not path.exists():
        raise UsageError(f"{capture.path}: no longer exists, or not at this path from the current folder")
    if not path.is_file():
        raise UsageError(f"{capture.path}: is not a file, so it cannot be read a second time")


def read_packets(audit: Audit, wanted: dict[int, set[int]]) -> Iterator[Packet]:
    for index in sorted(wanted):
        capture = audit.captures[index]
        for number, record in selected_records(capture.path, wanted[index]):
            if capture.first is None or capture.last is None or not capture.first <= record.time <= capture.last:
                raise CaptureError(capture.path, f"was changed since it was audited: packet {number} has another time")
            yield Packet(Frame(index, number), record.time, decode(bytes(record.data), record.interface.linktype))


def decode(data: bytes, linktype: int) -> Any:
    """A packet as dpkt decodes it; ``data`` itself for other link types and for packets that dpkt cannot decode."""
    decoder = decoders().get(linktype)
    if decoder is None:
        return data
    try:
        return decoder(data)
    except Exception:  # dpkt raises many kinds of errors for malformed packets
        return data


@cache
def decoders() -> Mapping[int, Callable[[bytes], Any]]:
    """Link type (https://www.tcpdump.org/linktypes.html) → dpkt's class.

    dpkt's PPP and IEEE 802.11 classes are left out: they misread PPP without address and control fields, and frames
    with a frame check sequence.
    """
    import dpkt

    def raw_ip(data: bytes) -> Any:
        return dpkt.ip6.IP6(data) if data[0] >> 4 == 6 else dpkt.ip.IP(data)

    return {
        0: dpkt.loopback.Loopback,
        1: dpkt.ethernet.Ethernet,
        **dict.fromkeys((12, 14, 101, 228, 229), raw_ip),
        108: dpkt.loopback.Loopback,
        113: dpkt.sll.SLL,
        276: dpkt.sll2.SLL2,
    }
