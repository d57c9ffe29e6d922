"""Phrases that several reports share: amounts, frames, rows, statuses, verdicts, and wrapped lines."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.expected import ExpectedFlow
from analyzer.heads import Frame
from analyzer.reports.times import iso, span
from analyzer.safetext import escape_text
from analyzer.verdicts import RowVerdict

if TYPE_CHECKING:
    from analyzer.result import Audit, AuditTotals

FRAMES_SHOWN = 8
"""Maximum frame numbers per file in a line of text."""


# -- amounts and lists -----------------------------------------------------------------------------------------


def amount(number: int, noun: str) -> str:
    """A number and its noun: ``1 packet``, ``1,236 packets``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(values: Sequence[object], limit: int, separator: str = " ") -> str:
    """The first values and how many more there are: ``1 8 9 +3``."""
    more = len(values) - limit
    return separator.join(map(str, values[:limit])) + (f"{separator}+{more:,}" if more > 0 else "")


def rows_text(rows: Sequence[str]) -> str:
    """The rows of a finding: ``row i38``, ``rows i4 or i5``."""
    return f"{'row' if len(rows) == 1 else 'rows'} {' or '.join(rows)}"


def port(row: ExpectedFlow) -> str:
    """Transport and ports of a row: ``udp/500,4500``."""
    return f"{row.transport}/{','.join(map(str, row.ports))}" if row.ports else row.transport


def status_text(verdict: RowVerdict) -> str:
    """Status and certainty of a row: ``missing, weak``."""
    return f"{verdict.status.value}, {verdict.certainty.value}" if verdict.certainty else verdict.status.value


# -- frames ----------------------------------------------------------------------------------------------------


def frames_by_capture(
    frames: Sequence[Frame], captures: Sequence[CaptureFile]
) -> Iterator[tuple[CaptureFile, list[int]]]:
    """The frame numbers in each capture."""
    for index, group in groupby(sorted(frames), key=lambda frame: frame.capture):
        yield captures[index], [frame.number for frame in group]


def frames_text(frames: Sequence[Frame], captures: Sequence[CaptureFile], limit: int = FRAMES_SHOWN) -> str:
    """Frame numbers, with their file if there are several: ``12, 14 of gw.pcap; 3 of nano.pcapng``."""
    return "; ".join(
        shortened(numbers, limit, ", ") + ("" if len(captures) == 1 else f" of {capture.path}")
        for capture, numbers in frames_by_capture(frames, captures)
    )


# -- captures --------------------------------------------------------------------------------------------------


def capture_lines(capture: CaptureFile, width: int) -> Iterator[str]:
    """A capture in lines of text: path, content and problems. Only the path may be longer than ``width``."""
    yield escape_text(capture.path)
    facts = f"{capture.format}, {amount(capture.packets, 'packet')}, {amount(capture.bytes, 'byte')}"
    if capture.first is not None and capture.last is not None:
        first, last = iso(capture.first, capture.digits), iso(capture.last, capture.digits)
        facts += f", {first} to {last} ({span(capture.last - capture.first)})"
    yield from wrap(facts, width, "  ")
    for problem in capture.problems:
        yield from wrap(problem, width, "  ! ", "    ")


# -- verdicts --------------------------------------------------------------------------------------------------

NO_PACKETS = "There is no packet in the capture: nothing could be judged."


def severity_counts(audit: Audit, zeros: bool = False) -> str:
    """The number of findings of each severity: ``1 high, 2 medium``; ``zeros``: also of those without any."""
    return ", ".join(f"{count} {severity}" for severity, count in audit.severities.items() if count or zeros)


def text_verdict(audit: Audit) -> str:
    """The verdict of the text report."""
    if not any(capture.packets for capture in audit.captures):
        return NO_PACKETS
    found = "No findings."
    if audit.findings:
        found = f"{amount(len(audit.findings), 'finding')}: {severity_counts(audit, zeros=True)}."
    if not audit.base_stations:
        return f"No base station could be recognised. {found}"
    return f"{amount(len(audit.base_stations), 'base station')}. {found}"


def markdown_verdict(audit: Audit) -> str:
    """The verdict of the Markdown report, without the profile."""
    word = "Failed" if audit.fails() else "Passed"
    stations = amount(len(audit.base_stations), "base station") if audit.base_stations else "no base station recognised"
    counts = severity_counts(audit)
    return f"{word}: {stations}, {f'findings: {counts}' if counts else 'no findings'}."


def html_verdict(audit: Audit) -> tuple[str, str]:
    """The verdict of the HTML report: one word and one sentence."""
    if not any(capture.packets for capture in audit.captures):
        return "Nothing to judge", "There is no packet in the capture."
    if not audit.base_stations:
        return "Nothing to judge", "No base station could be recognised."
    stations = amount(len(audit.base_stations), "base station")
    found = amount(len(audit.findings), "finding")
    if audit.fails():
        return "Failed", f"{stations}. {found}."
    return "Passed", f"{stations}. {f'{found}, none of which fails the audit.' if audit.findings else 'No findings.'}"


def notebook_verdict(audit: Audit) -> str:
    """The verdict of a notebook's summary."""
    if not audit.totals.packets:
        return NO_PACKETS
    stations = f"{len(audit.base_stations):,}" if audit.base_stations else "none recognised"
    counts = severity_counts(audit) or "none"
    return (
        f"Base stations: {stations}. Findings: {counts}. Profile {audit.profile}, deployment {audit.deployment.value}."
    )


# -- totals ----------------------------------------------------------------------------------------------------


def totals(audit_totals: AuditTotals) -> Iterator[tuple[str, int]]:
    """Name and number of each total; a total that is counted by kind has one entry per kind."""
    for field in dataclasses.fields(audit_totals):
        words = (word.upper() if word in ("ip", "icmp") else word for word in field.name.split("_"))
        name, value = " ".join(words), getattr(audit_totals, field.name)
        if isinstance(value, Mapping):
            yield from ((f"{name}: {kind}", number) for kind, number in value.items())
        else:
            yield name, value


# -- lines of text ---------------------------------------------------------------------------------------------


def wrap(text: str, width: int, first: str = "", following: str | None = None, whole_words: bool = False) -> list[str]:
    """The lines of a paragraph, escaped; ``first`` precedes its first line, ``following`` the others (as the first).

    ``whole_words``: words longer than the line, such as paths, are not broken.
    """
    # Escaped before wrapping, because textwrap breaks at every character that it takes for white space.
    return textwrap.wrap(
        escape_text(text),
        width,
        initial_indent=first,
        subsequent_indent=first if following is None else following,
        break_on_hyphens=False,
        break_long_words=not whole_words,
    )


def labelled(label: str, text: str, width: int, whole_words: bool = False) -> list[str]:
    """A paragraph of a finding or difference, beside its label."""
    return wrap(text, width, f"{'':8}{label:<8}", " " * 16, whole_words)
