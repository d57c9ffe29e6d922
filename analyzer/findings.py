"""Findings: what an auditor is told, with the evidence to look it up; and what a check is.

Checks live in :mod:`analyzer.checks`. A check is a function with an id, a slug, a severity and a docstring whose
paragraphs begin ``Flags:``, ``Why:``, ``Evidence:`` and ``Remedy:``; the docstring is its only documentation.
"""

from __future__ import annotations

import enum
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TypeVar

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, KeyUse
from analyzer.expected import Deployment
from analyzer.flows import Tally
from analyzer.heads import Frame
from analyzer.hosts import Names
from analyzer.matching import Fit, Matched, StationVerdict
from analyzer.wire import Words

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
class Remark:
    """What a content check says of one conversation."""

    sentence: str
    """One plain sentence that starts with a capital letter and ends with a full stop."""
    frames: tuple[Frame, ...] = ()
    """The frames that show it, ascending; empty: the conversation's first frame."""
    severity: Severity | None = None
    """Where it differs from the check's."""
    kind: Kind | None = None
    """Where it differs from the check's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an auditor is told: one defect, with the evidence to look it up."""

    kind: Kind
    check: Words
    """Id of the check that says so: ``TPE201``."""
    slug: Words
    severity: Severity
    base_station: str | None
    """Address under which it is reported; ``None``: about the capture."""
    rows: tuple[Words, ...]
    """The row; two where they share the port; the nearest for an unexpected flow; empty where there is none."""
    mismatch: Words | None
    """Which field of the nearest row an unexpected flow fails: ``port``, ``direction``."""
    flow: int | None
    """Id of the conversation (the first, where there are several)."""
    count: int
    """Number of flows that it stands for."""
    frames: tuple[Frame, ...]
    """The frames that show it, ascending."""
    time: int | None
    """Of the first of them, nanoseconds since the epoch."""
    filter: Words | None
    """Wireshark display filter that shows exactly this evidence."""
    summary: Words
    """One plain sentence."""
    remedy: Words
    """What to do about it: one imperative sentence."""
    peer: str | None = None
    """Address of the other end of its flows; ``None``: several, or no flow."""
    service: Words | None = None
    """Transport and responder's port of its flows (``tcp/3001``); of several ports, the transport."""


ANY = "*"
"""A content check of this protocol is asked of every fit, whatever its content is."""

ContentJudge = Callable[[Fit], Iterator[Remark]]


@dataclass(frozen=True, slots=True)
class ContentCheck:
    """Judges the content of one conversation that fits a row and speaks the row's protocol."""

    id: str
    """``TPE201``; never reused."""
    slug: str
    """Names the defect: ``ike-chosen-proposal-not-allowed``."""
    severity: Severity
    kind: Kind
    protocol: str
    """It is asked of conversations whose row expects this protocol and whose content is this protocol."""
    judge: ContentJudge
    by_facts: bool = False
    """Whether it speaks depends on nothing but the facts, or on what is said where only those share facts that say the
    same, and on the row: what was silent once is so for all conversations that share them."""
    together: bool = False
    """One finding for all base stations: it is about software that they share, and says little of each of them."""

    @property
    def documentation(self) -> str:
        return self.judge.__doc__ or ""


def content_check(
    identifier: str,
    slug: str,
    severity: Severity,
    protocol: str,
    kind: Kind = Kind.MALFORMED,
    by_facts: bool = False,
    together: bool = False,
) -> Callable[[ContentJudge], ContentCheck]:
    """Make a function a :class:`ContentCheck`. Nothing is registered: list it in its module's ``CHECKS``."""
    return lambda judge: ContentCheck(identifier, slug, severity, kind, protocol, judge, by_facts, together)


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known once every row has its status: what case checks judge."""

    captures: tuple[CaptureFile, ...]
    tally: Tally
    deployment: Deployment
    stations: tuple[Matched, ...]
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


@dataclass(frozen=True, slots=True)
class Charge:
    """What a case check says: a finding without what the check itself adds to it."""

    sentence: str
    base_station: str | None = None
    rows: tuple[str, ...] = ()
    conversations: tuple[Conversation, ...] = ()
    """Those that it stands for, ascending by id."""
    frames: tuple[Frame, ...] = ()
    """Empty: the first frame of each conversation, the first few."""
    filter: str | None = None
    mismatch: str | None = None
    severity: Severity | None = None
    """Where it differs from the check's."""


CaseJudge = Callable[[Case], Iterator[Charge]]


@dataclass(frozen=True, slots=True)
class CaseCheck:
    """Judges a whole case: what is missing, what should not be there, what the capture could not show."""

    id: str
    slug: str
    severity: Severity
    kind: Kind
    judge: CaseJudge

    @property
    def documentation(self) -> str:
        return self.judge.__doc__ or ""


def case_check(identifier: str, slug: str, severity: Severity, kind: Kind) -> Callable[[CaseJudge], CaseCheck]:
    """Make a function a :class:`CaseCheck`; it is listed like a content check."""
    return lambda judge: CaseCheck(identifier, slug, severity, kind, judge)


Check = ContentCheck | CaseCheck


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


def charge(check: CaseCheck, found: Charge) -> Finding:
    """The finding of a case check."""
    frames = found.frames or tuple(frame for each in found.conversations for frame in each.first_frames)
    first = found.conversations[0] if found.conversations else None
    return Finding(
        kind=check.kind,
        check=check.id,
        slug=check.slug,
        severity=check.severity if found.severity is None else found.severity,
        base_station=found.base_station,
        rows=found.rows,
        mismatch=found.mismatch,
        flow=first.id if first else None,
        count=max(1, sum(each.flow_count for each in found.conversations)),
        frames=tuple(sorted(set(frames))[:SHOWN]),
        time=first.first if first else None,
        filter=found.filter,
        summary=found.sentence,
        remedy=sections(check)["remedy"],
        peer=peer_of(found.conversations, found.base_station),
        service=service_of(found.conversations),
    )


def reprove(check: ContentCheck, fit: Fit, remark: Remark) -> Finding:
    """The finding of a content check."""
    each = fit.conversation
    frames = tuple(sorted(set(remark.frames))[:SHOWN]) or (each.first_frame,)
    return Finding(
        kind=remark.kind or check.kind,
        check=check.id,
        slug=check.slug,
        severity=check.severity if remark.severity is None else remark.severity,
        base_station=fit.station,
        rows=tuple(row.id for row in fit.rows),
        mismatch=None,
        flow=each.id,
        count=each.flow_count,
        frames=frames,
        time=time_of(each, frames[0]),
        filter=frames_filter(frames),
        summary=remark.sentence,
        remedy=sections(check)["remedy"],
        peer=peer_of([each], fit.station),
        service=service_of([each]),
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
