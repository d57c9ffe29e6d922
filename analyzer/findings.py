"""Findings: what an auditor is told, with the evidence to look it up; and what a check is.

Checks live in :mod:`analyzer.checks`. A check is a function with an id, a slug, a severity and a docstring whose
paragraphs begin ``Flags:``, ``Why:``, ``Evidence:`` and ``Remedy:``; the docstring is its only documentation.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from analyzer.heads import Frame
from analyzer.matching import Fit


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
    check: str
    """Id of the check that says so: ``TPE201``."""
    slug: str
    severity: Severity
    base_station: str | None
    """Address under which it is reported; ``None``: about the capture."""
    rows: tuple[str, ...]
    """The row; two where they share the port; the nearest for an unexpected flow; empty where there is none."""
    mismatch: str | None
    """Which field of the nearest row an unexpected flow fails: ``port``, ``direction``."""
    flow: int | None
    """Id of the conversation (the first, where there are several)."""
    count: int
    """Number of conversations that it stands for."""
    frames: tuple[Frame, ...]
    """The frames that show it, ascending."""
    time: int | None
    """Of the first of them, nanoseconds since the epoch."""
    filter: str | None
    """Wireshark display filter that shows exactly this evidence."""
    summary: str
    """One plain sentence."""
    remedy: str
    """What to do about it: one imperative sentence."""


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

    @property
    def documentation(self) -> str:
        return self.judge.__doc__ or ""


def content_check(
    identifier: str, slug: str, severity: Severity, protocol: str, kind: Kind = Kind.MALFORMED
) -> Callable[[ContentJudge], ContentCheck]:
    """Make a function a :class:`ContentCheck`. Nothing is registered: list it in its module's ``CHECKS``."""
    return lambda judge: ContentCheck(identifier, slug, severity, kind, protocol, judge)
