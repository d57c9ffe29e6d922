"""Checks of DNS."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from analyzer.checks import dns as checks
from analyzer.findings import AuditContext, Check, Issue, Scope, Severity
from analyzer.heads import Direction, Head
from analyzer.matching import Match
from analyzer.protocols import dns
from tests import samples
from tests.checks.matches import issues, match_of, shown, station_of
from tests.protocols.test_dns import (
    ASKED_A,
    CORPUS,
    EXAMPLES,
    NAME,
    answered,
    asked,
    message,
    record,
    udp,
    whole_captures,
)
from tests.synthetic import DNS, IEC104, STATION, TPE, Traffic, findings_of

TUNNEL = "ndpi_dns-tunnel-iodine.pcap"


def matches_of(*heads: Head) -> list[Match]:
    """A conversation of one base station for each head."""
    return [match_of(dns, head, number=number) for number, head in enumerate(heads, start=1)]


def capture_issues(check: Check, *expected: Head, unexpected: tuple[Head, ...] = ()) -> list[Issue]:
    """The issues of a check about the capture; DNS checks look at the stations of its context only."""
    context: AuditContext = SimpleNamespace(stations=(station_of(matches_of(*expected), matches_of(*unexpected)),))
    return list(check.run(context))


def issues_of(check: Check, *heads: Head) -> list[tuple[Severity, str]]:
    if check.scope is Scope.FLOW:
        return issues(check, matches_of(*heads)[0])
    return [shown(check, issue)[:2] for issue in capture_issues(check, *heads)]


def query(name: str, kind: int = 1) -> bytes:
    wire = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return message(question=wire + b"\0" + kind.to_bytes(2, "big") + b"\0\1", flags=0x100)


def data_name(seed: int, labels: int = 1, length: int = 60) -> str:
    letters = random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz234567", k=labels * length)
    return ".".join("".join(letters[at * length : (at + 1) * length]) for at in range(labels)) + ".t.example"


@pytest.mark.parametrize(
    "check", [check for check in checks.CHECKS if check is not checks.over_tcp], ids=lambda check: check.id
)
@pytest.mark.parametrize("head", EXAMPLES)
def test_no_issue_with_ordinary_lookups(check: Check, head: Head) -> None:
    assert issues_of(check, head) == []


@pytest.mark.parametrize(
    "names",
    [
        ["1.0.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2.ip6.arpa"] * 5,
        ["a8f5f167f44f4964e6c998dee827110c-1234567890abcdef.elb.eu-west-1.amazonaws.com"] * 20,
        ["lns-of-a-quite-long-name.some-department.some-company.example", "cups.example", "a.b.c.d.e.example"],
    ],
)
def test_long_ordinary_names_are_no_tunnel(names: list[str]) -> None:
    assert issues_of(checks.tunnel_names, asked(*map(query, names))) == []


def test_tunnel_names() -> None:
    several = asked(*(query(data_name(seed)) for seed in range(20)))
    ((severity, sentence),) = issues_of(checks.tunnel_names, several)
    assert severity is Severity.MEDIUM and "20 names" in sentence and "t.example" in sentence
    assert issues_of(checks.tunnel_names, asked(query(data_name(1)), query(data_name(1)))) == []
    assert len(issues_of(checks.tunnel_names, asked(query(data_name(1, labels=3))))) == 1


def test_tunnel_records() -> None:
    ((_, sentence),) = issues_of(checks.tunnel_records, asked(query("a.example", kind=10)))
    assert "type NULL" in sentence
    ((_, sentence),) = issues_of(checks.tunnel_records, asked(query("a.example", kind=65399)))
    assert "65399" in sentence
    texts = [message(record(16, (b"\xff" + bytes((letter,)) * 255) * 4)) for letter in b"xyz"]
    ((severity, sentence),) = issues_of(checks.tunnel_records, answered(*texts))
    assert severity is Severity.MEDIUM and "3072 bytes" in sentence and "lab.example" in sentence
    assert issues_of(checks.tunnel_records, answered(texts[0])) == []
    large = message(*(record(16, (b"\xff" + bytes((letter,)) * 255) * 4) for letter in b"xyz"))
    ((severity, sentence),) = issues_of(checks.tunnel_records, answered(large))
    assert severity is Severity.LOW and sentence.startswith("One answer carries 3072 bytes")
    assert issues_of(checks.tunnel_records, answered(*texts[:1] * 9)) == [], "the same text again says nothing new"


def hexadecimal(seed: int, digits: int) -> str:
    return random.Random(seed).randbytes(digits // 2).hex()


def test_tunnel_below_many_domains() -> None:
    names = [f"{hexadecimal(seed, 38)}.{hexadecimal(1000 + seed, 8)}.com" for seed in range(100)]
    heads = [asked(query(name), ports=(40000 + number, 53)) for number, name in enumerate(names)]
    ((severity, sentence),) = issues_of(checks.tunnel_names, *heads)
    assert severity is Severity.MEDIUM and "below many domains" in sentence
    assert issues_of(checks.tunnel_names, *heads[:40]) == []


def test_few_random_names_below_a_domain_are_worth_a_look() -> None:
    heads = [asked(query(f"{hexadecimal(seed, 18)}.t.example"), ports=(40000 + seed, 53)) for seed in range(30)]
    ((severity, _),) = issues_of(checks.tunnel_names, *heads)
    assert severity is Severity.LOW


def test_tunnel_below_arpa() -> None:
    names = [f"{hexadecimal(seed, 40)}.in-addr.arpa" for seed in range(80)]
    ((severity, _),) = issues_of(checks.tunnel_names, *(asked(query(name)) for name in names))
    assert severity is Severity.MEDIUM
    hosts = [f"{seed}.0.0.10.in-addr.arpa" for seed in range(200)]
    assert issues_of(checks.tunnel_names, *(asked(query(name)) for name in hosts)) == []


def with_options(name: str, size: int) -> bytes:
    """A query with ``size`` bytes of EDNS options."""
    asked_for = query(name)
    return asked_for[:11] + b"\1" + asked_for[12:] + struct.pack(">BHHIH", 0, 41, 1232, 0, size) + bytes(size)


def test_tunnel_in_edns_options() -> None:
    option = struct.pack(">HH", 65001, 600)
    full = with_options("a.example", 604).replace(bytes(604), option + bytes(600))
    heads = [asked(full, ports=(40000 + number, 53)) for number in range(8)]
    ((severity, sentence),) = issues_of(checks.tunnel_options, *heads)
    assert severity is Severity.MEDIUM and "bytes in EDNS options" in sentence
    cookie = with_options("a.example", 44).replace(bytes(44), struct.pack(">HH", 10, 40) + bytes(40))
    assert issues_of(checks.tunnel_options, *(asked(cookie) for _ in range(200))) == []


def test_tunnel_spread_over_ports() -> None:
    heads = [asked(query(data_name(seed)), ports=(40000 + seed, 53)) for seed in range(20)]
    assert issues_of(checks.tunnel_names, *heads[:2]) == []
    ((severity, sentence),) = issues_of(checks.tunnel_names, *heads)
    assert severity is Severity.MEDIUM and "20 names" in sentence and "t.example" in sentence
    (issue,) = capture_issues(checks.tunnel_names, *heads)
    assert [conversation.id for conversation in issue.conversations] == list(range(1, 21))
    texts = [answered(message(record(16, b"\xff" + bytes((letter,)) * 255))) for letter in range(97, 107)]
    ((_, sentence),) = issues_of(checks.tunnel_records, *texts)
    assert "2560 bytes in 10 records" in sentence
    assert issues_of(checks.tunnel_records, *texts[:8]) == []


def test_tunnel_names_with_shorter_labels() -> None:
    heads = [asked(query(data_name(seed, length=35)), ports=(40000 + seed, 53)) for seed in range(70)]
    ((_, sentence),) = issues_of(checks.tunnel_names, *heads)
    assert "70 names with" in sentence
    ((severity, sentence),) = issues_of(checks.tunnel_names, *heads[:40])
    assert severity is Severity.LOW and "random labels" in sentence
    assert issues_of(checks.tunnel_names, *heads[:12]) == []
    reverse = [asked(query(f"{n}." + "0." * 31 + "ip6.arpa"), ports=(40000 + n, 53)) for n in range(100)]
    assert issues_of(checks.tunnel_names, *reverse) == []


def test_tunnel_names_in_unexpected_flows() -> None:
    names = tuple(asked(query(data_name(seed)), ports=(40000 + seed, 53)) for seed in range(5))
    assert len(capture_issues(checks.tunnel_names, unexpected=names)) == 1
    multicast = tuple(asked(query(data_name(seed)), ports=(5353, 5353)) for seed in range(5))
    assert capture_issues(checks.tunnel_names, unexpected=multicast) == []


def test_domains_and_names_kept_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MAX_DOMAINS", 4)
    monkeypatch.setattr(checks, "MAX_REMEMBERED", 10)
    many = [asked(query(data_name(seed) + f".d{seed}.example"), ports=(40000 + seed, 53)) for seed in range(40)]
    ((_, sentence),) = issues_of(checks.tunnel_names, *many)
    assert "10 names" in sentence and "many domains" in sentence


def answer_of(*addresses: bytes, identifier: int = 7) -> bytes:
    return identifier.to_bytes(2, "big") + message(*(record(1, address) for address in addresses))[2:]


def question_of(identifier: int = 7) -> bytes:
    return identifier.to_bytes(2, "big") + message(flags=0x100)[2:]


def exchange_of(questions: int, *answers: bytes) -> Head:
    sent = [(Direction.ORIGINATOR, question_of())] * questions
    return udp((40000, 53), *sent, *((Direction.RESPONDER, answer) for answer in answers))


def test_contradicting_answers() -> None:
    good, bad = answer_of(b"\x0a\0\x09\1", b"\x0a\0\x09\2"), answer_of(b"\xc0\0\2\x42")
    assert issues_of(checks.contradicting_answers, exchange_of(1, bad, good)) == [
        (
            Severity.MEDIUM,
            "The one question for lns.lab.example got contradicting answers: 192.0.2.66, then 10.0.9.1, 10.0.9.2.",
        )
    ]
    assert issues_of(checks.contradicting_answers, exchange_of(2, bad, good)) == []
    assert issues_of(checks.contradicting_answers, exchange_of(1, good, answer_of(b"\x0a\0\x09\1"))) == []
    assert issues_of(checks.contradicting_answers, exchange_of(1, message(flags=0x8182), good)) == []


@pytest.mark.parametrize("first", [True, False])
def test_forged_answer_is_no_duplicate_of_the_true_one(first: bool, tmp_path: Path) -> None:
    """It has the true one's identification, length and beginning, and another sender; 0.4 ms lie between them."""
    traffic = Traffic().tcp(STATION, 41000, TPE, 2404, IEC104).exchange(STATION, 40000, "10.0.0.53", 53, DNS)
    time, answer = traffic.packets[-1]
    forged = bytearray(answer)
    forged[11] ^= 1  # the sender's link-layer address
    forged[22] -= 1  # the time to live
    forged[-1] ^= 0x40  # the address in the answer
    traffic.packets.append((time + (-0.0004 if first else 0.0004), bytes(forged)))
    (finding,) = findings_of(traffic.audit(tmp_path), checks.contradicting_answers.id)
    assert finding.severity is Severity.MEDIUM
    traffic.packets[-1] = time + 0.0004, answer[:22] + bytes([answer[22] - 1]) + answer[23:]
    assert not findings_of(traffic.audit(tmp_path), checks.contradicting_answers.id)


def test_unasked_answers() -> None:
    guesses = [answer_of(b"\xc0\0\2\x42", identifier=number) for number in range(100, 120)]
    assert issues_of(checks.unasked_answers, exchange_of(1, *guesses)) == [
        (Severity.MEDIUM, "The base station gets 20 answers to questions that it never asked.")
    ]
    assert issues_of(checks.unasked_answers, exchange_of(1, *guesses[:2])) == []
    assert issues_of(checks.unasked_answers, answered(*guesses)) == [], "the questions may lie before the capture"
    longer = match_of(dns, exchange_of(1, *guesses), packets=(9, 20))
    assert issues(checks.unasked_answers, longer) == [], "a question may lie beyond what was kept"


def test_factory_name() -> None:
    ((severity, sentence),) = issues_of(checks.factory_name, asked(query("LRC1.thingpark.com"), query("a.example")))
    assert severity is Severity.INFO and "LRC1.thingpark.com," in sentence


def test_trailing_bytes() -> None:
    ((severity, sentence),) = issues_of(checks.trailing_bytes, asked(ASKED_A, ASKED_A + b"data"))
    assert severity is Severity.LOW and "4 bytes" in sentence


def test_no_answer() -> None:
    refused = message(flags=0x8183)
    assert issues_of(checks.no_answer, answered(refused, refused)) == [
        (Severity.INFO, "The name server answers NXDOMAIN for lns.lab.example.")
    ]
    assert NAME in refused


NOT_OF_TUNNELS = (checks.no_answer, checks.over_tcp)
"""Checks that fire on captures without an attack: a name may not resolve, a question may lie before the capture."""


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_issues_of_corpus() -> None:
    fired = set()
    for capture, found in whole_captures():
        for conversation in found:
            if conversation.protocol == "dns":
                for check in checks.CHECKS:
                    if check not in NOT_OF_TUNNELS and issues_of(check, conversation.head):
                        fired.add((capture["name"], check.slug))
    assert fired == {(TUNNEL, "dns-tunnel-names"), (TUNNEL, "dns-tunnel-records")}


RECORDED_ISSUES = ("tls-dns-tunnel", "tls-dns-trailing-bytes", "tls-overlapping-fragments", "basics-dns-guessed")
"""Samples that were recorded to show issues of these checks."""


@pytest.mark.parametrize("name", [name for name in samples.names() if name not in RECORDED_ISSUES])
def test_no_issue_in_other_samples(name: str) -> None:
    for conversation in samples.audit_of(name).flows:
        if conversation.protocol == "dns":
            for check in checks.CHECKS:
                assert check in NOT_OF_TUNNELS or not issues_of(check, conversation.head)
