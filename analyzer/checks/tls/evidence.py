"""Facts of a TLS flow, and the frames that show what checks report about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analyzer.findings import cited_frames
from analyzer.heads import Frame
from analyzer.matching import Match
from analyzer.messages import Item, messages
from analyzer.protocols.tls import Alert, ApplicationData, ClientMasterKey, ServerHello, TlsFacts

FATAL, CLOSE_NOTIFY = 2, 0
"""Level and description of alerts (RFC 8446, section 6)."""


def facts_of(match: Match) -> TlsFacts:
    facts = match.conversation.dissection.facts
    return facts if isinstance(facts, TlsFacts) else TlsFacts()


def items_of(match: Match, kind: type) -> list[Item]:
    """The items of one kind of message."""
    return [item for item, _ in messages(match.conversation.dissection.items, kind)]


def frames_of(items: Iterable[Item]) -> tuple[Frame, ...]:
    return cited_frames(item.frame for item in items)


def version_frames(match: Match) -> tuple[Frame, ...]:
    """Frames that show the version: of the ServerHello, else of the first application data."""
    return frames_of(items_of(match, ServerHello) or items_of(match, ApplicationData))


def suite_frames(match: Match) -> tuple[Frame, ...]:
    """Frames that show the cipher suite: of the ServerHello; in SSL 2.0, of the client's choice."""
    return frames_of(items_of(match, ClientMasterKey) or items_of(match, ServerHello))


def fatal_alerts(match: Match) -> Iterator[tuple[Item, Alert]]:
    """Fatal alerts in clear, but for close_notify, which ends a connection in good order."""
    if not facts_of(match).alerts:
        return
    for item, alert in messages(match.conversation.dissection.items, Alert):
        if alert.level == FATAL and alert.description != CLOSE_NOTIFY:
            yield item, alert
