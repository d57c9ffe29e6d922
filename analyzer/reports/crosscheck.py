"""The comparison with tshark, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analyzer.reports import json
from analyzer.reports.text import amount, capture_lines, fold, frames_text, labelled
from analyzer.safetext import escape_text

if TYPE_CHECKING:
    from analyzer.tshark.crosscheck import Crosscheck, Difference


def render_crosscheck_text(found: Crosscheck, width: int = 80) -> str:
    """All differences; those that are explained come last. Only filters and paths may be wider than ``width``."""
    return "".join(f"{line}\n" for line in lines(found, width))


def lines(found: Crosscheck, width: int) -> Iterator[str]:
    yield "tpe-pcap crosscheck, with tshark"
    yield ""
    for capture in found.captures:
        yield from capture_lines(capture, width)
    yield ""
    explained = sum(each.explanation is not None for each in found.differences)
    compared = f"{amount(found.flows, 'pair')} of ends and {amount(found.facts, 'fact')} compared"
    differences = f"{amount(len(found.differences), 'difference')}, {explained} explained"
    yield from fold(f"{compared}: {differences if found.differences else 'no difference'}.", width)
    for each in sorted(found.differences, key=lambda each: each.explanation is not None):
        yield ""
        yield f"{'DIFFERS' if each.explanation is None else 'differs'} {each.subject}"
        yield from labelled("Flow", each.flow, width)
        yield from labelled("Here", each.ours or "none", width)
        yield from labelled("tshark", each.theirs or "none", width)
        if each.explanation is not None:
            yield from labelled("Why", each.explanation, width)
        yield from labelled("Frames", frames_text(each.frames, found.captures), width)
        yield f"        Filter  {escape_text(each.filter)}"


def render_crosscheck_json(found: Crosscheck) -> str:
    """The same as one JSON object: ``$defs/crosscheck_report`` of the schema."""
    return "".join(
        json.document(
            {
                **json.heading(),
                "captures": json.lines(map(json.capture_json, found.captures)),
                "flows": found.flows,
                "facts": found.facts,
                "agrees": found.agrees,
                "differences": json.lines(map(difference_json, found.differences)),
            }
        )
    )


def difference_json(each: Difference) -> dict[str, Any]:
    return {
        "subject": each.subject,
        "flow": each.flow,
        "ours": each.ours,
        "tshark": each.theirs,
        "explanation": each.explanation,
        "frames": [json.frame_json(frame) for frame in each.frames],
        "filter": each.filter,
    }
