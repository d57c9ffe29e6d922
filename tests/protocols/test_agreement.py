"""TLS and SSH facts of real captures, compared field by field with tshark and openssl.

The folder ``TPE_PCAP_CORPUS`` (an environment variable) holds captures of other projects, and their values by tshark
and openssl in ``truth.jsonl``. Every flow that begins with TLS or SSH counts, also in damaged captures.
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
"""Minimum share of fields that must be equal, whoever is right about the others."""

OTHER_BEGINNINGS = {
    "zeek_ftp-auth-tls.pcap": b"220 ",
    "zeek_tls-12-amazon-rds.pcap": b"\x0a8.0.",
}
"""Captures whose flows begin as FTP or MySQL and switch to TLS, so that they belong to the first protocol → the first
bytes of the server (MySQL: after the packet header of 4 bytes)."""

DISAGREEMENTS = {
    ("zeek_server-pre-banner-data.pcap", "server_banner"): b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5\r\n",
    ("zeek_ssl-v2.pcap", "cipher_suite"): b"\x02\x07\x00\xc0",
}
"""Capture and field that tshark does not show → bytes of the capture that prove it: the identification string after
other lines (RFC 4253, section 4.2), and cipher kind SSL_CK_DES_192_EDE3_CBC_WITH_MD5 of a CLIENT-MASTER-KEY."""


def truths() -> Iterator[tuple[str, dict[str, Any]]]:
    if CORPUS:
        for line in (Path(CORPUS) / "truth.jsonl").read_text(encoding="utf-8").splitlines():
            truth = json.loads(line)
            if truth["name"] not in OTHER_BEGINNINGS and (truth.get("tls") or truth.get("ssh")):
                yield truth["name"], truth


def conversations(name: str) -> list[Conversation]:
    assert CORPUS
    return list(list_flows(Path(CORPUS) / name).conversations.expand())


def fields(truth: dict[str, Any], found: list[Conversation]) -> Iterator[tuple[str, object, object]]:
    """The fields of all streams: name, expected value, actual value."""

    def take_facts(stream: dict[str, Any], kind: type[TlsFacts] | type[SshFacts]) -> Any:
        """Facts of the first remaining conversation with the endpoints of a stream."""
        ends = {stream["client"], stream["server"]}
        for number, flow in enumerate(found):
            if isinstance(flow.dissection.facts, kind) and ends == {
                f"{end.address}:{end.port}" for end in (flow.originator, flow.responder)
            }:
                return found.pop(number).dissection.facts
        return kind()

    for stream in truth.get("tls") or ():
        if stream["kind"] != "tls" or "client" not in stream:
            continue  # DTLS, or a stream whose beginning is not in the capture
        facts = take_facts(stream, TlsFacts)
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
        facts = take_facts(stream, SshFacts)
        for name in ("client_banner", "server_banner"):
            yield name, stream[name], getattr(facts, name)


def test_fields_agree_with_tshark_and_openssl() -> None:
    compared, differing = 0, []
    for name, truth in truths():
        for field, wanted, shown in fields(truth, conversations(name)):
            if wanted is not None or shown is not None:
                compared += 1
                if wanted != shown:
                    differing.append((name, field))
    assert compared > 200
    assert 1 - len(differing) / compared >= AGREEMENT
    assert sorted(differing) == sorted(DISAGREEMENTS)


@pytest.mark.parametrize(("name", "field"), DISAGREEMENTS)
def test_the_packets_prove_every_disagreement(name: str, field: str) -> None:
    assert CORPUS
    assert DISAGREEMENTS[name, field] in (Path(CORPUS) / name).read_bytes()


@pytest.mark.parametrize("name", OTHER_BEGINNINGS)
def test_flows_that_begin_as_another_protocol_do(name: str) -> None:
    starts = [flow.head.streams[1].data[:16] for flow in conversations(name)]
    assert any(OTHER_BEGINNINGS[name] in start for start in starts)
