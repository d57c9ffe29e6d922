"""What the head of a flow says, protocol by protocol: facts, never opinions.

A protocol is a module listed in :data:`PROTOCOLS` (in order: the first whose ``probe`` agrees wins) with

* ``NAME``: as it stands in reports,
* ``probe(head)``: whether the bytes are this protocol; ports are a hint for what bytes alone cannot tell,
* ``dissect(reader, direction)``: a generator that reads one direction of a TCP stream, or one datagram, straight
  on and yields messages (frozen dataclasses in the RFC's words); it neither catches nor judges,
* ``facts(items)``: the facts that follow from all messages of the conversation, in the order of the capture.

:func:`dissect` runs them and is the only place where a :class:`~analyzer.wire.Stop` becomes an anomaly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, overload

from analyzer.heads import Direction, Frame, Head, Stream
from analyzer.messages import Facts, Item
from analyzer.protocols import dhcp, dns, esp, ftp, http, icmp, iec104, ike, natt, ntp, ssh, tls
from analyzer.wire import UNBOUNDED, Anomaly, Cause, Reader, Stop


class ProtocolModule(Protocol):
    """The surface of a module in this folder."""

    NAME: str

    def probe(self, head: Head) -> bool: ...

    def dissect(self, reader: Reader, direction: Direction) -> Iterator[object]: ...

    def facts(self, items: Sequence[Item]) -> Facts: ...


PROTOCOLS = cast(tuple[ProtocolModule, ...], (icmp, ike, natt, esp, tls, ssh, iec104, ftp, http, dhcp, dns, ntp))


@dataclass(frozen=True, slots=True)
class Break:
    """Where a dissection ended early: the anomaly, and the frame that holds the byte."""

    anomaly: Anomaly
    direction: Direction
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Dissection:
    """Everything that a protocol's module read in a head."""

    protocol: str | None = None
    """``NAME`` of the protocol whose content it is; ``None``: none that is known."""
    items: Sequence[Item] = ()
    """Messages in the order of the capture (by frame; within a direction always in stream order)."""
    breaks: tuple[Break, ...] = ()
    facts: Facts | None = None

    @property
    def malformed(self) -> tuple[Break, ...]:
        """The breaks that are the sender's fault."""
        return tuple(each for each in self.breaks if each.anomaly.cause is Cause.MALFORMED)


class Again(Sequence[Item]):
    """The items of a conversation like an earlier one: read only once somebody asks for them."""

    __slots__ = ("head", "read")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.read: Sequence[Item] | None = None

    def items(self) -> Sequence[Item]:
        if self.read is None:
            self.read = dissect(self.head).items
        return self.read

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self.items()[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.items())


def again(before: Dissection, head: Head) -> Dissection:
    """The dissection of a head that says what another one said, ``before``: its messages are read when asked for."""
    return Dissection(before.protocol, Again(head), (), before.facts)


def dissect(head: Head) -> Dissection:
    """Name the protocol of a head by its content and read all messages. Never raises for any bytes."""
    for module in PROTOCOLS:
        if module.probe(head):
            return dissect_as(module, head)
    for module in PROTOCOLS:
        resumed = resume(module, head)
        if resumed is not None:
            return dissect_as(module, resumed)
    return Dissection()


RESUMES = 8
"""Frames at whose beginnings a stream without its own beginning is tried."""


def resume(module: ProtocolModule, head: Head) -> Head | None:
    """A head whose midstream streams begin where the protocol does: messages mostly start with a segment."""
    streams = list(head.streams)
    resumed = False
    for direction, stream in zip(Direction, head.streams, strict=True):
        if stream.begins or not stream.data:
            continue
        for skipped, mark in enumerate(stream.marks[:RESUMES]):
            marks = tuple(each._replace(offset=each.offset - mark.offset) for each in stream.marks[skipped:])
            trimmed = stream._replace(data=stream.data[mark.offset :], marks=marks)
            alone = (trimmed, Stream()) if direction is Direction.ORIGINATOR else (Stream(), trimmed)
            if module.probe(head._replace(streams=alone)):
                streams[direction] = trimmed
                resumed = True
                break
    return head._replace(streams=(streams[0], streams[1])) if resumed else None


def dissect_as(module: ProtocolModule, head: Head) -> Dissection:
    """Read a head as one given protocol."""
    items: list[Item] = []
    breaks: list[Break] = []
    for datagram in head.datagrams:
        found, anomaly = read(module, Reader(datagram.data, 0, datagram.length), datagram.direction)
        for began, message in found:
            items.append(Item(message, datagram.direction, datagram.frame, datagram.time, began))
        if anomaly is not None:
            breaks.append(Break(anomaly, datagram.direction, datagram.frame, datagram.time))
    if head.transport == "tcp":
        items, breaks = dissect_streams(module, head)
    try:
        facts = module.facts(items)
    except Exception as error:  # our own bug must not hide the other flows; tests demand that it never happens
        breaks.append(defect(error, head))
        facts = None
    return Dissection(module.NAME, tuple(items), tuple(breaks), facts)


def dissect_streams(module: ProtocolModule, head: Head) -> tuple[list[Item], list[Break]]:
    """Both directions of a TCP conversation, each on its own, their messages in the order of the capture."""
    placed: list[tuple[Frame, Item]] = []
    breaks: list[Break] = []
    for direction, stream in zip(Direction, head.streams, strict=True):
        if not stream.data:
            continue
        arrival = stream.marks[0].frame  # a message is there once all bytes before it are: never goes back
        fence = len(stream.data) if stream.ends else UNBOUNDED
        found, anomaly = read(module, Reader(stream.data, 0, fence), direction)
        for began, message in found:
            mark = stream.mark_at(began)
            arrival = max(arrival, mark.frame)
            placed.append((arrival, Item(message, direction, mark.frame, mark.time, began)))
        if anomaly is not None:
            # What looks contradictory in a stream without its beginning may only lack that beginning.
            if anomaly.cause is Cause.MALFORMED and not stream.begins:
                anomaly = replace(anomaly, cause=Cause.TRUNCATED)
            mark = stream.mark_at(anomaly.offset)
            breaks.append(Break(anomaly, direction, mark.frame, mark.time))
    placed.sort(key=lambda pair: pair[0])
    return [item for _, item in placed], breaks


def read(
    module: ProtocolModule, reader: Reader, direction: Direction
) -> tuple[list[tuple[int, object]], Anomaly | None]:
    """Drive one dissector: its messages, each with the position where its reading began; what stopped it, if so."""
    found: list[tuple[int, object]] = []
    began = reader.pos
    try:
        for message in module.dissect(reader, direction):
            found.append((began, message))
            began = reader.pos
    except Stop as stop:
        return found, stop.anomaly
    except Exception as error:
        return found, Anomaly(Cause.DEFECT, module.NAME, began, f"{type(error).__name__}: {error}")
    return found, None


def defect(error: Exception, head: Head) -> Break:
    """A failure of this program, placed at the head's first frame."""
    anomaly = Anomaly(Cause.DEFECT, "facts", 0, f"{type(error).__name__}: {error}")
    for direction in Direction:
        marks = head.streams[direction].marks
        if marks:
            return Break(anomaly, direction, marks[0].frame, marks[0].time)
    first = head.datagrams[0]
    return Break(anomaly, first.direction, first.frame, first.time)
