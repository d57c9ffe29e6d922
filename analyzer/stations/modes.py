"""The mode of a base station."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.expected import ExpectedTable
from analyzer.services import has_service
from analyzer.stations.recognition import Station
from analyzer.stations.signatures import PLAIN, Rank, Signature, best_by_row_and_server, furthest, lives_on

UNKNOWN = "unknown"
"""Name of the mode of a base station of which the capture shows no signature row."""

PREFERENCE = ("ipsec", "tls", "basics", "plain")
"""Modes with equal evidence, the preferred one first: a protected mode is the intention, cleartext the deviation."""


@dataclass(frozen=True, slots=True)
class Mode:
    """The connectivity mode of a base station."""

    name: str
    """``ipsec``, ``tls``, ``plain``, ``basics`` or ``unknown``."""
    evidence: tuple[str, ...]
    """The evidence, one clause each."""
    signatures: tuple[Signature, ...]
    """The conversations that show the mode."""
    contradicting: tuple[Signature, ...] = ()
    """Conversations that show another mode and match no row of this one."""


def detect_mode(station: Station, tables: Mapping[str, ExpectedTable], override: str | None = None) -> Mode:
    """The mode whose signature rows a base station uses: the best evidence, then the order of :data:`PREFERENCE`."""
    by_mode: dict[str, list[Signature]] = {}
    for signature in without_other_websites(station.signatures):
        by_mode.setdefault(signature.row.mode, []).append(signature)
    if not by_mode and override is None:
        return Mode(UNKNOWN, ("no flow of any mode's signature rows",), ())
    name = preferred_mode(by_mode, tables) if override is None else override
    evidence = tuple(clauses(by_mode[name])) if override is None else ("named by the user",)
    rows = tables[name].flows
    others = (signature for mode, signatures in by_mode.items() if mode != name for signature in signatures)
    contradicting = tuple(
        signature for signature in others if not any(has_service(row, signature.conversation) for row in rows)
    )
    return Mode(name, evidence, tuple(by_mode.get(name, ())), contradicting)


def without_other_websites(signatures: Sequence[Signature]) -> Sequence[Signature]:
    """The signatures, without HTTPS to servers that no other signature shows to be TPE, if there are any others."""
    servers = {signature.server for signature in signatures if signature.rank is not Rank.WEB}
    if not servers:
        return signatures
    return [signature for signature in signatures if signature.server in servers]


def contradictions_at(mode: Mode, tpe: frozenset[str]) -> Mode:
    """The mode, contradicted by flows to TPE only, whose content may be that of the other mode's row."""
    contradicting = tuple(
        signature
        for signature in mode.contradicting
        if signature.server in tpe
        and (
            signature.outcome is not Rank.ANSWERED or signature.conversation.protocol in (None, signature.row.protocol)
        )
    )
    return replace(mode, contradicting=contradicting)


def preferred_mode(by_mode: Mapping[str, Sequence[Signature]], tables: Mapping[str, ExpectedTable]) -> str:
    """The mode with the best evidence; of equals, the first by :data:`PREFERENCE`.

    Half a tunnel with another host gives way to a mode of which all signature rows were served: whoever exchanges ESP
    packets with a base station in mode tls does not change its mode.
    """
    if len(by_mode) == 1:
        return next(iter(by_mode))
    order = (*PREFERENCE, *sorted(by_mode.keys() - set(PREFERENCE)))
    best: dict[str, Rank] = {}
    for mode, signatures in by_mode.items():
        others = [tables[other] for other in by_mode if other != mode]
        best[mode], _ = furthest(signatures, partial(weight, others=others))
    leaders = sorted((mode for mode in by_mode if best[mode] is max(best.values())), key=order.index)
    first = leaders[0]
    if first == PREFERENCE[0] and best[first] is Rank.SERVED:
        shares = {mode: served_share(by_mode[mode], tables[mode]) for mode in leaders}
        share, servers = shares[first]
        whole = (
            mode for mode in leaders if mode != PLAIN and shares[mode][0] == 1 and servers.isdisjoint(shares[mode][1])
        )
        first = next(whole, first) if share < 1 else first
    return first


def served_share(signatures: Iterable[Signature], table: ExpectedTable) -> tuple[float, set[str]]:
    """The share of a mode's signature rows that were served, and the servers."""
    ranks = best_by_row_and_server(signatures, attrgetter("outcome"))
    served = [key for key, rank in ranks.items() if rank is Rank.SERVED]
    return len({row for row, _ in served}) / sum(row.signature for row in table.flows), {server for _, server in served}


def weight(signature: Signature, others: Sequence[ExpectedTable]) -> Rank:
    """The weight of a signature as evidence for its mode rather than for the modes of other tables.

    A flow that another of the tables lists, too, weighs no more than an attempt, unless it lives on as only a
    continuous row of its own mode does: in mode ipsec, TLS on 3001 to 3003 checks certificates and ends.
    """
    shared = any(has_service(row, signature.conversation) for table in others for row in table.flows)
    if shared and not lives_on(signature):
        return min(signature.rank, Rank.TRIED)
    return signature.rank


OUTCOMES = {Rank.TRIED: "attempted", Rank.ANSWERED: "answered", Rank.SERVED: "served"}
"""How far the best conversation of a row came, in words."""


def clauses(signatures: Sequence[Signature]) -> Iterator[str]:
    """The evidence for a mode: per row, its best conversation and the number of others."""
    by_row: dict[str, list[Signature]] = {}
    for signature in signatures:
        by_row.setdefault(signature.row.id, []).append(signature)
    for row, own in by_row.items():
        outcome, best = furthest(own, attrgetter("outcome"))
        others = sum(signature.conversation.flow_count for signature in own) - 1
        more = f" and {others} more" if others else ""
        yield f"row {row} {OUTCOMES[outcome]}: {describe(best.conversation)}{more}"


def describe(conversation: Conversation) -> str:
    """A conversation as a clause: ``flow 3, tcp 10.0.0.2:4000 to 10.0.9.1:3001``."""
    return f"flow {conversation.id}, {conversation.transport} {conversation.originator} to {conversation.responder}"
