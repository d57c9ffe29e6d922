"""Findings: what an auditor is told, with the evidence to look it up; and what a check is.

Checks live in :mod:`analyzer.checks`. A check is a function with an id, a slug, a severity and a docstring whose
paragraphs begin ``Flags:``, ``Why:``, ``Evidence:`` and ``Remedy:``; the docstring is its only documentation.
"""

from __future__ import annotations

import enum
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, KeyUse
from analyzer.expected import Deployment
from analyzer.flows import PacketCounts
from analyzer.heads import Frame
from analyzer.matching import Match, StationMatches
from analyzer.safetext import SafeText
from analyzer.stations import Names
from analyzer.unexpected import Pattern, UnexpectedGroup
from analyzer.verdicts import StationVerdict

T = TypeVar("T")


class Severity(enum.IntEnum):
    """Ascending; the report prints the name in lower case."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3

    def __str__(self) -> str:
        return self.name.lower()


class Kind(enum.Enum):
    UNEXPECTED = "unexpected"
    MISSING = "missing"
    MALFORMED = "malformed"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Issue:
    """A defect as a check reports it; :func:`to_finding` adds what the check and the flow already say.

    A check of one flow gives the sentence, and frames where it can be precise. A check of the whole capture also says
    whom the issue is about.
    """

    sentence: str
    """One plain sentence that starts with a capital letter and ends with a full stop."""
    frames: tuple[Frame, ...] = ()
    """Frames that show the issue, ascending. Empty: the first frames of its conversations."""
    severity: Severity | None = None
    """Set where it differs from the check's."""
    kind: Kind | None = None
    """Set where it differs from the check's."""
    base_station: str | None = None
    rows: tuple[str, ...] = ()
    conversations: tuple[Conversation, ...] = ()
    """Conversations that the issue is about, ascending by id."""
    filter: str | None = None
    """Wireshark display filter."""
    mismatch: str | None = None
    """Field of the nearest row that an unexpected flow fails."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an auditor is told: one defect, with the evidence to look it up."""

    kind: Kind
    check: SafeText
    """Id of the check that says so: ``TPE201``."""
    slug: SafeText
    severity: Severity
    base_station: str | None
    """Address under which it is reported; ``None``: about the capture."""
    rows: tuple[SafeText, ...]
    """The row; two where they share the port; the nearest for an unexpected flow; empty where there is none."""
    mismatch: SafeText | None
    """Which field of the nearest row an unexpected flow fails: ``port``, ``direction``."""
    flow: int | None
    """Id of the conversation (the first, where there are several)."""
    count: int
    """Number of flows that it stands for."""
    frames: tuple[Frame, ...]
    """The frames that show it, ascending."""
    time: int | None
    """Of the first of them, nanoseconds since the epoch."""
    filter: SafeText | None
    """Wireshark display filter that shows exactly this evidence."""
    summary: SafeText
    """One plain sentence."""
    remedy: SafeText
    """What to do about it: one imperative sentence."""
    peer: str | None = None
    """Address of the other end of its flows; ``None``: several, or no flow."""
    service: SafeText | None = None
    """Transport and responder's port of its flows (``tcp/3001``); of several ports, the transport."""


ANY = "*"
"""Protocol of a check that applies to every flow that matches a row, whatever its content."""


class Scope(enum.Enum):
    """What a check looks at."""

    FLOW = "flow"
    """One flow that matches a row, and whose content is the row's protocol."""
    CAPTURE = "capture"
    """Everything: all base stations, all flows, the status of each row."""


FLOW, CAPTURE = Scope


@dataclass(frozen=True, slots=True)
class AuditContext:
    """All that is known once every row has its status: what case checks judge."""

    captures: tuple[CaptureFile, ...]
    counts: PacketCounts
    deployment: Deployment
    stations: tuple[StationMatches, ...]
    verdicts: tuple[StationVerdict, ...]
    """Of the stations, in the same order; empty for the checks of malformed rows, from which they follow."""
    conversations: Sequence[Conversation]
    """All."""
    tpe: frozenset[str]
    inside: frozenset[int]
    """Ids of the conversations that were captured inside of a tunnel and are not judged."""
    names: Names
    """Whom the user named."""
    unjudged: int
    """Addresses that look like base stations and are not judged because there are too many."""
    keys: tuple[KeyUse, ...] = ()
    """What became of the keys that the user gave."""
    groups: tuple[UnexpectedGroup, ...] = ()
    """The unexpected flows, by base station."""

    def unexpected(self, pattern: Pattern) -> Iterator[UnexpectedGroup]:
        """The groups of unexpected flows with a pattern."""
        return (group for group in self.groups if group.pattern is pattern)


Judge = Callable[[Any], Iterator[Issue]]
"""Takes a :class:`~analyzer.matching.Match` (scope flow) or an :class:`AuditContext` (scope capture)."""


@dataclass(frozen=True, slots=True)
class Check:
    """A named opinion: a function that yields issues, and when to call it."""

    id: str
    """``TPE201``; never reused."""
    slug: str
    """Names the defect: ``ike-chosen-proposal-not-allowed``."""
    severity: Severity
    kind: Kind
    scope: Scope
    run: Judge
    protocol: str = ANY
    """Scope flow: the row's protocol, which is the content's, too; or :data:`ANY`."""
    pure: bool = False
    """Whether it fires depends on the row and on facts alone, or on content only where flows with equal facts have
    equal content. A pure check that was silent once is silent for all flows that share facts and row."""
    aggregated: bool = False
    """One finding stands for all base stations: it is about software that they share."""

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
) -> Callable[[Judge], Check]:
    """Make a function a :class:`Check`. Nothing is registered: list it in its module's ``CHECKS``."""
    return lambda run: Check(identifier, slug, severity, kind, scope, run, protocol, pure, aggregated)


@cache
def sections(check: Check) -> Mapping[str, str]:
    """A check's documentation by heading (``flags``, ``why``, ``evidence``, ``remedy``), each one line of text."""
    found: dict[str, str] = {}
    for paragraph in inspect.cleandoc(check.documentation).split("\n\n"):
        heading, _, text = " ".join(paragraph.split()).partition(": ")
        found[heading.lower()] = text
    return found


SHOWN = 16
"""Frames that a finding cites at the most."""

CITED = 8
"""Frames that a check of one kind of message cites at the most."""


def cited_frames(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """The first :data:`CITED` distinct frames, ascending."""
    return tuple(sorted(set(frames))[:CITED])


def to_finding(check: Check, issue: Issue, match: Match | None = None) -> Finding:
    """The finding of a check; ``match`` is the flow that it looked at, where its scope is one flow."""
    if match is not None:
        issue = located(issue, match)
    frames = issue.frames or tuple(frame for each in issue.conversations for frame in each.first_frames)
    frames = tuple(sorted(set(frames))[:SHOWN])
    first = issue.conversations[0] if issue.conversations else None
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
        count=max(1, sum(each.flow_count for each in issue.conversations)),
        frames=frames,
        time=time,
        filter=frames_filter(frames) if match is not None else issue.filter,
        summary=issue.sentence,
        remedy=sections(check)["remedy"],
        peer=peer_of(issue.conversations, issue.base_station),
        service=service_of(issue.conversations),
    )


def located(issue: Issue, match: Match) -> Issue:
    """An issue of one flow, with its base station, rows and frames."""
    return replace(
        issue,
        base_station=match.station,
        rows=tuple(row.id for row in match.rows),
        conversations=(match.conversation,),
        frames=issue.frames or (match.conversation.first_frame,),
    )


def peer_of(conversations: Sequence[Conversation], station: str | None) -> str | None:
    """The other end, if it is one for all; the responder where a station goes by another address."""
    return only(
        each.originator.address if each.responder.address == station else each.responder.address
        for each in conversations
    )


def service_of(conversations: Sequence[Conversation]) -> str | None:
    """Transport and port, if they are one for all; or the transport alone."""
    transport = only(each.transport for each in conversations)
    port = only(each.responder.port for each in conversations)
    return transport if transport is None or port is None else f"{transport}/{port}"


def only(values: Iterable[T]) -> T | None:
    """The value that all of them are; ``None`` if they differ, or there is none."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def fingerprints(findings: Sequence[Finding]) -> list[str]:
    """A name for each finding that stays the same from one capture to the next.

    It follows from check, base station, peer, service and rows, never from frames, times or numbers. Where one report
    has several findings with the same of these, they are counted in the order of the report: ``…:2``.
    """
    seen: Counter[str] = Counter()
    names = []
    for each in findings:
        about = (each.check, each.base_station or "", each.peer or "", each.service or "", ",".join(each.rows))
        name = sha256("\n".join(about).encode()).hexdigest()[:32]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}:{seen[name]}")
    return names


def time_of(each: Conversation, frame: Frame) -> int:
    """Capture time of one of a conversation's frames, as far as its content tells it; else of its first."""
    accounts = (*each.head.associations, *([each.head.link] if each.head.link else ()))
    places = [(one.frame, one.time) for one in each.dissection.breaks]
    places += [(event.frame, event.time) for account in accounts for event in account.events]
    places += [(item.frame, item.time) for item in each.dissection.items]
    return next((time for place, time in places if place == frame), each.first)


def frames_filter(frames: Sequence[Frame]) -> str:
    """A display filter for frames of one file; of several files, those of the first."""
    numbers = [str(frame.number) for frame in frames if frame.capture == frames[0].capture]
    return f"frame.number == {numbers[0]}" if len(numbers) == 1 else f"frame.number in {{{', '.join(numbers)}}}"


def flow_filter(each: Conversation, port: bool = True, ends: Sequence[str] | None = None) -> str:
    """A display filter for all packets between a conversation's ends with its transport and service port.

    ``ends``: the addresses to ask for, where they are not those of both ends.
    """
    addresses = (each.originator.address, each.responder.address) if ends is None else ends
    parts = [f"{family(address)} == {address}" for address in addresses]
    if each.responder.port is not None:
        parts.append(f"{each.transport}.port == {each.responder.port}" if port else each.transport)
    elif each.transport.startswith("ip-"):
        field = "ipv6.nxt" if ":" in each.originator.address else "ip.proto"
        parts.append(f"{field} == {each.transport[3:]}")
    else:
        parts.append(each.transport)
    return " && ".join(parts)


def family(address: str) -> str:
    return "ipv6.addr" if ":" in address else "ip.addr"
