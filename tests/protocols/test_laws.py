"""Laws that every protocol's module keeps, whatever the bytes.

Nothing is written here for a protocol: each module of :data:`analyzer.protocols.PROTOCOLS` needs a test module
of its name beside this one, with a few good heads in ``EXAMPLES``.
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
from analyzer.protocols import PROTOCOLS, Dissection, ProtocolModule, dissect, dissect_as
from analyzer.wire import Cause

LARGE = 1 << 16
SECONDS = 1.0
"""Processor time that no head of 64 kB may take."""

every_protocol = pytest.mark.parametrize("module", PROTOCOLS, ids=lambda module: module.__name__.rpartition(".")[2])


EXAMPLES: dict[str, list[Head]] = {
    module.NAME: importlib.import_module(f"tests.protocols.test_{module.NAME}").EXAMPLES for module in PROTOCOLS
}


def examples(module: ProtocolModule) -> list[Head]:
    """The good heads of a protocol; a protocol without any fails."""
    assert EXAMPLES[module.NAME], f"tests/protocols/test_{module.NAME}.py has no EXAMPLES"
    return EXAMPLES[module.NAME]


def parts(head: Head) -> list[bytes]:
    """The bytes of a head: its streams, or its datagrams."""
    return [each.data for each in head.streams if each.data] or [each.data for each in head.datagrams]


def stream_of(data: bytes, direction: Direction, begins: bool, ends: bool, segment: int) -> Stream:
    """A stream whose segments have ``segment`` bytes each, in frames of its own."""
    offsets = range(0, len(data), segment)
    marks = (Mark(at, Frame(0, 1 + direction + 2 * number), number) for number, at in enumerate(offsets))
    return Stream(data, tuple(marks), begins, ends)


def rebuilt(head: Head, pieces: Sequence[bytes], begins: bool = True, ends: bool = False, segment: int = 1448) -> Head:
    """A head of the same transport and ports that carries other bytes."""
    if head.transport == "tcp":
        both = (*pieces, b"", b"")
        streams = [stream_of(both[direction], direction, begins, ends, segment) for direction in Direction]
        return Head(head.transport, head.ports, (streams[0], streams[1]))
    datagrams = (
        Datagram(Direction(number % 2), piece, len(piece), Frame(0, number + 1), number)
        for number, piece in enumerate(pieces)
    )
    return Head(head.transport, head.ports, datagrams=tuple(datagrams))


def cut(head: Head, seen: int) -> Head:
    """The same head, of whose streams and datagrams only the first bytes were captured."""
    streams = [
        Stream(
            each.data[:seen],
            tuple(mark for mark in each.marks if mark.offset < seen),
            each.begins,
            each.ends and seen >= len(each.data),
        )
        for each in head.streams
    ]
    datagrams = (
        Datagram(each.direction, each.data[:seen], each.length, each.frame, each.time) for each in head.datagrams
    )
    return Head(head.transport, head.ports, (streams[0], streams[1]), tuple(datagrams))


WHOLE_AT_MANY_LENGTHS = {
    "dhcp": "behind the end option or a BOOTP header there may be padding, of any size",
    "ike": "eight bytes or more on its port are ESP",
    "ntp": "extension fields, digest and padding are there or not",
}
"""Protocols of which a message cut short may be another whole one."""


def cut_by_its_word(datagram: Datagram) -> bool:
    """An answer of DNS that says by TC that it goes on elsewhere."""
    return len(datagram.data) > 3 and datagram.data[2:3] == b"\x83"


def ended(head: Head, seen: int) -> Head:
    """The same head, of whose streams and datagrams the senders sent no more than the first bytes."""
    streams = [
        Stream(each.data[:seen], tuple(mark for mark in each.marks if mark.offset < seen), True, True)
        for each in head.streams
    ]
    datagrams = (
        Datagram(each.direction, each.data[:seen], min(seen, each.length), each.frame, each.time)
        for each in head.datagrams
    )
    return Head(head.transport, head.ports, (streams[0], streams[1]), tuple(datagrams))


def told(dissection: Dissection, transport: str) -> dict[Direction | Frame, list[object]]:
    """Messages by what carried them: one direction of the stream, or a datagram."""
    found: dict[Direction | Frame, list[object]] = {}
    for item in dissection.items:
        found.setdefault(item.direction if transport == "tcp" else item.frame, []).append(item.message)
    return found


def texts(value: object) -> Iterator[str]:
    """All texts within a JSON value."""
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
    """No failure of ours, and facts that any terminal and any JSON reader can take."""
    assert [each.anomaly for each in dissection.parse_errors if each.anomaly.cause is Cause.DEFECT] == []
    shown = to_json(dissection.facts)
    json.dumps(shown)
    for shown_text in texts(shown):
        assert shown_text.isprintable(), shown_text
    for item in dissection.items:
        assert item.offset >= 0
    for each in dissection.parse_errors:
        assert each.anomaly.field and each.anomaly.reason and not each.anomaly.reason.endswith(".")


@every_protocol
def test_examples_are_what_they_say(module: ProtocolModule) -> None:
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
    pieces = [bytearray(each) for each in parts(like)]
    for _ in range(data.draw(st.integers(1, 3))):
        piece = data.draw(st.sampled_from(pieces))
        at = data.draw(st.integers(0, max(0, len(piece) - 1)))
        if data.draw(st.booleans()):
            piece[at : at + 1] = bytes((data.draw(st.integers(0, 255)),))
        else:
            donor = data.draw(st.sampled_from(pieces))
            begin = data.draw(st.integers(0, len(donor)))
            piece[at : at + data.draw(st.integers(0, 40))] = donor[begin : begin + data.draw(st.integers(0, 40))]
    head = rebuilt(like, [bytes(each) for each in pieces], data.draw(st.booleans()), data.draw(st.booleans()))
    assert_sound(dissect_as(module, head))
    assert_sound(dissect(head))


@every_protocol
@given(data=st.data())
def test_a_prefix_says_a_prefix(module: ProtocolModule, data: st.DataObject) -> None:
    head = data.draw(st.sampled_from(examples(module)))
    seen = data.draw(st.integers(0, max(map(len, parts(head)))))
    less = dissect_as(module, cut(head, seen))
    assert_sound(less)
    assert {each.anomaly.cause for each in less.parse_errors} <= {Cause.TRUNCATED}
    whole = told(dissect_as(module, head), head.transport)
    for carrier, messages in told(less, head.transport).items():
        assert messages == whole[carrier][: len(messages)]


@every_protocol
@given(data=st.data())
def test_what_the_capture_cuts_is_truncated_and_what_the_sender_cuts_is_malformed(
    module: ProtocolModule, data: st.DataObject
) -> None:
    """A length that says more than there is, by one byte or by many, is the sender's fault if it ended there."""
    like = [each for each in examples(module) if not any(map(cut_by_its_word, each.datagrams))]
    head = data.draw(st.sampled_from(like))
    seen = data.draw(st.integers(1, max(map(len, parts(head)))))
    less, short = dissect_as(module, cut(head, seen)), dissect_as(module, ended(head, seen))
    assert_sound(short)
    assert {each.anomaly.cause for each in short.parse_errors} <= {Cause.MALFORMED}
    lacking = {each.direction if head.transport == "tcp" else each.frame for each in less.parse_errors}
    broken = {each.direction if head.transport == "tcp" else each.frame for each in short.parse_errors}
    assert module.NAME in WHOLE_AT_MANY_LENGTHS or lacking <= broken


@every_protocol
@given(data=st.data())
@settings(max_examples=25)
def test_no_bytes_take_long(module: ProtocolModule, data: st.DataObject) -> None:
    """The beginning of something good, and one short pattern over and over behind it."""
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
