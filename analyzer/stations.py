"""Who is a base station, in which mode, and which hosts are TPE."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from analyzer.conversations import Conversation, State
from analyzer.expected import Deployment, ExpectedFlow, ExpectedTable, UsageError
from analyzer.heads import Direction
from analyzer.messages import messages
from analyzer.protocols import dhcp, esp, ike
from analyzer.safetext import SafeText


@dataclass(frozen=True, slots=True)
class Signature:
    """A conversation whose transport, port and direction identify its client as a base station in the row's mode."""

    row: ExpectedFlow
    conversation: Conversation
    client: str
    """Address of the end at which the row has the base station."""
    server: str

    @property
    def established(self) -> bool:
        """Both sides took part; otherwise it is only an attempt."""
        return self.conversation.state in (State.ESTABLISHED, State.MIDSTREAM, State.TWOWAY)


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


UNKNOWN = "unknown"
"""Name of the mode of a base station of which the capture shows no signature row."""

PREFERENCE = ("ipsec", "tls", "basics", "plain")
"""Modes with equal evidence, the preferred one first: a protected mode is the intention, cleartext the deviation."""

MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")


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


@dataclass(frozen=True, slots=True)
class Hosts:
    """Who is who in a capture."""

    named: NamedHosts
    """The hosts that the user named."""
    stations: tuple[Station, ...]
    """The base stations that are judged."""
    unjudged: int
    """Number of addresses that look like base stations and exceed :data:`MAX_STATIONS`."""
    modes: tuple[Mode, ...]
    """In the order of ``stations``."""
    tpe: frozenset[str]
    """Addresses of TPE."""
    conversations: dict[str, list[Conversation]]
    """Address of a base station → its conversations."""
    inside_tunnel: frozenset[int]
    """Ids of conversations that were captured inside a tunnel, and are not judged."""


def identify_hosts(
    conversations: Sequence[Conversation],
    tables: Mapping[str, ExpectedTable],
    named: NamedHosts,
    deployment: Deployment,
    mode: str | None = None,
) -> Hosts:
    """Find base stations, their modes and TPE. ``mode`` overrides the detected modes."""
    inside = inside_tunnel(conversations)
    outside = [conversation for conversation in conversations if conversation.id not in inside]
    stations, unjudged = find_stations(outside, tables, named)
    modes = tuple(detect_mode(station, tables, mode) for station in stations)
    tpe = find_tpe(modes, stations, named, addresses(outside), deployment)
    return Hosts(named, stations, unjudged, modes, tpe, conversations_by_station(stations, outside), inside)


# -- conversations and rows -------------------------------------------------------------------------------------


def carries_esp(conversation: Conversation) -> bool:
    """Whether a conversation has ESP packets, bare or inside UDP (RFC 3948)."""
    if conversation.transport == "tcp":
        return False
    facts = conversation.dissection.facts
    return isinstance(facts, (esp.EspFacts, ike.IkeFacts)) and bool(facts.spis)


def has_service(row: ExpectedFlow, conversation: Conversation) -> bool:
    """Whether a conversation has the transport and port of a row, whatever its ends."""
    if row.transport == "icmp":
        return conversation.transport in ("icmp", "icmpv6")
    if row.transport == "esp":
        # AH (IP protocol 51) in the place of ESP matches the row, and a check reports it as malformed.
        return conversation.transport in ("esp", "ip-51") or carries_esp(conversation)
    if conversation.transport != row.transport:
        return False
    if row.protocol == ike.NAME and conversation.protocol == esp.NAME:
        return False
    return conversation.responder.port in row.ports


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


def addresses(conversations: Iterable[Conversation]) -> dict[str, None]:
    """All addresses, in the order of their first conversation."""
    return {end.address: None for flow in conversations for end in (flow.originator, flow.responder)}


def inside_tunnel(conversations: Sequence[Conversation]) -> frozenset[int]:
    """Ids of conversations captured inside an IPsec tunnel, on the virtual interface of one of its ends.

    A capture on all interfaces of a base station shows the packets of the tunnel twice: as ESP on a network card, and
    in clear on an interface without link-layer addresses. The second copy is not cleartext beside the tunnel. Packets
    to or from an end of the tunnel itself never travel inside it, even if the uplink has no link-layer addresses.
    """
    tunnels = [flow for flow in conversations if flow.transport == "esp" or carries_esp(flow)]
    if not any(any(tunnel.macs) for tunnel in tunnels):
        return frozenset()
    ends = {end.address for tunnel in tunnels for end in (tunnel.originator, tunnel.responder)}
    return frozenset(
        flow.id
        for flow in conversations
        if flow.macs == (None, None) and ends.isdisjoint((flow.originator.address, flow.responder.address))
    )


# -- base stations ----------------------------------------------------------------------------------------------

MAX_STATIONS = 8192
"""Maximum addresses of base stations that are judged, those with the best evidence first. More are forged ones."""

MAX_HOST_ADDRESSES = 64
"""Addresses above which a MAC address is a router's. A host has one per version, and some link-local ones."""


def find_stations(
    conversations: Sequence[Conversation], tables: Mapping[str, ExpectedTable], named: NamedHosts
) -> tuple[tuple[Station, ...], int]:
    """The base stations that the user named, or those that are recognised by their flows if the user named none.

    Also returns the number of addresses beyond :data:`MAX_STATIONS`.
    """
    macs = owned_macs(conversations)
    candidates = find_candidates(conversations, tables, named)
    if named.base_stations:
        accepted = [address for address in addresses(conversations) if named.is_station(address, macs.get(address))]
    else:
        accepted = recognise(candidates)
    devices = group_addresses(accepted[:MAX_STATIONS], macs, candidates)
    stations = tuple(station(addresses, candidates, macs, named) for addresses in devices)
    return stations, max(0, len(accepted) - MAX_STATIONS)


@dataclass(slots=True)
class Candidate:
    """An address that may be a base station's."""

    signatures: list[Signature] = field(default_factory=list)

    def servers(self) -> set[str]:
        """Servers of the established signatures; if none is established, of the attempts."""
        established = [signature for signature in self.signatures if signature.established]
        return {signature.server for signature in established or self.signatures}

    def rank(self) -> tuple[int, int, int]:
        """Sort key, best evidence first: most rows established, most rows attempted, first seen."""
        established = {signature.row.id for signature in self.signatures if signature.established}
        attempted = {signature.row.id for signature in self.signatures}
        return -len(established), -len(attempted), min(signature.conversation.id for signature in self.signatures)


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
                    candidates[client].signatures.append(Signature(row, conversation, client, server))
    return candidates


def recognise(candidates: Mapping[str, Candidate]) -> list[str]:
    """The candidates that are base stations, best evidence first.

    A host that reaches only base stations is none: it scans them, or it is the core that manages them. Nor is the core,
    which base stations reach.
    """
    accepted: dict[str, Candidate] = {}
    cores: set[str] = set()
    for address, candidate in sorted(candidates.items(), key=lambda pair: pair[1].rank()):
        servers = {server for server in candidate.servers() if server not in accepted}
        if servers and address not in cores:
            accepted[address] = candidate
            cores |= servers
    return list(accepted)


def owned_macs(conversations: Iterable[Conversation]) -> dict[str, str]:
    """Address → MAC address, where it is the host's own.

    A MAC address that is used with several addresses of one IP version (except link-local ones) is a router's.
    """
    users: dict[str, dict[str, None]] = defaultdict(dict)
    for conversation in conversations:
        for end, mac in zip((conversation.originator, conversation.responder), conversation.macs, strict=True):
            if mac is not None:
                users[mac][end.address] = None
    owned: dict[str, str] = {}
    for mac, addresses in users.items():
        if len(addresses) > MAX_HOST_ADDRESSES:
            continue
        parsed = [ipaddress.ip_address(address) for address in addresses]
        lasting = [address for address in parsed if not (address.is_link_local or address.is_unspecified)]
        if all(sum(address.version == version for address in lasting) <= 1 for version in (4, 6)):
            owned.update((str(address), mac) for address in parsed if not address.is_unspecified)
    return owned


def group_addresses(
    accepted: Sequence[str], macs: Mapping[str, str], candidates: Mapping[str, Candidate]
) -> list[list[str]]:
    """The addresses of each device: those with one MAC address, and those between which an IKE SA moved."""
    parent = {address: address for address in accepted}

    def root(address: str) -> str:
        while parent[address] != address:
            address = parent[address]
        return address

    first: dict[str, str] = {}
    for address in accepted:
        if address in macs:
            parent[root(address)] = root(first.setdefault(macs[address], address))
    # The device's other addresses need no signature of their own.
    for address, mac in macs.items():
        if mac in first and address not in parent:
            parent[address] = root(first[mac])
    for moves in addresses_by_sa(candidates):
        known = next((address for address in moves if address in parent), None)
        if known is not None:
            for address in moves:
                parent[root(parent.setdefault(address, address))] = root(known)
    devices: dict[str, list[str]] = {}
    for address in parent:
        devices.setdefault(root(address), []).append(address)
    return [sorted(addresses, key=address_order) for addresses in devices.values()]


def addresses_by_sa(candidates: Mapping[str, Candidate]) -> list[list[str]]:
    """The addresses of each IKE SA whose initiator used more than one (MOBIKE, RFC 4555)."""
    by_spi: dict[str, dict[str, None]] = {}
    for address, candidate in candidates.items():
        for signature in candidate.signatures:
            facts = signature.conversation.dissection.facts
            if signature.row.protocol == ike.NAME and isinstance(facts, ike.IkeFacts):
                for sa in facts._sas:
                    by_spi.setdefault(sa.initiator_spi, {})[address] = None
    return [list(addresses) for addresses in by_spi.values() if len(addresses) > 1]


def address_order(address: str) -> tuple[bool, int, int]:
    """Sort key: link-local addresses last, IPv4 before IPv6, then by number."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_link_local, parsed.version, int(parsed)


def station(
    addresses: Sequence[str], candidates: Mapping[str, Candidate], macs: Mapping[str, str], named: NamedHosts
) -> Station:
    """The base station with these addresses."""
    own = [candidates[address] for address in addresses if address in candidates]
    signatures = [signature for candidate in own for signature in candidate.signatures]
    signatures.sort(key=lambda signature: signature.conversation.id)
    named_addresses = [address for address in addresses if named.is_station(address, macs.get(address))]
    established = [signature.client for signature in signatures if signature.established]
    used = established or [signature.client for signature in signatures]
    address = (named_addresses or used or addresses)[0]
    if named_addresses:
        evidence: tuple[str, ...] = ("named by the user",)
    else:
        firsts = {signature.row.id: signature for signature in reversed(signatures)}
        evidence = tuple(
            f"opens flow {signature.conversation.id} of row {row} ({signature.row.mode})"
            for row, signature in reversed(firsts.items())
        )
    return Station(address, tuple(addresses), macs.get(address), bool(named_addresses), evidence, tuple(signatures))


def conversations_by_station(
    stations: Sequence[Station], conversations: Iterable[Conversation]
) -> dict[str, list[Conversation]]:
    """Address of a base station → its conversations, by IP address. DHCP counts by MAC address before there is one."""
    by_address = {address: station.address for station in stations for address in station.addresses}
    by_mac = {station.mac: station.address for station in stations if station.mac is not None}
    found: dict[str, list[Conversation]] = {station.address: [] for station in stations}
    for conversation in conversations:
        ends = conversation.originator.address, conversation.responder.address
        owners = {by_address[address]: None for address in ends if address in by_address}
        if not owners and conversation.protocol == dhcp.NAME:
            facts = conversation.dissection.facts
            client = facts.client_mac if isinstance(facts, dhcp.DhcpFacts) else conversation.macs[0]
            owners = {by_mac[client]: None} if client in by_mac else {}
        for owner in owners:
            found[owner].append(conversation)
    return found


def stations_by_flow(conversations: dict[str, list[Conversation]]) -> dict[int, str]:
    """Flow id → address of its base station; of the first one, if both ends are base stations."""
    return {
        flow: address
        for address in reversed(conversations)
        for conversation in conversations[address]
        for flow in conversation.flows
    }


# -- modes ------------------------------------------------------------------------------------------------------


def detect_mode(station: Station, tables: Mapping[str, ExpectedTable], override: str | None = None) -> Mode:
    """The mode whose signature rows a base station uses: established before attempted, then by :data:`PREFERENCE`."""
    by_mode: dict[str, list[Signature]] = {}
    for signature in station.signatures:
        by_mode.setdefault(signature.row.mode, []).append(signature)
    if not by_mode and override is None:
        return Mode(UNKNOWN, ("no flow of any mode's signature rows",), ())
    name = preferred_mode(by_mode) if override is None else override
    evidence = tuple(clauses(by_mode[name])) if override is None else ("named by the user",)
    rows = tables[name].flows
    others = (signature for mode, signatures in by_mode.items() if mode != name for signature in signatures)
    contradicting = tuple(
        signature for signature in others if not any(has_service(row, signature.conversation) for row in rows)
    )
    return Mode(name, evidence, tuple(by_mode.get(name, ())), contradicting)


def preferred_mode(by_mode: Mapping[str, Sequence[Signature]]) -> str:
    """The mode with the best evidence."""
    order = (*PREFERENCE, *sorted(by_mode.keys() - set(PREFERENCE)))

    def rank(mode: str) -> tuple[bool, int]:
        return not any(signature.established for signature in by_mode[mode]), order.index(mode)

    return min(by_mode, key=rank)


def clauses(signatures: Sequence[Signature]) -> Iterator[str]:
    """The evidence for a mode: per row, its first conversation and the number of others."""
    by_row: dict[str, list[Signature]] = {}
    for signature in signatures:
        by_row.setdefault(signature.row.id, []).append(signature)
    for row, own in by_row.items():
        best = next((signature for signature in own if signature.established), own[0])
        outcome = "established" if best.established else "attempted"
        others = sum(signature.conversation.flow_count for signature in own) - 1
        more = f" and {others} more" if others else ""
        yield f"row {row} {outcome}: {describe(best.conversation)}{more}"


def describe(conversation: Conversation) -> str:
    """A conversation as a clause: ``flow 3, tcp 10.0.0.2:4000 to 10.0.9.1:3001``."""
    return f"flow {conversation.id}, {conversation.transport} {conversation.originator} to {conversation.responder}"


# -- TPE --------------------------------------------------------------------------------------------------------


def find_tpe(
    modes: Iterable[Mode],
    stations: Sequence[Station],
    named: NamedHosts,
    seen: Iterable[str],
    deployment: Deployment,
) -> frozenset[str]:
    """Addresses of TPE: those that the user named; otherwise the servers of the signature rows of the detected modes.

    Standalone: a host that never answers is not TPE if another host answers in the same row, so that a forged IKE
    REDIRECT makes no TPE. HA: any of several nodes may be down; and signature rows of other modes count if the detected
    mode's table has them, as the node at the tunnel's end need not be the one that answers on port 3001.

    ``seen``: all addresses of the capture, out of which the user's networks select.
    """
    if named.tpe:
        return frozenset(address for address in seen if named.is_tpe(address))
    own = {address for station in stations for address in station.addresses}
    servers: set[str] = set()
    for station, mode in zip(stations, modes, strict=True):
        # If the user named the mode, the capture may have no flow of it: flows of other modes lead to TPE, too.
        signatures = mode.signatures or station.signatures
        if deployment is Deployment.HA:
            contradicting = set(map(id, mode.contradicting))
            signatures = tuple(signature for signature in station.signatures if id(signature) not in contradicting)
            answered = set()
        else:
            answered = {signature.row.id for signature in signatures if signature.established}
        servers.update(
            signature.server for signature in signatures if signature.established or signature.row.id not in answered
        )
    return frozenset(servers - own)
