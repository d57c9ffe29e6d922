"""Checks of IEC 104 links."""

from __future__ import annotations

import pytest

from analyzer.checks import iec104 as checks
from analyzer.conversations import dissect_flows
from analyzer.findings import Check, Kind, Severity
from analyzer.heads import Head
from analyzer.protocols import iec104
from analyzer.scanner import columns
from tests import build, samples
from tests.build import ACK, FIN, SECOND, SYN, Packet
from tests.checks.matches import issues, match_of
from tests.protocols.test_iec104 import (
    STANDARD_CLIENT,
    STANDARD_SERVER,
    STARTDT_ACT,
    STARTDT_CON,
    TESTFR_ACT,
    TESTFR_CON,
    i_frame,
    link,
    lrr,
    s_frame,
)
from tests.protocols.test_ssh import head_of


def followed(head: Head) -> Head:
    """The same streams as the scanner follows them: with the link's counters and events."""
    ends = (build.STATION, 40000), (build.SERVER, head.ports[1])
    frames: list[tuple[int, bytes]] = []
    for side, stream in enumerate(head.streams):
        one, two = ends[side], ends[1 - side]
        if stream.begins:
            frames.append((side - 2, build.tcp(*one, *two, SYN | (ACK if side else 0), 99)))
        stops = [*(mark.offset for mark in stream.marks[1:]), len(stream.data)][: len(stream.marks)]
        for mark, stop in zip(stream.marks, stops, strict=True):
            segment = build.tcp(*one, *two, ACK, 100 + mark.offset, stream.data[mark.offset : stop])
            frames.append((mark.frame.number, segment))
        if stream.ends:
            frames.append((1 << 30, build.tcp(*one, *two, ACK | FIN, 100 + len(stream.data))))
    return build.conversation([frame for _, frame in sorted(frames, key=lambda numbered: numbered[0])]).head


def issues_of(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return issues_followed(check, followed(head))


def timed(*sent: tuple[float, str, bytes]) -> Head:
    """A link whose APDUs are sent at these seconds, by client ``C`` or server ``S``."""
    client, server = (build.STATION, 40000), (build.SERVER, 2404)
    packets = [
        Packet(build.tcp(*client, *server, SYN, 99), SECOND),
        Packet(build.tcp(*server, *client, SYN | ACK, 99), SECOND),
    ]
    position = {"C": 100, "S": 100}
    for second, sender, data in sent:
        ends = (*client, *server) if sender == "C" else (*server, *client)
        frame = build.tcp(*ends, ACK, position[sender], data)
        packets.append(Packet(frame, SECOND + int(second * SECOND)))
        position[sender] += len(data)
    (found,) = dissect_flows(build.read_files(build.pcap(packets))).expand()
    return found.head


def issues_followed(check: Check, head: Head) -> list[tuple[Severity, str]]:
    """The issues about a head that the scanner has followed already."""
    return issues(check, match_of(iec104, head))


def counted(*numbers: int, begins: bool = True) -> Head:
    """A base station that sends I frames with these send sequence numbers."""
    data = b"".join(i_frame(number, lrr(5)) for number in numbers)
    return head_of(data, STARTDT_ACT, (40000, 2404), begins=begins, cut=1400)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_no_issue_with_lrr_link(check: Check) -> None:
    assert issues_of(check, link(ends=True)) == []
    stopped = head_of(TESTFR_ACT * 5, TESTFR_CON * 5, (40000, 2404), cut=6)
    assert issues_of(check, stopped) == []


def test_standard_asdu() -> None:
    head = head_of(STANDARD_CLIENT, STANDARD_SERVER, (40000, 2404))
    assert checks.standard_asdu.kind is Kind.NOTICE
    assert issues_of(checks.standard_asdu, head) == [
        (
            Severity.INFO,
            "The link carries standard ASDUs instead of LRR payloads: "
            "1 M_SP_NA_1, 1 M_ME_NC_1, 2 C_IC_NA_1, 1 C_CS_NA_1.",
        ),
    ]
    assert [severity for severity, _ in issues_of(checks.startdt_by_base_station, head)] == [Severity.INFO]
    assert issues_of(checks.startdt_by_base_station, head_of(STARTDT_CON, STARTDT_ACT)) == []


def test_lrr_type_unknown() -> None:
    head = head_of(i_frame(0, lrr(48)) + i_frame(1, lrr(60)), ports=(40000, 2404))
    assert issues_of(checks.lrr_type_unknown, head) == [
        (Severity.LOW, "LRR payloads of unknown type 48, 60; 47 is the highest known."),
    ]


def test_sequence_gap() -> None:
    assert issues_of(checks.sequence_gap, counted(0, 1, 2, 5, 6, 4)) == [
        (Severity.LOW, "Send sequence numbers of the client jump: 5 follows 2 (the first of 2 jumps)."),
    ]
    assert issues_of(checks.sequence_gap, counted(3, 4)) == [
        (Severity.LOW, "Send sequence numbers of the client jump: the first is 3 instead of 0."),
    ]


def test_sequence_gap_beyond_the_head() -> None:
    head = counted(*range(20000), 20003)
    assert len(head.streams[0].data) > 50 * columns.HEAD_LIMITS[columns.CONTENT_IEC104]
    assert issues_of(checks.sequence_gap, head) == [
        (Severity.LOW, "Send sequence numbers of the client jump: 20003 follows 19999."),
    ]


def test_acknowledgement_wrong() -> None:
    sent = b"".join(i_frame(number, lrr(5)) for number in range(9))
    fine = head_of(sent, STARTDT_ACT + s_frame(4) + s_frame(9), (40000, 2404))
    assert issues_of(checks.acknowledgement_wrong, fine) == []
    back = head_of(sent, s_frame(8) + s_frame(4), (40000, 2404))
    assert issues_of(checks.acknowledgement_wrong, back) == [
        (Severity.LOW, "The server acknowledges wrongly: receive sequence number 4 after 8."),
    ]
    far = head_of(sent, s_frame(22), (40000, 2404))
    assert issues_of(checks.acknowledgement_wrong, far) == [
        (Severity.LOW, "The server acknowledges wrongly: receive sequence number 22 after 8."),
    ]
    assert issues_of(checks.acknowledgement_wrong, head_of(sent, s_frame(21), (40000, 2404))) == []


def test_acknowledgement_after_a_gap_is_not_wrong() -> None:
    """20 bytes of the server's stream are missing before frame 152 (tshark: previous segment not captured)."""
    fired = {finding.check for finding in samples.audit_of("plain-sll-nano").findings}
    assert "TPE310" in fired
    assert "TPE305" not in fired


def test_window_exceeded() -> None:
    assert issues_of(checks.window_exceeded, counted(*range(12))) == []
    assert issues_of(checks.window_exceeded, counted(*range(20))) == [
        (Severity.INFO, "The client sends up to 20 I frames without an acknowledgement; 12 are allowed."),
    ]


def test_testfr_unanswered() -> None:
    answered = timed((0, "C", TESTFR_ACT), (1, "S", TESTFR_CON), (22, "C", TESTFR_ACT), (22.5, "S", TESTFR_CON))
    assert issues_followed(checks.testfr_unanswered, answered) == []
    again = timed((0, "C", TESTFR_ACT), (21, "C", TESTFR_ACT), (22, "S", TESTFR_CON))
    assert issues_followed(checks.testfr_unanswered, again) == [
        (Severity.LOW, "The server leaves TESTFR act unanswered once."),
    ]
    at_last = timed((0, "C", TESTFR_ACT), (70, "S", s_frame(0)))
    assert [severity for severity, _ in issues_followed(checks.testfr_unanswered, at_last)] == [Severity.LOW]
    too_early = timed((0, "C", TESTFR_ACT), (50, "S", s_frame(0)))
    assert issues_followed(checks.testfr_unanswered, too_early) == []


def test_link_silent() -> None:
    assert issues_followed(checks.link_silent, timed((0, "C", TESTFR_ACT), (59, "S", TESTFR_CON))) == []
    silent = timed((0, "C", TESTFR_ACT), (1, "S", TESTFR_CON), (91, "C", TESTFR_ACT))
    assert issues_followed(checks.link_silent, silent) == [(Severity.INFO, "No APDU passes for 90 seconds.")]


def test_several_lrr_ids() -> None:
    two = head_of(i_frame(0, lrr(5)) + i_frame(1, lrr(5, lrr_id=0xBEEF)), b"", (40000, 2404))
    assert issues_of(checks.several_lrr_ids, two) == [
        (Severity.LOW, "The link carries the LRR-IDs 000056aa, 0000beef."),
    ]


def test_stream_incomplete_is_no_sequence_gap() -> None:
    apdus = [i_frame(number, lrr(5)) for number in range(60)]
    client, server = (build.STATION, 40000), (build.SERVER, 2404)
    frames = [build.tcp(*client, *server, SYN, 99), build.tcp(*server, *client, SYN | ACK, 99)]
    frames += [
        build.tcp(*client, *server, ACK, 100 + sum(map(len, apdus[:n])), apdu) for n, apdu in enumerate(apdus) if n != 9
    ]
    head = build.conversation(frames).head
    assert issues_followed(checks.sequence_gap, head) == []
    assert issues_followed(checks.stream_incomplete, head) == [
        (Severity.INFO, "The capture lacks 56 bytes of the link; APDUs may be missing in one place."),
    ]


def test_wraps_and_missing_beginning_are_no_sequence_gap() -> None:
    assert issues_of(checks.sequence_gap, counted(7, 8, 20, begins=False)) == []
    lrr_wraps = head_of(b"".join(i_frame(n % 32767, b"") for n in range(32770)), ports=(40000, 2404), cut=1400)
    assert issues_of(checks.sequence_gap, lrr_wraps) == []
    standard_wraps = head_of(b"".join(i_frame(n % 32768, b"") for n in range(32770)), ports=(40000, 2404), cut=1400)
    assert issues_of(checks.sequence_gap, standard_wraps) == []
