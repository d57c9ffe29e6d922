"""IEC 104 in the scanner, compared with the dissector, which reads the whole stream at once."""

from __future__ import annotations

import itertools
import random
import struct
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.conversations import Conversation, dissect_flows
from analyzer.heads import Direction, Frame, Head, Mark, Stream
from analyzer.messages import to_json
from analyzer.protocols import Dissection, ParseError, dissect_as, iec104
from analyzer.protocols.iec104 import FUNCTIONS, TYPES, Iec104Facts
from analyzer.scanner import columns
from analyzer.wire import Cause
from tests import build
from tests.build import ACK, FIN, SECOND, SYN, Packet
from tests.protocols.test_iec104 import i_frame, lrr, s_frame

CLIENT, SERVER = (build.STATION, 40000), (build.SERVER, 2404)
FIRST = 0xFFFFFE00
"""Sequence number of the first byte, close to the wrap."""


def standard(kind: int, count: int, cause: int) -> bytes:
    size = TYPES.get(kind, ("", None))[1] or 0
    return struct.pack("<BBHH", kind, count, cause, 47) + bytes(count * (3 + size))


good_apdus = st.one_of(
    st.builds(
        i_frame, st.integers(0, 9), st.builds(lrr, st.integers(0, 50), st.integers(0, 300), st.binary(max_size=40))
    ),
    st.builds(
        i_frame, st.integers(0, 9), st.builds(standard, st.sampled_from(sorted(TYPES)), st.integers(1, 9), st.just(6))
    ),
    st.builds(i_frame, st.integers(0, 32767), st.just(b""), st.integers(0, 32767)),
    st.builds(s_frame, st.integers(0, 32767)),
    st.sampled_from([bytes((0x68, 4, first, 0, 0, 0)) for first in FUNCTIONS]),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """APDUs in a row, some with a changed byte near their start."""
    data = bytearray()
    for apdu in draw(st.lists(good_apdus, min_size=1, max_size=12)):
        data += apdu
        if draw(st.integers(0, 12)) == 0:
            at = len(data) - len(apdu) + draw(st.integers(0, min(len(apdu), 28) - 1))
            data[at] = draw(st.integers(0, 255))
    return bytes(data)


def segments(data: bytes, cuts: Sequence[int]) -> list[tuple[int, bytes]]:
    borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [(one, data[one:two]) for one, two in itertools.pairwise(borders)]


def captured(sent: Sequence[tuple[int, bytes]], end: int | None = None, buffer_size: int = 1 << 19) -> Conversation:
    """A client sends segments in this order, after a handshake; ``end``: then a FIN at this offset."""
    frames = [build.tcp(*CLIENT, *SERVER, SYN, FIRST - 1), build.tcp(*SERVER, *CLIENT, SYN | ACK, 99)]
    frames += [build.tcp(*CLIENT, *SERVER, ACK, FIRST + at, data) for at, data in sent]
    if end is not None:
        frames.append(build.tcp(*CLIENT, *SERVER, ACK | FIN, FIRST + end))
    packets = [Packet(frame, SECOND + number * 1_000_000) for number, frame in enumerate(frames)]
    (found,) = dissect_flows(build.read_files(build.pcap(packets), buffer_size=buffer_size)).expand()
    return found


def oracle(sent: Sequence[tuple[int, bytes]], data: bytes) -> Dissection:
    """What the dissector reads in the whole stream; each byte belongs to the first frame that contains it."""
    owner: dict[int, int] = {}
    for number, (at, part) in enumerate(sent, 3):
        for offset in range(at, at + len(part)):
            owner.setdefault(offset, number)
    marks = [
        Mark(at, Frame(0, owner[at]), SECOND + (owner[at] - 1) * 1_000_000)
        for at in range(len(data))
        if at == 0 or owner[at] != owner[at - 1]
    ]
    return dissect_as(iec104, Head("tcp", (40000, 2404), (Stream(data, tuple(marks), True), Stream())))


def counts(facts: object) -> Counter[str]:
    """What both count of APDUs without a framing error."""
    assert isinstance(facts, Iec104Facts)
    found = Counter({"I": facts.i_frames, "S": facts.s_frames, "U": facts.u_frames, "long": facts.long_apdus})
    for kinds in (facts.functions, facts.lrr_types, facts.type_ids):
        found.update(kinds)
    return +found


def whole(found: Conversation) -> Iec104Facts:
    assert found.head.link is not None
    return iec104.facts_of_link(Iec104Facts(0), found.head.link)


@settings(max_examples=300, deadline=None)
@given(streams(), st.lists(st.integers(0, 4000), max_size=30), st.randoms(use_true_random=False), st.booleans())
def test_segments_in_any_order_agree_with_the_dissector(
    data: bytes, cuts: list[int], chance: random.Random, ends: bool
) -> None:
    sent = segments(data, cuts)
    for _ in range(chance.randrange(4)):  # retransmitted, also in other segments
        sent.insert(chance.randrange(len(sent) + 1), chance.choice(segments(data, [chance.randrange(4000)])))
    for at in range(len(sent) - 1):  # reordered, within what may wait
        if chance.random() < 0.2:
            other = min(len(sent) - 1, at + chance.randrange(1, 6))
            sent[at], sent[other] = sent[other], sent[at]
    found, expected = captured(sent, len(data) if ends else None), oracle(sent, data)
    link = found.head.link
    assert link is not None
    line = link.directions[Direction.ORIGINATOR]
    assert (line.offset, line.missing, line.gaps) == (len(data), 0, 0)
    breaks = [ParseError(*anomaly) for anomaly in iec104.anomalies(link)]
    malformed = [error for error in expected.parse_errors if error.anomaly.cause is Cause.MALFORMED]
    if malformed:
        assert breaks[:1] == malformed
    else:
        assert line.breaks == 0 and bool(breaks) == (ends and bool(expected.parse_errors))
    if not expected.parse_errors:
        assert counts(whole(found)) == counts(expected.facts)
        assert line.apdus == len(expected.items)


@settings(max_examples=200, deadline=None)
@given(st.lists(good_apdus, min_size=4, max_size=60), st.lists(st.integers(0, 9999), max_size=40), st.data())
def test_missing_segments_are_never_blamed_on_the_sender(
    apdus: list[bytes], cuts: list[int], drawn: st.DataObject
) -> None:
    data = b"".join(apdus)
    sent = segments(data, cuts)
    lost = drawn.draw(st.sets(st.integers(0, len(sent) - 1), max_size=5))
    kept = [segment for number, segment in enumerate(sent) if number not in lost]
    if not kept:
        return
    found, expected = captured(kept, len(data)), oracle(sent, data)
    link = found.head.link
    assert link is not None
    line = link.directions[Direction.ORIGINATOR]
    assert iec104.anomalies(link) == []
    assert line.missing == sum(
        len(sent[number][1]) for number in lost if number < len(sent) and any(at > sent[number][0] for at, _ in kept)
    )
    if not lost:
        assert counts(whole(found)) == counts(expected.facts)


@pytest.mark.parametrize("size", [64, 1 << 12, 1 << 22])
def test_the_result_does_not_depend_on_the_buffer_size(size: int) -> None:
    chance = random.Random(104)
    data = b"".join(i_frame(n, lrr(n % 48, chance.randrange(300))) for n in range(500))
    sent = segments(data, [chance.randrange(len(data)) for _ in range(300)])
    chance.shuffle(sent)
    sent = sorted(sent, key=lambda segment: segment[0] + chance.randrange(1500))
    found = captured(sent, len(data), size)
    assert found.head.link == captured(sent, len(data)).head.link
    assert found.head.link is not None and found.head.link.directions[0].apdus == 500
    facts = to_json(found.dissection.facts)
    assert facts["sequence_numbers"] == {"originator": [0, 499]}
    assert (facts["apdus"], facts["unread_bytes"], facts["gaps"]) == (500, 0, 0)
    assert len(found.head.streams[0].data) == columns.HEAD_LIMITS[columns.CONTENT_IEC104]


def test_a_framing_break_far_into_the_stream_is_found_in_its_frame() -> None:
    data = b"".join(i_frame(n % 32767, lrr(5, 228)) for n in range(5_000_000 // 254))
    data += bytes(6) + i_frame(0, lrr(5)) + b"\x68\x04\x0f\0\0\0"
    at = len(data) - 6 - len(i_frame(0, lrr(5))) - 6
    sent = [(start, data[start : min(start + 1400, at)]) for start in range(0, at, 1400)]
    sent += [(at, data[at : at + 6]), (at + 6, data[at + 6 :])]
    found = captured(sent)
    assert [
        (error.anomaly.offset, error.anomaly.field, error.frame.number) for error in found.dissection.malformed
    ] == [
        (at, "start byte", len(sent) + 1),
        (len(data) - 4, "control field", len(sent) + 2),
    ]
    facts = found.dissection.facts
    assert isinstance(facts, Iec104Facts) and (facts.breaks, facts.resynchronisations) == (2, 1)
    assert facts.apdus == 5_000_000 // 254 + 1


def test_a_fin_within_an_apdu_is_a_break_and_the_end_of_the_capture_is_not() -> None:
    data = i_frame(0, lrr(5)) * 100 + i_frame(0, lrr(5))[:30]
    (broken,) = captured([(0, data)], len(data)).dissection.malformed
    assert (broken.anomaly.field, broken.anomaly.offset) == ("APDU", len(data) - 30)
    assert broken.anomaly.reason == "the stream ends after 30 of 56 bytes of it"
    assert captured([(0, data)]).dissection.malformed == ()


def test_a_midstream_link_has_breaks_only_once_its_framing_is_confirmed() -> None:
    data = b"".join(i_frame(n, lrr(5)) for n in range(60))
    frames = [build.tcp(*CLIENT, *SERVER, ACK, 100 + at, part) for at, part in segments(data, range(20, 4000, 200))]
    found = build.conversation(frames)
    facts = found.dissection.facts
    assert isinstance(facts, Iec104Facts) and not found.dissection.malformed
    assert facts.breaks == 0
    tail = build.tcp(*CLIENT, *SERVER, ACK, 100 + len(data), b"nonsense")
    apdus = [build.tcp(*CLIENT, *SERVER, ACK, 100 + 56 * n, data[56 * n : 56 * n + 56]) for n in range(60)]
    (broken,) = build.conversation([*apdus, tail]).dissection.malformed
    assert (broken.anomaly.offset, broken.frame.number) == (len(data), 61)


def test_a_stream_continues_in_the_next_file() -> None:
    data = b"".join(i_frame(n, lrr(5)) for n in range(200)) + b"nonsense"
    frames = [build.tcp(*CLIENT, *SERVER, SYN, 99), build.tcp(*SERVER, *CLIENT, SYN | ACK, 99)]
    frames += [build.tcp(*CLIENT, *SERVER, ACK, 100 + at, part) for at, part in segments(data, range(0, 12000, 170))]
    packets = build.timed(frames)
    (one,) = dissect_flows(build.read_files(build.pcap(packets))).expand()
    (two,) = dissect_flows(build.read_files(build.pcap(packets[:31]), build.pcap(packets[31:]))).expand()
    assert to_json(one.dissection.facts) == to_json(two.dissection.facts)
    assert [error.anomaly for error in one.dissection.parse_errors] == [
        error.anomaly for error in two.dissection.parse_errors
    ]
    assert two.dissection.parse_errors[0].frame == Frame(1, len(frames) - 31)


def test_sizes_of_all_types_agree_with_the_dissector() -> None:
    for kind in range(256):
        name, size = TYPES.get(kind, (None, None))
        expected = -2 if name is None and kind < 128 else -1 if size is None else size
        assert columns.ASDU_SIZES[kind] == expected, kind
