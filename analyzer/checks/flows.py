"""What is there and should not be, and what should be there and is not: flows against the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analyzer.conversations import Conversation, State
from analyzer.expected import Deployment, Requirement
from analyzer.findings import (
    ANY,
    CAPTURE,
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
from analyzer.protocols import esp, http, resemblance
from analyzer.stations import UNKNOWN, carries_esp
from analyzer.unexpected import Pattern, UnexpectedGroup
from analyzer.verdicts import Certainty, RowVerdict, Status

NAMES = {"ftp-data": "FTP data", "http": "HTTP in clear", "iec104": "IEC 104 in clear"}
"""How protocols are called in sentences, where that is not their name in upper context."""


def named(protocol: str) -> str:
    return NAMES.get(protocol, protocol.upper())


# -- unexpected -------------------------------------------------------------------------------------------------


def peers(group: UnexpectedGroup) -> str:
    """The other end; of a crowd, how many there are."""
    first, *others = group.peers
    return f"{1 + len(others)} hosts, {first} the first of them," if others else first


def charged(group: UnexpectedGroup, sentence: str, severity: Severity | None = None) -> Issue:
    """One issue for a group of unexpected flows."""
    station = group.station.address
    return Issue(
        sentence,
        base_station=station,
        rows=(group.nearest.id,) if group.nearest else (),
        conversations=group.conversations,
        filter=flow_filter(
            group.first, group.pattern is not Pattern.SCAN, None if len(group.peers) == 1 else [station]
        ),
        mismatch=group.mismatch if group.nearest else None,
        severity=severity,
    )


def what(each: Conversation) -> str:
    """The service in words: ``HTTP in clear on tcp/80``."""
    service = each.transport if each.responder.port is None else f"{each.transport}/{each.responder.port}"
    return f"{named(each.protocol)} on {service}" if each.protocol else service


def times(group: UnexpectedGroup) -> str:
    return "once" if group.flow_count == 1 else f"in {group.flow_count} flows"


def nearly(group: UnexpectedGroup) -> str:
    if group.nearest is None or group.mismatch is None:
        return "no row of its table comes near"
    return f"row {group.nearest.id} comes nearest and fails by {group.mismatch}"


@check("TPE101", "unexpected-outbound", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def unexpected_outbound(context: AuditContext) -> Iterator[Issue]:
    """Flags: The base station opened a conversation that no row of its mode's table allows.

    Why: Whatever is not in the table does not serve the base station's work: a forgotten service, a changed
    configuration or somebody using the device.

    Evidence: The conversations with one peer, transport and port; the row that comes nearest and the field of it
    that fails.

    Remedy: Find out what on the base station opens this conversation, and stop it or block it at the gateway.
    """
    for group in context.unexpected(Pattern.OUTBOUND):
        yield charged(
            group,
            f"{group.station.address} talks to {peers(group)}, {what(group.first)}, {times(group)}: {nearly(group)}.",
        )


@check("TPE102", "unexpected-inbound", Severity.MEDIUM, scope=CAPTURE, kind=Kind.UNEXPECTED)
def unexpected_inbound(context: AuditContext) -> Iterator[Issue]:
    """Flags: Another host opened a conversation with the base station, and no row allows that direction.

    Why: A base station opens all of its flows itself; its firewall and the gateway need to let nothing in. What
    comes in is an administrator on a wrong path, or an attacker. Where the capture does not show who opened it, it
    weighs less.

    Evidence: The conversations of one peer, transport and port.

    Remedy: Block new conversations towards the base station at the gateway and look into who opened this one.
    """
    for group in context.unexpected(Pattern.INBOUND):
        certain = any(conversation.originator_certain for conversation in group.conversations)
        severity = Severity.LOW if not certain else Severity.HIGH if group.answered else None
        redirects = redirected(group)
        if redirects:
            severity = Severity.HIGH
        yield charged(
            group,
            f"{peers(group)} opened {what(group.first)} towards {group.station.address} {times(group)}"
            f"{', with ICMP redirects' if redirects else ''}: {nearly(group)}.",
            severity,
        )


def redirected(group: UnexpectedGroup) -> bool:
    """ICMP redirects are among them."""
    return any("redirect" in str(getattr(each.dissection.facts, "types", "")) for each in group.conversations)


@check("TPE103", "port-scan", Severity.HIGH, scope=CAPTURE, kind=Kind.UNEXPECTED)
def port_scan(context: AuditContext) -> Iterator[Issue]:
    """Flags: One host tried many ports of another, the base station being one of them, mostly without an answer.

    Why: This is how an attacker looks for a way in, or how a taken-over base station looks for the next victim.

    Evidence: All attempts of the two hosts together, with the number of ports.

    Remedy: Find the host that scans, and block it before anything else.
    """
    for group in context.unexpected(Pattern.SCAN):
        certain = not group.inbound or any(conversation.originator_certain for conversation in group.conversations)
        listed = ", ".join(map(str, group.ports[:12])) + (", …" if len(group.ports) > 12 else "")
        yield charged(
            group,
            f"{group.first.originator.address} tried {len(group.ports)} {group.first.transport.upper()} ports of "
            f"{group.first.responder.address}: {listed}.",
            None if certain else Severity.LOW,
        )


@check("TPE104", "other-modes-flow", Severity.HIGH, scope=CAPTURE, kind=Kind.UNEXPECTED)
def other_modes_flow(context: AuditContext) -> Iterator[Issue]:
    """Flags: The base station uses a row of another mode's table beside those of its own.

    Why: A station that lives by a tunnel or by TLS and sends the same traffic in clear beside it gives away what the
    protection is for.

    Evidence: The conversations, the row and the mode that they belong to.

    Remedy: Correct the base station's connectivity settings so that all of its traffic takes the protected way.
    """
    for group in context.groups:
        row = group.other_mode
        if row is None:
            continue
        issue = charged(
            group,
            f"{group.station.address} opened {what(group.first)} to {group.peers[0]} {times(group)}: "
            f"that is row {row.id} of mode {row.mode}, not of its mode {group.mode}.",
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
        here = "received" if group.inbound else "sent"
        name = {5353: "mDNS", 1900: "SSDP", 5355: "LLMNR"}.get(group.first.responder.port or 0, "NetBIOS")
        yield charged(group, f"{group.station.address} {here} {name} {times(group)}.")


# -- missing ----------------------------------------------------------------------------------------------------


def rows_of(context: AuditContext, *statuses: Status) -> Iterator[tuple[StationMatches, RowVerdict]]:
    for matched, verdict in zip(context.stations, context.verdicts, strict=True):
        for row in verdict.rows:
            if row.status in statuses:
                yield matched, row


def service_filter(matched: StationMatches, row: RowVerdict) -> str:
    """A display filter for what the row would look like."""
    station = matched.station.address
    parts = [f"{family(station)} == {station}"]
    if row.row.ports:
        parts.append(" || ".join(f"{row.row.transport}.port == {port}" for port in row.row.ports))
        if len(row.row.ports) > 1:
            parts[-1] = f"({parts[-1]})"
    else:
        parts.append(row.row.transport)
    return " && ".join(parts)


@check("TPE111", "missing-flow", Severity.HIGH, scope=CAPTURE, kind=Kind.MISSING)
def missing_flow(context: AuditContext) -> Iterator[Issue]:
    """Flags: The table demands a flow of which the capture shows nothing.

    Why: A flow that never comes means that the base station is not set up for it, or that something before the
    capture point stops it. Where the row is used on demand only, where the capture is short, or where the tunnel may
    carry it inside, its absence proves little: then the finding is of low severity and says why.

    Evidence: The row, how long the base station was watched, and how sure its absence is.

    Remedy: Check that the base station is configured for this flow and that no firewall before the capture point
    drops it, or capture for longer.
    """
    for matched, row in rows_of(context, Status.MISSING):
        yield Issue(
            f"{matched.station.address} never used row {row.row.id} ({row.row.service}, {place(row)}): {row.reason}.",
            base_station=matched.station.address,
            rows=(row.row.id,),
            filter=service_filter(matched, row),
            severity=None if row.certainty is Certainty.FIRM else Severity.LOW,
        )


@check("TPE112", "blocked-flow", Severity.HIGH, scope=CAPTURE, kind=Kind.MISSING)
def blocked_flow(context: AuditContext) -> Iterator[Issue]:
    """Flags: The base station tried a flow of its table and never got through.

    Why: A firewall, a routing error or a service that is down stands between the base station and its core.

    Evidence: The attempts, and what answered them: nothing, a reset, an ICMP error, a refused login.

    Remedy: Allow this flow in the firewall that stands where the attempts end, or start the service that refuses
    them.
    """
    together: dict[tuple[object, ...], tuple[StationMatches, list[RowVerdict]]] = {}
    for matched, row in rows_of(context, Status.BLOCKED):
        # Rows that share their port were tried by the same conversations: that is one finding.
        key = (matched.station.address, place(row), row.flows)
        together.setdefault(key, (matched, []))[1].append(row)
    for matched, rows in together.values():
        row = rows[0]
        tried = tuple(match.conversation for match in matched.matches if row.row in match.rows)
        severity = None if any(each.certainty is Certainty.FIRM for each in rows) else Severity.MEDIUM
        if all(each.requirement is Requirement.OPTIONAL for each in rows):
            severity = Severity.LOW
        attempts = "The attempt" if len(row.flows) == 1 else f"{len(row.flows)} attempts"
        named = " or ".join(each.row.id for each in rows)
        services = " or ".join(dict.fromkeys(each.row.service for each in rows))
        yield Issue(
            f"{attempts} of {matched.station.address} at row {named} ({services}, {place(row)}) came to nothing: "
            f"{row.reason}.",
            base_station=matched.station.address,
            rows=tuple(each.row.id for each in rows),
            conversations=tried,
            frames=blocking(tried),
            filter=flow_filter(tried[0]) if tried else service_filter(matched, row),
            severity=severity,
        )


def place(row: RowVerdict) -> str:
    """Transport and ports of a row."""
    return "/".join([row.row.transport, *([" or ".join(map(str, row.row.ports))] if row.row.ports else [])])


def blocking(tried: Sequence[Conversation]) -> tuple[Frame, ...]:
    """The attempts and what refused them."""
    frames = [frame for each in tried for frame in each.first_frames]
    frames += [each.refused for each in tried if each.refused is not None]
    frames += [error.frame for each in tried for error in each.icmp_errors]
    return tuple(sorted(set(frames)))


# -- malformed --------------------------------------------------------------------------------------------------


@check("TPE121", "wrong-protocol", Severity.MEDIUM, protocol=ANY)
def wrong_protocol(match: Match) -> Iterator[Issue]:
    """Flags: The conversation goes where the row says, and its content is not the row's protocol.

    Why: Cleartext where TLS belongs gives everything away; any other content on an expected port is a tunnel through
    the firewall, or a misconfigured service.

    Evidence: The first frames with content, and what the content is. Of content that is not known no byte is repeated,
    for it may begin with a password.

    Remedy: Make both ends speak the row's protocol on this port, and find out what used the port otherwise.
    """
    each, row = match.conversation, match.row
    if each.transport == "ip-51":
        yield Issue(
            f"AH instead of ESP between {each.originator} and {each.responder}: nothing is encrypted.",
            (),
            Severity.HIGH,
        )
        return
    if each.protocol == row.protocol or each.protocol == "ftp-data":
        return
    if row.protocol == esp.NAME and carries_esp(each):
        return
    frames = opening(each)
    ids = " and ".join(one.id for one in match.rows)
    subject = f"Row {ids} expects" if len(match.rows) == 1 else f"Rows {ids} expect"
    expected = f"{subject} {named(row.protocol)} on {what_port(each)}"
    if each.protocol is not None:
        severity = (
            Severity.HIGH if row.protocol in ("tls", "esp", "ike") and each.protocol not in ("tls", "ssh") else None
        )
        yield Issue(f"{expected}, but the content is {content(each)}.", frames, severity)
    elif frames and begins(each):
        looks = resemblance(each.head)
        yield Issue(f"{expected}, but the content is no protocol known here: it looks like {looks}.", frames)


def content(each: Conversation) -> str:
    """What a conversation's content is: ``HTTP in clear (CUPS update-info, POST /update-info, status 200)``.

    Of other requests than a base station's own the path is left out, for it may differ each time.
    """
    facts = each.dissection.facts
    parts: list[str] = []
    if isinstance(facts, http.HttpFacts):
        if facts.service is not None:
            parts = [facts.service, f"{facts.method} {facts.path}"]
        if facts.upgrade is not None and facts.upgrade.lower() == "websocket":
            parts.append("WebSocket")
        if parts and facts.status is not None:
            parts.append(f"status {facts.status}")
    return named(each.protocol or "") + (f" ({', '.join(parts)})" if parts else "")


def what_port(each: Conversation) -> str:
    return each.transport if each.responder.port is None else f"{each.transport}/{each.responder.port}"


def begins(each: Conversation) -> bool:
    """The content's beginning is in the capture, and not cut away."""
    if each.transport == "tcp":
        return any(stream.begins and stream.data for stream in each.head.streams)
    return any(len(datagram.data) >= min(datagram.length, 64) for datagram in each.head.datagrams)


def opening(each: Conversation) -> tuple[Frame, ...]:
    """The frames that carry the first content of either side."""
    frames = [stream.marks[0].frame for stream in each.head.streams if stream.marks]
    for direction in Direction:
        frames += [one.frame for one in each.head.datagrams if one.direction is direction][:1]
    return tuple(sorted(frames))


@check("TPE122", "broken-protocol", Severity.MEDIUM, protocol=ANY)
def broken_protocol(match: Match) -> Iterator[Issue]:
    """Flags: The content is the row's protocol, but a length or a field contradicts itself or the protocol.

    Why: A sound implementation does not send this: it is a broken one, an attempt at breaking the other end, or
    something that only begins like the protocol. What the capture merely cut off is never reported here.

    Evidence: The frame that holds the field, the field's name and its offset in the stream or datagram.

    Remedy: Look at the frame in Wireshark, and replace or update the software that sent it.
    """
    each = match.conversation
    wanted = each.protocol == match.row.protocol or (match.row.protocol == esp.NAME and carries_esp(each))
    if not wanted or each.protocol is None:
        return
    for broken in each.dissection.malformed[:1]:
        sender = each.originator if broken.direction is Direction.ORIGINATOR else each.responder
        anomaly = broken.anomaly
        more = len(each.dissection.malformed) - 1
        others = f" (and {more} more like it)" if more else ""
        yield Issue(
            f"{named(each.protocol)} from {sender} is broken at {anomaly.field}, byte "
            f"{anomaly.offset}: {anomaly.reason}{others}.",
            tuple(dict.fromkeys(one.frame for one in each.dissection.malformed))[:8],
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
    for matched in context.stations:
        found = matched.mode.contradicting
        if found:
            modes = sorted({each.row.mode for each in found})
            yield Issue(
                f"{matched.station.address} is judged by mode {matched.mode.name}, and also shows flows of mode "
                f"{' and '.join(modes)}.",
                base_station=matched.station.address,
                rows=tuple(sorted({each.row.id for each in found})),
                conversations=tuple(each.conversation for each in found),
                filter=flow_filter(found[0].conversation),
            )


@check("TPE132", "mode-unknown", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def mode_unknown(context: AuditContext) -> Iterator[Issue]:
    """Flags: Nothing in the capture shows by which table the base station lives.

    Why: Without its mode no row is missing, and only flows that no table has are unexpected.

    Evidence: The absence of every signature row.

    Remedy: Capture while the base station is connected to its core, or name the mode with --mode.
    """
    for matched in context.stations:
        if matched.mode.name == UNKNOWN:
            yield Issue(
                f"The mode of {matched.station.address} cannot be told: no flow of any mode's signature rows is there.",
                base_station=matched.station.address,
            )


@check("TPE133", "several-tpe", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def several_tpe(context: AuditContext) -> Iterator[Issue]:
    """Flags: In a standalone deployment, more than one address serves the rows that lead to TPE.

    Why: A standalone TPE is one node. A second one may be a second interface, or an impostor.

    Evidence: Each address with the rows that it serves.

    Remedy: Name the addresses of your TPE with --tpe, and look into any other.
    """
    if context.deployment is not Deployment.STANDALONE or context.names.tpe or len(context.tpe) < 2:
        return
    served: dict[str, set[str]] = {address: set() for address in context.tpe}
    for matched in context.stations:
        for match in matched.matches:
            for end in (match.conversation.originator.address, match.conversation.responder.address):
                if end in served:
                    served[end].update(row.id for row in match.rows)
    listed = "; ".join(
        f"{address} serves {', '.join(sorted(rows)) or 'none'}" for address, rows in sorted(served.items())
    )
    yield Issue(f"{len(context.tpe)} addresses act as TPE in a standalone deployment: {listed}.")


@check("TPE134", "midstream", Severity.INFO, protocol=ANY, kind=Kind.NOTICE)
def midstream(match: Match) -> Iterator[Issue]:
    """Flags: The conversation began before the capture.

    Why: Its handshake cannot be judged any more: versions, algorithms and certificates are unknown.

    Evidence: Its first frame.

    Remedy: Start the capture before the base station connects, if its handshakes are to be judged.
    """
    each = match.conversation
    if each.state is State.MIDSTREAM and match.row.transport == "tcp":
        yield Issue(f"{what(each)} with {each.responder.address} began before the capture.")


@check("TPE135", "inside-the-tunnel", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def seen_inside(context: AuditContext) -> Iterator[Issue]:
    """Flags: Conversations that were captured inside of the IPsec tunnel, on the virtual interface of one of its ends.

    Why: They travel encrypted; a capture on all interfaces of the base station shows them a second time, in clear.
    They are judged neither as cleartext beside the tunnel nor as rows of the table.

    Evidence: Packets without link-layer addresses, between addresses that are no ends of the tunnel, in a capture whose
    ESP packets have link-layer addresses.

    Remedy: Capture at the gateway, or on the network card alone, to see what everybody else sees.
    """
    found = tuple(each for each in context.conversations if each.id in context.inside)
    if found:
        count = sum(each.flow_count for each in found)
        flows = "1 conversation was" if count == 1 else f"{count} conversations were"
        yield Issue(f"{flows} captured inside of the tunnel and not judged.", conversations=found)


CHECKS: tuple[Check, ...] = (
    unexpected_outbound,
    unexpected_inbound,
    port_scan,
    other_modes_flow,
    name_discovery,
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
