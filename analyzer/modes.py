"""Which table a base station lives by, and the core that it lives with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analyzer.conversations import Conversation
from analyzer.expected import Deployment, ExpectedTable
from analyzer.hosts import Names, Signature, Station, shaped

UNKNOWN = "unknown"
"""Mode of a base station of which the capture shows no signature row."""

PREFERENCE = ("ipsec", "tls", "basics", "plain")
"""Among modes with equal evidence the more protected one is the claim, and cleartext beside it the deviation."""


@dataclass(frozen=True, slots=True)
class Mode:
    """The table of one base station."""

    name: str
    """``ipsec``, ``tls``, ``plain``, ``basics`` or ``unknown``."""
    evidence: tuple[str, ...]
    """Why, one clause each."""
    signatures: tuple[Signature, ...]
    """The conversations that show it."""
    contradicting: tuple[Signature, ...] = ()
    """Conversations that show another mode and have no place in this one's table."""


def mode_of(station: Station, tables: Mapping[str, ExpectedTable], override: str | None = None) -> Mode:
    """The table whose signature rows the station uses: established before attempted, then :data:`PREFERENCE`."""
    by_mode: dict[str, list[Signature]] = {}
    for signature in station.signatures:
        by_mode.setdefault(signature.row.mode, []).append(signature)
    if override is not None:
        name = override
        reasons: tuple[str, ...] = ("named by the user",)
    elif by_mode:
        order = (*PREFERENCE, *sorted(by_mode.keys() - set(PREFERENCE)))
        name = min(by_mode, key=lambda mode: (not any(each.established for each in by_mode[mode]), order.index(mode)))
        reasons = tuple(clauses(by_mode[name]))
    else:
        return Mode(UNKNOWN, ("no flow of any mode's signature rows",), ())
    table = tables[name]
    contradicting = tuple(
        signature
        for mode, signatures in by_mode.items()
        if mode != name
        for signature in signatures
        if not any(shaped(row, signature.conversation) for row in table.flows)
    )
    return Mode(name, reasons, tuple(by_mode.get(name, ())), contradicting)


def clauses(signatures: Sequence[Signature]) -> Iterable[str]:
    """One clause per row: how often, and its first conversation."""
    rows: dict[str, list[Signature]] = {}
    for signature in signatures:
        rows.setdefault(signature.row.id, []).append(signature)
    for row, found in rows.items():
        best = next((each for each in found if each.established), found[0])
        what = "established" if best.established else "attempted"
        others = sum(each.conversation.flow_count for each in found) - 1
        more = f" and {others} more" if others else ""
        yield f"row {row} {what}: {describe(best.conversation)}{more}"


def describe(conversation: Conversation) -> str:
    """A conversation in one clause: ``flow 3, tcp 10.0.0.2:4000 to 10.0.9.1:3001``."""
    return f"flow {conversation.id}, {conversation.transport} {conversation.originator} to {conversation.responder}"


def find_tpe(
    modes: Iterable[Mode], stations: Sequence[Station], names: Names, seen: Iterable[str], deployment: Deployment
) -> frozenset[str]:
    """Addresses of TPE: those that the user named, else every responder of a signature row of the detected modes.

    Who never answers is none where another host answers in the same row: an IKE REDIRECT, which anybody may forge, does
    not make a TPE. Where TPE has several nodes, one of them may be down; and signature rows of other modes count that
    the detected mode's table has too: the node that the tunnel ends at need not be the one that answers on 3001.
    ``seen`` are all addresses of the capture, among which the user's networks are looked up.
    """
    if names.tpe:
        return frozenset(address for address in seen if names.is_tpe(address))
    own = {address for station in stations for address in station.addresses}
    found: set[str] = set()
    for station, mode in zip(stations, modes, strict=True):
        # Of a mode that the user named, nothing may be there: then what shows another mode leads to TPE all the same.
        shown = mode.signatures or station.signatures
        if deployment is Deployment.HA:
            shown = tuple(each for each in station.signatures if each not in mode.contradicting)
        answered = {each.row.id for each in shown if each.established and deployment is Deployment.STANDALONE}
        found.update(each.server for each in shown if each.established or each.row.id not in answered)
    return frozenset(found - own)
