"""IEC 104: ASDUs, sequence numbers and timers of an LRR's link, over the whole stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analyzer.findings import Issue, Kind, Severity, check, cited_frames
from analyzer.heads import DIRECTIONS, Direction, Event, Frame, LinkDirection
from analyzer.matching import Match
from analyzer.protocols.iec104 import Iec104Facts
from analyzer.scanner import columns

T1 = 60
"""Seconds after which a side closes a link that leaves its I frame or TESTFR unanswered (an LRR's setting)."""
MAX_SILENCE = 60
"""Maximum seconds without any APDU on a working link: each side tests a silent link after 20 seconds (T3)."""
NANOSECONDS = 10**9
"""Per second."""
TYPES_SHOWN = 4
"""Maximum types of ASDUs or payloads that a sentence lists."""


@check("TPE301", "iec104-standard-asdu", Severity.INFO, protocol="iec104", kind=Kind.NOTICE)
def standard_asdu(match: Match) -> Iterator[Issue]:
    """Flags: I frames that carry standard IEC 60870-5-104 ASDUs instead of the LRR's own payload.

    Why: an LRR never sends them, so something else may speak on its port: a test tool, or another device.

    Evidence: the first frames with such an ASDU.

    Remedy: Verify that the device is a base station with an LRR.
    """
    facts = match.conversation.dissection.facts
    found = events(match, columns.STANDARD_ASDU)
    if found and isinstance(facts, Iec104Facts):
        listed = ", ".join(f"{count} {name}" for name, count in list(facts.type_ids.items())[:TYPES_SHOWN])
        more = ", …" if len(facts.type_ids) > TYPES_SHOWN else ""
        yield Issue(f"The link carries standard ASDUs instead of LRR payloads: {listed}{more}.", frames_of(found))


@check("TPE302", "iec104-lrr-type-unknown", Severity.LOW, protocol="iec104")
def lrr_type_unknown(match: Match) -> Iterator[Issue]:
    """Flags: LRR payloads of a type above 47, the highest that is known.

    Why: a newer LRR may have more types, but so may something that only imitates one.

    Evidence: the first frames with such a payload.

    Remedy: Compare the base station's LRR version with the types that it sends.
    """
    found = events(match, columns.UNKNOWN_LRR_TYPE)
    if found:
        types = sorted({event.value for event in found})
        listed = ", ".join(map(str, types[:TYPES_SHOWN])) + (", …" if len(types) > TYPES_SHOWN else "")
        sentence = f"LRR payloads of unknown type {listed}; {columns.HIGHEST_LRR_TYPE} is the highest known."
        yield Issue(sentence, frames_of(found))


@check("TPE303", "iec104-sequence-gap", Severity.LOW, protocol="iec104")
def sequence_gap(match: Match) -> Iterator[Issue]:
    """Flags: send sequence numbers that jump although no byte of the stream is missing from the capture.

    Why: a sender counts up by one (an LRR wraps after 32766, the standard after 32767); a jump is a fault or a forgery.

    Evidence: the I frames after the jump.

    Remedy: Update the side that miscounts, or look for who injects APDUs into the connection.
    """
    for direction, counts in link_directions(match):
        found = events(match, columns.SEQUENCE_JUMP, direction)
        if found:
            number, previous = found[0].value, found[0].other
            jump = f"{number} follows {previous}" if previous >= 0 else f"the first is {number} instead of 0"
            more = "" if counts.jumps == 1 else f" (the first of {counts.jumps} jumps)"
            yield Issue(f"Send sequence numbers of the {role(direction)} jump: {jump}{more}.", frames_of(found))


@check("TPE304", "iec104-startdt-by-base-station", Severity.INFO, protocol="iec104", kind=Kind.NOTICE)
def startdt_by_base_station(match: Match) -> Iterator[Issue]:
    """Flags: STARTDT act from the side that opened the connection.

    Why: on an LRR's link the server starts data transfer and the base station confirms; other clients start it.

    Evidence: the frames with STARTDT act.

    Remedy: Verify that the device is a base station with an LRR.
    """
    found = events(match, columns.STARTDT, Direction.ORIGINATOR)
    if found:
        yield Issue(
            "The base station starts data transfer itself; an LRR leaves STARTDT to the server.", frames_of(found)
        )


@check("TPE305", "iec104-acknowledgement-wrong", Severity.LOW, protocol="iec104")
def acknowledgement_wrong(match: Match) -> Iterator[Issue]:
    """Flags: receive sequence numbers that go back, or that acknowledge more than twelve I frames never sent.

    Why: an acknowledgement counts what has arrived and only grows (IEC 60870-5-104, clause 5.1); where it does not, one
    end lost count, or somebody injects APDUs. Up to twelve too many may come of two capture points.

    Evidence: the frames with such a number, and the number before it or the newest one sent.

    Remedy: Update the side that miscounts, or look for who injects APDUs into the connection.
    """
    for direction, counts in link_directions(match):
        found = events(match, columns.WRONG_ACKNOWLEDGEMENT, direction)
        if found:
            more = "" if counts.wrong == 1 else f" (the first of {counts.wrong})"
            yield Issue(
                f"The {role(direction)} acknowledges wrongly: receive sequence number {found[0].value} after "
                f"{found[0].other}{more}.",
                frames_of(found),
            )


@check("TPE306", "iec104-window-exceeded", Severity.INFO, protocol="iec104", kind=Kind.NOTICE)
def window_exceeded(match: Match) -> Iterator[Issue]:
    """Flags: more than twelve I frames of an LRR's link sent without an acknowledgement.

    Why: after k = 12 unacknowledged I frames a side has to wait; one that does not is set up otherwise, or does not see
    the other's acknowledgements. On links of the standard's dialect k is anybody's choice.

    Evidence: the I frames beyond the twelfth.

    Remedy: Compare k and w of both sides, and look for what delays or loses the acknowledgements.
    """
    facts = match.conversation.dissection.facts
    if not isinstance(facts, Iec104Facts) or facts.dialect != "lrr":
        return
    for direction, counts in link_directions(match):
        found = events(match, columns.WINDOW_EXCEEDED, direction)
        if found:
            yield Issue(
                f"The {role(direction)} sends up to {counts.outstanding} I frames without an acknowledgement; "
                f"{columns.WINDOW} are allowed.",
                frames_of(found),
            )


@check("TPE307", "iec104-testfr-unanswered", Severity.LOW, protocol="iec104")
def testfr_unanswered(match: Match) -> Iterator[Issue]:
    """Flags: TESTFR act without TESTFR con until the next act, or for more than 60 seconds (T1).

    Why: the other side does not live any more though its TCP does, or something between swallows its answers; uplinks
    that are sent meanwhile are lost.

    Evidence: the frame after which the answer did not come, and the next TESTFR act.

    Remedy: Look at the load of the side that does not answer, and at firewalls between that keep dead connections.
    """
    link = match.conversation.head.link
    for direction, counts in link_directions(match):
        found = events(match, columns.UNANSWERED_TESTFR, direction)
        last_unanswered = counts.testing and link is not None and link.last - counts.test_time > T1 * NANOSECONDS
        count = counts.unanswered + bool(last_unanswered)
        if count:
            times = "once" if count == 1 else f"{count} times"
            yield Issue(
                f"The {role(Direction(1 - direction))} leaves TESTFR act unanswered {times}.",
                frames_of(found) or (match.conversation.last_frame,),
            )


@check("TPE308", "iec104-link-silent", Severity.INFO, protocol="iec104", kind=Kind.NOTICE)
def link_silent(match: Match) -> Iterator[Issue]:
    """Flags: more than 60 seconds without an APDU of either side on a link that goes on afterwards.

    Why: a side that receives nothing for 20 seconds (T3) sends TESTFR act; without it a dead link is not noticed. The
    capture may have paused instead.

    Evidence: the frame that ended the longest silence.

    Remedy: Compare T3 of both sides, and whether the capture lacks packets at that time.
    """
    link = match.conversation.head.link
    if link and link.silence > MAX_SILENCE * NANOSECONDS:
        yield Issue(f"No APDU passes for {link.silence / NANOSECONDS:.0f} seconds.", (link.silence_frame,))


@check("TPE309", "iec104-several-lrr-ids", Severity.LOW, protocol="iec104")
def several_lrr_ids(match: Match) -> Iterator[Issue]:
    """Flags: LRR payloads with more than one LRR-ID on one connection.

    Why: an LRR has one identifier, and its link carries that of no other; another one is a relay, or a forgery.

    Evidence: the first frame with each identifier, in bytes 8 to 11 of the payload.

    Remedy: Find out which base station has the second identifier, and why it is on this one's link.
    """
    link = match.conversation.head.link
    # 0 identifies no LRR.
    lrr_ids = [lrr_id for lrr_id in link.lrr_ids if lrr_id] if link else []
    if len(lrr_ids) > 1:
        found = [event for event in events(match, columns.NEW_LRR_ID) if event.value]
        listed = ", ".join(f"{lrr_id:08x}" for lrr_id in lrr_ids)
        yield Issue(f"The link carries the LRR-IDs {listed}.", frames_of(found))


@check("TPE310", "iec104-stream-incomplete", Severity.INFO, protocol="iec104", kind=Kind.NOTICE)
def stream_incomplete(match: Match) -> Iterator[Issue]:
    """Flags: places where the capture lacks bytes of the link, so that APDUs may have passed unseen.

    Why: what was in them is in no count, and no check could judge it.

    Evidence: the first frames behind such places, and how many bytes TCP's sequence numbers show to be missing.

    Remedy: Capture without loss: nearer to the base station, with a larger buffer and whole frames.
    """
    gaps = sum(counts.gaps for _, counts in link_directions(match))
    missing = sum(counts.missing for _, counts in link_directions(match))
    if gaps:
        places = "one place" if gaps == 1 else f"{gaps} places"
        yield Issue(
            f"The capture lacks {missing:,} bytes of the link; APDUs may be missing in {places}.",
            frames_of(events(match, columns.CAPTURE_GAP)),
        )


CHECKS = (
    standard_asdu,
    lrr_type_unknown,
    sequence_gap,
    startdt_by_base_station,
    acknowledgement_wrong,
    window_exceeded,
    testfr_unanswered,
    link_silent,
    several_lrr_ids,
    stream_incomplete,
)


def link_directions(match: Match) -> Iterator[tuple[Direction, LinkDirection]]:
    """Both directions of a link with their counters; none where the scanner did not follow the link."""
    link = match.conversation.head.link
    if link is not None:
        yield from zip(DIRECTIONS, link.directions, strict=True)


def events(match: Match, kind: int, direction: Direction | None = None) -> list[Event]:
    """A link's events of one kind, in the order of the capture; ``None``: of both directions."""
    link = match.conversation.head.link
    recorded = link.events if link else ()
    return [event for event in recorded if event.kind == kind and direction in (None, event.direction)]


def frames_of(found: Iterable[Event]) -> tuple[Frame, ...]:
    """The first frames of events, ascending."""
    return cited_frames(event.frame for event in found)


def role(direction: Direction) -> str:
    """Name of the side that sends in a direction."""
    return "client" if direction is Direction.ORIGINATOR else "server"
