"""Rows of a base station's table against the flows that match them: row → status and certainty."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from analyzer.conversations import Conversation, State
from analyzer.expected import Deployment, ExpectedFlow, Occurrence, Peer, Requirement, parse_version
from analyzer.matching import Match, StationMatches
from analyzer.messages import messages
from analyzer.protocols import dhcp, dhcp6, esp, ftp, ike
from analyzer.safetext import SafeText
from analyzer.stations import UNKNOWN, Station, carries_esp


class Status(enum.Enum):
    """Status of a row for one base station."""

    PRESENT = "present"
    """At least one flow of the row completed, and none breaks the row's rules."""
    MALFORMED = "malformed"
    """A flow matches by direction, transport and port, and its content breaks the row's rules."""
    BLOCKED = "blocked"
    """Flows were attempted, and none completed."""
    MISSING = "missing"
    """No flow of a MUST row."""
    ABSENT = "absent"
    """No flow of an OPTIONAL row."""
    UNDECIDED = "undecided"
    """Flows completed, and the packets cannot tell to which of several rows they belong."""


class Certainty(enum.Enum):
    """How certain it is that a row is missing or blocked."""

    FIRM = "firm"
    """The capture covers more than two of the row's periods, and nothing could hide the flow."""
    WEAK = "weak"
    """The row may be in use outside of what the capture shows."""


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """Status of one row for one base station."""

    row: ExpectedFlow
    requirement: Requirement
    """The row's requirement in the audited deployment."""
    status: Status
    certainty: Certainty | None
    """Set if the status is missing or blocked."""
    reason: SafeText | None
    """One clause on status and certainty, or what a present row does not show."""
    flows: tuple[int, ...]
    """Ids of the flows that match the row, ascending."""


@dataclass(frozen=True, slots=True)
class StationVerdict:
    """One base station and the status of the rows of its table."""

    station: Station
    mode: SafeText
    """Name of the table; ``unknown`` if the capture does not show it."""
    mode_evidence: tuple[SafeText, ...]
    """The evidence for the mode, one clause each."""
    tpe: tuple[str, ...]
    """Addresses of TPE in the flows that match a row."""
    rows: tuple[RowVerdict, ...]
    """In the order of the table; in mode unknown, the rows that all tables have in common."""


def judge(
    stations: Sequence[StationMatches],
    deployment: Deployment,
    malformed: Mapping[str, Mapping[str, Set[int]]],
    lrr_version: tuple[int, ...] | None,
    tpe: Collection[str],
) -> tuple[StationVerdict, ...]:
    """Judge the rows of all base stations.

    ``malformed``: address of a base station → row id → flows with a finding of kind malformed and severity medium or
    above. ``lrr_version``: of the base stations, if known. ``tpe``: addresses of TPE.
    """
    return tuple(
        judge_station(matches, deployment, malformed.get(matches.address, {}), lrr_version, tpe) for matches in stations
    )


def judge_station(
    matches: StationMatches,
    deployment: Deployment,
    malformed: Mapping[str, Set[int]],
    lrr_version: tuple[int, ...] | None,
    tpe: Collection[str],
) -> StationVerdict:
    """Judge the rows of one base station. ``malformed``: row id → flows that break the row's rules."""
    by_row: dict[str, list[Match]] = {row.id: [] for row in matches.rows}
    for match in matches.matches:
        for row in match.rows:
            by_row[row.id].append(match)
    row_judge = RowJudge(matches, deployment, lrr_version)
    ends = (end for match in matches.matches for end in (match.conversation.originator, match.conversation.responder))
    return StationVerdict(
        matches.station,
        matches.mode.name,
        matches.mode.evidence,
        tuple(dict.fromkeys(end.address for end in ends if end.address in tpe)),
        tuple(row_judge.verdict(row, by_row[row.id], malformed.get(row.id, frozenset())) for row in matches.rows),
    )


class RowJudge:
    """Judges the rows of one base station."""

    def __init__(self, matches: StationMatches, deployment: Deployment, lrr_version: tuple[int, ...] | None) -> None:
        self.deployment = deployment
        self.lrr_version = lrr_version
        self.mode_known = matches.mode.name != UNKNOWN
        self.watched = matches.watched
        self.has_esp = any(carries_esp(match.conversation) for match in matches.matches)
        self.has_tunnel = any(match.row.transport == "esp" and completed(match) for match in matches.matches)

    def verdict(self, row: ExpectedFlow, matches: Sequence[Match], malformed: Set[int]) -> RowVerdict:
        """The status of a row with the flows that match it. ``malformed``: ids of flows that break the row's rules."""
        requirement = row.requirement(self.deployment)
        flows = tuple(sorted({flow for match in matches for flow in match.conversation.flows}))
        if not malformed.isdisjoint(flows):
            return RowVerdict(row, requirement, Status.MALFORMED, None, None, flows)
        own = [match for match in matches if len(match.rows) == 1]
        successful = self.successful(row, own, matches)
        if successful:
            return RowVerdict(row, requirement, Status.PRESENT, None, limits_of_evidence(row, successful), flows)
        shared = [match for match in matches if len(match.rows) > 1]
        if any(completed(match) for match in shared):
            others = " or ".join(other.id for other in shared[0].rows if other.id != row.id)
            reason = f"the packets cannot tell whether this is row {row.id} or {others}"
            return RowVerdict(row, requirement, Status.UNDECIDED, None, reason, flows)
        certainty, why = self.certainty(row)
        if matches:
            reason = f"{how_blocked(row, matches)}; {why}"
            return RowVerdict(row, requirement, Status.BLOCKED, certainty, reason, flows)
        if requirement is Requirement.OPTIONAL or not self.applies(row) or not self.mode_known:
            return RowVerdict(row, requirement, Status.ABSENT, None, None, flows)
        return RowVerdict(row, requirement, Status.MISSING, certainty, why, flows)

    def successful(self, row: ExpectedFlow, own: Sequence[Match], matches: Sequence[Match]) -> Sequence[Match]:
        """The flows that fulfil a row. ``own``: those that match this row only; ``matches``: all that match it."""
        if row.peer is Peer.DHCP:
            # Client and server of DHCP also send to broadcast addresses: the answer may be in another conversation.
            return own if any(dhcp_server_answered(match.conversation) for match in matches) else ()
        if row.protocol == ike.NAME and not self.has_esp and auth_unanswered(matches):
            # IKE_SA_INIT on port 500 goes on with IKE_AUTH on port 4500: an answer to the first alone is no tunnel.
            return ()
        return [match for match in own if completed(match)]

    def applies(self, row: ExpectedFlow) -> bool:
        """Whether the station's LRR uses a row at all, as far as its version is known."""
        return row.since is None or self.lrr_version is None or self.lrr_version >= parse_version(row.since)

    def certainty(self, row: ExpectedFlow) -> tuple[Certainty, str]:
        """How certain it is that a row is missing or blocked, and why."""
        if row.tunnelled and self.has_tunnel:
            return Certainty.WEAK, "the tunnel may carry it inside"
        if row.since is not None and self.lrr_version is None:
            return Certainty.WEAK, f"only LRR {row.since} and later use it, and the version is unknown"
        if row.occurrence is Occurrence.ON_DEMAND:
            return Certainty.WEAK, "it is used on demand only"
        if row.occurrence is Occurrence.STARTUP:
            return Certainty.WEAK, "it is used at start-up only"
        assert row.period is not None
        periods = f"two of its periods of {row.period:.0f} s"
        if self.watched <= 2 * row.period:
            return Certainty.WEAK, f"watched for {self.watched:.0f} s, less than {periods}"
        return Certainty.FIRM, f"watched for {self.watched:.0f} s, more than {periods}"


# -- whether a conversation completed ---------------------------------------------------------------------------


def completed(match: Match) -> bool:
    """Whether a conversation succeeded: the responder answered, and did not refuse."""
    conversation = match.conversation
    facts = conversation.dissection.facts
    if match.row.protocol == ike.NAME and isinstance(facts, ike.IkeFacts):
        return ike_completed(conversation)
    if match.row.transport == "esp":
        return all(conversation.packets) and not is_one_way_esp(conversation)
    if isinstance(facts, ftp.FtpFacts) and facts.login == "refused":
        return False
    return match.row.peer is Peer.DHCP or not conversation.silent


def is_one_way_esp(conversation: Conversation) -> bool:
    """Whether all datagrams of a UDP conversation were kept, and ESP goes in one direction only."""
    directions = {item.direction for item, _ in messages(conversation.dissection.items, esp.EspPacket)}
    all_kept = sum(conversation.packets) == len(conversation.head.datagrams)
    return conversation.transport == "udp" and len(directions) == 1 and all_kept


def ike_completed(conversation: Conversation) -> bool:
    """Whether IKE_AUTH was answered, or began before the capture. IKE_SA_INIT alone is no tunnel.

    IKE_INTERMEDIATE (RFC 9242) precedes IKE_AUTH and sets nothing up.
    """
    if not all(conversation.packets):
        return False
    headers = [header for _, header in messages(conversation.dissection.items, ike.IkeHeader)]
    begun = any(header.exchange in (ike.IKE_AUTH, ike.IKE_INTERMEDIATE) for header in headers if header.major == 2)
    return not begun or any(is_authenticated(header) for header in headers)


def is_authenticated(header: ike.IkeHeader) -> bool:
    """Whether a message shows that its IKE SA is set up: it answers IKE_AUTH, or its exchange follows IKE_AUTH."""
    if header.major != 2:
        return False
    return (header.exchange == ike.IKE_AUTH and header.response) or header.exchange in ike.AUTHENTICATED


def auth_unanswered(matches: Sequence[Match]) -> bool:
    """Whether IKE_AUTH was sent, and no conversation shows an answer or an exchange that follows it."""
    headers = [
        header for match in matches for _, header in messages(match.conversation.dissection.items, ike.IkeHeader)
    ]
    exchanges = (ike.IKE_AUTH, ike.IKE_INTERMEDIATE)
    asked = any(header.major == 2 and header.exchange in exchanges and not header.response for header in headers)
    return asked and not any(map(is_authenticated, headers))


def dhcp_server_answered(conversation: Conversation) -> bool:
    """Whether a conversation has a message of a DHCP server."""
    facts = conversation.dissection.facts
    if isinstance(facts, dhcp.DhcpFacts):
        return any(name in ("OFFER", "ACK", "NAK") for name in facts.messages)
    if isinstance(facts, dhcp6.Dhcp6Facts):
        return any(name in ("ADVERTISE", "REPLY") for name in facts.messages)
    return all(conversation.packets)


# -- reasons ----------------------------------------------------------------------------------------------------


def limits_of_evidence(row: ExpectedFlow, successful: Sequence[Match]) -> str | None:
    """What the flows of a present row do not show; for IKE, also where the SA moved to."""
    conversations = [match.conversation for match in successful]
    if all(conversation.state is State.MIDSTREAM for conversation in conversations):
        known = any(conversation.protocol is not None for conversation in conversations)
        limit = "only what follows was judged" if known else "what its content is cannot be told from what follows"
        return f"its beginning is not in the capture: {limit}"
    if row.protocol == ike.NAME:
        return limits_of_ike(conversations)
    if row.transport == "tcp" and not any(any(conversation.payload) for conversation in conversations):
        return "opened, but without any content"
    return None


def limits_of_ike(conversations: Sequence[Conversation]) -> str | None:
    """What the IKE flows of a tunnel do not show, and the addresses to which its SA moved."""
    if all(exchanges(conversation) == {ike.IKE_SA_INIT} for conversation in conversations):
        return "nothing but IKE_SA_INIT is in the capture: whether there is a tunnel cannot be told from it"
    clauses = []
    by_spi: dict[str, list[tuple[str, ike.IkeSa]]] = {}
    for conversation in conversations:
        facts = conversation.dissection.facts
        for sa in facts._sas if isinstance(facts, ike.IkeFacts) else ():
            by_spi.setdefault(sa.initiator_spi, []).append((conversation.originator.address, sa))
    sas = [sa for parts in by_spi.values() for _, sa in parts]
    if sas and not any(sa.chosen for sa in sas):
        if any(ike.IKE_AUTH in sa.exchanges for sa in sas):
            how = "IKE_SA_INIT is not in the capture"
        else:
            use = "rekeyed" if any(sa.rekeys for sa in sas) else "kept alive"
            how = f"set up before the capture, only {use} in it"
        clauses.append(f"{how}: which proposal protects the tunnel is not known")
    for parts in by_spi.values():
        addresses = list(dict.fromkeys(address for address, _ in parts))
        if len(addresses) > 1:
            clauses.append(f"the IKE SA moved on to another address (MOBIKE): {', then '.join(addresses)}")
    return "; ".join(dict.fromkeys(clauses)) or None


def exchanges(conversation: Conversation) -> set[int]:
    """Types of the IKE exchanges in a conversation."""
    return {header.exchange for _, header in messages(conversation.dissection.items, ike.IkeHeader)}


def how_blocked(row: ExpectedFlow, matches: Sequence[Match]) -> str:
    """Why the last conversation of a row did not complete: one clause."""
    conversation = matches[-1].conversation
    facts = conversation.dissection.facts
    if conversation.icmp_errors:
        error = conversation.icmp_errors[0]
        meaning = UNREACHABLE.get(error.code, "unreachable")
        return f"{error.sender} answered with ICMP type {error.type} code {error.code} ({meaning})"
    if isinstance(facts, ftp.FtpFacts) and facts.login == "refused":
        return "the server refused the login"
    if row.protocol == ike.NAME and auth_unanswered(matches):
        return "IKE_AUTH was never answered"
    if row.transport == "esp" and any(conversation.packets):
        return "ESP packets go in one direction only"
    if conversation.refused is not None:
        return f"{conversation.responder.address} reset the connection"
    if conversation.transport == "tcp":
        return "the connection was never completed" if conversation.packets[1] else "no answer to the SYN"
    return "no answer"


UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    3: "port unreachable",
    9: "network prohibited",
    10: "host prohibited",
    13: "administratively prohibited",
}
"""ICMP codes of type 3 that routers and firewalls send (RFC 792; RFC 1812 section 5.2.7.1)."""
