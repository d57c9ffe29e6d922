"""DHCP: one server gives the base station its address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analyzer.findings import (
    CAPTURE,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    frames_filter,
)
from analyzer.heads import Direction, Frame
from analyzer.matching import Match
from analyzer.messages import messages
from analyzer.protocols.dhcp import (
    ACK,
    CLASSLESS_ROUTES,
    DECLINE,
    MICROSOFT_ROUTES,
    NAK,
    NAME,
    OFFER,
    UNSPECIFIED,
    Bootp,
    DhcpFacts,
    whole,
)

FRAMES_SHOWN = 8
ROUTES_SHOWN = 4


def typed(match: Match, *types: int) -> list[Frame]:
    """The frames of messages of some types, ascending."""
    return sorted({each.item.frame for each in whole(match.conversation.dissection.items) if each.type in types})


@dataclass(frozen=True, slots=True)
class Gift:
    """An address that a server offers or confirms."""

    server: str
    """Its identifier; where it tells none, the sender's address."""
    relay: str
    lease: tuple[int, bytes, str]
    """The exchange that it belongs to: transaction, client's hardware address, and the address given."""
    frame: Frame


def gifts(match: Match) -> list[Gift]:
    """The offers and acknowledgements of a conversation."""
    each = match.conversation
    found = []
    for message in whole(each.dissection.items):
        if message.type in (OFFER, ACK):
            header, item = message.header, message.item
            sender = each.originator if item.direction is Direction.ORIGINATOR else each.responder
            lease = header.xid, header.chaddr, header.yiaddr
            found.append(Gift(message.server or sender.address, header.giaddr, lease, item.frame))
    return found


def givers(given: Sequence[Gift]) -> dict[str, list[Frame]]:
    """The servers of gifts, each with its frames.

    A relay agent may put itself in the server's place towards the client (RFC 5107): the same gift then comes from
    the server to the relay agent, and under the relay agent's own address to the client.
    """
    behind = {(each.relay, each.lease) for each in given if each.server != each.relay != UNSPECIFIED}
    frames: dict[str, list[Frame]] = {}
    for each in given:
        if (each.server, each.lease) not in behind:
            frames.setdefault(each.server, []).append(each.frame)
    return frames


@check("TPE341", "dhcp-several-servers", Severity.MEDIUM, protocol="dhcp")
def several_servers(match: Match) -> Iterator[Issue]:
    """Flags: addresses offered or confirmed by more than one DHCP server in one conversation.

    Why: Whoever answers first decides on the base station's router, name server and time; a second server is often
    a rogue or forgotten one.

    Evidence: The server identifiers of the offers and acknowledgements.

    Remedy: Find the DHCP server that does not belong there and switch it off.
    """
    frames = givers(gifts(match))
    if len(frames) > 1:
        shown = sorted({frame for each in frames.values() for frame in each[: FRAMES_SHOWN // 2]})[:FRAMES_SHOWN]
        yield Issue(f"Addresses are offered by {len(frames)} servers: {', '.join(sorted(frames))}.", tuple(shown))


@check("TPE342", "dhcp-refused", Severity.LOW, protocol="dhcp", kind=Kind.NOTICE)
def refused(match: Match) -> Iterator[Issue]:
    """Flags: a DHCP server that refuses the address which the base station asks for.

    Why: The base station must start over, and has no address until a server gives it one.

    Evidence: DHCPNAK messages.

    Remedy: Look up on the DHCP server why it refused the address.
    """
    frames = typed(match, NAK)
    if frames:
        yield Issue("The DHCP server refuses the address that was asked for (DHCPNAK).", tuple(frames[:FRAMES_SHOWN]))


@check("TPE343", "dhcp-plain-bootp", Severity.LOW, protocol="dhcp")
def plain_bootp(match: Match) -> Iterator[Issue]:
    """Flags: messages of plain BOOTP, without any DHCP option.

    Why: BOOTP is what came before DHCP; its addresses have no lease, and no current base station asks for them.

    Evidence: An empty vendor area where DHCP has its magic cookie and the message type.

    Remedy: Find out which device or boot loader speaks BOOTP and configure DHCP or a static address there.
    """
    frames = sorted({item.frame for item, _ in messages(match.conversation.dissection.items, Bootp)})
    if frames:
        yield Issue("The messages are plain BOOTP, which has no leases, instead of DHCP.", tuple(frames[:FRAMES_SHOWN]))


@check("TPE344", "dhcp-rival-servers", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def rival_servers(context: AuditContext) -> Iterator[Issue]:
    """Flags: addresses offered or confirmed to one base station by DHCP servers in different conversations.

    Why: A server that answers from its own address makes a conversation of its own. A second one decides on the base
    station's router, name server and time as much as the first, and is often a rogue or forgotten one.

    Evidence: The offers and acknowledgements of each server.

    Remedy: Find the DHCP server that does not belong there and switch it off.
    """
    for matched in context.stations:
        matches = [match for match in matched.matches if match.conversation.protocol == NAME]
        by_fit = [(match, given) for match in matches if (given := gifts(match))]
        servers = givers([each for _, given in by_fit for each in given])
        if len(servers) < 2 or any(len(givers(given)) >= len(servers) for _, given in by_fit):
            continue  # one server, or one conversation shows them all
        giving = [match for match, given in by_fit if any(each.server in servers for each in given)]
        shown = sorted({frames[0] for frames in servers.values()})[:FRAMES_SHOWN]
        yield Issue(
            f"Addresses are offered to {matched.station.address} by {len(servers)} servers: "
            f"{', '.join(sorted(servers))}.",
            base_station=matched.station.address,
            rows=tuple(dict.fromkeys(row.id for match in giving for row in match.rows)),
            conversations=tuple(match.conversation for match in giving),
            frames=tuple(shown),
            filter=frames_filter(shown),
        )


@check("TPE345", "dhcp-server-unnamed", Severity.LOW, protocol="dhcp")
def server_unnamed(match: Match) -> Iterator[Issue]:
    """Flags: offers and acknowledgements that do not tell which server they are from.

    Why: A server must name itself (RFC 2131, table 3), for the client chooses by that name; what does not is a faulty
    server, or a tool that forges answers.

    Evidence: Messages of these types without a server identifier.

    Remedy: Find the host that sent them and replace or switch off its DHCP server.
    """
    found = whole(match.conversation.dissection.items)
    frames = sorted({each.item.frame for each in found if each.type in (OFFER, ACK) and each.server is None})
    if frames:
        yield Issue("Addresses are given by a server that does not name itself.", tuple(frames[:FRAMES_SHOWN]))


@check("TPE346", "dhcp-address-in-use", Severity.LOW, protocol="dhcp", kind=Kind.NOTICE)
def address_in_use(match: Match) -> Iterator[Issue]:
    """Flags: a client that declines the address which it was given, because another host uses it.

    Why: Two hosts under one address reach nothing reliably; somebody may have taken the base station's address.

    Evidence: DHCPDECLINE messages.

    Remedy: Find the other host that uses the address, and take the address out of the server's range or of the host.
    """
    frames = typed(match, DECLINE)
    if frames:
        yield Issue(
            "The address that the server gave is used by another host (DHCPDECLINE).", tuple(frames[:FRAMES_SHOWN])
        )


@check("TPE347", "dhcp-static-routes", Severity.LOW, protocol="dhcp", kind=Kind.NOTICE)
def static_routes(match: Match) -> Iterator[Issue]:
    """Flags: a DHCP server that hands out routes of its own, beside the default router.

    Why: A route that is more exact than the tunnel's leads traffic around the tunnel, in clear (CVE-2024-3661); any
    host on the link that answers DHCP faster than the server can hand out such routes.

    Evidence: Classless static routes (option 121, or 249) in the server's answers.

    Remedy: Check that these routes are meant, and make the base station ignore such options where it needs none.
    """
    facts = match.conversation.dissection.facts
    ways = facts.static_routes if isinstance(facts, DhcpFacts) else ()
    if ways:
        codes = {CLASSLESS_ROUTES, MICROSOFT_ROUTES}
        found = whole(match.conversation.dissection.items)
        frames = sorted({each.item.frame for each in found if not codes.isdisjoint(each.options)})
        more = f" and {len(ways) - ROUTES_SHOWN} more" if len(ways) > ROUTES_SHOWN else ""
        yield Issue(
            f"The DHCP server hands out routes: {', '.join(ways[:ROUTES_SHOWN])}{more}.", tuple(frames[:FRAMES_SHOWN])
        )


CHECKS: tuple[Check, ...] = (
    several_servers,
    refused,
    plain_bootp,
    rival_servers,
    server_unnamed,
    address_in_use,
    static_routes,
)
