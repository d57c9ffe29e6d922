"""TPE: its addresses, and what those may serve that nobody explains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from operator import attrgetter

from analyzer.conversations import Conversation
from analyzer.expected import Deployment, ExpectedTable, Peer
from analyzer.protocols import dns
from analyzer.services import has_service
from analyzer.stations.modes import Mode
from analyzer.stations.recognition import Station
from analyzer.stations.signatures import NamedHosts, Rank, Signature, best_by_row_and_server, lives_on


def find_tpe(
    modes: Iterable[Mode],
    stations: Sequence[Station],
    named: NamedHosts,
    seen: Iterable[str],
    deployment: Deployment,
) -> frozenset[str]:
    """Addresses of TPE: those that the user named; otherwise the servers of the signature rows of the detected modes.

    Standalone: of each row the servers that came furthest, so that a forged IKE REDIRECT to a host that never answers
    makes no TPE. HA: any of several nodes may be down. Signature rows of other modes count if the detected mode's table
    has them, as the node at the tunnel's end need not be the one that answers on port 3001; standalone, if served.

    ``seen``: all addresses of the capture, out of which the user's networks select.
    """
    if named.tpe:
        return frozenset(address for address in seen if named.is_tpe(address))
    own = {address for station in stations for address in station.addresses}
    servers: set[str] = set()
    for station, mode in zip(stations, modes, strict=True):
        contradicting = set(map(id, mode.contradicting))
        consistent = tuple(signature for signature in station.signatures if id(signature) not in contradicting)
        if deployment is Deployment.HA:
            servers.update(signature.server for signature in consistent)
        else:
            # If the user named the mode, the capture may have no flow of it: flows of other modes lead to TPE, too.
            servers |= best_servers(mode.signatures or station.signatures)
            servers |= {signature.server for signature in consistent if signature.rank is Rank.SERVED}
    return frozenset(servers - own)


def best_servers(signatures: Iterable[Signature]) -> set[str]:
    """The servers at which the signatures of each row came furthest."""
    outcomes = best_by_row_and_server(signatures, attrgetter("outcome"))
    best: dict[str, Rank] = {}
    for (row, _), outcome in outcomes.items():
        best[row] = max(best.get(row, outcome), outcome)
    return {server for (row, server), outcome in outcomes.items() if outcome is best[row]}


def find_other_addresses(
    tpe: frozenset[str], stations: Sequence[Station], seen: Mapping[str, None], conversations: Iterable[Conversation]
) -> dict[str, str]:
    """Addresses of the capture that its DNS gives to the name of an address of TPE, with that name."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for conversation in conversations:
        facts = conversation.dissection.facts
        if isinstance(facts, dns.DnsFacts):
            for address, name in facts.answers.items():
                by_name[name.lower()].add(address)
    own = {address for station in stations for address in station.addresses}
    return {
        address: name
        for name, given in by_name.items()
        if given & tpe
        for address in sorted(given - tpe - own)
        if address in seen
    }


# -- more than one ----------------------------------------------------------------------------------------------


def limit_tpe(
    station: Station,
    mode: Mode,
    table: ExpectedTable | None,
    tpe: Set[str],
    names: Mapping[str, str],
    conversations: Sequence[Conversation],
) -> dict[str, frozenset[str]]:
    """Addresses of TPE that may serve a base station of a standalone deployment some rows only → ids of these rows.

    A standalone TPE is one node: the address with the best evidence. Any other may be an impostor, and serves no more
    than the mode's own protocol: the signature rows in which it did. Another IP version of the same name is that node.

    ``names``: addresses that are TPE because DNS gave them to the name of another one.
    """
    signatures = [signature for signature in station.signatures if signature.server in tpe]
    used = dict.fromkeys(signature.server for signature in signatures)
    if table is None or not used or len(tpe) < 2:
        return {}
    served: dict[str, set[str]] = {server: set() for server in [*used, *sorted(tpe - used.keys())]}
    for (row, server), rank in best_by_row_and_server(signatures, attrgetter("rank")).items():
        if rank is Rank.SERVED:
            served[server].add(row)
    lasting = {signature.server for signature in signatures if lives_on(signature) and signature.rank is Rank.SERVED}
    others = other_services(station, table, tpe, conversations)
    first = max(
        served,
        key=lambda server: (len(served[server]) + (server in lasting), len(others[server]), server not in names),
    )
    own = frozenset(row.id for row in table.flows if row.signature)
    return {
        server: frozenset(rows) | (own if server in names else frozenset())
        for server, rows in served.items()
        if server != first and not (server in names and (":" in server) != (":" in first))
    }


def other_services(
    station: Station, table: ExpectedTable, tpe: Set[str], conversations: Iterable[Conversation]
) -> dict[str, set[str]]:
    """Address of TPE → ids of the rows without signature that it answered."""
    rows = [row for row in table.flows if row.peer is Peer.TPE and not row.signature]
    found: dict[str, set[str]] = defaultdict(set)
    for conversation in conversations:
        server = conversation.responder.address
        if server in tpe and all(conversation.packets):
            found[server].update(row.id for row in rows if has_service(row, conversation))
    return found
