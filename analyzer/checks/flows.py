"""Flows against the table: unexpected, missing, blocked, and with the wrong content."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from analyzer import naming
from analyzer.conversations import Conversation, State
from analyzer.expected import Deployment, ExpectedFlow, Requirement
from analyzer.findings import (
    ANY,
    CAPTURE,
    CITED,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    family,
    flow_filter,
)
from analyzer.heads import Direction, Frame
from analyzer.matching import Match, StationMatches
from analyzer.naming import protocol_name
from analyzer.outcomes import content_truncated, is_protected_ftp, outcome
from analyzer.protocols import ParseError, http, icmp, ike, resemblance, server_greeting, tls
from analyzer.stations import UNKNOWN
from analyzer.unexpected import Pattern, UnexpectedGroup, answered, hidden_controls, is_hidden_ftp_data
from analyzer.verdicts import INSIDE_TUNNEL, Certainty, RowVerdict, Status

DISCOVERY_NAMES = {5353: "mDNS", 1900: "SSDP", 5355: "LLMNR"}
"""Name discovery by UDP port; on the other ports it is NetBIOS."""
PORTS_SHOWN = 12
"""Maximum ports of a scan that a sentence lists."""
HOSTS_SHOWN = 12
"""Maximum hosts that a sentence lists."""
PLACES_SHOWN = 4
"""Maximum fields that one flow is reported to break, of both senders together."""
FTP_DATA_CLAUSE = "probably the data channel of an FTP session whose commands the capture does not show"
ECHO_TYPES = {"echo-request", "echo-reply"}
"""Types of ICMP and ICMPv6 messages that make a ping."""
LEAST_TEXT, TEXT_SEGMENTS, MAX_OTHER_BYTES = 128, 4, 0.02
"""Bytes, and segments with them, from which on a stream without its beginning is called text, and which part of them
may be anything else: letters beyond ASCII, control sequences of terminals."""
TEXT = bytes((*b"\t\n\r", *range(0x20, 0x7F)))
"""Tabulator, line ends, and printable ASCII."""
OPENING = 64
"""Bytes of a datagram that suffice to tell what its content looks like."""


def port_name(conversation: Conversation) -> str:
    """Transport and service port: ``tcp/80``."""
    port = conversation.responder.port
    return conversation.transport if port is None else f"{conversation.transport}/{port}"


def service_name(conversation: Conversation) -> str:
    """See :func:`analyzer.naming.service_name`. Servers of protocols without a dissector are told by their greeting."""
    facts = conversation.dissection.facts
    greeting = server_greeting(conversation.head) if conversation.protocol is None else None
    if greeting is not None:
        return f"{greeting} on {port_name(conversation)}"
    return naming.service_name(conversation.protocol, conversation.transport, conversation.responder.port, facts)


# -- unexpected -------------------------------------------------------------------------------------------------


def unexpected_issue(group: UnexpectedGroup, sentence: str, severity: Severity | None = None) -> Issue:
    """One issue for a group of unexpected flows."""
    station = group.station.address
    ends = None if len(group.peers) == 1 else [station]
    return Issue(
        sentence,
        base_station=station,
        rows=(group.nearest.id,) if group.nearest else (),
        conversations=group.conversations,
        filter=flow_filter(group.first, group.pattern is not Pattern.SCAN, ends),
        mismatch=group.mismatch if group.nearest else None,
        severity=severity,
    )


def peers_clause(context: AuditContext, group: UnexpectedGroup) -> str:
    """The peer's address and the name that DNS in the capture gives it; of several peers, how many there are."""
    first, *others = group.peers
    if others:
        return f"{1 + len(others)} hosts, {first} the first of them,"
    name = naming.host_name(context.names.get(first, ()))
    return first if name is None or name in service_name(group.first) else f"{first} ({name})"


def count_clause(group: UnexpectedGroup) -> str:
    return "once" if group.flow_count == 1 else f"in {group.flow_count} flows"


def nearest_clause(group: UnexpectedGroup) -> str:
    """The row that the flows would fit but for one field, if there is one."""
    if group.nearest is None or group.mismatch is None:
        return f"no row of mode {group.mode} is like it"
    return f"row {group.nearest.id} comes nearest and fails by {group.mismatch}"


def progress_clause(group: UnexpectedGroup) -> str:
    """How far the flows of a group came: no answer, refused, answered, or the bytes each way."""
    sent, received = (sum(conversation.payload[way] for conversation in group.conversations) for way in Direction)
    replied = [conversation for conversation in group.conversations if conversation.packets[Direction.RESPONDER]]
    if not replied:
        refusal = "refused by ICMP" if any(found.icmp_errors for found in group.conversations) else "no answer"
        return f"{bytes_count(sent)} sent, {refusal}" if sent else refusal
    if not received and all(conversation.refused is not None for conversation in replied):
        return "refused"
    if not sent and not received:
        return "accepted, without content" if group.first.transport == "tcp" else "answered"
    return f"{bytes_count(sent)} sent, {bytes_count(received)} answered" if received else "accepted, never answered"


def bytes_count(count: int) -> str:
    return "1 byte" if count == 1 else f"{count:,} bytes"


def is_ping(conversation: Conversation) -> bool:
    """Whether a conversation holds echo requests, replies to them, and nothing else."""
    facts = conversation.dissection.facts
    return isinstance(facts, icmp.IcmpFacts) and bool(facts.types) and set(facts.types) <= ECHO_TYPES


def is_open(conversation: Conversation) -> bool:
    """Whether the responder accepted a connection, or answered a datagram."""
    return bool(conversation.packets[Direction.RESPONDER]) and conversation.refused is None


@check("TPE101", "unexpected-outbound", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def unexpected_outbound(context: AuditContext) -> Iterator[Issue]:
    """Flags: The base station opened a conversation that no row of its mode's table allows.

    Severity: medium; low where it is probably the data channel of an FTP session whose commands are hidden.

    Why: Whatever is not in the table does not serve the base station's work: a forgotten service, a changed
    configuration or somebody using the device.

    Evidence: The conversations with one peer, transport and port; the row that comes nearest and the field of it
    that fails.

    Remedy: Find out what on the base station opens this conversation, and stop it or block it at the gateway.
    """
    controls = {matches.address: hidden_controls(matches) for matches in context.stations}
    for group in context.unexpected(Pattern.OUTBOUND):
        ftp_data = is_hidden_ftp_data(group, controls[group.station.address], context.hosts.tpe)
        clause = FTP_DATA_CLAUSE if ftp_data else nearest_clause(group)
        if group.mismatch == "destination" and group.peers[0] in context.hosts.tpe:
            clause += f", as it is not the first TPE (--tpe {group.peers[0]} makes it one)"
        yield unexpected_issue(
            group,
            f"{group.station.address} talks to {peers_clause(context, group)}, {service_name(group.first)}, "
            f"{count_clause(group)} ({progress_clause(group)}): {clause}.",
            Severity.LOW if ftp_data else None,
        )


@check("TPE102", "unexpected-inbound", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def unexpected_inbound(context: AuditContext) -> Iterator[Issue]:
    """Flags: Another host opened a conversation with the base station, and no row allows that direction.

    Severity: high where content was exchanged, other than pings, or ICMP redirects are sent; low where the capture does
    not show who opened it and a row allows the other direction, or where it is probably the data channel of an FTP
    session whose commands are hidden; medium otherwise.

    Why: A base station opens all of its flows itself; its firewall and the gateway need to let nothing in. What
    comes in is an administrator on a wrong path, or an attacker. Where the capture does not show who opened it, it
    weighs less.

    Evidence: The conversations of one peer, transport and port.

    Remedy: Block new conversations towards the base station at the gateway and look into who opened this one.
    """
    controls = {matches.address: hidden_controls(matches) for matches in context.stations}
    for group in context.unexpected(Pattern.INBOUND):
        redirects, pinged = has_redirects(group), all(map(is_ping, group.conversations))
        ftp_data = is_hidden_ftp_data(group, controls[group.station.address], context.hosts.tpe)
        severity: Severity | None
        if ftp_data:
            severity = Severity.LOW
        elif redirects:
            severity = Severity.HIGH
        elif group.excusable:
            severity = Severity.LOW
        else:
            severity = Severity.HIGH if group.opener_known and group.answered and not pinged else None
        if pinged:
            what = f"pinged {group.station.address} {count_clause(group)}"
        elif group.opener_known:
            what = f"opened {service_name(group.first)} towards {group.station.address} {count_clause(group)}"
        else:
            what = f"talks to {group.station.address}, {service_name(group.first)}, {count_clause(group)}"
        yield unexpected_issue(
            group,
            f"{peers_clause(context, group)} {what}{', with ICMP redirects' if redirects else ''} "
            f"({progress_clause(group)}): "
            f"{FTP_DATA_CLAUSE if ftp_data else nearest_clause(group)}.",
            severity,
        )


def has_redirects(group: UnexpectedGroup) -> bool:
    """Whether the flows carry ICMP redirects."""
    facts = (conversation.dissection.facts for conversation in group.conversations)
    return any(isinstance(found, icmp.IcmpFacts) and "redirect" in found.types for found in facts)


@check("TPE103", "port-scan", Severity.HIGH, scope=CAPTURE, kind=Kind.UNEXPECTED)
def port_scan(context: AuditContext) -> Iterator[Issue]:
    """Flags: One host tried many ports of another, the base station being one of them, mostly without an answer.

    Severity: high; where the capture does not show who opened the conversations, medium, or low if a row allows the
    other direction.

    Why: This is how an attacker looks for a way in, or how a taken-over base station looks for the next victim.

    Evidence: All attempts of the two hosts together, with the number of ports, and which of them are open.

    Remedy: Find the host that scans, and block it before anything else.
    """
    for group in context.unexpected(Pattern.SCAN):
        doubtful = group.inbound and not group.opener_known
        listed = ", ".join(map(str, group.ports[:PORTS_SHOWN])) + (", …" if len(group.ports) > PORTS_SHOWN else "")
        found = sorted(
            {conversation.responder.port or 0 for conversation in group.conversations if is_open(conversation)}
        )
        more = ", …" if len(found) > PORTS_SHOWN else ""
        opened = f"; open: {', '.join(map(str, found[:PORTS_SHOWN]))}{more}" if found else ""
        yield unexpected_issue(
            group,
            f"{group.first.originator.address} tried {len(group.ports)} {group.first.transport.upper()} ports of "
            f"{group.first.responder.address}: {listed}{opened}.",
            (Severity.LOW if group.excusable else Severity.MEDIUM) if doubtful else None,
        )


@check("TPE104", "other-modes-flow", Severity.HIGH, scope=CAPTURE, kind=Kind.UNEXPECTED)
def other_modes_flow(context: AuditContext) -> Iterator[Issue]:
    """Flags: The base station uses a row of another mode's table at TPE beside those of its own.

    Severity: high where the flow was answered and carries that row's protocol; medium where it was tried only, or
    carries something else: then nothing leaked.

    Why: A station that lives by a tunnel or by TLS and sends the same traffic in clear beside it gives away what the
    protection is for.

    Evidence: The conversations, the row and the mode that they belong to.

    Remedy: Correct the base station's connectivity settings so that all of its traffic takes the protected way.
    """
    for group in context.groups:
        row = group.other_mode
        if row is None:
            continue
        used = any(found.protocol == row.protocol and answered(found) for found in group.conversations)
        verb = "opened" if group.answered else "tried"
        issue = unexpected_issue(
            group,
            f"{group.station.address} {verb} {service_name(group.first)} to {peers_clause(context, group)} "
            f"{count_clause(group)} ({progress_clause(group)}): that is row {row.id} of mode {row.mode}, not of its "
            f"mode {group.mode}.",
            None if used else Severity.MEDIUM,
        )
        yield replace(issue, rows=(row.id,), mismatch="mode")


@check("TPE105", "name-discovery", Severity.LOW, scope=CAPTURE, kind=Kind.UNEXPECTED)
def name_discovery(context: AuditContext) -> Iterator[Issue]:
    """Flags: mDNS, SSDP, LLMNR or NetBIOS from or to the base station.

    Why: A base station needs none of them; they tell every host on the link what it is and what it runs.

    Evidence: The conversations of one peer and port.

    Remedy: Switch the discovery service off on the base station.
    """
    for group in context.unexpected(Pattern.NAME_DISCOVERY):
        verb = "received" if group.inbound else "sent"
        name = DISCOVERY_NAMES.get(group.first.responder.port or 0, "NetBIOS")
        yield unexpected_issue(group, f"{group.station.address} {verb} {name} {count_clause(group)}.")


@check("TPE110", "forwarded-flows", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def forwarded_flows(context: AuditContext) -> Iterator[Issue]:
    """Flags: The base station's MAC address sends packets of other hosts, as a router does.

    Severity: medium.

    Why: A base station forwards for nobody. Packets whose time to live was decremented come from hosts behind it, or
    from itself in the guise of one.

    Evidence: The conversations whose packets came from its MAC address with a time to live with which no host begins,
    and from an address that is not its own.

    Remedy: Switch forwarding off on the base station and find the host behind it, or name the MAC address with
    --base-station if all of its addresses are the base station's.
    """
    for station in context.stations:
        conversations = context.hosts.forwarded.get(station.address, ())
        if not conversations:
            continue
        hosts: dict[str, None] = {}
        peers: dict[str, None] = {}
        for conversation in conversations:
            ends = (conversation.originator.address, conversation.responder.address)
            way = station.station.end(conversation) or Direction.ORIGINATOR
            hosts[ends[way]] = peers[ends[1 - way]] = None
        count = sum(conversation.flow_count for conversation in conversations)
        flows = "1 flow" if count == 1 else f"{count} flows"
        selected = " || ".join(f"{family(host)} == {host}" for host in list(hosts)[:HOSTS_SHOWN])
        yield Issue(
            f"{station.address} forwards packets of {hosts_clause(hosts)} to {hosts_clause(peers)} in {flows}.",
            base_station=station.address,
            conversations=conversations,
            filter=f"eth.addr == {station.station.mac} && ({selected})" if station.station.mac else None,
        )


def hosts_clause(hosts: Mapping[str, None]) -> str:
    """The addresses of hosts; of many, the first and how many there are."""
    listed = ", ".join(list(hosts)[:HOSTS_SHOWN])
    return listed if len(hosts) <= HOSTS_SHOWN else f"{len(hosts)} hosts ({listed}, …)"


# -- missing ----------------------------------------------------------------------------------------------------


def rows_with_status(context: AuditContext, status: Status) -> Iterator[tuple[StationMatches, RowVerdict]]:
    """The rows of all base stations that have a status."""
    for station, verdict in zip(context.stations, context.verdicts, strict=True):
        for row in verdict.rows:
            if row.status is status:
                yield station, row


def row_ports(row: ExpectedFlow) -> str:
    """Transport and ports of a row: ``tcp/22``, ``udp/500 or 4500``, ``esp``."""
    ports = " or ".join(map(str, row.ports))
    return f"{row.transport}/{ports}" if ports else row.transport


def row_filter(station: StationMatches, *rows: ExpectedFlow) -> str:
    """A display filter for the flows that rows expect of a base station."""
    terms = dict.fromkeys(
        term for row in rows for term in ([f"{row.transport}.port == {port}" for port in row.ports] or [row.transport])
    )
    service = " || ".join(terms)
    return f"{family(station.address)} == {station.address} && {f'({service})' if len(terms) > 1 else service}"


@check("TPE111", "missing-flow", Severity.HIGH, scope=CAPTURE, kind=Kind.MISSING)
def missing_flow(context: AuditContext) -> Iterator[Issue]:
    """Flags: The table demands a flow of which the capture shows nothing.

    Severity: high where the absence is firm; low where it is weak, or follows from another row that is blocked.

    Why: A flow that never comes means that the base station is not set up for it, or that something before the
    capture point stops it. Where the row is used on demand only, where the capture is short, or where the tunnel may
    carry it inside, its absence proves little: then the finding is of low severity and says why.

    Evidence: The row, how long the base station was watched, and how sure its absence is.

    Remedy: Check that the base station is configured for this flow and that no firewall before the capture point
    drops it, or capture for longer.
    """
    inside: dict[str, tuple[StationMatches, list[ExpectedFlow]]] = {}
    """Address of a base station → its rows that the tunnel may carry, which are one finding."""
    for station, verdict in rows_with_status(context, Status.MISSING):
        if verdict.reason == INSIDE_TUNNEL:
            inside.setdefault(station.address, (station, []))[1].append(verdict.row)
            continue
        yield Issue(
            f"{station.address} did not use row {row_name(verdict.row)} in the capture: {verdict.reason}.",
            base_station=station.address,
            rows=(verdict.row.id,),
            filter=row_filter(station, verdict.row),
            severity=None if verdict.certainty is Certainty.FIRM and verdict.cause is None else Severity.LOW,
        )
    for station, rows in inside.values():
        names = listed([row_name(row) for row in rows])
        yield Issue(
            f"{station.address} did not use row{'s' * (len(rows) > 1)} {names} outside the tunnel, which may carry "
            f"{'them' if len(rows) > 1 else 'it'} inside.",
            base_station=station.address,
            rows=tuple(row.id for row in rows),
            filter=row_filter(station, *rows),
            severity=Severity.LOW,
        )


def row_name(row: ExpectedFlow) -> str:
    """Id, service and ports of a row: ``i4 (SFTP, tcp/22)``."""
    return f"{row.id} ({row.service}, {row_ports(row)})"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``"""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


@check("TPE112", "blocked-flow", Severity.HIGH, scope=CAPTURE, kind=Kind.MISSING)
def blocked_flow(context: AuditContext) -> Iterator[Issue]:
    """Flags: The base station tried a flow of its table and never got through.

    Severity: high where the row is required and its failure firm, medium where it is required and the failure weak, low
    where the row is optional.

    Why: A firewall, a routing error or a service that is down stands between the base station and its core.

    Evidence: The attempts, and what answered them: nothing, a reset, an ICMP error, a refused login.

    Remedy: Allow this flow in the firewall that stands where the attempts end, or start the service that refuses
    them.
    """
    for station, verdicts in blocked_rows(context):
        first = verdicts[0]
        attempts = failed_attempts(station, first)
        ids = [verdict.row.id for verdict in verdicts]
        services = " or ".join(dict.fromkeys(verdict.row.service for verdict in verdicts))
        yield Issue(
            f"{station.address} tried row {' or '.join(ids)} ({services}, {row_ports(first.row)}) without success: "
            f"{first.reason}.",
            base_station=station.address,
            rows=tuple(ids),
            conversations=attempts,
            frames=attempt_frames(attempts),
            filter=flow_filter(attempts[0]) if attempts else row_filter(station, first.row),
            severity=blocked_severity(verdicts),
        )


def blocked_rows(context: AuditContext) -> list[tuple[StationMatches, list[RowVerdict]]]:
    """The blocked rows of all base stations; rows that share a port have the same attempts and stand together."""
    found: dict[tuple[object, ...], tuple[StationMatches, list[RowVerdict]]] = {}
    for station, verdict in rows_with_status(context, Status.BLOCKED):
        key = (station.address, row_ports(verdict.row), verdict.flows)
        found.setdefault(key, (station, []))[1].append(verdict)
    return list(found.values())


def failed_attempts(station: StationMatches, verdict: RowVerdict) -> tuple[Conversation, ...]:
    """The flows of a blocked row that show where it fails.

    Of a row that was lost, those since; of IKE, those that came to IKE_AUTH, if any did.
    """
    since, flows = verdict.served_until or 0, set(verdict.flows)
    attempts = tuple(
        match.conversation
        for match in station.matches
        if match.conversation.id in flows and verdict.row in match.rows and match.conversation.latest_start >= since
    )
    authenticating = tuple(filter(reached_ike_auth, attempts))
    return authenticating or attempts


def reached_ike_auth(conversation: Conversation) -> bool:
    """Whether a conversation holds IKE_AUTH messages."""
    facts = conversation.dissection.facts
    return isinstance(facts, ike.IkeFacts) and "IKE_AUTH" in facts.exchanges


def blocked_severity(verdicts: Sequence[RowVerdict]) -> Severity | None:
    """Low where no row is required, medium where the capture leaves doubt; ``None``: the check's own."""
    if all(verdict.requirement is Requirement.OPTIONAL for verdict in verdicts):
        return Severity.LOW
    return None if any(verdict.certainty is Certainty.FIRM for verdict in verdicts) else Severity.MEDIUM


def attempt_frames(attempts: Sequence[Conversation]) -> tuple[Frame, ...]:
    """The first frames of attempts, and the resets and ICMP errors that refused them."""
    frames = [frame for conversation in attempts for frame in conversation.first_frames]
    frames += [conversation.refused for conversation in attempts if conversation.refused is not None]
    frames += [error.frame for conversation in attempts for error in conversation.icmp_errors]
    return tuple(sorted(set(frames)))


# -- malformed --------------------------------------------------------------------------------------------------


@check("TPE121", "wrong-protocol", Severity.MEDIUM, protocol=ANY)
def wrong_protocol(match: Match) -> Iterator[Issue]:
    """Flags: The conversation goes where the row says, and its content is not the row's protocol.

    Severity: high where content goes in clear that the row encrypts, medium otherwise.

    Why: Cleartext where TLS belongs gives everything away; any other content on an expected port is a tunnel through
    the firewall, or a misconfigured service.

    Evidence: The first frames with content, and what the content is. Of content that is not known no byte is repeated,
    for it may begin with a password.

    Remedy: Make both ends speak the row's protocol on this port, and find out what used the port otherwise.
    """
    conversation, row = match.conversation, match.row
    if conversation.transport == "ip-51":
        yield Issue(
            f"AH instead of ESP between {conversation.originator} and {conversation.responder}: nothing is encrypted.",
            severity=Severity.HIGH,
        )
        return
    if match.has_row_protocol or conversation.protocol == "ftp-data" or is_protected_ftp(conversation, row):
        return
    frames = first_content_frames(conversation)
    ids = " and ".join(row.id for row in match.rows)
    subject = f"Row {ids} expects" if len(match.rows) == 1 else f"Rows {ids} expect"
    expected = f"{subject} {protocol_name(row.protocol)} on {port_name(conversation)}"
    if conversation.protocol is not None:
        encrypted = conversation.protocol in ("tls", "ssh")
        exposed = row.protocol in ("tls", "esp", "ike") and not encrypted
        yield Issue(
            f"{expected}, but the content is {content_name(conversation)}.", frames, Severity.HIGH if exposed else None
        )
    elif frames and (
        (has_beginning(conversation) and not is_unfinished(conversation, row)) or is_text_throughout(conversation)
    ):
        looks = resemblance(conversation.head)
        yield Issue(f"{expected}, but the content is no protocol known here: it looks like {looks}.", frames)


def content_name(conversation: Conversation) -> str:
    """The content in words: ``HTTP in clear (CUPS update-info, POST /update-info, status 200)``.

    The path is named for a base station's own services only: other paths may differ in every request, or hold a secret.
    """
    facts = conversation.dissection.facts
    details: list[str] = []
    if isinstance(facts, http.HttpFacts):
        if facts.service is not None:
            details = [facts.service, f"{facts.method} {facts.path}"]
        if facts.upgrade is not None and facts.upgrade.lower() == "websocket":
            details.append("WebSocket")
        if details and facts.status is not None:
            details.append(f"status {facts.status}")
    name = protocol_name(conversation.protocol or "")
    return f"{name} ({', '.join(details)})" if details else name


def has_beginning(conversation: Conversation) -> bool:
    """Whether the capture holds as much of the content's beginning as its protocol can be named from."""
    if conversation.transport == "tcp":
        begins = any(stream.begins and stream.data for stream in conversation.head.streams)
        return begins and not content_truncated(conversation)
    return all(len(datagram.data) >= min(datagram.length, OPENING) for datagram in conversation.head.datagrams)


def is_unfinished(conversation: Conversation, row: ExpectedFlow) -> bool:
    """Whether the capture holds nothing but what precedes the row's protocol: a preamble, or the lines before the
    banner of an SSH server (RFC 4253, section 4.2) to which the client has not answered."""
    if row.protocol == "ssh" and not conversation.payload[Direction.ORIGINATOR]:
        return resemblance(conversation.head) == "text" and conversation.closed_by is None
    preamble = conversation.dissection.preamble
    return preamble is not None and all(
        payload <= size for payload, size in zip(conversation.payload, preamble.sizes, strict=True)
    )


def is_text_throughout(conversation: Conversation) -> bool:
    """Whether all that was kept of a TCP conversation is text, in whole segments, though its beginning is missing.

    No part of a TLS or SSH stream is, and of IEC 104 none that goes on for so many segments.
    """
    if conversation.transport != "tcp" or content_truncated(conversation):
        return False
    link = conversation.head.link
    if link is not None and any(direction.apdus for direction in link.directions):
        return False
    streams = [stream for stream in conversation.head.streams if stream.data]
    kept = b"".join(stream.data for stream in streams)
    return (
        len(kept) >= LEAST_TEXT
        and sum(len(stream.marks) for stream in streams) >= TEXT_SEGMENTS
        and len(kept.translate(None, TEXT)) <= len(kept) * MAX_OTHER_BYTES
    )


def first_content_frames(conversation: Conversation) -> tuple[Frame, ...]:
    """The frames with the first content of either side."""
    head = conversation.head
    frames = [stream.marks[0].frame for stream in head.streams if stream.marks]
    for direction in Direction:
        frames += [datagram.frame for datagram in head.datagrams if datagram.direction is direction][:1]
    return tuple(sorted(frames))


@check("TPE122", "broken-protocol", Severity.MEDIUM, protocol=ANY)
def broken_protocol(match: Match) -> Iterator[Issue]:
    """Flags: The content is the row's protocol, but a length or a field contradicts itself or the protocol.

    Why: A sound implementation does not send this: it is a broken one, an attempt at breaking the other end, or
    something that only begins like the protocol. What the capture merely cut off is never reported here.

    Evidence: The frames that hold the field, and its name; one finding for each field and sender.

    Remedy: Look at the frame in Wireshark, and replace or update the software that sent it.
    """
    conversation = match.conversation
    errors = conversation.dissection.malformed
    if not errors or conversation.protocol is None or not match.has_row_protocol:
        return
    if outcome(conversation, match.row).refused:
        return  # a service that refuses in its own words blocks the row
    by_place: dict[tuple[Direction, str], list[ParseError]] = {}
    for error in errors:
        by_place.setdefault((error.direction, error.anomaly.field), []).append(error)
    for (direction, field), found in list(by_place.items())[:PLACES_SHOWN]:
        sender = conversation.originator if direction is Direction.ORIGINATOR else conversation.responder
        yield Issue(
            f"{protocol_name(conversation.protocol)} from {sender.address} is broken at {field}: "
            f"{found[0].anomaly.reason}.",
            tuple(dict.fromkeys(error.frame for error in found))[:CITED],
        )


# -- notices ----------------------------------------------------------------------------------------------------


@check("TPE131", "mixed-modes", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def mixed_modes(context: AuditContext) -> Iterator[Issue]:
    """Flags: One base station shows signature rows of more than one mode.

    Why: It was reconfigured during the capture, or it sends in clear beside its protection; each such flow is
    reported of its own as well.

    Evidence: The first conversation of each other mode.

    Remedy: Check which mode the base station is meant to use, and name it with --mode if the detection is wrong.
    """
    for station in context.stations:
        signatures = station.mode.contradicting
        if signatures:
            modes = sorted({signature.row.mode for signature in signatures})
            yield Issue(
                f"{station.address} is judged by mode {station.mode.name}, and also shows flows of mode "
                f"{' and '.join(modes)}.",
                base_station=station.address,
                rows=tuple(sorted({signature.row.id for signature in signatures})),
                conversations=tuple(signature.conversation for signature in signatures),
                filter=flow_filter(signatures[0].conversation),
            )


@check("TPE132", "mode-unknown", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def mode_unknown(context: AuditContext) -> Iterator[Issue]:
    """Flags: Nothing in the capture shows by which table the base station lives.

    Why: Without its mode no row is missing, and only flows that no table has are unexpected.

    Evidence: The absence of every signature row.

    Remedy: Capture while the base station is connected to its core, or name the mode with --mode.
    """
    for station in context.stations:
        if station.mode.name == UNKNOWN:
            yield Issue(
                f"The mode of {station.address} cannot be told: no flow of any mode's signature rows is there.",
                base_station=station.address,
            )


@check("TPE133", "several-tpe", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def several_tpe(context: AuditContext) -> Iterator[Issue]:
    """Flags: More than one address serves the rows that lead to TPE, and the user named none.

    Severity: low; info in high availability, where several are normal.

    Why: A standalone TPE is one node. A second one may be a second interface, or an impostor: it may serve no more than
    the mode's own protocol. Only its certificate tells an impostor, and TLS 1.3 hides it.

    Evidence: Each address with the rows that it serves, the subjects of certificates that differ, and the addresses
    from which one IKE SA is answered (MOBIKE).

    Remedy: Name the addresses of your TPE with --tpe, and look into any other; or --deployment ha.
    """
    if context.hosts.named.tpe or len(context.hosts.tpe) < 2:
        return
    served: dict[str, set[str]] = {address: set() for address in sorted(context.hosts.tpe)}
    subjects: dict[str, dict[str, None]] = {address: {} for address in served}
    for match in (match for station in context.stations for match in station.matches):
        responder, facts = match.conversation.responder.address, match.conversation.dissection.facts
        for address in (match.conversation.originator.address, responder):
            if address in served:
                served[address].update(row.id for row in match.rows)
        if responder in served and isinstance(facts, tls.TlsFacts) and facts.certificates:
            subjects[responder][facts.certificates[0].subject or "no subject"] = None
    differ = len({frozenset(found) for found in subjects.values() if found}) > 1
    rows_served = "; ".join(
        f"{address} serves {', '.join(sorted(rows)) or 'none'}"
        + (f" with the certificate of {' and '.join(subjects[address])}" if differ and subjects[address] else "")
        for address, rows in [*served.items()][:HOSTS_SHOWN]
    ) + (f"; and {len(served) - HOSTS_SHOWN} more" if len(served) > HOSTS_SHOWN else "")
    shared = "".join(
        f"; one IKE SA answers from {listed(addresses)}" for addresses in shared_ike_addresses(context, served)
    )
    standalone = context.deployment is Deployment.STANDALONE
    deployment = "a standalone" if standalone else "a high-availability"
    yield Issue(
        f"{len(served)} addresses act as TPE in {deployment} deployment: {rows_served}{shared}.",
        severity=None if standalone else Severity.INFO,
    )


def shared_ike_addresses(context: AuditContext, tpe: Collection[str]) -> list[list[str]]:
    """The addresses of TPE that answer for the same IKE SA, one list per set of addresses."""
    found: dict[str, dict[str, None]] = {}
    for station in context.stations:
        for match in station.matches:
            conversation = match.conversation
            facts = conversation.dissection.facts
            address = conversation.responder.address
            if isinstance(facts, ike.IkeFacts) and address in tpe and conversation.packets[Direction.RESPONDER]:
                for sa in facts._sas:
                    found.setdefault(sa.initiator_spi, {})[address] = None
    several = {tuple(sorted(addresses)) for addresses in found.values() if len(addresses) > 1}
    return [list(addresses) for addresses in sorted(several)]


@check("TPE134", "midstream", Severity.INFO, protocol=ANY, kind=Kind.NOTICE)
def midstream(match: Match) -> Iterator[Issue]:
    """Flags: The conversation began before the capture.

    Why: Its handshake cannot be judged any more: versions, algorithms and certificates are unknown.

    Evidence: Its first frame.

    Remedy: Start the capture before the base station connects, if its handshakes are to be judged.
    """
    conversation = match.conversation
    if conversation.protocol == "tls" and match.has_row_protocol:
        return  # TPE279 says it, where the handshake is missing
    if conversation.state is State.MIDSTREAM and match.row.transport == "tcp":
        yield Issue(f"{service_name(conversation)} with {conversation.responder.address} began before the capture.")


@check("TPE135", "inside-the-tunnel", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def seen_inside(context: AuditContext) -> Iterator[Issue]:
    """Flags: Conversations that were captured inside of a tunnel, at one of its ends.

    Why: What IPsec carries travels encrypted; a capture on all interfaces of the base station shows it a second time,
    in clear. It is judged neither as cleartext beside the tunnel nor as rows of the table. What a base station puts
    into another tunnel goes wherever that leads, whatever addresses it has: the tunnel is judged, not its inside.

    Evidence: Packets in a tunnel of which one of their own addresses is an end. For IPsec: packets without link-layer
    addresses, between addresses that are no ends of the tunnel, in a capture whose ESP packets have link-layer
    addresses; or packets in one direction, each straight after an ESP packet of the same sender that can have held it,
    as a kernel hands them back to its network card.

    Remedy: Capture at the gateway, or on the network card alone, to see what everybody else sees.
    """
    found = tuple(
        conversation for conversation in context.conversations if conversation.id in context.hosts.inside_tunnel
    )
    if found:
        count = sum(conversation.flow_count for conversation in found)
        flows = "1 conversation was" if count == 1 else f"{count} conversations were"
        yield Issue(f"{flows} captured inside of the tunnel and not judged.", conversations=found)


CHECKS: tuple[Check, ...] = (
    unexpected_outbound,
    unexpected_inbound,
    port_scan,
    other_modes_flow,
    name_discovery,
    forwarded_flows,
    missing_flow,
    blocked_flow,
    wrong_protocol,
    broken_protocol,
    mixed_modes,
    mode_unknown,
    several_tpe,
    midstream,
    seen_inside,
)
