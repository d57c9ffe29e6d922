"""HTTP/1 in clear (RFC 9112): start line and header section of the first message of either side.

After a switch to WebSocket (RFC 6455), its frames without their content. Only header fields that hold no secret keep
their value, and only known ones their name; a target loses its query and everything that looks like a token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from operator import xor
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "http"

MAX_LINE_BYTES = 16 * 1024
MAX_FIELDS = 256
"""Header fields of one message. Both limits are above those of common servers (Apache: 8190 bytes, 100 fields)."""

METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"PROPFIND", b"PRI")
STARTS = tuple(method + b" " for method in METHODS)
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ ].*?) *HTTP/([0-9]\.[0-9])")
"""Some clients leave blanks in the target (RFC 9112, section 3)."""
SIMPLE_REQUEST = re.compile(rb"GET (/[!-~]*)\r?\n")
"""HTTP/0.9: a line without a version."""
STATUS_LINE = re.compile(rb"HTTP/([0-9]\.[0-9]) ([1-9][0-9]{2})(?: (.*))?")
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

KEPT = frozenset({"host", "upgrade", "connection", "server", "user-agent", "content-type", "content-length"})
"""Header fields whose value is not secret."""
CREDENTIALS = {
    "authorization": "Authorization",
    "proxy-authorization": "Proxy-Authorization",
    "cookie": "Cookie",
    "set-cookie": "Set-Cookie",
    "x-api-key": "X-API-Key",
}
"""Header fields whose value is secret → their usual spelling. Facts tell only that they are present."""

TOKEN_SEGMENT = 25
"""Minimum length of a path segment with letters and digits that may be a token. Names of gateways are shorter."""

SERVICES = {("POST", "/update-info"): "CUPS update-info", ("GET", "/router-info"): "LNS router-info"}
"""Requests of a LoRa Basics Station (its documentation, CUPS and LNS protocol)."""

CWMP = b"urn:dslforum-org:cwmp-1-"
"""Namespace of the SOAP messages of TR-069."""
MAX_ENVELOPE_BYTES = 1024
"""Bytes of content in which a namespace is looked for."""

OPCODES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
"""RFC 6455, section 11.8."""
CLOSE = 8
MAX_FRAMES = 4096
"""WebSocket frames that are read per direction."""
MAX_PATH_BYTES = 256


class RequestLine(NamedTuple):
    """RFC 9112, section 3."""

    method: str
    path: str
    """The target without scheme, authority, query and fragment. CONNECT: the authority; OPTIONS: ``*``."""
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
    """In lower case; empty for fields that are neither in :data:`KEPT` nor in :data:`CREDENTIALS`."""
    value: str
    """Empty for fields that are not in :data:`KEPT`."""


class Envelope(NamedTuple):
    """The content of a request, as far as a protocol over HTTP is recognised in it."""

    service: str


class WebSocketFrame(NamedTuple):
    """A frame without its content (RFC 6455, section 5.2)."""

    final: bool
    reserved: int
    """Bits RSV1 to RSV3. RSV1: compressed (RFC 7692)."""
    opcode: int
    masked: bool
    length: int
    """Bytes of content."""
    close_code: int | None
    """Of a close frame: its status code (RFC 6455, section 7.4)."""


@dataclass(frozen=True, slots=True)
class HttpFacts(Facts):
    """Facts of the first request and its final response."""

    method: SafeText | None = None
    path: str | None = None
    upgrade: SafeText | None = None
    """Value of the Upgrade field: ``websocket``."""
    host: str | None = None
    status: int | None = None
    server: SafeText | None = None
    user_agent: SafeText | None = None
    version: SafeText | None = None
    """Of the request, or else of the response: ``1.1``."""
    service: SafeText | None = None
    """The request of a LoRa Basics Station that this is (see :data:`SERVICES`), or TR-069."""
    credentials: tuple[SafeText, ...] = ()
    """Names of the header fields of either side that carry a secret in clear."""
    frames: Mapping[SafeText, int] = field(default_factory=dict)
    """Opcode → number of WebSocket frames of both sides."""
    close_codes: tuple[int, ...] = ()
    """Status codes of the close frames of both sides; 1000: normal closure."""


def probe(head: Head) -> bool:
    """A request line of the originator, or a status line of the responder."""
    if head.transport != "tcp":
        return False
    client, server = head.streams[Direction.ORIGINATOR].data, head.streams[Direction.RESPONDER].data
    if STATUS_LINE.match(server[:32]):
        return True
    if client.startswith(STARTS):
        line = client[:MAX_LINE_BYTES].split(b"\n", 1)[0].rstrip(b"\r")
        if REQUEST_LINE.fullmatch(line):
            return True
        if SIMPLE_REQUEST.fullmatch(client):
            return True
        target = line.partition(b" ")[2]
        return b"\n" not in client[:MAX_LINE_BYTES] and target[:1] in (b"/", b"h", b"*") and target.isascii()
    return False


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """Start line and header section of one message; of responses also of the interim ones (1xx) before it."""
    start = reader.pos
    if direction is Direction.ORIGINATOR:
        first = reader.line(MAX_LINE_BYTES, "request line")
        simple = SIMPLE_REQUEST.fullmatch(first + b"\n")
        if simple is not None:
            yield RequestLine("GET", path_of(b"GET", simple[1]), "0.9")
            return
        request = REQUEST_LINE.fullmatch(first)
        if request is None:
            reader.malformed("request line", "is not method, target and HTTP version", start)
        yield RequestLine(decode_text(request[1]), path_of(request[1], request[2]), request[3].decode("ascii"))
        switching = False
        for line in field_lines(reader):
            switching |= line.name == "upgrade" and line.value.lower() == "websocket"
            yield line
        if CWMP in reader.peek(MAX_ENVELOPE_BYTES):
            yield Envelope("TR-069 (CWMP)")
            return
        # If the server refuses to switch, another request may follow. It begins with a capital letter, unlike the
        # frames of known clients.
        if switching and not reader.peek(1).isupper():
            yield from websocket_frames(reader)
        return
    while reader.has_more:
        start = reader.pos
        response = STATUS_LINE.fullmatch(reader.line(MAX_LINE_BYTES, "status line"))
        if response is None:
            reader.malformed("status line", "is not HTTP version, status code and reason", start)
        status = int(response[2])
        yield StatusLine(response[1].decode("ascii"), status, decode_text(response[3] or b""))
        yield from field_lines(reader)
        if status == 101:
            yield from websocket_frames(reader)
        if status == 101 or status >= 200:
            return


def field_lines(reader: Reader) -> Iterator[FieldLine]:
    """The header section up to and including its empty line."""
    for _ in range(MAX_FIELDS):
        start = reader.pos
        line = reader.line(MAX_LINE_BYTES, "field line")
        if not line:
            return
        if line[:1] in (b" ", b"\t"):
            continue  # obsolete folding: a continuation of the field before (RFC 9112, section 5.2)
        raw_name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(raw_name):
            reader.malformed("field line", "is not name, colon and value", start)
        name = raw_name.lower().decode("ascii")
        if name == "host":
            value = value.rpartition(b"@")[2]  # user name and password
        known = name in KEPT or name in CREDENTIALS
        yield FieldLine(name if known else "", decode_text(value.strip(b" \t")) if name in KEPT else "")
    reader.malformed("field line", f"more than {MAX_FIELDS} fields")


def websocket_frames(reader: Reader) -> Iterator[WebSocketFrame]:
    """The frames of one direction (RFC 6455, section 5.2)."""
    for _ in range(MAX_FRAMES):
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
    """A request target without parts that may be secret (RFC 9112, section 3.2)."""
    target = re.split(rb"[?#]", target, maxsplit=1)[0]
    if method == b"CONNECT":
        return decode_text(target.rpartition(b"@")[2])
    if b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return "/".join(map(segment_text, target[:MAX_PATH_BYTES].split(b"/"))) + (
        "…" if len(target) > MAX_PATH_BYTES else ""
    )


def segment_text(raw: bytes) -> str:
    """A path segment without its parameters (RFC 3986, section 3.3); an ellipsis for a possible token."""
    raw = raw.partition(b";")[0]
    mixed = any(byte in b"0123456789" for byte in raw) and any(bytes((byte,)).isalpha() for byte in raw)
    return "…" if len(raw) >= TOKEN_SEGMENT and mixed else decode_text(raw)


def facts(items: Sequence[Item]) -> HttpFacts:
    request = next((line for _, line in messages(items, RequestLine)), None)
    responses = [line for _, line in messages(items, StatusLine)]
    fields: tuple[dict[str, str], dict[str, str]] = ({}, {})
    """By direction: name → first value."""
    for item, line in messages(items, FieldLine):
        fields[item.direction].setdefault(line.name, line.value)
    requested, responded = fields
    version = request.version if request else responses[0].version if responses else None
    frames = [frame for _, frame in messages(items, WebSocketFrame)]
    service = SERVICES.get((request.method, request.path)) if request else None
    service = next((envelope.service for _, envelope in messages(items, Envelope)), service)
    return HttpFacts(
        method=request.method if request else None,
        path=request.path if request else None,
        upgrade=requested.get("upgrade") or responded.get("upgrade"),
        host=requested.get("host"),
        status=responses[-1].status_code if responses else None,
        server=responded.get("server"),
        user_agent=requested.get("user-agent"),
        version=version,
        service=service,
        credentials=tuple(shown for name, shown in CREDENTIALS.items() if name in requested or name in responded),
        frames=dict(Counter(OPCODES.get(frame.opcode, f"opcode {frame.opcode}") for frame in frames)),
        close_codes=tuple(dict.fromkeys(frame.close_code for frame in frames if frame.close_code is not None)),
    )
