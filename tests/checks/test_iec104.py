from __future__ import annotations

import pytest

from analyzer.checks import iec104 as checks
from analyzer.findings import ContentCheck, Kind, Severity
from analyzer.heads import Head
from analyzer.protocols import iec104
from tests.checks.test_ssh import fit_of, remarks
from tests.protocols.test_iec104 import (
    STANDARD_CLIENT,
    STANDARD_SERVER,
    STARTDT_ACT,
    STARTDT_CON,
    TESTFR_ACT,
    i_frame,
    link,
    lrr,
)
from tests.protocols.test_ssh import head_of


def said(check: ContentCheck, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(iec104, head))


def counted(*numbers: int, begins: bool = True) -> Head:
    """A base station that sends I frames with these send sequence numbers."""
    data = b"".join(i_frame(number, lrr(5)) for number in numbers)
    return head_of(data, STARTDT_ACT, (40000, 2404), begins=begins)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_an_lrr_link_is_fine(check: ContentCheck) -> None:
    assert said(check, link(ends=True)) == []
    stopped = head_of(TESTFR_ACT * 5, b"\x68\x04\x83\0\0\0" * 5, (40000, 2404))
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


def test_both_ways_to_wrap_are_right_and_a_missing_beginning_is_no_gap() -> None:
    assert said(checks.sequence_gap, counted(7, 8, 20, begins=False)) == []
    lrr_wraps = head_of(b"".join(i_frame(n % 32767, b"") for n in range(32770)), ports=(40000, 2404))
    assert said(checks.sequence_gap, lrr_wraps) == []
    standard_wraps = head_of(b"".join(i_frame(n % 32768, b"") for n in range(32770)), ports=(40000, 2404))
    assert said(checks.sequence_gap, standard_wraps) == []


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_documentation_has_its_four_paragraphs(check: ContentCheck) -> None:
    paragraphs = [part.strip() for part in check.documentation.strip().split("\n\n")]
    assert [part.split(":")[0] for part in paragraphs] == ["Flags", "Why", "Evidence", "Remedy"]
