"""What the head of a flow says, protocol by protocol: facts, never opinions.

A protocol is a module listed in :data:`PROTOCOLS` (in order: the first whose ``probe`` agrees wins) with

* ``NAME``: as it stands in reports,
* ``probe(head)``: whether the bytes are this protocol; ports are a hint for what bytes alone cannot tell,
* ``dissect(reader, direction)``: an iterator that reads one direction of a TCP stream, or one datagram, straight
  on and yields messages (named tuples in the RFC's words), each as soon as it is read: where the reader then stands
  tells where the next one begins; it neither catches nor judges,
* ``facts(items)``: the facts that follow from all messages of the conversation, in the order of the capture.

:func:`dissect` runs them and is the only place where a :class:`~analyzer.wire.StopParsing` becomes an anomaly.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Final, Protocol, cast

from analyzer.heads import (
    DIRECTIONS,
    Direction,
    Frame,
    Head,
    Iec104Link,
    LazySequence,
    Mark,
    Stream,
    cache_last,
)
from analyzer.messages import Facts, Item
from analyzer.protocols import dhcp, dns, esp, ftp, http, icmp, iec104, ike, ntp, ssh, tls
from analyzer.protocols.esp import udp as esp_in_udp
from analyzer.safetext import SafeText
from analyzer.wire import UNBOUNDED, Anomaly, Cause, Reader, StopParsing


class ProtocolModule(Protocol):
    """The surface of a module in this folder."""

    NAME: str

    def probe(self, head: Head) -> bool: ...

    def dissect(self, reader: Reader, direction: Direction) -> Iterator[object]: ...

    def facts(self, items: Sequence[Item]) -> Facts: ...


PROTOCOLS = cast(tuple[ProtocolModule, ...], (icmp, ike, esp_in_udp, esp, tls, ssh, iec104, ftp, http, dhcp, dns, ntp))


@dataclass(frozen=True, slots=True)
class ParseError:
    """Where a dissection ended early: the anomaly, and the frame that holds the byte."""

    anomaly: Anomaly
    direction: Direction
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Dissection:
    """Everything that a protocol's module read in a head."""

    protocol: SafeText | None = None
    """``NAME`` of the protocol whose content it is; ``None``: none that is known."""
    items: Sequence[Item] = field(default=(), repr=False)
    """Messages in the order of the capture (by frame; within a direction always in stream order). Some hold bytes as
    they were sent, for the checks: no text shows them."""
    breaks: tuple[ParseError, ...] = ()
    facts: Facts | None = None

    @property
    def malformed(self) -> tuple[ParseError, ...]:
        """The breaks that are the sender's fault."""
        return tuple(each for each in self.breaks if each.anomaly.cause is Cause.MALFORMED)


EVERY: Final = sys.maxsize
"""No limit for the messages of a head."""


class RereadItems(LazySequence[Item]):
    """The items of a conversation that are not kept: read again, up to ``most`` as in :func:`dissect`."""

    __slots__ = ("__weakref__", "head", "most")

    def __init__(self, head: Head, most: int = EVERY) -> None:
        self.head = head
        self.most = most

    def load(self) -> Sequence[Item]:
        return read_again(self)


@cache_last
def read_again(items: RereadItems) -> Sequence[Item]:
    found = recognised(items.head)
    return tuple(read(*found, items.most)[0]) if found else ()


def again(before: Dissection, head: Head, most: int = EVERY) -> Dissection:
    """The dissection of a head that says what was read ``before``: its messages are read when asked for."""
    return Dissection(before.protocol, RereadItems(head, most), before.breaks, before.facts)


CROWDED: Final = "is not read, for the captures hold too many messages"
"""Why a dissection ended at such a limit."""


def dissect(head: Head, most: int = EVERY) -> Dissection:
    """Name the protocol of a head by its content and read all messages, but at most ``most`` of each direction of a
    stream, or of all datagrams. Never raises for any bytes.

    The messages of a conversation like an earlier one are left until somebody asks for them.
    """
    found = recognised(head)
    if found is None:
        return Dissection()
    module, whole = found
    likeness = tls.likeness(whole) if module.NAME == tls.NAME else None
    if likeness in recalled:
        return Dissection(module.NAME, RereadItems(head, most), (), recalled[likeness])
    dissection = dissect_as(module, whole, most)
    facts = dissection.facts
    if likeness is not None and facts is not None and not dissection.breaks and len(recalled) < RECALLED:
        recalled[likeness] = facts
    return dissection


RECALLED: Final = 1024
"""Different likenesses of which the facts are kept."""
recalled: Final[dict[object, Facts]] = {}


def recognised(head: Head) -> tuple[ProtocolModule, Head] | None:
    """The protocol of a head, and the head from where that begins; ``None``: it is none that is known."""
    # Every probe looks at what was said, which may be made anew each time.
    said = tuple(head.streams), tuple(head.datagrams)
    head = Head(head.transport, head.ports, *said, head.link, head.associations)
    for module in PROTOCOLS:
        if module.probe(head):
            return module, head
    begun = beginnings(head)
    for module in PROTOCOLS if begun else ():
        resumed = resume(module, head, begun)
        if resumed is not None:
            return module, resumed
    return None


RESUMES = 8
"""Frames at whose beginnings a stream without its own beginning is tried."""


def beginnings(head: Head) -> list[tuple[Direction, Mark, Head]]:
    """Where midstream streams may begin anew: messages mostly start with a segment.

    Of each: direction, the segment's mark, and a head with nothing but the bytes from there on (a probe asks for
    no more).
    """
    found = []
    for direction, stream in zip(DIRECTIONS, head.streams, strict=True):
        if stream.begins or not stream.data:
            continue
        for mark in stream.marks[:RESUMES]:
            trimmed = Stream(stream.data[mark.offset :], (), False, stream.ends)
            alone = (trimmed, Stream()) if direction is Direction.ORIGINATOR else (Stream(), trimmed)
            found.append((direction, mark, head._replace(streams=alone)))
    return found


def resume(module: ProtocolModule, head: Head, begun: Sequence[tuple[Direction, Mark, Head]]) -> Head | None:
    """The head with its midstream streams cut to where the protocol begins; ``None``: it does so nowhere."""
    found: dict[Direction, Mark] = {}
    for direction, mark, alone in begun:
        if direction not in found and module.probe(alone):
            found[direction] = mark
    if not found:
        return None
    one, two = head.streams
    if Direction.ORIGINATOR in found:
        one = one.from_mark(found[Direction.ORIGINATOR])
    if Direction.RESPONDER in found:
        two = two.from_mark(found[Direction.RESPONDER])
    return head._replace(streams=(one, two))


def dissect_as(module: ProtocolModule, head: Head, most: int = EVERY) -> Dissection:
    """Read a head as one given protocol."""
    items, breaks = read(module, head, most)
    try:
        facts = module.facts(items)
        if isinstance(facts, iec104.Iec104Facts) and head.link is not None:
            facts = iec104.whole(facts, head.link)
            breaks = breaks_of_link(breaks, head.link)
    except Exception as error:  # our own bug must not hide the other flows; tests demand that it never happens
        breaks.append(defect(error, head))
        facts = None
    return Dissection(module.NAME, tuple(items), tuple(breaks), facts)


def read(module: ProtocolModule, head: Head, most: int) -> tuple[list[Item], list[ParseError]]:
    """The messages of a head, and where reading them ended early."""
    return dissect_streams(module, head, most) if head.transport == "tcp" else dissect_datagrams(module, head, most)


def breaks_of_link(breaks: list[ParseError], link: Iec104Link) -> list[ParseError]:
    """The breaks of an IEC 104 link over the whole stream; ``breaks`` are those of its head."""
    found = [
        each for each in breaks if not link.directions[each.direction].followed or each.anomaly.cause is Cause.DEFECT
    ]
    return found + [ParseError(*each) for each in iec104.anomalies(link)]


def messages_of(module: ProtocolModule, reader: Reader, direction: Direction, most: int) -> Iterator[object]:
    """What a reader still holds, up to a number of messages."""
    found = module.dissect(reader, direction)
    return found if most == EVERY else limited(found, reader, most)


def limited(found: Iterator[object], reader: Reader, most: int) -> Iterator[object]:
    yield from itertools.islice(found, most)
    if reader.has_more:
        raise StopParsing(Anomaly(Cause.TRUNCATED, "message", reader.pos, CROWDED))


def dissect_datagrams(module: ProtocolModule, head: Head, most: int) -> tuple[list[Item], list[ParseError]]:
    """The messages of all datagrams, as they came."""
    items: list[Item] = []
    breaks: list[ParseError] = []
    for direction, data, length, frame, time in head.datagrams:
        reader = Reader(data, 0, length)
        began = 0
        try:
            for message in messages_of(module, reader, direction, most if most == EVERY else most - len(items)):
                items.append(Item(message, direction, frame, time, began))
                began = reader.pos
        except Exception as error:
            breaks.append(ParseError(anomaly_of(error, module, began), direction, frame, time))
    return items, breaks


def dissect_streams(module: ProtocolModule, head: Head, most: int) -> tuple[list[Item], list[ParseError]]:
    """Both directions of a TCP conversation, each on its own, their messages in the order of the capture."""
    placed: list[tuple[Frame, Item]] = []
    breaks: list[ParseError] = []
    for direction, stream in zip(DIRECTIONS, head.streams, strict=True):
        if not stream.data:
            continue
        reader = Reader(stream.data, 0, len(stream.data) if stream.ends else UNBOUNDED)
        messages: list[object] = []
        began = [0]  # of each message, and of the one that follows
        anomaly = None
        try:
            for message in messages_of(module, reader, direction, most):
                messages.append(message)
                began.append(reader.pos)
        except Exception as error:
            anomaly = anomaly_of(error, module, began[-1])
        arrival = stream.marks[0].frame  # a message is there once all bytes before it are: never goes back
        for message, offset, (_, frame, time) in zip(messages, began, stream.marks_at(began), strict=False):
            if frame > arrival:
                arrival = frame
            placed.append((arrival, Item(message, direction, frame, time, offset)))
        if anomaly is not None:
            # What looks contradictory in a stream without its beginning may only lack that beginning.
            if anomaly.cause is Cause.MALFORMED and not stream.begins:
                anomaly = replace(anomaly, cause=Cause.TRUNCATED)
            mark = stream.mark_at(anomaly.offset)
            breaks.append(ParseError(anomaly, direction, mark.frame, mark.time))
    placed.sort(key=itemgetter(0))
    return [item for _, item in placed], breaks


def anomaly_of(error: Exception, module: ProtocolModule, began: int) -> Anomaly:
    """Why a dissector ended early: its reader stopped it, or it failed in the message that ``began`` there."""
    if isinstance(error, StopParsing):
        return error.anomaly
    return Anomaly(Cause.DEFECT, module.NAME, began, f"{type(error).__name__}: {error}")


def defect(error: Exception, head: Head) -> ParseError:
    """A failure of this program, placed at the head's first frame."""
    anomaly = Anomaly(Cause.DEFECT, "facts", 0, f"{type(error).__name__}: {error}")
    for direction in Direction:
        marks = head.streams[direction].marks
        if marks:
            return ParseError(anomaly, direction, marks[0].frame, marks[0].time)
    first = head.datagrams[0]
    return ParseError(anomaly, first.direction, first.frame, first.time)


# -- content that no module reads -------------------------------------------------------------------------------

LOOKS: Final = (
    (re.compile(rb"\xff[\xfb-\xfe]"), "Telnet"),
    (re.compile(rb"\+OK"), "POP3"),
    (re.compile(rb"\* (?:OK|PREAUTH|BYE)\b"), "IMAP"),
    (re.compile(rb"220[ -]"), "SMTP or FTP"),
    (re.compile(rb"RFB [0-9]{3}\.[0-9]{3}\n"), "VNC"),
)
"""How a server begins that speaks something which is named here, but not read: RFC 854, RFC 1939, RFC 9051, RFC 5321,
RFC 6143."""


def resemblance(head: Head) -> str:
    """What unknown content looks like, in words of this program's own.

    Its first bytes may be a user's name and password, on a port where nobody expects them: none of them is repeated.
    """
    for direction in (Direction.RESPONDER, Direction.ORIGINATOR):
        start = head.first(direction)[:64]
        for pattern, name in LOOKS:
            if pattern.match(start):
                return name
    sample = (head.first(Direction.ORIGINATOR) or head.first(Direction.RESPONDER))[:64]
    return "text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in sample) else "binary data"
