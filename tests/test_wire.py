"""The bounds-checked reader: what is truncated, and what is malformed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.wire import UNBOUNDED, Anomaly, Cause, Layout, Reader, StopParsing


def stopped(action: Callable[[], object]) -> Anomaly:
    with pytest.raises(StopParsing) as caught:
        action()
    return caught.value.anomaly


def test_integers_are_big_endian() -> None:
    reader = Reader(bytes(range(1, 11)))
    assert (reader.u8("a"), reader.u16("b"), reader.u24("c"), reader.u32("d")) == (1, 0x0203, 0x040506, 0x0708090A)


def test_beyond_the_captured_end_is_truncated_beyond_the_fence_is_malformed() -> None:
    cut = stopped(lambda: Reader(b"abc", 0, 10).take(5, "name"))
    assert (cut.cause, cut.field, cut.offset) == (Cause.TRUNCATED, "name", 0)
    assert cut.reason == "needs 5 bytes, the capture holds 3"
    lie = stopped(lambda: Reader(b"abcdef", 1, 4).take(5, "name"))
    assert (lie.cause, lie.offset) == (Cause.MALFORMED, 1)
    assert lie.reason == "needs 5 bytes, 3 are left of the declared length"


def test_beyond_both_is_malformed() -> None:
    assert stopped(lambda: Reader(b"abc", 0, 3).u32("name")).cause is Cause.MALFORMED


def test_an_unbounded_stream_is_never_malformed() -> None:
    assert stopped(lambda: Reader(b"abc").u32("name")).cause is Cause.TRUNCATED


def test_bytes_left_over_in_a_block_are_malformed() -> None:
    def read() -> None:
        reader = Reader(b"\x04abcdX")
        with reader.block(reader.u8("length"), "list") as inner:
            inner.take(3, "item")

    anomaly = stopped(read)
    assert (anomaly.cause, anomaly.field, anomaly.offset) == (Cause.MALFORMED, "list", 4)
    assert anomaly.reason == "1 bytes of 4 declared are left over"


def test_a_block_that_crosses_its_enclosing_block_is_malformed() -> None:
    def read() -> None:
        with Reader(bytes(100)).block(10, "outer") as outer, outer.block(11, "inner"):
            pass

    anomaly = stopped(read)
    assert (anomaly.cause, anomaly.field) == (Cause.MALFORMED, "inner")


def test_a_block_beyond_the_captured_end_is_truncated() -> None:
    def read() -> None:
        with Reader(b"ab").block(10, "list") as inner:
            inner.rest("items")

    assert stopped(read).cause is Cause.TRUNCATED


def test_reading_continues_after_a_block() -> None:
    reader = Reader(b"abcd")
    with reader.block(3, "list") as inner:
        assert inner.rest("items") == b"abc"
    assert reader.u8("next") == ord("d")


def test_has_more_counts_declared_bytes_and_left_counts_captured_bytes() -> None:
    reader = Reader(b"ab", 0, 5)
    assert (reader.has_more, reader.left) == (True, 2)
    reader.take(2, "all")
    assert (reader.has_more, reader.left) == (True, 0)
    assert not Reader(b"").has_more
    assert not Reader(b"ab", 2, 2).has_more


def test_peek_neither_stops_nor_moves() -> None:
    reader = Reader(b"abcdef", 2, 4)
    assert reader.peek(100) == b"cd"
    assert reader.pos == 2


@pytest.mark.parametrize(("ending", "left"), [(b"\r\n", b""), (b"\n", b"")])
def test_a_line_ends_with_crlf_or_lf(ending: bytes, left: bytes) -> None:
    reader = Reader(b"220 ready" + ending)
    assert reader.line(100, "reply") == b"220 ready"
    assert reader.peek(1) == left


def test_a_line_without_an_end_is_truncated_unless_it_exceeds_its_limit() -> None:
    assert stopped(lambda: Reader(b"220 rea").line(100, "reply")).cause is Cause.TRUNCATED
    assert stopped(lambda: Reader(b"a" * 101).line(100, "reply")).cause is Cause.MALFORMED
    assert stopped(lambda: Reader(b"220 rea\n", 0, 7).line(100, "reply")).cause is Cause.MALFORMED


HEADER = Layout(("kind", "B"), ("name", "3s"), ("length", "H"), ("serial", "I"))


def field_by_field(reader: Reader) -> tuple[object, ...]:
    return reader.u8("kind"), reader.take(3, "name"), reader.u16("length"), reader.u32("serial")


@given(st.binary(max_size=14), st.integers(0, 3), st.integers(0, 16) | st.just(UNBOUNDED))
def test_a_layout_reads_and_stops_like_its_fields_one_by_one(data: bytes, pos: int, fence: int) -> None:
    whole, parts = Reader(data, pos, fence), Reader(data, pos, fence)
    try:
        expected = field_by_field(parts)
    except StopParsing as stop:
        assert stopped(lambda: whole.unpack(HEADER)) == stop.anomaly
    else:
        assert whole.unpack(HEADER) == expected
    assert whole.pos == parts.pos


@given(st.binary(max_size=40), st.integers(0, 60) | st.just(UNBOUNDED), st.lists(st.integers(0, 20), max_size=10))
def test_a_reader_returns_every_byte_once_up_to_the_nearer_limit(data: bytes, fence: int, counts: list[int]) -> None:
    reader = Reader(data, 0, fence)
    given_ = b""
    try:
        for count in counts:
            given_ += reader.take(count, "part")
    except StopParsing as stop:
        assert stop.anomaly.cause is (Cause.MALFORMED if len(given_) + count > fence else Cause.TRUNCATED)
    assert given_ == data[: len(given_)] == data[: min(fence, len(data))][: len(given_)]
    assert reader.pos == len(given_)
