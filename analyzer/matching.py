"""Flows against the table of their base station: which row each fits, and what becomes of each row."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow


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
