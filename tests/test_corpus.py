"""Flows of real captures against an independent truth.

The folder named by the environment variable ``TPE_PCAP_CORPUS`` holds captures of other projects and
``truth.jsonl``: one JSON object a capture with the flows as tshark and its companions see them. Without it, these
tests are skipped.
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
from analyzer.wire import Cause

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
pytestmark = pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")

AGREEMENT = 0.995
"""Share of all flows of the truth, explained or not, with which we must agree in everything."""

EXPLAINED = {
    "libpcap_AH-IPcomp-IPv4.pcap": (
        ["ip-51 30.0.0.1:0 40.0.0.2:0", "tcp 150.0.1.1:80 50.0.1.1:1026"],
        "AH is a flow of its own here, for AH in place of ESP must show; the truth looks through it.",
    ),
    "spicyipsec_IPsec_ESP-AH_tunnel_mode.cap": (
        ["esp 10.0.0.1:0 10.0.0.2:0", "ip-51 10.0.0.1:0 10.0.0.2:0"],
        "AH around ESP: a flow of its own here; the truth looks through it.",
    ),
    "zeek_ftp-auth-tls.pcap": (
        ["tcp 127.0.0.1:21 127.0.0.1:40284"],
        "FTP that goes on in TLS after AUTH TLS: it began as FTP, and its row is FTP's.",
    ),
}
"""Captures of which we see flows otherwise than the truth: the flows and why that is right."""

Key = tuple[str, frozenset[tuple[str, int]]]
"""Transport and the two endpoints."""


@dataclass
class Side:
    packets: int = 0
    bytes: int = 0


@dataclass
class Flow:
    """One entry of the truth, or all our flows of one transport between two endpoints."""

    initiator: tuple[str, int]
    certain: bool
    """The initiator follows from what the packets say, not from who was seen first."""
    sides: dict[tuple[str, int], Side] = field(default_factory=dict)
    protocols: set[str] = field(default_factory=set)
    first: int = 0
    whole: bool = True
    """False: some of the packets' lengths are not known here (ICMP errors, copies)."""

    def add(self, sender: tuple[str, int], packets: int, length: int) -> None:
        side = self.sides.setdefault(sender, Side())
        side.packets += packets
        side.bytes += length

    def sent(self, sender: tuple[str, int]) -> int:
        """Packets from one endpoint."""
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


@cache
def read(name: str) -> tuple[Conversation, ...]:
    assert CORPUS
    return tuple(list_flows(Path(CORPUS) / name).conversations.expand())


NUMBERS = {"pim": 103, "gre": 47, "ah": 51, "ospf": 89, "igmp": 2}
"""Names that the truth uses for IP protocols which we call by number."""


def expected_flows(truth: dict[str, Any]) -> dict[Key, Flow]:
    """The truth's flows; of tunnelled packets the innermost."""
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
        flow.sides[initiator].bytes = entry["bytes"]  # the truth tells the sum of both directions only
        if entry["app"]:
            flow.protocols.add(entry["app"])
        found[transport, frozenset((initiator, responder))] = flow
    return found


def our_flows(found: tuple[Conversation, ...]) -> dict[Key, Flow]:
    """Our flows in the truth's terms: by endpoints alone, and ICMP errors with the hosts that exchanged them."""
    ours: dict[Key, Flow] = {}

    def flow_of(transport: str, ends: tuple[tuple[str, int], tuple[str, int]], first: int, certain: bool) -> Flow:
        flow = ours.setdefault((transport, frozenset(ends)), Flow(initiator=ends[0], certain=certain, first=first))
        if first < flow.first:
            flow.initiator, flow.certain, flow.first = ends[0], certain, first
        return flow

    for each in found:
        ends = tuple((end.address, end.port or 0) for end in (each.originator, each.responder))
        flow = flow_of(each.transport, (ends[0], ends[1]), each.first, each.originator_certain)
        for end, packets, copies, length in zip(ends, each.packets, each.copies, each.bytes, strict=True):
            flow.add(end, packets + copies, length)  # the truth counts copies with what they are copies of
            flow.whole &= not copies
        if each.protocol:
            flow.protocols.add(each.protocol)
        for error in each.icmp_errors:
            sender, receiver = (error.sender, 0), (ends[error.quoted][0], 0)
            icmp = flow_of("icmpv6" if ":" in error.sender else "icmp", (sender, receiver), error.time, False)
            icmp.add(sender, 1, 0)
            icmp.whole = False
    return ours


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
"""tshark's names and ours; what is not listed is no protocol of ours and not compared."""


def differences(truth: dict[str, Any], found: tuple[Conversation, ...]) -> Iterator[tuple[Key, str]]:
    """Each flow that we see otherwise than the truth, and how."""
    expected, ours = expected_flows(truth), our_flows(found)
    for key, flow in expected.items():
        mine = ours.pop(key, None)
        if mine is None:
            yield key, "not found"
            continue
        if mine.packets != flow.packets:
            yield key, f"{mine.packets} packets, not {flow.packets}"
        elif mine.whole and mine.bytes != flow.bytes:
            yield key, f"{mine.bytes} bytes, not {flow.bytes}"
        elif (flow.certain or mine.certain) and mine.initiator != flow.initiator:
            yield key, f"initiator {mine.initiator}, not {flow.initiator}"
        elif mine.sent(flow.initiator) != flow.sent(flow.initiator):
            yield key, f"{mine.sent(flow.initiator)} packets from {flow.initiator}, not {flow.sent(flow.initiator)}"
        elif mine.protocols:
            names = set().union(*(SAME_PROTOCOL.get(name, mine.protocols) for name in flow.protocols))
            if names and not names & mine.protocols:
                yield key, f"protocol {sorted(mine.protocols)}, not {sorted(flow.protocols)}"
    if truth["flow_count"] == len(truth["flows"]):  # the truth lists 500 flows at most
        for key in ours:
            yield key, "not in the truth"


def spoken(key: Key) -> str:
    transport, ends = key
    return " ".join([transport, *sorted(f"{address}:{port}" for address, port in ends)])


@cache
def unexplained(name: str) -> tuple[list[str], int]:
    """The flows of a capture that differ for no known reason, each with the difference; and how many differ in all."""
    truth = TRUTHS[name]
    explained, _ = EXPLAINED.get(name, ([], ""))
    try:
        found = list(differences(truth, read(name)))
    except CaptureError as error:
        found = [(key, str(error)) for key in expected_flows(truth)]
    lines = [f"{spoken(key)}: {how}" for key, how in found if spoken(key) not in explained]
    return lines, len({key for key, _ in found})


@pytest.mark.parametrize("name", WHOLE)
def test_flows_agree_with_the_truth(name: str) -> None:
    assert unexplained(name)[0] == []


@pytest.mark.parametrize("name", EXPLAINED)
def test_no_difference_is_explained_that_is_none(name: str) -> None:
    explained, why = EXPLAINED[name]
    _, differing = unexplained(name)
    assert why
    assert differing == len(explained)


def test_overall_agreement() -> None:
    total = sum(len(expected_flows(TRUTHS[name])) for name in WHOLE)
    differing = sum(unexplained(name)[1] for name in WHOLE)
    assert total > 1000
    assert 1 - differing / total >= AGREEMENT


@pytest.mark.parametrize("name", TRUTHS)
def test_every_capture_is_read_or_refused_in_one_line(name: str) -> None:
    try:
        found = read(name)
    except CaptureError as error:
        assert str(error)
        assert "\n" not in str(error)
        return
    defects = [
        each.anomaly
        for conversation in found
        for each in conversation.dissection.parse_errors
        if each.anomaly.cause is Cause.DEFECT
    ]
    assert defects == []


@pytest.mark.parametrize("name", TRUTHS)
def test_every_capture_is_audited_or_refused(name: str) -> None:
    """Whatever it holds; and every flow that a finding or a row names is in the report."""
    assert CORPUS
    try:
        found = audit(Path(CORPUS) / name)
    except CaptureError:
        return
    known = {each.id for each in found.flows}
    assert {each.flow for each in found.findings if each.flow is not None} <= known


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in EXPLAINED])
def test_nothing_is_lost(name: str) -> None:
    """Every packet that tshark counts is in a flow, an ICMP error, or counted by the reason why not."""
    assert CORPUS
    tally = flows.read([str(Path(CORPUS) / name)]).counts
    assert tally.packets == TRUTHS[name]["packets"]
    counted = (
        tally.in_flows + tally.icmp_errors + tally.copies + sum(tally.not_ip.values()) + sum(tally.unreadable.values())
    )
    assert counted == tally.packets
