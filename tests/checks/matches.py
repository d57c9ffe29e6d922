"""Matches as checks get them, made from the heads of single flows, and the issues that checks report about them."""

from __future__ import annotations

from collections.abc import Iterable

from analyzer import expected
from analyzer.conversations import Conversation, Endpoint, State
from analyzer.findings import Check, Issue, Severity
from analyzer.heads import Direction, Frame, Head
from analyzer.matching import Match, StationMatches, UnexpectedFlow
from analyzer.protocols import ProtocolModule, dissect_as
from analyzer.stations import Mode, Station
from analyzer.timeline import Timeline

STATION, TPE = "10.20.30.10", "172.16.40.10"


def match_of(
    module: ProtocolModule,
    head: Head,
    row: str | None = None,
    client: str = STATION,
    server: str = TPE,
    number: int = 1,
    packets: tuple[int, int] | None = None,
) -> Match:
    """A base station's conversation with TPE, read by one protocol's module; ``row`` is one of mode ipsec.

    ``packets``: those of both directions, where they are more than the head keeps.
    """
    if head.transport == "tcp":
        counts, state = (9, 9), State.ESTABLISHED
        payload = (len(head.streams[0].data), len(head.streams[1].data))
        frames, times = [Frame(0, 1), Frame(0, 99)], [0, 10**9]
    else:
        one, two = (sum(1 for datagram in head.datagrams if datagram.direction == way) for way in Direction)
        counts, state = (one, two), State.TWOWAY if one and two else State.ONEWAY
        payload = (60 * one, 60 * two)
        frames, times = [datagram.frame for datagram in head.datagrams], [datagram.time for datagram in head.datagrams]
    counts = packets or counts
    conversation = Conversation(
        id=number,
        transport=head.transport,
        originator=Endpoint(client, head.ports[0] or None),
        responder=Endpoint(server, head.ports[1] or None),
        originator_certain=True,
        state=state,
        packets=counts,
        bytes=(100 * counts[0], 100 * counts[1]),
        payload=payload,
        first=min(times),
        last=max(times),
        first_frame=frames[0],
        last_frame=frames[-1],
        macs=(None, None),
        head=head,
        dissection=dissect_as(module, head),
    )
    return Match(base_station(client), conversation, () if row is None else (expected.load()["ipsec"].flow(row),))


def base_station(address: str = STATION) -> Station:
    """A base station with one address."""
    return Station(address, (address,), None, True, ())


def station_of(matches: Iterable[Match] = (), unexpected: Iterable[Match] = ()) -> StationMatches:
    """A base station with these conversations; those of ``unexpected`` match no row."""
    flows = [UnexpectedFlow(match.conversation, False, None, None) for match in unexpected]
    return StationMatches(base_station(), Mode("ipsec", (), ()), (), tuple(matches), tuple(flows), Timeline([]))


def issues(check: Check, match: Match) -> list[tuple[Severity, str]]:
    """Severity and sentence of each issue that a check reports about a match."""
    return [shown(check, issue)[:2] for issue in check.run(match)]


def issues_by_check(match: Match, checks: Iterable[Check]) -> dict[str, tuple[Severity, str, tuple[int, ...]]]:
    """Severity, sentence and frame numbers by the check's id; no check may report more than one issue."""
    found: dict[str, tuple[Severity, str, tuple[int, ...]]] = {}
    for check in checks:
        for issue in check.run(match):
            assert check.id not in found
            found[check.id] = shown(check, issue)
    return found


def shown(check: Check, issue: Issue) -> tuple[Severity, str, tuple[int, ...]]:
    """Effective severity, sentence and frame numbers of an issue, whose form is asserted."""
    assert issue.sentence[0].isupper() and issue.sentence.endswith(".")
    assert issue.frames == tuple(sorted(set(issue.frames))) and 0 < len(issue.frames) <= 8
    severity = check.severity if issue.severity is None else issue.severity
    return severity, issue.sentence, tuple(frame.number for frame in issue.frames)
