"""Flows that are alike are judged once, and nothing may hide behind that.

The oracle is the same program in which every flow is the only one of its kind.
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


def each_its_own(found: Flows, _: npt.NDArray[np.bool_]) -> DuplicateGroups:
    own = np.arange(len(found), dtype=np.int32)
    return DuplicateGroups(own, own)


def told(each: Conversation) -> Any:
    """Everything about a conversation of one flow; of its content, what was read."""
    names = [name for name in Conversation._fields if name not in ("dissection", "head")]
    said = each.dissection
    content = said.protocol, tuple(said.items), said.parse_errors, said.facts
    return [getattr(each, name) for name in names], content, each.head


def without_likeness(patch: pytest.MonkeyPatch, found: Flows) -> list[Any]:
    with patch.context() as context:
        context.setattr(Flows, "duplicate_groups", each_its_own)
        return [told(each) for each in dissect_flows(found)]


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
def test_each_flow_is_told_as_if_it_were_alone(drawn: list[bytes]) -> None:
    found = build.read(drawn)
    with pytest.MonkeyPatch.context() as patch:
        assert [told(each) for each in dissect_flows(found).expand()] == without_likeness(patch, found)


@given(repetitive())
def test_every_flow_is_in_one_conversation(drawn: list[bytes]) -> None:
    found = build.read(drawn)
    conversations = dissect_flows(found)
    assert sorted(flow for each in conversations for flow in each.flows) == list(range(1, len(found) + 1))
    assert [each.id for each in conversations] == sorted(each.id for each in conversations)
    listed = list(conversations.flows())
    assert [flow.id for flow in listed] == list(range(1, len(found) + 1))
    assert [flow[2:] for flow in listed] == [
        (each.originator.port, each.first, each.last, *each.first_frame, *each.last_frame)
        for each in conversations.expand()
    ]


def test_the_same_question_every_minute_is_one_conversation() -> None:
    """Identifiers, client ports and times to live tell them apart, and nothing else."""
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
def test_what_differs_is_a_conversation_of_its_own(odd: list[bytes]) -> None:
    frames = [frame for n in range(9) for frame in exchange(40000 + n, *dns(0x4000 + n))]
    found = dissect_flows(build.read([*frames, *odd]))
    assert [each.flow_count for each in found] == [9, 1]


def test_a_reply_with_other_data_than_its_ping_is_no_repetition() -> None:
    frames = []
    for number in range(6):
        frames += [build.echo(STATION, SERVER, 8, number, b"q" * 40)]
        frames += [build.echo(SERVER, STATION, 0, number, (b"q" if number != 3 else b"x") * 40)]
    found = dissect_flows(build.read(frames))
    assert [each.flows for each in found] == [(1, 2, 3, 5, 6), (4,)]


def test_each_refused_flow_names_its_own_reset() -> None:
    found = dissect_flows(build.read([build.tcp(OTHER, 53, SERVER, port, 4) for port in (3001, 40000)]))
    assert len(found) == 1
    assert [each.refused for each in found.expand()] == [(0, 1), (0, 2)]


def test_a_scan_of_ports_is_not_folded() -> None:
    found = dissect_flows(build.read([build.tcp(OTHER, 40000, STATION, port, 2, port) for port in range(1, 30)]))
    assert [each.responder.port for each in found] == list(range(1, 30))


def test_a_flood_of_openings_is_one_conversation() -> None:
    found = dissect_flows(build.read([build.tcp(OTHER, 20000 + n, STATION, 22, 2, n) for n in range(500)]))
    assert [(each.flow_count, each.state.value) for each in found] == [(500, "attempted")]


def verdict(result: Audit) -> Any:
    """What an auditor is told, without how often and with which frames."""
    rows = [
        (
            each.station.address,
            each.mode,
            each.tpe,
            [(row.row.id, row.status, row.certainty, row.flows) for row in each.rows],
        )
        for each in result.base_stations
    ]
    findings = {(each.check, each.severity, each.base_station, each.rows, each.summary) for each in result.findings}
    return rows, findings, result.flow_rows, result.flow_stations, result.totals


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_report_is_the_same_if_no_message_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = audit(path)
    monkeypatch.setattr(conversations, "MAX_KEPT_MESSAGES", -1)
    again = audit(path)
    assert report.render(result) == report.render(again)
    assert [list(each.dissection.items) for each in result.conversations] == [
        list(each.dissection.items) for each in again.conversations
    ]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_the_verdict_is_the_same_as_without_likeness(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        result = audit(path)
    except CaptureError:
        return
    monkeypatch.setattr(Flows, "duplicate_groups", each_its_own)
    assert verdict(result) == verdict(audit(path))
