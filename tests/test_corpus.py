"""Captures that are not part of this repository, in the folders that environment variables name.

``TPE_PCAP_CORPUS`` holds captures of other projects and ``truth.jsonl``, a JSON object per capture with its flows
according to tshark and other tools. ``TPE_PCAP_FIELD``, ``TPE_PCAP_ADVERSARY``, ``TPE_PCAP_SAMPLES`` and
``TPE_PCAP_REPRO`` hold captures without a truth. Tests of a folder that is not named are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analyzer import flows
from analyzer.capture import CaptureError
from analyzer.conversations import Conversation
from analyzer.pipeline import audit, list_flows
from tests.fuzz.targets import assert_judged, assert_sound

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
needs_corpus = pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")
FOLDERS = ("CORPUS", "FIELD", "ADVERSARY", "SAMPLES", "REPRO")
NO_CAPTURES = {".md", ".jsonl", ".json", ".py", ".toml", ".txt", ".keylog", ".esp_sa", ".ikev2_decryption_table"}

AGREEMENT = 0.995
"""Minimum share of flows that agree with the truth in every field, with or without an explanation."""

EXPLAINED = {
    "libpcap_AH-IPcomp-IPv4.pcap": (
        ["ip-51 30.0.0.1:0 40.0.0.2:0", "tcp 150.0.1.1:80 50.0.1.1:1026"],
        "AH is a flow of its own here, because AH in place of ESP must be reported; the truth decapsulates it.",
    ),
    "spicyipsec_IPsec_ESP-AH_tunnel_mode.cap": (
        ["esp 10.0.0.1:0 10.0.0.2:0", "ip-51 10.0.0.1:0 10.0.0.2:0"],
        "AH around ESP is a flow of its own here; the truth decapsulates it.",
    ),
    "zeek_ftp-auth-tls.pcap": (
        ["tcp 127.0.0.1:21 127.0.0.1:40284"],
        "FTP that continues in TLS after AUTH TLS is FTP here, because its row is FTP's.",
    ),
}
"""Captures with flows that differ from the truth: the flows, and why the difference is right."""

Key = tuple[str, frozenset[tuple[str, int]]]
"""Transport and the two endpoints."""


@dataclass
class Side:
    packets: int = 0
    bytes: int = 0


@dataclass
class Flow:
    """One entry of the truth, or all flows of one transport between two endpoints."""

    initiator: tuple[str, int]
    certain: bool
    """Whether the initiator follows from packet contents, not only from the first packet."""
    sides: dict[tuple[str, int], Side] = field(default_factory=dict)
    protocols: set[str] = field(default_factory=set)
    first: int = 0
    whole: bool = True
    """False: the lengths of some packets are unknown (ICMP errors, duplicates)."""

    def add(self, sender: tuple[str, int], packets: int, length: int) -> None:
        side = self.sides.setdefault(sender, Side())
        side.packets += packets
        side.bytes += length

    def sent(self, sender: tuple[str, int]) -> int:
        """Packets of one endpoint."""
        return self.sides[sender].packets if sender in self.sides else 0

    @property
    def packets(self) -> int:
        return sum(side.packets for side in self.sides.values())

    @property
    def bytes(self) -> int:
        return sum(side.bytes for side in self.sides.values())


def truths() -> dict[str, dict[str, Any]]:
    if not CORPUS:
        return {}
    with (Path(CORPUS) / "truth.jsonl").open(encoding="utf-8") as file:
        return {entry["name"]: entry for entry in map(json.loads, file)}


TRUTHS = truths()
WHOLE = [name for name, truth in TRUTHS.items() if "malformed" not in truth["tags"] and not truth["malformed_frames"]]


def read(name: str) -> tuple[Conversation, ...]:
    assert CORPUS
    return tuple(list_flows(Path(CORPUS) / name).conversations.expand())


NUMBERS = {"pim": 103, "gre": 47, "ah": 51, "ospf": 89, "igmp": 2}
"""IP protocols that the truth names and this program numbers."""


def expected_flows(truth: dict[str, Any]) -> dict[Key, Flow]:
    """The flows of the truth; for tunnelled packets, the innermost."""
    found: dict[Key, Flow] = {}
    for entry in truth.get("inner_flows") or truth["flows"]:
        transport = entry["proto"]
        if transport in NUMBERS:
            transport = f"ip-{NUMBERS[transport]}"
        initiator = (entry["initiator_ip"], entry["initiator_port"] or 0)
        responder = (entry["responder_ip"], entry["responder_port"] or 0)
        flow = Flow(initiator=initiator, certain=entry["initiator_by"] == "syn")
        flow.add(initiator, entry["packets_from_initiator"], 0)
        flow.add(responder, entry["packets"] - entry["packets_from_initiator"], 0)
        flow.sides[initiator].bytes = entry["bytes"]  # the truth has only the sum of both directions
        if entry["app"]:
            flow.protocols.add(entry["app"])
        found[transport, frozenset((initiator, responder))] = flow
    return found


def found_flows(conversations: tuple[Conversation, ...]) -> dict[Key, Flow]:
    """Flows in the form of the truth: by endpoints, and ICMP errors between their sender and receiver."""
    flows_by_key: dict[Key, Flow] = {}

    def flow_of(transport: str, ends: tuple[tuple[str, int], tuple[str, int]], first: int, certain: bool) -> Flow:
        flow = flows_by_key.setdefault(
            (transport, frozenset(ends)), Flow(initiator=ends[0], certain=certain, first=first)
        )
        if first < flow.first:
            flow.initiator, flow.certain, flow.first = ends[0], certain, first
        return flow

    for conversation in conversations:
        ends = tuple((end.address, end.port or 0) for end in (conversation.originator, conversation.responder))
        flow = flow_of(conversation.transport, (ends[0], ends[1]), conversation.first, conversation.originator_certain)
        sides = zip(ends, conversation.packets, conversation.copies, conversation.bytes, strict=True)
        for end, packets, copies, length in sides:
            flow.add(end, packets + copies, length)  # the truth counts duplicates too
            flow.whole &= not copies
        if conversation.protocol:
            flow.protocols.add(conversation.protocol)
        for error in conversation.icmp_errors:
            sender, receiver = (error.sender, 0), (ends[error.quoted][0], 0)
            icmp = flow_of("icmpv6" if ":" in error.sender else "icmp", (sender, receiver), error.time, False)
            icmp.add(sender, 1, 0)
            icmp.whole = False
    return flows_by_key


SAME_PROTOCOL = {
    "tls": {"tls"},
    "ssh": {"ssh"},
    "isakmp": {"ike"},
    "udpencap": {"ike", "esp"},
    "iec60870_104": {"iec104"},
    "http": {"http"},
    "dns": {"dns"},
    "ntp": {"ntp"},
    "dhcp": {"dhcp"},
    "ftp": {"ftp"},
    "ftp-data": {"ftp-data"},
}
"""Names of tshark and of this program. Other protocols are not compared."""


def differences(truth: dict[str, Any], conversations: tuple[Conversation, ...]) -> Iterator[tuple[Key, str]]:
    """Every flow that differs from the truth, and how."""
    expected, found = expected_flows(truth), found_flows(conversations)
    for key, flow in expected.items():
        ours = found.pop(key, None)
        if ours is None:
            yield key, "not found"
            continue
        if ours.packets != flow.packets:
            yield key, f"{ours.packets} packets, not {flow.packets}"
        elif ours.whole and ours.bytes != flow.bytes:
            yield key, f"{ours.bytes} bytes, not {flow.bytes}"
        elif (flow.certain or ours.certain) and ours.initiator != flow.initiator:
            yield key, f"initiator {ours.initiator}, not {flow.initiator}"
        elif ours.sent(flow.initiator) != flow.sent(flow.initiator):
            yield key, f"{ours.sent(flow.initiator)} packets from {flow.initiator}, not {flow.sent(flow.initiator)}"
        elif ours.protocols:
            names = set().union(*(SAME_PROTOCOL.get(name, ours.protocols) for name in flow.protocols))
            if names and not names & ours.protocols:
                yield key, f"protocol {sorted(ours.protocols)}, not {sorted(flow.protocols)}"
    if truth["flow_count"] == len(truth["flows"]):  # otherwise the truth lists only the first 500
        for key in found:
            yield key, "not in the truth"


def describe(key: Key) -> str:
    transport, ends = key
    return " ".join([transport, *sorted(f"{address}:{port}" for address, port in ends)])


@cache
def unexplained(name: str) -> tuple[list[str], int]:
    """The differing flows of a capture without an explanation, and the number of all differing flows."""
    truth = TRUTHS[name]
    explained, _ = EXPLAINED.get(name, ([], ""))
    try:
        found = list(differences(truth, read(name)))
    except CaptureError as error:
        found = [(key, str(error)) for key in expected_flows(truth)]
    lines = [f"{describe(key)}: {how}" for key, how in found if describe(key) not in explained]
    return lines, len({key for key, _ in found})


# -- agreement with the truth -----------------------------------------------------------------------------------


@needs_corpus
@pytest.mark.parametrize("name", WHOLE)
def test_flows_agree_with_the_truth(name: str) -> None:
    assert unexplained(name)[0] == []


@needs_corpus
@pytest.mark.parametrize("name", EXPLAINED)
def test_every_explanation_is_needed(name: str) -> None:
    explained, reason = EXPLAINED[name]
    assert reason
    assert unexplained(name)[1] == len(explained)


@needs_corpus
def test_overall_agreement() -> None:
    total = sum(len(expected_flows(TRUTHS[name])) for name in WHOLE)
    differing = sum(unexplained(name)[1] for name in WHOLE)
    assert total > 1000
    assert 1 - differing / total >= AGREEMENT


@needs_corpus
@pytest.mark.parametrize("name", [name for name in WHOLE if name not in EXPLAINED])
def test_every_packet_is_counted(name: str) -> None:
    """Every packet that tshark counts is in a flow, an ICMP error, or counted with the reason why not."""
    assert CORPUS
    counts = flows.read([str(Path(CORPUS) / name)]).counts
    assert counts.packets == TRUTHS[name]["packets"]
    others = sum(counts.not_ip.values()) + sum(counts.unreadable.values())
    assert counts.packets == counts.in_flows + counts.icmp_errors + counts.copies + others


# -- all captures -----------------------------------------------------------------------------------------------


def outside_captures() -> list[Path]:
    """The captures of all folders that environment variables name."""
    folders = [os.environ.get(f"TPE_PCAP_{name}") for name in FOLDERS]
    paths = [path for folder in folders if folder for path in sorted(Path(folder).iterdir())]
    return [path for path in paths if path.is_file() and path.suffix not in NO_CAPTURES]


@pytest.mark.parametrize("path", outside_captures(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_capture_is_audited_or_refused_in_one_line(path: Path) -> None:
    try:
        result = audit(path)
    except CaptureError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert_judged(result)
    known = {conversation.id for conversation in result.flows}
    assert {finding.flow for finding in result.findings if finding.flow is not None} <= known
    for conversation in result.conversations:
        assert_sound(conversation.dissection)
