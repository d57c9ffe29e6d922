"""Protocol dissectors: the head of a flow becomes messages and facts, never opinions.

A protocol is a module in :data:`PROTOCOLS`, or an object, with

* ``NAME``: its name in reports;
* ``probe(head)``: whether the content is this protocol. Ports are a hint for what bytes alone cannot tell. The first
  protocol of the tuple that agrees wins;
* ``dissect(reader, direction)``: an iterator over the messages (named tuples in the RFC's words) of one direction of a
  TCP stream, or of one datagram. It yields each message as soon as it is read, when the reader stands where the next
  message begins. It neither catches exceptions nor judges;
* ``facts(items)``: the facts that follow from all messages of the conversation, in the order of the capture.

:func:`dissect` runs them, and only this module turns a :class:`~analyzer.wire.StopParsing` into a :class:`ParseError`.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from operator import itemgetter
from typing import Final, NamedTuple, Protocol, cast

from analyzer.dataclass import dataclass
from analyzer.heads import (
    DIRECTIONS,
    Direction,
    Frame,
    Head,
    Iec104Link,
    LazySequence,
    Mark,
    SecureConnection,
    Stream,
    cache_last,
)
from analyzer.messages import Facts, Item
from analyzer.protocols import (
    coap,
    dhcp,
    dhcp6,
    dns,
    dtls,
    esp,
    ftp,
    http,
    icmp,
    iec104,
    ike,
    ike_tcp,
    mqtt,
    ntp,
    openvpn,
    quic,
    semtech_udp,
    snmp,
    ssh,
    syslog,
    tls,
    wireguard,
)
from analyzer.protocols.esp import udp as esp_in_udp
from analyzer.protocols.preambles import Preamble, find_preamble, strip_preamble
from analyzer.safetext import SafeText
from analyzer.wire import UNBOUNDED, Anomaly, Cause, Reader, StopParsing


class ProtocolModule(Protocol):
    """The interface of a protocol."""

    NAME: str

    def probe(self, head: Head) -> bool: ...

    def dissect(self, reader: Reader, direction: Direction) -> Iterator[object]: ...

    def facts(self, items: Sequence[Item]) -> Facts: ...


EXPECTED = (icmp, ike, esp_in_udp, esp, tls, ssh, iec104, ftp, http, dhcp, dhcp6, dns, ntp)
"""Protocols of the rows."""
OTHERS = (ike_tcp, mqtt, syslog, semtech_udp, wireguard, quic, dtls, openvpn, snmp, coap)
"""Protocols of no row, which are named because traffic in them leaves to somebody else."""
PROTOCOLS = cast(tuple[ProtocolModule, ...], EXPECTED + OTHERS)

NO_LIMIT: Final = sys.maxsize
"""Limit of messages that is none."""
TOO_MANY_MESSAGES: Final = "is not read, for the captures hold too many messages"
"""Reason of the anomaly where a dissection ended at its limit of messages."""


@dataclass(frozen=True, slots=True)
class ParseError:
    """Where a dissection ended early: the anomaly, and the frame that holds its byte."""

    anomaly: Anomaly
    direction: Direction
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Dissection:
    """The content of a head: its protocol, messages and facts."""

    protocol: SafeText | None = None
    """``NAME`` of the protocol; ``None``: unknown."""
    items: Sequence[Item] = field(default=(), repr=False)
    """Messages in the order of the capture (by frame; within a direction always in stream order). Some hold bytes as
    they were sent, for the checks; no report shows them."""
    parse_errors: tuple[ParseError, ...] = ()
    facts: Facts | None = None
    preamble: Preamble | None = None
    """What precedes the protocol: the request to a proxy, the header of a load balancer, the dialogue before
    STARTTLS."""
    limit: int = field(default=NO_LIMIT, repr=False)
    """Maximum messages that were read (see :func:`dissect`). Items that are read again stop there, too, so that items
    and facts always belong together."""

    @property
    def malformed(self) -> tuple[ParseError, ...]:
        """The parse errors that are the sender's fault."""
        return tuple(error for error in self.parse_errors if error.anomaly.cause is Cause.MALFORMED)


class RereadItems(LazySequence[Item]):
    """The items of a head, read again whenever they are needed. ``limit`` and ``recall``: see :func:`dissect`."""

    __slots__ = ("__weakref__", "head", "limit", "recall")

    def __init__(self, head: Head, limit: int = NO_LIMIT, recall: tls.Recall | None = None) -> None:
        self.head = head
        self.limit = limit
        self.recall = recall

    @cache_last
    def load(self) -> Sequence[Item]:
        protocol, head, offsets, _ = recognise(self.head, self.recall)
        return tuple(read_messages(protocol, head, self.limit, offsets)[0]) if protocol else ()


def with_items_of(dissection: Dissection, head: Head, recall: tls.Recall | None = None) -> Dissection:
    """The dissection of a head with the same content as an earlier one: equal, but for items that are read from this
    head when they are needed."""
    items = RereadItems(head, dissection.limit, recall)
    # Most conversations pass here, and dataclasses.replace() takes three times as long.
    return Dissection(
        dissection.protocol, items, dissection.parse_errors, dissection.facts, dissection.preamble, dissection.limit
    )


def dissect(head: Head, limit: int = NO_LIMIT, recall: tls.Recall | None = None) -> Dissection:
    """Recognise the protocol of a head by its content, and read its messages. Raises nothing for any bytes.

    Reads at most ``limit`` messages per direction of a stream, or of all datagrams. With ``recall``, TLS handshakes
    that repeat take less time: their facts are recalled, and their items are read when they are needed.
    """
    dissection = dissect_head(head, limit, recall)
    if head.secure is not None and dissection.protocol == tls.NAME:
        return with_record_errors(dissection, head.secure)
    return dissection


def dissect_head(head: Head, limit: int, recall: tls.Recall | None) -> Dissection:
    """See :func:`dissect`."""
    protocol, head_read, offsets, preamble = recognise(head, recall)
    if protocol is None:
        return Dissection(preamble=preamble)
    if recall is None or protocol is not recall:
        return dissect_as(protocol, head_read, limit, offsets, preamble)
    key = recall.key(head_read)
    facts = recall.conversations.get(key)
    if facts is not None:
        # These facts follow from all messages, whatever the limit; so the items are all messages, too.
        return Dissection(protocol.NAME, RereadItems(head, NO_LIMIT, recall), (), facts, preamble)
    dissection = dissect_as(protocol, head_read, limit, offsets, preamble)
    if dissection.facts is not None and not dissection.parse_errors:
        recall.remember(key, dissection.facts)
    return dissection


# -- recognising a protocol -------------------------------------------------------------------------------------

MAX_SEGMENTS_TRIED: Final = 8
"""Segments of a midstream stream at whose beginnings a protocol may begin."""


class Recognised(NamedTuple):
    """The protocol of a head, and where it begins."""

    protocol: ProtocolModule | None
    """``None``: unknown."""
    head: Head
    """The head from where the protocol begins."""
    offsets: tuple[int, int]
    """Bytes of each stream before that."""
    preamble: Preamble | None


def recognise(head: Head, recall: tls.Recall | None = None) -> Recognised:
    """The protocol of a head; of a connection with a preamble, that of what follows it.

    ``recall`` takes the place of the TLS module.
    """
    # Lazy streams and datagrams are loaded once, not by every probe.
    loaded = tuple(head.streams), tuple(head.datagrams)
    head = Head(head.transport, head.ports, *loaded, head.link, head.associations, head.secure)
    preamble = find_preamble(head) if head.transport == "tcp" else None
    if preamble is None:
        return recognise_begin(head, recall)
    passed = [part for part in preamble.chain if not part.refused]
    sizes = passed[-1].sizes if passed else (0, 0)
    rest = strip_preamble(head, sizes)
    if not passed or not any(stream.data for stream in rest.streams):
        return recognise_begin(head, recall)._replace(preamble=preamble)
    protocol, rest, offsets, _ = recognise_begin(rest, recall)
    first, second = (size + offset for size, offset in zip(sizes, offsets, strict=True))
    return Recognised(protocol, rest, (first, second), preamble)


def recognise_begin(head: Head, recall: tls.Recall | None) -> Recognised:
    """The protocol with which a head begins, or with which a segment of a midstream head begins."""
    for protocol in PROTOCOLS:
        if protocol.probe(head):
            return Recognised(recalling(protocol, recall), head, (0, 0), None)
    segments = segment_starts(head)
    for protocol in PROTOCOLS if segments else ():
        trimmed = trim_to_protocol(protocol, head, segments)
        if trimmed is not None:
            client, server = (
                len(whole.data) - len(part.data) for whole, part in zip(head.streams, trimmed.streams, strict=True)
            )
            return Recognised(recalling(protocol, recall), trimmed, (client, server), None)
    return Recognised(None, head, (0, 0), None)


def recalling(protocol: ProtocolModule, recall: tls.Recall | None) -> ProtocolModule:
    return recall if recall is not None and protocol.NAME == tls.NAME else protocol


def segment_starts(head: Head) -> list[tuple[Direction, Mark, Head]]:
    """Where a protocol may begin in midstream streams: most messages start with a segment.

    Returns direction, mark of the segment, and a head of nothing but the bytes from there on, which is enough for a
    probe.
    """
    segments = []
    for direction, stream in zip(DIRECTIONS, head.streams, strict=True):
        if stream.begins or not stream.data:
            continue
        for mark in stream.marks[:MAX_SEGMENTS_TRIED]:
            rest = Stream(stream.data[mark.offset :], (), False, stream.ends)
            streams = (rest, Stream()) if direction is Direction.ORIGINATOR else (Stream(), rest)
            segments.append((direction, mark, head._replace(streams=streams)))
    return segments


def trim_to_protocol(
    protocol: ProtocolModule, head: Head, segments: Sequence[tuple[Direction, Mark, Head]]
) -> Head | None:
    """The head with its midstream streams cut to where the protocol begins; ``None``: it begins at no segment."""
    begins: dict[Direction, Mark] = {}
    for direction, mark, rest in segments:
        if direction not in begins and protocol.probe(rest):
            begins[direction] = mark
    if not begins:
        return None
    client, server = head.streams
    if Direction.ORIGINATOR in begins:
        client = client.from_mark(begins[Direction.ORIGINATOR])
    if Direction.RESPONDER in begins:
        server = server.from_mark(begins[Direction.RESPONDER])
    return head._replace(streams=(client, server))


# -- reading messages -------------------------------------------------------------------------------------------


def dissect_as(
    protocol: ProtocolModule,
    head: Head,
    limit: int = NO_LIMIT,
    offsets: tuple[int, int] = (0, 0),
    preamble: Preamble | None = None,
) -> Dissection:
    """Read a head as the given protocol; otherwise as :func:`dissect`. ``offsets``: see :class:`Recognised`."""
    items, errors = read_messages(protocol, head, limit, offsets)
    try:
        facts = protocol.facts(items)
        if isinstance(facts, iec104.Iec104Facts) and head.link is not None:
            facts = iec104.facts_of_link(facts, head.link)
            errors = link_errors(errors, head.link)
        elif head.associations:
            facts = with_cipher(facts, head)
    except Exception as error:  # a bug here must not hide the other flows; it becomes a finding and an exit code
        errors.append(defect(error, head))
        facts = None
    return Dissection(protocol.NAME, tuple(items), tuple(errors), facts, preamble, limit)


def with_cipher(facts: Facts, head: Head) -> Facts:
    """The facts of ESP, or of IKE with ESP, with the cipher inferred from all packets of the flow."""
    if isinstance(facts, esp.EspFacts):
        return replace(facts, cipher=esp.cipher_of_flow(head, facts))
    if isinstance(facts, ike.IkeFacts) and facts.esp is not None:
        return replace(facts, esp=replace(facts.esp, cipher=esp.cipher_of_flow(head, facts.esp)))
    return facts


def read_messages(
    protocol: ProtocolModule, head: Head, limit: int, offsets: tuple[int, int] = (0, 0)
) -> tuple[list[Item], list[ParseError]]:
    """The messages of a head, and where reading them ended early. Their offsets count from the beginning of the whole
    streams, ``offsets`` bytes before those of the head."""
    if head.transport != "tcp":
        return read_datagrams(protocol, head, limit)
    return read_streams(protocol, head, limit, offsets)


def with_record_errors(dissection: Dissection, secure: SecureConnection) -> Dissection:
    """A dissection of TLS with the broken framing that the scanner found after the head."""
    broken = {error.direction for error in dissection.malformed}
    found = (ParseError(*anomaly) for anomaly in tls.anomalies(secure))
    added = tuple(error for error in found if error.direction not in broken)
    return replace(dissection, parse_errors=dissection.parse_errors + added) if added else dissection


def link_errors(errors: list[ParseError], link: Iec104Link) -> list[ParseError]:
    """The parse errors of an IEC 104 link over the whole stream; ``errors``: those of its head."""
    kept = [
        error
        for error in errors
        if not link.directions[error.direction].followed or error.anomaly.cause is Cause.DEFECT
    ]
    return kept + [ParseError(*anomaly) for anomaly in iec104.anomalies(link)]


def limited(messages: Iterator[object], reader: Reader, limit: int) -> Iterator[object]:
    """Up to ``limit`` messages; a further one stops the dissection."""
    if limit == NO_LIMIT:
        return messages
    return stop_after(messages, reader, limit)


def stop_after(messages: Iterator[object], reader: Reader, limit: int) -> Iterator[object]:
    yield from itertools.islice(messages, limit)
    end = reader.pos
    if next(messages, None) is not None:
        raise StopParsing(Anomaly(Cause.TRUNCATED, "message", end, TOO_MANY_MESSAGES))


def read_datagrams(protocol: ProtocolModule, head: Head, limit: int) -> tuple[list[Item], list[ParseError]]:
    """The messages of all datagrams, in the order of the capture."""
    items: list[Item] = []
    errors: list[ParseError] = []
    for direction, data, length, frame, time in head.datagrams:
        reader = Reader(data, 0, length)
        start = 0
        left = limit if limit == NO_LIMIT else limit - len(items)
        try:
            for message in limited(protocol.dissect(reader, direction), reader, left):
                items.append(Item(message, direction, frame, time, start))
                start = reader.pos
        except Exception as error:
            errors.append(ParseError(anomaly_of(error, protocol, start), direction, frame, time))
    return items, errors


def read_streams(
    protocol: ProtocolModule, head: Head, limit: int, offsets: tuple[int, int]
) -> tuple[list[Item], list[ParseError]]:
    """The messages of both directions of a TCP conversation, in the order of the capture."""
    arrived: list[tuple[Frame, Item]] = []
    errors: list[ParseError] = []
    for direction, stream, before in zip(DIRECTIONS, head.streams, offsets, strict=True):
        if not stream.data:
            continue
        reader = Reader(stream.data, 0, len(stream.data) if stream.ends else UNBOUNDED)
        messages: list[object] = []
        starts = [0]  # offset of each message, and of the one that follows
        anomaly = None
        try:
            for message in limited(protocol.dissect(reader, direction), reader, limit):
                messages.append(message)
                starts.append(reader.pos)
        except Exception as error:
            anomaly = anomaly_of(error, protocol, starts[-1])
        # A message arrives once all bytes before it are there, so the frame of arrival never goes back.
        arrival = stream.marks[0].frame
        for message, start, (_, frame, time) in zip(messages, starts, stream.marks_at(starts), strict=False):
            if frame > arrival:
                arrival = frame
            arrived.append((arrival, Item(message, direction, frame, time, before + start)))
        if anomaly is not None:
            # A stream without its beginning may only seem to contradict itself.
            if anomaly.cause is Cause.MALFORMED and not stream.begins:
                anomaly = replace(anomaly, cause=Cause.TRUNCATED)
            mark = stream.mark_at(anomaly.offset)
            anomaly = replace(anomaly, offset=before + anomaly.offset) if before else anomaly
            errors.append(ParseError(anomaly, direction, mark.frame, mark.time))
    arrived.sort(key=itemgetter(0))
    return [item for _, item in arrived], errors


def anomaly_of(error: Exception, protocol: ProtocolModule, start: int) -> Anomaly:
    """Why a dissector ended early: its reader stopped it, or it failed in the message that begins at ``start``."""
    if isinstance(error, StopParsing):
        return error.anomaly
    return Anomaly(Cause.DEFECT, protocol.NAME, start, f"{type(error).__name__}: {error}")


def defect(error: Exception, head: Head) -> ParseError:
    """A bug in the derivation of facts, at the head's first frame."""
    anomaly = Anomaly(Cause.DEFECT, "facts", 0, f"{type(error).__name__}: {error}")
    for direction in Direction:
        marks = head.streams[direction].marks
        if marks:
            return ParseError(anomaly, direction, marks[0].frame, marks[0].time)
    first = head.datagrams[0]
    return ParseError(anomaly, first.direction, first.frame, first.time)


# -- content of unknown protocol --------------------------------------------------------------------------------

GREETINGS: Final = (
    (re.compile(rb"\xff[\xfb-\xfe]"), "Telnet"),
    (re.compile(rb"\+OK"), "POP3"),
    (re.compile(rb"\* (?:OK|PREAUTH|BYE)\b"), "IMAP"),
    (re.compile(rb"220[ -]"), "SMTP or FTP"),
    (re.compile(rb"RFB [0-9]{3}\.[0-9]{3}\n"), "VNC"),
)
"""First bytes of servers whose protocol has a name here, but no dissector: RFC 854, RFC 1939, RFC 9051, RFC 5321,
RFC 6143."""


def server_greeting(head: Head) -> str | None:
    """The protocol of unknown content by the greeting with which its server begins, whichever side that is."""
    starts = (head.first(direction)[:64] for direction in (Direction.RESPONDER, Direction.ORIGINATOR))
    return next((name for start in starts for pattern, name in GREETINGS if pattern.match(start)), None)


def resemblance(head: Head) -> str:
    """What unknown content looks like, in this program's own words.

    Repeats none of its bytes: they may be a user's name and password on an unexpected port.
    """
    name = server_greeting(head)
    if name is not None:
        return name
    sample = (head.first(Direction.ORIGINATOR) or head.first(Direction.RESPONDER))[:64]
    return "text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in sample) else "binary data"
