"""Duplicates: copies of packets count once, and flows that repeat others are dissected once, without hiding anything.

For flows, the oracle is the same program with every flow in a class of its own.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import audit, conversations
from analyzer.capture import CaptureError
from analyzer.conversations import Conversation, dissect_flows
from analyzer.flows import DuplicateGroups, Flows
from analyzer.reports import json as report
from analyzer.result import Audit
from tests import build, samples
from tests.protocols import test_ntp

STATION, OTHER, SERVER = "10.0.0.2", "10.0.0.3", "10.0.9.53"
CORPUS = os.environ.get("TPE_PCAP_CORPUS")
SHIPPED = samples.all_captures()
REAL = [*SHIPPED, *(sorted(Path(CORPUS).glob("*.pcap*")) if CORPUS else [])]


# -- packets ----------------------------------------------------------------------------------------------------


def altered(frame: bytes, ttl: int | None = None, identification: int | None = None) -> bytes:
    """The Ethernet frame of an IPv4 packet with another time to live or identification."""
    changed = bytearray(frame)
    if identification is not None:
        changed[18:20] = identification.to_bytes(2, "big")
    if ttl is not None:
        changed[22] = ttl
    return bytes(changed)


PING = build.ethernet(build.ip4("10.0.0.2", "10.0.9.1", 17, build.udp_datagram(4000, 53, b"the same")))


def test_a_packet_captured_on_three_interfaces_counts_once() -> None:
    """On its way through a router, a packet is captured again with another time to live within an instant."""
    found = build.read_files(
        build.pcap(build.timed([altered(PING, 64), altered(PING, 63), altered(PING, 62)], step=100_000))
    )
    assert found.side["packets"].tolist() == [[1, 0]]
    assert (found.counts.packets, found.counts.in_flows, found.counts.copies) == (3, 1, 2)
    assert build.accounted(found)


def test_a_packet_mirrored_twice_counts_once() -> None:
    found = build.read_files(build.pcap(build.timed([altered(PING, 64, 77)] * 2, step=100_000)))
    assert (found.counts.in_flows, found.counts.copies) == (1, 1)


@pytest.mark.parametrize("place", [0, 7, 31, 32, 40, 100, 511, 1000, -1])
@pytest.mark.parametrize(("transport", "offset"), [("udp", 0), ("icmp", 0), ("tcp", 0), ("tcp", 3000)])
def test_a_forged_packet_with_other_payload_is_not_a_copy(transport: str, offset: int, place: int) -> None:
    """It comes within an instant, with the identification and length of the genuine packet, and differs in one byte."""
    genuine = bytes(1024)
    forged = bytearray(genuine)
    forged[place] ^= 0x80
    before: list[bytes] = []
    if transport == "tcp":
        before = [build.tcp("10.0.0.2", 4000, "10.0.9.1", 80, flags, 100) for flags in (2, 16)]
        before += [build.tcp("10.0.0.2", 4000, "10.0.9.1", 80, 24, 101, bytes(offset))] if offset else []
        first, second = (
            build.tcp("10.0.0.2", 4000, "10.0.9.1", 80, 24, 101 + offset, bytes(payload))
            for payload in (genuine, forged)
        )
    elif transport == "udp":
        first, second = (build.udp("10.0.0.2", 4000, "10.0.9.1", 53, bytes(payload)) for payload in (genuine, forged))
    else:
        first, second = (build.echo("10.0.0.2", "10.0.9.1", 8, 1, bytes(payload)) for payload in (genuine, forged))
    copied = build.read_files(build.pcap(build.timed([*before, first, altered(first, 63)], step=100_000)))
    assert copied.counts.copies == 1
    found = build.read_files(build.pcap(build.timed([*before, first, altered(second, 63)], step=100_000)))
    assert (found.counts.in_flows, found.counts.copies) == (len(before) + 2, 0)
    assert build.accounted(found)


def test_every_copy_of_a_flow_is_recognised() -> None:
    """Including packets of which little or no payload is kept."""
    data = b"\x16\x03\x03\x00\x03abc" + b"\x17\x03\x03\x02\0" + bytes(512)
    segments = [(2, 100, b""), (24, 101, data[:8]), (24, 109, data[8:]), (24, 109 + len(data), bytes(1400))]
    frames = [build.tcp("10.0.0.2", 4000, "10.0.9.1", 3001, *segment) for segment in segments]
    frames += [build.udp("10.0.0.2", 4000, "10.0.9.1", 53, number.to_bytes(4, "big")) for number in range(200)]
    twice = [copy for frame in frames for copy in (frame, altered(frame, 63))]
    found = build.read_files(build.pcap(build.timed(twice, step=1000)))
    assert (found.counts.in_flows, found.counts.copies) == (len(frames), len(frames))


def test_copies_after_many_other_packets_are_recognised() -> None:
    """A capture of two interfaces contains what each has received, batch after batch."""
    frames = [
        build.tcp("10.0.0.2", 4000, "10.0.9.1", 3001, 24, 101 + 10 * number, number.to_bytes(10, "big"))
        for number in range(300)
    ]
    batches = [frames[start : start + 50] for start in range(0, len(frames), 50)]
    captured = [frame for batch in batches for frame in [*batch, *(altered(frame, 63) for frame in batch)]]
    found = build.read_files(build.pcap(build.timed(captured, step=10_000)))
    assert (found.counts.in_flows, found.counts.copies) == (len(frames), len(frames))


def test_every_vlan_is_another_path() -> None:
    """VLANs 1 and 257 differ only above their low eight bits."""
    tagged = [PING[:12] + b"\x81\0" + vlan.to_bytes(2, "big") + PING[12:] for vlan in (1, 257)]
    unnumbered = [frame[:22] + b"\0\0" + frame[24:] for frame in tagged]
    found = build.read_files(build.pcap(build.timed(unnumbered, step=5_000_000)))
    assert (found.counts.in_flows, found.counts.copies) == (1, 1)


def test_packets_that_a_sender_repeats_are_not_copies() -> None:
    again = [altered(PING, 64, 77), altered(PING, 64, 78)]
    assert build.read_files(build.pcap(build.timed(again, step=100_000))).counts.copies == 0
    later = [altered(PING, 64, 77), altered(PING, 64, 77)]
    assert build.read_files(build.pcap(build.timed(later, step=50_000_000))).counts.copies == 0
    unnumbered = [altered(PING, 64, 0), altered(PING, 64, 0)]
    assert build.read_files(build.pcap(build.timed(unnumbered, step=100_000))).counts.copies == 0


# -- flows ------------------------------------------------------------------------------------------------------


def all_unique(found: Flows, _: npt.NDArray[np.bool_]) -> DuplicateGroups:
    own = np.arange(len(found), dtype=np.int32)
    return DuplicateGroups(own, own)


def described(conversation: Conversation) -> Any:
    """All fields of a conversation of one flow; of its dissection, the content."""
    names = [name for name in Conversation._fields if name not in ("dissection", "head")]
    dissection = conversation.dissection
    content = dissection.protocol, tuple(dissection.items), dissection.parse_errors, dissection.facts
    return [getattr(conversation, name) for name in names], content, conversation.head


def without_duplicates(patch: pytest.MonkeyPatch, found: Flows) -> list[Any]:
    with patch.context() as context:
        context.setattr(Flows, "duplicate_groups", all_unique)
        return [described(conversation) for conversation in dissect_flows(found)]


def exchange(port: int, question: bytes, answer: bytes, client: str = STATION, service: int = 53) -> list[bytes]:
    return [build.udp(client, port, SERVER, service, question), build.udp(SERVER, service, client, port, answer)]


def dns(number: int, name: bytes = b"\x04lrc1\x07example\0", ttl: int = 60) -> tuple[bytes, bytes]:
    """A question and its answer, with an identifier and a time to live."""
    question = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + name + b"\0\1\0\1"
    answer = struct.pack(">HHHHHH", number, 0x8180, 1, 1, 0, 0) + name + b"\0\1\0\1"
    return question, answer + b"\xc0\x0c\0\1\0\1" + ttl.to_bytes(4, "big") + b"\0\4\x0a\0\x09\1"


@st.composite
def repetitive(draw: st.DrawFn) -> list[bytes]:
    """Short conversations of a few kinds, some of which differ by one byte."""
    frames: list[bytes] = []
    for index in range(draw(st.integers(1, 12))):
        client, port = draw(st.sampled_from([STATION, OTHER])), draw(st.sampled_from([53, 123, 1000, 40000 + index]))
        kind = draw(st.integers(0, 4))
        if kind < 2:
            pair = [*dns(draw(st.integers(0x4000, 0x4003)), ttl=draw(st.integers(1, 3)))]
            if draw(st.integers(0, 4)) == 0:
                at = draw(st.integers(0, len(pair[1]) - 1))
                pair[1] = pair[1][:at] + bytes([draw(st.integers(0, 255))]) + pair[1][at + 1 :]
            frames += exchange(port, pair[0], pair[1], client)
        elif kind == 2:
            sent, returned = draw(st.sampled_from([(b"a" * 40, b"a" * 40), (b"a" * 40, b"b" * 40), (b"", b"")]))
            frames += [build.echo(client, SERVER, 8, index, sent), build.echo(SERVER, client, 0, index, returned)]
        elif kind == 3:
            times = draw(st.sampled_from([1, 1, 5, 6]))  # more than are kept
            frames += times * exchange(port, test_ntp.REQUEST, test_ntp.ANSWER, client, 123)
        else:
            service = draw(st.sampled_from([22, 3001, 40000]))
            flags = draw(st.sampled_from([2, 2, 18, 4, 16]))
            frames.append(build.tcp(client, port, SERVER, service, flags, draw(st.integers(0, 3))))
    return frames


@given(repetitive())
def test_duplicates_are_described_as_if_dissected_on_their_own(drawn: list[bytes]) -> None:
    found = build.read(drawn)
    with pytest.MonkeyPatch.context() as patch:
        assert [*map(described, dissect_flows(found).expand())] == without_duplicates(patch, found)


@given(repetitive())
def test_every_flow_is_in_exactly_one_conversation(drawn: list[bytes]) -> None:
    found = build.read(drawn)
    conversations = dissect_flows(found)
    assert sorted(flow for conversation in conversations for flow in conversation.flows) == list(
        range(1, len(found) + 1)
    )
    assert [conversation.id for conversation in conversations] == sorted(
        conversation.id for conversation in conversations
    )
    listed = list(conversations.flows())
    assert [flow.id for flow in listed] == list(range(1, len(found) + 1))
    assert [flow[2:] for flow in listed] == [
        (flow.originator.port, flow.first, flow.last, *flow.first_frame, *flow.last_frame)
        for flow in conversations.expand()
    ]


def test_repetitions_of_a_question_are_one_conversation() -> None:
    """They differ in identifiers, client ports and times to live only."""
    frames = [frame for n in range(50) for frame in exchange(40000 + n, *dns(0x4000 + 7 * n, ttl=60 - n))]
    (found,) = dissect_flows(build.read(frames))
    assert found.flows == tuple(range(1, 51))
    assert found.first_frames[:3] == ((0, 1), (0, 3), (0, 5))


@pytest.mark.parametrize(
    "odd",
    [
        exchange(40050, *dns(0x4050, name=b"\x04evil\x07example\0")),
        exchange(40050, dns(0x4050)[0], dns(0x4051)[1]),
        exchange(40050, *dns(0x4050), client=OTHER),
        [*exchange(40050, *dns(0x4050)), build.udp(STATION, 40050, SERVER, 53, b"more")],
        exchange(40050, dns(0x4050)[0], dns(0x4050)[1][:-1] + b"\x42"),
        exchange(40050, dns(0x4050)[0], dns(0x4050)[1] + b"\0"),
        exchange(1000, *dns(0x4050)),
    ],
    ids=["name", "identifier of the answer", "client", "more packets", "address", "trailing byte", "well-known port"],
)
def test_flows_that_differ_are_not_duplicates(odd: list[bytes]) -> None:
    frames = [frame for n in range(9) for frame in exchange(40000 + n, *dns(0x4000 + n))]
    found = dissect_flows(build.read([*frames, *odd]))
    assert [conversation.flow_count for conversation in found] == [9, 1]


def test_a_reply_with_data_other_than_its_request_is_not_a_duplicate() -> None:
    frames = []
    for number in range(6):
        frames += [build.echo(STATION, SERVER, 8, number, b"q" * 40)]
        frames += [build.echo(SERVER, STATION, 0, number, (b"q" if number != 3 else b"x") * 40)]
    found = dissect_flows(build.read(frames))
    assert [conversation.flows for conversation in found] == [(1, 2, 3, 5, 6), (4,)]


def test_each_refused_flow_cites_its_own_reset() -> None:
    found = dissect_flows(build.read([build.tcp(OTHER, 53, SERVER, port, 4) for port in (3001, 40000)]))
    assert len(found) == 1
    assert [flow.refused for flow in found.expand()] == [(0, 1), (0, 2)]


def test_a_port_scan_is_not_grouped() -> None:
    found = dissect_flows(build.read([build.tcp(OTHER, 40000, STATION, port, 2, port) for port in range(1, 30)]))
    assert [conversation.responder.port for conversation in found] == list(range(1, 30))


def test_a_syn_flood_is_one_conversation() -> None:
    found = dissect_flows(build.read([build.tcp(OTHER, 20000 + n, STATION, 22, 2, n) for n in range(500)]))
    assert [(conversation.flow_count, conversation.state.value) for conversation in found] == [(500, "attempted")]


def conclusions(result: Audit) -> Any:
    """Rows and findings, without counts and frames."""
    rows = [
        (
            report.station.address,
            report.mode,
            report.tpe,
            [(row.row.id, row.status, row.certainty, row.flows) for row in report.rows],
        )
        for report in result.base_stations
    ]
    findings = {
        (finding.check, finding.severity, finding.base_station, finding.rows, finding.summary)
        for finding in result.findings
    }
    return rows, findings, result.flow_rows, result.flow_stations, result.totals


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_report_is_the_same_if_no_message_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = audit(path)
    monkeypatch.setattr(conversations, "MAX_KEPT_MESSAGES", -1)
    again = audit(path)
    assert report.render(result) == report.render(again)
    assert [list(conversation.dissection.items) for conversation in result.conversations] == [
        list(conversation.dissection.items) for conversation in again.conversations
    ]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_findings_are_the_same_without_duplicates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        result = audit(path)
    except CaptureError:
        return
    monkeypatch.setattr(Flows, "duplicate_groups", all_unique)
    assert conclusions(result) == conclusions(audit(path))
