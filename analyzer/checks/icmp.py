"""ICMP: pings and their replies, nothing else, and nothing hidden in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from analyzer import scanner
from analyzer.conversations import Conversation
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
from analyzer.flows import LazyDatagrams
from analyzer.heads import Direction, Frame, newest
from analyzer.matching import Match
from analyzer.messages import Item, messages
from analyzer.protocols import dissect
from analyzer.protocols.icmp import ECHO_REQUEST, Echo, EchoData, ErrorMessage, IcmpFacts, IcmpMessage

MAX_FRAMES = 8

GATEWAYS_SHOWN = 4

LARGE = 1472
"""Bytes of data that match unfragmented into an Ethernet frame with IPv4."""
ABSURD = 8972
"""Bytes of data that match even into a jumbo frame."""
CARRYING = 128
"""Mean bytes of data above which differing payloads are taken as somebody's data."""
SEVERAL = 4
"""Replies that must differ from their requests to call it a tunnel."""
VARYING = 8
"""Requests with different data to call it a transfer."""
SPREAD = 256
"""Conversations with one host, and requests in them, that are looked at together."""
STAMP = scanner.ECHO_STAMP
"""Bytes at the beginning of a ping's data that may differ from ping to ping: time stamps and counters."""

CONTROL = ("redirect", "source-quench", "router-advertisement", "address-mask-reply", "router-renumbering")
"""Messages that change how their receiver routes or sends."""
CONTROL_ERRORS = {"icmp": {4: "source-quench", 5: "redirect"}, "icmpv6": {137: "redirect"}}
"""Types of :class:`~analyzer.conversations.IcmpError` that do so too."""


@dataclass(frozen=True, slots=True)
class Ping:
    """One echo request or reply where it stands in the capture."""

    echo: Echo
    direction: Direction
    frame: Frame
    time: int
    beginning: bytes | None
    """Of its data; ``None`` where too little was kept."""

    @property
    def is_request(self) -> bool:
        return self.echo.type in ECHO_REQUEST


@newest
def pings(match: Match) -> list[Ping]:
    """The echoes of a conversation, in the order of the capture."""
    return echoes(match.conversation.dissection.items)


def echoes(items: Sequence[Item]) -> list[Ping]:
    """The echoes among messages, each with its data."""
    found = []
    for index, item in enumerate(items):
        if isinstance(item.message, Echo):
            after = items[index + 1].message if index + 1 < len(items) else None
            beginning = after.beginning if isinstance(after, EchoData) else None
            found.append(Ping(item.message, item.direction, item.frame, item.time, beginning))
    return found


def first_frames(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    return tuple(sorted(set(frames))[:MAX_FRAMES])


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
        yield Issue(f"The flow carries ICMP {names} instead of pings only.", first_frames(frame for frame, _ in other))


@check("TPE242", "icmp-control-message", Severity.HIGH, protocol="icmp")
def control(match: Match) -> Iterator[Issue]:
    """Flags: redirects and other ICMP messages that tell their receiver how to route or send; high towards the
    base station, medium from it.

    Why: A redirect or router advertisement that a base station believes leads its traffic through somebody else.

    Evidence: The type of the ICMP message, its direction, and where a redirect leads.

    Remedy: Find out who sends these messages, and make the base station ignore ICMP redirects and advertisements.
    """
    station_originates = match.conversation.responder.address != match.station
    station = Direction.ORIGINATOR if station_originates else Direction.RESPONDER
    found: list[tuple[Frame, str, bool]] = []
    to: dict[Frame, list[str]] = {}
    for item in match.conversation.dissection.items:
        message = item.message
        if isinstance(message, (IcmpMessage, ErrorMessage)) and message.name in CONTROL:
            found.append((item.frame, message.name, item.direction != station))
            if isinstance(message, ErrorMessage) and message.gateway is not None:
                to.setdefault(item.frame, []).append(message.gateway)
    names = CONTROL_ERRORS.get(match.conversation.transport, {})
    for error in match.conversation.icmp_errors:
        if error.type in names:
            found.append((error.frame, names[error.type], error.quoted == station))
    for towards in (True, False):
        chosen = [(frame, name) for frame, name, at_station in found if at_station is towards]
        if chosen:
            listed = ", ".join(dict.fromkeys(name for _, name in chosen))
            way = "The base station is sent" if towards else "The base station sends"
            gateways = sorted({gateway for frame, _ in chosen for gateway in to.get(frame, ())})
            leads = f", which leads to {', '.join(gateways[:GATEWAYS_SHOWN])}" if gateways else ""
            yield Issue(
                f"{way} ICMP {listed}{leads}.",
                first_frames(frame for frame, _ in chosen),
                None if towards else Severity.MEDIUM,
            )


@dataclass(frozen=True, slots=True)
class Replies:
    """What the replies of a conversation show beside their requests."""

    differing: tuple[tuple[Ping, Ping], ...]
    """Request and reply of the same identifier and sequence number with other data."""
    unasked: tuple[Ping, ...]
    """Replies that no request of the capture asked for, though it would have shown it."""


def replies(match: Match) -> Replies:
    """Match replies with the requests before them. What may lie before the capture or past the head is left out."""
    found = pings(match)
    requests: dict[tuple[Direction, int, int], list[Ping]] = {}
    differing: list[tuple[Ping, Ping]] = []
    unasked: list[Ping] = []
    asked = [each for each in found if each.is_request]
    counts = [sum(1 for each in asked if each.direction is direction) for direction in Direction]
    for each in found:
        if each.is_request:
            requests.setdefault((each.direction, each.echo.identifier, each.echo.sequence), []).append(each)
            continue
        asker = Direction(1 - each.direction)
        candidates = requests.get((asker, each.echo.identifier, each.echo.sequence), [])[-8:]
        if any(same(request, each) for request in candidates):
            continue
        if candidates:
            differing.append((candidates[-1], each))
            continue
        whole = counts[asker] >= match.conversation.packets[asker]
        covered = whole or any(other.time > each.time for other in asked if other.direction is asker)
        begun = bool(requests)  # before the first request of the capture a reply may answer an earlier one
        if covered and begun:
            unasked.append(each)
    return Replies(tuple(differing), tuple(unasked))


def same(request: Ping, reply: Ping) -> bool:
    """Whether a reply returns the request's data, as far as the capture shows it."""
    known = request.beginning is not None and reply.beginning is not None
    measured = request.echo.length is not None and reply.echo.length is not None
    equal = not measured or request.echo.length == reply.echo.length
    return equal and (not known or request.beginning == reply.beginning)


def tunnelling(match: Match) -> tuple[str, list[Ping]] | None:
    """Why a conversation looks like a tunnel, with the messages that show it."""
    found = pings(match)
    differing = replies(match).differing
    if len(differing) >= SEVERAL and mean(each for pair in differing for each in pair) >= CARRYING:
        both = [each for pair in differing for each in pair]
        return f"{len(differing)} replies carry other data than their requests", both
    for direction in Direction:
        sent = [each for each in found if each.is_request and each.direction is direction]
        tails = {each.beginning[STAMP:] for each in sent if each.beginning and len(each.beginning) > STAMP}
        if len(tails) >= VARYING and 2 * len(tails) >= len(sent) and mean(sent) >= CARRYING:
            return f"{len(sent)} requests carry ever other data", sent
    return None


def mean(found: Iterable[Ping]) -> float:
    """Mean bytes of data, where it is known."""
    lengths = [each.echo.length for each in found if each.echo.length is not None]
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
    if tunnelling(match) or match.conversation.originator.address == match.conversation.responder.address:
        return
    found = replies(match)
    if found.differing:
        request, reply = found.differing[0]
        asked, answered = request.echo.length, reply.echo.length
        measured = None not in (asked, answered) and asked != answered
        how = f"{asked} bytes asked, {answered} bytes answered" if measured else "other bytes than were sent"
        yield Issue(
            f"Echo replies did not return the data of their requests, {len(found.differing)} in all"
            f" ({how} in the first).",
            first_frames(each.frame for pair in found.differing for each in pair),
        )
    if found.unasked:
        first = found.unasked[0].echo
        yield Issue(
            f"Echo replies answer no request of the capture, {len(found.unasked)} in all"
            f" (identifier {first.identifier}, sequence {first.sequence} in the first).",
            first_frames(each.frame for each in found.unasked),
        )


@check("TPE244", "icmp-tunnel", Severity.MEDIUM, protocol="icmp")
def tunnel(match: Match) -> Iterator[Issue]:
    """Flags: many large echoes whose replies differ from their requests, or whose data differs from ping to ping.

    Why: Data in pings is how an ICMP tunnel passes firewalls; a ping repeats its data and the reply returns it.

    Evidence: Lengths and the first 48 bytes of data of requests and replies; time stamps at the front do not count.

    Remedy: Find the program that makes these pings on the base station or TPE, and stop it.
    """
    found = tunnelling(match)
    if found:
        why, shown = found
        yield Issue(
            f"The pings look like a tunnel: {why}, {mean(shown):.0f} bytes each on average.",
            first_frames(each.frame for each in shown),
        )


@check("TPE245", "icmp-large-payload", Severity.LOW, protocol="icmp")
def large_payload(match: Match) -> Iterator[Issue]:
    """Flags: echoes with more than 1472 bytes of data, which must be fragmented on Ethernet; of medium severity above
    8972 bytes, which not even a jumbo frame holds.

    Why: A base station pings with 56 bytes, or 8 on a cellular link; large pings are somebody's test of the path or
    somebody's data.

    Evidence: The length of the data.

    Remedy: Find out who sends large pings, and reduce their size.
    """
    large = [(each, each.echo.length) for each in pings(match) if each.echo.length and each.echo.length > LARGE]
    if large and not tunnelling(match):
        most = max(length for _, length in large)
        yield Issue(
            f"The flow carries {len(large)} large echo{'es' if len(large) > 1 else ''}, up to {most} bytes of data.",
            first_frames(each.frame for each, _ in large),
            Severity.MEDIUM if most > ABSURD else None,
        )


@check("TPE246", "icmp-tunnel-spread", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_spread(context: AuditContext) -> Iterator[Issue]:
    """Flags: many large pings between a base station and one host, each with an identifier of its own and other data.

    Why: A tunnel whose every ping begins a new conversation shows in none of them alone; taken together they carry
    ever other data.

    Evidence: Requests of several conversations, their lengths and the first 48 bytes of their data; time stamps at the
    front do not count.

    Remedy: Find the program that makes these pings on the base station or TPE, and stop it.
    """
    for matched in context.stations:
        by_peer: dict[str, list[Match]] = {}
        for match in matched.matches:
            facts = match.conversation.dissection.facts
            if isinstance(facts, IcmpFacts) and (facts.largest_payload or 0) >= CARRYING:
                ends = {match.conversation.originator.address, match.conversation.responder.address}
                for peer in sorted(ends - set(matched.station.addresses)):
                    by_peer.setdefault(peer, []).append(match)
        for peer, matches in by_peer.items():
            if sum(match.conversation.flow_count for match in matches) < VARYING or any(
                tunnelling(match) for match in matches
            ):
                continue
            sent = [ping for match in matches[:SPREAD] for ping in asked(match.conversation)][:SPREAD]
            tails = {each.beginning[STAMP:] for each in sent if each.beginning and len(each.beginning) > STAMP}
            if len(tails) >= VARYING and 2 * len(tails) >= len(sent) and mean(sent) >= CARRYING:
                frames = first_frames(each.frame for each in sent)
                yield Issue(
                    f"The pings between {matched.station.address} and {peer} look like a tunnel: {len(sent)} requests "
                    f"carry ever other data, {mean(sent):.0f} bytes each on average.",
                    base_station=matched.station.address,
                    rows=tuple(dict.fromkeys(row.id for match in matches for row in match.rows)),
                    conversations=tuple(match.conversation for match in matches),
                    frames=frames,
                    filter=frames_filter(frames),
                )


def asked(each: Conversation) -> Iterator[Ping]:
    """The echo requests of a conversation, and of the first flows that it stands for: these may carry other data."""
    heads = [each.head.datagrams]
    if isinstance(each.head.datagrams, LazyDatagrams):
        heads += [each.head.datagrams.flows.datagrams(flow - 1, each.side) for flow in each.repeats[:SPREAD]]
    for datagrams in heads:
        said = dissect(each.head._replace(datagrams=tuple(datagrams)))
        yield from (ping for ping in echoes(said.items) if ping.is_request)


CHECKS: tuple[Check, ...] = (not_echo, control, reply_mismatch, tunnel, large_payload, tunnel_spread)
