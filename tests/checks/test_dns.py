from __future__ import annotations

import random
from pathlib import Path

import pytest

from analyzer import conversations, flows
from analyzer.checks import dns as checks
from analyzer.findings import ContentCheck, Severity
from analyzer.heads import Head
from analyzer.protocols import dns
from tests.checks.test_ssh import fit_of, remarks
from tests.protocols.test_dns import ASKED_A, CORPUS, EXAMPLES, NAME, answered, asked, message, record, whole_captures

TUNNEL = "ndpi_dns-tunnel-iodine.pcap"


def said(check: ContentCheck, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(dns, head))


def query(name: str, kind: int = 1) -> bytes:
    wire = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return message(question=wire + b"\0" + kind.to_bytes(2, "big") + b"\0\1", flags=0x100)


def data_name(seed: int, labels: int = 1, length: int = 60) -> str:
    letters = random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz234567", k=labels * length)
    return ".".join("".join(letters[at * length : (at + 1) * length]) for at in range(labels)) + ".t.example"


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
@pytest.mark.parametrize("head", EXAMPLES)
def test_ordinary_lookups_are_fine(check: ContentCheck, head: Head) -> None:
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
    text = record(16, (b"\xff" + b"x" * 255) * 4)
    ((severity, sentence),) = said(checks.tunnel_records, answered(*[message(text)] * 3))
    assert severity is Severity.MEDIUM and "3072 bytes" in sentence
    assert said(checks.tunnel_records, answered(message(text))) == []


def test_bytes_behind_a_message() -> None:
    ((severity, sentence),) = said(checks.trailing_bytes, asked(ASKED_A, ASKED_A + b"data"))
    assert severity is Severity.LOW and "4 bytes" in sentence


def test_a_name_that_does_not_resolve() -> None:
    refused = message(flags=0x8183)
    assert said(checks.no_answer, answered(refused, refused)) == [
        (Severity.INFO, "The name server answers NXDOMAIN for lns.lab.example.")
    ]
    assert NAME in refused


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_tunnels_of_the_corpus() -> None:
    fired = set()
    for truth, found in whole_captures():
        for each in found:
            if each.protocol == "dns":
                for check in (checks.tunnel_names, checks.tunnel_records, checks.trailing_bytes):
                    if said(check, each.head):
                        fired.add((truth["name"], check.slug))
    assert fired == {(TUNNEL, "dns-tunnel-names"), (TUNNEL, "dns-tunnel-records")}


CAPTURES = Path(__file__).parents[2] / "captures"


ODD = ("tls-dns-tunnel", "tls-dns-trailing-bytes")
"""Samples that were recorded to show what these checks flag."""
OTHERS = sorted(path for path in CAPTURES.glob("*.pcap*") if path.stem not in ODD)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_no_other_sample_is_a_tunnel(path: Path) -> None:
    for each in conversations.converse(flows.read([str(path)])).alone():
        if each.protocol == "dns":
            assert [said(check, each.head) for check in checks.CHECKS[:3]] == [[], [], []]
