"""Syslog over UDP and TCP (RFC 5424, RFC 3164, RFC 6587): priorities only. What messages say is not kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.wire import UNBOUNDED, Reader

NAME = "syslog"

PORTS = frozenset({514, 601})
PRIORITY = re.compile(rb"<([0-9]{1,3})>")
MESSAGE = re.compile(
    rb"(?:[1-9][0-9]{0,4} )?<(?:[0-9]{1,2}|1[0-8][0-9]|19[01])>"
    rb"(?:1 (?:[0-9]{4}-|- )|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-9])"
)
"""Octet count (RFC 6587), priority, and version with time stamp (RFC 5424), or a date (RFC 3164)."""
HIGHEST_PRIORITY = 191
SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
MAX_LINE_BYTES = 8192
"""Longest message over TCP."""
MAX_MESSAGES = 256
"""Messages that are read per direction of TCP."""


class SyslogMessage(NamedTuple):
    facility: int
    severity: int


@dataclass(frozen=True, slots=True)
class SyslogFacts(Facts):
    """Facts of a syslog conversation."""

    severities: Mapping[SafeText, int]
    """Severity → number of messages, in the order of the capture."""
    facilities: tuple[int, ...]
    """Ascending."""


def probe(head: Head) -> bool:
    """A message of the originator with priority and date; on syslog's ports a priority is enough."""
    if head.transport not in ("udp", "tcp"):
        return False
    data = head.first(Direction.ORIGINATOR)[:40]
    if MESSAGE.match(data):
        return True
    found = PRIORITY.match(data)
    return found is not None and int(found[1]) <= HIGHEST_PRIORITY and not PORTS.isdisjoint(head.ports)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    if reader.fence != UNBOUNDED and not reader.peek(6)[:1].isdigit() and b"\n" not in reader.peek(reader.left)[:-1]:
        yield message(reader, reader.rest("message"))
        return
    for _ in range(MAX_MESSAGES):
        if not reader.has_more:
            return
        if reader.peek(1).isdigit():
            yield message(reader, counted(reader))
        else:
            yield message(reader, reader.line(MAX_LINE_BYTES, "message"))


def counted(reader: Reader) -> bytes:
    """A message after the number of its bytes (RFC 6587, section 3.4.1)."""
    digits = b""
    while (byte := reader.take(1, "MSG-LEN")).isdigit() and len(digits) < 5:
        digits += byte
    if byte != b" ":
        reader.malformed("MSG-LEN", "is not a number and a space", reader.pos - 1)
    return reader.take(int(digits), "message")


def message(reader: Reader, line: bytes) -> SyslogMessage:
    found = PRIORITY.match(line)
    if found is None or int(found[1]) > HIGHEST_PRIORITY:
        reader.malformed("PRI", "is no priority between angle brackets")
    return SyslogMessage(*divmod(int(found[1]), len(SEVERITIES)))


def facts(items: Sequence[Item]) -> SyslogFacts:
    found = [message for _, message in messages(items, SyslogMessage)]
    severities: dict[str, int] = {}
    for one in found:
        severities[SEVERITIES[one.severity]] = severities.get(SEVERITIES[one.severity], 0) + 1
    return SyslogFacts(severities, tuple(sorted({one.facility for one in found})))
