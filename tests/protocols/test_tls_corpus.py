"""TLS in real captures, compared with tshark.

``truth.jsonl`` in the folder named by TPE_PCAP_CORPUS holds what tshark reads of each capture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.conversations import Conversation, dissect_flows
from analyzer.flows import read
from analyzer.protocols import tls
from analyzer.protocols.tls import TlsFacts

CORPUS = os.environ.get("TPE_PCAP_CORPUS")

VERSIONS = {
    "SSLv2": "SSL 2.0",
    "SSLv3": "SSL 3.0",
    "TLSv1.0": "TLS 1.0",
    "TLSv1.1": "TLS 1.1",
    "TLSv1.2": "TLS 1.2",
    "TLSv1.3": "TLS 1.3",
}
BEGINS_OTHERWISE = {
    "zeek_ftp-auth-tls.pcap": "begins as FTP",
    "zeek_tls-12-amazon-rds.pcap": "begins as MySQL",
}


def captures() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name of each capture, and what tshark reads of its TLS streams."""
    if CORPUS:
        for line in (Path(CORPUS) / "truth.jsonl").read_text().splitlines():
            entry = json.loads(line)
            tls_streams = (stream for stream in entry.get("tls") or () if stream["kind"] == "tls")
            streams = [stream for stream in tls_streams if stream["handshake_seen"]]
            if streams and entry["name"] not in BEGINS_OTHERWISE:
                yield entry["name"], streams


def version_of(shown: str | None) -> str | None:
    """Name of a version that tshark shows as ``TLSv1.2`` or ``TLSv1.3-draft28``."""
    if shown is None:
        return None
    return f"TLS 1.3 draft {shown.split('-draft')[1]}" if "-draft" in shown else VERSIONS[shown]


def port(endpoint: str) -> int:
    return int(endpoint.rsplit(":", 1)[1])


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")
@pytest.mark.parametrize(("name", "streams"), list(captures()))
def test_real_handshakes_agree_with_tshark(name: str, streams: list[dict[str, Any]]) -> None:
    assert CORPUS
    found: dict[tuple[int | None, int | None], list[Conversation]] = {}
    for conversation in dissect_flows(read([str(Path(CORPUS) / name)])).expand():
        if conversation.protocol == tls.NAME:
            found.setdefault((conversation.originator.port, conversation.responder.port), []).append(conversation)
    for stream in streams:
        conversation = found[port(stream["client"]), port(stream["server"])].pop(0)
        facts = conversation.dissection.facts
        assert isinstance(facts, TlsFacts)
        assert facts.offered_version == version_of(stream["offered_max_version"])
        assert facts.version == version_of(stream.get("negotiated_version"))
        assert facts.server_name == stream["sni"]
        if facts.version != "SSL 2.0":  # tshark does not name its cipher kinds
            assert facts.cipher_suite == stream.get("cipher_suite_name")
        if "alpn" in stream:
            assert facts.alpn == (stream["alpn"],)
        alerts = [f"{alert['level']} {alert['name'].lower().replace(' ', '_')}" for alert in stream.get("alerts", ())]
        assert [alert.rsplit(" from ")[0] for alert in facts.alerts] == alerts
        assert bool(facts.client_certificate) == bool(stream.get("client_cert"))
        expected = stream.get("server_cert")
        assert bool(facts.certificates) == bool(expected)
        if expected and "not_before" in expected:
            own = facts.certificates[0]
            assert len(facts.certificates) == expected["chain_length"]
            assert own.not_before == expected["not_before"].replace(" ", "T")
            assert own.not_after == expected["not_after"].replace(" ", "T")
            assert own.signature == expected["signature_algorithm"]
            assert own._key_bits == expected["key_bits"]
