"""HTTP in clear: credentials in its header fields."""

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
    cited_frames,
    frames_filter,
)
from analyzer.heads import Frame
from analyzer.matching import StationMatches
from analyzer.messages import messages
from analyzer.protocols.http import CREDENTIALS, NAME, FieldLine, HttpFacts


@check("TPE351", "http-credentials-in-clear", Severity.HIGH, scope=CAPTURE, kind=Kind.MALFORMED)
def credentials_in_clear(context: AuditContext) -> Iterator[Issue]:
    """Flags: HTTP in clear whose header carries a secret: Authorization, a cookie or an API key.

    Why: Everybody on the way can read it and act as the base station, or as its server, from then on.

    Evidence: The names of the header fields. Their values are neither kept nor shown.

    Remedy: Use https and wss addresses on the base station, and replace the credentials that were sent.
    """
    for station in context.stations:
        for (server, names), conversations in with_credentials(station).items():
            rows = (row.id for _, matched_rows in conversations for row in matched_rows)
            frames = cited_frames(
                frame for conversation, _ in conversations for frame in credential_frames(conversation)
            )
            yield Issue(
                f"Between {station.address} and {server} {' and '.join(names)} "
                f"{'crosses' if len(names) == 1 else 'cross'} the network in clear.",
                base_station=station.address,
                rows=tuple(dict.fromkeys(rows)),
                conversations=tuple(conversation for conversation, _ in conversations),
                frames=frames,
                filter=frames_filter(frames),
            )


def with_credentials(
    station: StationMatches,
) -> dict[tuple[str, tuple[str, ...]], list[tuple[Conversation, tuple[ExpectedFlow, ...]]]]:
    """A base station's conversations that carry credentials, with their rows, by server and names of the fields."""
    found: dict[tuple[str, tuple[str, ...]], list[tuple[Conversation, tuple[ExpectedFlow, ...]]]] = {}
    for conversation, rows in station.by_protocol.get(NAME, ()):
        facts = conversation.dissection.facts
        if isinstance(facts, HttpFacts) and facts.credentials:
            found.setdefault((conversation.responder.address, facts.credentials), []).append((conversation, rows))
    return found


def credential_frames(conversation: Conversation) -> Iterator[Frame]:
    """The frames of the header fields that carry credentials."""
    lines = messages(conversation.dissection.items, FieldLine)
    return (item.frame for item, line in lines if line.name in CREDENTIALS)


CHECKS: tuple[Check, ...] = (credentials_in_clear,)
