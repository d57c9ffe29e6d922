"""Recalls handshakes that repeat: the same results as reading them, in less than half of the time.

Base stations of one make repeat their handshakes all day, and only random values, session ids, a client's certificates
and encrypted bytes differ. A :class:`Recall` reads a stream that equals an earlier one elsewhere by comparing bytes,
and recalls the facts of a conversation whose two streams do so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.protocols.tls.handshake import (
    HELLO_RETRY_RANDOM,
    UNIQUE,
    CertificateEntry,
    ClientHello,
    Extensions,
    ServerHello,
)
from analyzer.protocols.tls.records import (
    HANDSHAKE,
    Alert,
    ApplicationData,
    EncryptedRecord,
    Outline,
    is_hello,
    probe,
    read_records,
)
from analyzer.protocols.tls.registry import ContentType
from analyzer.protocols.tls.session import TlsFacts, server_side
from analyzer.protocols.tls.session import facts as derive_facts
from analyzer.wire import UNBOUNDED, Reader

RANDOM: Final = slice(11, 43)
"""Position of the random bytes in a stream that begins with a hello; the session id follows."""
MAX_BEGINNINGS: Final = 256
"""Different first 11 bytes (record header, hello header, version) of which patterns are kept."""
MAX_PATTERNS: Final = 32
"""Patterns kept per beginning: all of them are compared with each new stream that begins so."""
MAX_FACTS: Final = 1024
"""Different facts that are kept, in each of two tables."""


class Pattern(NamedTuple):
    """A stream that begins with a hello, without the bytes that may differ in a stream of the same messages."""

    number: int
    """Identifies the pattern."""
    fixed: tuple[tuple[int, int, bytes], ...]
    """What must be equal: begin, end, bytes."""
    end: int
    """Bytes that were read."""
    goes_on: bool
    """Further bytes, which nobody reads, may follow."""
    messages: tuple[tuple[object, int, int], ...]
    """The messages, hello first. Each with the reader's position after it and the position of the bytes that it takes
    from the stream at hand; -1: none."""
    encrypted: tuple[int, ...]
    """Where the content of encrypted handshake records begins: a hello in clear may stand there as well."""
    has_alert: bool

    def matches(self, data: bytes) -> bool:
        if len(data) != self.end and not (self.goes_on and len(data) > self.end):
            return False
        for begin, end, piece in self.fixed:
            if data[begin:end] != piece:
                return False
        if self.encrypted and any(is_hello(data[at : at + 6]) for at in self.encrypted):
            return False
        return data[RANDOM] != HELLO_RETRY_RANDOM


class Recall:
    """The dissector of TLS with a memory: takes the place of the package's functions of these names.

    One object serves one audit. Its memory is bounded, whatever the captures hold.
    """

    NAME = "tls"

    __slots__ = ("conversations", "conversations_by_messages", "patterns")

    def __init__(self) -> None:
        self.patterns: dict[tuple[bytes, bool], list[Pattern]] = {}
        """By the first bytes of the stream, and whether its end is open."""
        self.conversations: dict[object, Facts] = {}
        """Facts by :meth:`key`."""
        self.conversations_by_messages: dict[tuple[object, ...], TlsFacts] = {}
        """Facts by :func:`facts_key`."""

    def probe(self, head: Head) -> bool:
        return probe(head)

    def dissect(self, reader: Reader, direction: Direction) -> Iterator[object]:
        """As :func:`analyzer.protocols.tls.dissect`."""
        data, unbounded = reader.data, reader.fence == UNBOUNDED
        pattern = self.pattern_of(data, unbounded)
        if pattern is not None:
            for message, position, place in pattern.messages:
                reader.pos = position
                yield message if place < 0 else renewed(message, data, place)
            return
        outline = Outline()
        messages: list[tuple[object, int]] = []
        for message in read_records(reader, outline):
            messages.append((message, reader.pos))
            yield message
        self.learn(reader, unbounded, messages, outline)

    def pattern_of(self, data: bytes, unbounded: bool) -> Pattern | None:
        """The pattern that a stream matches; ``unbounded``: the capture does not show its end."""
        for pattern in self.patterns.get((data[: RANDOM.start], unbounded), ()):
            if pattern.matches(data):
                return pattern
        return None

    def learn(self, reader: Reader, unbounded: bool, messages: Sequence[tuple[object, int]], outline: Outline) -> None:
        """Keep a stream that was read to its end, if it can be a pattern.

        ``messages``: each with the reader's position after it.
        """
        data = reader.data
        beginning = data[: RANDOM.start], unbounded
        known = self.patterns.get(beginning, ())
        if len(known) == MAX_PATTERNS or (not known and len(self.patterns) == MAX_BEGINNINGS):
            return
        if not outline.complete or not repeats(messages):
            return
        goes_on = isinstance(messages[-1][0], ApplicationData)
        if data[0] != HANDSHAKE or not (goes_on or reader.pos == len(data)):
            return
        begins = (0, *(end for _, end in outline.variable))
        ends = (*(begin for begin, _ in outline.variable), reader.pos)
        fixed = tuple((begin, end, data[begin:end]) for begin, end in zip(begins, ends, strict=True))
        from_client = isinstance(messages[0][0], ClientHello)
        places = iter((RANDOM.start, *outline.client_certificates))
        placed = tuple(
            (message, end, next(places) if is_variable(message, from_client) else -1) for message, end in messages
        )
        has_alert = any(is_alert(message) for message, _ in messages)
        number = sum(map(len, self.patterns.values()))
        pattern = Pattern(number, fixed, reader.pos, goes_on, placed, tuple(outline.encrypted), has_alert)
        self.patterns.setdefault(beginning, []).append(pattern)

    def key(self, head: Head) -> object:
        """What the facts of a conversation depend on if both of its streams match patterns; else ``None``.

        Conversations of equal keys have equal facts: they have the same messages, one hello per stream; alerts come
        from one side at most, so their order is the same; and whether the server repeats the client's session id is
        part of the key. Facts tell of a client's certificates only whether there are any.
        """
        client, server = (self.pattern_of(stream.data, not stream.ends) for stream in head.streams)
        if client is None or server is None or (client.has_alert and server.has_alert):
            return None
        if not isinstance(client.messages[0][0], ClientHello) or not isinstance(server.messages[0][0], ServerHello):
            return None
        offered, chosen = (session_id(stream.data) for stream in head.streams)
        return client.number, server.number, bool(offered) and offered == chosen

    def remember(self, key: object, facts: Facts) -> None:
        """Keep the facts of a conversation that was read to its end; ``key``: see :meth:`key`."""
        if key is not None and len(self.conversations) < MAX_FACTS:
            self.conversations[key] = facts

    def facts(self, items: Sequence[Item]) -> TlsFacts:
        """As :func:`analyzer.protocols.tls.facts`; one object for all conversations whose facts are equal."""
        key = facts_key(items)
        found = self.conversations_by_messages.get(key)
        if found is None:
            found = derive_facts(items)
            if len(self.conversations_by_messages) < MAX_FACTS:
                self.conversations_by_messages[key] = found
        return found


def session_id(data: bytes) -> bytes:
    """The session id of the hello at the beginning of a stream."""
    return data[RANDOM.stop + 1 : RANDOM.stop + 1 + data[RANDOM.stop]]


def is_alert(message: object) -> bool:
    return isinstance(message, Alert) or (
        isinstance(message, EncryptedRecord) and message.content_type == ContentType.ALERT
    )


def is_variable(message: object, from_client: bool) -> bool:
    """Whether a message holds bytes that differ from stream to stream."""
    return isinstance(message, (ClientHello, ServerHello)) or (from_client and isinstance(message, CertificateEntry))


def renewed(message: object, data: bytes, place: int) -> object:
    """A pattern's message with the bytes of another stream: a hello with random bytes and session id, or the
    certificate at ``place``."""
    if isinstance(message, CertificateEntry):
        return CertificateEntry(message.position, data[place : place + len(message.data)])
    hello = cast(ClientHello | ServerHello, message)
    own_id = data[RANDOM.stop + 1 : RANDOM.stop + 1 + len(hello.session_id)]
    if isinstance(hello, ClientHello):
        return ClientHello(hello.version, data[RANDOM], own_id, hello.cipher_suites, hello.compression_methods)
    return ServerHello(hello.version, data[RANDOM], own_id, hello.cipher_suite, hello.compression_method)


def repeats(messages: Sequence[tuple[object, int]]) -> bool:
    """Whether messages differ from stream to stream only where an :class:`Outline` says so: one hello, at the
    beginning, without a key share."""
    hellos = [message for message, _ in messages if isinstance(message, (ClientHello, ServerHello))]
    extensions = (message for message, _ in messages if isinstance(message, Extensions))
    return (
        len(hellos) == 1
        and messages[0][0] is hellos[0]
        and not (isinstance(hellos[0], ServerHello) and hellos[0].hello_retry_request)
        and all(UNIQUE.isdisjoint(extension.types) for extension in extensions)
    )


def facts_key(items: Sequence[Item]) -> tuple[object, ...]:
    """All that facts depend on.

    Leaves out the random bytes of hellos, session ids (but for whether the server repeats the client's), and the
    content of a client's certificates.
    """
    parts: list[object] = []
    client_id = b""
    server = server_side(items)
    for message, direction, *_ in items:
        kind = type(message)
        parts.append(direction)
        parts.append(kind)
        if kind is ClientHello:
            version, _, offered, suites, _, ssl2 = cast(ClientHello, message)
            client_id = client_id or offered
            parts += version, suites, ssl2
        elif kind is ServerHello:
            hello = cast(ServerHello, message)
            repeated = bool(client_id) and hello.session_id == client_id
            parts += hello.version, hello.cipher_suite, hello.compression_method, hello.hello_retry_request, repeated
        elif kind is not CertificateEntry or direction is server:
            parts.append(message)
    return tuple(parts)
