"""The reports of an audit, one module per format; they depend on the audit only.

A format is a module in this folder with ``render(audit, colour)`` and ``pieces(audit, colour)``, listed in
:data:`FORMATS` by its name and imported when it is first used. Reports of other commands are in :mod:`.crosscheck`,
:mod:`.difference`, :mod:`.explain` and :mod:`.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from analyzer.dataclass import dataclass

if TYPE_CHECKING:
    from analyzer.capture import CaptureFile
    from analyzer.conversations import Conversations
    from analyzer.result import Audit


class ReportModule(Protocol):
    """Interface of a format's module."""

    def render(self, audit: Audit, colour: bool = False) -> str | bytes:
        """The whole report; text ends with a line feed. ``colour``: with colours for a terminal, if it has any."""
        ...

    def pieces(self, audit: Audit, colour: bool = False) -> Iterator[str] | Iterator[bytes]:
        """The report piece by piece, so that a long one is never held as a whole."""
        ...


class FlowsModule(Protocol):
    """Interface of a format that also lists flows without an audit."""

    def flow_pieces(
        self, captures: Sequence[CaptureFile], conversations: Conversations
    ) -> Iterator[str] | Iterator[bytes]:
        """The flows of captures, piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """A report format: what the command line needs to know before its module is imported, and its functions."""

    name: str
    """Name of the module, as the user types it."""
    lists_flows: bool = False
    """Whether the module also has ``flow_pieces``."""
    binary: bool = False
    """Whether reports are bytes, which a terminal cannot show."""

    def render(self, audit: Audit, colour: bool = False) -> str | bytes:
        """As :meth:`ReportModule.render`."""
        return cast(ReportModule, self.module()).render(audit, colour)

    def pieces(self, audit: Audit, colour: bool = False) -> Iterator[str] | Iterator[bytes]:
        """As :meth:`ReportModule.pieces`."""
        return cast(ReportModule, self.module()).pieces(audit, colour)

    def flow_pieces(
        self, captures: Sequence[CaptureFile], conversations: Conversations
    ) -> Iterator[str] | Iterator[bytes]:
        """As :meth:`FlowsModule.flow_pieces`, for formats that list flows."""
        return cast(FlowsModule, self.module()).flow_pieces(captures, conversations)

    def module(self) -> object:
        return import_module(f"analyzer.reports.{self.name}")


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
