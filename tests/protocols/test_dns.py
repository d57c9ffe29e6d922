from __future__ import annotations

import ipaddress
import json
import os
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import conversations, flows
from analyzer.conversations import Conversation
from analyzer.heads import Datagram, Direction, Frame, Head, Mark, Stream
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect, dissect_as, dns
from analyzer.protocols.dns import DnsFacts, Header, Question, Record, Trailer
from analyzer.wire import Cause

CORPUS = os.environ.get("TPE_PCAP_CORPUS")

ASKED_A = bytes.fromhex("e24701000001000000000000036c6e73036c6162076578616d706c650000010001")
ASKED_AAAA = bytes.fromhex("3a4001000001000000000000036c6e73036c6162076578616d706c6500001c0001")
ANSWERED_A = bytes.fromhex(
    "e24785800001000100000000036c6e73036c6162076578616d706c650000010001c00c00010001000000000004ac10280a"
)
ANSWERED_AAAA = bytes.fromhex("3a4081800001000000000000036c6e73036c6162076578616d706c6500001c0001")

NAME = b"\3lns\3lab\7example\0"
START = 12
"""Offset of the question's name in a message."""


def udp(ports: tuple[int, int], *sent: tuple[Direction, bytes], snap: int = 1 << 16) -> Head:
    """A conversation of datagrams, truncated to ``snap`` bytes; frames count from 1."""
    datagrams = (
        Datagram(direction, data[:snap], len(data), Frame(0, number), number * 1000)
        for number, (direction, data) in enumerate(sent, start=1)
    )
    return Head("udp", ports, datagrams=tuple(datagrams))


def asked(*messages: bytes, ports: tuple[int, int] = (40000, 53)) -> Head:
    return udp(ports, *((Direction.ORIGINATOR, message) for message in messages))


def answered(*messages: bytes, ports: tuple[int, int] = (40000, 53)) -> Head:
    return udp(ports, *((Direction.RESPONDER, message) for message in messages))


def tcp(client: bytes, server: bytes = b"", ends: bool = True, ports: tuple[int, int] = (40000, 53)) -> Head:
    marks = ((Mark(0, Frame(0, 4), 0),), (Mark(0, Frame(0, 6), 0),))
    streams = [Stream(data, mark, True, ends) for data, mark in zip((client, server), marks, strict=True)]
    return Head("tcp", ports, (streams[0], streams[1]))


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack(">H", len(message)) + message for message in messages)


def message(
    *records: bytes,
    flags: int = 0x8180,
    question: bytes = NAME + b"\0\1\0\1",
    counts: tuple[int, int, int, int] | None = None,
) -> bytes:
    """A message with one question and its answer records."""
    return (
        struct.pack(">6H", 7, flags, *(counts or (1 if question else 0, len(records), 0, 0)))
        + question
        + b"".join(records)
    )


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 60, len(data)) + data


RICH = message(
    record(5, b"\3www\xc0\x10"),
    record(1, bytes([192, 0, 2, 1])),
    record(28, bytes.fromhex("20010db8") + bytes(11) + b"\1"),
    record(15, b"\0\x0a\4mail\xc0\x10"),
    record(33, b"\0\1\0\2\x0b\xb9\xc0\x0c"),
    record(16, b"\5hello\6 world"),
    record(12, NAME),
    record(99, b"\1\2\3"),
    record(41, b"\0\x0a\0\2\1\2", name=b"\0"),
)

EXAMPLES = [
    udp(
        (54014, 53),
        (Direction.ORIGINATOR, ASKED_A),
        (Direction.ORIGINATOR, ASKED_AAAA),
        (Direction.RESPONDER, ANSWERED_A),
        (Direction.RESPONDER, ANSWERED_AAAA),
    ),
    udp((54014, 53), (Direction.ORIGINATOR, ASKED_A), (Direction.RESPONDER, RICH)),
    tcp(framed(ASKED_A, ASKED_AAAA), framed(ANSWERED_A, RICH)),
    answered(message(record(1, b"\1\2\3\4"), flags=0x8380)),
]


def messages(head: Head) -> list[object]:
    return [item.message for item in dissect_as(dns, head).items]


def facts_of(head: Head) -> DnsFacts:
    facts = dissect_as(dns, head).facts
    assert isinstance(facts, DnsFacts)
    return facts


def only_break(dissection: Dissection) -> tuple[Cause, str]:
    (found,) = dissection.parse_errors
    return found.anomaly.cause, found.anomaly.field


def test_facts_of_a_lookup() -> None:
    dissection = dissect(EXAMPLES[0])
    assert (dissection.protocol, dissection.parse_errors) == ("dns", ())
    assert to_json(dissection.facts) == {
        "queries": {"lns.lab.example": 2},
        "types": {"A": 1, "AAAA": 1},
        "answers": {"172.16.40.10": "lns.lab.example"},
        "response_codes": {"NOERROR": 2},
    }
    frames = [item.frame.number for item in dissection.items if isinstance(item.message, Header)]
    assert frames == [1, 2, 3, 4]


def test_data_of_every_record_type() -> None:
    dissection = dissect_as(dns, answered(RICH))
    assert dissection.parse_errors == ()
    assert [item.message.data for item in dissection.items if isinstance(item.message, Record)] == [
        "www.lab.example",
        "192.0.2.1",
        "2001:db8::1",
        "10 mail.lab.example",
        "lns.lab.example:3001",
        "hello world",
        "lns.lab.example",
        b"\1\2\3",
        "",
    ]


def test_an_address_has_the_name_of_the_question() -> None:
    through_alias = message(record(5, b"\3cdn\xc0\x10"), record(1, b"\1\2\3\4", name=b"\3cdn\xc0\x10"))
    assert facts_of(answered(through_alias)).answers == {"1.2.3.4": "lns.lab.example"}
    multicast = message(record(1, b"\1\2\3\4", name=NAME), question=b"")
    assert facts_of(answered(multicast, ports=(5353, 5353))).answers == {"1.2.3.4": "lns.lab.example"}


def names_of(*messages: bytes) -> dict[str, tuple[str, ...]]:
    return dict(facts_of(answered(*messages))._names)


def test_an_address_has_the_names_of_its_cname_chain() -> None:
    chain = message(
        record(5, b"\3cdn\xc0\x10"),
        record(5, b"\4edge\xc0\x10", name=b"\3CDN\xc0\x10"),
        record(1, b"\1\2\3\4", name=b"\4edge\xc0\x10"),
    )
    assert names_of(chain) == {"1.2.3.4": ("lns.lab.example", "cdn.lab.example", "edge.lab.example")}


def test_only_the_answer_section_names_addresses() -> None:
    """Addresses of name servers in the additional section do not belong to the name of the question."""
    glue = message(record(1, b"\1\2\3\4"), record(1, b"\5\6\7\x08"), counts=(1, 1, 0, 1))
    assert names_of(glue) == {"1.2.3.4": ("lns.lab.example",)}
    assert facts_of(answered(glue)).answers == {"1.2.3.4": "lns.lab.example"}
    assert names_of(message(record(1, b"\1\2\3\4"), flags=0x100)) == {}, "a question names nothing"


def reverse(address: str, data: bytes = NAME) -> bytes:
    """A response with the PTR record of an address."""
    wire = (
        b"".join(
            bytes((len(label),)) + label.encode() for label in ipaddress.ip_address(address).reverse_pointer.split(".")
        )
        + b"\0"
    )
    return message(record(12, data), question=wire + b"\0\x0c\0\1")


@given(st.ip_addresses())
def test_a_reverse_lookup_names_its_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    shown = socket.inet_ntop(socket.AF_INET6 if address.version == 6 else socket.AF_INET, address.packed)
    assert names_of(reverse(str(address))) == {shown: ("lns.lab.example",)}


@given(st.text("0123456789abcdefx.", max_size=80), st.sampled_from([".in-addr.arpa", ".ip6.arpa", ""]))
def test_a_name_that_is_no_reverse_lookup_has_no_address(name: str, end: str) -> None:
    address = dns.reversed_address(name + end)
    assert address is None or ipaddress.ip_address(address)


def test_messages_over_tcp_equal_those_over_udp() -> None:
    over_tcp = tcp(framed(ASKED_A, ASKED_AAAA), framed(ANSWERED_A, ANSWERED_AAAA))
    over_udp = EXAMPLES[0]
    assert dissect(over_tcp).protocol == "dns"
    assert facts_of(over_tcp) == facts_of(over_udp)
    assert Counter(map(repr, messages(over_tcp))) == Counter(map(repr, messages(over_udp)))
    unfinished = tcp(framed(ASKED_A), framed(ANSWERED_A), ends=False)
    assert facts_of(unfinished).queries == {"lns.lab.example": 1}


def test_a_wrong_length_over_tcp_is_malformed() -> None:
    for wrong in (len(ASKED_A) - 1, len(ASKED_A) + 1):
        stream = struct.pack(">H", wrong) + ASKED_A + framed(ASKED_A)
        assert dissect_as(dns, tcp(stream)).malformed


@given(st.integers(0, 0xFFFF))
def test_a_datagram_is_never_taken_for_a_framed_message(identifier: int) -> None:
    for data in (ASKED_A, ANSWERED_A, RICH):
        assert dissect_as(dns, asked(identifier.to_bytes(2, "big") + data[2:])).parse_errors == ()


def test_text_of_the_root_and_of_unusual_labels() -> None:
    def name_of(wire: bytes) -> str:
        (question,) = (
            message
            for message in messages(asked(message(question=wire + b"\0\1\0\1", flags=0x100)))
            if isinstance(message, Question)
        )
        return question.name

    assert name_of(b"\0") == "."
    assert name_of(b"\3a.b\1c\0") == "a\\.b.c"
    assert name_of(b"\4\x1b[2J\0") == "\\x1b[2J"
    assert name_of(b"\2\xff\xfe\0") == "\\xff\\xfe"
    assert name_of(b"\4caf\xc3\0") == "caf\\xc3"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"\xc0\x0c", "itself"),
        (b"\xc0\x20", "forward"),
        (b"\xc0\x04", "the header"),
        (b"\1a\xc0\x0c", "its own beginning"),
        (b"\x41a\0", "an extended label"),
        (b"\x80a\0", "a reserved label"),
        (b"".join(b"\x3f" + b"x" * 63 for _ in range(4)) + b"\0", "257 bytes"),
        (b"\x3f" + b"x" * 20, "a label behind the end"),
    ],
)
def test_impossible_names_are_malformed(name: bytes, why: str) -> None:
    dissection = dissect_as(dns, asked(message(question=name, flags=0x100)))
    assert only_break(dissection) == (Cause.MALFORMED, "name"), why
    assert [type(item.message) for item in dissection.items] == [Header]


def test_the_longest_name_is_valid() -> None:
    longest = b"".join(b"\x3f" + b"x" * 63 for _ in range(3)) + b"\x3d" + b"x" * 61 + b"\0"
    assert len(longest) == 255
    assert dissect_as(dns, asked(message(question=longest + b"\0\1\0\1", flags=0x100))).parse_errors == ()
    through_pointer = message(record(1, b"\1\2\3\4", name=b"\1y\xc0\x0c"), question=longest + b"\0\1\0\1")
    assert only_break(dissect_as(dns, answered(through_pointer))) == (Cause.MALFORMED, "name")


@pytest.mark.parametrize("kind", [1, 28, 5, 15, 33, 16, 41])
def test_record_data_of_wrong_length_are_malformed(kind: int) -> None:
    good = {1: bytes(4), 28: bytes(16), 5: NAME, 15: b"\0\1" + NAME, 33: bytes(6) + NAME, 16: b"\1a", 41: b"\0\1\0\1x"}
    assert dissect_as(dns, answered(message(record(kind, good[kind])))).parse_errors == ()
    for wrong in (good[kind] + b"\5", good[kind][:-1]):
        assert only_break(dissect_as(dns, answered(message(record(kind, wrong)))))[0] is Cause.MALFORMED


def test_missing_records_are_malformed() -> None:
    assert dissect_as(dns, answered(message(counts=(1, 1, 0, 0)))).malformed


def test_a_response_with_tc_is_truncated_not_malformed() -> None:
    whole = message(record(1, b"\1\2\3\4"), record(1, b"\1\2\3\5"), flags=0x8380)
    for length in range(START, len(whole)):
        dissection = dissect_as(dns, answered(whole[:length]))
        assert dissection.malformed == ()
        assert dissection.parse_errors
    assert facts_of(answered(whole)).truncated == ("lns.lab.example",)


def test_bytes_after_a_message_are_a_trailer() -> None:
    assert messages(asked(ASKED_A + b"secret"))[-1] == Trailer(6)
    assert dissect_as(dns, asked(ASKED_A + b"secret")).parse_errors == ()


def test_a_record_of_an_update_may_lack_data() -> None:
    update = message(record(1, b""), flags=5 << 11)
    assert dissect_as(dns, asked(update)).parse_errors == ()


def test_names_in_facts_are_limited() -> None:
    queries = [message(question=b"\4n%03d\0\0\1\0\1" % number, flags=0x100) for number in range(60)]
    shown = facts_of(asked(*queries)).queries
    assert len(shown) == dns.MAX_NAMES + 1
    assert shown["…"] == 10
    assert sum(shown.values()) == 60


@pytest.mark.parametrize(
    ("head", "is_dns"),
    [
        (asked(ASKED_A), True),
        (asked(ASKED_A, ports=(5353, 5353)), True),
        (asked(ASKED_A, ports=(40000, 8053)), True),
        (answered(ANSWERED_A, ports=(40000, 8053)), True),
        (tcp(framed(ASKED_A), ports=(40000, 8053)), True),
        (udp((40000, 53), (Direction.ORIGINATOR, ASKED_A), snap=20), True),
        (asked(ASKED_A, ports=(137, 137)), False),
        (asked(ASKED_A + b"!", ports=(40000, 8053)), False),
        (asked(ASKED_A[:11]), False),
        (asked(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), False),
        (tcp(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(100)), False),
        (asked(bytes(48)[:1] + b"\x23" + bytes(46), ports=(40000, 123)), False),
        (asked(b"\0" * 200, ports=(40000, 40001)), False),
    ],
)
def test_probe(head: Head, is_dns: bool) -> None:
    assert dns.probe(head) is is_dns


labels = st.lists(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), min_size=1, max_size=8).map(".".join)


@given(labels, labels, st.binary(min_size=4, max_size=4))
def test_records_agree_with_dpkt(name: str, alias: str, address: bytes) -> None:
    answer = dpkt.dns.DNS(
        id=1,
        op=0x8180,
        qd=[dpkt.dns.DNS.Q(name=name)],
        an=[
            dpkt.dns.DNS.RR(name=name, type=dpkt.dns.DNS_CNAME, cname=alias),
            dpkt.dns.DNS.RR(name=alias, type=dpkt.dns.DNS_A, ip=address),
        ],
    )
    dissection = dissect_as(dns, answered(bytes(answer)))
    assert dissection.parse_errors == ()
    records = [item.message for item in dissection.items if isinstance(item.message, Record)]
    assert [(record.name, record.data) for record in records] == [(name, alias), (alias, ".".join(map(str, address)))]


def test_hostile_compression_pointers_take_little_time() -> None:
    begins = START + len(NAME) + 4 + 11
    ladder = b"".join(struct.pack(">H", 0xC000 | (begins + 2 * step - 2 if step else START)) for step in range(7900))
    climbs = b"".join(struct.pack(">H", 0xC000 | begins + 2 * step) + bytes(10) for step in range(125, 0, -1))
    hostile = message(record(10, ladder, name=b"\0"), climbs * 30, counts=(1, 0xFFFF, 0, 0))
    began = time.process_time()
    assert dissect_as(dns, answered(hostile)).malformed
    assert time.process_time() - began < 1


@cache
def whole_captures() -> list[tuple[dict[str, Any], Sequence[Conversation]]]:
    """The undamaged captures of the corpus, with their conversations."""
    assert CORPUS is not None
    truths = map(json.loads, (Path(CORPUS) / "truth.jsonl").read_text().splitlines())
    return [
        (truth, tuple(conversations.dissect_flows(flows.read([str(Path(CORPUS) / truth["name"])])).expand()))
        for truth in truths
        if "malformed" not in truth["tags"]
        and not truth["malformed_frames"]
        and truth["container"]["format"] != "snoop"
    ]


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_corpus_dns_is_well_formed() -> None:
    seen = 0
    for truth, found in whole_captures():
        for flow in found:
            if flow.protocol == "dns":
                seen += 1
                assert flow.dissection.malformed == (), truth["name"]
    assert seen > 100


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
@pytest.mark.tshark
def test_corpus_queries_agree_with_tshark() -> None:
    compared = 0
    for truth, found in whole_captures():
        if not {"dns", "mdns", "llmnr"} & set(truth["protocols"]) or "dns-tunnel" in truth["tags"]:
            continue
        counted = [flow.dissection.facts.queries for flow in found if isinstance(flow.dissection.facts, DnsFacts)]
        ours: Counter[str] = sum(map(Counter, counted), Counter())
        assert CORPUS is not None
        command = ["tshark", "-r", str(Path(CORPUS) / truth["name"]), "-Y", "dns.flags.response == 0 && !icmp"]
        command += ["-T", "fields", "-E", "aggregator=\t", "-e", "dns.qry.name"]
        output = subprocess.run(command, capture_output=True, text=True).stdout.split()
        theirs = Counter("." if name == "<Root>" else name for name in output)
        if ours or truth["name"] != "zeek_radiotap.pcap":  # IEEE 802.11 frames are not decoded
            assert ours == theirs, truth["name"]
            compared += 1
    assert compared > 15


def test_junk_first_does_not_hide_the_rest() -> None:
    found = dissect(udp((40000, 53), (Direction.ORIGINATOR, b"junk"), (Direction.ORIGINATOR, ASKED_A)))
    assert (found.protocol, len(found.parse_errors)) == ("dns", 1)
    assert isinstance(found.facts, DnsFacts) and found.facts.queries
