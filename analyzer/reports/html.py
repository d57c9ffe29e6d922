"""The report for a browser: one HTML file that needs nothing else, from a mail or from a disk, on screen and on paper.

Whatever a packet or a path may say is text: the template escapes every value, and what no eye can tell apart (controls,
marks that change the direction of writing) is shown as an escape. The page asks for nothing: its policy (Content
Security Policy, level 3) allows its own style and its own script by their hashes and nothing else. All can be read
without the script; it adds search, filters, and buttons that copy.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any

from analyzer import checks
from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow, UsageError
from analyzer.export.excerpts import Excerpt, dump, excerpts
from analyzer.findings import Finding, Kind, sections
from analyzer.heads import Frame
from analyzer.reports.drawings import diagram, timeline
from analyzer.reports.times import finding_time, iso, span
from analyzer.safetext import escape_text, is_printable
from analyzer.verdicts import StationVerdict, Status
from analyzer.version import __version__

if TYPE_CHECKING:
    import jinja2

    from analyzer.result import Audit

FINDINGS = 1000
"""Findings that are shown at the most; the most severe come first."""
EXCERPTED = 250
"""Findings of which packets are excerpted at the most."""
STATIONS = 1000
"""Base stations that are shown at the most."""
OPENED = 6
"""Base stations up to which all tables are open at first."""
MANY = 100
"""Base stations and findings from which on the browser lays out only those that are looked at."""
FLOWS_SHOWN = 4


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as one page; it has its own colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, piece by piece. :class:`UsageError` where Jinja2 is not installed."""
    return page().generate(content(audit))


def content(audit: Audit) -> dict[str, Any]:
    """What the template is given."""
    style, script = asset("report.css"), asset("report.js")
    findings = sorted(audit.findings, key=lambda finding: -finding.severity)
    return {
        "audit": audit,
        "version": __version__,
        "style": Own(style),
        "script": Own(script),
        "policy": policy(style, script),
        "outcome": outcome(audit),
        "severities": list(audit.severities.items()),
        "kinds": [kind for kind in Kind if any(each.kind is kind for each in findings)],
        "stations": audit.base_stations[:STATIONS],
        "findings": shown(audit, findings[:FINDINGS]),
        "opened": len(audit.base_stations) <= OPENED,
        "many": len(audit.base_stations) + len(findings) > MANY,
        "timeline": timeline(audit),
        "diagram": diagram(audit),
        "totals": totals(audit),
    }


# -- the parts -------------------------------------------------------------------------------------------------


def outcome(audit: Audit) -> tuple[str, str]:
    """Whether the audit failed, and in one sentence by what."""
    if not any(capture.packets for capture in audit.captures):
        return "Nothing to judge", "There is no packet in the capture."
    if not audit.base_stations:
        return "Nothing to judge", "No base station could be recognised."
    judged = amount(len(audit.base_stations), "base station")
    found = len(audit.findings)
    if not audit.fails():
        return "Passed", f"{judged}. " + (
            f"{amount(found, 'finding')}, none of which fails the audit." if found else "No findings."
        )
    return "Failed", f"{judged}. {amount(found, 'finding')}."


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A finding with what the page says of it."""

    number: int
    """1-based, in the order of the page."""
    finding: Finding
    time: str | None
    flow: Conversation | None
    frames: str
    why: str
    excerpts: tuple[Excerpt, ...]
    excerpted: bool
    """Whether packets were looked for."""


def shown(audit: Audit, findings: Sequence[Finding]) -> Iterator[Shown]:
    """The findings one by one: those of a large audit are never held with their excerpts."""
    flows = {each.id: each for each in audit.conversations}
    for number, finding in enumerate(findings, 1):
        flow = flows.get(finding.flow) if finding.flow is not None else None
        check = checks.find(finding.check)
        excerpted = flow is not None and number <= EXCERPTED
        yield Shown(
            number,
            finding,
            finding_time(finding, audit.captures),
            flow,
            "; ".join(frames(finding.frames, audit)),
            sections(check).get("why", "") if check else "",
            tuple(excerpts(flow, finding.frames)) if flow is not None and excerpted else (),
            excerpted,
        )


def frames(cited: Sequence[Frame], audit: Audit) -> Iterator[str]:
    """Frame numbers, with their file where there are several."""
    for capture, group in groupby(sorted(cited), key=lambda frame: frame.capture):
        numbers = ", ".join(str(frame.number) for frame in group)
        yield numbers if len(audit.captures) == 1 else f"{numbers} of {audit.captures[capture].path}"


def totals(audit: Audit) -> Iterator[tuple[str, int]]:
    """The account of all packets: name and number."""
    for field in dataclasses.fields(audit.totals):
        words = (word.upper() if word in ("ip", "icmp") else word for word in field.name.split("_"))
        name, value = " ".join(words), getattr(audit.totals, field.name)
        if isinstance(value, Mapping):
            yield from ((f"{name}: {kind}", number) for kind, number in value.items())
        else:
            yield name, value


# -- words of the template -------------------------------------------------------------------------------------


def port(row: ExpectedFlow) -> str:
    """Transport and ports of a row: ``udp/500,4500``."""
    return f"{row.transport}/{','.join(map(str, row.ports))}" if row.ports else row.transport


def statuses(verdict: StationVerdict) -> list[tuple[Status, int]]:
    """How many rows of a base station are what, the worst first."""
    counted = Counter(row.status for row in verdict.rows)
    return [(status, counted[status]) for status in WORST if counted[status]]


WORST = (Status.MALFORMED, Status.BLOCKED, Status.MISSING, Status.UNDECIDED, Status.ABSENT, Status.PRESENT)

MARKS = {
    "present": "●",
    "malformed": "✕",
    "blocked": "⊘",
    "missing": "○",
    "absent": "-",
    "undecided": "◐",
    "no row": "△",
    "out of scope": "·",
    "high": "▲",
    "medium": "◆",
    "low": "▽",
    "info": "i",
}
"""Status or severity → its sign, beside the word: colour is never the only one."""


def sender(excerpt: Excerpt, flow: Conversation) -> str:
    """Who sent an excerpted frame to whom."""
    if excerpt.direction is None:
        return ""
    ends = (flow.originator, flow.responder)
    return f"{ends[excerpt.direction]} → {ends[1 - excerpt.direction]}"


def amount(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# -- the page --------------------------------------------------------------------------------------------------


@cache
def page() -> jinja2.Template:
    """The template, in which every value is escaped."""
    try:
        import jinja2
    except ImportError:
        raise UsageError("the format html needs Jinja2: pip install 'tpe-pcap[html]'") from None
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=visible,
    )
    environment.globals.update(
        port=port, statuses=statuses, sender=sender, iso=iso, span=span, amount=amount, dump=dump, marks=MARKS
    )
    environment.globals.update(FLOWS_SHOWN=FLOWS_SHOWN, MOST_FINDINGS=FINDINGS, MOST_EXCERPTED=EXCERPTED)
    return environment.from_string(asset("report.html.jinja"))


class Own(str):
    """Text of this program's own, style or script, that stands in the page as it is."""

    __slots__ = ()

    def __html__(self) -> Own:
        return self


def visible(value: object) -> str:
    """A value as text on one line, in which everything can be seen."""
    if isinstance(value, Own):
        return value
    text = value if isinstance(value, str) else str(value)
    # Also of text that is escaped already: what makes it visible has no character that HTML knows.
    return text if is_printable(text) else type(text)(escape_text(text))


def asset(name: str) -> str:
    """The text of a file beside this module."""
    return resources.files("analyzer.reports").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """A Content Security Policy that allows this style and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
