"""Phrases that several reports share: amounts, frames, rows, statuses, verdicts, and wrapped lines."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from analyzer.capture import CaptureFile
from analyzer.expected import ExpectedFlow
from analyzer.heads import Frame
from analyzer.reports.times import iso, span
from analyzer.row_facts import MORE, RowFacts
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


# -- facts of a row --------------------------------------------------------------------------------------------

VALUES_SHOWN = 3
"""Maximum values of a fact in a line of text."""


def facts_text(row: ExpectedFlow, facts: RowFacts) -> str:
    """The facts of a row on one line: ``TLS 1.2; TLS_AES_128_GCM_SHA256; server name lrc1.example``."""
    more = facts.get(MORE, {})
    parts = [
        fact_text(row, name, value if isinstance(value, list) else [value], more.get(name, 0))
        for name, value in facts.items()
        if name != MORE
    ]
    return "; ".join(parts)


def fact_text(row: ExpectedFlow, name: str, values: Sequence[Any], more: int) -> str:
    """One fact with its values, the first ones of many. ``more``: number of values that are not in ``values``."""
    if name == "spis":
        return amount(len(values) + more, "SPI")
    if name == "apdus":
        return amount(values[0], "APDU")
    words = [VALUE_WORDS[name](value) if name in VALUE_WORDS else str(value) for value in values]
    left = len(words) - VALUES_SHOWN + more
    text = ", ".join(words[:VALUES_SHOWN]) + (f", +{left:,}" if left > 0 else "")
    label = "IKE" if (row.protocol, name) == ("ike", "version") else FACT_LABELS.get(name, "")
    return f"{label} {text}" if label else text


FACT_LABELS: Mapping[str, str] = {
    "certificates": "certificate",
    "cipher_inferred": "packet lengths of",
    "chosen": "proposal",
    "client_banner": "client",
    "dialect": "dialect",
    "esp_chosen": "ESP proposal",
    "host": "host",
    "lease_seconds": "lease",
    "lrr_ids": "LRR-ID",
    "offered": "offered",
    "server_banner": "server",
    "server_name": "server name",
    "servers": "server",
    "startdt_by": "STARTDT from",
    "status": "status",
    "stratum": "stratum",
    "targets": "to",
    "upgrade": "upgrade to",
}
"""Fact of a row → the word before its values; the values of others need none."""


def certificate_text(certificate: Mapping[str, str]) -> str:
    """Subject and days of validity: ``CN=lrc1.example, valid 2026-01-01 to 2027-01-01``."""
    subject = certificate.get("subject", "without a readable subject")
    begin, end = (certificate.get(name, "")[:DATE_LENGTH] for name in ("not_before", "not_after"))
    if not end:
        return subject
    return f"{subject}, valid {begin} to {end}" if begin else f"{subject}, valid until {end}"


DATE_LENGTH = len("2026-01-01")

VALUE_WORDS: Mapping[str, Callable[[Any], str]] = {
    "certificates": certificate_text,
    "client_certificate": lambda sent: "client certificate" if sent else "no client certificate",
    "lease_seconds": lambda seconds: f"{seconds:,} s",
    "nat_traversal": lambda used: "NAT traversal" if used else "no NAT traversal",
    "transfers": lambda transfer: f"{transfer['verb']} {transfer['path']}",
    "udp_encapsulated": lambda used: "in UDP" if used else "not in UDP",
}
"""Fact of a row → the words for one of its values."""


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
