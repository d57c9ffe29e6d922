"""Flows against the table of their base station: which row each fits, and what becomes of each row."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow, Requirement
from analyzer.hosts import Station


class Status(enum.Enum):
    """What became of a row of its table, for one base station."""

    PRESENT = "present"
    """At least one flow fits the row, and none of its flows breaks the row's rules."""
    MALFORMED = "malformed"
    """A flow fits by direction, transport and port, and its content breaks the row's rules."""
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
class Fit:
    """A conversation that fits a row by direction, transport and port; its content is still to be judged."""

    station: str
    """Address of the base station under which it is reported."""
    conversation: Conversation
    rows: tuple[ExpectedFlow, ...]
    """The row; or the rows that share the port where the packets cannot tell which."""

    @property
    def row(self) -> ExpectedFlow:
        return self.rows[0]


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """One row of its table, judged for one base station."""

    row: ExpectedFlow
    requirement: Requirement
    """The row's requirement in the audited deployment."""
    status: Status
    certainty: Certainty | None
    """Set where the status is missing or blocked."""
    reason: str | None
    """Why this status and this certainty, where the flows alone do not say it: one clause."""
    flows: tuple[int, ...]
    """Ids of the conversations that fit the row, ascending."""


@dataclass(frozen=True, slots=True)
class StationVerdict:
    """One base station against the table that it lives by."""

    station: Station
    mode: str
    """Name of the table; ``unknown`` where nothing shows it."""
    mode_evidence: tuple[str, ...]
    """Why this mode, one clause each."""
    tpe: tuple[str, ...]
    """Addresses of the TPE that it talks to."""
    rows: tuple[RowVerdict, ...]
    """In the order of the table; empty in mode ``unknown``."""
