"""Preambles: connections that pass a proxy or a load balancer, or begin with STARTTLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from analyzer.conversations import Conversation
from analyzer.findings import CAPTURE, CITED, AuditContext, Check, Issue, Kind, Severity, check, flow_filter
from analyzer.heads import DIRECTIONS, Frame
from analyzer.matching import StationMatches
from analyzer.naming import protocol_name
from analyzer.protocols.preambles import (
    ACCEPTED,
    CONNECT,
    LDAP,
    POSTGRESQL,
    SOCKS4,
    SOCKS5,
    STARTTLS,
    UNANSWERED,
    XMPP,
    Preamble,
)

PROXIES = frozenset({CONNECT, SOCKS4, SOCKS5})
"""Preambles that ask a proxy."""
SWITCHES = frozenset({STARTTLS, LDAP, XMPP, POSTGRESQL})
"""Preambles that ask the server to go on in TLS."""
TARGETS_SHOWN = 4
"""Maximum targets that a sentence lists."""


class GroupKey(NamedTuple):
    """What the connections of one issue share."""

    server: str
    port: int | None
    """Of a proxy; ``None``: services of several ports, behind one load balancer, are one group."""
    name: str
    outcome: str
    follows: str | None
    """Name of the next preamble, or of the protocol after the last one."""


Group = list[tuple[Conversation, Preamble]]


@check("TPE141", "preamble", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def named_preamble(context: AuditContext) -> Iterator[Issue]:
    """Flags: A connection begins with a preamble: a request to a proxy (HTTP CONNECT, SOCKS 4 or 5), the header of a
    load balancer (PROXY protocol) or STARTTLS (also of LDAP, XMPP and PostgreSQL). Each of several is named.

    Severity: low where it asks a proxy, which may refuse, or the server does not go on in TLS; info otherwise.

    Why: What follows the preamble is judged as if it stood alone, but the address to which the connection goes is that
    of the proxy, and the real destination is known only by the name in the preamble. A proxy that refuses keeps the
    base station from its core.

    Evidence: The frames of the preamble, the destination that it names, and the proxy's answer. User names and
    passwords are neither kept nor shown.

    Remedy: Check that this proxy is meant to be on the way and lets the base station through, and name the addresses of
    TPE with --tpe if they are seen only behind it.
    """
    for station in context.stations:
        for key, found in by_preamble(station).items():
            conversations = tuple(conversation for conversation, _ in found)
            yield Issue(
                sentence(station.station.address, key, found),
                frames=frames_of(found),
                severity=Severity.LOW if key.name in PROXIES or key.outcome != ACCEPTED else None,
                base_station=station.station.address,
                conversations=conversations,
                filter=flow_filter(conversations[0]),
            )


def by_preamble(station: StationMatches) -> dict[GroupKey, Group]:
    """A base station's connections with preambles, by server and kind."""
    groups: dict[GroupKey, Group] = {}
    for conversation, _ in station.conversations():
        outermost = conversation.dissection.preamble
        for preamble in outermost.chain if outermost else ():
            server = conversation.responder
            content = conversation.protocol and protocol_name(conversation.protocol)
            follows = preamble.inner.name if preamble.inner else content
            key = GroupKey(
                server.address,
                server.port if preamble.name in PROXIES else None,
                preamble.name,
                preamble.outcome,
                None if preamble.refused else follows,
            )
            groups.setdefault(key, []).append((conversation, preamble))
    return groups


def sentence(station: str, key: GroupKey, found: Group) -> str:
    """What happened: the server is a proxy, or stands after a load balancer."""
    if key.port is None:
        place = f"{key.server} on {listed(f'tcp/{conversation.responder.port}' for conversation, _ in found)}"
    else:
        place = f"{key.server}, tcp/{key.port}"
    server = f"{place},"
    follows = key.follows or "content of unknown protocol"
    refused = found[0][1].refused
    if key.name in SWITCHES and (refused or key.outcome == UNANSWERED):
        return f"{place} {'refused' if refused else 'did not answer'} the {key.name} of {station}."
    if key.name in SWITCHES:
        return f"{station} and {place} switched to TLS with {key.name}."
    if key.name.startswith("PROXY"):
        sources = listed(preamble.source for _, preamble in found)
        client = f", which names {sources} as the client" if sources else ""
        return f"A {key.name} header precedes the {follows} between {station} and {place}{client}."
    targets = listed(target_of(preamble) for _, preamble in found)
    to_targets = f" to {targets}" if targets else ""
    if key.outcome == UNANSWERED:
        return f"The proxy {server} did not answer the request of {station} to connect{to_targets} ({key.name})."
    if refused:
        reason = key.outcome.removeprefix("refused: ")
        return f"The proxy {server} refused to connect {station}{to_targets} ({key.name}): {reason}."
    return f"{station} connects{to_targets} through the proxy {place} ({key.name}); {follows} follows."


def target_of(preamble: Preamble) -> str | None:
    """``tpe.example:3001``"""
    return preamble.target if preamble.target is None or preamble.port is None else f"{preamble.target}:{preamble.port}"


def listed(values: Iterator[str | None]) -> str:
    """The distinct values, the first few of them by name."""
    names = [value for value in dict.fromkeys(values) if value]
    shown = names[:TARGETS_SHOWN]
    more = len(names) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def frames_of(found: Group) -> tuple[Frame, ...]:
    """The frames that carry the preambles, up to :data:`~analyzer.findings.CITED`."""
    frames: dict[Frame, None] = {}
    for conversation, preamble in found[:CITED]:
        for direction in DIRECTIONS:
            marks = conversation.head.streams[direction].marks if preamble.sizes[direction] else ()
            frames |= dict.fromkeys(mark.frame for mark in marks if mark.offset < preamble.sizes[direction])
    return tuple(sorted(frames))[:CITED]


CHECKS: tuple[Check, ...] = (named_preamble,)
