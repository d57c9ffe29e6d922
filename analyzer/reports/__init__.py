"""What an audit looks like: a module per format; each sees nothing but the audit.

A format is a module listed in :data:`FORMATS` with ``NAME``, as the user types it, ``render(audit, colour)`` and
``pieces(audit, colour)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, cast

from analyzer.reports import json, text

if TYPE_CHECKING:
    from analyzer.auditing import Audit


class ReportModule(Protocol):
    """The surface of a module in :data:`FORMATS`."""

    NAME: str

    def render(self, audit: Audit, colour: bool = False) -> str:
        """The whole report, ending with a line feed; coloured for a terminal if the format can be."""
        ...

    def pieces(self, audit: Audit, colour: bool = False) -> Iterator[str]:
        """The same piece by piece, so that a long report is never held as a whole."""
        ...


FORMATS = cast(tuple[ReportModule, ...], (text, json))
