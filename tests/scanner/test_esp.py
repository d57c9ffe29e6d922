"""ESP associations: what the scanner counts per direction and SPI over a whole flow."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Frame
from analyzer.scanner import columns
from tests.protocols.esp_packets import head_of, packet, scanned, traffic


def test_directions_and_spis_are_counted_separately() -> None:
    sent = head_of([(packet(5, 108, spi), 108) for spi in (0x1000, 0x2000)])
    answer = sent.datagrams[0]._replace(direction=Direction.RESPONDER, frame=Frame(0, 9), data=packet(5, 108, 0x1000))
    associations = scanned(sent._replace(datagrams=(*sent.datagrams, answer))).associations
    assert [(sa.direction, sa.spi, sa.packets) for sa in associations] == [
        (Direction.ORIGINATOR, 0x1000, 1),
        (Direction.ORIGINATOR, 0x2000, 1),
        (Direction.RESPONDER, 0x1000, 1),
    ]


def test_associations_per_flow_are_bounded_and_the_last_counts_the_rest() -> None:
    associations = scanned(head_of((packet(1, 108, spi), 108) for spi in range(1000, 1200))).associations
    assert len(associations) == columns.MAX_FLOW_ASSOCIATIONS
    assert [sa.folded for sa in associations] == [False] * (len(associations) - 1) + [True]
    assert sum(sa.packets for sa in associations) == 200 and sum(sa.bytes for sa in associations) == 200 * 108


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=80), st.sampled_from((0, 1 << 20, (1 << 32) - 150)))
def test_window_agrees_with_a_set_of_all_numbers(numbers: list[int], start: int) -> None:
    (sa,) = scanned(head_of((packet((start + number) % (1 << 32), 108), 108) for number in numbers)).associations
    highest, seen, late, reused = -1, set[int](), 0, 0
    for number in numbers:
        if number <= highest - 64:
            late += 1
        elif number in seen:
            reused += 1
        seen.add(number)
        highest = max(highest, number)
    # After a first number beyond the wrap, a lower one looks like one before it.
    if start != (1 << 32) - 150 or numbers[0] < 150:
        assert (sa.late, sa.reused, sa.replayed, sa.copied) == (late, reused, 0, 0)
        assert sa.highest == (start + highest) % (1 << 32)
    assert (sa.packets, sa.bytes) == (len(numbers), 108 * len(numbers))


def test_lengths_are_counted_over_the_whole_flow() -> None:
    (sa,) = scanned(traffic([108, 124, 1456] * 100)).associations
    assert {remainder: count for remainder, count in enumerate(sa.remainders) if count} == {12: 200, 0: 100}
    assert [bit for bit in range(512) if sa.lengths >> bit & 1] == [27, 31, 364]
