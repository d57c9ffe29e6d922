"""Signatures: flows of signature rows, and the addresses that open them."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from analyzer.conversations import Conversation, State
from analyzer.dataclass import dataclass
from analyzer.expected import ExpectedFlow, ExpectedTable, Occurrence, UsageError
from analyzer.heads import Direction
from analyzer.messages import messages
from analyzer.outcomes import Outcome, Stage, outcome
from analyzer.protocols import esp, http, ike, tls
from analyzer.services import carries_esp, has_service

MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")

PLAIN = "plain"
"""The mode without protection."""

HTTPS = 443
"""TCP port of HTTPS, which hosts of every kind use."""


@dataclass(frozen=True, slots=True)
class NamedHosts:
    """Hosts that the user named by address, network (``10.0.0.0/8``) or, base stations only, MAC address.

    Raises :class:`UsageError` for anything else.
    """

    base_stations: tuple[str, ...] = ()
    tpe: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.base_stations, *self.tpe):
            if not (MAC.fullmatch(name) and name in self.base_stations):
                try:
                    ipaddress.ip_network(name, strict=False)
                except ValueError:
                    raise UsageError(f"{name!r} is no address, network or MAC address") from None

    @property
    def macs(self) -> frozenset[str]:
        """MAC addresses that the user named as base stations', as the capture has them."""
        return frozenset(name.lower().replace("-", ":") for name in self.base_stations if MAC.fullmatch(name))

    def is_station(self, address: str, mac: str | None) -> bool:
        return any(is_named(name, address, mac) for name in self.base_stations)

    def is_tpe(self, address: str) -> bool:
        return any(is_named(name, address, None) for name in self.tpe)

    def side(self, address: str, mac: str | None) -> int:
        """1 for a base station, -1 for TPE, 0 for a host named as neither or as both."""
        return self.is_station(address, mac) - self.is_tpe(address)


def is_named(name: str, address: str, mac: str | None) -> bool:
    """Whether a name is the host's address or MAC address, or the name of a network with the host in it."""
    if MAC.fullmatch(name):
        return mac == name.lower().replace("-", ":")
    return ipaddress.ip_address(address) in ipaddress.ip_network(name, strict=False)


class Rank(enum.IntEnum):
    """Weight of a signature as evidence."""

    WEB = 0
    """HTTPS on TCP/443 whose content is not Basics Station's."""
    TRIED = 1
    """The server sent nothing of its own."""
    ANSWERED = 2
    """The server sent something of its own."""
    SERVED = 3
    """The server did what the row is for."""


class Signature(NamedTuple):
    """A conversation whose transport, port and direction identify its client as a base station in the row's mode."""

    row: ExpectedFlow
    conversation: Conversation
    client: str
    """Address of the end at which the row has the base station."""
    server: str
    result: Outcome
    """How far the conversation came at the row."""
    outcome: Rank
    """How far the conversation came: tried, answered or served."""
    rank: Rank
    """The weight of the conversation as evidence."""


def make_signature(row: ExpectedFlow, conversation: Conversation, client: str, server: str) -> Signature:
    """The signature that a conversation with a row's service is."""
    result = outcome(conversation, row)
    rank = RANKS[result.stage]
    if rank is Rank.SERVED and conversation.protocol not in (row.protocol, None):
        carries_row = row.protocol == esp.NAME and carries_esp(conversation)
        rank = rank if carries_row else Rank.ANSWERED
    return Signature(row, conversation, client, server, result, rank, Rank.WEB if is_web(conversation) else rank)


RANKS = {Stage.TRIED: Rank.TRIED, Stage.ANSWERED: Rank.ANSWERED, Stage.SERVED: Rank.SERVED}


def is_web(conversation: Conversation) -> bool:
    """Whether a conversation is on TCP/443 and shows nothing of Basics Station."""
    if conversation.responder.port != HTTPS or conversation.transport != "tcp":
        return False
    facts = conversation.dissection.facts
    if isinstance(facts, tls.TlsFacts):
        return not (facts.client_hint or "").startswith("Basics Station")
    return not (isinstance(facts, http.HttpFacts) and facts.service is not None)


def lives_on(signature: Signature) -> bool:
    """Whether a conversation of a continuous row carries payload after two of the row's periods, or began before the
    capture."""
    row, conversation = signature.row, signature.conversation
    if row.occurrence is not Occurrence.CONTINUOUS or row.period is None:
        return False
    carried = (max(conversation.newest) - conversation.first) / 1e9
    return conversation.state is State.MIDSTREAM or carried > 2 * row.period


def client_and_server(row: ExpectedFlow, conversation: Conversation, named: NamedHosts) -> tuple[str, str]:
    """(base station's end, other end) of a conversation that has a row's service.

    If either end may open the row's flows, the hosts that the user named decide; then the initiator flag of IKEv2,
    which every message has (RFC 7296 section 3.1); then who sent the first packet.
    """
    originator, responder = conversation.originator.address, conversation.responder.address
    if not row.bidirectional:
        return originator, responder
    side = named.side(originator, conversation.macs[0]) - named.side(responder, conversation.macs[1])
    if side:
        return (originator, responder) if side > 0 else (responder, originator)
    if conversation.protocol == ike.NAME:
        for item, header in messages(conversation.dissection.items, ike.IkeHeader):
            if header.major >= 2:
                by_originator = (item.direction is Direction.ORIGINATOR) == bool(header.flags & 0x08)
                return (originator, responder) if by_originator else (responder, originator)
    return originator, responder


def furthest(signatures: Iterable[Signature], value: Callable[[Signature], Rank]) -> tuple[Rank, Signature]:
    """The highest value among signatures, with the first that has it."""
    found: tuple[Rank, Signature] | None = None
    for signature in signatures:
        rank = value(signature)
        if found is None or rank > found[0]:
            found = rank, signature
        if rank is Rank.SERVED:
            break
    assert found is not None
    return found


def best_by_row_and_server(
    signatures: Iterable[Signature], value: Callable[[Signature], Rank]
) -> dict[tuple[str, str], Rank]:
    """(row id, server) → the highest value of its signatures."""
    best: dict[tuple[str, str], Rank] = {}
    for signature in signatures:
        key, rank = (signature.row.id, signature.server), value(signature)
        if key not in best or rank > best[key]:
            best[key] = rank
    return best


ALL_ROWS = "*"
"""Stands for all signature rows of a mode: a base station holds its lasting link, whatever else it uses or does not."""


@dataclass
class Candidate:
    """An address that may be a base station's."""

    signatures: list[Signature] = field(default_factory=list)

    @cached_property
    def ranks(self) -> dict[tuple[str, str], Rank]:
        """(row id, server) → the rank of its best signature."""
        return best_by_row_and_server(self.signatures, attrgetter("rank"))

    @property
    def rank(self) -> Rank:
        """The rank of the best signature."""
        return max(self.ranks.values())

    @cached_property
    def served(self) -> dict[str, dict[str, frozenset[str]]]:
        """Server → mode → the rows that it served; ``*`` stands for all of them, where a lasting link is up."""
        found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for signature in self.signatures:
            row, server = signature.row, signature.server
            if self.ranks[row.id, server] is Rank.SERVED:
                found[server][row.mode].add(row.id)
                if lives_on(signature) and signature.outcome is Rank.SERVED:
                    found[server][row.mode].add(ALL_ROWS)
        return {server: {mode: frozenset(rows) for mode, rows in modes.items()} for server, modes in found.items()}

    @cached_property
    def served_one_way(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Mode → row → up to two servers that served it, of rows that base stations alone open."""
        one_way = {signature.row.id for signature in self.signatures if not signature.row.bidirectional}
        found: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        for server, modes in self.served.items():
            for mode, rows in modes.items():
                if rows & one_way:
                    for row in rows & (one_way | {ALL_ROWS}):
                        found[mode][row] = (*found[mode].get(row, ()), server)[:2]
        return found

    def servers(self) -> set[str]:
        """Servers of the signatures with the best rank."""
        best = self.rank
        return {server for (_, server), rank in self.ranks.items() if rank is best}

    def order(self) -> tuple[int, int, int, int]:
        """Sort key, best evidence first: rank, rows with that rank, rows attempted, first seen."""
        best = self.rank
        rows = {row for (row, _), rank in self.ranks.items() if rank is best}
        attempted = {row for row, _ in self.ranks}
        return -best, -len(rows), -len(attempted), min(signature.conversation.id for signature in self.signatures)


def find_candidates(
    conversations: Iterable[Conversation], tables: Mapping[str, ExpectedTable], named: NamedHosts
) -> dict[str, Candidate]:
    """Addresses that originate a flow of a signature row; if the user named TPE, of flows to TPE only."""
    rows = [row for table in tables.values() for row in table.flows if row.signature]
    by_service = defaultdict(list)
    for row in rows:
        for port in row.ports:
            by_service[row.transport, port].append(row)
    without_ports = [row for row in rows if not row.ports]
    candidates: dict[str, Candidate] = defaultdict(Candidate)
    for conversation in conversations:
        transport, service = conversation.transport, conversation.responder.port
        possible = by_service.get((transport, service), []) if service is not None else []
        if transport in ("esp", "ip-51") or carries_esp(conversation):
            possible = [*possible, *without_ports]
        for row in possible:
            if has_service(row, conversation):
                client, server = client_and_server(row, conversation, named)
                if not named.tpe or named.is_tpe(server):
                    candidates[client].signatures.append(make_signature(row, conversation, client, server))
    return candidates


def is_kept_out(signature: Signature) -> bool:
    """Whether a conversation was refused, or never served. A client that closes an accepted connection before it sends
    a byte is not kept out: health checks do so."""
    conversation = signature.conversation
    if signature.outcome is Rank.SERVED:
        return False
    if conversation.state is not State.ESTABLISHED or conversation.payload[Direction.ORIGINATOR]:
        return True
    return conversation.refused is not None or conversation.closed_by is Direction.RESPONDER
