"""Heads: marks of streams, first bytes, and the cache of lazy sequences."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.heads import Datagram, Direction, Frame, Head, Mark, Stream, cache_last


def test_mark_at_is_the_frame_that_carried_the_byte() -> None:
    marks = (Mark(0, Frame(0, 4), 100), Mark(3, Frame(0, 9), 50), Mark(5, Frame(1, 1), 200))
    stream = Stream(b"abcdefg", marks)
    assert [stream.mark_at(offset).frame for offset in range(7)] == [(0, 4)] * 3 + [(0, 9)] * 2 + [(1, 1)] * 2


def test_mark_at_the_end_is_the_last_frame() -> None:
    assert Stream(b"ab", (Mark(0, Frame(0, 1), 0),)).mark_at(2).frame == Frame(0, 1)


def test_a_stream_without_bytes_has_no_mark() -> None:
    with pytest.raises(IndexError):
        Stream().mark_at(0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_mark_at_is_the_last_mark_up_to_the_offset(sizes: list[int]) -> None:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    stream = Stream(bytes(sum(sizes)), tuple(Mark(at, Frame(0, n + 1), n) for n, at in enumerate(starts)))
    for offset in range(sum(sizes)):
        assert stream.mark_at(offset).offset == max(at for at in starts if at <= offset)
    offsets = range(sum(sizes) + 1)
    assert stream.marks_at(offsets) == [stream.mark_at(offset) for offset in offsets]


def test_from_mark_begins_with_the_frame_of_the_mark() -> None:
    marks = (Mark(0, Frame(0, 4), 100), Mark(3, Frame(0, 9), 50), Mark(5, Frame(1, 1), 200))
    behind = Stream(b"abcdefg", marks, ends=True).from_mark(marks[1])
    assert behind == Stream(b"defg", (Mark(0, Frame(0, 9), 50), Mark(2, Frame(1, 1), 200)), ends=True)


def test_first_bytes_of_a_direction() -> None:
    tcp = Head("tcp", (1, 2), (Stream(b"question"), Stream(b"answer")))
    assert (tcp.first(Direction.ORIGINATOR), tcp.first(Direction.RESPONDER)) == (b"question", b"answer")
    datagrams = tuple(
        Datagram(direction, data, len(data), Frame(0, 1), 0)
        for direction, data in ((Direction.RESPONDER, b"x"), (Direction.ORIGINATOR, b"y"), (Direction.RESPONDER, b"z"))
    )
    udp = Head("udp", (1, 2), datagrams=datagrams)
    assert (udp.first(Direction.ORIGINATOR), udp.first(Direction.RESPONDER)) == (b"y", b"x")
    assert Head("udp").first(Direction.RESPONDER) == b""


class Argument:
    """An argument with an identity."""


class Result:
    """A result that refers to its argument."""

    def __init__(self, argument: Argument) -> None:
        self.argument = weakref.ref(argument)


def test_cache_last_computes_once_for_one_argument_in_a_row() -> None:
    cached = cache_last(Result)
    one, two = Argument(), Argument()
    first = cached(one)
    assert cached(one) is first
    assert cached(two).argument() is two
    assert cached(one) is not first


def test_cache_last_drops_the_result_with_the_argument() -> None:
    cached = cache_last(Result)
    argument = Argument()
    result = weakref.ref(cached(argument))
    assert result() is not None
    del argument
    gc.collect()
    assert result() is None


def test_cache_last_never_mixes_the_results_of_threads() -> None:
    cached = cache_last(Result)
    mixed: list[Argument] = []

    def ask() -> None:
        own = [Argument() for _ in range(200)]
        mixed.extend(argument for argument in own * 20 if cached(argument).argument() is not argument)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mixed
