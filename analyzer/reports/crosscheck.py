"""The report of a comparison with tshark, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analyzer.reports.document import capture_json, document, frame_json, heading, lines
from analyzer.reports.wording import amount, capture_lines, frames_text, labelled, wrap
from analyzer.safetext import escape_text

if TYPE_CHECKING:
    from analyzer.tshark.crosscheck import Crosscheck, Difference


def render_text(result: Crosscheck, width: int = 80) -> str:
    """All differences, explained ones last. Only filters and paths may be longer than ``width``."""
    return "".join(f"{line}\n" for line in report_lines(result, width))


def report_lines(result: Crosscheck, width: int) -> Iterator[str]:
    yield "tpe-pcap crosscheck, with tshark"
    yield ""
    for capture in result.captures:
        yield from capture_lines(capture, width)
    yield ""
    explained = sum(difference.explanation is not None for difference in result.differences)
    compared = f"{amount(result.flows, 'pair')} of ends and {amount(result.facts, 'fact')} compared"
    differences = f"{amount(len(result.differences), 'difference')}, {explained} explained"
    yield from wrap(f"{compared}: {differences if result.differences else 'no difference'}.", width)
    for difference in sorted(result.differences, key=lambda difference: difference.explanation is not None):
        yield ""
        yield f"{'DIFFERS' if difference.explanation is None else 'differs'} {difference.subject}"
        yield from labelled("Flow", difference.flow, width)
        yield from labelled("Here", difference.ours or "none", width)
        yield from labelled("tshark", difference.theirs or "none", width)
        if difference.explanation is not None:
            yield from labelled("Why", difference.explanation, width)
        yield from labelled("Frames", frames_text(difference.frames, result.captures), width)
        yield f"        Filter  {escape_text(difference.filter)}"


def render_json(result: Crosscheck) -> str:
    """The comparison as one JSON object: ``$defs/crosscheck_report`` of the schema."""
    return "".join(
        document(
            {
                **heading(),
                "captures": lines(map(capture_json, result.captures)),
                "flows": result.flows,
                "facts": result.facts,
                "agrees": result.agrees,
                "differences": lines(map(difference_json, result.differences)),
            }
        )
    )


def difference_json(difference: Difference) -> dict[str, Any]:
    return {
        "subject": difference.subject,
        "flow": difference.flow,
        "ours": difference.ours,
        "tshark": difference.theirs,
        "explanation": difference.explanation,
        "frames": [frame_json(frame) for frame in difference.frames],
        "filter": difference.filter,
    }
