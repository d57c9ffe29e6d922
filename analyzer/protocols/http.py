"""HTTP/1 in clear (RFC 9112): start line and header section of the first message on either side; and what follows the
switch to WebSocket (RFC 6455): its frames, never their content.

Only harmless header fields keep their value and only known ones their name; a target loses its query and whatever
looks like a token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import xor
from typing import NamedTuple

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "http"

LINE_LIMIT = 16 * 1024
FIELDS_LIMIT = 256

METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"PROPFIND", b"PRI")
STARTS = tuple(method + b" " for method in METHODS)
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ ]+) HTTP/([0-9]\.[0-9])")
STATUS_LINE = re.compile(rb"HTTP/([0-9]\.[0-9]) ([1-9][0-9]{2})(?: (.*))?")
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

KEPT = frozenset({"host", "upgrade", "connection", "server", "user-agent", "content-type", "content-length"})
"""Header fields whose value is no secret."""
CREDENTIALS = {
    "authorization": "Authorization",
    "proxy-authorization": "Proxy-Authorization",
    "cookie": "Cookie",
    "set-cookie": "Set-Cookie",
    "x-api-key": "X-API-Key",
}
"""Header fields whose value is a secret, as they are usually written: that they are there is told, and nothing else."""

TOKEN_SEGMENT = 25
"""Characters of a segment with letters and digits from which on it may be a token; a gateway's name is shorter."""

SERVICES = {("POST", "/update-info"): "CUPS update-info", ("GET", "/router-info"): "LNS router-info"}
"""What a LoRa Basics Station asks its servers for (its own documentation, CUPS and LNS protocol)."""

OPCODES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
"""RFC 6455, section 11.8."""
CLOSE = 8
FRAMES_LIMIT = 4096
PATH_LIMIT = 256


class RequestLine(NamedTuple):
    """RFC 9112, section 3."""

    method: str
    path: str
    """The target without scheme, authority, query and fragment; of CONNECT the authority; ``*`` of OPTIONS."""
    version: str
    """``1.1``"""


class StatusLine(NamedTuple):
    """RFC 9112, section 4."""

    version: str
    status_code: int
    reason_phrase: str


class FieldLine(NamedTuple):
    """A header field (RFC 9112, section 5)."""

    name: str
    """In lower case; empty unless the field is one of :data:`KEPT` or :data:`CREDENTIALS`."""
    value: str
    """Empty unless the field is one of :data:`KEPT`."""


class WebSocketFrame(NamedTuple):
    """A frame without its content (RFC 6455, section 5.2)."""

    final: bool
    reserved: int
    """The bits RSV1 to RSV3; RSV1: compressed (RFC 7692)."""
    opcode: int
    masked: bool
    length: int
    """Bytes of content."""
    close_code: int | None
    """Of a frame that closes the connection: why (RFC 6455, section 7.4)."""


@dataclass(frozen=True, slots=True)
class HttpFacts(Facts):
    """Of the first request and of its final response."""

    method: SafeText | None = None
    path: str | None = None
    upgrade: SafeText | None = None
    """The Upgrade field: ``websocket``."""
    host: str | None = None
    status: int | None = None
    server: SafeText | None = None
    user_agent: SafeText | None = None
    version: SafeText | None = None
    """Of the request, else of the response: ``1.1``."""
    service: SafeText | None = None
    """What a LoRa Basics Station asks for by this request."""
    credentials: tuple[SafeText, ...] = ()
    """Header fields of either side that carry a secret in clear, by name."""
    frames: Mapping[SafeText, int] = field(default_factory=dict)
    """WebSocket frames of both sides by opcode."""
    close_codes: tuple[int, ...] = ()
    """Why the WebSocket was closed, as either side said: 1000 is a normal end."""


def probe(head: Head) -> bool:
    """A request line or a status line on its own side."""
    if head.transport != "tcp":
        return False
    client, server = head.streams[Direction.ORIGINATOR].data, head.streams[Direction.RESPONDER].data
    if STATUS_LINE.match(server[:32]):
        return True
    if client.startswith(STARTS):
        line = client[:LINE_LIMIT].split(b"\n", 1)[0].rstrip(b"\r")
        if REQUEST_LINE.fullmatch(line):
            return True
        target = line.partition(b" ")[2]
        return b"\n" not in client[:LINE_LIMIT] and target[:1] in (b"/", b"h", b"*") and target.isascii()
    return False


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """One message's head; of responses those with 1xx too, up to the final one or a switch of protocols."""
    start = reader.pos
    if direction is Direction.ORIGINATOR:
        asked = REQUEST_LINE.fullmatch(reader.line(LINE_LIMIT, "request line"))
        if asked is None:
            reader.malformed("request line", "is not method, target and HTTP version", start)
        yield RequestLine(decode_text(asked[1]), path_of(asked[1], asked[2]), asked[3].decode("ascii"))
        switching = False
        for line in field_lines(reader):
            switching |= line.name == "upgrade" and line.value.lower() == "websocket"
            yield line
        # A server that refuses to switch is asked the next thing: a capital letter begins no frame of any client.
        if switching and not reader.peek(1).isupper():
            yield from websocket_frames(reader)
        return
    while reader.has_more:
        start = reader.pos
        answer = STATUS_LINE.fullmatch(reader.line(LINE_LIMIT, "status line"))
        if answer is None:
            reader.malformed("status line", "is not HTTP version, status code and reason", start)
        status = int(answer[2])
        yield StatusLine(answer[1].decode("ascii"), status, decode_text(answer[3] or b""))
        yield from field_lines(reader)
        if status == 101:
            yield from websocket_frames(reader)
        if status == 101 or status >= 200:
            return


def field_lines(reader: Reader) -> Iterator[FieldLine]:
    """The header section up to its empty line."""
    for _ in range(FIELDS_LIMIT):
        start = reader.pos
        line = reader.line(LINE_LIMIT, "field line")
        if not line:
            return
        if line[:1] in (b" ", b"\t"):
            continue  # obsolete folding: belongs to the field before
        named, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(named):
            reader.malformed("field line", "is not name, colon and value", start)
        name = named.lower().decode("ascii")
        if name == "host":
            value = value.rpartition(b"@")[2]
        known = name in KEPT or name in CREDENTIALS
        yield FieldLine(name if known else "", decode_text(value.strip(b" \t")) if name in KEPT else "")
    reader.malformed("field line", f"more than {FIELDS_LIMIT} fields")


def websocket_frames(reader: Reader) -> Iterator[WebSocketFrame]:
    """The frames of one direction (RFC 6455, section 5.2)."""
    for _ in range(FRAMES_LIMIT):
        if not reader.has_more:
            return
        start = reader.pos
        first, second = reader.u8("opcode"), reader.u8("payload length")
        opcode, masked, length = first & 15, bool(second & 0x80), second & 0x7F
        if opcode >= CLOSE and (length > 125 or not first & 0x80):
            reader.malformed("payload length", "a control frame is cut in pieces or longer than 125 bytes", start)
        if length == 126:
            length = reader.u16("extended payload length")
        elif length == 127:
            length = int.from_bytes(reader.take(8, "extended payload length"), "big")
            if length >> 63:
                reader.malformed("extended payload length", "its first bit is set", start)
        key = reader.take(4, "masking key") if masked else bytes(4)
        reason = reader.take(2, "close code") if opcode == CLOSE and length >= 2 else b""
        code = int.from_bytes(bytes(map(xor, reason, key)), "big") if reason else None
        yield WebSocketFrame(bool(first & 0x80), first >> 4 & 7, opcode, masked, length, code)
        reader.take(length - len(reason), "payload data")


def path_of(method: bytes, target: bytes) -> str:
    """A request target without what may be secret (RFC 9112, section 3.2)."""
    target = re.split(rb"[?#]", target, maxsplit=1)[0]
    if method == b"CONNECT":
        return decode_text(target.rpartition(b"@")[2])
    if b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return "/".join(map(segment, target[:PATH_LIMIT].split(b"/"))) + ("…" if len(target) > PATH_LIMIT else "")


def segment(raw: bytes) -> str:
    """A segment of a path without its parameters (RFC 3986, section 3.3); an ellipsis for what may be a token."""
    raw = raw.partition(b";")[0]
    mixed = any(byte in b"0123456789" for byte in raw) and any(bytes((byte,)).isalpha() for byte in raw)
    return "…" if len(raw) >= TOKEN_SEGMENT and mixed else decode_text(raw)


def facts(items: Sequence[Item]) -> HttpFacts:
    """The first request and the final response."""
    request = next((said for _, said in messages(items, RequestLine)), None)
    responses = [said for _, said in messages(items, StatusLine)]
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for item, said in messages(items, FieldLine):
        sides[item.direction].setdefault(said.name, said.value)
    asked, answered = sides
    version = request.version if request else responses[0].version if responses else None
    named = {said.name for _, said in messages(items, FieldLine)}
    frames = [said for _, said in messages(items, WebSocketFrame)]
    return HttpFacts(
        method=request.method if request else None,
        path=request.path if request else None,
        upgrade=asked.get("upgrade") or answered.get("upgrade"),
        host=asked.get("host"),
        status=responses[-1].status_code if responses else None,
        server=answered.get("server"),
        user_agent=asked.get("user-agent"),
        version=version,
        service=SERVICES.get((request.method, request.path)) if request else None,
        credentials=tuple(shown for name, shown in CREDENTIALS.items() if name in named),
        frames=dict(Counter(OPCODES.get(each.opcode, f"opcode {each.opcode}") for each in frames)),
        close_codes=tuple(dict.fromkeys(each.close_code for each in frames if each.close_code is not None)),
    )
