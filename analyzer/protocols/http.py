"""HTTP/1 in clear (RFC 9112): start line and header section of the first message on either side.

Only named header fields keep their value, and a target loses its query: both may hold tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.wire import Reader, text

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
    """In lower case."""
    value: str
    """Empty unless the field is one of :data:`KEPT`."""


@dataclass(frozen=True, slots=True)
class HttpFacts(Facts):
    """Of the first request and of its final response."""

    method: str | None = None
    path: str | None = None
    upgrade: str | None = None
    """The Upgrade field: ``websocket``."""
    host: str | None = None
    status: int | None = None
    server: str | None = None
    user_agent: str | None = None
    version: str | None = None
    """Of the request, else of the response: ``1.1``."""


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
        yield RequestLine(text(asked[1]), path_of(asked[1], asked[2]), asked[3].decode("ascii"))
        yield from field_lines(reader)
        return
    while reader.more:
        start = reader.pos
        answer = STATUS_LINE.fullmatch(reader.line(LINE_LIMIT, "status line"))
        if answer is None:
            reader.malformed("status line", "is not HTTP version, status code and reason", start)
        status = int(answer[2])
        yield StatusLine(answer[1].decode("ascii"), status, text(answer[3] or b""))
        yield from field_lines(reader)
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
        name = text(named.lower())
        yield FieldLine(name, text(value.strip(b" \t")) if name in KEPT else "")
    reader.malformed("field line", f"more than {FIELDS_LIMIT} fields")


def path_of(method: bytes, target: bytes) -> str:
    """A request target without what may be secret (RFC 9112, section 3.2)."""
    target = re.split(rb"[?#]", target, maxsplit=1)[0]
    if method == b"CONNECT":
        return text(target.rpartition(b"@")[2])
    if b"://" in target:
        return "/" + text(target.partition(b"://")[2].partition(b"/")[2])
    return text(target)


def facts(items: Sequence[Item]) -> HttpFacts:
    """The first request and the final response."""
    request = next((said for _, said in messages(items, RequestLine)), None)
    responses = [said for _, said in messages(items, StatusLine)]
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for item, said in messages(items, FieldLine):
        sides[item.direction].setdefault(said.name, said.value)
    asked, answered = sides
    version = request.version if request else responses[0].version if responses else None
    return HttpFacts(
        method=request.method if request else None,
        path=request.path if request else None,
        upgrade=asked.get("upgrade") or answered.get("upgrade"),
        host=asked.get("host"),
        status=responses[-1].status_code if responses else None,
        server=answered.get("server"),
        user_agent=asked.get("user-agent"),
        version=version,
    )
