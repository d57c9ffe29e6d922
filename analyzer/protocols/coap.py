"""CoAP over UDP (RFC 7252), as LwM2M uses it: methods, response codes and paths. Queries and payloads are not kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "coap"

PORTS = frozenset({5683, 5783})
"""CoAP, and LwM2M bootstrap servers by convention."""
METHODS = {1: "GET", 2: "POST", 3: "PUT", 4: "DELETE", 5: "FETCH", 6: "PATCH", 7: "iPATCH"}
"""Codes 0.01 to 0.07 (RFC 7252; RFC 8132)."""
URI_PATH = 11
PAYLOAD_MARKER = 0xFF
MAX_TOKEN_BYTES = 8
LWM2M = {"rd": "LwM2M registration", "bs": "LwM2M bootstrap", "dp": "LwM2M send"}
"""First segment of a client's path (OMA LwM2M, transport bindings)."""
MAX_SHOWN = 20
"""Paths in the facts."""
PATH_SEGMENTS = 2
"""Segments of a path that are kept; the others may name a device."""


class CoapMessage(NamedTuple):
    """A message without its options and payload."""

    type: int
    code: int
    """Class in the upper three bits, detail in the others."""
    id: int
    path: tuple[str, ...]
    """First segments of the path."""


@dataclass(frozen=True, slots=True)
class CoapFacts(Facts):
    """Facts of a CoAP conversation."""

    methods: Mapping[SafeText, int]
    """Method → number of requests, in the order of the capture."""
    codes: Mapping[SafeText, int]
    """Response code (``2.05``) → number of responses."""
    paths: tuple[str, ...]
    service: SafeText | None
    """What of LwM2M it is."""


def probe(head: Head) -> bool:
    """On CoAP's ports a request or response whose options can be read; on others a request and its response."""
    if head.transport != "udp":
        return False
    asked: set[bytes] = set()
    for datagram in head.datagrams:
        data = datagram.data
        if len(data) < datagram.length or not is_message(data):
            continue
        if not PORTS.isdisjoint(head.ports):
            return True
        if data[1] in METHODS and data[0] & 15:
            asked.add(data[2 : 4 + (data[0] & 15)])
        elif data[1] >> 5 in (2, 4, 5) and data[2 : 4 + (data[0] & 15)] in asked:
            return True
    return False


def is_message(data: bytes) -> bool:
    """Whether header, token and options fill the datagram up to its payload."""
    if len(data) < 4 or data[0] >> 6 != 1 or data[0] & 15 > MAX_TOKEN_BYTES:
        return False
    if not (data[1] in METHODS or (data[1] >> 5 in (2, 4, 5) and data[1] & 31 < 16)):
        return False
    at = 4 + (data[0] & 15)
    while at < len(data) and data[at] != PAYLOAD_MARKER:
        sizes = data[at] >> 4, data[at] & 15
        if 15 in sizes:
            return False
        extended = [{13: 1, 14: 2}.get(size, 0) for size in sizes]
        length = sizes[1]
        if extended[1]:
            begin = at + 1 + extended[0]
            length = int.from_bytes(data[begin : begin + extended[1]], "big") + (13 if length == 13 else 269)
        at += 1 + sum(extended) + length
    return at <= len(data)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    first, code, identifier = reader.u8("version"), reader.u8("code"), reader.u16("message ID")
    if first >> 6 != 1 or first & 15 > MAX_TOKEN_BYTES:
        reader.malformed("version", "is not 1, or its token is longer than 8 bytes", 0)
    reader.take(first & 15, "token")
    path: list[str] = []
    number = 0
    while reader.has_more:
        byte = reader.u8("option")
        if byte == PAYLOAD_MARKER:
            reader.rest("payload")
            break
        number += extended(reader, byte >> 4, "option delta")
        value = reader.take(extended(reader, byte & 15, "option length"), "option")
        if number == URI_PATH:
            path.append(decode_text(value, 32))
    yield CoapMessage(first >> 4 & 3, code, identifier, tuple(path[:PATH_SEGMENTS]))


def extended(reader: Reader, value: int, field: str) -> int:
    """A value of four bits, or of one or two bytes after it (RFC 7252, section 3.1)."""
    if value == 15:
        reader.malformed(field, "15 is reserved", reader.pos - 1)
    if value == 14:
        return reader.u16(field) + 269
    return reader.u8(field) + 13 if value == 13 else value


def facts(items: Sequence[Item]) -> CoapFacts:
    methods: dict[str, int] = {}
    codes: dict[str, int] = {}
    paths: dict[str, None] = {}
    service = None
    for _, message in messages(items, CoapMessage):
        if message.code in METHODS:
            method = METHODS[message.code]
            methods[method] = methods.get(method, 0) + 1
            paths["/" + "/".join(message.path)] = None
            service = service or LWM2M.get(message.path[0] if message.path else "")
        elif message.code:
            code = f"{message.code >> 5}.{message.code & 31:02}"
            codes[code] = codes.get(code, 0) + 1
    return CoapFacts(methods, codes, tuple(paths)[:MAX_SHOWN], service)
