from __future__ import annotations

import pytest

from analyzer import scanner
from analyzer.checks import iec104 as checks
from analyzer.conversations import converse
from analyzer.findings import Check, Kind, Severity
from analyzer.heads import Head
from analyzer.protocols import iec104
from tests import build, samples
from tests.build import ACK, FIN, SECOND, SYN, Packet
from tests.checks.test_ssh import fit_of, remarks
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
    """The same streams as the scanner hands them on."""
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
    return build.conversation([frame for _, frame in sorted(frames, key=lambda each: each[0])]).head


def said(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(iec104, followed(head)))


def timed(*sent: tuple[float, str, bytes]) -> Head:
    """A link whose APDUs are sent at these seconds, by client ``C`` or server ``S``."""
    client, server = (build.STATION, 40000), (build.SERVER, 2404)
    packets = [
        Packet(build.tcp(*client, *server, SYN, 99), SECOND),
        Packet(build.tcp(*server, *client, SYN | ACK, 99), SECOND),
    ]
    position = {"C": 100, "S": 100}
    for second, who, data in sent:
        ends = (*client, *server) if who == "C" else (*server, *client)
        frame = build.tcp(*ends, ACK, position[who], data)
        packets.append(Packet(frame, SECOND + int(second * SECOND)))
        position[who] += len(data)
    (found,) = converse(build.read_files(build.pcap(packets))).expand()
    return found.head


def judged(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(iec104, head))


def counted(*numbers: int, begins: bool = True) -> Head:
    """A base station that sends I frames with these send sequence numbers."""
    data = b"".join(i_frame(number, lrr(5)) for number in numbers)
    return head_of(data, STARTDT_ACT, (40000, 2404), begins=begins, cut=1400)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_an_lrr_link_is_fine(check: Check) -> None:
    assert said(check, link(ends=True)) == []
    stopped = head_of(TESTFR_ACT * 5, TESTFR_CON * 5, (40000, 2404), cut=6)
    assert said(check, stopped) == []


def test_standard_asdus_are_a_notice() -> None:
    head = head_of(STANDARD_CLIENT, STANDARD_SERVER, (40000, 2404))
    assert checks.standard_asdu.kind is Kind.NOTICE
    assert said(checks.standard_asdu, head) == [
        (
            Severity.INFO,
            "The link carries standard ASDUs instead of LRR payloads: "
            "1 M_SP_NA_1, 1 M_ME_NC_1, 2 C_IC_NA_1, 1 C_CS_NA_1.",
        ),
    ]
    assert [each[0] for each in said(checks.startdt_by_base_station, head)] == [Severity.INFO]
    assert said(checks.startdt_by_base_station, head_of(STARTDT_CON, STARTDT_ACT)) == []


def test_types_that_nobody_knows() -> None:
    head = head_of(i_frame(0, lrr(48)) + i_frame(1, lrr(60)), ports=(40000, 2404))
    assert said(checks.lrr_type_unknown, head) == [
        (Severity.LOW, "LRR payloads of unknown type 48, 60; 47 is the highest known."),
    ]


def test_sequence_numbers_that_jump() -> None:
    assert said(checks.sequence_gap, counted(0, 1, 2, 5, 6, 4)) == [
        (Severity.LOW, "Send sequence numbers of the client jump: 5 follows 2 (the first of 2 jumps)."),
    ]
    assert said(checks.sequence_gap, counted(3, 4)) == [
        (Severity.LOW, "Send sequence numbers of the client jump: the first is 3 instead of 0."),
    ]


def test_a_jump_far_behind_the_head_is_found() -> None:
    head = counted(*range(20000), 20003)
    assert len(head.streams[0].data) > 50 * scanner.HEAD_LIMITS[scanner.CONTENT_IEC104]
    assert said(checks.sequence_gap, head) == [
        (Severity.LOW, "Send sequence numbers of the client jump: 20003 follows 19999."),
    ]


def test_acknowledgements_that_go_back_or_too_far() -> None:
    sent = b"".join(i_frame(number, lrr(5)) for number in range(9))
    fine = head_of(sent, STARTDT_ACT + s_frame(4) + s_frame(9), (40000, 2404))
    assert said(checks.acknowledgement_wrong, fine) == []
    back = head_of(sent, s_frame(8) + s_frame(4), (40000, 2404))
    assert said(checks.acknowledgement_wrong, back) == [
        (Severity.LOW, "The server acknowledges wrongly: receive sequence number 4 after 8."),
    ]
    far = head_of(sent, s_frame(22), (40000, 2404))
    assert said(checks.acknowledgement_wrong, far) == [
        (Severity.LOW, "The server acknowledges wrongly: receive sequence number 22 after 8."),
    ]
    assert said(checks.acknowledgement_wrong, head_of(sent, s_frame(21), (40000, 2404))) == []


def test_what_the_capture_lacks_may_well_have_been_acknowledged() -> None:
    """20 bytes of the server's stream are missing before frame 152 (tshark: previous segment not captured)."""
    checked = {each.check for each in samples.audit_of("plain-sll-nano").findings}
    assert "TPE310" in checked
    assert "TPE305" not in checked


def test_a_window_that_is_exceeded() -> None:
    assert said(checks.window_exceeded, counted(*range(12))) == []
    assert said(checks.window_exceeded, counted(*range(20))) == [
        (Severity.INFO, "The client sends up to 20 I frames without an acknowledgement; 12 are allowed."),
    ]


def test_keepalives_without_an_answer() -> None:
    answered = timed((0, "C", TESTFR_ACT), (1, "S", TESTFR_CON), (22, "C", TESTFR_ACT), (22.5, "S", TESTFR_CON))
    assert judged(checks.testfr_unanswered, answered) == []
    again = timed((0, "C", TESTFR_ACT), (21, "C", TESTFR_ACT), (22, "S", TESTFR_CON))
    assert judged(checks.testfr_unanswered, again) == [
        (Severity.LOW, "The server leaves TESTFR act unanswered once."),
    ]
    at_last = timed((0, "C", TESTFR_ACT), (70, "S", s_frame(0)))
    assert [each[0] for each in judged(checks.testfr_unanswered, at_last)] == [Severity.LOW]
    too_early = timed((0, "C", TESTFR_ACT), (50, "S", s_frame(0)))
    assert judged(checks.testfr_unanswered, too_early) == []


def test_a_silent_link() -> None:
    assert judged(checks.link_silent, timed((0, "C", TESTFR_ACT), (59, "S", TESTFR_CON))) == []
    silent = timed((0, "C", TESTFR_ACT), (1, "S", TESTFR_CON), (91, "C", TESTFR_ACT))
    assert judged(checks.link_silent, silent) == [(Severity.INFO, "No APDU passes for 90 seconds.")]


def test_two_stations_on_one_link() -> None:
    two = head_of(i_frame(0, lrr(5)) + i_frame(1, lrr(5, lrr_id=0xBEEF)), b"", (40000, 2404))
    assert said(checks.several_lrr_ids, two) == [
        (Severity.LOW, "The link carries the LRR-IDs 000056aa, 0000beef."),
    ]


def test_what_the_capture_lacks_is_a_notice_and_no_jump() -> None:
    apdus = [i_frame(number, lrr(5)) for number in range(60)]
    client, server = (build.STATION, 40000), (build.SERVER, 2404)
    frames = [build.tcp(*client, *server, SYN, 99), build.tcp(*server, *client, SYN | ACK, 99)]
    frames += [
        build.tcp(*client, *server, ACK, 100 + sum(map(len, apdus[:n])), apdu) for n, apdu in enumerate(apdus) if n != 9
    ]
    head = build.conversation(frames).head
    assert judged(checks.sequence_gap, head) == []
    assert judged(checks.stream_incomplete, head) == [
        (Severity.INFO, "The capture lacks 56 bytes of the link; APDUs may be missing in one place."),
    ]


def test_both_ways_to_wrap_are_right_and_a_missing_beginning_is_no_gap() -> None:
    assert said(checks.sequence_gap, counted(7, 8, 20, begins=False)) == []
    lrr_wraps = head_of(b"".join(i_frame(n % 32767, b"") for n in range(32770)), ports=(40000, 2404), cut=1400)
    assert said(checks.sequence_gap, lrr_wraps) == []
    standard_wraps = head_of(b"".join(i_frame(n % 32768, b"") for n in range(32770)), ports=(40000, 2404), cut=1400)
    assert said(checks.sequence_gap, standard_wraps) == []


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_documentation_has_its_four_paragraphs(check: Check) -> None:
    paragraphs = [part.strip() for part in check.documentation.strip().split("\n\n")]
    assert [part.split(":")[0] for part in paragraphs] == ["Flags", "Why", "Evidence", "Remedy"]
