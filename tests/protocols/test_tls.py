"""TLS streams: records and handshake messages, and how broken ones end."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import tls
from analyzer.protocols.tls import (
    Alert,
    ApplicationData,
    CertificateEntry,
    ClientHello,
    Extensions,
    Handshake,
    ServerHello,
)
from analyzer.wire import Cause
from tests.protocols.tls_messages import (
    BASICS_STATION,
    CHANGE_CIPHER_SPEC,
    DATA,
    EXAMPLES,
    KEY_SHARE,
    LNS,
    RESUMED,
    RETRIED,
    SERVER_SHARE,
    SSL2_HELLO,
    STATION,
    TLS13,
    causes,
    client_hello,
    client_only,
    extension,
    facts_of,
    head_of,
    listed,
    message,
    messages_of,
    read_head,
    record,
    server_hello,
    server_name,
    version_chosen,
    versions_offered,
)


def test_both_hellos_around_a_hello_retry_request_are_read() -> None:
    hellos = [message for message in messages_of(RETRIED) if isinstance(message, (ClientHello, ServerHello))]
    assert len(hellos) == 4
    assert facts_of(RETRIED).hello_retry is True and facts_of(TLS13).hello_retry is None
    assert not read_head(RETRIED).parse_errors
    assert facts_of(RETRIED).version == "TLS 1.3"
    assert isinstance(messages_of(RETRIED)[-1], ApplicationData)


def test_encrypted_records_are_listed_up_to_application_data() -> None:
    last = messages_of(RESUMED, Direction.ORIGINATOR)[-3:]
    assert [type(message).__name__ for message in last] == ["ChangeCipherSpec", "EncryptedRecord", "ApplicationData"]
    cut = RESUMED.streams[0].data[: -len(DATA) - 5]
    assert causes(client_only(cut)) == []


def test_a_hello_in_the_format_of_ssl_2_may_negotiate_tls() -> None:
    hello = b"\x80\x1c\x01\x03\x01\x00\x03\x00\x00\x00\x10\x00\x00\x2f" + b"c" * 16
    key = record(22, message(16, b"k" * 20), 0x0301)
    head = head_of(hello + key + CHANGE_CIPHER_SPEC, record(22, server_hello(None, 0x0301, 0x2F), 0x0301))
    assert tls.probe(head)
    facts = facts_of(head)
    assert (facts.offered_version, facts.version) == ("TLS 1.0", "TLS 1.0")
    assert facts.cipher_suite == "TLS_RSA_WITH_AES_128_CBC_SHA"
    assert Handshake(16, 20) in messages_of(head)


def test_extension_types_are_in_the_order_of_transmission() -> None:
    messages = messages_of(BASICS_STATION, Direction.ORIGINATOR)
    (offer,) = [message for message in messages if isinstance(message, Extensions)]
    assert offer.types == (0, 13, 10, 11, 22, 23, 35)


def test_a_heartbeat_does_not_end_the_dissection() -> None:
    head = client_only(record(22, client_hello()) + record(24, b"\x01\x40\x00") + record(21, b"\x02\x28"))
    assert Alert(2, 40) in messages_of(head)


# -- records ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 50, 300, 400])
def test_a_flight_split_over_records_yields_the_same_messages(size: int) -> None:
    flight = LNS[5:74] + LNS[79 : 79 + 761]
    whole = head_of(STATION, record(22, flight) + DATA)
    pieces = b"".join(record(22, flight[at : at + size]) for at in range(0, len(flight), size))
    split = head_of(STATION, pieces + DATA)
    assert messages_of(split, Direction.RESPONDER) == messages_of(whole, Direction.RESPONDER)
    assert len(messages_of(split, Direction.RESPONDER)) == 5
    assert facts_of(split) == facts_of(whole)


def test_a_message_is_placed_in_the_frame_where_it_begins() -> None:
    items = read_head(head_of(STATION, LNS, cut=74)).items
    (entry,) = [item for item in items if isinstance(item.message, CertificateEntry)]
    (hello,) = [item for item in items if isinstance(item.message, ServerHello)]
    assert (hello.frame.number, entry.frame.number) == (2, 4)
    assert entry.offset == 74


def test_another_record_within_a_handshake_message_is_malformed() -> None:
    head = client_only(record(22, client_hello()[:20]) + record(21, b"\x01\x00"))
    assert causes(head) == [(Cause.MALFORMED, "handshake message")]


def test_messages_before_a_cut_are_kept() -> None:
    cut = head_of(STATION, LNS[:599])
    assert facts_of(cut).version == "TLS 1.2"
    assert causes(cut) == [(Cause.TRUNCATED, "certificate")]
    hello = record(22, server_hello(SERVER_SHARE + version_chosen(0x0304), suite=0xC02F))
    facts = facts_of(head_of(b"", hello[:-8]))
    assert facts.cipher_suite is not None
    assert facts.version is None  # the missing extension may have chosen TLS 1.3


# -- recognition --------------------------------------------------------------------------------------------------


def test_probe_accepts_application_data_mid_stream() -> None:
    head = head_of(DATA * 2, b"", begins=False)
    assert tls.probe(head)
    assert to_json(facts_of(head)) == {}
    old = head_of(b"", record(23, b"x" * 30, 0x0301), begins=False)
    assert tls.probe(old)
    assert facts_of(old).version == "TLS 1.0"


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", record(21, b"\x02\x0a")),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
        (b"\x68\x04\x43\x00\x00\x00", b""),
        (b"\x16\x03", b""),
        (record(22, b"\x77" + b"x" * 40), b""),
        (record(23, b"x" * 20) + b"no record follows", b""),
        (b"\x80\x1d" + SSL2_HELLO[2:], b""),
        (b"\x16\x03\x01\xff\xff\x01\x00", b""),
        (b"", b""),
    ],
)
def test_probe_rejects_other_content(client: bytes, server: bytes) -> None:
    assert not tls.probe(head_of(client, server))


def test_probe_accepts_tls_with_another_answer() -> None:
    head = head_of(STATION[:306], b"HTTP/1.1 400 Bad Request\r\n")
    assert tls.probe(head)
    assert causes(head) == [(Cause.MALFORMED, "content type")]


# -- malformed and arbitrary bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [-1, 1])
@pytest.mark.parametrize(
    ("follows", "back", "size"),
    [
        (b"example.local", 5, 2),  # server_name_list
        (b"example.local", 2, 2),  # server_name
        (b"\x03\x04\x03\x03\x03\x02", 1, 1),  # versions
        (b"\x0a\x0a\0\x01", 2, 2),  # client_shares
        (b"\x02h2", 2, 2),  # protocol_name_list
    ],
)
def test_a_length_off_by_one_is_malformed(follows: bytes, back: int, size: int, delta: int) -> None:
    alpn = extension(16, listed(2, b"\x02h2"))
    hello = client_hello(server_name(b"example.local") + versions_offered(0x0304, 0x0303, 0x0302) + KEY_SHARE + alpn)
    at = hello.index(follows) - back
    length = int.from_bytes(hello[at : at + size], "big") + delta
    wrong = hello[:at] + length.to_bytes(size, "big") + hello[at + size :]
    found = causes(client_only(record(22, wrong) + DATA))
    assert [cause for cause, _ in found] == [Cause.MALFORMED]


@pytest.mark.parametrize(
    "data",
    [
        record(22, client_hello() + b"\x01"),
        record(22, message(1, client_hello()[4:] + b"!")),
        record(22, client_hello())[:3] + b"\x48\x01" + b"x" * 20000,
        record(20, b"\x01\x01"),
        record(20, b"\x02"),
        record(22, b""),
        record(22, client_hello(suites=b"\x13\x01\xc0")),
        record(22, client_hello()) + b"\x19\x03\x03\x00\x01x",
        record(22, client_hello()) + b"\x16\x04\x03\x00\x01x",
    ],
)
def test_contradictions_are_malformed(data: bytes) -> None:
    assert Cause.MALFORMED in [cause for cause, _ in causes(head_of(data + DATA, b"", ends=True))]


@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_cause_no_defect(client: bytes, server: bytes, begins: bool, ends: bool) -> None:
    head = head_of(client, server, begins=begins, ends=ends)
    tls.probe(head)
    read_head(head)


@settings(max_examples=200)
@given(st.sampled_from(EXAMPLES), st.sampled_from(list(Direction)), st.data())
def test_any_changed_byte_causes_no_defect(head: Head, direction: Direction, data: st.DataObject) -> None:
    whole = head.streams[direction].data
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    read_head(head_of(changed, b""))
    read_head(head_of(b"", changed, ends=True))


@pytest.mark.parametrize("head", EXAMPLES)
def test_a_prefix_yields_a_prefix_of_the_messages(head: Head) -> None:
    for direction in Direction:
        whole = messages_of(head, direction)
        data = head.streams[direction].data
        for size in range(1, len(data), 1 if len(data) < 400 else 7):
            cut = head_of(data[:size], b"") if direction is Direction.ORIGINATOR else head_of(b"", data[:size])
            found = messages_of(cut)
            assert found == whole[: len(found)]
            assert {cause for cause, _ in causes(cut)} <= {Cause.TRUNCATED}


def test_tiny_records_take_linear_time() -> None:
    one_byte_records = b"".join(record(22, b"\x00") for _ in range(20_000))
    many_extensions = record(22, client_hello(extension(0xFFFF, b"") * 3900))
    began = time.process_time()
    read_head(client_only(one_byte_records))
    read_head(client_only(many_extensions * 6))
    read_head(client_only(record(20, b"\x01") + record(22, b"\x01\xff\xff\xff" + b"x" * 16000) * 6))
    assert time.process_time() - began < 3
