"""Recalled TLS handshakes: every result is the same as without a memory."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import conversations
from analyzer.heads import Direction, Head
from analyzer.pipeline import audit
from analyzer.protocols import Dissection, dissect, dissect_as, tls
from tests.protocols.tls_messages import (
    CHANGE_CIPHER_SPEC,
    DATA,
    EXAMPLES,
    FINISHED,
    LNS,
    STATION,
    certificate,
    client_hello,
    head_of,
    message,
    record,
    server_hello,
)
from tests.synthetic import STATION as STATION_ADDRESS
from tests.synthetic import TPE, Traffic, findings_of


def plain(head: Head) -> Dissection:
    """Read without a memory."""
    return dissect_as(tls, head)


@given(st.sampled_from(EXAMPLES), st.sampled_from(list(Direction)), st.data())
def test_a_stream_that_differs_in_one_byte_or_in_length_is_read_anew(
    head: Head, direction: Direction, data: st.DataObject
) -> None:
    stream = head.streams[direction].data
    at = data.draw(st.integers(0, len(stream) - 1))
    changed = stream[:at] + bytes([data.draw(st.integers(0, 255))]) + stream[at + 1 :]
    changed = data.draw(st.sampled_from((changed, changed[: at + 1], changed + DATA, changed + b"\x15")))
    ends = data.draw(st.booleans())
    new = head_of(changed, b"", ends=ends) if direction is Direction.ORIGINATOR else head_of(b"", changed, ends=ends)
    recall = tls.Recall()
    dissect_as(recall, head)
    dissect_as(recall, head_of(*(stream.data for stream in head.streams), ends=True))
    assert dissect_as(recall, new) == plain(new)


def test_a_hello_in_clear_in_place_of_an_encrypted_record_is_read_anew() -> None:
    hello = record(22, client_hello())
    encrypted = record(22, b"\x55" * (len(hello) - 5))
    recall = tls.Recall()
    dissect_as(recall, head_of(hello + CHANGE_CIPHER_SPEC + encrypted, b""))
    items = dissect_as(recall, head_of(hello + CHANGE_CIPHER_SPEC + hello, b"")).items
    assert [type(item.message) for item in items].count(tls.ClientHello) == 2


@given(st.lists(st.sampled_from(EXAMPLES), min_size=1, max_size=6), st.data())
def test_handshakes_with_other_random_bytes_and_session_ids_are_recalled_correctly(
    heads: list[Head], data: st.DataObject
) -> None:
    recall = tls.Recall()
    for head in heads:
        random = data.draw(st.binary(min_size=32, max_size=32))
        streams = [bytearray(stream.data) for stream in head.streams]
        for stream in streams:
            if stream[:1] == b"\x16":
                stream[11:43] = random
        changed = head_of(*map(bytes, streams))
        assert dissect(changed, recall=recall) == dissect(changed)


@given(
    st.lists(st.binary(max_size=4), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
    st.sampled_from((b"", record(21, b"sealed alert"), DATA)),
)
def test_a_recalled_stream_holds_its_own_client_certificates(chain: list[bytes], random: Random, end: bytes) -> None:
    """Certificates of equal lengths are not mixed up, and the facts are one object."""
    others = [random.randbytes(len(entry)) for entry in chain]
    key = record(22, message(16, b"k"))
    first, second = (
        head_of(STATION[:306] + record(22, certificate(*entries)) + key + CHANGE_CIPHER_SPEC + end, LNS)
        for entries in (chain, others)
    )
    recall = tls.Recall()
    facts = dissect_as(recall, first).facts
    assert recall.pattern_of(second.streams[0].data, True) is not None
    recalled = dissect_as(recall, second)
    assert recalled == plain(second)
    assert recalled.facts is facts
    entries = [item.message.data for item in recalled.items if isinstance(item.message, tls.CertificateEntry)]
    assert entries[: len(others)] == others


def test_a_draft_hello_without_a_session_id_is_no_pattern() -> None:
    """The position of its random bytes is unknown."""
    hello = bytearray(record(22, client_hello()))
    hello[9] = 0x7F
    end = CHANGE_CIPHER_SPEC + FINISHED + record(21, b"sealed alert")
    stream = bytes(hello) + record(22, certificate(b"client") + message(16, b"k")) + end
    recall = tls.Recall()
    assert dissect_as(recall, head_of(stream, LNS)) == dissect_as(recall, head_of(stream, LNS))
    assert recall.pattern_of(stream, True) is None


def handshake(number: int) -> tuple[bytes, bytes]:
    """A handshake with three unreadable server certificates; ``number`` changes random bytes only."""
    random = number.to_bytes(32, "big")
    client = bytearray(record(22, client_hello()))
    server = bytearray(record(22, server_hello(None) + certificate(b"own", b"issuer", b"root")))
    client[11:43] = server[11:43] = random
    return bytes(client), bytes(server)


def test_recalled_facts_come_with_all_items_whatever_the_limit() -> None:
    recall = tls.Recall()
    whole = [dissect(head_of(*handshake(number)), recall=recall) for number in range(3)]
    limited = dissect(head_of(*handshake(3)), 2, recall)
    assert limited.facts is whole[0].facts
    assert isinstance(limited.facts, tls.TlsFacts) and len(limited.facts.certificates) == 3
    assert [type(item.message) for item in limited.items] == [type(item.message) for item in whole[0].items]


def test_facts_of_a_limited_reading_are_not_recalled() -> None:
    recall = tls.Recall()
    dissect(head_of(*handshake(0)), recall=recall)
    for number in range(1, 4):
        limited = dissect(head_of(*handshake(number)), 2, recall)
        assert len(limited.items) == 4 and len(limited.parse_errors) == 1
        assert isinstance(limited.facts, tls.TlsFacts) and len(limited.facts.certificates) == 0


def test_an_audit_above_the_limit_of_messages_judges_recalled_handshakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two handshakes are read, one is recalled, and after the limit others are recalled, too."""
    traffic = Traffic()
    for number in range(6):
        traffic.tcp(STATION_ADDRESS, 40000 + number, TPE, 3001, handshake(number))
    path = traffic.save(tmp_path / "handshakes.pcap")
    expected = findings_of(audit(path), "TPE276")
    assert [finding.count for finding in expected] == [6, 6, 6]
    monkeypatch.setattr(conversations, "MAX_MESSAGES", 12)
    monkeypatch.setattr(conversations, "FEW_MESSAGES", 2)
    assert findings_of(audit(path), "TPE276") == expected
