"""Rows of a base station's table against the flows that match them: the status of each row, and how certain it is."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from analyzer.conversations import Conversation, State
from analyzer.expected import Deployment, ExpectedFlow, Occurrence, Peer, Requirement, parse_version
from analyzer.matching import Match, StationMatches
from analyzer.messages import messages
from analyzer.protocols import dhcp, esp, ftp, ike
from analyzer.safetext import SafeText
from analyzer.stations import UNKNOWN, Station, carries_esp


class Status(enum.Enum):
    """What became of a row of its table, for one base station."""

    PRESENT = "present"
    """At least one flow matches the row, and none of its flows breaks the row's rules."""
    MALFORMED = "malformed"
    """A flow matches by direction, transport and port, and its content breaks the row's rules."""
    BLOCKED = "blocked"
    """It was tried and never completed."""
    MISSING = "missing"
    """A MUST row of which there is nothing."""
    ABSENT = "absent"
    """An OPTIONAL row of which there is nothing."""
    UNDECIDED = "undecided"
    """Flows are there that two rows share, and the packets cannot tell which."""


class Certainty(enum.Enum):
    """How sure it is that a row is missing or blocked."""

    FIRM = "firm"
    """The capture watched for more than two of the row's periods, and nothing could hide it."""
    WEAK = "weak"
    """The row may well be in use, outside of what the capture shows."""


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """One row of its table, judged for one base station."""

    row: ExpectedFlow
    requirement: Requirement
    """The row's requirement in the audited deployment."""
    status: Status
    certainty: Certainty | None
    """Set where the status is missing or blocked."""
    reason: SafeText | None
    """Why this status and this certainty, where the flows alone do not say it: one clause."""
    flows: tuple[int, ...]
    """Ids of the flows that match the row, ascending."""


@dataclass(frozen=True, slots=True)
class StationVerdict:
    """One base station against the table that it lives by."""

    station: Station
    mode: SafeText
    """Name of the table; ``unknown`` where nothing shows it."""
    mode_evidence: tuple[SafeText, ...]
    """Why this mode, one clause each."""
    tpe: tuple[str, ...]
    """Addresses of the TPE that it talks to."""
    rows: tuple[RowVerdict, ...]
    """In the order of the table; in mode ``unknown`` those rows that every table has."""


def completed(match: Match) -> bool:
    """The conversation got through: there is an answer that counts."""
    each = match.conversation
    facts = each.dissection.facts
    if match.row.protocol == ike.NAME and isinstance(facts, ike.IkeFacts):
        return ike_completed(each, facts)
    if match.row.transport == "esp":
        return all(each.packets) and not one_sided(each)
    if isinstance(facts, ftp.FtpFacts) and facts.login == "refused":
        return False
    if match.row.peer is Peer.DHCP:
        return True  # client and server send to different addresses: judged over all conversations of the row
    return not each.silent


def one_sided(each: Conversation) -> bool:
    """ESP inside UDP goes in one direction only, as far as all of its datagrams were kept to be looked at."""
    sent = {item.direction for item, _ in messages(each.dissection.items, esp.EspPacket)}
    return each.transport == "udp" and len(sent) == 1 and sum(each.packets) == len(each.head.datagrams)


def ike_completed(each: Conversation, facts: ike.IkeFacts) -> bool:
    """An IKE_SA_INIT alone is no tunnel: IKE_AUTH must be answered, unless the session began before the capture.

    IKE_INTERMEDIATE (RFC 9242) goes before IKE_AUTH and sets nothing up.
    """
    if not all(each.packets):
        return False
    headers = [header for _, header in messages(each.dissection.items, ike.IkeHeader)]
    begun = any(header.exchange in (ike.IKE_AUTH, ike.IKE_INTERMEDIATE) for header in headers if header.major == 2)
    return not begun or any(is_authenticated(header) for header in headers)


def is_authenticated(header: ike.IkeHeader) -> bool:
    """Whether a message shows that its IKE SA is set up: IKE_AUTH is answered, or an exchange needs it."""
    if header.major != 2:
        return False
    return (header.exchange == ike.IKE_AUTH and header.response) or header.exchange in ike.AUTHENTICATED


def row_verdicts(
    matched: StationMatches,
    deployment: Deployment,
    malformed: Mapping[str, Set[int]],
    lrr_version: tuple[int, ...] | None,
) -> tuple[RowVerdict, ...]:
    """The status of each row. ``malformed``: row id → conversations with a malformed finding of medium or above."""
    by_row: dict[str, list[Match]] = {row.id: [] for row in matched.rows}
    for match in matched.matches:
        for row in match.rows:
            by_row[row.id].append(match)
    tunnel = any(match.row.transport == "esp" and completed(match) for match in matched.matches)
    return tuple(
        verdict(row, by_row[row.id], matched, row.requirement(deployment), malformed, tunnel, lrr_version)
        for row in matched.rows
    )


def verdict(
    row: ExpectedFlow,
    matches: Sequence[Match],
    matched: StationMatches,
    requirement: Requirement,
    malformed: Mapping[str, Set[int]],
    tunnel: bool,
    lrr_version: tuple[int, ...] | None,
) -> RowVerdict:
    """One row of one base station."""
    flows = tuple(sorted({flow for match in matches for flow in match.conversation.flows}))
    own = [match for match in matches if len(match.rows) == 1]
    through = [match for match in own if got_through(row, match, matches, matched)]
    certainty, why = confidence(row, matched, tunnel, lrr_version)
    if not malformed.get(row.id, frozenset()).isdisjoint(flows):
        return RowVerdict(row, requirement, Status.MALFORMED, None, None, flows)
    if through:
        return RowVerdict(row, requirement, Status.PRESENT, None, remark(row, through), flows)
    shared = [match for match in matches if len(match.rows) > 1]
    if any(completed(match) for match in shared):
        others = " or ".join(each.id for each in shared[0].rows if each.id != row.id)
        reason = f"the packets cannot tell whether this is row {row.id} or {others}"
        return RowVerdict(row, requirement, Status.UNDECIDED, None, reason, flows)
    if matches:
        reason = f"{how_blocked(row, matches)}; {why}"
        return RowVerdict(row, requirement, Status.BLOCKED, certainty, reason, flows)
    if requirement is Requirement.OPTIONAL or not applies(row, lrr_version) or matched.mode.name == UNKNOWN:
        return RowVerdict(row, requirement, Status.ABSENT, None, None, flows)
    return RowVerdict(row, requirement, Status.MISSING, certainty, why, flows)


def got_through(row: ExpectedFlow, match: Match, matches: Sequence[Match], matched: StationMatches) -> bool:
    """Whether a conversation fulfils its row."""
    if row.peer is Peer.DHCP:
        return any(answered(each.conversation) for each in matches)
    if row.protocol == ike.NAME:
        # IKE_SA_INIT on port 500 goes on with IKE_AUTH on 4500: one without the other is no tunnel.
        tunnel = any(carries_esp(each.conversation) for each in matched.matches)
        return completed(match) and (tunnel or not unanswered_auth(matches))
    return completed(match)


def answered(each: Conversation) -> bool:
    """A DHCP server spoke in it."""
    facts = each.dissection.facts
    if isinstance(facts, dhcp.DhcpFacts):
        return any(name in ("OFFER", "ACK", "NAK") for name in facts.messages)
    return all(each.packets)


def unanswered_auth(matches: Sequence[Match]) -> bool:
    """IKE_AUTH was sent and no conversation shows an answer, nor an exchange that needs one."""
    headers = [
        header for match in matches for _, header in messages(match.conversation.dissection.items, ike.IkeHeader)
    ]
    before = (ike.IKE_AUTH, ike.IKE_INTERMEDIATE)
    asked = any(header.major == 2 and header.exchange in before and not header.response for header in headers)
    return asked and not any(map(is_authenticated, headers))


def remark(row: ExpectedFlow, through: Sequence[Match]) -> str | None:
    """What a present row cannot show, and what happened on the way."""
    if all(match.conversation.state is State.MIDSTREAM for match in through):
        known = any(match.conversation.protocol is not None for match in through)
        said = "only what follows was judged" if known else "what its content is cannot be told from what follows"
        return f"its beginning is not in the capture: {said}"
    if row.protocol == ike.NAME:
        return ike_remark(through)
    if row.transport == "tcp" and not any(any(match.conversation.payload) for match in through):
        return "opened, but without any content"
    return None


def ike_remark(through: Sequence[Match]) -> str | None:
    """What the tunnel's IKE flows cannot show, and where its SA moved."""
    if all(exchanges(match) == {ike.IKE_SA_INIT} for match in through):
        return "nothing but IKE_SA_INIT is in the capture: whether there is a tunnel cannot be told from it"
    clauses = []
    sas: dict[str, list[tuple[str, ike.IkeSa]]] = {}
    for match in through:
        facts = match.conversation.dissection.facts
        for sa in facts._sas if isinstance(facts, ike.IkeFacts) else ():
            sas.setdefault(sa.initiator_spi, []).append((match.conversation.originator.address, sa))
    known = [sa for parts in sas.values() for _, sa in parts]
    if known and not any(sa.chosen for sa in known):
        if any(ike.IKE_AUTH in sa.exchanges for sa in known):
            how = "IKE_SA_INIT is not in the capture"
        else:
            how = (
                f"set up before the capture, only {'rekeyed' if any(sa.rekeys for sa in known) else 'kept alive'} in it"
            )
        clauses.append(f"{how}: which proposal protects the tunnel is not known")
    for parts in sas.values():
        addresses = list(dict.fromkeys(address for address, _ in parts))
        if len(addresses) > 1:
            clauses.append(f"the IKE SA moved on to another address (MOBIKE): {', then '.join(addresses)}")
    return "; ".join(dict.fromkeys(clauses)) or None


def exchanges(match: Match) -> set[int]:
    """Types of the IKE exchanges that a conversation shows."""
    return {header.exchange for _, header in messages(match.conversation.dissection.items, ike.IkeHeader)}


def how_blocked(row: ExpectedFlow, matches: Sequence[Match]) -> str:
    """Why the last of a row's conversations never completed: one clause."""
    each = matches[-1].conversation
    facts = each.dissection.facts
    for error in each.icmp_errors:
        return f"{error.sender} answered with ICMP type {error.type} code {error.code} ({unreachable(error.code)})"
    if isinstance(facts, ftp.FtpFacts) and facts.login == "refused":
        return "the server refused the login"
    if row.protocol == ike.NAME and unanswered_auth(matches):
        return "IKE_AUTH was never answered"
    if row.transport == "esp" and any(each.packets):
        return "ESP packets go in one direction only"
    if each.refused is not None:
        return f"{each.responder.address} reset the connection"
    if each.transport == "tcp":
        return "the connection was never completed" if each.packets[1] else "no answer to the SYN"
    return "no answer"


def unreachable(code: int) -> str:
    """RFC 792 and RFC 1812 section 5.2.7.1, as far as firewalls use them."""
    prohibited = {9: "network prohibited", 10: "host prohibited", 13: "administratively prohibited"}
    return {0: "network unreachable", 1: "host unreachable", 3: "port unreachable", **prohibited}.get(
        code, "unreachable"
    )


def applies(row: ExpectedFlow, lrr_version: tuple[int, ...] | None) -> bool:
    """Whether the station's LRR, if its version is known, uses the row at all."""
    return row.since is None or lrr_version is None or lrr_version >= parse_version(row.since)


def confidence(
    row: ExpectedFlow, matched: StationMatches, tunnel: bool, lrr_version: tuple[int, ...] | None
) -> tuple[Certainty, str]:
    """How sure a row is missing or blocked, and why."""
    if row.tunnelled and tunnel:
        return Certainty.WEAK, "the tunnel may carry it inside"
    if row.since is not None and lrr_version is None:
        return Certainty.WEAK, f"only LRR {row.since} and later use it, and the version is unknown"
    if row.occurrence is Occurrence.ON_DEMAND:
        return Certainty.WEAK, "it is used on demand only"
    if row.occurrence is Occurrence.STARTUP:
        return Certainty.WEAK, "it is used at start-up only"
    assert row.period is not None
    seconds = matched.watched
    if seconds <= 2 * row.period:
        return Certainty.WEAK, f"watched for {seconds:.0f} s, less than two of its periods of {row.period:.0f} s"
    return Certainty.FIRM, f"watched for {seconds:.0f} s, more than two of its periods of {row.period:.0f} s"
