"""Address translation: the same conversation on both sides of a NAT."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedTable
from analyzer.flows import Flows
from analyzer.heads import DIRECTIONS
from analyzer.protocols import esp, ike, ssh, tls

NEAR = 20_000_000
"""Nanoseconds within which a router forwards a packet."""

NEIGHBOURS = 2
"""Conversations of a server that are compared with each one before them, so that floods cost little."""

ICMP_HEADER = 8
"""Bytes of an ICMP echo header, of which a NAT changes identifier and checksum."""


BEGUN = 1 << 20
"""Weight of a conversation whose beginning is in the capture, above that of any number of others."""

RANDOM = (tls.NAME, ssh.NAME, ike.NAME, esp.NAME)
"""Protocols whose content no two conversations share, as both sides put random bytes into it."""


class Translation(NamedTuple):
    """What a capture on both sides of a NAT shows twice."""

    addresses: Mapping[str, str]
    """Outer → inner address of hosts behind an outer address that no other host of the capture shares."""
    copies: frozenset[int]
    """Ids of the outer conversations of which the capture holds the inner one."""


NONE = Translation({}, frozenset())


def find_translation(
    conversations: Sequence[Conversation], tables: Mapping[str, ExpectedTable], table: Flows | None = None
) -> Translation:
    """Find hosts whose conversations the capture shows on both sides of a NAT, by those of signature rows.

    ``table``: the flow table, which has the sequence numbers.
    """
    services = {
        (row.transport, port) for table in tables.values() for row in table.flows if row.signature for port in row.ports
    }
    signatures = (flow for flow in conversations if (flow.transport, flow.responder.port) in services)
    pairs: dict[tuple[str, str], int] = {}
    """(outer, inner) address → weight of the conversations that show it."""
    for flows in by_server(filter(is_comparable, signatures)).values():
        begins = first_bytes(flows, table)
        for index, flow in enumerate(flows):
            for near in range(index + 1, min(index + 1 + NEIGHBOURS, len(flows))):
                if begins[index] == begins[near] and is_same(flow, flows[near], table):
                    pair = outer_and_inner(flow, flows[near])
                    pairs[pair] = pairs.get(pair, 0) + (BEGUN if flow.originator_certain else 1)
    if not pairs:
        return NONE
    inner: dict[str, set[str]] = defaultdict(set)
    for (outside, inside), weight in pairs.items():
        # Of a conversation without its beginning, a packet of the server may come first, which is outside first.
        if weight > pairs.get((inside, outside), 0):
            inner[outside].add(inside)
    alone = {outside: min(insides) for outside, insides in inner.items() if len(insides) == 1}
    ends = {address for pair in pairs for address in pair}
    own = by_server(flow for flow in conversations if flow.originator.address in ends)
    return Translation(alone, frozenset(flow for flows in own.values() for flow in copies_among(flows, inner, table)))


def is_comparable(conversation: Conversation) -> bool:
    """Whether both directions of a conversation have payload, or the capture lacks one of them."""
    return all(conversation.payload) or (any(conversation.payload) and not all(conversation.packets))


def by_server(conversations: Iterable[Conversation]) -> dict[object, list[Conversation]]:
    """Conversations by transport and server, those that several clients have, ascending by time."""
    groups: dict[object, list[Conversation]] = defaultdict(list)
    for flow in conversations:
        groups[flow.transport, flow.responder].append(flow)
    return {
        key: sorted(flows, key=lambda flow: flow.first)
        for key, flows in groups.items()
        if len({flow.originator.address for flow in flows}) > 1
    }


def is_same(one: Conversation, other: Conversation, table: Flows | None) -> bool:
    """Whether two conversations of different clients with one server have the same bytes, which no two hosts have by
    chance, at the same time."""
    if one.originator.address == other.originator.address or one.flow_count != other.flow_count:
        return False
    if abs(one.first - other.first) > NEAR:
        return False
    numbered = one.transport == "tcp" and one.protocol not in RANDOM
    if numbered and sequence_numbers(one, table) != sequence_numbers(other, table):
        return False
    return all(map(begin_equally, content(one), content(other)))


def begin_equally(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether the shorter one of two sequences is the beginning of the other: the capture may end between them."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter] and (shorter > 0 or len(one) == len(other))


def sequence_numbers(conversation: Conversation, table: Flows | None) -> object:
    """TCP: the first sequence numbers of both directions; without the flow table, the conversation itself."""
    if table is None:
        return conversation.id
    bases = table.side["base"][conversation.id - 1].tolist()
    return bases[conversation.side], bases[1 - conversation.side]


def first_bytes(flows: Sequence[Conversation], table: Flows | None) -> list[bytes]:
    """The beginning of the first kept payload of each conversation with one server, if it is of TCP: it tells most of
    them apart at little cost."""
    if table is None or not flows or flows[0].transport != "tcp":
        return [b""] * len(flows)
    return table.first_payloads(np.array([flow.id - 1 for flow in flows], np.intp), FIRST_BYTES)


FIRST_BYTES = 64
"""Bytes of a ClientHello with its random, of a banner, of an APDU."""


def content(conversation: Conversation) -> list[Sequence[object]]:
    """What a NAT leaves unchanged in the kept payload of a conversation, by direction."""
    head = conversation.head
    if conversation.transport == "tcp":
        return [head.streams[direction].data for direction in DIRECTIONS]
    skipped = ICMP_HEADER if conversation.transport in ("icmp", "icmpv6") else 0
    return [
        [(datagram.data[:1], datagram.data[skipped:]) for datagram in head.datagrams if datagram.direction is direction]
        for direction in DIRECTIONS
    ]


def outer_and_inner(earlier: Conversation, later: Conversation) -> tuple[str, str]:
    """(outer, inner) address of two equal conversations. A client's packet is captured inside first."""
    one, other = earlier.originator.address, later.originator.address
    if not earlier.originator_certain:
        private = [ipaddress.ip_address(address).is_private for address in (one, other)]
        if private == [False, True]:
            return one, other
    return other, one


def copies_among(flows: Sequence[Conversation], inner: Mapping[str, set[str]], table: Flows | None) -> Iterable[int]:
    """Ids of the outer conversations with an inner one among conversations with one server.

    ``inner``: outer address → inner addresses.
    """
    times = [flow.first for flow in flows]
    begins = first_bytes(flows, table)
    used: set[int] = set()
    for flow, begin in zip(flows, begins, strict=True):
        insides = inner.get(flow.originator.address, set())
        if not insides:
            continue
        index = bisect_left(times, flow.first - NEAR)
        while index < len(flows) and times[index] <= flow.first + NEAR:
            other = flows[index]
            unused = other.originator.address in insides and other.id not in used
            if unused and begin == begins[index] and is_same(flow, other, table):
                used.add(other.id)
                yield flow.id
                break
            index += 1
