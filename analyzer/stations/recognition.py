"""Recognition: which addresses are base stations, and which are strangers beside them."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import field, replace
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.expected import ExpectedTable, services
from analyzer.heads import DIRECTIONS, Direction
from analyzer.protocols import esp, ftp
from analyzer.safetext import SafeText
from analyzer.stations.devices import MAX_DEVICES, group_addresses
from analyzer.stations.interfaces import LINK_PREFIXES, VENDORS, Interfaces
from analyzer.stations.signatures import (
    ALL_ROWS,
    PLAIN,
    Candidate,
    NamedHosts,
    Rank,
    Signature,
    find_candidates,
    furthest,
    is_kept_out,
)

MAX_STATIONS = 8192
"""Maximum addresses of base stations that are judged, those with the best evidence first. More are forged ones."""

PERSISTENT_ATTEMPTS = 3
"""Attempts from which on a host that is kept out counts as a base station."""
PERSISTENT_TIME = 30_000_000_000
"""Minimum nanoseconds between the first and the last of them."""


@dataclass(frozen=True, slots=True)
class Station:
    """A base station: one device, with one or several addresses."""

    address: str
    """The address under which it is reported, in canonical text form."""
    addresses: tuple[str, ...]
    """All of its addresses, ``address`` among them."""
    mac: str | None
    """Its MAC address, lower case with colons; ``None`` if the capture shows only a router's, or none."""
    named: bool
    """Named by the user; otherwise recognised by its flows."""
    evidence: tuple[SafeText, ...]
    """Why the host is taken for a base station, one clause each."""
    signatures: tuple[Signature, ...] = ()
    """Its conversations that fit a signature row of any table, ascending by id."""
    macs: frozenset[str] = frozenset()
    """Its own MAC addresses: whatever they send or receive is the station's, whatever IP address it claims."""

    def end(self, conversation: Conversation) -> Direction | None:
        """The end of a conversation that is the base station's, by IP address, else by MAC address; ``None``: neither.

        The originator, if both are.
        """
        if conversation.originator.address in self.addresses:
            return Direction.ORIGINATOR
        if conversation.responder.address in self.addresses:
            return Direction.RESPONDER
        for way in DIRECTIONS:
            if conversation.macs[way] in self.macs:
                return way
        for way in DIRECTIONS:
            if conversation.destination_macs[1 - way] in self.macs:
                return way
        return None


class Stranger(NamedTuple):
    """A host that opens flows of signature rows, and is no base station by better evidence beside it."""

    address: str
    signatures: tuple[Signature, ...]

    @property
    def flow_count(self) -> int:
        """Number of its flows."""
        conversations = {signature.conversation.id: signature.conversation for signature in self.signatures}
        return sum(conversation.flow_count for conversation in conversations.values())


class Recognised(NamedTuple):
    """The hosts that were looked at as base stations."""

    stations: tuple[Station, ...]
    unjudged: int
    """Number of addresses beyond :data:`MAX_STATIONS`."""
    strangers: tuple[Stranger, ...]
    contested: tuple[Stranger, ...] = ()
    """Hosts that were taken for TPE although others serve them as TPE serves base stations."""


def find_stations(
    conversations: Sequence[Conversation],
    tables: Mapping[str, ExpectedTable],
    named: NamedHosts,
    translated: Mapping[str, str] | None = None,
    interfaces: Interfaces | None = None,
) -> Recognised:
    """The base stations that the user named, or those that are recognised by their flows if the user named none.

    ``translated``: outer → inner address of hosts that the capture shows on both sides of a NAT.
    """
    interfaces = interfaces or Interfaces(conversations, named.macs)
    macs = interfaces.owners
    candidates = find_candidates(conversations, tables, named)
    strangers: list[str] = []
    contested: list[str] = []
    if named.base_stations:
        seen = {end.address: None for flow in conversations for end in (flow.originator, flow.responder)}
        accepted = [address for address in seen if named.is_station(address, macs.get(address))]
    else:
        recognition = Recognition(conversations, tables, macs)
        accepted, strangers = recognition.recognise(candidates)
        contested = recognition.contested
    devices = group_addresses(accepted[:MAX_STATIONS], interfaces, candidates, translated or {}, conversations)
    stations = tuple(station(addresses, candidates, macs, named) for addresses in devices)
    stations = with_macs(stations, interfaces)
    own = {address for device in devices for address in device}
    return Recognised(
        stations,
        max(0, len(accepted) - MAX_STATIONS),
        *(
            tuple(Stranger(address, tuple(candidates[address].signatures)) for address in found if address not in own)
            for found in (strangers, contested)
        ),
    )


@dataclass
class Recognition:
    """Tells base stations from other hosts that open flows of signature rows."""

    conversations: Sequence[Conversation]
    tables: Mapping[str, ExpectedTable]
    macs: Mapping[str, str]
    """Address → MAC address, where it is the host's own."""
    contested: list[str] = field(default_factory=list)
    """Addresses that were taken for TPE although others serve them as TPE serves base stations."""

    def recognise(self, candidates: Mapping[str, Candidate]) -> tuple[list[str], list[str]]:
        """The candidates that are base stations, best evidence first, and those that are strangers.

        A host that reaches only base stations is neither: it scans them, or it is the core that manages them. Nor is
        the core, which base stations reach; but anybody can open connections to a base station, so that a host which
        is itself served no worse than its clients is no core.
        """
        accepted: dict[str, Candidate] = {}
        strangers: list[str] = []
        cores: set[str] = set()
        own: set[str] = set()
        """Hosts of the accepted addresses."""
        ranks: dict[str, Rank] = {}
        """Server → the best rank of the base stations that use it."""
        vendors: set[object] = set()
        for address, candidate in sorted(candidates.items(), key=self.order):
            servers = {
                server
                for server in candidate.servers()
                if self.host(server) not in own and not self.is_no_core(server, address, candidates)
            }
            if not servers:
                continue
            if address in cores:
                self.contested += [address] if is_served_by(candidate, servers) else []
                continue
            rank = candidate.rank
            used = {signature.server for signature in candidate.signatures}
            contested = {server for server in used if ranks.get(server, rank) > rank}
            if rank is Rank.WEB and any(best > rank for best in ranks.values()):
                is_station = bool(contested) and self.vendor(address) in vendors
            elif contested:
                is_station = self.vendor(address) in vendors or self.keeps_trying(address, candidate, contested)
            else:
                is_station = True
            if not is_station:
                strangers.append(address)
                continue
            accepted[address] = candidate
            own.add(self.host(address))
            cores |= servers
            for server in used:
                ranks.setdefault(server, rank)
            if (vendor := self.vendor(address)) is not None:
                vendors.add(vendor)
        return list(accepted), strangers

    def order(self, item: tuple[str, Candidate]) -> tuple[object, ...]:
        """Sort key of (address, candidate), best evidence first."""
        address, candidate = item
        rank, *others = candidate.order()
        mac = self.macs.get(address, "")
        return rank, mac[:8] not in VENDORS, *others

    def host(self, address: str) -> str:
        """What the addresses of one host share: its own MAC address, if the capture shows it; else the address."""
        return self.macs.get(address, address)

    def is_no_core(self, server: str, client: str, candidates: Mapping[str, Candidate]) -> bool:
        """Whether a server is itself a base station rather than TPE, as others serve it no worse than it serves its
        client: by the share of a mode's signature rows, or by a lasting link.

        What comes in protected and goes out plain, equally much, rather shows a proxy in front of TPE; but not if it
        comes in from the host's own network and goes out to another one.
        """
        if server not in candidates:
            return False
        above = {
            mode: {row for row, servers in rows.items() if any(other != client for other in servers)}
            for mode, rows in candidates[server].served_one_way.items()
        }
        weight, mode = self.weight(above)
        below, mode_below = self.weight(candidates[client].served.get(server, {}))
        is_proxy = mode == PLAIN and mode_below != PLAIN
        if is_proxy and network(client) == network(server):
            targets = {target for rows in candidates[server].served_one_way[mode].values() for target in rows}
            is_proxy = any(network(target) == network(server) for target in targets)
        return weight > below or (weight == below > 0 and not is_proxy)

    def weight(self, served: Mapping[str, Set[str]]) -> tuple[float, str]:
        """The largest share of a mode's signature rows among those that were served, and that mode."""
        shares = (
            (1.0 if ALL_ROWS in rows else len(rows) / self.sizes[mode], mode) for mode, rows in served.items() if rows
        )
        return max(shares, key=lambda share: (share[0], share[1] != PLAIN), default=(0.0, ""))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of signature rows by mode."""
        return {mode: sum(row.signature for row in table.flows) for mode, table in self.tables.items()}

    def vendor(self, address: str) -> tuple[object, str] | None:
        """Network of an address and vendor half of its MAC address; ``None`` where the capture does not show it."""
        mac = self.macs.get(address)
        if mac is None or int(mac[:2], 16) & 2:
            return None  # a locally administered MAC address names no vendor
        return network(address), mac[:8]

    def keeps_trying(self, address: str, candidate: Candidate, servers: set[str]) -> bool:
        """Whether a host is kept out by these servers again and again, and tries nothing else of theirs."""
        attempts = {
            signature.conversation.id: signature.conversation
            for signature in candidate.signatures
            if signature.server in servers and is_kept_out(signature)
        }
        count = sum(conversation.flow_count for conversation in attempts.values())
        if count < PERSISTENT_ATTEMPTS:
            return False
        begin = min(conversation.first for conversation in attempts.values())
        end = max(conversation.latest_start for conversation in attempts.values())
        if end - begin < PERSISTENT_TIME:
            return False
        return not any((address, server) in self.others for server in servers)

    @cached_property
    def others(self) -> set[tuple[str, str]]:
        """(client, server) of the conversations with a port that no table lists."""
        listed = services(self.tables)
        return {
            (flow.originator.address, flow.responder.address)
            for flow in self.conversations
            if flow.responder.port is not None and (flow.transport, flow.responder.port) not in listed
        }


def network(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The usual network of the link that an address belongs to."""
    parsed = ipaddress.ip_address(address)
    return ipaddress.ip_network((parsed, LINK_PREFIXES[parsed.version]), strict=False)


def is_served_by(candidate: Candidate, servers: Set[str]) -> bool:
    """Whether some of these servers serve a host as TPE serves base stations; FTP serves anybody."""
    return any(
        signature.server in servers and signature.row.protocol not in (ftp.NAME, esp.NAME)
        for signature in candidate.signatures
        if candidate.ranks[signature.row.id, signature.server] is Rank.SERVED
    )


def station(
    addresses: Sequence[str], candidates: Mapping[str, Candidate], macs: Mapping[str, str], named: NamedHosts
) -> Station:
    """The base station with these addresses."""
    own = [candidates[address] for address in addresses if address in candidates]
    signatures = [signature for candidate in own for signature in candidate.signatures]
    signatures.sort(key=lambda signature: signature.conversation.id)
    named_addresses = [address for address in addresses if named.is_station(address, macs.get(address))]
    used = [furthest(signatures, attrgetter("rank"))[1].client] if signatures else []
    address = (named_addresses or used or addresses)[0]
    if named_addresses:
        evidence: tuple[str, ...] = ("named by the user",)
    else:
        evidence = tuple(clauses(signatures))
    return Station(address, tuple(addresses), macs.get(address), bool(named_addresses), evidence, tuple(signatures))


def with_macs(stations: Sequence[Station], interfaces: Interfaces) -> tuple[Station, ...]:
    """The base stations with their own MAC addresses. Of several that are told apart behind one MAC address, the first
    has it; of more than :data:`~analyzer.stations.devices.MAX_DEVICES`, none."""
    owners = interfaces.owners
    users = [dict.fromkeys(owners[address] for address in found.addresses if address in owners) for found in stations]
    shared = Counter(mac for macs in users for mac in macs)
    taken = {mac for mac, count in shared.items() if count > MAX_DEVICES}
    result = []
    for found, macs in zip(stations, users, strict=True):
        own = [mac for mac in macs if mac not in taken]
        taken |= macs.keys()
        mac = found.mac if found.mac in own else None
        result.append(replace(found, mac=mac, macs=frozenset(own) & interfaces.proven))
    return tuple(result)


def clauses(signatures: Iterable[Signature]) -> Iterator[str]:
    """The evidence for a base station: the first conversation of each row."""
    firsts: dict[str, Signature] = {}
    for signature in signatures:
        firsts.setdefault(signature.row.id, signature)
    for row, signature in firsts.items():
        yield f"opens flow {signature.conversation.id} of row {row} ({signature.row.mode})"
