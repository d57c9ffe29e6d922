"""Rows of a base station's table against the flows that match them: row → status and certainty."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from analyzer.conversations import Conversation, State
from analyzer.dataclass import dataclass
from analyzer.expected import Deployment, ExpectedFlow, Occurrence, Peer, Requirement, parse_version
from analyzer.heads import Direction
from analyzer.matching import Match, StationMatches
from analyzer.messages import messages
from analyzer.outcomes import Outcome, Stage, datagram_outcome, esp_outcome, outcome
from analyzer.protocols import ike
from analyzer.safetext import SafeText
from analyzer.stations import UNKNOWN, Station, carries_esp


class Status(enum.Enum):
    """Status of a row for one base station."""

    PRESENT = "present"
    """At least one flow of the row was served, and none breaks the row's rules."""
    MALFORMED = "malformed"
    """A flow matches by direction, transport and port, and its content breaks the row's rules."""
    BLOCKED = "blocked"
    """Flows were attempted, and none was served; or a continuous row was served, and then lost."""
    MISSING = "missing"
    """No flow of a MUST row."""
    ABSENT = "absent"
    """No flow of an OPTIONAL row."""
    UNDECIDED = "undecided"
    """Flows are there, and the packets cannot tell whether the row was served, or to which of two rows they belong."""


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
    served_until: int | None = None
    """End of the last flow that served a continuous row which was lost then, nanoseconds since the epoch."""
    cause: SafeText | None = None
    """Id of the row whose failure explains this one."""


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
    unread: Mapping[str, float],
) -> tuple[StationVerdict, ...]:
    """Judge the rows of all base stations.

    ``malformed``: address of a base station → row id → flows with a finding of kind malformed and severity medium or
    above. ``lrr_version``: of the base stations, if known. ``tpe``: addresses of TPE. ``unread``: address
    of a base station → the part of its frames whose headers could not be read.
    """
    return tuple(
        judge_station(
            matches,
            deployment,
            malformed.get(matches.address, {}),
            lrr_version,
            tpe,
            unread.get(matches.address, 0.0),
        )
        for matches in stations
    )


def judge_station(
    matches: StationMatches,
    deployment: Deployment,
    malformed: Mapping[str, Set[int]],
    lrr_version: tuple[int, ...] | None,
    tpe: Collection[str],
    unread: float,
) -> StationVerdict:
    """Judge the rows of one base station. ``malformed``: row id → flows that break the row's rules."""
    by_row: dict[str, list[Match]] = {row.id: [] for row in matches.rows}
    for match in matches.matches:
        for row in match.rows:
            by_row[row.id].append(match)
    row_judge = RowJudge(matches, deployment, lrr_version, unread)
    ends = (end for match in matches.matches for end in (match.conversation.originator, match.conversation.responder))
    verdicts = [row_judge.verdict(row, by_row[row.id], malformed.get(row.id, frozenset())) for row in matches.rows]
    return StationVerdict(
        matches.station,
        matches.mode.name,
        matches.mode.evidence,
        tuple(dict.fromkeys(end.address for end in ends if end.address in tpe)),
        tuple(with_cause(verdict, verdicts) for verdict in verdicts),
    )


def with_cause(verdict: RowVerdict, verdicts: Sequence[RowVerdict]) -> RowVerdict:
    """The verdict on ESP, with IKE as the cause where IKE failed: without it there can be no ESP."""
    if verdict.row.transport != "esp" or verdict.status is not Status.MISSING:
        return verdict
    failed = (other.row.id for other in verdicts if other.row.protocol == ike.NAME and other.status is Status.BLOCKED)
    cause = next(failed, None)
    if cause is None:
        return verdict
    return replace(verdict, reason=f"there is no ESP without IKE, and row {cause} is blocked", cause=cause)


class RowJudge:
    """Judges the rows of one base station."""

    def __init__(
        self, matches: StationMatches, deployment: Deployment, lrr_version: tuple[int, ...] | None, unread: float
    ) -> None:
        self.deployment = deployment
        self.unread = unread
        self.lrr_version = lrr_version
        self.mode_known = matches.mode.name != UNKNOWN
        self.watched = matches.watched
        self.timeline = matches.timeline
        self.seen = matches.seen
        self.signatures = {(found.conversation.id, found.row.id): found for found in matches.station.signatures}
        self.has_esp = any(carries_esp(match.conversation) for match in matches.matches)
        tunnels = (match.conversation for match in matches.matches if match.row.transport == "esp")
        self.has_tunnel = any(esp_outcome(tunnel).stage is Stage.SERVED for tunnel in tunnels)

    def verdict(self, row: ExpectedFlow, matches: Sequence[Match], malformed: Set[int]) -> RowVerdict:
        """The status of a row with the flows that match it. ``malformed``: ids of flows that break the row's rules."""
        requirement = row.requirement(self.deployment)
        flows = tuple(sorted({flow for match in matches for flow in match.conversation.flows}))

        def verdict(
            status: Status,
            certainty: Certainty | None = None,
            reason: str | None = None,
            served_until: int | None = None,
        ) -> RowVerdict:
            return RowVerdict(row, requirement, status, certainty, reason, flows, served_until)

        if malformed and matches:  # the flow that shows the break may be another row's: IKE negotiates ESP
            return verdict(Status.MALFORMED)
        if not matches:
            if requirement is Requirement.OPTIONAL or not self.applies(row) or not self.mode_known:
                return verdict(Status.ABSENT)
            return verdict(Status.MISSING, *self.certainty(row))
        attempts = sorted(self.attempts(row, matches), key=lambda attempt: attempt.conversation.latest_start)
        served = [attempt for attempt in attempts if attempt.served and not attempt.shared]
        if lost := self.lost(row, attempts):
            return verdict(Status.BLOCKED, self.certainty(row)[0], *lost)
        if served:
            return verdict(Status.PRESENT, None, limits_of_evidence(row, served))
        shared = [attempt for attempt in attempts if attempt.served]
        if shared:
            others = " or ".join(other.id for other in shared[0].rows if other.id != row.id)
            return verdict(Status.UNDECIDED, None, f"the packets cannot tell whether this is row {row.id} or {others}")
        if reason := self.undecided(attempts):
            return verdict(Status.UNDECIDED, None, reason)
        certainty, why = self.certainty(row, tried=True)
        return verdict(Status.BLOCKED, certainty, f"{how_blocked(attempts)}; {why}")

    def attempts(self, row: ExpectedFlow, matches: Sequence[Match]) -> list[Attempt]:
        """The flows of a row with their outcomes. FTP data connections say nothing that their control does not."""
        attempts = [
            Attempt(match.conversation, match.rows, self.outcome(match.conversation, row))
            for match in matches
            if match.conversation.control is None
        ]
        if row.peer is Peer.DHCP and any(attempt.served for attempt in attempts):
            # Client and server of DHCP also send to broadcast addresses: the answer may be in another conversation.
            return [attempt._replace(outcome=Outcome(Stage.SERVED)) for attempt in attempts]
        if row.protocol == ike.NAME:
            return self.ike_attempts(attempts)
        return attempts

    def outcome(self, conversation: Conversation, row: ExpectedFlow) -> Outcome:
        """The outcome of a conversation at a row: that which made it evidence for its base station, if it did."""
        known = self.signatures.get((conversation.id, row.id))
        return outcome(conversation, row) if known is None else known.result

    def ike_attempts(self, attempts: list[Attempt]) -> list[Attempt]:
        """IKE_SA_INIT on port 500 goes on with IKE_AUTH on port 4500: an answer to the first alone is no tunnel."""
        conversations = [attempt.conversation for attempt in attempts]
        judged = [attempt._replace(outcome=ike_outcome(attempt.conversation)) for attempt in attempts]
        if self.has_esp:
            return judged
        if auth_unanswered(conversations):
            failed = Outcome(Stage.ANSWERED, "IKE_AUTH was never answered")
        elif auth_refused(conversations):
            clause = (
                "TPE most likely refused IKE_AUTH: its encrypted answer is too short to hold IDr, AUTH, SA and traffic "
                "selectors, no ESP follows, and the base station begins anew"
            )
            failed = Outcome(Stage.ANSWERED, clause, refused=True, inferred=True)
        elif all(exchanges(conversation) == {ike.IKE_SA_INIT} for conversation in conversations):
            failed = Outcome(Stage.ANSWERED, "only IKE_SA_INIT was answered: no IKE_AUTH is in the capture")
        else:
            return judged
        return [attempt._replace(outcome=failed) if attempt.served else attempt for attempt in judged]

    def lost(self, row: ExpectedFlow, attempts: Sequence[Attempt]) -> tuple[str, int] | None:
        """Why a continuous row that was served is blocked, and until when it was served.

        Its last flow ended, and every attempt since has failed: three attempts or more, or attempts over two periods.
        ``None``: it is not lost.
        """
        served = [attempt for attempt in attempts if attempt.served]
        if row.occurrence is not Occurrence.CONTINUOUS or not served or row.period is None:
            return None
        ended = max(attempt.conversation.latest for attempt in served)
        last = next(attempt.conversation for attempt in served if attempt.conversation.latest == ended)
        closed = last.closed_by is not None or last.refused is not None
        if not closed and self.timeline.end - ended <= 2 * row.period * 1e9:
            return None
        # Attempts at an address that never served, such as a dead IPv6 address beside IPv4, say nothing of the link.
        servers = {attempt.conversation.responder.address for attempt in served}
        later = [
            attempt
            for attempt in attempts
            if attempt.conversation.latest_start >= ended
            and not attempt.served
            and attempt.conversation.responder.address in servers
        ]
        count = sum(attempt.conversation.flow_count for attempt in later)
        if not later or any(attempt.outcome.unseen for attempt in later):
            return None
        lasted = (max(attempt.conversation.latest for attempt in later) - ended) / 1e9
        if count < LOST_ATTEMPTS and lasted < 2 * row.period:
            return None
        reason = f"served until {iso_time(ended)}, then {times(count)} without success: {later[-1].outcome.clause}"
        return reason, ended

    def undecided(self, attempts: Sequence[Attempt]) -> str | None:
        """Why the packets cannot tell whether a row was served; ``None``: they show that it was not."""
        for attempt in attempts:
            if attempt.outcome.unseen:
                return attempt.outcome.clause
        if all(self.is_one_sided(attempt.conversation) for attempt in attempts):
            return "the capture shows one direction only, and nothing proves an answer"
        if any(attempt.outcome.refused for attempt in attempts):
            return None
        if self.unread >= UNREAD_SHARE:
            return f"{self.unread:.0%} of the station's frames could not be read, and an answer may be among them"
        if all(map(self.is_recent, attempts)):
            return f"the capture ends, or pauses, before an answer could come: {attempts[-1].outcome.clause}"
        return None

    def is_one_sided(self, conversation: Conversation) -> bool:
        """Whether the capture shows one direction of the conversations with a peer, or of the whole station."""
        if all(conversation.packets):
            return False
        ends = (conversation.originator.address, conversation.responder.address)
        return self.seen.lacks is not None or not self.seen.one_sided_peers.isdisjoint(ends)

    def is_recent(self, attempt: Attempt) -> bool:
        """Whether an exchange made progress within the last seconds before the capture ends or pauses."""
        conversation = attempt.conversation
        # A request that is only sent again makes no progress; TCP does not count it as new payload.
        own = conversation.newest[Direction.ORIGINATOR] if conversation.transport == "tcp" else 0
        progress = max(conversation.first, own, conversation.newest[Direction.RESPONDER])
        if attempt.outcome.progress is not None:
            progress = attempt.outcome.progress
        return self.timeline.watched_until(progress) - progress < PATIENCE

    def applies(self, row: ExpectedFlow) -> bool:
        """Whether the station's LRR uses a row at all, as far as its version is known."""
        return row.since is None or self.lrr_version is None or self.lrr_version >= parse_version(row.since)

    def certainty(self, row: ExpectedFlow, tried: bool = False) -> tuple[Certainty, str]:
        """How certain it is that a row is missing or blocked, and why.

        ``tried``: it was attempted, so that its period explains nothing; how long the capture watched does.
        """
        if self.seen.lacks is not None:
            return Certainty.WEAK, "the capture shows one direction only"
        if self.unread >= UNREAD_SHARE:
            return Certainty.WEAK, f"{self.unread:.0%} of its frames could not be read"
        if row.tunnelled and self.has_tunnel:
            return Certainty.WEAK, INSIDE_TUNNEL
        if row.protocol == ike.NAME and self.has_tunnel:
            return Certainty.WEAK, "ESP in both directions shows that IKE set up the tunnel before the capture"
        if row.since is not None and self.lrr_version is None:
            return Certainty.WEAK, f"only LRR {row.since} and later use it, and the version is unknown (--lrr-version)"
        if row.occurrence is Occurrence.ON_DEMAND:
            return Certainty.WEAK, "it is used on demand only"
        if row.occurrence is Occurrence.STARTUP:
            return Certainty.WEAK, "it is used at start-up only"
        assert row.period is not None
        pause = " without a pause" if len(self.timeline.intervals) > 1 else ""
        watched = f"watched for {self.watched:.{0 if self.watched >= 10 else 1}f} s{pause}"
        periods = f"two of its periods of {row.period:.0f} s"
        if self.watched <= 2 * row.period:
            return Certainty.WEAK, f"{watched} only" if tried else f"{watched}, less than {periods}"
        return Certainty.FIRM, f"{watched}, more than {periods}"


INSIDE_TUNNEL = "the tunnel may carry it inside"
"""Reason of a row that an established tunnel may hide."""
LOST_ATTEMPTS = 3
"""Failed attempts after which a continuous row that was served before is lost."""

UNREAD_SHARE = 0.05
"""Part of a base station's frames that could not be read, from which on what is not seen proves nothing."""

PATIENCE = 10_000_000_000
"""Nanoseconds that must pass after the last progress of an exchange before its silence counts as no answer."""


class Attempt(NamedTuple):
    """A flow of a row, and how far it came."""

    conversation: Conversation
    rows: tuple[ExpectedFlow, ...]
    outcome: Outcome

    @property
    def served(self) -> bool:
        return self.outcome.stage is Stage.SERVED

    @property
    def shared(self) -> bool:
        """The packets cannot tell to which of several rows the flow belongs."""
        return len(self.rows) > 1


# -- IKE --------------------------------------------------------------------------------------------------------


def ike_outcome(conversation: Conversation) -> Outcome:
    """Whether IKE_AUTH was answered, or began before the capture. IKE_SA_INIT alone is no tunnel.

    IKE_INTERMEDIATE (RFC 9242) precedes IKE_AUTH and sets nothing up.
    """
    if conversation.protocol != ike.NAME or not all(conversation.packets):
        return datagram_outcome(conversation)
    headers = [header for _, header in messages(conversation.dissection.items, ike.IkeHeader)]
    begun = any(header.exchange in (ike.IKE_AUTH, ike.IKE_INTERMEDIATE) for header in headers if header.major == 2)
    if begun and not any(map(is_authenticated, headers)):
        return Outcome(Stage.ANSWERED, "IKE_AUTH was never answered")
    return Outcome(Stage.SERVED)


def is_authenticated(header: ike.IkeHeader) -> bool:
    """Whether a message shows that its IKE SA is set up: it answers IKE_AUTH, or its exchange follows IKE_AUTH."""
    if header.major != 2:
        return False
    return (header.exchange == ike.IKE_AUTH and header.response) or header.exchange in ike.AUTHENTICATED


MIN_AUTH_RESPONSE_BYTES = 150
"""Length of an IKE_AUTH response below which it cannot hold IDr, AUTH, SA and both TS: these take 12, 40, 44 and 48
bytes at least, and header, IV, padding and checksum 60 more (RFC 7296, section 3). One that refuses has 80."""


def auth_refused(conversations: Sequence[Conversation]) -> bool:
    """Whether every IKE SA ended with an IKE_AUTH response that is too short to set it up, and another one was begun.

    The initiator's DELETE counts, too. The refusal itself is encrypted, so this is an inference.
    """
    initiations = 0
    short: set[bytes] = set()
    complete = deleted = False
    for conversation in conversations:
        for _, header in messages(conversation.dissection.items, ike.IkeHeader):
            if header.major != 2:
                continue
            if header.exchange == ike.IKE_SA_INIT and not header.response:
                initiations += 1
            elif header.exchange == ike.IKE_AUTH and header.response:
                short.add(header.initiator_spi)
                complete |= header.length >= MIN_AUTH_RESPONSE_BYTES
            elif header.exchange in ike.AUTHENTICATED:
                deleted = True
    return bool(short) and not complete and (deleted or initiations > len(short) or len(short) > 1)


def auth_unanswered(conversations: Sequence[Conversation]) -> bool:
    """Whether IKE_AUTH was sent, and no conversation shows an answer or an exchange that follows it."""
    headers = [
        header for conversation in conversations for _, header in messages(conversation.dissection.items, ike.IkeHeader)
    ]
    exchanges = (ike.IKE_AUTH, ike.IKE_INTERMEDIATE)
    asked = any(header.major == 2 and header.exchange in exchanges and not header.response for header in headers)
    return asked and not any(map(is_authenticated, headers))


# -- reasons ----------------------------------------------------------------------------------------------------


def limits_of_evidence(row: ExpectedFlow, served: Sequence[Attempt]) -> str | None:
    """What the flows of a present row do not show; for IKE, also where the SA moved to."""
    if row.protocol == ike.NAME and not all(attempt.conversation.state is State.MIDSTREAM for attempt in served):
        return limits_of_ike([attempt.conversation for attempt in served])
    clauses = [attempt.outcome.clause for attempt in served]
    return clauses[0] if all(clauses) else None


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


def how_blocked(attempts: Sequence[Attempt]) -> str:
    """How far the attempts came that did not succeed: that of the newest one, and how many there were since when."""
    count = len(negotiations(attempts)) or sum(attempt.conversation.flow_count for attempt in attempts)
    best = max(attempts, key=lambda attempt: (attempt.outcome.stage, attempt.conversation.latest_start))
    if count == 1:
        return best.outcome.clause
    first = min(attempt.conversation.first for attempt in attempts)
    return f"{best.outcome.clause}; {times(count)} since {iso_time(first)}"


def negotiations(attempts: Sequence[Attempt]) -> set[str]:
    """The IKE SAs that attempts negotiate, by initiator SPI: one may go on in another flow, on port 4500."""
    facts = (attempt.conversation.dissection.facts for attempt in attempts)
    return {sa.initiator_spi for found in facts if isinstance(found, ike.IkeFacts) for sa in found._sas}


def times(count: int) -> str:
    """A number of attempts in words."""
    return "tried once" if count == 1 else f"tried {count} times"


def iso_time(time: int) -> str:
    """A time to the second, in UTC."""
    return datetime.fromtimestamp(time // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
