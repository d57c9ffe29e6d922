"""DHCP: one server leases the base station its address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

from analyzer.dataclass import dataclass
from analyzer.findings import (
    CAPTURE,
    CITED,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    cited_frames,
    frames_filter,
)
from analyzer.heads import Direction, Frame
from analyzer.matching import Match, StationMatches
from analyzer.messages import messages
from analyzer.protocols.dhcp import (
    ACK,
    CLASSLESS_ROUTES,
    DECLINE,
    DNS_SERVERS,
    MICROSOFT_ROUTES,
    NAK,
    NAME,
    OFFER,
    ROUTERS,
    UNSPECIFIED,
    Bootp,
    DhcpFacts,
    Message,
    ipv4,
    join_messages,
)

FRAMES_PER_SERVER = 4
"""Maximum frames of one server that an issue about several cites."""
MANY_UNLIKE, ORDINARY_BYTES = 16, 240
"""Messages of one client that are unlike each other, and bytes of one without options."""
DHCP6_PORT = 547
ROUTES_SHOWN = 4
"""Maximum routes that a sentence lists."""
TUNNEL_BYTES = 2048
"""Bytes of different values in the options of one sender, and of all values in private ones, that make a tunnel; a
client repeats some hundred bytes in all its messages."""
SHORT_VALUE = 8
"""Bytes up to which a value does not count: times, addresses and message types differ from message to message."""
PRIVATE_OPTIONS, PRIVATE_BYTES = range(224, 255), 64
"""Options for private use (RFC 3942), and their bytes in a message that do not count."""


def frames_of_type(match: Match, *types: int) -> list[Frame]:
    """The frames of a conversation's messages of some types."""
    return [
        message.item.frame for message in join_messages(match.conversation.dissection.items) if message.type in types
    ]


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that a server offers or confirms."""

    server: str
    """The server identifier; where it is missing, the sender's address."""
    relay: str
    """Address of the relay agent, :data:`UNSPECIFIED` without one."""
    binding: tuple[int, bytes, str]
    """Transaction, client's hardware address, and leased address."""
    frame: Frame
    confirmed: bool = False
    """By an ACK, which decides between several servers."""
    routers: tuple[str, ...] = ()
    name_servers: tuple[str, ...] = ()


def leases(match: Match) -> list[Lease]:
    """The offers and acknowledgements of a conversation."""
    conversation = match.conversation
    found = []
    for message in join_messages(conversation.dissection.items):
        if message.type in (OFFER, ACK):
            header, item = message.header, message.item
            by_originator = item.direction is Direction.ORIGINATOR
            sender = conversation.originator if by_originator else conversation.responder
            binding = header.xid, header.chaddr, header.yiaddr
            routers, name_servers = addresses(message, ROUTERS), addresses(message, DNS_SERVERS)
            server = message.server or sender.address
            confirmed = message.type == ACK
            found.append(Lease(server, header.giaddr, binding, item.frame, confirmed, routers, name_servers))
    return found


def addresses(message: Message, code: int) -> tuple[str, ...]:
    """The IPv4 addresses that an option lists."""
    value = message.options.get(code, b"")
    return tuple(ipv4(value[at : at + 4]) for at in range(0, len(value) - 3, 4))


def refusing_servers(match: Match) -> set[str]:
    """The servers of a conversation that refuse an address (DHCPNAK)."""
    conversation = match.conversation
    return {
        message.server or conversation.responder.address
        for message in join_messages(conversation.dissection.items)
        if message.type == NAK
    }


def servers_clause(servers: Sequence[str], found: Sequence[Lease], refusing: set[str]) -> str:
    """What each server gives, and which of them won: the one that confirmed last."""
    clauses = []
    for server in servers:
        own = [lease for lease in found if lease.server == server]
        lease = next((lease for lease in reversed(own) if lease.confirmed), own[-1])
        verb = "confirms" if lease.confirmed else "offers"
        refusal = ", and refuses an address (DHCPNAK)" if server in refusing else ""
        options = f"{plural('router', lease.routers)}, {plural('name server', lease.name_servers)}"
        clauses.append(f"{server} {verb} {lease.binding[2]} ({options}){refusal}")
    confirmed = [lease for lease in sorted(found, key=lambda lease: lease.frame) if lease.confirmed]
    winner = f"{confirmed[-1].server} won" if confirmed else "none confirmed"
    return f"{'; '.join(clauses)}; {winner}"


def plural(noun: str, values: Sequence[str]) -> str:
    """``router 10.0.0.1``, ``routers 10.0.0.1 and 10.0.0.2``, ``no router``."""
    if not values:
        return f"no {noun}"
    return f"{noun}{'s' if len(values) > 1 else ''} {' and '.join(values)}"


def frames_by_server(found: Sequence[Lease]) -> dict[str, list[Frame]]:
    """The servers of leases, with the frames of each.

    A relay agent may put its own address in the server's place towards the client (RFC 5107): the same lease then
    comes from the server to the relay agent, and under the relay agent's address to the client. Only the server counts.
    """
    relayed = {(lease.relay, lease.binding) for lease in found if lease.server != lease.relay != UNSPECIFIED}
    frames: dict[str, list[Frame]] = {}
    for lease in found:
        if (lease.server, lease.binding) not in relayed:
            frames.setdefault(lease.server, []).append(lease.frame)
    return frames


@check("TPE341", "dhcp-several-servers", Severity.MEDIUM, protocol="dhcp")
def several_servers(match: Match) -> Iterator[Issue]:
    """Flags: addresses offered or confirmed by more than one DHCP server in one conversation.

    Why: Whoever answers first decides on the base station's router, name server and time; a second server is often
    a rogue or forgotten one.

    Evidence: The server identifiers of the offers and acknowledgements, the addresses, routers and name servers that
    each gives, and which of them confirmed last.

    Remedy: Find the DHCP server that does not belong there and switch it off.
    """
    found = leases(match)
    servers = frames_by_server(found)
    if len(servers) > 1:
        clause = servers_clause(sorted(servers), found, refusing_servers(match))
        yield Issue(
            f"Addresses are offered by {len(servers)} servers: {clause}.",
            cited_frames(frame for frames in servers.values() for frame in frames[:FRAMES_PER_SERVER]),
        )


@check("TPE342", "dhcp-refused", Severity.LOW, protocol="dhcp", kind=Kind.NOTICE)
def refused(match: Match) -> Iterator[Issue]:
    """Flags: a DHCP server that refuses the address which the base station asks for.

    Why: The base station must start over, and has no address until a server gives it one.

    Evidence: DHCPNAK messages.

    Remedy: Look up on the DHCP server why it refused the address.
    """
    frames = frames_of_type(match, NAK)
    if frames:
        servers = " and ".join(sorted(refusing_servers(match)))
        rivals = " and ".join(sorted({lease.server for lease in leases(match)} - refusing_servers(match)))
        clause = f", while {rivals} offers one" if rivals else ""
        yield Issue(
            f"The DHCP server {servers} refuses the address that was asked for (DHCPNAK){clause}.", cited_frames(frames)
        )


@check("TPE343", "dhcp-plain-bootp", Severity.LOW, protocol="dhcp")
def plain_bootp(match: Match) -> Iterator[Issue]:
    """Flags: messages of plain BOOTP, without any DHCP option.

    Why: BOOTP is what came before DHCP; its addresses have no lease, and no current base station asks for them.

    Evidence: An empty vendor area where DHCP has its magic cookie and the message type.

    Remedy: Find out which device or boot loader speaks BOOTP and configure DHCP or a static address there.
    """
    frames = [item.frame for item, _ in messages(match.conversation.dissection.items, Bootp)]
    if frames:
        yield Issue("The messages are plain BOOTP, which has no leases, instead of DHCP.", cited_frames(frames))


@check("TPE344", "dhcp-rival-servers", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def rival_servers(context: AuditContext) -> Iterator[Issue]:
    """Flags: addresses offered or confirmed to one base station by DHCP servers in different conversations.

    Why: A server that answers from its own address makes a conversation of its own. A second one decides on the base
    station's router, name server and time as much as the first, and is often a rogue or forgotten one.

    Evidence: The offers and acknowledgements of each server: addresses, routers, name servers, which of them confirmed
    last, and which refused.

    Remedy: Find the DHCP server that does not belong there and switch it off.
    """
    for station in context.stations:
        matches = station.matches_by_protocol.get(NAME, ())
        with_leases = [(match, found) for match in matches if (found := leases(match))]
        servers = frames_by_server([lease for _, found in with_leases for lease in found])
        if len(servers) < 2 or any(len(frames_by_server(found)) >= len(servers) for _, found in with_leases):
            continue  # one server only; or one conversation shows them all, and TPE341 reports it
        leasing = [match for match, found in with_leases if any(lease.server in servers for lease in found)]
        frames = cited_frames(frames[0] for frames in servers.values())
        refusing = {server for match in matches for server in refusing_servers(match)}
        clause = servers_clause(sorted(servers), [lease for _, found in with_leases for lease in found], refusing)
        yield Issue(
            f"Addresses are offered to {station.address} by {len(servers)} servers: {clause}.",
            base_station=station.address,
            rows=tuple(dict.fromkeys(row.id for match in leasing for row in match.rows)),
            conversations=tuple(match.conversation for match in leasing),
            frames=frames,
            filter=frames_filter(frames),
        )


@check("TPE345", "dhcp-server-unnamed", Severity.LOW, protocol="dhcp")
def server_unnamed(match: Match) -> Iterator[Issue]:
    """Flags: offers and acknowledgements that do not tell which server they are from.

    Why: A server must name itself (RFC 2131, table 3), for the client chooses by that name; what does not is a faulty
    server, or a tool that forges answers.

    Evidence: Messages of these types without a server identifier.

    Remedy: Find the host that sent them and replace or switch off its DHCP server.
    """
    frames = [
        message.item.frame
        for message in join_messages(match.conversation.dissection.items)
        if message.type in (OFFER, ACK) and message.server is None
    ]
    if frames:
        yield Issue("Addresses are given by a server that does not name itself.", cited_frames(frames))


@check("TPE346", "dhcp-address-in-use", Severity.LOW, protocol="dhcp", kind=Kind.NOTICE)
def address_in_use(match: Match) -> Iterator[Issue]:
    """Flags: a client that declines the address which it was given, because another host uses it.

    Why: Two hosts under one address reach nothing reliably; somebody may have taken the base station's address.

    Evidence: DHCPDECLINE messages.

    Remedy: Find the other host that uses the address, and take the address out of the server's range or of the host.
    """
    frames = frames_of_type(match, DECLINE)
    if frames:
        yield Issue("The address that the server gave is used by another host (DHCPDECLINE).", cited_frames(frames))


@check("TPE347", "dhcp-static-routes", Severity.LOW, protocol="dhcp", kind=Kind.NOTICE)
def static_routes(match: Match) -> Iterator[Issue]:
    """Flags: a DHCP server that hands out routes of its own, beside the default router.

    Why: A route that is more exact than the tunnel's leads traffic around the tunnel, in clear (CVE-2024-3661); any
    host on the link that answers DHCP faster than the server can hand out such routes.

    Evidence: Classless static routes (option 121, or 249) in the server's answers.

    Remedy: Check that these routes are meant, and make the base station ignore such options where it needs none.
    """
    facts = match.conversation.dissection.facts
    routes = facts.static_routes if isinstance(facts, DhcpFacts) else ()
    if routes:
        codes = {CLASSLESS_ROUTES, MICROSOFT_ROUTES}
        found = join_messages(match.conversation.dissection.items)
        more = f" and {len(routes) - ROUTES_SHOWN} more" if len(routes) > ROUTES_SHOWN else ""
        yield Issue(
            f"The DHCP server hands out routes: {', '.join(routes[:ROUTES_SHOWN])}{more}.",
            cited_frames(message.item.frame for message in found if not codes.isdisjoint(message.options)),
        )


@check("TPE348", "dhcp-tunnel", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel(context: AuditContext) -> Iterator[Issue]:
    """Flags: options that carry more than a lease takes.

    Why: Options may hold any bytes, and DHCP reaches any host that the firewall lets it reach; a client sends the same
    options in all its messages, and a server the same ones with each lease.

    Evidence: In all conversations of one base station with one host, more than 2048 bytes that one side sends: of
    different values of any options, or of options for private use beyond 64 bytes in a message.

    Remedy: Find the program that sends these messages, and let DHCP reach your own servers only.
    """
    for station in context.stations:
        for (sender, receiver), carried in carried_options(station).items():
            size = carried.private + sum(len(value) for _, value in carried.values)
            if size > TUNNEL_BYTES:
                frames = cited_frames(carried.values.values())
                codes = sorted({code for code, _ in carried.values})
                listed = f"options {codes[0]} to {codes[-1]}" if len(codes) > 1 else f"option {codes[0]}"
                yield Issue(
                    f"DHCP from {sender} to {receiver} carries {size} bytes in {listed}, more than leases take.",
                    base_station=station.address,
                    rows=tuple(dict.fromkeys(row.id for match in carried.matches for row in match.rows)),
                    conversations=tuple(match.conversation for match in carried.matches),
                    frames=frames,
                    filter=frames_filter(frames),
                )


@check("TPE349", "dhcp-varied-messages", Severity.MEDIUM, protocol=NAME)
def varied_messages(match: Match) -> Iterator[Issue]:
    """Flags: many messages of one client that differ in their names, options or padding.

    Why: A client repeats its options in all its messages; what differs from message to message carries data, in
    whatever option or field.

    Evidence: Messages of one client, counted over the whole flow, that are unlike all before them: 16 or more, of more
    than 240 bytes on average. The elapsed time and the transaction do not count.

    Remedy: Find the program that sends these messages, and let DHCP reach your own servers only.
    """
    conversation = match.conversation
    facts = conversation.dissection.facts
    unlike, count = conversation.unlike[Direction.ORIGINATOR], conversation.packets[Direction.ORIGINATOR]
    one_client = len(facts._clients) == 1 if isinstance(facts, DhcpFacts) else conversation.responder.port == DHCP6_PORT
    if one_client and unlike >= MANY_UNLIKE and conversation.payload[Direction.ORIGINATOR] > count * ORDINARY_BYTES:
        datagrams = [datagram.frame for datagram in conversation.head.datagrams]
        yield Issue(
            f"{unlike} DHCP messages of one client differ in their options or padding, "
            f"{conversation.payload[Direction.ORIGINATOR]} bytes in all.",
            tuple(sorted(datagrams[-CITED:])),
        )


@dataclass(slots=True)
class CarriedOptions:
    """The options that one host sends to another one."""

    values: dict[tuple[int, bytes], Frame] = field(default_factory=dict)
    """Code and value → first frame; without :data:`SHORT_VALUE`."""
    private: int = 0
    """Bytes in private options beyond :data:`PRIVATE_BYTES` of a message, for values that came before."""
    matches: list[Match] = field(default_factory=list)


def carried_options(station: StationMatches) -> dict[tuple[str, str], CarriedOptions]:
    """The options in a base station's DHCP, by the addresses of sender and receiver."""
    found: dict[tuple[str, str], CarriedOptions] = {}
    for match in station.matches_by_protocol.get(NAME, ()):
        ends = match.conversation.originator.address, match.conversation.responder.address
        for message in join_messages(match.conversation.dissection.items):
            way = ends if message.item.direction is Direction.ORIGINATOR else ends[::-1]
            carried = found.setdefault(way, CarriedOptions())
            if match not in carried.matches[-1:]:
                carried.matches.append(match)
            repeated = 0
            for code, value in message.options.items():
                if (code, value) in carried.values:
                    repeated += len(value) if code in PRIVATE_OPTIONS else 0
                elif len(value) > SHORT_VALUE:
                    carried.values[code, value] = message.item.frame
            carried.private += max(0, repeated - PRIVATE_BYTES)
    return found


CHECKS: tuple[Check, ...] = (
    varied_messages,
    several_servers,
    refused,
    plain_bootp,
    rival_servers,
    server_unnamed,
    address_in_use,
    static_routes,
    tunnel,
)
