"""What a report may show of a cited frame: the messages that begin in it, and their headers byte by byte.

A report travels further than a capture: it is mailed and attached to tickets. So an excerpt holds no secret by
construction. Bytes are shown of the headers in :data:`HEADERS` only, which have no room for a password; content that
no protocol's module read (a Telnet session, a file in transit), HTTP and FTP are never shown as bytes. What is decoded
is what dissectors keep, who leave out the values of HTTP's credentials and the arguments of FTP's ``PASS``; of FTP not
even other arguments and texts are repeated. Byte strings of which nobody knows what they hold (echo data, cookies,
signatures, digests) are told by their length.

All of it is in memory since the flows were read: captures are not opened again, which may have been standard input.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from analyzer.conversations import Conversation
from analyzer.heads import DIRECTIONS, Direction, Frame
from analyzer.messages import Item
from analyzer.protocols import ParseError, dhcp, dns, esp, ftp, icmp, iec104, ike, ntp, ssh, tls

HEADERS: Mapping[type[object], int] = {
    icmp.Echo: 8,  # type, code, checksum, identifier, sequence number; not the data
    icmp.IcmpMessage: 4,
    icmp.ErrorMessage: 8,
    ike.IkeHeader: 28,  # RFC 7296, section 3.1; behind a marker of 4 bytes on UDP/4500
    esp.EspPacket: 8,  # SPI and sequence number
    tls.ClientHello: 43,  # headers of record and message, version, random (RFC 8446, section 4.1.2)
    tls.ServerHello: 43,
    tls.Alert: 7,  # one in clear: the record's header, level and description
    tls.ApplicationData: 5,
    tls.EncryptedRecord: 5,
    ssh.KexInit: 22,  # packet's header, number of the message and cookie (RFC 4253, section 7.1)
    iec104.IFrame: 6,  # start, length and control fields
    iec104.SFrame: 6,
    iec104.UFrame: 6,
    dhcp.Header: 44,  # up to the hardware address of the client (RFC 2131, section 2)
    dns.Header: 12,
    ntp.Packet: 48,
    ntp.Control: 12,
    ntp.Private: 8,
}
"""Message → its first bytes, of which it is known that they hold no secret."""

UNTOLD: Mapping[type[object], tuple[str, ...]] = {
    ftp.Command: ("argument",),
    ftp.Reply: ("lines",),
    ssh.PrefaceLine: ("text",),
    icmp.EchoData: ("beginning",),
    esp.EspPayload: ("beginning",),
    dhcp.Option: ("data",),
}
"""Message → fields that are not repeated: people type passwords where they do not belong, servers quote them, and
tunnels carry them."""

FRAMES = 4
"""Frames that are excerpted of one finding."""
MESSAGES = 16
"""Messages that are shown of one frame."""
FIELD = 120
"""Characters of one field."""
ELEMENTS = 12
"""Elements of one list."""
PLAIN_BYTES = 8
"""Bytes of a byte string that is shown whole: an SPI, an address; no digest is that short."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message in the words of its RFC."""

    name: str
    fields: tuple[tuple[str, str], ...]
    """Name and value as text."""
    withheld: bool
    """It has fields, none of which may be shown."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What may be shown of one frame."""

    frame: Frame
    direction: Direction | None
    """Who sent it; ``None``: an ICMP error of a third, or unknown."""
    payload: int | None
    """Bytes above the transport header that were kept; ``None``: none that this conversation keeps."""
    header: bytes
    """The first bytes of the payload, as far as they may be shown."""
    messages: tuple[Message, ...]
    more: int
    """Messages of the same frame that are left out."""
    notes: tuple[str, ...]
    """What else is known of it, one clause each."""


def excerpts(each: Conversation, frames: Sequence[Frame]) -> Iterator[Excerpt]:
    """The first of a finding's frames, as far as its conversation knows them; other ones belong to flows like it."""
    known = payloads(each, frames)
    for frame in [frame for frame in frames if frame in known][:FRAMES]:
        direction, offset, data, notes = known[frame]
        items = [one for one in each.dissection.items if one.frame == frame and one.direction == direction]
        yield Excerpt(
            frame,
            direction,
            None if data is None else len(data),
            header(items, offset, data or b""),
            tuple(decoded(item.message) for item in items[:MESSAGES]),
            max(0, len(items) - MESSAGES),
            (*notes, *(broken(one) for one in each.dissection.parse_errors if one.frame == frame)),
        )


Payload = tuple[Direction | None, int, bytes | None, tuple[str, ...]]
"""Sender, where it begins in the stream, the bytes, and what is known without them."""


def payloads(each: Conversation, frames: Sequence[Frame]) -> dict[Frame, Payload]:
    """What a conversation kept of some frames."""
    wanted = frozenset(frames)
    found: dict[Frame, Payload] = {}
    for direction, stream in zip(DIRECTIONS, each.head.streams, strict=True):
        ends = [*(mark.offset for mark in stream.marks[1:]), len(stream.data)]
        for mark, end in zip(stream.marks, ends, strict=False):
            if mark.frame in wanted:
                found.setdefault(mark.frame, (direction, mark.offset, stream.data[mark.offset : end], ()))
    for datagram in each.head.datagrams:
        if datagram.frame in wanted:
            found.setdefault(datagram.frame, (datagram.direction, 0, datagram.data, ()))
    for error in each.icmp_errors:
        said = f"ICMP error of type {error.type}, code {error.code}, from {error.sender}"
        found.setdefault(error.frame, (None, 0, None, (said,)))
    if each.refused is not None:
        found.setdefault(each.refused, (None, 0, None, ("refuses the connection (reset)",)))
    if each.transport == "tcp" and each.originator_certain:
        for frame in each.first_frames:
            found.setdefault(frame, (Direction.ORIGINATOR, 0, None, ("opens a connection",)))
    return found


def header(items: Sequence[Item], offset: int, data: bytes) -> bytes:
    """The bytes of the first message's header, if the frame's payload begins with it."""
    if not items or items[0].offset != offset:
        return b""
    return data[: HEADERS.get(type(items[0].message), 0)]


def broken(each: ParseError) -> str:
    """Where and why the reading ended."""
    found = each.anomaly
    return f"{found.cause.value} at byte {found.offset:,}: {found.field} {found.reason}"


def decoded(message: object) -> Message:
    """A message with its fields as text; nested messages are told by their fields, too."""
    untold = UNTOLD.get(type(message), ())
    names: tuple[str, ...] = getattr(message, "_fields", ())
    pairs = ((name, getattr(message, name)) for name in names if name not in untold)
    fields = tuple((name.strip("_").replace("_", " "), told(value)) for name, value in pairs if is_told(value))
    return Message(type(message).__name__, fields, bool(names) and not fields)


def is_told(value: object) -> bool:
    """Whether a field says something of its own; the header that parts of a message carry along was told before."""
    return value not in (None, "", b"", ()) and not isinstance(value, (dns.Header, dhcp.Header))


def told(value: object) -> str:
    """One value as text, shortened."""
    for kind, said in SAID:
        if isinstance(value, kind):
            return clipped(said(value))
    return clipped(str(value))


def several(values: Sequence[object]) -> str:
    names: tuple[str, ...] = getattr(values, "_fields", ())
    if names:
        return " ".join(f"{name}={told(value)}" for name, value in zip(names, values, strict=True) if is_told(value))
    more = len(values) - ELEMENTS
    return ", ".join(map(told, values[:ELEMENTS])) + (f" and {more:,} more" if more > 0 else "")


def clipped(text: str) -> str:
    return text if len(text) <= FIELD else text[:FIELD] + "…"


SAID: tuple[tuple[type, Callable[..., str]], ...] = (
    (bool, lambda value: "yes" if value else "no"),
    (enum.Enum, lambda value: value.name.lower().replace("_", " ")),
    (bytes, lambda value: value.hex() if len(value) <= PLAIN_BYTES else f"{len(value):,} bytes"),
    (tuple, several),
)
"""Kind of value → how it is told; numbers and texts are told as they are."""


def dump(data: bytes) -> Iterator[str]:
    """The lines of bytes as Wireshark prints them: offset, 16 bytes, and what is printable ASCII."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        said = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{start:04x}  {row.hex(' '):<47}  {said}".rstrip()
