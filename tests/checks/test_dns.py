from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from analyzer import conversations, flows
from analyzer.checks import dns as checks
from analyzer.findings import AuditContext, Check, Scope, Severity
from analyzer.heads import Direction, Head
from analyzer.matching import Match
from analyzer.protocols import dns
from tests import samples
from tests.checks.test_ssh import fit_of, remarks
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
from tests.synthetic import DNS, IEC104, STATION, TPE, Scene
from tests.synthetic import found as findings_of

TUNNEL = "ndpi_dns-tunnel-iodine.pcap"


def fits(*heads: Head, packets: tuple[int, int] | None = None) -> list[Match]:
    """A conversation of one base station for each head."""
    found = []
    for number, head in enumerate(heads, start=1):
        fit = fit_of(dns, head)
        sent = [sum(each.direction == side for each in head.datagrams) for side in Direction]
        changes = {"id": number, "transport": head.transport, "packets": packets or tuple(sent)}
        found.append(dataclasses.replace(fit, conversation=fit.conversation._replace(**changes)))
    return found


def case_of(*heads: Head, strays: tuple[Head, ...] = ()) -> AuditContext:
    """A case as far as the checks of names look at it."""
    beside = tuple(SimpleNamespace(conversation=fit.conversation) for fit in fits(*strays))
    station = SimpleNamespace(address="10.20.30.10")
    return SimpleNamespace(stations=(SimpleNamespace(station=station, matches=tuple(fits(*heads)), unexpected=beside),))


def said(check: Check, *heads: Head) -> list[tuple[Severity, str]]:
    if check.scope is Scope.FLOW:
        return remarks(check, fits(*heads)[0])
    found = list(check.run(case_of(*heads)))
    for charge in found:
        assert charge.sentence[0].isupper() and charge.sentence.endswith(".")
        assert charge.frames == tuple(sorted(set(charge.frames))) and 0 < len(charge.frames) <= 8
    return [(check.severity if each.severity is None else each.severity, each.sentence) for each in found]


def query(name: str, kind: int = 1) -> bytes:
    wire = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return message(question=wire + b"\0" + kind.to_bytes(2, "big") + b"\0\1", flags=0x100)


def data_name(seed: int, labels: int = 1, length: int = 60) -> str:
    letters = random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz234567", k=labels * length)
    return ".".join("".join(letters[at * length : (at + 1) * length]) for at in range(labels)) + ".t.example"


@pytest.mark.parametrize(
    "check", [each for each in checks.CHECKS if each is not checks.over_tcp], ids=lambda each: each.id
)
@pytest.mark.parametrize("head", EXAMPLES)
def test_ordinary_lookups_are_fine(check: Check, head: Head) -> None:
    assert said(check, head) == []


@pytest.mark.parametrize(
    "names",
    [
        ["1.0.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2.ip6.arpa"] * 5,
        ["a8f5f167f44f4964e6c998dee827110c-1234567890abcdef.elb.eu-west-1.amazonaws.com"] * 20,
        ["lns-of-a-quite-long-name.some-department.some-company.example", "cups.example", "a.b.c.d.e.example"],
    ],
)
def test_long_but_honest_names_are_no_tunnel(names: list[str]) -> None:
    assert said(checks.tunnel_names, asked(*map(query, names))) == []


def test_a_tunnel_in_names() -> None:
    several = asked(*(query(data_name(seed)) for seed in range(20)))
    ((severity, sentence),) = said(checks.tunnel_names, several)
    assert severity is Severity.MEDIUM and "20 names" in sentence and "t.example" in sentence
    assert said(checks.tunnel_names, asked(query(data_name(1)), query(data_name(1)))) == []
    assert len(said(checks.tunnel_names, asked(query(data_name(1, labels=3))))) == 1


def test_a_tunnel_in_records() -> None:
    ((_, sentence),) = said(checks.tunnel_records, asked(query("a.example", kind=10)))
    assert "type NULL" in sentence
    ((_, sentence),) = said(checks.tunnel_records, asked(query("a.example", kind=65399)))
    assert "65399" in sentence
    texts = [message(record(16, (b"\xff" + bytes((letter,)) * 255) * 4)) for letter in b"xyz"]
    ((severity, sentence),) = said(checks.tunnel_records, answered(*texts))
    assert severity is Severity.MEDIUM and "3072 bytes" in sentence and "lab.example" in sentence
    assert said(checks.tunnel_records, answered(texts[0])) == []
    assert said(checks.tunnel_records, answered(*texts[:1] * 9)) == [], "the same text again says nothing new"


def test_a_tunnel_whose_every_query_comes_from_another_port() -> None:
    apart = [asked(query(data_name(seed)), ports=(40000 + seed, 53)) for seed in range(20)]
    assert said(checks.tunnel_names, *apart[:2]) == []
    ((severity, sentence),) = said(checks.tunnel_names, *apart)
    assert severity is Severity.MEDIUM and "20 names" in sentence and "t.example" in sentence
    (charge,) = checks.tunnel_names.run(case_of(*apart))
    assert [each.id for each in charge.conversations] == list(range(1, 21))
    texts = [answered(message(record(16, b"\xff" + bytes((letter,)) * 255))) for letter in range(97, 107)]
    ((_, sentence),) = said(checks.tunnel_records, *texts)
    assert "2560 bytes in 10 records" in sentence
    assert said(checks.tunnel_records, *texts[:8]) == []


def test_a_tunnel_of_shorter_labels() -> None:
    apart = [asked(query(data_name(seed, length=35)), ports=(40000 + seed, 53)) for seed in range(70)]
    ((_, sentence),) = said(checks.tunnel_names, *apart)
    assert "70 names with" in sentence
    assert said(checks.tunnel_names, *apart[:40]) == []
    reverse = [asked(query(f"{n}." + "0." * 31 + "ip6.arpa"), ports=(40000 + n, 53)) for n in range(100)]
    assert said(checks.tunnel_names, *reverse) == []


def test_a_tunnel_to_a_resolver_that_no_row_expects() -> None:
    names = tuple(asked(query(data_name(seed)), ports=(40000 + seed, 53)) for seed in range(5))
    assert len(list(checks.tunnel_names.run(case_of(unexpected=names)))) == 1
    multicast = tuple(asked(query(data_name(seed)), ports=(5353, 5353)) for seed in range(5))
    assert list(checks.tunnel_names.run(case_of(unexpected=multicast))) == []


def test_names_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OWNERS", 4)
    monkeypatch.setattr(checks, "REMEMBERED", 10)
    many = [asked(query(data_name(seed) + f".d{seed}.example"), ports=(40000 + seed, 53)) for seed in range(40)]
    ((_, sentence),) = said(checks.tunnel_names, *many)
    assert "10 names" in sentence and "many domains" in sentence


def answer_of(*addresses: bytes, identifier: int = 7) -> bytes:
    return identifier.to_bytes(2, "big") + message(*(record(1, address) for address in addresses))[2:]


def question_of(identifier: int = 7) -> bytes:
    return identifier.to_bytes(2, "big") + message(flags=0x100)[2:]


def exchange_of(questions: int, *answers: bytes) -> Head:
    both = [(Direction.ORIGINATOR, question_of())] * questions
    return udp((40000, 53), *both, *((Direction.RESPONDER, each) for each in answers))


def test_two_answers_to_one_question_that_contradict_each_other() -> None:
    good, bad = answer_of(b"\x0a\0\x09\1", b"\x0a\0\x09\2"), answer_of(b"\xc0\0\2\x42")
    assert said(checks.contradicting_answers, exchange_of(1, bad, good)) == [
        (
            Severity.MEDIUM,
            "The one question for lns.lab.example got contradicting answers: 192.0.2.66, then 10.0.9.1, 10.0.9.2.",
        )
    ]
    assert said(checks.contradicting_answers, exchange_of(2, bad, good)) == []
    assert said(checks.contradicting_answers, exchange_of(1, good, answer_of(b"\x0a\0\x09\1"))) == []
    assert said(checks.contradicting_answers, exchange_of(1, message(flags=0x8182), good)) == []


@pytest.mark.parametrize("first", [True, False])
def test_an_answer_forged_to_look_like_a_copy_of_the_true_one(first: bool, tmp_path: Path) -> None:
    """It has the true one's identification, length and beginning, and comes from another host within the instant."""
    scene = Scene().tcp(STATION, 41000, TPE, 2404, IEC104).ask(STATION, 40000, "10.0.0.53", 53, DNS)
    time, answer = scene.packets[-1]
    forged = bytearray(answer)
    forged[11] ^= 1  # the sender's link-layer address
    forged[22] -= 1  # the time to live
    forged[-1] ^= 0x40  # the address that is told
    scene.packets.append((time + (-0.0004 if first else 0.0004), bytes(forged)))
    (finding,) = findings_of(scene.audited(tmp_path), checks.contradicting_answers.id)
    assert finding.severity is Severity.MEDIUM
    scene.packets[-1] = time + 0.0004, answer[:22] + bytes([answer[22] - 1]) + answer[23:]
    assert not findings_of(scene.audited(tmp_path), checks.contradicting_answers.id)


def test_answers_that_nobody_asked_for() -> None:
    guesses = [answer_of(b"\xc0\0\2\x42", identifier=number) for number in range(100, 120)]
    assert said(checks.unasked_answers, exchange_of(1, *guesses)) == [
        (Severity.MEDIUM, "The base station gets 20 answers to questions that it never asked.")
    ]
    assert said(checks.unasked_answers, exchange_of(1, *guesses[:2])) == []
    assert said(checks.unasked_answers, answered(*guesses)) == [], "the questions may lie before the capture"
    (more,) = fits(exchange_of(1, *guesses), packets=(9, 20))
    assert remarks(checks.unasked_answers, more) == [], "a question may lie behind what was kept"


def test_names_of_the_factory() -> None:
    ((severity, sentence),) = said(checks.factory_name, asked(query("LRC1.thingpark.com"), query("a.example")))
    assert severity is Severity.INFO and "LRC1.thingpark.com," in sentence


def test_bytes_behind_a_message() -> None:
    ((severity, sentence),) = said(checks.trailing_bytes, asked(ASKED_A, ASKED_A + b"data"))
    assert severity is Severity.LOW and "4 bytes" in sentence


def test_a_name_that_does_not_resolve() -> None:
    refused = message(flags=0x8183)
    assert said(checks.no_answer, answered(refused, refused)) == [
        (Severity.INFO, "The name server answers NXDOMAIN for lns.lab.example.")
    ]
    assert NAME in refused


APART = (checks.no_answer, checks.over_tcp)
"""Of these a server may be guilty that does not answer, and a question that nothing came before."""


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_tunnels_of_the_corpus() -> None:
    fired = set()
    for truth, found in whole_captures():
        for each in found:
            if each.protocol == "dns":
                for check in checks.CHECKS:
                    if check not in APART and said(check, each.head):
                        fired.add((truth["name"], check.slug))
    assert fired == {(TUNNEL, "dns-tunnel-names"), (TUNNEL, "dns-tunnel-records")}


ODD = ("tls-dns-tunnel", "tls-dns-trailing-bytes", "tls-overlapping-fragments", "basics-dns-guessed")
"""Samples that were recorded to show what these checks flag."""
OTHERS = [path for path in samples.all_captures() if path.stem not in ODD]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_no_other_sample_is_a_tunnel(path: Path) -> None:
    for each in conversations.converse(flows.read([str(path)])).expand():
        if each.protocol == "dns":
            assert not [say for check in checks.CHECKS if check not in APART for say in said(check, each.head)]
