"""HTTP in clear: what it gives away beside its content."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow
from analyzer.findings import (
    CAPTURE,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    frames_filter,
)
from analyzer.heads import Frame
from analyzer.matching import StationMatches
from analyzer.messages import messages
from analyzer.protocols.http import CREDENTIALS, FieldLine, HttpFacts

FRAMES_SHOWN = 8


def spoken(matched: StationMatches) -> Iterator[tuple[Conversation, tuple[ExpectedFlow, ...], HttpFacts]]:
    """The HTTP conversations of a base station, expected or not."""
    found: list[tuple[Conversation, tuple[ExpectedFlow, ...]]] = []
    found += ((match.conversation, match.rows) for match in matched.matches)
    found += ((unexpected_flow.conversation, ()) for unexpected_flow in matched.unexpected)
    for each, rows in found:
        facts = each.dissection.facts
        if isinstance(facts, HttpFacts):
            yield each, rows, facts


@check("TPE351", "http-credentials-in-clear", Severity.HIGH, scope=CAPTURE, kind=Kind.MALFORMED)
def credentials_in_clear(context: AuditContext) -> Iterator[Issue]:
    """Flags: HTTP in clear whose header carries a secret: Authorization, a cookie or an API key.

    Why: Everybody on the way can read it and act as the base station, or as its server, from then on.

    Evidence: The names of the header fields. Their values are neither kept nor shown.

    Remedy: Use https and wss addresses on the base station, and replace the credentials that were sent.
    """
    for matched in context.stations:
        found: dict[tuple[str, tuple[str, ...]], list[tuple[Conversation, tuple[ExpectedFlow, ...]]]] = {}
        for each, rows, facts in spoken(matched):
            if facts.credentials:
                found.setdefault((each.responder.address, facts.credentials), []).append((each, rows))
        for (server, names), several in found.items():
            frames = sorted({frame for each, _ in several for frame in secret_frames(each)})[:FRAMES_SHOWN]
            yield Issue(
                f"Between {matched.station.address} and {server} {' and '.join(names)} "
                f"{'crosses' if len(names) == 1 else 'cross'} the network in clear.",
                base_station=matched.station.address,
                rows=tuple(dict.fromkeys(row.id for _, rows in several for row in rows)),
                conversations=tuple(each for each, _ in several),
                frames=tuple(frames),
                filter=frames_filter(frames),
            )


def secret_frames(each: Conversation) -> Iterator[Frame]:
    """The frames that carry such header fields."""
    return (item.frame for item, line in messages(each.dissection.items, FieldLine) if line.name in CREDENTIALS)


CHECKS: tuple[Check, ...] = (credentials_in_clear,)
