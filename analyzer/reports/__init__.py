"""What an audit looks like: a module per format; each sees nothing but the audit.

A format is a module of this folder, listed in :data:`FORMATS` by its name, with ``render(audit, colour)`` and
``pieces(audit, colour)``. It is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from analyzer.capture import CaptureFile
    from analyzer.conversations import Conversations
    from analyzer.result import Audit


class ReportModule(Protocol):
    """The surface of a format's module."""

    def render(self, audit: Audit, colour: bool = False) -> str | bytes:
        """The whole report, text ending with a line feed; coloured for a terminal if the format can be."""
        ...

    def pieces(self, audit: Audit, colour: bool = False) -> Iterator[str] | Iterator[bytes]:
        """The same piece by piece, so that a long report is never held as a whole."""
        ...


class FlowsModule(Protocol):
    """The surface of a module that also lists flows which were not judged."""

    def flow_pieces(
        self, captures: Sequence[CaptureFile], conversations: Conversations
    ) -> Iterator[str] | Iterator[bytes]:
        """The flows of captures, piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """One format: its module's functions, and what has to be known before the module is imported."""

    NAME: str
    """Of the module, as the user types it."""
    lists_flows: bool = False
    """The module has ``flow_pieces``, too."""
    binary: bool = False
    """Reports are bytes, not text: nothing for a terminal."""

    def render(self, audit: Audit, colour: bool = False) -> str | bytes:
        """As :meth:`ReportModule.render`."""
        return cast(ReportModule, self.module()).render(audit, colour)

    def pieces(self, audit: Audit, colour: bool = False) -> Iterator[str] | Iterator[bytes]:
        """As :meth:`ReportModule.pieces`."""
        return cast(ReportModule, self.module()).pieces(audit, colour)

    def flow_pieces(
        self, captures: Sequence[CaptureFile], conversations: Conversations
    ) -> Iterator[str] | Iterator[bytes]:
        """As :meth:`FlowsModule.flow_pieces`; of those that list flows."""
        return cast(FlowsModule, self.module()).flow_pieces(captures, conversations)

    def module(self) -> object:
        return import_module(f"analyzer.reports.{self.NAME}")


FORMATS = (
    Format("text", lists_flows=True),
    Format("json", lists_flows=True),
    Format("html"),
    Format("sarif"),
    Format("junit"),
    Format("markdown"),
    Format("csv", lists_flows=True),
    Format("parquet", lists_flows=True, binary=True),
)
