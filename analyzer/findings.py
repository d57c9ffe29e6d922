"""Checks, the issues that they report, and findings: issues with their evidence, ready for a report.

The checks themselves are in :mod:`analyzer.checks`. A check is a function with an id, a slug, a severity and a
docstring whose paragraphs begin ``Flags:``, ``Severity:`` (where it varies), ``Why:``, ``Evidence:`` and ``Remedy:``.
The docstring is the check's only documentation.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import cache
from hashlib import sha256
from itertools import chain
from typing import Any, TypeVar

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, KeyUse
from analyzer.dataclass import dataclass
from analyzer.expected import Deployment
from analyzer.flows import PacketCounts, StrayFrames
from analyzer.heads import Frame
from analyzer.matching import Match, StationMatches
from analyzer.safetext import SafeText
from analyzer.stations import Hosts
from analyzer.timeline import Timeline
from analyzer.unexpected import Pattern, UnexpectedGroup
from analyzer.verdicts import StationVerdict

T = TypeVar("T")


class Severity(enum.IntEnum):
    """Ascending. Reports print the name in lower case."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3

    def __str__(self) -> str:
        return self.name.lower()


class Kind(enum.Enum):
    """The kind of deviation that a finding reports."""

    UNEXPECTED = "unexpected"
    """A flow that matches no row."""
    MISSING = "missing"
    """A row without a flow that completed."""
    MALFORMED = "malformed"
    """A flow that matches a row and breaks its rules."""
    NOTICE = "notice"
    """A circumstance of the audit: no deviation."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Issue reported by a check. :func:`to_finding` adds what follows from the check and the flow.

    A check with scope flow sets the sentence, and the frames where it can be precise. A check with scope capture also
    sets the base station, rows, conversations and display filter.
    """

    sentence: str
    """One plain sentence, from capital letter to full stop."""
    frames: tuple[Frame, ...] = ()
    """Frames that show the issue, ascending. Empty: the first frames of the conversations."""
    severity: Severity | None = None
    """``None``: the severity of the check."""
    kind: Kind | None = None
    """``None``: the kind of the check."""
    base_station: str | None = None
    """Address of the base station. ``None``: the issue is about the capture."""
    rows: tuple[str, ...] = ()
    """Ids of the rows."""
    conversations: tuple[Conversation, ...] = ()
    """The affected conversations, ascending by id."""
    filter: str | None = None
    """Wireshark display filter."""
    mismatch: str | None = None
    """Unexpected flows: the field of the nearest row that they fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A reported defect and its evidence."""

    kind: Kind
    check: SafeText
    """Id of the check: ``TPE201``."""
    slug: SafeText
    severity: Severity
    base_station: str | None
    """Address under which the base station is reported. ``None``: the finding is about the capture."""
    rows: tuple[SafeText, ...]
    """Ids of the rows: several if they share the port, the nearest row of an unexpected flow, or none."""
    mismatch: SafeText | None
    """Unexpected flows: the field of the nearest row that they fail, such as ``port`` or ``direction``."""
    flow: int | None
    """Id of the first affected conversation."""
    count: int
    """Number of affected flows; at least 1."""
    frames: tuple[Frame, ...]
    """The frames that show the defect, ascending; at most :data:`MAX_FRAMES`."""
    time: int | None
    """Capture time of the first frame, nanoseconds since the epoch."""
    filter: SafeText | None
    """Wireshark display filter that selects the evidence."""
    summary: SafeText
    """One plain sentence."""
    remedy: SafeText
    """One imperative sentence."""
    peer: str | None = None
    """Address of the flows' other end. ``None``: several, or no flow."""
    service: SafeText | None = None
    """Transport and responder port of the flows (``tcp/3001``); the transport alone if the ports differ."""


ANY = "*"
"""Protocol of a check that applies to every flow that matches a row, whatever its content."""


class Scope(enum.Enum):
    """What one call of a check examines."""

    FLOW = "flow"
    """One flow that matches a row."""
    CAPTURE = "capture"
    """The whole capture: all base stations, flows and rows."""


FLOW, CAPTURE = Scope


@dataclass(frozen=True, slots=True)
class AuditContext:
    """The audit so far: what checks with scope capture examine."""

    captures: tuple[CaptureFile, ...]
    counts: PacketCounts
    timeline: Timeline
    """When the capture watched."""
    deployment: Deployment
    conversations: Sequence[Conversation]
    """All conversations of the capture."""
    hosts: Hosts
    stations: tuple[StationMatches, ...]
    """The matches of all base stations, in the order of ``hosts``."""
    groups: tuple[UnexpectedGroup, ...]
    """The unexpected flows of all base stations."""
    keys: tuple[KeyUse, ...] = ()
    """The use of the keys that the user provided."""
    strays: tuple[StrayFrames, ...] = ()
    """Frames in no flow."""
    unread: Mapping[str, float] = field(default_factory=dict)
    """Address of a base station → the part of its frames whose headers could not be read."""
    verdicts: tuple[StationVerdict, ...] = ()
    """In the order of ``stations``. Empty for checks of kind malformed, on whose findings the verdicts depend."""
    names: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Address → the names that DNS in the captures gives it; empty without unexpected flows."""

    def unexpected(self, pattern: Pattern) -> Iterator[UnexpectedGroup]:
        """The groups of unexpected flows that have a pattern."""
        return (group for group in self.groups if group.pattern is pattern)


RunCheck = Callable[[Any], Iterator[Issue]]
"""Takes a :class:`~analyzer.matching.Match` (scope flow) or an :class:`AuditContext` (scope capture)."""


@dataclass(frozen=True, slots=True)
class Check:
    """A function that reports issues, and the flows or captures to which it applies."""

    id: str
    """``TPE201``. Never reused."""
    slug: str
    """Name of the defect: ``ike-chosen-proposal-not-allowed``."""
    severity: Severity
    kind: Kind
    scope: Scope
    run: RunCheck
    protocol: str = ANY
    """Scope flow: the check runs if row and content have this protocol. :data:`ANY`: for every flow of every row."""
    pure: bool = False
    """Whether the check fires follows from the row and the facts alone. (Content may count where equal facts imply
    equal content.) If a pure check does not fire, it is not run again for flows with the same facts and row."""
    aggregated: bool = False
    """One finding covers all base stations: the issue is in software that they share."""

    @property
    def documentation(self) -> str:
        return self.run.__doc__ or ""


def check(
    identifier: str,
    slug: str,
    severity: Severity,
    kind: Kind = Kind.MALFORMED,
    *,
    scope: Scope = FLOW,
    protocol: str = ANY,
    pure: bool = False,
    aggregated: bool = False,
) -> Callable[[RunCheck], Check]:
    """Make a function a :class:`Check`. It runs only if its module's ``CHECKS`` lists it."""
    return lambda run: Check(identifier, slug, severity, kind, scope, run, protocol, pure, aggregated)


@cache
def sections(check: Check) -> Mapping[str, str]:
    """A check's documentation by heading, one line each: ``flags``, ``severity``, ``why``, ``evidence``, ``remedy``.

    A check whose docstring has no paragraph ``Severity:`` always gives the severity that it is declared with.
    """
    found: dict[str, str] = {}
    for paragraph in inspect.cleandoc(check.documentation).split("\n\n"):
        heading, _, text = " ".join(paragraph.split()).partition(": ")
        found[heading.lower()] = text
        if heading == "Flags":
            found["severity"] = f"always {check.severity}."
    return found


@cache
def severities(check: Check) -> tuple[Severity, ...]:
    """The severities that a check can give, ascending: those that its documentation lists."""
    words = set(re.findall(r"[a-z]+", sections(check).get("severity", "")))
    return tuple(severity for severity in Severity if str(severity) in words) or (check.severity,)


MAX_FRAMES = 16
"""Maximum frames that a finding cites."""

CITED = 8
"""Maximum frames that one check cites for one kind of message."""


def cited_frames(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """The first :data:`CITED` distinct frames, ascending."""
    return tuple(sorted(set(frames))[:CITED])


def to_finding(check: Check, issue: Issue, match: Match | None = None, addresses: Collection[str] = ()) -> Finding:
    """The finding for an issue.

    ``match`` is the flow that a check with scope flow examined. For a check with scope capture, ``addresses`` are all
    addresses of the base station that the issue names.
    """
    if match is not None:
        issue, addresses = locate(issue, match), match.station.addresses
    conversations = issue.conversations
    cited = issue.frames or (frame for conversation in conversations for frame in conversation.first_frames)
    frames = tuple(sorted(set(cited))[:MAX_FRAMES])
    first = conversations[0] if conversations else None
    time = first.first if first else None
    if match is not None:
        time = time_of(match.conversation, frames[0])
    return Finding(
        kind=check.kind if issue.kind is None else issue.kind,
        check=check.id,
        slug=check.slug,
        severity=check.severity if issue.severity is None else issue.severity,
        base_station=issue.base_station,
        rows=issue.rows,
        mismatch=issue.mismatch,
        flow=first.id if first else None,
        count=max(1, sum(conversation.flow_count for conversation in conversations)),
        frames=frames,
        time=time,
        filter=frames_filter(frames) if match is not None else issue.filter,
        summary=issue.sentence,
        remedy=sections(check).get("remedy", ""),  # python -OO strips docstrings
        peer=peer_of(conversations, addresses),
        service=service_of(conversations),
    )


def locate(issue: Issue, match: Match) -> Issue:
    """The issue of one flow, with its base station, rows, conversation and frames."""
    return replace(
        issue,
        base_station=match.station.address,
        rows=tuple(row.id for row in match.rows),
        conversations=(match.conversation,),
        frames=issue.frames or (match.conversation.first_frame,),
    )


def peer_of(conversations: Sequence[Conversation], addresses: Collection[str]) -> str | None:
    """The address that all conversations share opposite a base station with ``addresses``.

    The responder counts as the peer where neither end is the base station, as in DHCP before it has an address.
    """
    return common_value(
        (conversation.originator if conversation.responder.address in addresses else conversation.responder).address
        for conversation in conversations
    )


def service_of(conversations: Sequence[Conversation]) -> str | None:
    """Transport and responder port that all conversations share, or the transport alone."""
    transport = common_value(conversation.transport for conversation in conversations)
    port = common_value(conversation.responder.port for conversation in conversations)
    return transport if transport is None or port is None else f"{transport}/{port}"


def common_value(values: Iterable[T]) -> T | None:
    """The value that all are equal to; ``None`` if they differ, or there is none."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def fingerprints(findings: Sequence[Finding]) -> list[str]:
    """A name for each finding that stays the same from one capture to the next.

    It depends on check, base station, peer, service and rows; never on frames, times or flow ids. Where these are equal
    for several findings of one report, the second and later ones get a number in the report's order: ``…:2``.
    """
    seen: Counter[str] = Counter()
    names = []
    for finding in findings:
        identity = (
            *(finding.check, finding.base_station or "", finding.peer or ""),
            *(finding.service or "", ",".join(finding.rows)),
        )
        name = sha256("\n".join(identity).encode()).hexdigest()[:32]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}:{seen[name]}")
    return names


def time_of(conversation: Conversation, frame: Frame) -> int:
    """Capture time of a conversation's frame, if its content records it; else of the conversation's first frame."""
    head, dissection = conversation.head, conversation.dissection
    sources = (*head.associations, *([head.link] if head.link else ()))
    events = (event for source in sources for event in source.events)
    times = (entry.time for entry in chain(dissection.parse_errors, events, dissection.items) if entry.frame == frame)
    return next(times, conversation.first)


def frames_filter(frames: Sequence[Frame]) -> str:
    """A display filter that selects frames. If they are in several files, only those of the first file count."""
    numbers = [str(frame.number) for frame in frames if frame.capture == frames[0].capture]
    return f"frame.number == {numbers[0]}" if len(numbers) == 1 else f"frame.number in {{{', '.join(numbers)}}}"


def flow_filter(conversation: Conversation, port: bool = True, ends: Sequence[str] | None = None) -> str:
    """A display filter for all packets between a conversation's ends with its transport and service port.

    ``port``: whether to include the port. ``ends``: the addresses to select instead of both ends.
    """
    originator, responder = conversation.originator, conversation.responder
    parts = [f"{family(address)} == {address}" for address in ends or (originator.address, responder.address)]
    if responder.port is not None:
        parts.append(f"{conversation.transport}.port == {responder.port}" if port else conversation.transport)
    elif conversation.transport.startswith("ip-"):
        field = "ipv6.nxt" if ":" in originator.address else "ip.proto"
        parts.append(f"{field} == {conversation.transport[3:]}")
    else:
        parts.append(conversation.transport)
    return " && ".join(parts)


def family(address: str) -> str:
    """The display filter field of an address."""
    return "ipv6.addr" if ":" in address else "ip.addr"
