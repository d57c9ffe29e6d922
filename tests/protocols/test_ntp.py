from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import dissect, dissect_as, ntp
from analyzer.protocols.ntp import Authenticator, Control, Extension, NtpFacts, Packet, Private
from analyzer.wire import Cause
from tests.protocols.test_dns import CORPUS, udp, whole_captures

REQUEST = bytes.fromhex(
    "2300062000000000000000000000000000000000000000000000000000000000000000000000000024fbde6a5b2ce40e"
)
ANSWER = bytes.fromhex(
    "240206e700000000000000007f7f0101eead16c0c341750424fbde6a5b2ce40eeead16c212c9af57eead16c212d1d290"
)
CONTROL_REQUEST = bytes.fromhex("160200440000000000000000")
CONTROL_RESPONSE = bytes.fromhex("1682004406180000000000057374726174000000")
MONLIST_REQUEST = bytes.fromhex("1700032a") + bytes(4)
MONLIST_RESPONSE = bytes.fromhex("9700032a00020048") + bytes(2 * 72)


def asked(*requests: bytes, ports: tuple[int, int] = (40000, 123)) -> Head:
    return udp(ports, *((Direction.ORIGINATOR, message) for message in requests))


def exchange(request: bytes, response: bytes, ports: tuple[int, int] = (54629, 123)) -> Head:
    return udp(ports, (Direction.ORIGINATOR, request), (Direction.RESPONDER, response))


def extension(kind: int, length: int) -> bytes:
    return struct.pack(">HH", kind, length) + bytes(length - 4)


EXAMPLES = [
    exchange(REQUEST, ANSWER),
    asked(REQUEST + extension(0x0104, 36) + extension(0x0204, 100), REQUEST + struct.pack(">I", 7) + bytes(16)),
    exchange(CONTROL_REQUEST, CONTROL_RESPONSE),
    exchange(MONLIST_REQUEST, MONLIST_RESPONSE),
]


def messages(head: Head) -> list[object]:
    return [item.message for item in dissect_as(ntp, head).items]


def facts_of(head: Head) -> NtpFacts:
    facts = dissect_as(ntp, head).facts
    assert isinstance(facts, NtpFacts)
    return facts


def changed(
    packet: bytes, first: int | None = None, stratum: int | None = None, reference: bytes | None = None
) -> bytes:
    data = bytearray(packet)
    data[0] = data[0] if first is None else first
    data[1] = data[1] if stratum is None else stratum
    data[12:16] = data[12:16] if reference is None else reference
    return bytes(data)


def test_facts_of_an_exchange() -> None:
    dissection = dissect(EXAMPLES[0])
    assert (dissection.protocol, dissection.parse_errors) == ("ntp", ())
    assert to_json(dissection.facts) == {
        "modes": [3, 4],
        "versions": [4],
        "stratum": 2,
        "leap": 0,
        "reference_id": "127.127.1.1",
    }
    request, answer = messages(EXAMPLES[0])
    assert isinstance(request, Packet) and isinstance(answer, Packet)
    assert answer.origin_timestamp == request.transmit_timestamp == 0x24FBDE6A5B2CE40E


@pytest.mark.parametrize(
    ("stratum", "identifier", "shown", "kiss"),
    [
        (0, b"RATE", None, "RATE"),
        (0, bytes(4), None, None),
        (1, b"GPS\0", "GPS", None),
        (1, b"\x7f\x7f\x01\x00", "127.127.1.0", None),
        (2, b"GPS\0", "71.80.83.0", None),
        (16, b"INIT", "73.78.73.84", None),
    ],
)
def test_reference_identifiers(stratum: int, identifier: bytes, shown: str | None, kiss: str | None) -> None:
    facts = facts_of(exchange(REQUEST, changed(ANSWER, stratum=stratum, reference=identifier)))
    assert (facts.reference_id or None, facts.kiss) == (shown, kiss)


def test_references_and_extension_fields_have_names() -> None:
    facts = facts_of(exchange(REQUEST, changed(ANSWER, stratum=1, reference=b"DCF\0")))
    assert (facts.reference_id, facts.reference_source) == ("DCF", "DCF77 radio")
    secured = REQUEST + extension(0x0104, 36) + extension(0x0204, 104) + extension(0x0404, 40)
    assert facts_of(asked(secured, secured)).extensions == {
        "NTS unique identifier": 2,
        "NTS cookie": 2,
        "NTS authenticator": 2,
    }
    assert facts_of(asked(REQUEST + extension(0xF323, 28))).extensions == {"0xf323": 1}
    assert facts_of(asked(REQUEST + struct.pack(">I", 7) + bytes(20), REQUEST + bytes(4))).keys == (7,)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(7, 40)), max_size=5), st.sampled_from([0, 20, 24]))
def test_any_extension_fields_and_authenticator_are_accepted(fields: list[tuple[int, int]], code: int) -> None:
    """Without an authenticator the last field has at least 28 bytes (RFC 7822, section 3)."""
    packet = REQUEST + b"".join(extension(kind, 4 * words) for kind, words in fields) + bytes(code)
    dissection = dissect_as(ntp, asked(packet))
    assert dissection.parse_errors == ()
    found = [item.message for item in dissection.items if isinstance(item.message, Extension)]
    assert found == [Extension(kind, 4 * words) for kind, words in fields]


def test_authenticators_and_extension_fields() -> None:
    head = EXAMPLES[1]
    assert dissect_as(ntp, head).parse_errors == ()
    assert messages(head)[1:3] == [Extension(0x0104, 36), Extension(0x0204, 100)]
    assert messages(head)[4] == Authenticator(7, bytes(16))
    assert messages(asked(REQUEST + bytes(4)))[1] == Authenticator(0, b"")
    windows = changed(REQUEST, first=0x1B) + struct.pack(">I", 1) + bytes(68)
    assert messages(asked(windows))[1] == Authenticator(1, bytes(68))


@pytest.mark.parametrize("extra", [1, 2, 3, 5, 21, 23, 25, 30])
def test_impossible_lengths_are_malformed(extra: int) -> None:
    assert dissect_as(ntp, asked(REQUEST + b"\1" * extra)).malformed


@pytest.mark.parametrize("length", [0, 3, 8, 15, 18, 0xFFFC])
def test_impossible_extension_fields_are_malformed(length: int) -> None:
    field = struct.pack(">HH", 0x0104, length) + bytes(36)
    assert dissect_as(ntp, asked(REQUEST + field)).malformed


def test_short_packets_are_malformed_and_truncated_ones_are_not() -> None:
    assert [error.anomaly.cause for error in dissect_as(ntp, asked(REQUEST[:47])).parse_errors] == [Cause.MALFORMED]
    cut = udp((40000, 123), (Direction.ORIGINATOR, REQUEST), snap=47)
    assert [error.anomaly.cause for error in dissect_as(ntp, cut).parse_errors] == [Cause.TRUNCATED]


def test_control_and_private_messages() -> None:
    request, response = messages(EXAMPLES[2])
    assert isinstance(request, Control) and isinstance(response, Control)
    assert (request.opcode, request.response, response.opcode, response.response) == (2, False, 2, True)
    assert facts_of(EXAMPLES[2]).modes == (6,)
    request, response = messages(EXAMPLES[3])
    assert isinstance(request, Private) and isinstance(response, Private)
    assert request.request in ntp.MONLIST and (response.items, response.item_size) == (2, 72)
    assert (facts_of(EXAMPLES[3]).modes, facts_of(EXAMPLES[3]).versions) == ((7,), (2,))
    assert dissect_as(ntp, asked(CONTROL_RESPONSE[:14])).malformed
    assert dissect_as(ntp, asked(MONLIST_RESPONSE[:-1])).malformed


@pytest.mark.parametrize(
    ("head", "is_ntp"),
    [
        *((head, True) for head in EXAMPLES),
        (asked(REQUEST, ports=(40000, 1234)), True),
        (asked(ANSWER, ports=(1234, 40000)), True),
        (asked(b"\x23" + b"\xaa" * 47, ports=(40000, 1234)), False),
        (asked(CONTROL_REQUEST, ports=(40000, 1234)), False),
        (asked(REQUEST[:47]), False),
        (asked(b"\x00" * 48), False),
        (asked(bytes([0x3B]) + REQUEST[1:]), False),
    ],
)
def test_probe(head: Head, is_ntp: bool) -> None:
    assert ntp.probe(head) is is_ntp


@given(st.binary(min_size=48, max_size=48))
def test_random_datagrams_on_other_ports_are_not_ntp(data: bytes) -> None:
    believable = data[1] <= 16 and data[2] <= 17 and data[4] == 0 and data[8] == 0
    assert believable or not ntp.probe(asked(data, ports=(40000, 1234)))


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_corpus_ntp_is_well_formed() -> None:
    seen = 0
    for truth, found in whole_captures():
        for flow in found:
            if flow.protocol == "ntp":
                seen += 1
                assert flow.dissection.malformed == (), truth["name"]
        if truth["protocols"].get("ntp"):
            assert any(flow.protocol == "ntp" for flow in found), truth["name"]
    assert seen > 20


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS / HTTP/1.1\r\nHost: " + bytes(30),
        b"\x17" + b"random bytes, not a private message of ntpd at all"[:47],
        b"\x16" + b"random bytes, not a control message of ntpd at all"[:47],
        b"\x23" + b"\x77" * 60,
    ],
)
def test_other_content_on_the_port_is_not_ntp(data: bytes) -> None:
    assert dissect(udp((40000, 123), (Direction.ORIGINATOR, data))).protocol is None


def test_junk_first_does_not_hide_the_rest() -> None:
    sent = [(Direction.ORIGINATOR, b"junk"), (Direction.ORIGINATOR, REQUEST), (Direction.RESPONDER, ANSWER)]
    found = dissect(udp((40000, 123), *sent))
    assert found.protocol == "ntp"
    assert len(found.parse_errors) == 1
    assert isinstance(found.facts, NtpFacts) and found.facts.modes == (3, 4)
