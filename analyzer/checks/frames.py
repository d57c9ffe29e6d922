"""Frames beside the rows: what packets have that none needs, and frames without IP, ports or readable headers."""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from analyzer.conversations import Conversation, Oddity, OddPackets
from analyzer.findings import (
    CAPTURE,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    cited_frames,
    family,
    flow_filter,
    frames_filter,
)
from analyzer.flows import FrameKind, StrayFrames
from analyzer.frame_totals import StrayOwners
from analyzer.heads import DIRECTIONS, Direction
from analyzer.matching import StationMatches
from analyzer.messages import messages
from analyzer.protocols import icmp
from analyzer.unexpected import Pattern, UnexpectedGroup
from analyzer.verdicts import UNREAD_SHARE

KINDS_SHOWN = 4
"""Kinds of frames that a sentence lists."""
SMALL = 256
"""Bytes of all frames of a station that cannot be decoded up to which they carry hardly more than their headers."""
EQUIPMENT_SENDERS = 2
"""Hosts beside the base stations whose packets have a tail, from which on tails may be the capturing equipment's."""
SHORT_TAIL = 8
"""Mean bytes behind the packets of a flow up to which they are a frame check sequence and a tag of a switch."""

ODDITIES = {
    Oddity.SOURCE_ROUTE: "with a source route, which leads them by other hosts than the address that they show",
    Oddity.OPTION_DATA: "with IP options that carry data",
    Oddity.SURPLUS: "with {bytes} behind the end of their UDP datagrams",
    Oddity.TAIL: "with {bytes} behind the end of their IP packets",
    Oddity.MANY_EXTENSIONS: "with more than 16 extension headers",
}
"""What packets have, in words."""


@check("TPE106", "bytes-beside-the-packet", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def odd_packets(context: AuditContext) -> Iterator[Issue]:
    """Flags: Packets from or to a base station with source routes, options that carry data, more extension headers than
    a packet needs, or bytes behind the end of the packet.

    Severity: medium; low where a few bytes follow each packet, as a switch or a network card leaves them.

    Why: The network carries these bytes, and no reader of the protocol looks at them: nothing but a hidden channel
    needs them. A source route leads a packet by another host than the one that its address shows (RFC 7126).

    Evidence: The conversations of one peer, the first such packet of each, and how many bytes there are.

    Remedy: Find the program that makes these packets, and let the firewall drop them.
    """
    equipment = has_equipment_tails(context)
    for matches in context.stations:
        groups: dict[tuple[str, Oddity], list[tuple[Conversation, OddPackets]]] = defaultdict(list)
        own = matches.station.addresses
        for conversation in context.hosts.conversations[matches.station.address]:
            for odd in conversation.odd_packets:
                if odd.oddity is Oddity.TAIL and equipment:
                    continue
                end = conversation.responder if conversation.originator.address in own else conversation.originator
                groups[end.address, odd.oddity].append((conversation, odd))
        for (peer, oddity), found in groups.items():
            ways = {is_sent(conversation, odd, own) for conversation, odd in found}
            verb = "exchanges packets with" if len(ways) > 1 else "sends packets to" if ways == {True} else "gets from"
            size = sum(odd.bytes for _, odd in found)
            what = ODDITIES[oddity].format(bytes=f"{size:,} bytes" if size != 1 else "1 byte")
            packets = " packets" if verb == "gets from" else ""
            frames = cited_frames(odd.frame for _, odd in found)
            yield Issue(
                f"{matches.station.address} {verb} {peer}{packets} {what}.",
                frames=frames,
                base_station=matches.station.address,
                conversations=tuple({conversation.id: conversation for conversation, _ in found}.values()),
                filter=frames_filter(frames),
                severity=Severity.LOW if all(is_short_tail(conversation, odd) for conversation, odd in found) else None,
            )


def is_sent(conversation: Conversation, odd: OddPackets, own: Sequence[str]) -> bool:
    """Whether the base station sent the packets."""
    by_originator = odd.direction is Direction.ORIGINATOR
    return (conversation.originator if by_originator else conversation.responder).address in own


def is_short_tail(conversation: Conversation, odd: OddPackets) -> bool:
    """Whether packets have so few bytes behind them that a switch or a network card may have left them there."""
    return odd.oddity is Oddity.TAIL and odd.bytes <= SHORT_TAIL * conversation.packets[odd.direction]


def has_equipment_tails(context: AuditContext) -> bool:
    """Whether the bytes behind IP packets are those of the capturing equipment, such as time stamps: most of the other
    hosts' packets have them, too."""
    own = {address for matches in context.stations for address in matches.station.addresses}
    senders: dict[str, bool] = {}
    """Address → whether its packets have a tail."""
    for conversation in context.conversations:
        tails = {odd.direction for odd in conversation.odd_packets if odd.oddity is Oddity.TAIL}
        for way, end in zip(DIRECTIONS, (conversation.originator, conversation.responder), strict=True):
            if conversation.packets[way] and end.address not in own:
                senders[end.address] = senders.get(end.address, False) or way in tails
    with_tails = sum(senders.values())
    return with_tails >= EQUIPMENT_SENDERS and 2 * with_tails >= len(senders)


@check("TPE107", "frames-without-ip", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def frames_without_ip(context: AuditContext) -> Iterator[Issue]:
    """Flags: Frames of a base station's own MAC address that carry no IP and are no housekeeping of the link.

    Severity: medium where they have the type of housekeeping (ARP, LLDP, 802.1X and the like) but not its destination,
    size or content; low for any other type.

    Why: The table speaks of IP, and a base station needs nothing else but to find its neighbours. Whatever these frames
    carry stays on the link, where another host can pass it on.

    Evidence: How many frames of which types, and the first of each.

    Remedy: Find the program that sends these frames, and stop it.
    """
    for misused, severity in ((True, Severity.MEDIUM), (False, Severity.LOW)):
        kind = FrameKind.MISUSED if misused else FrameKind.OTHER
        for station, found in strays_by_station(context, kind).items():
            what = "not like it by destination, size or content" if misused else "no housekeeping of the link"
            yield stray_issue(station, found, f"without IP that are {what}", severity)


@check("TPE023", "unreadable-frames-of-base-station", Severity.MEDIUM, scope=CAPTURE, kind=Kind.NOTICE)
def unreadable_frames(context: AuditContext) -> Iterator[Issue]:
    """Flags: Frames from or to a base station whose headers contradict themselves.

    Severity: medium; low where they are few, and the snap length cuts frames of the capture or they are too small to
    carry much.

    Why: No row can be judged by them, and nobody can tell what they carry: a wrong IP version, or lengths that
    contradict each other, are made by damaged equipment or by somebody who hides something.

    Evidence: How many frames, and the first of them.

    Remedy: Look at these frames with Wireshark, and find out what makes them.
    """
    truncated = bool(context.counts.truncated)
    for station, found in strays_by_station(context, FrameKind.UNREADABLE).items():
        small = sum(stray.bytes for stray, _ in found) <= SMALL
        few = context.unread.get(station, 0.0) < UNREAD_SHARE
        low = few and (truncated or small)
        yield stray_issue(station, found, "that could not be decoded", Severity.LOW if low else None)


def strays_by_station(context: AuditContext, kind: FrameKind) -> dict[str, list[tuple[StrayFrames, bool]]]:
    """Address of a base station → its frames in no flow, and whether it sent them."""
    owners = StrayOwners(context.stations)
    found: dict[str, list[tuple[StrayFrames, bool]]] = defaultdict(list)
    for stray in context.strays:
        if stray.kind is kind:
            for station, sent in owners.of(stray):
                found[station].append((stray, sent))
    return found


def stray_issue(station: str, found: Sequence[tuple[StrayFrames, bool]], what: str, severity: Severity | None) -> Issue:
    """One issue for frames of a base station that belong to no flow."""
    sent = sum(stray.packets for stray, by_station in found if by_station)
    received = sum(stray.packets for stray, by_station in found if not by_station)
    verb = "sent and received" if sent and received else "sent" if sent else "received"
    size = sum(stray.bytes for stray, _ in found)
    frames = cited_frames(stray.first_frame for stray, _ in found)
    return Issue(
        f"{station} {verb} {frame_count(sent + received)} ({size:,} bytes) {what}: "
        f"{listed(stray for stray, _ in found)}.",
        frames=frames,
        base_station=station,
        filter=frames_filter(frames),
        severity=severity,
    )


def listed(strays: Iterable[StrayFrames]) -> str:
    """What frames carry, the most frequent first."""
    names: Counter[str] = Counter()
    for stray in strays:
        names[stray.name] += stray.packets
    shown = [f"{count} of {name}" for name, count in names.most_common(KINDS_SHOWN)]
    return ", ".join(shown) + (", …" if len(names) > KINDS_SHOWN else "")


def frame_count(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


@check("TPE108", "headless-fragments", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def headless_fragments(context: AuditContext) -> Iterator[Issue]:
    """Flags: Fragments from or to a base station whose first one, with the ports, is not in the capture, and that are
    too many to be lost.

    Why: Without its first fragment a datagram belongs to no service, and no receiver puts it together; the network
    carries it all the same.

    Evidence: The fragments between two hosts.

    Remedy: Find out who sends these fragments, or capture again on a machine that keeps up where packets were lost.
    """
    for group in context.unexpected(Pattern.FRAGMENTS):
        yield group_issue(group, "fragments of datagrams whose first fragment, with the ports, is not in the capture")


@check("TPE109", "unfounded-icmp-errors", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def unfounded_errors(context: AuditContext) -> Iterator[Issue]:
    """Flags: ICMP errors from or to a base station that no packet of the capture explains.

    Severity: medium; low where they quote what the base station sent shortly before the capture began, or the capture
    lacks all that it sent.

    Why: An error goes to the sender of the packet that it quotes, and quotes no more than that packet. Others quote
    what was not sent, or not captured, go to somebody else, or carry more: they are a way to pass data unseen.

    Evidence: The errors between two hosts.

    Remedy: Find out what makes these errors, or capture without the filter that left out what they quote.
    """
    stations = {matches.address: matches for matches in context.stations}
    for group in context.unexpected(Pattern.ERRORS):
        what = "ICMP errors that quote no packet of the capture, or more than it, or go to another host"
        unseen = quotes_unseen(stations[group.station.address], group)
        yield replace(group_issue(group, what), severity=Severity.LOW if unseen else None)


def quotes_unseen(matches: StationMatches, group: UnexpectedGroup) -> bool:
    """Whether ICMP errors quote what the capture cannot show: packets of the base station from before its beginning, or
    any, if it holds none of them."""
    own = set(matches.station.addresses)
    for conversation in group.conversations:
        quoted = [found for _, found in messages(conversation.dissection.items, icmp.Quoted)]
        if not quoted or any(str(ipaddress.ip_address(found.source)) not in own for found in quoted):
            return False
        end = matches.station.end(conversation)
        if end is None or conversation.packets[end]:
            return False  # the station sent them
        if matches.seen.sent and not matches.timeline.begins_near(conversation.latest):
            return False
    return True


def group_issue(group: UnexpectedGroup, what: str) -> Issue:
    """One issue for the packets that a base station exchanges with one peer, or with many."""
    station = group.station.address
    addresses = group.station.addresses
    sent = received = 0
    for conversation in group.conversations:
        by_originator = conversation.originator.address in addresses
        way = Direction.ORIGINATOR if by_originator else Direction.RESPONDER
        sent += conversation.packets[way] * conversation.flow_count
        received += conversation.packets[1 - way] * conversation.flow_count
    first, *others = group.peers
    peer = f"{1 + len(others)} hosts, {first} the first of them," if others else first
    verb = "exchanged with" if sent and received else "sent to" if sent else "got from"
    ends = [station] if others else [group.first.originator.address, group.first.responder.address]
    display = " && ".join(f"{family(end)} == {end}" for end in ends)
    return Issue(
        f"{station} {verb} {peer} {what} ({frame_count(sent + received)}).",
        base_station=station,
        conversations=group.conversations,
        filter=f"{display} && {'icmpv6' if ':' in station else 'icmp'}"
        if group.pattern is Pattern.ERRORS
        else flow_filter(group.first, False, ends),
    )


CHECKS: tuple[Check, ...] = (
    odd_packets,
    frames_without_ip,
    unreadable_frames,
    headless_fragments,
    unfounded_errors,
)
