"""What TLS and SSH show of real captures, field by field, against an independent truth.

The folder named by the environment variable ``TPE_PCAP_CORPUS`` holds captures of other projects and ``truth.jsonl``,
what tshark and openssl say of them. Every flow that begins with TLS or SSH counts, in damaged captures, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.conversations import Conversation
from analyzer.pipeline import list_flows
from analyzer.protocols.ssh import SshFacts
from analyzer.protocols.tls import TlsFacts
from tests.protocols.test_tls_corpus import version_of

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
pytestmark = pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")

AGREEMENT = 0.99
"""Share of all fields in which we must agree with the truth, be it right or wrong."""

BEGINS_OTHERWISE = {
    "zeek_ftp-auth-tls.pcap": b"220 ",
    "zeek_tls-12-amazon-rds.pcap": b"\x0a8.0.",
}
"""Flows that begin as FTP or MySQL and go on in TLS: they are that protocol's. With them: what their server says first
(of MySQL behind the packet header of 4 bytes)."""

WRONG = {
    ("zeek_server-pre-banner-data.pcap", "server_banner"): b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5\r\n",
    ("zeek_ssl-v2.pcap", "cipher_suite"): b"\x02\x07\x00\xc0",
}
"""Fields that tshark does not see, and bytes of the capture that show them: the identification string behind other
lines (RFC 4253 section 4.2), and the cipher kind SSL_CK_DES_192_EDE3_CBC_WITH_MD5 of a CLIENT-MASTER-KEY."""


def truths() -> Iterator[tuple[str, dict[str, Any]]]:
    if CORPUS:
        for line in (Path(CORPUS) / "truth.jsonl").read_text(encoding="utf-8").splitlines():
            truth = json.loads(line)
            if truth["name"] not in BEGINS_OTHERWISE and (truth.get("tls") or truth.get("ssh")):
                yield truth["name"], truth


def conversations(name: str) -> list[Conversation]:
    assert CORPUS
    return list(list_flows(Path(CORPUS) / name).conversations.expand())


def fields(truth: dict[str, Any], found: list[Conversation]) -> Iterator[tuple[str, object, object]]:
    """Each field that the truth or we see: its name, what the truth says, what we say."""

    def said(stream: dict[str, Any], kind: type[TlsFacts] | type[SshFacts]) -> Any:
        """Facts of the first conversation of a stream's ends that no other stream has taken."""
        ends = {stream["client"], stream["server"]}
        for number, each in enumerate(found):
            if isinstance(each.dissection.facts, kind) and ends == {
                f"{end.address}:{end.port}" for end in (each.originator, each.responder)
            }:
                return found.pop(number).dissection.facts
        return kind()

    for stream in truth.get("tls") or ():
        if stream["kind"] != "tls" or "client" not in stream:
            continue  # DTLS; or records of a stream whose beginning was not captured
        facts = said(stream, TlsFacts)
        wanted = stream.get("server_cert") or {}
        own = facts.certificates[0] if facts.certificates else None
        for name in ("not_before", "not_after"):
            date = wanted[name].replace(" ", "T") if name in wanted else None
            yield name, date, getattr(own, name, None)
        yield "offered_version", version_of(stream.get("offered_max_version")), facts.offered_version
        yield "version", version_of(stream.get("negotiated_version")), facts.version
        yield "cipher_suite", stream.get("cipher_suite_name"), facts.cipher_suite
        yield "server_name", stream.get("sni"), facts.server_name
    for stream in truth.get("ssh") or ():
        facts = said(stream, SshFacts)
        for name in ("client_banner", "server_banner"):
            yield name, stream[name], getattr(facts, name)


def test_agreement() -> None:
    compared, differing = 0, []
    for name, truth in truths():
        for field, wanted, shown in fields(truth, conversations(name)):
            if wanted is not None or shown is not None:
                compared += 1
                if wanted != shown:
                    differing.append((name, field))
    assert compared > 200
    assert 1 - len(differing) / compared >= AGREEMENT
    assert sorted(differing) == sorted(WRONG)


@pytest.mark.parametrize(("name", "field"), WRONG)
def test_where_we_differ_the_packets_are_on_our_side(name: str, field: str) -> None:
    assert CORPUS
    assert WRONG[name, field] in (Path(CORPUS) / name).read_bytes()


@pytest.mark.parametrize("name", BEGINS_OTHERWISE)
def test_what_begins_otherwise_does(name: str) -> None:
    starts = [each.head.streams[1].data[:16] for each in conversations(name)]
    assert any(BEGINS_OTHERWISE[name] in start for start in starts)
