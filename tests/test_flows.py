"""Flows and their heads: reassembly, buffers and files of any size, and what is kept."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import flows
from analyzer.conversations import FOLDED, Conversation, Endpoint, dissect_flows
from analyzer.findings import Severity
from analyzer.flows import Flows
from analyzer.heads import Direction, Stream
from analyzer.pipeline import audit
from analyzer.scanner import columns, driver
from tests import build, samples
from tests.build import ACK, FIN, RST, SERVER, STATION, SYN, Packet

PORT = 50000
WRAP = 1 << 32


def sent(sequence: int, payload: bytes = b"", flags: int = ACK) -> bytes:
    """A segment of the station's."""
    return build.tcp(STATION, PORT, SERVER, 9000, flags, sequence, payload)


def answered(sequence: int, payload: bytes = b"", flags: int = ACK) -> bytes:
    """A segment of the server's."""
    return build.tcp(SERVER, 9000, STATION, PORT, flags, sequence, payload)


def handshake(sequence: int = 100) -> list[bytes]:
    """Data begin at the next sequence number."""
    return [sent(sequence, flags=SYN), answered(900, flags=SYN | ACK), sent(sequence + 1)]


def stream(frames: Sequence[bytes], direction: Direction = Direction.ORIGINATOR) -> Stream:
    return build.conversation(frames).head.streams[direction]


def frames_of(found: Stream) -> list[tuple[int, int]]:
    """Offset and frame number of each mark."""
    return [(mark.offset, mark.frame.number) for mark in found.marks]


# -- reassembly -------------------------------------------------------------------------------------------------


def test_in_order() -> None:
    found = stream([*handshake(), sent(101, b"\x01one"), sent(105, b"two"), sent(108, b"three")])
    assert (found.data, found.begins, found.ends) == (b"\x01onetwothree", True, False)
    assert frames_of(found) == [(0, 4), (4, 5), (7, 6)]
    assert [mark.time % 1_000_000_000 for mark in found.marks] == [3_000_000, 4_000_000, 5_000_000]


def test_out_of_order() -> None:
    found = stream([*handshake(), sent(108, b"three"), sent(101, b"\x01one"), sent(105, b"two")])
    assert found.data == b"\x01onetwothree"
    assert frames_of(found) == [(0, 5), (4, 6), (7, 4)]


def test_retransmissions_change_nothing_and_are_counted() -> None:
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
def test_late_segments_are_payload_and_no_retransmissions(order: tuple[int, ...], repeated: int) -> None:
    """What was lost on its way to the capture point, or overtaken."""
    parts = [sent(101, b"\x01one"), sent(105, b"two"), sent(108, b"three")]
    found = build.conversation([*handshake(), *(parts[index] for index in order)])
    assert found.head.streams[0].data == b"\x01onetwothree"
    assert (found.payload, found.retransmissions) == ((12, 0), repeated)


def test_a_retransmission_that_goes_on_gives_its_new_part() -> None:
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
    for offset, byte in enumerate(expected):  # each byte is the frame's that the mark names
        at, data = segments[found.mark_at(offset).frame.number - 4]
        assert data[offset - at] == byte


def test_a_gap_ends_the_head() -> None:
    found = stream([*handshake(), sent(101, b"\x01one"), sent(110, b"later"), sent(115, b"still", ACK | FIN)])
    assert (found.data, found.begins, found.ends) == (b"\x01one", True, False)


def test_a_filled_gap_gives_all() -> None:
    found = stream([*handshake(), sent(101, b"\x01one"), sent(110, b"l", ACK | FIN), sent(105, b"12345")])
    assert (found.data, found.ends) == (b"\x01one12345l", True)


def test_a_segment_that_the_capture_cut_is_a_gap() -> None:
    frames = [*handshake(), sent(101, b"\x01" * 50), sent(151, b"\x02" * 50, ACK | FIN)]
    packets = [Packet(frame[:80], index, len(frame)) for index, frame in enumerate(frames)]
    (found,) = dissect_flows(build.read_files(build.pcap(packets)))
    assert found.head.streams[0] == (b"\x01" * 26, found.head.streams[0].marks, True, False)
    assert found.payload == (100, 0)


def test_ends_needs_the_fin_and_everything_before_it() -> None:
    data = sent(101, b"\x01one")
    assert stream([*handshake(), data, sent(105, flags=FIN | ACK)]).ends
    assert stream([*handshake(), sent(101, b"\x01one", FIN | ACK)]).ends
    assert stream([*handshake(), sent(105, flags=FIN | ACK), data]).ends
    assert not stream([*handshake(), data]).ends
    assert not stream([*handshake(), data, sent(106, flags=FIN | ACK)]).ends
    assert stream([*handshake(), sent(101, flags=FIN | ACK)]).ends  # it said nothing at all, and the capture shows it


def test_midstream_does_not_begin() -> None:
    found = build.conversation([sent(500, b"\x01one"), answered(900, b"\x02two"), sent(504, b"three")])
    assert [(each.data, each.begins) for each in found.head.streams] == [(b"\x01onethree", False), (b"\x02two", False)]


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


def test_data_in_the_syn_are_data() -> None:
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


def test_a_reset_carries_no_data() -> None:
    assert stream([*handshake(), sent(101, b"\x01one"), sent(105, b"reason", RST)]).data == b"\x01one"


def test_a_fin_does_not_take_a_byte_of_the_other_direction() -> None:
    frames = [*handshake(), sent(101, b"\x01", ACK | FIN), answered(901, b"\x02"), answered(902, b"\x03", ACK | FIN)]
    found = build.conversation(frames)
    assert [(each.data, each.ends) for each in found.head.streams] == [(b"\x01", True), (b"\x02\x03", True)]
    assert found.payload == (1, 2)


@given(st.binary(min_size=1, max_size=60), st.integers(0, WRAP - 1), st.randoms(use_true_random=False))
def test_any_order_of_any_segments_gives_the_data(data: bytes, start: int, chance: random.Random) -> None:
    """However a sender cuts, repeats and a network disorders it."""
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
    assert limited  # nothing here comes near a limit
    assert [mark.offset for mark in found.marks] == sorted(mark.offset for mark in found.marks)
    for mark in found.marks:
        assert data[mark.offset : mark.offset + 1] in data_frames[mark.frame.number - 1]


def assert_put_together(found: Flows) -> None:
    """Many streams at once are what each is alone; those that are not put together at once lack or repeat bytes."""
    tcp = np.flatnonzero(found.flow["protocol"] == columns.TCP)
    for index, at_once in zip(tcp.tolist(), found.contiguous_streams(tcp), strict=True):
        pieces = found.pieces[found.piece_starts[index] : found.piece_starts[index + 1]]
        for side, (data, alone) in enumerate(zip(at_once, found.streams(index, 0), strict=True)):
            kept = pieces["kept"][(pieces["side"] == side) & (pieces["error"] == 0)]
            assert alone.data == data if data is not None else sum(kept) > len(alone.data)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 12)), max_size=12))
def test_streams_are_put_together_at_once_as_alone(segments: list[tuple[bool, int, int]]) -> None:
    frames = [
        answered(901 + at, bytes(range(at, at + size))) if back else sent(101 + at, bytes(range(at, at + size)))
        for back, at, size in segments
    ]
    assert_put_together(build.read([*handshake(), *frames]))


@pytest.mark.parametrize("name", ["plain-link-only", "tls-packets-lost", "mixed-two-base-stations"])
def test_contiguous_streams_recordings_are_put_together_at_once_as_alone(name: str) -> None:
    assert_put_together(flows.read([str(samples.capture(name))]))


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
def test_heads_are_as_long_as_their_content_needs(first: bytes, content: int) -> None:
    found = stream(bulk(first, 300_000))
    assert len(found.data) == columns.HEAD_LIMITS[content]


def test_the_head_of_tls_ends_where_application_data_begin() -> None:
    hello = b"\x16\x03\x01\x00\x03abc"
    record = b"\x17\x03\x03\x02\0" + bytes(512)
    frames = [*handshake(), sent(101, hello), sent(109, record), sent(109 + len(record), record)]
    assert stream(frames).data == hello + record[:32]


def test_a_tls_segment_that_happens_to_begin_with_23_is_no_application_data() -> None:
    hello = b"\x16\x03\x01\x00\x10abc"
    for middle in (b"\x17", b"\x17\x03", b"\x17\x04\x01" + bytes(60), b"\x17\x03\x77" + bytes(60)):
        found = stream([*handshake(), sent(101, hello), sent(109, middle), sent(109 + len(middle), b"more")])
        assert found.data == hello + middle + b"more"


def test_tiny_segments_are_bounded() -> None:
    frames = [*handshake(), *(sent(101 + at, b"\x01") for at in range(3000))]
    found = build.conversation(frames)
    assert len(found.head.streams[0].data) == columns.MAX_HEAD_PIECES
    assert found.payload == (3000, 0)


def test_garbage_ahead_of_the_data_is_bounded() -> None:
    frames = [*handshake(), *(sent(101 + 1 + at % 3000, b"\x01" * 1000) for at in range(3000))]
    found = build.read(frames)
    assert found.pieces["kept"].sum() <= 2 * columns.HEAD_LIMITS.max()


def test_datagrams_are_kept_up_to_a_number() -> None:
    frames = [build.udp(STATION, 700, SERVER, 700, bytes([n % 256]) * (n + 1)) for n in range(200)]
    found = build.conversation(frames)
    assert len(found.head.datagrams) == columns.MAX_DATAGRAMS
    assert [len(each.data) for each in found.head.datagrams] == list(range(1, 65))
    assert (found.packets, found.payload) == ((200, 0), (sum(range(201)), 0))


def test_datagrams_are_cut_but_tell_their_length() -> None:
    (found,) = build.conversation([build.udp(STATION, 700, SERVER, 700, bytes(9000))]).head.datagrams
    assert (len(found.data), found.length) == (columns.MAX_DATAGRAM_BYTES, 9000)


# -- any buffer, any files --------------------------------------------------------------------------------------

HOSTS = [STATION, SERVER, build.RESOLVER]


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A packet among few hosts and ports, so that conversations come about."""
    source, destination = draw(st.permutations(HOSTS))[:2]
    ports = draw(st.sampled_from([(PORT, 443), (443, PORT), (PORT, 53), (53, PORT)]))
    kind = draw(st.integers(0, 9))
    payload = draw(
        st.sampled_from([b"", b"\x16\x03\x01\0\x05hello", b"GET / HTTP/1.0\r\n\r\n", b"\x17\x03\x03", bytes(60)])
    )
    if kind < 5:
        flags = draw(st.sampled_from([SYN, SYN | ACK, ACK, ACK, ACK, ACK | FIN, RST]))
        return build.tcp(source, ports[0], destination, ports[1], flags, draw(st.integers(0, 60)), payload)
    datagram = build.ip4(source, destination, 17, build.udp_datagram(*ports, payload + payload), identification=kind)
    if kind == 5:
        return draw(st.sampled_from([build.ethernet(part) for part in build.fragments(datagram, 16)]))
    if kind == 6:
        return build.icmp_error(build.ROUTER, source, 3, 1, build.ethernet(datagram))
    if kind == 7:
        return build.ethernet(build.ip4(source, destination, 47, b"\0\0\x08\0" + datagram))
    if kind == 8:
        return draw(st.sampled_from([build.echo(source, destination, 8, 1), build.ethernet(bytes(46), 0x0806)]))
    return build.ethernet(datagram)


def shown(found: Flows, frames_too: bool = True) -> list[Any]:
    """Everything about all conversations; without ``frames_too`` but where they stood."""
    result: list[Any] = [found.counts]
    for each in dissect_flows(found).expand():
        where = (each.first_frame, each.last_frame, each.refused, each.icmp_errors, each.head)
        result.append(
            (
                (each.transport, each.originator, each.responder, each.originator_certain, each.state),
                (each.packets, each.bytes, each.payload, each.first, each.last, each.macs, each.notes),
                (each.protocol, each.dissection.facts, each.retransmissions, each.control),
                [(stream.data, stream.begins, stream.ends) for stream in each.head.streams],
                [
                    (datagram.direction, datagram.data, datagram.length, datagram.time)
                    for datagram in each.head.datagrams
                ],
                where if frames_too else None,
            )
        )
    return result


@given(st.lists(frames(), max_size=20), st.sampled_from(["pcap", "pcapng"]))
def test_neither_the_size_of_the_buffer_nor_the_room_at_first_matters(drawn: list[bytes], kind: str) -> None:
    packets = build.timed(drawn)
    if kind == "pcap":
        content = build.pcap(packets, nanoseconds=True)
    else:
        content = build.section() + build.interface(resolution=9)
        content += b"".join(build.enhanced(packet.frame, packet.time) for packet in packets)
    whole = shown(build.read_files(content, buffer_size=4 << 20))
    for size in (64, 100, 1000):
        assert shown(build.read_files(content, buffer_size=size)) == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "INITIAL_FLOWS", 2)
        assert shown(build.read_files(content)) == whole


@given(st.lists(frames(), max_size=20), st.lists(st.integers(0, 20), max_size=5), st.randoms(use_true_random=False))
def test_packets_cut_into_many_files_are_one_time_line(
    drawn: list[bytes], cuts: list[int], chance: random.Random
) -> None:
    packets = build.timed(drawn)
    bounds = [0, *sorted(min(cut, len(packets)) for cut in cuts), len(packets)]
    parts = [build.pcap(packets[one:two], nanoseconds=True) for one, two in itertools.pairwise(bounds)]
    chance.shuffle(parts)
    whole = build.read_files(build.pcap(packets, nanoseconds=True))
    assert shown(build.read_files(*parts), frames_too=False) == shown(whole, frames_too=False)


@given(st.lists(frames(), max_size=20))
def test_every_packet_is_accounted_for(drawn: list[bytes]) -> None:
    found = build.read(drawn)
    assert build.accounted(found)
    assert found.counts.packets == len(drawn)


def test_above_the_limit_flows_are_folded_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hosts and service; what is new even then is counted."""
    monkeypatch.setattr(driver, "MAX_FLOWS", 40)
    drawn = [build.udp(STATION, 20000 + n, SERVER, 53, bytes(n)) for n in range(40)]
    drawn += [build.tcp(STATION, 30000 + n, SERVER, 443, SYN, n) for n in range(500)]
    drawn += [build.tcp(SERVER, 443, STATION, 30000 + n, SYN | ACK, n, b"") for n in range(500)]
    drawn += [build.echo(STATION, SERVER, 8, n) for n in range(300)]
    drawn += [build.udp(f"10.9.{n // 200}.{n % 200}", 5000, SERVER, 53, b"x") for n in range(400)]
    path = tmp_path / "flood.pcap"
    path.write_bytes(build.pcap(build.timed(drawn)))
    found = flows.read([str(path)])
    assert build.accounted(found)
    assert len(found) == 50
    assert found.counts.unreadable == {"too many flows to follow": 392}
    folded = [each for each in dissect_flows(found) if FOLDED in each.notes]
    assert [(each.transport, each.originator, each.responder, each.packets) for each in folded[:2]] == [
        ("tcp", Endpoint(STATION, None), Endpoint(SERVER, 443), (500, 500)),
        ("icmp", Endpoint(STATION, None), Endpoint(SERVER, None), (300, 0)),
    ]
    assert found.counts.folded_flows == len(folded) == 10
    (notice,) = (each for each in audit(path).findings if each.check == "TPE010")
    assert notice.count == 10
    assert notice.severity is Severity.MEDIUM
    monkeypatch.undo()
    assert "TPE010" not in {each.check for each in audit(path).findings}


def test_the_result_is_the_same_each_time() -> None:
    drawn = [build.udp(f"10.0.{n % 7}.{n % 200}", 1000 + n, SERVER, 53, b"x") for n in range(3000)]
    assert shown(build.read(drawn)) == shown(build.read(drawn))


def test_what_a_conversation_does_not_own_does_not_reach_it() -> None:
    """Two interleaved conversations, alone and together."""
    one = [*handshake(), sent(101, b"\x01one"), sent(105, b"two", ACK | FIN)]
    two = [frame.replace(b"\xc3\x50", b"\xc3\x51", 1) for frame in one]
    both = [frame for pair in zip(one, two, strict=True) for frame in pair]
    first, second = build.conversations(both)

    def content(found: Conversation) -> Any:
        return found.packets, found.bytes, found.payload, [(each.data, each.ends) for each in found.head.streams]

    assert content(first) == content(build.conversation(one)) == content(second)
