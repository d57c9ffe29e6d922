from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, iec104
from analyzer.protocols.iec104 import Asdu, Function, Iec104Facts, IFrame, LrrPayload, SFrame, UFrame
from analyzer.wire import UNBOUNDED, Cause, Reader
from tests import samples
from tests.protocols.test_ssh import CORPUS, conversations, head_of

STARTDT_ACT, STARTDT_CON = bytes.fromhex("680407000000"), bytes.fromhex("68040b000000")
TESTFR_ACT, TESTFR_CON = bytes.fromhex("680443000000"), bytes.fromhex("680483000000")

STANDARD_SERVER = bytes.fromhex(
    "68040b000000"
    "6812000000000d8101002f000b000000001c4100"
    "680e02000200640107002f0000000014"
    "680e04000200018114002f000c000000"
    "68140a000400670107002f0000000004c91507160b1a"
)
"""Recorded from a standard controlled station."""
STANDARD_CLIENT = bytes.fromhex("680407000000680e0000000064010600" + "2f0000000014" + "680401002a00")


def lrr(kind: int, struct_size: int = 30, data: bytes = b"", lrr_id: int = 0x000056AA, flags: int = 1) -> bytes:
    """An LRR payload: 20 bytes of header, the structure of its type, data."""
    return (
        struct.pack("<BBHHHIIHBB", 1, 0, 20 + struct_size, flags, kind, lrr_id, 0, 0, 0, 0) + b"\0" * struct_size + data
    )


def i_frame(number: int, asdu: bytes, acknowledged: int = 0) -> bytes:
    control = struct.pack("<HH", number << 1, acknowledged << 1)
    if len(asdu) < 250:
        return b"\x68" + struct.pack("B", 4 + len(asdu)) + control + asdu
    return b"\x69" + struct.pack(">H", 4 + len(asdu)) + control + asdu


def s_frame(acknowledged: int) -> bytes:
    return b"\x68\x04\x01\x00" + struct.pack("<H", acknowledged << 1)


def link(ports: tuple[int, int] = (40000, 2404), ends: bool = False, station: bytes = b"", server: bytes = b"") -> Head:
    """The beginning of an LRR link: the server starts data transfer, the base station sends its identity."""
    return head_of(
        TESTFR_ACT
        + STARTDT_CON
        + b"".join(i_frame(n, lrr(kind)) for n, kind in enumerate((1, 2, 3, 12)))
        + i_frame(4, lrr(30, 461))
        + i_frame(5, lrr(0, 75, b"\x40" * 23))
        + station,
        TESTFR_CON + STARTDT_ACT + s_frame(6) + i_frame(0, b"", 6) + i_frame(1, lrr(24, flags=2), 6) + server,
        ports,
        ends=ends,
        cut=90,
    )


EXAMPLES: list[Head] = [link(), link(ends=True), head_of(STANDARD_CLIENT, STANDARD_SERVER, (40000, 2404))]


def read(head: Head) -> Dissection:
    return dissect_as(iec104, head)


def facts(head: Head) -> Iec104Facts:
    found = read(head).facts
    assert isinstance(found, Iec104Facts)
    return found


def station(data: bytes) -> Dissection:
    return read(head_of(data, ports=(40000, 2404)))


def test_facts_of_an_lrr_link() -> None:
    found = read(link())
    assert not found.parse_errors
    assert to_json(found.facts) == {
        "apdus": 13,
        "dialect": "lrr",
        "i_frames": 8,
        "s_frames": 1,
        "u_frames": 4,
        "functions": {"STARTDT act": 1, "STARTDT con": 1, "TESTFR act": 1, "TESTFR con": 1},
        "long_apdus": 1,
        "startdt_by": "responder",
        "lrr_types": {
            "radio": 1,
            "LRR-ID": 1,
            "GPS": 1,
            "capabilities": 1,
            "configuration/WAN": 1,
            "sent indication": 1,
            "versions": 1,
        },
        "lrr_ids": ["000056aa"],
    }


def test_facts_of_a_standard_link() -> None:
    found = read(head_of(STANDARD_CLIENT, STANDARD_SERVER, (40000, 2404)))
    assert not found.parse_errors
    actual = facts(head_of(STANDARD_CLIENT, STANDARD_SERVER, (40000, 2404)))
    assert (actual.apdus, actual.dialect, actual.startdt_by) == (8, "standard", "originator")
    assert actual.type_ids == {"M_SP_NA_1": 1, "M_ME_NC_1": 1, "C_IC_NA_1": 2, "C_CS_NA_1": 1}
    assert IFrame(0, 0, Asdu(100, 1, 6, 47), False) in [item.message for item in found.items]


def test_a_link_without_payload_has_no_dialect() -> None:
    assert facts(head_of(STARTDT_CON + s_frame(3), TESTFR_ACT, (40000, 2404))).dialect is None


def test_fields_of_frames() -> None:
    found = station(STARTDT_CON + s_frame(32766) + i_frame(32766, lrr(10, lrr_id=0xABCDEF01), 5) + i_frame(0, b"", 7))
    assert [item.message for item in found.items] == [
        UFrame(Function.STARTDT_CON),
        SFrame(32766),
        IFrame(32766, 5, LrrPayload(50, 1, 10, 0xABCDEF01, 0, 0), False),
        IFrame(0, 7, None, False),
    ]
    assert [item.offset for item in found.items] == [0, 6, 12, 68]


@pytest.mark.parametrize(("size", "start"), [(249, 0x68), (250, 0x69), (481, 0x69), (16380, 0x69)])
def test_the_long_form_begins_at_250_bytes(size: int, start: int) -> None:
    apdu = i_frame(0, lrr(30, size - 20))
    assert apdu[0] == start
    found = station(apdu)
    assert not found.parse_errors
    assert [item.message.long for item in found.items if isinstance(item.message, IFrame)] == [start == 0x69]


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (bytes.fromhex("990443000000"), "start byte", "0x99 is neither 0x68 nor 0x69"),
        (bytes.fromhex("6803070000"), "APDU length", "3 is not between 4 and 253"),
        (bytes.fromhex("68fe1c1d08ce9c"), "APDU length", "254 is not between 4 and 253"),
        (bytes.fromhex("6900fd00000000"), "APDU length", "253 is not between 254 and 16384 after start byte 0x69"),
        (bytes.fromhex("69400100000000"), "APDU length", "16385 is not between 254 and 16384 after start byte 0x69"),
        (bytes.fromhex("680400000100"), "control field", "the lowest bit of octet 3 of an I frame is set"),
        (bytes.fromhex("68040f000000"), "control field", "0x0f is no function of a U frame"),
        (bytes.fromhex("680543000000aa"), "APDU length", "5 for an S or U frame, which always has 4"),
        (bytes.fromhex("680501000000aa"), "APDU length", "5 for an S or U frame, which always has 4"),
        (i_frame(0, b"\0\0" + lrr(1)[2:]), "LRR version", "0 is not 1"),
        (i_frame(0, lrr(1)[:2] + b"\x13\0" + lrr(1)[4:]), "LRR header size", "19 is not between 20 and the 50 bytes"),
        (i_frame(0, lrr(1)[:2] + b"\x33\0" + lrr(1)[4:]), "LRR header size", "51 is not between 20 and the 50 bytes"),
        (i_frame(0, b"\x01"), "LRR header", "takes 20 bytes, 1 are declared"),
        (
            i_frame(0, b"\x37" + b"\x01" * 20),
            "payload",
            "first byte 55 is neither an LRR payload's nor a standard ASDU's",
        ),
        (i_frame(0, bytes.fromhex("640100002f0000000014")), "cause of transmission", "0 is not used"),
        (
            i_frame(0, bytes.fromhex("640206002f0000000014")),
            "information objects",
            "2 of C_IC_NA_1 take 8 bytes, 4 are declared",
        ),
        (b"STARTDT\r\n", "start byte", "0x53 is neither 0x68 nor 0x69"),
    ],
)
def test_malformed_apdus_name_field_and_reason(data: bytes, field: str, reason: str) -> None:
    found = station(STARTDT_CON + data)
    assert [(error.anomaly.cause, error.anomaly.field) for error in found.parse_errors] == [(Cause.MALFORMED, field)]
    assert reason in found.parse_errors[0].anomaly.reason
    assert [item.message for item in found.items] == [UFrame(Function.STARTDT_CON)]


def test_an_incomplete_apdu_is_truncated_unless_the_stream_ends() -> None:
    found = station(STARTDT_CON + i_frame(0, lrr(1))[:30])
    assert [error.anomaly.cause for error in found.parse_errors] == [Cause.TRUNCATED]
    closed = read(head_of(STARTDT_CON + i_frame(0, lrr(1))[:30], ports=(40000, 2404), ends=True))
    assert [error.anomaly.cause for error in closed.parse_errors] == [Cause.MALFORMED]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (link(), True),
        (link((40000, 8080)), True),
        (head_of(b"", STANDARD_SERVER, (40000, 3001)), True),
        (head_of(STARTDT_ACT + b"nonsense", b"nonsense", (40000, 2404)), True),
        (head_of(STARTDT_ACT + b"nonsense", b"", (40000, 8080)), False),
        (head_of(STARTDT_ACT, b"nonsense", (40000, 8080)), False),
        (head_of(b"hello everybody on this port", b"", (40000, 8080)), False),
        (head_of(b"GET / HTTP/1.1\r\n\r\n", b"", (40000, 2404)), False),
        (head_of(b"\x16\x03\x01\0\5hello", b"", (40000, 2404)), False),
        (head_of(b"h\x04", b"", (40000, 2404)), False),
        (head_of(ports=(40000, 2404)), False),
    ],
)
def test_probe(head: Head, expected: bool) -> None:
    assert iec104.probe(head) is expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_cause_no_defect(data: bytes, ends: bool) -> None:
    for start in (b"", b"\x68\x20\x00\x00\x00\x00", b"\x69\x01\x20\x00\x00\x00\x00\x01\x00", STANDARD_SERVER):
        found = read(head_of(start + data, start + data, (1, 2404), ends=ends))
        assert all(error.anomaly.cause is not Cause.DEFECT for error in found.parse_errors)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(list(Direction)))
def test_a_prefix_gives_a_prefix_of_the_messages(size: int, direction: Direction) -> None:
    data = link().streams[direction].data
    full, part = station(data).items, station(data[:size])
    assert part.items == full[: len(part.items)]
    assert all(error.anomaly.cause is Cause.TRUNCATED for error in part.parse_errors)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 47), st.integers(0, 600), st.binary(max_size=300), st.integers(0, 32766))
def test_any_lrr_payload_is_read(kind: int, size: int, data: bytes, number: int) -> None:
    found = station(i_frame(number, lrr(kind, size, data)))
    assert not found.parse_errors
    (item,) = found.items
    assert isinstance(item.message, IFrame) and isinstance(item.message.payload, LrrPayload)
    assert (item.message.send_sequence_number, item.message.payload.type) == (number, kind)


@given(
    st.sampled_from((0x68, 0x69, 0)),
    st.integers(0, 40) | st.integers(250, 255),
    st.binary(min_size=4, max_size=4) | st.sampled_from((STARTDT_ACT[2:], TESTFR_CON[2:], b"\1\0\6\0", bytes(4))),
    st.sampled_from((b"", b"\1\0\x14\0", b"\1\0\x1c\0", b"\1\1", b"\0\0")),
    st.integers(0, 300),
    st.integers(0, 40) | st.just(UNBOUNDED),
)
def test_the_fast_path_agrees_with_the_slow_path(
    start: int, length: int, control: bytes, payload: bytes, size: int, fence: int
) -> None:
    data = bytes((start, length)) + control + payload.ljust(size, b"\0")
    short, long = Reader(data, 0, fence), Reader(data, 0, fence)
    found = iec104.common_apdu(short)
    if found is None:
        assert short.pos == 0
    else:
        expected = iec104.read_apdu(long)
        assert (type(found), found) == (type(expected), expected)
        assert short.pos == long.pos


def test_facts_of_recorded_links() -> None:
    (whole,) = [flow for flow in conversations(samples.capture("plain-full-passive")) if flow.protocol == "iec104"]
    assert not whole.dissection.parse_errors
    actual = whole.dissection.facts
    assert isinstance(actual, Iec104Facts)
    assert (actual.apdus, actual.dialect) == (30, "standard")

    recorded = conversations(samples.capture("plain-iec104-broken-framing"))
    broken = [flow for flow in recorded if flow.protocol == "iec104"]
    assert [[one.anomaly.field for one in error.dissection.malformed] for error in broken] == [
        ["start byte"],
        ["APDU length"],
        ["control field"],
        ["start byte"],
        [],
    ]


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
@pytest.mark.parametrize(
    ("name", "apdus"),
    [
        ("icspcap_IEC104_SQ.pcapng", 4),
        ("iti_090813_diverse.pcap", 86),
        ("ndpi_IEC104.pcap", 8),
        ("snort3demo_iec104_apci_type.pcap", 3),
        ("zeekiec104_iec104.pcap", 115),
    ],
)
def test_corpus_links_are_standard_and_well_formed(name: str, apdus: int) -> None:
    assert CORPUS is not None
    total = 0
    for flow in conversations(Path(CORPUS) / name):
        actual = flow.dissection.facts
        if isinstance(actual, Iec104Facts):
            total += actual.apdus
            assert not flow.dissection.parse_errors and actual.dialect in ("standard", None)
    assert total == apdus
