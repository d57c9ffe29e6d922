"""IKE in real captures, compared with tshark.

``truth.jsonl`` in the folder named by TPE_PCAP_CORPUS holds what tshark reads of each capture.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer import flows
from analyzer.conversations import dissect_flows
from analyzer.protocols import ike

CORPUS = os.environ.get("TPE_PCAP_CORPUS")

NOT_IKE = {"tcpdump_ikev1_id_ipv6_addr_subnet-oobr.pcap", "tcpdump_isakmp-delete-segfault.pcap"}
"""Captures of forged bytes that tshark calls IKE because of their port; see :func:`is_impossible`."""

Algorithms = set[tuple[str, int, int | None]]
"""A proposal as a set of (kind of algorithm, ID, key length in bits)."""
TRANSFORM_KINDS = {1: "encr", 2: "prf", 3: "integ", 4: "dh"}


def captures() -> Iterator[dict[str, Any]]:
    """What tshark reads of each capture with IKE messages."""
    if CORPUS:
        for line in (Path(CORPUS) / "truth.jsonl").read_text().splitlines():
            truth = json.loads(line)
            if truth.get("ike", {}).get("message_count"):
                yield truth


def expected_algorithms(proposals: Iterable[dict[str, Any]] | None) -> list[Algorithms]:
    """Proposals as tshark reads them; each IKEv1 transform is a proposal of its own."""
    ikev1_fields = {"encryption_id": "encr", "hash_id": "hash", "dh_group": "dh"}
    found = []
    for proposal in proposals or ():
        algorithms: Algorithms = {
            (kind, transform["id"], transform.get("key_length"))
            for kind in TRANSFORM_KINDS.values()
            for transform in proposal.get(kind, ())
        }
        if not algorithms:
            algorithms = {
                (kind, proposal[field], proposal.get("key_length") if kind == "encr" else None)
                for field, kind in ikev1_fields.items()
                if field in proposal
            }
        found.append(algorithms)
    return found


def algorithms_read(proposals: Iterable[ike.Proposal]) -> list[Algorithms]:
    """Proposals as the dissector reads them, in the same form."""
    found: list[Algorithms] = []
    for proposal in proposals:
        for transform in proposal.isakmp_transforms:
            values = (("encr", transform.value(1)), ("hash", transform.value(2)), ("dh", transform.value(4)))
            bits = transform.value(14)
            found.append(
                {(kind, value, bits if kind == "encr" else None) for kind, value in values if value is not None}
            )
        if proposal.ikev2_transforms:
            found.append({(TRANSFORM_KINDS[kind], number, bits) for kind, number, bits in proposal.ikev2_transforms})
    return found


def is_impossible(message: dict[str, Any]) -> bool:
    """Whether a message cannot be IKE: its version does not exist, or no datagram is that long."""
    return message["version"] not in ("1.0", "2.0") or message["length"] > 0xFFFF


def comparisons(truth: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Everything read of the SAs and messages of one capture: subject, our reading, tshark's."""
    sas: defaultdict[str, list[ike.IkeSa]] = defaultdict(list)
    headers: dict[int, ike.IkeHeader] = {}
    for conversation in dissect_flows(flows.read([str(Path(CORPUS or "") / truth["name"])])).expand():
        if isinstance(conversation.dissection.facts, ike.IkeFacts):
            for sa in conversation.dissection.facts._sas:
                sas[sa.initiator_spi].append(sa)
            for item in conversation.dissection.items:
                if isinstance(item.message, ike.IkeHeader):
                    headers[item.frame.number] = item.message
    for expected in truth["ike"]["sas"]:
        yield from sa_comparisons(sas[expected["ispi"]], expected, truth["ike"]["messages"])
    compared: set[tuple[object, ...]] = set()
    for expected in truth["ike"]["messages"]:
        header = headers.get(expected["frame"])
        fields = tuple(expected.get(key) for key in ("ispi", "exchange_type", "message_id", "length"))
        datagram = (expected["src"], expected["dst"], *fields)
        if header is None and datagram in compared:
            continue  # a copy captured on another interface
        compared.add(datagram)
        ours = header and (header.initiator_spi.hex(), header.exchange, header.message_id, header.length)
        yield "message", ours, fields


def sa_comparisons(
    sas: list[ike.IkeSa], expected: dict[str, Any], messages: list[dict[str, Any]]
) -> Iterator[tuple[str, object, object]]:
    offered = next((algorithms_read(sa.proposals) for sa in reversed(sas) if sa.proposals), [])
    chosen = next((algorithms_read(sa.choices) for sa in reversed(sas) if sa.choices), [])
    yield "version", {f"{sa.major}.0" for sa in sas}, {expected["version"]}
    # strongSwan changes the order of its proposals when it retries with another group.
    yield "offered", as_sorted(offered), as_sorted(expected_algorithms(expected["offered"]))
    yield "chosen", chosen, expected_algorithms(expected["chosen"])
    # By number, because tshark's names lack IKE_INTERMEDIATE.
    exchanges = (message.get("exchange_type") for message in messages if message["ispi"] == expected["ispi"])
    yield "exchanges", list(dict.fromkeys(kind for sa in sas for kind in sa.exchanges)), list(dict.fromkeys(exchanges))


def as_sorted(proposals: list[Algorithms]) -> list[str]:
    return sorted(str(sorted(algorithms, key=str)) for algorithms in proposals)


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of real captures")
def test_real_captures_agree_with_tshark() -> None:
    compared = 0
    for truth in captures():
        if truth["name"] in NOT_IKE:
            assert all(map(is_impossible, truth["ike"]["messages"]))
            assert not any(ours for subject, ours, _ in comparisons(truth) if subject in ("version", "message"))
            continue
        for subject, ours, expected in comparisons(truth):
            assert ours == expected, f"{truth['name']}: {subject}"
            compared += 1
    assert compared >= 300
