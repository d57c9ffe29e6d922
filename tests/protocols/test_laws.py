"""Laws of all protocols, for any bytes.

A new module in :data:`analyzer.protocols.PROTOCOLS` needs nothing here, only a test module of its name in this folder
with a few well-formed heads in ``EXAMPLES``.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Datagram, Direction, Frame, Head, Mark, Stream
from analyzer.messages import to_json
from analyzer.protocols import PROTOCOLS, Dissection, ProtocolModule, dhcp6, dissect, dissect_as
from analyzer.wire import Cause

LARGE = 1 << 16
"""In bytes."""
SECONDS = 1.0
"""Maximum processor time for a head of :data:`LARGE` bytes."""

every_protocol = pytest.mark.parametrize("module", PROTOCOLS, ids=lambda module: module.__name__.rpartition(".")[2])


def examples_name(module: ProtocolModule) -> str:
    """Name of the test module of a protocol, which is that of reports, but for DHCP of IPv6."""
    return "dhcp6" if module is dhcp6 else module.NAME.replace("-", "_")


EXAMPLES: dict[str, list[Head]] = {
    name: importlib.import_module(f"tests.protocols.test_{name}").EXAMPLES for name in map(examples_name, PROTOCOLS)
}


def examples(module: ProtocolModule) -> list[Head]:
    """The well-formed heads of a protocol; fails without any."""
    name = examples_name(module)
    assert EXAMPLES[name], f"tests/protocols/test_{name}.py has no EXAMPLES"
    return EXAMPLES[name]


def parts(head: Head) -> list[bytes]:
    """The bytes of a head: its streams, or its datagrams."""
    return [stream.data for stream in head.streams if stream.data] or [datagram.data for datagram in head.datagrams]


def stream_of(data: bytes, direction: Direction, begins: bool, ends: bool, segment: int) -> Stream:
    """A stream in segments of ``segment`` bytes, one frame per segment."""
    offsets = range(0, len(data), segment)
    marks = (Mark(at, Frame(0, 1 + direction + 2 * number), number) for number, at in enumerate(offsets))
    return Stream(data, tuple(marks), begins, ends)


def rebuilt(head: Head, pieces: Sequence[bytes], begins: bool = True, ends: bool = False, segment: int = 1448) -> Head:
    """A head of the same transport and ports with other bytes."""
    if head.transport == "tcp":
        both = (*pieces, b"", b"")
        streams = [stream_of(both[direction], direction, begins, ends, segment) for direction in Direction]
        return Head(head.transport, head.ports, (streams[0], streams[1]))
    datagrams = (
        Datagram(Direction(number % 2), piece, len(piece), Frame(0, number + 1), number)
        for number, piece in enumerate(pieces)
    )
    return Head(head.transport, head.ports, datagrams=tuple(datagrams))


def truncated(head: Head, length: int) -> Head:
    """The same head, truncated by the capture to the first ``length`` bytes of streams and datagrams."""
    streams = [
        Stream(
            stream.data[:length],
            tuple(mark for mark in stream.marks if mark.offset < length),
            stream.begins,
            stream.ends and length >= len(stream.data),
        )
        for stream in head.streams
    ]
    datagrams = (
        Datagram(datagram.direction, datagram.data[:length], datagram.length, datagram.frame, datagram.time)
        for datagram in head.datagrams
    )
    return Head(head.transport, head.ports, (streams[0], streams[1]), tuple(datagrams))


COMPLETE_AT_MANY_LENGTHS = {
    "coap": "options and payload are optional",
    "dtls": "a datagram may end after any of its records",
    "dhcp": "padding of any length follows the end option, or a BOOTP header",
    "ike": "eight bytes or more on its port are ESP",
    "openvpn": "what follows an opcode is encrypted",
    "quic": "what follows a header is encrypted",
    "semtech-udp": "the JSON is not read as such",
    "snmp": "the lengths inside of a message are not compared with its own",
    "syslog": "text of any length",
    "wireguard": "transport data has any length",
    "ntp": "extension fields, digest and padding are optional",
}
"""Protocols in which the beginning of a message may be a complete message, and why."""


def is_truncated_dns(datagram: Datagram) -> bool:
    """Whether it is a DNS response with the flag TC."""
    return len(datagram.data) > 3 and datagram.data[2:3] == b"\x83"


def ended(head: Head, length: int) -> Head:
    """The same head, as if the sender had ended streams and datagrams after the first ``length`` bytes."""
    streams = [
        Stream(stream.data[:length], tuple(mark for mark in stream.marks if mark.offset < length), True, True)
        for stream in head.streams
    ]
    datagrams = (
        Datagram(
            datagram.direction, datagram.data[:length], min(length, datagram.length), datagram.frame, datagram.time
        )
        for datagram in head.datagrams
    )
    return Head(head.transport, head.ports, (streams[0], streams[1]), tuple(datagrams))


def messages_by_carrier(dissection: Dissection, transport: str) -> dict[Direction | Frame, list[object]]:
    """Messages by carrier: a direction of the stream, or a datagram."""
    found: dict[Direction | Frame, list[object]] = {}
    for item in dissection.items:
        found.setdefault(item.direction if transport == "tcp" else item.frame, []).append(item.message)
    return found


def texts(value: object) -> Iterator[str]:
    """All strings of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from texts(key)
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def assert_sound(dissection: Dissection) -> None:
    """No defect, and facts that are printable and valid JSON."""
    assert [error.anomaly for error in dissection.parse_errors if error.anomaly.cause is Cause.DEFECT] == []
    shown = to_json(dissection.facts)
    json.dumps(shown)
    for text in texts(shown):
        assert text.isprintable(), text
    for item in dissection.items:
        assert item.offset >= 0
    for error in dissection.parse_errors:
        assert error.anomaly.field and error.anomaly.reason and not error.anomaly.reason.endswith(".")


@every_protocol
def test_examples_are_recognised_and_sound(module: ProtocolModule) -> None:
    for head in examples(module):
        dissection = dissect(head)
        assert dissection.protocol == module.NAME
        assert dissection.items and dissection.facts is not None
        assert dissection.malformed == ()
        assert_sound(dissection)


@every_protocol
@given(data=st.data())
def test_any_bytes_cause_no_defect(module: ProtocolModule, data: st.DataObject) -> None:
    like = data.draw(st.sampled_from(examples(module)))
    pieces = data.draw(st.lists(st.binary(max_size=400), min_size=1, max_size=2 if like.transport == "tcp" else 5))
    begins, ends = data.draw(st.booleans()), data.draw(st.booleans())
    head = rebuilt(like, pieces, begins, ends, segment=data.draw(st.sampled_from((1, 7, 100, 1448))))
    assert_sound(dissect_as(module, head))
    assert_sound(dissect(head))


@every_protocol
@given(data=st.data())
def test_mutations_and_splices_cause_no_defect(module: ProtocolModule, data: st.DataObject) -> None:
    like = data.draw(st.sampled_from(examples(module)))
    pieces = [bytearray(piece) for piece in parts(like)]
    for _ in range(data.draw(st.integers(1, 3))):
        piece = data.draw(st.sampled_from(pieces))
        at = data.draw(st.integers(0, max(0, len(piece) - 1)))
        if data.draw(st.booleans()):
            piece[at : at + 1] = bytes((data.draw(st.integers(0, 255)),))
        else:
            donor = data.draw(st.sampled_from(pieces))
            begin = data.draw(st.integers(0, len(donor)))
            piece[at : at + data.draw(st.integers(0, 40))] = donor[begin : begin + data.draw(st.integers(0, 40))]
    head = rebuilt(like, [bytes(piece) for piece in pieces], data.draw(st.booleans()), data.draw(st.booleans()))
    assert_sound(dissect_as(module, head))
    assert_sound(dissect(head))


@every_protocol
@given(data=st.data())
def test_a_prefix_gives_a_prefix_of_the_messages(module: ProtocolModule, data: st.DataObject) -> None:
    head = data.draw(st.sampled_from(examples(module)))
    length = data.draw(st.integers(0, max(map(len, parts(head)))))
    less = dissect_as(module, truncated(head, length))
    assert_sound(less)
    assert {error.anomaly.cause for error in less.parse_errors} <= {Cause.TRUNCATED}
    whole = messages_by_carrier(dissect_as(module, head), head.transport)
    for carrier, messages in messages_by_carrier(less, head.transport).items():
        assert messages == whole[carrier][: len(messages)]


@every_protocol
@given(data=st.data())
def test_truncation_by_the_sender_is_malformed(module: ProtocolModule, data: st.DataObject) -> None:
    """A message that the capture truncates is malformed if the sender itself ends there."""
    like = [head for head in examples(module) if not any(map(is_truncated_dns, head.datagrams))]
    head = data.draw(st.sampled_from(like))
    length = data.draw(st.integers(1, max(map(len, parts(head)))))
    less, short = dissect_as(module, truncated(head, length)), dissect_as(module, ended(head, length))
    assert_sound(short)
    assert {error.anomaly.cause for error in short.parse_errors} <= {Cause.MALFORMED}
    incomplete = {error.direction if head.transport == "tcp" else error.frame for error in less.parse_errors}
    broken = {error.direction if head.transport == "tcp" else error.frame for error in short.parse_errors}
    assert module.NAME in COMPLETE_AT_MANY_LENGTHS or incomplete <= broken


@every_protocol
@given(data=st.data())
@settings(max_examples=25)
def test_time_is_bounded_for_any_bytes(module: ProtocolModule, data: st.DataObject) -> None:
    """The beginning of a well-formed message, followed by one short pattern, repeated."""
    like = data.draw(st.sampled_from(examples(module)))
    good = data.draw(st.sampled_from(parts(like)))
    beginning = good[: data.draw(st.integers(0, len(good)))]
    begin = data.draw(st.integers(0, max(0, len(good) - 1)))
    pattern = data.draw(st.binary(min_size=1, max_size=8) | st.just(good[begin : begin + 12] or b"\0"))
    piece = (beginning + pattern * (LARGE // len(pattern)))[: LARGE - 1]
    head = rebuilt(like, [piece], ends=data.draw(st.booleans()))
    began = time.process_time()
    dissection = dissect_as(module, head)
    dissect(head)
    assert time.process_time() - began < 2 * SECONDS
    assert_sound(dissection)
