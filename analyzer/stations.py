"""Who is who in a capture: base stations, and how they were recognised."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from analyzer.conversations import Conversation, Service, State
from analyzer.expected import Deployment, ExpectedFlow, ExpectedTable, UsageError
from analyzer.heads import Direction
from analyzer.messages import messages
from analyzer.protocols import esp, ike
from analyzer.safetext import SafeText


@dataclass(frozen=True, slots=True)
class Signature:
    """A conversation that shows by transport, port and direction that its client lives by a table."""

    row: ExpectedFlow
    conversation: Conversation
    client: str
    """Address of the end that the row says is the base station."""
    server: str

    @property
    def established(self) -> bool:
        """Both sides took part; else it is only an attempt."""
        return self.conversation.state in (State.ESTABLISHED, State.MIDSTREAM, State.TWOWAY)


@dataclass(frozen=True, slots=True)
class Station:
    """One base station: a device, which may have several addresses."""

    address: str
    """The address under which it is reported, in canonical text form."""
    addresses: tuple[str, ...]
    """All of its addresses, ``address`` among them."""
    mac: str | None
    """Its MAC address in lower case with colons; ``None`` where the capture shows only a router's, or none."""
    named: bool
    """The user named it; else its flows gave it away."""
    evidence: tuple[SafeText, ...]
    """Why it is held for a base station, one clause each."""
    signatures: tuple[Signature, ...] = ()
    """Its conversations that fit a signature row of any table."""


@dataclass(frozen=True, slots=True)
class Names:
    """Hosts that the user named: each an address, a network (``10.0.0.0/8``) or, of base stations, a MAC address."""

    base_stations: tuple[str, ...] = ()
    tpe: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """:class:`UsageError` for what is none of these."""
        for name in (*self.base_stations, *self.tpe):
            if not (MAC.fullmatch(name) and name in self.base_stations):
                try:
                    ipaddress.ip_network(name, strict=False)
                except ValueError:
                    raise UsageError(f"{name!r} is no address, network or MAC address") from None

    def is_station(self, address: str, mac: str | None) -> bool:
        return any(matches(name, address, mac) for name in self.base_stations)

    def is_tpe(self, address: str) -> bool:
        return any(matches(name, address, None) for name in self.tpe)

    def leaning(self, address: str, mac: str | None) -> int:
        """1 for what the user says is a base station, -1 for TPE, 0 for neither or both."""
        return self.is_station(address, mac) - self.is_tpe(address)


MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")


def matches(name: str, address: str, mac: str | None) -> bool:
    """Whether a host is the one, or one of those, that a name means."""
    if MAC.fullmatch(name):
        return mac == name.lower().replace("-", ":")
    network = ipaddress.ip_network(name, strict=False)
    return ipaddress.ip_address(address) in network


def services(tables: Mapping[str, ExpectedTable]) -> frozenset[Service]:
    """Transport and port of every row of every table."""
    return frozenset((row.transport, port) for table in tables.values() for row in table.flows for port in row.ports)


def carries_esp(conversation: Conversation) -> bool:
    """ESP is among its packets, bare or inside UDP (RFC 3948)."""
    if conversation.transport == "tcp":
        return False
    facts = conversation.dissection.facts
    return isinstance(facts, (esp.EspFacts, ike.IkeFacts)) and bool(facts.spis)


def inside_tunnel(conversations: Sequence[Conversation]) -> frozenset[int]:
    """Ids of conversations that were captured inside of an IPsec tunnel, on the virtual interface of one of its ends.

    A capture on all interfaces of the base station shows the tunnel's packets once as ESP on a network card and once
    more in clear on an interface without link-layer addresses. The latter are no cleartext beside the tunnel. What goes
    to or from an end of the tunnel itself never travels inside: an uplink without link-layer addresses hides nothing.
    """
    tunnels = [each for each in conversations if each.transport == "esp" or carries_esp(each)]
    if not any(any(each.macs) for each in tunnels):
        return frozenset()
    outer = {end.address for each in tunnels for end in (each.originator, each.responder)}
    return frozenset(
        each.id
        for each in conversations
        if each.macs == (None, None) and outer.isdisjoint((each.originator.address, each.responder.address))
    )


def shaped(row: ExpectedFlow, conversation: Conversation) -> bool:
    """Whether a conversation has a row's transport and port; its ends are not looked at."""
    if row.transport == "icmp":
        return conversation.transport in ("icmp", "icmpv6")
    if row.transport == "esp":
        # AH between the same ends stands where ESP should: it fits, and is judged as malformed.
        return conversation.transport in ("esp", "ip-51") or carries_esp(conversation)
    if conversation.transport != row.transport:
        return False
    if row.protocol == ike.NAME and conversation.protocol == esp.NAME:
        return False
    return conversation.responder.port in row.ports


def ends(row: ExpectedFlow, conversation: Conversation, names: Names) -> tuple[str, str]:
    """(base station's end, other end) of a conversation that fits a row's shape.

    Where both ends may begin, what the user named counts first. Then IKE tells who initiated the SA in every message
    (RFC 7296 section 3.1, flag I), even in mid-session; ESP does not tell.
    """
    one, two = conversation.originator.address, conversation.responder.address
    if row.bidirectional:
        leaning = names.leaning(one, conversation.macs[0]) - names.leaning(two, conversation.macs[1])
        if leaning:
            return (one, two) if leaning > 0 else (two, one)
    if row.bidirectional and conversation.protocol == ike.NAME:
        for item, header in messages(conversation.dissection.items, ike.IkeHeader):
            if header.major >= 2:
                by_originator = (item.direction is Direction.ORIGINATOR) == bool(header.flags & 0x08)
                return (one, two) if by_originator else (two, one)
    return one, two


@dataclass(slots=True)
class Candidate:
    """An address that may be a base station's."""

    signatures: list[Signature] = field(default_factory=list)

    def servers(self) -> set[str]:
        """Responders of its established signatures; without one, of its attempts."""
        return {each.server for each in self.strongest()}

    def strongest(self) -> list[Signature]:
        return [each for each in self.signatures if each.established] or self.signatures

    def rank(self) -> tuple[int, int, int]:
        """Ascending: better evidence first."""
        established = {each.row.id for each in self.signatures if each.established}
        attempted = {each.row.id for each in self.signatures}
        return -len(established), -len(attempted), min(each.conversation.id for each in self.signatures)


STATIONS = 8192
"""Addresses of base stations that are judged, those with the best evidence first; more are a flood of forged ones."""


def find_stations(
    conversations: Sequence[Conversation], tables: Mapping[str, ExpectedTable], names: Names
) -> tuple[tuple[Station, ...], int]:
    """The base stations that the user named; without names, those that their flows give away.

    And how many addresses were left out, because there are more than :data:`STATIONS`.
    """
    macs = owned_macs(conversations)
    candidates = find_candidates(conversations, tables, names)
    if names.base_stations:
        seen = {end.address: None for each in conversations for end in (each.originator, each.responder)}
        accepted = [address for address in seen if names.is_station(address, macs.get(address))]
    else:
        accepted = recognise(candidates)
    groups = group(accepted[:STATIONS], macs, candidates)
    found = tuple(station(addresses, candidates, macs, names) for addresses in groups)
    return found, max(0, len(accepted) - STATIONS)


def find_candidates(
    conversations: Iterable[Conversation], tables: Mapping[str, ExpectedTable], names: Names
) -> dict[str, Candidate]:
    """Addresses that originate a flow of a signature row; with TPE named, towards TPE only."""
    rows = [row for table in tables.values() for row in table.flows if row.signature]
    by_port = defaultdict(list)
    for row in rows:
        for number in row.ports:
            by_port[row.transport, number].append(row)
    portless = [row for row in rows if not row.ports]
    candidates: dict[str, Candidate] = defaultdict(Candidate)
    for each in conversations:
        port = each.responder.port
        possible = by_port.get((each.transport, port), []) if port is not None else []
        if each.transport in ("esp", "ip-51") or carries_esp(each):
            possible = [*possible, *portless]
        for row in possible:
            if shaped(row, each):
                client, server = ends(row, each, names)
                if not names.tpe or names.is_tpe(server):
                    candidates[client].signatures.append(Signature(row, each, client, server))
    return candidates


def recognise(candidates: Mapping[str, Candidate]) -> list[str]:
    """Candidates that are base stations, best evidence first.

    A host that reaches only base stations is none itself (it scans them, or is the core that looks after them), nor
    is the core that base stations reach.
    """
    accepted: dict[str, Candidate] = {}
    cores: set[str] = set()
    for address, candidate in sorted(candidates.items(), key=lambda pair: pair[1].rank()):
        servers = {each for each in candidate.servers() if each not in accepted}
        if servers and address not in cores:
            accepted[address] = candidate
            cores |= servers
    return list(accepted)


ROUTED = 64
"""Addresses behind one MAC address that no host has of its own, not even link-local ones."""


def owned_macs(conversations: Iterable[Conversation]) -> dict[str, str]:
    """Address → MAC address, where the MAC address is the host's own and not a router's.

    A MAC address behind which more than one address of a version stands (link-local ones aside) is a router's.
    """
    behind: dict[str, dict[str, None]] = defaultdict(dict)
    for each in conversations:
        for end, mac in zip((each.originator, each.responder), each.macs, strict=True):
            if mac is not None:
                behind[mac][end.address] = None
    own: dict[str, str] = {}
    for mac, addresses in behind.items():
        if len(addresses) > ROUTED:
            continue
        parsed = [ipaddress.ip_address(address) for address in addresses]
        lasting = [each for each in parsed if not (each.is_link_local or each.is_unspecified)]
        if all(sum(each.version == version for each in lasting) <= 1 for version in (4, 6)):
            own.update((str(each), mac) for each in parsed if not each.is_unspecified)
    return own


def group(accepted: Sequence[str], macs: Mapping[str, str], candidates: Mapping[str, Candidate]) -> list[list[str]]:
    """Addresses of one device together: those that share its MAC address, and those between which an IKE SA moved."""
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
    for movers in moved(candidates):
        home = next((address for address in movers if address in parent), None)
        if home is not None:
            for address in movers:
                parent[root(parent.setdefault(address, address))] = root(home)
    groups: dict[str, list[str]] = {}
    for address in parent:
        groups.setdefault(root(address), []).append(address)
    return [sorted(addresses, key=address_order) for addresses in groups.values()]


def moved(candidates: Mapping[str, Candidate]) -> list[list[str]]:
    """The addresses of each IKE SA that its initiator used from more than one (MOBIKE, RFC 4555)."""
    holders: dict[str, dict[str, None]] = {}
    for address, candidate in candidates.items():
        for signature in candidate.signatures:
            facts = signature.conversation.dissection.facts
            if signature.row.protocol == ike.NAME and isinstance(facts, ike.IkeFacts):
                for sa in facts._sas:
                    holders.setdefault(sa.initiator_spi, {})[address] = None
    return [list(addresses) for addresses in holders.values() if len(addresses) > 1]


def address_order(address: str) -> tuple[bool, int, int]:
    """IPv4 before IPv6, link-local last, then by number."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_link_local, parsed.version, int(parsed)


def station(
    addresses: Sequence[str], candidates: Mapping[str, Candidate], macs: Mapping[str, str], names: Names
) -> Station:
    """One device with all that is known of it."""
    signatures = sorted(
        (each for address in addresses if address in candidates for each in candidates[address].signatures),
        key=lambda each: each.conversation.id,
    )
    named = [address for address in addresses if names.is_station(address, macs.get(address))]
    used = [each.client for each in signatures if each.established] or [each.client for each in signatures]
    address = (named or used or list(addresses))[0]
    mac = macs.get(address)
    if named:
        evidence: tuple[str, ...] = ("named by the user",)
    else:
        rows = {each.row.id: each for each in reversed(signatures)}
        evidence = tuple(
            f"opens flow {each.conversation.id} of row {row} ({each.row.mode})" for row, each in reversed(rows.items())
        )
    return Station(address, tuple(addresses), mac, bool(named), evidence, tuple(signatures))


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
