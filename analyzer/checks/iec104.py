"""IEC 104: what the framing cannot say of an LRR's link."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.findings import Kind, Remark, Severity, content_check
from analyzer.heads import Direction, Frame
from analyzer.matching import Fit
from analyzer.messages import Item, messages
from analyzer.protocols.iec104 import (
    HIGHEST_LRR_TYPE,
    Asdu,
    Function,
    Iec104Facts,
    IFrame,
    LrrPayload,
    UFrame,
)


@content_check("TPE301", "iec104-standard-asdu", Severity.INFO, "iec104", Kind.NOTICE)
def standard_asdu(fit: Fit) -> Iterator[Remark]:
    """Flags: I frames that carry standard IEC 60870-5-104 ASDUs instead of the LRR's own payload.

    Why: an LRR never sends them, so something else may speak on its port: a test tool, or another device.

    Evidence: the first frames with such an ASDU.

    Remedy: Verify that the device is a base station with an LRR.
    """
    facts = fit.conversation.dissection.facts
    found = [
        item for item, frame in messages(fit.conversation.dissection.items, IFrame) if isinstance(frame.payload, Asdu)
    ]
    if found and isinstance(facts, Iec104Facts):
        kinds = ", ".join(f"{count} {name}" for name, count in list(facts.type_ids.items())[:4])
        more = ", …" if len(facts.type_ids) > 4 else ""
        yield Remark(f"The link carries standard ASDUs instead of LRR payloads: {kinds}{more}.", shown(found))


@content_check("TPE302", "iec104-lrr-type-unknown", Severity.LOW, "iec104")
def lrr_type_unknown(fit: Fit) -> Iterator[Remark]:
    """Flags: LRR payloads of a type above 47, the highest that is known.

    Why: a newer LRR may have more types, but so may something that only imitates one.

    Evidence: the first frames with such a payload.

    Remedy: Compare the base station's LRR version with the types that it sends.
    """
    found = [
        (item, frame.payload.type)
        for item, frame in messages(fit.conversation.dissection.items, IFrame)
        if isinstance(frame.payload, LrrPayload) and frame.payload.type > HIGHEST_LRR_TYPE
    ]
    if found:
        kinds = sorted({kind for _, kind in found})
        named = ", ".join(map(str, kinds[:4])) + (", …" if len(kinds) > 4 else "")
        sentence = f"LRR payloads of unknown type {named}; {HIGHEST_LRR_TYPE} is the highest known."
        yield Remark(sentence, shown([item for item, _ in found]))


@content_check("TPE303", "iec104-sequence-gap", Severity.LOW, "iec104")
def sequence_gap(fit: Fit) -> Iterator[Remark]:
    """Flags: send sequence numbers that jump although no byte of the stream is missing from the capture.

    Why: a sender counts up by one (an LRR wraps after 32766, the standard after 32767); a jump is a fault or a forgery.

    Evidence: the I frames after the jump.

    Remedy: Update the side that miscounts, or look for who injects APDUs into the connection.
    """
    for direction in Direction:
        if not fit.conversation.head.streams[direction].begins:
            continue
        expected = {0}
        jumps: list[tuple[Item, int, int]] = []
        last = -1
        for item, frame in messages(fit.conversation.dissection.items, IFrame):
            if item.direction is not direction:
                continue
            number = frame.send_sequence_number
            if number not in expected:
                jumps.append((item, last, number))
            last = number
            expected = {number + 1, 0} if number == 32766 else {(number + 1) % 32768}
        if jumps:
            item, before, number = jumps[0]
            after = f"{number} follows {before}" if before >= 0 else f"the first is {number} instead of 0"
            who = "client" if direction is Direction.ORIGINATOR else "server"
            count = "" if len(jumps) == 1 else f" (the first of {len(jumps)} jumps)"
            yield Remark(
                f"Send sequence numbers of the {who} jump: {after}{count}.", shown([jump[0] for jump in jumps])
            )


@content_check("TPE304", "iec104-startdt-by-base-station", Severity.INFO, "iec104", Kind.NOTICE)
def startdt_by_base_station(fit: Fit) -> Iterator[Remark]:
    """Flags: STARTDT act from the side that opened the connection.

    Why: on an LRR's link the server starts data transfer and the base station confirms; other clients start it.

    Evidence: the frames with STARTDT act.

    Remedy: Verify that the device is a base station with an LRR.
    """
    found = [
        item
        for item, frame in messages(fit.conversation.dissection.items, UFrame)
        if frame.function is Function.STARTDT_ACT and item.direction is Direction.ORIGINATOR
    ]
    if found:
        yield Remark("The base station starts data transfer itself; an LRR leaves STARTDT to the server.", shown(found))


CHECKS = (standard_asdu, lrr_type_unknown, sequence_gap, startdt_by_base_station)


def shown(items: list[Item]) -> tuple[Frame, ...]:
    """The first few frames, ascending."""
    return tuple(sorted({item.frame for item in items})[:8])
