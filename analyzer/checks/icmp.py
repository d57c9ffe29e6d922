"""ICMP: echoes and errors are expected; control messages, forged replies and hidden data are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random

import numpy as np

from analyzer.conversations import Conversation, Conversations, items_of_flows
from analyzer.dataclass import dataclass
from analyzer.findings import (
    CAPTURE,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    cited_frames,
    frames_filter,
)
from analyzer.heads import Direction, Frame, cache_last
from analyzer.matching import Match, StationMatches
from analyzer.messages import Item, messages
from analyzer.protocols.icmp import ECHO_REQUEST, NAME, SAMPLE, Echo, EchoData, ErrorMessage, IcmpFacts, IcmpMessage
from analyzer.scanner import columns

GATEWAYS_SHOWN = 4
"""Maximum gateways of redirects that a sentence lists."""

LARGE = 1472
"""Bytes of data that fit unfragmented into an Ethernet frame: 1500 less the headers of IPv4 and ICMP."""
JUMBO = 8972
"""Bytes of data that fit unfragmented into a jumbo frame of 9000 bytes."""
TUNNEL_BYTES = 128
"""Mean bytes of data from which payloads that differ anywhere count as a tunnel; ordinary pings carry 8 to 56."""
CONTENT_BYTES = 8
"""Bytes behind the time stamp from which on the data of pings is compared byte by byte, whatever its length."""
TUNNEL_REPLIES = 4
"""Replies that differ from their requests, from which on they count as a tunnel."""
MANY_UNLIKE = 128
"""Pings of one identifier that are unlike all before them, of which a sweep over sizes has fewer."""
TUNNEL_REQUESTS = 8
"""Requests with different data, from which on they count as a tunnel."""
RECENT_REQUESTS = 8
"""Maximum requests of one identifier and sequence number with which a reply is compared: the newest."""
SPREAD_LIMIT = 2048
"""Maximum flows per host whose requests are compared; of more flows, a sample that is spread over all of them."""
STAMP = columns.ECHO_STAMP
"""Bytes at the beginning of a ping's data that may differ from ping to ping: time stamps and counters."""

ECHO_HEADER = 8
"""Bytes of an echo before its data (RFC 792)."""

CONTROL = ("redirect", "source-quench", "router-advertisement", "address-mask-reply", "router-renumbering")
"""Names of the messages that change how their receiver routes or sends."""
CONTROL_ERRORS = {"icmp": {4: "source-quench", 5: "redirect"}, "icmpv6": {137: "redirect"}}
"""By transport: types of :class:`~analyzer.conversations.IcmpError` among these messages, with their names."""


@dataclass(frozen=True, slots=True)
class Ping:
    """One echo request or reply, with its place in the capture."""

    echo: Echo
    direction: Direction
    frame: Frame
    time: int
    """Nanoseconds since the epoch."""
    beginning: bytes | None
    """First bytes of its data; ``None`` where too little was kept."""

    @property
    def is_request(self) -> bool:
        return self.echo.type in ECHO_REQUEST


@cache_last
def pings(match: Match) -> list[Ping]:
    """The echoes of a conversation, in the order of the capture."""
    return pings_of(match.conversation.dissection.items)


def pings_of(items: Sequence[Item]) -> list[Ping]:
    """The echoes among messages, each with its data."""
    found = []
    for index, item in enumerate(items):
        if isinstance(item.message, Echo):
            following = items[index + 1].message if index + 1 < len(items) else None
            beginning = following.beginning if isinstance(following, EchoData) else None
            found.append(Ping(item.message, item.direction, item.frame, item.time, beginning))
    return found


@check("TPE241", "icmp-not-echo", Severity.MEDIUM, protocol="icmp")
def not_echo(match: Match) -> Iterator[Issue]:
    """Flags: ICMP messages that are neither echoes nor errors, such as timestamp or address mask requests.

    Why: The row is for pings; the other queries have no use here but to learn about a host.

    Evidence: The type of the ICMP message.

    Remedy: Find out which program sends these messages, and let the firewall pass echoes and errors only.
    """
    other = [
        (item.frame, message.name)
        for item, message in messages(match.conversation.dissection.items, IcmpMessage)
        if message.name not in CONTROL
    ]
    if other:
        names = ", ".join(dict.fromkeys(name for _, name in other))
        yield Issue(f"The flow carries ICMP {names} instead of pings only.", cited_frames(frame for frame, _ in other))


@check("TPE242", "icmp-control-message", Severity.HIGH, protocol="icmp")
def control(match: Match) -> Iterator[Issue]:
    """Flags: redirects and other ICMP messages that tell their receiver how to route or send; high towards the
    base station, medium from it.

    Severity: high towards the base station, medium from it.

    Why: A redirect or router advertisement that a base station believes leads its traffic through somebody else.

    Evidence: The type of the ICMP message, its direction, and where a redirect leads.

    Remedy: Find out who sends these messages, and make the base station ignore ICMP redirects and advertisements.
    """
    sent = control_messages(match)
    station = station_direction(match)
    gateways_by_frame: dict[Frame, list[str]] = {}
    for item, message in messages(match.conversation.dissection.items, ErrorMessage):
        if message.name in CONTROL and message.gateway is not None:
            gateways_by_frame.setdefault(item.frame, []).append(message.gateway)
    for towards_station in (True, False):
        chosen = [(frame, name) for frame, name, sender in sent if (sender != station) is towards_station]
        if chosen:
            listed = ", ".join(dict.fromkeys(name for _, name in chosen))
            way = "The base station is sent" if towards_station else "The base station sends"
            gateways = sorted({gateway for frame, _ in chosen for gateway in gateways_by_frame.get(frame, ())})
            leads = f", which leads to {', '.join(gateways[:GATEWAYS_SHOWN])}" if gateways else ""
            yield Issue(
                f"{way} ICMP {listed}{leads}.",
                cited_frames(frame for frame, _ in chosen),
                None if towards_station else Severity.MEDIUM,
            )


def station_direction(match: Match) -> Direction:
    """The direction in which the base station sends."""
    return match.station.end(match.conversation) or Direction.ORIGINATOR


def control_messages(match: Match) -> list[tuple[Frame, str, Direction]]:
    """Frame, name and direction of each control message: those of the flow, and those that quote it."""
    conversation = match.conversation
    found = [
        (item.frame, item.message.name, item.direction)
        for item in conversation.dissection.items
        if isinstance(item.message, (IcmpMessage, ErrorMessage)) and item.message.name in CONTROL
    ]
    names = CONTROL_ERRORS.get(conversation.transport, {})
    for error in conversation.icmp_errors:
        if error.type in names:
            # An error goes to the sender of the packet that it quotes.
            found.append((error.frame, names[error.type], Direction(1 - error.quoted)))
    return found


@dataclass(frozen=True, slots=True)
class WrongReplies:
    """The replies of a conversation that are not the answer to a request."""

    differing: tuple[tuple[Ping, Ping], ...]
    """Request and reply with the same identifier and sequence number, and different data."""
    unrequested: tuple[Ping, ...]
    """Replies without a request, though the capture would show it."""


def wrong_replies(match: Match) -> WrongReplies:
    """Compare replies with the requests before them.

    A reply is left out where its request may lie before the capture or beyond the part of the flow that is kept.
    """
    found = pings(match)
    requests = [ping for ping in found if ping.is_request]
    kept = [sum(1 for ping in requests if ping.direction is direction) for direction in Direction]
    earlier: dict[tuple[Direction, int, int], list[Ping]] = {}
    differing: list[tuple[Ping, Ping]] = []
    unrequested: list[Ping] = []
    for ping in found:
        if ping.is_request:
            earlier.setdefault((ping.direction, ping.echo.identifier, ping.echo.sequence), []).append(ping)
            continue
        requester = Direction(1 - ping.direction)
        candidates = earlier.get((requester, ping.echo.identifier, ping.echo.sequence), [])[-RECENT_REQUESTS:]
        if any(returns_data(request, ping) for request in candidates):
            continue
        if candidates:
            differing.append((candidates[-1], ping))
            continue
        all_kept = kept[requester] >= match.conversation.packets[requester]
        covered = all_kept or any(request.time > ping.time for request in requests if request.direction is requester)
        # Before the first request of the capture a reply may answer an earlier one.
        if covered and earlier:
            unrequested.append(ping)
    return WrongReplies(tuple(differing), tuple(unrequested))


def returns_data(request: Ping, reply: Ping) -> bool:
    """Whether a reply returns the request's data, as far as the capture shows it."""
    data_known = request.beginning is not None and reply.beginning is not None
    lengths_known = request.echo.length is not None and reply.echo.length is not None
    equal_lengths = not lengths_known or request.echo.length == reply.echo.length
    return equal_lengths and (not data_known or request.beginning == reply.beginning)


def tunnel_signs(match: Match) -> tuple[str, list[Ping]] | None:
    """Why a conversation looks like a tunnel, with the pings that show it; ``None``: it does not."""
    differing = wrong_replies(match).differing
    pairs = [ping for pair in differing for ping in pair]
    if len(differing) >= TUNNEL_REPLIES and mean_length(pairs) >= TUNNEL_BYTES:
        return f"{len(differing)} replies carry other data than their requests", pairs
    for direction in Direction:
        sent = [ping for ping in pings(match) if ping.is_request and ping.direction is direction]
        carriers = data_carriers(sent)
        if carriers:
            unlike = match.conversation.unlike[direction]
            return f"{max(len(carriers), unlike)} requests carry data of their own", carriers
        unlike = match.conversation.unlike[direction]
        if unlike >= MANY_UNLIKE:
            sent = [ping for ping in pings(match) if ping.direction is direction]
            return f"{unlike} pings are unlike those before them", sent[::-1]
    return None


def data_carriers(requests: Sequence[Ping]) -> list[Ping]:
    """Requests that carry data of their own, the first with each data; empty: the requests look like those of a ping.

    A ping repeats its data behind the time stamp. Large requests carry data if every second one differs from those
    before; requests of any length, and among any number of ordinary ones, if most of their bytes differ.
    """
    first: dict[bytes, Ping] = {}
    for ping in requests:
        if ping.beginning is not None and len(ping.beginning) > STAMP:
            first.setdefault(ping.beginning[STAMP:], ping)
    if len(first) < TUNNEL_REQUESTS:
        return []
    carriers = list(first.values())
    large = 2 * len(first) >= len(requests) and mean_length(requests) >= TUNNEL_BYTES
    return carriers if large or differ_throughout(first) else []


def differ_throughout(contents: Iterable[bytes]) -> bool:
    """Whether contents take many values in at least half of their bytes, unlike patterns, counters and time stamps."""
    long = [content for content in contents if len(content) >= CONTENT_BYTES]
    places = list(zip(*long, strict=False))  # as far as the shortest reaches
    varied = sum(len(set(values)) >= TUNNEL_REQUESTS / 2 for values in places)
    return len(long) >= TUNNEL_REQUESTS and 2 * varied >= len(places)


def mean_length(found: Iterable[Ping]) -> float:
    """Mean bytes of data of those pings whose length is known."""
    lengths = [ping.echo.length for ping in found if ping.echo.length is not None]
    return sum(lengths) / max(1, len(lengths))


@check("TPE243", "icmp-reply-mismatch", Severity.MEDIUM, protocol="icmp")
def reply_mismatch(match: Match) -> Iterator[Issue]:
    """Flags: echo replies whose identifier and sequence number no request had, or whose data is not the request's.

    Why: A host must return the data of the request unchanged (RFC 792; RFC 4443, 4.2); anything else is a broken
    host, a forged reply or hidden data.

    Evidence: Identifier, sequence number, length and the first 48 bytes of data of requests and replies. A host that
    pings itself is not judged, for its packets have no direction.

    Remedy: Find out which host or program on the way makes these replies.
    """
    conversation = match.conversation
    if tunnel_signs(match) or conversation.originator.address == conversation.responder.address:
        return
    wrong = wrong_replies(match)
    if wrong.differing:
        request, reply = wrong.differing[0]
        asked, answered = request.echo.length, reply.echo.length
        lengths_differ = None not in (asked, answered) and asked != answered
        how = f"{asked} bytes asked, {answered} bytes answered" if lengths_differ else "other bytes than were sent"
        yield Issue(
            f"Echo replies did not return the data of their requests, {len(wrong.differing)} in all"
            f" ({how} in the first).",
            cited_frames(ping.frame for pair in wrong.differing for ping in pair),
        )
    if wrong.unrequested:
        first = wrong.unrequested[0].echo
        yield Issue(
            f"Echo replies answer no request of the capture, {len(wrong.unrequested)} in all"
            f" (identifier {first.identifier}, sequence {first.sequence} in the first).",
            cited_frames(ping.frame for ping in wrong.unrequested),
        )


@check("TPE244", "icmp-tunnel", Severity.MEDIUM, protocol="icmp")
def tunnel(match: Match) -> Iterator[Issue]:
    """Flags: echoes whose data differs from ping to ping, and many large ones whose replies differ from their requests.

    Why: Data in pings is how an ICMP tunnel passes firewalls; a ping repeats its data and the reply returns it.

    Evidence: Lengths and the first 48 bytes of data of requests and replies; time stamps at the front do not count.

    Remedy: Find the program that makes these pings on the base station or TPE, and stop it.
    """
    signs = tunnel_signs(match)
    if signs:
        reason, shown = signs
        yield Issue(
            f"The pings look like a tunnel: {reason}, {mean_length(shown):.0f} bytes on average.",
            cited_frames(ping.frame for ping in shown),
        )


@check("TPE245", "icmp-large-payload", Severity.LOW, protocol="icmp")
def large_payload(match: Match) -> Iterator[Issue]:
    """Flags: echoes with more than 1472 bytes of data, which must be fragmented on Ethernet.

    Severity: medium above 8972 bytes, which not even a jumbo frame holds; low up to there.

    Why: A base station pings with 56 bytes, or 8 on a cellular link; large pings are somebody's test of the path or
    somebody's data.

    Evidence: The length of the data.

    Remedy: Find out who sends large pings, and reduce their size.
    """
    large = [(ping.frame, ping.echo.length) for ping in pings(match) if ping.echo.length and ping.echo.length > LARGE]
    if large and not tunnel_signs(match):
        largest = max(length for _, length in large)
        yield Issue(
            f"The flow carries {len(large)} large echo{'es' if len(large) > 1 else ''}, up to {largest} bytes of data.",
            cited_frames(frame for frame, _ in large),
            Severity.MEDIUM if largest > JUMBO else None,
        )


@check("TPE246", "icmp-tunnel-spread", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_spread(context: AuditContext) -> Iterator[Issue]:
    """Flags: pings between a base station and one host with an identifier and data of their own, among any others.

    Why: A tunnel whose every ping begins a new conversation shows in none of them alone, only in all of them together.

    Evidence: Requests of several conversations, their lengths and the first 48 bytes of their data; time stamps at the
    front do not count.

    Remedy: Find the program that makes these pings on the base station or TPE, and stop it.
    """
    for station in context.stations:
        for peer, matches in pings_by_peer(station).items():
            flows = sum(match.conversation.flow_count for match in matches)
            if flows < TUNNEL_REQUESTS or repeats_data(context.conversations, matches):
                continue
            if any(tunnel_signs(match) for match in matches):
                continue
            carriers = data_carriers(requests_of(matches, flows))
            if carriers:
                frames = cited_frames(ping.frame for ping in carriers)
                sampled = f" among those of {SPREAD_LIMIT} of {flows} flows" if flows > SPREAD_LIMIT else ""
                yield Issue(
                    f"The pings between {station.address} and {peer} look like a tunnel: {len(carriers)} requests"
                    f"{sampled} carry data of their own, {mean_length(carriers):.0f} bytes on average.",
                    base_station=station.address,
                    rows=tuple(dict.fromkeys(row.id for match in matches for row in match.rows)),
                    conversations=tuple(match.conversation for match in matches),
                    frames=frames,
                    filter=frames_filter(frames),
                )


def pings_by_peer(station: StationMatches) -> dict[str, list[Match]]:
    """The conversations of a base station with echoes whose data is compared, by the other end's address."""
    found: dict[str, list[Match]] = {}
    for match in station.matches_by_protocol.get(NAME, ()):
        facts = match.conversation.dissection.facts
        if isinstance(facts, IcmpFacts) and (facts.largest_payload or 0) >= STAMP + CONTENT_BYTES:
            ends = {match.conversation.originator.address, match.conversation.responder.address}
            for peer in sorted(ends - set(station.station.addresses)):
                found.setdefault(peer, []).append(match)
    return found


def repeats_data(conversations: Sequence[Conversation], matches: Sequence[Match]) -> bool:
    """Whether all kept data of pings takes fewer values than that of a tunnel, which spares reading their messages."""
    if not isinstance(conversations, Conversations) or conversations.table is None:
        return False
    indexes = np.array([flow - 1 for match in matches for flow in match.conversation.flows], np.intp)
    values = conversations.table.distinct_payloads(indexes, ECHO_HEADER + STAMP, ECHO_HEADER + SAMPLE)
    return len(values) < TUNNEL_REQUESTS


def requests_of(matches: Sequence[Match], flows: int) -> list[Ping]:
    """The echo requests of all flows, or of :data:`SPREAD_LIMIT` of them: duplicate flows may carry different data."""
    chosen = set(Random(flows).sample(range(flows), min(flows, SPREAD_LIMIT)))
    found: list[Ping] = []
    number = 0  # of the flow, over all matches
    for match in matches:
        count = match.conversation.flow_count
        selected = [place for place in range(count) if number + place in chosen]
        number += count
        for items in items_of_flows(match.conversation, selected):
            found += (ping for ping in pings_of(items) if ping.is_request)
    return found


CHECKS: tuple[Check, ...] = (not_echo, control, reply_mismatch, tunnel, large_payload, tunnel_spread)
