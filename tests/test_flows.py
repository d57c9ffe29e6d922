"""Flows: reassembly of TCP streams, and the limits of heads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import flows
from analyzer.conversations import Conversation, dissect_flows
from analyzer.flows import Flows
from analyzer.heads import Direction, Stream
from analyzer.scanner import columns
from tests import build, samples
from tests.build import ACK, FIN, RST, SERVER, STATION, SYN, Packet

PORT = 50000
WRAP = 1 << 32


def sent(sequence: int, payload: bytes = b"", flags: int = ACK) -> bytes:
    """A segment from the station."""
    return build.tcp(STATION, PORT, SERVER, 9000, flags, sequence, payload)


def answered(sequence: int, payload: bytes = b"", flags: int = ACK) -> bytes:
    """A segment from the server."""
    return build.tcp(SERVER, 9000, STATION, PORT, flags, sequence, payload)


def handshake(sequence: int = 100) -> list[bytes]:
    """A handshake; data begin at the next sequence number."""
    return [sent(sequence, flags=SYN), answered(900, flags=SYN | ACK), sent(sequence + 1)]


def stream(frames: Sequence[bytes], direction: Direction = Direction.ORIGINATOR) -> Stream:
    return build.conversation(frames).head.streams[direction]


def frames_of(found: Stream) -> list[tuple[int, int]]:
    """Offset and frame number of every mark."""
    return [(mark.offset, mark.frame.number) for mark in found.marks]


# -- reassembly -------------------------------------------------------------------------------------------------


def test_segments_in_order_are_joined() -> None:
    found = stream([*handshake(), sent(101, b"\x01one"), sent(105, b"two"), sent(108, b"three")])
    assert (found.data, found.begins, found.ends) == (b"\x01onetwothree", True, False)
    assert frames_of(found) == [(0, 4), (4, 5), (7, 6)]
    assert [mark.time % 1_000_000_000 for mark in found.marks] == [3_000_000, 4_000_000, 5_000_000]


def test_segments_out_of_order_are_sorted() -> None:
    found = stream([*handshake(), sent(108, b"three"), sent(101, b"\x01one"), sent(105, b"two")])
    assert found.data == b"\x01onetwothree"
    assert frames_of(found) == [(0, 5), (4, 6), (7, 4)]


def test_retransmissions_are_counted_and_add_nothing() -> None:
    found = build.conversation([*handshake(), sent(101, b"\x01one"), sent(101, b"\x01one"), sent(101, b"\x01two")])
    assert found.head.streams[0].data == b"\x01one"
    assert frames_of(found.head.streams[0]) == [(0, 4)]
    assert (found.retransmissions, found.payload, found.packets) == (2, (4, 0), (5, 1))


@pytest.mark.parametrize(
    ("order", "repeated"),
    [
        ((1, 0, 2), 0),
        ((2, 0, 1), 0),
        ((2, 1, 0), 0),
        ((0, 2, 1), 0),
        ((0, 2, 1, 1), 1),
        ((0, 2, 2, 1, 0), 2),
    ],
)
def test_late_segments_are_payload_not_retransmissions(order: tuple[int, ...], repeated: int) -> None:
    """Segments that were lost before the capture point, or overtaken."""
    parts = [sent(101, b"\x01one"), sent(105, b"two"), sent(108, b"three")]
    found = build.conversation([*handshake(), *(parts[index] for index in order)])
    assert found.head.streams[0].data == b"\x01onetwothree"
    assert (found.payload, found.retransmissions) == ((12, 0), repeated)


def test_a_longer_retransmission_adds_its_new_bytes() -> None:
    found = stream([*handshake(), sent(101, b"\x01one"), sent(101, b"\x01ONEtwo")])
    assert found.data == b"\x01onetwo"
    assert frames_of(found) == [(0, 4), (4, 5)]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([(0, b"aaaa"), (2, b"bbbb")], b"aaaabb"),
        ([(2, b"bbbb"), (0, b"aaaa")], b"aabbbb"),
        ([(4, b"cc"), (0, b"aaaaaaaa")], b"aaaaccaa"),
        ([(4, b"cc"), (2, b"bbbb"), (0, b"aa")], b"aabbcc"),
        ([(2, b"bb"), (6, b"dd"), (0, b"aaaaaaaa")], b"aabbaadd"),
        ([(2, b"bb"), (2, b"BBBB"), (0, b"aaa")], b"aabbBB"),
    ],
)
def test_of_overlapping_bytes_the_first_to_arrive_win(segments: list[tuple[int, bytes]], expected: bytes) -> None:
    frames = [sent(101 + offset, data) for offset, data in segments]
    found = stream([*handshake(), *frames])
    assert found.data == expected
    for offset, byte in enumerate(expected):  # the mark names the frame that carried the byte
        at, data = segments[found.mark_at(offset).frame.number - 4]
        assert data[offset - at] == byte


def test_a_gap_ends_the_head() -> None:
    found = stream([*handshake(), sent(101, b"\x01one"), sent(110, b"later"), sent(115, b"still", ACK | FIN)])
    assert (found.data, found.begins, found.ends) == (b"\x01one", True, False)


def test_a_filled_gap_completes_the_head() -> None:
    found = stream([*handshake(), sent(101, b"\x01one"), sent(110, b"l", ACK | FIN), sent(105, b"12345")])
    assert (found.data, found.ends) == (b"\x01one12345l", True)


def test_a_truncated_segment_is_a_gap() -> None:
    frames = [*handshake(), sent(101, b"\x01" * 50), sent(151, b"\x02" * 50, ACK | FIN)]
    packets = [Packet(frame[:80], index, len(frame)) for index, frame in enumerate(frames)]
    (found,) = dissect_flows(build.read_files(build.pcap(packets)))
    assert found.head.streams[0] == (b"\x01" * 26, found.head.streams[0].marks, True, False)
    assert found.payload == (100, 0)


def test_a_stream_ends_with_the_fin_and_all_bytes_before_it() -> None:
    data = sent(101, b"\x01one")
    assert stream([*handshake(), data, sent(105, flags=FIN | ACK)]).ends
    assert stream([*handshake(), sent(101, b"\x01one", FIN | ACK)]).ends
    assert stream([*handshake(), sent(105, flags=FIN | ACK), data]).ends
    assert not stream([*handshake(), data]).ends
    assert not stream([*handshake(), data, sent(106, flags=FIN | ACK)]).ends
    assert stream([*handshake(), sent(101, flags=FIN | ACK)]).ends  # an empty stream, completely captured


def test_a_midstream_stream_does_not_begin() -> None:
    found = build.conversation([sent(500, b"\x01one"), answered(900, b"\x02two"), sent(504, b"three")])
    assert [(stream.data, stream.begins) for stream in found.head.streams] == [
        (b"\x01onethree", False),
        (b"\x02two", False),
    ]


@pytest.mark.parametrize("start", range(WRAP - 8, WRAP + 1))
def test_sequence_numbers_wrap_around(start: int) -> None:
    frames = [
        *handshake(start % WRAP),
        sent(start + 5, b"5678"),
        sent(start + 1, b"\x01234"),
        sent(start + 9, b"9", ACK | FIN),
    ]
    found = build.conversation(frames)
    assert (found.head.streams[0].data, found.head.streams[0].ends) == (b"\x0123456789", True)


def test_keepalives_are_neither_data_nor_retransmissions() -> None:
    frames = [*handshake(), sent(101, b"\x01one"), sent(104), sent(104, b"\0"), answered(901), sent(105, b"two")]
    found = build.conversation(frames)
    assert found.head.streams[0].data == b"\x01onetwo"
    assert (found.retransmissions, found.payload) == (0, (7, 0))


def test_data_in_a_syn_are_payload() -> None:
    """TCP Fast Open, RFC 7413."""
    frames = [sent(100, b"\x01early", SYN), answered(900, flags=SYN | ACK), sent(107, b"late")]
    found = stream(frames)
    assert (found.data, found.begins) == (b"\x01earlylate", True)
    repeated = [
        sent(100, b"\x01early", SYN),
        answered(900, flags=SYN | ACK),
        sent(101, b"\x01early"),
        sent(107, b"late"),
    ]
    assert stream(repeated).data == b"\x01earlylate"


def test_the_payload_of_a_reset_is_not_data() -> None:
    assert stream([*handshake(), sent(101, b"\x01one"), sent(105, b"reason", RST)]).data == b"\x01one"


def test_a_fin_takes_a_sequence_number_of_its_own_direction_only() -> None:
    frames = [*handshake(), sent(101, b"\x01", ACK | FIN), answered(901, b"\x02"), answered(902, b"\x03", ACK | FIN)]
    found = build.conversation(frames)
    assert [(stream.data, stream.ends) for stream in found.head.streams] == [(b"\x01", True), (b"\x02\x03", True)]
    assert found.payload == (1, 2)


@given(st.binary(min_size=1, max_size=60), st.integers(0, WRAP - 1), st.randoms(use_true_random=False))
def test_segments_in_any_order_give_the_same_data(data: bytes, start: int, chance: random.Random) -> None:
    cuts = [tuple(sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))) for _ in range(8)]
    cuts += [(at, at + 7) for at in range(0, len(data), 7)]
    chance.shuffle(cuts)
    frames = [sent(start + 1 + one, data[one:two]) for one, two in cuts]
    frames.append(sent(start + 1 + len(data), flags=FIN | ACK))
    chance.shuffle(frames)
    data_frames = [*handshake(start), *frames]
    found = stream(data_frames)
    limited = found.data == data
    assert limited or data.startswith(found.data)
    assert limited == found.ends
    assert limited  # no data here is longer than a head
    assert [mark.offset for mark in found.marks] == sorted(mark.offset for mark in found.marks)
    for mark in found.marks:
        assert data[mark.offset : mark.offset + 1] in data_frames[mark.frame.number - 1]


def assert_joined_equally(found: Flows) -> None:
    """Streams joined at once equal those that are joined one by one; those left out lack or repeat bytes."""
    tcp = np.flatnonzero(found.flow["protocol"] == columns.TCP)
    for index, at_once in zip(tcp.tolist(), found.contiguous_streams(tcp), strict=True):
        pieces = found.pieces[found.piece_starts[index] : found.piece_starts[index + 1]]
        for side, (data, alone) in enumerate(zip(at_once, found.streams(index, 0), strict=True)):
            kept = pieces["kept"][(pieces["side"] == side) & (pieces["error"] == 0)]
            assert alone.data == data if data is not None else sum(kept) > len(alone.data)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 12)), max_size=12))
def test_joining_many_streams_equals_joining_each(segments: list[tuple[bool, int, int]]) -> None:
    frames = [
        answered(901 + at, bytes(range(at, at + size))) if back else sent(101 + at, bytes(range(at, at + size)))
        for back, at, size in segments
    ]
    assert_joined_equally(build.read([*handshake(), *frames]))


@pytest.mark.parametrize("name", ["plain-link-only", "tls-packets-lost", "mixed-two-base-stations"])
def test_joining_many_streams_equals_joining_each_in_recordings(name: str) -> None:
    assert_joined_equally(flows.read([str(samples.capture(name))]))


# -- limits -----------------------------------------------------------------------------------------------------


def bulk(first: bytes, total: int, size: int = 1400) -> list[bytes]:
    data = first + bytes(total - len(first))
    return [*handshake(), *(sent(101 + at, data[at : at + size]) for at in range(0, total, size))]


@pytest.mark.parametrize(
    ("first", "content"),
    [
        (b"\x00\x01", columns.CONTENT_OTHER),
        (b"\x16\x03\x01", columns.CONTENT_TLS),
        (b"SSH-2.0-x\r\n", columns.CONTENT_SSH),
        (b"\x68\x04\x07\0\0\0", columns.CONTENT_IEC104),
        (b"GET / HTTP/1.1\r\n", columns.CONTENT_TEXT),
        (b"220 ready\r\n", columns.CONTENT_FTP),
    ],
)
def test_the_length_of_a_head_depends_on_its_content(first: bytes, content: int) -> None:
    found = stream(bulk(first, 300_000))
    assert len(found.data) == columns.HEAD_LIMITS[content]


def test_a_tls_head_ends_with_the_first_application_data_header() -> None:
    hello = b"\x16\x03\x01\x00\x03abc"
    record = b"\x17\x03\x03\x02\0" + bytes(512)
    frames = [*handshake(), sent(101, hello), sent(109, record), sent(109 + len(record), record)]
    assert stream(frames).data == hello + record[:32]


def test_a_tls_segment_that_begins_with_23_is_not_always_application_data() -> None:
    hello = b"\x16\x03\x01\x00\x10abc"
    for middle in (b"\x17", b"\x17\x03", b"\x17\x04\x01" + bytes(60), b"\x17\x03\x77" + bytes(60)):
        found = stream([*handshake(), sent(101, hello), sent(109, middle), sent(109 + len(middle), b"more")])
        assert found.data == hello + middle + b"more"


def test_segments_of_a_head_are_limited() -> None:
    frames = [*handshake(), *(sent(101 + at, b"\x01") for at in range(3000))]
    found = build.conversation(frames)
    assert len(found.head.streams[0].data) == columns.MAX_HEAD_PIECES
    assert found.payload == (3000, 0)


def test_bytes_after_a_gap_are_limited() -> None:
    frames = [*handshake(), *(sent(101 + 1 + at % 3000, b"\x01" * 1000) for at in range(3000))]
    found = build.read(frames)
    assert found.pieces["kept"].sum() <= 2 * columns.HEAD_LIMITS.max()


def test_datagrams_of_a_head_are_limited() -> None:
    frames = [build.udp(STATION, 700, SERVER, 700, bytes([n % 256]) * (n + 1)) for n in range(200)]
    found = build.conversation(frames)
    assert len(found.head.datagrams) == columns.MAX_DATAGRAMS
    assert [len(datagram.data) for datagram in found.head.datagrams] == list(range(1, 65))
    assert (found.packets, found.payload) == ((200, 0), (sum(range(201)), 0))


def test_long_datagrams_are_cut_and_keep_their_length() -> None:
    (found,) = build.conversation([build.udp(STATION, 700, SERVER, 700, bytes(9000))]).head.datagrams
    assert (len(found.data), found.length) == (columns.MAX_DATAGRAM_BYTES, 9000)


def test_interleaved_flows_do_not_affect_each_other() -> None:
    one = [*handshake(), sent(101, b"\x01one"), sent(105, b"two", ACK | FIN)]
    two = [frame.replace(b"\xc3\x50", b"\xc3\x51", 1) for frame in one]
    both = [frame for pair in zip(one, two, strict=True) for frame in pair]
    first, second = build.conversations(both)

    def content(found: Conversation) -> Any:
        return found.packets, found.bytes, found.payload, [(stream.data, stream.ends) for stream in found.head.streams]

    assert content(first) == content(build.conversation(one)) == content(second)
