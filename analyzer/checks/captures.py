"""The capture itself: what is damaged, missing, too much, or was read with keys."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from analyzer.conversations import FOLDED, Conversation
from analyzer.findings import CAPTURE, CITED, AuditContext, Check, Issue, Kind, Severity, check, family, frames_filter
from analyzer.heads import Direction
from analyzer.matching import first_fragment_missing, missing_direction
from analyzer.protocols import TOO_MANY_MESSAGES, dns
from analyzer.protocols.tls import TlsFacts
from analyzer.scanner.columns import MAX_UNLIKE
from analyzer.scanner.fragments import OVERLAPPING, OVERSIZED
from analyzer.stations import is_named
from analyzer.timeline import RunKind
from analyzer.wire import Cause


@check("TPE001", "damaged-capture", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def damaged_capture(context: AuditContext) -> Iterator[Issue]:
    """Flags: A file of the capture could not be read to its end.

    Why: What comes behind the damage was not audited; a file cut in the middle of a packet was still being written,
    or its disk was full.

    Evidence: The file, the offset of the damage and the reason.

    Remedy: Capture anew, or repair the file with a tool that skips damaged records, and audit it again.
    """
    for file in context.captures:
        for problem in file.problems:
            yield Issue(f"{file.path}: {problem}.")


@check("TPE002", "unreadable-packets", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def unreadable_packets(context: AuditContext) -> Iterator[Issue]:
    """Flags: Packets of the capture whose headers could not be read.

    Why: What was in them is not judged: a flow may hide there.

    Evidence: How many, by reason.

    Remedy: Capture with a larger snap length or on another interface, if the reason is not known to be harmless.
    """
    for reason, count in context.counts.unreadable.items():
        yield Issue(f"{count} packet{'s' if count > 1 else ''} could not be read: {reason}.")


@check("TPE003", "cut-packets", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def cut_packets(context: AuditContext) -> Iterator[Issue]:
    """Flags: Packets were captured shorter than they were.

    Why: Content behind the snap length is unknown and was judged neither right nor wrong.

    Evidence: How many.

    Remedy: Capture whole packets (tcpdump -s 0) if contents are to be judged.
    """
    if context.counts.truncated:
        yield Issue(f"{context.counts.truncated} of {context.counts.packets} packets were cut by the snap length.")


@check("TPE004", "empty-capture", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def empty_capture(context: AuditContext) -> Iterator[Issue]:
    """Flags: The capture holds no packet.

    Why: Nothing can be said about any base station; the capture filter or the interface may be wrong.

    Evidence: The number of packets.

    Remedy: Check the capture's interface and filter, and capture while the base station is running.
    """
    if not context.counts.packets:
        yield Issue("The capture holds no packet.")


@check("TPE005", "no-base-station", Severity.MEDIUM, scope=CAPTURE, kind=Kind.NOTICE)
def no_base_station(context: AuditContext) -> Iterator[Issue]:
    """Flags: No host of the capture could be recognised as a base station.

    Why: No verdict is possible: no host opens a flow of a signature row of any mode, or the named one is not there.

    Evidence: The number of conversations that were looked at.

    Remedy: Name the base station with --base-station, or capture where its traffic passes.
    """
    if not context.stations:
        flows = sum(conversation.flow_count for conversation in context.conversations)
        yield Issue(f"No base station was recognised among {flows} conversations.")


@check("TPE006", "named-host-unseen", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def named_host_unseen(context: AuditContext) -> Iterator[Issue]:
    """Flags: A host that was named is not in the capture.

    Why: Nothing is said about it: it was off, its traffic does not pass the capture point, or the name is mistyped.

    Evidence: The name, and all addresses of the capture.

    Remedy: Check the name that was given, and that the capture point sees this host.
    """
    if not context.conversations:
        return
    stations = [(address, found.station.mac) for found in context.stations for address in found.station.addresses]
    for name in dict.fromkeys(context.hosts.named.base_stations):
        if not any(is_named(name, address, mac) for address, mac in stations):
            yield Issue(f"The base station {name} is not in the capture.")
    for name in dict.fromkeys(context.hosts.named.tpe):
        if not any(is_named(name, address, None) for address in context.hosts.tpe):
            yield Issue(f"TPE {name} is not in the capture.")


@check("TPE007", "captured-twice", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def captured_twice(context: AuditContext) -> Iterator[Issue]:
    """Flags: Packets that the capture shows more than once.

    Why: A capture on all interfaces of a router, or from two mirror ports, shows each packet two or three times. The
    copies are counted once and judged once.

    Evidence: How many packets were left out as copies.

    Remedy: Capture on one interface, if the copies are not wanted.
    """
    if context.counts.copies:
        copies = (
            "1 packet is a copy of another one"
            if context.counts.copies == 1
            else f"{context.counts.copies} packets are copies of others"
        )
        yield Issue(f"{copies} in the capture; each packet is counted once.")


@check("TPE008", "overlapping-fragments", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def overlapping_fragments(context: AuditContext) -> Iterator[Issue]:
    """Flags: Fragments of one IP datagram that overlap, or reach past the largest datagram.

    Severity: medium where a base station is an end of the flow, low elsewhere.

    Why: No sender cuts a datagram so. Receivers put such fragments together differently, which hides content from
    firewalls and analyzers, and some fail on them; IPv6 forbids them (RFC 5722).

    Evidence: The flows, and how many such datagrams the capture holds.

    Remedy: Find out who sends these fragments, and let the firewall drop fragments that overlap.
    """
    count = context.counts.overlapping_datagrams
    total = "1 datagram of the capture is" if count == 1 else f"{count} datagrams of the capture are"
    by_station = overlapping_by_station(context)
    for station, conversations in by_station.items():
        flows = "1 flow has" if len(conversations) == 1 else f"{len(conversations)} flows have"
        yield Issue(
            f"{flows} fragments that overlap or reach past the largest datagram: {total} made so.",
            base_station=station,
            conversations=tuple(conversations),
            filter=fragments_filter(conversations[0]),
            severity=Severity.MEDIUM if station else None,
        )
    if count and not by_station:
        yield Issue(f"{total} made of fragments that overlap or reach past the largest datagram.")


def overlapping_by_station(context: AuditContext) -> dict[str | None, list[Conversation]]:
    """Conversations with overlapping or oversized fragments, by the base station at an end; ``None``: at neither."""
    stations = {address: station.address for station in context.stations for address in station.station.addresses}
    found: dict[str | None, list[Conversation]] = {}
    for conversation in context.conversations:
        if OVERLAPPING in conversation.notes or OVERSIZED in conversation.notes:
            ends = (conversation.originator.address, conversation.responder.address)
            owner = next((stations[end] for end in ends if end in stations), None)
            found.setdefault(owner, []).append(conversation)
    return found


def fragments_filter(conversation: Conversation) -> str:
    """A display filter for the overlapping and oversized fragments between a conversation's ends."""
    ends = (conversation.originator.address, conversation.responder.address)
    protocol = family(ends[0]).removesuffix(".addr")
    wrong = f"({protocol}.fragment.overlap == 1 || {protocol}.fragment.toolongfragment == 1)"
    return " && ".join([*(f"{family(end)} == {end}" for end in ends), wrong])


@check("TPE009", "incomplete-datagrams", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def incomplete_datagrams(context: AuditContext) -> Iterator[Issue]:
    """Flags: Fragmented datagrams that never became whole.

    Severity: low where some were given up early, because too many were incomplete at a time, or where the fragment with
    the ports is missing; info otherwise.

    Why: What the missing fragments carried was judged neither right nor wrong; a flood of incomplete datagrams may be
    meant to exhaust who puts them together. Without its first fragment a datagram has no ports: between hosts that
    talk to each other it may be part of any of their flows.

    Evidence: How many, and the flows that are made of such fragments.

    Remedy: Capture where no packets are lost, and find the sender if there are many.
    """
    count, abandoned = context.counts.incomplete_datagrams, context.counts.abandoned_datagrams
    if count:
        datagrams = "1 fragmented datagram is" if count == 1 else f"{count} fragmented datagrams are"
        early = f"; {abandoned} of them had to be given up early" if abandoned else ""
        without_ports = tuple(
            conversation for conversation in context.conversations if first_fragment_missing(conversation)
        )
        ports = "; without their first fragment their ports are unknown" if without_ports else ""
        yield Issue(
            f"{datagrams} not whole in the capture{early}{ports}.",
            conversations=without_ports,
            severity=Severity.LOW if abandoned or without_ports else None,
        )


@check("TPE010", "flows-folded", Severity.MEDIUM, scope=CAPTURE, kind=Kind.NOTICE)
def flows_folded(context: AuditContext) -> Iterator[Issue]:
    """Flags: The capture has more flows than are kept apart.

    Why: From there on, what one host has with one service of another is a single flow, whatever its ports: its packets
    and bytes are counted, its content was not read. Floods and scans make such captures, also to hide something there.

    Evidence: The flows that stand for several; their client's port is unknown.

    Remedy: Cut the capture into shorter ones and audit each, and find out who opens so many flows.
    """
    if context.counts.folded_flows:
        folded = tuple(conversation for conversation in context.conversations if FOLDED in conversation.notes)
        flows = "1 flow stands" if context.counts.folded_flows == 1 else f"{context.counts.folded_flows} flows stand"
        yield Issue(f"{flows} for several, whose content was not read: there were too many.", conversations=folded)


@check("TPE011", "lost-packets", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def lost_packets(context: AuditContext) -> Iterator[Issue]:
    """Flags: The machine that captured says that it lost packets.

    Why: It could not keep up. What it lost was not audited: a row may look missing or blocked that was not, and a
    flow that should not be there may not show.

    Evidence: The number that the file itself tells.

    Remedy: Capture with a filter, a larger buffer (tcpdump -B) or a smaller snap length, on a machine that keeps up.
    """
    for file in context.captures:
        if file.facts.lost:
            packets = "1 packet was" if file.facts.lost == 1 else f"{file.facts.lost} packets were"
            yield Issue(f"{file.path}: {packets} lost by the machine that captured.")


@check("TPE012", "embedded-secrets", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def embedded_secrets(context: AuditContext) -> Iterator[Issue]:
    """Flags: A file of the capture carries secrets that decrypt what it holds.

    Why: Whoever gets the file can read the connections that these keys belong to. The audit uses them only where the
    user asks it to decrypt.

    Evidence: The kind of the secrets and their size; never the secrets themselves.

    Remedy: Share the file with those only who may read its content, or remove the keys first (editcap
    --discard-all-secrets).
    """
    for file in context.captures:
        for kind, size in file.facts.secrets.items():
            yield Issue(f"{file.path}: {size} byte{'s' if size != 1 else ''} of {kind} are embedded.")


@check("TPE013", "unknown-blocks", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def unknown_blocks(context: AuditContext) -> Iterator[Issue]:
    """Flags: A pcapng file holds blocks of kinds whose content is not known here.

    Why: They are no packets by the pcapng specification, and were skipped; a vendor's own blocks may say more.

    Evidence: How many of each kind.

    Remedy: None is needed; the vendor of the capturing device may know what they say.
    """
    for file in context.captures:
        if file.facts.skipped:
            kinds = ", ".join(f"{count} of kind {kind}" for kind, count in file.facts.skipped.items())
            yield Issue(f"{file.path}: blocks were skipped: {kinds}.")


@check("TPE014", "keys-used", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def keys_used(context: AuditContext) -> Iterator[Issue]:
    """Flags: What was decrypted with keys that the user gave.

    Severity: info where they opened something or were not needed, low where they opened nothing.

    Why: Findings then rest on more than the capture. Keys that open nothing belong to other connections, or to such as
    began before the capture; what they should have shown stays unjudged.

    Evidence: How many messages of how many flows tshark opened; never the keys.

    Remedy: None is needed where the keys opened something; otherwise write them anew while the capture is made, from
    before the first connection.
    """
    for use in context.keys:
        if use.kind in ("ESP", "IKEv1"):
            unjudged = "what a tunnel carries" if use.kind == "ESP" else "what IKEv1 encrypts"
            sentence = f"The {use.kind} keys of {use.source} are not used: {unjudged} is not judged"
        elif use.messages:
            flows = f"{len(use.flows)} flow{'s' if len(use.flows) > 1 else ''}"
            messages = f"{use.messages} message{'s' if use.messages > 1 else ''}"
            sentence = f"With the {use.kind} keys of {use.source} tshark decrypted {messages} of {flows}"
        elif use.kind == "TLS" and not has_hidden_certificates(context):
            yield Issue(f"The TLS keys of {use.source} were not needed: no handshake of TLS 1.3 is in the capture.")
            continue
        else:
            sentence = f"The {use.kind} keys of {use.source} open nothing in the capture"
        yield Issue(f"{sentence}.", severity=None if use.messages else Severity.LOW)


def has_hidden_certificates(context: AuditContext) -> bool:
    """Whether a handshake of the capture encrypts its certificates, as TLS 1.3 does."""
    for conversation in context.conversations:
        facts = conversation.dissection.facts
        if isinstance(facts, TlsFacts) and facts.certificates_hidden:
            return True
    return False


@check("TPE016", "content-not-read", Severity.MEDIUM, scope=CAPTURE, kind=Kind.NOTICE)
def content_not_read(context: AuditContext) -> Iterator[Issue]:
    """Flags: The capture holds more content than is read.

    Severity: low for DNS and for SPIs above those that are told apart in one flow, which are also counted as a whole;
    medium otherwise.

    Why: So that no capture exhausts the memory, there is a limit to the payload and the messages that are kept, and to
    the IEC 104 links and the ESP associations that are followed to their end. What is above it counts as packets and
    bytes, and is judged by what was read before. Of the datagrams of a flow the first ones are kept, and later ones
    that are unlike them. Floods make such captures, also to hide something there.

    Evidence: How much was left out.

    Remedy: Cut the capture into shorter ones, or by base station, and audit each.
    """
    counts = context.counts
    if counts.payload_dropped:
        yield Issue(f"The payload of {counts.payload_dropped} packets was left out: too much of it was kept before.")
    yield from unlike_datagrams(context)
    crowded = tuple(
        conversation
        for conversation in context.conversations
        if conversation.dissection.parse_errors
        and any(error.anomaly.reason == TOO_MANY_MESSAGES for error in conversation.dissection.parse_errors)
    )
    if crowded:
        yield Issue("Of these conversations only the first messages were read.", conversations=crowded)
    if counts.untracked_links:
        yield Issue(f"{counts.untracked_links} IEC 104 links were judged by their first bytes alone.")
    if counts.untracked_esp_packets:
        yield Issue(
            f"{counts.untracked_esp_packets} ESP packets belong to associations above those that are told apart."
        )


def unlike_datagrams(context: AuditContext) -> Iterator[Issue]:
    """Issues about flows with packets that were not kept, though they were unlike those before, or of a new SPI."""
    count = context.counts.unlike_dropped
    for of_dns in (False, True) if count else ():
        crowded = tuple(
            conversation
            for conversation in context.conversations
            if (conversation.protocol == dns.NAME) is of_dns and is_crowded(conversation)
        )
        if crowded:
            yield Issue(
                "Of these conversations datagrams were left out that are unlike those that were read.",
                conversations=crowded,
                severity=Severity.LOW if of_dns else None,
            )
    folded = tuple(
        conversation
        for conversation in context.conversations
        if conversation.head.associations and any(association.folded for association in conversation.head.associations)
    )
    if folded:
        packets = sum(sa.packets for conversation in folded for sa in conversation.head.associations if sa.folded)
        yield Issue(
            f"{packets} ESP packets belong to SPIs above those that are told apart in one flow: they were looked "
            "through for readable payload only.",
            conversations=folded,
            severity=Severity.LOW,
        )


def is_crowded(conversation: Conversation) -> bool:
    """Whether the limit of kept datagrams was reached in a direction of a conversation."""
    if max(conversation.packets) <= MAX_UNLIKE or not any(conversation.unlike):
        return False
    kept = Counter(datagram.direction for datagram in conversation.head.datagrams)
    return any(kept[way] >= MAX_UNLIKE < conversation.packets[way] for way in Direction)


@check("TPE017", "base-stations-not-judged", Severity.MEDIUM, scope=CAPTURE, kind=Kind.NOTICE)
def stations_not_judged(context: AuditContext) -> Iterator[Issue]:
    """Flags: More hosts look like base stations than are judged.

    Why: Every host that opens a flow of a signature row is held for a base station. So many are no site's, but most
    likely forged addresses; those with the best evidence are judged.

    Evidence: How many were left out.

    Remedy: Name the base stations with --base-station, or cut the capture into shorter ones.
    """
    if context.hosts.unjudged:
        yield Issue(
            f"{context.hosts.unjudged} addresses that look like base stations were not judged: there are too many."
        )


@check("TPE020", "one-sided-capture", Severity.MEDIUM, scope=CAPTURE, kind=Kind.NOTICE)
def one_sided_capture(context: AuditContext) -> Iterator[Issue]:
    """Flags: The capture shows one direction only of a base station's flows, though both ends took part in them.

    Why: A mirror of one side or asymmetric routing hides half of the truth: the other half acquits nobody, and no row
    is blocked because of it.

    Evidence: Flows of which acknowledgements, or answers without requests, prove that the missing direction was used.

    Remedy: Capture both directions: mirror ingress and egress of the port, or capture on the base station itself.
    """
    for station in context.stations:
        seen = station.seen
        peers = seen.one_sided_peers & context.hosts.tpe
        if seen.lacks is None and not peers:
            continue
        flows = tuple(
            conversation
            for conversation, _ in station.conversations()
            if not all(conversation.packets) and missing_direction(conversation) is not None
        )
        if seen.lacks is Direction.ORIGINATOR:
            lacking = f"what {station.address} sent: only what it received was judged"
        elif seen.lacks is Direction.RESPONDER:
            lacking = f"what {station.address} received: only what it sent was judged"
        else:
            lacking = f"one direction of the flows between {station.address} and {', '.join(sorted(peers))}"
        yield Issue(
            f"The capture lacks {lacking}.",
            base_station=station.address,
            conversations=flows,
            filter=f"{family(station.address)} == {station.address}",
        )


@check("TPE021", "time-not-watched", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def time_not_watched(context: AuditContext) -> Iterator[Issue]:
    """Flags: The capture pauses for five minutes or more, or its clock steps back.

    Severity: low where the clock steps back; info for a pause.

    Why: What happens in a pause is not seen, and a pause cannot be told from a clock that is set forward. No absence is
    firm across either.

    Evidence: The first frame after each.

    Remedy: Capture without pauses, and with a clock that is set before the capture begins.
    """
    steps = [run for run in context.timeline.runs if run.kind is RunKind.STEP]
    if steps:
        yield Issue(
            f"The clock steps back {plural(len(steps), 'time')} in the capture: time stamps before and after do not "
            "compare.",
            frames=tuple(run.first_frame for run in steps),
            severity=Severity.LOW,
            filter=frames_filter([run.first_frame for run in steps][:CITED]),
        )
    starts = {run.start: run.first_frame for run in context.timeline.runs}
    intervals = context.timeline.intervals
    pauses = [(last, first) for (_, last), (first, _) in itertools.pairwise(intervals)]
    if pauses:
        longest = max(first - last for last, first in pauses) / 1e9
        frames = tuple(starts[first] for _, first in pauses if first in starts)
        yield Issue(
            f"No packet was captured for {duration(longest)}"
            f"{f', the longest of {len(pauses)} pauses' if len(pauses) > 1 else ''}: nothing was captured, or the "
            "clock was set.",
            frames=frames,
            filter=frames_filter(frames[:CITED]) if frames else None,
        )


def duration(seconds: float) -> str:
    """A time span in the largest fitting unit: ``6.5 minutes``, ``10.0 hours``, ``2154.6 days``."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def plural(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


@check("TPE900", "program-defect", Severity.HIGH, scope=CAPTURE, kind=Kind.NOTICE)
def program_defect(context: AuditContext) -> Iterator[Issue]:
    """Flags: This program failed while it read a conversation or ran a check.

    Why: The conversation was not judged, or not by this check. The fault is the program's, not the station's.

    Evidence: The conversation and the error; or the check, the kind of error and its place in the program.

    Remedy: Report the defect with the capture, if you may share it.
    """
    for conversation in context.conversations:
        for error in conversation.dissection.parse_errors:
            if error.anomaly.cause is Cause.DEFECT:
                yield Issue(
                    f"Reading {conversation.protocol} of flow {conversation.id} failed: {error.anomaly.reason}.",
                    conversations=(conversation,),
                    frames=(error.frame,),
                )


CHECKS: tuple[Check, ...] = (
    damaged_capture,
    unreadable_packets,
    cut_packets,
    empty_capture,
    no_base_station,
    named_host_unseen,
    captured_twice,
    overlapping_fragments,
    incomplete_datagrams,
    flows_folded,
    lost_packets,
    embedded_secrets,
    unknown_blocks,
    keys_used,
    content_not_read,
    stations_not_judged,
    one_sided_capture,
    time_not_watched,
    program_defect,
)
