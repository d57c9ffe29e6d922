"""ICMP and ICMPv6: echoes, errors and other messages."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, icmp
from analyzer.protocols.icmp import Echo, EchoData, ErrorMessage, IcmpMessage, Quoted
from analyzer.wire import Cause

SENT, BACK = Direction.ORIGINATOR, Direction.RESPONDER

PING_DATA = bytes(range(56))
IPV4 = bytes.fromhex("4500005400004000400100000a141e0aac10280a")
IPV6 = bytes.fromhex("6000000000403a40") + bytes(15) + b"\x01" + bytes(15) + b"\x02"


def echo(kind: int, identifier: int = 7, sequence: int = 1, data: bytes = PING_DATA) -> bytes:
    return struct.pack(">BBHHH", kind, 0, 0, identifier, sequence) + data


def message(kind: int, code: int = 0, body: bytes = bytes(4)) -> bytes:
    return struct.pack(">BBH", kind, code, 0) + body


def head(*sent: tuple[Direction, bytes], transport: str = "icmp", spacing: int = 1_000_000_000) -> Head:
    """A head of messages, one second apart; frames count from 1."""
    datagrams = tuple(
        Datagram(direction, data, len(data), Frame(0, index + 1), index * spacing)
        for index, (direction, data) in enumerate(sent)
    )
    return Head(transport, datagrams=datagrams)


def read(*sent: tuple[Direction, bytes], transport: str = "icmp") -> Dissection:
    return dissect_as(icmp, head(*sent, transport=transport))


EXAMPLES = [
    head(
        (SENT, echo(8)),
        (BACK, echo(0)),
        (SENT, echo(8, sequence=2, data=bytes(8))),
        (BACK, message(3, 1, bytes(4) + IPV4)),
    ),
    head((SENT, echo(128)), (BACK, echo(129)), (BACK, message(3, 0, bytes(4) + IPV6)), transport="icmpv6"),
    head((BACK, message(5, 1, b"\x0a\x00\x00\x01" + IPV4 + bytes(8))), (SENT, message(13, 0, bytes(16)))),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_well_formed(example: Head) -> None:
    assert icmp.probe(example)
    assert dissect_as(icmp, example).parse_errors == ()


def test_messages_are_counted_by_type() -> None:
    shown = to_json(
        read((SENT, echo(8)), (BACK, echo(0)), (SENT, echo(8, sequence=2)), (BACK, message(13, 0, bytes(16)))).facts
    )
    assert shown["types"] == {"echo-request": 2, "echo-reply": 1, "timestamp-request": 1}
    assert shown["largest_payload"] == 56


def test_both_versions_have_the_same_type_names() -> None:
    shown = to_json(read((SENT, echo(128)), (BACK, echo(129)), transport="icmpv6").facts)
    assert shown["types"] == {"echo-request": 1, "echo-reply": 1}


def test_identifier_sequence_and_data_of_an_echo() -> None:
    asked, data = (item.message for item in read((SENT, echo(8, 0x1234, 5))).items)
    assert asked == Echo("echo-request", 8, 0, 0x1234, 5, 56)
    assert data == EchoData(PING_DATA[:48])


@pytest.mark.parametrize(
    ("kind", "quotes", "name"),
    [
        (3, IPV4, "destination-unreachable"),
        (3, IPV6, "time-exceeded"),
        (4, IPV4, "source-quench"),
        (4, IPV6, "parameter-problem"),
        (1, IPV6, "destination-unreachable"),
        (2, IPV6, "packet-too-big"),
        (5, IPV4, "redirect"),
        (11, IPV4, "time-exceeded"),
    ],
)
def test_the_quoted_packet_decides_the_version_of_an_error(kind: int, quotes: bytes, name: str) -> None:
    error, quoted = (item.message for item in read((BACK, message(kind, 0, bytes(4) + quotes))).items)
    assert isinstance(error, ErrorMessage) and error.name == name
    assert isinstance(quoted, Quoted) and quoted.version == quotes[0] >> 4


@pytest.mark.parametrize(
    ("kind", "code", "quotes", "name"),
    [
        (3, 3, IPV4, "destination-unreachable, port"),
        (3, 13, IPV4, "destination-unreachable, administratively prohibited"),
        (3, 77, IPV4, "destination-unreachable, code 77"),
        (1, 4, IPV6, "destination-unreachable, port"),
        (1, 1, IPV6, "destination-unreachable, administratively prohibited"),
        (11, 0, IPV4, "time-exceeded, hop limit"),
        (3, 1, IPV6, "time-exceeded, reassembly"),
        (5, 1, IPV4, "redirect, host"),
    ],
)
def test_codes_have_names(kind: int, code: int, quotes: bytes, name: str) -> None:
    shown = to_json(read((BACK, message(kind, code, b"\x0a\0\0\x42" + quotes))).facts)
    assert shown["codes"] == {name: 1}
    assert shown.get("gateways") == (["10.0.0.66"] if kind == 5 else None)


def test_an_unknown_type_is_a_number() -> None:
    (item,) = read((SENT, message(77))).items
    assert isinstance(item.message, IcmpMessage) and item.message.name == "type-77"


def test_a_fragmented_ping_has_its_declared_length() -> None:
    cut = Datagram(SENT, echo(8, data=bytes(1472)), 2808, Frame(0, 1), 0)
    dissection = dissect_as(icmp, Head("icmp", datagrams=(cut,)))
    assert dissection.parse_errors == ()
    first = dissection.items[0].message
    assert isinstance(first, Echo) and first.length == 2800


def test_a_short_message_is_malformed_and_a_truncated_one_is_not() -> None:
    (short,) = read((SENT, b"\x08\x00\x00\x00\x00")).parse_errors
    assert short.anomaly.cause is Cause.MALFORMED
    cut = Datagram(SENT, b"\x08\x00\x00\x00\x00", 64, Frame(0, 1), 0)
    (broken,) = dissect_as(icmp, Head("icmp", datagrams=(cut,))).parse_errors
    assert broken.anomaly.cause is Cause.TRUNCATED


def test_an_error_without_a_quoted_ip_packet_is_malformed() -> None:
    dissection = read((BACK, message(3, 1, bytes(4) + b"\x00" * 28)))
    assert dissection.malformed and isinstance(dissection.items[0].message, ErrorMessage)


@given(st.lists(st.tuples(st.sampled_from([SENT, BACK]), st.binary(max_size=90), st.integers(0, 100)), max_size=8))
def test_any_bytes_cause_no_defect(sent: list[tuple[Direction, bytes, int]]) -> None:
    datagrams = tuple(
        Datagram(direction, data, len(data) + more, Frame(0, index + 1), index)
        for index, (direction, data, more) in enumerate(sent)
    )
    breaks = dissect_as(icmp, Head("icmp", datagrams=datagrams)).parse_errors if datagrams else ()
    assert not [error for error in breaks if error.anomaly.cause is Cause.DEFECT]
