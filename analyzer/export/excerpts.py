"""What a report may show of a cited frame: the messages that begin in it, and the bytes of their headers.

Reports are mailed and attached to tickets, so excerpts must not contain secrets. Bytes are shown only of the headers in
:data:`HEADERS`, which cannot contain a password; HTTP, FTP, and content that no dissector recognised (a Telnet session,
a file transfer) are never shown as bytes. Dissectors leave out the values of HTTP credentials and the argument of FTP's
``PASS``; other arguments and texts of FTP are withheld as well. Of byte strings with unknown content (echo data,
cookies, signatures, digests) only the length is shown.

Everything comes from memory. The captures are not read again, because they may have been standard input.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.heads import DIRECTIONS, Direction, Frame
from analyzer.messages import Item
from analyzer.protocols import ParseError, dhcp, dns, esp, ftp, icmp, iec104, ike, ntp, ssh, tls

HEADERS: Mapping[type[object], int] = {
    icmp.Echo: 8,  # type, code, checksum, identifier, sequence number; not the data
    icmp.IcmpMessage: 4,
    icmp.ErrorMessage: 8,
    ike.IkeHeader: 28,  # RFC 7296, section 3.1; after a marker of 4 bytes on UDP/4500
    esp.EspPacket: 8,  # SPI and sequence number
    tls.ClientHello: 43,  # headers of record and message, version, random (RFC 8446, section 4.1.2)
    tls.ServerHello: 43,
    tls.Alert: 7,  # in clear: record header, level and description
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
"""Type of a message → length of its header, which cannot contain a secret."""

WITHHELD: Mapping[type[object], tuple[str, ...]] = {
    ftp.Command: ("argument",),
    ftp.Reply: ("lines",),
    ssh.PrefaceLine: ("text",),
    icmp.EchoData: ("beginning",),
    esp.EspPayload: ("beginning",),
    dhcp.Option: ("data",),
}
"""Type of a message → fields that are not shown: users type passwords into the wrong field, servers quote them, and
tunnels carry them."""

FRAMES = 4
"""Maximum frames excerpted per finding."""
MESSAGES = 16
"""Maximum messages shown per frame."""
FIELD = 120
"""Maximum characters of a field."""
ELEMENTS = 12
"""Maximum elements shown of a list."""
PLAIN_BYTES = 8
"""Maximum length of a byte string shown in full, such as an SPI or an address; digests are longer."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the terms of its RFC."""

    name: str
    fields: tuple[tuple[str, str], ...]
    """Name and value as text."""
    withheld: bool
    """Whether it has fields, none of which may be shown."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What may be shown of a frame."""

    frame: Frame
    direction: Direction | None
    """The sender; ``None``: a third host that sent an ICMP error, or unknown."""
    payload: int | None
    """Bytes above the transport header that were kept; ``None``: none."""
    header: bytes
    """The first bytes of the payload, as far as they may be shown."""
    messages: tuple[Message, ...]
    more: int
    """Number of further messages of the frame."""
    notes: tuple[str, ...]
    """Further facts, one clause each."""


def excerpts(conversation: Conversation, frames: Sequence[Frame]) -> Iterator[Excerpt]:
    """The first of a finding's frames that the conversation knows; the others belong to duplicate flows."""
    known = payloads(conversation, frames)
    dissection = conversation.dissection
    for frame in [frame for frame in frames if frame in known][:FRAMES]:
        payload = known[frame]
        items = [item for item in dissection.items if item.frame == frame and item.direction == payload.direction]
        errors = (parse_error_text(error) for error in dissection.parse_errors if error.frame == frame)
        yield Excerpt(
            frame,
            payload.direction,
            None if payload.data is None else len(payload.data),
            header(items, payload),
            tuple(describe(item.message) for item in items[:MESSAGES]),
            max(0, len(items) - MESSAGES),
            (*payload.notes, *errors),
        )


class Payload(NamedTuple):
    """What a conversation kept of a frame."""

    direction: Direction | None
    offset: int = 0
    """Of the data in the stream."""
    data: bytes | None = None
    notes: tuple[str, ...] = ()
    """What is known without the data."""


def payloads(conversation: Conversation, frames: Sequence[Frame]) -> dict[Frame, Payload]:
    """What a conversation kept of these frames."""
    wanted = frozenset(frames)
    found: dict[Frame, Payload] = {}
    for direction, stream in zip(DIRECTIONS, conversation.head.streams, strict=True):
        ends = [*(mark.offset for mark in stream.marks[1:]), len(stream.data)]
        for mark, end in zip(stream.marks, ends, strict=False):
            if mark.frame in wanted:
                found.setdefault(mark.frame, Payload(direction, mark.offset, stream.data[mark.offset : end]))
    for datagram in conversation.head.datagrams:
        if datagram.frame in wanted:
            found.setdefault(datagram.frame, Payload(datagram.direction, 0, datagram.data))
    for error in conversation.icmp_errors:
        note = f"ICMP error of type {error.type}, code {error.code}, from {error.sender}"
        found.setdefault(error.frame, Payload(None, notes=(note,)))
    if conversation.refused is not None:
        found.setdefault(conversation.refused, Payload(None, notes=("refuses the connection (reset)",)))
    if conversation.transport == "tcp" and conversation.originator_certain:
        for frame in conversation.first_frames:
            found.setdefault(frame, Payload(Direction.ORIGINATOR, notes=("opens a connection",)))
    return found


def header(items: Sequence[Item], payload: Payload) -> bytes:
    """The header of the first message, if the frame's payload begins with it."""
    if payload.data is None or not items or items[0].offset != payload.offset:
        return b""
    return payload.data[: HEADERS.get(type(items[0].message), 0)]


def parse_error_text(error: ParseError) -> str:
    """Where and why parsing ended."""
    anomaly = error.anomaly
    return f"{anomaly.cause.value} at byte {anomaly.offset:,}: {anomaly.field} {anomaly.reason}"


# -- messages as text ----------------------------------------------------------------------------------------------


def describe(message: object) -> Message:
    """A message with its fields as text; fields of nested messages are included."""
    withheld = WITHHELD.get(type(message), ())
    names: tuple[str, ...] = getattr(message, "_fields", ())
    pairs = ((name, getattr(message, name)) for name in names if name not in withheld)
    fields = tuple((name.strip("_").replace("_", " "), value_text(value)) for name, value in pairs if is_shown(value))
    return Message(type(message).__name__, fields, bool(names) and not fields)


def is_shown(value: object) -> bool:
    """Whether a field has content; the header that each part of a message refers to is shown only once."""
    return value not in (None, "", b"", ()) and not isinstance(value, (dns.Header, dhcp.Header))


def value_text(value: object) -> str:
    """A value as text, shortened."""
    return shorten(next((to_text(value) for kind, to_text in TEXTS if isinstance(value, kind)), str(value)))


def tuple_text(values: Sequence[object]) -> str:
    names: tuple[str, ...] = getattr(values, "_fields", ())
    if names:
        pairs = zip(names, values, strict=True)
        return " ".join(f"{name}={value_text(value)}" for name, value in pairs if is_shown(value))
    more = len(values) - ELEMENTS
    return ", ".join(map(value_text, values[:ELEMENTS])) + (f" and {more:,} more" if more > 0 else "")


def shorten(text: str) -> str:
    return text if len(text) <= FIELD else text[:FIELD] + "…"


TEXTS: tuple[tuple[type, Callable[..., str]], ...] = (
    (bool, lambda value: "yes" if value else "no"),
    (enum.Enum, lambda value: value.name.lower().replace("_", " ")),
    (bytes, lambda value: value.hex() if len(value) <= PLAIN_BYTES else f"{len(value):,} bytes"),
    (tuple, tuple_text),
)
"""Type of a value → its text; that of other values is ``str``."""


def dump(data: bytes) -> Iterator[str]:
    """The lines of a hex dump as in Wireshark: offset, 16 bytes, and the printable ASCII characters among them."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{start:04x}  {row.hex(' '):<47}  {text}".rstrip()
